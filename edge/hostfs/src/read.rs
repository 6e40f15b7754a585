//! A file's bytes and its holes.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use skep_image::Hole;
use skep_image::limits::MAX_HOLES;

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

/// Why reading ended.
#[derive(Debug)]
pub(crate) enum ReadError<E> {
    /// The disk.
    Io(Errno),
    /// The file ended before its size.
    Short,
    /// Whoever took the bytes.
    Taker(E),
}

impl<E> From<Errno> for ReadError<E> {
    fn from(errno: Errno) -> Self {
        Self::Io(errno)
    }
}

/// The holes of a file of `size` bytes, as its filesystem tells them.
pub(crate) fn holes(file: BorrowedFd<'_>, size: u64) -> Result<Vec<Hole>, Errno> {
    let mut holes = Vec::new();
    let mut at = 0;
    while at < size && holes.len() < MAX_HOLES {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            // A filesystem that knows no holes has none.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(holes),
            Err(errno) => return Err(errno),
        };
        if data > at {
            holes.push(Hole { offset: at, len: data - at });
        }
        if data == size {
            break;
        }
        at = rustix::fs::seek(file, SeekFrom::Hole(data))?.min(size);
    }
    Ok(holes)
}

/// Hands the bytes of the range to `take`, in order, at most [`READ_BYTES`] at once.
pub(crate) fn range<E>(
    file: BorrowedFd<'_>,
    (mut offset, mut len): (u64, u64),
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), ReadError<E>> {
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(len).unwrap_or(READ_BYTES))];
    while len > 0 {
        let want = buffer.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        let part = &mut buffer[..want];
        match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *part, offset))? {
            0 => return Err(ReadError::Short),
            got => {
                take(&part[..got]).map_err(ReadError::Taker)?;
                offset += got as u64;
                len -= got as u64;
            }
        }
    }
    Ok(())
}
