//! Who stands where on the roster (DVM-11, 12, 14), and a better standing that takes a backup's
//! place.
//!
//! A standing is resources × availability. Resources are what a node says of itself, in steps of a
//! tenth. Availability is a record that decays: whoever was there for the whole of a stay gains a
//! little, whoever was away loses in proportion to how long, whoever was replaced loses half. Both
//! are written down at most once a stay.
//!
//! A node that stands clearly better than the lowest backup for long enough takes its office; only
//! in a calm flock, one at a time, never the master's, and of nobody who came into office lately.
//! So loads that come and go move nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::{NodeId, Time};

use crate::config::{MANAGERS, MAX_ROSTER};
use crate::event::Eligibility;
use crate::group::Group;
use crate::id::{RaftId, Role};
use crate::machine::{Managers, Node};
use crate::stored::Place;

/// By so much, of 1000, a standing must be higher to be clearly better. More than a step of
/// resources, so that no single step of a node's load makes it so.
pub(crate) const CLEARLY_BETTER: u16 = 150;
/// Why a backup leaves that did nothing wrong: its availability stays what it is.
pub(crate) const OUTRANKED: &str = "another stands clearly better";
/// Who does not catch up within this is no better manager; it may try again after a stay.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(60);
/// Resources move by this much, of 1000, before the roster is told.
const RESOURCE_STEP: u16 = 100;
/// What a node's availability gains in each stay that it was there, of 1000.
const AVAILABILITY_STEP: u16 = 50;
/// A stay with any absence costs at least so many thousandths of a whole absent one.
const LEAST_ABSENCE: u128 = 100;

/// A node that stands clearly better than a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    node: NodeId,
    since: Time,
}

/// What a master knows of places.
#[derive(Debug, Default)]
pub(crate) struct Standings {
    /// When a place was last weighed, and how long its node had been away in all by then.
    weighed: BTreeMap<NodeId, (Time, Duration)>,
    /// Since when each manager is one, as far as this master saw.
    in_office: BTreeMap<NodeId, Time>,
    contender: Option<Contender>,
}

impl Standings {
    pub(crate) fn weigh(&mut self, node: NodeId, now: Time, away: Duration) {
        if self.weighed.len() > MAX_ROSTER * 4 {
            self.weighed.clear();
        }
        self.weighed.insert(node, (now, away));
    }

    pub(crate) fn in_office_since(&self, node: NodeId) -> Option<Time> {
        self.in_office.get(&node).copied()
    }
}

impl Node {
    /// How long it was away since this process first heard of it, and is.
    pub(crate) fn away(&self, now: Time) -> Duration {
        let now_away = if self.present { Duration::ZERO } else { now.since(self.since) };
        self.away + now_away
    }
}

impl Managers {
    /// Looks whether some node stands clearly better than a backup, and for how long.
    pub(crate) fn watch_standings(&mut self, now: Time) {
        let lowest = self.lowest_backup(now);
        let held = self.mastership.as_ref().and_then(|it| it.standings.contender);
        let longest = self.config.better_for.max(self.config.min_stay) + CATCH_UP_PATIENCE;
        let goes_on = |it: &Contender| {
            now.since(it.since) < longest && lowest.is_some_and(|over| self.outranks(it.node, over))
        };
        let contender = held.filter(goes_on).or_else(|| {
            let node = self.best_free(lowest?)?;
            Some(Contender { node, since: now })
        });
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        let voters = group.voters();
        let standings = &mut mastership.standings;
        standings.contender = contender;
        standings.in_office.retain(|node, _| voters.contains(node));
        for node in voters {
            standings.in_office.entry(node).or_insert(now);
        }
        // What a node was away before this master's first look is not this master's to count.
        for node in group.meta.roster.iter().map(|place| place.node) {
            let away = self.nodes.get(&node).map_or(Duration::ZERO, |known| known.away(now));
            standings.weighed.entry(node).or_insert((now, away));
        }
    }

