//! The update log's segments: what a crash, a bad disk or somebody else left in the file.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use skep_base::WallTime;
use skep_store::log::{Entry, Log, LogError, Opened, Options, Source};
use tempfile::TempDir;

use super::{Seed, Target};

/// A segment file. Nothing is lost in silence: what the file holds is shown, or said to be lost.
pub(super) const SEGMENT: Target = Target {
    name: "log-segment",
    decode: fuzz_segment,
    seeds: segment_seeds,
    accepts: |data| at_place(data, |dir| matches!(look(dir), Ok((_, opened)) if sound(&opened))),
};

/// The first segment's name.
const FILE: &str = "0000000000000000.seg";

thread_local! {
    /// Where this thread lays its segments out: in memory, where there is such a place, because the
    /// log syncs.
    static PLACE: OnceCell<TempDir> = const { OnceCell::new() };
}

/// What one look through the log showed: position, head and body of each record.
type Shown = Vec<(u64, Vec<u8>, Vec<u8>)>;

fn at_place<T>(segment: &[u8], action: impl FnOnce(&Path) -> T) -> T {
    PLACE.with(|place| {
        let dir = place.get_or_init(|| {
            let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
            made.unwrap_or_else(|error| panic!("no place for a segment: {error}"))
        });
        let written = fs::write(dir.path().join(FILE), segment);
        written.unwrap_or_else(|error| panic!("cannot lay a segment out: {error}"));
        action(dir.path())
    })
}

fn look(dir: &Path) -> Result<(Shown, Opened), LogError> {
    let mut heads = Vec::new();
    let (mut log, opened) =
        Log::open(dir, Options::default(), |it| heads.push((it.position, it.head.to_vec())))?;
    let mut shown = Vec::new();
    for (position, head) in heads {
        let read = log.read(position, u32::MAX)?;
        let read = read.unwrap_or_else(|| panic!("record {position} was shown and is not there"));
        assert_eq!(read.head, head);
        shown.push((position, head, read.body));
    }
    let lost: u64 = opened.damage.iter().map(|it| it.lost.end - it.lost.start).sum();
    assert_eq!(
        shown.len() as u64 + lost,
        log.next(),
        "every position is shown or said: {opened:?}"
    );
    Ok((shown, opened))
}

fn sound(opened: &Opened) -> bool {
    opened.torn.is_none() && opened.damage.is_empty()
}

fn fuzz_segment(data: &[u8]) {
    at_place(data, |dir| {
        let (shown, opened) = match look(dir) {
            Ok(looked) => looked,
            Err(error) => {
                assert!(error.to_string().contains(FILE), "an error says in which file: {error}");
                let kept = fs::read(dir.join(FILE)).ok();
                assert_eq!(kept.as_deref(), Some(data), "what is refused is left alone");
                return;
            }
        };
        let kept = fs::read(dir.join(FILE)).unwrap_or_default();
        if sound(&opened) {
            let held: usize =
                shown.iter().map(|(_, head, body)| 31 + head.len() + body.len()).sum();
            assert_eq!(kept, data, "a sound segment is not changed");
            assert_eq!(24 + held, data.len(), "a sound segment is all records");
        }
        if let Some(torn) = &opened.torn {
            // Of a file that never got its header nothing is cut.
            assert!(torn.bytes > 0 || data.is_empty());
            assert!(data.len() as u64 - torn.bytes <= kept.len() as u64);
        }
        // Another start shows the same: the cut was made, and damage is no smaller for being seen.
        match look(dir) {
            Ok((again, reopened)) => {
                assert_eq!(again, shown);
                assert_eq!(reopened.torn, None);
                let places = |opened: &Opened| {
                    let lost = opened.damage.iter().map(|it| it.lost.clone());
                    lost.filter(|lost| !lost.is_empty()).collect::<Vec<_>>()
                };
                assert_eq!(places(&reopened), places(&opened));
            }
            Err(error) => panic!("the log that was opened once is refused: {error}"),
        }
    });
}

/// Three records, one of them empty, as an agent writes them.
fn segment_seeds() -> Vec<Seed> {
    let made = || -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let (mut log, _) = Log::open(dir.path(), Options::default(), |_| ())?;
        let now = WallTime::from_unix_ms(1_700_000_000_000);
        let entries = [
            Entry { head: b"one", body: Source::Bytes(b"first body") },
            Entry { head: b"", body: Source::Bytes(b"") },
            Entry { head: b"three", body: Source::Bytes(&[7; 100]) },
        ];
        log.append(now, &entries)?;
        log.sync()?;
        Ok(fs::read(dir.path().join(FILE))?)
    };
    match made() {
        Ok(segment) => {
            let empty = segment.get(..24).unwrap_or_default().to_vec();
            vec![("three-records", segment), ("header-alone", empty)]
        }
        Err(error) => panic!("cannot write a log: {error}"),
    }
}
