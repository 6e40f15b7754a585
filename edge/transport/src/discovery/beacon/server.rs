//! The beacon as a service: sockets around the [`Directory`].

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use skep_base::Rng;
use skep_identity::BeaconKey;
use skep_wire::{FrameReader, Lane, decode, encode, write_frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::directory::{Directory, Limits};
use super::message::{MAX_REGISTER_BYTES, Refused, Register, kind};
use crate::Config;
use crate::admission::{Admission, Entry};
use crate::handshake::{ReadError, read_frame};
use crate::socket::{Socket, SocketIo};

/// How long a question may take, from the connection to the answer.
const QUESTION_LIMIT: Duration = Duration::from_secs(8);
/// How long an answered asker may take to close.
const LINGER: Duration = Duration::from_secs(1);
/// How long a listener rests when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MAX_HANDSHAKES: usize = 32;
const MAX_WAITING: usize = 1024;

/// A running beacon. Ends when dropped.
#[derive(Debug)]
pub struct BeaconServer {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    _stop: DropGuard,
}

/// What a beacon did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BeaconStats {
    /// Entries held.
    pub entries: usize,
    /// Questions answered with peers.
    pub answered: u64,
    /// Questions refused, and connections that asked none.
    pub refused: u64,
}

struct Shared {
    tls: Arc<ServerConfig>,
    config: Config,
    admission: Admission,
    directory: Mutex<Directory>,
    answered: AtomicU64,
    refused: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beacon").finish_non_exhaustive()
    }
}

impl BeaconServer {
    /// Starts a beacon on the current tokio runtime. Sockets come from [`crate::bind`].
    ///
    /// # Errors
    /// The system's, for a socket that cannot be used, or TLS's, for the key.
    pub fn start(
        listeners: Vec<std::net::TcpListener>,
        key: &BeaconKey,
        limits: Limits,
        rng: Rng,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            tls: key.server_config().map_err(io::Error::other)?,
            config: Config::default(),
            admission: Admission::new(MAX_HANDSHAKES, MAX_WAITING),
            directory: Mutex::new(Directory::new(limits, rng)),
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        });
        let mut addresses = Vec::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            addresses.push(listener.local_addr()?);
            shared.tasks.spawn(accept(Arc::clone(&shared), listener));
        }
        Ok(Self { shared, addresses, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> BeaconStats {
        BeaconStats {
            entries: self.shared.entries(),
            answered: self.shared.answered.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }

    /// Stops, and returns when all its tasks have ended.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn entries(&self) -> usize {
        let directory = self.directory.lock();
        directory.unwrap_or_else(PoisonError::into_inner).len()
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                shared.tasks.spawn(serve(Arc::clone(&shared), stream, from));
            }
            Err(error) => {
                tracing::debug!(%error, "the beacon cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr) {
    let outcome = tokio::select! {
        () = shared.stop.cancelled() => return,
        outcome = timeout(QUESTION_LIMIT, converse(&shared, stream, from)) => outcome,
    };
    let failure = match outcome {
        Ok(Ok(())) => {
            shared.answered.fetch_add(1, Ordering::Relaxed);
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "not done in time".to_owned(),
    };
    shared.refused.fetch_add(1, Ordering::Relaxed);
    // Strangers are the beacon's daily bread: they are counted, and not worth a warning each.
    tracing::debug!(%from, "no answer given: {failure}");
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("too many wait already")]
    Busy,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Question(#[from] ReadError),
    #[error(transparent)]
    Refused(#[from] Refused),
}

async fn converse(shared: &Shared, stream: TcpStream, from: SocketAddr) -> Result<(), Failure> {
    let place = match shared.admission.enter(from.ip()) {
        Entry::Now(place) => place,
        Entry::Later(turn) => turn.await.map_err(|_| Failure::Busy)?,
        Entry::Full => return Err(Failure::Busy),
    };
    let socket = Arc::new(Socket::new(stream, from, &shared.config, &Arc::default())?);
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.tls));
    let tls = acceptor.accept(SocketIo::direct(Arc::clone(&socket))).await?;
    let mut tls = TlsStream::from(tls);
    let mut reader = FrameReader::new(Lane::Control);
    let frame = read_frame(&mut tls, &mut reader, MAX_REGISTER_BYTES).await?;
    let answer = match decode::<Register>("register", &frame.body) {
        Ok(question) if frame.kind == kind::REGISTER => {
            let directory = shared.directory.lock();
            let mut directory = directory.unwrap_or_else(PoisonError::into_inner);
            directory.register(Instant::now(), from, question)
        }
        Ok(_) | Err(_) => Err(Refused::Malformed),
    };
    let mut bytes = Vec::new();
    match &answer {
        Ok(peers) => write_frame(kind::PEERS, &encode(peers), &mut bytes),
        Err(refused) => write_frame(kind::REFUSED, &encode(refused), &mut bytes),
    }
    tls.write_all(&bytes).await?;
    tls.shutdown().await?;
    drop(place);
    socket.linger(LINGER).await;
    answer.map(drop).map_err(Failure::from)
}
