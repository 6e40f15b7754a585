//! Who the managers are: learners are enlisted, voters promoted and replaced, the roster kept
//! (scenario 1, DVM-5 to 14), and how a master hands over.

use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::config::{MANAGERS, MAX_VOTERS};
use crate::convert::Changes;
use crate::event::{Eligibility, Event, Output, Token};
use crate::group::Group;
use crate::id::{ForkId, Lineage, RaftId, Role};
use crate::machine::Managers;
use crate::master::{Mastership, Transfer};
use crate::message::{Answer, Message};
use crate::outcast::EXPELLED;
use crate::standing::OUTRANKED;
use crate::stored::{ChangeKind, Place, Record};

/// A voter without an engine message for this long is silent.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// Of the roster, how many are asked whether they reach a silent backup, beside the other one.
const ASKED: usize = 3;
/// A learner that lags by no more than this is caught up.
const CAUGHT_UP: u64 = 16;
/// Why a voter leaves that is there and does not know that it is one: it let go of its raft id, and
/// will never vote under it. Where nobody else is there it can only come back under another.
const LET_GO: &str = "it is there, and is no manager any more";

/// A voter that is silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    pub(crate) since: Time,
    asked: Option<Time>,
    /// When somebody last said that it reaches it.
    reached: Option<Time>,
}

impl Managers {
    /// One step towards three managers and a learner or two. One change at a time.
    pub(crate) fn manage_voters(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.watch_voters(now, out);
        self.watch_office(now, out);
        self.watch_standings(now);
        self.give_way(now);
        let Some(group) = &self.group else {
            return;
        };
        let transferring = self.mastership.as_ref().is_some_and(|it| it.transfer.is_some());
        if group.engine.changes_pending() || group.meta.ended.is_some() || transferring {
            return;
        }
        if !group.conf.outgoing.is_empty() {
            // The change before was left half-way by another master.
            self.change(&Vec::new());
        } else if !self.replace_voter(now, out) && !self.promote_learner(out) {
            self.drop_learner(now);
            self.enlist(now, out);
        }
    }

    fn change(&mut self, changes: &Changes) -> bool {
        let Some(group) = &mut self.group else {
            return false;
        };
        if !group.engine.propose_change(changes) {
            return false;
        }
        for (kind, _, node) in changes {
            if let Some(mastership) =
                self.mastership.as_mut().filter(|_| *kind != ChangeKind::Learner)
            {
                mastership.office_proposed(*node);
            }
        }
        true
    }

    /// Notes who is silent, and asks others about it (DVM-5).
    fn watch_voters(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        let me = self.me.id;
        let voters: Vec<NodeId> = group.voters().into_iter().filter(|node| *node != me).collect();
        let since = mastership.since;
        let heard = |node: &NodeId| {
            let heard = self.nodes.get(node).and_then(|known| known.heard);
            heard.filter(|at| *at > since).unwrap_or(since)
        };
        let silent = |node: &NodeId| now.since(heard(node)) >= SILENT_AFTER;
        mastership.missing.retain(|node, _| voters.contains(node) && silent(node));
        let learn = group.conf.learners.iter().filter(|raft| !has_caught_up(group, **raft));
        let learn: Vec<NodeId> = learn.filter_map(|raft| group.node_of(*raft)).collect();
        mastership.learning.retain(|node, _| learn.contains(node));
        for node in learn {
            mastership.learning.entry(node).or_insert(now);
        }
        for node in voters.iter().filter(|node| silent(node)) {
            let new = Missing { since: heard(node), asked: None, reached: None };
            mastership.missing.entry(*node).or_insert(new);
        }
        let before = self.config.backup_silent.saturating_sub(self.config.retry * 2);
        let mut questions = Vec::new();
        for (node, missing) in &mut mastership.missing {
            let due = missing.asked.is_none_or(|at| now.since(at) >= self.config.retry);
            if now.since(missing.since) >= before && due {
                missing.asked = Some(now);
                questions.push(*node);
            }
        }
        let lineage = group.meta.lineage;
        for node in questions {
            let others = voters.iter().filter(|other| **other != node && !silent(other)).copied();
            let roster = group.meta.roster.iter().map(|place| place.node).filter(|other| {
                let present = self.nodes.get(other).is_some_and(|known| known.present);
                present && !voters.contains(other) && *other != me
            });
            let whom: Vec<NodeId> = others.chain(roster.take(ASKED)).collect();
            for to in whom {
                self.send(to, &Message::Ask { lineage, round: 0, about: Some(node) }, out);
            }
        }
    }

