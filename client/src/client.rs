//! The handle that an application holds.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use skep_base::{ChannelName, GroupName, NodeName};
use skep_lines::{Command, Group, Id, KEYS_A_PUBLISHER, Key, Publish, Reply, Statistic, code};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeek};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::channel::Channel;
use crate::error::Error;
use crate::link::{Dialler, Link, Pauses, random};
use crate::look::{self, Topology};
use crate::nearest::{self, Kept, Near};
use crate::options::Options;
use crate::publisher::{Publisher, Request};
use crate::server::Server;
use crate::subscription::{Subscribe, Subscription};
use crate::upload::Upload;

/// Publishes of one client without a reply: as many as the agent remembers the keys of.
const WINDOW: usize = KEYS_A_PUBLISHER;
/// Bytes of their bodies, unless one alone is longer.
const WINDOW_BYTES: usize = 16 << 20;

/// A client of an agent. Cheap to clone; all clones share one connection and its window. When the
/// last one is dropped, what was sent is still answered and the connection is closed.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    requests: mpsc::Sender<Request>,
    /// Of the window: one permit for each publish.
    window: Arc<Semaphore>,
    /// And one for each byte.
    bytes: Arc<Semaphore>,
    publisher: Arc<str>,
    number: AtomicU64,
    dialler: Dialler,
    options: Options,
    nearest: Mutex<Option<Kept>>,
}

/// An update that is on the disk of the node that took it, and on its way to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Under which identity, for each group it went to.
    pub ids: Vec<(GroupName, Id)>,
}

/// An update that was sent. Resolves when it is durable; dropped, it is published all the same.
#[must_use = "await it to know that the update is durable"]
#[derive(Debug)]
pub struct Publishing {
    reply: oneshot::Receiver<Result<Reply, Error>>,
}

impl Future for Publishing {
    type Output = Result<Published, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply).poll(context).map(|reply| {
            let reply = done(reply.unwrap_or(Err(Error::Closed))?)?;
            published(&reply)
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.shared.options.servers)
    }
}

