//! What a certificate says, read strictly: one node name, one bloc name, told twice and alike.

use std::time::Duration;

use skep_base::{BlocName, Digest, NetworkName, NodeId, NodeName, WallTime};

use crate::Roles;
use crate::der::{DerError, Reader, date_of, tag};
use crate::key::PUBLIC_KEY_BYTES;
use crate::profile::{CA_COMMON_NAME, oid};

/// Longest certificate that is read: the longest names in every place take about 2.5 KiB.
pub const MAX_CERTIFICATE_BYTES: usize = 4096;
/// Names in one certificate beyond which it is refused; ours hold at most six.
const MAX_ALT_NAMES: usize = 32;
/// Labels of a bloc name: 200 bytes hold no more.
const MAX_BLOC_LABELS: usize = 100;

/// Who a certificate says its holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertInfo {
    /// The trust domain (BLOC-8).
    pub bloc: BlocName,
    /// The node's name.
    pub node: NodeName,
    /// The node's identity in every protocol, which follows from the two names.
    pub id: NodeId,
    /// The network that the CA put the node in, if any.
    pub network: Option<NetworkName>,
    /// What the CA lets the node do. Roles of newer builds grant nothing here.
    pub roles: Roles,
    /// From when it holds.
    pub not_before: WallTime,
    /// Until when it holds.
    pub not_after: WallTime,
    /// The node's Ed25519 key.
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    /// The BLAKE3 digest of the whole certificate: one certificate's name.
    pub hash: Digest,
}

/// How a certificate's dates stand to a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Holds.
    Valid,
    /// Begins to hold after this long: its maker's clock or ours is wrong.
    NotYet(Duration),
    /// Held until this long ago. A link to its holder is for renewal and membership alone.
    Expired(Duration),
}

impl CertInfo {
    /// How the dates stand at `now`.
    #[must_use]
    pub fn validity(&self, now: WallTime) -> Validity {
        if now < self.not_before {
            Validity::NotYet(self.not_before.since(now))
        } else if now > self.not_after {
            Validity::Expired(now.since(self.not_after))
        } else {
            Validity::Valid
        }
    }

    /// Whether the certificate is over at `now`: where [`crate::Trust::verify`] let it pass all the
    /// same, it is in its grace, and the link must be restricted.
    #[must_use]
    pub fn is_expired(&self, now: WallTime) -> bool {
        matches!(self.validity(now), Validity::Expired(_))
    }

    /// How long the certificate was made for.
    #[must_use]
    pub const fn life(&self) -> Duration {
        self.not_after.since(self.not_before)
    }

    /// When to ask for the next one: at two thirds of its life. Callers add jitter, so that nodes
    /// made together do not ask together.
    #[must_use]
    pub fn renew_at(&self) -> WallTime {
        let ms = u64::try_from(self.life().as_millis()).unwrap_or(u64::MAX);
        WallTime::from_unix_ms(self.not_before.unix_ms.saturating_add(ms / 3 * 2))
    }
}

