//! The announcement's bytes. Pure.
//!
//! ```text
//!   0      4   5        13       29        37     39    40
//!   +------+---+--------+--------+---------+------+-----+-------------------------+
//!   | skep | 1 | salt 8 | seal 16| nonce 8 | port | n   | n addresses             |
//!   +------+---+--------+--------+---------+------+-----+-------------------------+
//!                                                          4 or 6, address, port
//! ```
//!
//! Numbers are big-endian. The seal covers salt and everything behind it; the salt is new in each
//! datagram, so nothing in two of them is alike to those who do not know the bloc.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use skep_base::Nonce;

use crate::discovery::DiscoveryKey;

/// Addresses in one announcement: as many as in a node's hello.
pub const MAX_ANNOUNCED: usize = 8;
/// Longest announcement.
pub const MAX_DATAGRAM_BYTES: usize = PAYLOAD_AT + 11 + MAX_ANNOUNCED * 19;

const MAGIC: &[u8; 4] = b"skep";
const VERSION: u8 = 1;
const SALT_AT: usize = 5;
const SEAL_AT: usize = 13;
const PAYLOAD_AT: usize = 29;

/// What a node says about itself on the local link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Which process speaks: ours are heard by ourselves as well.
    pub nonce: Nonce,
    /// The port at which it listens on the address that the datagram came from; zero for none.
    pub port: u16,
    /// Where else it can be reached, at most [`MAX_ANNOUNCED`].
    pub addresses: Vec<SocketAddr>,
}

/// Why a datagram is none for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Other people's traffic, or a version that this build does not know.
    #[error("not an announcement of this version")]
    Foreign,
    /// Another bloc's, or forged.
    #[error("an announcement of another bloc")]
    OtherBloc,
    /// Sealed by one who knows the bloc, and still not what it should be.
    #[error("a malformed announcement")]
    Malformed,
}

impl Announcement {
    /// The datagram. Addresses over the bound are left out.
    #[must_use]
    pub fn encode(&self, key: &DiscoveryKey, salt: u64) -> Vec<u8> {
        let mut payload = Vec::with_capacity(MAX_DATAGRAM_BYTES);
        payload.extend_from_slice(&self.nonce.0.to_be_bytes());
        payload.extend_from_slice(&self.port.to_be_bytes());
        let listed = self.addresses.iter().take(MAX_ANNOUNCED);
        payload.push(u8::try_from(listed.len()).unwrap_or(0));
        for address in listed {
            match address.ip() {
                IpAddr::V4(ip) => {
                    payload.push(4);
                    payload.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    payload.push(6);
                    payload.extend_from_slice(&ip.octets());
                }
            }
            payload.extend_from_slice(&address.port().to_be_bytes());
        }
        let salt = salt.to_be_bytes();
        let seal = key.seal(&salt, &payload);
        [&MAGIC[..], &[VERSION], &salt, &seal, &payload].concat()
    }

    /// The announcement in `datagram`, if it is sealed with one of `keys`.
    ///
    /// # Errors
    /// [`DatagramError`]. All are harmless: drop the datagram.
    pub fn decode(datagram: &[u8], keys: &[DiscoveryKey]) -> Result<Self, DatagramError> {
        if datagram.len() > MAX_DATAGRAM_BYTES
            || datagram.get(..4) != Some(MAGIC)
            || datagram.get(4) != Some(&VERSION)
        {
            return Err(DatagramError::Foreign);
        }
        let (Some(salt), Some(seal), Some(payload)) = (
            datagram.get(SALT_AT..SEAL_AT),
            datagram.get(SEAL_AT..PAYLOAD_AT),
            datagram.get(PAYLOAD_AT..),
        ) else {
            return Err(DatagramError::Foreign);
        };
        if !keys.iter().any(|key| key.seal(salt, payload) == seal) {
            return Err(DatagramError::OtherBloc);
        }
        read_payload(payload).ok_or(DatagramError::Malformed)
    }
}

