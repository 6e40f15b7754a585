use super::*;
use crate::log::{BodyFile, Entry, Log, Options, Source};
use skep_base::WallTime;

const PIECE: usize = tree::PIECE_BYTES;

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at / 1000 % 251).unwrap()).collect()
}

fn leaves_of(body: &[u8]) -> Vec<u8> {
    let pieces = (0..).zip(body.chunks(PIECE));
    pieces.flat_map(|(piece, bytes)| tree::leaf(body.len() as u64, piece, bytes).0).collect()
}

fn piece_of(body: &[u8], piece: u32) -> &[u8] {
    body.chunks(PIECE).nth(piece as usize).unwrap()
}

fn incoming(dir: &Path) -> Incoming {
    Incoming::open(&dir.join("incoming"), 1 << 30).unwrap()
}

#[test]
fn what_was_kept_is_not_missing_after_a_kill_at_any_step() {
    let body = body(5 * PIECE + 77);
    let (length, digest) = (body.len() as u64, Digest::of(&body));
    let order = [3, 0, 5, 1, 4, 2];
    for steps in 0..=order.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut before = incoming(dir.path());
        let begun = before.begin("a", length, digest).unwrap();
        assert_eq!(begun, Begun { leaves: false, missing: (0..6).collect() });
        assert_eq!(before.piece("a", 0, piece_of(&body, 0)).unwrap(), Verdict::Unchecked);
        assert_eq!(before.leaves("a", &leaves_of(&body)).unwrap(), Verdict::Kept);
        for piece in &order[..steps] {
            let kept = before.piece("a", *piece, piece_of(&body, *piece)).unwrap();
            assert_eq!(kept, Verdict::Kept);
        }
        assert_eq!(before.finish("a").is_ok(), steps == order.len());
        drop(before);
        let mut after = incoming(dir.path());
        let begun = after.begin("a", length, digest).unwrap();
        let mut missing = order[steps..].to_vec();
        missing.sort_unstable();
        assert_eq!(begun, Begun { leaves: true, missing: missing.clone() });
        for piece in missing {
            after.piece("a", piece, piece_of(&body, piece)).unwrap();
        }
        let whole = fs::read(after.finish("a").unwrap()).unwrap();
        assert_eq!(whole[..body.len()], body);
        assert_eq!(whole[body.len()..], leaves_of(&body));
    }
}

#[test]
fn a_bit_without_its_piece_does_not_count() {
    let body = body(3 * PIECE);
    let (length, digest) = (body.len() as u64, Digest::of(&body));
    let dir = tempfile::tempdir().unwrap();
    let mut before = incoming(dir.path());
    before.begin("a", length, digest).unwrap();
    before.leaves("a", &leaves_of(&body)).unwrap();
    (0..3).for_each(|piece| {
        before.piece("a", piece, piece_of(&body, piece)).unwrap();
    });
    drop(before);
    // As after a power cut: the map reached the disk, and of the body one piece did not.
    let part = dir.path().join("incoming/a.part");
    let file = fs::OpenOptions::new().write(true).open(&part).unwrap();
    file.write_all_at(&[0; 100], PIECE as u64 + 5).unwrap();
    let begun = incoming(dir.path()).begin("a", length, digest).unwrap();
    assert_eq!(begun.missing, [1]);
    // A map that is torn anywhere is of no use, and does no harm.
    let map = dir.path().join("incoming/a.map");
    let whole = fs::read(&map).unwrap();
    for cut in [0, 7, 40, MAP_HEADER_BYTES, MAP_HEADER_BYTES + 40, whole.len() - 1] {
        fs::write(&map, &whole[..cut]).unwrap();
        let begun = incoming(dir.path()).begin("a", length, digest).unwrap();
        assert_eq!(begun.missing.len(), 3, "cut at {cut}");
        fs::write(&part, &body).unwrap();
    }
}

#[test]
fn what_is_not_announced_is_not_kept() {
    let body = body(2 * PIECE);
    let (length, digest) = (body.len() as u64, Digest::of(&body));
    let dir = tempfile::tempdir().unwrap();
    let mut incoming = incoming(dir.path());
    incoming.begin("a", length, digest).unwrap();
    let mut bent = leaves_of(&body);
    bent[3] ^= 1;
    assert_eq!(incoming.leaves("a", &bent).unwrap(), Verdict::Wrong);
    assert_eq!(incoming.leaves("a", &leaves_of(&body)[32..]).unwrap(), Verdict::Wrong);
    assert_eq!(incoming.leaves("a", &leaves_of(&body)).unwrap(), Verdict::Kept);
    assert_eq!(incoming.piece("a", 0, piece_of(&body, 1)).unwrap(), Verdict::Wrong);
    assert_eq!(incoming.piece("a", 2, piece_of(&body, 1)).unwrap(), Verdict::Unchecked);
    assert_eq!(incoming.piece("a", 1, &body[..100]).unwrap(), Verdict::Wrong);
    // Another body of that name begins anew.
    let begun = incoming.begin("a", 100, Digest::of(b"other")).unwrap();
    assert_eq!(begun, Begun { leaves: true, missing: vec![0] });
}

