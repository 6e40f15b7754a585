//! The node's half of joining and renewing: makes the key here, asks, judges the answer.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use skep_base::{Digest, NodeName};

use crate::certificate::CertError;
use crate::files::{self, FileError};
use crate::founding::FoundingToken;
use crate::identity::{Identity, IdentityError, KEY_FILE};
use crate::invitation::Invitation;
use crate::key::{KeyError, SigningKey};
use crate::message::{
    Denial, Founded, Granted, JoinRequest, Message, RenewRequest, Signature, join_statement,
    renewal_statement,
};
use crate::trust::Trust;

/// A joining node's key, before it has a certificate.
const JOINING_KEY_FILE: &str = "joining.key";

/// Why a node did not get its certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The directory holds an identity.
    #[error(
        "this host is node {node} already (in {}); to make it another one, move that away",
        dir.display()
    )]
    Member {
        /// Who it is.
        node: NodeName,
        /// Where.
        dir: PathBuf,
    },
    /// What is in the directory cannot be used, and is not ours to write over.
    #[error(
        "there is something in {} that is no usable identity; move it away first",
        dir.display()
    )]
    Unusable {
        /// Where.
        dir: PathBuf,
        /// Why it cannot be used.
        source: Box<IdentityError>,
    },
    /// The invitation is for another name than the one asked for.
    #[error("the invitation is for node {invited}, not for {wanted}")]
    WrongNode {
        /// Whom it is for.
        invited: NodeName,
        /// Who wants to use it.
        wanted: NodeName,
    },
    /// Neither the operator nor the invitation says how the node is called.
    #[error("the invitation leaves the node's name open; say one with `--node NAME`")]
    NoName,
    /// The key's file, or one of the identity's.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key itself.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The CA said no.
    #[error("the CA refused: {0}")]
    Denied(Denial),
    /// Something else came than an answer.
    #[error("the CA answered with something else than an answer")]
    NoAnswer,
    /// The answer's CA certificate is not the one that the invitation names.
    #[error(
        "the CA that answered is not the one of the invitation: fingerprint {found}, not {expected}"
    )]
    WrongAuthority {
        /// The answer's.
        found: Digest,
        /// The invitation's.
        expected: Digest,
    },
    /// A certificate came that is not what was asked for.
    #[error("the certificate that came cannot be used")]
    Certificate(#[source] CertError),
    /// A certificate of another node came.
    #[error("a certificate for node {found} came where one for {wanted} was asked for")]
    WrongCertificate {
        /// Whose it is.
        found: NodeName,
        /// Who asked.
        wanted: NodeName,
    },
}

/// A node on its way to its first certificate.
#[derive(Debug)]
pub struct Joining {
    dir: PathBuf,
    invitation: Invitation,
    node: NodeName,
    key: SigningKey,
}

impl Joining {
    /// Makes the node's key, or takes up the one of an attempt that was interrupted: the CA
    /// recognises the key and gives the same certificate again. The key is on disk before anybody
    /// is asked. `node` may be left out when the invitation says it.
    ///
    /// # Errors
    /// [`EnrolError`] says what stands in the way.
    pub fn begin(
        dir: &Path,
        invitation: Invitation,
        node: Option<NodeName>,
    ) -> Result<Self, EnrolError> {
        let node = match (node, &invitation.terms.node) {
            (Some(wanted), Some(invited)) if wanted != *invited => {
                return Err(EnrolError::WrongNode { invited: invited.clone(), wanted });
            }
            (Some(node), _) => node,
            (None, Some(node)) => node.clone(),
            (None, None) => return Err(EnrolError::NoName),
        };
        match Identity::load(dir) {
            Err(IdentityError::Missing { .. }) => {}
            Ok(identity) => {
                return Err(EnrolError::Member {
                    node: identity.info().node.clone(),
                    dir: dir.to_owned(),
                });
            }
            // The last step was cut off after the key was in place: it is finished once more.
            Err(_) if same_key(dir) => {}
            Err(source) => {
                return Err(EnrolError::Unusable { dir: dir.to_owned(), source: Box::new(source) });
            }
        }
        files::create_private_dir(dir)?;
        let path = dir.join(JOINING_KEY_FILE);
        let key = match files::read_key(&path) {
            Err(error) if error.is_missing() => {
                let key = SigningKey::generate()?;
                files::write_key(&path, &key)?;
                key
            }
            read => read?,
        };
        Ok(Self { dir: dir.to_owned(), invitation, node, key })
    }

