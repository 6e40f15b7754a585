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
use crate::facts::NodeFacts;
use crate::machine::Membership;

/// A node that is linked and cannot complete an exchange publishes after this long all the same.
const UNSYNCED_AFTER: Duration = Duration::from_secs(3);
/// How long the word of one peer that the name is taken counts.
const TOLD_COUNTS: Duration = Duration::from_secs(2);

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

    pub(crate) fn foreign_self(
        &mut self,
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
                self.begin(out);
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
                    self.begin(out);
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
                        self.begin(out);
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

    fn begin(&mut self, out: &mut Outbox<Output>) {
        let incarnation = self.next_incarnation();
        self.phase = Phase::Begun { incarnation };
        if let Some(me) = self.members.get_mut(self.me.id) {
            me.incarnation = incarnation;
        }
        self.published = None;
        self.heard_changed();
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
