//! What rustls asks of whoever judges the other side of a handshake. Only one question has
//! different answers in this crate, whether to believe what was shown: that is a [`Judge`].

use std::fmt;

use rustls::SignatureScheme;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls13_signature, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use skep_base::WallTime;

use super::provider;

/// Says whether the other side is believed.
pub(crate) trait Judge: fmt::Debug + Send + Sync {
    /// Whether the other side shows a bare key (RFC 7250) instead of a certificate.
    const BARE_KEY: bool = false;

    /// Judges what was shown and what stood behind it.
    ///
    /// # Errors
    /// What rustls is to report; [`super::invalid`] wraps a reason of ours.
    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: WallTime,
    ) -> Result<(), rustls::Error>;
}

/// A [`Judge`] as rustls wants it, for either side.
#[derive(Debug)]
pub(crate) struct Verifier<J>(pub(crate) J);

impl<J: Judge> Verifier<J> {
    fn signature(
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        if J::BARE_KEY {
            let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
            verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
        } else {
            verify_tls13_signature(message, shown, signature, algorithms)
        }
    }
}

fn wall(now: UnixTime) -> WallTime {
    WallTime::from_unix_ms(now.as_secs().saturating_mul(1000))
}

/// What both of rustls' traits ask alike.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _shown: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Self::signature(message, shown, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            J::BARE_KEY
        }
    };
}

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.judge(shown, chain, wall(now)).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl<J: Judge> ClientCertVerifier for Verifier<J> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Members know whose certificates they hold.
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.judge(shown, chain, wall(now)).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}