/// Why a certificate was refused. Names are what the certificate *claims*, unless its chain held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Not a certificate, or not one that a CA of ours would make.
    #[error("not a skep certificate: {what}")]
    NotOurs {
        /// What is missing or wrong.
        what: &'static str,
    },
    /// Over [`MAX_CERTIFICATE_BYTES`].
    #[error("certificate of {bytes} bytes is over the limit of {MAX_CERTIFICATE_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Another trust domain.
    #[error("node {node} is of bloc {theirs}, not of ours, {ours}")]
    WrongBloc {
        /// The claimed name.
        node: NodeName,
        /// The claimed bloc.
        theirs: BlocName,
        /// Our bloc.
        ours: BlocName,
    },
    /// The right bloc, signed by somebody else.
    #[error(
        "certificate of node {node} of bloc {bloc} was not made by this bloc's CA; \
         compare the CA fingerprints that `skep cert show` prints on both nodes"
    )]
    ForeignCa {
        /// The claimed name.
        node: NodeName,
        /// The claimed bloc.
        bloc: BlocName,
    },
    /// Over for longer than the grace.
    #[error(
        "certificate of node {node} of bloc {bloc} expired on {}, {} ago, beyond the grace of {}; \
         give the node a new one with `skep ca issue` or `skep ca invite`",
        date(.not_after), span(.ago), span(.grace)
    )]
    Expired {
        /// The node.
        node: NodeName,
        /// Its bloc.
        bloc: BlocName,
        /// Until when the certificate held.
        not_after: WallTime,
        /// How long that is ago.
        ago: Duration,
        /// How long after it the certificate would still have passed.
        grace: Duration,
    },
    /// Not valid for a while yet.
    #[error(
        "certificate of node {node} of bloc {bloc} holds only from {}, in {}; \
         is this node's clock right?",
        date(.not_before), span(.ahead)
    )]
    NotYetValid {
        /// The node.
        node: NodeName,
        /// Its bloc.
        bloc: BlocName,
        /// From when the certificate holds.
        not_before: WallTime,
        /// How far ahead that is.
        ahead: Duration,
    },
}

impl From<DerError> for CertError {
    fn from(_: DerError) -> Self {
        not_ours("its encoding is broken")
    }
}

pub(crate) const fn not_ours(what: &'static str) -> CertError {
    CertError::NotOurs { what }
}

/// Reads a node's certificate. Says nothing about who signed it or whether it still holds.
///
/// # Errors
/// [`CertError::NotOurs`] or [`CertError::TooLong`].
pub fn parse_certificate(der: &[u8]) -> Result<CertInfo, CertError> {
    let parts = Parts::read(der)?;
    if parts.subject.common_name == CA_COMMON_NAME {
        return Err(not_ours("it is a CA's, where a node's is expected"));
    }
    let node = NodeName::new(parts.subject.common_name)
        .ok()
        .filter(|node| node.as_str() == parts.subject.common_name)
        .ok_or_else(|| not_ours("its common name is no node name"))?;
    let bloc = parts.subject.bloc;
    let names = Names::read(parts.alt_names.ok_or_else(|| not_ours("it holds no URI"))?)?;
    let network = names.check(&bloc, &node)?;
    Ok(CertInfo {
        id: NodeId::derive(&bloc, &node),
        bloc,
        node,
        network,
        roles: names.roles(),
        not_before: parts.validity.0,
        not_after: parts.validity.1,
        public_key: parts.public_key,
        hash: Digest::of(der),
    })
}

/// What a CA's own certificate says that the CA's program needs.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityInfo {
    pub(crate) bloc: BlocName,
    /// The content of its subject: what it writes into certificates as their issuer.
    pub(crate) subject: Vec<u8>,
    pub(crate) validity: (WallTime, WallTime),
    pub(crate) public_key: [u8; PUBLIC_KEY_BYTES],
}

/// Reads a certificate that [`crate::Ca::init`] made.
pub(crate) fn parse_authority(der: &[u8]) -> Result<AuthorityInfo, CertError> {
    let parts = Parts::read(der)?;
    if parts.subject.common_name != CA_COMMON_NAME || !parts.may_sign {
        return Err(not_ours("it is not the certificate of a skep CA"));
    }
    Ok(AuthorityInfo {
        bloc: parts.subject.bloc,
        subject: parts.subject.content.to_vec(),
        validity: parts.validity,
        public_key: parts.public_key,
    })
}

/// A certificate taken apart. Signatures, usages and what is critical are judged by
/// `rustls-webpki`, in [`crate::Trust`]; here only what that library keeps to itself.
struct Parts<'a> {
    subject: Subject<'a>,
    validity: (WallTime, WallTime),
    public_key: [u8; PUBLIC_KEY_BYTES],
    alt_names: Option<&'a [u8]>,
    may_sign: bool,
}