impl Client {
    /// Connects to the first agent of the options that can be reached.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when none could be for as long as the patience lasts;
    /// [`Error::Identity`].
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let dialler = Dialler::new(&options)?;
        let servers: Arc<[Server]> = options.servers.clone().into();
        let (link, at) = reach(&dialler, &options).await?;
        let (requests, asked) = mpsc::channel(WINDOW);
        let publisher = Publisher::new(dialler.clone(), servers, options.patience, asked);
        tokio::spawn(publisher.run(link, at));
        let shared = Shared {
            requests,
            window: Arc::new(Semaphore::new(WINDOW)),
            bytes: Arc::new(Semaphore::new(WINDOW_BYTES)),
            publisher: format!("{:016x}{:016x}", random(), random()).into(),
            number: AtomicU64::new(1),
            dialler,
            options,
            nearest: Mutex::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Publishes an update, and waits until it is durable. Without a group it goes to every group
    /// of the agent's site.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unreachable`]; [`Error::Uncertain`] when it may have been
    /// logged.
    pub async fn publish(
        &self,
        groups: &[GroupName],
        body: impl Into<Bytes>,
    ) -> Result<Published, Error> {
        self.send(groups, body).await?.await
    }

    /// Publishes `size` bytes of a reader, from its beginning, and waits until they are durable.
    /// For what should not be in memory: it goes over a connection of its own, a portion at a time.
    /// Where a connection breaks, the reader is set back and all of it goes again, under the same
    /// key; so what cannot be set back, such as a pipe, goes to a file first.
    ///
    /// # Errors
    /// As [`Client::publish`]; [`Error::Source`] when the reader fails or has less than that.
    pub async fn publish_from(
        &self,
        groups: &[GroupName],
        size: u64,
        reader: impl AsyncRead + AsyncSeek + Unpin,
    ) -> Result<Published, Error> {
        let with = (&self.shared.dialler, &self.shared.options);
        let reply = Upload::new(with, groups, size, reader).run().await?;
        published(&done(reply)?)
    }

    /// The same of a file.
    ///
    /// # Errors
    /// As there.
    pub async fn publish_file(
        &self,
        groups: &[GroupName],
        path: impl AsRef<Path>,
    ) -> Result<Published, Error> {
        let file = File::open(path).await.map_err(Error::Source)?;
        let size = file.metadata().await.map_err(Error::Source)?.len();
        self.publish_from(groups, size, file).await
    }

    /// Sends an update ahead: waits only while the window of 1,024 updates or 16 MiB is full. The
    /// order in which `send` returns is the order of the log.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn send(
        &self,
        groups: &[GroupName],
        body: impl Into<Bytes>,
    ) -> Result<Publishing, Error> {
        let body = body.into();
        let shared = &self.shared;
        let share = u32::try_from(body.len().clamp(1, WINDOW_BYTES)).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&shared.bytes).acquire_many_owned(share).await;
        let place = Arc::clone(&shared.window).acquire_owned().await;
        let (Ok(bytes), Ok(place)) = (bytes, place) else {
            return Err(Error::Closed);
        };
        // A number is drawn when there is a place in the queue: numbers are sent in their order.
        let queue = shared.requests.reserve().await.map_err(|_| Error::Closed)?;
        let number = shared.number.fetch_add(1, Ordering::Relaxed);
        let key = Key { publisher: Arc::clone(&shared.publisher), number };
        let trail = shared.options.trail.clone();
        let publish = Publish { groups: groups.to_vec(), key: Some(key), trail };
        let size = body.len() as u64;
        let (reply, wait) = oneshot::channel();
        queue.send(Request {
            line: format!("{}\r\n", Command::Binary { size, publish }),
            body,
            reply,
            room: vec![bytes, place],
            since: Instant::now(),
            sent_to: None,
        });
        Ok(Publishing { reply: wait })
    }

    /// Subscribes to a group, over a connection of its own.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unreachable`].
    pub async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, Error> {
        Subscription::open(self.shared.dialler.clone(), &self.shared.options, subscribe).await
    }

    /// Waits until another application opens a channel under `name` at this agent's node, over a
    /// connection of its own. One call takes one channel: whoever serves many at once calls it as
    /// often. Dropped, nobody waits any more. A restart of the agent is waited over.
    ///
    /// # Errors
    /// [`Error::Refused`] when too many wait, [`Error::Unreachable`].
    pub async fn serve(&self, name: &ChannelName) -> Result<Channel, Error> {
        Channel::serve(&self.shared.dialler, &self.shared.options, name).await
    }

    /// Opens a channel to whoever serves `name` at `node`, over a connection of its own. The agent
    /// finds the way there, also where neither node can dial the other.
    ///
    /// ```no_run
    /// # async fn example(client: skep_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let mut mirror = client.channel(&"mirror-2".parse()?, &"catalogue".parse()?).await?;
    /// mirror.write_all(b"everything after deploy-17\n").await?;
    /// mirror.shutdown().await?;
    /// let mut answer = Vec::new();
    /// // Fails where the channel breaks off: what is read is all that the other side said.
    /// mirror.read_to_end(&mut answer).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when the node cannot be reached or nobody serves the name there,
    /// [`Error::Unreachable`].
    pub async fn channel(&self, node: &NodeName, name: &ChannelName) -> Result<Channel, Error> {
        Channel::open(&self.shared.dialler, &self.shared.options, node, name).await
    }

    /// Gives a subscriber's name up: its place is forgotten (FLOOD-32).
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none of that name.
    pub async fn forget(&self, group: &GroupName, name: &str) -> Result<(), Error> {
        let command = Command::Forget { group: group.clone(), name: name.to_owned() };
        self.ask(&command).await.map(drop)
    }

    /// The groups that the agent knows (FLOOD-6).
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        Ok(look::groups(&self.ask(&Command::Groups).await?))
    }

    /// The members of a group, each with what is derived of it in one word (FLOOD-5).
    ///
    /// # Errors
    /// [`Error::Refused`] when nobody is in it.
    pub async fn members(&self, group: &GroupName) -> Result<Vec<(String, String)>, Error> {
        Ok(look::pairs(&self.ask(&Command::Group(group.clone())).await?))
    }

    /// The agent's figures (FLOOD-9).
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn statistics(&self) -> Result<Vec<Statistic>, Error> {
        Ok(look::statistics(&self.ask(&Command::Statistics).await?))
    }

    /// Who is linked to whom for a group (FLOOD-10).
    ///
    /// # Errors
    /// [`Error::Refused`] when nobody is in it.
    pub async fn topology(&self, group: &GroupName) -> Result<Topology, Error> {
        Ok(look::topology(&self.ask(&Command::Topology(group.clone())).await?))
    }

    /// Agents near this program, the nearest first: the agent's hints, of which several were tried
    /// at once (FLOOD-11). The answer is kept for ten minutes.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn nearest(&self) -> Result<Vec<Near>, Error> {
        let kept = self.shared.nearest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.filter(Kept::is_fresh) {
            return Ok(kept.nodes);
        }
        let reply = self.ask(&Command::Nearest).await?;
        let nodes = nearest::measure(&self.shared.dialler, &self.shared.options, &reply).await;
        let kept = Kept::now(nodes.clone());
        *self.shared.nearest.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(nodes)
    }

    /// A client of the nearest agent that answered, with this one's own as a second choice.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn to_nearest(&self) -> Result<Self, Error> {
        let mut options = self.shared.options.clone();
        let near = self.nearest().await?.into_iter().find_map(|near| near.server);
        if let Some(near) = near {
            options.servers.retain(|server| *server != near);
            options.servers.insert(0, near);
        }
        Self::connect(options).await
    }

    async fn ask(&self, command: &Command) -> Result<Reply, Error> {
        let (reply, wait) = oneshot::channel();
        let request = Request {
            line: format!("{command}\r\n"),
            body: Bytes::new(),
            reply,
            room: Vec::new(),
            since: Instant::now(),
            sent_to: None,
        };
        self.shared.requests.send(request).await.map_err(|_| Error::Closed)?;
        done(wait.await.unwrap_or(Err(Error::Closed))?)
    }
}

