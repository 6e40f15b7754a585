//! After a restart: a manager holds what it has until the live master confirms it, or until enough
//! of the others have compared logs with it. And which histories are over.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::event::Output;
use crate::follow::foremost;
use crate::group::Group;
use crate::id::{Lineage, Role};
use crate::machine::Managers;
use crate::message::{Comparison, Engine as Packet, EngineBody, FlockClaim, Message};

/// A master that leaves this node out of its managers for so long means it.
const LEFT_OUT: Duration = Duration::from_secs(5);

/// A restart that is not settled yet.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) since: Time,
    asked: Option<Time>,
    reports: BTreeMap<NodeId, (Time, Comparison)>,
}

impl Boot {
    pub(crate) fn new(since: Time) -> Self {
        Self { since, asked: None, reports: BTreeMap::new() }
    }
}

impl Managers {
    /// Whether an engine message ends the hold: the live master's does.
    pub(crate) fn resumes(
        &mut self,
        now: Time,
        packet: &Packet,
        _out: &mut Outbox<Output>,
    ) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let from_master = matches!(
            packet.body,
            EngineBody::Append { .. } | EngineBody::Heartbeat { .. } | EngineBody::Snapshot { .. }
        );
        let resumes = from_master && packet.term >= group.engine.term();
        if resumes {
            self.boot = None;
            self.lonely = None;
            self.end_solitude(now);
            self.because("the live master confirmed it");
        }
        resumes
    }

    pub(crate) fn boot_duties(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (Some(group), Some(boot)) = (&self.group, &mut self.boot) else {
            return;
        };
        let fresh = self.config.retry * 4;
        boot.reports.retain(|_, (at, _)| now.since(*at) < fresh);
        let me = self.me.id;
        if boot.asked.is_none_or(|at| now.since(at) >= self.config.retry) {
            boot.asked = Some(now);
            let report = report(group, me, true);
            let voters = group.voters();
            for node in voters {
                self.send(node, &Message::Compare(report), out);
            }
        }
        if self.may_resume(now) {
            self.boot = None;
            // Whoever is elected now is heard: nobody need be asked what became of the flock.
            self.lonely = None;
            self.rebooted = true;
            self.leaderless = Some(now);
            self.because("enough of the managers compared logs");
            let alone = self.group.as_ref().is_some_and(|group| group.conf.voters.len() == 1);
            if let Some(group) = self.group.as_mut().filter(|_| alone && self.disk.is_idle()) {
                group.engine.campaign();
            }
        } else if self.held_for(now) >= self.config.orphaned_holding {
            self.alone(now, out);
        }
    }

    fn held_for(&self, now: Time) -> Duration {
        self.boot.as_ref().map_or(Duration::ZERO, |boot| now.since(boot.since))
    }

    /// Whether a majority of the voters is there to compare with, and of the newest sync set that
    /// any of them knows a member. An old lease must be over first.
    fn may_resume(&self, now: Time) -> bool {
        let (Some(group), Some(boot)) = (&self.group, &self.boot) else {
            return false;
        };
        let settled = self.config.old_lease().max(self.config.found_after);
        if now.since(boot.since) < settled || !group.is_voter() {
            return false;
        }
        let mut there: Vec<NodeId> = boot.reports.keys().copied().collect();
        there.push(self.me.id);
        // Where a part of the flock went on in another history, that one leads.
        let heir = |(_, flock): (NodeId, &FlockClaim)| {
            flock.parent.is_some_and(|(parent, _)| parent == group.meta.lineage)
        };
        group.is_majority(&there)
            && !self.masters().any(heir)
            && self.sync_member_present(group, boot)
    }

    fn sync_member_present(&self, group: &Group, boot: &Boot) -> bool {
        let mine = group.newest_sync();
        let reports = boot.reports.values().map(|(_, it)| (it.sync_version, it.in_sync));
        let own = (mine.version, mine.members.contains(&self.me.id));
        let known: Vec<(u64, bool)> = reports.chain([own]).collect();
        let noted = self.state.notes.iter().filter(|note| note.lineage == group.meta.lineage);
        let newest = known.iter().map(|(version, _)| *version);
        let newest = newest.chain(noted.map(|note| note.sync.version)).max().unwrap_or(0);
        known.iter().any(|(version, member)| *version == newest && *member)
    }

    pub(crate) fn waits_for_sync_member(&self) -> bool {
        let (Some(group), Some(boot)) = (&self.group, &self.boot) else {
            return false;
        };
        let mut there: Vec<NodeId> = boot.reports.keys().copied().collect();
        there.push(self.me.id);
        group.is_majority(&there) && !self.sync_member_present(group, boot)
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
        if let Some(boot) = &mut self.boot {
            boot.reports.insert(from, (now, report_));
        }
    }

    /// Whether another holding manager's log is further on than this one's.
    pub(crate) fn is_behind(&self) -> bool {
        let (Some(group), Some(boot)) = (&self.group, &self.boot) else {
            return false;
        };
        let (last, last_term) = group.engine.last();
        let mine = (last_term, last, std::cmp::Reverse(self.me.id));
        boot.reports
            .iter()
            .any(|(node, (_, it))| (it.last_term, it.last, std::cmp::Reverse(*node)) > mine)
    }

    /// Ends what is over: a history that went on in another, a place that was given to another
    /// (scenario 1 as the silent one sees it, DVM-9, 14, 16), a history that was founded anew.
    pub(crate) fn judge_histories(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.is_master() || self.giver.is_some() {
            return;
        }
        let Some(group) = &self.group else {
            return;
        };
        let lineage = group.meta.lineage;
        let leads = group.engine.leads();
        let ended = self.state.ended.iter().find(|(ended, _)| *ended == lineage);
        if let Some((_, into)) = ended.copied().filter(|_| !leads) {
            self.dissolve(now, Some(into), "its flock merged", out);
            return;
        }
        let led = self.is_led(now);
        let since = self.boot.as_ref().map(|boot| boot.since).or(self.leaderless);
        let Some(since) = since.filter(|_| !led && !leads) else {
            return;
        };
        let alone = now.since(since);
        if let Some((_, claim)) = self.master_of(lineage) {
            let me = self.me.id;
            let left_out = !claim.managers.contains(&me) && !claim.learners.contains(&me);
            let later = claim.stamp.epoch > group.meta.epoch;
            let enough = if later { self.config.election_min } else { LEFT_OUT };
            if left_out && claim.stamp.epoch >= group.meta.epoch && alone >= enough {
                self.dissolve(now, None, "it was demoted while it was away", out);
            }
            return;
        }
        let descends =
            |flock: &FlockClaim| flock.parent.is_some_and(|(parent, _)| parent == lineage);
        let heir = foremost(self.masters().filter(|(_, flock)| descends(flock)));
        let any =
            self.masters().filter(|(_, flock)| flock.acknowledged || !group.meta.acknowledged);
        let any = foremost(any);
        let found = heir.filter(|_| alone >= self.config.election_max * 2);
        let found = found.or(any.filter(|_| alone >= self.config.orphaned_holding));
        let Some((to, into)) = found.map(|(node, flock)| (node, flock.lineage)) else {
            return;
        };
        if group.meta.acknowledged || !group.engine.records_after(group.applied.0).is_empty() {
            self.begin_giving(now, into, to);
        } else {
            self.dissolve(now, None, "its flock is founded anew", out);
        }
    }

    /// Whether this node's role counts as a manager for those who ask.
    pub(crate) fn manages(role: Role) -> bool {
        matches!(role, Role::Master | Role::Backup)
    }

    pub(crate) fn history_of(&self) -> Option<Lineage> {
        self.group.as_ref().map(|group| group.meta.lineage)
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
