//! The hello: the first frame in each direction of every connection, after mutual TLS.
//!
//! The certificate says who the peer is; the hello says which life of it this is, what it speaks,
//! and where else it can be reached. What a hello claims about names must agree with the
//! certificate, and the transport closes the link where it does not.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};
use skep_base::{BlocName, Incarnation, NodeName, Nonce};

use crate::Lane;

/// Oldest protocol this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest protocol this build speaks.
pub const PROTOCOL_MAX: u16 = 1;
/// Behaviour this build is able to show. New behaviour waits until all present members announce it.
pub const FEATURE_LEVEL: u16 = 2;
/// Addresses a hello or a node record may list.
pub const MAX_HELLO_ADDRESSES: usize = 8;

/// `skep` and a version of the hello itself; a stranger's first bytes fail here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Magic([u8; 5]);

impl Magic {
    /// What every hello begins with.
    pub const CURRENT: Self = Self(*b"skep\x01");
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AddressScope {
    /// Only on the host itself: loopback.
    Host,
    /// On the local link or a private network.
    Site,
    /// Anywhere.
    Global,
}

/// One place where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// How far it reaches.
    pub scope: AddressScope,
    /// IPv4 or IPv6, with the port.
    pub socket: SocketAddr,
}

impl Address {
    /// An address with the scope that its number implies.
    #[must_use]
    pub fn classify(socket: SocketAddr) -> Self {
        let scope = match socket.ip() {
            ip if ip.is_loopback() => AddressScope::Host,
            core::net::IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => {
                AddressScope::Site
            }
            core::net::IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => {
                AddressScope::Site
            }
            core::net::IpAddr::V4(_) | core::net::IpAddr::V6(_) => AddressScope::Global,
        };
        Self { scope, socket }
    }
}

/// The first frame of a connection, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`Magic::CURRENT`].
    pub magic: Magic,
    /// Oldest and newest protocol the sender speaks.
    pub protocol: (u16, u16),
    /// What the sender's build is able to show.
    pub feature_level: u16,
    /// Which of the link's two connections this is.
    pub lane: Lane,
    /// Must equal the certificate's.
    pub bloc: BlocName,
    /// Must equal the certificate's.
    pub node: NodeName,
    /// Which life of the node this is.
    pub incarnation: Incarnation,
    /// Which process of that name this is.
    pub nonce: Nonce,
    /// Where the sender listens, at most [`MAX_HELLO_ADDRESSES`].
    pub addresses: Vec<Address>,
    /// The build, for people.
    pub version: String,
}

/// The protocol two nodes speak: the newest that both know, or nothing.
#[must_use]
pub fn common_protocol(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let newest = ours.1.min(theirs.1);
    (newest >= ours.0 && newest >= theirs.0).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    fn hello() -> Hello {
        Hello {
            magic: Magic::CURRENT,
            protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
            // Whatever this build announces, the bytes of a level are the same for ever.
            feature_level: 1,
            lane: Lane::Control,
            bloc: "example".parse().unwrap(),
            node: "web-1".parse().unwrap(),
            incarnation: Incarnation(3),
            nonce: Nonce(0x1122_3344_5566_7788),
            addresses: alloc::vec![Address::classify("10.0.0.1:7400".parse().unwrap())],
            version: "0.0.0".into(),
        }
    }

    #[test]
    fn the_hello_has_these_bytes_for_ever() {
        let bytes = encode(&hello());
        let hex: String = bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "736b65700101010100076578616d706c65057765622d310388ef99abc5e88c91110101000a000001\
             e83905302e302e30"
        );
        assert_eq!(decode::<Hello>("hello", &bytes), Ok(hello()));
    }

    #[test]
    fn protocols_meet_at_the_newest_common_one() {
        assert_eq!(common_protocol((1, 3), (2, 5)), Some(3));
        assert_eq!(common_protocol((1, 1), (2, 5)), None);
        assert_eq!(common_protocol((4, 5), (1, 3)), None);
    }

    #[test]
    fn scopes_follow_from_the_number() {
        let scope = |text: &str| Address::classify(text.parse().unwrap()).scope;
        assert_eq!(scope("127.0.0.1:1"), AddressScope::Host);
        assert_eq!(scope("[fe80::1]:1"), AddressScope::Site);
        assert_eq!(scope("192.168.1.1:1"), AddressScope::Site);
        assert_eq!(scope("203.0.113.9:1"), AddressScope::Global);
    }
}
