//! What is said between a node and a beacon: one question, one answer.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Addresses of one node.
pub const MAX_REGISTERED: usize = 8;
/// Nodes in one answer.
pub const MAX_PEERS: usize = 64;
/// Longest question: a tag, a token and eight addresses.
pub(super) const MAX_REGISTER_BYTES: usize = 512;
/// Longest answer: 64 nodes with nine IPv6 addresses each.
pub(super) const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Frames of a `skep-beacon/1` connection.
pub(super) mod kind {
    pub(in crate::discovery::beacon) const REGISTER: u8 = 0x01;
    pub(in crate::discovery::beacon) const PEERS: u8 = 0x02;
    pub(in crate::discovery::beacon) const REFUSED: u8 = 0x03;
}

/// Drawn by a node at its start and told to nobody but the beacon: the name of its entry, so that
/// others cannot change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub [u8; 16]);

/// Here I am; who else is there?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Who belongs together: [`crate::discovery::DiscoveryKey::beacon_tag`].
    pub tag: [u8; 32],
    /// Whose entry this is.
    pub token: Token,
    /// The port at which the node listens on the address that the beacon sees; zero for none.
    pub port: u16,
    /// Where the node can be reached, at most [`MAX_REGISTERED`].
    pub addresses: Vec<SocketAddr>,
}

/// The answer to [`Register`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// From where the beacon was asked: behind a NAT, the outer address.
    pub observed: SocketAddr,
    /// When to come again at the latest, in seconds: the entry is forgotten after twice that.
    pub again_s: u32,
    /// Some of the others, at most [`MAX_PEERS`], drawn anew each time; the addresses of each.
    pub peers: Vec<Vec<SocketAddr>>,
}

/// The other answer to [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// This address asks too often.
    #[error("the beacon was asked too often from here; ask again later")]
    TooOften,
    /// The beacon has no room for another entry.
    #[error("the beacon is full; ask again later, or run one of your own")]
    Full,
    /// The question was none.
    #[error("the beacon did not understand the question; are the versions far apart?")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_wire::{decode, encode};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_messages_have_these_bytes_for_ever() {
        let register = Register {
            tag: [1; 32],
            token: Token([2; 16]),
            port: 7400,
            addresses: vec!["10.0.0.1:7400".parse().unwrap()],
        };
        let bytes = encode(&register);
        let expected = format!("{}{}e83901000a000001e839", "01".repeat(32), "02".repeat(16));
        assert_eq!(hex(&bytes), expected);
        assert_eq!(decode::<Register>("register", &bytes), Ok(register));
        let peers = Peers {
            observed: "[::1]:9".parse().unwrap(),
            again_s: 300,
            peers: vec![vec!["10.0.0.2:1".parse().unwrap()], vec![]],
        };
        let bytes = encode(&peers);
        let expected = format!("01{}01{}", "00".repeat(15), "09ac020201000a0000020100");
        assert_eq!(hex(&bytes), expected);
        assert_eq!(decode::<Peers>("peers", &bytes), Ok(peers));
        assert_eq!(encode(&Refused::Full), [1]);
    }

    #[test]
    fn the_longest_messages_fit_their_bounds() {
        let address: SocketAddr = "[ffff:ffff::ffff]:65535".parse().unwrap();
        let register = Register {
            tag: [255; 32],
            token: Token([255; 16]),
            port: u16::MAX,
            addresses: vec![address; MAX_REGISTERED],
        };
        assert!(encode(&register).len() <= MAX_REGISTER_BYTES);
        let peers = Peers {
            observed: address,
            again_s: u32::MAX,
            peers: vec![vec![address; MAX_REGISTERED + 1]; MAX_PEERS],
        };
        assert!(encode(&peers).len() <= MAX_ANSWER_BYTES);
    }
}
