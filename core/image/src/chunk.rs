//! Cutting bytes where the bytes say so.
//!
//! The cut points are those of `FastCDC` (2020, normalisation level 1) with the sizes below. They
//! are part of the wire format: two nodes that cut alike share chunks, so the algorithm's exact
//! release is pinned and a test holds golden cut points. Only which chunks are *shared* depends on
//! them; what a chunk is depends on its digest alone.

use alloc::vec::Vec;

use fastcdc::v2020::{MASKS, cut};
use serde::{Deserialize, Serialize};
use skep_base::Digest;

/// No chunk but a file's last is shorter.
pub const CHUNK_MIN: usize = 16 << 10;
/// The size chunks gather around.
pub const CHUNK_AVERAGE: usize = 64 << 10;
/// No chunk is longer; with its header it fits one bulk frame.
pub const CHUNK_MAX: usize = 256 << 10;

/// Bits of [`CHUNK_AVERAGE`]; one more or less before and after it is "normalisation level 1".
const AVERAGE_BITS: usize = CHUNK_AVERAGE.trailing_zeros() as usize;
const MASK_BEFORE: u64 = MASKS[AVERAGE_BITS + 1];
const MASK_AFTER: u64 = MASKS[AVERAGE_BITS - 1];

/// A chunk's identity and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkRef {
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// How many bytes, at most [`CHUNK_MAX`].
    pub len: u32,
}

impl ChunkRef {
    /// The reference to `bytes`.
    ///
    /// # Panics
    /// When `bytes` are longer than [`CHUNK_MAX`]: no chunker makes such a chunk.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        assert!(bytes.len() <= CHUNK_MAX, "a chunk over the largest size");
        #[expect(clippy::cast_possible_truncation, reason = "asserted just above")]
        let len = bytes.len() as u32;
        Self { digest: Digest::of(bytes), len }
    }

    /// Whether `bytes` are this chunk.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.len() && Digest::of(bytes) == self.digest
    }

    /// The length as a `usize`.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the chunk has no bytes, which no valid manifest holds.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What a chunker hands each chunk and its bytes to.
pub type Emit<'a, E> = dyn FnMut(ChunkRef, &[u8]) -> Result<(), E> + 'a;

/// Cuts a stream of any length into chunks; holds at most one chunk and what one call brought.
#[derive(Debug, Default)]
pub struct Chunker {
    waiting: Vec<u8>,
}

impl Chunker {
    /// A chunker at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiting: Vec::new() }
    }

    /// Takes the stream's next bytes and hands on every chunk that is complete.
    ///
    /// # Errors
    /// The first that `emit` returns. The chunker is of no use afterwards but for `restart`.
    pub fn push<E>(&mut self, bytes: &[u8], emit: &mut Emit<'_, E>) -> Result<(), E> {
        self.waiting.extend_from_slice(bytes);
        let mut rest = self.waiting.as_slice();
        while rest.len() >= CHUNK_MAX {
            let (chunk, after) = rest.split_at(cut_point(rest));
            emit(ChunkRef::of(chunk), chunk)?;
            rest = after;
        }
        let consumed = self.waiting.len() - rest.len();
        self.waiting.drain(..consumed);
        Ok(())
    }

    /// Ends the stream, handing on what is left of it, and starts the next.
    ///
    /// # Errors
    /// The first that `emit` returns.
    pub fn finish<E>(&mut self, emit: &mut Emit<'_, E>) -> Result<(), E> {
        let mut rest = self.waiting.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cut_point(rest));
            emit(ChunkRef::of(chunk), chunk)?;
            rest = after;
        }
        self.waiting.clear();
        Ok(())
    }

    /// Forgets the stream so far: what was read of it is not to be trusted.
    pub fn restart(&mut self) {
        self.waiting.clear();
    }
}

/// The chunks of bytes that are all there.
pub fn chunks_of(bytes: &[u8]) -> impl Iterator<Item = (ChunkRef, &[u8])> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (chunk, after) = rest.split_at(cut_point(rest));
        rest = after;
        Some((ChunkRef::of(chunk), chunk))
    })
}

/// Where the first chunk of `bytes` ends: between 1 and [`CHUNK_MAX`]. Depends on no byte after the
/// first [`CHUNK_MAX`], which is why a stream may be cut as it comes.
fn cut_point(bytes: &[u8]) -> usize {
    let (_, at) = cut(
        bytes,
        CHUNK_MIN,
        CHUNK_AVERAGE,
        CHUNK_MAX,
        MASK_BEFORE,
        MASK_AFTER,
        MASK_BEFORE << 1,
        MASK_AFTER << 1,
    );
    at.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;
    use skep_base::Rng;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut rng = Rng::seeded(seed);
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&rng.bits().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn whole(bytes: &[u8]) -> Vec<ChunkRef> {
        chunks_of(bytes).map(|(chunk, _)| chunk).collect()
    }

    #[test]
    fn golden_cut_points() {
        // A counter through a multiplicative hash: reproducible in any language from docs/protocol.
        let bytes: Vec<u8> =
            (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let lens: Vec<u32> = chunks_of(&bytes).map(|(chunk, _)| chunk.len).collect();
        assert_eq!(lens, GOLDEN_LENGTHS);
        let zeroes = alloc::vec![0; 600 << 10];
        let lens: Vec<u32> = chunks_of(&zeroes).map(|(chunk, _)| chunk.len).collect();
        assert_eq!(lens, [256 << 10, 256 << 10, 88 << 10]);
    }

    const GOLDEN_LENGTHS: &[u32] =
        &[26_323, 98_879, 85_666, 82_841, 82_086, 111_471, 116_521, 81_930, 114_283];

    #[test]
    fn any_cut_of_the_stream_gives_the_same_chunks() {
        let bytes = noise(1, 2_000_000);
        let expected = whole(&bytes);
        assert!(expected.len() > 10);
        for step in [1000, 65_536, 300_000, 5_000_000] {
            let mut got = Vec::new();
            let mut emit = |chunk: ChunkRef, data: &[u8]| {
                assert!(chunk.matches(data));
                got.push(chunk);
                Ok::<(), Infallible>(())
            };
            let mut chunker = Chunker::new();
            for part in bytes.chunks(step) {
                chunker.push(part, &mut emit).unwrap();
            }
            chunker.finish(&mut emit).unwrap();
            assert_eq!(got, expected, "step {step}");
        }
    }

    #[test]
    fn sizes_stay_within_their_bounds_and_cover_the_input() {
        let bytes = noise(2, 8_000_000);
        let chunks = whole(&bytes);
        let (last, others) = chunks.split_last().unwrap();
        assert!(others.iter().all(|c| (CHUNK_MIN..=CHUNK_MAX).contains(&c.len())));
        assert!(!last.is_empty() && last.len() <= CHUNK_MAX);
        assert_eq!(chunks.iter().map(ChunkRef::len).sum::<usize>(), bytes.len());
        let mean = bytes.len() / chunks.len();
        assert!((40 << 10..110 << 10).contains(&mean), "mean of {mean} bytes");
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let old = noise(3, 4_000_000);
        let mut new = old.clone();
        new.splice(2_000_000..2_000_000, *b"seventeen bytes!!");
        let (old, new) = (whole(&old), whole(&new));
        let fresh = new.iter().filter(|chunk| !old.contains(chunk)).count();
        assert!((1..=3).contains(&fresh), "{fresh} chunks changed");
    }

    #[test]
    fn nothing_has_no_chunks() {
        assert_eq!(whole(b""), []);
        assert_eq!(whole(b"x"), [ChunkRef::of(b"x")]);
    }
}
