mod killed;

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::segment::SEGMENT_HEADER_BYTES;
use super::*;

const NOW: WallTime = WallTime::from_unix_ms(1_700_000_000_000);

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, on_damage: OnDamage::Skip }
}

/// What a log should hold: position, head and body length.
type Shown = Vec<(u64, Vec<u8>, u64)>;

fn open(dir: &Path, segment_bytes: u64) -> (Log, Opened, Shown) {
    let mut shown = Vec::new();
    let (log, opened) = Log::open(dir, options(segment_bytes), |it| {
        assert_eq!(it.written, NOW);
        shown.push((it.position, it.head.to_vec(), it.body_bytes));
    })
    .unwrap();
    (log, opened, shown)
}

fn append(log: &mut Log, head: &[u8], body: &[u8]) -> u64 {
    log.append(NOW, &[Entry { head, body: Source::Bytes(body) }]).unwrap().start
}

fn body(log: &mut Log, position: u64) -> Option<Vec<u8>> {
    log.read(position, u32::MAX).unwrap().map(|it| it.body)
}

fn only_segment(dir: &Path) -> PathBuf {
    dir.join(Segment::file_name(0))
}

#[test]
fn records_are_read_back_whole_and_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path(), 1 << 20);
    let large = vec![9; 100_000];
    let entries = [
        Entry { head: b"h", body: Source::Bytes(b"one") },
        Entry { head: b"", body: Source::Bytes(b"") },
        Entry { head: b"large", body: Source::Bytes(&large) },
    ];
    assert_eq!(log.append(NOW, &entries).unwrap(), 0..3);
    let read = log.read(0, 2).unwrap().unwrap();
    assert_eq!((read.written, &read.head[..], &read.body[..]), (NOW, &b"h"[..], &b"on"[..]));
    assert_eq!(body(&mut log, 1), Some(vec![]));
    assert_eq!(body(&mut log, 2), Some(large.clone()));
    assert_eq!(log.read(2, 50).unwrap().unwrap().body, [9; 50]);
    assert_eq!(log.read(2, 0).unwrap().unwrap().body, []);
    assert_eq!(log.read(3, 1).unwrap(), None);
    assert_eq!(log.durable(), 0);
    assert_eq!(log.sync().unwrap(), 3);
    drop(log);
    let (mut log, opened, shown) = open(dir.path(), 1 << 20);
    assert_eq!(opened, Opened::default());
    let lengths: Vec<_> = shown.iter().map(|it| it.2).collect();
    assert_eq!(lengths, [3, 0, 100_000]);
    assert_eq!(body(&mut log, 2), Some(large));
    assert_eq!(log.durable(), 3);
}

#[test]
fn segments_rotate_and_are_purged_with_their_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path(), 1000);
    for number in 0..100_u32 {
        append(&mut log, &number.to_be_bytes(), &[1; 50]);
    }
    append(&mut log, b"large", &vec![2; 40_000]);
    append(&mut log, b"after", b"");
    let files = || fs::read_dir(dir.path()).unwrap().count() - 1;
    let before = files();
    assert!(before >= 9, "{before} segments");
    assert!(log.purge(50).unwrap() > 0);
    assert!(log.first() <= 50 && log.first() > 30);
    assert_eq!(body(&mut log, 0), None);
    assert_eq!(body(&mut log, 50), Some(vec![1; 50]));
    log.purge(u64::MAX).unwrap();
    assert_eq!(files(), 1);
    assert_eq!(fs::read_dir(dir.path().join("bodies")).unwrap().count(), 0);
    assert_eq!(body(&mut log, 101), Some(vec![]));
    drop(log);
    let (log, opened, _) = open(dir.path(), 1000);
    assert_eq!((log.next(), opened), (102, Opened::default()));
}

#[test]
fn limits_are_checked_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path(), 1 << 20);
    let head = vec![0; MAX_HEAD_BYTES + 1];
    let too_long = Source::File { path: dir.path(), length: MAX_BODY_BYTES + 1, digest: [0; 32] };
    let good = Entry { head: b"h", body: Source::Bytes(b"b") };
    let long_head = Entry { head: &head, body: Source::Bytes(b"") };
    for bad in [long_head, Entry { head: b"", body: too_long }] {
        let error = log.append(NOW, &[good, bad]).unwrap_err();
        assert!(matches!(error, LogError::TooLong { .. }));
    }
    assert_eq!(log.next(), 0);
}

