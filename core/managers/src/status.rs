//! What this node shows: its role, its announcement, its listing.

use skep_base::{NodeId, Outbox, Time};

use crate::event::{Eligibility, Event, Output};
use crate::group::Group;
use crate::id::{Lineage, Role, Strength, flock_name};
use crate::machine::{Managers, Node};
use crate::message::{Claim, FlockClaim};
use crate::stored::Place;
use crate::view::{Authority, FlockView, Part, RosterView, Seen, View, Weak};

/// Histories that ended, in one announcement.
const ENDED_TOLD: usize = 8;

impl Managers {
    /// What `skep flock` shows.
    #[must_use]
    pub fn status(&self, now: Time) -> View {
        let flock = match &self.group {
            Some(group) => Some(self.group_view(now, group)),
            None => self.followed_view(now),
        };
        let holding = self.nodes.iter().filter(|(_, known)| {
            let claim = known.claim.as_ref().filter(|_| known.present);
            claim.is_some_and(|claim| claim.holds.is_some())
        });
        let holding = holding.map(|(node, _)| *node).collect();
        let claims = self.nodes.iter().filter_map(|(node, known)| {
            let claim = known.claim.as_ref().filter(|_| known.present)?;
            (claim.eligible == Eligibility::Eligible).then_some(*node)
        });
        let own = (self.me.eligible == Eligibility::Eligible).then_some(self.me.id);
        let mut eligible: Vec<NodeId> = claims.chain(own).collect();
        eligible.sort_unstable();
        eligible.dedup();
        let (waits, seen) = (self.waits_at(now), self.state.seen);
        let others = self.other_flocks(now);
        View { role: self.role, flock, waits, seen, others, holding, eligible }
    }

    /// What of its flock's history comes to this node, and whether it decides: of
    /// [`Managers::status`] what is asked at every step.
    #[must_use]
    pub fn part(&self) -> Part {
        let stamped = self.mastership.as_ref().is_none_or(|mastership| mastership.stamped);
        let group = self.group.as_ref();
        let followed = || self.master_of(self.follow?).map(|(_, flock)| flock);
        let learns = match group {
            _ if self.role != Role::Eligible => false,
            Some(group) => group.learners().contains(&self.me.id),
            None => followed().is_some_and(|flock| flock.learners.contains(&self.me.id)),
        };
        Part {
            role: self.role,
            history: group.map(|group| (group.meta.lineage, group.stamp())),
            decided: stamped && group.is_none_or(|it| it.applied.0 == it.engine.committed()),
            learns,
        }
    }

    fn group_view(&self, now: Time, group: &Group) -> FlockView {
        let master = self.known_master();
        let authority = self.authority(now, group.meta.lineage);
        let leads = self.is_master();
        let strong = if leads { self.is_strong(now) } else { authority.holder.is_some() };
        let heard = master.and_then(|node| self.nodes.get(&node)).and_then(|known| known.heard);
        let place = |place: &Place| {
            let present = place.node == self.me.id
                || self.nodes.get(&place.node).is_some_and(|known| known.present);
            RosterView {
                node: place.node,
                standing: place.standing(),
                resources: place.resources,
                availability: place.availability,
                present,
                witness: place.eligible == Eligibility::Witness,
                held: place.held,
                held_since: self.held_since(place),
                unwell: self.unwell_since(place.node),
                given_up: place.given_up,
                seen: self.seen_of(now, place.node),
            }
        };
        let mut backups = group.voters();
        backups.retain(|node| Some(*node) != master);
        FlockView {
            name: flock_name(group.meta.lineage, group.meta.generation),
            lineage: group.meta.lineage,
            generation: group.meta.generation,
            stamp: group.stamp(),
            term: group.engine.term(),
            strength: if strong { Strength::Strong } else { Strength::Weak },
            weak: (!strong).then(|| self.weakness(now, group)),
            descends: group.meta.strong,
            founding: group.meta.founding,
            parent: group.meta.parent,
            acknowledged: group.meta.acknowledged,
            master,
            heard,
            backups,
            learners: group.learners(),
            sync_set: group.meta.sync.members.clone(),
            roster: group.meta.roster.iter().map(place).collect(),
            committed: group.engine.committed(),
            applied: group.applied.0,
            last: group.engine.last().0,
            sync_version: group.meta.sync.version,
            lease_until: self.lease(now),
            master_since: self.mastership.as_ref().filter(|it| it.stamped).map(|it| it.since),
            authority,
        }
    }

