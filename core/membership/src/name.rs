//! The node's name and life: which incarnation it takes, and what it does when another live process
//! has its name.
//!
//! Before it publishes anything a node compares records with one peer, to learn which incarnations
//! of itself are known: it takes one above all. If a present watcher hears *another process* of its
//! name, nobody jumps: the one that was present first keeps the name, the other publishes nothing
//! until the name is free (architecture, section 2, "Incarnation").
//!
//! That is seen in records. A node that was refused by everybody it reached has none, and has only
//! the word of those who refused it. So until a peer has taken a link to it, in this life, that
//! word is enough when it is said again after a while, also where the node has begun alone
//! meanwhile: its peers took longer to reach than it waits for them. Once a peer has, a word makes
//! it give up nothing: anybody may say one.

use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Incarnation, NodeId, Outbox, Time};

use crate::event::{Goodbye, Output};
use crate::facts::{NodeFacts, Verdict, Watch};
use crate::machine::Membership;

/// A node that is linked and cannot complete an exchange publishes after this long all the same.
const UNSYNCED_AFTER: Duration = Duration::from_secs(3);
/// How long the word of one peer that the name is taken counts, for a node that can look at records
/// itself in that time.
const TOLD_COUNTS: Duration = Duration::from_secs(2);
/// And for a node that no peer has taken a link to: longer than two refusals may lie apart,
/// each after a wait of up to [`crate::Config::redial`] and a handshake between slow machines.
const ONLY_WORD_COUNTS: Duration = Duration::from_secs(15);

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
        /// Until when it counts that a peer said that the name is taken.
        told_until: Option<Time>,
    },
    /// It publishes as this life.
    Begun { incarnation: Incarnation },
    /// The name is taken, and this was reported.
    Taken { told_until: Option<Time> },
}

impl Membership {
    pub(crate) fn next_incarnation(&self) -> Incarnation {
        let own = self.members.get(self.me.id).map_or(Incarnation::default(), |me| me.incarnation);
        own.max(self.me.stored).next()
    }

    /// A peer refused a link since it has one to another live process of this node's name.
    pub(crate) fn told_name_is_taken(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.has_begun() && !self.met {
            // It has begun since it reached none in time of those that it was to ask first.
            let since = *self.refused_since.get_or_insert(now);
            if now.since(since) > self.contest_is_real() {
                self.yield_name(out);
            }
        }
        self.word_counts(now, if self.met { TOLD_COUNTS } else { ONLY_WORD_COUNTS });
    }

    /// This node met the other process itself. Which of the two was there first others know.
    pub(crate) fn met_own_name(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.word_counts(now, TOLD_COUNTS);
        self.met_second_process(now, self.me.id, out);
    }

    /// By then whoever still had a link to an earlier life of this node has let go of it.
    fn contest_is_real(&self) -> Duration {
        self.config.silent_after + self.config.heartbeat
    }

    fn word_counts(&mut self, now: Time, lasts: Duration) {
        match &mut self.phase {
            Phase::Joining { told_until, .. } | Phase::Taken { told_until } => {
                *told_until = (*told_until).max(Some(now + lasts));
            }
            Phase::Begun { .. } => {}
        }
    }

    /// A peer has taken a link to this node: from here on it can look for itself.
    pub(crate) fn is_met(&mut self, now: Time) {
        if core::mem::replace(&mut self.met, true) {
            return;
        }
        self.refused_since = None;
        if let Phase::Joining { told_until, .. } | Phase::Taken { told_until } = &mut self.phase {
            *told_until = told_until.map(|until| until.min(now + TOLD_COUNTS));
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
        let counts = |told_until: Option<Time>| told_until.filter(|until| now < *until);
        let foreign = self.foreign_watcher(self.my_short_nonce());
        let contested = |told_until: Option<Time>| foreign || counts(told_until).is_some();
        match self.phase {
            Phase::Begun { .. } => {}
            Phase::Taken { told_until } => {
                self.phase = Phase::Taken { told_until: counts(told_until) };
                if !contested(told_until) && self.ready(now) {
                    self.begin(now, out);
                    self.wanted_changed(now);
                }
            }
            Phase::Joining { contested_since, told_until } => {
                if contested(told_until) {
                    let since = contested_since.unwrap_or(now);
                    let told_until = counts(told_until);
                    self.phase = Phase::Joining { contested_since: Some(since), told_until };
                    if now.since(since) > self.contest_is_real() {
                        self.phase = Phase::Taken { told_until };
                        out.push(Output::NameTaken);
                    }
                } else {
                    self.phase = Phase::Joining { contested_since: None, told_until: None };
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
            Phase::Joining { contested_since: None, told_until: None } if self.links.is_empty() => {
                self.started + self.config.alone_after
            }
            Phase::Joining { contested_since: None, told_until: None } => {
                self.started + UNSYNCED_AFTER
            }
            Phase::Joining { contested_since, told_until } => {
                let report = self.contest_is_real() + Duration::from_millis(1);
                contested_since.map(|at| at + report).into_iter().chain(told_until).min()?
            }
            Phase::Taken { told_until } => told_until?,
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
        self.phase = Phase::Taken { told_until: None };
        out.push(Output::NameTaken);
        let peers: Vec<NodeId> = self.links.keys().copied().collect();
        for peer in peers {
            self.drop_link(peer, Goodbye::Stopping, out);
        }
    }
}
