//! Nodes that may manage no more: those that the catalog expels, and those whose certificate or
//! configuration does not say any more that they may. They leave office in an orderly way: another
//! takes the place of who may not, and who is expelled goes whether there is another or not.

use skep_base::{NodeId, Time};

use crate::event::Eligibility;
use crate::machine::Managers;
use crate::stored::Record;

/// Why an expelled manager leaves. Its place may stay empty: whoever is expelled is trusted with
/// nothing, so it is no better than nobody.
pub(crate) const EXPELLED: &str = "it is expelled";
const NOT_ELIGIBLE: &str = "it is not eligible any more";

impl Managers {
    /// Why a manager of this flock shall be one no more, whoever else is there.
    pub(crate) fn unwanted(&self, node: NodeId) -> Option<&'static str> {
        if self.expelled.contains(&node) {
            return Some(EXPELLED);
        }
        let group = self.group.as_ref()?;
        let place = group.meta.roster.iter().find(|place| place.node == node)?;
        (place.eligible != Eligibility::Eligible).then_some(NOT_ELIGIBLE)
    }

    /// A master that should be none hands over, as soon as there is a backup that may be one.
    pub(crate) fn give_way(&mut self, now: Time) {
        let may = self.me.eligible == Eligibility::Eligible;
        let wanted = may && self.well && !self.expelled.contains(&self.me.id);
        if let Some(to) = self.best_backup().filter(|_| !wanted) {
            self.transfer(now, to, None);
        }
    }

    /// Takes a node that manages nothing, and is expelled or may be nothing any more, off the
    /// roster. Whether there was one.
    pub(crate) fn forget_outcast(&mut self, now: Time) -> bool {
        if !self.may_change_roster(now) {
            return false;
        }
        let Some(group) = &mut self.group else {
            return false;
        };
        let none = |node: &NodeId| {
            let known = self.nodes.get(node);
            known.is_some_and(|it| it.present && it.eligible == Eligibility::No)
        };
        let gone = group.meta.roster.iter().map(|place| place.node).find(|node| {
            let out = self.expelled.contains(node) || none(node);
            out && group.raft_of(*node).is_none() && *node != self.me.id
        });
        let Some(node) = gone else {
            return false;
        };
        let place = group.engine.propose(&Record::RosterGone(node));
        if let Some(mastership) = &mut self.mastership {
            mastership.roster_proposed = place;
        }
        true
    }
}