    /// Why what is acknowledged now is weak; asked where it is.
    fn weakness(&self, now: Time, group: &Group) -> Weak {
        match () {
            () if !group.meta.strong && group.meta.founding.0 == 0 => Weak::NoToken,
            () if !self.descends() => Weak::Parted,
            () if !self.is_master() => Weak::Untold,
            () if self.giver.is_some() => Weak::Merging,
            () if self.strict_until(now).is_none() => Weak::NoAuthority,
            () => Weak::Unwitnessed,
        }
    }

    fn held_since(&self, place: &Place) -> Option<Time> {
        let noted = || self.held_since.get(&place.node).copied();
        place.held.then(|| noted().unwrap_or(self.started))
    }

    fn unwell_since(&self, node: NodeId) -> Option<Time> {
        if node == self.me.id {
            return self.unwell;
        }
        self.nodes.get(&node).filter(|known| known.present).and_then(|known| known.unwell)
    }

    fn seen_of(&self, now: Time, node: NodeId) -> Seen {
        let Some(known) = self.nodes.get(&node).filter(|_| node != self.me.id) else {
            return Seen { since: self.started, ..Seen::default() };
        };
        let Node { since, absences, returned, .. } = *known;
        Seen { since, absences, away: known.away(now), returned }
    }

    /// How much of the roster a flock's master has behind it, as it says or as this node knows.
    fn authority(&self, now: Time, lineage: Lineage) -> Authority {
        if let Some(group) = self.group.as_ref().filter(|_| self.is_master()) {
            let (roster, there) = (group.meta.roster.len(), self.roster_there(group));
            let until = self.strict_until(now);
            let holder = until.map(|_| self.me.id);
            return Authority { roster, there, holder, until };
        }
        let said = self.master_of(lineage);
        said.map_or_else(Authority::default, |(master, flock)| Authority {
            roster: usize::from(flock.roster),
            there: usize::from(flock.there),
            holder: flock.strict.then_some(master),
            until: None,
        })
    }

    pub(crate) fn roster_there(&self, group: &Group) -> usize {
        let there = |place: &&Place| {
            place.node == self.me.id
                || self.nodes.get(&place.node).is_some_and(|known| known.present)
        };
        group.meta.roster.iter().filter(there).count()
    }

    /// The flock as its master announces it.
    fn followed_view(&self, now: Time) -> Option<FlockView> {
        let (master, flock) = self.master_of(self.follow?)?;
        let mut backups = flock.managers.clone();
        backups.retain(|node| *node != master);
        let weak = match flock.strong {
            false if flock.founding.0 == 0 => Weak::NoToken,
            false => Weak::Parted,
            true => Weak::Untold,
        };
        Some(FlockView {
            name: flock_name(flock.lineage, flock.generation),
            lineage: flock.lineage,
            generation: flock.generation,
            stamp: flock.stamp,
            term: 0,
            strength: if flock.strict { Strength::Strong } else { Strength::Weak },
            weak: (!flock.strict).then_some(weak),
            descends: flock.strong,
            founding: flock.founding,
            parent: flock.parent,
            acknowledged: flock.acknowledged,
            master: Some(master),
            heard: self.nodes.get(&master).map(|known| known.claimed),
            backups,
            learners: flock.learners.clone(),
            sync_set: flock.sync.clone(),
            roster: Vec::new(),
            committed: 0,
            applied: 0,
            last: 0,
            sync_version: 0,
            lease_until: None,
            master_since: None,
            authority: self.authority(now, flock.lineage),
        })
    }

    /// Who decides now, as far as this node knows.
    #[must_use]
    pub fn known_master(&self) -> Option<NodeId> {
        if self.is_master() {
            return Some(self.me.id);
        }
        match &self.group {
            Some(group) if self.boot.is_none() => {
                let leader = group.engine.leader().and_then(|raft| group.node_of(raft));
                leader.filter(|node| group.meta.master == Some(*node) && *node != self.me.id)
            }
            Some(_) => None,
            None => self.master_of(self.follow?).map(|(node, _)| node),
        }
    }

