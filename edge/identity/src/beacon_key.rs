//! The beacon's own key (BLOC-2). The beacon is outside every bloc, so no CA vouches for it: its
//! public key stands in the configuration of those who use it, and TLS shows that key bare
//! (RFC 7250), without a certificate around it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use skep_base::Digest;

use crate::files::{self, FileError};
use crate::key::{KeyError, PUBLIC_KEY_BYTES, SigningKey};
use crate::tls::{no_tls12, provider};

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
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
        config.alpn_protocols = vec![ALPN_BEACON.to_vec()];
        // One question a connection, minutes apart: nothing is worth remembering.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl BeaconPublicKey {
    /// How to ask the beacon of this key: whoever answers must hold its private half.
    ///
    /// # Errors
    /// Only when the provider cannot do TLS 1.3.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let verifier = Arc::new(PinnedKey {
            spki: self.spki(),
            algorithms: provider().signature_verification_algorithms,
        });
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_BEACON.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
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

/// Accepts one key, bare, and nothing else.
#[derive(Debug)]
struct PinnedKey {
    spki: Vec<u8>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Both are public: no need for a comparison in constant time.
        if shown.as_ref() == self.spki {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(shown.as_ref()),
            signature,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
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
