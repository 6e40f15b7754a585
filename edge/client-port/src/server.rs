//! Listeners: who may come in, and how all are sent home at the end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use skep_base::NodeName;
use skep_export::Came;
use skep_identity::{IdentityHandle, Role, tls};
use skep_lines::{Reply, code};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::backend::{Ask, Caller, ClientId, Provenance, Spools, Who};
use crate::body::Spool;
use crate::config::Config;
use crate::session::Session;

/// Clients that are being told why they are turned away.
const MAX_TURNED_AWAY: usize = 64;
/// How long that may take.
const TURN_AWAY_TIME: Duration = Duration::from_secs(2);
/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a listener rests when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long clients get to take their last replies when the agent stops.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// When the kernel begins to ask whether a quiet subscriber is still there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What the port listens on; opened by its owner.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Unix sockets, whose files say who may connect.
    pub local: Vec<UnixListener>,
    /// TCP without TLS.
    pub plain: Vec<std::net::TcpListener>,
    /// TCP with TLS.
    pub tls: Vec<std::net::TcpListener>,
}

/// What TLS is spoken with.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The node's own identity.
    pub identity: IdentityHandle,
    /// The clock and the grace by which clients are judged.
    pub settings: tls::Settings,
}

/// Whether a client may stop the agent by `exit` (FLOOD-13).
pub type MayExit = Arc<dyn Fn(&Who) -> bool + Send + Sync>;

/// What the port is told of the agent behind it.
#[derive(Clone)]
pub struct Host {
    /// The greeting names it.
    pub node: NodeName,
    /// And its build.
    pub version: String,
    /// Where long bodies are laid down while they come in.
    pub spools: Arc<dyn Spools>,
    /// Who may stop it.
    pub may_exit: MayExit,
    /// Which clients belong to export commands.
    pub provenance: Arc<dyn Provenance>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, version, spools, .. } = self;
        write!(f, "Host({node}, {version}, {spools:?})")
    }
}

/// A running port. Dropped, it goes on; [`ClientPort::stop`] ends it.
#[derive(Debug)]
pub struct ClientPort {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    plain: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) host: Host,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) counts: Counts,
    own_uid: u32,
    clients: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    next_client: AtomicU64,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) bodies: AtomicU64,
    pub(crate) broken_off: AtomicU64,
    pub(crate) too_slow: AtomicU64,
    pub(crate) pushed: AtomicU64,
    /// Bytes that wait to be written to clients, now.
    pub(crate) waiting: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// Serves clients until [`ClientPort::stop`].
///
/// # Errors
/// A listener that the runtime does not take, or a provider that cannot do TLS 1.3.
pub fn start(
    listeners: Listeners,
    tls: Option<Tls>,
    config: Config,
    host: Host,
    asks: mpsc::Sender<Ask>,
) -> io::Result<ClientPort> {
    let shared = Arc::new(Shared {
        asks,
        memory: Arc::new(Semaphore::new(config.memory.min(Semaphore::MAX_PERMITS))),
        spool: Spool::new(Arc::clone(&host.spools), config.spool),
        host,
        counts: Counts::default(),
        own_uid: own_uid()?,
        clients: Arc::new(Semaphore::new(config.clients)),
        turned_away: Arc::new(Semaphore::new(MAX_TURNED_AWAY)),
        next_client: AtomicU64::new(0),
        config,
    });
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for listener in listeners.local {
        tasks.spawn(accept_local(Arc::clone(&shared), listener, stopping.clone()));
    }
    let mut port =
        ClientPort { stop, tasks, plain: Vec::new(), tls: Vec::new(), shared: Arc::clone(&shared) };
    for listener in listeners.plain {
        let listener = TcpListener::from_std(listener)?;
        port.plain.push(listener.local_addr()?);
        port.tasks.spawn(accept(Arc::clone(&shared), listener, None, stopping.clone()));
    }
    if let (Some(tls), false) = (tls, listeners.tls.is_empty()) {
        let config = tls::application_server_config(&tls.identity, &tls.settings);
        let config = config.map_err(io::Error::other)?;
        for listener in listeners.tls {
            let listener = TcpListener::from_std(listener)?;
            port.tls.push(listener.local_addr()?);
            let secure = Some(Secure { tls: tls.clone(), config: Arc::clone(&config) });
            port.tasks.spawn(accept(Arc::clone(&shared), listener, secure, stopping.clone()));
        }
    }
    Ok(port)
}

impl ClientPort {
    /// Where it listens without TLS.
    #[must_use]
    pub fn plain(&self) -> &[SocketAddr] {
        &self.plain
    }

    /// Where it listens with TLS.
    #[must_use]
    pub fn tls(&self) -> &[SocketAddr] {
        &self.tls
    }

    /// Clients that are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.shared.config.clients - self.shared.clients.available_permits()
    }

    /// Tells all clients that the agent stops, and waits a moment until they took it.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(DRAIN_TIME * 2, all).await.is_err() {
            tracing::debug!("some clients did not take their last reply");
        }
    }
}

/// The user that this process runs as.
fn own_uid() -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").map(|metadata| metadata.uid())
}

struct Secure {
    tls: Tls,
    config: Arc<ServerConfig>,
}

impl Shared {
    pub(crate) fn client(&self) -> ClientId {
        ClientId(self.next_client.fetch_add(1, Ordering::Relaxed))
    }

