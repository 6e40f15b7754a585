//! A manifest's bytes: `docs/protocol/image.md` has them as tables.
//!
//! Every number has one spelling (LEB128 without padding), every count is checked against its bound
//! and against the bytes that are left, and nothing may follow the last entry. So a manifest has
//! one sequence of bytes, and bytes cost no more memory than a small multiple of themselves.

use alloc::vec::Vec;

use skep_base::{Digest, ImageName, NodeId, NodeName, WallTime};

use crate::chunk::ChunkRef;
use crate::entry::{Contents, Entry, EntryError, Hole, Kind, Metadata, Node, Timestamp, Xattr};
use crate::limits::{
    MAX_ENTRIES, MAX_HOLES, MAX_MANIFEST_BYTES, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_TARGET_BYTES,
    MAX_XATTR_BYTES, MAX_XATTRS,
};
use crate::manifest::{Header, ImageKind, ManifestDigest, ManifestError, Totals, entry_error};
use crate::path::TreePath;

const MAGIC: &[u8; 7] = b"SKEPIMG";
const FORMAT: u8 = 1;
/// The cut points of [`crate::chunk`].
const CHUNKING: u8 = 1;
/// A chunk reference's shortest spelling, by which a claimed count is judged.
pub(crate) const CHUNK_BYTES: usize = Digest::LEN + 1;
/// A hard link named by one byte.
const SHORTEST_ENTRY: usize = 4;

mod tag {
    pub(super) const DIRECTORY: u8 = 0;
    pub(super) const FILE: u8 = 1;
    pub(super) const SYMLINK: u8 = 2;
    pub(super) const FIFO: u8 = 3;
    pub(super) const CHAR_DEVICE: u8 = 4;
    pub(super) const BLOCK_DEVICE: u8 = 5;
    pub(super) const HARD_LINK: u8 = 6;
}

pub(crate) fn encode(header: &Header, totals: &Totals, entries: &[Entry]) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(256 + 96 * entries.len()));
    out.raw(MAGIC);
    out.byte(FORMAT);
    out.byte(CHUNKING);
    out.byte(match header.kind {
        ImageKind::Tree => 0,
        ImageKind::File => 1,
    });
    out.bytes(header.name.as_str().as_bytes());
    out.number(header.version);
    out.number(header.created.unix_ms);
    out.bytes(header.queen.as_str().as_bytes());
    out.raw(header.queen_id.as_bytes());
    match &header.previous {
        None => out.byte(0),
        Some(previous) => {
            out.byte(1);
            out.raw(&previous.0.0);
        }
    }
    out.number(totals.files);
    out.number(totals.bytes);
    out.number(totals.data_bytes);
    out.number(totals.chunks);
    out.number(totals.entries);
    for entry in entries {
        write_entry(entry, &mut out);
    }
    out.0
}

fn write_entry(entry: &Entry, out: &mut Writer) {
    let (metadata, node) = match &entry.kind {
        Kind::HardLink(first) => {
            out.byte(tag::HARD_LINK);
            out.bytes(entry.path.as_bytes());
            out.number(u64::from(*first));
            return;
        }
        Kind::Node(metadata, node) => (metadata, node),
    };
    out.byte(match node {
        Node::Directory => tag::DIRECTORY,
        Node::File(_) => tag::FILE,
        Node::Symlink(_) => tag::SYMLINK,
        Node::Fifo => tag::FIFO,
        Node::CharDevice { .. } => tag::CHAR_DEVICE,
        Node::BlockDevice { .. } => tag::BLOCK_DEVICE,
    });
    out.bytes(entry.path.as_bytes());
    write_metadata(metadata, out);
    match node {
        Node::Directory | Node::Fifo => {}
        Node::File(contents) => write_contents(contents, out),
        Node::Symlink(target) => out.bytes(target),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            out.number(u64::from(*major));
            out.number(u64::from(*minor));
        }
    }
}

fn write_metadata(metadata: &Metadata, out: &mut Writer) {
    out.number(u64::from(metadata.mode));
    out.number(u64::from(metadata.uid));
    out.number(u64::from(metadata.gid));
    out.signed(metadata.modified.seconds);
    out.number(u64::from(metadata.modified.nanos));
    out.number(metadata.xattrs.len() as u64);
    for xattr in &metadata.xattrs {
        out.bytes(&xattr.name);
        out.bytes(&xattr.value);
    }
}

