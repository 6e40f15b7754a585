//! Images in the blob store: finding a version, reading it, judging its seal. All of it waits for
//! the disk and belongs on a thread that may.

use std::collections::BTreeSet;
use std::sync::Arc;

use skep_base::{Digest, ImageName};
use skep_identity::{Role, Trust, verify_signature};
use skep_image::{JudgeSigner, Manifest, Pieces, Refused, Seal, Signer};
use skep_store::blobs::{BlobError, Blobs};
use skep_wave::Chunk;

/// A version of an image, all of it known: its chunks may still be missing.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) seal: Seal,
    pub(super) manifest: Manifest,
    pub(super) contents: Vec<Vec<Chunk>>,
}

/// What peers ask of a version that is whole here.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) seal: Arc<[u8]>,
    pub(super) manifest_pieces: u32,
    pub(super) contents_pieces: u32,
}

/// Why a version cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LibraryError {
    /// The disk.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// A seal or manifest that is not accepted.
    #[error(transparent)]
    Seal(#[from] skep_image::SealError),
    /// Chunks of the manifest are gone.
    #[error("{missing} chunks of the manifest of {image} version {version} are missing")]
    Manifest {
        /// How many.
        missing: usize,
        /// Of which image.
        image: ImageName,
        /// Which version.
        version: u64,
    },
}

/// Judges seals by the bloc's trust.
pub(crate) struct QueensOf<'a>(pub(crate) &'a Trust);

impl JudgeSigner for QueensOf<'_> {
    fn judge(
        &self,
        certificate: &[u8],
        message: &[u8],
        signature: &[u8; 64],
    ) -> Result<Signer, Refused> {
        let info = self.0.verify_chain_only(certificate).map_err(|why| Refused(why.to_string()))?;
        if !info.roles.contains(Role::Queen) {
            return Err(Refused(format!("{} is no queen by its certificate", info.node)));
        }
        if !verify_signature(&info.public_key, message, signature) {
            return Err(Refused(format!("the signature is not one of {}", info.node)));
        }
        Ok(Signer { node: info.node, id: info.id })
    }
}

/// The pieces of a version's manifest.
pub(super) fn manifest_pieces(seal: &Seal) -> Vec<Vec<Chunk>> {
    pieces(&Pieces::of_chunks(seal.manifest_chunks().iter().copied()))
}

fn pieces(pieces: &Pieces) -> Vec<Vec<Chunk>> {
    let chunk = |chunk: &skep_image::ChunkRef| Chunk { digest: chunk.digest, len: chunk.len };
    (0..pieces.count()).map(|at| pieces.chunks(at).iter().map(chunk).collect()).collect()
}

/// Which of the chunks are in the store.
pub(super) fn here(blobs: &Blobs, pieces: &[Vec<Chunk>]) -> BTreeSet<Digest> {
    let digests = pieces.iter().flatten().map(|chunk| chunk.digest);
    digests.filter(|digest| blobs.has(digest)).collect()
}

/// Reads the manifest that `seal` stands for; its chunks that are missing, where some are.
pub(super) fn load(
    blobs: &Blobs,
    seal: Seal,
    trust: &Trust,
) -> Result<Result<Loaded, usize>, LibraryError> {
    let mut bytes = Vec::new();
    let mut missing = 0;
    for chunk in seal.manifest_chunks() {
        match blobs.get(&chunk.digest)? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => missing += 1,
        }
    }
    if missing > 0 {
        return Ok(Err(missing));
    }
    let manifest = seal.open(&bytes, &QueensOf(trust))?;
    let contents = pieces(&Pieces::of(&manifest));
    Ok(Ok(Loaded { seal, manifest, contents }))
}

/// Reads a version that the store lists.
pub(super) fn open(
    blobs: &Blobs,
    (name, version): (&ImageName, u64),
    trust: &Trust,
) -> Result<Option<Loaded>, LibraryError> {
    let Some(bytes) = blobs.image(name, version)? else {
        return Ok(None);
    };
    let seal = Seal::decode(&bytes)?;
    match load(blobs, seal, trust)? {
        Ok(loaded) => Ok(Some(loaded)),
        Err(missing) => Err(LibraryError::Manifest { missing, image: name.clone(), version }),
    }
}

/// The version whose manifest has this digest, where the store lists it and all of it is here.
pub(super) fn find(
    blobs: &Blobs,
    manifest: Digest,
    trust: &Trust,
) -> Result<Option<Whole>, LibraryError> {
    for (name, version) in blobs.images()? {
        let Some(bytes) = blobs.image(&name, version)? else {
            continue;
        };
        let Ok(seal) = Seal::decode(&bytes) else {
            let hint = "build or fetch it again";
            tracing::warn!(image = %name, version, hint, "a stored seal is damaged");
            continue;
        };
        if seal.manifest().0 != manifest {
            continue;
        }
        let Ok(loaded) = load(blobs, seal, trust)? else {
            continue;
        };
        let missing = loaded.contents.iter().flatten().filter(|chunk| !blobs.has(&chunk.digest));
        if missing.count() == 0 {
            return Ok(Some(Whole::of(&loaded)));
        }
    }
    Ok(None)
}

impl Whole {
    pub(super) fn of(loaded: &Loaded) -> Self {
        let count = |pieces: usize| u32::try_from(pieces).unwrap_or(u32::MAX);
        Self {
            seal: loaded.seal.encode().into(),
            manifest_pieces: count(manifest_pieces(&loaded.seal).len()),
            contents_pieces: count(loaded.contents.len()),
        }
    }
}

impl Loaded {
    /// Bytes of its distinct chunks.
    pub(super) fn bytes(&self) -> u64 {
        self.contents.iter().flatten().map(|chunk| u64::from(chunk.len)).sum()
    }
}
