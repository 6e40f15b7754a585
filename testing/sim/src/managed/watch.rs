//! What must hold of managers after every step.
//!
//! * At most one node may acknowledge in a (lineage, generation) at any instant.
//! * The stamp on a disk never falls, and a node starts with no lower one.
//! * A raft id is one node's, in one lineage, and never comes back once it was let go of.
//! * Two strong generations of one founding never share a number, and of one founding at most one
//!   node has strict authority at any instant.
//! * The founding number that a disk has seen never falls.
//! * What is acknowledged is so under a stamp that a master held: semi-masters and holding nodes
//!   acknowledge nothing.
//! * What is acknowledged is on the disk of every live member of the sync set.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_base::Time;
use skep_catalog::{Granted, Outcome};
use skep_managers::{Founding, Generation, Kept, Lineage, RaftId, Role, Wait};

use crate::host::HostIx;
use crate::report::Checker;
use crate::world::World;

/// What a node that calls itself master says of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mastership {
    pub(crate) lineage: Lineage,
    pub(crate) generation: Generation,
    /// Epoch and fork.
    pub(crate) stamp: (u64, u64),
    /// It descends from the founding.
    pub(crate) strong: bool,
    pub(crate) founding: Founding,
    /// Until when it may acknowledge, in the world's time.
    pub(crate) lease: Option<Time>,
    /// Until when it has strict authority.
    pub(crate) strict: Option<Time>,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Who may acknowledge for what, until when.
    leases: BTreeMap<HostIx, (Lineage, Generation, Time)>,
    /// After how many calls somebody had it.
    pub(crate) strict_calls: usize,
    /// Stamps under which a master acknowledged or could have.
    held: BTreeSet<(u64, u64)>,
    strong: BTreeMap<(Founding, Generation), Lineage>,
    /// Who has strict authority under which founding, until when.
    strict: BTreeMap<HostIx, (Founding, Time)>,
    /// What each disk was given, and from when on it survives a power cut.
    given: BTreeMap<HostIx, VecDeque<(Time, Kept)>>,
    /// What each disk surely holds.
    holds: BTreeMap<HostIx, Kept>,
    owners: BTreeMap<RaftId, (HostIx, Lineage)>,
    let_go: BTreeSet<RaftId>,
    /// Who hands its history over, now.
    pub(crate) merging: BTreeSet<HostIx>,
    /// The longest that a write of each host's managers took.
    pub(crate) slowest: BTreeMap<HostIx, std::time::Duration>,
}

impl Watch {
    /// A host says that it is master.
    pub(crate) fn leads(&mut self, now: Time, host: HostIx, it: Mastership) -> Result<(), String> {
        self.held.insert(it.stamp);
        if it.strong {
            let first = *self.strong.entry((it.founding, it.generation)).or_insert(it.lineage);
            if first != it.lineage {
                let generation = it.generation.0;
                return Err(format!("there are two strong generations {generation}"));
            }
        }
        self.holds(now, host, it.founding, it.strict)?;
        let Some(until) = it.lease.filter(|until| *until > now) else {
            self.leases.remove(&host);
            return Ok(());
        };
        self.leases.insert(host, (it.lineage, it.generation, until));
        let other = self.leases.iter().find(|(other, (lineage, generation, until))| {
            let same = (*lineage, *generation) == (it.lineage, it.generation);
            **other != host && same && *until > now
        });
        other.map_or(Ok(()), |(other, _)| {
            let lineage = it.lineage;
            Err(format!("{} and {} both hold the lease of {lineage}", other.0, host.0))
        })
    }

    /// A host says that it has strict authority, or has none.
    fn holds(
        &mut self,
        now: Time,
        host: HostIx,
        founding: Founding,
        until: Option<Time>,
    ) -> Result<(), String> {
        self.strict.retain(|other, (_, until)| *other != host && *until > now);
        let Some(until) = until.filter(|until| *until > now) else { return Ok(()) };
        self.strict_calls += 1;
        let same = |(_, (of, _)): &(&HostIx, &(Founding, Time))| *of == founding;
        let other = self.strict.iter().find(same).map(|(other, _)| *other);
        self.strict.insert(host, (founding, until));
        other.map_or(Ok(()), |other| {
            Err(format!("{} and {} both have strict authority", other.0, host.0))
        })
    }

