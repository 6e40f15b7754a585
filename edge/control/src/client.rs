//! The typed client: one method a verb, one connection a request, every answer bounded.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_base::{GroupName, ImageName, NodeName};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::api::{
    Accepted, CaStatus, Catalog, CatalogDiff, CatalogHistory, CatalogText, Certificate, Code,
    Commit, Committed, DrawAs, Event, Failure, Flock, Group, Health, Image, ImageDetail,
    ImportCatalog, Imported, JoinAddress, Link, MAX_ANSWER_BYTES, MAX_WAIT_MS, ManageFlock, Member,
    Metric, Notices, NotifyTested, PREFIX, PruneImages, Pruned, Published, ReadEvents, ReadUpdates,
    Recovery, Refusal, RoundTrip, Shutdown, StartWave, Status, TestNotify, Topology, Updates, Wave,
    WaveDetail, WaveId, WhichVersion, WriteCatalog, Written,
};

/// How long an answer may take: longer than the server gives the agent, and than any wait.
const ANSWER_TIME: Duration = Duration::from_millis(MAX_WAIT_MS as u64 + 15_000);
/// The longest line of the event stream.
const MAX_EVENT_BYTES: usize = 64 * 1024;

/// Why the agent could not be asked, or what it said.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no agent listens on {}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket's mode keeps us out.
    #[error("no permission to connect to {}", path.display())]
    NoPermission {
        /// The socket.
        path: PathBuf,
    },
    /// The socket could not be connected to for another reason.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent on {} broke off while it was asked {asked}", path.display())]
    BrokeOff {
        /// The socket.
        path: PathBuf,
        /// Method and path.
        asked: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error(
        "the agent on {} did not answer {asked} in {} s",
        path.display(),
        ANSWER_TIME.as_secs()
    )]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// Method and path.
        asked: String,
    },
    /// The answer cannot be read.
    #[error("cannot understand the agent's answer to {asked}")]
    Malformed {
        /// Method and path.
        asked: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is longer than anything we hold.
    #[error("the agent's answer to {asked} has more than {} bytes", MAX_ANSWER_BYTES)]
    TooLarge {
        /// Method and path.
        asked: String,
    },
    /// The agent says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl ClientError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { path } => Some(format!(
                "start it with `systemctl start skep` or `skep agent --config FILE`; if it uses \
                 another socket than {}, give --socket",
                path.display()
            )),
            Self::NoPermission { .. } => Some(
                "run the command with sudo, or join the readers' group: `usermod -aG skep USER`, \
                 then log in again"
                    .to_owned(),
            ),
            Self::Malformed { .. } => Some(
                "this command and the agent may be of different builds: compare `skep --version` \
                 with the version in `skep status --json`"
                    .to_owned(),
            ),
            Self::BrokeOff { .. } | Self::TimedOut { .. } => {
                Some("look at the agent's log: `journalctl -u skep`".to_owned())
            }
            Self::Refused(refusal) => refusal.hint.clone(),
            Self::Connect { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// A way to the agent on this host.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the agent that listens on `path`, once it is seen to listen.
    ///
    /// # Errors
    /// [`ClientError`] says whether nobody listens or we may not.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let client = Self { path: path.to_owned() };
        drop(client.open().await?);
        Ok(client)
    }

    /// The agent in one page.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/status").await
    }

    /// Whether the agent can do its work.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get("/health").await
    }

    /// All members it knows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn members(&self) -> Result<Vec<Member>, ClientError> {
        self.get("/members").await
    }

    /// Who can reach whom now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn flock(&self) -> Result<Flock, ClientError> {
        self.get("/flock").await
    }

    /// The same, with what the flock's master says of its management where it answers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn flock_by_master(&self) -> Result<Flock, ClientError> {
        self.get("/flock?ask_master=true").await
    }

    /// Has the flock managed otherwise.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn manage_flock(&self, order: &ManageFlock) -> Result<Accepted, ClientError> {
        self.post("/flock", order).await
    }

    /// What a recovery at this node would mean.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn flock_recovery(&self) -> Result<Recovery, ClientError> {
        self.get("/flock-recovery").await
    }

    /// What is or was wrong, and who was told of it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn notices(&self) -> Result<Notices, ClientError> {
        self.get("/notify").await
    }

    /// Sends a letter to every target of the node, or to one.
    ///
    /// # Errors
    /// See [`ClientError`]. That a target did not take it is none.
    pub async fn test_notify(&self, test: &TestNotify) -> Result<Vec<NotifyTested>, ClientError> {
        self.post("/notify/test", test).await
    }

    /// The catalog, or its entries of one kind.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn catalog(&self, kind: Option<&str>) -> Result<Catalog, ClientError> {
        let query = kind.map_or_else(String::new, |kind| format!("?kind={}", escape(kind)));
        self.get(&format!("/catalog{query}")).await
    }

    /// One entry of the catalog, by kind and name, with what it said before.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn catalog_entry(&self, key: &str) -> Result<CatalogHistory, ClientError> {
        let (kind, name) = key.split_once('/').unwrap_or((key, ""));
        self.get(&format!("/catalog/{}/{}", escape(kind), escape(name))).await
    }

    /// What changed in the catalog after one index up to another, or up to now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn catalog_diff(
        &self,
        from: u64,
        to: Option<u64>,
    ) -> Result<CatalogDiff, ClientError> {
        let to = to.map_or_else(String::new, |to| format!("&to={to}"));
        self.get(&format!("/catalog-diff?from={from}{to}")).await
    }

    /// The catalog as a file.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn catalog_export(&self) -> Result<CatalogText, ClientError> {
        self.get("/catalog-export").await
    }

    /// Sets or removes an entry of the catalog.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn write_catalog(&self, write: &WriteCatalog) -> Result<Written, ClientError> {
        self.post("/catalog", write).await
    }

    /// Makes the catalog what a file says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn import_catalog(
        &self,
        how: ImportCatalog,
        text: String,
    ) -> Result<Imported, ClientError> {
        let ImportCatalog { replace, dry_run } = how;
        let path = format!("/catalog-import?replace={replace}&dry_run={dry_run}");
        self.call(Method::POST, &path, text.into()).await
    }

    /// Lets an entry of the conflict log happen after all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reapply(&self, name: &str) -> Result<Written, ClientError> {
        let path = format!("/catalog-conflicts/{}", escape(name));
        self.call(Method::POST, &path, Bytes::new()).await
    }

    /// Links that are up.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn links(&self) -> Result<Vec<Link>, ClientError> {
        self.get("/links").await
    }

    /// Counters and gauges.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn metrics(&self) -> Result<Vec<Metric>, ClientError> {
        self.get("/metrics").await
    }

    /// The agent's certificate.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn certificate(&self) -> Result<Certificate, ClientError> {
        self.get("/cert").await
    }

    /// The certificate authority, where this node serves it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ca(&self) -> Result<CaStatus, ClientError> {
        self.get("/ca").await
    }

    /// What happened and, where `query` follows, what happens.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(&self, query: ReadEvents) -> Result<Events, ClientError> {
        let mut path = String::from("/events?follow=");
        path.push_str(if query.follow { "true" } else { "false" });
        if let Some(after) = query.after {
            path.push_str(&format!("&after={after}"));
        }
        if let Some(last) = query.last {
            path.push_str(&format!("&last={last}"));
        }
        if query.flock {
            path.push_str("&flock=true");
        }
        let asked = format!("GET {PREFIX}{path}");
        let (response, connection) = self.exchange(Method::GET, &path, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.failure(response, asked).await);
        }
        Ok(Events {
            body: response.into_body(),
            pending: BytesMut::new(),
            path: self.path.clone(),
            asked,
            _connection: connection,
        })
    }

    /// All groups it knows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn groups(&self) -> Result<Vec<Group>, ClientError> {
        self.get("/groups").await
    }

    /// One group.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn group(&self, group: &GroupName) -> Result<Group, ClientError> {
        self.get(&format!("/groups/{group}")).await
    }

    /// Who links to whom in a group.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn topology(
        &self,
        group: &GroupName,
        draw: Option<DrawAs>,
    ) -> Result<Topology, ClientError> {
        let draw = match draw {
            Some(DrawAs::Dot) => "?draw=dot",
            Some(DrawAs::Svg) => "?draw=svg",
            None => "",
        };
        self.get(&format!("/groups/{group}/topology{draw}")).await
    }

    /// What is known of the round trip between two nodes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rtt(&self, from: &NodeName, to: &NodeName) -> Result<RoundTrip, ClientError> {
        self.get(&format!("/rtt/{from}/{to}")).await
    }

    /// Publishes `body` to `group`; on this node's disk when it returns.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn publish(
        &self,
        group: &GroupName,
        body: impl Into<Bytes>,
    ) -> Result<Published, ClientError> {
        let path = format!("/groups/{group}/updates");
        self.call(Method::POST, &path, body.into()).await
    }

    /// Reads `group`'s log.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn updates(
        &self,
        group: &GroupName,
        query: &ReadUpdates,
    ) -> Result<Updates, ClientError> {
        let mut path = format!("/groups/{group}/updates?wait_ms={}", query.wait_ms.unwrap_or(0));
        if let Some(subscriber) = &query.subscriber {
            path.push_str(&format!("&subscriber={}", escape(subscriber)));
        }
        if let Some(after) = query.after {
            path.push_str(&format!("&after={after}"));
        }
        if let Some(max) = query.max {
            path.push_str(&format!("&max={max}"));
        }
        self.get(&path).await
    }

    /// Notes that `subscriber` is done with all up to a cursor.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn commit(
        &self,
        group: &GroupName,
        subscriber: &str,
        commit: Commit,
    ) -> Result<Committed, ClientError> {
        let path = format!("/groups/{group}/subscribers/{}", escape(subscriber));
        self.post(&path, &commit).await
    }

    /// Forgets `subscriber`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn unsubscribe(
        &self,
        group: &GroupName,
        subscriber: &str,
    ) -> Result<Accepted, ClientError> {
        let path = format!("/groups/{group}/subscribers/{}", escape(subscriber));
        self.call(Method::DELETE, &path, Bytes::new()).await
    }

    /// Versions of images on this node.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn images(&self) -> Result<Vec<Image>, ClientError> {
        self.get("/images").await
    }

    /// One version of an image.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn image(
        &self,
        name: &ImageName,
        query: &WhichVersion,
    ) -> Result<ImageDetail, ClientError> {
        let mut path = format!("/images/{name}");
        if let Some(version) = &query.version {
            path.push_str(&format!("?version={}", escape(version)));
        }
        self.get(&path).await
    }

    /// Removes old versions of images, and chunks that nobody needs.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn prune_images(&self, wish: &PruneImages) -> Result<Pruned, ClientError> {
        self.post("/images/prune", wish).await
    }

    /// Starts a wave.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn start_wave(&self, order: &StartWave) -> Result<Wave, ClientError> {
        self.post("/waves", order).await
    }

    /// Waves it knows, newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn waves(&self) -> Result<Vec<Wave>, ClientError> {
        self.get("/waves").await
    }

    /// One wave with its nodes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn wave(&self, id: &WaveId) -> Result<WaveDetail, ClientError> {
        self.get(&format!("/waves/{}", escape(&id.0))).await
    }

    /// Has it dial addresses.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn join_address(&self, addresses: &JoinAddress) -> Result<Accepted, ClientError> {
        self.post("/join-address", addresses).await
    }

    /// Has it stop.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn shutdown(&self, how: Shutdown) -> Result<Accepted, ClientError> {
        self.post("/shutdown", &how).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let bytes = serde_json::to_vec(body).map_err(|source| ClientError::Malformed {
            asked: format!("POST {PREFIX}{path}"),
            source,
        })?;
        self.call(Method::POST, path, bytes.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let asked = format!("{method} {PREFIX}{path}");
        let answer = async {
            let (response, _connection) = self.exchange(method, path, body).await?;
            if response.status() != StatusCode::OK {
                return Err(self.failure(response, asked.clone()).await);
            }
            self.collect(response.into_body(), &asked).await
        };
        let bytes = tokio::time::timeout(ANSWER_TIME, answer).await.map_err(|_| {
            ClientError::TimedOut { path: self.path.clone(), asked: asked.clone() }
        })??;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Malformed { asked, source })
    }

    async fn open(&self) -> Result<UnixStream, ClientError> {
        let path = self.path.clone();
        UnixStream::connect(&self.path).await.map_err(|source| {
            let kind = source.kind();
            if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                ClientError::NotRunning { path }
            } else if kind == io::ErrorKind::PermissionDenied {
                ClientError::NoPermission { path }
            } else {
                ClientError::Connect { path, source }
            }
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let broke_off = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::BrokeOff {
            path: self.path.clone(),
            asked: format!("{method} {PREFIX}{path}"),
            source,
        };
        let stream = self.open().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broke_off(error.into()))?;
        let connection = Connection(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the control connection broke off");
            }
        }));
        let request = Request::builder()
            .method(&method)
            .uri(format!("{PREFIX}{path}"))
            .header("host", "skep")
            .header("connection", "close")
            .body(Full::new(body))
            .map_err(|error| broke_off(error.into()))?;
        let response =
            sender.send_request(request).await.map_err(|error| broke_off(error.into()))?;
        Ok((response, connection))
    }

    async fn collect(&self, mut body: Incoming, asked: &str) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ClientError::BrokeOff {
                path: self.path.clone(),
                asked: asked.to_owned(),
                source: error.into(),
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > MAX_ANSWER_BYTES {
                return Err(ClientError::TooLarge { asked: asked.to_owned() });
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    async fn failure(&self, response: Response<Incoming>, asked: String) -> ClientError {
        let status = response.status();
        match self.collect(response.into_body(), &asked).await {
            Err(error) => error,
            Ok(bytes) => match serde_json::from_slice::<Failure>(&bytes) {
                Ok(failure) => ClientError::Refused(failure.error),
                Err(_) => ClientError::Refused(Refusal::new(
                    Code::Unknown,
                    format!("the agent answered {asked} with status {status} and no reason"),
                )),
            },
        }
    }
}

/// The task that moves a connection's bytes; it ends with whoever reads the answer.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    pending: BytesMut,
    path: PathBuf,
    asked: String,
    _connection: Connection,
}

impl Events {
    /// The next event; none when the agent ended the stream.
    ///
    /// # Errors
    /// The agent broke off, or a line cannot be read.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line = self.pending.split_to(end + 1);
                return serde_json::from_slice(&line).map(Some).map_err(|source| {
                    ClientError::Malformed { asked: self.asked.clone(), source }
                });
            }
            if self.pending.len() > MAX_EVENT_BYTES {
                return Err(ClientError::TooLarge { asked: self.asked.clone() });
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::BrokeOff {
                        path: self.path.clone(),
                        asked: self.asked.clone(),
                        source: error.into(),
                    });
                }
            }
        }
    }
}

/// Percent-encodes what could mean something else in a path or query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_path_is_escaped() {
        assert_eq!(escape("web-1:3/..?x=ä"), "web-1%3A3%2F..%3Fx%3D%C3%A4");
    }

    #[tokio::test]
    async fn a_missing_agent_is_said_with_how_to_start_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let error = Client::connect(&path).await.unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }));
        assert!(error.hint().unwrap().contains("skep agent"));
    }
}
