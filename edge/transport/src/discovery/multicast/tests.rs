use super::*;
use skep_base::Digest;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn key(bloc: &str) -> DiscoveryKey {
    DiscoveryKey::derive(&bloc.parse().unwrap(), &Digest::of(b"ca"))
}

/// On the loopback alone and a port of its own, so that tests do not hear one another.
fn config(port: u16) -> MulticastConfig {
    let all = interfaces().unwrap();
    let loopback = all.iter().find(|interface| interface.loopback).unwrap();
    MulticastConfig { port, interfaces: vec![loopback.name.clone()], ..MulticastConfig::default() }
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn announcement(nonce: u64, port: u16) -> Announcement {
    Announcement { nonce: Nonce(nonce), port, addresses: vec![] }
}

/// Announces until `receiver` hears it: joining the group takes its time.
async fn heard_by(
    speaker: &Multicast,
    said: &Announcement,
    receiver: &mut mpsc::Receiver<Heard>,
) -> Heard {
    let hearing = async {
        let mut again = interval(Duration::from_millis(300));
        loop {
            tokio::select! {
                heard = receiver.recv() => return heard.unwrap(),
                _ = again.tick() => { speaker.announce(said).unwrap(); }
            }
        }
    };
    timeout(PATIENCE, hearing).await.unwrap()
}

#[tokio::test]
async fn two_agents_of_one_host_hear_each_other_and_not_themselves() {
    let port = free_port();
    let (one, mut one_heard) =
        Multicast::start(config(port), vec![key("b")], Nonce(1), Rng::seeded(1)).unwrap();
    let (two, mut two_heard) =
        Multicast::start(config(port), vec![key("b")], Nonce(2), Rng::seeded(2)).unwrap();
    let at_two = heard_by(&one, &announcement(1, 7001), &mut two_heard).await;
    assert_eq!(at_two.nonce, Nonce(1));
    assert_eq!(at_two.addresses.len(), 1);
    assert_eq!(at_two.addresses[0].port(), 7001);
    assert!(at_two.addresses[0].ip().is_loopback() || at_two.addresses[0].is_ipv6());
    let at_one = heard_by(&two, &announcement(2, 7002), &mut one_heard).await;
    assert_eq!(at_one.nonce, Nonce(2));
    while let Ok(heard) = one_heard.try_recv() {
        assert_eq!(heard.nonce, Nonce(2));
    }
}

#[tokio::test]
async fn strangers_and_noise_are_ignored_and_cost_nothing_else() {
    let port = free_port();
    let (ours, mut heard) =
        Multicast::start(config(port), vec![key("b")], Nonce(1), Rng::seeded(1)).unwrap();
    let (stranger, _theirs) =
        Multicast::start(config(port), vec![key("other")], Nonce(3), Rng::seeded(3)).unwrap();
    let (friend, _friends) =
        Multicast::start(config(port), vec![key("b")], Nonce(2), Rng::seeded(2)).unwrap();
    // Each hears the loopback when it has joined; the friend's arrival shows that ours has.
    heard_by(&friend, &announcement(2, 1), &mut heard).await;
    let before = ours.stats();
    let noise = sending(Domain::IPV4).unwrap();
    noise.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let group = SocketAddrV4::new(config(port).group_v4.unwrap(), port);
    for len in [0, 1, 4, 29, 60, 1400] {
        noise.send_to(&vec![0x73; len], &group.into()).unwrap();
    }
    stranger.announce(&announcement(3, 2)).unwrap();
    heard_by(&friend, &announcement(2, 9), &mut heard).await;
    // Datagrams of one host arrive in the order sent, family by family.
    assert!(ours.stats().ignored >= before.ignored + 6);
    while let Ok(heard) = heard.try_recv() {
        assert_eq!(heard.nonce, Nonce(2));
    }
}

#[tokio::test]
async fn who_announces_without_pause_is_slowed_down() {
    let (ours, _heard) =
        Multicast::start(config(free_port()), vec![key("b")], Nonce(1), Rng::seeded(1)).unwrap();
    let refused = (0..200)
        .filter(|_| ours.announce(&announcement(1, 1)) == Err(AnnounceError::TooOften))
        .count();
    assert!(refused > 100, "{refused}");
}

#[test]
fn the_address_that_spoke_comes_first_and_nonsense_is_left_out() {
    let said = Announcement {
        nonce: Nonce(1),
        port: 7400,
        addresses: vec![
            "10.0.0.9:7400".parse().unwrap(),
            "0.0.0.0:7400".parse().unwrap(),
            "239.1.1.1:7400".parse().unwrap(),
            "10.0.0.8:0".parse().unwrap(),
            "192.0.2.1:7400".parse().unwrap(),
        ],
    };
    let addresses = dialable(&said, "10.0.0.9:55555".parse().unwrap());
    let expected: Vec<SocketAddr> =
        vec!["10.0.0.9:7400".parse().unwrap(), "192.0.2.1:7400".parse().unwrap()];
    assert_eq!(addresses, expected);
}
