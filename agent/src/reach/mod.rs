//! Streams and bulk links to any member of the bloc, whether it can be dialled or not (FLOOD-2,
//! MULTI-13, DLIF-24).
//!
//! ```text
//!   1. dial it                                me ─────────────────> it
//!   2. ask it, over the links of others,      me <───────────────── it
//!      to dial back
//!   3. ask it to meet at a relay, which       me ──> relay <──────── it
//!      both dial; TLS end to end within
//! ```
//!
//! Each way is tried when the one before came to nothing. [`Reach::stream_to`] and
//! [`Reach::link_to`] read as that; what other nodes ask of this one is in `serve`: to dial back,
//! to meet them, and to pass bytes on between two that cannot dial each other. Streams carry the
//! channels of applications ([`crate::channel`]), bulk links what waves fetch ([`crate::rollout`]).
//!
//! A routed request proves nothing (see [`skep_routing`]): it only makes a node dial an address or
//! a relay. Who is there, each end learns from the other's certificate.

mod message;
mod relay;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, NodeName};
use skep_node::service;
use skep_routing::{AskError, Failure, Ticket};
use skep_transport::{DialFailure, DialId, Over, PeerStream, TransportHandle};
use skep_wire::{Lane, kind};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::message::{Cookie, DialBack, LinkBack, Meet};
use self::relay::Relay;
use crate::channel::Channels;
use crate::spine::Request;

/// Dials are numbered from here: above the node's.
const FIRST_DIAL: u64 = 1 << 62;
/// How long each way to a node may take. A dial that nobody answers takes the longest.
const WAY_WITHIN: Duration = Duration::from_secs(6);
/// Relays that are tried.
const MAX_RELAYS: usize = 3;
/// Attempts of all kinds that may be under way.
const MAX_WAITING: usize = 1024;

/// What [`Reach`] asks of the main loop.
#[derive(Debug)]
pub enum Wish {
    /// Where a node is, and over whom it may be met.
    Whereabouts {
        /// Which node.
        node: NodeId,
        /// Nothing when it is not present.
        reply: oneshot::Sender<Option<Whereabouts>>,
    },
    /// A routed request.
    Ask {
        /// Of whom.
        to: NodeId,
        /// One of [`service`].
        service: u8,
        /// What the service says.
        body: Bytes,
        /// How long to wait.
        within: Duration,
        /// What came of it.
        reply: oneshot::Sender<Result<Bytes, AskError>>,
    },
    /// An answer to a routed request.
    Answer {
        /// Which.
        ticket: Ticket,
        /// What came of it.
        outcome: Result<Bytes, Failure>,
    },
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its name.
    pub name: NodeName,
    /// Where it listens, by what it says.
    pub addresses: Vec<SocketAddr>,
    /// Nodes on the ways to it, the best first, and where they listen.
    pub relays: Vec<(NodeId, Vec<SocketAddr>)>,
    /// Where this node listens.
    pub ours: Vec<SocketAddr>,
}

/// Why there is no stream to a node.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// It is not present.
    #[error("the node is not present; `skep members` shows who is")]
    NotPresent,
    /// All three ways came to nothing.
    #[error(
        "no way leads to {name}: dialling it: {dialled}; being dialled back: {back}; meeting at a \
         relay: {met}"
    )]
    Nowhere {
        /// Which node.
        name: NodeName,
        /// The first.
        dialled: Box<WayError>,
        /// The second.
        back: Box<WayError>,
        /// The third.
        met: Box<WayError>,
    },
    /// The agent stops.
    #[error("this agent is stopping")]
    Stopping,
}

/// Why one of the ways came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The request did not come through, or was refused.
    #[error(transparent)]
    Asked(#[from] AskError),
    /// What was promised did not come.
    #[error("it did not come in time")]
    TimedOut,
    /// Nobody is linked to both.
    #[error("no present node is linked to it")]
    NoRelay,
    /// Whoever asked can do without.
    #[error("not tried: what it has comes from others")]
    NotTried,
    /// The node or the relay could not be dialled, or whoever is at its other side is another.
    #[error(transparent)]
    Dial(#[from] DialFailure),
    /// Too much is under way already.
    #[error("{MAX_WAITING} connections are being made already; try again later")]
    Overloaded,
    /// The relay would not.
    #[error("the relay refused: {0}")]
    Relay(String),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The agent stops.
    #[error("this agent is stopping")]
    Stopping,
}

/// Whether a node that two cannot do without may pass their bytes on: it bears all of them twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relays {
    /// Where nothing else leads there.
    Allowed,
    /// What is wanted may be had elsewhere.
    Spared,
}