    /// The invitation that is being used.
    #[must_use]
    pub const fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// The name that is asked for.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// What to send to a node that serves the CA.
    ///
    /// # Errors
    /// [`KeyError`] when the invitation's seed is no key.
    pub fn request(&self) -> Result<Message, KeyError> {
        let invitation = self.invitation.id()?;
        let bloc = self.invitation.bloc.clone();
        let statement = join_statement(&bloc, &self.node, &invitation, self.key.public());
        Ok(Message::Join(JoinRequest {
            bloc,
            invitation,
            node: self.node.clone(),
            public_key: *self.key.public(),
            proof: Signature(self.key.sign(&statement)),
            voucher: Signature(self.invitation.sign(&statement)?),
        }))
    }

    /// Judges the answer by the invitation's fingerprint, and writes the identity.
    ///
    /// # Errors
    /// [`EnrolError`] when the CA refused or somebody else answered; the same attempt can be made
    /// again, at another address or later.
    pub fn finish(&self, answer: Message) -> Result<Identity, EnrolError> {
        let (granted, founding) = granted(answer)?;
        let (found, expected) = (Digest::of(&granted.authority), self.invitation.ca_fingerprint);
        if found != expected {
            return Err(EnrolError::WrongAuthority { found, expected });
        }
        let authority = CertificateDer::from(granted.authority);
        let trust = Trust::new(self.invitation.bloc.clone(), vec![authority])
            .map_err(EnrolError::Certificate)?;
        let key = SigningKey::from_pkcs8(self.key.pkcs8().secret_pkcs8_der())?;
        let identity = Identity::new(granted.certificate.into(), key, trust)
            .map_err(EnrolError::Certificate)?;
        check_name(&identity, &self.node)?;
        let identity = identity.with_founding(founding);
        identity.store(&self.dir)?;
        files::remove(&self.dir.join(JOINING_KEY_FILE))?;
        Ok(identity)
    }
}

/// A member on its way to its next certificate.
pub struct Renewing {
    key: SigningKey,
    request: RenewRequest,
    node: NodeName,
    trust: Trust,
}

impl Renewing {
    /// Makes the key of the next certificate of `current`. Keep this until the answer is there:
    /// asking again with the same key gets an answer that was lost.
    ///
    /// # Errors
    /// [`KeyError`] when the system has no randomness.
    pub fn begin(current: &Identity) -> Result<Self, KeyError> {
        let key = SigningKey::generate()?;
        let statement = renewal_statement(&current.info().hash, key.public());
        let request =
            RenewRequest { public_key: *key.public(), proof: Signature(key.sign(&statement)) };
        Ok(Self { key, request, node: current.info().node.clone(), trust: current.trust().clone() })
    }

    /// What to send over a link to a node that serves the CA.
    #[must_use]
    pub fn request(&self) -> Message {
        Message::Renew(self.request.clone())
    }

    /// Judges the answer. The caller stores the identity first ([`Identity::store`]) and uses it
    /// then ([`crate::IdentityHandle::replace`]).
    ///
    /// # Errors
    /// [`EnrolError`] when the CA refused or the certificate is not the one asked for.
    pub fn finish(&self, answer: Message) -> Result<Identity, EnrolError> {
        let (granted, _) = granted(answer)?;
        let key = SigningKey::from_pkcs8(self.key.pkcs8().secret_pkcs8_der())?;
        let identity = Identity::new(granted.certificate.into(), key, self.trust.clone())
            .map_err(EnrolError::Certificate)?;
        check_name(&identity, &self.node)?;
        Ok(identity)
    }
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").field("node", &self.node).finish_non_exhaustive()
    }
}

fn granted(answer: Message) -> Result<(Granted, Option<FoundingToken>), EnrolError> {
    match answer {
        Message::Granted(granted) => Ok((granted, None)),
        // One that cannot be read keeps nobody from joining: the flock stays weak without it.
        Message::Founded(Founded { granted, founding }) => {
            Ok((granted, FoundingToken::from_bytes(&founding).ok()))
        }
        Message::Denied(denial) => Err(EnrolError::Denied(denial)),
        Message::Join(_) | Message::Renew(_) | Message::Shown(_) => Err(EnrolError::NoAnswer),
    }
}

fn check_name(identity: &Identity, wanted: &NodeName) -> Result<(), EnrolError> {
    let found = &identity.info().node;
    if found == wanted {
        return Ok(());
    }
    Err(EnrolError::WrongCertificate { found: found.clone(), wanted: wanted.clone() })
}

/// Whether the key in its place is that of an unfinished attempt.
fn same_key(dir: &Path) -> bool {
    let public = |file: &str| files::read_key(&dir.join(file)).ok().map(|key| *key.public());
    let joining = public(JOINING_KEY_FILE);
    joining.is_some() && joining == public(KEY_FILE)
}
