//! What must hold of acknowledgements and of configurations after every step.

use std::collections::BTreeSet;

use super::{Net, local};
use crate::RaftId;
use crate::stored::Image;

impl Net {
    /// What is acknowledged is so by a master, and on the disk of every member of the sync set.
    pub(super) fn check_accepted(&mut self, on: usize, index: u64) {
        let machine = self.machine(on);
        let lease = machine.lease(local(self.now, self.hosts[on].drift));
        let mut faults = Vec::new();
        if !machine.is_master() || machine.boot.is_some() || lease.is_none() {
            faults.push(format!("{on} acknowledged {index} as {}", self.role(on)));
        }
        let set = machine.group.as_ref().unwrap().meta.sync.members.clone();
        for member in set.iter().map(|node| usize::from(node.as_bytes()[0]) - 1) {
            let disk = &self.hosts[member].disk;
            let logged = disk.entries.iter().rev().any(|entry| entry.index == index);
            let image = || disk.image.as_ref().and_then(|image| Image::from_bytes(image));
            if !logged && image().is_none_or(|image| image.index < index) {
                faults.push(format!("{index} is acknowledged, and not on the disk of {member}"));
            }
        }
        self.faults.append(&mut faults);
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
}