    /// Somebody's word about a silent backup.
    pub(crate) fn reached_word(&mut self, now: Time, answer: &Answer) {
        if let Some(about) = answer.about
            && let Some(mastership) = &mut self.mastership
            && let Some(missing) = mastership.missing.get_mut(&about)
            && answer.reaches
        {
            missing.reached = Some(now);
        }
    }

    /// Whether a voter's place is to be given to another, and why (DVM-6, 7).
    fn is_replaceable(&self, now: Time, node: NodeId) -> Option<&'static str> {
        let mastership = self.mastership.as_ref()?;
        if let Some(why) = self.unwanted(node) {
            return Some(why);
        }
        if let Some(why) = mastership.demote.get(&node) {
            return Some(why);
        }
        let claim = self.nodes.get(&node).and_then(|known| known.claim.as_ref());
        if claim.is_some_and(|claim| !claim.well) {
            return Some("its baseline is not well");
        }
        let missing = mastership.missing.get(&node)?;
        let silent = now.since(missing.since);
        let known = self.nodes.get(&node);
        let ours = self.group.as_ref().map(Group::stamp);
        // Said after it was heard last, by one who follows this very master; or said lately.
        let follows = claim.and_then(|claim| claim.flock.as_ref()).map(|flock| flock.stamp) == ours;
        let said_since = known.is_some_and(|known| {
            let after = known.heard.is_none_or(|heard| known.claimed > heard);
            (follows && after) || known.claimed > missing.since + SILENT_AFTER
        });
        let fresh = claim.is_some_and(|claim| claim.role == Role::Eligible) && said_since;
        if fresh && silent >= SILENT_AFTER * 3 {
            return Some("its disk is a fresh one");
        }
        let present = self.nodes.get(&node).is_some_and(|known| known.present);
        let eligible = claim.is_some_and(|claim| claim.role == Role::Eligible);
        if present && eligible && silent >= self.config.backup_silent {
            return Some(LET_GO);
        }
        let patience = self.patience_with(now, missing);
        (silent >= patience).then_some("it was silent for too long")
    }

    /// How long a silent voter is waited for: longer where somebody reaches it (DVM-7).
    fn patience_with(&self, now: Time, missing: &Missing) -> Duration {
        let reached = missing.reached.is_some_and(|at| now.since(at) < self.config.retry * 4);
        let longer = if reached { self.config.backup_reached } else { Duration::ZERO };
        self.config.backup_silent + longer
    }

    /// When a silent voter's place is given to another; nothing while there is nobody to take it.
    pub(crate) fn replaced_at(&self, now: Time, node: NodeId) -> Option<Time> {
        let (group, mastership) = (self.group.as_ref()?, self.mastership.as_ref()?);
        let missing = mastership.missing.get(&node)?;
        let anybody = !self.caught_up(group).is_empty();
        anybody.then(|| missing.since + self.patience_with(now, missing))
    }

    fn caught_up(&self, group: &Group) -> Vec<(RaftId, NodeId)> {
        let mut found: Vec<_> = (group.conf.learners.iter())
            .filter(|raft| has_caught_up(group, **raft))
            .filter_map(|raft| Some((*raft, group.node_of(*raft)?)))
            .filter(|(_, node)| self.is_fit(group, *node))
            .collect();
        let standing = |node: NodeId| {
            let place = group.meta.roster.iter().find(|place| place.node == node);
            std::cmp::Reverse(place.map_or(0, Place::standing))
        };
        found.sort_by_key(|(_, node)| (standing(*node), *node));
        found
    }

    /// Whether a node may be a manager: it is there, well, and held by nobody.
    pub(crate) fn is_fit(&self, group: &Group, node: NodeId) -> bool {
        let place = group.meta.roster.iter().find(|place| place.node == node);
        let listed = place.is_some_and(|it| it.eligible == Eligibility::Eligible && !it.held);
        let known = self.nodes.get(&node);
        let there =
            known.is_some_and(|it| it.present && it.claim.as_ref().is_some_and(|claim| claim.well));
        listed && there && !self.expelled.contains(&node)
    }

    /// Gives a voter's place to a learner, in one joint change.
    fn replace_voter(&mut self, now: Time, out: &mut Outbox<Output>) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let me = self.me.id;
        let mut others = group.voters();
        others.retain(|node| *node != me);
        let promoted = self.mastership.as_ref().and_then(Mastership::promoted);
        let learners = self.caught_up(group);
        let wanted = learners.iter().find(|(_, learner)| Some(*learner) == promoted).copied();
        let (leaves, why, joins) = if let Some(wanted) = wanted {
            let full = others.len() + 1 >= MANAGERS;
            let lowest = full.then(|| self.least(now, &others)).flatten();
            (lowest, "another was promoted", Some(wanted))
        } else if let Some((node, joins)) = self.better_takes(now, &learners) {
            (Some(node), OUTRANKED, Some(joins))
        } else {
            let found =
                others.iter().find_map(|node| Some((*node, self.is_replaceable(now, *node)?)));
            let Some((node, why)) = found else {
                return false;
            };
            (Some(node), why, learners.first().copied())
        };
        let full = group.conf.voters.len() >= MANAGERS;
        let fresh = why == "its disk is a fresh one" || why == LET_GO;
        if joins.is_none() && !(fresh && full) && why != EXPELLED {
            return false; // A silent voter is better than one that will never be there.
        }
        if let Some(node) = leaves
            && group.meta.sync.members.contains(&node)
        {
            // Nothing may wait for a disk that is no manager's: out of the sync set first.
            if let Some(mastership) = &mut self.mastership {
                mastership.demote.insert(node, why);
            }
            self.leave_sync(node);
            return true;
        }
        let leaving = leaves.and_then(|node| Some((group.raft_of(node)?, node)));
        let mut changes: Changes = Vec::new();
        changes.extend(leaving.map(|(raft, node)| (ChangeKind::Remove, raft, node)));
        changes.extend(joins.map(|(raft, node)| (ChangeKind::Voter, raft, node)));
        if !self.change(&changes) {
            return false;
        }
        if let Some((_, node)) = leaving {
            if why != OUTRANKED {
                self.lower(node);
            }
            out.push(Output::Event(Event::BackupRemoved { node, why }));
        }
        if let Some((_, node)) = joins {
            out.push(Output::Event(Event::BackupAdded { node }));
        }
        true
    }

    /// The backup whose place goes to one that an operator promotes: one that is to leave anyhow,
    /// else whoever stands lowest, of equals whoever was in office for longest.
    fn least(&self, now: Time, backups: &[NodeId]) -> Option<NodeId> {
        let standings = self.mastership.as_ref().map(|it| &it.standings);
        let since = |node: NodeId| standings.and_then(|it| it.in_office_since(node));
        let rank = |node: &NodeId| (self.standing_of(*node), since(*node), *node);
        let leaves = backups.iter().find(|node| self.is_replaceable(now, **node).is_some());
        leaves.copied().or_else(|| backups.iter().copied().min_by_key(rank))
    }

    fn leave_sync(&mut self, node: NodeId) {
        let Some(group) = &mut self.group else {
            return;
        };
        let mut sync = group.newest_sync();
        if sync.members.contains(&node) {
            sync.version += 1;
            sync.members.retain(|member| *member != node);
            let _place = group.engine.propose(&Record::Sync(sync));
        }
    }

    /// A node that was demoted comes back with half its availability (DVM-14).
    fn lower(&mut self, node: NodeId) {
        if let Some(place) = self.group.as_ref().and_then(|group| group.newest_place(node)) {
            let lower = Place { availability: place.availability / 2, ..place };
            let _written = self.write_roster(&Record::Roster(lower));
        }
    }

    /// A second and third manager, as they appear and have caught up.
    fn promote_learner(&mut self, out: &mut Outbox<Output>) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        if group.conf.voters.len() >= MANAGERS {
            return false;
        }
        let Some((raft, node)) = self.caught_up(group).first().copied() else {
            return false;
        };
        let done = self.change(&vec![(ChangeKind::Voter, raft, node)]);
        if done {
            out.push(Output::Event(Event::BackupAdded { node }));
        }
        done
    }

    /// A learner that is not there, or not fit, makes room for another.
    fn drop_learner(&mut self, now: Time) {
        let Some(group) = &self.group else {
            return;
        };
        let gone = |raft: &&RaftId| {
            let Some(node) = group.node_of(**raft) else {
                return true;
            };
            let known = self.nodes.get(&node);
            let heard = known.and_then(|it| it.heard.max(Some(it.since)));
            let silent = heard.is_none_or(|at| now.since(at) >= self.config.backup_silent);
            silent || known.is_none_or(|it| !it.present) || !self.is_fit(group, node)
        };
        if let Some(raft) = group.conf.learners.iter().find(gone).copied() {
            let node = group.node_of(raft).unwrap_or(self.me.id);
            self.change(&vec![(ChangeKind::Remove, raft, node)]);
        }
    }

    /// Asks the best of the roster to take a raft id.
    fn enlist(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (Some(group), Some(mastership)) = (&self.group, &self.mastership) else {
            return;
        };
        let lacking = MANAGERS.saturating_sub(group.conf.voters.len());
        let wanted = (lacking + 1).min(2);
        let unnamed = |place: &&Place| {
            let named = group.raft_of(place.node).is_some();
            !named && place.node != self.me.id && self.is_fit(group, place.node)
        };
        let first = mastership.promoted();
        let first = first.or(self.outranked(now).map(|(better, _)| better));
        let first = first.filter(|node| group.raft_of(*node).is_none());
        if (group.conf.learners.len() >= wanted && first.is_none())
            || group.conf.everybody().count() + 1 >= MAX_VOTERS
        {
            return;
        }
        let places = group.meta.roster.iter().filter(unnamed).map(|place| place.node);
        let ready = |node: &NodeId| {
            let claim = self.nodes.get(node).and_then(|known| known.claim.as_ref());
            let free = claim.is_some_and(|claim| {
                claim.role == Role::Eligible
                    && claim.flock.as_ref().is_some_and(|it| it.lineage == group.meta.lineage)
            });
            let asked = mastership.enlist_asked.get(node);
            free && asked.is_none_or(|at| now.since(*at) >= self.config.retry)
        };
        let Some(node) = first.into_iter().chain(places).find(ready) else {
            return;
        };
        let (lineage, fork) = (group.meta.lineage, group.meta.fork);
        let (generation, stamp) = (group.meta.generation, group.stamp());
        if let Some(mastership) = &mut self.mastership {
            let retry = self.config.retry;
            mastership.enlist_asked.retain(|_, at| now.since(*at) < retry * 4);
            mastership.enlist_asked.insert(node, now);
        }
        self.send(node, &Message::Enlist { lineage, fork, generation, stamp }, out);
    }

    pub(crate) fn enlisted_came(
        &mut self,
        now: Time,
        from: NodeId,
        of: (Lineage, ForkId),
        raft: RaftId,
    ) {
        let asked = self.mastership.as_ref().is_some_and(|it| it.enlist_asked.contains_key(&from));
        let Some(group) = self.group.as_ref().filter(|_| asked && self.is_master()) else {
            return;
        };
        let unused = group.node_of(raft).is_none();
        #[cfg(test)]
        let unused = unused || crate::plant::is(crate::plant::Bug::OneRaftId);
        let free = group.raft_of(from).is_none() && unused;
        let room = group.conf.everybody().count() + 1 < MAX_VOTERS;
        let joint = !group.conf.outgoing.is_empty() || group.engine.changes_pending();
        if of != (group.meta.lineage, group.meta.fork) || !free || !room || joint || raft.0 == 0 {
            return;
        }
        if self.change(&vec![(ChangeKind::Learner, raft, from)])
            && let Some(mastership) = &mut self.mastership
        {
            mastership.enlist_asked.remove(&from);
            let known = self.nodes.get_mut(&from);
            // It is given time from now on, whenever it was last heard.
            if let Some(known) = known {
                known.heard = Some(now);
            }
        }
    }

    /// One place of the roster at a time (DVM-11 to 14).
    pub(crate) fn manage_roster(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (Some(group), Some(mastership)) = (&self.group, &self.mastership) else {
            return;
        };
        if mastership.roster_proposed.is_some_and(|at| at > group.applied.0) {
            return;
        }
        if self.forget_outcast(now) {
            return;
        }
        let (Some(group), Some(_)) = (&self.group, &self.mastership) else {
            return;
        };
        let Some((place, away)) = self.next_place(now, group) else {
            return;
        };
        let before = group.meta.roster.iter().find(|it| it.node == place.node);
        if place.given_up && before.is_some_and(|it| !it.given_up) {
            out.push(Output::Event(Event::GivenUp { node: place.node }));
        }
        if let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) {
            mastership.roster_proposed = group.engine.propose(&Record::Roster(place));
            mastership.standings.weigh(place.node, now, away);
        }
    }

    /// Whether somebody may enter or leave the roster: of a strong history under strict authority
    /// only, and one at a time.
    pub(crate) fn may_change_roster(&self, now: Time) -> bool {
        let weak = self.group.as_ref().is_some_and(|group| !group.meta.strong);
        weak || self.strict_until(now).is_some()
    }

    /// A change of voters is decided. Who is in the configuration no more is none of its flock.
    pub(crate) fn voters_changed(&mut self, now: Time, out: &mut Outbox<Output>) {
        let Some(group) = &mut self.group else {
            return;
        };
        group.images.clear();
        if group.conf.everybody().all(|raft| raft != group.engine.raft) {
            self.dissolve(now, None, "it was demoted", out);
        } else if let Some(mastership) = &mut self.mastership {
            let voters = group.voters();
            mastership.demote.retain(|node, _| voters.contains(node));
            self.finish_office(out);
        }
    }

    /// The backup that has most of the log, of those that are there and well.
    pub(crate) fn best_backup(&self) -> Option<NodeId> {
        let group = self.group.as_ref()?;
        let mut best: Vec<(u64, std::cmp::Reverse<NodeId>)> = Vec::new();
        for raft in group.conf.voters.iter().filter(|raft| **raft != group.engine.raft) {
            let node = group.node_of(*raft)?;
            let missing = self.mastership.as_ref().is_some_and(|it| it.missing.contains_key(&node));
            let unwell = self.nodes.get(&node).is_some_and(|known| known.unwell.is_some());
            if !missing && !unwell && self.unwanted(node).is_none() {
                best.push((group.engine.matched(*raft), std::cmp::Reverse(node)));
            }
        }
        best.into_iter().max().map(|(_, node)| node.0)
    }

    /// Gives the lease up, tells the voters so, and hands over. One that is under way goes on, and
    /// whoever asks meanwhile is told when it ends.
    pub(crate) fn transfer(&mut self, now: Time, to: NodeId, token: Option<Token>) {
        if let Some(mastership) = &mut self.mastership {
            let new = || Transfer { to, since: now, tokens: Vec::new() };
            mastership.transfer.get_or_insert_with(new).tokens.extend(token);
        }
    }

    /// A master that is not well hands over, as long as there is somebody.
    pub(crate) fn baseline(&mut self, now: Time, well: bool) {
        self.unwell = (!well).then(|| self.unwell.unwrap_or(now));
        self.well = well;
        if let Some(to) = self.best_backup().filter(|_| !well && self.is_master()) {
            self.transfer(now, to, None);
        }
    }

    pub(crate) fn watch_transfer(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) else {
            return;
        };
        let Some(transfer) = &mastership.transfer else {
            return;
        };
        // What was taken is answered first, unless that takes too long.
        let patient = now.since(transfer.since) < self.config.sync_slow;
        if mastership.waiting() > 0 && patient && !mastership.lease_given_up {
            return;
        }
        if mastership.lease_given_up {
            if now.since(transfer.since) >= self.config.election_max {
                // It did not take over; who may still do so is not to be acknowledged beside.
                group.engine.step_down();
            }
            return;
        }
        let Some(raft) = group.raft_of(transfer.to) else {
            return;
        };
        mastership.lease_given_up = true;
        let term = group.engine.term();
        self.released = Some((term, now + self.config.election_max));
        group.engine.transfer(raft);
        let (lineage, fork) = (group.meta.lineage, group.meta.fork);
        let (master, voters) = (self.me.id, group.voters());
        for node in voters {
            self.send(node, &Message::GoneToo { lineage, fork, term, master }, out);
        }
    }

    pub(crate) fn stopping(&mut self, now: Time, token: Token, out: &mut Outbox<Output>) {
        match self.best_backup().filter(|_| self.is_master()) {
            Some(to) => self.transfer(now, to, Some(token)),
            None => out.push(Output::Done { token }),
        }
    }
}

/// Whether a learner has nearly all of its master's log.
fn has_caught_up(group: &Group, raft: RaftId) -> bool {
    let matched = group.engine.matched(raft);
    matched > 0 && matched + CAUGHT_UP >= group.engine.last().0
}