    /// Figures of the port itself, for `statistics`.
    pub(crate) fn statistics(&self) -> Vec<skep_lines::Statistic> {
        let counts = &self.counts;
        let now = (self.config.clients - self.clients.available_permits()) as u64;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("clients", now, "connected"),
            ("clients_accepted", read(&counts.accepted), "connections served"),
            ("clients_turned_away", read(&counts.turned_away), "connections over the limit"),
            ("clients_too_slow", read(&counts.too_slow), "clients that took nothing for too long"),
            ("client_commands", read(&counts.commands), "commands"),
            ("client_bodies", read(&counts.bodies), "bodies that came whole"),
            ("client_bodies_broken_off", read(&counts.broken_off), "bodies that did not"),
            ("client_updates_pushed", read(&counts.pushed), "updates pushed to subscribers"),
            ("client_spool_bytes", self.spool.used(), "bytes of long bodies that are coming in"),
        ]
        .map(|(name, value, help)| skep_lines::Statistic {
            name: name.to_owned(),
            value,
            help: help.to_owned(),
        })
        .into()
    }
}

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    secure: Option<Secure>,
    mut stop: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = clients.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&error).await;
                continue;
            }
        };
        match Arc::clone(&shared.clients).try_acquire_owned() {
            Ok(place) => {
                let shared = Arc::clone(&shared);
                let secure = secure.as_ref().map(|secure| {
                    (TlsAcceptor::from(Arc::clone(&secure.config)), secure.tls.clone())
                });
                clients.spawn(serve_tcp(shared, stream, remote, secure, place, stop.clone()));
            }
            // A client that wants TLS could not read a reason.
            Err(_) if secure.is_some() => Counts::add(&shared.counts.turned_away, 1),
            Err(_) => turn_away(&shared, stream),
        }
    }
    drain(clients).await;
}

async fn accept_local(
    shared: Arc<Shared>,
    listener: UnixListener,
    mut stop: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = clients.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                accept_failed(&error).await;
                continue;
            }
        };
        match Arc::clone(&shared.clients).try_acquire_owned() {
            Ok(place) => {
                clients.spawn(serve_local(Arc::clone(&shared), stream, place, stop.clone()));
            }
            Err(_) => turn_away(&shared, stream),
        }
    }
    drain(clients).await;
}

async fn drain(mut clients: JoinSet<()>) {
    let all = async { while clients.join_next().await.is_some() {} };
    if timeout(DRAIN_TIME, all).await.is_err() {
        clients.shutdown().await;
    }
}

async fn accept_failed(error: &io::Error) {
    let of_one = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if !of_one.contains(&error.kind()) {
        tracing::warn!(%error, "cannot accept clients, trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn serve_local(
    shared: Arc<Shared>,
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
) {
    let (uid, pid) = match stream.peer_cred() {
        Ok(credentials) => (credentials.uid(), credentials.pid()),
        Err(error) => return tracing::debug!(%error, "a client went before it was served"),
    };
    let came = came_from(&shared, pid.map(Caller::Process)).await;
    let operator = uid == 0 || uid == shared.own_uid;
    Session::new(shared, Who::Local { uid, operator }, came, stop).run(stream).await;
}

async fn serve_tcp(
    shared: Arc<Shared>,
    stream: TcpStream,
    remote: SocketAddr,
    secure: Option<(TlsAcceptor, Tls)>,
    _place: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        return tracing::debug!(%remote, %error, "a client went before it was served");
    }
    let ours = stream.local_addr().ok();
    let caller = ours.map(|ours| Caller::Tcp { ours, theirs: remote });
    let came = came_from(&shared, caller).await;
    let Some((acceptor, tls)) = secure else {
        return Session::new(shared, Who::Plain(remote), came, stop).run(stream).await;
    };
    let stream = match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%remote, %error, "a client was refused"),
        Err(_) => return tracing::info!(%remote, "a client did not finish its handshake"),
    };
    match tls::peer(stream.get_ref().1, &tls.identity, &tls.settings) {
        Ok((info, _)) => {
            let operator = info.roles.contains(Role::Operator);
            let who = Who::Certified { node: info.node, operator };
            Session::new(shared, who, came, stop).run(stream).await;
        }
        Err(error) => tracing::info!(%remote, %error, "a client was refused"),
    }
}

/// The batches of export commands that a client seems to belong to. Looked up when it connects,
/// before it can be gone.
async fn came_from(shared: &Arc<Shared>, caller: Option<Caller>) -> Arc<[Came]> {
    let provenance = &shared.host.provenance;
    let Some(caller) = caller.filter(|_| provenance.any()) else {
        return Arc::default();
    };
    let provenance = Arc::clone(provenance);
    let looked = tokio::task::spawn_blocking(move || provenance.of(caller)).await;
    looked.unwrap_or_default().into()
}

/// Says in one line that there is no place, unless too many are being told already.
fn turn_away(shared: &Arc<Shared>, mut stream: impl AsyncWrite + Unpin + Send + 'static) {
    Counts::add(&shared.counts.turned_away, 1);
    let Ok(place) = Arc::clone(&shared.turned_away).try_acquire_owned() else {
        return;
    };
    let text = format!("{} serves {} clients already", shared.host.node, shared.config.clients);
    tokio::spawn(async move {
        let mut line = Vec::new();
        Reply::new(code::GOING, text).write(&mut line);
        let told = async {
            stream.write_all(&line).await?;
            stream.shutdown().await
        };
        if timeout(TURN_AWAY_TIME, told).await.is_err() {
            tracing::debug!("a client that was turned away did not listen");
        }
        drop(place);
    });
}