    /// Tells of a master without a backup, and of the links that are wanted.
    pub(crate) fn tell_links(&mut self, out: &mut Outbox<Output>) {
        let alone = self.group.as_ref().is_some_and(|group| group.voters().len() == 1);
        if let Some(mastership) = self.mastership.as_mut().filter(|it| it.stamped) {
            if alone && !mastership.unprotected {
                out.push(Output::Event(Event::Unprotected));
            }
            mastership.unprotected = alone;
        }
        let wanted = self.wanted_links();
        if wanted != self.pinned {
            self.pinned.clone_from(&wanted);
            out.push(Output::Pin(wanted));
        }
    }

    /// The flock as this node announces it.
    pub(crate) fn flock_claim(&self, now: Time) -> Option<FlockClaim> {
        let Some(group) = &self.group else {
            let flock = self.master_of(self.follow?)?.1;
            let managers = Vec::new();
            let (learners, sync) = (Vec::new(), Vec::new());
            // What only grows or ages is the master's to say: told again by all who follow, each
            // step of it would be flooded once for each of them.
            let (mastership, roster, there, strict) = (0, 0, 0, false);
            let said = FlockClaim { managers, learners, sync, ..flock.clone() };
            return Some(FlockClaim { mastership, roster, there, strict, ..said });
        };
        let master = self.mastership.as_ref().filter(|it| it.stamped);
        let seconds = master.map_or(0, |it| now.since(it.since).as_secs());
        let listed = |list: Vec<NodeId>| if master.is_some() { list } else { Vec::new() };
        Some(FlockClaim {
            lineage: group.meta.lineage,
            fork: group.meta.fork,
            generation: group.meta.generation,
            stamp: group.stamp(),
            strong: group.meta.strong,
            founding: group.meta.founding,
            acknowledged: group.meta.acknowledged,
            rebooted: self.rebooted,
            mastership: u8::try_from(seconds.checked_ilog2().unwrap_or(0)).unwrap_or(u8::MAX),
            parent: group.meta.parent,
            managers: listed(group.voters()),
            learners: listed(group.learners()),
            sync: listed(group.meta.sync.members.clone()),
            roster: master.map_or(0, |_| u8::try_from(group.meta.roster.len()).unwrap_or(u8::MAX)),
            merging: self.giver.is_some(),
            there: master.map_or(0, |_| u8::try_from(self.roster_there(group)).unwrap_or(u8::MAX)),
            strict: self.strict_until(now).is_some(),
        })
    }

    fn claim(&self, now: Time) -> Claim {
        let holding = self.boot.is_some() || self.lonely.is_some() || self.giver.is_some();
        let group = self.group.as_ref().filter(|group| holding && group.is_voter());
        let told = self.state.ended.len().saturating_sub(ENDED_TOLD);
        Claim {
            role: self.role,
            eligible: self.me.eligible,
            resources: self.me.resources,
            well: self.well && self.disk.failed.is_none(),
            flock: self.flock_claim(now),
            holds: group.map(|group| (group.meta.lineage, group.meta.generation)),
            seen: self.state.seen,
            ended: self.state.ended[told..].to_vec(),
        }
    }

    pub(crate) fn announce(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.me.eligible == Eligibility::No && self.group.is_none() {
            return;
        }
        let claim = self.claim(now);
        let stamp = claim.flock.as_ref().filter(|_| claim.role == Role::Master);
        let stamp = stamp.map(|flock| flock.stamp);
        let body = claim.to_bytes();
        if self.announced.as_ref() == Some(&body) {
            self.announce_due = None;
            return;
        }
        let due = self.announced_at.map_or(now, |at| at + self.config.announce_every);
        // Everybody waits for a master; and there are no more of them than elections.
        let awaited = stamp.is_some() && stamp != self.announced_stamp;
        if now < due && !awaited {
            self.announce_due = Some(due);
            return;
        }
        self.announced_stamp = stamp.or(self.announced_stamp);
        self.announce_due = None;
        self.announced_at = Some(now);
        self.announced = Some(body.clone());
        out.push(Output::Announce { body });
    }
}
