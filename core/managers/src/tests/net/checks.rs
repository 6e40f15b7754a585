//! What must hold of acknowledgements and of configurations after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use skep_base::NodeId;

use super::{Net, local};
use crate::stored::{Image, State};
use crate::*;

impl Net {
    /// What is acknowledged is so by a master, and on the disk of every member of the sync set.
    pub(super) fn check_accepted(&mut self, on: usize, index: u64, strength: Strength) {
        if strength == Strength::Strong {
            self.check_promised(on);
        }
        let machine = self.machine(on);
        let lease = machine.lease(local(self.now, self.hosts[on].drift));
        let mut faults = Vec::new();
        if !machine.is_master() || machine.boot.is_some() || lease.is_none() {
            faults.push(format!("{on} acknowledged {index} as {}", self.role(on)));
        }
        let meta = &machine.group.as_ref().unwrap().meta;
        let (lineage, set) = (meta.lineage, meta.sync.members.clone());
        for member in set.iter().map(host_of) {
            if !self.is_on_disk(member, index) {
                faults.push(format!("{index} is acknowledged, and not on the disk of {member}"));
            }
        }
        self.last_accepted.insert(lineage, index);
        self.faults.append(&mut faults);
    }

    fn is_on_disk(&self, host: usize, index: u64) -> bool {
        let disk = &self.hosts[host].disk;
        let logged = disk.entries.iter().rev().any(|entry| entry.index == index);
        let image = || disk.image.as_ref().and_then(|image| Image::from_bytes(image));
        logged || image().is_some_and(|image| image.index >= index)
    }

    /// What was acknowledged is also on the disk of whoever joins the sync set.
    pub(super) fn check_joined(&mut self, on: usize) {
        let Some(group) = self.machine(on).group.as_ref().filter(|_| self.machine(on).is_master())
        else {
            return;
        };
        let (lineage, set) = (group.meta.lineage, group.meta.sync.members.clone());
        let Some(index) = self.last_accepted.get(&lineage).copied() else { return };
        for member in set.iter().map(host_of) {
            // Who lost its disk, or let go of the history, is in the set until that is seen.
            let kept = self.hosts[member].machine.as_ref().and_then(|it| it.group.as_ref());
            let here = kept.is_some_and(|group| group.meta.lineage == lineage);
            if here && !self.is_on_disk(member, index) {
                self.faults.push(format!("{member} joins the sync set, and lacks {index}"));
            }
        }
    }

    /// What is strong is so while the newest promise of most of the roster is a stamp of its
    /// history.
    fn check_promised(&mut self, on: usize) {
        let meta = &self.machine(on).group.as_ref().unwrap().meta;
        let promised = |node: &NodeId| {
            let state = self.hosts[host_of(node)].disk.state.as_ref();
            let state: Option<State> = state.map(|it| skep_wire::decode("state", it).unwrap());
            state.and_then(|it| it.pledge).is_some_and(|it| it.lineage == meta.lineage)
        };
        let count = meta.roster.iter().filter(|place| promised(&place.node)).count();
        let (roster, lineage) = (meta.roster.len(), meta.lineage);
        if count <= roster / 2 {
            let what = format!("{on} acknowledges as strong, and {count} of {roster} promised it");
            self.faults.push(format!("{what} {lineage:?}"));
        }
    }

    /// At most one history is strong at any instant.
    pub(super) fn check_one_strong(&mut self) {
        let strong = |host: &usize| {
            let machine = self.machine(*host);
            machine.is_strong(local(self.now, self.hosts[*host].drift))
        };
        let strong: Vec<usize> =
            self.up().filter(|host| !self.hosts[*host].paused).filter(strong).collect();
        if strong.len() > 1 {
            self.faults.push(format!("{strong:?} are strong at {}", self.now));
        }
    }

