//! Chunks of images by their digest, and the images themselves (DLIF-18, DLIF-22, MULTI-7).
//!
//! ```text
//!   chunks/ab/ab01…   one chunk a file, compressed where that helps
//!   images/site/7.seal    one sealed version of an image
//!   tmp/                  what is being written
//!   lock                  shared by writers, alone by the collector
//! ```
//!
//! A chunk is *always* compared with its digest when it is read: a disk that lies, a torn file
//! after a power cut and a stranger's file are all seen, the file is removed, and the chunk is
//! simply not there any more, to be fetched again. So writing a chunk need not wait for the disk.
//! What must not be torn (a seal) is synced, and [`Blobs::sync`] lets the chunks it stands for
//! reach the disk first.
//!
//! Two processes may use one store at once: `skep image build` beside a running agent. Files appear
//! whole, by renaming; a chunk that is put twice is the same chunk. What no image names yet is
//! protected from the collector by the [`Writer`] through which it was put, which holds a shared
//! lock for as long as it lives: the collector works only when nobody writes.
//!
//! The store knows digests, names and bytes, not manifests: which chunks are live is for the caller
//! to say.

mod chunks;
mod dir;
mod images;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock, fstatvfs, syncfs};
use skep_base::{Digest, ImageName};

use dir::Dir;

/// No chunk is longer: what a peer or a file claims is refused above it, before memory is taken.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;
/// No sealed version of an image is longer.
pub const MAX_SEAL_BYTES: usize = 768 << 10;

/// The store, opened. Cheap to share behind an `Arc`; every method takes `&self`.
#[derive(Debug)]
pub struct Blobs {
    path: PathBuf,
    root: Dir,
    chunks: Dir,
    images: Dir,
    tmp: Dir,
}

/// Leave to put chunks. While one lives, in any process, nothing is collected.
#[derive(Debug)]
pub struct Writer<'a> {
    blobs: &'a Blobs,
    _shared: Lock,
}

/// While one lives, in any process, nothing is collected: for whoever counts on chunks that are
/// there, and puts none.
#[derive(Debug)]
pub struct Kept(#[expect(dead_code, reason = "a lock is for being held")] Lock);

/// Leave to remove. While it lives, nobody puts chunks or counts on them, in any process: hold it
/// for one step of work at a time.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "a lock is for being held")] Lock);

/// The store's lock, shared or alone, for as long as the value lives.
#[derive(Debug)]
struct Lock(OwnedFd);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, were there not the moment in which a child that was just forked for a
        // command still shares the lock.
        flock(&self.0, FlockOperation::Unlock).ok();
    }
}

/// Whether a chunk was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was not there.
    New,
    /// It was there already.
    Present,
}

