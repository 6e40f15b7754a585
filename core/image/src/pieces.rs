//! Pieces: what peers tell each other they have, and ask each other for.
//!
//! A piece is a run of distinct chunks in the order in which the manifest first names them. The
//! division follows from the manifest alone, so every node makes the same one and a piece is a
//! number. Pieces are around 1 MiB, and larger for very large images, so that what a node says it
//! has stays a small bitmap.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use skep_base::Digest;

use crate::chunk::ChunkRef;
use crate::manifest::Manifest;

/// A piece is closed once it holds at least this much.
pub const PIECE_BYTES: u64 = 1 << 20;
/// Pieces grow, by doubling, rather than become more than about this many: a bitmap of 2 KiB.
pub const PIECES_AIM: u64 = 16 << 10;

/// The pieces of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces {
    chunks: Vec<ChunkRef>,
    /// Where each piece begins in `chunks`; one more than there are pieces, the last its length.
    bounds: Vec<usize>,
    /// Each chunk's piece.
    index: BTreeMap<Digest, u32>,
}

impl Pieces {
    /// The pieces of `manifest`.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self::of_chunks(manifest.chunks())
    }

    /// The pieces of a sequence of chunks, of which repetitions are dropped.
    pub fn of_chunks(chunks: impl Iterator<Item = ChunkRef>) -> Self {
        let mut index = BTreeMap::new();
        let chunks: Vec<ChunkRef> =
            chunks.filter(|chunk| index.insert(chunk.digest, 0).is_none()).collect();
        let total: u64 = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        let size = piece_bytes(total);
        let mut bounds = alloc::vec![0];
        let (mut piece, mut held) = (0_u32, 0_u64);
        for (at, chunk) in chunks.iter().enumerate() {
            index.insert(chunk.digest, piece);
            held += u64::from(chunk.len);
            if held >= size || at + 1 == chunks.len() {
                bounds.push(at + 1);
                piece += 1;
                held = 0;
            }
        }
        Self { chunks, bounds, index }
    }

    /// How many pieces there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        // Bounded by the chunks a manifest has room for.
        u32::try_from(self.bounds.len() - 1).unwrap_or(u32::MAX)
    }

    /// The chunks of `piece`; none when there is no such piece.
    #[must_use]
    pub fn chunks(&self, piece: u32) -> &[ChunkRef] {
        let at = piece as usize;
        match (self.bounds.get(at), self.bounds.get(at.saturating_add(1))) {
            (Some(from), Some(to)) => &self.chunks[*from..*to],
            _ => &[],
        }
    }

    /// All distinct chunks in order.
    #[must_use]
    pub fn all_chunks(&self) -> &[ChunkRef] {
        &self.chunks
    }

    /// How many bytes `piece` has.
    #[must_use]
    pub fn bytes(&self, piece: u32) -> u64 {
        self.chunks(piece).iter().map(|chunk| u64::from(chunk.len)).sum()
    }

    /// How many bytes there are to move when nothing is there yet.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
    }

    /// The piece a chunk is in.
    #[must_use]
    pub fn piece_of(&self, chunk: &Digest) -> Option<u32> {
        self.index.get(chunk).copied()
    }
}

fn piece_bytes(total: u64) -> u64 {
    let mut size = PIECE_BYTES;
    while total / size > PIECES_AIM {
        size *= 2;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u32, len: u32) -> ChunkRef {
        ChunkRef { digest: Digest::of(&number.to_le_bytes()), len }
    }

    #[test]
    fn every_distinct_chunk_is_in_one_piece() {
        let named = (0..100).chain(20..50).chain(100..120);
        let pieces = Pieces::of_chunks(named.map(|n| chunk(n, 65_536)));
        assert_eq!(pieces.count(), 8);
        let mut all = Vec::new();
        for piece in 0..pieces.count() {
            for chunk in pieces.chunks(piece) {
                assert_eq!(pieces.piece_of(&chunk.digest), Some(piece));
                all.push(*chunk);
            }
        }
        assert_eq!(all, (0..120).map(|n| chunk(n, 65_536)).collect::<Vec<_>>());
        assert_eq!(pieces.bytes(0), PIECE_BYTES);
        assert_eq!(pieces.bytes(7), 8 * 65_536);
        assert_eq!(pieces.total_bytes(), 120 * 65_536);
        assert_eq!(pieces.chunks(8), []);
        assert_eq!(pieces.chunks(u32::MAX), []);
        assert_eq!(pieces.piece_of(&Digest::of(b"other")), None);
    }

    #[test]
    fn an_image_without_contents_has_no_pieces() {
        let pieces = Pieces::of_chunks(core::iter::empty());
        assert_eq!((pieces.count(), pieces.total_bytes()), (0, 0));
    }

    #[test]
    fn pieces_of_large_images_grow() {
        assert_eq!(piece_bytes(0), PIECE_BYTES);
        assert_eq!(piece_bytes(PIECE_BYTES * PIECES_AIM), PIECE_BYTES);
        let tebibytes = piece_bytes(8 << 40);
        assert_eq!(tebibytes, 512 << 20);
        assert_eq!((8 << 40) / tebibytes, PIECES_AIM);
    }
}