impl<'a> Parts<'a> {
    fn read(der: &'a [u8]) -> Result<Self, CertError> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertError::TooLong { bytes: der.len() });
        }
        let mut outer = Reader::new(der);
        let mut certificate = outer.enter(tag::SEQUENCE)?;
        outer.finish()?;
        let mut signed = certificate.enter(tag::SEQUENCE)?;
        ed25519_algorithm(certificate.enter(tag::SEQUENCE)?)?;
        certificate.expect(tag::BIT_STRING)?;
        certificate.finish()?;

        let mut version = signed.enter(tag::CONTEXT_0)?;
        if version.expect(tag::INTEGER)? != [2] || !version.at_end() {
            return Err(not_ours("it is not of version 3"));
        }
        signed.expect(tag::INTEGER)?;
        ed25519_algorithm(signed.enter(tag::SEQUENCE)?)?;
        signed.expect(tag::SEQUENCE)?;
        let mut dates = signed.enter(tag::SEQUENCE)?;
        let validity = (dates.time()?, dates.time()?);
        dates.finish()?;
        if validity.1 < validity.0 {
            return Err(not_ours("it ends before it begins"));
        }
        let subject = Subject::read(signed.expect(tag::SEQUENCE)?)?;
        let public_key = public_key(signed.enter(tag::SEQUENCE)?)?;
        let mut extensions = Reader::new(
            signed.optional(tag::CONTEXT_3)?.ok_or_else(|| not_ours("it holds no URI"))?,
        );
        signed.finish()?;
        let list = extensions.enter(tag::SEQUENCE)?;
        extensions.finish()?;
        let (alt_names, may_sign) = read_extensions(list)?;
        Ok(Self { subject, validity, public_key, alt_names, may_sign })
    }
}

fn ed25519_algorithm(mut algorithm: Reader<'_>) -> Result<(), CertError> {
    if algorithm.expect(tag::OID)? != oid::ED25519 || !algorithm.at_end() {
        return Err(not_ours("its keys and signatures are not Ed25519"));
    }
    Ok(())
}

fn public_key(mut info: Reader<'_>) -> Result<[u8; PUBLIC_KEY_BYTES], CertError> {
    ed25519_algorithm(info.enter(tag::SEQUENCE)?)?;
    let key = info.expect(tag::BIT_STRING)?;
    info.finish()?;
    match key.split_first() {
        Some((0, key)) => key.try_into().map_err(|_| DerError.into()),
        _ => Err(DerError.into()),
    }
}

/// The content of the other names, and whether the certificate is a CA's.
fn read_extensions(mut list: Reader<'_>) -> Result<(Option<&[u8]>, bool), CertError> {
    let (mut alt_names, mut may_sign) = (None, false);
    while !list.at_end() {
        let mut extension = list.enter(tag::SEQUENCE)?;
        let id = extension.expect(tag::OID)?;
        extension.optional(tag::BOOLEAN)?;
        let content = extension.expect(tag::OCTET_STRING)?;
        extension.finish()?;
        let mut content = Reader::new(content);
        if id == oid::SUBJECT_ALT_NAME {
            if alt_names.replace(content.expect(tag::SEQUENCE)?).is_some() {
                return Err(not_ours("it lists its names twice"));
            }
            content.finish()?;
        } else if id == oid::BASIC_CONSTRAINTS {
            let mut constraints = content.enter(tag::SEQUENCE)?;
            may_sign = constraints.optional(tag::BOOLEAN)? == Some(&[0xff]);
        }
    }
    Ok((alt_names, may_sign))
}

/// `DC=com, DC=example, CN=web-1`, which is the order on the wire.
struct Subject<'a> {
    content: &'a [u8],
    bloc: BlocName,
    common_name: &'a str,
}