/// Five records with a large one between; gives the file and where each record begins.
fn example(dir: &Path) -> (Vec<u8>, Vec<u64>) {
    let (mut log, ..) = open(dir, 1 << 20);
    for number in 0..5_u8 {
        let large = vec![number; 40_000];
        let small = vec![number; 40 + usize::from(number)];
        append(&mut log, &[number; 3], if number == 3 { &large } else { &small });
    }
    log.sync().unwrap();
    let starts = (0..5).map(|at| log.segments[0].offset(at).unwrap()).collect();
    (fs::read(only_segment(dir)).unwrap(), starts)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, starts) = example(dir.path());
    for cut in 0..whole.len() {
        let torn = tempfile::tempdir().unwrap();
        fs::create_dir(torn.path().join("bodies")).unwrap();
        let body = "bodies/0000000000000003";
        fs::copy(dir.path().join(body), torn.path().join(body)).unwrap();
        fs::write(only_segment(torn.path()), &whole[..cut]).unwrap();
        let (mut log, opened, shown) = open(torn.path(), 1 << 20);
        let ends = starts.iter().skip(1).copied().chain([whole.len() as u64]);
        let left = ends.filter(|end| *end <= cut as u64).count();
        assert_eq!(shown.len(), left, "cut at {cut}");
        let clean = starts.contains(&(cut as u64));
        assert_eq!(opened.torn.is_some(), !clean, "cut at {cut}");
        assert!(opened.damage.is_empty());
        // What is appended next stands there after another start, and nothing of the torn does.
        assert_eq!(append(&mut log, b"new", b"record"), left as u64);
        drop(log);
        let (_, opened, shown) = open(torn.path(), 1 << 20);
        assert_eq!(opened, Opened::default(), "cut at {cut}");
        assert_eq!(shown.len(), left + 1);
        let orphan = torn.path().join(body).exists();
        assert_eq!(orphan, left > 3, "the body of a record that was cut is gone");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_reported_and_costs_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, starts) = example(dir.path());
    let last = *starts.last().unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(only_segment(dir.path()), &bytes).unwrap();
        let mut shown = Vec::new();
        let opened = Log::open(dir.path(), options(1 << 20), |it| shown.push(it.position));
        if at < SEGMENT_HEADER_BYTES {
            let left_alone = fs::read(only_segment(dir.path())).unwrap() == bytes;
            match opened {
                Err(LogError::Foreign { .. } | LogError::Newer { .. }) => assert!(left_alone),
                Err(other) => panic!("{other}"),
                Ok((_, opened)) => {
                    assert_eq!((opened.damage.len(), shown.len()), (1, 5), "byte {at}");
                }
            }
            continue;
        }
        let (_, opened) = opened.unwrap();
        let hit = starts.iter().filter(|start| **start <= at as u64).count() - 1;
        let expected: Vec<u64> = (0..5).filter(|position| *position != hit as u64).collect();
        assert_eq!(shown, expected, "byte {at}");
        if (at as u64) < last {
            let damage = &opened.damage[0];
            assert_eq!(damage.offset, starts[hit]);
            assert_eq!(damage.lost, hit as u64..hit as u64 + 1);
            assert_eq!(damage.path, only_segment(dir.path()));
            let refuse = Options { on_damage: OnDamage::Refuse, ..options(1 << 20) };
            let error = Log::open(dir.path(), refuse, |_| {}).unwrap_err();
            assert!(matches!(error, LogError::Damaged { offset, .. } if offset == starts[hit]));
        } else {
            assert_eq!(opened.torn.unwrap().offset, last);
            fs::copy(only_segment(dir.path()), only_segment(dir.path())).unwrap();
        }
        // The large body went with the record that named it: put both back.
        fs::write(dir.path().join("bodies/0000000000000003"), vec![3; 40_000]).unwrap();
    }
}

#[test]
fn a_missing_segment_or_body_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path(), 300);
    for number in 0..20_u8 {
        append(&mut log, &[number], &[number; 50]);
    }
    append(&mut log, b"l", &vec![1; 40_000]);
    append(&mut log, b"x", b"");
    let (base, next) = (log.segments[2].base, log.segments[3].base);
    fs::remove_file(&log.segments[2].path).unwrap();
    fs::write(dir.path().join(format!("bodies/{:016x}", 20)), b"short").unwrap();
    drop(log);
    let (mut log, opened, shown) = open(dir.path(), 300);
    let lost: Vec<_> = opened.damage.iter().map(|it| it.lost.clone()).collect();
    assert_eq!(lost, [base..next, 20..21]);
    assert_eq!(shown.len() as u64, 22 - (next - base) - 1);
    assert_eq!(body(&mut log, base), None);
    assert_eq!(body(&mut log, 20), None);
    assert_eq!(log.next(), 22);
}

#[test]
fn what_changes_under_an_open_log_is_not_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path(), 1 << 20);
    append(&mut log, b"h", &[5; 100]);
    append(&mut log, b"h", &vec![5; 40_000]);
    let mut bytes = fs::read(only_segment(dir.path())).unwrap();
    bytes[80] ^= 1;
    fs::write(only_segment(dir.path()), bytes).unwrap();
    assert!(matches!(log.read(0, 1), Err(LogError::Damaged { .. })));
    fs::write(dir.path().join("bodies/0000000000000001"), vec![6; 40_000]).unwrap();
    assert!(matches!(log.read(1, u32::MAX), Err(LogError::Damaged { .. })));
}

