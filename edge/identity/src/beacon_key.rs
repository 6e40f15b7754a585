//! The beacon's own key (BLOC-2). The beacon is outside every bloc, so no CA vouches for it: its
//! public key stands in the configuration of those who use it, and TLS shows that key bare
//! (RFC 7250), without a certificate around it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use skep_base::{Digest, WallTime};

use crate::files::{self, FileError};
use crate::key::{KeyError, PUBLIC_KEY_BYTES, SigningKey};
use crate::tls::{
    Clock, Judge, Verifier, client_builder, one_answer, one_question, server_builder,
};

/// What a beacon and those who ask it speak.
pub const ALPN_BEACON: &[u8] = b"skep-beacon/1";

/// What stands before the 32 bytes of an Ed25519 key in its `SubjectPublicKeyInfo` (RFC 8410).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The private key of a beacon.
#[derive(Debug)]
pub struct BeaconKey(SigningKey);

/// The key by which a beacon is known: 64 hexadecimal digits in configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeaconPublicKey([u8; PUBLIC_KEY_BYTES]);

/// Why a beacon has no key.
#[derive(Debug, thiserror::Error)]
pub enum BeaconKeyError {
    /// The file cannot be read or written, or others can read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What stood where a beacon's public key was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a beacon's public key: expected the 64 hexadecimal digits that the beacon prints")]
pub struct BeaconPublicKeyError;

impl BeaconKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        SigningKey::generate().map(Self)
    }

    /// The key in the file `path`, which is made, readable by us alone, when it is not there.
    ///
    /// # Errors
    /// [`BeaconKeyError`] names the file.
    pub fn load_or_create(path: &Path) -> Result<Self, BeaconKeyError> {
        match files::read_key(path) {
            Ok(key) => Ok(Self(key)),
            Err(error) if error.is_missing() => {
                let key = SigningKey::generate()?;
                files::write_key(path, &key)?;
                Ok(Self(key))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What to put into the configuration of those who use this beacon.
    #[must_use]
    pub const fn public(&self) -> BeaconPublicKey {
        BeaconPublicKey(*self.0.public())
    }

    /// How the beacon answers: [`ALPN_BEACON`], its bare key shown, nothing asked of the client.
    ///
    /// # Errors
    /// Only when the provider cannot do TLS 1.3 with this key.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let signer = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(self.0.pkcs8())?;
        let spki = CertificateDer::from(self.public().spki());
        let certified = Arc::new(CertifiedKey::new(vec![spki], signer));
        let config = server_builder(&no_clock())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
        Ok(one_answer(config, ALPN_BEACON))
    }
}

impl BeaconPublicKey {
    /// How to ask the beacon of this key: whoever answers must hold its private half.
    ///
    /// # Errors
    /// Only when the provider cannot do TLS 1.3.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let verifier = Arc::new(Verifier(PinnedKey { spki: self.spki() }));
        let config = client_builder(&no_clock(), verifier)?.with_no_client_auth();
        Ok(one_question(config, ALPN_BEACON))
    }

    fn spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0].concat()
    }
}

impl fmt::Display for BeaconPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest(self.0).fmt(f)
    }
}

impl FromStr for BeaconPublicKey {
    type Err = BeaconPublicKeyError;

    fn from_str(text: &str) -> Result<Self, BeaconPublicKeyError> {
        text.parse::<Digest>().map(|bytes| Self(bytes.0)).map_err(|_| BeaconPublicKeyError)
    }
}

/// A bare key has no dates, so nobody asks what time it is.
fn no_clock() -> Clock {
    Arc::new(WallTime::default)
}

/// Accepts one key, bare, and nothing else.
#[derive(Debug)]
struct PinnedKey {
    spki: Vec<u8>,
}

impl Judge for PinnedKey {
    const BARE_KEY: bool = true;

    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: WallTime,
    ) -> Result<(), rustls::Error> {
        // Both are public: no need for a comparison in constant time.
        if shown.as_ref() == self.spki {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_its_public_half_survives_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("beacon.key");
        let made = BeaconKey::load_or_create(&path).unwrap().public();
        assert_eq!(BeaconKey::load_or_create(&path).unwrap().public(), made);
        assert_eq!(made.to_string().parse(), Ok(made));
        assert_eq!("beacon".parse::<BeaconPublicKey>(), Err(BeaconPublicKeyError));
    }
}
