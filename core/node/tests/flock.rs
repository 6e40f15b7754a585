//! A few nodes joined by wires without delay: does a flock form, part, and meet again? The
//! simulator asks the same of a thousand nodes on bad networks; this answers within a second.

#![expect(clippy::unwrap_used, reason = "this is a test, its own helpers included")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what a test looks for is what it names")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{
    BlocName, Digest, GroupName, Incarnation, NodeId, NodeName, Nonce, Outbox, Time, WallTime,
};
use skep_estimates::Basis;
use skep_flood::{Input as FloodInput, Position, PublishToken, UpdateId};
use skep_node::{
    Birth, Config, DialFailure, DialId, DownReason, Event, Farewell, Goodbye, Input, LinkId, Me,
    Node, Output, Peer, Sample, Source, Status,
};
use skep_records::{Signatory, Signer, Verifier};
use skep_routing::{AskError, Token};
use skep_topology::LayoutCache;
use skep_wire::{Address, Frame};

struct Keys(NodeId);

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
    fn verify(&self, key: &[u8; 32], message: &[u8], with: &[u8; 64]) -> bool {
        signature(key, message) == *with
    }
}

fn signature(key: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&Digest::of_parts(&[key, message]).0);
    bytes
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(n).unwrap()], 7400))
}

fn name(n: usize) -> NodeName {
    format!("node-{n}").parse().unwrap()
}

fn id(n: usize) -> NodeId {
    let bloc: BlocName = "test".parse().unwrap();
    NodeId::derive(&bloc, &name(n))
}

fn managers(id: NodeId, now: Time) -> skep_managers::Managers {
    let me =
        skep_managers::Me { id, eligible: skep_managers::Eligibility::Eligible, resources: 500 };
    let rng = skep_base::Rng::seeded(u64::from(id.as_bytes()[0]));
    let (config, disk) = Default::default();
    skep_managers::Managers::new(me, config, disk, rng, now).unwrap()
}

struct Host {
    node: Node,
    nonce: Nonce,
    stored: Incarnation,
}

/// Hosts, and connections between them.
struct Net {
    now: Time,
    config: Config,
    hosts: BTreeMap<usize, Host>,
    links: BTreeMap<LinkId, (usize, LinkId, usize)>,
    cut: Box<dyn Fn(usize, usize) -> bool>,
    queue: VecDeque<(usize, Input)>,
    next_link: u64,
    events: Vec<(usize, Event)>,
    answers: Vec<Result<Bytes, AskError>>,
    /// Updates of others that came into a host's log.
    logged: Vec<usize>,
    /// Flood frames that a cut kept from their way.
    lost: Vec<Frame>,
    /// Large updates that a host's disk is asked about.
    opened: Vec<(usize, UpdateId)>,
    /// Whom a host asks for a large body.
    fetched_from: Vec<(usize, NodeId)>,
}

