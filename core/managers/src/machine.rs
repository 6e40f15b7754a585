//! The machine: its state, which handler an input goes to, and how the engine is kept going.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Incarnation, NodeId, Outbox, Rng, Time};

use crate::admit::Admission;
use crate::boot::Boot;
use crate::compare::Compared;
use crate::config::{Config, MAX_NODES};
use crate::disk::Disk;
use crate::engine::impostor;
use crate::event::{Down, Eligibility, Input, Output, Reason};
use crate::follow::{Enrolled, Incoming};
use crate::gone::{About, Gone};
use crate::group::Group;
use crate::id::{Epoch, Lineage, Role, Stamp};
use crate::lonely::Lonely;
use crate::master::Mastership;
use crate::merge::{Giver, Question};
use crate::message::{Claim, Engine as Packet, EngineBody, MAX_NAMED, Message};
use crate::orphan::Appeal;
use crate::others::Others;
use crate::proof::Proofs;
use crate::reach::Reached;
use crate::solitude::Alone;
use crate::stored::{CorruptStore, Restored, State, Write};
use crate::strict::Given;

/// Rounds of duties that one input may cause: each is an answer to the one before.
const MAX_ROUNDS: usize = 32;

/// Who this node is, as far as its managers must know.
#[derive(Clone, Copy, Debug)]
pub struct Me {
    /// From the certificate.
    pub id: NodeId,
    /// What it may become.
    pub eligible: Eligibility,
    /// What it has to spare, 0 to 1000.
    pub resources: u16,
}

/// What is known of another node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) incarnation: Incarnation,
    pub(crate) eligible: Eligibility,
    pub(crate) resources: u16,
    pub(crate) present: bool,
    pub(crate) since: Time,
    pub(crate) linked: bool,
    /// No process listens there.
    pub(crate) refused: bool,
    /// Its last engine message.
    pub(crate) heard: Option<Time>,
    pub(crate) claim: Option<Claim>,
    /// When that came.
    pub(crate) claimed: Time,
    /// How long it was away between the times that it was present, and how often.
    pub(crate) away: Duration,
    pub(crate) absences: u32,
    /// When it last came back, and how long it had been away.
    pub(crate) returned: Option<(Time, Duration)>,
    /// Since when it says that its baseline is not well.
    pub(crate) unwell: Option<Time>,
}

