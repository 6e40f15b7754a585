//! Nodes that may manage no more: those that the catalog expels, those whose certificate or
//! configuration does not say any more that they may, and those that an operator holds. They leave
//! office in an orderly way: another takes the place of who may not, whoever is master by then, and
//! who is expelled goes whether there is another or not.

use skep_base::{NodeId, Time};

use crate::event::Eligibility;
use crate::machine::Managers;
use crate::stored::Record;

/// Why an expelled manager leaves. Its place may stay empty: whoever is expelled is trusted with
/// nothing, so it is no better than nobody.
pub(crate) const EXPELLED: &str = "it is expelled";
/// Until it is released. It stays on the roster, where the hold is kept.
const HELD: &str = "an operator holds it";
const NOT_ELIGIBLE: &str = "it is not eligible any more";

impl Managers {
    /// Why a manager of this flock shall be one no more, whoever else is there.
    pub(crate) fn unwanted(&self, node: NodeId) -> Option<&'static str> {
        if self.expelled.contains(&node) {
            return Some(EXPELLED);
        }
        let group = self.group.as_ref()?;
        let place = group.meta.roster.iter().find(|place| place.node == node)?;
        if place.eligible != Eligibility::Eligible {
            return Some(NOT_ELIGIBLE);
        }
        place.held.then_some(HELD)
    }

    /// A node is not held, or not any more: on its way out for that alone it stays.
    pub(crate) fn stays_in_office(&mut self, node: NodeId) {
        if let Some(mastership) = &mut self.mastership
            && mastership.demote.get(&node) == Some(&HELD)
        {
            mastership.demote.remove(&node);
        }
    }

    /// A master that should be none hands over, as soon as there is a backup that may be one.
    pub(crate) fn give_way(&mut self, now: Time) {
        let may = self.me.eligible == Eligibility::Eligible;
        let me = self.me.id;
        let places = self.group.as_ref().map_or(&[][..], |group| &group.meta.roster);
        let held = places.iter().any(|place| place.node == me && place.held);
        let wanted = may && self.well && !held && !self.expelled.contains(&me);
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
