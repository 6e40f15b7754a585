//! Long bodies in pieces that can be checked one by one.
//!
//! BLAKE3 hashes a tree. Each piece of [`PIECE_BYTES`] is a whole subtree of it, whose chaining
//! value is the piece's *leaf*; the leaves of a body make its ordinary BLAKE3 digest. So whoever
//! holds the digest can check a list of leaves, and whoever has checked that can check each piece
//! as it comes, from whomever, before it is kept.

use alloc::vec::Vec;

use blake3::Hasher;
use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::Digest;

/// Bytes of a piece; the last one of a body may be shorter. A power of two, or it would be no
/// subtree. Small enough that a frame of a few is no burden and that it stays in a processor's
/// cache from the socket to the disk; large enough that what is said about each does not count.
pub const PIECE_BYTES: usize = 256 * 1024;

/// How many pieces a body of `length` bytes has: at least one.
#[must_use]
pub fn pieces(length: u64) -> u32 {
    u32::try_from(length.div_ceil(PIECE_BYTES as u64).max(1)).unwrap_or(u32::MAX)
}

/// Where a piece begins.
#[must_use]
pub const fn piece_offset(piece: u32) -> u64 {
    piece as u64 * PIECE_BYTES as u64
}

/// How long a piece of a body of `length` bytes is; nothing where there is no such piece.
#[must_use]
pub fn piece_bytes(length: u64, piece: u32) -> Option<usize> {
    let rest = length.checked_sub(piece_offset(piece))?;
    let bytes = usize::try_from(rest).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
    (bytes > 0 || length == 0).then_some(bytes)
}

/// The leaf of a piece of a body of `length` bytes. The only leaf of a body of one piece is its
/// digest.
#[must_use]
pub fn leaf(length: u64, piece: u32, bytes: &[u8]) -> Digest {
    if pieces(length) == 1 || bytes.is_empty() || bytes.len() > PIECE_BYTES {
        return Digest::of(bytes);
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(piece_offset(piece)).update(bytes);
    Digest(hasher.finalize_non_root())
}

/// Makes the leaves of a body while it comes in, however it is cut and however long it will be.
/// Each byte is hashed once.
#[derive(Clone, Debug, Default)]
pub struct Growing {
    /// Of the piece that is coming in.
    piece: Hasher,
    /// How much of it is there.
    filled: usize,
    /// Of the pieces before it.
    leaves: Vec<Digest>,
}

impl Growing {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// More of the body.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // A piece is ended by what follows it: the only one of a body has no leaf.
            if self.filled == PIECE_BYTES {
                self.leaves.push(Digest(self.piece.finalize_non_root()));
                self.piece = Hasher::new();
                let next = piece_offset(u32::try_from(self.leaves.len()).unwrap_or(u32::MAX));
                self.piece.set_input_offset(next);
                self.filled = 0;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.filled));
            self.piece.update(now);
            self.filled += now.len();
            bytes = later;
        }
    }

    /// The leaves of what came, and its digest.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Digest>, Digest) {
        if self.leaves.is_empty() {
            let digest = Digest(*self.piece.finalize().as_bytes());
            return (alloc::vec![digest], digest);
        }
        self.leaves.push(Digest(self.piece.finalize_non_root()));
        let digest = root(&self.leaves).unwrap_or(Digest([0; Digest::LEN]));
        (self.leaves, digest)
    }
}

/// The digest of the body with these leaves; nothing without any.
#[must_use]
pub fn root(leaves: &[Digest]) -> Option<Digest> {
    match leaves {
        [] => None,
        [only] => Some(*only),
        _ => {
            let (left, right) = leaves.split_at(left_of(leaves.len()));
            let root = merge_subtrees_root(&merged(left).0, &merged(right).0, Mode::Hash);
            Some(Digest(*root.as_bytes()))
        }
    }
}

/// Leaves as they stand in a file or a message.
#[must_use]
pub fn leaves_from(bytes: &[u8]) -> Vec<Digest> {
    let (leaves, _) = bytes.as_chunks::<{ Digest::LEN }>();
    leaves.iter().copied().map(Digest).collect()
}

/// The leaf over several; they are never none. As deep as the logarithm of their number.
fn merged(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest([0; Digest::LEN]),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(left_of(leaves.len()));
            Digest(merge_subtrees_non_root(&merged(left).0, &merged(right).0, Mode::Hash))
        }
    }
}

/// The left side of the tree is as large as a power of two can be that leaves something over.
const fn left_of(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn the_leaves_of_a_body_make_its_ordinary_digest() {
        let body: Vec<u8> =
            (0..(9 * PIECE_BYTES + 7)).map(|at| (at / 251 % 256).to_le_bytes()[0]).collect();
        for length in [0, 1, 1024, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, body.len()] {
            for length in length.saturating_sub(1)..=(length + 1).min(body.len()) {
                let body = &body[..length];
                let whole = length as u64;
                let leaves: Vec<Digest> = (0..pieces(whole))
                    .map(|piece| {
                        let from = piece as usize * PIECE_BYTES;
                        let bytes = piece_bytes(whole, piece).unwrap();
                        leaf(whole, piece, &body[from..from + bytes])
                    })
                    .collect();
                assert_eq!(root(&leaves), Some(Digest::of(body)), "{length} bytes");
                for portion in [7777, PIECE_BYTES, length.max(1)] {
                    let mut growing = Growing::new();
                    body.chunks(portion).for_each(|part| growing.update(part));
                    let (grown, digest) = growing.finish();
                    assert_eq!((grown, digest), (leaves.clone(), Digest::of(body)), "{length}");
                }
                assert_eq!(piece_bytes(whole, pieces(whole)), None);
            }
        }
    }

    #[test]
    fn a_piece_in_another_place_has_another_leaf() {
        let bytes = vec![7; PIECE_BYTES];
        let whole = 3 * PIECE_BYTES as u64;
        assert_ne!(leaf(whole, 0, &bytes), leaf(whole, 1, &bytes));
        assert_eq!(root(&[]), None);
    }
}
