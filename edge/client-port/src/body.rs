//! A body while it comes in: in memory as long as it is short, in a file when it is not.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// Bytes of a body that each client may have in memory while it comes in.
const MEMORY_BYTES: usize = 64 * 1024;
/// Room that a body takes at first though its size promises more: promises are cheap.
const FIRST_ROOM_BYTES: usize = 4 * 1024;

/// Where long bodies wait, and how much of all clients' may.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    limit: u64,
    used: AtomicU64,
}

/// Some of the spool, given back when it is dropped.
#[derive(Debug)]
struct Taken {
    spool: Arc<Spool>,
    bytes: u64,
}

/// Why a body could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("too many long updates come in at once: try again when some are through")]
    Full,
    #[error("the spool file of a long update failed: is the disk full?")]
    Io(#[from] io::Error),
}

impl Spool {
    pub(crate) fn new(dir: &Path, limit: u64) -> Arc<Self> {
        Arc::new(Self { dir: dir.to_owned(), limit, used: AtomicU64::new(0) })
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<(), SpoolError> {
        let room = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) {
            Ok(_) => Ok(()),
            Err(_) => Err(SpoolError::Full),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.spool.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What came so far.
#[derive(Debug)]
pub(crate) struct Body {
    length: u64,
    memory: BytesMut,
    file: Option<(File, Taken)>,
}

impl Body {
    /// Nothing yet, of which `size` bytes are promised.
    pub(crate) fn new(size: Option<u64>) -> Self {
        let room = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let memory = BytesMut::with_capacity(room.min(FIRST_ROOM_BYTES));
        Self { length: 0, memory, file: None }
    }

    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Adds a part.
    pub(crate) async fn push(&mut self, part: &[u8], spool: &Arc<Spool>) -> Result<(), SpoolError> {
        self.length += part.len() as u64;
        self.memory.extend_from_slice(part);
        if self.memory.len() <= MEMORY_BYTES {
            return Ok(());
        }
        if self.file.is_none() {
            let dir = spool.dir.clone();
            let file = tokio::task::spawn_blocking(move || tempfile::tempfile_in(dir)).await;
            let file = file.map_err(io::Error::other)??;
            let taken = Taken { spool: Arc::clone(spool), bytes: 0 };
            self.file = Some((File::from_std(file), taken));
        }
        if let Some((file, taken)) = &mut self.file {
            let bytes = self.memory.len() as u64;
            spool.take(bytes)?;
            taken.bytes += bytes;
            file.write_all(&self.memory).await?;
            self.memory.clear();
        }
        Ok(())
    }

    /// Counts a part that is not kept.
    pub(crate) const fn skip(&mut self, bytes: usize) {
        self.length += bytes as u64;
    }

    /// All of it, in one piece.
    pub(crate) async fn into_bytes(self) -> Result<Bytes, SpoolError> {
        let Some((mut file, _taken)) = self.file else {
            return Ok(self.memory.freeze());
        };
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        let mut whole = BytesMut::zeroed(length);
        let spooled = length - self.memory.len();
        file.flush().await?;
        file.seek(SeekFrom::Start(0)).await?;
        let (front, back) = whole.split_at_mut(spooled);
        file.read_exact(front).await?;
        back.copy_from_slice(&self.memory);
        Ok(whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_body_goes_through_a_file_and_gives_its_room_back() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), 1 << 20);
        let mut body = Body::new(Some(300_000));
        for part in 0..300 {
            body.push(&[u8::try_from(part % 251).unwrap(); 1000], &spool).await.unwrap();
        }
        assert!(spool.used() >= 200_000, "{}", spool.used());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        let whole = body.into_bytes().await.unwrap();
        assert_eq!((whole.len(), whole[299_999], whole[1000]), (300_000, 48, 1));
        assert_eq!(spool.used(), 0);
    }

    #[tokio::test]
    async fn a_full_spool_takes_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), 100_000);
        let (mut first, mut second) = (Body::new(None), Body::new(None));
        first.push(&[1; 90_000], &spool).await.unwrap();
        let full = second.push(&[2; 90_000], &spool).await;
        assert!(matches!(full, Err(SpoolError::Full)));
        drop(first);
        assert_eq!(spool.used(), 0);
    }
}
