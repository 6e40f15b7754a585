//! The small file beside a stage that says what the stage is.
//!
//! ```text
//!   skep stage 1
//!   manifest <digest>
//!   ready <device> <inode> <birth seconds> <birth nanoseconds>     once the stage is whole
//! ```
//!
//! Lines are appended, so a torn one at the end means that it was not written. Whatever the file
//! says or fails to say, the stage may be thrown away; the `ready` line only tells, after a crash,
//! whether the target *is* already the new tree. Its lock is held for as long as a process works
//! on the stage.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, StatxFlags, flock};
use rustix::io::Errno;
use skep_base::Digest;
use skep_image::ManifestDigest;

use crate::dir::{Dir, identity};

const FIRST_LINE: &str = "skep stage 1";
/// Longer than all lines together; what lies beyond is not read.
const MAX_BYTES: usize = 512;

/// The open and locked state file of one stage.
#[derive(Debug)]
pub(crate) struct State {
    file: OwnedFd,
}

impl Drop for State {
    fn drop(&mut self) {
        // Closing would do, were there not the moment in which a child that was just forked for a
        // command still shares the lock. Nothing is lost when it fails: the process is ending it.
        flock(&self.file, FlockOperation::Unlock).ok();
    }
}

/// What a state file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Nothing, or nothing that this release wrote.
    Nothing,
    /// A stage of this manifest is being built.
    Building(ManifestDigest),
    /// The stage of this manifest was whole, and its root was this.
    Ready(ManifestDigest, RootId),
}

/// Which inode a root is, told from a later one of the same number by its time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootId {
    device: (u32, u32),
    inode: u64,
    born: (i64, u32),
}

impl RootId {
    /// What `name` is; nothing when there is no such name.
    pub(crate) fn of(dir: &Dir, name: &[u8]) -> Result<Option<Self>, Errno> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        match rustix::fs::statx(dir.fd(), name, AtFlags::SYMLINK_NOFOLLOW, mask) {
            Ok(stat) => Ok(Some(Self {
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl State {
    /// Opens and locks the state file `name`, making it when it is missing; nothing when another
    /// process holds it.
    pub(crate) fn open(dir: &Dir, name: &[u8]) -> Result<Option<Self>, Errno> {
        loop {
            let file = dir.open_log(name)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(errno),
            }
            // Its last holder may have removed the name between our opening and our locking it.
            let ours = identity(&rustix::fs::fstat(&file)?);
            if dir.stat_if_any(name)?.is_some_and(|stat| identity(&stat) == ours) {
                return Ok(Some(Self { file }));
            }
        }
    }

    pub(crate) fn read(&self) -> Result<Note, Errno> {
        let mut bytes = [0; MAX_BYTES];
        let len = rustix::io::pread(&self.file, &mut bytes[..], 0)?;
        let whole = bytes[..len].iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let text = std::str::from_utf8(&bytes[..whole]).unwrap_or("");
        Ok(parse(text).unwrap_or(Note::Nothing))
    }

    /// Starts again: a stage of `manifest` is being built.
    pub(crate) fn begin(&self, manifest: ManifestDigest) -> Result<(), Errno> {
        rustix::fs::ftruncate(&self.file, 0)?;
        self.append(&format!("{FIRST_LINE}\nmanifest {manifest}\n"))
    }

    /// Notes that the stage is whole and its root is `root`; on disk when this returns.
    pub(crate) fn mark_ready(&self, root: &RootId) -> Result<(), Errno> {
        let ((major, minor), (seconds, nanos)) = (root.device, root.born);
        let inode = root.inode;
        self.append(&format!("ready {major}:{minor} {inode} {seconds} {nanos}\n"))?;
        rustix::fs::fsync(&self.file)
    }

    fn append(&self, text: &str) -> Result<(), Errno> {
        // A few dozen bytes: written at once or not at all.
        let written = rustix::io::write(self.file.as_fd(), text.as_bytes())?;
        (written == text.len()).then_some(()).ok_or(Errno::NOSPC)
    }
}

fn parse(text: &str) -> Option<Note> {
    let mut lines = text.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let digest: Digest = lines.next()?.strip_prefix("manifest ")?.parse().ok()?;
    let manifest = ManifestDigest(digest);
    let Some(ready) = lines.next() else {
        return Some(Note::Building(manifest));
    };
    let mut words = ready.strip_prefix("ready ")?.split(' ');
    let (major, minor) = words.next()?.split_once(':')?;
    let root = RootId {
        device: (major.parse().ok()?, minor.parse().ok()?),
        inode: words.next()?.parse().ok()?,
        born: (words.next()?.parse().ok()?, words.next()?.parse().ok()?),
    };
    Some(Note::Ready(manifest, root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn notes_survive_being_opened_again_and_tearing() {
        let place = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient(place.path()).unwrap();
        let manifest = ManifestDigest::of(b"m");
        let state = State::open(&dir, b"s.state").unwrap().unwrap();
        assert_eq!(state.read().unwrap(), Note::Nothing);
        state.begin(manifest).unwrap();
        assert_eq!(state.read().unwrap(), Note::Building(manifest));
        let root = RootId::of(&dir, b"s.state").unwrap().unwrap();
        state.mark_ready(&root).unwrap();
        assert!(State::open(&dir, b"s.state").unwrap().is_none(), "held by another");
        drop(state);

        let path = place.path().join("s.state");
        let text = fs::read(&path).unwrap();
        for len in 0..=text.len() {
            fs::write(&path, &text[..len]).unwrap();
            let state = State::open(&dir, b"s.state").unwrap().unwrap();
            let note = state.read().unwrap();
            let lines = text[..len].iter().filter(|byte| **byte == b'\n').count();
            match lines {
                3 => assert_eq!(note, Note::Ready(manifest, root)),
                2 => assert_eq!(note, Note::Building(manifest)),
                _ => assert_eq!(note, Note::Nothing),
            }
        }
        fs::write(&path, vec![0xff; 4096]).unwrap();
        let state = State::open(&dir, b"s.state").unwrap().unwrap();
        assert_eq!(state.read().unwrap(), Note::Nothing);
        state.begin(manifest).unwrap();
        assert_eq!(state.read().unwrap(), Note::Building(manifest));
    }
}
