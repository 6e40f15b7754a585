//! Channels: byte streams between two applications at two nodes, through their agents (FLOOD-2).
//!
//! The original left it to applications to bring themselves back in step after a long absence. A
//! channel is what they need for it: one application *serves* a name at its node, another *opens*
//! that name at that node, and from then on the two talk as over a socket of their own. The agents
//! find the way ([`crate::reach`]) and prove to each other which nodes they are; who the
//! application is, is a matter between it and its agent.
//!
//! One wait takes one channel: an application that serves many at once waits as often.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_base::{ChannelName, NodeName};
use skep_client_port::LocalEnd;
use skep_transport::PeerStream;
use skep_wire::kind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::reach::{Reach, ReachError, WayError, granted};

/// Waits under one name.
pub const MAX_WAITS_OF_ONE: usize = 256;
/// Waits of all names.
pub const MAX_WAITS: usize = 4096;

/// What both ends of a channel read and write.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A channel that came in.
pub struct Incoming {
    /// From which node.
    pub from: NodeName,
    /// Its bytes.
    pub stream: Box<dyn Stream>,
}

/// Why a channel cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The node cannot be reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// It is reached, and nobody waits there under this name, or the connection broke.
    #[error("no channel {channel} at {node}: {why}")]
    Denied {
        /// At which node.
        node: NodeName,
        /// Which name.
        channel: ChannelName,
        /// In its words.
        why: String,
    },
    /// Too many wait.
    #[error("too many wait under {channel}; at most {MAX_WAITS_OF_ONE} may, {MAX_WAITS} in all")]
    TooMany {
        /// Which name.
        channel: ChannelName,
    },
}

/// Who waits for channels at this node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Channels {
    waits: Arc<Mutex<HashMap<ChannelName, VecDeque<oneshot::Sender<Incoming>>>>>,
}

impl Channels {
    /// Waits for one channel under a name. Dropped, the wait ends.
    ///
    /// # Errors
    /// [`ChannelError::TooMany`].
    pub fn serve(
        &self,
        channel: &ChannelName,
    ) -> Result<oneshot::Receiver<Incoming>, ChannelError> {
        let mut waits = self.lock();
        for queue in waits.values_mut() {
            queue.retain(|wait| !wait.is_closed());
        }
        waits.retain(|_, queue| !queue.is_empty());
        let of_one = waits.get(channel).map_or(0, VecDeque::len);
        let of_all: usize = waits.values().map(VecDeque::len).sum();
        if of_one >= MAX_WAITS_OF_ONE || of_all >= MAX_WAITS {
            return Err(ChannelError::TooMany { channel: channel.clone() });
        }
        let (tell, told) = oneshot::channel();
        waits.entry(channel.clone()).or_default().push_back(tell);
        Ok(told)
    }

    /// Names under which somebody waits, and how many do.
    #[must_use]
    pub fn served(&self) -> Vec<(ChannelName, usize)> {
        let waits = self.lock();
        let open = |queue: &VecDeque<oneshot::Sender<Incoming>>| {
            queue.iter().filter(|wait| !wait.is_closed()).count()
        };
        let mut served: Vec<_> =
            waits.iter().map(|(name, queue)| (name.clone(), open(queue))).collect();
        served.retain(|(_, count)| *count > 0);
        served.sort();
        served
    }

    /// Another node asks for a channel.
    pub(crate) async fn came_in(&self, mut stream: Box<PeerStream>, from: NodeName, body: &[u8]) {
        let channel = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
        let Some(channel) = channel else {
            drop(stream.write_frame(kind::DENIED, b"no channel can have this name").await);
            return;
        };
        let Some(wait) = self.next_wait(&channel) else {
            drop(stream.write_frame(kind::DENIED, b"nobody serves it there").await);
            return;
        };
        if stream.write_frame(kind::GRANTED, &[]).await.is_err() {
            self.put_back(channel, wait);
        } else if wait.send(Incoming { from, stream }).is_err() {
            // Dropped with it, the stream tells the other end by its end.
            tracing::debug!(%channel, "whoever waited is gone");
        }
    }

    fn next_wait(&self, channel: &ChannelName) -> Option<oneshot::Sender<Incoming>> {
        let mut waits = self.lock();
        let queue = waits.get_mut(channel)?;
        std::iter::from_fn(|| queue.pop_front()).find(|wait| !wait.is_closed())
    }

    fn put_back(&self, channel: ChannelName, wait: oneshot::Sender<Incoming>) {
        self.lock().entry(channel).or_default().push_front(wait);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, VecDeque<oneshot::Sender<Incoming>>>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reach {
    /// Opens a channel at a node: this one, or another member of the bloc.
    ///
    /// # Errors
    /// [`ChannelError`] says at what it failed.
    pub async fn open_channel(
        &self,
        me: &NodeName,
        node: &NodeName,
        (id, channel): (skep_base::NodeId, &ChannelName),
    ) -> Result<Box<dyn Stream>, ChannelError> {
        let denied = |why: String| ChannelError::Denied {
            node: node.clone(),
            channel: channel.clone(),
            why,
        };
        if me == node {
            let wait = self.channels().next_wait(channel);
            let wait = wait.ok_or_else(|| denied("nobody serves it there".to_owned()))?;
            let (ours, theirs) = LocalEnd::pair();
            let incoming = Incoming { from: me.clone(), stream: Box::new(theirs) };
            return match wait.send(incoming) {
                Ok(()) => Ok(Box::new(ours)),
                Err(_) => Err(denied("whoever served it has just gone".to_owned())),
            };
        }
        let mut stream = self.stream_to(id).await?;
        let asked = stream.write_frame(kind::CHANNEL, channel.as_str().as_bytes()).await;
        asked.map_err(|error| denied(error.to_string()))?;
        match granted(stream).await {
            Ok(stream) => Ok(stream),
            Err(WayError::Relay(why)) => Err(denied(why)),
            Err(why) => Err(denied(why.to_string())),
        }
    }
}
