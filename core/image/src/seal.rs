//! The queen's signature, and where the manifest's own bytes are.
//!
//! A seal is what a node asks for by [`ManifestDigest`] once a wave order named one. It fits one
//! message whatever the image's size, lists the chunks the manifest was cut into, and carries the
//! signer's certificate, so that a node that has never met the queen can judge it. Whether that
//! certificate ends at the bloc's CA and holds the role `queen` is for [`JudgeSigner`] to say: this
//! crate knows no certificates.

use alloc::string::String;
use alloc::vec::Vec;

use skep_base::{Digest, NodeId, NodeName};

use crate::chunk::{CHUNK_MAX, CHUNK_MIN, ChunkRef, chunks_of};
use crate::codec::{Reader, Writer};
use crate::limits::{MAX_CERTIFICATE_BYTES, MAX_MANIFEST_BYTES, MAX_SEAL_BYTES};
use crate::manifest::{Manifest, ManifestDigest, ManifestError};

const MAGIC: &[u8; 7] = b"SKEPSEA";
const FORMAT: u8 = 1;
/// Stands before what is signed, so that no signature made for another purpose fits.
const PURPOSE: &[u8] = b"skep image seal 1\n";
/// Length of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// A signed reference to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    manifest: ManifestDigest,
    chunks: Vec<ChunkRef>,
    certificate: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
}

/// Whose signature a seal carries, as the certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The node's name.
    pub node: NodeName,
    /// Its identity.
    pub id: NodeId,
}

/// Judges a certificate and a signature under it: the certificate's chain ends at the bloc's CA,
/// it holds the role `queen`, its key made the signature. Dates do not count: an image outlives the
/// certificate it was sealed under.
pub trait JudgeSigner {
    /// Who signed `message`.
    ///
    /// # Errors
    /// [`Refused`] says in words what is wrong.
    fn judge(
        &self,
        certificate: &[u8],
        message: &[u8],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<Signer, Refused>;
}

/// Why a signer was not accepted, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Why a seal, or a manifest under it, was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Bytes that are no seal, or claim too much.
    #[error("malformed image seal")]
    Malformed(#[source] ManifestError),
    /// Other bytes altogether, or a newer format.
    #[error("not an image seal of format {FORMAT}")]
    Magic,
    /// The list of chunks could not be that of a manifest.
    #[error("image seal lists chunks that no manifest is cut into")]
    Chunks,
    /// The signer was refused.
    #[error("image seal of {manifest} is not accepted")]
    Signer {
        /// The manifest it is for.
        manifest: ManifestDigest,
        /// Why.
        #[source]
        why: Refused,
    },
    /// The bytes given are not the manifest that was sealed.
    #[error("these bytes are manifest {found}, not {expected}")]
    OtherManifest {
        /// What they are.
        found: ManifestDigest,
        /// What was sealed.
        expected: ManifestDigest,
    },
    /// The sealed bytes are no manifest.
    #[error("sealed manifest {0} is refused")]
    Manifest(ManifestDigest, #[source] ManifestError),
    /// Sealed by another node than it names as its queen.
    #[error("manifest names {named} as its queen but {signer} sealed it")]
    OtherQueen {
        /// Who the manifest names.
        named: NodeName,
        /// Who sealed it.
        signer: NodeName,
    },
}

impl Seal {
    /// Seals the manifest that is encoded in `manifest`, with the certificate whose key `sign`
    /// uses.
    pub fn make(
        manifest: &[u8],
        certificate: Vec<u8>,
        sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES],
    ) -> Self {
        let mut seal = Self {
            manifest: ManifestDigest::of(manifest),
            chunks: chunks_of(manifest).map(|(chunk, _)| chunk).collect(),
            certificate,
            signature: [0; SIGNATURE_BYTES],
        };
        seal.signature = sign(&seal.statement());
        seal
    }

    /// The manifest it is for. It is *not* to be believed before [`Seal::verify`].
    #[must_use]
    pub const fn manifest(&self) -> ManifestDigest {
        self.manifest
    }

    /// The chunks that make up the manifest's bytes, in order.
    #[must_use]
    pub fn manifest_chunks(&self) -> &[ChunkRef] {
        &self.chunks
    }

    /// How long the manifest is.
    #[must_use]
    pub fn manifest_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
    }

