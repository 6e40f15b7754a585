//! The master: its first stamp, what it acknowledges, and on whose disks that is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::config::{MAX_ENTRY_BYTES, MAX_IMAGE_BYTES, MAX_PROPOSALS};
use crate::event::{DiskFault, Event, Output, Refusal, Token};
use crate::id::{Judgement, Stamp, Strength};
use crate::machine::{Managers, Node, newest};
use crate::message::Message;
use crate::operator::{OfficeOrder, Placing};
use crate::orphan::RosterTold;
use crate::roll::{MAX_CALLS, RollCall};
use crate::standing::Standings;
use crate::stored::{Cut, Holder, ImageChange, Note, Record, SyncSet, Write};
use crate::strict::Leases;
use crate::view::Wait;
use crate::voters::Missing;

/// A member that left the sync set is not taken back before this: it would come and go.
const REJOIN_AFTER: Duration = Duration::from_secs(1);
/// Between two tellings of the sync set to nodes of the roster that did not note it.
const NOTE_AGAIN: Duration = Duration::from_secs(2);

/// A proposal that is not acknowledged yet.
#[derive(Debug)]
struct Pending {
    index: u64,
    token: Token,
    stamp: Stamp,
    since: Time,
}

/// A transfer that was asked for.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    pub(crate) since: Time,
    /// Who waits for it: an operator's order, and the node's own stop.
    pub(crate) tokens: Vec<Token>,
}

/// One term of this node as the engine's leader.
#[derive(Debug)]
pub(crate) struct Mastership {
    pub(crate) term: u64,
    pub(crate) since: Time,
    /// The first stamp of the term is decided: it is master from here on.
    pub(crate) stamped: bool,
    stamp_proposed: Option<u64>,
    /// Another epoch is wanted: a merge ended, or a host refused this one.
    pub(crate) bump: bool,
    /// Of the roster, for strict authority.
    pub(crate) leases: Leases,
    /// When another epoch was last wanted because a host refused this one.
    pub(crate) refused: Option<Time>,
    pending: VecDeque<Pending>,
    sync_proposed: Option<u64>,
    /// Who joins the sync set by what was proposed.
    joining: Vec<NodeId>,
    sync_since: u64,
    left: BTreeMap<NodeId, Time>,
    noted: BTreeSet<NodeId>,
    noted_version: u64,
    note_sent: Option<Time>,
    pub(crate) witnessed: bool,
    /// Whoever it was transferred to may be master at any time: nothing is acknowledged any more.
    pub(crate) lease_given_up: bool,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) missing: BTreeMap<NodeId, Missing>,
    /// Learners that have not caught up, and since when.
    pub(crate) learning: BTreeMap<NodeId, Time>,
    pub(crate) enlist_asked: BTreeMap<NodeId, Time>,
    pub(crate) roster_proposed: Option<u64>,
    /// To whom the roster was told as it is.
    pub(crate) told: RosterTold,
    pub(crate) standings: Standings,
    /// Voters that shall leave, and why.
    pub(crate) demote: BTreeMap<NodeId, &'static str>,
    pub(crate) office: Option<OfficeOrder>,
    /// Holds, releases and removals.
    pub(crate) placings: Vec<Placing>,
    pub(crate) unprotected: bool,
    /// Calls of the roll that are under way.
    pub(crate) calls: Vec<RollCall>,
    /// What of whom was taken over, and is to be told when it is safe: up to which item, decided
    /// at which place.
    pub(crate) taking: BTreeMap<Holder, (u64, u64)>,
}

