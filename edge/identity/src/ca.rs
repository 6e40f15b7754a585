//! The bloc's certificate authority: a directory with a key, and what may be done with it.
//!
//! ```text
//! ca.pem         the CA's certificate
//! ca.key         its key, mode 0600
//! ledger         what was promised and done (see `ledger.rs`)
//! ```
//!
//! The CA is small on purpose (BLOC-37): it issues, invites and renews. It revokes nothing
//! (BLOC-38): certificates are short-lived, and a node that must go is expelled by a decree.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use skep_base::{BlocName, Digest, NetworkName, NodeName, WallTime};

use crate::certificate::{AuthorityInfo, CertError, CertInfo, date, parse_authority};
use crate::files::{self, FileError};
use crate::founding::{DEFAULT_FOUNDING_LIFE, FoundingToken, MAX_FOUNDING_LIFE, MIN_FOUNDING_LIFE};
use crate::identity::{CA_FILE, Identity};
use crate::invitation::{Invitation, MAX_INVITATION_ADDRESSES, Terms};
use crate::key::{KeyError, PUBLIC_KEY_BYTES, SigningKey, verify_signature};
use crate::ledger::{self, Book, Entry, Issued, Ledger, LedgerError};
use crate::message::{
    Denial, Founded, Granted, JoinRequest, Message, RenewRequest, join_statement, renewal_statement,
};
use crate::profile::{self, Leaf};
use crate::roles::{Role, Roles};
use crate::trust::Trust;

/// The CA key's file in a CA directory.
pub const CA_KEY_FILE: &str = "ca.key";
/// How long a node's certificate lives unless configured otherwise.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Shortest life that can be configured: renewal must have time to happen.
pub const MIN_LIFE: Duration = Duration::from_secs(10);
/// Longest life that can be configured. Without revocation, a long life is a long risk.
pub const MAX_LIFE: Duration = Duration::from_secs(398 * 24 * 3600);
/// How long an invitation can be used unless configured otherwise.
pub const DEFAULT_INVITATION_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Longest an invitation can be made for.
pub const MAX_INVITATION_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long the CA's own certificate lives: twenty years. Its end is shown by `skep cert show`.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Invitations that may be open at once: more than anybody hands out, less than a runaway script.
const MAX_OPEN_INVITATIONS: usize = 10_000;
/// Least time between two certificates of one node by renewal, where its life does not ask for
/// less: bounds what one member can make the ledger grow by.
const RENEWAL_GAP: Duration = Duration::from_secs(60);

const LEDGER_FILE: &str = "ledger";

/// Why the CA did not do what its operator asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// One CA is never written over another.
    #[error("there is a CA in {} already; choose another directory", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// No CA there.
    #[error("no CA in {}; make one with `skep ca init --bloc NAME`", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// One of the CA's files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA's books.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The CA's own certificate cannot be used.
    #[error("the CA's certificate {} cannot be used", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: CertError,
    },
    /// Key and certificate of the CA do not belong together.
    #[error("the CA's key and certificate in {} do not belong together", dir.display())]
    Mismatch {
        /// The directory.
        dir: PathBuf,
    },
    /// A certificate that was just made does not pass our own rules.
    #[error("the certificate for {node} would not be believed")]
    Unusable {
        /// For whom it was.
        node: NodeName,
        /// The rule.
        source: CertError,
    },
    /// The CA itself is over.
    #[error("the CA's own certificate ended on {}; make a new CA", date(.at))]
    AuthorityExpired {
        /// When.
        at: WallTime,
    },
    /// Two nodes of one name would fight.
    #[error(
        "node {node} has a certificate until {}; to make another one for it all the same, ask for \
         a replacement", date(.until)
    )]
    NameTaken {
        /// The node.
        node: NodeName,
        /// Until when its certificate holds.
        until: WallTime,
    },
    /// A life or a number out of bounds.
    #[error("{what} must be between {least} and {most}")]
    OutOfBounds {
        /// What was asked for.
        what: &'static str,
        /// The least.
        least: String,
        /// The most.
        most: String,
    },
}

/// For whom a certificate is made ahead (`skep ca issue`).
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// The node.
    pub node: NodeName,
    /// The network it is in.
    pub network: Option<NetworkName>,
    /// What it may.
    pub roles: Roles,
    /// How long the certificate lives; the CA's default without.
    pub life: Option<Duration>,
    /// Make one although the node has one: its machine is being replaced.
    pub replace: bool,
}

impl IssueRequest {
    /// A plain node.
    #[must_use]
    pub const fn new(node: NodeName) -> Self {
        Self { node, network: None, roles: Roles::NONE, life: None, replace: false }
    }
}