    /// The backup that stands lowest, in a calm flock.
    fn lowest_backup(&self, now: Time) -> Option<NodeId> {
        let (group, mastership) = (self.group.as_ref()?, self.mastership.as_ref()?);
        let voters = group.voters();
        let there = |node: &NodeId| {
            let known = self.nodes.get(node);
            *node == self.me.id || known.is_some_and(|it| it.present)
        };
        let calm = voters.len() == MANAGERS
            && group.conf.outgoing.is_empty()
            && voters.iter().all(there)
            && voters.iter().all(|node| group.meta.sync.members.contains(node))
            && mastership.is_calm()
            && self.may_change_roster(now);
        let backups = voters.into_iter().filter(|node| calm && *node != self.me.id);
        backups.min_by_key(|node| (self.standing_of(*node), std::cmp::Reverse(*node)))
    }

    pub(crate) fn standing_of(&self, node: NodeId) -> u16 {
        let roster = self.group.as_ref().map_or(&[][..], |group| &group.meta.roster);
        roster.iter().find(|place| place.node == node).map_or(0, Place::standing)
    }

    /// The lowest and the highest that a node's standing is by what the roster says of its
    /// resources and by what it says now: a load of a moment may stand on the roster for a stay.
    fn range(&self, node: NodeId) -> (u16, u16) {
        let roster = self.group.as_ref().map_or(&[][..], |group| &group.meta.roster);
        let Some(place) = roster.iter().find(|place| place.node == node) else {
            return (0, 0);
        };
        let said = self.nodes.get(&node).map_or(place.resources, |known| known.resources);
        let now = Place { resources: said, ..*place }.standing();
        let noted = place.standing();
        (noted.min(now), noted.max(now))
    }

    /// Whether a node that is no manager, and may be one now, stands clearly better than a backup.
    fn outranks(&self, node: NodeId, over: NodeId) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let claim = self.nodes.get(&node).and_then(|known| known.claim.as_ref());
        let follows = claim.filter(|claim| claim.role == Role::Eligible);
        let flock = follows.and_then(|claim| claim.flock.as_ref());
        let ours = flock.is_some_and(|flock| flock.lineage == group.meta.lineage);
        let enough = self.range(over).1.saturating_add(CLEARLY_BETTER);
        ours && self.range(node).0 >= enough
            && !group.voters().contains(&node)
            && self.is_fit(group, node)
    }

    /// The best of those that outrank a backup.
    fn best_free(&self, over: NodeId) -> Option<NodeId> {
        let places = self.group.as_ref()?.meta.roster.iter();
        places
            .map(|place| place.node)
            .filter(|node| self.outranks(*node, over))
            .max_by_key(|node| (self.standing_of(*node), std::cmp::Reverse(*node)))
    }

    /// Who may take whose office now: it stood clearly better for long enough, and the other was
    /// in office for long enough.
    pub(crate) fn outranked(&self, now: Time) -> Option<(NodeId, NodeId)> {
        let standings = &self.mastership.as_ref()?.standings;
        let Contender { node, since } = standings.contender?;
        if now.since(since) < self.config.better_for {
            return None;
        }
        let over = self.lowest_backup(now)?;
        let stayed = now.since(*standings.in_office.get(&over)?) >= self.config.min_stay;
        stayed.then_some((node, over))
    }

    /// The office that a better node takes, once that has caught up.
    pub(crate) fn better_takes(
        &self,
        now: Time,
        ready: &[(RaftId, NodeId)],
    ) -> Option<(NodeId, (RaftId, NodeId))> {
        let (node, over) = self.outranked(now)?;
        let joins = ready.iter().find(|(_, learner)| *learner == node)?;
        Some((over, *joins))
    }

    /// A place that differs from what is seen of its node, or a node that has none; and how long
    /// that was away.
    pub(crate) fn next_place(&self, now: Time, group: &Group) -> Option<(Place, Duration)> {
        for place in &group.meta.roster {
            let next = self.weighed(now, place);
            if next.0 != *place {
                return Some(next);
            }
        }
        if group.meta.roster.len() >= MAX_ROSTER || !self.may_change_roster(now) {
            return None;
        }
        let listed = |node: &NodeId| group.meta.roster.iter().any(|place| place.node == *node);
        let new = self.nodes.iter().find(|(node, known)| {
            let follows = known.claim.as_ref().and_then(|claim| claim.flock.as_ref());
            known.present
                && known.eligible != Eligibility::No
                && follows.is_some_and(|flock| flock.lineage == group.meta.lineage)
                && !listed(node)
                && !self.expelled.contains(node)
        });
        new.map(|(node, known)| {
            let place = Place {
                node: *node,
                eligible: known.eligible,
                resources: known.resources,
                availability: 500,
                held: false,
                given_up: false,
            };
            (place, known.away(now))
        })
    }

    /// A place as it should be by what is seen of its node.
    fn weighed(&self, now: Time, place: &Place) -> (Place, Duration) {
        let mut next = *place;
        let Some(mastership) = &self.mastership else {
            return (next, Duration::ZERO);
        };
        let me = place.node == self.me.id;
        let known = self.nodes.get(&place.node).filter(|_| !me);
        if !me && known.is_none() {
            return (next, Duration::ZERO);
        }
        let present = known.is_none_or(|known| known.present);
        let away = known.map_or(Duration::ZERO, |known| known.away(now));
        let weighed = mastership.standings.weighed.get(&place.node).copied();
        let (at, away_then) = weighed.unwrap_or((now, away));
        let stayed = now.since(at) >= self.config.min_stay;
        if let Some(known) = known {
            next.given_up = !present && now.since(known.since) >= self.config.given_up;
        }
        if present {
            let said = known.map_or(self.me.eligible, |known| known.eligible);
            next.eligible = said.max(Eligibility::Witness);
            let resources = known.map_or(self.me.resources, |known| known.resources);
            if stayed && resources.abs_diff(place.resources) >= RESOURCE_STEP {
                next.resources = resources;
            }
        }
        if stayed {
            let missed = away.saturating_sub(away_then);
            next.availability = decayed(place.availability, missed, now.since(at));
        }
        (next, away)
    }
}