/// What a way led to.
enum Reached {
    Stream(Box<PeerStream>),
    /// A link, which comes up as any other.
    Link,
}

impl Reached {
    /// The stream. On lane [`Lane::Stream`] nothing else is reached.
    fn stream(self) -> Result<Box<PeerStream>, WayError> {
        match self {
            Self::Stream(stream) => Ok(stream),
            Self::Link => Err(WayError::Stopping),
        }
    }
}

/// Who promised to dial back, and who waits for it.
type Promise = (NodeId, oneshot::Sender<Box<PeerStream>>);
/// How a dial ended.
type Dialled = Result<Reached, DialFailure>;

/// The way to streams. Cheap to clone.
#[derive(Clone)]
pub struct Reach {
    shared: Arc<Shared>,
}

struct Shared {
    transport: TransportHandle,
    wishes: mpsc::Sender<Request>,
    channels: Channels,
    next_dial: AtomicU64,
    dials: Mutex<HashMap<DialId, oneshot::Sender<Dialled>>>,
    /// Streams that nodes promised to dial back, by what they will show.
    promised: Mutex<HashMap<Cookie, Promise>>,
    relay: Relay,
    /// Room for errands of other nodes.
    errands: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Reach {
    /// The way over `transport`; `wishes` go to the main loop.
    #[must_use]
    pub fn new(
        transport: TransportHandle,
        wishes: mpsc::Sender<Request>,
        channels: Channels,
    ) -> Self {
        let shared = Shared {
            transport,
            wishes,
            channels,
            next_dial: AtomicU64::new(FIRST_DIAL),
            dials: Mutex::default(),
            promised: Mutex::default(),
            relay: Relay::default(),
            errands: Arc::new(Semaphore::new(serve::MAX_ERRANDS)),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The channels of applications at this node.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.shared.channels
    }

    /// Pairs of other nodes whose bytes are passed on now, and the bytes of all so far.
    #[must_use]
    pub fn relayed(&self) -> (usize, u64) {
        self.shared.relay.load()
    }

    /// Opens a stream to a member.
    ///
    /// # Errors
    /// [`ReachError`] says what each way came to.
    pub async fn stream_to(&self, node: NodeId) -> Result<Box<PeerStream>, ReachError> {
        let there = self.whereabouts(node).await?;
        let dialled = match self.stream_by_dial(node, there.addresses.clone()).await {
            Ok(stream) => return Ok(stream),
            Err(why) => Box::new(why),
        };
        let back = match self.dialled_back(node, &there).await {
            Ok(stream) => return Ok(stream),
            Err(why) => Box::new(why),
        };
        let met = self.met(node, &there, Lane::Stream).await.and_then(Reached::stream);
        met.map_err(|met| ReachError::Nowhere {
            name: there.name,
            dialled,
            back,
            met: Box::new(met),
        })
    }

    /// Makes a bulk link to a member. It comes up at about the time at which this returns, as one
    /// that was dialled or as one that came in.
    ///
    /// # Errors
    /// [`ReachError`] says what each way came to.
    pub async fn link_to(&self, node: NodeId, relays: Relays) -> Result<(), ReachError> {
        let there = self.whereabouts(node).await?;
        let dialled = match self.dialled(node, there.addresses.clone(), Lane::Bulk).await {
            Ok(_) => return Ok(()),
            Err(why) => Box::new(why),
        };
        let body = LinkBack { addresses: there.ours.clone() }.to_body();
        let back = match self.ask(node, service::LINK_BACK, body).await {
            Ok(_) => return Ok(()),
            Err(why) => Box::new(why),
        };
        let met = match relays {
            Relays::Allowed => self.met(node, &there, Lane::Bulk).await,
            Relays::Spared => Err(WayError::NotTried),
        };
        met.map(drop).map_err(|met| ReachError::Nowhere {
            name: there.name,
            dialled,
            back,
            met: Box::new(met),
        })
    }

    async fn whereabouts(&self, node: NodeId) -> Result<Whereabouts, ReachError> {
        let (reply, answer) = oneshot::channel();
        self.wish(Wish::Whereabouts { node, reply }).await.ok_or(ReachError::Stopping)?;
        answer.await.map_err(|_| ReachError::Stopping)?.ok_or(ReachError::NotPresent)
    }

    /// Begins what ends as a dial of `node` does, and waits for that.
    async fn dial(
        &self,
        node: NodeId,
        begin: impl FnOnce(DialId, &TransportHandle),
    ) -> Result<Reached, WayError> {
        let (tell, told) = oneshot::channel();
        let dial = DialId(self.shared.next_dial.fetch_add(1, Ordering::Relaxed));
        {
            let mut dials = lock(&self.shared.dials);
            dials.retain(|_, waits| !waits.is_closed());
            if dials.len() >= MAX_WAITING {
                return Err(WayError::Overloaded);
            }
            dials.insert(dial, tell);
        }
        tracing::debug!(%node, dial = dial.0, "dialling");
        begin(dial, &self.shared.transport);
        Ok(told.await.map_err(|_| WayError::Stopping)??)
    }

    /// The first way.
    async fn dialled(
        &self,
        node: NodeId,
        addresses: Vec<SocketAddr>,
        lane: Lane,
    ) -> Result<Reached, WayError> {
        self.dial(node, |dial, transport| transport.dial(dial, addresses, Some(node), lane)).await
    }

    async fn stream_by_dial(
        &self,
        node: NodeId,
        addresses: Vec<SocketAddr>,
    ) -> Result<Box<PeerStream>, WayError> {
        self.dialled(node, addresses, Lane::Stream).await.and_then(Reached::stream)
    }

    /// The second way.
    async fn dialled_back(
        &self,
        node: NodeId,
        there: &Whereabouts,
    ) -> Result<Box<PeerStream>, WayError> {
        let cookie = Cookie::random()?;
        let (tell, told) = oneshot::channel();
        lock(&self.shared.promised).insert(cookie, (node, tell));
        let asked = async {
            let body = DialBack { cookie, addresses: there.ours.clone() }.to_body();
            self.ask(node, service::DIAL_BACK, body).await?;
            told.await.map_err(|_| WayError::Stopping)
        };
        let outcome = timeout(WAY_WITHIN, asked).await;
        lock(&self.shared.promised).remove(&cookie);
        outcome.unwrap_or(Err(WayError::TimedOut))
    }

    /// The third way.
    async fn met(
        &self,
        node: NodeId,
        there: &Whereabouts,
        lane: Lane,
    ) -> Result<Reached, WayError> {
        let mut last = WayError::NoRelay;
        for (relay, addresses) in there.relays.iter().take(MAX_RELAYS) {
            let at = self.met_at((node, lane), *relay, addresses.clone());
            match timeout(WAY_WITHIN * 2, at).await {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(why)) => last = why,
                Err(_) => last = WayError::TimedOut,
            }
        }
        Err(last)
    }

    async fn met_at(
        &self,
        (node, lane): (NodeId, Lane),
        relay: NodeId,
        addresses: Vec<SocketAddr>,
    ) -> Result<Reached, WayError> {
        let cookie = Cookie::random()?;
        let meet = Meet { cookie, relay, addresses: addresses.clone() };
        // The relay first: a node that cannot reach it need not trouble the other.
        let stream = self.stream_to_relay(relay, addresses, cookie).await?;
        self.ask(node, service::MEET, meet.to_body()).await?;
        let stream = granted(stream).await?;
        self.dial(node, |dial, transport| {
            transport.over(stream, Over::Dial { dial, expected: node, lane });
        })
        .await
    }

    /// Dials a relay and shows it the cookie.
    async fn stream_to_relay(
        &self,
        relay: NodeId,
        addresses: Vec<SocketAddr>,
        cookie: Cookie,
    ) -> Result<Box<PeerStream>, WayError> {
        let mut stream = self.stream_by_dial(relay, addresses).await?;
        stream.write_frame(kind::MEET, &cookie.0).await?;
        Ok(stream)
    }

    async fn ask(&self, to: NodeId, service: u8, body: Bytes) -> Result<Bytes, WayError> {
        let (reply, answer) = oneshot::channel();
        let wish = Wish::Ask { to, service, body, within: WAY_WITHIN, reply };
        self.wish(wish).await.ok_or(WayError::Stopping)?;
        Ok(answer.await.map_err(|_| WayError::Stopping)??)
    }

    async fn wish(&self, wish: Wish) -> Option<()> {
        self.shared.wishes.send(Request::Reach(wish)).await.ok()
    }
}

/// Waits until what the first frame of a stream asked for is granted.
pub(crate) async fn granted(mut stream: Box<PeerStream>) -> Result<Box<PeerStream>, WayError> {
    let answer = timeout(WAY_WITHIN, stream.read_frame(message::MAX_FIRST_BYTES)).await;
    let answer = answer.map_err(|_| WayError::TimedOut)??;
    if answer.kind == kind::GRANTED {
        return Ok(stream);
    }
    Err(WayError::Relay(message::text(&answer.body)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
