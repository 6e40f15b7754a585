//! Flood machines, the links between them, and their disks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, Incarnation, NodeId, Outbox, Rng, Time};
use skep_flood::{
    Config, Flood, Input, Label, LogEntry, LogRecord, Output, Position, PublishToken, ReadItem,
    ReadToken, Restored, UpdateId,
};

use crate::net::{Distances, Latency};
use crate::queue::Queue;

/// Headers of TLS, TCP and IP around a frame, and half of the acknowledgement that answers it.
const FRAME_OVERHEAD_BYTES: u64 = 5 + 22 + 52 + 26;
const DISK_WRITE: Duration = Duration::from_micros(50);
const DISK_SYNC: Duration = Duration::from_millis(2);
const DISK_READ: Duration = Duration::from_micros(100);

enum Event {
    Tick { on: usize, at: Time },
    Frame { from: usize, to: usize, epoch: u32, body: Bytes },
    Written { on: usize, life: u32, up_to: Position, durable: bool },
    Read { on: usize, life: u32, token: ReadToken, items: Vec<ReadItem> },
}

struct Row {
    head: Bytes,
    body: Bytes,
    written: Time,
}

pub(super) struct Host {
    pub(super) id: NodeId,
    place: u16,
    /// Nothing while it is down.
    pub(super) flood: Option<Flood>,
    life: u32,
    log: VecDeque<Row>,
    tick_at: Option<Time>,
    /// Updates in its log.
    pub(super) holds: u64,
}

/// How an update fares.
pub(super) struct Journey {
    pub(super) published: Time,
    pub(super) last: Time,
    /// Nodes that have it, its origin among them.
    pub(super) reached: usize,
}

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) hosts: Vec<Host>,
    numbers: BTreeMap<NodeId, usize>,
    links: BTreeMap<(usize, usize), u32>,
    /// When a direction of a link is free again, and when the last frame on it arrives.
    busy: BTreeMap<(usize, usize), (Time, Time)>,
    queue: Queue<Event>,
    distances: Distances,
    rng: Rng,
    config: Config,
    /// Bytes a second in each direction of a link.
    rate: u64,
    tokens: u64,
    epochs: u32,
    pub(super) journeys: BTreeMap<UpdateId, Journey>,
    /// A host that is no part of anybody's journey.
    pub(super) apart: Option<usize>,
    /// Bytes sent over all links, with all headers.
    pub(super) sent_bytes: u64,
}

impl Net {
    pub(super) fn new(
        nodes: usize,
        latency: &Latency,
        rate: u64,
        config: Config,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut rng = Rng::seeded(seed);
        let distances = Distances::new(latency)?;
        let mut net = Self {
            now: Time::from_millis(1_000),
            hosts: Vec::new(),
            numbers: BTreeMap::new(),
            links: BTreeMap::new(),
            busy: BTreeMap::new(),
            queue: Queue::new(),
            distances,
            rng: rng.fork(),
            config,
            rate,
            tokens: 0,
            epochs: 0,
            journeys: BTreeMap::new(),
            apart: None,
            sent_bytes: 0,
        };
        for number in 0..nodes {
            let mut id = [0; NodeId::LEN];
            id[..8].copy_from_slice(&rng.bits().to_be_bytes());
            id[8..].copy_from_slice(&(number as u64).to_be_bytes());
            let id = NodeId::from_bytes(id);
            let place = net.distances.place(&mut rng);
            let log = VecDeque::new();
            let host = Host { id, place, flood: None, life: 0, log, tick_at: None, holds: 0 };
            net.hosts.push(host);
            net.numbers.insert(id, number);
            net.start(number);
        }
        Ok(net)
    }

    /// The quickest round trip between two hosts.
    pub(super) fn round_trip(&self, a: usize, b: usize) -> Duration {
        self.distances.round_trip(self.hosts[a].place, self.hosts[b].place)
    }

