//! The agent's side: how the transport is started, told what to do and asked.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skep_base::NodeId;
use skep_identity::{IdentityHandle, tls};
use skep_wire::{Hello, Lane};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{Config, ConfigError};
use crate::dial::{self, Wanted};
use crate::event::{DialFailure, DialId, Event, LinkId};
use crate::fault::RefuseReason;
use crate::listen;
use crate::shared::Shared;
use crate::socket::LinkSample;
use crate::stream::PeerStream;

/// Events that may wait for the agent. Frames are bounded by their bytes as well.
const EVENT_QUEUE: usize = 4096;
/// What the drain of a shutdown may take beyond that of its links.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Gives the hello of this node as it is now, for each handshake anew.
pub trait LocalHello: Send + Sync + 'static {
    /// The hello of a connection of the given lane.
    fn hello(&self, lane: Lane) -> Hello;
}

impl<F: Fn(Lane) -> Hello + Send + Sync + 'static> LocalHello for F {
    fn hello(&self, lane: Lane) -> Hello {
        self(lane)
    }
}

/// Why the transport cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS cannot be set up.
    #[error("cannot set TLS up")]
    Tls(#[source] rustls::Error),
    /// A listening socket cannot be used.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is down or closing.
    #[error("the link is down")]
    Down,
    /// The peer's queue was full, and its link is now closed for it.
    #[error("the peer takes too little; its link is closed")]
    TooSlow,
    /// More than the whole queue holds.
    #[error("more than the link's queue holds")]
    TooLong,
}

/// What the transport did so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Links that are up.
    pub links: usize,
    /// Incoming handshakes worked on, and waiting.
    pub handshakes: (usize, usize),
    /// Bytes received over all connections so far, TLS included and IP headers not.
    pub received_bytes: u64,
    /// Bytes sent, likewise.
    pub sent_bytes: u64,
    /// How often peers were refused, by reason; reasons that were never met are left out.
    pub refused: Vec<(RefuseReason, u64)>,
}

/// The transport of one agent. Cheap to clone; when the last clone is dropped, all links close.
#[derive(Clone)]
pub struct TransportHandle {
    shared: Arc<Shared>,
    listeners: Arc<Mutex<HashMap<SocketAddr, CancellationToken>>>,
    _guard: Arc<LastHandle>,
}

struct LastHandle {
    shared: Arc<Shared>,
    _closing: DropGuard,
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.shared.registry.close_all("the agent has ended");
    }
}

/// Starts the transport on the current tokio runtime.
///
/// `listeners` may come from [`crate::bind`], from the service manager or from a test; more can be
/// added later. `settings` holds the clock by which certificates are judged. Events must be read:
/// links are not read while nobody takes what they bring.
///
/// # Errors
/// [`StartError`]. Nothing runs then.
pub fn start(
    listeners: Vec<std::net::TcpListener>,
    identity: IdentityHandle,
    settings: tls::Settings,
    config: Config,
    hello: impl LocalHello,
) -> Result<(TransportHandle, mpsc::Receiver<Event>), StartError> {
    config.validate()?;
    let (events, receiver) = mpsc::channel(EVENT_QUEUE);
    let shared = Shared::new(config, identity, settings, Arc::new(hello), events)
        .map_err(StartError::Tls)?;
    let shared = Arc::new(shared);
    let guard =
        LastHandle { _closing: shared.closing.clone().drop_guard(), shared: Arc::clone(&shared) };
    let handle = TransportHandle { shared, listeners: Arc::default(), _guard: Arc::new(guard) };
    for listener in listeners {
        handle.add_listener(listener).map_err(StartError::Listen)?;
    }
    Ok((handle, receiver))
}

/// Which half of a handshake this node makes within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The dialler's.
    Dial {
        /// Names the attempt, as in [`TransportHandle::dial`].
        dial: DialId,
        /// Who must be there.
        expected: NodeId,
        /// What for.
        lane: Lane,
    },
    /// The acceptor's.
    Accept,
}

