//! What targets and queens say to each other on the bulk lane: bodies of frames of kind `CHUNKS`.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_base::Digest;
use skep_wire::{Lane, Malformed, decode, encode};

/// Chunks one [`Message::Want`] may name.
pub const MAX_WANTED: usize = 64;
/// Pieces one [`Message::Got`] may name.
pub const MAX_GOT: usize = 1024;
/// Pieces of a part: images are cut so that there are about half as many.
pub const MAX_PIECES: u32 = 32 << 10;
/// Longest chunk.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;
/// Longest seal.
pub const MAX_SEAL_BYTES: usize = 768 << 10;

/// Which of the two things that an image's version is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Section {
    /// The manifest's own bytes.
    Manifest,
    /// The contents of the files.
    Contents,
}

/// One of the two parts of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// The version: digest of its manifest.
    pub manifest: Digest,
    /// Which part of it.
    pub section: Section,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Tell me what you have of this, now and whenever you get more.
    Interest(Part),
    /// What the sender has. Sent once after an interest, or later when it has something first.
    Have {
        /// Of what.
        of: Part,
        /// A bit a piece.
        pieces: ByteBuf,
    },
    /// What the sender has got since.
    Got {
        /// Of what.
        of: Part,
        /// Piece numbers, at most [`MAX_GOT`].
        pieces: Vec<u32>,
    },
    /// Send me the seal of this version.
    WantSeal(Digest),
    /// The seal, as its queen made it.
    Seal {
        /// Of which version.
        manifest: Digest,
        /// At most [`MAX_SEAL_BYTES`].
        bytes: ByteBuf,
    },
    /// The sender has no seal of this version (yet).
    LackSeal(Digest),
    /// Send me these chunks.
    Want {
        /// The asker's number for it.
        request: u32,
        /// Which, at most [`MAX_WANTED`].
        chunks: Vec<Digest>,
    },
    /// A chunk that was asked for.
    Chunk {
        /// The asker's number.
        request: u32,
        /// Which.
        digest: Digest,
        /// Its bytes, at most [`MAX_CHUNK_BYTES`]. The receiver compares them with the digest.
        bytes: ByteBuf,
    },
    /// A chunk that was asked for is not here.
    Lack {
        /// The asker's number.
        request: u32,
        /// Which.
        digest: Digest,
    },
}

impl Message {
    /// The frame's body.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// [`Malformed`] when it is no message, or a list in it is over its bound.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "chunks message" };
        if body.len() > Lane::Bulk.max_body_bytes() {
            return Err(malformed);
        }
        let message: Self = decode(malformed.what, body)?;
        let sound = match &message {
            Self::Interest(_) | Self::WantSeal(_) | Self::LackSeal(_) | Self::Lack { .. } => true,
            Self::Have { pieces, .. } => pieces.len() <= MAX_PIECES as usize / 8,
            Self::Got { pieces, .. } => pieces.len() <= MAX_GOT,
            Self::Seal { bytes, .. } => bytes.len() <= MAX_SEAL_BYTES,
            Self::Want { chunks, .. } => (1..=MAX_WANTED).contains(&chunks.len()),
            Self::Chunk { bytes, .. } => (1..=MAX_CHUNK_BYTES).contains(&bytes.len()),
        };
        if sound { Ok(message) } else { Err(malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;

    fn hex(message: &Message) -> String {
        message.to_body().iter().map(|byte| alloc::format!("{byte:02x}")).collect()
    }

    #[test]
    fn messages_have_these_bytes_for_ever() {
        let manifest = Digest([0xCD; 32]);
        let digest = &"cd".repeat(32);
        let of = Part { manifest, section: Section::Contents };
        let bytes = ByteBuf::from(vec![1, 2]);
        let golden = [
            (Message::Interest(of), alloc::format!("00{digest}01")),
            (Message::Have { of, pieces: bytes.clone() }, alloc::format!("01{digest}01020102")),
            (Message::Got { of, pieces: vec![300] }, alloc::format!("02{digest}0101ac02")),
            (Message::WantSeal(manifest), alloc::format!("03{digest}")),
            (Message::Seal { manifest, bytes: bytes.clone() }, alloc::format!("04{digest}020102")),
            (Message::LackSeal(manifest), alloc::format!("05{digest}")),
            (
                Message::Want { request: 9, chunks: vec![manifest] },
                alloc::format!("060901{digest}"),
            ),
            (
                Message::Chunk { request: 9, digest: manifest, bytes },
                alloc::format!("0709{digest}020102"),
            ),
            (Message::Lack { request: 9, digest: manifest }, alloc::format!("0809{digest}")),
        ];
        for (message, expected) in golden {
            assert_eq!(hex(&message), expected, "{message:?}");
            assert_eq!(Message::from_body(&message.to_body()), Ok(message));
        }
    }

    #[test]
    fn what_is_over_its_bound_is_refused() {
        let manifest = Digest([0; 32]);
        let of = Part { manifest, section: Section::Manifest };
        let over = [
            Message::Have { of, pieces: ByteBuf::from(vec![0; MAX_PIECES as usize / 8 + 1]) },
            Message::Got { of, pieces: vec![0; MAX_GOT + 1] },
            Message::Seal { manifest, bytes: ByteBuf::from(vec![0; MAX_SEAL_BYTES + 1]) },
            Message::Want { request: 0, chunks: vec![manifest; MAX_WANTED + 1] },
            Message::Want { request: 0, chunks: Vec::new() },
            Message::Chunk {
                request: 0,
                digest: manifest,
                bytes: ByteBuf::from(vec![0; MAX_CHUNK_BYTES + 1]),
            },
            Message::Chunk { request: 0, digest: manifest, bytes: ByteBuf::new() },
        ];
        for message in over {
            assert!(Message::from_body(&message.to_body()).is_err());
        }
        assert!(Message::from_body(&[]).is_err());
        assert!(Message::from_body(&[9]).is_err());
    }

    #[test]
    fn the_longest_messages_fit_a_bulk_frame() {
        let seal = Message::Seal {
            manifest: Digest([0; 32]),
            bytes: ByteBuf::from(vec![0; MAX_SEAL_BYTES]),
        };
        assert!(seal.to_body().len() <= Lane::Bulk.max_body_bytes());
    }
}
