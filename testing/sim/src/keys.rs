//! Keys and certificates that cost next to nothing.
//!
//! A simulated signature is a keyed checksum that whoever knows the public key can compute. Nobody
//! forges in here; what must be noticed is a byte that changed on its way or a fact attributed to
//! the wrong node, and a checksum of 128 bits notices these as well as a curve does, at a
//! thousandth of the cost. That is also why results are not remembered: to look one up is to sum
//! the message.

use bytes::Bytes;
use skep_base::{Digest, NodeId};
use skep_records::{Signatory, Signer, Verifier};

const CERTIFICATE_TAG: &[u8; 8] = b"sim cert";
const FOUNDING_TAG: &[u8; 8] = b"sim fnd.";
const CERTIFICATE_BYTES: usize = 8 + 1 + NodeId::LEN + 32;

/// The key and certificate of one node of one bloc.
#[derive(Clone, Debug)]
pub(crate) struct SimKey {
    certificate: Bytes,
    key: [u8; 32],
}

impl SimKey {
    pub(crate) fn new(bloc: u8, node: NodeId) -> Self {
        let key = Digest::of_parts(&[b"sim key", node.as_bytes()]).0;
        let mut certificate = Vec::with_capacity(CERTIFICATE_BYTES);
        certificate.extend_from_slice(CERTIFICATE_TAG);
        certificate.push(bloc);
        certificate.extend_from_slice(node.as_bytes());
        certificate.extend_from_slice(&key);
        Self { certificate: certificate.into(), key }
    }
}

impl Signer for SimKey {
    fn certificate(&self) -> Bytes {
        self.certificate.clone()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        signature(&self.key, message)
    }
}

/// The founding token of one bloc with this number.
pub(crate) fn founding_token(bloc: u8, number: u64) -> Bytes {
    let mut token = FOUNDING_TAG.to_vec();
    token.push(bloc);
    token.extend_from_slice(&number.to_le_bytes());
    token.into()
}

/// Judges certificates of one bloc.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimVerifier {
    pub(crate) bloc: u8,
}

impl Verifier for SimVerifier {
    fn certificate(&self, der: &[u8]) -> Option<Signatory> {
        let rest = der.strip_prefix(CERTIFICATE_TAG)?;
        let (bloc, rest) = rest.split_first()?;
        let (node, key) = rest.split_first_chunk::<{ NodeId::LEN }>()?;
        let ours = *bloc == self.bloc;
        let key = <[u8; 32]>::try_from(key).ok()?;
        ours.then_some(Signatory { node: NodeId::from_bytes(*node), key })
    }

    fn founding(&self, token: &[u8]) -> Result<u64, String> {
        let rest = token.strip_prefix(FOUNDING_TAG).and_then(|rest| rest.split_first());
        let (bloc, number) = rest.ok_or("it is no token")?;
        let number = <[u8; 8]>::try_from(number).map_err(|_| "it is no token")?;
        if *bloc == self.bloc {
            Ok(u64::from_le_bytes(number))
        } else {
            Err("it is of another bloc".into())
        }
    }

    fn verify(&self, key: &[u8; 32], message: &[u8], given: &[u8; 64]) -> bool {
        signature(key, message) == *given
    }
}

fn signature(key: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut sum = message.len() as u128;
    for part in [key.as_slice(), message] {
        for piece in part.chunks(16) {
            let mut word = [0; 16];
            word[..piece.len()].copy_from_slice(piece);
            sum = mix(sum ^ u128::from_le_bytes(word));
        }
    }
    let mut signature = [0; 64];
    for quarter in signature.chunks_exact_mut(16) {
        sum = mix(sum);
        quarter.copy_from_slice(&sum.to_le_bytes());
    }
    signature
}

/// A bijection on 128 bits in which every bit of the value moves half of the result's.
const fn mix(value: u128) -> u128 {
    let product = value.wrapping_mul(0xda94_2042_e4dd_58b5_9e37_79b9_7f4a_7c15);
    product.rotate_left(64) ^ (product >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_that_was_signed_is_accepted() {
        let node = NodeId::from_bytes([3; 16]);
        let key = SimKey::new(0, node);
        let verifier = SimVerifier { bloc: 0 };
        let signatory = verifier.certificate(&key.certificate()).unwrap();
        assert_eq!(signatory.node, node);
        assert!(SimVerifier { bloc: 1 }.certificate(&key.certificate()).is_none());
        for length in [0, 1, 8, 63, 300] {
            let message: Vec<u8> = (0..length).map(|n: usize| n.to_le_bytes()[0]).collect();
            let signature = key.sign(&message);
            assert!(verifier.verify(&signatory.key, &message, &signature));
            for bit in 0..message.len() * 8 {
                let mut bent = message.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                assert!(!verifier.verify(&signatory.key, &bent, &signature));
            }
            let other = SimKey::new(0, NodeId::from_bytes([4; 16]));
            assert_ne!(other.sign(&message), signature);
        }
    }
}
