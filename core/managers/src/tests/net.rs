//! A network of managers: latency, cuts, kills, pauses, disks that keep what was persisted.

mod carry;
mod checks;
mod faults;
mod founding;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Incarnation, NodeId, Rng, Time};

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

/// What a host that is asked to hand over answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Makes {
    /// The body of each entry that the other lacks, as it is.
    Items,
    /// Nothing at all.
    Nothing,
    /// More than anybody may, in many items.
    TooMuch,
    /// One item that is too long.
    TooLong,
}

/// From what it was asked to: after which checkpoint, which entries, which of them the other has.
pub(super) struct Asked {
    pub(super) after: u64,
    pub(super) entries: Vec<Decided>,
    pub(super) common: u64,
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
    pub(super) resources: u16,
    /// The catalog, as committed entries say, of the history that it is of.
    pub(super) catalog: BTreeMap<u64, Decided>,
    pub(super) lineage: Option<Lineage>,
    pub(super) accepted: BTreeMap<u64, (u64, Strength)>,
    pub(super) refused: BTreeMap<u64, Refusal>,
    pub(super) done: BTreeSet<u64>,
    /// For which history a founding token is wanted.
    pub(super) wanted: BTreeMap<u64, Lineage>,
    pub(super) reads: BTreeMap<u64, u64>,
    pub(super) called: BTreeMap<u64, Authority>,
    pub(super) events: Vec<Event>,
    pub(super) rejects: Vec<(NodeId, Reason)>,
    pub(super) wants_checkpoint: bool,
    /// What it was asked to make items of.
    pub(super) asked: Vec<Asked>,
    /// What it makes of that.
    pub(super) makes: Makes,
    made: Option<Vec<Bytes>>,
    seen: Stamp,
    /// The founding number of the last promise on its disk.
    pledged: Founding,
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
    /// The last place of each history that was acknowledged.
    last_accepted: BTreeMap<Lineage, u64>,
    /// Everything that was acknowledged: the body, by whom, when.
    pub(super) acknowledged: Vec<(Bytes, usize, Time)>,
    /// What each history decided, place by place.
    decided: BTreeMap<Lineage, BTreeMap<u64, (Stamp, u64, Bytes)>>,
    /// Which entry has a name: fork, term and place.
    named: BTreeMap<(ForkId, u64, u64), Bytes>,
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
        Self::with(count, seed, Config::default())
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
            last_accepted: BTreeMap::new(),
            acknowledged: Vec::new(),
            decided: BTreeMap::new(),
            named: BTreeMap::new(),
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
                resources: 500,
                catalog: BTreeMap::new(),
                lineage: None,
                accepted: BTreeMap::new(),
                refused: BTreeMap::new(),
                done: BTreeSet::new(),
                wanted: BTreeMap::new(),
                reads: BTreeMap::new(),
                called: BTreeMap::new(),
                events: Vec::new(),
                rejects: Vec::new(),
                wants_checkpoint: false,
                asked: Vec::new(),
                makes: Makes::Items,
                made: None,
                seen: Stamp::default(),
                pledged: Founding(0),
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
        let config = self.config.clone();
        let host = &mut self.hosts[on];
        assert!(host.machine.is_none(), "host {on} runs");
        host.life += 1;
        host.paused = false;
        host.catalog.clear();
        host.lineage = None;
        let me = Me { id: id(on), eligible: host.eligible, resources: host.resources };
        let now = local(self.now, host.drift);
        let machine = Managers::new(me, config, host.disk.clone(), Rng::seeded(seed), now).unwrap();
        host.machine = Some(machine);
        self.note(format!("{on} starts"));
        for peer in 0..self.hosts.len() {
            self.meet(on, peer);
        }
        self.settle(on, |machine, now, out| machine.tick(now, out));
    }

    /// A host says from now on that it has so much to spare.
    pub(super) fn load(&mut self, on: usize, resources: u16) {
        self.hosts[on].resources = resources;
        let incarnation = Incarnation(self.hosts[on].life);
        let (node, eligible) = (id(on), self.hosts[on].eligible);
        self.give(on, Input::Member { node, incarnation, eligible, resources });
        (0..self.hosts.len()).filter(|to| *to != on).for_each(|to| self.look(to, on));
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

    /// Whether it asks another master to merge, or hands over.
    pub(super) fn asks_to_merge(&self, on: usize) -> bool {
        self.hosts[on].machine.as_ref().is_some_and(|machine| machine.giver.is_some())
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

    pub(super) fn call_roll(&mut self, on: usize) -> u64 {
        self.tokens += 1;
        self.give(on, Input::RollCall { token: Token(self.tokens) });
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
