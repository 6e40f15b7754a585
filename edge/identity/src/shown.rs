//! Showing the next certificate over a link that stands (BLOC-36).
//!
//! A link is judged by the certificate with which it began. When that one comes to its end and the
//! node has the next one, nothing is wrong with the link: the node shows the new certificate over
//! it, with a signature about this very link, and the peer goes on as before.

use skep_base::{NodeName, WallTime};

use crate::certificate::{CertError, CertInfo};
use crate::identity::Identity;
use crate::key::verify_signature;
use crate::message::{Message, Shown, Signature, shown_statement};
use crate::tls::Channel;
use crate::trust::Trust;

/// Why a certificate that was shown over a link changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShownError {
    /// It would not be accepted on a new link either; no grace, for it is meant to be fresh.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// It is another node's.
    #[error("node {node} showed a certificate of node {found}")]
    WrongNode {
        /// Who is at the other end.
        node: NodeName,
        /// Whose it is.
        found: NodeName,
    },
    /// It is no newer than the one that is known.
    #[error("node {node} showed a certificate that ends no later than the one before")]
    Older {
        /// Who.
        node: NodeName,
    },
    /// Whoever shows it has not its key, or shows it on another link than it was signed for.
    #[error("node {node} showed a certificate without proof that it is its own")]
    Proof {
        /// Who.
        node: NodeName,
    },
}

impl Identity {
    /// What to send to the other end of the link with this channel.
    #[must_use]
    pub fn show(&self, channel: &Channel) -> Message {
        let proof = Signature(self.sign(&shown_statement(channel, &self.info().hash)));
        Message::Shown(Shown { certificate: self.certificate_der().to_vec(), proof })
    }
}

impl Shown {
    /// What the certificate says, if it is a fresh one of `peer`, whom the link is known to lead
    /// to, and was shown on the link with this channel.
    ///
    /// # Errors
    /// [`ShownError`] names the peer; what was known of it stays as it is.
    pub fn judge(
        &self,
        peer: &CertInfo,
        channel: &Channel,
        trust: &Trust,
        now: WallTime,
    ) -> Result<CertInfo, ShownError> {
        let info = trust.verify(&self.certificate, now, std::time::Duration::ZERO)?;
        let node = || peer.node.clone();
        if info.id != peer.id {
            return Err(ShownError::WrongNode { node: node(), found: info.node });
        }
        if info.not_after <= peer.not_after {
            return Err(ShownError::Older { node: node() });
        }
        let statement = shown_statement(channel, &info.hash);
        if !verify_signature(&info.public_key, &statement, &self.proof.0) {
            return Err(ShownError::Proof { node: node() });
        }
        Ok(info)
    }
}
