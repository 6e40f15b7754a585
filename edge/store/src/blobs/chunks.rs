//! One chunk, one file: a header of eight bytes, then the chunk as it is or compressed.
//!
//! ```text
//!   0      3    4        8
//!   | "skc" | how | length | bytes …
//!             'r' as it is, 'z' zstd    u32 LE, of the chunk itself
//! ```

use std::io;

use rustix::fs::RenameFlags;
use rustix::io::Errno;
use skep_base::Digest;

use super::dir::Dir;
use super::{Blobs, MAX_CHUNK_BYTES};

const MAGIC: &[u8; 3] = b"skc";
const HEADER_BYTES: usize = 8;
const RAW: u8 = b'r';
const ZSTD: u8 = b'z';
/// The level zstd's authors call its default: 64 KiB take well under a millisecond.
const LEVEL: i32 = 3;
/// Compressed form is kept when it saves at least an eighth; else reading stays free of it.
const WORTH: usize = 8;

/// What reading a chunk's file came to.
pub(super) enum Read {
    Bytes(Vec<u8>),
    Absent,
    Damaged(&'static str),
}

/// A file below `chunks`.
pub(super) struct ChunkFile {
    /// Nothing for a file that this store did not write.
    pub(super) digest: Option<Digest>,
    pub(super) bytes: u64,
}

/// The directory and the name of a chunk: 256 directories keep each one short.
fn place(digest: &Digest) -> (String, String) {
    let hex = digest.to_string();
    (hex.chars().take(2).collect(), hex)
}

pub(super) fn exists(chunks: &Dir, digest: &Digest) -> bool {
    let (shelf, name) = place(digest);
    matches!(chunks.file_size(&format!("{shelf}/{name}")), Ok(Some(size)) if size > 0)
}

pub(super) fn read(chunks: &Dir, digest: &Digest) -> io::Result<Read> {
    let (shelf, name) = place(digest);
    let limit = HEADER_BYTES + MAX_CHUNK_BYTES;
    match chunks.read(&format!("{shelf}/{name}"), limit) {
        Ok(Some(file)) => Ok(match unpack(&file) {
            Some(bytes) if Digest::of(&bytes) == *digest => Read::Bytes(bytes),
            Some(_) => Read::Damaged("its bytes have another digest"),
            None => Read::Damaged("its file is not one of a chunk"),
        }),
        Ok(None) => Ok(Read::Damaged("its file is longer than any chunk, or no file")),
        Err(Errno::NOENT) => Ok(Read::Absent),
        Err(Errno::LOOP) => Ok(Read::Damaged("its file is a symbolic link")),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn write(blobs: &Blobs, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
    let (how, packed) = pack(bytes);
    let mut header = [0; HEADER_BYTES];
    header[..3].copy_from_slice(MAGIC);
    header[3] = how;
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    header[4..].copy_from_slice(&len.to_le_bytes());
    let (shelf, name) = place(digest);
    let shelf = blobs.chunks.make_dir(&shelf)?;
    let staged = blobs.stage(&[&header, packed.as_deref().unwrap_or(bytes)], false)?;
    blobs
        .tmp
        .rename(&staged, &shelf, &name, RenameFlags::empty())
        .inspect_err(|_| drop(blobs.tmp.remove_file(&staged)))?;
    Ok(())
}

pub(super) fn remove(chunks: &Dir, digest: &Digest) -> io::Result<()> {
    let (shelf, name) = place(digest);
    chunks.remove_file(&format!("{shelf}/{name}"))
}

/// Calls `each` for every file. It may remove the file it is called for.
pub(super) fn walk(
    chunks: &Dir,
    each: &mut dyn FnMut(ChunkFile) -> io::Result<()>,
) -> io::Result<()> {
    chunks.names()?.iter().try_for_each(|shelf| walk_shelf(chunks, shelf, each))
}

/// The directory of the chunks whose digests begin with `first`.
pub(super) fn shelf(first: u8) -> String {
    format!("{first:02x}")
}

/// The same for one of the directories.
pub(super) fn walk_shelf(
    chunks: &Dir,
    shelf: &str,
    each: &mut dyn FnMut(ChunkFile) -> io::Result<()>,
) -> io::Result<()> {
    let dir = match chunks.open_dir(shelf) {
        Ok(dir) => dir,
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for name in dir.names()? {
        // Gone meanwhile, or no file: not ours to count.
        let Some(bytes) = dir.file_size(&name)? else {
            continue;
        };
        let digest = name.parse().ok().filter(|digest| place(digest) == (shelf.to_owned(), name));
        each(ChunkFile { digest, bytes })?;
    }
    Ok(())
}

/// How the chunk is kept, and the compressed form where that is how.
fn pack(bytes: &[u8]) -> (u8, Option<Vec<u8>>) {
    match zstd::bulk::compress(bytes, LEVEL) {
        Ok(packed) if packed.len() + bytes.len() / WORTH <= bytes.len() => (ZSTD, Some(packed)),
        Ok(_) | Err(_) => (RAW, None),
    }
}

fn unpack(file: &[u8]) -> Option<Vec<u8>> {
    let (header, packed) = file.split_first_chunk::<HEADER_BYTES>()?;
    let (how, len) = header.strip_prefix(MAGIC)?.split_first()?;
    let len = u32::from_le_bytes(len.try_into().ok()?);
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_CHUNK_BYTES)?;
    let bytes = match *how {
        RAW => packed.to_vec(),
        // Takes at most `len` bytes of memory, whatever the packed form claims.
        ZSTD => zstd::bulk::decompress(packed, len).ok()?,
        _ => return None,
    };
    (bytes.len() == len).then_some(bytes)
}
