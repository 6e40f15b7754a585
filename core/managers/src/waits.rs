//! What the managers of this node wait for, since when, until when (invariant 9).
//!
//! An end is told only where something happens at it whether or not what is waited for comes: a
//! silent backup is replaced, a flock is founded, a manager asks everybody there. What is waited
//! for without an end says none, and neither does what is overdue.

use skep_base::{NodeId, Time};

use crate::event::Eligibility;
use crate::lonely::Lonely;
use crate::machine::Managers;
use crate::view::{Wait, Waiting};

impl Managers {
    /// What is waited for as of `now`.
    pub(crate) fn waits_at(&self, now: Time) -> Vec<Waiting> {
        let mut waits = self.waits();
        for wait in &mut waits {
            if let Wait::Manager(node) = wait.what {
                wait.until = self.replaced_at(now, node);
            }
            wait.until = wait.until.filter(|until| *until > now);
        }
        waits
    }

    /// What is waited for; of silent managers without the end, which depends on who answers.
    pub(crate) fn waits(&self) -> Vec<Waiting> {
        let mut waits = Vec::new();
        if self.disk.failed.is_some() {
            let since = self.disk_failed_at.unwrap_or(self.started);
            waits.push(Waiting::new(Wait::Disk, since, None));
            return waits;
        }
        if !self.well {
            waits.push(Waiting::new(Wait::Baseline, self.unwell.unwrap_or(self.started), None));
        }
        if let Some(giver) = &self.giver {
            let until = giver.decided_anew_at();
            waits.push(Waiting { what: Wait::Merge(giver.into), since: giver.since, until });
        }
        if let Some(company) = self.waits_for_company().filter(|_| self.is_retired()) {
            waits.push(company);
            return waits;
        }
        if self.group.is_none() {
            waits.extend(self.waits_for_flock());
            return waits;
        }
        waits.extend(self.waits_for_master());
        waits.extend(self.waits_as_master());
        waits.extend(self.waits_for_company());
        waits
    }

    /// A node that manages nothing and knows of no master.
    fn waits_for_flock(&self) -> Option<Waiting> {
        if self.known_master().is_some() {
            return None;
        }
        // Who may found one does so then, unless it hears of one before.
        let founds = self.me.eligible == Eligibility::Eligible && self.well;
        let until = self.founds_at().filter(|_| founds);
        Some(Waiting { what: Wait::Flock, since: self.masterless, until })
    }

    /// A manager or learner that does not lead and is not led.
    fn waits_for_master(&self) -> Option<Waiting> {
        let asks = self.lonely.as_ref().filter(|lonely| {
            // What a restarted manager waits for, others that compare logs with it bring as well.
            self.boot.is_none() || lonely.waits == Wait::SyncMember
        });
        if let Some(Lonely { waits: what, since, until, .. }) = asks {
            return Some(Waiting { what: *what, since: *since, until: *until });
        }
        if let Some(boot) = &self.boot {
            if self.waits_for_sync_member() {
                // Nobody but a member of it may say that nothing is missing.
                return Some(Waiting::new(Wait::SyncMember, boot.since, None));
            }
            // Past it everybody there is asked, and this node may found the next generation.
            let asks = self.config.orphaned_holding;
            return Some(Waiting::new(Wait::Comparison, boot.since, Some(asks)));
        }
        let since = self.leaderless?;
        let until = self.patience_ends().filter(|_| self.giver.is_none());
        Some(Waiting { what: Wait::Election, since, until })
    }

    fn waits_as_master(&self) -> Vec<Waiting> {
        let mut waits = Vec::new();
        let (Some(group), Some(mastership)) = (&self.group, &self.mastership) else {
            return waits;
        };
        if !mastership.stamped {
            waits.push(Waiting::new(Wait::Stamp, mastership.since, None));
        }
        for (node, missing) in &mastership.missing {
            waits.push(Waiting::new(Wait::Manager(*node), missing.since, None));
        }
        if group.conf.voters.len() < crate::MANAGERS {
            waits.push(Waiting::new(Wait::Backups, mastership.since, None));
        }
        for (node, since) in &mastership.learning {
            let until = self.promotion_ends(*node);
            waits.push(Waiting { what: Wait::Learner(*node), since: *since, until });
        }
        waits
    }

    /// When the promotion of a learner comes to nothing, where an operator ordered it.
    fn promotion_ends(&self, node: NodeId) -> Option<Time> {
        self.mastership.as_ref()?.promotion_ends(node)
    }
}