    /// Whoever was demoted is in no later configuration under that id.
    pub(super) fn check_demoted(&mut self, on: usize) {
        let Some(group) = self.hosts[on].machine.as_ref().and_then(|it| it.group.as_ref()) else {
            return;
        };
        let known = self.voters.entry(group.meta.lineage).or_default();
        if group.applied.0 <= known.0 {
            return;
        }
        let now: BTreeSet<RaftId> = group.conf.everybody().collect();
        self.demoted.extend(known.1.difference(&now));
        let again = now.intersection(&self.demoted).next().copied();
        *known = (group.applied.0, now);
        if let Some(raft) = again {
            self.faults.push(format!("{raft} was demoted and is in the configuration again"));
        }
    }

    /// Never an order under a lower stamp after one under a higher, nor one whose stamp would be
    /// forgotten with the power.
    pub(super) fn obeyed(&mut self, on: usize, token: Token) {
        let host = &mut self.hosts[on];
        let Some(stamp) = host.orders.remove(&token.0) else { return };
        if host.obeyed.judge(stamp) != Judgement::Obey {
            self.faults.push(format!("{on} obeys {stamp} after {}", host.obeyed));
        }
        host.obeyed = stamp;
        if host.seen.epoch < stamp.epoch {
            self.faults.push(format!("{on} obeys {stamp}, of which its disk does not know"));
        }
        self.orders.0 += 1;
    }

    /// What must hold after every step.
    pub(super) fn check(&mut self, on: usize) {
        let now = self.now;
        self.check_demoted(on);
        self.check_one_strong();
        if let Some(group) = &self.machine(on).group {
            let raft = group.engine.raft;
            let owner = (on, group.meta.lineage);
            if *self.raft_ids.entry(raft).or_insert(owner) != owner {
                self.faults.push(format!("{on} uses raft id {raft} of another"));
            }
        }
        let mut acknowledging: BTreeMap<(Lineage, Generation), Vec<usize>> = BTreeMap::new();
        for host in self.up().filter(|host| !self.hosts[*host].paused) {
            let machine = self.machine(host);
            if machine.lease(local(now, self.hosts[host].drift)).is_some() {
                let meta = &machine.group.as_ref().unwrap().meta;
                acknowledging.entry((meta.lineage, meta.generation)).or_default().push(host);
            }
        }
        let strict = |host: &usize| {
            let machine = self.machine(*host);
            machine.strict_until(local(now, self.hosts[*host].drift)).is_some()
        };
        // Also one that stands still: what it was about to do it does when it goes on.
        let strict: Vec<usize> = self.up().filter(strict).collect();
        let number = |on: &usize| self.machine(*on).group.as_ref().unwrap().meta.founding;
        let numbers: BTreeSet<Founding> = strict.iter().map(number).collect();
        if strict.len() > numbers.len() {
            self.faults.push(format!("{strict:?} have strict authority at {now}"));
        }
        self.strict_steps += usize::from(!strict.is_empty());
        for (flock, hosts) in acknowledging {
            if hosts.len() > 1 {
                self.faults.push(format!("{hosts:?} may acknowledge in {flock:?} at {now}"));
            }
        }
    }

    /// At the end: nothing that was acknowledged is missing where the flock went on.
    pub(in crate::tests) fn check_kept(&mut self) {
        self.run(Duration::from_millis(500));
        let master = self.master();
        let catalog: BTreeSet<&Bytes> =
            self.hosts[master].catalog.values().map(|entry| &entry.body).collect();
        for (body, by, at) in &self.acknowledged {
            if !catalog.contains(body) {
                let body = String::from_utf8_lossy(body).into_owned();
                self.faults.push(format!("{body:?}, acknowledged by {by} at {at}, is lost"));
            }
        }
        let up: Vec<usize> = self.up().collect();
        for on in up {
            let view = self.view(on);
            let same = self.hosts[on].catalog == self.hosts[master].catalog;
            if matches!(view.role, Role::Backup | Role::Master) && !same {
                self.faults.push(format!("{on} has another catalog than the master {master}"));
            }
        }
    }

    pub(in crate::tests) fn assert_sound(&self) {
        assert!(self.faults.is_empty(), "{}", self.dump());
    }
}

fn host_of(node: &NodeId) -> usize {
    usize::from(node.as_bytes()[0]) - 1
}
