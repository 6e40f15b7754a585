//! A body while it comes in: in memory as long as it is short; one that is long is laid down in a
//! file by whoever will publish it, hashed on the way, and never is in memory as a whole.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use skep_base::Digest;
use tokio::task::spawn_blocking;

use crate::backend::{Laid, Laying, Spools};

/// Bytes of a body that each client may have in memory while it comes in. More than any update that
/// is flooded with its header has, so that what is laid down is always one that is announced.
pub(crate) const MEMORY_BYTES: usize = 64 * 1024;
/// Room that a body takes at first though its size promises more: promises are cheap.
const FIRST_ROOM_BYTES: usize = 4 * 1024;

/// Where long bodies wait, and how much of all clients' may.
#[derive(Debug)]
pub(crate) struct Spool {
    place: Arc<dyn Spools>,
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
    #[error("cannot keep a long update: {}: is the disk full?", .0.kind())]
    Io(#[from] io::Error),
}

impl Spool {
    pub(crate) fn new(place: Arc<dyn Spools>, limit: u64) -> Arc<Self> {
        Arc::new(Self { place, limit, used: AtomicU64::new(0) })
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether a body of that size fits now. It is not reserved for it: promises are cheap.
    pub(crate) fn has_room(&self, size: u64) -> Result<(), SpoolError> {
        let short = size <= MEMORY_BYTES as u64;
        let fits = short || self.used().saturating_add(size) <= self.limit;
        if fits { Ok(()) } else { Err(SpoolError::Full) }
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

/// A whole body that is to be published.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Here(Bytes),
    /// In a file.
    LaidDown(LaidDown),
}

/// A whole body in a file, on the disk. Dropped, the file may go.
pub struct LaidDown {
    laid: Laid,
    length: u64,
    _taken: Taken,
}

impl LaidDown {
    /// Names the file, for whoever laid it down.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.laid.number
    }

    /// The length of the body.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Its digest.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.laid.digest
    }
}

impl fmt::Debug for LaidDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaidDown({}, {} bytes)", self.laid.number, self.length)
    }
}

impl Content {
    /// What it takes in memory.
    pub(crate) const fn in_memory(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::LaidDown(_) => 0,
        }
    }
}

/// What came so far.
pub(crate) struct Body {
    length: u64,
    memory: BytesMut,
    file: Option<(Box<dyn Laying>, Taken)>,
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
        let bytes = self.memory.len() as u64;
        let (laying, mut taken) = match self.file.take() {
            Some((laying, taken)) => (Some(laying), taken),
            None => (None, Taken { spool: Arc::clone(spool), bytes: 0 }),
        };
        spool.take(bytes)?;
        taken.bytes += bytes;
        let (memory, place) = (std::mem::take(&mut self.memory), Arc::clone(&spool.place));
        let (laying, mut memory) = blocking(move || {
            let mut laying = laying.map_or_else(|| place.begin(), Ok)?;
            laying.write(&memory)?;
            Ok((laying, memory))
        })
        .await?;
        memory.clear();
        self.memory = memory;
        self.file = Some((laying, taken));
        Ok(())
    }

    /// Counts a part that is not kept.
    pub(crate) const fn skip(&mut self, bytes: usize) {
        self.length += bytes as u64;
    }

    /// All of it came.
    pub(crate) async fn finish(self) -> Result<Content, SpoolError> {
        let Self { length, memory, file } = self;
        let Some((mut laying, mut taken)) = file else {
            return Ok(Content::Here(memory.freeze()));
        };
        let rest = memory.len() as u64;
        taken.spool.take(rest)?;
        taken.bytes += rest;
        let laid = blocking(move || {
            laying.write(&memory)?;
            laying.finish()
        });
        let laid = laid.await?;
        Ok(Content::LaidDown(LaidDown { laid, length, _taken: taken }))
    }
}

/// Waits for the disk where nobody else has to.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SpoolError> {
    Ok(spawn_blocking(job).await.map_err(io::Error::other)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Files;

    #[tokio::test]
    async fn a_long_body_goes_to_a_file_and_gives_its_room_back() {
        let files = Files::new();
        let spool = Spool::new(Arc::new(files.clone()), 1 << 20);
        let mut body = Body::new(Some(300_000));
        for part in 0..300 {
            body.push(&[u8::try_from(part % 251).unwrap(); 1000], &spool).await.unwrap();
        }
        assert!(spool.used() >= 200_000, "{}", spool.used());
        let Content::LaidDown(laid) = body.finish().await.unwrap() else {
            panic!("it is long");
        };
        assert_eq!((laid.length(), spool.used()), (300_000, 300_000));
        let whole = files.read(laid.number());
        assert_eq!((whole.len(), whole[299_999], whole[1000]), (300_000, 48, 1));
        assert_eq!(laid.digest(), Digest::of(&whole));
        drop(laid);
        assert_eq!((spool.used(), files.count()), (0, 0));
    }

    #[tokio::test]
    async fn a_full_spool_takes_no_more() {
        let files = Files::new();
        let spool = Spool::new(Arc::new(files.clone()), 100_000);
        let (mut first, mut second) = (Body::new(None), Body::new(None));
        first.push(&[1; 90_000], &spool).await.unwrap();
        assert!(spool.has_room(64 * 1024).is_ok() && spool.has_room(70_000).is_err());
        let full = second.push(&[2; 90_000], &spool).await;
        assert!(matches!(full, Err(SpoolError::Full)));
        drop(first);
        assert_eq!((spool.used(), files.count()), (0, 0));
    }

    #[tokio::test]
    async fn a_disk_that_is_full_is_told() {
        let files = Files::new();
        files.fill_up();
        let spool = Spool::new(Arc::new(files.clone()), 1 << 20);
        let mut body = Body::new(None);
        let told = body.push(&[1; 90_000], &spool).await.unwrap_err();
        assert_eq!(
            told.to_string(),
            "cannot keep a long update: no storage space: is the disk full?"
        );
        assert_eq!((spool.used(), files.count()), (0, 0));
    }
}
