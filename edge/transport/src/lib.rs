//! Links between the nodes of a bloc: TCP with mutual TLS 1.3, two lanes, bounded in everything
//! (BLOC-1, BLOC-3, BLOC-9, BLOC-10, BLOC-16, BLOC-34), and the ways in which nodes find
//! addresses to dial (BLOC-2, BLOC-40).
//!
//! ```text
//!            dial, send, close, sample                     Event
//!   agent ------------------------------> Transport ------------------------> agent
//!                                          |  |  |
//!                              listeners --+  |  +-- links, one task each
//!                             dials, raced ---+
//! ```
//!
//! [`start`] is handed listening sockets, an identity and a [`Config`], and gives a
//! [`TransportHandle`] and the stream of [`Event`]s. The tasks are: one a listener, one a dial, one
//! an incoming handshake (few at once, see [`Config::max_handshakes`]), and one a link. Every task
//! ends with what it serves, and all end with the handle.
//!
//! **Who may link.** Whoever proves by certificate to be of our bloc, and says so again in its
//! hello. Everybody else is refused with a reason: one line in the log that names the address and
//! the certificate, and one count ([`Stats::refused`]).
//!
//! **What a peer may cost.** Frames have a longest length, queues have a byte bound, a peer that
//! does not read loses its link ([`DownReason::TooSlow`]) and delays nobody else. Received bytes
//! wait for the agent only up to a bound; then links are not read, and TCP slows the senders down.
//!
//! **Streams.** A connection on [`skep_wire::Lane::Stream`] is no link: the agent is handed its
//! bytes ([`PeerStream`]). Two nodes that cannot dial each other have a third pass such bytes on,
//! and make their connection within them ([`TransportHandle::over`]).
//!
//! **What is not here.** Which of two links between the same two nodes stays, whom to dial, when a
//! silent peer is given up: `core/node` decides. Nothing here retries by itself.
//!
//! Finding addresses is a matter of its own: [`discovery`] has multicast on the local link, the
//! beacon, and the file of addresses.

pub mod discovery;

mod admission;
mod bucket;
mod config;
mod dial;
mod enrol;
mod event;
mod fault;
mod handle;
mod handshake;
mod link;
mod listen;
mod refusals;
mod shared;
mod socket;
mod stream;
mod sys;

pub use config::{Config, ConfigError};
pub use enrol::{ENROLMENT_KIND, EnrolAttemptError, EnrolError, MAX_ENROLMENT_BYTES, enrol};
pub use event::{Credit, DialFailure, DialId, DownReason, Event, LinkId, Peer, ProtocolFault};
pub use fault::{CertificateFault, HandshakeError, RefuseReason};
pub use handle::{LocalHello, Over, SendError, StartError, Stats, TransportHandle, start};
pub use listen::bind;
pub use socket::LinkSample;
pub use stream::PeerStream;
pub use sys::interfaces::{Interface, interfaces};
pub use sys::tcp_info::TcpSample;
