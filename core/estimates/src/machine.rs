//! The machine: when to measure whom, and what came of it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde_bytes::ByteBuf;
use skep_base::{NodeId, Outbox, Rng, Time};
use skep_wire::{decode, encode};

use crate::apart::Apart;
use crate::coordinate::{Coordinate, Locator, WireCoordinate};
use crate::event::{Config, Input, Output, Sample};
use crate::message::{Message, Pong};
use crate::peers::Peers;
use crate::place::Place;
use crate::probe::{Incoming, Next, PIECE, Probe, rest};
use crate::publish::Published;
use crate::report::Report;

/// Nodes that measurements are kept of. Those not touched for longest go first; 64 of them are
/// published.
pub const MAX_MEASURED: usize = 512;
/// Nodes whose whereabouts are kept: as many as a flock may have members. About 2 MB.
pub const MAX_NODES: usize = 16_384;

/// Pings without an answer that are remembered.
const MAX_PINGS: usize = 16;
/// A ping that is answered later than this was lost, or its answer tells nothing.
pub(crate) const PING_LOST: Duration = Duration::from_secs(10);
/// A link for an errand that is not up by then is not waited for.
const ERRAND_LOST: Duration = Duration::from_secs(15);
/// What was measured longer ago than this no longer pulls at this node's place.
const FORGET_AFTER: Duration = Duration::from_secs(6 * 3600);
/// How often the kernel is asked about links that stand.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The first look, when there is anything to see.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// The first report goes no sooner than about this long: when a flock has formed, and it is worth
/// the bytes.
const FIRST_REPORT: Duration = Duration::from_secs(20);
/// Each first report costs every member about a kilobyte, headers and relaying in. So those of a
/// flock that was started at once are spread over this share of the estimates period, but no more
/// than that, for each that is still to come: 140 bytes a second,
const FIRST_REPORT_OF_EACH: u32 = 8;
const FIRST_REPORT_OF_EACH_AT_MOST: Duration = Duration::from_secs(8);
/// and at most over this: no coordinate comes to rest sooner.
const FIRST_REPORTS: Duration = Duration::from_secs(900);
/// A node that is new asks its neighbours where they are, so that it soon knows where it is itself:
/// after this long,
const FIRST_EXCHANGE: Duration = Duration::from_secs(1);
/// and then each time after so much longer, until that is as rare as other pings.
const EXCHANGE_GROWTH: f64 = 1.25;
/// Periods are lengthened or shortened by this share, so that a flock that was started at once does
/// not measure at once.
pub(crate) const JITTER: f64 = 0.2;

/// Where another node is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) coordinate: Option<Coordinate>,
    pub(crate) place: Option<Place>,
    /// When its report came.
    pub(crate) at: Time,
    /// When its record of whom it cannot meet came.
    pub(crate) ways_at: Option<Time>,
    /// Whether one did: a node's answer to a ping says as well where it is.
    pub(crate) reported: bool,
}

/// When the first report goes.
#[derive(Clone, Copy, Debug)]
struct FirstReport {
    /// No sooner than this.
    from: Time,
    /// After this share of the time over which the first reports of all are spread.
    share: f64,
    due: bool,
}

/// The estimates of one node.
#[derive(Debug)]
pub struct Estimates {
    pub(crate) me: NodeId,
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) present: Vec<NodeId>,
    pub(crate) links: BTreeSet<NodeId>,
    pub(crate) peers: Peers,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) locator: Locator,
    pub(crate) published: Published,
    pub(crate) apart: Apart,
    pings: BTreeMap<u32, (NodeId, Time)>,
    next_token: u32,
    /// To whom a link was asked for, to probe it, and until when that is worth waiting for.
    errand: Option<(NodeId, Time)>,
    probe: Option<Probe>,
    incoming: BTreeMap<NodeId, Incoming>,
    next_ping: Time,
    next_probe: Time,
    next_report: Time,
    first_report: FirstReport,
    next_look: Time,
    next_exchange: Time,
    exchange_wait: Duration,
    probed_bytes: u64,
}

