//! Streams, and connections within them that a third node passes on.

use skep_transport::{Config, DialFailure, DialId, Event, HandshakeError, Over, PeerStream};
use skep_wire::Lane;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};

use crate::bloc::{Bloc, KIND, Node, frame};

/// Two nodes with a stream between them: each one's end of it.
async fn open(one: &mut Node, two: &mut Node) -> (Box<PeerStream>, Box<PeerStream>) {
    one.dial(1, two, Lane::Stream);
    let (at_one, peer, dialled) = one.stream().await;
    assert_eq!((peer.cert.id, dialled), (two.id, Some(DialId(1))));
    let (at_two, peer, dialled) = two.stream().await;
    assert_eq!((peer.cert.id, dialled), (one.id, None));
    (at_one, at_two)
}

/// Two nodes whose bytes the third passes on, until either hangs up.
async fn meet(
    one: &mut Node,
    two: &mut Node,
    relay: &mut Node,
) -> (Box<PeerStream>, Box<PeerStream>) {
    let (of_one, mut at_relay) = open(one, relay).await;
    let (of_two, mut also_at_relay) = open(two, relay).await;
    tokio::spawn(async move {
        drop(copy_bidirectional(&mut *at_relay, &mut *also_at_relay).await);
    });
    (of_one, of_two)
}

#[tokio::test]
async fn a_stream_carries_what_it_is_for_and_then_bytes() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let (mut at_one, mut at_two) = open(&mut one, &mut two).await;
    at_one.write_frame(KIND, b"a channel").await.unwrap();
    // What follows in the same breath is not lost to the reader of the frame.
    at_one.write_all(b"and bytes").await.unwrap();
    at_one.flush().await.unwrap();
    let first = at_two.read_frame(100).await.unwrap();
    assert_eq!((first.kind, &first.body[..]), (KIND, &b"a channel"[..]));
    let mut read = [0; 9];
    at_two.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"and bytes");

    let long: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let sent = long.clone();
    let writer = tokio::spawn(async move {
        at_two.write_all(&sent).await.unwrap();
        at_two.shutdown().await.unwrap();
        at_two
    });
    let mut got = Vec::new();
    at_one.read_to_end(&mut got).await.unwrap();
    assert!(got == long, "{} of {} bytes, or others", got.len(), long.len());
    drop(writer.await.unwrap());
    assert_eq!(one.transport.stats().links, 0, "a stream is no link");
}

#[tokio::test]
async fn a_first_frame_that_is_too_long_is_refused() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let (mut at_one, mut at_two) = open(&mut one, &mut two).await;
    at_one.write_frame(KIND, &[7; 200]).await.unwrap();
    let error = at_two.read_frame(100).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn two_nodes_meet_at_a_third_and_prove_themselves_to_each_other() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let mut relay = bloc.node("relay");
    for lane in [Lane::Control, Lane::Bulk] {
        let (of_one, of_two) = meet(&mut one, &mut two, &mut relay).await;
        let dial = DialId(9);
        one.transport.over(of_one, Over::Dial { dial, expected: two.id, lane });
        two.transport.over(of_two, Over::Accept);
        let (at_one, lane_one, peer, dialled) = one.up().await;
        assert_eq!((lane_one, dialled, peer.cert.id), (lane, Some(dial), two.id));
        let (at_two, lane_two, peer, dialled) = two.up().await;
        assert_eq!((lane_two, dialled, peer.cert.id), (lane, None, one.id));

        let long = vec![9; lane.max_body_bytes()];
        for _ in 0..20 {
            one.transport.send(at_one, frame(&long)).unwrap();
            two.transport.send(at_two, frame(b"short")).unwrap();
            let (link, got) = two.frame().await;
            assert_eq!((link, got.body.len()), (at_two, long.len()));
            assert_eq!(one.frame().await.1.body[..], b"short"[..]);
        }
        let sample = one.transport.sample(at_one).expect("the way to the relay is measured");
        assert!(sample.relayed, "it is taken for the way to the peer");
        one.transport.close(at_one, "enough");
        assert_eq!(two.down().await.0, at_two);
        assert_eq!(one.down().await.0, at_one);
    }
    // A stream may be made within a stream as well.
    let (of_one, of_two) = meet(&mut one, &mut two, &mut relay).await;
    let side = Over::Dial { dial: DialId(10), expected: two.id, lane: Lane::Stream };
    one.transport.over(of_one, side);
    two.transport.over(of_two, Over::Accept);
    let (mut at_one, ..) = one.stream().await;
    let (mut at_two, ..) = two.stream().await;
    at_one.write_all(b"through").await.unwrap();
    at_one.flush().await.unwrap();
    let mut read = [0; 7];
    at_two.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"through");
}

#[tokio::test]
async fn whoever_is_led_to_another_node_than_it_asked_for_notices() {
    let bloc = Bloc::new("example");
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let (mut relay, absent) = (bloc.node("relay"), bloc.node("absent"));
    let (of_one, of_two) = meet(&mut one, &mut two, &mut relay).await;
    let side = Over::Dial { dial: DialId(9), expected: absent.id, lane: Lane::Control };
    one.transport.over(of_one, side);
    two.transport.over(of_two, Over::Accept);
    let (dial, why, _) = one.failed().await;
    assert_eq!(dial, DialId(9));
    assert!(
        matches!(&why, DialFailure::Handshake(HandshakeError::WrongPeer { found, .. })
            if *found == two.id),
        "{why:?}"
    );
}

#[tokio::test]
async fn streams_of_one_node_are_bounded_and_take_no_place_of_a_link() {
    let bloc = Bloc::new("example");
    let mut one = bloc.node("one");
    let few = Config { max_streams_per_peer: 2, max_links_per_peer: 1, ..Config::default() };
    let mut two = bloc.node_with("two", few);
    let first = open(&mut one, &mut two).await;
    let second = open(&mut one, &mut two).await;
    one.dial(3, &two, Lane::Stream);
    let Event::DialFailed { why, .. } = one.next().await else {
        panic!("a third stream was let in");
    };
    assert!(why.to_string().contains("stream") || why.to_string().contains("link"), "{why}");
    two.refused("too-many-links-of-peer").await;
    drop(first);
    drop(second);
    crate::bloc::pair(&mut one, &mut two, Lane::Control).await;
    let again = open(&mut one, &mut two).await;
    drop(again);
}