    /// A host says that it is no master, or says nothing any more.
    pub(crate) fn follows(&mut self, host: HostIx) {
        self.leases.remove(&host);
        self.strict.remove(&host);
    }

    /// A disk is given something that is safe from a power cut at `at`.
    pub(crate) fn given(&mut self, host: HostIx, at: Time, kept: Kept) {
        self.given.entry(host).or_default().push_back((at, kept));
    }

    /// Time has passed for a disk; after a power cut what was not safe by now is lost.
    pub(crate) fn settle(&mut self, now: Time, host: HostIx, lost: bool) -> Result<(), String> {
        let Some(given) = self.given.get_mut(&host) else { return Ok(()) };
        let safe: Vec<Kept> = {
            let count = given.iter().take_while(|(at, _)| *at <= now).count();
            given.drain(..count).map(|(_, kept)| kept).collect()
        };
        if lost {
            given.clear();
        }
        safe.into_iter().try_for_each(|kept| self.is_safe(host, kept))
    }

    fn is_safe(&mut self, host: HostIx, kept: Kept) -> Result<(), String> {
        let before = self.holds.insert(host, kept);
        let seen = before.map(|before| before.seen).unwrap_or_default();
        if kept.seen.epoch < seen.epoch {
            return Err(format!("the stamp on the disk of {} fell to {}", host.0, kept.seen));
        }
        let founding = before.map(|before| before.founding).unwrap_or_default();
        if kept.founding < founding {
            let (host, number) = (host.0, kept.founding.0);
            return Err(format!("the founding number on the disk of {host} fell to {number}"));
        }
        let voted = before.and_then(|before| before.voter).map(|(_, raft)| raft);
        let votes = kept.voter.map(|(_, raft)| raft);
        if let Some(raft) = voted.filter(|voted| Some(*voted) != votes) {
            self.let_go.insert(raft);
        }
        let Some((lineage, raft)) = kept.voter else { return Ok(()) };
        if self.let_go.contains(&raft) {
            return Err(format!("{} votes again as {raft}, which it let go of", host.0));
        }
        let owner = *self.owners.entry(raft).or_insert((host, lineage));
        if owner != (host, lineage) {
            return Err(format!("{} votes as {raft}, which is another's", host.0));
        }
        Ok(())
    }

    /// A process starts with what its disk gives back.
    pub(crate) fn starts(
        &mut self,
        now: Time,
        host: HostIx,
        kept: Option<Kept>,
    ) -> Result<(), String> {
        // Only power takes what was given to a disk, and that was said.
        self.settle(now.max(Time::NEVER), host, false)?;
        let before = self.holds.get(&host).map(|before| before.seen).unwrap_or_default();
        let seen = kept.map(|kept| kept.seen).unwrap_or_default();
        if seen.epoch < before.epoch {
            return Err(format!("the stamp on the disk of {} fell to {seen}", host.0));
        }
        Ok(())
    }

    /// A disk is lost: what stood on it may never be used again.
    pub(crate) fn wiped(&mut self, host: HostIx) {
        let on_its_way = self.given.remove(&host).unwrap_or_default();
        let kept = self.holds.remove(&host).into_iter();
        let all = kept.chain(on_its_way.into_iter().map(|(_, kept)| kept));
        self.let_go.extend(all.filter_map(|kept| kept.voter).map(|(_, raft)| raft));
    }

    /// Something was decided under a stamp.
    pub(crate) fn decided(&self, stamp: (u64, u64)) -> Result<(), String> {
        if self.held.contains(&stamp) {
            return Ok(());
        }
        Err(format!("acknowledged under the stamp {}/{:x}, which no master held", stamp.0, stamp.1))
    }
}

