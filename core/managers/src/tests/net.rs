//! A network of managers: latency, cuts, kills, pauses, disks that keep what was persisted.

mod checks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Incarnation, NodeId, Outbox, Rng, Time};

use crate::stored::{Image, State};
use crate::*;

pub(super) fn id(n: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(n + 1).unwrap(); 16])
}

/// How long membership takes to see that somebody is cut off.
const SILENCE: Duration = Duration::from_millis(3200);
const FLOODED: Duration = Duration::from_millis(20);

#[derive(Debug)]
enum Event_ {
    Input(usize, u64, Input),
    /// A write reaches the platter.
    Synced(usize, u64, Ticket),
    /// What `to` hears of `of`'s announcement.
    Heard {
        to: usize,
        of: usize,
        life: u64,
        body: Bytes,
    },
    /// Membership's view of a pair is brought up to date.
    Look(usize, usize),
    /// An order under a stamp comes, by whatever way.
    Order(usize, Stamp),
}

pub(super) struct Host {
    pub(super) machine: Option<Managers>,
    pub(super) life: u64,
    pub(super) disk: Restored,
    writes: VecDeque<(Ticket, Write)>,
    pub(super) disk_faulty: Option<DiskFault>,
    pub(super) disk_delay: (u64, u64),
    pub(super) paused: bool,
    /// How much faster its clock runs than the network's, in millionths.
    pub(super) drift: i64,
    backlog: VecDeque<Event_>,
    announcement: Option<Bytes>,
    /// Of this host, who is present and linked.
    present: BTreeSet<usize>,
    pub(super) eligible: Eligibility,
    /// The catalog, as committed entries say, of the history that it is of.
    pub(super) catalog: BTreeMap<u64, (Stamp, Origin, Bytes)>,
    pub(super) lineage: Option<Lineage>,
    pub(super) accepted: BTreeMap<u64, (u64, Strength)>,
    pub(super) refused: BTreeMap<u64, Refusal>,
    pub(super) done: BTreeSet<u64>,
    pub(super) reads: BTreeMap<u64, u64>,
    pub(super) events: Vec<Event>,
    pub(super) rejects: Vec<(NodeId, Reason)>,
    pub(super) wants_checkpoint: bool,
    seen: Stamp,
    /// Orders that it was given, and the highest stamp under which it carried one out, in all its
    /// lives.
    orders: BTreeMap<u64, Stamp>,
    obeyed: Stamp,
}

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) hosts: Vec<Host>,
    queue: BTreeMap<(Time, u64), Event_>,
    events: u64,
    /// Since time last moved.
    steps: u64,
    pub(super) rng: Rng,
    /// For orders: they change no other chance.
    order_rng: Rng,
    /// How many were carried out, and refused.
    pub(super) orders: (usize, usize),
    /// Steps after which somebody had strict authority.
    pub(super) strict_steps: usize,
    pub(super) config: Config,
    pub(super) latency: (u64, u64),
    pub(super) loss: f64,
    /// How many messages come a second time, tampered with.
    pub(super) tampered: f64,
    /// What a message to a host takes longer.
    pub(super) lag: BTreeMap<usize, Duration>,
    /// Ways that carry nothing, which nobody is told of.
    pub(super) deaf: BTreeSet<(usize, usize)>,
    /// Pairs that do not reach each other.
    cuts: BTreeSet<(usize, usize)>,
    tokens: u64,
    proposed: BTreeMap<u64, Bytes>,
    /// Everything that was acknowledged: the body, by whom, when.
    pub(super) acknowledged: Vec<(Bytes, usize, Time)>,
    /// What each history decided, place by place.
    decided: BTreeMap<Lineage, BTreeMap<u64, (Stamp, Bytes)>>,
    raft_ids: BTreeMap<RaftId, (usize, Lineage)>,
    /// Who votes or learns in each history, as of the furthest place that anybody applied, and who
    /// did before.
    voters: BTreeMap<Lineage, (u64, BTreeSet<RaftId>)>,
    demoted: BTreeSet<RaftId>,
    pub(super) faults: Vec<String>,
    pub(super) trace: VecDeque<String>,
    pub(super) messages: u64,
}