    /// Starts a host's process with what its log holds.
    pub(super) fn start(&mut self, on: usize) {
        let (seed, now) = (self.rng.bits(), self.now);
        let host = &mut self.hosts[on];
        host.life += 1;
        let incarnation = Incarnation(host.life.into());
        let mut flood = Flood::new(host.id, incarnation, self.config.clone(), Rng::seeded(seed));
        let restored = host.log.iter().enumerate().map(|(at, row)| Restored {
            position: Position(at as u64),
            head: row.head.clone(),
            body_bytes: row.body.len() as u64,
            stored_for: now.since(row.written),
        });
        flood.restore(now, restored, Position(host.log.len() as u64), false);
        host.flood = Some(flood);
        self.input(on, Input::Begin { incarnation });
    }

    /// Ends a host's process, and all its links.
    pub(super) fn stop(&mut self, on: usize) {
        let host = &mut self.hosts[on];
        host.flood = None;
        host.life += 1;
        host.tick_at = None;
        let linked: Vec<_> = self.links.keys().filter(|(a, b)| *a == on || *b == on).collect();
        let linked: Vec<_> = linked.into_iter().copied().collect();
        for (a, b) in linked {
            self.links.remove(&(a, b));
            self.tell_neighbours(if a == on { b } else { a });
        }
    }

    /// Brings links up; each end knows how far the other is.
    pub(super) fn link(&mut self, edges: impl IntoIterator<Item = (usize, usize)>) {
        let mut ends = Vec::new();
        for (a, b) in edges {
            self.epochs += 1;
            self.links.insert((a.min(b), a.max(b)), self.epochs);
            self.busy.remove(&(a, b));
            self.busy.remove(&(b, a));
            ends.extend([(a, b), (b, a)]);
        }
        for (on, other) in &ends {
            let (peer, time) = (self.hosts[*other].id, self.round_trip(*on, *other));
            self.input(*on, Input::RoundTrip { peer, time });
        }
        ends.sort_unstable();
        ends.dedup_by_key(|end| end.0);
        for (on, _) in ends {
            self.tell_neighbours(on);
        }
    }

    fn tell_neighbours(&mut self, on: usize) {
        let linked = self.links.keys().filter_map(|&(a, b)| match on {
            _ if on == a => Some(b),
            _ if on == b => Some(a),
            _ => None,
        });
        let peers = linked.map(|other| self.hosts[other].id).collect();
        self.input(on, Input::Neighbours { group: GroupName::all(), peers });
    }