/// The managers of one node.
pub struct Managers {
    pub(crate) me: Me,
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) state: State,
    /// The state differs from what was last given to the disk.
    pub(crate) state_changed: bool,
    pub(crate) disk: Disk,
    /// Since when it takes nothing.
    pub(crate) disk_failed_at: Option<Time>,
    pub(crate) group: Option<Group>,
    pub(crate) lives: u64,
    /// The host has not been told of the restored catalog yet.
    pub(crate) untold: bool,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// Whom the catalog expels.
    pub(crate) expelled: BTreeSet<NodeId>,
    /// The highest epoch that anybody showed.
    pub(crate) highest: Epoch,
    pub(crate) started: Time,
    pub(crate) well: bool,
    /// Since when it is not.
    pub(crate) unwell: Option<Time>,
    pub(crate) boot: Option<Boot>,
    /// What others of this history say of their logs.
    pub(crate) compared: Compared,
    /// The flock came back from a restart of all its managers.
    pub(crate) rebooted: bool,
    pub(crate) mastership: Option<Mastership>,
    /// Since when the engine knows no leader.
    pub(crate) leaderless: Option<Time>,
    pub(crate) lonely: Option<Lonely>,
    /// Of which term, and until when, a vote without a wait is lawful: the master gave its lease
    /// up, or another backup says as well that it is gone.
    pub(crate) released: Option<(u64, Time)>,
    pub(crate) gone: Gone,
    pub(crate) enrolled: Option<Enrolled>,
    pub(crate) incoming: Option<Incoming>,
    pub(crate) follow: Option<Lineage>,
    /// A master was announced when it was last looked for one.
    pub(crate) follows: bool,
    /// Since when there is no master to follow.
    pub(crate) masterless: Time,
    /// How long this node waits before it founds: drawn once.
    pub(crate) patience: f64,
    /// What the host gave to found a flock with, when none of the managers is left.
    pub(crate) decrees: Option<(u64, Bytes)>,
    pub(crate) decrees_asked: Option<Time>,
    /// When it last promised a generation, in this life or right before it.
    pub(crate) promised_at: Time,
    /// It asks most of the roster to promise the generation that it would found.
    pub(crate) appeal: Option<Appeal>,
    pub(crate) giver: Option<Giver>,
    pub(crate) role: Role,
    /// Of a change of role in this very step.
    pub(crate) cause: Option<&'static str>,
    pub(crate) master_told: Option<(NodeId, Stamp)>,
    pub(crate) pinned: BTreeSet<NodeId>,
    pub(crate) announced: Option<Bytes>,
    /// The newest stamp of this node that it announced as master.
    pub(crate) announced_stamp: Option<Stamp>,
    pub(crate) announced_at: Option<Time>,
    pub(crate) announce_due: Option<Time>,
    pub(crate) next_tick: Time,
    /// Before when nobody's place is weighed again: that goes through all nodes.
    pub(crate) next_weighing: Time,
    pub(crate) checkpoint_asked: u64,
    /// The lease that this node gave last.
    pub(crate) given: Option<Given>,
    /// This node was master, and lost its majority.
    pub(crate) deposed: bool,
    /// The last stamp of another flock that this one's does not pass.
    pub(crate) met: Option<Stamp>,
    pub(crate) proofs: Proofs,
    /// It is a manager and meets nobody.
    pub(crate) alone: Option<Alone>,
    /// Since when a node of the roster is on hold by an operator's word, as far as this life knows.
    pub(crate) held_since: BTreeMap<NodeId, Time>,
    pub(crate) reached: Reached,
    pub(crate) others: Others,
}

