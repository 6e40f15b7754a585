//! The fence: which orders this node carries out, and under which stamp its own are given.
//!
//! Every order (a topology, a wave) carries the stamp of the flock that it is given in. A node
//! keeps the highest stamp that it saw on disk, before it acts, and refuses what is lower, what is
//! equal and of another fork, and what is further ahead than [`crate::Epoch::MAX_JUMP`]. So nothing
//! that was decided before an election, a fork or a merge is carried out after what follows it.
//! Whoever refuses an order of its own flock tells the master, which then decides a stamp above the
//! refuser's: nobody refuses for ever.

use std::time::Duration;

use skep_base::{Outbox, Time};

use crate::disk::After;
use crate::event::{Output, Token};
use crate::group::Group;
use crate::id::{Judgement, Role, Stamp};
use crate::machine::Managers;
use crate::merge::order;
use crate::message::Message;
use crate::stored::Write;

/// Between two epochs that a master decides because it was refused: a liar costs no more than that.
const BUMP_AGAIN: Duration = Duration::from_secs(1);

impl Managers {
    /// The highest stamp that this node saw; nothing where it never saw one.
    #[must_use]
    pub fn seen(&self) -> Option<Stamp> {
        Some(self.state.seen).filter(|seen| seen.epoch.0 > 0)
    }

    /// The stamp that an order of this node carries: that of the flock that it manages or follows.
    #[must_use]
    pub fn order_stamp(&self) -> Option<Stamp> {
        match &self.group {
            Some(group) => Some(group.stamp()).filter(|_| group.meta.master.is_some()),
            None => self.follow.and_then(|lineage| Some(self.master_of(lineage)?.1.stamp)),
        }
    }

    /// An order under `stamp`: it is carried out when that is on disk, or refused.
    pub(crate) fn ordered(
        &mut self,
        now: Time,
        token: Token,
        stamp: Stamp,
        out: &mut Outbox<Output>,
    ) {
        let judgement = self.state.seen.judge(stamp);
        #[cfg(test)]
        let planted = crate::plant::is(crate::plant::Bug::NoFence);
        #[cfg(test)]
        let judgement = if planted { Judgement::Obey } else { judgement };
        if judgement != Judgement::Obey {
            out.push(Output::Disobeyed { token, seen: self.state.seen });
            return self.tell_refused(now, stamp, out);
        }
        if stamp.epoch > self.state.seen.epoch {
            self.state.seen = stamp;
            self.saw_epoch(stamp.epoch);
            self.state_changed = true;
        }
        #[cfg(test)]
        if crate::plant::is(crate::plant::Bug::ForgetfulFence) {
            return out.push(Output::Obeyed { token });
        }
        let after = After::Obey(token);
        if self.state_changed {
            self.write(Write::default(), vec![after], out);
        } else if self.disk.behind(after).is_some() {
            out.push(Output::Obeyed { token });
        }
    }

    /// Tells the master of the order's flock, if that is this node's, what was seen here. An order
    /// of another flock is refused in silence: where the two meet they merge, and decide a higher
    /// stamp then.
    fn tell_refused(&mut self, now: Time, order: Stamp, out: &mut Outbox<Output>) {
        let ours = match &self.group {
            Some(group) => Some((group.meta.lineage, group.meta.fork)),
            None => self.follow.and_then(|it| Some((it, self.master_of(it)?.1.fork))),
        };
        let Some((lineage, fork)) = ours else { return };
        if fork != order.fork || order.epoch > self.state.seen.epoch {
            return;
        }
        let seen = self.state.seen;
        if self.is_master() {
            self.stamp_refused(now, seen);
        } else if let Some(master) = self.known_master() {
            self.send(master, &Message::OrderRefused { lineage, seen }, out);
        }
    }

    /// Nodes of this master's flock may have seen a stamp that its own does not pass, of a flock
    /// that ended with nothing to hand over: they would refuse all that comes under this one. What
    /// they announce says so. Not everybody announces: so the last stamp of a flock that leads no
    /// merge with this one is remembered until it is gone.
    pub(crate) fn pass_what_was_seen(&mut self, now: Time) {
        let (Some(ours), Some(group)) = (self.flock_claim(now), &self.group) else {
            return;
        };
        let stamp = group.stamp();
        let refuses = |seen: &Stamp| {
            seen.judge(stamp) == Judgement::Refuse && stamp.judge(*seen) != Judgement::TooFar
        };
        let (mut seen, mut met) = (Vec::new(), self.met);
        for claim in self.nodes.values().filter(|it| it.present).filter_map(|it| it.claim.as_ref())
        {
            let Some(flock) = &claim.flock else { continue };
            if flock.lineage == ours.lineage {
                let ended = claim.ended.iter().any(|(_, into)| *into == ours.lineage);
                seen.extend(Some(claim.seen).filter(|_| ended));
            } else if claim.role == Role::Master && order(flock) < order(&ours) {
                met = Some(flock.stamp).filter(refuses).or(met);
            }
        }
        self.met = met.filter(refuses);
        let there = |met: &Stamp| self.masters().any(|(_, flock)| flock.fork == met.fork);
        seen.extend(self.met.filter(|met| !there(met)));
        #[cfg(test)]
        if crate::plant::is(crate::plant::Bug::PassesNobody) {
            return;
        }
        if let Some(seen) = seen.into_iter().filter(refuses).max_by_key(|seen| seen.epoch) {
            self.stamp_refused(now, seen);
        }
    }

    /// A host has seen a stamp that this master's does not pass: the next is above both.
    pub(crate) fn stamp_refused(&mut self, now: Time, seen: Stamp) {
        self.saw_epoch(seen.epoch);
        // A flock that is there will merge with this one, which ends with a higher stamp; until
        // then the two would only drive each other up.
        let theirs = self.masters().any(|(_, flock)| flock.fork == seen.fork);
        let ours = self.group.as_ref().map(Group::stamp);
        let passed = ours.is_none_or(|ours| ours.epoch > seen.epoch || ours == seen);
        if passed || (theirs && ours.is_some_and(|ours| ours.fork != seen.fork)) {
            return;
        }
        let Some(mastership) = &mut self.mastership else {
            return;
        };
        if mastership.refused.is_none_or(|at| now.since(at) >= BUMP_AGAIN) {
            mastership.refused = Some(now);
            mastership.bump = true;
        } else {
            // Whoever told of it may not tell again: it is passed when the next stamp is due.
            self.met = self.met.filter(|met| met.epoch >= seen.epoch).or(Some(seen));
        }
    }
}
