//! Real transports on loopback; who knows which address, and who passes requests on, is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use skep_base::{BlocName, ChannelName, Incarnation, NodeId, NodeName, Nonce};
use skep_identity::{Ca, Identity, IdentityHandle, IssueRequest, tls};
use skep_routing::{AskError, Failure, Key, Ticket};
use skep_transport::{Event, TransportHandle, bind};
use skep_wire::{FEATURE_LEVEL, Hello, Lane, Magic, PROTOCOL_MAX, PROTOCOL_MIN};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::{Reach, ReachError, WayError, Whereabouts, Wish};
use crate::channel::{ChannelError, Channels};
use crate::clock::Clock;
use crate::spine::Request;

/// What all main loops of the test share.
#[derive(Default)]
struct World {
    nodes: BTreeMap<NodeId, Known>,
    asked: BTreeMap<Ticket, oneshot::Sender<Result<Bytes, AskError>>>,
    serial: u64,
    /// Pairs of which the first cannot dial the second.
    apart: BTreeSet<(NodeId, NodeId)>,
    /// Services asked so far.
    services: Vec<u8>,
}

#[derive(Clone)]
struct Known {
    name: NodeName,
    address: SocketAddr,
    reach: Reach,
}

struct Node {
    id: NodeId,
    name: NodeName,
    reach: Reach,
    transport: TransportHandle,
}

struct Bloc {
    _dir: TempDir,
    name: BlocName,
    ca: Ca,
    world: Arc<Mutex<World>>,
}

impl Bloc {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name: BlocName = "example".parse().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), &name, Clock::of_process().wall()).unwrap();
        Self { _dir: dir, name, ca, world: Arc::default() }
    }

    fn node(&self, name: &str) -> Node {
        let name: NodeName = name.parse().unwrap();
        let wall = Clock::of_process().wall();
        let identity: Identity = self.ca.issue(&IssueRequest::new(name.clone()), wall).unwrap();
        let id = identity.info().id;
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let settings = tls::Settings::new(Arc::new(move || Clock::of_process().wall()));
        let (transport, events) = skep_transport::start(
            vec![listener],
            IdentityHandle::new(identity),
            settings,
            skep_transport::Config::default(),
            hello(&self.name, &name),
        )
        .unwrap();
        let (requests, inbox) = mpsc::channel(256);
        let reach = Reach::new(transport.clone(), requests, Channels::default());
        let known = Known { name: name.clone(), address, reach: reach.clone() };
        self.world.lock().unwrap().nodes.insert(id, known);
        tokio::spawn(main_loop(id, events, inbox, reach.clone(), Arc::clone(&self.world)));
        Node { id, name, reach, transport }
    }

    /// Neither of the two can dial the other.
    fn part(&self, one: &Node, other: &Node) {
        self.hide(one, other);
        self.hide(other, one);
    }

    /// The first cannot dial the second.
    fn hide(&self, one: &Node, other: &Node) {
        self.world.lock().unwrap().apart.insert((one.id, other.id));
    }

    fn services(&self) -> Vec<u8> {
        self.world.lock().unwrap().services.clone()
    }
}

fn hello(bloc: &BlocName, node: &NodeName) -> impl Fn(Lane) -> Hello + Send + Sync + use<> {
    let (bloc, node) = (bloc.clone(), node.clone());
    let nonce = Nonce(node.as_str().bytes().map(u64::from).sum());
    move |lane| Hello {
        magic: Magic::CURRENT,
        protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
        feature_level: FEATURE_LEVEL,
        lane,
        bloc: bloc.clone(),
        node: node.clone(),
        incarnation: Incarnation(1),
        nonce,
        addresses: Vec::new(),
        version: "test".into(),
    }
}

async fn main_loop(
    me: NodeId,
    mut events: mpsc::Receiver<Event>,
    mut inbox: mpsc::Receiver<Request>,
    reach: Reach,
    world: Arc<Mutex<World>>,
) {
    loop {
        tokio::select! {
            Some(event) = events.recv() => match event {
                Event::StreamUp { stream, peer, dialled, .. } => {
                    reach.stream_up(stream, (peer.cert.id, peer.cert.node), dialled);
                }
                Event::DialFailed { dial, why, .. } => {
                    assert!(reach.dial_failed(dial, &why), "a dial of nobody");
                }
                Event::LinkUp { .. }
                | Event::Frame { .. }
                | Event::LinkDown { .. }
                | Event::Refused { .. }
                | Event::Enrolment { .. } => {}
            },
            Some(Request::Reach(wish)) = inbox.recv() => carry_out(me, wish, &world),
            else => return,
        }
    }
}

fn carry_out(me: NodeId, wish: Wish, world: &Mutex<World>) {
    let mut world = world.lock().unwrap();
    match wish {
        Wish::Whereabouts { node, reply } => {
            let there = world.nodes.get(&node).cloned().map(|known| Whereabouts {
                name: known.name,
                addresses: seen(&world, me, node).into_iter().collect(),
                relays: world
                    .nodes
                    .keys()
                    .filter(|other| **other != me && **other != node)
                    .map(|relay| (*relay, vec![world.nodes[relay].address]))
                    .collect(),
                // What the other may dial of us.
                ours: seen(&world, node, me).into_iter().collect(),
            });
            drop(reply.send(there));
        }
        Wish::Ask { to, service, body, reply, .. } => {
            world.services.push(service);
            world.serial += 1;
            let ticket = Ticket { origin: me, key: Key { life: 1, serial: world.serial } };
            world.asked.insert(ticket, reply);
            let reach = world.nodes[&to].reach.clone();
            reach.request(ticket, service, &body);
        }
        Wish::Answer { ticket, outcome } => {
            let reply = world.asked.remove(&ticket).expect("an answer to what was asked");
            drop(reply.send(outcome.map_err(AskError::Failed)));
        }
    }
}

fn seen(world: &World, from: NodeId, node: NodeId) -> Option<SocketAddr> {
    (!world.apart.contains(&(from, node))).then(|| world.nodes[&node].address)
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
    assert_eq!(bloc.services(), [skep_node::service::DIAL_BACK]);
    assert_eq!(two.transport.stats().links, 0, "a stream took the place of a link");
}

#[tokio::test]
async fn two_that_cannot_dial_each_other_meet_at_a_third() {
    let bloc = Bloc::new();
    let (one, two, _three) = (bloc.node("one"), bloc.node("two"), bloc.node("three"));
    bloc.part(&one, &two);
    talk(&one, &two).await;
    talk(&two, &one).await;
    let asked = [skep_node::service::DIAL_BACK, skep_node::service::MEET];
    assert_eq!(bloc.services(), [asked, asked].concat());
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
