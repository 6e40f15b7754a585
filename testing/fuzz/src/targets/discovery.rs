//! What strangers on the local link and askers of a beacon may send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use skep_base::{BlocName, Digest, Nonce, Rng};
use skep_transport::discovery::beacon::{
    Directory, Limits, MAX_PEERS, MAX_REGISTERED, Peers, Refused, Register, Token,
};
use skep_transport::discovery::{
    Announcement, DatagramError, DiscoveryKey, MAX_ANNOUNCED, MAX_DATAGRAM_BYTES,
};
use skep_wire::{decode, encode};

use super::{Seed, Target, name, said_again};

/// A datagram as it comes, and the same behind a seal that fits: what an insider may send.
pub(super) const ANNOUNCEMENT: Target = Target {
    name: "announcement",
    decode: fuzz_announcement,
    seeds: announcement_seeds,
    accepts: |data| read_datagram(data).is_ok() || read_datagram(&sealed(data)).is_ok(),
};

/// What is said between a node and a beacon, and what the beacon does with it.
pub(super) const BEACON: Target = Target {
    name: "beacon",
    decode: fuzz_beacon,
    seeds: beacon_seeds,
    accepts: |data| {
        decode::<Register>("register", data).is_ok()
            || decode::<Peers>("peers", data).is_ok()
            || decode::<Refused>("refusal", data).is_ok()
    },
};

const SALT: u64 = 7;

fn bloc() -> BlocName {
    name("example")
}

fn authority() -> Digest {
    Digest::of(b"ca")
}

fn key() -> DiscoveryKey {
    DiscoveryKey::derive(&bloc(), &authority())
}

fn read_datagram(data: &[u8]) -> Result<Announcement, DatagramError> {
    Announcement::decode(data, &[key()])
}

/// `payload` in a datagram of our own bloc. The recipe is repeated here from `discovery.md`: were
/// it another than the code's, no seed would be accepted.
fn sealed(payload: &[u8]) -> Vec<u8> {
    let (bloc, authority) = (bloc(), authority());
    let parts = [&b"skep discovery key"[..], &authority.0, bloc.as_str().as_bytes()];
    let key = Digest::of_parts(&parts).0;
    let salt = SALT.to_be_bytes();
    let seal = Digest::of_parts(&[b"skep announcement", &key, &salt, payload]).0;
    [&b"skep\x01"[..], &salt, &seal[..16], payload].concat()
}

fn fuzz_announcement(data: &[u8]) {
    for datagram in [data.to_vec(), sealed(data)] {
        let Ok(announcement) = read_datagram(&datagram) else {
            continue;
        };
        assert!(datagram.len() <= MAX_DATAGRAM_BYTES);
        assert!(announcement.addresses.len() <= MAX_ANNOUNCED);
        let again = announcement.encode(&key(), SALT);
        assert_eq!(read_datagram(&again), Ok(announcement));
    }
}

fn announcement_seeds() -> Vec<Seed> {
    let announcement =
        Announcement { nonce: Nonce(0x0102_0304_0506_0708), port: 7400, addresses: addresses() };
    let datagram = announcement.encode(&key(), SALT);
    let silent = Announcement { port: 0, addresses: Vec::new(), ..announcement };
    let payload = |datagram: &[u8]| datagram.get(29..).unwrap_or_default().to_vec();
    vec![
        ("datagram", datagram.clone()),
        ("payload-both-families", payload(&datagram)),
        ("payload-nowhere", payload(&silent.encode(&key(), SALT))),
    ]
}

fn fuzz_beacon(data: &[u8]) {
    said_again::<Peers>("peers", data);
    said_again::<Refused>("refusal", data);
    let Ok(question) = decode::<Register>("register", data) else {
        return;
    };
    said_again::<Register>("register", data);
    let mut directory = Directory::new(Limits::default(), Rng::seeded(1));
    let from = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 50_000));
    let (now, asked) = (Instant::now(), question.addresses.len());
    // Twice, as a second node would: the answer names the first, or nobody.
    let other = Register { token: Token([0xAA; 16]), ..question.clone() };
    for question in [question, other] {
        match directory.register(now, from, question) {
            Ok(peers) => {
                assert!(asked <= MAX_REGISTERED && peers.peers.len() <= MAX_PEERS);
                assert!(peers.peers.iter().all(|node| node.len() <= MAX_REGISTERED + 1));
                let bad = |ip: IpAddr| ip.is_unspecified() || ip.is_multicast();
                let told = peers.peers.iter().flatten();
                assert!(told.into_iter().all(|at| at.port() != 0 && !bad(at.ip())));
            }
            Err(refused) => assert_eq!(refused, Refused::Malformed),
        }
    }
    assert!(directory.len() <= 2);
}

fn addresses() -> Vec<SocketAddr> {
    ["10.0.0.1:7400", "[2001:db8::1]:7401"].iter().filter_map(|text| text.parse().ok()).collect()
}

fn beacon_seeds() -> Vec<Seed> {
    let register =
        Register { tag: [1; 32], token: Token([2; 16]), port: 7400, addresses: addresses() };
    let behind = Register { port: 0, addresses: Vec::new(), ..register.clone() };
    let observed = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 50_000));
    let peers = Peers { observed, again_s: 60, peers: vec![addresses(), Vec::new()] };
    vec![
        ("register", encode(&register)),
        ("register-behind-a-nat", encode(&behind)),
        ("peers", encode(&peers)),
        ("refused", encode(&Refused::Full)),
    ]
}
