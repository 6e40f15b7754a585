//! After a restart: a manager holds what it has until the live master confirms it, or until enough
//! of the others have compared logs with it. And which histories are over.

use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::compare::Compared;
use crate::event::Output;
use crate::follow::foremost;
use crate::id::{Lineage, Role};
use crate::machine::Managers;
use crate::message::{Engine as Packet, EngineBody, FlockClaim};

/// A master that leaves this node out of its managers for so long means it.
const LEFT_OUT: Duration = Duration::from_secs(5);

/// A restart that is not settled yet.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) since: Time,
}

impl Boot {
    pub(crate) const fn new(since: Time) -> Self {
        Self { since }
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
            self.compared = Compared::default();
            self.end_solitude(now);
            self.because("the live master confirmed it");
        }
        resumes
    }

    /// A manager that has just started, or met nobody for so long that it is as if it had.
    pub(crate) fn hold(&mut self, now: Time) {
        self.boot = Some(Boot::new(now));
        self.compared = Compared::default();
    }

    pub(crate) fn boot_duties(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.group.is_none() || self.boot.is_none() {
            return;
        }
        self.compare_logs(now, out);
        if self.may_resume(now) {
            self.boot = None;
            // Whoever is elected now is heard: nobody need be asked what became of the flock.
            self.lonely = None;
            self.compared = Compared::default();
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

    /// Since when this manager or learner has no master, as far as it knows.
    pub(crate) fn unled_since(&self) -> Option<Time> {
        self.boot.as_ref().map(|boot| boot.since).or(self.leaderless)
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
        let there = self.compared_with();
        // Where a part of the flock went on in another history, that one leads.
        let heir = |(_, flock): (NodeId, &FlockClaim)| {
            flock.parent.is_some_and(|(parent, _)| parent == group.meta.lineage)
        };
        group.is_majority(&there) && !self.masters().any(heir) && self.sync_member_present(group)
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
        let Some(since) = self.unled_since().filter(|_| !led && !leads) else {
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