/// What an invitation is made of (`skep ca invite`).
#[derive(Clone, Debug)]
pub struct InviteRequest {
    /// What its holder becomes. With a fixed name, even one that is taken: an operator says that
    /// the machine is being replaced.
    pub terms: Terms,
    /// Where nodes answer that serve the CA: one to [`MAX_INVITATION_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// How long it can be used, at most [`MAX_INVITATION_LIFE`].
    pub life: Duration,
}

/// One node that the CA knows, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedNode {
    /// The node.
    pub node: NodeName,
    /// When its newest certificate was made.
    pub at: WallTime,
    /// When that ends.
    pub until: WallTime,
}

/// The newest founding token that the CA made, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The founding number.
    pub number: u64,
    /// For which node it was made.
    pub node: NodeName,
    /// When.
    pub at: WallTime,
    /// Until when it can be used.
    pub until: WallTime,
}

/// The certificate authority of one bloc.
pub struct Ca {
    dir: PathBuf,
    key: SigningKey,
    info: AuthorityInfo,
    certificate: CertificateDer<'static>,
    trust: Trust,
    ledger: Ledger,
    life: Duration,
}

impl Ca {
    /// Makes a CA for `bloc` in `dir`, which is made for our eyes alone where it is missing.
    ///
    /// # Errors
    /// [`CaError::Exists`] when there is one, or whatever the file system has against it.
    pub fn init(dir: &Path, bloc: &BlocName, now: WallTime) -> Result<Self, CaError> {
        files::create_private_dir(dir)?;
        let (certificate_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
        if certificate_path.exists() {
            return Err(CaError::Exists { dir: dir.to_owned() });
        }
        // A key without a certificate is what a crash in here left: nobody has relied on it yet,
        // and a key is never thrown away.
        let key = match files::read_key(&key_path) {
            Err(error) if error.is_missing() => {
                let key = SigningKey::generate()?;
                files::write_key(&key_path, &key)?;
                key
            }
            read => read?,
        };
        Ledger::open(dir.join(LEDGER_FILE))?.transact(now, |book| {
            let begun = (!book.is_first()).then_some(Entry::Begun { at: now });
            Ok::<_, CaError>((begun, ()))
        })?;
        let validity = (now, later(now, AUTHORITY_LIFE));
        let certificate = profile::authority(bloc, validity, &key)?;
        files::write_certificates(&certificate_path, &[certificate])?;
        Self::load(dir)
    }

    /// Loads the CA in `dir`.
    ///
    /// # Errors
    /// [`CaError`] names the file and what to do.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let path = dir.join(CA_FILE);
        let certificate = match files::read_certificates(&path) {
            Err(error) if error.is_missing() => {
                return Err(CaError::Missing { dir: dir.to_owned() });
            }
            read => read?.swap_remove(0),
        };
        let broken = |source| CaError::Certificate { path: path.clone(), source };
        let info = parse_authority(&certificate).map_err(broken)?;
        let key = files::read_key(&dir.join(CA_KEY_FILE))?;
        if info.public_key != *key.public() {
            return Err(CaError::Mismatch { dir: dir.to_owned() });
        }
        let trust = Trust::new(info.bloc.clone(), vec![certificate.clone()]).map_err(broken)?;
        Ok(Self {
            dir: dir.to_owned(),
            key,
            info,
            certificate,
            trust,
            ledger: Ledger::open(dir.join(LEDGER_FILE))?,
            life: DEFAULT_LIFE,
        })
    }

    /// The same CA, whose certificates live this long.
    ///
    /// # Errors
    /// [`CaError::OutOfBounds`] outside [`MIN_LIFE`] to [`MAX_LIFE`].
    pub fn with_life(self, life: Duration) -> Result<Self, CaError> {
        check_life("a certificate's life", life, MIN_LIFE, MAX_LIFE)?;
        Ok(Self { life, ..self })
    }

    /// The bloc whose CA this is.
    #[must_use]
    pub fn bloc(&self) -> &BlocName {
        &self.info.bloc
    }

    /// BLAKE3 of the CA's certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// When the CA's own certificate ends.
    #[must_use]
    pub const fn not_after(&self) -> WallTime {
        self.info.validity.1
    }

