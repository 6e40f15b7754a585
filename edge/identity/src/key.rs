//! Ed25519 keys: made on the node, kept in PKCS#8, never sent.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;

/// Length of a public key in bytes.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// Length of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// Why a key could not be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("no key could be made: the system's random source failed")]
    Random,
    /// Not a PKCS#8 document with an Ed25519 key.
    #[error("not an Ed25519 key in PKCS#8 form")]
    Malformed,
}

/// A private key with its public half.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: PrivatePkcs8KeyDer<'static>,
    public: [u8; PUBLIC_KEY_BYTES],
}

impl SigningKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Random)?;
        // Version 1 leaves the public key out: every other tool can read it.
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// A key from its PKCS#8 document.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when it is none.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| KeyError::Malformed)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Malformed)?;
        let pkcs8 = PrivatePkcs8KeyDer::from(der.to_vec());
        Ok(Self { pair, pkcs8, public })
    }

    /// The key that follows from `seed`.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Malformed)?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::Malformed)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.public
    }

    /// The signature over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let signature = self.pair.sign(message);
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes.copy_from_slice(signature.as_ref());
        bytes
    }

    pub(crate) const fn pkcs8(&self) -> &PrivatePkcs8KeyDer<'static> {
        &self.pkcs8
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// Whether `signature` over `message` was made with the private half of `public_key`.
#[must_use]
pub fn verify_signature(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_alone() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let mut signature = key.sign(b"message");
        assert!(verify_signature(key.public(), b"message", &signature));
        assert!(!verify_signature(other.public(), b"message", &signature));
        assert!(!verify_signature(key.public(), b"massage", &signature));
        signature[0] ^= 1;
        assert!(!verify_signature(key.public(), b"message", &signature));
    }

    #[test]
    fn a_key_is_the_same_after_it_was_written() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.pkcs8().secret_pkcs8_der()).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(key.sign(b"x"), again.sign(b"x"));
        assert!(matches!(SigningKey::from_pkcs8(b"no key"), Err(KeyError::Malformed)));
        assert_eq!(format!("{key:?}"), "SigningKey(..)");
    }
}