impl Estimates {
    /// The estimates of `me`, which has measured nothing yet.
    #[must_use]
    pub fn new(me: NodeId, config: Config, mut rng: Rng, now: Time) -> Self {
        let mut soon = |span: Duration| now + span.mul_f64(rng.unit());
        // Drawn within a whole period: a flock that starts at once must not measure at once.
        let next_ping = soon(config.ping_period);
        let next_probe = if config.bandwidth_period > Duration::ZERO {
            soon(config.bandwidth_period)
        } else {
            Time::NEVER
        };
        let from = now + FIRST_REPORT + rng.jitter(FIRST_REPORT, 0.5);
        Self {
            next_ping,
            next_probe,
            next_report: from,
            first_report: FirstReport { from, share: rng.unit(), due: true },
            next_look: now + rng.jitter(FIRST_LOOK, JITTER),
            next_exchange: now + rng.jitter(FIRST_EXCHANGE, JITTER),
            exchange_wait: FIRST_EXCHANGE,
            me,
            config,
            rng,
            present: Vec::new(),
            links: BTreeSet::new(),
            peers: Peers::default(),
            nodes: BTreeMap::new(),
            locator: Locator::new(),
            published: Published::default(),
            apart: Apart::default(),
            pings: BTreeMap::new(),
            next_token: 0,
            errand: None,
            probe: None,
            incoming: BTreeMap::new(),
            probed_bytes: 0,
        }
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Present(present) => {
                self.apart.retain(|peer| present.binary_search(peer).is_ok());
                self.present = present;
                self.plan_first_report();
            }
            Input::Link { peer, up: true } => self.link_up(now, peer, out),
            Input::Link { peer, up: false } => self.link_down(now, peer),
            Input::Message { from, body } => self.message(now, from, &body, out),
            Input::Looked(samples) => self.looked(now, &samples),
            Input::Knocked { peer, took } => self.knocked(now, peer, took, out),
            Input::Answered { peer, took } => self.answered(now, peer, took, out),
            Input::Pinged { by } => self.pinged(now, by, out),
            Input::Record { node, body } => self.record(now, node, body.as_ref()),
            Input::Ways { node, body } => self.ways(now, node, body.as_ref()),
            Input::Forgotten { node } => {
                self.nodes.remove(&node);
                self.peers.forget(node);
                self.apart.forget(node);
            }
        }
    }

    /// When [`Estimates::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let probe = self.probe.map(|probe| (probe.deadline(), "a train may be lost"));
        // Alone there is nobody to measure, and a node without links has none to look at.
        let others = self.present.len() > 1;
        let regular = [
            (self.next_ping, others, "a random node is pinged"),
            (self.next_probe, others, "the bandwidth to a random node is measured"),
            (self.next_report, !self.links.is_empty(), "estimates may have changed"),
            (self.next_look, !self.links.is_empty(), "the kernel is asked about links"),
            (self.next_exchange, !self.links.is_empty(), "a neighbour is asked where it is"),
        ];
        let regular = regular.into_iter().filter(|(_, when, _)| *when);
        regular.map(|(at, _, why)| (at, why)).chain(probe).chain(self.apart.deadline()).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.give_up(now);
        if now >= self.next_ping {
            self.next_ping = now + self.rng.jitter(self.config.ping_period, JITTER);
            self.ping_somebody(now, out);
        }
        if now >= self.next_probe {
            self.next_probe = now + self.rng.jitter(self.config.bandwidth_period, JITTER);
            self.probe_somebody(now, out);
        }
        if now >= self.next_look {
            self.next_look = now + self.rng.jitter(LOOK_EVERY, JITTER);
            out.push(Output::Look);
        }
        if now >= self.next_exchange {
            self.exchange(now, out);
        }
        self.knock_again(now, out);
        if now >= self.next_report {
            self.first_report.due = false;
            self.next_report = now + self.rng.jitter(self.config.estimates_period, JITTER);
            if let Some(report) = self.consider_publishing(now) {
                out.push(Output::Publish { body: report.to_body().into() });
            }
            if let Some(body) = self.consider_publishing_ways() {
                out.push(Output::PublishWays { body });
            }
        }
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        assert!(self.peers.len() <= MAX_MEASURED, "too many nodes are measured");
        assert!(self.nodes.len() <= MAX_NODES, "too many nodes' whereabouts are kept");
        assert!(self.pings.len() <= MAX_PINGS, "too many pings are remembered");
        assert!(self.incoming.keys().all(|peer| self.links.contains(peer)), "a train off a link");
        if let Some(probe) = &self.probe {
            assert!(self.links.contains(&probe.peer), "a probe without a link");
        }
        self.apart.check(&self.links);
    }

    /// The least round trip measured to a node lately, else what the coordinates or the distance
    /// predict; nothing where it is unknown.
    #[must_use]
    pub fn rtt(&self, now: Time, peer: NodeId) -> Option<Duration> {
        let none = |_: NodeId| None;
        self.between(now, self.me, peer, &none).map(|between| between.rtt)
    }

    /// Where this node is in the network's space, once it has measured anything.
    #[must_use]
    pub fn coordinate(&self) -> Option<Coordinate> {
        self.locator.is_placed().then_some(*self.locator.coordinate())
    }

    /// What was published last.
    #[must_use]
    pub const fn published(&self) -> Option<&Report> {
        self.published.report.as_ref()
    }

    /// Nodes that this one has measured.
    #[must_use]
    pub fn measured(&self) -> usize {
        self.peers.len()
    }

    /// Bytes sent in trains since the start.
    #[must_use]
    pub const fn probed_bytes(&self) -> u64 {
        self.probed_bytes
    }

    #[cfg(test)]
    pub(crate) fn first_report_due(&self) -> Option<Time> {
        self.first_report.due.then_some(self.next_report)
    }

    /// Who comes last of a thousand has nobody to share the wires with, and who starts as one of a
    /// thousand has all of them.
    fn plan_first_report(&mut self) {
        if !self.first_report.due {
            return;
        }
        let reported = |id: &NodeId| self.nodes.get(id).is_some_and(|node| node.reported);
        let to_come = self.present.iter().filter(|id| **id != self.me && !reported(id)).count();
        let to_come = u32::try_from(to_come).unwrap_or(u32::MAX);
        let each = self.config.estimates_period / FIRST_REPORT_OF_EACH;
        let each = each.min(FIRST_REPORT_OF_EACH_AT_MOST);
        let spread = each.saturating_mul(to_come).min(FIRST_REPORTS);
        self.next_report = self.first_report.from + spread.mul_f64(self.first_report.share);
    }

    fn link_up(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        self.links.insert(peer);
        self.apart.forget(peer);
        // A link that takes another's place: what was under way on that one is lost.
        self.abandon(now, peer);
        if self.errand.take_if(|(target, _)| *target == peer).is_some() {
            self.probe(now, peer, out);
        }
    }

    fn link_down(&mut self, now: Time, peer: NodeId) {
        self.links.remove(&peer);
        self.abandon(now, peer);
    }

    fn abandon(&mut self, now: Time, peer: NodeId) {
        self.incoming.remove(&peer);
        self.pings.retain(|_, (target, _)| *target != peer);
        if let Some(probe) = self.probe.take_if(|probe| probe.peer == peer) {
            self.peers.rest(now, peer, rest(probe.busy_if_given_up(now)));
        }
    }

    /// Measures the round trip to a random node: over a link that stands, or by knocking.
    fn ping_somebody(&mut self, now: Time, out: &mut Outbox<Output>) {
        match Peers::draw(self.me, &self.present, &mut self.rng) {
            Some(peer) if self.links.contains(&peer) => self.ping(now, peer, out),
            Some(peer) => out.push(Output::Knock { peer }),
            None => {}
        }
    }

    /// Measures the bandwidth to a random node, over a link that stands or one that is made for it.
    fn probe_somebody(&mut self, now: Time, out: &mut Outbox<Output>) {
        let drawn = Peers::draw(self.me, &self.present, &mut self.rng);
        let Some(peer) = drawn.filter(|peer| self.may_probe(now, *peer)) else {
            return;
        };
        if self.links.contains(&peer) {
            self.probe(now, peer, out);
        } else if self.errand.is_none() {
            self.errand = Some((peer, now + ERRAND_LOST));
            out.push(Output::Reach { peer });
        }
    }

    /// Whether a probe is worth its bytes, and due: bulk that flows anyway measures for nothing,
    /// and a link that was probed rests.
    fn may_probe(&self, now: Time, peer: NodeId) -> bool {
        let period = self.config.bandwidth_period;
        self.peers.get(peer).is_none_or(|measured| {
            let fresh = measured.rate.is_some_and(|rate| now.since(rate.at()) < period);
            now >= measured.rests_until && !fresh
        })
    }

    fn probe(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        if self.probe.is_some() {
            return;
        }
        // The round trip is known by the time the first train is answered.
        self.ping(now, peer, out);
        let probe = Probe::new(now, peer, self.token());
        self.probe = Some(probe);
        self.send_train(peer, probe.token, probe.length(), out);
    }

    fn exchange(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.plan_first_report();
        self.next_exchange = now + self.rng.jitter(self.exchange_wait, JITTER);
        let wait = self.exchange_wait.mul_f64(EXCHANGE_GROWTH);
        self.exchange_wait = wait.min(self.config.ping_period.max(FIRST_EXCHANGE));
        let linked: Vec<NodeId> = self.links.iter().copied().collect();
        if let Some(peer) = self.rng.pick(&linked).copied() {
            self.ping(now, peer, out);
        }
    }

    fn ping(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        let token = self.token();
        self.pings.retain(|_, (_, sent)| now.since(*sent) < PING_LOST);
        if self.pings.len() >= MAX_PINGS {
            return;
        }
        self.pings.insert(token, (peer, now));
        send(peer, &Message::Ping { token }, out);
    }

    fn send_train(&mut self, to: NodeId, token: u32, length: u32, out: &mut Outbox<Output>) {
        self.probed_bytes += u64::from(length);
        let pieces = length.div_ceil(PIECE);
        for piece in (0..pieces).rev() {
            let bytes = if piece == 0 { length - PIECE * (pieces - 1) } else { PIECE };
            let padding = ByteBuf::from(vec![0; bytes as usize]);
            let left = u16::try_from(piece).unwrap_or(u16::MAX);
            send(to, &Message::Train { token, left, padding }, out);
        }
    }

    fn token(&mut self) -> u32 {
        self.next_token = self.next_token.wrapping_add(1);
        self.next_token
    }

    fn give_up(&mut self, now: Time) {
        self.errand = self.errand.filter(|(_, until)| now < *until);
        if let Some(probe) = self.probe.take_if(|probe| now >= probe.deadline()) {
            self.peers.rest(now, probe.peer, rest(probe.busy_if_given_up(now)));
        }
    }

    fn message(&mut self, now: Time, from: NodeId, body: &[u8], out: &mut Outbox<Output>) {
        match decode::<Message>("estimates message", body) {
            Ok(Message::Ping { token }) => {
                let coordinate = self.coordinate().as_ref().map(WireCoordinate::new);
                send(from, &Message::Pong(Pong { token, coordinate }), out);
            }
            Ok(Message::Pong(pong)) => self.pong(now, from, &pong, out),
            Ok(Message::Train { token, left, padding }) => {
                self.piece(now, from, (token, left, padding.len()), out);
            }
            Ok(Message::Arrived { token, later, span_us }) => {
                let seen = (later, Duration::from_micros(span_us.into()));
                self.arrived(now, from, token, seen, out);
            }
            Err(_) => {
                let reason = "bytes that are no estimates message";
                out.push(Output::Reject { from, reason });
            }
        }
    }

    fn pong(&mut self, now: Time, from: NodeId, pong: &Pong, out: &mut Outbox<Output>) {
        let Some((_, sent)) = self.pings.remove(&pong.token).filter(|(peer, _)| *peer == from)
        else {
            return;
        };
        let rtt = now.since(sent);
        if rtt >= PING_LOST {
            return;
        }
        if let Some(coordinate) = pong.coordinate.as_ref().and_then(WireCoordinate::read) {
            self.node(now, from, |node| node.coordinate = Some(coordinate));
        }
        self.peers.add_rtt(now, from, rtt);
        self.locate(from);
        // What the kernel saw of the same exchange has no process in it; and the link may go soon.
        out.push(Output::Look);
    }

    fn piece(
        &mut self,
        now: Time,
        from: NodeId,
        (token, left, bytes): (u32, u16, usize),
        out: &mut Outbox<Output>,
    ) {
        if !self.links.contains(&from) {
            return;
        }
        let incoming = self.incoming.entry(from).or_insert(Incoming::new(now, token));
        if incoming.token() != token {
            *incoming = Incoming::new(now, token);
        }
        incoming.piece(now, bytes);
        if left == 0 {
            let (later, span) = incoming.seen(now);
            self.incoming.remove(&from);
            let span_us = crate::window::micros(span);
            send(from, &Message::Arrived { token, later, span_us }, out);
        }
    }

    fn arrived(
        &mut self,
        now: Time,
        from: NodeId,
        token: u32,
        seen: (u32, Duration),
        out: &mut Outbox<Output>,
    ) {
        let round_trip = self.peers.round_trip(from).unwrap_or(Duration::ZERO);
        let next = self.token();
        let ours = |probe: &&mut Probe| probe.peer == from && probe.token == token;
        let Some(probe) = self.probe.as_mut().filter(ours) else {
            return;
        };
        match probe.arrived(now, next, seen, round_trip) {
            Next::Train(length) => self.send_train(from, next, length, out),
            Next::Done { rate, busy } => {
                self.probe = None;
                self.peers.add_rate(now, from, rate);
                self.peers.rest(now, from, rest(busy));
            }
        }
    }

    fn knocked(
        &mut self,
        now: Time,
        peer: NodeId,
        took: Option<Duration>,
        out: &mut Outbox<Output>,
    ) {
        if let Some(rtt) = took.filter(|rtt| *rtt < PING_LOST) {
            self.apart.forget(peer);
            self.peers.add_rtt(now, peer, rtt);
            self.locate(peer);
        } else {
            self.cannot_dial(now, peer, out);
        }
    }

    fn looked(&mut self, now: Time, samples: &[Sample]) {
        for sample in samples.iter().filter(|sample| self.links.contains(&sample.peer)) {
            self.peers.look(now, sample);
        }
        self.relax(now);
    }

    /// Lets all that was measured pull at this node's place once more. Others have moved since, and
    /// what was measured an hour ago still holds: so a few dozen pings place a node as well as
    /// thousands that are used once.
    fn relax(&mut self, now: Time) {
        let fresh = |at: Time| now.since(at) < FORGET_AFTER;
        let mut springs: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, measured)| measured.rtt.is_some_and(|rtt| fresh(rtt.at())))
            .map(|(peer, _)| peer)
            .collect();
        self.rng.shuffle(&mut springs);
        for peer in springs {
            self.locate(peer);
        }
    }

    /// Lets what is believed of a round trip pull at this node's place.
    fn locate(&mut self, peer: NodeId) {
        let coordinate = self.nodes.get(&peer).and_then(|node| node.coordinate);
        if let (Some(rtt), Some(other)) = (self.peers.round_trip(peer), coordinate) {
            self.locator.update(rtt.as_secs_f64(), &other, &mut self.rng);
        } else if let Some(rtt) = self.peers.round_trip(peer).filter(|_| !self.locator.is_placed())
        {
            // Somebody must be the first to be anywhere.
            self.locator.update(rtt.as_secs_f64(), &Coordinate::ORIGIN, &mut self.rng);
        }
    }

    fn record(&mut self, now: Time, owner: NodeId, body: Option<&Bytes>) {
        let report = body.and_then(|body| Report::from_body(body).ok());
        if owner == self.me {
            if let Some(coordinate) = report.and_then(|report| report.coordinate()) {
                self.locator.remember(coordinate);
            }
            return;
        }
        let Some(report) = report else {
            self.nodes.remove(&owner);
            return;
        };
        self.node(now, owner, |node| {
            node.coordinate = report.coordinate().or(node.coordinate);
            node.place = report.place();
            node.at = now;
            node.reported = true;
        });
    }

    pub(crate) fn node(&mut self, now: Time, id: NodeId, change: impl FnOnce(&mut Node)) {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&id) {
            return;
        }
        let unknown =
            Node { coordinate: None, place: None, at: now, ways_at: None, reported: false };
        change(self.nodes.entry(id).or_insert(unknown));
    }
}

fn send(to: NodeId, message: &Message, out: &mut Outbox<Output>) {
    out.push(Output::Send { to, body: encode(message).into() });
}
