//! The node's name and life: which incarnation it takes, and what it does when another live process
//! has its name.
//!
//! Before it publishes anything a node compares records with one peer, to learn which incarnations
//! of itself are known: it takes one above all. If a present watcher hears *another process* of its
//! name, nobody jumps: the one that was present first keeps the name, the other publishes nothing
//! until the name is free (architecture, section 2, "Incarnation").

use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Incarnation, NodeId, Outbox, Time};

use crate::event::{Goodbye, Output};
use crate::facts::{NodeFacts, Verdict, Watch};
use crate::machine::Membership;

/// A node that is linked and cannot complete an exchange publishes after this long all the same.
const UNSYNCED_AFTER: Duration = Duration::from_secs(3);
/// How long the word of one peer that the name is taken counts.
const TOLD_COUNTS: Duration = Duration::from_secs(2);

/// A second process of a name is spoken of for this long after it was last met; it knocks again
/// every few seconds.
pub(crate) const CONTEST_LASTS: Duration = Duration::from_secs(15);

/// Another live process has this node's name, which this node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contest {
    /// Since when it is known.
    pub since: Time,
    /// Who met it last; this node itself, where it was dialled by it.
    pub by: NodeId,
    last: Time,
}

/// Where a node is on its way to publishing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// It looks around first.
    Joining {
        /// Since when another live process is seen.
        contested_since: Option<Time>,
        /// When a peer last said that the name is taken.
        told_at: Option<Time>,
    },
    /// It publishes as this life.
    Begun { incarnation: Incarnation },
    /// The name is taken, and this was reported.
    Taken { told_at: Option<Time> },
}

impl Membership {
    pub(crate) fn next_incarnation(&self) -> Incarnation {
        let own = self.members.get(self.me.id).map_or(Incarnation::default(), |me| me.incarnation);
        own.max(self.me.stored).next()
    }

    pub(crate) fn told_name_is_taken(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Joining { told_at, .. } | Phase::Taken { told_at } => *told_at = Some(now),
            Phase::Begun { .. } => {}
        }
    }

    /// Another live process has this node's name, and this node was there first.
    pub(crate) fn met_second_process(&mut self, now: Time, by: NodeId, out: &mut Outbox<Output>) {
        if !self.has_begun() {
            return;
        }
        let known = self.contested(now);
        if known.is_none() {
            out.push(Output::NameContested { by });
        }
        let since = known.map_or(now, |contest| contest.since);
        self.contest = Some(Contest { since, by, last: now });
    }

    /// Whether another live process has this node's name, as far as anybody told within the last
    /// seconds.
    #[must_use]
    pub fn contested(&self, now: Time) -> Option<Contest> {
        self.contest.filter(|contest| now.since(contest.last) < CONTEST_LASTS)
    }

    /// Notes whether a watcher hears another process of this node's name.
    pub(crate) fn note_hears_another(&mut self, now: Time, watcher: NodeId, watch: &Watch) {
        let (me, nonce) = (self.me.id, self.my_short_nonce());
        let another = watch
            .edges
            .iter()
            .any(|edge| edge.node == me && edge.nonce != nonce && edge.verdict != Verdict::Silent);
        if another && watcher != me {
            self.hears_another.entry(watcher).or_insert(now);
        } else {
            self.hears_another.remove(&watcher);
        }
    }

    pub(crate) fn foreign_self(
        &mut self,
        now: Time,
        incarnation: Incarnation,
        facts: Option<NodeFacts>,
        out: &mut Outbox<Output>,
    ) {
        if incarnation.0.saturating_sub(self.me.stored.0) > Incarnation::MAX_JUMP {
            return;
        }
        let nonce = self.my_short_nonce();
        let alive = self.foreign_watcher(nonce);
        let first = facts
            .is_none_or(|facts| (self.me.started, self.me.nonce) <= (facts.started, facts.nonce));
        if let Some(me) = self.members.get_mut(self.me.id) {
            me.incarnation = me.incarnation.max(incarnation);
            self.beats_changed = true;
        }
        if let Phase::Begun { incarnation: ours } = self.phase
            && incarnation >= ours
        {
            if alive && !first {
                self.yield_name(out);
            } else {
                self.begin(now, out);
            }
        }
    }

    /// Begins, waits, or gives the name up.
    pub(crate) fn consider_name(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.has_begun() {
            return;
        }
        let counts = |told_at: Option<Time>| told_at.filter(|at| now.since(*at) < TOLD_COUNTS);
        let foreign = self.foreign_watcher(self.my_short_nonce());
        let contested = |told_at: Option<Time>| foreign || counts(told_at).is_some();
        match self.phase {
            Phase::Begun { .. } => {}
            Phase::Taken { told_at } => {
                self.phase = Phase::Taken { told_at: counts(told_at) };
                if !contested(told_at) && self.ready(now) {
                    self.begin(now, out);
                    self.wanted_changed(now);
                }
            }
            Phase::Joining { contested_since, told_at } => {
                if contested(told_at) {
                    let since = contested_since.unwrap_or(now);
                    let told_at = counts(told_at);
                    self.phase = Phase::Joining { contested_since: Some(since), told_at };
                    if now.since(since) > self.config.silent_after + self.config.heartbeat {
                        self.phase = Phase::Taken { told_at };
                        out.push(Output::NameTaken);
                    }
                } else {
                    self.phase = Phase::Joining { contested_since: None, told_at: None };
                    if self.ready(now) {
                        self.begin(now, out);
                        self.wanted_changed(now);
                    }
                }
            }
        }
    }

    pub(crate) fn name_deadline(&self) -> Option<(Time, &'static str)> {
        let at = match self.phase {
            Phase::Begun { .. } => return None,
            Phase::Joining { contested_since: None, told_at: None } if self.links.is_empty() => {
                self.started + self.config.alone_after
            }
            Phase::Joining { contested_since: None, told_at: None } => {
                self.started + UNSYNCED_AFTER
            }
            Phase::Joining { contested_since, told_at } => {
                let report =
                    self.config.silent_after + self.config.heartbeat + Duration::from_millis(1);
                let told = told_at.map(|at| at + TOLD_COUNTS);
                contested_since.map(|at| at + report).into_iter().chain(told).min()?
            }
            Phase::Taken { told_at } => told_at? + TOLD_COUNTS,
        };
        Some((at, "whether the name is free must be decided"))
    }

    fn ready(&self, now: Time) -> bool {
        let waited = now.since(self.started);
        self.synced
            || (self.links.is_empty() && waited >= self.config.alone_after)
            || waited >= UNSYNCED_AFTER
    }

    fn begin(&mut self, now: Time, out: &mut Outbox<Output>) {
        let incarnation = self.next_incarnation();
        self.phase = Phase::Begun { incarnation };
        if let Some(me) = self.members.get_mut(self.me.id) {
            me.incarnation = incarnation;
        }
        self.published = None;
        let peers: Vec<NodeId> = self.links.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.gained(now, peer));
        out.push(Output::Begin { incarnation });
    }

    fn yield_name(&mut self, out: &mut Outbox<Output>) {
        self.phase = Phase::Taken { told_at: None };
        out.push(Output::NameTaken);
        let peers: Vec<NodeId> = self.links.keys().copied().collect();
        for peer in peers {
            self.drop_link(peer, Goodbye::Stopping, out);
        }
    }
}
