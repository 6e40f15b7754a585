//! What it would mean for this node to found the next generation by an operator's word: what it
//! holds, what may be missing from that, and what a better copy would need.

use skep_base::{NodeId, NodeName};
use skep_control::api::{Recovery, SyncMember};
use skep_managers::{FlockView, Role, View};

use crate::spine::Spine;

impl Spine {
    /// For the person who decides.
    pub(crate) fn flock_recovery(&self) -> Recovery {
        let view = self.node.management(self.clock.now());
        let name = |node: NodeId| self.name_of(node);
        let generation = view.flock.as_ref().map_or(0, |flock| flock.generation.0) + 1;
        let mut recovery = Recovery {
            node: self.identity.current().info().node.clone(),
            refused: self.not_to_recover(&view),
            holds: String::new(),
            place: 0,
            generation,
            sync_set: Vec::new(),
            may_be_lost: Vec::new(),
            better: Vec::new(),
        };
        match view.flock.as_ref().filter(|flock| flock.term > 0) {
            Some(flock) => self.with_log(flock, &mut recovery),
            None => self.with_copy(&mut recovery),
        }
        let holding: Vec<String> = view.holding.iter().map(|node| name(*node)).collect();
        if !holding.is_empty() {
            recovery.better.push(format!(
                "{} hold(s) a log as well: compare `skep flock recover` there, and recover where \
                 the log goes furthest",
                holding.join(", ")
            ));
        }
        recovery.may_be_lost.push(
            "nothing that others still have on their disks: when they are back, what they hold \
             beyond this is applied or stands in `skep catalog conflicts`"
                .to_owned(),
        );
        recovery
    }

    fn not_to_recover(&self, view: &View) -> Option<String> {
        let me = self.node.id();
        match (view.role, view.flock.as_ref().and_then(|flock| flock.master)) {
            (Role::Master, _) => Some("this node is the master already".to_owned()),
            (_, Some(master)) if master != me => {
                Some(format!("the flock has a master: {}", self.name_of(master)))
            }
            (Role::Host, _) => {
                Some("this node may not manage: see `[managers] eligible`".to_owned())
            }
            _ => None,
        }
    }

    fn with_log(&self, flock: &FlockView, recovery: &mut Recovery) {
        let me = self.node.id();
        let is_here = |node: NodeId| node == me || self.node.present().binary_search(&node).is_ok();
        recovery.place = flock.last;
        recovery.holds = format!(
            "the managers' log of flock {}, generation {}, to place {}, of which {} is decided",
            flock.name, flock.generation.0, flock.last, flock.committed
        );
        let member = |node: &NodeId| {
            let name: NodeName = self.name_of(*node).parse().ok()?;
            Some(SyncMember { node: name, present: is_here(*node) })
        };
        recovery.sync_set = flock.sync_set.iter().filter_map(member).collect();
        let others: Vec<&NodeId> = flock.sync_set.iter().filter(|node| **node != me).collect();
        let names = |nodes: &[&NodeId]| {
            nodes.iter().map(|node| self.name_of(**node)).collect::<Vec<_>>().join(", ")
        };
        if flock.sync_set.contains(&me) {
            recovery.may_be_lost.push(format!(
                "what was acknowledged after this node left the sync set, if it did: it knows of \
                 version {} of the set, in which it is, and of none after",
                flock.sync_version
            ));
        } else {
            recovery.may_be_lost.push(format!(
                "every write that was acknowledged since this node left the sync set: those are \
                 on the disks of {}",
                names(&others)
            ));
        }
        if flock.last > flock.committed {
            recovery.may_be_lost.push(format!(
                "nothing of the {} places after {}, though nobody may have been told that they \
                 are decided: they are taken as if they were",
                flock.last - flock.committed,
                flock.committed
            ));
        }
        let absent: Vec<&NodeId> = others.into_iter().filter(|node| !is_here(**node)).collect();
        if !absent.is_empty() {
            recovery.better.push(format!(
                "the disk of one of {}: start its agent, and the flock goes on by itself with all \
                 that was acknowledged",
                names(&absent)
            ));
        }
    }

    fn with_copy(&self, recovery: &mut Recovery) {
        let replica = self.node.catalog();
        let index = replica.catalog().index();
        recovery.place = index;
        if index == 0 {
            recovery.holds = "no catalog: it would found an empty one".to_owned();
            recovery.may_be_lost.push("every entry of the catalog".to_owned());
        } else {
            let entries = replica.catalog().entries().len();
            recovery.holds =
                format!("a copy of the catalog as of index {index}, with {entries} entries");
            recovery.may_be_lost.push(format!(
                "every write that was decided after index {index}, as far as none of it came here"
            ));
        }
        recovery.better.push(
            "the disk of a manager: start the agent of one, and it says in `skep flock` what it \
             waits for"
                .to_owned(),
        );
    }
}