    /// What members of the bloc believe.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Where the CA lives.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a key and a certificate ahead, to be laid on a node's disk before it first boots
    /// (BLOC-7): [`Identity::store`] writes them. The first node that runs an agent gets the bloc's
    /// founding token with them.
    ///
    /// # Errors
    /// [`CaError::NameTaken`] unless a replacement is asked for.
    pub fn issue(&self, request: &IssueRequest, now: WallTime) -> Result<Identity, CaError> {
        let key = SigningKey::generate()?;
        let (certificate, founding) = self.issue_with(request, key.public(), now, true)?;
        Identity::new(certificate, key, self.trust.clone())
            .map(|identity| identity.with_founding(founding))
            .map_err(|source| CaError::Unusable { node: request.node.clone(), source })
    }

    /// Makes a certificate for a key that was made elsewhere. The caller has seen the holder prove
    /// that it has the private half. No founding token goes with it.
    ///
    /// # Errors
    /// [`CaError::NameTaken`] unless a replacement is asked for.
    pub fn issue_for_key(
        &self,
        request: &IssueRequest,
        public_key: &[u8; PUBLIC_KEY_BYTES],
        now: WallTime,
    ) -> Result<CertificateDer<'static>, CaError> {
        Ok(self.issue_with(request, public_key, now, false)?.0)
    }

    fn issue_with(
        &self,
        request: &IssueRequest,
        public_key: &[u8; PUBLIC_KEY_BYTES],
        now: WallTime,
        may_found: bool,
    ) -> Result<(CertificateDer<'static>, Option<FoundingToken>), CaError> {
        let life = request.life.unwrap_or(self.life);
        check_life("a certificate's life", life, MIN_LIFE, MAX_LIFE)?;
        self.ledger.transact(now, |book| {
            if let Some(issued) = book.node(&request.node)
                && issued.name_held_until() > now
                && !request.replace
            {
                return Err(CaError::NameTaken { node: request.node.clone(), until: issued.until });
            }
            let terms = (request.network.as_ref(), request.roles);
            let mut issued = self.make(&request.node, terms, public_key, (now, life))?;
            if may_found {
                issued.founding = self.first_founding(book, &request.node, request.roles, now);
            }
            let certificate = CertificateDer::from(issued.certificate.clone());
            let founding = issued.founding.clone();
            Ok((Some(Entry::issued(&issued, None)), (certificate, founding)))
        })
    }

    /// Signs the next founding number for `node`, durable before it is told. It ends everything
    /// that was promised under lower numbers: only for a roster whose majority is gone for ever, or
    /// a bloc whose token was lost.
    ///
    /// # Errors
    /// [`CaError::OutOfBounds`] outside [`MIN_FOUNDING_LIFE`] to [`MAX_FOUNDING_LIFE`], or whatever
    /// keeps the books from being written.
    pub fn refound(
        &self,
        node: &NodeName,
        life: Duration,
        now: WallTime,
    ) -> Result<FoundingToken, CaError> {
        check_life("a founding token's life", life, MIN_FOUNDING_LIFE, MAX_FOUNDING_LIFE)?;
        self.ledger.transact(now, |book| {
            let number = book.founding().map_or(0, |known| known.number).saturating_add(1);
            let until = later(now, life);
            let token = FoundingToken::sign(&self.key, self.bloc(), node, number, until);
            let until = token.not_after();
            let entry = Entry::Founding { number, node: node.clone(), at: now, until };
            Ok((Some(entry), token))
        })
    }

    /// The newest founding token that was made.
    ///
    /// # Errors
    /// [`LedgerError`] when the books cannot be read.
    pub fn founding(&self) -> Result<Option<Founding>, LedgerError> {
        let shown = |book: &Book| {
            book.founding().cloned().map(|it| {
                let ledger::Founding { number, node, at, until } = it;
                Founding { number, node, at, until }
            })
        };
        self.ledger.look(shown)
    }

    /// The bloc's first token, with the first certificate of a node that runs an agent. Whoever
    /// gets it need not manage: it hands the token on to the master.
    fn first_founding(
        &self,
        book: &Book,
        node: &NodeName,
        roles: Roles,
        now: WallTime,
    ) -> Option<FoundingToken> {
        // Persons and programs that operate the bloc from afar run no agent.
        let from_afar = roles == Roles::NONE.with(Role::Operator);
        // Where the CA's key was copied to, nobody knows whether there was a token.
        let first = book.is_first() && book.founding().is_none();
        (first && !from_afar).then(|| {
            let until = later(now, DEFAULT_FOUNDING_LIFE);
            FoundingToken::sign(&self.key, self.bloc(), node, 1, until)
        })
    }

    /// Makes an invitation, durable before it is told.
    ///
    /// # Errors
    /// [`CaError::OutOfBounds`] for too long a life, no or too many addresses, or too many open
    /// invitations.
    pub fn invite(&self, request: InviteRequest, now: WallTime) -> Result<Invitation, CaError> {
        let least = Duration::from_secs(1);
        check_life("an invitation's life", request.life, least, MAX_INVITATION_LIFE)?;
        check_count(
            "the number of an invitation's addresses",
            request.addresses.len(),
            1,
            MAX_INVITATION_ADDRESSES,
        )?;
        // To whole seconds, as the word says it.
        let expires = WallTime::from_unix_ms(later(now, request.life).unix_ms / 1000 * 1000);
        let invitation = Invitation::new(
            self.bloc().clone(),
            self.fingerprint(),
            request.addresses,
            expires,
            request.terms,
        )?;
        let id = invitation.id()?;
        self.ledger.transact(now, |book| {
            let open = book.open_invitations(now);
            check_count("the number of open invitations", open + 1, 1, MAX_OPEN_INVITATIONS)?;
            let entry = Entry::invited(id, expires, &invitation.terms);
            Ok::<_, CaError>((Some(entry), ()))
        })?;
        Ok(invitation)
    }

    /// Answers a node that wants to join. One invitation makes one certificate: the same request
    /// again, after a lost answer, gets the same one.
    #[must_use]
    pub fn answer_join(&self, request: &JoinRequest, now: WallTime) -> Message {
        let granted = self.ledger.transact(now, |book| self.decide_join(book, request, now));
        self.answer("join", &request.node, granted)
    }

    /// Answers a member that wants its next certificate. `peer` is what its present one says, as
    /// the link's handshake proved it. Names, network and roles stay; the key may change.
    #[must_use]
    pub fn answer_renewal(
        &self,
        peer: &CertInfo,
        request: &RenewRequest,
        now: WallTime,
    ) -> Message {
        let granted =
            self.ledger.transact(now, |book| self.decide_renewal(book, peer, request, now));
        self.answer("renewal", &peer.node, granted)
    }

    /// The nodes that have certificates, by name.
    ///
    /// # Errors
    /// [`LedgerError`] when the books cannot be read.
    pub fn issued(&self) -> Result<Vec<IssuedNode>, LedgerError> {
        self.ledger.look(|book| {
            book.nodes()
                .map(|issued| IssuedNode {
                    node: issued.node.clone(),
                    at: issued.at,
                    until: issued.until,
                })
                .collect()
        })
    }

    /// How many invitations are neither used nor over.
    ///
    /// # Errors
    /// [`LedgerError`] when the books cannot be read.
    pub fn open_invitations(&self, now: WallTime) -> Result<usize, LedgerError> {
        self.ledger.look(|book| book.open_invitations(now))
    }

    fn decide_join(
        &self,
        book: &Book,
        request: &JoinRequest,
        now: WallTime,
    ) -> Result<(Option<Entry>, Given), Stop> {
        if request.bloc != *self.bloc() {
            return Err(Stop::Denied(Denial::WrongBloc { ours: self.bloc().clone() }));
        }
        // Strangers are turned away by a look into a map, before any signature is checked.
        let invitation =
            book.invitation(&request.invitation).ok_or(Stop::Denied(Denial::UnknownInvitation))?;
        let statement =
            join_statement(&request.bloc, &request.node, &request.invitation, &request.public_key);
        if !verify_signature(&request.invitation, &statement, &request.voucher.0)
            || !verify_signature(&request.public_key, &statement, &request.proof.0)
        {
            return Err(Stop::Denied(Denial::BadProof));
        }
        if let Some(used) = &invitation.used {
            return if used.key == request.public_key && used.node == request.node {
                Ok((None, (used.certificate.clone(), used.founding.clone())))
            } else {
                Err(Stop::Denied(Denial::InvitationUsed { by: used.node.clone() }))
            };
        }
        if now > invitation.expires {
            return Err(Stop::Denied(Denial::InvitationExpired { at: invitation.expires }));
        }
        match &invitation.terms.node {
            Some(invited) if *invited != request.node => {
                return Err(Stop::Denied(Denial::WrongNode { invited: invited.clone() }));
            }
            Some(_) => {}
            None => check_name_free(book, &request.node, now)?,
        }
        let terms = (invitation.terms.network.as_ref(), invitation.terms.roles);
        let mut issued = self.make(&request.node, terms, &request.public_key, (now, self.life))?;
        issued.founding = self.first_founding(book, &request.node, terms.1, now);
        let entry = Entry::issued(&issued, Some(request.invitation));
        Ok((Some(entry), (issued.certificate, issued.founding)))
    }

    fn decide_renewal(
        &self,
        book: &Book,
        peer: &CertInfo,
        request: &RenewRequest,
        now: WallTime,
    ) -> Result<(Option<Entry>, Given), Stop> {
        if peer.bloc != *self.bloc() {
            return Err(Stop::Denied(Denial::WrongBloc { ours: self.bloc().clone() }));
        }
        let statement = renewal_statement(&peer.hash, &request.public_key);
        if !verify_signature(&request.public_key, &statement, &request.proof.0) {
            return Err(Stop::Denied(Denial::BadProof));
        }
        let known = book.node(&peer.node);
        // Certificates say whole seconds.
        let since = known.map_or(peer.not_before, |issued| issued.since);
        if peer.not_before.unix_ms / 1000 < since.unix_ms / 1000 {
            return Err(Stop::Denied(Denial::Replaced { at: since }));
        }
        if let Some(issued) = known {
            let after = later(issued.at, RENEWAL_GAP.min(self.life / 20));
            // Not the certificate it has, but one that it asked for and never got.
            let lost =
                issued.key == request.public_key && Digest::of(&issued.certificate) != peer.hash;
            if lost && now < after {
                return Ok((None, (issued.certificate.clone(), None)));
            }
            if now < after {
                return Err(Stop::Denied(Denial::TooSoon { after }));
            }
        }
        let terms = (peer.network.as_ref(), peer.roles);
        let mut issued = self.make(&peer.node, terms, &request.public_key, (now, self.life))?;
        issued.since = since;
        Ok((Some(Entry::issued(&issued, None)), (issued.certificate, None)))
    }

    /// Makes a certificate, which counts once it is in the ledger.
    fn make(
        &self,
        node: &NodeName,
        (network, roles): (Option<&NetworkName>, Roles),
        public_key: &[u8; PUBLIC_KEY_BYTES],
        (now, life): (WallTime, Duration),
    ) -> Result<Issued, CaError> {
        let end = self.not_after();
        if now >= end {
            return Err(CaError::AuthorityExpired { at: end });
        }
        let until = later(now, life).min(end);
        let leaf = Leaf {
            bloc: self.bloc(),
            node,
            network,
            roles,
            not_before: now,
            not_after: until,
            public_key,
        };
        let certificate = leaf.sign(&self.info.subject, &self.key)?;
        Ok(Issued {
            node: node.clone(),
            key: *public_key,
            at: now,
            until,
            since: now,
            certificate: certificate.to_vec(),
            founding: None,
        })
    }

    fn answer(&self, what: &str, node: &NodeName, granted: Result<Given, Stop>) -> Message {
        match granted {
            Ok((certificate, founding)) => {
                tracing::info!(%node, founding = founding.is_some(), "{what} granted");
                let granted = Granted { certificate, authority: self.certificate.to_vec() };
                match founding {
                    None => Message::Granted(granted),
                    Some(token) => {
                        Message::Founded(Founded { granted, founding: token.to_bytes() })
                    }
                }
            }
            Err(Stop::Denied(denial)) => {
                tracing::warn!(%node, %denial, "{what} denied");
                Message::Denied(denial)
            }
            Err(Stop::Failed(error)) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(%node, error, "{what} failed");
                Message::Denied(Denial::Unavailable)
            }
        }
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("dir", &self.dir)
            .field("bloc", self.bloc())
            .field("fingerprint", &self.fingerprint())
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// What whoever asked is given: a certificate, and the founding token where it is the first.
type Given = (Vec<u8>, Option<FoundingToken>);

