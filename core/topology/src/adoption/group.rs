//! One group: which decrees are known, which is in force, and who computes the next.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{NodeId, Time};

use super::event::{Config, Plan};
use crate::computed::decree::{Body, Decree, Stamp};
use crate::computed::{Margin, Topology};
use crate::overlay::COMPLETE_UP_TO;

/// Masters whose decrees are remembered: one after the other had the office, or two at once.
const MAX_OWNERS: usize = 64;
/// How far an epoch may be ahead of the highest seen: a liar could otherwise use the numbers up.
const MAX_JUMP: u64 = 1 << 32;
/// Between two computations, whatever happens.
const LEAST_GAP: Duration = Duration::from_secs(10);
/// After one that came to nothing, unless one would be due before that anyway.
const RETRY: Duration = Duration::from_secs(60);
/// A topology that does not fit the members for so long has no master who cares.
const NOBODY_COMPUTES: Duration = Duration::from_secs(180);
/// A job without an answer after this long is given up: its executor is gone.
const JOB_LOST: Duration = Duration::from_secs(900);
/// How often it is looked whether a new overlay is whole.
pub(super) const INSPECT_EVERY: Duration = Duration::from_secs(1);
/// An overlay that is not whole after this long lacks links that do not come by waiting.
const WHOLE_AFTER: Duration = Duration::from_secs(60);
/// Pairs that are remembered as unable to link, and for how long.
const MAX_APART: usize = 256;
const APART_FOR: Duration = Duration::from_secs(3600);
/// A topology has not settled before those who came last know where they are, and all others know
/// it: with a ping a minute coordinates come to rest in a quarter of an hour, and the last small
/// changes of them are told ten minutes later.
const AT_HOME_AFTER: Duration = Duration::from_secs(1500);

/// A decree that is in force.
#[derive(Clone, Debug)]
pub(super) struct Adopted {
    pub(super) stamp: Stamp,
    pub(super) owner: NodeId,
    pub(super) topology: Arc<Topology>,
    /// Since when, here.
    pub(super) at: Time,
}

/// A topology that is coming into force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switching {
    pub(super) since: Time,
    pub(super) next_look: Time,
    pub(super) reported: bool,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) slot: u8,
    pub(super) decree: Decree,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) plan: Option<Plan>,
    pub(super) present: Vec<NodeId>,
    /// The newest decree of each master.
    pub(super) decrees: BTreeMap<NodeId, Known>,
    /// Never falls.
    pub(super) highest: Stamp,
    pub(super) adopted: Option<Adopted>,
    /// Neighbours in the overlay as it is.
    pub(super) laid: Vec<NodeId>,
    /// Neighbours in those before it, kept until it is whole.
    pub(super) old: Vec<NodeId>,
    pub(super) switching: Option<Switching>,
    /// By how much another topology must be better than the one in force.
    pub(super) margin: Margin,
    /// When somebody came last.
    came: Time,
    apart: BTreeMap<(NodeId, NodeId), Time>,
    /// Pairs were found since the last computation.
    pub(super) news: bool,
    /// When members changed first and last since the last computation.
    pub(super) changed: Option<(Time, Time)>,
    pub(super) job: Option<(u64, Time)>,
    not_before: Time,
    next_update: Time,
    pub(super) failure: Option<(Time, String)>,
}

impl Group {
    pub(super) fn planned(plan: Plan) -> Self {
        Self { plan: Some(plan), ..Self::default() }
    }

    /// Takes a decree of `owner`; false when its stamp cannot be meant.
    pub(super) fn decreed(&mut self, owner: NodeId, slot: u8, decree: Decree) -> bool {
        if decree.stamp.epoch > self.highest.epoch.saturating_add(MAX_JUMP) {
            return false;
        }
        self.highest = self.highest.max(decree.stamp);
        self.decrees.insert(owner, Known { slot, decree });
        while self.decrees.len() > MAX_OWNERS {
            let oldest = self.decrees.iter().min_by_key(|(_, known)| known.decree.stamp);
            let Some(oldest) = oldest.map(|(owner, _)| *owner) else { break };
            self.decrees.remove(&oldest);
        }
        true
    }

    /// The newest decree that is known, whether or not its body is here.
    pub(super) fn newest(&self) -> Option<(NodeId, &Known)> {
        let newest = self.decrees.iter().max_by_key(|(_, known)| known.decree.stamp);
        newest.map(|(owner, known)| (*owner, known))
    }

    /// Whether the newest decree is newer than what is in force.
    pub(super) fn is_behind(&self) -> bool {
        let stamp = self.newest().map(|(_, known)| known.decree.stamp);
        stamp > self.adopted.as_ref().map(|adopted| adopted.stamp)
    }

    /// The body that is wanted or served: digest and length.
    pub(super) fn body(&self) -> Option<(skep_base::Digest, usize)> {
        match &self.newest()?.1.decree.body {
            Body::Here(_) => None,
            Body::Apart { digest, length } => {
                Some((*digest, usize::try_from(*length).unwrap_or(usize::MAX)))
            }
        }
    }