impl World {
    /// A node was called: what does it say of itself?
    pub(crate) fn watch_node(&mut self, host: HostIx) {
        if self.watch.is_none() {
            return;
        }
        let local = self.host(host).local(self.now);
        let Some(view) = self.host(host).machine().map(|it| it.management(local)) else { return };
        let merging = view.waits.iter().any(|wait| matches!(wait.what, Wait::Merge(_)));
        let lease = |until| self.host(host).global(until);
        let leads = view.flock.filter(|_| view.role == Role::Master).map(|flock| Mastership {
            lineage: flock.lineage,
            generation: flock.generation,
            stamp: (flock.stamp.epoch.0, flock.stamp.fork.0),
            strong: flock.descends,
            founding: flock.founding,
            lease: flock.lease_until.filter(|until| *until > local).map(lease),
            strict: flock.authority.until.map(lease),
        });
        let now = self.now;
        let Some(watch) = &mut self.watch else { return };
        if merging {
            watch.merging.insert(host);
        } else {
            watch.merging.remove(&host);
        }
        let verdict = match leads {
            Some(it) => watch.leads(now, host, it),
            None => {
                watch.follows(host);
                Ok(())
            }
        };
        self.watched(verdict);
    }

    pub(crate) fn watched(&mut self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.fail(Checker::Invariant, what);
        }
    }

    /// A process is gone, with the power or without.
    pub(crate) fn watch_end(&mut self, host: HostIx, power: bool) {
        let now = self.now;
        if let Some(watch) = &mut self.watch {
            watch.follows(host);
            watch.merging.remove(&host);
            let verdict = if power { watch.settle(now, host, true) } else { Ok(()) };
            self.watched(verdict);
        }
    }

    /// A wish was granted: by whom, and is it where it must be?
    pub(crate) fn watch_granted(&mut self, token: u64, granted: &Granted) {
        let Granted::Decided { stamp, outcome, .. } = granted else { return };
        let Some(watch) = &self.watch else { return };
        let mut verdict = watch.decided((stamp.epoch, stamp.fork));
        if matches!(outcome, Outcome::Applied { .. }) {
            verdict = verdict.and_then(|()| self.is_everywhere(token, stamp.fork));
        }
        self.watched(verdict);
    }

    /// Whether what a wish asked for is on the disk of each live member of the sync set. Where its
    /// master is gone already nobody knows the set.
    fn is_everywhere(&self, token: u64, fork: u64) -> Result<(), String> {
        let Some(value) = self.wishes.value_of(token) else { return Ok(()) };
        let set = self.live().find_map(|host| {
            let view = self.node(host)?.management(self.host(host).local(self.now));
            let flock = view.flock.filter(|_| view.role == Role::Master)?;
            (flock.stamp.fork.0 == fork && flock.lease_until.is_some()).then_some(flock.sync_set)
        });
        for member in set.into_iter().flatten() {
            let Some(host) = self.by_id.get(&member).copied() else { continue };
            let here = self.host(host);
            if here.is_live() && !here.disk.managers_hold(self.now, value.as_bytes()) {
                return Err(format!(
                    "{value} is acknowledged and not on the disk of {}, which is in the sync set",
                    host.0
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use skep_managers::{Epoch, ForkId, Stamp};

    use super::*;

    const A: HostIx = HostIx(1);
    const B: HostIx = HostIx(2);

    fn mastership(lineage: u64, lease_ms: u64) -> Mastership {
        Mastership {
            lineage: Lineage(lineage),
            generation: Generation(1),
            stamp: (1, lineage),
            strong: false,
            founding: Founding(1),
            lease: Some(Time::from_millis(lease_ms)),
            strict: None,
        }
    }

    fn kept(epoch: u64, raft: Option<u64>) -> Kept {
        let seen = Stamp { epoch: Epoch(epoch), fork: ForkId(1) };
        let voter = raft.map(|raft| (Lineage(1), RaftId(raft)));
        Kept { seen, voter, founding: Founding(1) }
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn two_that_may_acknowledge_at_once_are_seen() {
        let mut watch = Watch::default();
        watch.leads(at(0), A, mastership(7, 100)).unwrap();
        watch.leads(at(50), B, mastership(8, 200)).unwrap();
        let mut late = Watch::default();
        late.leads(at(0), A, mastership(7, 100)).unwrap();
        late.leads(at(100), B, mastership(7, 200)).unwrap();
        let two = watch.leads(at(99), B, mastership(7, 200)).unwrap_err();
        assert!(two.contains("both hold the lease"), "{two}");
    }

    #[test]
    fn two_that_have_strict_authority_at_once_are_seen() {
        let mut watch = Watch::default();
        let holds = |ms| Mastership { strict: Some(at(ms)), ..mastership(7, 10) };
        watch.leads(at(20), A, holds(100)).unwrap();
        watch.leads(at(60), A, holds(140)).unwrap();
        watch.leads(at(141), B, Mastership { lineage: Lineage(8), ..holds(300) }).unwrap();
        let two = watch.leads(at(299), A, holds(400)).unwrap_err();
        assert!(two.contains("both have strict authority"), "{two}");
        watch.follows(A);
        watch.leads(at(299), B, Mastership { lineage: Lineage(8), ..holds(400) }).unwrap();
    }

    #[test]
    fn a_second_strong_generation_of_a_number_is_seen() {
        let mut watch = Watch::default();
        let strong = |lineage| Mastership { strong: true, ..mastership(lineage, 10) };
        watch.leads(at(0), A, strong(7)).unwrap();
        let next = Mastership { generation: Generation(2), ..strong(8) };
        watch.leads(at(20), B, next).unwrap();
        let two = watch.leads(at(40), A, strong(9)).unwrap_err();
        assert!(two.contains("two strong generations 1"), "{two}");
        let refounded = Mastership { founding: Founding(2), ..strong(9) };
        watch.leads(at(50), A, refounded).unwrap();
    }

    #[test]
    fn two_that_have_strict_authority_under_one_number_are_seen() {
        let mut watch = Watch::default();
        let strict = |lineage, until| Mastership {
            strict: Some(at(until)),
            generation: Generation(lineage),
            strong: true,
            ..mastership(lineage, 10)
        };
        watch.leads(at(0), A, strict(7, 100)).unwrap();
        watch.leads(at(10), A, strict(7, 200)).unwrap();
        let mut refounded = strict(8, 150);
        refounded.founding = Founding(2);
        watch.leads(at(50), B, refounded).unwrap();
        let two = watch.leads(at(199), B, strict(9, 300)).unwrap_err();
        assert!(two.contains("both have strict authority"), "{two}");
        watch.follows(A);
        watch.leads(at(199), B, strict(9, 300)).unwrap();
    }

    #[test]
    fn a_founding_number_that_falls_is_seen() {
        let mut watch = Watch::default();
        watch.given(A, at(1), Kept { founding: Founding(2), ..kept(3, Some(5)) });
        watch.given(A, at(2), kept(3, Some(5)));
        let fell = watch.settle(at(3), A, false).unwrap_err();
        assert!(fell.contains("founding number"), "{fell}");
    }

    #[test]
    fn a_stamp_that_falls_and_a_vote_under_an_old_id_are_seen() {
        let mut watch = Watch::default();
        watch.given(A, at(1), kept(3, Some(5)));
        watch.given(A, at(2), kept(4, Some(5)));
        watch.given(A, at(9), kept(8, Some(6)));
        watch.settle(at(3), A, true).unwrap();
        watch.starts(at(4), A, Some(kept(4, Some(5)))).unwrap();
        assert!(watch.starts(at(4), A, Some(kept(3, Some(5)))).unwrap_err().contains("fell"));
        watch.given(A, at(10), kept(4, Some(6)));
        watch.settle(at(10), A, false).unwrap();
        watch.given(B, at(11), kept(1, Some(6)));
        let two = watch.settle(at(11), B, false).unwrap_err();
        assert!(two.contains("another's"), "{two}");
        watch.given(A, at(12), kept(4, Some(5)));
        let again = watch.settle(at(12), A, false).unwrap_err();
        assert!(again.contains("votes again"), "{again}");
    }

    #[test]
    fn what_no_master_acknowledged_is_seen() {
        let mut watch = Watch::default();
        watch.leads(at(0), A, mastership(7, 10)).unwrap();
        watch.decided((1, 7)).unwrap();
        assert!(watch.decided((2, 7)).unwrap_err().contains("no master held"));
    }
}