fn read_payload(payload: &[u8]) -> Option<Announcement> {
    let (nonce, rest) = payload.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let (&count, mut rest) = rest.split_first()?;
    if usize::from(count) > MAX_ANNOUNCED {
        return None;
    }
    let mut addresses = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (address, left) = read_address(rest)?;
        addresses.push(address);
        rest = left;
    }
    rest.is_empty().then(|| Announcement {
        nonce: Nonce(u64::from_be_bytes(*nonce)),
        port: u16::from_be_bytes(*port),
        addresses,
    })
}

fn read_address(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (&family, rest) = bytes.split_first()?;
    let (ip, rest): (IpAddr, _) = match family {
        4 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*ip).into(), rest)
        }
        6 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*ip).into(), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::{Digest, Rng};

    fn key(bloc: &str, authority: &[u8]) -> DiscoveryKey {
        DiscoveryKey::derive(&bloc.parse().unwrap(), &Digest::of(authority))
    }

    fn announcement() -> Announcement {
        Announcement {
            nonce: Nonce(0x0102_0304_0506_0708),
            port: 7400,
            addresses: vec![
                "10.0.0.1:7400".parse().unwrap(),
                "[2001:db8::1]:7401".parse().unwrap(),
            ],
        }
    }

    #[test]
    fn an_announcement_is_read_by_its_bloc_alone() {
        let ours = key("example", b"ca");
        let bytes = announcement().encode(&ours, 7);
        assert_eq!(Announcement::decode(&bytes, &[ours]), Ok(announcement()));
        let rotated = [key("example", b"new ca"), ours];
        assert_eq!(Announcement::decode(&bytes, &rotated), Ok(announcement()));
        for other in [key("elsewhere", b"ca"), key("example", b"their ca")] {
            let refused = Announcement::decode(&bytes, &[other]);
            assert_eq!(refused, Err(DatagramError::OtherBloc));
        }
        assert!(bytes.len() <= MAX_DATAGRAM_BYTES);
        assert!(!bytes.windows(7).any(|window| window == b"example"));
    }

    #[test]
    fn two_datagrams_have_nothing_in_common_that_tells_the_bloc() {
        let ours = key("example", b"ca");
        let (one, two) = (announcement().encode(&ours, 1), announcement().encode(&ours, 2));
        assert_ne!(one[SEAL_AT..PAYLOAD_AT], two[SEAL_AT..PAYLOAD_AT]);
    }

    #[test]
    fn no_hostile_datagram_gets_further_than_an_error() {
        let ours = key("example", b"ca");
        let good = announcement().encode(&ours, 9);
        for cut in 0..good.len() {
            assert!(Announcement::decode(&good[..cut], &[ours]).is_err());
        }
        for at in 0..good.len() {
            let mut bent = good.clone();
            bent[at] ^= 0x40;
            assert!(Announcement::decode(&bent, &[ours]).is_err(), "byte {at}");
        }
        let mut rng = Rng::seeded(1);
        for _ in 0..2000 {
            let len = rng.index(2 * MAX_DATAGRAM_BYTES).unwrap_or(0);
            let noise: Vec<u8> = (0..len).map(|_| rng.bits().to_be_bytes()[0]).collect();
            assert!(Announcement::decode(&noise, &[ours]).is_err());
        }
    }

    #[test]
    fn what_an_insider_gets_wrong_is_malformed() {
        let ours = key("example", b"ca");
        let sealed = |payload: &[u8]| {
            let salt = [0; 8];
            let seal = ours.seal(&salt, payload);
            [&MAGIC[..], &[VERSION], &salt, &seal, payload].concat()
        };
        let too_many = [&[0; 10][..], &[9], &[4, 1, 1, 1, 1, 0, 1].repeat(9)].concat();
        let left_over = [&[0; 10][..], &[0], &[1]].concat();
        let family = [&[0; 10][..], &[1], &[5, 1, 1, 1, 1, 0, 1]].concat();
        for payload in [&too_many[..], &left_over, &family, &[]] {
            let refused = Announcement::decode(&sealed(payload), &[ours]);
            assert_eq!(refused, Err(DatagramError::Malformed));
        }
    }
}
