//! A network of flood machines in virtual time: links with delay, cuts and loss; disks that write
//! late and lose what was not synced; and a checker of what everybody's log must hold.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, Incarnation, NodeId, Outbox, Rng, Time};

use crate::event::{
    CursorName, Delivered, Input, LogHead, LogRecord, Missed, Output, PublishToken, PurgedMark,
    ReadItem, ReadToken, Refusal, Restored,
};
use crate::message::StoredHead;
use crate::shelf::{self, Shelf};
use crate::{Config, Flood, Kept, Label, Position, Serial, UpdateId};

pub(super) fn node(number: usize) -> NodeId {
    let mut id = [0; NodeId::LEN];
    id[NodeId::LEN - 1] = u8::try_from(number).unwrap();
    id[0] = 0x40 + id[NodeId::LEN - 1] / 7;
    NodeId::from_bytes(id)
}

pub(super) fn number(of: NodeId) -> usize {
    usize::from(of.as_bytes()[NodeId::LEN - 1])
}

/// What a log on disk holds at one position.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) head: StoredHead,
    pub(super) body: Bytes,
    at: Time,
}

#[derive(Debug)]
enum Event {
    Frame {
        from: usize,
        to: usize,
        epoch: u64,
        body: Bytes,
    },
    Written {
        on: usize,
        life: u64,
        up_to: Position,
        durable: bool,
    },
    Read {
        on: usize,
        life: u64,
        token: ReadToken,
        items: Vec<ReadItem>,
    },
    /// The disk has dealt with a part of a large body.
    Shelved {
        on: usize,
        life: u64,
        input: Input,
    },
}

#[derive(Debug)]
pub(super) struct Host {
    /// Nothing while it is down.
    pub(super) flood: Option<Flood>,
    pub(super) log: Vec<Option<Stored>>,
    /// Gaps in the log, where it holds no update.
    pub(super) notes: BTreeMap<usize, (Missed, Time)>,
    /// Gaps that subscribers were handed.
    pub(super) told: Vec<(CursorName, Position, Missed)>,
    synced: usize,
    life: u64,
    pub(super) purged_below: u64,
    pub(super) purged: BTreeMap<(GroupName, NodeId), Serial>,
    pub(super) acknowledged: BTreeMap<u64, UpdateId>,
    pub(super) refused: BTreeMap<u64, Refusal>,
    pub(super) gaps: Vec<(NodeId, Serial)>,
    pub(super) rejected: Vec<(NodeId, String)>,
    pub(super) cursors: BTreeMap<CursorName, Position>,
    pub(super) handed: Vec<(CursorName, Delivered)>,
    pub(super) cursor_gaps: Vec<(Position, Position)>,
    /// Whether hand-overs are committed at once.
    pub(super) commits: bool,
    /// Whether the disk takes anything.
    pub(super) disk_full: bool,
    /// Large bodies that are being pulled.
    pub(super) shelf: Shelf,
    /// Bytes of pieces that this host gave to others.
    pub(super) served: u64,
    pub(super) config: Config,
}

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) hosts: Vec<Host>,
    links: BTreeMap<(usize, usize), u64>,
    /// When the last frame of a direction arrives: frames of a link keep their order.
    busy: BTreeMap<(usize, usize), Time>,
    queue: BTreeMap<(Time, u64), Event>,
    events: u64,
    epoch: u64,
    tokens: u64,
    pub(super) rng: Rng,
    /// How many frames are dropped, as by a full send queue.
    pub(super) loss: f64,
    pub(super) latency: (u64, u64),
    /// What a link takes longer than the others, both ways.
    pub(super) slow: BTreeMap<(usize, usize), Duration>,
    /// Everything that was acknowledged, with its group and body.
    pub(super) accepted: BTreeMap<UpdateId, (GroupName, Bytes)>,
    published: BTreeMap<u64, (GroupName, Bytes)>,
    pub(super) frames: u64,
    /// Whether the machines' own assertions are asked.
    pub(super) checked: bool,
    pub(super) body_bytes: u64,
}

