//! What a wave fetched and from whom, kept beside the chunks, so that an agent that is killed goes
//! on counting where it was (DLIF-22).
//!
//! ```text
//!   fetched/QUEEN-NUMBER     one line of 24 bytes a chunk that came
//!   | node 16 | length u32 | check u32 |
//! ```
//!
//! A line is written once the chunk's bytes are known to be right and before they are stored: a
//! kill between the two costs one chunk that is fetched, and counted, again. So what is counted is
//! never less than what is here, and no more than that and a chunk for each kill. Lines are not
//! synced, as chunks are not: a power cut may take the last of both.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use skep_base::{Digest, NodeId};

use super::facts::WaveKey;

const LINE_BYTES: usize = 24;
const BODY_BYTES: usize = 20;
/// Beyond that nothing is counted: two million chunks, over a hundred gibibytes, of one wave.
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024 * LINE_BYTES as u64;
/// Files that are kept: as many waves as a node tells of. The oldest go first.
const MAX_FILES: usize = skep_wave::MAX_STATUSES;

/// Where the tallies of all waves are.
#[derive(Clone, Debug)]
pub(super) struct Tallies {
    dir: PathBuf,
}

/// What came over the network for one wave, in all lives of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Bytes by whom they came from.
    pub(super) from: BTreeMap<NodeId, u64>,
}

/// One wave's tally, being added to.
#[derive(Debug)]
pub(super) struct Tally {
    file: File,
    bytes: u64,
}

impl Fetched {
    pub(super) fn all(&self) -> u64 {
        self.from.values().sum()
    }

    pub(super) fn by(&self, node: NodeId) -> u64 {
        self.from.get(&node).copied().unwrap_or(0)
    }
}

impl Tallies {
    /// The tallies in `dir`, which is made when it is first needed.
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn path(&self, key: WaveKey) -> PathBuf {
        self.dir.join(format!("{}-{}", hex(key.queen), key.number))
    }

    /// What was fetched for a wave so far. A file that cannot be read counts as none: the figures
    /// are for people, and no wave stops for them.
    pub(super) fn read(&self, key: WaveKey) -> Fetched {
        let path = self.path(key);
        match read(&path) {
            Ok((fetched, _)) => fetched,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Fetched::default(),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "what was fetched is counted anew");
                Fetched::default()
            }
        }
    }

    /// Opens a wave's tally for adding. What a power cut tore off its end is cut.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn open(&self, key: WaveKey) -> io::Result<Tally> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.path(key);
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let file = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        let file = file.open(&path)?;
        let (_, bytes) = read(&path)?;
        file.set_len(bytes)?;
        self.forget_oldest(&path);
        Ok(Tally { file, bytes })
    }

    /// A wave is over: its figures are in the ledger, or of no interest.
    pub(super) fn remove(&self, key: WaveKey) {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "a tally stays behind");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn forget_oldest(&self, but: &Path) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        let mut others: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.path() != *but)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        others.sort();
        let over = (others.len() + 1).saturating_sub(MAX_FILES);
        for (_, path) in others.into_iter().take(over) {
            drop(fs::remove_file(path));
        }
    }
}

impl Tally {
    /// Notes a chunk that came.
    ///
    /// # Errors
    /// The disk's, among them that it is full.
    pub(super) fn note(&mut self, from: NodeId, len: usize) -> io::Result<()> {
        if self.bytes >= MAX_FILE_BYTES {
            return Ok(());
        }
        let line = line(from, u32::try_from(len).unwrap_or(u32::MAX));
        if let Err(error) = self.file.write_all(&line) {
            // Half a line would make all that follow unreadable.
            drop(self.file.set_len(self.bytes));
            return Err(error);
        }
        self.bytes += LINE_BYTES as u64;
        Ok(())
    }
}

fn line(from: NodeId, len: u32) -> [u8; LINE_BYTES] {
    let mut line = [0; LINE_BYTES];
    line[..16].copy_from_slice(from.as_bytes());
    line[16..BODY_BYTES].copy_from_slice(&len.to_be_bytes());
    let check = Digest::of(&line[..BODY_BYTES]).0;
    line[BODY_BYTES..].copy_from_slice(&check[..LINE_BYTES - BODY_BYTES]);
    line
}

/// What the whole lines at the beginning say, and how many bytes they take.
fn read(path: &Path) -> io::Result<(Fetched, u64)> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let mut fetched = Fetched::default();
    let mut whole = 0;
    for (found, _) in bytes.chunks_exact(LINE_BYTES).zip(0_u64..) {
        let (Some(node), Some(len)) = (found.first_chunk::<16>(), found[16..].first_chunk()) else {
            break;
        };
        let (node, len) = (NodeId::from_bytes(*node), u32::from_be_bytes(*len));
        if line(node, len) != *found {
            break;
        }
        let sum: &mut u64 = fetched.from.entry(node).or_default();
        *sum = sum.saturating_add(u64::from(len));
        whole += LINE_BYTES as u64;
    }
    Ok((fetched, whole))
}

fn hex(node: NodeId) -> String {
    node.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; NodeId::LEN])
    }

    fn key(number: u64) -> WaveKey {
        WaveKey { queen: node(9), number }
    }

    #[test]
    fn what_was_counted_is_there_after_a_kill_at_any_byte() {
        let dir = tempfile::tempdir().unwrap();
        let tallies = Tallies::new(dir.path().join("fetched"));
        assert_eq!(tallies.read(key(1)), Fetched::default());
        let mut tally = tallies.open(key(1)).unwrap();
        for (from, len) in [(1, 100), (2, 7), (1, 50)] {
            tally.note(node(from), len).unwrap();
        }
        drop(tally);
        let whole = fs::read(tallies.path(key(1))).unwrap();
        for cut in 0..=whole.len() {
            fs::write(tallies.path(key(1)), &whole[..cut]).unwrap();
            let left = tallies.read(key(1)).all();
            assert_eq!(left, [0, 100, 107, 157][cut / LINE_BYTES], "cut at {cut}");
            tallies.open(key(1)).unwrap().note(node(3), 1).unwrap();
            let fetched = tallies.read(key(1));
            assert_eq!((fetched.all(), fetched.by(node(3))), (left + 1, 1), "cut at {cut}");
        }
    }

    #[test]
    fn foreign_bytes_count_for_nothing_and_old_waves_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let tallies = Tallies::new(dir.path().to_owned());
        fs::write(tallies.path(key(1)), [7; 100]).unwrap();
        assert_eq!(tallies.read(key(1)), Fetched::default());
        tallies.open(key(1)).unwrap().note(node(1), 5).unwrap();
        assert_eq!(tallies.read(key(1)).all(), 5);
        std::os::unix::fs::symlink("/etc/passwd", tallies.path(key(2))).unwrap();
        assert_eq!(tallies.read(key(2)), Fetched::default());
        assert!(tallies.open(key(2)).is_err());
        for number in 3..40 {
            tallies.open(key(number)).unwrap().note(node(1), 1).unwrap();
        }
        assert!(fs::read_dir(dir.path()).unwrap().count() <= MAX_FILES);
        assert_eq!(tallies.read(key(39)).all(), 1);
        tallies.remove(key(39));
        tallies.remove(key(39));
        assert_eq!(tallies.read(key(39)).all(), 0);
    }
}
