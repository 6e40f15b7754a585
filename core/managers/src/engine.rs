//! The engine in its harness: stepped with what is good, its time-outs drawn by us, its wishes in
//! our words.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{Message as PbMessage, MessageType, Snapshot};
use raft::{Config as PbConfig, ProgressState, RawNode, SnapshotStatus, StateRole};
use skep_base::{NodeId, Rng, Time};
use slog::{Discard, Logger, o};

use crate::admit::{Admission, Standing, admit};
use crate::config::Config;
use crate::convert::{
    Changes, body_of, conf, conf_change, conf_state, from_engine, hard_state, message_of,
    snapshot_of, to_engine,
};
use crate::event::Reason;
use crate::id::{ForkId, Lineage, RaftId};
use crate::message::{Engine as Packet, EngineBody};
use crate::storage::Store;
use crate::stored::{Conf, Entry, Image, Payload, Record, Voter};

/// Bytes of entries in one append; with one entry over it, that one alone.
const MAX_APPEND_BYTES: u64 = 32 * 1024;
/// Appends under way to one follower.
const MAX_INFLIGHT: usize = 256;
/// Bytes of proposals that no majority has yet.
const MAX_UNCOMMITTED_BYTES: u64 = 16 * 1024 * 1024;
/// Beats whose answers are still worth something: more than a lease of them.
const BEATS_KEPT: u64 = 64;
/// A learner hears one in so many heartbeats: nobody's lease or election hangs on its answers, and
/// what it must learn comes with appends.
const LEARNER_BEATS: u64 = 5;
/// Raft ids whose nodes are known by their messages only.
const MAX_ROUTES: usize = 64;

/// What one round of the engine wants.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) number: u64,
    /// Sent now.
    pub(crate) now: Vec<Wire>,
    /// Sent when this round is on disk.
    pub(crate) then: Vec<Wire>,
    pub(crate) image: Option<Image>,
    /// New entries; what is at or after the first goes.
    pub(crate) entries: Vec<Entry>,
    /// Entries that were there before go.
    pub(crate) overwrites: bool,
    /// The term, vote or commit is another.
    pub(crate) hard: bool,
    /// Term or vote: the disk must know before anybody else.
    pub(crate) sync: bool,
    pub(crate) decided: Vec<Entry>,
}

/// An engine message and whom it goes to.
pub(crate) type Wire = (RaftId, u64, EngineBody);

pub(crate) struct Engine {
    raw: RawNode<Store>,
    pub(crate) raft: RaftId,
    pub(crate) lineage: Lineage,
    pub(crate) fork: ForkId,
    /// The election time-out that was drawn, in ticks, and for which state.
    timeout: usize,
    drawn_for: (u64, StateRole),
    ticks: (usize, usize),
    rng: Rng,
    next_beat: u64,
    beats: BTreeMap<u64, Time>,
    /// The newest beat of ours that a voter answered, by when it was sent.
    answered: BTreeMap<RaftId, Time>,
    /// The beat that the heartbeat being stepped carries.
    echo: u64,
    pub(crate) routes: BTreeMap<RaftId, NodeId>,
    /// What is to be applied in the engine's books when the disk has the image.
    apply_due: u64,
    snapshots: BTreeMap<RaftId, Time>,
}

impl Engine {
    /// The engine of `voter`, whose log is `image` and `entries` after it.
    pub(crate) fn new(
        config: &Config,
        voter: &Voter,
        image: &Image,
        entries: &[Entry],
        mut rng: Rng,
    ) -> Option<Self> {
        let base = (image.index, image.term);
        let mut hard = hard_state(voter);
        hard.commit = hard.commit.max(image.index);
        hard.term = hard.term.max(image.term);
        let mut store = Store::new(base, conf_state(&image.conf), hard);
        store.append(&entries.iter().map(to_engine).collect::<Vec<_>>());
        let ticks = (config.ticks(config.election_min), config.ticks(config.election_max));
        let settings = PbConfig {
            id: voter.raft.0,
            election_tick: ticks.0,
            min_election_tick: ticks.0,
            max_election_tick: ticks.1,
            heartbeat_tick: config.ticks(config.heartbeat),
            applied: image.index,
            max_size_per_msg: MAX_APPEND_BYTES,
            max_inflight_msgs: MAX_INFLIGHT,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: MAX_UNCOMMITTED_BYTES,
            ..PbConfig::default()
        };
        let raw = RawNode::new(&settings, store, &Logger::root(Discard, o!())).ok()?;
        let next_beat = rng.within(1..1 << 32);
        let mut engine = Self {
            raw,
            raft: voter.raft,
            lineage: voter.lineage,
            fork: voter.fork,
            timeout: 0,
            drawn_for: (u64::MAX, StateRole::Leader),
            ticks,
            rng,
            next_beat,
            beats: BTreeMap::new(),
            answered: BTreeMap::new(),
            echo: 0,
            routes: BTreeMap::new(),
            apply_due: 0,
            snapshots: BTreeMap::new(),
        };
        engine.draw();
        Some(engine)
    }