impl Mastership {
    fn new(term: u64, now: Time, round: u64) -> Self {
        Self {
            term,
            since: now,
            stamped: false,
            stamp_proposed: None,
            bump: false,
            leases: Leases::new(round),
            refused: None,
            pending: VecDeque::new(),
            sync_proposed: None,
            joining: Vec::new(),
            sync_since: 0,
            left: BTreeMap::new(),
            noted: BTreeSet::new(),
            noted_version: 0,
            note_sent: None,
            witnessed: false,
            lease_given_up: false,
            transfer: None,
            missing: BTreeMap::new(),
            learning: BTreeMap::new(),
            enlist_asked: BTreeMap::new(),
            roster_proposed: None,
            told: RosterTold::default(),
            standings: Standings::default(),
            demote: BTreeMap::new(),
            office: None,
            placings: Vec::new(),
            unprotected: false,
            calls: Vec::new(),
            taking: BTreeMap::new(),
        }
    }

    pub(crate) fn check(&self) {
        assert!(self.pending.len() <= MAX_PROPOSALS && self.calls.len() <= MAX_CALLS);
        self.check_orders();
        let places = self.pending.iter().map(|pending| pending.index);
        assert!(places.clone().zip(places.skip(1)).all(|(a, b)| a < b), "proposals out of order");
        assert!(self.stamped || self.pending.is_empty(), "a proposal before the first stamp");
    }

    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Nobody is missing, and nobody comes or goes.
    pub(crate) fn is_calm(&self) -> bool {
        let changes = self.transfer.is_some() || self.office.is_some() || self.lease_given_up;
        self.stamped && !changes && self.missing.is_empty() && self.demote.is_empty()
    }

    pub(crate) fn enlisting(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.enlist_asked.keys().copied()
    }
}

impl Managers {
    /// Up to where everything is on every disk of the sync set, and of those that are about to join
    /// it: when that is decided they lack nothing that was acknowledged.
    pub(crate) fn safe_everywhere(&self) -> u64 {
        let (Some(group), Some(mastership)) = (&self.group, &self.mastership) else {
            return 0;
        };
        let matched = |node: &NodeId| {
            let raft = group.raft_of(*node);
            raft.map_or(0, |raft| group.engine.matched(raft))
        };
        let proposed = mastership.sync_proposed.is_some_and(|at| at > group.applied.0);
        #[cfg(test)]
        let proposed = proposed && !crate::plant::is(crate::plant::Bug::NoJoiners);
        let joining = mastership.joining.iter().filter(|_| proposed);
        group.meta.sync.members.iter().chain(joining).map(matched).min().unwrap_or(0)
    }

    /// Everything the engine's leader has to see to.
    pub(crate) fn lead(&mut self, now: Time, out: &mut Outbox<Output>) {
        let Some(group) = &mut self.group else {
            return;
        };
        let term = group.engine.term();
        self.leaderless = None;
        self.lonely = None;
        if self.mastership.as_ref().is_none_or(|mastership| mastership.term != term) {
            group.engine.beat();
            self.end_mastership(out);
            // Answers to an earlier mastership of this node are none to this.
            let strong = self.group.as_ref().is_some_and(|group| group.meta.strong);
            let round = if strong { self.rng.bits() } else { 0 };
            self.mastership = Some(Mastership::new(term, now, round));
        }
        self.watch_transfer(now, out);
        self.propose_stamp(now);
        if self.is_master() {
            self.manage_sync(now);
            self.witness(now, out);
            self.seek_authority(now, out);
            self.acknowledge(now, out);
            self.finish_calls(now, out);
            self.finish_placings(out);
            self.taken(out);
            if self.giver.is_none() && now >= self.next_weighing {
                self.next_weighing = now + self.config.tick;
                self.manage_voters(now, out);
                self.manage_roster(now, out);
                self.settle_roster(now);
                self.tell_roster(now, out);
                self.decide_to_yield(now, out);
                self.pass_what_was_seen(now);
            }
        }
    }

    /// Whether this node decides: the engine's leader, with the first stamp of its term decided.
    pub(crate) fn is_master(&self) -> bool {
        self.mastership.as_ref().is_some_and(|mastership| mastership.stamped)
    }

