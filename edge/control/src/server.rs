//! The server: accepts, judges the caller by the kernel's word, serves HTTP/1.1 within bounds.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::access::{Access, Caller, Permission};
use crate::api::{Code, Refusal};
use crate::backend::Backend;
use crate::routes;
use crate::socket::{self, ListenError, SocketFile};

/// Clients served at a time. A person has a few terminals, a monitor a few connections.
pub const MAX_CLIENTS: usize = 64;
/// Of these, clients who only read: they can never keep an operator out.
pub const MAX_READERS: usize = 48;
/// Clients that are being told why they are not served.
const MAX_TURNED_AWAY: usize = 4;
/// How long telling them may take.
const TURN_AWAY_TIME: Duration = Duration::from_secs(2);
/// How long a request's head may take, and how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// How long clients get to take their answers when the agent stops.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How long to wait after the kernel would not give us a connection: too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the API is offered, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The socket's path. Choose one in a directory that only administrators can write to; at most
    /// [`socket::MAX_SOCKET_PATH_BYTES`] less some for the process number.
    pub socket: PathBuf,
    /// The group, by name or number, whose members may read. Choose a group for people who watch
    /// the fleet and do not run it. Where it does not exist, only operators connect.
    pub group: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/skep/control.sock"), group: "skep".to_owned() }
    }
}

/// Why a [`Config`] is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Relative paths depend on where the agent was started.
    #[error("control.socket must be an absolute path, not {}", .0.display())]
    Relative(PathBuf),
    /// The path does not fit.
    #[error("control.socket has {length} bytes, and a unix socket's path has room for {room}")]
    TooLong {
        /// As given.
        length: usize,
        /// As possible.
        room: usize,
    },
    /// No group has that name.
    #[error("control.group must be a group's name or number, not {0:?}")]
    Group(String),
}

impl Config {
    /// Room for `.` and a process number behind the path while the socket is being made.
    const SUFFIX_BYTES: usize = 8;

    /// Checks what can be checked without touching the system.
    ///
    /// # Errors
    /// The first setting that cannot be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.socket.is_absolute() {
            return Err(ConfigError::Relative(self.socket.clone()));
        }
        let (length, room) =
            (self.socket.as_os_str().len(), socket::MAX_SOCKET_PATH_BYTES - Self::SUFFIX_BYTES);
        if length > room {
            return Err(ConfigError::TooLong { length, room });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.$".contains(c);
        if self.group.is_empty() || self.group.len() > 64 || !self.group.chars().all(allowed) {
            return Err(ConfigError::Group(self.group.clone()));
        }
        Ok(())
    }
}

/// A control socket that is there and not yet served.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    file: SocketFile,
    access: Access,
}

/// Makes the control socket. Clients connect from now on and wait until it is served.
///
/// # Errors
/// [`ListenError`] names the path and what to do.
pub async fn listen(config: &Config) -> Result<Listening, ListenError> {
    let readers = socket::group_number(&config.group).map_err(|source| ListenError::Io {
        what: "look the readers' group up in",
        path: PathBuf::from("/etc/group"),
        source,
    })?;
    let own_uid = rustix::process::geteuid().as_raw();
    let (listener, file, readers) = match socket::bind(&config.socket, readers).await {
        Ok((listener, file)) => (listener, file, readers),
        // An ordinary user cannot give a file to a group that he is not in, and has no need to.
        Err(ListenError::Io { source, .. })
            if own_uid != 0 && source.kind() == io::ErrorKind::PermissionDenied =>
        {
            let (listener, file) = socket::bind(&config.socket, None).await?;
            (listener, file, None)
        }
        Err(error) => return Err(error),
    };
    if readers.is_none() {
        tracing::info!(
            group = config.group,
            "no such group, or not ours to give: only root and the agent's own user may connect"
        );
    }
    let access = Access { own_uid, readers };
    Ok(Listening { listener, file, access })
}

impl Listening {
    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Serves until `stop` is ready; then no one new is let in, answers under way are finished
    /// within two seconds, and the socket file is removed.
    pub async fn serve(self, backend: Backend, stop: impl Future<Output = ()> + Send) {
        let slots = Slots::new();
        let router = routes::router(backend);
        let (stopping, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = clients.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &slots, &router, &stopped, &mut clients),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept on the control socket");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        let Self { listener, file, .. } = self;
        drop(file);
        drop(listener);
        stopping.send_replace(true);
        let drained = async { while clients.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
            clients.shutdown().await;
        }
    }