    /// The signer's certificate as it came (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What certificates are remembered by.
    #[must_use]
    pub fn certificate_hash(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// Who sealed it, if it was somebody who may.
    ///
    /// # Errors
    /// [`SealError::Signer`] with what `judge` said.
    pub fn verify(&self, judge: &dyn JudgeSigner) -> Result<Signer, SealError> {
        judge
            .judge(&self.certificate, &self.statement(), &self.signature)
            .map_err(|why| SealError::Signer { manifest: self.manifest, why })
    }

    /// The manifest in `bytes`, when it is the sealed one, valid, and its queen sealed it.
    ///
    /// # Errors
    /// [`SealError`] says which of these does not hold.
    pub fn open(&self, bytes: &[u8], judge: &dyn JudgeSigner) -> Result<Manifest, SealError> {
        let signer = self.verify(judge)?;
        let found = ManifestDigest::of(bytes);
        if found != self.manifest {
            return Err(SealError::OtherManifest { found, expected: self.manifest });
        }
        let manifest =
            Manifest::decode(bytes).map_err(|why| SealError::Manifest(self.manifest, why))?;
        if manifest.header().queen_id == signer.id && manifest.header().queen == signer.node {
            Ok(manifest)
        } else {
            Err(SealError::OtherQueen {
                named: manifest.header().queen.clone(),
                signer: signer.node,
            })
        }
    }

    /// The bytes, at most [`MAX_SEAL_BYTES`] for a manifest and certificate within their bounds.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.unsigned();
        out.extend_from_slice(&self.signature);
        out
    }

    /// The seal in `bytes`, all of which must belong to it. Its signature is not yet judged.
    ///
    /// # Errors
    /// [`SealError`] when they are no seal.
    pub fn decode(bytes: &[u8]) -> Result<Self, SealError> {
        if bytes.len() > MAX_SEAL_BYTES {
            return Err(SealError::Malformed(ManifestError::TooMuch {
                what: "a seal's bytes",
                claimed: bytes.len() as u64,
                limit: MAX_SEAL_BYTES as u64,
            }));
        }
        let rest = bytes
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.strip_prefix(&[FORMAT]))
            .ok_or(SealError::Magic)?;
        let seal = Self::read(&mut Reader(rest)).map_err(SealError::Malformed)?;
        seal.check_chunks()?;
        Ok(seal)
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, ManifestError> {
        let seal = Self {
            manifest: ManifestDigest(Digest(input.array("manifest's digest")?)),
            chunks: input.chunks(MAX_MANIFEST_BYTES / CHUNK_MIN + 1)?,
            certificate: input.bytes("certificate", MAX_CERTIFICATE_BYTES)?.to_vec(),
            signature: input.array("signature")?,
        };
        if input.0.is_empty() { Ok(seal) } else { Err(ManifestError::LeftOver(input.0.len())) }
    }

    fn check_chunks(&self) -> Result<(), SealError> {
        let (last, others) = self.chunks.split_last().ok_or(SealError::Chunks)?;
        let sound = (1..=CHUNK_MAX).contains(&last.len())
            && others.iter().all(|chunk| (CHUNK_MIN..=CHUNK_MAX).contains(&chunk.len()))
            && self.manifest_bytes() <= MAX_MANIFEST_BYTES as u64;
        sound.then_some(()).ok_or(SealError::Chunks)
    }

    fn unsigned(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.raw(MAGIC);
        out.byte(FORMAT);
        out.raw(&self.manifest.0.0);
        out.chunks(&self.chunks);
        out.bytes(&self.certificate);
        out.0
    }

    /// What is signed: the purpose, and the digest of everything before the signature.
    fn statement(&self) -> Vec<u8> {
        let mut statement = PURPOSE.to_vec();
        statement.extend_from_slice(&Digest::of(&self.unsigned()).0);
        statement
    }
}

#[cfg(test)]
mod tests;