impl Net {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        Self::with(count, seed, Config { strong_founder: false, ..Config::default() })
    }

    pub(super) fn with(count: usize, seed: u64, config: Config) -> Self {
        let mut net = Self {
            now: Time::from_millis(1_000),
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            events: 0,
            steps: 0,
            rng: Rng::seeded(seed),
            order_rng: Rng::seeded(seed ^ 0x006f_7264_6572),
            orders: (0, 0),
            strict_steps: 0,
            config,
            latency: (1, 5),
            loss: 0.0,
            tampered: 0.0,
            lag: BTreeMap::new(),
            deaf: BTreeSet::new(),
            cuts: BTreeSet::new(),
            tokens: 0,
            proposed: BTreeMap::new(),
            acknowledged: Vec::new(),
            decided: BTreeMap::new(),
            raft_ids: BTreeMap::new(),
            voters: BTreeMap::new(),
            demoted: BTreeSet::new(),
            faults: Vec::new(),
            trace: VecDeque::new(),
            messages: 0,
        };
        for _ in 0..count {
            net.hosts.push(Host {
                machine: None,
                life: 0,
                disk: Restored::default(),
                writes: VecDeque::new(),
                disk_faulty: None,
                disk_delay: (1, 8),
                paused: false,
                drift: 0,
                backlog: VecDeque::new(),
                announcement: None,
                present: BTreeSet::new(),
                eligible: Eligibility::Eligible,
                catalog: BTreeMap::new(),
                lineage: None,
                accepted: BTreeMap::new(),
                refused: BTreeMap::new(),
                done: BTreeSet::new(),
                reads: BTreeMap::new(),
                events: Vec::new(),
                rejects: Vec::new(),
                wants_checkpoint: false,
                seen: Stamp::default(),
                orders: BTreeMap::new(),
                obeyed: Stamp::default(),
            });
        }
        net
    }

    /// A flock of `count`, founded and settled.
    pub(super) fn settled(count: usize, seed: u64) -> Self {
        let mut net = Self::new(count, seed);
        (0..count).for_each(|host| net.start(host));
        net.run_until(Duration::from_secs(60), |net| net.is_settled());
        net
    }

    pub(super) fn start(&mut self, on: usize) {
        let seed = self.rng.bits();
        let mut config = self.config.clone();
        let host = &mut self.hosts[on];
        // The founding token is one, and is used up.
        config.strong_founder &= on == 0 && host.life == 0;
        assert!(host.machine.is_none(), "host {on} runs");
        host.life += 1;
        host.paused = false;
        host.catalog.clear();
        host.lineage = None;
        let me = Me { id: id(on), eligible: host.eligible, resources: 500 };
        let now = local(self.now, host.drift);
        let machine = Managers::new(me, config, host.disk.clone(), Rng::seeded(seed), now).unwrap();
        host.machine = Some(machine);
        self.note(format!("{on} starts"));
        for peer in 0..self.hosts.len() {
            self.meet(on, peer);
        }
        self.settle(on, |machine, now, out| machine.tick(now, out));
    }

    /// The process is killed: what was not synced is gone, and peers are refused at once.
    pub(super) fn kill(&mut self, on: usize) {
        self.note(format!("{on} is killed"));
        let host = &mut self.hosts[on];
        host.machine = None;
        host.life += 1;
        host.writes.clear();
        host.backlog.clear();
        host.announcement = None;
        host.present.clear();
        for peer in 0..self.hosts.len() {
            if self.hosts[peer].present.contains(&on) && !self.is_cut(on, peer) {
                let at = self.now + Duration::from_millis(2);
                let life = self.hosts[peer].life;
                for why in [Down::Closed, Down::Refused] {
                    self.push(at, Event_::Input(peer, life, Input::LinkDown { node: id(on), why }));
                }
            }
            self.look_later(peer, on);
        }
    }

    /// The machine loses power: nobody is told.
    pub(super) fn cut_power(&mut self, on: usize) {
        self.note(format!("{on} loses power"));
        let host = &mut self.hosts[on];
        host.machine = None;
        host.life += 1;
        host.writes.clear();
        host.backlog.clear();
        host.announcement = None;
        host.present.clear();
        (0..self.hosts.len()).for_each(|peer| self.look_later(peer, on));
    }

    pub(super) fn lose_disk(&mut self, on: usize) {
        assert!(self.hosts[on].machine.is_none());
        self.hosts[on].disk = Restored::default();
        self.hosts[on].seen = Stamp::default();
        self.hosts[on].obeyed = Stamp::default();
    }

    /// This host gives all an order under its flock's stamp. It comes now, or much later.
    pub(super) fn order(&mut self, on: usize) {
        let Some(stamp) = self.machine(on).order_stamp() else { return };
        for to in 0..self.hosts.len() {
            let late = if self.order_rng.chance(0.2) { 10_000 } else { 50 };
            let at = self.now + Duration::from_millis(self.order_rng.within(1..late));
            self.push(at, Event_::Order(to, stamp));
        }
    }

    pub(super) fn give_order(&mut self, on: usize, stamp: Stamp) {
        if self.hosts[on].machine.is_some() {
            self.tokens += 1;
            self.hosts[on].orders.insert(self.tokens, stamp);
            self.give(on, Input::Order { token: Token(self.tokens), stamp });
        }
    }

    /// Never an order under a lower stamp after one under a higher, nor one whose stamp would be
    /// forgotten with the power.
    fn obeyed(&mut self, on: usize, token: Token) {
        let host = &mut self.hosts[on];
        let Some(stamp) = host.orders.remove(&token.0) else { return };
        if host.obeyed.judge(stamp) != Judgement::Obey {
            self.faults.push(format!("{on} obeys {stamp} after {}", host.obeyed));
        }
        host.obeyed = stamp;
        if host.seen.epoch < stamp.epoch {
            self.faults.push(format!("{on} obeys {stamp}, of which its disk does not know"));
        }
        self.orders.0 += 1;
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        if a != b && self.cuts.insert((a.min(b), a.max(b))) {
            self.look_later(a, b);
            self.look_later(b, a);
        }
    }

    pub(super) fn split(&mut self, part: &[usize]) {
        self.note(format!("{part:?} are cut off"));
        for a in 0..self.hosts.len() {
            for b in 0..a {
                if part.contains(&a) != part.contains(&b) {
                    self.cut(a, b);
                }
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.note("healed".to_owned());
        self.deaf.clear();
        let cuts: Vec<_> = std::mem::take(&mut self.cuts).into_iter().collect();
        for (a, b) in cuts {
            let at = self.now + Duration::from_millis(200);
            self.push(at, Event_::Look(a, b));
            self.push(at, Event_::Look(b, a));
        }
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    fn look_later(&mut self, to: usize, of: usize) {
        let at = self.now + SILENCE;
        self.push(at, Event_::Look(to, of));
    }

    fn meet(&mut self, a: usize, b: usize) {
        if a != b {
            let at = self.now + Duration::from_millis(self.rng.within(5..100));
            self.push(at, Event_::Look(a, b));
            self.push(at, Event_::Look(b, a));
        }
    }

    pub(super) fn pause(&mut self, on: usize) {
        self.note(format!("{on} stalls"));
        self.hosts[on].paused = true;
    }

    pub(super) fn resume(&mut self, on: usize) {
        self.note(format!("{on} goes on"));
        self.hosts[on].paused = false;
        let backlog: Vec<_> = self.hosts[on].backlog.drain(..).collect();
        for event in backlog {
            self.push(self.now, event);
        }
    }

    fn push(&mut self, at: Time, event: Event_) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    pub(super) fn note(&mut self, line: String) {
        if self.trace.len() >= 400 {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{} {line}", self.now));
    }

    pub(super) fn machine(&self, on: usize) -> &Managers {
        self.hosts[on].machine.as_ref().unwrap()
    }

    pub(super) fn view(&self, on: usize) -> View {
        self.machine(on).status(local(self.now, self.hosts[on].drift))
    }

    pub(super) fn role(&self, on: usize) -> Role {
        self.view(on).role
    }

    pub(super) fn up(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.hosts.len()).filter(|on| self.hosts[*on].machine.is_some())
    }

    pub(super) fn masters(&self) -> Vec<usize> {
        self.up().filter(|on| self.role(*on) == Role::Master).collect()
    }

    pub(super) fn master(&self) -> usize {
        let masters = self.masters();
        assert_eq!(masters.len(), 1, "one master\n{}", self.dump());
        masters[0]
    }

    /// One master that everybody follows, as many backups as there can be, all in the sync set, and
    /// one catalog among the managers.
    pub(super) fn is_settled(&self) -> bool {
        let masters = self.masters();
        let [master] = masters[..] else { return false };
        let view = self.view(master).flock.unwrap();
        let fit = self.up().filter(|on| self.hosts[*on].eligible == Eligibility::Eligible).count();
        let wanted = fit.min(MANAGERS);
        view.backups.len() + 1 == wanted
            && view.sync_set.len() == wanted
            && view.roster.iter().filter(|place| place.present).count() >= fit
            && self.machine(master).mastership.as_ref().unwrap().waiting() == 0
            && self.up().all(|on| {
                let flock = self.view(on).flock;
                flock.is_some_and(|it| {
                    it.lineage == view.lineage
                        && it.master == Some(id(master))
                        && (it.term == 0 || it.applied == view.applied)
                })
            })
    }

    pub(super) fn propose(&mut self, on: usize, text: &str) -> u64 {
        self.tokens += 1;
        let (token, body) = (self.tokens, Bytes::copy_from_slice(text.as_bytes()));
        self.proposed.insert(token, body.clone());
        self.give(on, Input::Propose { token: Token(token), body });
        token
    }

    /// Proposes ten mebibytes.
    pub(super) fn tokens_of_large(&mut self, on: usize) -> u64 {
        self.tokens += 1;
        let (token, body) = (Token(self.tokens), Bytes::from(vec![0; 10 << 20]));
        self.give(on, Input::Propose { token, body });
        self.tokens
    }

    pub(super) fn command(&mut self, on: usize, command: Command) -> u64 {
        self.tokens += 1;
        self.give(on, Input::Command { token: Token(self.tokens), command });
        self.tokens
    }

    pub(super) fn read(&mut self, on: usize) -> u64 {
        self.tokens += 1;
        self.give(on, Input::Read { token: Token(self.tokens) });
        self.tokens
    }

    pub(super) fn give(&mut self, on: usize, input: Input) {
        self.settle(on, |machine, now, out| machine.handle(now, input, out));
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    pub(super) fn run_until(&mut self, within: Duration, met: impl Fn(&Self) -> bool) {
        let end = self.now + within;
        while !met(self) {
            assert!(self.step(end), "not met within {within:?}\n{}", self.dump());
        }
    }

    /// Whether it was met in time.
    pub(super) fn met_within(&mut self, within: Duration, met: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + within;
        while !met(self) {
            if !self.step(end) {
                return false;
            }
        }
        true
    }

    pub(super) fn dump(&self) -> String {
        let views: Vec<String> = (0..self.hosts.len())
            .map(|on| match &self.hosts[on].machine {
                None => format!("{on}: down"),
                Some(_) => format!("{on}: {:?}", self.view(on)),
            })
            .collect();
        let trace: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        format!("{}\n{}\n{:?}", trace.join("\n"), views.join("\n"), self.faults)
    }

    /// One event, or one tick, no later than `end`.
    fn step(&mut self, end: Time) -> bool {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let awake = self.up().filter(|on| !self.hosts[*on].paused);
        let ticks = awake.filter_map(|on| {
            let (at, _) = self.machine(on).deadline()?;
            Some((global(at, self.hosts[on].drift).max(self.now), on))
        });
        let tick = ticks.min();
        let due = [queued, tick.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(at) = due.filter(|at| *at <= end) else { return false };
        self.steps = if at > self.now { 0 } else { self.steps + 1 };
        assert!(self.steps < 100_000, "time stands still for {tick:?}\n{}", self.dump());
        self.now = self.now.max(at);
        match tick {
            Some((when, on)) if queued.is_none_or(|queued| when < queued) => {
                self.settle(on, |machine, now, out| machine.tick(now, out));
            }
            _ => {
                let (_, event) = self.queue.pop_first().unwrap();
                self.event(event);
            }
        }
        true
    }

    fn event(&mut self, event: Event_) {
        match event {
            Event_::Input(on, life, _) | Event_::Synced(on, life, _)
                if self.hosts[on].life != life => {}
            Event_::Heard { of, life, .. } if self.hosts[of].life != life => {}
            Event_::Input(on, ..)
            | Event_::Synced(on, ..)
            | Event_::Heard { to: on, .. }
            | Event_::Look(on, _)
            | Event_::Order(on, _)
                if self.hosts[on].paused =>
            {
                self.hosts[on].backlog.push_back(event);
            }
            // What was under way when a way broke is lost.
            Event_::Input(on, _, Input::Message { from, .. })
                if self.is_cut(on, usize::from(from.as_bytes()[0]) - 1) => {}
            Event_::Input(on, _, input) => {
                if self.hosts[on].machine.is_some() {
                    self.give(on, input);
                }
            }
            Event_::Synced(on, _, ticket) => self.synced(on, ticket),
            Event_::Heard { to, of, body, .. } => {
                if self.hosts[to].machine.is_some() && self.hosts[to].present.contains(&of) {
                    self.give(to, Input::Announced { node: id(of), body });
                }
            }
            Event_::Look(to, of) => self.look(to, of),
            Event_::Order(to, stamp) => self.give_order(to, stamp),
        }
    }

    fn look(&mut self, to: usize, of: usize) {
        if self.hosts[to].machine.is_none() {
            return;
        }
        let there = self.hosts[of].machine.is_some() && !self.is_cut(to, of);
        let was = self.hosts[to].present.contains(&of);
        let node = id(of);
        if there {
            // Also when it was there all the while: it may be another life of it.
            self.hosts[to].present.insert(of);
            let incarnation = Incarnation(self.hosts[of].life);
            let eligible = self.hosts[of].eligible;
            self.give(to, Input::Member { node, incarnation, eligible, resources: 500 });
            self.give(to, Input::LinkUp { node });
            if let Some(body) = self.hosts[of].announcement.clone() {
                self.give(to, Input::Announced { node, body });
            }
        } else if was {
            self.hosts[to].present.remove(&of);
            self.give(to, Input::LinkDown { node, why: Down::Silent });
            self.give(to, Input::Silent { node });
        }
    }

    fn settle(&mut self, on: usize, act: impl FnOnce(&mut Managers, Time, &mut Outbox<Output>)) {
        let now = local(self.now, self.hosts[on].drift);
        let mut out = Outbox::new();
        let Some(machine) = self.hosts[on].machine.as_mut() else { return };
        act(machine, now, &mut out);
        machine.check();
        let outputs: Vec<Output> = out.drain().collect();
        for output in outputs {
            self.output(on, output);
        }
        self.check(on);
    }

    fn output(&mut self, on: usize, output: Output) {
        let (now, life) = (self.now, self.hosts[on].life);
        match output {
            Output::Send { to, body } => {
                assert!(body.len() <= MAX_MESSAGE_BYTES);
                self.messages += 1;
                // What was tampered with may name a node that there is not.
                let to = usize::from(to.as_bytes()[0]).wrapping_sub(1);
                if to >= self.hosts.len() {
                    return;
                }
                let lost = self.loss > 0.0 && self.rng.chance(self.loss);
                let lost = lost || self.deaf.contains(&(on, to));
                if !lost && !self.is_cut(on, to) && self.hosts[to].machine.is_some() {
                    let delay = self.rng.within(self.latency.0 * 1000..self.latency.1 * 1000 + 1);
                    let peer = self.hosts[to].life;
                    let input = Input::Message { from: id(on), body: body.clone() };
                    let lag = self.lag.get(&to).copied().unwrap_or_default();
                    let at = now + Duration::from_micros(delay) + lag;
                    if self.tampered > 0.0 && self.rng.chance(self.tampered) {
                        let body = self.tamper(&body);
                        let input = Input::Message { from: id(on), body };
                        self.push(at, Event_::Input(to, peer, input));
                    }
                    self.push(at, Event_::Input(to, peer, input));
                }
            }
            Output::Persist { ticket, write } => {
                let host = &mut self.hosts[on];
                host.writes.push_back((ticket, write));
                let delay = self.rng.within(host.disk_delay.0..host.disk_delay.1 + 1);
                self.push(now + Duration::from_millis(delay), Event_::Synced(on, life, ticket));
            }
            Output::Announce { body } => {
                self.hosts[on].announcement = Some(body.clone());
                for to in 0..self.hosts.len() {
                    if to != on && !self.is_cut(on, to) {
                        let body = body.clone();
                        self.push(now + FLOODED, Event_::Heard { to, of: on, life, body });
                    }
                }
            }
            Output::Install { lineage, .. } => {
                self.note(format!("{on} installs {lineage:?}"));
                let host = &mut self.hosts[on];
                host.catalog.clear();
                host.lineage = Some(lineage);
            }
            Output::Committed { index, stamp, origin, body } => {
                self.committed(on, index, stamp, origin, body);
            }
            Output::Accepted { token, index, strength, .. } => {
                self.check_accepted(on, index);
                let body = self.proposed[&token.0].clone();
                self.hosts[on].accepted.insert(token.0, (index, strength));
                self.acknowledged.push((body, on, now));
            }
            Output::Refused { token, why } => {
                self.hosts[on].refused.insert(token.0, why);
            }
            Output::Done { token } => {
                self.hosts[on].done.insert(token.0);
            }
            Output::ReadGranted { token, index, .. } => {
                self.hosts[on].reads.insert(token.0, index);
            }
            Output::Obeyed { token } => self.obeyed(on, token),
            Output::Disobeyed { .. } => self.orders.1 += 1,
            Output::WantCheckpoint => self.hosts[on].wants_checkpoint = true,
            Output::Pin(_) => {}
            Output::Event(event) => {
                self.note(format!("{on} {event:?}"));
                self.hosts[on].events.push(event);
            }
            Output::Reject { from, reason } => self.hosts[on].rejects.push((from, reason)),
        }
    }

    /// The message with some of its bytes changed. Numbers take one to ten bytes, so that most of
    /// what comes out can be read.
    fn tamper(&mut self, body: &[u8]) -> Bytes {
        let mut bytes = body.to_vec();
        for _ in 0..self.rng.within(1..4) {
            let Some(at) = self.rng.index(bytes.len()) else { break };
            match self.rng.within(0..5) {
                0 => bytes[at] ^= 1 << self.rng.within(0..7),
                1 => bytes[at] = bytes[at].wrapping_add(1),
                2 => bytes[at] = u8::try_from(self.rng.within(0..128)).unwrap(),
                3 => bytes.insert(at, 0xff),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes.into()
    }

    fn committed(&mut self, on: usize, index: u64, stamp: Stamp, origin: Origin, body: Bytes) {
        let lineage = self.hosts[on].lineage.expect("an entry of no history");
        let known = self.decided.entry(lineage).or_default();
        let first = known.entry(index).or_insert_with(|| (stamp, body.clone()));
        if *first != (stamp, body.clone()) {
            self.faults.push(format!("{on} decided another entry at {index} of {lineage:?}"));
        }
        let last = self.hosts[on].catalog.keys().next_back().copied().unwrap_or(0);
        if index <= last {
            self.faults.push(format!("{on} was given {index} after {last}"));
        }
        self.hosts[on].catalog.insert(index, (stamp, origin, body));
    }

    fn synced(&mut self, on: usize, ticket: Ticket) {
        if let Some(why) = self.hosts[on].disk_faulty {
            self.give(on, Input::PersistFailed { ticket, why });
            return;
        }
        let host = &mut self.hosts[on];
        while host.writes.front().is_some_and(|(at, _)| *at <= ticket) {
            let (_, write) = host.writes.pop_front().unwrap();
            apply(&mut host.disk, write);
        }
        // What is on disk can be read at any moment, and the stamp in it never falls. A long log
        // is not read each time.
        if host.disk.entries.len() < 200 {
            host.disk.read(id(on)).expect("a disk that cannot be read");
        }
        let state = host.disk.state.as_ref().expect("no state");
        let state: State = skep_wire::decode("state", state).unwrap();
        if state.seen.epoch < host.seen.epoch {
            self.faults.push(format!("the stamp of {on} fell to {}", state.seen));
        }
        self.hosts[on].seen = state.seen;
        self.give(on, Input::Persisted { ticket });
    }

    /// What must hold after every step.
    fn check(&mut self, on: usize) {
        let now = self.now;
        self.check_demoted(on);
        if let Some(group) = &self.machine(on).group {
            let raft = group.engine.raft;
            let owner = (on, group.meta.lineage);
            if *self.raft_ids.entry(raft).or_insert(owner) != owner {
                self.faults.push(format!("{on} uses raft id {raft} of another"));
            }
        }
        let mut acknowledging: BTreeMap<(Lineage, Generation), Vec<usize>> = BTreeMap::new();
        for host in self.up().filter(|host| !self.hosts[*host].paused) {
            let machine = self.machine(host);
            if machine.lease(local(now, self.hosts[host].drift)).is_some() {
                let meta = &machine.group.as_ref().unwrap().meta;
                acknowledging.entry((meta.lineage, meta.generation)).or_default().push(host);
            }
        }
        let strict = |host: &usize| {
            let machine = self.machine(*host);
            machine.strict_until(local(now, self.hosts[*host].drift)).is_some()
        };
        // Also one that stands still: what it was about to do it does when it goes on.
        let strict: Vec<usize> = self.up().filter(strict).collect();
        if strict.len() > 1 {
            self.faults.push(format!("{strict:?} have strict authority at {now}"));
        }
        self.strict_steps += usize::from(!strict.is_empty());
        for (flock, hosts) in acknowledging {
            if hosts.len() > 1 {
                self.faults.push(format!("{hosts:?} may acknowledge in {flock:?} at {now}"));
            }
        }
    }

    /// At the end: nothing that was acknowledged is missing where the flock went on.
    pub(super) fn check_kept(&mut self) {
        self.run(Duration::from_millis(500));
        let master = self.master();
        let catalog: BTreeSet<&Bytes> =
            self.hosts[master].catalog.values().map(|(_, _, body)| body).collect();
        for (body, by, at) in &self.acknowledged {
            if !catalog.contains(body) {
                let body = String::from_utf8_lossy(body).into_owned();
                self.faults.push(format!("{body:?}, acknowledged by {by} at {at}, is lost"));
            }
        }
        let up: Vec<usize> = self.up().collect();
        for on in up {
            let view = self.view(on);
            let same = self.hosts[on].catalog == self.hosts[master].catalog;
            if matches!(view.role, Role::Backup | Role::Master) && !same {
                self.faults.push(format!("{on} has another catalog than the master {master}"));
            }
        }
    }

    pub(super) fn assert_sound(&self) {
        assert!(self.faults.is_empty(), "{}", self.dump());
    }
}

/// What a host's clock shows.
fn local(at: Time, drift: i64) -> Time {
    let nanos = i128::from(at.as_nanos());
    let nanos = nanos + nanos * i128::from(drift) / 1_000_000;
    Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// When a host's clock shows it, or a little later.
fn global(at: Time, drift: i64) -> Time {
    let nanos = i128::from(at.as_nanos()) * 1_000_000 / (1_000_000 + i128::from(drift));
    Time::from_nanos(u64::try_from(nanos + 2).unwrap_or(u64::MAX))
}

fn apply(disk: &mut Restored, write: Write) {
    match write.cut {
        Cut::Nothing => {}
        Cut::From(index) => disk.entries.retain(|entry| entry.index < index),
        Cut::Through(index) => disk.entries.retain(|entry| entry.index > index),
        Cut::All => disk.entries.clear(),
    }
    match write.image {
        ImageChange::Keep => {}
        ImageChange::Replace(image) => {
            assert!(Image::from_bytes(&image).is_some(), "an image that cannot be read");
            disk.image = Some(image);
        }
        ImageChange::Drop => disk.image = None,
    }
    disk.entries.extend(write.entries);
    if let Some(state) = write.state {
        let _readable: State = skep_wire::decode("state", &state).unwrap();
        disk.state = Some(state);
    }
}
