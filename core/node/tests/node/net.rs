//! The nodes, the wires between them, and disks that keep all at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{BlocName, Digest, Incarnation, NodeId, NodeName, Nonce, Outbox, Time, WallTime};
use skep_flood::{Position, UpdateId};
use skep_node::{
    Birth, Config, DialFailure, DialId, DownReason, Event, Input, LinkId, Me, Node, Output, Peer,
    Source, Status,
};
use skep_records::{Signatory, Signer, Verifier};
use skep_routing::AskError;
use skep_topology::LayoutCache;
use skep_wire::{Address, Frame};

/// Of the bloc's nodes, what their certificates give.
pub(crate) type Roles = Arc<Mutex<BTreeMap<NodeId, &'static str>>>;

pub(crate) struct Keys(NodeId, Roles);

impl Signer for Keys {
    fn certificate(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.as_bytes())
    }
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        signature(&Digest::of(self.0.as_bytes()).0, message)
    }
}

impl Verifier for Keys {
    fn certificate(&self, der: &[u8]) -> Option<Signatory> {
        let node = NodeId::from_bytes(der.try_into().ok()?);
        Some(Signatory { node, key: Digest::of(node.as_bytes()).0 })
    }
    fn roles(&self, der: &[u8]) -> BTreeSet<String> {
        let role = der
            .try_into()
            .ok()
            .and_then(|node| self.1.lock().unwrap().get(&NodeId::from_bytes(node)).copied());
        role.map(str::to_owned).into_iter().collect()
    }
    fn verify(&self, key: &[u8; 32], message: &[u8], with: &[u8; 64]) -> bool {
        signature(key, message) == *with
    }
}

pub(crate) fn signature(key: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&Digest::of_parts(&[key, message]).0);
    bytes
}

pub(crate) fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(n).unwrap()], 7400))
}

pub(crate) fn name(n: usize) -> NodeName {
    format!("node-{n}").parse().unwrap()
}

pub(crate) fn id(n: usize) -> NodeId {
    let bloc: BlocName = "test".parse().unwrap();
    NodeId::derive(&bloc, &name(n))
}

pub(crate) fn managers(id: NodeId, now: Time) -> skep_managers::Managers {
    let me =
        skep_managers::Me { id, eligible: skep_managers::Eligibility::Eligible, resources: 500 };
    let rng = skep_base::Rng::seeded(u64::from(id.as_bytes()[0]));
    let (config, disk) = Default::default();
    skep_managers::Managers::new(me, config, disk, rng, now).unwrap()
}

pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) nonce: Nonce,
    pub(crate) stored: Incarnation,
}