/// The first server that answers, each in its turn.
pub(crate) async fn reach(dialler: &Dialler, options: &Options) -> Result<(Link, usize), Error> {
    let (since, mut pauses) = (Instant::now(), Pauses::new());
    loop {
        let mut last = None;
        for (at, server) in options.servers.iter().enumerate() {
            match dialler.dial(server).await {
                Ok(link) => return Ok((link, at)),
                Err(error) => last = Some((server, error)),
            }
        }
        let Some((server, source)) = last else {
            return Err(Error::Closed);
        };
        let patience = options.first_patience;
        if since.elapsed() >= patience {
            let server = server.clone();
            return Err(Error::Unreachable { patience, server, source });
        }
        pauses.pause().await;
    }
}

/// A reply that says that it was done.
pub(crate) fn done(reply: Reply) -> Result<Reply, Error> {
    if reply.is_done() {
        return Ok(reply);
    }
    Err(Error::Refused { code: reply.code, text: reply.text().to_owned() })
}

fn published(reply: &Reply) -> Result<Published, Error> {
    let read = |line: &String| {
        let mut words = line.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    let ids: Option<Vec<_>> = reply.lines.iter().map(read).collect();
    ids.map(|ids| Published { ids }).ok_or_else(|| Error::Refused {
        code: code::DONE,
        text: format!("published under an identity that this version cannot read: {reply}"),
    })
}