/// What the store holds and what the disk has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many chunks.
    pub chunks: u64,
    /// Bytes their files hold, compressed as they are.
    pub stored_bytes: u64,
    /// Bytes the filesystem has left for this user.
    pub free_bytes: u64,
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Chunks that were not live.
    pub chunks: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Files that no store writes, which were left alone.
    pub foreign: u64,
    /// Files that a killed process left half written.
    pub unfinished: u64,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The filesystem, or the user's quota on it, is full.
    #[error("no space left to {what} in {}: free some, then the work resumes where it was",
        .path.display())]
    Full {
        /// What was being done, with the subject.
        what: String,
        /// The store.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The store's directory cannot be used.
    #[error("cannot open the blob store {} ({what}); it must belong to the agent's user",
        .path.display())]
    Open {
        /// The store.
        path: PathBuf,
        /// What was being opened.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Any other failure of the disk.
    #[error("cannot {what} in the blob store {}", .path.display())]
    Io {
        /// What was being done, with the subject.
        what: String,
        /// The store.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Bytes that do not have the digest they were put under.
    #[error("chunk {expected} has other bytes: {found}; they are not stored")]
    WrongBytes {
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A chunk or seal over its bound.
    #[error("{what} of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// What was given.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The version exists, with other bytes.
    #[error("version {version} of image {name} exists already; a version is never changed")]
    VersionTaken {
        /// The image.
        name: ImageName,
        /// The version.
        version: u64,
    },
    /// Somebody is writing.
    #[error("the blob store {} is being written to; nothing is collected now", .0.display())]
    Busy(PathBuf),
}

impl Blobs {
    /// Opens the store in `path`, making what is missing of it, for this user alone.
    ///
    /// # Errors
    /// [`BlobError::Open`] when the directory cannot be made or used, or is a symbolic link.
    pub fn open(path: &Path) -> Result<Self, BlobError> {
        let failed = |what| move |cause| BlobError::Open { path: path.to_owned(), what, cause };
        let root = Dir::open_root(path).map_err(failed("the directory itself"))?;
        let sub = |name: &'static str| root.make_dir(name).map_err(failed(name));
        let (chunks, images, tmp) = (sub("chunks")?, sub("images")?, sub("tmp")?);
        Ok(Self { path: path.to_owned(), root, chunks, images, tmp })
    }

    /// Leave to put chunks. Waits while another process collects, which takes moments.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the lock cannot be had.
    pub fn writer(&self) -> Result<Writer<'_>, BlobError> {
        let shared = self.lock(FlockOperation::LockShared)?;
        Ok(Writer { blobs: self, _shared: shared })
    }

    /// Keeps what is there from being collected. Waits while another process collects, which takes
    /// moments.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the lock cannot be had.
    pub fn keep(&self) -> Result<Kept, BlobError> {
        self.lock(FlockOperation::LockShared).map(Kept)
    }

    /// Leave to remove, which does not wait.
    ///
    /// # Errors
    /// [`BlobError::Busy`] while somebody writes or keeps: try again later.
    pub fn alone(&self) -> Result<Alone, BlobError> {
        match self.lock(FlockOperation::NonBlockingLockExclusive) {
            Err(BlobError::Io { cause, .. }) if cause.kind() == io::ErrorKind::WouldBlock => {
                Err(BlobError::Busy(self.path.clone()))
            }
            other => other.map(Alone),
        }
    }

    /// Whether the chunk is there. A file that turns out torn when it is read counts until then.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        chunks::exists(&self.chunks, digest)
    }

    /// The chunk's bytes, compared with its digest; nothing when it is not there or was damaged, in
    /// which case the file is removed so that the chunk is fetched again.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails.
    pub fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        match chunks::read(&self.chunks, digest) {
            Ok(chunks::Read::Bytes(bytes)) => Ok(Some(bytes)),
            Ok(chunks::Read::Absent) => Ok(None),
            Ok(chunks::Read::Damaged(why)) => {
                tracing::warn!(chunk = %digest, store = %self.path.display(), why,
                    "a stored chunk is damaged: removed, to be fetched again");
                chunks::remove(&self.chunks, digest)
                    .map_err(self.failed(|| format!("remove the damaged chunk {digest}")))?;
                Ok(None)
            }
            Err(cause) => Err(self.failed(|| format!("read chunk {digest}"))(cause)),
        }
    }

    /// The digests of all chunks, by ascending first byte and in no order within it.
    ///
    /// # Errors
    /// [`BlobError::Io`] when a directory cannot be read.
    pub fn digests(&self) -> Result<Vec<Digest>, BlobError> {
        let mut digests = Vec::new();
        chunks::walk(&self.chunks, &mut |file| {
            digests.extend(file.digest);
            Ok(())
        })
        .map_err(self.failed(|| "list the chunks".to_owned()))?;
        Ok(digests)
    }

    /// Counts what is there. Walks the whole store: for people and slow timers.
    ///
    /// # Errors
    /// [`BlobError::Io`] when a directory cannot be read.
    pub fn usage(&self) -> Result<Usage, BlobError> {
        let mut usage = Usage { free_bytes: self.free_bytes()?, ..Usage::default() };
        chunks::walk(&self.chunks, &mut |file| {
            if file.digest.is_some() {
                usage.chunks += 1;
                usage.stored_bytes += file.bytes;
            }
            Ok(())
        })
        .map_err(self.failed(|| "count the chunks".to_owned()))?;
        Ok(usage)
    }

    /// Bytes the store's filesystem has left for this user.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the filesystem does not say.
    pub fn free_bytes(&self) -> Result<u64, BlobError> {
        let stat = fstatvfs(self.root.fd())
            .map_err(|cause| self.failed(|| "ask for free space".to_owned())(cause.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Lets everything written so far reach the disk. Called before a seal is put, so that a sealed
    /// version that is listed after a power cut has its chunks.
    ///
    /// # Errors
    /// [`BlobError::Full`] or [`BlobError::Io`] when the disk fails.
    pub fn sync(&self) -> Result<(), BlobError> {
        syncfs(self.root.fd()).map_err(|cause| self.failed(|| "sync".to_owned())(cause.into()))
    }

    /// Removes every chunk that is not in `live`, and what killed processes left half written.
    ///
    /// # Errors
    /// [`BlobError::Busy`] while somebody writes: try again later. [`BlobError::Io`] when the disk
    /// fails.
    pub fn collect(&self, live: &BTreeSet<Digest>) -> Result<Collected, BlobError> {
        let alone = self.alone()?;
        let mut collected = self.sweep_unfinished(&alone)?;
        for first in 0..=u8::MAX {
            collected += self.sweep(&alone, first, live)?;
        }
        Ok(collected)
    }

    /// One step of a collection: removes the chunks that are not in `live` among those whose
    /// digests begin with `first`. Between two steps others may put chunks and images: the caller
    /// sees to it that `live` is still what it was.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails.
    pub fn sweep(
        &self,
        _alone: &Alone,
        first: u8,
        live: &BTreeSet<Digest>,
    ) -> Result<Collected, BlobError> {
        self.look_at_shelf(first, live, true)
    }

    /// What [`Blobs::sweep`] would remove.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails.
    pub fn survey(&self, first: u8, live: &BTreeSet<Digest>) -> Result<Collected, BlobError> {
        self.look_at_shelf(first, live, false)
    }

    fn look_at_shelf(
        &self,
        first: u8,
        live: &BTreeSet<Digest>,
        remove: bool,
    ) -> Result<Collected, BlobError> {
        let mut collected = Collected::default();
        chunks::walk_shelf(&self.chunks, &chunks::shelf(first), &mut |file| {
            match file.digest {
                Some(digest) if live.contains(&digest) => {}
                Some(digest) => {
                    if remove {
                        chunks::remove(&self.chunks, &digest)?;
                    }
                    collected.chunks += 1;
                    collected.bytes += file.bytes;
                }
                None => collected.foreign += 1,
            }
            Ok(())
        })
        .map_err(self.failed(|| "remove chunks that no image names".to_owned()))?;
        Ok(collected)
    }

    /// Removes what killed processes left half written.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails.
    pub fn sweep_unfinished(&self, _alone: &Alone) -> Result<Collected, BlobError> {
        let mut collected = Collected::default();
        for name in self.names(&self.tmp, "tmp")? {
            collected.unfinished += 1;
            self.tmp
                .remove_file(&name)
                .map_err(self.failed(|| "remove unfinished files".to_owned()))?;
        }
        Ok(collected)
    }

    fn lock(&self, operation: FlockOperation) -> Result<Lock, BlobError> {
        let failed = |cause: rustix::io::Errno| self.failed(|| "lock".to_owned())(cause.into());
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = self.root.open("lock", flags).map_err(failed)?;
        flock(&file, operation).map_err(failed)?;
        Ok(Lock(file))
    }

    fn names(&self, dir: &Dir, what: &str) -> Result<Vec<String>, BlobError> {
        dir.names().map_err(self.failed(|| format!("list {what}")))
    }

    /// Writes `bytes` under a name of their own in `tmp`, for renaming to where they belong.
    fn stage(&self, parts: &[&[u8]], sync: bool) -> io::Result<String> {
        self.tmp.write_new(parts, sync)
    }

    /// Turns what the system said into an error that names the store.
    fn failed(&self, what: impl Fn() -> String) -> impl Fn(io::Error) -> BlobError {
        move |cause| {
            let (what, path) = (what(), self.path.clone());
            let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
            if full.contains(&cause.kind()) {
                BlobError::Full { what, path, cause }
            } else {
                BlobError::Io { what, path, cause }
            }
        }
    }
}

impl Writer<'_> {
    /// Stores `bytes` under `digest`, which must be theirs.
    ///
    /// # Errors
    /// [`BlobError::WrongBytes`] when it is not; [`BlobError::Full`] when the disk is.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<Put, BlobError> {
        self.put_after(digest, bytes, || Ok(()))
    }

    /// The same; `first` is done once the bytes are known to be right, and before they are stored.
    ///
    /// # Errors
    /// As [`Writer::put`], and what `first` says, with this store's name: nothing is stored then.
    pub fn put_after(
        &self,
        digest: &Digest,
        bytes: &[u8],
        first: impl FnOnce() -> io::Result<()>,
    ) -> Result<Put, BlobError> {
        let blobs = self.blobs;
        if bytes.len() > MAX_CHUNK_BYTES {
            return Err(BlobError::TooLong {
                what: "a chunk",
                bytes: bytes.len(),
                limit: MAX_CHUNK_BYTES,
            });
        }
        let found = Digest::of(bytes);
        if found != *digest {
            return Err(BlobError::WrongBytes { expected: *digest, found });
        }
        first().map_err(blobs.failed(|| format!("note chunk {digest}")))?;
        if blobs.has(digest) {
            return Ok(Put::Present);
        }
        chunks::write(blobs, digest, bytes)
            .map_err(blobs.failed(|| format!("write chunk {digest}")))?;
        Ok(Put::New)
    }

    /// The store this writes to.
    #[must_use]
    pub const fn blobs(&self) -> &Blobs {
        self.blobs
    }
}

impl std::ops::AddAssign for Collected {
    fn add_assign(&mut self, more: Self) {
        self.chunks += more.chunks;
        self.bytes += more.bytes;
        self.foreign += more.foreign;
        self.unfinished += more.unfinished;
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = skep_base::ByteSize;
        let (stored, free) = (size(self.stored_bytes), size(self.free_bytes));
        write!(f, "{} chunks, {stored} stored, {free} free", self.chunks)
    }
}

#[cfg(test)]
mod tests;