    fn admit(
        &self,
        stream: UnixStream,
        slots: &Slots,
        router: &axum::Router,
        stopped: &watch::Receiver<bool>,
        clients: &mut JoinSet<()>,
    ) {
        let caller = match socket::peer_credentials(&stream) {
            Ok(credentials) => Caller {
                uid: credentials.uid,
                pid: credentials.pid,
                permission: self.access.judge(&credentials),
            },
            Err(error) => {
                tracing::warn!(%error, "the kernel does not say who connected; closing");
                return;
            }
        };
        match slots.take(&caller) {
            Ok(slot) => {
                let router = router.clone().layer(axum::Extension(caller));
                let stopped = stopped.clone();
                clients.spawn(async move {
                    converse(stream, router, stopped).await;
                    drop(slot);
                });
            }
            Err(refusal) => {
                tracing::warn!(%caller, %refusal, "turned a client away");
                if let Ok(slot) = Arc::clone(&slots.turned_away).try_acquire_owned() {
                    clients.spawn(async move {
                        turn_away(stream, refusal).await;
                        drop(slot);
                    });
                }
            }
        }
    }
}

/// How many of each kind are being served.
struct Slots {
    operators: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

impl Slots {
    fn new() -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self {
            operators: slots(MAX_CLIENTS - MAX_READERS),
            readers: slots(MAX_READERS),
            turned_away: slots(MAX_TURNED_AWAY),
        }
    }

    /// A slot for `caller`, or what to tell him. Operators use the readers' slots while there are
    /// any, and their own then.
    fn take(&self, caller: &Caller) -> Result<OwnedSemaphorePermit, Refusal> {
        let free = |slots: &Arc<Semaphore>| Arc::clone(slots).try_acquire_owned().ok();
        let slot = match caller.permission {
            None => return Err(routes::denied(caller, Permission::Read)),
            Some(Permission::Read) => free(&self.readers),
            Some(Permission::Operate) => free(&self.readers).or_else(|| free(&self.operators)),
        };
        slot.ok_or_else(|| {
            Refusal::new(Code::Busy, format!("the agent serves {MAX_CLIENTS} clients already"))
                .hint("close some: look for `skep events --follow` and `skep wave watch`")
        })
    }
}

async fn converse(stream: UnixStream, router: axum::Router, mut stopped: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let told_to_stop = async {
        // An error means that the server itself is gone.
        drop(stopped.wait_for(|stopped| *stopped).await);
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told_to_stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a control client went away in mid-sentence");
    }
}

async fn turn_away(stream: UnixStream, refusal: Refusal) {
    let answer = service_fn(move |_request| {
        let response = refusal.clone().into_response();
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    if let Ok(Err(error)) = tokio::time::timeout(TURN_AWAY_TIME, connection).await {
        tracing::debug!(%error, "a client left before it was told why it is not served");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(permission: Option<Permission>) -> Caller {
        Caller { uid: 1000, pid: None, permission }
    }

    #[test]
    fn readers_never_keep_operators_out() {
        let slots = Slots::new();
        let reader = caller(Some(Permission::Read));
        let held: Vec<_> = (0..MAX_READERS).map(|_| slots.take(&reader).unwrap()).collect();
        assert_eq!(slots.take(&reader).unwrap_err().code, Code::Busy);
        let operator = caller(Some(Permission::Operate));
        let more: Vec<_> =
            (MAX_READERS..MAX_CLIENTS).map(|_| slots.take(&operator).unwrap()).collect();
        assert_eq!(slots.take(&operator).unwrap_err().code, Code::Busy);
        drop(held);
        assert!(slots.take(&reader).is_ok());
        assert_eq!(more.len(), MAX_CLIENTS - MAX_READERS);
    }

    #[test]
    fn strangers_are_told_how_to_become_readers() {
        let refusal = Slots::new().take(&caller(None)).unwrap_err();
        assert_eq!(refusal.code, Code::Denied);
        assert!(refusal.hint.unwrap().contains("group"));
    }

    #[test]
    fn configurations_that_cannot_work_are_refused() {
        assert_eq!(Config::default().validate(), Ok(()));
        let with =
            |socket: &str, group: &str| Config { socket: socket.into(), group: group.to_owned() };
        assert!(matches!(with("run/x", "skep").validate(), Err(ConfigError::Relative(_))));
        assert!(matches!(
            with(&format!("/{}", "x".repeat(107)), "skep").validate(),
            Err(ConfigError::TooLong { length: 108, .. })
        ));
        assert!(matches!(with("/run/x", "a:b").validate(), Err(ConfigError::Group(_))));
    }
}