#[test]
fn the_log_takes_a_body_over_and_gives_it_with_its_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = body(2 * PIECE + 9);
    let mut incoming = incoming(dir.path());
    let spools = Spools::new(&dir.path().join("incoming"));
    let mut laying = spools.begin().unwrap();
    bytes.chunks(99_999).for_each(|part| laying.write(part).unwrap());
    let spooled = laying.finish().unwrap();
    assert_eq!(spooled.digest, Digest::of(&bytes));
    let path = spools.path(spooled.number);
    let (mut log, _) = Log::open(&dir.path().join("log"), Options::default(), |_| {}).unwrap();
    let length = bytes.len() as u64;
    let source = Source::File { path: &path, length, digest: spooled.digest.0 };
    let entry = Entry { head: b"h", body: source };
    // Of one body may be several records.
    log.append(WallTime::from_unix_ms(1), &[entry, entry]).unwrap();
    drop(spooled);
    assert!(!path.exists());
    incoming.begin("left over", length, Digest::of(&bytes)).unwrap();
    drop(log);
    let mut lengths = Vec::new();
    let (mut log, _) = Log::open(&dir.path().join("log"), Options::default(), |found| {
        lengths.push(found.body_bytes);
    })
    .unwrap();
    assert_eq!(lengths, [length, length]);
    for position in 0..2 {
        let Some(BodyFile::File { file, length }) = log.body(position).unwrap() else {
            panic!("a body of that length is a file");
        };
        let mut whole = vec![0; bytes.len() + leaves_of(&bytes).len()];
        file.read_exact_at(&mut whole, 0).unwrap();
        assert_eq!(length, bytes.len() as u64);
        assert_eq!(whole, [&bytes[..], &leaves_of(&bytes)].concat());
        assert_eq!(log.read(position, u32::MAX).unwrap().unwrap().body, bytes);
    }
}

/// Whatever was pulled, as a process has it that is killed at this moment.
fn pulled(incoming: &mut Incoming, name: &str, bytes: &[u8]) -> PathBuf {
    incoming.begin(name, bytes.len() as u64, Digest::of(bytes)).unwrap();
    incoming.leaves(name, &leaves_of(bytes)).unwrap();
    for piece in 0..tree::pieces(bytes.len() as u64) {
        incoming.piece(name, piece, piece_of(bytes, piece)).unwrap();
    }
    incoming.finish(name).unwrap()
}

#[test]
fn what_the_log_took_over_right_before_a_kill_goes_at_the_next_start() {
    let bytes = body(2 * PIECE + 9);
    let (length, digest) = (bytes.len() as u64, Digest::of(&bytes));
    // Killed before the names in the log reached the disk, or with a record that was torn off.
    for torn in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("log");
        let (mut log, _) = Log::open(&logs, Options::default(), |_| {}).unwrap();
        let mut before = incoming(dir.path());
        let whole = pulled(&mut before, "taken", &bytes);
        pulled(&mut before, "waiting", &bytes);
        let source = Source::File { path: &whole, length, digest: digest.0 };
        log.append(WallTime::from_unix_ms(1), &[Entry { head: b"h", body: source }]).unwrap();
        drop((log, before));
        if torn {
            let is_segment = |path: &PathBuf| path.is_file();
            let mut files = fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().path());
            let segment = files.find(is_segment).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
            file.set_len(segment.metadata().unwrap().len() - 1).unwrap();
        }

        let (mut log, _) = Log::open(&logs, Options::default(), |_| {}).unwrap();
        let mut after = incoming(dir.path());
        let place = dir.path().join("incoming");
        let left = |name: &str| ["part", "map"].map(|end| place.join(name).with_extension(end));
        assert!(left("waiting").iter().all(|path| path.exists()), "nobody took it over");
        assert!(left("taken").iter().all(|path| path.exists() == torn), "torn: {torn}");
        if torn {
            let begun = after.begin("taken", length, digest).unwrap();
            assert_eq!(
                begun,
                Begun { leaves: true, missing: Vec::new() },
                "it need not come again"
            );
        } else {
            assert_eq!(log.read(0, u32::MAX).unwrap().unwrap().body, bytes);
        }
    }
}

#[test]
fn of_a_body_that_is_not_laid_down_whole_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let incoming = incoming(dir.path());
    let place = dir.path().join("incoming");
    let spools = Spools::new(&place);
    let left = || fs::read_dir(&place).unwrap().count();
    let mut laying = spools.begin().unwrap();
    laying.write(&body(PIECE)).unwrap();
    assert_eq!(left(), 1);
    drop(laying);
    assert_eq!(left(), 0, "the publisher went away");
    // What a kill leaves is removed at the next start.
    fs::write(spools.path(77), body(9)).unwrap();
    drop(incoming);
    drop(Incoming::open(&place, 0).unwrap());
    assert_eq!(left(), 0);
}

#[test]
fn too_much_that_nobody_pulls_goes_the_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = body(PIECE);
    let digest = Digest::of(&bytes);
    let dir = dir.path().join("incoming");
    let mut incoming = Incoming::open(&dir, 2 * PIECE as u64 + 100_000).unwrap();
    let names: Vec<String> = (0..MAX_OPEN + 5).map(|number| format!("{number:03}")).collect();
    let mut clock = SystemTime::now() - Duration::from_secs(1000);
    for name in &names {
        incoming.begin(name, PIECE as u64, digest).unwrap();
        incoming.piece(name, 0, &bytes).unwrap();
        clock += Duration::from_secs(1);
        let file = fs::OpenOptions::new().write(true).open(dir.join(format!("{name}.part")));
        file.unwrap().set_modified(clock).unwrap();
    }
    let left = |name: &str| dir.join(format!("{name}.part")).exists();
    let gone: Vec<&String> = names.iter().filter(|name| !left(name)).collect();
    assert_eq!(gone, ["000", "001", "002"], "those in use are not touched");
}
