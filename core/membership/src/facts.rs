//! The bodies of the two records that membership reads and publishes.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use skep_base::{GroupName, Incarnation, NetworkName, NodeId, NodeName, Nonce, WallTime};
use skep_wire::{Address, Malformed, decode, encode};

/// Addresses a node may announce.
pub const MAX_ADDRESSES: usize = 8;
/// Groups a node may announce. With names of full length a record would overflow: those that do not
/// fit are refused by the config.
pub const MAX_GROUPS: usize = 64;
/// Edges a watch record may list: what fits into a record's 4 KiB.
pub const MAX_EDGES: usize = 127;
/// Bytes of the build's name.
const MAX_VERSION_BYTES: usize = 32;

/// What a node says of itself: a record of kind `NODE`, schema 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// As in its certificate.
    pub name: NodeName,
    /// The medium it is on.
    pub network: Option<NetworkName>,
    /// Which process this is.
    pub nonce: Nonce,
    /// When it started, by its own clock. For people, and to tell which of two processes of one
    /// name was first.
    pub started: WallTime,
    /// Whether it means to stay.
    pub state: NodeState,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Groups besides `all`.
    pub groups: Vec<GroupName>,
    /// What its build is able to show.
    pub feature_level: u16,
    /// Its build, for people.
    pub version: String,
}

/// Whether a node means to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It does.
    Up,
    /// It stops, and says that it will be back.
    Restarting {
        /// Within this time.
        back_within_ms: u32,
    },
    /// It stops for good, or for long.
    Left,
}

impl NodeFacts {
    /// The record's body.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one, or a list in it is over its bound.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let facts: Self = decode("node record", body)?;
        let fits = facts.addresses.len() <= MAX_ADDRESSES
            && facts.groups.len() <= MAX_GROUPS
            && facts.version.len() <= MAX_VERSION_BYTES;
        if fits { Ok(facts) } else { Err(Malformed { what: "node record" }) }
    }
}

/// What a watcher says of a node that it has a live link to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// Heard within the last beats.
    Heard,
    /// Some beats are missing.
    Suspect,
    /// Nothing came for long, or its process is gone.
    Silent,
}

/// One watched node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Who is watched.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The low half of that process' nonce: two live processes of one name differ in it.
    pub nonce: u32,
    /// What is heard of it.
    pub verdict: Verdict,
}

/// Whom a node hears: a record of kind `WATCH`, schema 1. An edge that is not in the newest one
/// does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Sorted by node.
    pub edges: Vec<Edge>,
}

impl Watch {
    /// What is said of a node.
    #[must_use]
    pub fn edge(&self, node: NodeId) -> Option<&Edge> {
        let at = self.edges.binary_search_by_key(&node, |edge| edge.node).ok()?;
        self.edges.get(at)
    }

    /// The record's body.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one, or has more than [`MAX_EDGES`].
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let watch: Self = decode("watch record", body)?;
        if watch.edges.len() <= MAX_EDGES {
            Ok(watch)
        } else {
            Err(Malformed { what: "watch record" })
        }
    }
}

/// The half of a nonce that an edge carries.
#[must_use]
pub(crate) fn short_nonce(nonce: Nonce) -> u32 {
    let [a, b, c, d, ..] = nonce.0.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
