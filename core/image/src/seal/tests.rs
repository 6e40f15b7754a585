use super::*;
use crate::manifest::tests::rich;
use alloc::borrow::ToOwned as _;
use alloc::vec;

/// Stands for a CA: certificates are names, and a signature is a keyed digest under the name.
struct Queens(&'static [&'static str]);

fn sign(certificate: &[u8], message: &[u8]) -> [u8; SIGNATURE_BYTES] {
    let half = Digest::of_parts(&[certificate, message]).0;
    let mut signature = [0; SIGNATURE_BYTES];
    signature[..32].copy_from_slice(&half);
    signature[32..].copy_from_slice(&half);
    signature
}

impl JudgeSigner for Queens {
    fn judge(
        &self,
        certificate: &[u8],
        message: &[u8],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<Signer, Refused> {
        let name = core::str::from_utf8(certificate).map_err(|_| Refused("no name".to_owned()))?;
        if !self.0.contains(&name) {
            return Err(Refused(alloc::format!("{name} is no queen")));
        }
        if sign(certificate, message) != *signature {
            return Err(Refused("signature does not match".to_owned()));
        }
        Ok(Signer {
            node: name.parse().map_err(|_| Refused("no name".to_owned()))?,
            id: NodeId::from_bytes([9; 16]),
        })
    }
}

const QUEENS: Queens = Queens(&["queen-1", "queen-2"]);

fn sealed_by(name: &str, manifest: &[u8]) -> Seal {
    Seal::make(manifest, name.as_bytes().to_vec(), |message| sign(name.as_bytes(), message))
}

#[test]
fn a_seal_round_trips_and_opens_its_manifest() {
    let manifest = rich();
    let bytes = manifest.encode();
    let seal = sealed_by("queen-1", &bytes);
    let back = Seal::decode(&seal.encode()).unwrap();
    assert_eq!(back, seal);
    assert_eq!(back.manifest(), ManifestDigest::of(&bytes));
    assert_eq!(back.manifest_bytes(), bytes.len() as u64);
    assert_eq!(back.certificate_hash(), Digest::of(b"queen-1"));
    assert_eq!(back.open(&bytes, &QUEENS).unwrap(), manifest);
}

#[test]
fn nobody_but_the_named_queen_seals() {
    let bytes = rich().encode();
    let stranger = sealed_by("worker", &bytes);
    assert!(matches!(stranger.open(&bytes, &QUEENS), Err(SealError::Signer { .. })));
    let other_queen = sealed_by("queen-2", &bytes);
    assert!(matches!(other_queen.open(&bytes, &QUEENS), Err(SealError::OtherQueen { .. })));
}

#[test]
fn other_bytes_under_a_good_seal_are_refused() {
    let bytes = rich().encode();
    let seal = sealed_by("queen-1", &bytes);
    assert!(matches!(seal.open(b"else", &QUEENS), Err(SealError::OtherManifest { .. })));
    let nonsense = sealed_by("queen-1", b"nonsense");
    assert!(matches!(nonsense.open(b"nonsense", &QUEENS), Err(SealError::Manifest(..))));
}

#[test]
fn every_changed_byte_breaks_the_seal() {
    let bytes = sealed_by("queen-1", &rich().encode()).encode();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let accepted = Seal::decode(&changed).and_then(|seal| seal.verify(&QUEENS));
        assert!(accepted.is_err(), "byte {at}");
        assert!(Seal::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn lists_of_chunks_that_no_manifest_has_are_refused() {
    let mut seal = sealed_by("queen-1", &rich().encode());
    let chunk = |len| ChunkRef { digest: Digest::of(b"x"), len };
    for chunks in [vec![], vec![chunk(0)], vec![chunk(1), chunk(1)], vec![chunk(1 << 20)]] {
        seal.chunks = chunks;
        assert!(matches!(Seal::decode(&seal.encode()), Err(SealError::Chunks)));
    }
    seal.chunks = vec![chunk(1 << 14); (256 << 10) / 16];
    assert!(Seal::decode(&seal.encode()).is_ok());
    assert!(seal.encode().len() <= MAX_SEAL_BYTES);
    seal.chunks = vec![chunk(1 << 18); 1025];
    assert!(matches!(Seal::decode(&seal.encode()), Err(SealError::Chunks)));
}
