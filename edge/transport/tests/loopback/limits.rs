//! What a peer may cost, and enrolment.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_identity::{IdentityHandle, tls};
use skep_transport::{
    Config, DownReason, EnrolError, Event, LinkId, MAX_ENROLMENT_BYTES, SendError, enrol,
};
use skep_wire::{Lane, encode, kind, write_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bloc::{Bloc, Node, PATIENCE, frame, pair, settings};

/// A peer that greets and never reads again. The answer keeps its connection open.
async fn never_reads(
    bloc: &Bloc,
    name: &str,
    seed: &mut Node,
    lane: Lane,
) -> (LinkId, TlsStream<TcpStream>) {
    let identity = IdentityHandle::new(bloc.identity(name));
    let config = tls::client_config(&identity, &settings()).unwrap();
    let stream = TcpStream::connect(seed.address).await.unwrap();
    let server = tls::server_name(None, seed.address);
    let mut tls = TlsConnector::from(config).connect(server, stream).await.unwrap();
    let mut hello = Vec::new();
    write_frame(kind::HELLO, &encode(&bloc.hello(name, 9)(lane)), &mut hello);
    tls.write_all(&hello).await.unwrap();
    let mut first = [0; 5];
    tls.read_exact(&mut first).await.unwrap();
    let (link, ..) = seed.up().await;
    (link, tls)
}

#[tokio::test]
async fn a_slow_peer_loses_its_link_and_delays_nobody() {
    let bloc = Bloc::new("example");
    let (mut seed, mut friend) = (bloc.node("seed"), bloc.node("friend"));
    let (_, friendly) = pair(&mut friend, &mut seed, Lane::Control).await;
    let (slow, _open) = never_reads(&bloc, "slow", &mut seed, Lane::Control).await;
    let piece = frame(&[5; 60_000]);
    let mut refused = false;
    for round in 0..2000_u32 {
        match seed.transport.send(slow, piece.clone()) {
            Ok(()) => {}
            Err(SendError::TooSlow) => {
                refused = true;
                break;
            }
            Err(error) => panic!("{error}"),
        }
        // The friend's frames go through all the while.
        seed.transport.send(friendly, frame(&round.to_be_bytes())).unwrap();
        assert_eq!(friend.frame().await.1.body[..], round.to_be_bytes());
    }
    assert!(refused, "120 MB were queued for a peer that reads nothing");
    assert_eq!(seed.down().await, (slow, DownReason::TooSlow));
    assert_eq!(seed.transport.send(slow, piece), Err(SendError::Down));
    seed.transport.send(friendly, frame(b"still")).unwrap();
    assert_eq!(&friend.frame().await.1.body[..], b"still");
}

#[tokio::test]
async fn a_peer_that_stops_taking_bytes_is_given_up_even_below_the_bound() {
    let bloc = Bloc::new("example");
    let config = Config {
        write_stall: Duration::from_millis(700),
        bulk_queue_bytes: 512 * 1024 * 1024,
        ..Config::default()
    };
    let mut seed = bloc.node_with("seed", config);
    let (slow, _open) = never_reads(&bloc, "slow", &mut seed, Lane::Bulk).await;
    for _ in 0..64 {
        seed.transport.send(slow, frame(&vec![1; 1024 * 1024])).unwrap();
    }
    assert_eq!(seed.down().await, (slow, DownReason::TooSlow));
}

#[tokio::test]
async fn a_sender_of_bulk_waits_for_room_and_loses_nothing() {
    let bloc = Bloc::new("example");
    let config = Config { bulk_queue_bytes: 2 * 1024 * 1024, ..Config::default() };
    let (mut one, mut two) = (bloc.node_with("one", config), bloc.node("two"));
    let (at_one, _) = pair(&mut one, &mut two, Lane::Bulk).await;
    let transport = one.transport.clone();
    let sending = tokio::spawn(async move {
        for number in 0..100_u8 {
            let piece = frame(&vec![number; 256 * 1024]);
            transport.room(at_one, piece.len()).await?;
            transport.send(at_one, piece)?;
        }
        Ok::<_, SendError>(())
    });
    for number in 0..100_u8 {
        let (_, got) = two.frame().await;
        assert_eq!((got.body.len(), got.body[0]), (256 * 1024, number));
    }
    sending.await.unwrap().unwrap();
    let room = one.transport.room(at_one, 3 * 1024 * 1024).await;
    assert_eq!(room, Err(SendError::TooLong));
    let sample = one.transport.sample(at_one).unwrap();
    assert!(sample.tcp.delivery_rate > 0 && sample.tcp.bytes_acked > 20_000_000, "{sample:?}");
}

#[tokio::test]
async fn an_agent_that_does_not_read_holds_only_so_much() {
    let bloc = Bloc::new("example");
    let bound = 2 * 1024 * 1024;
    let config = Config { max_unread_bytes: bound, ..Config::default() };
    let (mut one, mut two) = (bloc.node("one"), bloc.node_with("two", config));
    let (at_one, at_two) = pair(&mut one, &mut two, Lane::Bulk).await;
    // Far more than sockets and queue hold: it ends only when the other side takes it.
    let transport = one.transport.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..64 {
            let piece = frame(&vec![3; 1024 * 1024]);
            transport.room(at_one, piece.len()).await?;
            transport.send(at_one, piece)?;
        }
        Ok::<_, SendError>(())
    });
    // The first frames are held on to, with their credit, as by an agent that works on them.
    let mut held = Vec::new();
    while held.len() < 2 {
        match two.next().await {
            Event::Frame { frame, credit, .. } => held.push((frame, credit)),
            other => panic!("{other:?}"),
        }
    }
    // Now the bound is reached: no third frame comes, however long one waits.
    let third = timeout(Duration::from_millis(500), two.events.recv()).await;
    assert!(third.is_err(), "{third:?}");
    assert!(!sending.is_finished());
    drop(held);
    for _ in 2..64 {
        assert_eq!(two.frame().await.0, at_two);
    }
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn quiet_links_end_each_in_its_way() {
    let bloc = Bloc::new("example");
    let config = Config {
        control_idle: Duration::from_millis(1500),
        bulk_idle: Duration::from_millis(500),
        ..Config::default()
    };
    let (mut one, mut two) = (bloc.node_with("one", config), bloc.node("two"));
    let (control, _) = pair(&mut one, &mut two, Lane::Control).await;
    let (bulk, _) = pair(&mut one, &mut two, Lane::Bulk).await;
    assert_eq!(one.down().await, (bulk, DownReason::Local("idle".into())));
    assert_eq!(one.down().await, (control, DownReason::TimedOut));
}

