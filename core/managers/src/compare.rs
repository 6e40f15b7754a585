//! What the logs of a part hold that has no master, and whether it may go on from them.
//!
//! Managers that restarted, and managers and learners that ask what became of their flock, tell one
//! another how far their logs go. Of two logs of one history the one whose last entry is of the
//! later term, or at one term the longer, has everything decided that the other has. So where a
//! member of the newest sync set that anybody knows of is among those that are compared, the most
//! advanced log has everything that was acknowledged, and its node founds the next generation
//! (scenario 6). Where none is, the part waits until each of them was away, or there without its
//! log, for as long as it takes to give a node up, or until an operator says so; what is founded
//! then is weak.
//!
//! A part in which no manager holds the log waits for nobody's: a learner founds from its own.

use std::collections::BTreeMap;

use skep_base::{NodeId, Outbox, Time};

use crate::event::Output;
use crate::group::Group;
use crate::machine::Managers;
use crate::message::{Comparison, Message};
use crate::stored::SyncSet;

/// How far the logs of others go, as they said a moment ago. Of members of the group only.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    asked: Option<Time>,
    reports: BTreeMap<NodeId, (Time, Comparison)>,
}

/// What the logs here hold of what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logs {
    /// All of it is in the most advanced one.
    Whole,
    /// Something may be missing. Until then somebody may come who has it, if that is known.
    Lacking(Option<Time>),
    /// Something may be missing, and nobody waits any more for those who have it.
    GivenUp,
}

impl Managers {
    /// Asks the others of this history how far their logs go, again and again.
    pub(crate) fn compare_logs(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.forget_old_reports(now);
        let Some(group) = &self.group else {
            return;
        };
        if self.compared.asked.is_some_and(|at| now.since(at) < self.config.retry) {
            return;
        }
        self.compared.asked = Some(now);
        let report = report(group, self.me.id, true);
        // A restart is a matter among voters, founding one of all who have the log.
        let founds = self.boot.is_none() || self.lonely.is_some();
        let learners = group.learners().into_iter().filter(|_| founds);
        let others: Vec<NodeId> = group.voters().into_iter().chain(learners).collect();
        for node in others {
            self.send(node, &Message::Compare(report), out);
        }
    }

    pub(crate) fn compare_came(
        &mut self,
        now: Time,
        from: NodeId,
        report_: Comparison,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = &self.group else {
            return;
        };
        let same = (report_.lineage, report_.fork) == (group.meta.lineage, group.meta.fork);
        if !same || group.raft_of(from) != Some(report_.raft) {
            return;
        }
        if report_.asks {
            let ours = report(group, self.me.id, false);
            self.send_when_safe(from, Message::Compare(ours), out);
        }
        if self.boot.is_some() || self.lonely.is_some() {
            self.compared.reports.insert(from, (now, report_));
        }
    }

    /// Who does not say it any more may be gone.
    pub(crate) fn forget_old_reports(&mut self, now: Time) {
        let fresh = self.config.retry * 4;
        self.compared.reports.retain(|_, (at, _)| now.since(*at) < fresh);
    }

    /// Whose logs are here, this node's among them.
    pub(crate) fn compared_with(&self) -> Vec<NodeId> {
        self.compared.reports.keys().copied().chain([self.me.id]).collect()
    }

    /// Whether a member of the newest sync set that any of the voters here knows is among them.
    /// What none of a majority knows was not decided, whatever a learner has of it.
    pub(crate) fn sync_member_present(&self, group: &Group) -> bool {
        let voters = group.voters();
        let mine = group.newest_sync();
        let reports = self.compared.reports.iter().filter(|(node, _)| voters.contains(node));
        let reports = reports.map(|(_, (_, it))| (it.sync_version, it.in_sync));
        let own = (mine.version, mine.members.contains(&self.me.id));
        let known: Vec<(u64, bool)> = reports.chain([own]).collect();
        let noted = self.state.notes.iter().filter(|note| note.lineage == group.meta.lineage);
        let newest = known.iter().map(|(version, _)| *version);
        let newest = newest.chain(noted.map(|note| note.sync.version)).max().unwrap_or(0);
        known.iter().any(|(version, member)| *version == newest && *member)
    }

    pub(crate) fn waits_for_sync_member(&self) -> bool {
        let Some(group) = self.group.as_ref().filter(|_| self.boot.is_some()) else {
            return false;
        };
        group.is_majority(&self.compared_with()) && !self.sync_member_present(group)
    }

    /// Whether the log of another that is here is further on than this one's.
    pub(crate) fn is_behind(&self) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let (last, last_term) = group.engine.last();
        let mine = (last_term, last, std::cmp::Reverse(self.me.id));
        let reports = self.compared.reports.iter();
        let mut theirs =
            reports.map(|(node, (_, it))| (it.last_term, it.last, std::cmp::Reverse(*node)));
        theirs.any(|theirs| theirs > mine)
    }

    /// Since when somebody else is there that holds this node's history as a manager of it.
    pub(crate) fn holder_since(&self) -> Option<Time> {
        let lineage = self.history_of()?;
        let holders = self.nodes.values().filter_map(|known| {
            let claim = known.claim.as_ref().filter(|_| known.present)?;
            claim.holds.is_some_and(|(held, _)| held == lineage).then_some(known.since)
        });
        holders.max()
    }

    /// What the logs hold that are here, by all that was answered and compared.
    pub(crate) fn logs_here(&self, now: Time, group: &Group) -> Logs {
        let mine = group.newest_sync();
        let answers = self.lonely.iter().flat_map(|lonely| lonely.sync_sets());
        let noted = self.state.notes.iter().filter(|note| note.lineage == group.meta.lineage);
        let sets: Vec<&SyncSet> =
            answers.chain(noted.map(|note| &note.sync)).chain([&mine]).collect();
        let reports = self.compared.reports.values();
        let reports = reports.map(|(_, it)| (it.sync_version, it.in_sync));
        let own = (mine.version, mine.members.contains(&self.me.id));
        let logs: Vec<(u64, bool)> = reports.chain([own]).collect();
        let versions = logs.iter().map(|(version, _)| *version);
        let newest = versions.chain(sets.iter().map(|set| set.version)).max().unwrap_or(0);
        if logs.contains(&(newest, true)) {
            return Logs::Whole;
        }
        let members = sets.into_iter().find(|set| set.version == newest);
        let until = members.map(|set| self.given_up_at(now, &set.members));
        if until.is_some_and(|at| now >= at) { Logs::GivenUp } else { Logs::Lacking(until) }
    }

    /// When the last of `nodes` is given up: that was away, or there and said nothing of its log,
    /// since this node lost its master.
    fn given_up_at(&self, now: Time, nodes: &[NodeId]) -> Time {
        let unled = self.unled_since().unwrap_or(now);
        let changed = |node| self.nodes.get(node).map_or(unled, |known| known.since);
        let last = nodes.iter().map(changed).max().unwrap_or(unled);
        last.max(unled) + self.config.given_up
    }
}

fn report(group: &Group, me: NodeId, asks: bool) -> Comparison {
    let (last, last_term) = group.engine.last();
    let sync = group.newest_sync();
    Comparison {
        lineage: group.meta.lineage,
        fork: group.meta.fork,
        raft: group.engine.raft,
        term: group.engine.term(),
        last,
        last_term,
        sync_version: sync.version,
        in_sync: sync.members.contains(&me),
        asks,
    }
}