#[test]
fn foreign_files_are_refused_and_left_as_they_are() {
    for content in [&b"hello"[..], &[0x55; 4000], b"skeplog\x02 of a newer agent ....."] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(only_segment(dir.path()), content).unwrap();
        let error = Log::open(dir.path(), Options::default(), |_| {}).unwrap_err();
        assert!(matches!(error, LogError::Foreign { .. } | LogError::Newer { .. }), "{error}");
        assert_eq!(fs::read(only_segment(dir.path())).unwrap(), content);
    }
}

#[test]
fn a_failed_append_leaves_nothing_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, ..) = open(dir.path(), 400);
    append(&mut log, b"first", b"record");
    // The place of the last body is taken by a directory: its file cannot be made.
    let small = [1; 60];
    let large = vec![2; 40_000];
    let mut entries = vec![Entry { head: b"h", body: Source::Bytes(&small) }; 20];
    entries.push(Entry { head: b"h", body: Source::Bytes(&large) });
    let blocked = dir.path().join(format!("bodies/{:016x}", 21));
    fs::create_dir(&blocked).unwrap();
    assert!(matches!(log.append(NOW, &entries), Err(LogError::Io { .. })));
    assert_eq!(log.next(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "one segment is left");
    assert_eq!(append(&mut log, b"second", b"record"), 1);
    fs::remove_dir(&blocked).unwrap();
    assert_eq!(log.append(NOW, &entries).unwrap(), 2..23);
    drop(log);
    let (_, opened, shown) = open(dir.path(), 400);
    assert_eq!((opened, shown.len()), (Opened::default(), 23));
}

#[test]
fn a_full_disk_is_its_own_error() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    assert!(matches!(LogError::io("append to", Path::new("x"), full), LogError::NoSpace { .. }));
    let quota = io::Error::from(rustix::io::Errno::DQUOT);
    assert!(matches!(LogError::io("append to", Path::new("x"), quota), LogError::NoSpace { .. }));
    let other = io::Error::from(io::ErrorKind::PermissionDenied);
    assert!(matches!(LogError::io("append to", Path::new("x"), other), LogError::Io { .. }));
}

#[test]
fn files_are_for_the_agent_alone() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("log");
    let (mut log, ..) = open(&inner, 1 << 20);
    append(&mut log, b"h", &vec![1; 40_000]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join("bodies"))), (0o700, 0o700));
    assert_eq!(mode(&only_segment(&inner)), 0o600);
    assert_eq!(mode(&inner.join("bodies/0000000000000000")), 0o600);
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Sync,
    Purge(u64),
    Reopen,
    Read(u64, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![6 => 0_usize..200, 1 => 32_000_usize..40_000];
    prop_oneof![
        6 => prop::collection::vec(length, 0..5).prop_map(Step::Append),
        1 => Just(Step::Sync),
        1 => (0_u64..60).prop_map(Step::Purge),
        2 => Just(Step::Reopen),
        4 => (0_u64..60, 0_u32..300)
            .prop_map(|(at, length)| Step::Read(at, length)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done in whatever order, the log holds what a vector would.
    #[test]
    fn the_log_is_a_vector_on_disk(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, ..) = open(dir.path(), 2000);
        let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for step in steps {
            match step {
                Step::Append(lengths) => {
                    let start = model.len();
                    for length in lengths {
                        let number = model.len();
                        let fill = u8::try_from(number % 251).unwrap();
                        model.push((number.to_be_bytes().to_vec(), vec![fill; length]));
                    }
                    let entries: Vec<_> = model[start..]
                        .iter()
                        .map(|(head, body)| Entry { head, body: Source::Bytes(body) })
                        .collect();
                    let positions = log.append(NOW, &entries).unwrap();
                    prop_assert_eq!(positions, start as u64..model.len() as u64);
                }
                Step::Sync => prop_assert_eq!(log.sync().unwrap(), model.len() as u64),
                Step::Purge(below) => {
                    let first = log.first();
                    log.purge(below).unwrap();
                    prop_assert!(log.first() <= below.max(first));
                }
                Step::Reopen => {
                    drop(log);
                    let (reopened, opened, shown) = open(dir.path(), 2000);
                    log = reopened;
                    prop_assert_eq!(opened, Opened::default());
                    let first = usize::try_from(log.first()).unwrap();
                    let expected = model.iter().enumerate().skip(first);
                    let expected: Vec<_> = expected
                        .map(|(at, (head, body))| {
                            (at as u64, head.clone(), body.len() as u64)
                        })
                        .collect();
                    prop_assert_eq!(shown, expected);
                }
                Step::Read(at, length) => {
                    let read = log.read(at, length).unwrap();
                    let expected = usize::try_from(at).ok().and_then(|at| model.get(at));
                    let expected = expected.filter(|_| at >= log.first());
                    let expected = expected.map(|(head, body)| {
                        (head.clone(), part(body, length).to_vec())
                    });
                    prop_assert_eq!(read.map(|it| (it.head, it.body)), expected);
                }
            }
            prop_assert_eq!(log.next(), model.len() as u64);
        }
    }
}