    /// When the permission to acknowledge and read ends, if there is any.
    pub(crate) fn lease(&self, now: Time) -> Option<Time> {
        let mastership = self.mastership.as_ref().filter(|it| it.stamped && !it.lease_given_up)?;
        let group = self.group.as_ref().filter(|it| it.engine.term() == mastership.term)?;
        let lease = self.config.lease;
        #[cfg(test)]
        let lease = if crate::plant::is(crate::plant::Bug::LongLease) { lease * 3 } else { lease };
        group.engine.lease_until(now, lease).filter(|until| *until > now)
    }

    pub(crate) fn end_mastership(&mut self, out: &mut Outbox<Output>) {
        if let Some(mastership) = &self.mastership {
            self.deposed = mastership.stamped && !mastership.lease_given_up;
            if mastership.stamped {
                self.because(self.why_deposed());
            }
            self.refuse_pending(out);
            self.mastership = None;
        }
    }

    pub(crate) fn refuse_pending(&mut self, out: &mut Outbox<Output>) {
        let Some(mastership) = &mut self.mastership else {
            return;
        };
        for pending in mastership.pending.drain(..) {
            out.push(Output::Refused { token: pending.token, why: Refusal::Unknown });
        }
        for call in mastership.calls.drain(..) {
            out.push(Output::Refused { token: call.token(), why: Refusal::NoLease });
        }
        for token in mastership.transfer.take().into_iter().flat_map(|transfer| transfer.tokens) {
            out.push(Output::Done { token });
        }
        mastership.refuse_orders(out);
    }

