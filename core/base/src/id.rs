//! Who a node is, and which of its lives is meant.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, read_hex, write_hex};
use crate::{BlocName, NodeName};

/// A node's identity inside every protocol: the first sixteen bytes of the BLAKE3 digest of its
/// bloc name and node name, both of which its certificate carries (BLOC-7, BLOC-33).
///
/// Sixteen bytes keep records and watch lists small; who can make the CA issue names of his choice
/// would still need about 2⁶⁴ of them to make two meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId([u8; Self::LEN]);

impl NodeId {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// The identity of the node `node` of the bloc `bloc`.
    #[must_use]
    pub fn derive(bloc: &BlocName, node: &NodeName) -> Self {
        let digest =
            Digest::of_parts(&[b"skep node", bloc.as_str().as_bytes(), node.as_str().as_bytes()]);
        let mut id = [0; Self::LEN];
        id.copy_from_slice(&digest.0[..Self::LEN]);
        Self(id)
    }

    /// An identity from its bytes, as they stand in a message.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The identity's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..4])
    }
}

/// What stood where a node identity of 32 hexadecimal digits was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a node identity: expected 32 hexadecimal digits")]
pub struct NodeIdError;

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let mut id = [0; Self::LEN];
        read_hex(text, &mut id).ok_or(NodeIdError)?;
        Ok(Self(id))
    }
}

/// The number of a node's life. It grows at each start and is on disk before the first publish, so
/// that (incarnation, sequence) is never used twice.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// How far a peer's claim about our own incarnation may move us at one start. A liar could
    /// otherwise use the number space up.
    pub const MAX_JUMP: u64 = 1 << 32;

    /// The next life's number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Drawn at random at each start: two live processes with one name are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(pub u64);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn identities_depend_on_bloc_and_node_and_round_trip() {
        let bloc: BlocName = "example".parse().unwrap();
        let other: BlocName = "elsewhere".parse().unwrap();
        let node: NodeName = "web-1".parse().unwrap();
        let id = NodeId::derive(&bloc, &node);
        assert_ne!(id, NodeId::derive(&other, &node));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("abc".parse::<NodeId>(), Err(NodeIdError));
    }
}