fn write_contents(contents: &Contents, out: &mut Writer) {
    out.number(contents.size);
    out.number(contents.holes.len() as u64);
    for hole in &contents.holes {
        out.number(hole.offset);
        out.number(hole.len);
    }
    out.chunks(&contents.chunks);
}

pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, Totals, Vec<Entry>), ManifestError> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooMuch {
            what: "its own bytes",
            claimed: bytes.len() as u64,
            limit: MAX_MANIFEST_BYTES as u64,
        });
    }
    let mut input = Reader(bytes);
    let header = read_header(&mut input)?;
    let mut totals = Totals {
        files: input.number("count of files")?,
        bytes: input.number("bytes of all files")?,
        data_bytes: input.number("bytes of data")?,
        chunks: input.number("count of chunks")?,
        entries: 0,
    };
    let count = input.count("entries", MAX_ENTRIES, SHORTEST_ENTRY)?;
    totals.entries = count as u64;
    let mut entries = Vec::with_capacity(count);
    for index in 0..count {
        entries.push(read_entry(index, &mut input)?);
    }
    if input.0.is_empty() {
        Ok((header, totals, entries))
    } else {
        Err(ManifestError::LeftOver(input.0.len()))
    }
}

fn read_header(input: &mut Reader<'_>) -> Result<Header, ManifestError> {
    if input.raw(MAGIC.len(), "magic").ok() != Some(MAGIC) {
        return Err(ManifestError::Magic);
    }
    match input.byte("format")? {
        FORMAT => {}
        other => return Err(ManifestError::Format(other)),
    }
    match input.byte("chunking")? {
        CHUNKING => {}
        other => return Err(ManifestError::Chunking(other)),
    }
    let kind = match input.byte("kind")? {
        0 => ImageKind::Tree,
        1 => ImageKind::File,
        _ => return Err(ManifestError::Header("kind")),
    };
    Ok(Header {
        kind,
        name: input.name("image name", ImageName::new, ImageName::as_str)?,
        version: input.number("version")?,
        created: WallTime::from_unix_ms(input.number("time of creation")?),
        queen: input.name("queen's name", NodeName::new, NodeName::as_str)?,
        queen_id: NodeId::from_bytes(input.array("queen's identity")?),
        previous: match input.byte("previous version")? {
            0 => None,
            1 => Some(ManifestDigest(Digest(input.array("previous version")?))),
            _ => return Err(ManifestError::Header("previous version")),
        },
    })
}

fn read_entry(index: usize, input: &mut Reader<'_>) -> Result<Entry, ManifestError> {
    let kind = input.byte("kind of entry")?;
    let bytes = input.bytes("path", MAX_PATH_BYTES)?;
    let refused = |why| entry_error(index, &alloc::format!("{}", bytes.escape_ascii()), why);
    let path = TreePath::new(bytes.to_vec()).map_err(|why| refused(why.into()))?;
    if kind == tag::HARD_LINK {
        let first = input.number32("entry that a hard link leads to")?;
        let kind = Kind::HardLink(first);
        return Ok(Entry { path, kind });
    }
    if kind > tag::HARD_LINK {
        return Err(refused(EntryError::UnknownKind(kind)));
    }
    let mode = input.number("mode")?;
    let mode = u16::try_from(mode).map_err(|_| refused(EntryError::Mode(mode)))?;
    let metadata = read_metadata(mode, input)?;
    let node = match kind {
        tag::DIRECTORY => Node::Directory,
        tag::FILE => Node::File(read_contents(input)?),
        tag::SYMLINK => Node::Symlink(input.bytes("target", MAX_TARGET_BYTES)?.to_vec()),
        tag::FIFO => Node::Fifo,
        device => {
            let major = input.number32("major device number")?;
            let minor = input.number32("minor device number")?;
            if device == tag::CHAR_DEVICE {
                Node::CharDevice { major, minor }
            } else {
                Node::BlockDevice { major, minor }
            }
        }
    };
    let kind = Kind::Node(metadata, node);
    Ok(Entry { path, kind })
}