/// Hosts, and connections between them.
pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) config: Config,
    pub(crate) hosts: BTreeMap<usize, Host>,
    pub(crate) links: BTreeMap<LinkId, (usize, LinkId, usize)>,
    pub(crate) cut: Box<dyn Fn(usize, usize) -> bool>,
    pub(crate) queue: VecDeque<(usize, Input)>,
    pub(crate) next_link: u64,
    pub(crate) events: Vec<(usize, Event)>,
    pub(crate) answers: Vec<Result<Bytes, AskError>>,
    /// Updates of others that came into a host's log.
    pub(crate) logged: Vec<usize>,
    /// Flood frames that a cut kept from their way.
    pub(crate) lost: Vec<Frame>,
    /// Large updates that a host's disk is asked about.
    pub(crate) opened: Vec<(usize, UpdateId)>,
    /// Whom a host asks for a large body.
    pub(crate) fetched_from: Vec<(usize, NodeId)>,
    /// What certificates give.
    pub(crate) roles: Roles,
    /// Whether disks keep what managers want kept, so that there are any.
    pub(crate) managed: bool,
    /// What came of wishes.
    pub(crate) granted: Vec<(usize, u64, skep_catalog::Granted)>,
    /// What the managers of a host say that it alone asked.
    pub(crate) said: Vec<(usize, skep_managers::Output)>,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self {
            now: Time::from_millis(1000),
            config: Config::default(),
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: Box::new(|_, _| false),
            queue: VecDeque::new(),
            next_link: 0,
            events: Vec::new(),
            answers: Vec::new(),
            logged: Vec::new(),
            lost: Vec::new(),
            opened: Vec::new(),
            fetched_from: Vec::new(),
            roles: Roles::default(),
            managed: false,
            granted: Vec::new(),
            said: Vec::new(),
        }
    }

    pub(crate) fn start(&mut self, n: usize, stored: u64, seeds: &[usize]) {
        let nonce = Nonce(self.now.as_nanos() ^ (n as u64) << 20);
        let me = Me {
            id: id(n),
            name: name(n),
            network: None,
            nonce,
            started: WallTime::from_unix_ms(self.now.as_nanos() / 1_000_000),
            stored: Incarnation(stored),
            addresses: vec![Address::classify(address(n))],
            version: "test".into(),
        };
        let birth = Birth {
            me,
            seed: n as u64,
            signer: Arc::new(Keys(id(n), Arc::default())),
            verifier: Arc::new(Keys(id(n), Arc::clone(&self.roles))),
            layouts: Box::new(LayoutCache::default()),
            records: Vec::new(),
            address_book: Vec::new(),
            log: Vec::new(),
            log_next: Position::default(),
            purged: Vec::new(),
            managers: Box::new(managers(id(n), self.now)),
            catalog: skep_catalog::Catalog::new(),
            clock_went_back: false,
        };
        let node = Node::new(self.now, birth, self.config.clone());
        self.hosts.insert(n, Host { node, nonce, stored: Incarnation(stored) });
        let addresses = seeds.iter().map(|seed| address(*seed)).collect();
        self.give(n, Input::Found { addresses, source: Source::Config });
    }

    pub(crate) fn kill(&mut self, n: usize) {
        self.hosts.remove(&n);
        let gone: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.0 == n).map(|(id, _)| *id).collect();
        for link in gone {
            self.hang_up(link, DownReason::Closed);
        }
    }

    /// Closes one end: the other hears why.
    pub(crate) fn hang_up(&mut self, link: LinkId, why: DownReason) {
        if let Some((_, other, peer)) = self.links.remove(&link) {
            self.links.remove(&other);
            self.queue.push_back((peer, Input::LinkDown { link: other, why }));
        }
    }

    pub(crate) fn give(&mut self, n: usize, input: Input) {
        self.queue.push_back((n, input));
        self.drain();
    }

    fn drain(&mut self) {
        let mut steps = 0;
        while let Some((n, input)) = self.queue.pop_front() {
            steps += 1;
            assert!(steps < 1_000_000, "the nodes never fall silent");
            let Some(host) = self.hosts.get_mut(&n) else { continue };
            let mut out = Outbox::new();
            host.node.handle(self.now, input, &mut out);
            host.node.check();
            self.carry_out(n, &mut out);
        }
    }

    fn carry_out(&mut self, n: usize, out: &mut Outbox<Output>) {
        for output in out.drain() {
            match output {
                Output::Dial { dial, expect, addresses } => self.dial(n, dial, expect, &addresses),
                Output::Send { link, kind, body } => {
                    let Some((_, other, peer)) = self.links.get(&link) else { continue };
                    let frame = Frame { kind, body };
                    if !(self.cut)(n, *peer) {
                        let input = Input::Frame { link: *other, frame };
                        self.queue.push_back((*peer, input));
                    } else if kind == skep_wire::kind::FLOOD {
                        self.lost.push(frame);
                    }
                }
                Output::Close { link, why } => self.hang_up(link, DownReason::Goodbye(why)),
                Output::PersistIncarnation(incarnation) => {
                    self.hosts.get_mut(&n).unwrap().stored = incarnation;
                }
                Output::Managers(skep_managers::Output::Persist { ticket, .. }) if self.managed => {
                    let input = skep_managers::Input::Persisted { ticket };
                    self.queue.push_back((n, Input::Managers(input)));
                }
                Output::Managers(said) => self.said.push((n, said)),
                Output::Granted { token, granted } => self.granted.push((n, token, granted)),
                Output::Event(event) => self.events.push((n, event)),
                Output::Knock { peer, .. } => {
                    let to = id_index(peer);
                    let open =
                        self.hosts.contains_key(&to) && !(self.cut)(n, to) && !(self.cut)(to, n);
                    let took = open.then_some(Duration::from_millis(7));
                    self.queue.push_back((n, Input::Knocked { peer, took }));
                }
                Output::Routed(skep_routing::Output::Request { ticket, body, .. }) => {
                    self.queue.push_back((n, Input::Answer { ticket, outcome: Ok(body) }));
                }
                Output::Routed(skep_routing::Output::Answered { outcome, .. }) => {
                    self.answers.push(outcome);
                }
                Output::Flood(skep_flood::Output::BodyOpen { id, .. }) => self.opened.push((n, id)),
                Output::Flood(skep_flood::Output::Fetching { from }) => {
                    self.fetched_from.push((n, from));
                }
                Output::Flood(skep_flood::Output::Append { entries, .. }) => {
                    let of_others = |entry: &&skep_flood::LogEntry| {
                        matches!(&entry.head, skep_flood::LogHead::Update(head)
                            if head.header.id.origin != id(n))
                    };
                    self.logged.extend(entries.iter().filter(of_others).map(|_| n));
                    let up_to = entries.last().unwrap().position.next();
                    let durable = skep_flood::Input::Appended { up_to, durable: true };
                    self.queue.push_back((n, Input::Flood(durable)));
                }
                _ => {}
            }
        }
    }

    fn dial(&mut self, n: usize, dial: DialId, expect: Option<NodeId>, to: &[SocketAddr]) {
        let target = self.hosts.keys().copied().find(|host| to.contains(&address(*host)));
        let failure = match target {
            None => Some(DialFailure::Refused),
            Some(target) if (self.cut)(n, target) || (self.cut)(target, n) => {
                Some(DialFailure::Silent)
            }
            Some(target) if expect.is_some_and(|id_| id_ != id(target)) => {
                Some(DialFailure::Stranger)
            }
            Some(_) => None,
        };
        if let Some(why) = failure {
            return self.queue.push_back((n, Input::DialFailed { dial, why }));
        }
        let target = target.unwrap();
        self.next_link += 2;
        let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.links.insert(near, (n, far, target));
        self.links.insert(far, (target, near, n));
        for (at, link, other, dialled) in [(n, near, target, Some(dial)), (target, far, n, None)] {
            let host = &self.hosts[&other];
            let peer = Peer {
                id: id(other),
                name: name(other),
                incarnation: host.node.incarnation(),
                nonce: host.nonce,
                addresses: vec![Address::classify(address(other))],
                dialled,
                remote: address(other),
            };
            self.queue.push_back((at, Input::LinkUp { link, peer }));
        }
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let due = self
                .hosts
                .iter()
                .filter_map(|(n, host)| host.node.deadline().map(|(at, why)| (at, *n, why)))
                .min();
            let Some((at, n, _)) = due.filter(|(at, ..)| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            let mut out = Outbox::new();
            let host = self.hosts.get_mut(&n).unwrap();
            host.node.tick(self.now, &mut out);
            host.node.check();
            if let Some((again, why)) = host.node.deadline() {
                assert!(again > self.now || !out.is_empty(), "spins: {why} at {again}");
            }
            self.carry_out(n, &mut out);
            self.drain();
        }
        self.now = end;
    }

    pub(crate) fn assert_one_flock(&self) {
        let mut all: Vec<NodeId> = self.hosts.keys().map(|n| id(*n)).collect();
        all.sort();
        for (n, host) in &self.hosts {
            assert_eq!(host.node.present(), all, "what node {n} sees");
            assert_eq!(host.node.records().digest(), self.first().records().digest(), "node {n}");
            let overlay = host.node.layout().unwrap();
            let linked: Vec<NodeId> = host.node.links().map(|link| link.peer).collect();
            for wanted in overlay.neighbours(&id(*n)) {
                assert!(linked.contains(wanted), "node {n} lacks a wanted link");
            }
        }
    }

    pub(crate) fn first(&self) -> &Node {
        &self.hosts.values().next().unwrap().node
    }

    pub(crate) fn silences(&self, of: usize) -> usize {
        let is = |event: &Event| {
            let Event::Status { node, status: Status::Silent, .. } = event else {
                return false;
            };
            *node == id(of)
        };
        self.events.iter().filter(|(_, event)| is(event)).count()
    }
}

pub(crate) fn id_index(node: NodeId) -> usize {
    (0..100).find(|n| id(*n) == node).unwrap()
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn flock_of(n: usize) -> Net {
    let mut net = Net::new();
    for host in 0..n {
        net.start(host, 0, &[0]);
    }
    net.pass(seconds(5));
    net
}