/// Why a request got no certificate: its own fault or ours.
enum Stop {
    Denied(Denial),
    Failed(CaError),
}

impl From<CaError> for Stop {
    fn from(error: CaError) -> Self {
        Self::Failed(error)
    }
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error.into())
    }
}

/// Whoever chooses its own name may not choose one that somebody has: it would become that node.
fn check_name_free(book: &Book, node: &NodeName, now: WallTime) -> Result<(), Stop> {
    match book.node(node).map(Issued::name_held_until) {
        Some(until) if until > now => {
            Err(Stop::Denied(Denial::NameTaken { node: node.clone(), until }))
        }
        _ => Ok(()),
    }
}

fn check_life(
    what: &'static str,
    life: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), CaError> {
    if (least..=most).contains(&life) {
        return Ok(());
    }
    let (least, most) = (crate::certificate::span(&least), crate::certificate::span(&most));
    Err(CaError::OutOfBounds { what, least, most })
}

fn check_count(what: &'static str, count: usize, least: usize, most: usize) -> Result<(), CaError> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    let (least, most) = (least.to_string(), most.to_string());
    Err(CaError::OutOfBounds { what, least, most })
}

fn later(at: WallTime, span: Duration) -> WallTime {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    WallTime::from_unix_ms(at.unix_ms.saturating_add(ms))
}