impl Net {
    pub(super) fn new(count: usize, seed: u64, config: &Config) -> Self {
        let mut net = Self {
            now: Time::from_millis(1_000),
            hosts: Vec::new(),
            links: BTreeMap::new(),
            busy: BTreeMap::new(),
            queue: BTreeMap::new(),
            events: 0,
            epoch: 0,
            tokens: 0,
            rng: Rng::seeded(seed),
            loss: 0.0,
            latency: (1, 20),
            slow: BTreeMap::new(),
            accepted: BTreeMap::new(),
            published: BTreeMap::new(),
            frames: 0,
            checked: true,
            body_bytes: 0,
        };
        for _ in 0..count {
            net.hosts.push(Host {
                flood: None,
                log: Vec::new(),
                notes: BTreeMap::new(),
                told: Vec::new(),
                synced: 0,
                life: 0,
                purged_below: 0,
                purged: BTreeMap::new(),
                acknowledged: BTreeMap::new(),
                refused: BTreeMap::new(),
                gaps: Vec::new(),
                rejected: Vec::new(),
                cursors: BTreeMap::new(),
                handed: Vec::new(),
                cursor_gaps: Vec::new(),
                commits: true,
                disk_full: false,
                shelf: Shelf::default(),
                served: 0,
                config: config.clone(),
            });
        }
        (0..count).for_each(|host| net.start(host, false));
        net
    }

    /// All hosts linked in a ring, with chords for a second way.
    pub(super) fn ring(&mut self) {
        let count = self.hosts.len();
        for host in 0..count {
            self.link(host, (host + 1) % count);
            self.link(host, (host + count / 2) % count);
        }
    }

    pub(super) fn start(&mut self, on: usize, clock_went_back: bool) {
        let seed = self.rng.bits();
        let now = self.now;
        let host = &mut self.hosts[on];
        host.life += 1;
        let incarnation = Incarnation(host.life);
        let mut flood = Flood::new(node(on), incarnation, host.config.clone(), Rng::seeded(seed));
        let records = host.log.iter().enumerate().skip(usize::try_from(host.purged_below).unwrap());
        let notes = &host.notes;
        let records = records.filter_map(|(at, stored)| {
            let (head, length, written) = match (stored, notes.get(&at)) {
                (Some(stored), _) => (stored.head.to_bytes(), stored.body.len(), stored.at),
                (None, Some((gap, at))) => (LogHead::Gap(gap.clone()).to_bytes(), 0, *at),
                (None, None) => return None,
            };
            let stored_for = now.since(written);
            Some(Restored {
                position: Position(at as u64),
                head: head.into(),
                body_bytes: length as u64,
                stored_for: if clock_went_back { Duration::ZERO } else { stored_for },
            })
        });
        let marks = host.purged.iter().map(|((group, origin), serial)| PurgedMark {
            group: group.clone(),
            origin: *origin,
            serial: *serial,
        });
        flood.restore_purged(marks);
        flood.restore(now, records, Position(host.log.len() as u64), clock_went_back);
        flood.check();
        host.flood = Some(flood);
        for (name, position) in host.cursors.clone() {
            self.input(
                on,
                Input::CursorOpen {
                    name,
                    group: GroupName::all(),
                    from: Some(position),
                    durable: true,
                },
            );
        }
        self.input(on, Input::Begin { incarnation });
    }

    /// The process ends. With `power_cut`, what was not synced is gone as well.
    pub(super) fn stop(&mut self, on: usize, power_cut: bool) {
        let host = &mut self.hosts[on];
        host.flood = None;
        host.life += 1;
        if power_cut {
            host.log.truncate(host.synced);
            host.notes.retain(|at, _| *at < host.synced);
        }
        for peer in 0..self.hosts.len() {
            self.cut(on, peer);
        }
    }

