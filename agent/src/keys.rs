//! The node's identity as the machines in `core/` want it: one that signs, one that verifies.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use skep_identity::{Identity, IdentityHandle, verify_signature};
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

/// Judges facts by their chain, and not by today's expiry.
pub struct BlocVerifier(pub IdentityHandle);

impl Verifier for BlocVerifier {
    fn certificate(&self, der: &[u8]) -> Option<Signatory> {
        let info = self.0.current().trust().verify_chain_only(der).ok()?;
        Some(Signatory { node: info.id, key: info.public_key })
    }

    fn roles(&self, der: &[u8]) -> BTreeSet<String> {
        let info = self.0.current().trust().verify_chain_only(der);
        info.map(|info| info.roles.iter().map(|role| role.to_string()).collect())
            .unwrap_or_default()
    }

    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        verify_signature(key, message, signature)
    }
}
