//! Real transports on loopback, in a world that says who cannot dial whom.

use skep_base::{ChannelName, NodeId, NodeName};
use skep_node::service::{DIAL_BACK, LINK_BACK, MEET};
use skep_routing::{AskError, Failure};
use skep_transport::{Event, TransportHandle};
use skep_wire::Lane;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::{Reach, ReachError, Relays, WayError};
use crate::channel::{ChannelError, Channels};
use crate::loopback::{self, Begun};
use crate::spine::Request;

struct Node {
    id: NodeId,
    name: NodeName,
    reach: Reach,
    transport: TransportHandle,
    /// Bulk links that came up, with whom.
    links: mpsc::UnboundedReceiver<NodeId>,
}

struct Bloc(loopback::Bloc);

impl Bloc {
    fn new() -> Self {
        Self(loopback::Bloc::new())
    }

    fn node(&self, name: &str) -> Node {
        let begun = self.0.begin(name, &[]);
        let Begun { id, name, transport, mut events, reach, mut inbox, .. } = begun;
        let (up, links) = mpsc::unbounded_channel();
        let (world, ours) = (self.0.world().clone(), reach.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(event) = events.recv() => {
                        let event = loopback::hand_to(&ours, event);
                        if let Some(Event::LinkUp { peer, lane: Lane::Bulk, .. }) = event {
                            up.send(peer.cert.id).ok();
                        }
                    }
                    Some(Request::Reach(wish)) = inbox.recv() => world.carry_out(id, wish),
                    else => return,
                }
            }
        });
        Node { id, name, reach, transport, links }
    }

    fn part(&self, one: &Node, other: &Node) {
        self.0.world().part(one.id, other.id);
    }

    fn hide(&self, one: &Node, other: &Node) {
        self.0.world().hide(one.id, other.id);
    }

    fn services(&self) -> Vec<u8> {
        self.0.world().services()
    }
}

fn channel(text: &str) -> ChannelName {
    text.parse().unwrap()
}

/// Opens a channel from `one` to `two` and sends bytes both ways.
async fn talk(one: &Node, two: &Node) {
    let name = channel("sync");
    let wait = two.reach.channels().serve(&name).unwrap();
    let opened = one.reach.open_channel(&one.name, &two.name, (two.id, &name)).await;
    let mut at_one = opened.unwrap_or_else(|error| panic!("{error}"));
    let incoming = wait.await.unwrap();
    assert_eq!(incoming.from, one.name);
    let mut at_two = incoming.stream;
    let long: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let sent = long.clone();
    let writer = tokio::spawn(async move {
        at_one.write_all(&sent).await.unwrap();
        at_one.shutdown().await.unwrap();
        let mut answer = Vec::new();
        at_one.read_to_end(&mut answer).await.unwrap();
        answer
    });
    let mut got = Vec::new();
    at_two.read_to_end(&mut got).await.unwrap();
    assert!(got == long, "{} of {} bytes, or others", got.len(), long.len());
    at_two.write_all(b"in step").await.unwrap();
    at_two.shutdown().await.unwrap();
    assert_eq!(writer.await.unwrap(), b"in step");
}

#[tokio::test]
async fn a_channel_goes_straight_where_it_can() {
    let bloc = Bloc::new();
    let (one, two) = (bloc.node("one"), bloc.node("two"));
    talk(&one, &two).await;
    talk(&one, &one).await;
    assert_eq!(bloc.services(), [0; 0], "nothing need be asked");
}

#[tokio::test]
async fn a_node_that_cannot_be_dialled_dials_back() {
    let bloc = Bloc::new();
    let (one, two) = (bloc.node("one"), bloc.node("two"));
    bloc.hide(&one, &two);
    talk(&one, &two).await;
    assert_eq!(bloc.services(), [DIAL_BACK]);
    assert_eq!(two.transport.stats().links, 0, "a stream took the place of a link");
}

#[tokio::test]
async fn two_that_cannot_dial_each_other_meet_at_a_third() {
    let bloc = Bloc::new();
    let (one, two, three) = (bloc.node("one"), bloc.node("two"), bloc.node("three"));
    bloc.part(&one, &two);
    talk(&one, &two).await;
    talk(&two, &one).await;
    let (pairs, bytes) = three.reach.relayed();
    assert!(pairs <= 2 && bytes > 1 << 20, "{pairs} pairs, {bytes} bytes");
    let asked = [DIAL_BACK, MEET];
    assert_eq!(bloc.services(), [asked, asked].concat());
}

