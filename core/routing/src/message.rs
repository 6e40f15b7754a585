//! What travels: a request and its answer, each with its whole path.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::NodeId;

/// Links that a request may cross: more than the diameter of any overlay that is worth having.
pub const MAX_HOPS: usize = 8;
/// Longest body of a request or an answer. With the longest path it fits a frame of the control
/// lane.
pub const MAX_BODY_BYTES: usize = 60 * 1024;

/// Names a request for its whole life: the same key is carried out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Which process of the origin asked: its nonce.
    pub life: u64,
    /// Counts the requests of that process.
    pub serial: u64,
}

/// From the origin to the target, both included, and who of them is to read the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Two to [`MAX_HOPS`] + 1 nodes, each once.
    pub nodes: Vec<NodeId>,
    /// Whose turn it is, by place.
    pub at: u8,
}

/// What travels on a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Something is asked of the last node of the path.
    Request {
        /// Towards the target.
        path: Path,
        /// Names the request.
        key: Key,
        /// How long the origin waits, in milliseconds.
        within_ms: u32,
        /// What is asked, in numbers that the node gives a meaning to.
        service: u8,
        /// What the service says.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// What became of it, for the first node of the path.
    Answer {
        /// The request's path; whose turn it is falls.
        path: Path,
        /// Names the request.
        key: Key,
        /// What became of it.
        outcome: Outcome,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The target's answer.
    Done(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It came to nothing.
    Failed(Failure),
}

/// Why a request came to nothing on its way or at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Failure {
    /// A node of the route has no link to the next any more. Another route may do.
    #[error("a node on the route has no link to the next one")]
    NoLink,
    /// A node of the route, or the target, has too much to do. Later may do.
    #[error("a node on the route has too much to pass on")]
    Busy,
    /// The target does not know this service.
    #[error("the node does not know what it was asked for; it may be older")]
    NoService,
    /// The target would not or could not.
    #[error("the node refused")]
    Refused,
}

/// Why a message cannot be one of an honest node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// It cannot be decoded.
    #[error("a routed message cannot be decoded")]
    Malformed,
    /// The path is too short or too long.
    #[error("a route of {0} nodes")]
    Length(usize),
    /// A node is on the path twice.
    #[error("a route that crosses itself")]
    Loop,
    /// The path says that it is not the receiver's turn, or that somebody else sent it.
    #[error("a routed message that came by another way than it says")]
    Astray,
    /// The body is too long.
    #[error("a routed body of {0} bytes, over the limit of {MAX_BODY_BYTES}")]
    TooLong(usize),
}

impl Path {
    /// The path of a request that `me` sends along `route`, which ends at the target.
    #[must_use]
    pub fn begin(me: NodeId, route: &[NodeId]) -> Self {
        let nodes = core::iter::once(me).chain(route.iter().copied()).collect();
        Self { nodes, at: 1 }
    }

    /// Who asked.
    #[must_use]
    pub fn origin(&self) -> Option<NodeId> {
        self.nodes.first().copied()
    }

    /// Who is asked.
    #[must_use]
    pub fn target(&self) -> Option<NodeId> {
        self.nodes.last().copied()
    }

    /// Whose turn it is.
    #[must_use]
    pub fn here(&self) -> Option<NodeId> {
        self.nodes.get(usize::from(self.at)).copied()
    }

    /// The path when the next node on the way to the target reads it; nothing at the target.
    #[must_use]
    pub fn onward(mut self) -> Option<(NodeId, Self)> {
        self.at = self.at.checked_add(1)?;
        self.here().map(|next| (next, self))
    }

    /// The path when the node before, on the way to the origin, reads it; nothing at the origin.
    #[must_use]
    pub fn back(mut self) -> Option<(NodeId, Self)> {
        self.at = self.at.checked_sub(1)?;
        self.here().map(|next| (next, self))
    }

    /// Whether this is a path at all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), Unsound> {
        let length = self.nodes.len();
        if !(2..=MAX_HOPS + 1).contains(&length) {
            return Err(Unsound::Length(length));
        }
        let twice = |(at, node): (usize, &NodeId)| self.nodes[..at].contains(node);
        if self.nodes.iter().enumerate().any(twice) {
            return Err(Unsound::Loop);
        }
        Ok(())
    }

    /// The node `steps` before (negative) or after the one whose turn it is.
    pub(crate) fn beside(&self, steps: isize) -> Option<NodeId> {
        let at = usize::from(self.at).checked_add_signed(steps)?;
        self.nodes.get(at).copied()
    }
}

impl Message {
    /// Reads a frame's body, and checks all that can be checked of it alone.
    ///
    /// # Errors
    /// Why no honest node sent it.
    pub fn read(body: &Bytes) -> Result<Self, Unsound> {
        let message: Self =
            skep_wire::decode("routed message", body).map_err(|_| Unsound::Malformed)?;
        message.path().check()?;
        let length = match &message {
            Self::Request { body, .. } => body.len(),
            Self::Answer { outcome: Outcome::Done(body), .. } => body.len(),
            Self::Answer { outcome: Outcome::Failed(_), .. } => 0,
        };
        if length > MAX_BODY_BYTES { Err(Unsound::TooLong(length)) } else { Ok(message) }
    }

    /// Its path.
    #[must_use]
    pub const fn path(&self) -> &Path {
        match self {
            Self::Request { path, .. } | Self::Answer { path, .. } => path,
        }
    }

    /// Checks that it is `me` whose turn it is, and that `from` had it before.
    ///
    /// # Errors
    /// [`Unsound::Astray`].
    pub(crate) fn check_way(&self, me: NodeId, from: NodeId) -> Result<(), Unsound> {
        let path = self.path();
        let before = match self {
            Self::Request { .. } => path.beside(-1),
            Self::Answer { .. } => path.beside(1),
        };
        if path.here() == Some(me) && before == Some(from) { Ok(()) } else { Err(Unsound::Astray) }
    }
}
