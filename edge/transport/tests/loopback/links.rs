//! Links between nodes that behave.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::bloc::{Bloc, KIND, Node, PATIENCE, frame, pair};
use skep_base::NodeId;
use skep_transport::{Config, DialFailure, DialId, DownReason, Event, SendError, bind};
use skep_wire::Lane;
use tokio::time::timeout;

#[tokio::test]
async fn a_link_carries_frames_both_ways_on_both_lanes() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    for (number, lane) in [(7, Lane::Control), (8, Lane::Bulk)] {
        one.dial(number, &two, lane);
        let (at_one, lane_one, peer, dialled) = one.up().await;
        assert_eq!((lane_one, dialled), (lane, Some(DialId(number))));
        assert_eq!((peer.cert.id, peer.hello.node.as_str()), (two.id, "two"));
        assert_eq!(peer.cert_der, two.identity.current().certificate_der());
        let (at_two, lane_two, peer, dialled) = two.up().await;
        assert_eq!((lane_two, dialled, peer.cert.id), (lane, None, one.id));

        one.transport.send(at_one, frame(b"there")).unwrap();
        let (link, got) = two.frame().await;
        assert_eq!((link, got.kind, &got.body[..]), (at_two, KIND, &b"there"[..]));
        let long = vec![9; lane.max_body_bytes()];
        two.transport.send(at_two, frame(&long)).unwrap();
        let (link, got) = one.frame().await;
        assert_eq!((link, got.body.len()), (at_one, long.len()));
    }
    assert_eq!(one.transport.stats().links, 2);
}

#[tokio::test]
async fn frames_keep_their_order_and_share_writes() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let (at_one, _) = pair(&mut one, &mut two, Lane::Control).await;
    let before = one.transport.sample(at_one).unwrap();
    for number in 0..5000_u32 {
        one.transport.send(at_one, frame(&number.to_be_bytes())).unwrap();
    }
    for number in 0..5000_u32 {
        assert_eq!(two.frame().await.1.body[..], number.to_be_bytes());
    }
    let after = one.transport.sample(at_one).unwrap();
    // A record and its header for each frame alone would be over 30 bytes a frame.
    let sent = after.sent_bytes - before.sent_bytes;
    assert!(sent < 5000 * 12, "{sent} bytes for 45,000 of frames");
    assert!(after.tcp.rtt > Duration::ZERO);
    let totals = one.transport.stats();
    assert!(totals.sent_bytes >= after.sent_bytes);
}

#[tokio::test]
async fn simultaneous_dials_make_two_links() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    one.dial(1, &two, Lane::Control);
    two.dial(2, &one, Lane::Control);
    for node in [&mut one, &mut two] {
        let mut dialled = [node.up().await.3.is_some(), node.up().await.3.is_some()];
        dialled.sort_unstable();
        assert_eq!(dialled, [false, true]);
    }
}

#[tokio::test]
async fn a_hundred_nodes_may_knock_at_one_seed_at_once() {
    let bloc = Bloc::new("example");
    let mut seed = bloc.node("seed");
    let mut nodes: Vec<Node> = (0..100).map(|n| bloc.node(&format!("n{n}"))).collect();
    for (number, node) in (0..).zip(&nodes) {
        node.dial(number, &seed, Lane::Control);
    }
    let mut seen = BTreeSet::new();
    while seen.len() < nodes.len() {
        seen.insert(seed.up().await.2.cert.id);
    }
    for node in &mut nodes {
        assert!(seen.contains(&node.id));
        node.up().await;
    }
    assert_eq!(seed.transport.stats().refused, []);
    assert_eq!(seed.transport.stats().links, 100);
}

#[tokio::test]
async fn a_dead_address_does_not_stand_in_the_way_of_a_live_one() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    // Listens and never accepts: connects, and then says nothing.
    let mute = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refusing = {
        let gone = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        gone.local_addr().unwrap()
    };
    let addresses = vec![mute.local_addr().unwrap(), refusing, two.address];
    one.transport.dial(DialId(5), addresses, Some(two.id), Lane::Control);
    assert_eq!(one.up().await.3, Some(DialId(5)));
    two.up().await;
}