impl TransportHandle {
    /// Listens on one more socket, and says at which address.
    ///
    /// # Errors
    /// The system's, when the socket cannot be used.
    pub fn add_listener(&self, listener: std::net::TcpListener) -> io::Result<SocketAddr> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let stop = self.shared.closing.child_token();
        if let Some(previous) = self.lock_listeners().insert(address, stop.clone()) {
            previous.cancel();
        }
        let accepting = listen::run(Arc::clone(&self.shared), listener, stop);
        self.shared.tasks.spawn(accepting);
        Ok(address)
    }

    /// Stops listening at `address`. Links that came in there stay. False when nobody listens.
    pub fn remove_listener(&self, address: SocketAddr) -> bool {
        let stop = self.lock_listeners().remove(&address);
        stop.is_some_and(|stop| {
            stop.cancel();
            true
        })
    }

    /// Where the transport listens.
    #[must_use]
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self.lock_listeners().keys().copied().collect();
        addresses.sort_unstable();
        addresses
    }

    /// Says whether those without a certificate are let in to ask for one.
    pub fn serve_enrolment(&self, serves: bool) {
        self.shared.serves_enrolment.store(serves, Ordering::Relaxed);
    }

    /// Makes a link to whoever answers first at one of `addresses`, which must be the node
    /// `expected` or, without one, any node of the bloc. Ends in [`Event::LinkUp`] or
    /// [`Event::DialFailed`] with the same `dial`.
    pub fn dial(
        &self,
        dial: DialId,
        addresses: Vec<SocketAddr>,
        expected: Option<NodeId>,
        lane: Lane,
    ) {
        let shared = Arc::clone(&self.shared);
        if shared.closing.is_cancelled() {
            let tasks = shared.tasks.clone();
            tasks.spawn(async move {
                dial::report(&shared, dial, DialFailure::Closing, Vec::new()).await;
            });
            return;
        }
        let wanted = Wanted { dial, addresses, expected, lane };
        let tasks = shared.tasks.clone();
        tasks.spawn(dial::run(shared, wanted));
    }

    /// Makes a connection within `stream`, whose other end a third node passes on: the one side
    /// dials and the other accepts, as they agreed. Ends as a dial or a knock does.
    pub fn over(&self, stream: Box<PeerStream>, side: Over) {
        let shared = Arc::clone(&self.shared);
        let tasks = shared.tasks.clone();
        match side {
            Over::Dial { dial, expected, lane } => {
                tasks.spawn(dial::over(shared, stream, dial, expected, lane));
            }
            Over::Accept => {
                tasks.spawn(listen::over(shared, stream));
            }
        }
    }

    /// Queues `frame`, which [`skep_wire::write_frame`] made (several in one are fine). Never
    /// blocks. A peer whose queue it would overrun loses its link.
    ///
    /// # Errors
    /// [`SendError::Down`], or [`SendError::TooSlow`] for the frame that was one too many.
    pub fn send(&self, link: LinkId, frame: Bytes) -> Result<(), SendError> {
        let link = self.shared.registry.get(link).ok_or(SendError::Down)?;
        link.queue.push(frame)
    }

    /// Waits until `bytes` more fit into the link's queue: for senders of bulk.
    ///
    /// # Errors
    /// [`SendError::Down`] when the link ends, [`SendError::TooLong`] for what never fits.
    pub async fn room(&self, link: LinkId, bytes: usize) -> Result<(), SendError> {
        let link = self.shared.registry.get(link).ok_or(SendError::Down)?;
        link.queue.room(bytes).await
    }

    /// Bytes that wait in the link's queue; nothing when it is down.
    #[must_use]
    pub fn queued_bytes(&self, link: LinkId) -> Option<usize> {
        Some(self.shared.registry.get(link)?.queue.bytes())
    }

    /// Sends what waits, tells the peer `reason` and closes. [`Event::LinkDown`] follows.
    pub fn close(&self, link: LinkId, reason: &str) {
        if let Some(link) = self.shared.registry.get(link) {
            link.queue.close(reason);
        }
    }

    /// What the kernel measured on the link; nothing when it is down.
    #[must_use]
    pub fn sample(&self, link: LinkId) -> Option<LinkSample> {
        self.shared.registry.get(link)?.socket.sample()
    }

    /// How long a bare connection to one of `addresses` takes to be there, in turn until one is;
    /// nothing where none comes to be. It is closed again without a word: the kernels of both ends
    /// make it, and no process has a part in the time. The other end counts it as abandoned.
    pub async fn knock(&self, addresses: Vec<SocketAddr>) -> Option<Duration> {
        let limit = self.shared.config.connect_timeout;
        dial::knock(addresses, limit, &self.shared.closing).await
    }

    /// The lane of a link that is up.
    #[must_use]
    pub fn lane(&self, link: LinkId) -> Option<Lane> {
        Some(self.shared.registry.get(link)?.lane)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            links: shared.registry.len(),
            handshakes: shared.admission.counts(),
            received_bytes: shared.totals.received.load(Ordering::Relaxed),
            sent_bytes: shared.totals.sent.load(Ordering::Relaxed),
            refused: shared.refusals.counts(),
        }
    }

    /// The longest that [`TransportHandle::shutdown`] takes.
    #[must_use]
    pub fn shutdown_limit(&self) -> Duration {
        self.shared.config.drain_timeout + SHUTDOWN_GRACE
    }

    /// Stops listening and dialling, tells all peers `reason`, hands over what is queued and
    /// closes. Returns when that is done or [`TransportHandle::shutdown_limit`] is over. Keep
    /// reading events meanwhile, or drop the receiver.
    pub async fn shutdown(&self, reason: &str) {
        self.shared.closing.cancel();
        self.lock_listeners().clear();
        self.shared.registry.close_all(reason);
        self.shared.tasks.close();
        if timeout(self.shutdown_limit(), self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(links = self.shared.registry.len(), "some links did not close in time");
        }
    }

    fn lock_listeners(&self) -> MutexGuard<'_, HashMap<SocketAddr, CancellationToken>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for TransportHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportHandle")
            .field("listeners", &self.listeners())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
