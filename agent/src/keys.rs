//! The node's identity as the machines in `core/` want it: one that signs, one that verifies.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use skep_identity::{FoundingToken, Identity, IdentityHandle, tls, verify_signature};
use skep_records::{Signatory, Signer, Verifier};

/// Signs with the certificate that the node has now.
pub struct NodeSigner(pub Arc<Identity>);

impl Signer for NodeSigner {
    fn certificate(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.certificate_der())
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

/// Judges facts by their chain, and not by today's expiry; founding tokens by both.
pub struct BlocVerifier {
    /// Whom this node believes.
    pub identity: IdentityHandle,
    /// By which time founding tokens are judged.
    pub clock: tls::Clock,
}

impl Verifier for BlocVerifier {
    fn certificate(&self, der: &[u8]) -> Option<Signatory> {
        let info = self.identity.current().trust().verify_chain_only(der).ok()?;
        Some(Signatory { node: info.id, key: info.public_key })
    }

    fn roles(&self, der: &[u8]) -> BTreeSet<String> {
        let info = self.identity.current().trust().verify_chain_only(der);
        info.map(|info| info.roles.iter().map(|role| role.to_string()).collect())
            .unwrap_or_default()
    }

    fn founding(&self, token: &[u8]) -> Result<u64, String> {
        let judged = FoundingToken::from_bytes(token).and_then(|token| {
            token.judge(self.identity.current().trust(), (self.clock)())?;
            Ok(token.number())
        });
        judged.map_err(|error| error.to_string())
    }

    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        verify_signature(key, message, signature)
    }
}
