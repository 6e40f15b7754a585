//! For tests: nodes of one bloc with real transports on loopback. Who knows which address, and who
//! passes requests on, is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use skep_base::{BlocName, Incarnation, NodeId, NodeName, Nonce};
use skep_identity::{Ca, IdentityHandle, IssueRequest, Role, tls};
use skep_routing::{AskError, Key, Ticket};
use skep_transport::{Event, TransportHandle, bind};
use skep_wire::{FEATURE_LEVEL, Hello, Lane, Magic, PROTOCOL_MAX, PROTOCOL_MIN};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::channel::Channels;
use crate::clock::Clock;
use crate::reach::{Reach, Whereabouts, Wish};
use crate::spine::Request;

/// A CA, and what the main loops of its nodes share.
pub(crate) struct Bloc {
    dir: TempDir,
    name: BlocName,
    ca: Ca,
    world: World,
}

/// What all main loops of a test share. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
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

/// A node without its main loop.
pub(crate) struct Begun {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) identity: IdentityHandle,
    pub(crate) address: SocketAddr,
    pub(crate) transport: TransportHandle,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) reach: Reach,
    /// Where the parts of the agent ask the main loop.
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) inbox: mpsc::Receiver<Request>,
}

impl Bloc {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name: BlocName = "example".parse().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), &name, Clock::of_process().wall()).unwrap();
        Self { dir, name, ca, world: World::default() }
    }

    /// A folder that goes with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) const fn world(&self) -> &World {
        &self.world
    }

    /// Starts a node, again where it was started before.
    pub(crate) fn begin(&self, name: &str, roles: &[Role]) -> Begun {
        let clock = Clock::of_process();
        let name: NodeName = name.parse().unwrap();
        let request = IssueRequest {
            roles: roles.iter().copied().collect(),
            replace: true,
            ..IssueRequest::new(name.clone())
        };
        let identity = IdentityHandle::new(self.ca.issue(&request, clock.wall()).unwrap());
        let id = identity.current().info().id;
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let settings = tls::Settings::new(Arc::new(move || clock.wall()));
        let (transport, events) = skep_transport::start(
            vec![listener],
            identity.clone(),
            settings,
            skep_transport::Config::default(),
            hello(&self.name, &name),
        )
        .unwrap();
        let (requests, inbox) = mpsc::channel(256);
        let reach = Reach::new(transport.clone(), requests.clone(), Channels::default());
        let known = Known { name: name.clone(), address, reach: reach.clone() };
        self.world.lock().nodes.insert(id, known);
        Begun { id, name, identity, address, transport, events, reach, requests, inbox }
    }
}

impl World {
    /// Neither of the two can dial the other.
    pub(crate) fn part(&self, one: NodeId, other: NodeId) {
        self.hide(one, other);
        self.hide(other, one);
    }

    /// The first cannot dial the second.
    pub(crate) fn hide(&self, one: NodeId, other: NodeId) {
        self.lock().apart.insert((one, other));
    }

    /// A node is present no longer.
    pub(crate) fn remove(&self, node: NodeId) {
        self.lock().nodes.remove(&node);
    }

    /// Services asked so far.
    pub(crate) fn services(&self) -> Vec<u8> {
        self.lock().services.clone()
    }

    /// Does what the main loop of `me` does about a wish.
    pub(crate) fn carry_out(&self, me: NodeId, wish: Wish) {
        let mut world = self.lock();
        match wish {
            Wish::Whereabouts { node, reply } => drop(reply.send(world.whereabouts(me, node))),
            Wish::Ask { to, service, body, reply, .. } => {
                world.services.push(service);
                world.serial += 1;
                let ticket = Ticket { origin: me, key: Key { life: 1, serial: world.serial } };
                let Some(known) = world.nodes.get(&to) else {
                    return drop(reply.send(Err(AskError::NoRoute)));
                };
                let reach = known.reach.clone();
                world.asked.insert(ticket, reply);
                reach.request(ticket, service, &body);
            }
            Wish::Answer { ticket, outcome } => {
                let reply = world.asked.remove(&ticket).expect("an answer to what was asked");
                drop(reply.send(outcome.map_err(AskError::Failed)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap()
    }
}

impl Shared {
    fn whereabouts(&self, me: NodeId, node: NodeId) -> Option<Whereabouts> {
        let known = self.nodes.get(&node)?;
        let others = self.nodes.iter().filter(|(other, _)| **other != me && **other != node);
        Some(Whereabouts {
            name: known.name.clone(),
            addresses: self.seen(me, node).into_iter().collect(),
            relays: others.map(|(relay, known)| (*relay, vec![known.address])).collect(),
            // What the other may dial of us.
            ours: self.seen(node, me).into_iter().collect(),
        })
    }

    fn seen(&self, from: NodeId, node: NodeId) -> Option<SocketAddr> {
        (!self.apart.contains(&(from, node))).then(|| self.nodes[&node].address)
    }
}

/// Gives `reach` what an event of the transport means to it; the event, where others need it too.
pub(crate) fn hand_to(reach: &Reach, event: Event) -> Option<Event> {
    match event {
        Event::StreamUp { stream, peer, dialled, .. } => {
            reach.stream_up(stream, (peer.cert.id, peer.cert.node), dialled);
            None
        }
        Event::DialFailed { dial, why, .. } => {
            assert!(reach.dial_failed(dial, &why), "a dial of nobody");
            None
        }
        Event::LinkUp { dialled, .. } => {
            if let Some(dial) = dialled {
                reach.link_up(dial);
            }
            Some(event)
        }
        Event::Frame { .. }
        | Event::LinkDown { .. }
        | Event::Refused { .. }
        | Event::Enrolment { .. } => Some(event),
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
