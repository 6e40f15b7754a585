//! TLS for a node that has no certificate yet: the server proves itself by the CA's fingerprint,
//! which the joining node read from its token; the client proves itself by the token's secret,
//! inside.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use skep_base::{BlocName, Digest};

use super::{ALPN_JOIN, Clock, check_tls13, invalid, no_tls12, provider, time_of, wall};
use crate::certificate::{CertError, not_ours};
use crate::handle::IdentityHandle;
use crate::trust::{DEFAULT_GRACE, MAX_AUTHORITIES, Trust};

/// How a node that serves the CA answers those who want to join: [`ALPN_JOIN`], no certificate
/// asked for, its own shown together with the CA's.
///
/// # Errors
/// Only when the provider cannot do TLS 1.3.
pub fn enrolment_server_config(
    handle: &IdentityHandle,
    clock: &Clock,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_details(provider(), time_of(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(WholeChain::new(handle)));
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    // Nobody joins twice: a session is never resumed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How a joining node dials: whoever answers must show a certificate of `bloc` whose CA's
/// certificate has this fingerprint.
///
/// # Errors
/// Only when the provider cannot do TLS 1.3.
pub fn enrolment_client_config(
    bloc: &BlocName,
    ca_fingerprint: Digest,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = Arc::new(PinnedAuthority {
        bloc: bloc.clone(),
        fingerprint: ca_fingerprint,
        algorithms: provider().signature_verification_algorithms,
    });
    let mut config = ClientConfig::builder_with_details(provider(), time_of(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Our certificate with the CA's behind it, put together again after each renewal.
#[derive(Debug)]
struct WholeChain {
    handle: IdentityHandle,
    made: Mutex<Option<(Digest, Arc<CertifiedKey>)>>,
}

impl WholeChain {
    fn new(handle: &IdentityHandle) -> Self {
        Self { handle: handle.clone(), made: Mutex::default() }
    }
}

impl ResolvesServerCert for WholeChain {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !hello.signature_schemes().contains(&SignatureScheme::ED25519) {
            return None;
        }
        let identity = self.handle.current();
        let hash = identity.info().hash;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((of, chain)) if *of == hash => Some(Arc::clone(chain)),
            _ => {
                let own = identity.certified();
                let chain = own.cert.iter().chain(identity.trust().authorities());
                let chain = CertifiedKey::new(chain.cloned().collect(), Arc::clone(&own.key));
                let chain = Arc::new(chain);
                *made = Some((hash, Arc::clone(&chain)));
                Some(chain)
            }
        }
    }
}

/// Believes whoever is certified by the one CA that has the token's fingerprint.
#[derive(Debug)]
struct PinnedAuthority {
    bloc: BlocName,
    fingerprint: Digest,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedAuthority {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertError> {
        let authority = chain
            .iter()
            .take(MAX_AUTHORITIES)
            .find(|der| Digest::of(der) == self.fingerprint)
            .ok_or_else(|| not_ours("the CA of whoever answered is not the one of the token"))?;
        let trust = Trust::new(self.bloc.clone(), vec![authority.clone().into_owned()])?;
        // A new machine's clock may stand anywhere before today: only the end is judged.
        let info = trust.verify_chain_only(leaf)?;
        trust.verify(leaf, wall(now).max(info.not_before), DEFAULT_GRACE).map(drop)
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(leaf, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(invalid)
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
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        check_tls13(&self.algorithms, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
