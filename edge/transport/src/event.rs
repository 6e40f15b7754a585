//! What the transport tells the agent: the closed list of events, and the words in them.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use skep_base::NodeId;
use skep_identity::{CertInfo, tls};
use skep_wire::{Frame, FrameError, Hello, Lane};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::fault::{HandshakeError, RefuseReason};
use crate::stream::PeerStream;

/// One connection that is up or was. Never used twice in the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(crate) u64);

impl LinkId {
    /// The number, for logs and for machines that name links by a number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The link of that number. One that never was is as good as one that is down.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link-{}", self.0)
    }
}

/// The caller's name for one attempt to reach a node; it comes back in [`Event::LinkUp`] or
/// [`Event::DialFailed`], exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// Who is at the other end, proven by its certificate and by a hello that agrees with it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What the certificate says.
    pub cert: CertInfo,
    /// The certificate itself, for records that must be judged after the link is gone.
    pub cert_der: Bytes,
    /// What the peer said first.
    pub hello: Hello,
    /// The protocol both sides speak on this link.
    pub protocol: u16,
    /// What only the two ends of this connection know: a statement about this very link, such as
    /// [`skep_identity::Identity::show`], is signed over it.
    pub channel: tls::Channel,
}

/// Everything that the transport reports. For each link: one `LinkUp`, any number of `Frame`, one
/// `LinkDown`, in this order.
#[derive(Debug)]
pub enum Event {
    /// TLS and hello are done; frames may flow in both directions.
    LinkUp {
        /// The new link.
        link: LinkId,
        /// Which of a neighbour's two connections this is.
        lane: Lane,
        /// Who is there.
        peer: Box<Peer>,
        /// The dial that made it, or nothing where the peer dialled.
        dialled: Option<DialId>,
        /// The peer's end of the connection.
        remote: SocketAddr,
    },
    /// A stream is open: it is no link, and whoever takes it reads and writes its bytes.
    StreamUp {
        /// Its bytes.
        stream: Box<PeerStream>,
        /// Who is there.
        peer: Box<Peer>,
        /// The dial that made it, or nothing where the peer dialled.
        dialled: Option<DialId>,
        /// The peer's end of the connection.
        remote: SocketAddr,
    },
    /// A frame came in. Hellos and goodbyes are dealt with here and never shown.
    Frame {
        /// The link it came over.
        link: LinkId,
        /// The frame; bodies share no memory with later frames.
        frame: Frame,
        /// Its share of the bytes that may wait unread. Given back when dropped, so keep it for
        /// as long as the body is worked on, and no longer.
        credit: Credit,
    },
    /// The link is gone. The last word about it.
    LinkDown {
        /// The link that was.
        link: LinkId,
        /// What ended it.
        why: DownReason,
    },
    /// No address led to the node that was wanted.
    DialFailed {
        /// The caller's name for the dial.
        dial: DialId,
        /// The most telling of the failures.
        why: DialFailure,
        /// What each address that was tried led to.
        attempts: Vec<(SocketAddr, DialFailure)>,
    },
    /// Somebody knocked and was not let in. Rate-limited; the counters of
    /// [`crate::TransportHandle::stats`] see all of them.
    Refused {
        /// Where the knock came from.
        remote: SocketAddr,
        /// Why the door stayed shut, in words: it names the certificate where one was shown.
        why: HandshakeError,
    },
    /// Somebody without a certificate asks for one, and this node serves the CA.
    Enrolment {
        /// Where the request came from.
        remote: SocketAddr,
        /// The request, as [`skep_identity`] defines it.
        request: Bytes,
        /// Where the answer goes; dropped without one, the connection is closed.
        reply: oneshot::Sender<Bytes>,
    },
}

/// A frame's claim on the bytes that may wait between the links and the agent.
#[derive(Debug)]
#[expect(dead_code, reason = "held only to be given back")]
pub struct Credit(pub(crate) OwnedSemaphorePermit);

/// What ended a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// The peer's end of the connection was closed without a word: its process ended.
    #[error("closed by the peer")]
    Closed,
    /// The peer's host knows no such connection.
    #[error("reset by the peer")]
    Reset,
    /// The peer acknowledged nothing, or sent nothing, for the time that is allowed.
    #[error("timed out")]
    TimedOut,
    /// What came in is not what belongs on a link.
    #[error("protocol fault: {0}")]
    Protocol(ProtocolFault),
    /// This side closed it.
    #[error("closed by this node: {0}")]
    Local(String),
    /// The peer did not take what was sent to it; its queue was full, or did not move.
    #[error("the peer reads too slowly")]
    TooSlow,
    /// The peer said why it closes the link.
    #[error("the peer said goodbye: {0}")]
    Goodbye(String),
}

/// How a peer that proved who it is broke the rules of the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolFault {
    /// The stream cannot be cut into frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream was ended properly, in the middle of a frame.
    #[error("the stream ends inside a frame")]
    Truncated,
    /// A second hello.
    #[error("a hello on a link that is up")]
    SecondHello,
    /// The TLS layer cannot go on.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Why a dial led nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFailure {
    /// There was no address to try.
    #[error("no address is known")]
    NoAddress,
    /// Too many dials wait already.
    #[error("too many dials are waiting")]
    Overloaded,
    /// The transport is shutting down.
    #[error("this node is shutting down")]
    Closing,
    /// The host is there and nobody listens on that port.
    #[error("connection refused")]
    Refused,
    /// Nothing answered.
    #[error("no answer")]
    TimedOut,
    /// There is no way to the address; the text is the system's.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// Somebody answered, and it was not the node wanted, or not one that can be talked to.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl DialFailure {
    /// The kind of handshake failure, if it was one.
    #[must_use]
    pub const fn reason(&self) -> Option<RefuseReason> {
        match self {
            Self::Handshake(error) => Some(error.reason()),
            Self::NoAddress
            | Self::Overloaded
            | Self::Closing
            | Self::Refused
            | Self::TimedOut
            | Self::Unreachable(_) => None,
        }
    }

    /// How much a failure tells, so that one of several can stand for all: who answered wrongly
    /// tells more than who did not answer.
    pub(crate) const fn weight(&self) -> u8 {
        match self {
            Self::NoAddress | Self::Overloaded | Self::Closing => 0,
            Self::Unreachable(_) => 1,
            Self::TimedOut => 2,
            Self::Refused => 3,
            Self::Handshake(_) => 4,
        }
    }
}

/// Whom a dial or a peer is, in words of the log: its name where one is known.
pub(crate) fn expected_text(expected: Option<&NodeId>) -> String {
    expected.map_or_else(|| "any node of the bloc".to_owned(), ToString::to_string)
}