    pub(super) fn link(&mut self, a: usize, b: usize) {
        let up = |host: &Host| host.flood.is_some();
        let key = (a.min(b), a.max(b));
        if a == b || self.links.contains_key(&key) || !up(&self.hosts[a]) || !up(&self.hosts[b]) {
            return;
        }
        self.epoch += 1;
        self.links.insert(key, self.epoch);
        self.tell_neighbours(a);
        self.tell_neighbours(b);
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a.min(b), a.max(b))).is_some() {
            self.tell_neighbours(a);
            self.tell_neighbours(b);
        }
    }

    pub(super) fn neighbours(&self, of: usize) -> Vec<usize> {
        let linked = self.links.keys();
        let ends = linked.filter_map(|&(a, b)| match of {
            _ if of == a => Some(b),
            _ if of == b => Some(a),
            _ => None,
        });
        ends.collect()
    }

    fn tell_neighbours(&mut self, on: usize) {
        let peers: Vec<_> = self.neighbours(on).into_iter().map(node).collect();
        let groups: Vec<_> = self.hosts[on].config.groups.iter().cloned().collect();
        for group in groups {
            let members = peers.iter().copied();
            let members = members
                .filter(|peer| self.hosts[number(*peer)].config.groups.contains(&group))
                .collect();
            self.input(on, Input::Neighbours { group, peers: members });
        }
    }

    pub(super) fn publish(&mut self, on: usize, body: &Bytes) -> u64 {
        self.publish_to(on, &GroupName::all(), body)
    }

    pub(super) fn publish_to(&mut self, on: usize, group: &GroupName, body: &Bytes) -> u64 {
        self.tokens += 1;
        let token = self.tokens;
        self.published.insert(token, (group.clone(), body.clone()));
        self.input(
            on,
            Input::Publish {
                group: group.clone(),
                body: body.clone(),
                token: PublishToken(token),
                label: Label::default(),
            },
        );
        token
    }

    pub(super) fn input(&mut self, on: usize, input: Input) {
        let mut out = Outbox::new();
        if let Some(flood) = &mut self.hosts[on].flood {
            flood.handle(self.now, input, &mut out);
            if self.checked {
                flood.check();
            }
        }
        self.carry_out(on, out);
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let event = self.queue.first_key_value().map_or(Time::NEVER, |it| it.0.0);
            let timers = self.hosts.iter().enumerate().filter_map(|(on, host)| {
                Some((host.flood.as_ref()?.deadline()?.0.max(self.now), on))
            });
            let (timer, on) = timers.min().unwrap_or((Time::NEVER, 0));
            let next = event.min(timer);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if timer <= event {
                let mut out = Outbox::new();
                if let Some(flood) = &mut self.hosts[on].flood {
                    flood.tick(self.now, &mut out);
                    if self.checked {
                        flood.check();
                    }
                }
                self.carry_out(on, out);
            } else if let Some((_, event)) = self.queue.pop_first() {
                self.happen(event);
            }
        }
        self.now = end;
    }

    /// Lets time pass until `done`, at most `limit`.
    pub(super) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            assert!(self.now.since(start) < limit, "not done after {limit:?}");
            self.run(Duration::from_millis(10));
        }
        self.now.since(start)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { from, to, epoch, body } => {
                if self.links.get(&(from.min(to), from.max(to))) == Some(&epoch) {
                    let from = node(from);
                    self.input(to, Input::Received { from, body });
                }
            }
            Event::Written { on, life, up_to, durable } => {
                if self.hosts[on].life == life {
                    if durable {
                        self.hosts[on].synced = usize::try_from(up_to.0).unwrap();
                    }
                    self.input(on, Input::Appended { up_to, durable });
                }
            }
            Event::Shelved { on, life, input } => {
                if self.hosts[on].life == life {
                    self.input(on, input);
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

    fn at(&mut self, time: Time, event: Event) {
        self.events += 1;
        self.queue.insert((time, self.events), event);
    }

    fn carry_out(&mut self, on: usize, mut out: Outbox<Output>) {
        while let Some(output) = out.pop() {
            let life = self.hosts[on].life;
            match output {
                Output::Send { to, body } => self.send(on, number(to), body),
                Output::Append { entries, sync } => {
                    let host = &mut self.hosts[on];
                    for entry in entries {
                        // What was handed out before a failure is void.
                        if entry.position.0 != host.log.len() as u64 {
                            continue;
                        }
                        if host.disk_full {
                            let from = entry.position;
                            self.input(on, Input::AppendFailed { from });
                            break;
                        }
                        let at = self.now;
                        match entry.head {
                            LogHead::Update(head) => {
                                let body = host.shelf.take(head.header.id, entry.body);
                                assert_eq!(head.header.length, body.len() as u64);
                                host.log.push(Some(Stored { head, body, at }));
                            }
                            LogHead::Gap(missed) => {
                                host.notes.insert(host.log.len(), (missed, at));
                                host.log.push(None);
                            }
                        }
                    }
                    let up_to = Position(self.hosts[on].log.len() as u64);
                    let delay = Duration::from_millis(if sync { 8 } else { 1 });
                    let event = Event::Written { on, life, up_to, durable: sync };
                    self.at(self.now + delay, event);
                }
                Output::Read { token, items } => {
                    let event = Event::Read { on, life, token, items };
                    self.at(self.now + Duration::from_millis(2), event);
                }
                Output::BodyOpen { .. }
                | Output::BodyLeaves { .. }
                | Output::BodyPiece { .. }
                | Output::BodyDrop { .. } => {
                    let answer = if self.hosts[on].disk_full {
                        refused(&output)
                    } else {
                        self.hosts[on].shelf.carry_out(output)
                    };
                    if let Some(input) = answer {
                        let event = Event::Shelved { on, life, input };
                        self.at(self.now + Duration::from_millis(1), event);
                    }
                }
                Output::Fetching { .. } => {}
                Output::Serve { to, position, .. } => {
                    let at = usize::try_from(position.0).unwrap();
                    let stored = self.hosts[on].log.get(at).and_then(Option::as_ref);
                    let body = stored.map(|stored| stored.body.clone()).unwrap_or_default();
                    for frame in shelf::frames(&output, &body) {
                        self.hosts[on].served += frame.len() as u64;
                        self.send(on, number(to), frame);
                    }
                }
                Output::Acknowledge { token, id, position } => {
                    // Where the log is full already, it may be gone again.
                    let there = self.hosts[on].flood.as_ref().unwrap().index.entry(position.0);
                    assert!(there.is_none_or(|entry| entry.id() == id), "{id} is not there");
                    let what = self.published.get(&token.0).cloned().unwrap();
                    assert_eq!(self.accepted.insert(id, what), None, "{id} used twice");
                    self.hosts[on].acknowledged.insert(token.0, id);
                }
                other @ (Output::Purge { .. }
                | Output::Purged(_)
                | Output::Refuse { .. }
                | Output::HandOver { .. }
                | Output::PersistCursor { .. }
                | Output::CursorGap { .. }
                | Output::Gap { .. }
                | Output::Reject { .. }) => self.note(on, other),
            }
        }
    }

    fn note(&mut self, on: usize, output: Output) {
        let host = &mut self.hosts[on];
        match output {
            Output::Refuse { token, reason } => {
                host.refused.insert(token.0, reason);
            }
            Output::HandOver { name, updates, gaps, next } => {
                let gaps = gaps.into_iter().map(|(at, gap)| (name.clone(), at, gap));
                host.told.extend(gaps);
                let updates = updates.into_iter().map(|update| (name.clone(), update));
                host.handed.extend(updates);
                if host.commits {
                    self.input(on, Input::CursorCommit { name, up_to: next });
                }
            }
            Output::PersistCursor { name, position, .. } => {
                host.cursors.insert(name, position);
            }
            Output::CursorGap { from, to, .. } => host.cursor_gaps.push((from, to)),
            Output::Gap { origin, up_to, .. } => host.gaps.push((origin, up_to)),
            Output::Reject { from, reason } => host.rejected.push((from, format!("{reason}"))),
            Output::Purged(marks) => {
                for PurgedMark { group, origin, serial } in marks {
                    let kept = host.purged.entry((group, origin)).or_insert(serial);
                    *kept = serial.max(*kept);
                }
            }
            Output::Purge { below } => {
                host.purged_below = below.0;
                let below = usize::try_from(below.0).unwrap().min(host.log.len());
                host.log[..below].iter_mut().for_each(|stored| *stored = None);
                host.notes.retain(|at, _| *at >= below);
            }
            Output::Send { .. }
            | Output::Append { .. }
            | Output::Read { .. }
            | Output::BodyOpen { .. }
            | Output::BodyLeaves { .. }
            | Output::BodyPiece { .. }
            | Output::BodyDrop { .. }
            | Output::Fetching { .. }
            | Output::Serve { .. }
            | Output::Acknowledge { .. } => unreachable!("carried out before"),
        }
    }

    fn send(&mut self, from: usize, to: usize, body: Bytes) {
        // Pieces go over the bulk lane, which may overtake the other; here they do not.
        assert!(body.len() <= skep_wire::Lane::Bulk.max_body_bytes());
        self.frames += 1;
        self.body_bytes += body.len() as u64;
        let Some(&epoch) = self.links.get(&(from.min(to), from.max(to))) else {
            return;
        };
        if self.rng.chance(self.loss) {
            return;
        }
        let delay = self.rng.within(self.latency.0..self.latency.1);
        let slow = self.slow.get(&(from.min(to), from.max(to))).copied().unwrap_or_default();
        let arrives = self.now + Duration::from_millis(delay) + slow;
        let busy = self.busy.entry((from, to)).or_insert(Time::ZERO);
        *busy = arrives.max(*busy);
        let arrives = *busy;
        self.at(arrives, Event::Frame { from, to, epoch, body });
    }

    pub(super) fn live(&self) -> impl Iterator<Item = (usize, &Host)> {
        self.hosts.iter().enumerate().filter(|(_, host)| host.flood.is_some())
    }

    /// What must be true of every log at any time: each update once, in the order of its origin.
    pub(super) fn check_logs(&self) -> Result<(), String> {
        for (on, host) in self.live() {
            let mut seen = BTreeSet::new();
            let mut last: BTreeMap<(GroupName, NodeId), Serial> = BTreeMap::new();
            for stored in host.log.iter().flatten() {
                let header = &stored.head.header;
                if !seen.insert(header.id) {
                    return Err(format!("{} is in the log of {on} twice", header.id));
                }
                let key = (stored.head.group.clone(), header.id.origin);
                let before = last.get(&key).copied();
                if before >= Some(header.id.serial) && !stored.head.late {
                    return Err(format!("{} is out of order in the log of {on}", header.id));
                }
                last.insert(key, before.max(Some(header.id.serial)).unwrap());
            }
        }
        Ok(())
    }

    /// What must be true when all is quiet: each live member has everything that was accepted.
    pub(super) fn check_complete(&self) -> Result<(), String> {
        self.check_logs()?;
        for (on, host) in self.live() {
            let stored = host.log.iter().flatten();
            let have: BTreeMap<_, _> = stored.map(|it| (it.head.header.id, it)).collect();
            for (id, (group, body)) in &self.accepted {
                if !host.config.groups.contains(group) {
                    if have.contains_key(id) {
                        return Err(format!("{id} is not for {on}"));
                    }
                    continue;
                }
                match have.get(id) {
                    None => return Err(format!("{id} is not in the log of {on}")),
                    Some(stored) if stored.body != body || stored.head.group != *group => {
                        return Err(format!("{id} has another body in the log of {on}"));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Whether the live members of the group `all` hold the same updates.
    pub(super) fn agrees(&self) -> bool {
        let mut logs = self.live().map(|(_, host)| host.ids());
        let first = logs.next().unwrap_or_default();
        logs.all(|log| log == first)
    }
}

/// What a full disk says.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is about bodies")]
fn refused(output: &Output) -> Option<Input> {
    match output {
        Output::BodyOpen { id, .. } => Some(Input::BodyOpened { id: *id, missing: None }),
        Output::BodyLeaves { id, .. } => Some(Input::LeavesKept { id: *id, kept: Kept::No }),
        Output::BodyPiece { id, piece, .. } => {
            Some(Input::PieceKept { id: *id, piece: *piece, kept: Kept::No })
        }
        _ => None,
    }
}

impl Host {
    fn record(&self, item: &ReadItem) -> Option<LogRecord> {
        let at = usize::try_from(item.position.0).unwrap();
        let stored = self.log.get(at)?.as_ref()?;
        let to = (item.length as usize).min(stored.body.len());
        Some(LogRecord { head: stored.head.to_bytes().into(), body: stored.body.slice(..to) })
    }

    pub(super) fn ids(&self) -> BTreeSet<UpdateId> {
        let stored = self.log.iter().flatten();
        stored.map(|it| it.head.header.id).collect()
    }

    /// Updates in the log.
    pub(super) fn count(&self) -> usize {
        self.log.iter().flatten().count()
    }

    pub(super) fn flood(&self) -> &Flood {
        self.flood.as_ref().unwrap()
    }
}