impl<'a> Subject<'a> {
    fn read(content: &'a [u8]) -> Result<Self, CertError> {
        let mut parts = Reader::new(content);
        let (mut labels, mut common_name) = (Vec::new(), None);
        while !parts.at_end() {
            let mut part = parts.enter(tag::SET)?;
            let mut attribute = part.enter(tag::SEQUENCE)?;
            part.finish()?;
            let kind = attribute.expect(tag::OID)?;
            let text = match attribute.any()? {
                (tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING, text) => {
                    str::from_utf8(text).map_err(|_| DerError)?
                }
                _ => return Err(not_ours("a part of its subject is no text")),
            };
            attribute.finish()?;
            match kind {
                oid::DOMAIN_COMPONENT if labels.len() < MAX_BLOC_LABELS => labels.push(text),
                oid::COMMON_NAME if common_name.is_none() => common_name = Some(text),
                _ => return Err(not_ours("its subject has other parts than CN and DC")),
            }
        }
        labels.reverse();
        let text = labels.join(".");
        let bloc = BlocName::new(&text)
            .ok()
            .filter(|bloc| bloc.as_str() == text)
            .ok_or_else(|| not_ours("the DC parts of its subject are no bloc name"))?;
        Ok(Self {
            content,
            bloc,
            common_name: common_name.ok_or_else(|| not_ours("its subject has no CN"))?,
        })
    }
}

/// The URIs of our scheme, each split after the bloc.
struct Names<'a> {
    uris: Vec<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    fn read(content: &'a [u8]) -> Result<Self, CertError> {
        let mut names = Reader::new(content);
        let (mut uris, mut seen) = (Vec::new(), 0);
        while !names.at_end() {
            seen += 1;
            if seen > MAX_ALT_NAMES {
                return Err(not_ours("it holds too many names"));
            }
            // Names of other kinds, say for a browser, mean nothing to us.
            let (tag::URI, uri) = names.any()? else {
                continue;
            };
            let uri = str::from_utf8(uri).map_err(|_| DerError)?;
            if let Some(rest) = uri.strip_prefix("skep://") {
                uris.push(rest.split_once('/').ok_or_else(|| not_ours("a URI has no path"))?);
            }
        }
        Ok(Self { uris })
    }

    /// All must be of `bloc`, one must be `node`; gives the network.
    fn check(&self, bloc: &BlocName, node: &NodeName) -> Result<Option<NetworkName>, CertError> {
        if self.uris.iter().any(|(named, _)| *named != bloc.as_str()) {
            return Err(not_ours("a URI names another bloc than the subject"));
        }
        let mut nodes = self.paths().filter(|path| !path.contains('/'));
        if nodes.next() != Some(node.as_str()) || nodes.next().is_some() {
            return Err(not_ours("its URIs and its subject name different nodes"));
        }
        let mut networks = self.paths().filter_map(|path| path.strip_prefix("network/"));
        let network = match networks.next() {
            None => None,
            Some(text) => Some(
                NetworkName::new(text)
                    .ok()
                    .filter(|network| network.as_str() == text)
                    .ok_or_else(|| not_ours("its network is no network name"))?,
            ),
        };
        if networks.next().is_some() {
            return Err(not_ours("it names two networks"));
        }
        Ok(network)
    }

    fn roles(&self) -> Roles {
        self.paths().filter_map(|path| path.strip_prefix("role/")?.parse().ok()).collect()
    }

    fn paths(&self) -> impl Iterator<Item = &'a str> {
        self.uris.iter().map(|(_, path)| *path)
    }
}

/// A date as people read it: `2026-11-21 03:59:15 UTC`.
pub(crate) fn date(at: &WallTime) -> String {
    let date = date_of(*at);
    let (hour, minute, second) = date.to_hms();
    format!(
        "{}-{:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

/// A span as people say it, in its largest unit.
pub(crate) fn span(span: &Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7_200 => (seconds / 60, "minutes"),
        7_200..172_800 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    let unit = if count == 1 { unit.trim_end_matches('s') } else { unit };
    format!("{count} {unit}")
}
