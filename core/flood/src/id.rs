//! What names an update, and where it stands in a log.

use core::fmt;

use serde::{Deserialize, Serialize};
use skep_base::{Incarnation, NodeId};

/// The place of an update among those of its origin, over all of the origin's lives and groups.
/// Never used twice: the incarnation is on disk before the first publish, and the sequence grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial {
    /// Which life of the origin.
    pub incarnation: Incarnation,
    /// Counted from 1 within that life, over all groups.
    pub sequence: u64,
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.sequence)
    }
}

/// The identity of an update: the same on every node, and the same at every hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UpdateId {
    /// The node that published it.
    pub origin: NodeId,
    /// Its place among the origin's updates.
    pub serial: Serial,
}

impl fmt::Display for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.origin, self.serial)
    }
}

/// The number of a record in this node's own log, counted from 0 and dense. It says nothing to any
/// other node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
