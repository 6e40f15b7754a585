//! One record: what it looks like in a segment, and how it is told from anything else.
//!
//! ```text
//!   0        4          12         20     21         23         31
//!   +--------+----------+----------+------+----------+----------+------+----------------------+
//!   | length | position | written  | kind | head len | checksum | head | body, or where it is |
//!   +--------+----------+----------+------+----------+----------+------+----------------------+
//!     u32      u64        u64 ms     u8     u16        8 bytes
//! ```
//!
//! Numbers are big-endian; the length counts head and body. The checksum is the beginning of the
//! BLAKE3 digest of everything else, position included, so that neither a moved record nor one of
//! an earlier file passes.

use skep_base::WallTime;

/// Bytes before the head.
pub(super) const RECORD_HEADER_BYTES: usize = 31;
/// Longest head.
pub(super) const MAX_HEAD_BYTES: usize = 4096;
/// Bodies up to here stand in the segment; longer ones are files.
pub(super) const MAX_INLINE_BYTES: usize = 32 * 1024;
/// What stands in the segment for a body that is a file: its digest and its length.
pub(super) const REFERENCE_BYTES: usize = 32 + 8;

const CHECKSUM_AT: usize = 23;

/// What a record says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    Inline(&'a [u8]),
    File { digest: [u8; 32], length: u64 },
}

impl Body<'_> {
    pub(super) const fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// A record in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) position: u64,
    pub(super) written: WallTime,
    pub(super) head: &'a [u8],
    pub(super) body: Body<'a>,
}

impl<'a> Record<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let reference;
        let (kind, tail) = match self.body {
            Body::Inline(bytes) => (1, bytes),
            Body::File { digest, length } => {
                let mut bytes = digest.to_vec();
                bytes.extend_from_slice(&length.to_be_bytes());
                reference = bytes;
                (2, &reference[..])
            }
        };
        let length = u32::try_from(self.head.len() + tail.len()).unwrap_or(u32::MAX);
        let head_length = u16::try_from(self.head.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        out.extend_from_slice(&self.written.unix_ms.to_be_bytes());
        out.push(kind);
        out.extend_from_slice(&head_length.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(self.head);
        out.extend_from_slice(tail);
        let sum = checksum(&out[start..]);
        out[start + CHECKSUM_AT..start + RECORD_HEADER_BYTES].copy_from_slice(&sum);
    }

    /// The record at the beginning of `bytes` and its length there, if a whole one stands there.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let header = bytes.get(..RECORD_HEADER_BYTES)?;
        let length = u32::from_be_bytes(*header.first_chunk()?) as usize;
        let kind = header[20];
        let head_length = usize::from(u16::from_be_bytes([header[21], header[22]]));
        let tail_length = length.checked_sub(head_length)?;
        let fits = match kind {
            1 => tail_length <= MAX_INLINE_BYTES,
            2 => tail_length == REFERENCE_BYTES,
            _ => false,
        };
        if !fits || head_length > MAX_HEAD_BYTES {
            return None;
        }
        let whole = bytes.get(..RECORD_HEADER_BYTES + length)?;
        if checksum(whole) != whole[CHECKSUM_AT..RECORD_HEADER_BYTES] {
            return None;
        }
        let (head, tail) = whole[RECORD_HEADER_BYTES..].split_at(head_length);
        let body = if kind == 1 {
            Body::Inline(tail)
        } else {
            Body::File {
                digest: *tail.first_chunk()?,
                length: u64::from_be_bytes(*tail.last_chunk()?),
            }
        };
        let record = Self {
            position: u64::from_be_bytes(*header[4..].first_chunk()?),
            written: WallTime::from_unix_ms(u64::from_be_bytes(*header[12..].first_chunk()?)),
            head,
            body,
        };
        Some((record, whole.len()))
    }
}

/// Of a whole record, with whatever stands where the checksum goes left out.
fn checksum(record: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&record[..CHECKSUM_AT]);
    hasher.update(&record[RECORD_HEADER_BYTES..]);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    sum
}
