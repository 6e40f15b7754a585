//! A bloc on loopback: a CA, nodes with certificates, and their transports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use skep_base::{BlocName, Incarnation, NodeId, Nonce, WallTime};
use skep_identity::{Ca, Identity, IdentityHandle, IssueRequest, tls};
use skep_transport::{
    Config, DialFailure, DialId, DownReason, Event, LinkId, Peer, PeerStream, TransportHandle,
    bind, start,
};
use skep_wire::{
    FEATURE_LEVEL, Frame, Hello, Lane, Magic, PROTOCOL_MAX, PROTOCOL_MIN, write_frame,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long anything may take on a machine with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A kind that no machine uses.
pub(crate) const KIND: u8 = 0xE0;

pub(crate) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    WallTime::from_unix_ms(u64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn settings() -> tls::Settings {
    tls::Settings::new(Arc::new(now))
}

pub(crate) struct Bloc {
    pub(crate) ca: Ca,
    pub(crate) name: BlocName,
    _dir: TempDir,
}

impl Bloc {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name: BlocName = name.parse().unwrap();
        let ca = Ca::init(dir.path(), &name, now()).unwrap();
        Self { ca, name, _dir: dir }
    }

    pub(crate) fn identity(&self, node: &str) -> Identity {
        self.identity_made(node, now())
    }

    pub(crate) fn identity_made(&self, node: &str, at: WallTime) -> Identity {
        let request = IssueRequest { replace: true, ..IssueRequest::new(node.parse().unwrap()) };
        self.ca.issue(&request, at).unwrap()
    }

    pub(crate) fn hello(
        &self,
        node: &str,
        nonce: u64,
    ) -> impl Fn(Lane) -> Hello + Send + Sync + use<> {
        let (bloc, node) = (self.name.clone(), node.parse().unwrap());
        move |lane| Hello {
            magic: Magic::CURRENT,
            protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
            feature_level: FEATURE_LEVEL,
            lane,
            bloc: BlocName::clone(&bloc),
            node: skep_base::NodeName::clone(&node),
            incarnation: Incarnation(1),
            nonce: Nonce(nonce),
            addresses: vec![],
            version: "test".into(),
        }
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        self.node_with(name, Config::default())
    }

    pub(crate) fn node_with(&self, name: &str, config: Config) -> Node {
        let nonce = NodeId::derive(&self.name, &name.parse().unwrap()).as_bytes()[0];
        let identity = IdentityHandle::new(self.identity(name));
        let hello = self.hello(name, u64::from(nonce) + 1);
        Node::start(identity, settings(), config, hello)
    }
}

/// One transport with its events.
pub(crate) struct Node {
    pub(crate) transport: TransportHandle,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) address: SocketAddr,
    pub(crate) id: NodeId,
    pub(crate) identity: IdentityHandle,
}

impl Node {
    pub(crate) fn start(
        identity: IdentityHandle,
        settings: tls::Settings,
        config: Config,
        hello: impl Fn(Lane) -> Hello + Send + Sync + 'static,
    ) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let id = identity.current().info().id;
        let (transport, events) =
            start(vec![listener], identity.clone(), settings, config, hello).unwrap();
        Self { transport, events, address, id, identity }
    }

    pub(crate) fn dial(&self, number: u64, other: &Self, lane: Lane) {
        let dial = DialId(number);
        self.transport.dial(dial, vec![other.address], Some(other.id), lane);
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Event {
        let event = timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event in time").expect("a transport that runs")
    }

    /// The next link that comes up; anything else meanwhile is a failure.
    pub(crate) async fn up(&mut self) -> (LinkId, Lane, Box<Peer>, Option<DialId>) {
        match self.next().await {
            Event::LinkUp { link, lane, peer, dialled, .. } => (link, lane, peer, dialled),
            other => panic!("a link was expected, not {other:?}"),
        }
    }

    /// The next stream that opens; anything else meanwhile is a failure.
    pub(crate) async fn stream(&mut self) -> (Box<PeerStream>, Box<Peer>, Option<DialId>) {
        match self.next().await {
            Event::StreamUp { stream, peer, dialled, .. } => (stream, peer, dialled),
            other => panic!("a stream was expected, not {other:?}"),
        }
    }

    pub(crate) async fn frame(&mut self) -> (LinkId, Frame) {
        match self.next().await {
            Event::Frame { link, frame, .. } => (link, frame),
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    pub(crate) async fn down(&mut self) -> (LinkId, DownReason) {
        match self.next().await {
            Event::LinkDown { link, why } => (link, why),
            other => panic!("the end of a link was expected, not {other:?}"),
        }
    }

    pub(crate) async fn failed(&mut self) -> (DialId, DialFailure, Vec<(SocketAddr, DialFailure)>) {
        match self.next().await {
            Event::DialFailed { dial, why, attempts } => (dial, why, attempts),
            other => panic!("a failed dial was expected, not {other:?}"),
        }
    }

    /// Waits until `reason` was counted.
    pub(crate) async fn refused(&mut self, reason: &str) -> String {
        loop {
            if let Event::Refused { why, .. } = self.next().await {
                assert_eq!(why.reason().as_str(), reason, "{why}");
                return why.to_string();
            }
        }
    }

    pub(crate) fn count(&self, reason: &str) -> u64 {
        let refused = self.transport.stats().refused;
        refused.iter().find(|(found, _)| found.as_str() == reason).map_or(0, |(_, count)| *count)
    }
}

/// Two nodes with a link between them: each one's end of it.
pub(crate) async fn pair(one: &mut Node, two: &mut Node, lane: Lane) -> (LinkId, LinkId) {
    one.dial(1, two, lane);
    let (at_one, ..) = one.up().await;
    let (at_two, ..) = two.up().await;
    (at_one, at_two)
}

pub(crate) fn frame(body: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    write_frame(KIND, body, &mut bytes);
    bytes.into()
}