impl Managers {
    /// The managers of `me`, as they were when `restored` was written.
    ///
    /// # Errors
    /// [`CorruptStore`] when it cannot have been: the node must not start.
    pub fn new(
        me: Me,
        config: Config,
        restored: Restored,
        mut rng: Rng,
        now: Time,
    ) -> Result<Self, CorruptStore> {
        let read = restored.read(me.id)?;
        drop(restored);
        let mut group = None;
        if let (Some(image), Some(voter)) = (read.image, read.state.voter) {
            let (lives, fork) = (1, rng.fork());
            let made = Group::new(lives, &config, &voter, image, &read.entries, fork);
            group = Some(made.ok_or(CorruptStore::Mismatch)?);
        }
        let patience = 1.0 + rng.unit();
        let untold = group.is_some();
        let boot = group.as_ref().map(|_| Boot::new(now));
        let mut managers = Self {
            highest: read.state.seen.epoch,
            me,
            config,
            rng,
            state: read.state,
            state_changed: false,
            disk: Disk::default(),
            disk_failed_at: None,
            group,
            lives: 1,
            untold,
            nodes: BTreeMap::new(),
            expelled: BTreeSet::new(),
            started: now,
            well: true,
            unwell: None,
            boot,
            compared: Compared::default(),
            rebooted: false,
            mastership: None,
            leaderless: Some(now),
            lonely: None,
            released: None,
            gone: Gone::default(),
            enrolled: None,
            incoming: None,
            follow: None,
            follows: false,
            masterless: now,
            patience,
            decrees: None,
            decrees_asked: None,
            promised_at: now,
            appeal: None,
            giver: None,
            role: Role::Host,
            cause: Some("it started"),
            master_told: None,
            pinned: BTreeSet::new(),
            announced: None,
            announced_stamp: None,
            announced_at: None,
            announce_due: None,
            next_tick: now,
            next_weighing: now,
            checkpoint_asked: 0,
            given: None,
            deposed: false,
            met: None,
            proofs: Proofs::default(),
            alone: None,
            held_since: BTreeMap::new(),
            reached: Reached::nobody(now),
            others: Others::default(),
        };
        managers.recall_leases(now);
        Ok(managers)
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Member { node, incarnation, eligible, resources } => {
                self.member(now, node, incarnation, eligible, resources);
            }
            Input::Silent { node } | Input::Left { node } => self.absent(now, node),
            Input::Expelled(nodes) => self.expelled = nodes,
            Input::LinkUp { node } => {
                if let Some(known) = self.node(now, node) {
                    known.linked = true;
                    known.refused = false;
                }
            }
            Input::LinkDown { node, why } => {
                if let Some(known) = self.node(now, node) {
                    known.linked = false;
                    known.refused |= why == Down::Refused;
                }
            }
            Input::Message { from, body } => self.message(now, from, &body, out),
            Input::Announced { node, body } => self.announcement(now, node, &body, out),
            Input::Persisted { ticket } => {
                for after in self.disk.done(ticket) {
                    self.after(after, out);
                }
            }
            Input::PersistFailed { why, .. } => {
                self.disk_failed_at.get_or_insert(now);
                self.disk_failed(why, out);
            }
            Input::Propose { token, body } => self.propose(now, token, body, out),
            Input::Read { token } => self.read(now, token, out),
            Input::Checkpoint { index, state } => self.checkpoint(index, state, out),
            Input::HandOver { items, entries } => self.hand_over_came(now, items, entries, out),
            Input::Command { token, command } => self.command(now, token, command, out),
            Input::Baseline { well, .. } => self.baseline(now, well),
            Input::Order { token, stamp } => self.ordered(now, token, stamp, out),
            Input::StampRefused { stamp } => self.stamp_refused(now, stamp),
            Input::RollCall { token } => self.call_roll(now, token, out),
            Input::Strengthen { token, number, of } => {
                self.strengthen(now, token, (number, of), out);
            }
            Input::Stopping { token } => self.stopping(now, token, out),
        }
        self.settle(now, out);
    }

    /// When [`Managers::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        if self.disk.failed.is_some() {
            return None;
        }
        let works = self.group.is_some() && !self.is_retired();
        let engine = works.then_some((self.next_tick, "the engine's tick"));
        let look = self.looks().then_some((self.next_tick, "looks for a flock"));
        let announce = self.announce_due.map(|at| (at, "an announcement is due"));
        [engine, look, announce].into_iter().flatten().min()
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        if now >= self.next_tick && self.disk.failed.is_none() {
            let idle = self.disk.is_idle();
            if let (Some(group), None) = (&mut self.group, &self.boot) {
                // Who cannot write must not stand for election: its log may not be what it says.
                if group.engine.leads() || idle {
                    group.engine.tick(now);
                }
            }
            // A stall slows the engine's clock and never speeds it.
            self.next_tick =
                now + if self.group.is_some() { self.config.tick } else { self.config.retry };
            self.fetch_again(now, out);
        }
        self.settle(now, out);
    }

    /// Asserts what must hold between calls.
    pub fn check(&self) {
        if let Some(group) = &self.group {
            group.engine.check();
            assert!(group.applied.0 <= group.engine.committed(), "applied what is not decided");
            assert!(self.state.seen.epoch >= group.meta.epoch, "a stamp was forgotten");
            let founding = group.meta.founding;
            assert!(self.state.founding >= founding, "a founding was forgotten");
            let voter = self.state.voter.map(|voter| voter.raft);
            assert_eq!(voter, Some(group.engine.raft), "a raft id that the state does not know");
        }
        if let Some(mastership) = &self.mastership {
            mastership.check();
            assert!(self.group.is_some() && self.boot.is_none(), "a master without a group");
        }
        assert!(self.nodes.len() <= MAX_NODES && self.state.ended.len() <= MAX_NAMED);
        assert!(self.group.is_none() || self.enrolled.is_none(), "a member that wants to be one");
        self.others.check();
    }

    /// What is known of `node`, to change; nothing of this node itself or over the bound.
    pub(crate) fn node(&mut self, now: Time, node: NodeId) -> Option<&mut Node> {
        if node == self.me.id || (self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&node))
        {
            return None;
        }
        Some(self.nodes.entry(node).or_insert(Node {
            incarnation: Incarnation(0),
            eligible: Eligibility::No,
            resources: 0,
            present: false,
            since: now,
            linked: false,
            refused: false,
            heard: None,
            claim: None,
            claimed: now,
            away: Duration::ZERO,
            absences: 0,
            returned: None,
            unwell: None,
        }))
    }

    fn member(
        &mut self,
        now: Time,
        node: NodeId,
        incarnation: Incarnation,
        eligible: Eligibility,
        resources: u16,
    ) {
        if node == self.me.id {
            (self.me.eligible, self.me.resources) = (eligible, resources.min(1000));
            return;
        }
        let Some(known) = self.node(now, node) else {
            return;
        };
        // Another life of a node is the end of the one before, whatever its links say.
        known.refused |= known.present && incarnation > known.incarnation;
        if !known.present {
            // Before it was first present it was not away, but unknown.
            if known.absences > 0 {
                let away = now.since(known.since);
                known.away += away;
                known.returned = Some((now, away));
            }
            known.since = now;
        }
        known.incarnation = incarnation;
        known.eligible = eligible;
        known.resources = resources.min(1000);
        known.present = true;
    }

    fn absent(&mut self, now: Time, node: NodeId) {
        if let Some(known) = self.node(now, node) {
            if known.present {
                known.absences = known.absences.saturating_add(1);
                known.since = now;
            }
            known.present = false;
            if let Some(claim) = known.claim.take() {
                self.announces_no_more(now, node, &claim);
            }
        }
    }

    fn announcement(&mut self, now: Time, node: NodeId, body: &Bytes, out: &mut Outbox<Output>) {
        let Some(claim) = Claim::from_bytes(body) else {
            out.push(Output::Reject { from: node, reason: Reason::Malformed });
            return;
        };
        self.saw_epoch(claim.seen.epoch);
        let founding = claim.flock.as_ref().filter(|flock| flock.strong);
        if let Some(founding) = founding.map(|flock| flock.founding) {
            self.heard_of_founding(founding);
        }
        let promised = claim.flock.as_ref().map(|flock| flock.generation);
        if promised.is_some_and(|generation| generation > self.state.promised) {
            // Remembered with the next write; nothing hangs on it.
            self.state.promised = promised.unwrap_or_default();
        }
        for (lineage, into) in &claim.ended {
            if self.state.ended.len() < MAX_NAMED / 2 {
                self.state_changed |= self.state.end(*lineage, *into);
            }
        }
        if let Some(known) = self.node(now, node) {
            let flock = claim.flock.as_ref().map(|flock| flock.lineage);
            known.unwell = (!claim.well).then(|| known.unwell.unwrap_or(now));
            known.claimed = now;
            let before = known.claim.replace(claim);
            let lineage = |claim: &Claim| claim.flock.as_ref().map(|flock| flock.lineage);
            if let Some(before) = before.filter(|before| lineage(before) != flock) {
                self.announces_no_more(now, node, &before);
            }
        }
    }

    pub(crate) fn saw_epoch(&mut self, epoch: Epoch) {
        if epoch > self.highest && epoch.0 - self.highest.0 <= Epoch::MAX_JUMP {
            self.highest = epoch;
        }
    }

    fn message(&mut self, now: Time, from: NodeId, body: &Bytes, out: &mut Outbox<Output>) {
        if from == self.me.id || self.disk.failed.is_some() {
            return;
        }
        let Some(message) = Message::from_bytes(body) else {
            out.push(Output::Reject { from, reason: Reason::Malformed });
            return;
        };
        if self.node(now, from).is_none() {
            return;
        }
        match message {
            Message::Engine(packet) => self.packet(now, from, &packet, out),
            Message::Enlist { lineage, fork, stamp, .. } => {
                self.enlist_came(now, from, (lineage, fork), stamp, out);
            }
            Message::Enlisted { lineage, fork, raft } => {
                self.enlisted_came(now, from, (lineage, fork), raft);
            }
            Message::Declined { lineage } => self.declined_came(from, lineage, out),
            Message::PartAsk { lineage, fork, index, part } => {
                self.part_asked(now, from, (lineage, fork), index, part, out);
            }
            Message::Part { lineage, fork, index, part, bytes } => {
                self.part_came(now, from, (lineage, fork), (index, part), &bytes, out);
            }
            Message::Note(note) => self.note_came(now, from, note, out),
            Message::Noted { lineage, version } => self.noted_came(from, lineage, version),
            Message::Ask { lineage, round, about } => {
                self.asked(from, lineage, round, about, out);
            }
            Message::Answer(answer) => self.answer_came(now, from, answer),
            Message::Promise(ask) => self.promise_asked(now, from, ask, out),
            Message::Promised { generation, round, granted, current } => {
                self.promised_came(from, round, generation, (granted, current));
            }
            Message::Compare(report) => self.compare_came(now, from, report, out),
            Message::Gone { lineage, fork, term, master } => {
                let about = About { of: (lineage, fork), term, master };
                self.gone_asked_of_us(now, from, about, out);
            }
            Message::GoneToo { lineage, fork, term, master } => {
                self.gone_too(now, from, About { of: (lineage, fork), term, master });
            }
            Message::MergeAsk { from: lineage, session, into, points, led } => {
                let question = Question { from, lineage, session, points, led };
                self.merge_asked(now, question, into, out);
            }
            Message::MergeGrant { session, into, common, next, .. } => {
                self.merge_granted(now, from, session, into, (common, next), out);
            }
            Message::MergeWait { into, .. } => self.merge_waits(now, from, into),
            Message::Items(items) => self.items_came(from, items, out),
            Message::ItemsTaken { session, next, done, .. } => {
                self.items_taken(now, from, session, (next, done), out);
            }
            Message::AuthorityAsk(ask) => self.authority_asked(now, from, ask, out),
            Message::AuthorityGiven { lineage, round } => {
                self.authority_given(from, lineage, round);
            }
            Message::StrengthAsk { lineage, nonce } => {
                self.strength_asked(from, lineage, nonce, out);
            }
            Message::StrengthGiven { lineage, nonce } => {
                self.strength_given(now, from, lineage, nonce, out);
            }
            Message::MergeDoubted { session, into, .. } => {
                self.merge_doubted(now, from, session, into);
            }
            Message::FoundingPassed { lineage, founding } => {
                if self.history_of() == Some(lineage) {
                    self.heard_of_founding(founding);
                }
            }
            Message::Roster(note) => self.roster_came(from, note, out),
            Message::RosterKept { lineage, index } => self.roster_kept(from, lineage, index),
            Message::OrderRefused { lineage, seen } => {
                if self.history_of() == Some(lineage) {
                    self.stamp_refused(now, seen);
                }
            }
        }
    }

    fn packet(&mut self, now: Time, from: NodeId, packet: &Packet, out: &mut Outbox<Output>) {
        let Some(group) = &mut self.group else {
            self.enrolled_packet(now, from, packet, out);
            return;
        };
        if (packet.lineage, packet.fork, packet.to)
            != (group.meta.lineage, group.meta.fork, group.engine.raft)
        {
            return; // Of another history, or to an id that is no more.
        }
        if let Some(reason) = impostor(&group.meta.names, packet, from) {
            out.push(Output::Reject { from, reason });
            return;
        }
        let admission = group.engine.admit(packet);
        if let Some(known) = self.nodes.get_mut(&from) {
            known.heard = Some(now);
        }
        match admission {
            Admission::Bad(reason) => out.push(Output::Reject { from, reason }),
            Admission::Stale => {}
            Admission::Rewound => self.dissolve(now, None, "its disk went back in time", out),
            Admission::Good if self.boot.is_some() && !self.resumes(now, packet, out) => {}
            Admission::Good => self.step(now, from, packet, out),
        }
    }

    fn step(&mut self, now: Time, from: NodeId, packet: &Packet, out: &mut Outbox<Output>) {
        let Some(group) = &mut self.group else {
            return;
        };
        let lawful = self.released.is_some_and(|(term, until)| {
            now < until && (packet.term == term || packet.term == term + 1)
        });
        match &packet.body {
            EngineBody::Snapshot { index, bytes, .. } => {
                let index = (*index, *bytes);
                self.fetch(now, from, packet, index, out);
            }
            EngineBody::TimeoutNow => self.told_to_stand(now, from, packet),
            EngineBody::Vote { pre, index, log_term, commit, commit_term, transfer: true }
                if !lawful =>
            {
                let (pre, index, log_term) = (*pre, *index, *log_term);
                let (commit, commit_term) = (*commit, *commit_term);
                let transfer = false;
                let body = EngineBody::Vote { pre, index, log_term, commit, commit_term, transfer };
                group.engine.step(&Packet { body, ..packet.clone() }, from);
            }
            EngineBody::Append { .. }
            | EngineBody::Appended { .. }
            | EngineBody::AppendRefused { .. }
            | EngineBody::Vote { .. }
            | EngineBody::Voted { .. }
            | EngineBody::Heartbeat { .. }
            | EngineBody::HeartbeatReply { .. } => group.engine.step(packet, from),
        }
    }

    /// Whether a leader is heard: a learner's engine itself never gives one up.
    pub(crate) fn is_led(&self, now: Time) -> bool {
        let Some(group) = self.group.as_ref().filter(|_| self.boot.is_none()) else {
            return false;
        };
        let Some(leader) = group.engine.leader() else {
            return false;
        };
        let heard = group.node_of(leader).and_then(|node| self.nodes.get(&node)?.heard);
        let lately = |at| now.since(at) < self.config.election_max * 2;
        leader == group.engine.raft || group.is_voter() || heard.is_some_and(lately)
    }

    /// Carries out what was wanted until nothing is, and tells of what changed.
    pub(crate) fn settle(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.disk.failed.is_none() {
            self.tell_restored(out);
            self.stand_if_called(now);
            for _ in 0..MAX_ROUNDS {
                self.pump(now, out);
                self.duties(now, out);
                if !self.group.as_ref().is_some_and(|group| group.engine.is_ready()) {
                    break;
                }
            }
            if self.state_changed && self.disk.is_idle() {
                self.write(Write::default(), Vec::new(), out);
            }
        }
        self.tell_role(now, out);
        self.tell_links(out);
        self.announce(now, out);
        self.look_who_is_reached(now);
    }

    fn duties(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.is_withdrawn(now, out) {
            return;
        }
        self.judge_histories(now, out);
        if self.group.is_none() {
            self.look_for_flock(now, out);
        } else if self.boot.is_some() {
            self.boot_duties(now, out);
        } else if self.group.as_ref().is_some_and(|group| group.engine.leads()) {
            self.lead(now, out);
        } else {
            self.end_mastership(out);
            self.unled(now, out);
        }
        self.want_checkpoint(out);
        self.give(now, out);
    }

    /// After a start the host is told what its catalog was.
    fn tell_restored(&mut self, out: &mut Outbox<Output>) {
        if std::mem::take(&mut self.untold) {
            self.tell_catalog(out);
        }
    }

    pub(crate) fn tell_catalog(&mut self, out: &mut Outbox<Output>) {
        let Some(group) = &self.group else {
            return;
        };
        let checkpoint = group.history.checkpoint.clone();
        let (index, state) = checkpoint.map_or((0, None), |(index, state)| (index, Some(state)));
        out.push(Output::Install { lineage: group.meta.lineage, index, state });
        for entry in group.history.decided() {
            out.push(Output::Committed(entry));
        }
    }
}

/// The higher stamp of the two.
pub(crate) fn newest(a: Stamp, b: Stamp) -> Stamp {
    if b.epoch > a.epoch { b } else { a }
}
