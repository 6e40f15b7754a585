use super::*;
use crate::bind;
use crate::discovery::beacon::{BeaconServer, Limits, Token};
use skep_base::Rng;
use skep_identity::BeaconKey;
use tokio::io::AsyncReadExt as _;

fn beacon(limits: Limits) -> (BeaconServer, BeaconKey, JoinAddress) {
    let key = BeaconKey::generate().unwrap();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = BeaconServer::start(vec![listener], &key, limits, Rng::seeded(1)).unwrap();
    let address = JoinAddress::Socket(server.addresses()[0]);
    (server, key, address)
}

fn question(token: u8, port: u16) -> Register {
    Register {
        tag: [1; 32],
        token: Token([token; 16]),
        port,
        addresses: vec!["192.0.2.7:7400".parse().unwrap()],
    }
}

#[tokio::test]
async fn two_nodes_find_each_other_through_the_beacon_alone() {
    let (server, key, address) = beacon(Limits::default());
    let client = BeaconClient::new(address, &key.public()).unwrap();
    let first = client.register(&question(1, 7001)).await.unwrap();
    assert!(first.peers.is_empty());
    assert!(first.observed.ip().is_loopback());
    let second = client.register(&question(2, 7002)).await.unwrap();
    let expected: Vec<SocketAddr> =
        vec!["127.0.0.1:7001".parse().unwrap(), "192.0.2.7:7400".parse().unwrap()];
    assert_eq!(second.peers, [expected]);
    assert_eq!(server.stats().entries, 2);
    server.shutdown().await;
}

#[tokio::test]
async fn who_does_not_hold_the_key_is_not_the_beacon() {
    let (_server, _key, address) = beacon(Limits::default());
    let other = BeaconKey::generate().unwrap();
    let client = BeaconClient::new(address, &other.public()).unwrap();
    let refused = client.register(&question(1, 1)).await;
    assert!(matches!(refused, Err(BeaconError::NotTheBeacon { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_beacon_that_is_asked_too_often_says_so() {
    let limits = Limits { burst: 2, period: Duration::from_secs(3600), ..Limits::default() };
    let (_server, key, address) = beacon(limits);
    let client = BeaconClient::new(address, &key.public()).unwrap();
    for _ in 0..2 {
        client.register(&question(1, 1)).await.unwrap();
    }
    let refused = client.register(&question(1, 1)).await;
    assert!(matches!(refused, Err(BeaconError::Refused(Refused::TooOften))), "{refused:?}");
}

#[tokio::test]
async fn garbage_is_hung_up_on_and_hurts_nobody() {
    let (server, key, address) = beacon(Limits::default());
    let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The end of the stream, or a reset: the beacon does not talk to it.
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the beacon keeps a stranger's connection open");
    let client = BeaconClient::new(address, &key.public()).unwrap();
    assert!(client.register(&question(1, 1)).await.is_ok());
}

#[tokio::test]
async fn nobody_at_the_address_is_said_by_name() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = JoinAddress::Socket(listener.local_addr().unwrap());
    drop(listener);
    let key = BeaconKey::generate().unwrap().public();
    let client = BeaconClient::new(address.clone(), &key).unwrap();
    let error = client.register(&question(1, 1)).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()));
    assert!(matches!(error, BeaconError::Unreachable { .. }));
}
