//! A network for machines alone: links with a rate and a round trip, and a clock.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Rng, Time};

use crate::{Config, Estimates, Input, Output, Report, Reports, Sample, Ways};

/// Bytes that a frame costs besides its body.
const FRAME: u64 = 5;

pub(super) fn node(n: usize) -> NodeId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    NodeId::from_bytes(bytes)
}

/// How two nodes are linked.
pub(super) struct Line {
    pub(super) one_way: Duration,
    /// Bytes a second.
    pub(super) rate: u64,
    /// A packet may take longer by up to this share.
    pub(super) jitter: f64,
}

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) machines: BTreeMap<NodeId, Estimates>,
    pub(super) reports: BTreeMap<NodeId, Report>,
    pub(super) ways: BTreeMap<NodeId, Ways>,
    pub(super) published: u64,
    pub(super) ways_published: u64,
    /// From whom no connection can be made to whom.
    pub(super) closed: BTreeSet<(NodeId, NodeId)>,
    /// What a message and its answer take over the links of others; nothing where none comes back.
    pub(super) over_others: Option<Duration>,
    /// Who asked whom over the links of others.
    pub(super) asked: Vec<(NodeId, NodeId)>,
    /// When bytes were put on the way from one to another, and how many.
    pub(super) sent: Vec<(Time, u64)>,
    /// Errands make links.
    pub(super) dials: bool,
    /// Links last: else each goes once its errand is done.
    line: fn(NodeId, NodeId) -> Line,
    links: BTreeSet<(NodeId, NodeId)>,
    errands: Vec<(Time, NodeId, NodeId)>,
    free: BTreeMap<(NodeId, NodeId), Time>,
    last: BTreeMap<(NodeId, NodeId), Time>,
    flying: BTreeMap<(Time, u64), (NodeId, NodeId, Bytes)>,
    next: u64,
    rng: Rng,
}

impl Net {
    pub(super) fn new(n: usize, config: &Config, line: fn(NodeId, NodeId) -> Line) -> Self {
        let mut rng = Rng::seeded(n as u64);
        let now = Time::from_millis(1_000_000);
        let ids: Vec<NodeId> = (0..n).map(node).collect();
        let machines = ids
            .iter()
            .map(|id| (*id, Estimates::new(*id, config.clone(), rng.fork(), now)))
            .collect();
        let mut net = Self {
            now,
            machines,
            reports: BTreeMap::new(),
            ways: BTreeMap::new(),
            published: 0,
            ways_published: 0,
            closed: BTreeSet::new(),
            over_others: None,
            asked: Vec::new(),
            sent: Vec::new(),
            dials: true,
            line,
            links: BTreeSet::new(),
            errands: Vec::new(),
            free: BTreeMap::new(),
            last: BTreeMap::new(),
            flying: BTreeMap::new(),
            next: 0,
            rng,
        };
        let mut present = ids.clone();
        present.sort_unstable();
        for id in ids {
            net.give(id, Input::Present(present.clone()));
        }
        net
    }

    pub(super) fn link(&mut self, a: NodeId, b: NodeId) {
        self.links.insert((a, b));
        self.links.insert((b, a));
        self.give(a, Input::Link { peer: b, up: true });
        self.give(b, Input::Link { peer: a, up: true });
    }

    /// Lets no connection be made between two, from either.
    pub(super) fn part(&mut self, a: NodeId, b: NodeId) {
        self.closed.extend([(a, b), (b, a)]);
    }

    pub(super) fn unlink(&mut self, a: NodeId, b: NodeId) {
        self.links.remove(&(a, b));
        self.links.remove(&(b, a));
        self.give(a, Input::Link { peer: b, up: false });
        self.give(b, Input::Link { peer: a, up: false });
    }