impl Net {
    fn new() -> Self {
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
        }
    }

    fn start(&mut self, n: usize, stored: u64, seeds: &[usize]) {
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
            signer: Arc::new(Keys(id(n))),
            verifier: Arc::new(Keys(id(n))),
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

    fn kill(&mut self, n: usize) {
        self.hosts.remove(&n);
        let gone: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.0 == n).map(|(id, _)| *id).collect();
        for link in gone {
            self.hang_up(link, DownReason::Closed);
        }
    }

    /// Closes one end: the other hears why.
    fn hang_up(&mut self, link: LinkId, why: DownReason) {
        if let Some((_, other, peer)) = self.links.remove(&link) {
            self.links.remove(&other);
            self.queue.push_back((peer, Input::LinkDown { link: other, why }));
        }
    }

    fn give(&mut self, n: usize, input: Input) {
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

    fn pass(&mut self, span: Duration) {
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

    fn assert_one_flock(&self) {
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

    fn first(&self) -> &Node {
        &self.hosts.values().next().unwrap().node
    }

    fn silences(&self, of: usize) -> usize {
        let is = |event: &Event| {
            let Event::Status { node, status: Status::Silent, .. } = event else {
                return false;
            };
            *node == id(of)
        };
        self.events.iter().filter(|(_, event)| is(event)).count()
    }
}

fn id_index(node: NodeId) -> usize {
    (0..100).find(|n| id(*n) == node).unwrap()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn flock_of(n: usize) -> Net {
    let mut net = Net::new();
    for host in 0..n {
        net.start(host, 0, &[0]);
    }
    net.pass(seconds(5));
    net
}

#[test]
fn nodes_with_one_seed_form_one_flock() {
    for n in [1, 2, 3, 5, 30] {
        flock_of(n).assert_one_flock();
    }
}

#[test]
fn updates_of_a_group_reach_its_members_from_the_first() {
    let group: GroupName = "web".parse().unwrap();
    let mut net = Net::new();
    for host in 0..5 {
        let groups = [GroupName::all()].into_iter().chain((host < 3).then(|| group.clone()));
        net.config.flood.groups = groups.collect();
        net.start(host, 0, &[0]);
    }
    net.pass(seconds(5));
    for host in 0..3 {
        let (body, token) = (Bytes::from_static(b"an update"), PublishToken(1));
        let label = skep_flood::Label::default();
        let publish = FloodInput::Publish { group: group.clone(), body, token, label };
        net.give(host, Input::Flood(publish));
    }
    // Sooner than neighbours compare what they have.
    net.pass(seconds(1));
    let accepted = |host: &Host| host.node.flood().stats().accepted;
    assert_eq!(net.hosts.values().map(accepted).collect::<Vec<_>>(), [2, 2, 2, 0, 0]);
}

#[test]
fn links_that_nobody_wants_are_let_go() {
    let mut net = flock_of(30);
    net.pass(seconds(60));
    net.assert_one_flock();
    let most = net.hosts.values().map(|host| host.node.links().count()).max().unwrap();
    assert!(most <= 16, "a node keeps {most} links");
}

#[test]
fn a_killed_node_is_silent_everywhere_and_back_as_a_new_life() {
    let mut net = flock_of(9);
    net.pass(seconds(20));
    net.kill(4);
    net.pass(seconds(1));
    net.assert_one_flock();
    assert_eq!(net.silences(4), 8);
    net.start(4, 1, &[0]);
    net.pass(seconds(5));
    net.assert_one_flock();
    assert_eq!(net.hosts[&4].node.incarnation(), Incarnation(2));
}

#[test]
fn a_node_that_lost_its_disk_takes_a_life_above_its_traces() {
    let mut net = flock_of(5);
    net.kill(2);
    net.start(2, 40, &[0]);
    net.pass(seconds(8));
    assert_eq!(net.hosts[&2].stored, Incarnation(41));
    net.kill(2);
    net.start(2, 0, &[0]);
    net.pass(seconds(8));
    assert_eq!(net.hosts[&2].stored, Incarnation(42));
    net.assert_one_flock();
}

#[test]
fn halves_part_and_meet_again() {
    let mut net = flock_of(16);
    net.pass(seconds(10));
    net.cut = Box::new(|a, b| (a < 8) != (b < 8));
    net.pass(seconds(60));
    for (n, host) in &net.hosts {
        let across: Vec<_> =
            host.node.links().filter(|link| id_index(link.peer) / 8 != n / 8).collect();
        assert_eq!(host.node.present().len(), 8, "what node {n} sees over {across:?}");
    }
    net.cut = Box::new(|_, _| false);
    net.pass(seconds(10));
    net.assert_one_flock();
}

#[test]
fn who_says_that_it_restarts_or_leaves_is_never_silent() {
    let mut net = flock_of(7);
    net.pass(seconds(10));
    net.give(3, Input::Stop(Farewell::Restarting(seconds(10))));
    net.kill(3);
    net.pass(seconds(2));
    let status = |net: &Net, n: usize| net.first().member_view(id(n)).unwrap().status;
    assert_eq!(status(&net, 3), Status::Restarting);
    net.start(3, 1, &[0]);
    net.pass(seconds(5));
    net.assert_one_flock();
    assert_eq!(net.silences(3), 0);
    net.give(5, Input::Stop(Farewell::Leaving));
    net.kill(5);
    net.pass(seconds(30));
    assert_eq!(status(&net, 5), Status::Left);
    assert_eq!(net.silences(5), 0);
}

/// A word that comes right before its link is closed is heard before the link is judged: of two
/// nodes nobody else could say that the other stopped as it should.
#[test]
fn the_last_word_of_the_only_other_node_is_heard() {
    for farewell in [Farewell::Restarting(seconds(10)), Farewell::Leaving] {
        for size in [2, 3] {
            let mut net = flock_of(size);
            net.pass(seconds(10));
            net.give(1, Input::Stop(farewell));
            net.kill(1);
            net.pass(seconds(2));
            assert_eq!(net.silences(1), 0, "of {size}: {farewell:?}");
            let status = net.first().member_view(id(1)).unwrap().status;
            assert!(matches!(status, Status::Restarting | Status::Left), "{status:?}");
        }
    }
}

#[test]
fn a_second_process_of_a_name_publishes_nothing_until_the_first_is_gone() {
    let mut net = flock_of(6);
    net.pass(seconds(10));
    // The same certificate on another host: reached at another address, it dials node 1.
    let first = net.hosts.remove(&3).unwrap();
    net.hosts.insert(33, first);
    for link in net.links.values_mut() {
        if link.0 == 3 {
            link.0 = 33;
        }
        if link.2 == 3 {
            link.2 = 33;
        }
    }
    net.start(3, 7, &[1]);
    net.pass(seconds(10));
    assert!(!net.hosts[&3].node.has_begun());
    assert!(net.events.contains(&(3, Event::NameTaken)));
    assert_eq!(net.silences(3), 0);
    assert_eq!(net.hosts[&33].node.incarnation(), Incarnation(1));
    net.kill(33);
    net.pass(seconds(15));
    assert!(net.hosts[&3].node.has_begun());
    net.assert_one_flock();
}

#[test]
fn every_member_can_be_asked_over_the_links_of_others() {
    let mut net = flock_of(24);
    // Not the seed, to which all have dialled.
    let me = 5;
    let asker = net.hosts[&me].node.links().map(|link| link.peer).collect::<Vec<_>>();
    let ask = |n: usize| Input::Ask {
        token: Token(n as u64),
        to: id(n),
        service: skep_node::service::DIAL_BACK,
        body: Bytes::copy_from_slice(&n.to_be_bytes()),
        within: seconds(5),
    };
    let mut strangers = 0;
    for n in (0..24).filter(|n| *n != me) {
        net.give(me, ask(n));
        let answer = net.answers.pop().expect("an answer");
        assert_eq!(answer, Ok(Bytes::copy_from_slice(&n.to_be_bytes())));
        strangers += usize::from(!asker.contains(&id(n)));
    }
    assert!(strangers > 5, "hardly anybody needed another's link");
    // The first hop of a shortest way falls silent without a word: another way is found.
    let far = (0..24).find(|n| *n != me && !asker.contains(&id(*n))).expect("a stranger");
    let first = asker.iter().map(|peer| id_index(*peer)).collect::<Vec<_>>();
    let dead = first[0];
    net.cut = Box::new(move |from, to| from == dead || to == dead);
    net.give(me, ask(far));
    net.pass(seconds(6));
    assert_eq!(net.answers, [Ok(Bytes::copy_from_slice(&far.to_be_bytes()))]);
    net.give(me, ask(me));
    assert_eq!(net.answers.pop(), Some(Err(AskError::NoRoute)), "a node asks itself nothing");
}

#[test]
fn a_large_body_is_pulled_from_whom_estimates_have_as_nearest() {
    for (near, far) in [(1, 2), (2, 1)] {
        let mut net = flock_of(4);
        net.pass(seconds(5));
        let link_to = |net: &Net, peer: usize| {
            let ends = net.links.iter().find(|(_, link)| link.0 == 0 && link.2 == peer);
            *ends.unwrap().0
        };
        let sample = |peer: usize, ms: u64| Sample {
            peer: id(peer),
            bulk: false,
            least_rtt: Duration::from_millis(ms),
            acked: 0,
            rate: 0,
            sender_limited: true,
        };
        // What the kernel says of links takes the place of what pings over wires without delay
        // have shown; nothing else tells the flood.
        for _ in 0..8 {
            net.give(0, Input::Looked(vec![sample(near, 3), sample(far, 90)]));
        }
        net.cut = Box::new(|from, to| (from, to) == (3, 0));
        let (group, token) = (GroupName::all(), PublishToken(1));
        let body = Bytes::from(vec![7; 20_000]);
        let label = skep_flood::Label::default();
        net.give(3, Input::Flood(FloodInput::Publish { group, body, token, label }));
        net.pass(Duration::from_millis(20));
        net.cut = Box::new(|_, _| false);
        let announcement = net.lost.last().expect("it is announced").clone();
        // The far one is the first to announce it.
        for peer in [far, near] {
            let (link, frame) = (link_to(&net, peer), announcement.clone());
            net.give(0, Input::Frame { link, frame });
        }
        let (_, update) = *net.opened.iter().find(|(n, _)| *n == 0).expect("it is wanted");
        let opened = FloodInput::BodyOpened { id: update, missing: Some((true, vec![0])) };
        net.give(0, Input::Flood(opened));
        // Who has not got it says so, and the other is asked.
        assert_eq!(net.fetched_from.first(), Some(&(0, id(near))), "{near} is near, not {far}");
    }
}

#[test]
fn who_cannot_meet_is_pinged_over_the_links_of_others_and_kept_apart() {
    let mut net = Net::new();
    let cut = |from: usize, to: usize| [(2, 5), (5, 2)].contains(&(from, to));
    net.cut = Box::new(cut);
    for host in 0..8 {
        net.start(host, 0, &[0]);
    }
    net.pass(seconds(2400));
    let members: Vec<NodeId> = net.first().present().to_vec();
    assert_eq!(members.len(), 8);
    for (n, host) in &net.hosts {
        let known = host.node.between(net.now, id(2), id(5)).unwrap();
        assert_eq!(known.basis, Basis::Routed, "as {n} sees it");
        let apart: Vec<_> = host.node.costs(&members).apart().collect();
        let named: Vec<_> = apart.iter().map(|(a, b)| (members[*a], members[*b])).collect();
        assert_eq!(named, [(id(2).min(id(5)), id(2).max(id(5)))]);
    }
    assert!(net.answers.is_empty(), "the node's own pings showed outside");
    net.cut = Box::new(|_, _| false);
    net.pass(seconds(1800));
    let known = net.first().between(net.now, id(2), id(5)).unwrap();
    assert_ne!(known.basis, Basis::Routed);
    assert!(net.first().ways_of(id(2)).is_none());
}

#[test]
fn the_process_that_keeps_its_name_is_told_of_the_other_one() {
    // In a large flock the newcomer may knock where nobody has a link to the first.
    for (size, seed) in [(2, 0), (6, 1), (24, 1), (24, 9), (24, 17)] {
        let mut net = flock_of(size);
        net.pass(seconds(10));
        let first = net.hosts.remove(&1).unwrap();
        let seed = if seed == 1 { 0 } else { seed };
        net.hosts.insert(51, first);
        for link in net.links.values_mut() {
            for end in [&mut link.0, &mut link.2] {
                if *end == 1 {
                    *end = 51;
                }
            }
        }
        net.start(1, 7, &[seed]);
        net.pass(seconds(12));
        let told = |net: &Net| {
            let is = |(n, event): &&(usize, Event)| {
                *n == 51 && matches!(event, Event::NameContested { .. })
            };
            net.events.iter().filter(is).count()
        };
        assert_eq!(told(&net), 1, "once, among {size}, by way of {seed}");
        assert!(net.hosts[&51].node.name_contested(net.now).is_some());
        assert!(net.hosts[&51].node.has_begun() && !net.hosts[&1].node.has_begun());
        net.kill(1);
        net.pass(seconds(30));
        assert!(net.hosts[&51].node.name_contested(net.now).is_none(), "it is gone");
        assert_eq!(told(&net), 1);
    }
}

#[test]
fn goodbyes_are_words() {
    for goodbye in [Goodbye::Unneeded, Goodbye::NameTaken, Goodbye::Protocol] {
        assert_eq!(Goodbye::from_text(goodbye.as_str()), Some(goodbye));
    }
    assert_eq!(Goodbye::from_text("something newer"), None);
}

#[test]
fn no_update_crosses_a_link_whose_peer_s_certificate_has_expired() {
    let mut net = flock_of(2);
    let publish = |net: &mut Net, n: usize, token: u64| {
        let group = GroupName::all();
        let (body, token) = (Bytes::from_static(b"news"), PublishToken(token));
        let label = skep_flood::Label::default();
        net.give(n, Input::Flood(skep_flood::Input::Publish { group, body, token, label }));
        net.pass(seconds(5));
    };
    publish(&mut net, 0, 1);
    assert_eq!(net.logged, [1]);

    // Node 0 finds that the certificate of node 1 is over; node 1 knows nothing of that.
    let link = net.hosts[&0].node.links().next().unwrap().link;
    net.give(0, Input::Restrict { link, on: true });
    publish(&mut net, 0, 2);
    publish(&mut net, 1, 3);
    assert_eq!(net.logged, [1], "an update went over the link, this way or that");
    let refused = |net: &Net| {
        let is = |event: &Event| {
            matches!(event, Event::Rejected { peer, reason }
            if *peer == id(1) && reason.contains("renew"))
        };
        net.events.iter().filter(|(n, event)| *n == 0 && is(event)).count()
    };
    assert_eq!(refused(&net), 1, "said once, naming the node");
    // Membership goes on as ever.
    net.assert_one_flock();

    net.give(0, Input::Restrict { link, on: false });
    net.pass(seconds(60));
    let mut logged = net.logged.clone();
    logged.sort_unstable();
    assert_eq!(logged, [0, 1, 1], "what waited is repaired");
}
