//! Bodies that are being pulled, in memory: what an agent does on its disk, for simulators and
//! tests. Everything that the machine asks of a store for bodies is answered as a disk would.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{Digest, tree};

use crate::event::{Body, Input, Kept, Output};
use crate::id::UpdateId;
use crate::message::{leaves_head, piece_head};

/// Bodies by the update they are of.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    bodies: BTreeMap<UpdateId, Part>,
}

#[derive(Clone, Debug)]
struct Part {
    digest: Digest,
    bytes: Vec<u8>,
    leaves: Vec<Digest>,
    kept: Vec<bool>,
}

impl Shelf {
    /// Carries out what the machine wants of the store; the answer, where there is one.
    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is about bodies")]
    pub fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::BodyOpen { id, length, digest } => {
                let part = self.bodies.entry(id).or_insert_with(|| Part::new(length, digest));
                if part.digest != digest || part.bytes.len() as u64 != length {
                    *part = Part::new(length, digest);
                }
                let missing = (0..).zip(&part.kept).filter(|(_, kept)| !**kept);
                let missing = missing.map(|(piece, _)| piece).collect();
                Some(Input::BodyOpened { id, missing: Some((!part.leaves.is_empty(), missing)) })
            }
            Output::BodyLeaves { id, leaves } => {
                let part = self.bodies.get_mut(&id);
                let kept = part.map_or(Kept::No, |part| part.take_leaves(&leaves));
                Some(Input::LeavesKept { id, kept })
            }
            Output::BodyPiece { id, piece, bytes } => {
                let part = self.bodies.get_mut(&id);
                let kept = part.map_or(Kept::No, |part| part.take_piece(piece, &bytes));
                Some(Input::PieceKept { id, piece, kept })
            }
            Output::BodyDrop { id } => {
                self.bodies.remove(&id);
                None
            }
            _ => None,
        }
    }

    /// The body of a record that goes to the log.
    ///
    /// # Panics
    /// When the machine says that a body is here which is not: nothing of the kind may go to a log.
    pub fn take(&mut self, id: UpdateId, body: Body) -> Bytes {
        match body {
            Body::Here(bytes) => bytes,
            Body::Fetched => {
                let part = self.bodies.remove(&id);
                let whole = part.filter(|part| part.kept.iter().all(|kept| *kept));
                let whole = whole.map(|part| Bytes::from(part.bytes));
                assert!(whole.is_some(), "the body of {id} is not whole");
                whole.unwrap_or_default()
            }
            Body::Spooled(_) => Bytes::new(),
        }
    }

    /// Bytes of pieces that are kept.
    #[must_use]
    pub fn kept_pieces(&self) -> usize {
        self.bodies.values().flat_map(|part| &part.kept).filter(|kept| **kept).count()
    }
}

impl Part {
    fn new(length: u64, digest: Digest) -> Self {
        let pieces = tree::pieces(length) as usize;
        let leaves = if pieces == 1 { vec![digest] } else { Vec::new() };
        let bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        Self { digest, bytes, leaves, kept: vec![false; pieces] }
    }

    fn take_leaves(&mut self, leaves: &[u8]) -> Kept {
        let leaves = tree::leaves_from(leaves);
        if leaves.len() != self.kept.len() || tree::root(&leaves) != Some(self.digest) {
            return Kept::Wrong;
        }
        self.leaves = leaves;
        Kept::Yes
    }

    fn take_piece(&mut self, piece: u32, bytes: &[u8]) -> Kept {
        let Some(leaf) = self.leaves.get(piece as usize) else {
            return Kept::Unchecked;
        };
        if tree::leaf(self.bytes.len() as u64, piece, bytes) != *leaf {
            return Kept::Wrong;
        }
        let from = usize::try_from(tree::piece_offset(piece)).unwrap_or(usize::MAX);
        match self.bytes.get_mut(from..from + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => return Kept::Wrong,
        }
        self.kept[piece as usize] = true;
        Kept::Yes
    }
}

/// The frames that answer [`Output::Serve`] from a body in memory.
#[must_use]
pub fn frames(serve: &Output, body: &Bytes) -> Vec<Bytes> {
    let Output::Serve { group, id, length, leaves, first, end, .. } = serve else {
        return Vec::new();
    };
    let piece_of = |piece: u32| {
        let from = usize::try_from(tree::piece_offset(piece)).unwrap_or(usize::MAX);
        let bytes = tree::piece_bytes(*length, piece).unwrap_or(0);
        body.get(from..from.saturating_add(bytes)).unwrap_or_default()
    };
    let mut frames = Vec::new();
    if *leaves {
        let all = 0..tree::pieces(*length);
        let all = all.map(|piece| tree::leaf(*length, piece, piece_of(piece)).0);
        let all = all.collect::<Vec<_>>().concat();
        let mut frame = leaves_head(group, *id, all.len());
        frame.extend_from_slice(&all);
        frames.push(frame.into());
    }
    for piece in *first..*end {
        let bytes = piece_of(piece);
        let mut frame = piece_head(group, *id, piece, bytes.len());
        frame.extend_from_slice(bytes);
        frames.push(frame.into());
    }
    frames
}