    pub(crate) fn voter(&self) -> Voter {
        let raft = &self.raw.raft;
        Voter {
            raft: self.raft,
            lineage: self.lineage,
            fork: self.fork,
            term: raft.term,
            vote: RaftId(raft.vote),
            commit: raft.raft_log.committed,
        }
    }

    pub(crate) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    pub(crate) fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub(crate) fn leader(&self) -> Option<RaftId> {
        Some(RaftId(self.raw.raft.leader_id)).filter(|id| id.0 != 0)
    }

    pub(crate) fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub(crate) fn last(&self) -> (u64, u64) {
        let log = &self.raw.raft.raft_log;
        (log.last_index(), log.last_term())
    }

    pub(crate) fn conf(&self) -> Conf {
        conf(self.raw.store().conf())
    }

    pub(crate) fn log_len(&self) -> usize {
        self.raw.store().len()
    }

    pub(crate) fn changes_pending(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// Up to where a voter's or learner's disk is known to be the same as this one's.
    pub(crate) fn matched(&self, id: RaftId) -> u64 {
        self.raw.raft.prs().get(id.0).map_or(0, |progress| progress.matched)
    }

    /// Records after `index` in the log, decided or not.
    pub(crate) fn records_after(&self, index: u64) -> Vec<(u64, u64, Record)> {
        let entries = self.raw.store().after(index).map(from_engine);
        let record = |entry: Entry| {
            let Payload::Record(bytes) = entry.payload else { return None };
            let record = skep_wire::decode("record", &bytes).ok()?;
            Some((entry.index, entry.term, record))
        };
        entries.filter_map(record).collect()
    }

    pub(crate) fn tick(&mut self, now: Time) {
        let _changed = self.raw.tick();
        self.draw();
        let overdue = |since: &Time| now.since(*since) > Duration::from_secs(2);
        let stuck: Vec<RaftId> =
            self.snapshots.iter().filter(|(_, at)| overdue(at)).map(|(id, _)| *id).collect();
        for id in stuck {
            self.snapshots.remove(&id);
            let waits = |progress: &raft::Progress| progress.state == ProgressState::Snapshot;
            if self.raw.raft.prs().get(id.0).is_some_and(waits) {
                self.raw.report_snapshot(id.0, SnapshotStatus::Failure);
            }
        }
    }

    /// Draws the election time-out from our chance whenever the engine may have drawn its own.
    fn draw(&mut self) {
        let raft = &mut self.raw.raft;
        let now = (raft.term, raft.state);
        if self.drawn_for != now {
            self.drawn_for = now;
            let (min, max) = (self.ticks.0 as u64, self.ticks.1 as u64);
            self.timeout = usize::try_from(self.rng.within(min..max)).unwrap_or(self.ticks.0);
            if now.1 != StateRole::Leader {
                self.answered.clear();
                self.snapshots.clear();
            }
        }
        raft.set_randomized_election_timeout(self.timeout);
    }

    pub(crate) fn check(&self) {
        assert_eq!(
            self.raw.raft.randomized_election_timeout(),
            self.timeout,
            "an election time-out that was not drawn from our chance"
        );
        assert_eq!(self.raw.raft.id, self.raft.0);
        assert!(self.raw.raft.raft_log.applied <= self.raw.raft.raft_log.committed);
    }

    /// Judges a packet.
    pub(crate) fn admit(&self, packet: &Packet) -> Admission {
        let log = &self.raw.raft.raft_log;
        let term_at = |index| log.term(index).unwrap_or(0);
        let our = Standing {
            term: self.raw.raft.term,
            committed: log.committed,
            last: log.last_index(),
            term_at: &term_at,
        };
        admit(packet.term, &packet.body, &our)
    }

    /// Steps a packet that was admitted.
    pub(crate) fn step(&mut self, packet: &Packet, from: NodeId) {
        if self.routes.len() < MAX_ROUTES || self.routes.contains_key(&packet.from) {
            self.routes.insert(packet.from, from);
        }
        match packet.body {
            EngineBody::Heartbeat { beat, .. } => self.echo = beat,
            EngineBody::HeartbeatReply { beat, .. } => self.beat_answered(packet, beat),
            EngineBody::Append { .. }
            | EngineBody::Appended { .. }
            | EngineBody::AppendRefused { .. }
            | EngineBody::Vote { .. }
            | EngineBody::Voted { .. }
            | EngineBody::TimeoutNow
            | EngineBody::Snapshot { .. } => {}
        }
        let message = message_of(&packet.body, packet.from, packet.to, packet.term);
        let _dropped = self.raw.step(message);
        self.draw();
    }

    fn beat_answered(&mut self, packet: &Packet, beat: u64) {
        let (Some(sent), true) = (self.beats.get(&beat).copied(), packet.term == self.term())
        else {
            return;
        };
        let newest = self.answered.entry(packet.from).or_insert(sent);
        *newest = sent.max(*newest);
    }

    /// Steps an image that has come whole.
    pub(crate) fn step_image(&mut self, from: RaftId, term: u64, image: &Image, bytes: Bytes) {
        let mut message = PbMessage { from: from.0, to: self.raft.0, term, ..Default::default() };
        message.set_msg_type(MessageType::MsgSnapshot);
        message.set_snapshot(snapshot_of(image.index, image.term, &image.conf, bytes));
        let _dropped = self.raw.step(message);
        self.draw();
    }

    /// Stands for election at once, as if the leader had asked: the caller knows that it is gone.
    pub(crate) fn stand_now(&mut self) {
        let mut message = PbMessage { from: self.raft.0, to: self.raft.0, ..Default::default() };
        message.term = self.term();
        message.set_msg_type(MessageType::MsgTimeoutNow);
        let _dropped = self.raw.raft.step(message);
        self.draw();
    }

    /// Stands for election the ordinary way: a lone voter need not wait for its time-out.
    pub(crate) fn campaign(&mut self) {
        let _dropped = self.raw.campaign();
        self.draw();
    }

    /// Sends a heartbeat now: until one is answered, a new leader has no lease.
    pub(crate) fn beat(&mut self) {
        self.raw.ping();
    }

    /// Gives the leadership up without naming anybody.
    pub(crate) fn step_down(&mut self) {
        let term = self.term();
        self.raw.raft.become_follower(term, 0);
        self.draw();
    }

    pub(crate) fn transfer(&mut self, to: RaftId) {
        self.raw.transfer_leader(to.0);
        self.draw();
    }

    /// The place of the proposal, if the engine took it.
    pub(crate) fn propose(&mut self, record: &Record) -> Option<u64> {
        let before = self.last().0;
        self.raw.propose(Vec::new(), skep_wire::encode(record)).ok()?;
        Some(self.last().0).filter(|index| *index > before)
    }

    pub(crate) fn propose_change(&mut self, changes: &Changes) -> bool {
        let context = if changes.is_empty() { Vec::new() } else { skep_wire::encode(changes) };
        self.raw.propose_conf_change(context, conf_change(changes)).is_ok()
    }

    /// A change of voters is decided.
    pub(crate) fn apply_change(&mut self, changes: &Changes) {
        if let Ok(state) = self.raw.apply_conf_change(&conf_change(changes)) {
            self.raw.mut_store().set_conf(state);
        }
        self.draw();
    }

    /// When the lease ends that answers of a majority give; never before a majority answered.
    pub(crate) fn lease_until(&self, now: Time, lease: Duration) -> Option<Time> {
        if !self.leads() {
            return None;
        }
        let conf = self.conf();
        let newest = |voters: &[RaftId]| {
            let sent = |id: &RaftId| {
                if *id == self.raft { Some(now) } else { self.answered.get(id).copied() }
            };
            let mut sent: Vec<Time> = voters.iter().filter_map(sent).collect();
            sent.sort_unstable_by(|a, b| b.cmp(a));
            sent.get(voters.len() / 2).copied()
        };
        let incoming = newest(&conf.voters)?;
        let outgoing = if conf.outgoing.is_empty() { now } else { newest(&conf.outgoing)? };
        Some(incoming.min(outgoing) + lease)
    }

    /// Cuts the log, which is in an image up to `index`.
    pub(crate) fn compact(&mut self, index: u64) {
        self.raw.mut_store().compact(index);
    }

    pub(crate) fn part_was_asked(&mut self, now: Time, by: RaftId) {
        if let Some(at) = self.snapshots.get_mut(&by) {
            *at = now;
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.raw.has_ready()
    }

    /// The next round. Of a snapshot among its messages the caller fills in which image it is. It
    /// gives what it holds to the disk, applies what is decided, and
    /// calls [`Engine::persisted`] when the round is safe.
    pub(crate) fn round(&mut self, now: Time) -> Round {
        let mut ready = self.raw.ready();
        let mut round = Round { number: ready.number(), ..Round::default() };
        let messages = ready.take_messages();
        round.now = self.outgoing(now, messages);
        let then = ready.take_persisted_messages();
        round.then = self.outgoing(now, then);
        if !ready.snapshot().is_empty() {
            round.image = self.take_image(ready.snapshot());
        }
        let entries = ready.take_entries();
        if let Some(first) = entries.first() {
            round.overwrites = first.index <= self.raw.store().last();
            self.raw.mut_store().append(&entries);
        }
        round.entries = entries.iter().map(from_engine).collect();
        round.hard = ready.hs().is_some();
        round.sync = ready.must_sync();
        let decided = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        round.decided = decided.iter().map(from_engine).collect();
        round
    }

    fn take_image(&mut self, snapshot: &Snapshot) -> Option<Image> {
        let image = Image::from_bytes(&snapshot.data)?;
        let base = (image.index, image.term);
        self.raw.mut_store().install(base, conf_state(&image.conf));
        self.apply_due = image.index;
        Some(image)
    }

    /// An entry was applied to the flock's state.
    pub(crate) fn applied(&mut self, index: u64) {
        self.raw.mut_store().applied(index);
        self.raw.advance_apply_to(index);
        self.draw();
    }

    /// Everything up to this round is safe.
    pub(crate) fn persisted(&mut self, number: u64) {
        self.raw.on_persist_ready(number);
        let log = &self.raw.raft.raft_log;
        if self.apply_due != 0 && log.persisted >= self.apply_due {
            let due = std::mem::take(&mut self.apply_due);
            if due > log.applied {
                self.raw.advance_apply_to(due);
            }
        }
        self.draw();
    }

    fn outgoing(&mut self, now: Time, messages: Vec<PbMessage>) -> Vec<Wire> {
        let mut beat = None;
        let mut out = Vec::with_capacity(messages.len());
        for message in messages {
            let to = RaftId(message.to);
            #[expect(clippy::wildcard_enum_match_arm, reason = "`body_of` goes through all kinds")]
            let body = match message.get_msg_type() {
                MessageType::MsgHeartbeat => {
                    let beat = *beat.get_or_insert_with(|| self.new_beat(now));
                    let votes = self.raw.raft.prs().conf().voters().contains(to.0);
                    let due = votes || beat.is_multiple_of(LEARNER_BEATS);
                    body_of(&message, beat).filter(|_| due)
                }
                MessageType::MsgSnapshot => {
                    self.snapshots.insert(to, now);
                    // The caller makes the image, and says of which place it is.
                    Some(EngineBody::Snapshot { index: 0, log_term: 0, bytes: 0 })
                }
                MessageType::MsgHeartbeatResponse => body_of(&message, self.echo),
                _ => body_of(&message, 0),
            };
            out.extend(body.map(|body| (to, message.term, body)));
        }
        out
    }

    fn new_beat(&mut self, now: Time) -> u64 {
        self.next_beat += 1;
        self.beats.insert(self.next_beat, now);
        let kept = self.next_beat.saturating_sub(BEATS_KEPT);
        self.beats = self.beats.split_off(&kept);
        self.next_beat
    }
}

/// Why a packet of a known raft id is not the node's that sent it.
pub(crate) fn impostor(
    names: &[(RaftId, NodeId)],
    packet: &Packet,
    from: NodeId,
) -> Option<Reason> {
    let other = |(id, node): &(RaftId, NodeId)| *id == packet.from && *node != from;
    names.iter().any(other).then_some(Reason::Impostor)
}