#[tokio::test]
async fn enrolment_is_carried_to_a_node_that_serves_the_ca_and_nowhere_else() {
    let bloc = Bloc::new("example");
    let mut seed = bloc.node("seed");
    let clock = settings().clock;
    let client = tls::enrolment_client_config(&bloc.name, bloc.ca.fingerprint(), &clock).unwrap();
    let config = Config::default();
    let addresses = [seed.address];

    let refused = enrol(&addresses, &client, &config, b"let me in").await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&seed.address.to_string()), "{text}");
    let text = seed.refused("enrolment").await;
    assert!(text.contains("does not serve the CA"), "{text}");

    seed.transport.serve_enrolment(true);
    let serving = tokio::spawn(async move {
        let Event::Enrolment { request, reply, remote } = seed.next().await else {
            panic!("an enrolment was expected");
        };
        assert_eq!(&request[..], b"let me in");
        assert!(remote.ip().is_loopback());
        reply.send(Bytes::from_static(b"welcome")).unwrap();
        seed
    });
    // The first address is dead: the next is asked.
    let dead = skep_transport::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = dead.local_addr().unwrap();
    drop(dead);
    let answer = enrol(&[gone, addresses[0]], &client, &config, b"let me in").await.unwrap();
    assert_eq!(&answer[..], b"welcome");
    let mut seed = serving.await.unwrap();

    // An agent that has no answer ends the connection; an impostor is not asked at all.
    let silent = tokio::spawn(async move {
        let Event::Enrolment { reply, .. } = seed.next().await else {
            panic!("an enrolment was expected");
        };
        drop(reply);
        seed
    });
    assert!(enrol(&addresses, &client, &config, b"again").await.is_err());
    let seed = silent.await.unwrap();
    let other = Bloc::new("example");
    let pinned = tls::enrolment_client_config(&other.name, other.ca.fingerprint(), &clock).unwrap();
    assert!(enrol(&addresses, &pinned, &config, b"secret").await.is_err());
    let long = vec![0; MAX_ENROLMENT_BYTES + 1];
    let refused = enrol(&addresses, &client, &config, &long).await;
    assert!(matches!(refused, Err(EnrolError::TooLong(_))));
    // And members link as ever.
    let mut seed = seed;
    let mut one = bloc.node("one");
    one.dial(1, &seed, Lane::Control);
    one.up().await;
    loop {
        match seed.next().await {
            Event::LinkUp { peer, .. } => break assert_eq!(peer.cert.id, one.id),
            Event::Refused { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn half_open_connections_of_one_address_do_not_keep_others_out() {
    let bloc = Bloc::new("example");
    let config = Config {
        max_handshakes: 4,
        max_waiting_handshakes: 8,
        handshake_timeout: Duration::from_secs(60),
        ..Config::default()
    };
    let mut seed = bloc.node_with("seed", config);
    let mut open = Vec::new();
    for _ in 0..12 {
        open.push(TcpStream::connect(seed.address).await.unwrap());
    }
    seed.refused("busy").await;
    // All of 127.0.0.1's share is taken; somebody else is let in at once.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let stream = socket.connect(seed.address).await.unwrap();
    let identity = IdentityHandle::new(bloc.identity("other"));
    let client = tls::client_config(&identity, &settings()).unwrap();
    let name = tls::server_name(None, seed.address);
    let handshake = TlsConnector::from(Arc::clone(&client)).connect(name, stream);
    let mut tls = timeout(PATIENCE, handshake).await.unwrap().unwrap();
    let mut hello = Vec::new();
    write_frame(kind::HELLO, &encode(&bloc.hello("other", 4)(Lane::Control)), &mut hello);
    tls.write_all(&hello).await.unwrap();
    loop {
        match seed.next().await {
            Event::LinkUp { peer, .. } => break assert_eq!(peer.cert.node.as_str(), "other"),
            Event::Refused { why, .. } => assert_eq!(why.reason().as_str(), "busy"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seed.transport.stats().handshakes.0, 3);
}
