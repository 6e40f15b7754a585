//! Why a peer is refused: in words for people, and as a short list of reasons for counters.

use skep_base::{BlocName, NodeId, NodeName};

/// Why the two ends of a fresh connection did not become a link. Names the peer's certificate
/// wherever one was shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// As many handshakes wait as may wait.
    #[error("too many handshakes are waiting already")]
    Busy,
    /// The peer went away before it had said anything wrong.
    #[error("the connection was given up by the other side")]
    Abandoned,
    /// TLS was not done in time.
    #[error("no TLS handshake within the time allowed")]
    TimedOut,
    /// What came in is no TLS handshake, or one that this node cannot agree to.
    #[error("TLS: {0}")]
    Tls(String),
    /// The client offers no protocol that is spoken here.
    #[error("none of the offered protocols {0:?} is served here")]
    NoProtocol(Vec<String>),
    /// The peer's certificate is not accepted; the text names it and says why.
    #[error("{text}")]
    Certificate {
        /// What is wrong with it.
        kind: CertificateFault,
        /// In words, with the names in the certificate.
        text: String,
    },
    /// A node of our bloc, and not the one that was wanted.
    #[error("node {name} ({found}) answered where {expected} was expected")]
    WrongPeer {
        /// Whom the caller wanted.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
        /// Its name.
        name: NodeName,
    },
    /// This very process answered.
    #[error("the address leads back to this node")]
    Myself,
    /// TLS was done, and no hello followed.
    #[error("node {name} sent no hello within the time allowed")]
    HelloTimedOut {
        /// The certificate's name.
        name: NodeName,
    },
    /// The first frame is no hello.
    #[error("node {name} sent a malformed hello: {detail}")]
    HelloMalformed {
        /// The certificate's name.
        name: NodeName,
        /// What is wrong with it.
        detail: String,
    },
    /// The hello speaks of another node than the certificate.
    #[error("node {name} of bloc {bloc} claims in its hello to be {claimed}")]
    HelloMismatch {
        /// The certificate's name.
        name: NodeName,
        /// The certificate's bloc.
        bloc: BlocName,
        /// What the hello says.
        claimed: String,
    },
    /// No protocol version is known to both.
    #[error("node {name} speaks protocol {theirs:?} and this node {ours:?}: upgrade the older one")]
    IncompatibleVersion {
        /// The certificate's name.
        name: NodeName,
        /// Oldest and newest the peer speaks.
        theirs: (u16, u16),
        /// Oldest and newest this build speaks.
        ours: (u16, u16),
    },
    /// As many links are up as may be up.
    #[error("node {name} is one link too many: {limit} are up")]
    TooManyLinks {
        /// The certificate's name.
        name: NodeName,
        /// [`crate::Config::max_links`].
        limit: usize,
    },
    /// As many links to this one node are up as may be up.
    #[error("node {name} has {limit} links to this node already")]
    TooManyLinksOfPeer {
        /// The certificate's name.
        name: NodeName,
        /// [`crate::Config::max_links_per_peer`].
        limit: usize,
    },
    /// The other side said no, and why.
    #[error("turned away by the other side: {0}")]
    TurnedAway(String),
    /// Somebody wants to enrol at a node that does not serve the CA, or too many do at once.
    #[error("enrolment: {0}")]
    Enrolment(String),
    /// The transport is shutting down.
    #[error("this node is shutting down")]
    Closing,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// None was shown.
    Missing,
    /// Its chain does not end at our CA.
    ForeignCa,
    /// It is of another bloc.
    WrongBloc,
    /// It is expired beyond the grace, or not valid yet.
    Expired,
    /// It cannot be read, or lacks what a node's certificate must have.
    Malformed,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// Why peers are refused, as counted by [`crate::Stats::refused`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefuseReason { $($(#[$doc])* $name,)* }

        impl RefuseReason {
            /// Every reason there is, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason's name in logs and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// [`HandshakeError::Busy`]
    Busy => "busy",
    /// [`HandshakeError::Abandoned`]
    Abandoned => "abandoned",
    /// [`HandshakeError::TimedOut`]
    TimedOut => "handshake-timed-out",
    /// [`HandshakeError::Tls`]
    Tls => "tls",
    /// [`HandshakeError::NoProtocol`]
    NoProtocol => "no-protocol",
    /// [`CertificateFault::Missing`]
    NoCertificate => "no-certificate",
    /// [`CertificateFault::ForeignCa`]
    ForeignCa => "foreign-ca",
    /// [`CertificateFault::WrongBloc`]
    WrongBloc => "wrong-bloc",
    /// [`CertificateFault::Expired`]
    Expired => "expired",
    /// [`CertificateFault::Malformed`]
    BadCertificate => "bad-certificate",
    /// [`HandshakeError::WrongPeer`]
    WrongPeer => "wrong-peer",
    /// [`HandshakeError::Myself`]
    Myself => "myself",
    /// [`HandshakeError::HelloTimedOut`]
    HelloTimedOut => "hello-timed-out",
    /// [`HandshakeError::HelloMalformed`]
    HelloMalformed => "hello-malformed",
    /// [`HandshakeError::HelloMismatch`]
    HelloMismatch => "hello-mismatch",
    /// [`HandshakeError::IncompatibleVersion`]
    IncompatibleVersion => "incompatible-version",
    /// [`HandshakeError::TooManyLinks`]
    TooManyLinks => "too-many-links",
    /// [`HandshakeError::TooManyLinksOfPeer`]
    TooManyLinksOfPeer => "too-many-links-of-peer",
    /// [`HandshakeError::TurnedAway`]
    TurnedAway => "turned-away",
    /// [`HandshakeError::Enrolment`]
    Enrolment => "enrolment",
    /// [`HandshakeError::Closing`]
    Closing => "closing",
}

impl HandshakeError {
    /// The counter that this failure belongs to.
    #[must_use]
    pub const fn reason(&self) -> RefuseReason {
        match self {
            Self::Busy => RefuseReason::Busy,
            Self::Abandoned => RefuseReason::Abandoned,
            Self::TimedOut => RefuseReason::TimedOut,
            Self::Tls(_) => RefuseReason::Tls,
            Self::NoProtocol(_) => RefuseReason::NoProtocol,
            Self::Certificate { kind, .. } => kind.reason(),
            Self::WrongPeer { .. } => RefuseReason::WrongPeer,
            Self::Myself => RefuseReason::Myself,
            Self::HelloTimedOut { .. } => RefuseReason::HelloTimedOut,
            Self::HelloMalformed { .. } => RefuseReason::HelloMalformed,
            Self::HelloMismatch { .. } => RefuseReason::HelloMismatch,
            Self::IncompatibleVersion { .. } => RefuseReason::IncompatibleVersion,
            Self::TooManyLinks { .. } => RefuseReason::TooManyLinks,
            Self::TooManyLinksOfPeer { .. } => RefuseReason::TooManyLinksOfPeer,
            Self::TurnedAway(_) => RefuseReason::TurnedAway,
            Self::Enrolment(_) => RefuseReason::Enrolment,
            Self::Closing => RefuseReason::Closing,
        }
    }
}

impl CertificateFault {
    const fn reason(self) -> RefuseReason {
        match self {
            Self::Missing => RefuseReason::NoCertificate,
            Self::ForeignCa => RefuseReason::ForeignCa,
            Self::WrongBloc => RefuseReason::WrongBloc,
            Self::Expired => RefuseReason::Expired,
            Self::Malformed => RefuseReason::BadCertificate,
        }
    }
}