    /// The term begins with a stamp, and with the sync set without those that are surely gone.
    fn propose_stamp(&mut self, now: Time) {
        let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) else {
            return;
        };
        let again = mastership.stamped && mastership.bump;
        let under_way = mastership.stamp_proposed.is_some_and(|at| at > group.applied.0);
        if (mastership.stamped && !again) || under_way || group.meta.ended.is_some() {
            return;
        }
        let epoch = self.highest.max(group.meta.epoch).max(self.state.seen.epoch).next();
        let newest = group.newest_sync();
        let voters = group.voters();
        let me = self.me.id;
        // Whoever was master until now would be heard all the time: its link alone says nothing.
        let before = group.meta.master;
        let there = |node: &NodeId| {
            let known = self.nodes.get(node);
            let heard = known
                .and_then(|it| it.heard)
                .is_some_and(|at| now.since(at) < self.config.sync_slow);
            let linked = |it: &Node| it.linked && before != Some(*node);
            *node == me || known.is_some_and(|it| !it.refused && (heard || linked(it)))
        };
        let kept = |node: &NodeId| voters.contains(node) && (again || there(node));
        let mut members: Vec<NodeId> = newest.members.iter().copied().filter(kept).collect();
        if !members.contains(&me) {
            members.push(me);
            members.sort_unstable();
        }
        let same = members == newest.members;
        let version = if same { newest.version } else { newest.version + 1 };
        let sync = SyncSet { version, members };
        let record = Record::Stamp { epoch, master: me, sync };
        mastership.stamp_proposed = group.engine.propose(&record);
        if mastership.stamp_proposed.is_some() {
            mastership.bump = false;
        }
    }

    /// A stamp was applied, this node's or another's.
    pub(crate) fn stamped(&mut self, now: Time, master: NodeId, out: &mut Outbox<Output>) {
        let Some(group) = &self.group else {
            return;
        };
        let (stamp, term) = (group.stamp(), group.applied.1);
        let (index, leads) = (group.applied.0, group.engine.leads());
        self.state.seen = newest(self.state.seen, stamp);
        self.state_changed = true;
        self.highest = self.highest.max(stamp.epoch);
        if let Some(mastership) = self.mastership.as_mut().filter(|it| leads && it.term == term) {
            if !mastership.stamped {
                mastership.stamped = true;
                mastership.since = now;
            }
            mastership.sync_since = index;
        }
        let told = self.master_told.map(|(master, _)| master);
        self.master_told = Some((master, stamp));
        if told != Some(master) {
            out.push(Output::Event(Event::MasterChanged { master, stamp }));
        }
        self.sync_changed(out);
    }

    pub(crate) fn sync_changed(&mut self, out: &mut Outbox<Output>) {
        let Some(group) = &self.group else {
            return;
        };
        let note = Note {
            lineage: group.meta.lineage,
            generation: group.meta.generation,
            stamp: group.stamp(),
            sync: group.meta.sync.clone(),
        };
        let index = group.applied.0;
        if self.state.note(note) {
            self.state_changed = true;
            let members = group.meta.sync.members.clone();
            out.push(Output::Event(Event::SyncSet { members }));
        }
        if let Some(mastership) = &mut self.mastership {
            mastership.sync_since = index;
        }
    }

    pub(crate) fn bump_epoch(&mut self) {
        if let Some(mastership) = &mut self.mastership {
            mastership.bump = true;
        }
    }

    /// Puts the slow and the silent out of the sync set, and takes in who has caught up.
    fn manage_sync(&mut self, now: Time) {
        let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) else {
            return;
        };
        let applied = group.applied.0;
        if mastership.sync_proposed.is_some_and(|at| at > applied) {
            return;
        }
        let me = self.me.id;
        let voters = group.voters();
        let stalled =
            mastership.pending.front().filter(|it| now.since(it.since) >= self.config.sync_slow);
        let stalled = stalled.map_or(0, |pending| pending.index);
        let silent = |node: &NodeId, span: Duration| {
            let heard = self.nodes.get(node).and_then(|known| known.heard);
            heard.is_none_or(|at| now.since(at) >= span)
        };
        let keeps = |node: &NodeId| {
            let known = self.nodes.get(node);
            let cut = known.is_none_or(|it| it.refused || !it.linked);
            let matched = group.raft_of(*node).map_or(0, |raft| group.engine.matched(raft));
            let gone = !voters.contains(node) || (cut && silent(node, self.config.sync_slow));
            *node == me || !(gone || matched < stalled)
        };
        let before = &group.meta.sync.members;
        let mut members: Vec<NodeId> = before.iter().copied().filter(keeps).collect();
        for node in before.iter().filter(|node| !members.contains(node)) {
            mastership.left.insert(*node, now);
        }
        let last = group.engine.last().0;
        let rejoins = |node: &NodeId| {
            let raft = group.raft_of(*node);
            let matched = raft.map_or(0, |raft| group.engine.matched(raft));
            let votes = raft.is_some_and(|raft| group.conf.voters.contains(&raft));
            let left = mastership.left.get(node);
            !before.contains(node)
                && votes
                && matched >= applied.max(1)
                && matched + 64 >= last
                && !silent(node, self.config.sync_slow)
                && !mastership.demote.contains_key(node)
                && left.is_none_or(|at| now.since(*at) >= REJOIN_AFTER)
        };
        let joining: Vec<NodeId> = voters.iter().copied().filter(rejoins).collect();
        members.extend(&joining);
        members.sort_unstable();
        if members != *before {
            let version = group.newest_sync().version + 1;
            let record = Record::Sync(SyncSet { version, members });
            mastership.sync_proposed = group.engine.propose(&record);
            mastership.joining = joining;
        }
    }

    /// Has the roster note the sync set: what shrinks unseen is only weakly promised.
    fn witness(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        let version = group.meta.sync.version;
        if mastership.noted_version != version {
            mastership.noted_version = version;
            mastership.noted.clear();
            mastership.note_sent = None;
        }
        let has_it = |node: &NodeId| {
            let raft = group.raft_of(*node);
            mastership.noted.contains(node)
                || raft.is_some_and(|raft| group.engine.matched(raft) >= mastership.sync_since)
        };
        let roster: Vec<NodeId> = group.meta.roster.iter().map(|place| place.node).collect();
        let have = roster.iter().filter(|node| has_it(node)).count();
        mastership.witnessed = have > roster.len() / 2;
        let due = mastership.note_sent.is_none_or(|at| now.since(at) >= NOTE_AGAIN);
        if !due || have == roster.len() {
            return;
        }
        let present = |node: &&NodeId| self.nodes.get(node).is_some_and(|known| known.present);
        let untold: Vec<NodeId> =
            roster.iter().filter(|node| !has_it(node)).filter(present).copied().collect();
        let note = Note {
            lineage: group.meta.lineage,
            generation: group.meta.generation,
            stamp: group.stamp(),
            sync: group.meta.sync.clone(),
        };
        mastership.note_sent = Some(now);
        for node in untold {
            self.send(node, &Message::Note(note.clone()), out);
        }
    }

    /// Somebody's sync set, to be kept on disk before it is confirmed.
    pub(crate) fn note_came(
        &mut self,
        now: Time,
        from: NodeId,
        note: Note,
        out: &mut Outbox<Output>,
    ) {
        let (lineage, version) = (note.lineage, note.sync.version);
        if self.is_bound(now, lineage, note.generation) {
            return; // A part of that flock may be founding itself again: it is told again.
        }
        if self.state.pledge.is_some_and(|it| it.stamp.judge(note.stamp) == Judgement::Refuse) {
            return; // Strict authority was given under a higher stamp.
        }
        self.saw_epoch(note.stamp.epoch);
        self.state_changed |= self.state.note(note);
        self.send_when_safe(from, Message::Noted { lineage, version }, out);
    }

    pub(crate) fn noted_came(&mut self, from: NodeId, lineage: crate::Lineage, version: u64) {
        let ours = self.group.as_ref().is_some_and(|group| group.meta.lineage == lineage);
        if let Some(mastership) = self.mastership.as_mut().filter(|_| ours)
            && mastership.noted_version == version
        {
            mastership.noted.insert(from);
        }
    }

    /// Acknowledges what is decided and on every disk of the sync set, while the lease lasts.
    pub(crate) fn acknowledge(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.lease(now).is_none() {
            return;
        }
        let strong = self.is_strong(now);
        let safe = self.safe_everywhere();
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        #[cfg(test)]
        let safe = if crate::plant::is(crate::plant::Bug::NoSyncSet) { u64::MAX } else { safe };
        let upto = safe.min(group.applied.0);
        let strength = if strong { Strength::Strong } else { Strength::Weak };
        while let Some(pending) = mastership.pending.pop_front_if(|it| it.index <= upto) {
            let Pending { index, token, stamp, .. } = pending;
            out.push(Output::Accepted { token, index, stamp, strength });
        }
    }

    pub(crate) fn propose(
        &mut self,
        now: Time,
        token: Token,
        body: Bytes,
        out: &mut Outbox<Output>,
    ) {
        if let Err(why) = self.try_propose(now, token, body) {
            out.push(Output::Refused { token, why });
        }
    }

    fn try_propose(&mut self, now: Time, token: Token, body: Bytes) -> Result<(), Refusal> {
        self.may_decide()?;
        if body.len() > MAX_ENTRY_BYTES {
            return Err(Refusal::TooLarge { bytes: body.len(), limit: MAX_ENTRY_BYTES });
        }
        let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) else {
            return Err(Refusal::NotMaster { master: None });
        };
        let waiting = mastership.pending.len();
        // A log that cannot be cut must not grow past what a learner could be given.
        let room = group.bytes + body.len() <= MAX_IMAGE_BYTES;
        if waiting >= MAX_PROPOSALS || !room {
            return Err(Refusal::Busy { waiting });
        }
        // Who hands over answers what it has taken and takes no more, or it would never be done.
        let yields = mastership.transfer.as_ref();
        if mastership.lease_given_up
            || yields.is_some_and(|it| now.since(it.since) < self.config.sync_slow)
        {
            return Err(Refusal::NoLease);
        }
        let stamp = group.stamp();
        let Some(index) = group.engine.propose(&Record::Catalog(body)) else {
            return Err(Refusal::Busy { waiting });
        };
        mastership.pending.push_back(Pending { index, token, stamp, since: now });
        Ok(())
    }

    /// Whether this node is a master that takes orders now.
    pub(crate) fn may_decide(&self) -> Result<(), Refusal> {
        if let Some(why) = self.disk.failed {
            return Err(Refusal::Disk(why));
        }
        if let Some(giver) = &self.giver {
            return Err(Refusal::Merging { into: giver.into });
        }
        if self.is_master() {
            return Ok(());
        }
        Err(self.no_master())
    }

    /// What whoever asks something of the master is told here, where it is not.
    pub(crate) fn no_master(&self) -> Refusal {
        match self.known_master() {
            Some(master) => Refusal::NotMaster { master: Some(master) },
            None => Refusal::NoMaster(self.first_wait()),
        }
    }

    fn first_wait(&self) -> Wait {
        self.waits().first().map_or(Wait::Flock, |waiting| waiting.what)
    }

    pub(crate) fn read(&mut self, now: Time, token: Token, out: &mut Outbox<Output>) {
        let answer = self.may_decide().and_then(|()| {
            let until = self.lease(now).ok_or(Refusal::NoLease)?;
            let group = self.group.as_ref().ok_or(Refusal::NoLease)?;
            let alone = group.conf.voters.len() == 1 && group.conf.outgoing.is_empty();
            let since = self.mastership.as_ref().map_or(now, |mastership| mastership.since);
            if !alone && now.since(since) < self.config.old_lease() {
                return Err(Refusal::NoLease);
            }
            Ok((group.applied.0, until))
        });
        out.push(match answer {
            Ok((index, until)) => Output::ReadGranted { token, index, until },
            Err(why) => Output::Refused { token, why },
        });
    }

    /// Asks the host for a checkpoint when the log has grown long since the last.
    pub(crate) fn want_checkpoint(&mut self, out: &mut Outbox<Output>) {
        let Some(group) = &self.group else {
            return;
        };
        let grown = group.history.entries.len() as u64;
        let asked = self.checkpoint_asked + self.config.checkpoint_entries;
        if grown >= self.config.checkpoint_entries && group.applied.0 >= asked {
            self.checkpoint_asked = group.applied.0;
            out.push(Output::WantCheckpoint);
        }
    }

    /// The host's catalog as of `index`: the log is cut there, on disk and in memory.
    pub(crate) fn checkpoint(&mut self, index: u64, state: Bytes, out: &mut Outbox<Output>) {
        if state.len() > MAX_IMAGE_BYTES / 2 {
            out.push(Output::Event(Event::CheckpointRefused { bytes: state.len() }));
            return;
        }
        let Some(group) = &mut self.group else {
            self.decrees = Some((index, state));
            return;
        };
        let before = group.history.checkpoint.as_ref().map_or(0, |(at, _)| *at);
        // The writes under way come before this one, and nothing that is applied is among them.
        if index <= before || index > group.history.head().0 {
            return;
        }
        group.history.cut(index, state);
        group.bytes = group.history.bytes();
        let image = group.image();
        let through = image.index;
        group.engine.compact(through);
        group.images.clear();
        let image = ImageChange::Replace(image.to_bytes());
        let write = Write { cut: Cut::Through(through), image, ..Write::default() };
        self.state_changed = true;
        self.write(write, Vec::new(), out);
    }

    pub(crate) fn disk_failed(&mut self, why: DiskFault, out: &mut Outbox<Output>) {
        if self.disk.failed.is_none() {
            self.disk.fail(why);
            self.refuse_pending(out);
            self.mastership = None;
            self.giver = None;
            out.push(Output::Event(Event::DiskFailed { why }));
        }
    }
}