    pub(super) fn members(&mut self, now: Time, present: Vec<NodeId>) {
        if self.present != present {
            if present.iter().any(|id| self.present.binary_search(id).is_err()) {
                self.came = now;
            }
            self.present = present;
            let first = self.changed.map_or(now, |(first, _)| first);
            self.changed = Some((first, now));
        }
    }

    /// Puts `topology` in force. The neighbours of until now are kept.
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        let now = adopted.at;
        self.old.extend_from_slice(&self.laid);
        self.old.sort_unstable();
        self.old.dedup();
        if adopted.topology.members() == self.present {
            self.changed = None;
        }
        self.adopted = Some(adopted);
        self.margin = Margin::Settling;
        self.switching = Some(Switching { since: now, next_look: now, reported: false });
    }

    /// Nothing was found that is better by the margin. Once all know where they are, the topology
    /// in force has settled at what its edges cost now.
    pub(super) fn stood(&mut self, now: Time, rtts: &[u32]) {
        if self.margin == Margin::Settling && now.since(self.came) >= AT_HOME_AFTER {
            self.margin = Margin::Settled(rtts.into());
        }
    }

    /// What is missing of the overlay. True when it is whole, or newly lacks for too long.
    pub(super) fn inspected(&mut self, now: Time, missing: &[(NodeId, NodeId)]) -> Inspection {
        let Some(switching) = &mut self.switching else {
            return Inspection::Wait;
        };
        if missing.is_empty() {
            self.switching = None;
            self.old.clear();
            return Inspection::Whole;
        }
        switching.next_look = now + INSPECT_EVERY;
        if now.since(switching.since) < WHOLE_AFTER || switching.reported {
            return Inspection::Wait;
        }
        switching.reported = true;
        self.apart.retain(|_, noted| now.since(*noted) < APART_FOR);
        for pair in missing.iter().take(MAX_APART) {
            if self.apart.len() < MAX_APART {
                self.apart.insert(*pair, now);
                self.news = true;
            }
        }
        Inspection::Lacking
    }

    pub(super) fn apart(&self, now: Time) -> Vec<(NodeId, NodeId)> {
        let fresh = self.apart.iter().filter(|(_, noted)| now.since(**noted) < APART_FOR);
        fresh.map(|(pair, _)| *pair).collect()
    }

    /// Who computes, as this node sees it: whom its configuration names, else whose decree is in
    /// force, else the lowest identity; of these the first that is present. Whoever has the office
    /// keeps it when somebody lower comes.
    pub(super) fn master(&self) -> Option<NodeId> {
        self.master_among(&self.present)
    }

    /// The same where `present` are the members, in order.
    pub(super) fn master_among(&self, present: &[NodeId]) -> Option<NodeId> {
        let lowest = present.first().copied();
        let named = self.plan.as_ref().and_then(|plan| plan.master);
        let incumbent = self.adopted.as_ref().map(|adopted| adopted.owner);
        let present = |id: &NodeId| present.binary_search(id).is_ok();
        named.filter(present).or(incumbent.filter(present)).or(lowest)
    }

    /// How long this node waits for somebody else to do the master's work, if it would do it at
    /// all. Configurations may differ, so that each takes another for the master and nobody
    /// computes: the lowest identity then does.
    pub(super) fn stands_back(&self, me: NodeId) -> Option<Duration> {
        self.plan.as_ref()?;
        if self.master() == Some(me) {
            return Some(Duration::ZERO);
        }
        (self.present.first() == Some(&me)).then_some(NOBODY_COMPUTES)
    }

    /// When this node computes, as the master, if it is.
    pub(super) fn compute_due(&self, me: NodeId, config: &Config) -> Option<Time> {
        let patience = self.stands_back(me)?;
        if self.job.is_some() || self.present.len() <= COMPLETE_UP_TO {
            return None;
        }
        let fits = |adopted: &Adopted| adopted.topology.members() == self.present;
        let fits = self.adopted.as_ref().is_some_and(fits);
        if fits && !patience.is_zero() {
            return None;
        }
        let ours = self.adopted.as_ref().is_some_and(|adopted| adopted.owner == me);
        if fits && ours && !self.news {
            return Some(self.next_update.max(self.not_before));
        }
        let (first, last) = self.changed.unwrap_or_default();
        let calm = (last + config.calm).min(first + config.calm_at_most);
        Some(calm.max(first + patience).max(self.not_before))
    }

    pub(super) fn begin_job(&mut self, now: Time, job: u64) {
        self.job = Some((job, now));
        self.changed = None;
        self.news = false;
    }

    /// Whether this is the job that is under way; then it is over.
    pub(super) fn end_job(&mut self, now: Time, job: u64, failed: bool) -> bool {
        let ours = self.job.is_some_and(|(number, _)| number == job);
        if ours {
            self.job = None;
            let period = self.plan.as_ref().map_or(RETRY, |plan| plan.update_period);
            self.next_update = now + period;
            let retry = RETRY.min(period).max(LEAST_GAP);
            self.not_before = now + if failed { retry } else { LEAST_GAP };
        }
        ours
    }

    pub(super) fn job_lost_at(&self) -> Option<Time> {
        self.job.map(|(_, since)| since + JOB_LOST)
    }
}

/// What an inspection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inspection {
    Wait,
    Whole,
    Lacking,
}