fn read_metadata(mode: u16, input: &mut Reader<'_>) -> Result<Metadata, ManifestError> {
    let uid = input.number32("user")?;
    let gid = input.number32("group")?;
    let modified = Timestamp {
        seconds: input.signed("time of change")?,
        nanos: input.number32("nanoseconds")?,
    };
    let count = input.count("extended attributes", MAX_XATTRS, 2)?;
    let mut xattrs = Vec::with_capacity(count);
    for _ in 0..count {
        xattrs.push(Xattr {
            name: input.bytes("name of an attribute", MAX_NAME_BYTES)?.to_vec(),
            value: input.bytes("value of an attribute", MAX_XATTR_BYTES)?.to_vec(),
        });
    }
    Ok(Metadata { mode, uid, gid, modified, xattrs })
}

fn read_contents(input: &mut Reader<'_>) -> Result<Contents, ManifestError> {
    let size = input.number("size")?;
    let count = input.count("holes", MAX_HOLES, 2)?;
    let mut holes = Vec::with_capacity(count);
    for _ in 0..count {
        holes.push(Hole { offset: input.number("hole")?, len: input.number("hole")? });
    }
    let chunks = input.chunks(MAX_MANIFEST_BYTES)?;
    Ok(Contents { size, holes, chunks })
}

/// Appends fields.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn number(&mut self, mut value: u64) {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    /// Zigzag: small magnitudes of either sign are short.
    fn signed(&mut self, value: i64) {
        self.number((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(crate) fn chunks(&mut self, chunks: &[ChunkRef]) {
        self.number(chunks.len() as u64);
        for chunk in chunks {
            self.raw(&chunk.digest.0);
            self.number(u64::from(chunk.len));
        }
    }
}

/// Takes fields from the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn raw(
        &mut self,
        len: usize,
        what: &'static str,
    ) -> Result<&'a [u8], ManifestError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(ManifestError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], ManifestError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ManifestError::Truncated(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, ManifestError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(crate) fn number(&mut self, what: &'static str) -> Result<u64, ManifestError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let part = u64::from(byte & 0x7f);
            let overflows = shift == 63 && part > 1;
            let padded = byte == 0 && shift > 0;
            if overflows || padded {
                return Err(ManifestError::Number(what));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ManifestError::Number(what))
    }

    pub(crate) fn number32(&mut self, what: &'static str) -> Result<u32, ManifestError> {
        u32::try_from(self.number(what)?).map_err(|_| ManifestError::Number(what))
    }

    fn signed(&mut self, what: &'static str) -> Result<i64, ManifestError> {
        let coded = self.number(what)?;
        Ok((coded >> 1).cast_signed() ^ -(coded & 1).cast_signed())
    }

    /// A length or count within `limit`, of things of at least `least` bytes each, all of which
    /// must still be there.
    pub(crate) fn count(
        &mut self,
        what: &'static str,
        limit: usize,
        least: usize,
    ) -> Result<usize, ManifestError> {
        let claimed = self.number(what)?;
        let refused = ManifestError::TooMuch { what, claimed, limit: limit as u64 };
        match usize::try_from(claimed) {
            Ok(count) if count > limit => Err(refused),
            Ok(count) if count > self.0.len() / least => Err(ManifestError::Truncated(what)),
            Ok(count) => Ok(count),
            Err(_) => Err(refused),
        }
    }

    pub(crate) fn bytes(
        &mut self,
        what: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], ManifestError> {
        let len = self.count(what, limit, 1)?;
        self.raw(len, what)
    }

    pub(crate) fn chunks(&mut self, limit: usize) -> Result<Vec<ChunkRef>, ManifestError> {
        let count = self.count("chunks", limit, CHUNK_BYTES)?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            chunks.push(ChunkRef {
                digest: Digest(self.array("chunk")?),
                len: self.number32("length of a chunk")?,
            });
        }
        Ok(chunks)
    }

    /// A name in the one spelling names have.
    fn name<T, E>(
        &mut self,
        what: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
        shown: impl Fn(&T) -> &str,
    ) -> Result<T, ManifestError> {
        let bytes = self.bytes(what, skep_base::name::MAX_NAME_BYTES)?;
        core::str::from_utf8(bytes)
            .ok()
            .and_then(|text| parse(text).ok().filter(|name| shown(name) == text))
            .ok_or(ManifestError::Header(what))
    }
}
