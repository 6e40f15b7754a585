//! TLS for a node that has no certificate yet: the server proves itself by the CA's fingerprint,
//! which the joining node read from its token; the client proves itself by the token's secret,
//! inside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::CertificateDer;
use skep_base::{BlocName, Digest, WallTime};

use super::{
    ALPN_JOIN, Clock, Judge, Verifier, client_builder, invalid, one_answer, one_question,
    server_builder,
};
use crate::certificate::{CertError, not_ours};
use crate::handle::IdentityHandle;
use crate::trust::{MAX_AUTHORITIES, Trust};

/// How a node that serves the CA answers those who want to join: [`ALPN_JOIN`], no certificate
/// asked for, its own shown together with the CA's.
///
/// # Errors
/// Only when the provider cannot do TLS 1.3.
pub fn enrolment_server_config(
    handle: &IdentityHandle,
    clock: &Clock,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = server_builder(clock)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(WholeChain::new(handle)));
    Ok(one_answer(config, ALPN_JOIN))
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
    let pinned = PinnedAuthority { bloc: bloc.clone(), fingerprint: ca_fingerprint };
    let config = client_builder(clock, Arc::new(Verifier(pinned)))?.with_no_client_auth();
    Ok(one_question(config, ALPN_JOIN))
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
}

impl Judge for PinnedAuthority {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: WallTime,
    ) -> Result<(), rustls::Error> {
        self.check(leaf, chain, now).map_err(invalid)
    }
}

impl PinnedAuthority {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: WallTime,
    ) -> Result<(), CertError> {
        let authority = chain
            .iter()
            .take(MAX_AUTHORITIES)
            .find(|der| Digest::of(der) == self.fingerprint)
            .ok_or_else(|| not_ours("the CA of whoever answered is not the one of the token"))?;
        let trust = Trust::new(self.bloc.clone(), vec![authority.clone().into_owned()])?;
        // A new machine's clock may stand anywhere before today: only the end is judged.
        let info = trust.verify_chain_only(leaf)?;
        // A node in its grace is there to be renewed, not to let others in.
        trust.verify(leaf, now.max(info.not_before), Duration::ZERO).map(drop)
    }
}