/// A record of availability after one more stay, of which its node missed so much. A whole one that
/// was missed costs a quarter, one that was not adds a little.
fn decayed(availability: u16, missed: Duration, stay: Duration) -> u16 {
    if missed.is_zero() {
        return availability.saturating_add(AVAILABILITY_STEP).min(1000);
    }
    let share = missed.as_millis() * 1000 / stay.as_millis().max(1);
    let share = share.clamp(LEAST_ABSENCE, 1000);
    let kept = u128::from(availability) * (4000 - share) / 4000;
    u16::try_from(kept).unwrap_or(availability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dvm_12_availability_grows_slowly_and_falls_with_what_was_missed() {
        let stay = Duration::from_secs(600);
        assert_eq!(decayed(500, Duration::ZERO, stay), 550);
        assert_eq!(decayed(980, Duration::ZERO, stay), 1000);
        assert_eq!(decayed(1000, stay, stay), 750, "a whole stay costs a quarter");
        assert_eq!(decayed(1000, stay / 2, stay), 875);
        let blink = Duration::from_secs(1);
        assert_eq!(decayed(1000, blink, stay), 975, "any absence is one");
        assert!(decayed(1000, blink, stay) < decayed(1000, Duration::ZERO, stay));
        let mut record = 1000;
        for _ in 0..40 {
            record = decayed(record, stay, stay);
        }
        assert!(record < 10, "{record}: who never comes back stands nowhere");
    }

    #[test]
    fn who_comes_and_goes_all_the_time_ends_below_who_stays() {
        let stay = Duration::from_secs(600);
        let (mut flaps, mut stays) = (500, 500);
        for _ in 0..50 {
            flaps = decayed(flaps, Duration::from_secs(10), stay);
            stays = decayed(stays, Duration::ZERO, stay);
        }
        assert_eq!(stays, 1000);
        assert!(flaps < 250, "{flaps}");
    }
}