#[tokio::test]
async fn ipv6_works_as_ipv4_does_and_listeners_come_and_go() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let Ok(listener) = bind("[::1]:0".parse().unwrap()) else {
        // A host without IPv6 has nothing to show here.
        assert!(std::net::TcpListener::bind("[::1]:0").is_err());
        return;
    };
    let address = two.transport.add_listener(listener).unwrap();
    assert_eq!(two.transport.listeners().len(), 2);
    one.transport.dial(DialId(1), vec![address], None, Lane::Control);
    let (at_one, ..) = one.up().await;
    let (at_two, ..) = two.up().await;
    assert!(two.transport.remove_listener(address));
    assert!(!two.transport.remove_listener(address));
    // The link that came in there stays.
    one.transport.send(at_one, frame(b"still here")).unwrap();
    assert_eq!(two.frame().await.0, at_two);
    let refused = async {
        loop {
            one.transport.dial(DialId(2), vec![address], None, Lane::Control);
            match one.next().await {
                Event::DialFailed { why: DialFailure::Refused, .. } => return,
                // The listener's task had not ended yet.
                Event::LinkUp { .. } | Event::LinkDown { .. } | Event::DialFailed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
}

#[tokio::test]
async fn who_closes_says_why_and_what_was_queued_still_arrives() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let (at_one, at_two) = pair(&mut one, &mut two, Lane::Control).await;
    for _ in 0..50 {
        one.transport.send(at_one, frame(&[1; 50_000])).unwrap();
    }
    one.transport.close(at_one, "no longer a neighbour");
    assert_eq!(one.transport.send(at_one, frame(b"")), Err(SendError::Down));
    for _ in 0..50 {
        assert_eq!(two.frame().await.1.body.len(), 50_000);
    }
    let why = DownReason::Goodbye("no longer a neighbour".into());
    assert_eq!(two.down().await, (at_two, why));
    let why = DownReason::Local("no longer a neighbour".into());
    assert_eq!(one.down().await, (at_one, why));
    assert_eq!(one.transport.queued_bytes(at_one), None);
}

#[tokio::test]
async fn a_shutdown_tells_all_peers_and_ends_all_tasks() {
    let bloc = Bloc::new("example");
    let mut seed = bloc.node("seed");
    let mut others: Vec<Node> = (0..5).map(|n| bloc.node(&format!("n{n}"))).collect();
    for other in &mut others {
        pair(other, &mut seed, Lane::Control).await;
    }
    let address = seed.address;
    timeout(PATIENCE, seed.transport.shutdown("restarting")).await.unwrap();
    for other in &mut others {
        assert_eq!(other.down().await.1, DownReason::Goodbye("restarting".into()));
    }
    for _ in 0..5 {
        assert_eq!(seed.down().await.1, DownReason::Local("restarting".into()));
    }
    assert_eq!(seed.transport.stats().links, 0);
    // Nobody is at home any more, and whoever dials is told so at once.
    others[0].transport.dial(DialId(9), vec![address], None, Lane::Control);
    let (dial, why, attempts) = others[0].failed().await;
    assert_eq!((dial, &why), (DialId(9), &DialFailure::Refused));
    assert_eq!(attempts, [(address, DialFailure::Refused)]);
    seed.transport.dial(DialId(1), vec![others[0].address], None, Lane::Control);
    assert_eq!(seed.failed().await.1, DialFailure::Closing);
}

#[tokio::test]
async fn an_agent_that_is_gone_leaves_no_link_behind() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    pair(&mut one, &mut two, Lane::Control).await;
    drop(one);
    let why = DownReason::Goodbye("the agent has ended".into());
    assert_eq!(two.down().await.1, why);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_for_new_links_and_old_ones_stay() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let (at_one, at_two) = pair(&mut one, &mut two, Lane::Control).await;
    let old = one.identity.current().info().hash;
    one.identity.replace(bloc.identity("one")).unwrap();
    let new = one.identity.current().info().hash;
    assert_ne!(old, new);
    one.transport.send(at_one, frame(b"old link")).unwrap();
    assert_eq!(two.frame().await.0, at_two);
    one.dial(2, &two, Lane::Bulk);
    assert_eq!(two.up().await.2.cert.hash, new);
}

#[tokio::test]
async fn dials_that_cannot_succeed_say_why() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    one.transport.dial(DialId(1), vec![], None, Lane::Control);
    assert_eq!(one.failed().await.1, DialFailure::NoAddress);

    let somebody = NodeId::derive(&bloc.name, &"three".parse().unwrap());
    one.transport.dial(DialId(2), vec![two.address], Some(somebody), Lane::Control);
    let why = one.failed().await.1;
    assert_eq!(why.reason().unwrap().as_str(), "wrong-peer");
    assert!(why.to_string().contains("two"), "{why}");

    one.transport.dial(DialId(3), vec![one.address], None, Lane::Control);
    let why = one.failed().await.1;
    assert_eq!(why.reason().unwrap().as_str(), "myself", "{why}");

    let unreachable: SocketAddr = "255.255.255.255:9".parse().unwrap();
    two.transport.dial(DialId(4), vec![unreachable], None, Lane::Control);
    let failure = loop {
        match two.next().await {
            Event::DialFailed { why, .. } => break why,
            Event::Refused { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(failure, DialFailure::Unreachable(_)), "{failure:?}");
}

#[tokio::test]
async fn links_beyond_the_bounds_are_turned_away_with_the_reason() {
    let bloc = Bloc::new("example");
    let narrow = Config { max_links: 3, max_links_per_peer: 2, ..Config::default() };
    let mut seed = bloc.node_with("seed", narrow);
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    for _ in 0..2 {
        pair(&mut one, &mut seed, Lane::Control).await;
    }
    one.dial(3, &seed, Lane::Control);
    let why = one.failed().await.1;
    assert!(why.to_string().contains("has 2 links"), "{why}");
    seed.refused("too-many-links-of-peer").await;
    let (at_two, _) = pair(&mut two, &mut seed, Lane::Control).await;
    two.dial(4, &seed, Lane::Control);
    let why = two.failed().await.1;
    assert!(why.to_string().contains("one link too many"), "{why}");
    seed.refused("too-many-links").await;
    // A place that was given back can be had again.
    two.transport.close(at_two, "done");
    two.down().await;
    seed.down().await;
    pair(&mut two, &mut seed, Lane::Control).await;
}