    pub(super) fn give(&mut self, to: NodeId, input: Input) {
        let mut out = Outbox::new();
        let now = self.now;
        if let Some(machine) = self.machines.get_mut(&to) {
            machine.handle(now, input, &mut out);
            machine.check();
        }
        self.carry_out(to, out);
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let flying = self.flying.keys().next().map(|(at, _)| *at);
            let due = self.machines.values().filter_map(Estimates::deadline).map(|(at, _)| at);
            let errand = self.errands.iter().map(|(at, ..)| *at).min();
            let next = due.min().into_iter().chain(flying).chain(errand).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        while let Some((key, _)) = self.flying.first_key_value()
            && key.0 <= self.now
        {
            if let Some((_, (from, to, body))) = self.flying.pop_first()
                && self.links.contains(&(from, to))
            {
                self.give(to, Input::Message { from, body });
            }
        }
        let over: Vec<_> = self.errands.extract_if(.., |(at, ..)| *at <= self.now).collect();
        for (_, a, b) in over {
            self.unlink(a, b);
        }
        let due = |machine: &Estimates| machine.deadline().is_some_and(|(at, _)| at <= self.now);
        let ids = self.machines.iter().filter(|(_, machine)| due(machine)).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            let mut out = Outbox::new();
            let now = self.now;
            if let Some(machine) = self.machines.get_mut(&id) {
                machine.tick(now, &mut out);
                machine.check();
            }
            self.carry_out(id, out);
        }
    }

    fn carry_out(&mut self, from: NodeId, mut out: Outbox<Output>) {
        while let Some(output) = out.pop() {
            match output {
                Output::Send { to, body } => self.send(from, to, body),
                Output::Reach { peer } if self.dials => {
                    self.link(from, peer);
                    self.errands.push((self.now + Duration::from_secs(3), from, peer));
                }
                Output::Reach { .. } => {}
                Output::Knock { peer } => {
                    let line = (self.line)(from, peer);
                    let rtt = line.one_way.mul_f64(2.0 + line.jitter * self.rng.unit());
                    let open = self.dials && !self.closed.contains(&(from, peer));
                    self.give(from, Input::Knocked { peer, took: open.then_some(rtt) });
                }
                Output::Ask { peer } => {
                    self.asked.push((from, peer));
                    let took = self.over_others;
                    if took.is_some() {
                        self.give(peer, Input::Pinged { by: from });
                    }
                    self.give(from, Input::Answered { peer, took });
                }
                Output::PublishWays { body } => {
                    self.ways_published += 1;
                    match &body {
                        Some(body) => {
                            self.ways.insert(from, Ways::from_body(body).unwrap());
                        }
                        None => {
                            self.ways.remove(&from);
                        }
                    }
                    let all: Vec<NodeId> = self.machines.keys().copied().collect();
                    for to in all {
                        self.give(to, Input::Ways { node: from, body: body.clone() });
                    }
                }
                Output::Look => self.look(from),
                Output::Publish { body } => {
                    self.published += 1;
                    let report = Report::from_body(&body).unwrap();
                    self.reports.insert(from, report);
                    let all: Vec<NodeId> = self.machines.keys().copied().collect();
                    for to in all {
                        let input = Input::Record { node: from, body: Some(body.clone()) };
                        self.give(to, input);
                    }
                }
                Output::Reject { from, reason } => panic!("{from:?} was refused: {reason}"),
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, body: Bytes) {
        assert!(self.links.contains(&(from, to)), "a message without a link");
        let line = (self.line)(from, to);
        let bytes = body.len() as u64 + FRAME;
        self.sent.push((self.now, bytes));
        let starts = self.free.get(&(from, to)).copied().unwrap_or(self.now).max(self.now);
        let ends = starts + Duration::from_secs_f64(bytes as f64 / line.rate as f64);
        self.free.insert((from, to), ends);
        let extra = line.one_way.mul_f64(line.jitter * self.rng.unit());
        // A stream arrives in order.
        let last = self.last.get(&(from, to)).copied().unwrap_or(Time::ZERO);
        let arrives = last.max(ends + line.one_way + extra);
        self.last.insert((from, to), arrives);
        self.next += 1;
        self.flying.insert((arrives, self.next), (from, to, body));
    }

    fn look(&mut self, from: NodeId) {
        let linked = self.links.iter().filter(|(a, _)| *a == from).map(|(_, b)| *b);
        let sample = |peer| Sample {
            peer,
            bulk: false,
            least_rtt: (self.line)(from, peer).one_way * 2,
            acked: 0,
            rate: 0,
            sender_limited: true,
        };
        let samples = linked.map(sample).collect();
        self.give(from, Input::Looked(samples));
    }
}

impl Reports for Net {
    fn report(&self, node: NodeId) -> Option<Report> {
        self.reports.get(&node).cloned()
    }

    fn ways(&self, node: NodeId) -> Option<Ways> {
        self.ways.get(&node).cloned()
    }
}