#[tokio::test]
async fn a_bulk_link_is_made_by_whichever_way_leads_there() {
    let bloc = Bloc::new();
    let (mut one, mut two) = (bloc.node("one"), bloc.node("two"));
    let both_up = async |one: &mut Node, two: &mut Node| {
        assert_eq!(one.links.recv().await, Some(two.id));
        assert_eq!(two.links.recv().await, Some(one.id));
    };
    one.reach.link_to(two.id, Relays::Spared).await.unwrap();
    both_up(&mut one, &mut two).await;
    assert_eq!(bloc.services(), [0; 0], "nothing need be asked");

    bloc.hide(&one, &two);
    one.reach.link_to(two.id, Relays::Spared).await.unwrap();
    both_up(&mut one, &mut two).await;
    assert_eq!(bloc.services(), [LINK_BACK]);

    bloc.hide(&two, &one);
    let _three = bloc.node("three");
    let error = one.reach.link_to(two.id, Relays::Spared).await.unwrap_err();
    assert!(error.to_string().contains("comes from others"), "{error}");
    one.reach.link_to(two.id, Relays::Allowed).await.unwrap();
    both_up(&mut one, &mut two).await;
    assert_eq!(bloc.services(), [LINK_BACK, LINK_BACK, LINK_BACK, MEET]);
}

#[tokio::test]
async fn a_channel_within_a_node_that_breaks_off_is_told_from_one_that_ends() {
    let bloc = Bloc::new();
    let one = bloc.node("one");
    let name = channel("sync");
    for ends in [true, false] {
        let wait = one.reach.channels().serve(&name).unwrap();
        let opened = one.reach.open_channel(&one.name, &one.name, (one.id, &name)).await;
        let mut at_one = opened.unwrap_or_else(|error| panic!("{error}"));
        let mut at_two = wait.await.unwrap().stream;
        at_one.write_all(b"hello").await.unwrap();
        if ends {
            at_one.shutdown().await.unwrap();
        }
        drop(at_one);
        let mut said = Vec::new();
        let read = at_two.read_to_end(&mut said).await;
        assert_eq!((read.is_ok(), &said[..]), (ends, &b"hello"[..]));
    }
}

#[tokio::test]
async fn where_no_way_leads_each_is_named() {
    let bloc = Bloc::new();
    let (one, two) = (bloc.node("one"), bloc.node("two"));
    bloc.part(&one, &two);
    let error = one.reach.stream_to(two.id).await.expect_err("a way");
    let ReachError::Nowhere { back, met, .. } = &error else { panic!("{error}") };
    assert!(matches!(**back, WayError::Asked(AskError::Failed(Failure::Refused))), "{back:?}");
    assert!(matches!(**met, WayError::NoRelay), "{met:?}");
    let text = error.to_string();
    assert!(text.contains("two") && text.contains("no address is known"), "{text}");
    let stranger = NodeId::from_bytes([9; 16]);
    let error = one.reach.stream_to(stranger).await.expect_err("a stranger");
    assert!(matches!(error, ReachError::NotPresent), "{error}");
}

#[tokio::test]
async fn a_channel_that_nobody_serves_is_denied_and_one_wait_takes_one() {
    let bloc = Bloc::new();
    let (one, two) = (bloc.node("one"), bloc.node("two"));
    let name = channel("sync");
    let open = || one.reach.open_channel(&one.name, &two.name, (two.id, &name));
    let denied = |outcome: Result<Box<dyn crate::channel::Stream>, ChannelError>| {
        let error = outcome.err().expect("a channel that nobody serves");
        assert!(error.to_string().contains("nobody serves it"), "{error}");
    };
    denied(open().await);
    let gone = two.reach.channels().serve(&name).unwrap();
    drop(gone);
    denied(open().await);
    let wait = two.reach.channels().serve(&name).unwrap();
    assert_eq!(two.reach.channels().served(), [(name.clone(), 1)]);
    drop(open().await.unwrap_or_else(|error| panic!("{error}")));
    drop(wait.await.unwrap());
    assert_eq!(two.reach.channels().served(), []);
    denied(open().await);
}

#[tokio::test]
async fn waits_are_bounded() {
    let channels = Channels::default();
    let name = channel("sync");
    let waits: Vec<_> =
        (0..crate::channel::MAX_WAITS_OF_ONE).map(|_| channels.serve(&name).unwrap()).collect();
    assert!(matches!(channels.serve(&name), Err(ChannelError::TooMany { .. })));
    channels.serve(&channel("other")).unwrap();
    drop(waits);
    channels.serve(&name).unwrap();
}
