//! Other flocks of the bloc that were seen lately (BLOC-4, 10).
//!
//! Which there are *now* follows from what present nodes announce. One whose last node went silent,
//! or went on in another flock, is remembered for a day: whoever looks into what happened last
//! night finds out which parts there were. It is remembered in memory alone.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::{NodeId, Time};

use crate::id::{Generation, Lineage, Role, Stamp, flock_name};
use crate::machine::Managers;
use crate::message::{Claim, FlockClaim};
use crate::view::OtherFlock;

/// Flocks that are remembered, and that are told of: more than one bloc falls into unless somebody
/// makes them up. Over it the one that was seen longest ago is forgotten.
pub const MAX_OTHERS: usize = 64;
/// How long a flock is remembered that nobody announces any more.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Flocks that somebody announced and announces no more.
#[derive(Debug, Default)]
pub(crate) struct Others {
    met: BTreeMap<Lineage, Met>,
}

/// What was last known of one.
#[derive(Clone, Copy, Debug)]
struct Met {
    generation: Generation,
    stamp: Stamp,
    master: Option<NodeId>,
    seen: Time,
}

impl Others {
    /// Somebody who announced this flock does so until now; `master` where that one led it.
    fn saw(&mut self, now: Time, flock: &FlockClaim, master: Option<NodeId>) {
        let (generation, stamp) = (flock.generation, flock.stamp);
        if let Some(met) = self.met.get_mut(&flock.lineage) {
            met.stamp = crate::machine::newest(met.stamp, stamp);
            met.master = master.or(met.master);
            met.seen = now;
            return;
        }
        self.met.retain(|_, met| now.since(met.seen) < REMEMBERED);
        if self.met.len() >= MAX_OTHERS {
            let oldest = self.met.iter().min_by_key(|(_, met)| met.seen);
            if let Some(oldest) = oldest.map(|(lineage, _)| *lineage) {
                self.met.remove(&oldest);
            }
        }
        self.met.insert(flock.lineage, Met { generation, stamp, master, seen: now });
    }

    /// Those seen lately, the last one first.
    fn lately(&self, now: Time) -> Vec<OtherFlock> {
        let lately = self.met.iter().filter(|(_, met)| now.since(met.seen) < REMEMBERED);
        let view = |(lineage, met): (&Lineage, &Met)| OtherFlock {
            name: flock_name(*lineage, met.generation),
            lineage: *lineage,
            generation: met.generation,
            stamp: met.stamp,
            master: met.master,
            members: 0,
            seen: met.seen,
        };
        let mut all: Vec<OtherFlock> = lately.map(view).collect();
        all.sort_by_key(|other| std::cmp::Reverse(other.seen));
        all
    }

    pub(crate) fn check(&self) {
        assert!(self.met.len() <= MAX_OTHERS, "{} flocks are remembered", self.met.len());
    }
}

impl Managers {
    /// A node announces no more what it did until now.
    pub(crate) fn announces_no_more(&mut self, now: Time, node: NodeId, claim: &Claim) {
        let ours = self.history_of().or(self.follow);
        let flock = claim.flock.as_ref().filter(|flock| Some(flock.lineage) != ours);
        if let Some(flock) = flock {
            let master = (claim.role == Role::Master).then_some(node);
            self.others.saw(now, flock, master);
        }
    }

    /// Flocks besides this node's own: those announced now, and those seen lately that are not
    /// known to have gone on in another.
    pub(crate) fn other_flocks(&self, now: Time) -> Vec<OtherFlock> {
        let ours = self.history_of().or(self.follow);
        let mut others: Vec<OtherFlock> = Vec::new();
        for known in self.nodes.values() {
            let claim = known.claim.as_ref().filter(|_| known.present);
            let Some(flock) = claim.and_then(|claim| claim.flock.as_ref()) else {
                continue;
            };
            if Some(flock.lineage) == ours {
                continue;
            }
            let known = others.iter().position(|other| other.lineage == flock.lineage);
            match known {
                Some(at) => others[at].members += 1,
                None if others.len() >= MAX_OTHERS => {}
                None => others.push(OtherFlock {
                    name: flock_name(flock.lineage, flock.generation),
                    lineage: flock.lineage,
                    generation: flock.generation,
                    stamp: flock.stamp,
                    master: self.master_of(flock.lineage).map(|(node, _)| node),
                    members: 1,
                    seen: now,
                }),
            }
        }
        let ended = |lineage| self.state.ended.iter().any(|(ended, _)| *ended == lineage);
        for met in self.others.lately(now) {
            let known = others.iter().any(|other| other.lineage == met.lineage);
            let gone = Some(met.lineage) == ours || ended(met.lineage);
            if !known && !gone && others.len() < MAX_OTHERS {
                others.push(met);
            }
        }
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, ForkId};

    fn flock(lineage: u64, epoch: u64) -> FlockClaim {
        let lineage = Lineage(lineage);
        let stamp = Stamp { epoch: Epoch(epoch), fork: ForkId(lineage.0) };
        FlockClaim { lineage, stamp, ..crate::message::sample_claim().flock.unwrap() }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn bloc_10_a_flock_is_remembered_for_a_day_with_its_last_master() {
        let (begin, node) = (Time::from_millis(5), NodeId::from_bytes([7; 16]));
        let mut others = Others::default();
        others.saw(begin, &flock(1, 4), Some(node));
        others.saw(begin + HOUR, &flock(1, 3), None);
        let [seen] = &others.lately(begin + HOUR * 24)[..] else { panic!("{others:?}") };
        assert_eq!((seen.master, seen.seen, seen.members), (Some(node), begin + HOUR, 0));
        assert_eq!(seen.stamp.epoch, Epoch(4), "an older stamp takes nothing back");
        assert!(others.lately(begin + HOUR * 25).is_empty());
    }

    #[test]
    fn of_flocks_without_end_those_seen_longest_ago_are_forgotten() {
        let mut others = Others::default();
        let at = |n: u64| Time::from_millis(n);
        for n in 0..1000 {
            others.saw(at(n), &flock(n, 1), None);
            others.check();
        }
        let kept = others.lately(at(1000));
        assert_eq!(kept.len(), MAX_OTHERS);
        let newest: Vec<u64> = kept.iter().map(|other| other.lineage.0).collect();
        assert_eq!(newest, (1000 - MAX_OTHERS as u64..1000).rev().collect::<Vec<_>>());
    }
}