    /// Publishes an update at a host.
    pub(super) fn publish(&mut self, on: usize, bytes: usize) {
        self.tokens += 1;
        let token = PublishToken(self.tokens);
        let fill = self.rng.bits().to_le_bytes();
        let body: Vec<u8> = fill.into_iter().cycle().take(bytes).collect();
        let (group, body) = (GroupName::all(), body.into());
        self.input(on, Input::Publish { group, body, token, label: Label::default() });
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.queue.next_at().is_some_and(|at| at <= end) {
            if let Some((at, _, event)) = self.queue.pop() {
                self.now = self.now.max(at);
                self.happen(event);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { on, at } => {
                let host = &mut self.hosts[on];
                if host.tick_at == Some(at) {
                    host.tick_at = None;
                    let mut out = Outbox::new();
                    if let Some(flood) = &mut host.flood {
                        flood.tick(self.now, &mut out);
                    }
                    self.carry_out(on, out);
                }
            }
            Event::Frame { from, to, epoch, body } => {
                if self.links.get(&(from.min(to), from.max(to))) == Some(&epoch) {
                    let from = self.hosts[from].id;
                    self.input(to, Input::Received { from, body });
                }
            }
            Event::Written { on, life, up_to, durable } => {
                if self.hosts[on].life == life {
                    self.input(on, Input::Appended { up_to, durable });
                }
            }
            Event::Read { on, life, token, items } => {
                let host = &self.hosts[on];
                if host.life == life {
                    let records = items.iter().map(|item| host.record(item)).collect();
                    self.input(on, Input::Read { token, records });
                }
            }
        }
    }

    fn input(&mut self, on: usize, input: Input) {
        let mut out = Outbox::new();
        if let Some(flood) = &mut self.hosts[on].flood {
            flood.handle(self.now, input, &mut out);
        }
        self.carry_out(on, out);
    }

    fn carry_out(&mut self, on: usize, mut out: Outbox<Output>) {
        while let Some(output) = out.pop() {
            let life = self.hosts[on].life;
            match output {
                Output::Send { to, body } => self.send(on, to, body),
                Output::Append { entries, sync } => {
                    let up_to = self.append(on, entries);
                    let at = self.now + if sync { DISK_SYNC } else { DISK_WRITE };
                    self.queue.push(at, Event::Written { on, life, up_to, durable: sync });
                }
                Output::Read { token, items } => {
                    self.queue.push(self.now + DISK_READ, Event::Read { on, life, token, items });
                }
                Output::BodyOpen { .. }
                | Output::BodyLeaves { .. }
                | Output::BodyPiece { .. }
                | Output::BodyDrop { .. }
                | Output::Fetching { .. }
                | Output::Serve { .. } => unreachable!("surges are of small updates"),
                Output::Purge { .. }
                | Output::Purged(_)
                | Output::Acknowledge { .. }
                | Output::Refuse { .. }
                | Output::HandOver { .. }
                | Output::PersistCursor { .. }
                | Output::CursorGap { .. }
                | Output::Gap { .. }
                | Output::Reject { .. } => {}
            }
        }
        self.plan_tick(on);
    }

    fn plan_tick(&mut self, on: usize) {
        let host = &mut self.hosts[on];
        let due = host.flood.as_ref().and_then(Flood::deadline).map(|(at, _)| at.max(self.now));
        if let Some(at) = due.filter(|at| *at != Time::NEVER)
            && host.tick_at.is_none_or(|planned| at < planned)
        {
            host.tick_at = Some(at);
            self.queue.push(at, Event::Tick { on, at });
        }
    }

    fn append(&mut self, on: usize, entries: Vec<LogEntry>) -> Position {
        let now = self.now;
        let host = &mut self.hosts[on];
        for entry in entries {
            let head = Bytes::from(entry.head.to_bytes());
            let body = match entry.body {
                skep_flood::Body::Here(body) => body,
                skep_flood::Body::Fetched | skep_flood::Body::Spooled(_) => Bytes::new(),
            };
            host.log.push_back(Row { head, body, written: now });
            let Some(id) = entry.head.update().map(|head| head.header.id) else {
                continue;
            };
            host.holds += 1;
            if self.apart == Some(on) {
                continue;
            }
            let fresh = Journey { published: now, last: now, reached: 0 };
            let journey = self.journeys.entry(id).or_insert(fresh);
            journey.reached += 1;
            journey.last = now;
        }
        Position(host.log.len() as u64)
    }

    fn send(&mut self, from: usize, to: NodeId, body: Bytes) {
        let Some(&to) = self.numbers.get(&to) else {
            return;
        };
        let Some(&epoch) = self.links.get(&(from.min(to), from.max(to))) else {
            return;
        };
        let bytes = body.len() as u64 + FRAME_OVERHEAD_BYTES;
        self.sent_bytes += bytes;
        let takes = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate);
        let (a, b) = (self.hosts[from].place, self.hosts[to].place);
        let way = self.distances.one_way(a, b, &mut self.rng);
        let (free, last) = self.busy.entry((from, to)).or_insert((Time::ZERO, Time::ZERO));
        *free = self.now.max(*free) + takes;
        // TCP gives what comes out of order in order.
        *last = (*free + way).max(*last);
        self.queue.push(*last, Event::Frame { from, to, epoch, body });
    }

    /// A count of all machines.
    pub(super) fn sum(&self, of: impl Fn(&skep_flood::Stats) -> u64) -> u64 {
        self.hosts.iter().filter_map(|host| host.flood.as_ref()).map(|it| of(it.stats())).sum()
    }
}

impl Host {
    fn record(&self, item: &ReadItem) -> Option<LogRecord> {
        let row = self.log.get(usize::try_from(item.position.0).ok()?)?;
        let to = (item.length as usize).min(row.body.len());
        Some(LogRecord { head: row.head.clone(), body: row.body.slice(..to) })
    }
}
