//! Strict authority: a lease from a majority of the roster, so at most once in a bloc.
//!
//! A master of a strong history asks the nodes of its roster for a lease, under its stamp. Who does
//! promises the stamp on disk first: it notes and gives nothing under a lower one ever again,
//! and nothing to anybody else before the lease is surely over, by whichever clock. Whoever holds
//! leases of a majority has strict authority until the earliest that it needs of them ends.
//!
//! Rosters change, and two histories may come from one. So the roster changes only under strict
//! authority, a node at a time; after a change a majority of the roster before is needed as well,
//! until it was had once and that is decided: then every majority of the roster before has somebody
//! in it who has promised under the newer; and who has promised under a newer roster gives nothing
//! to a history that parted before that, unless the newer's has ended. Two histories that both
//! descend from the founding therefore always need a node in common. A founding under a higher
//! number begins anew: who has seen one gives nothing under a lower one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::{NodeId, Outbox, Time};

use crate::event::{Eligibility, Output};
use crate::group::Group;
use crate::id::{Founding, Judgement, Lineage, Stamp};
use crate::machine::Managers;
use crate::message::Message;
use crate::stored::Record;

/// Between two rounds of a holder.
const RENEW: Duration = Duration::from_secs(1);
/// And of who is none yet.
const SEEK: Duration = Duration::from_millis(250);
/// Rounds whose answers are still of use.
const ROUNDS: usize = 16;

/// What a node of the roster promised, on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pledge {
    pub(crate) lineage: Lineage,
    pub(crate) stamp: Stamp,
    /// Of the roster: how often somebody entered or left it.
    pub(crate) version: u64,
    pub(crate) founding: Founding,
}

/// A lease that this node gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    to: NodeId,
    until: Time,
}

/// What a master asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuthorityAsk {
    pub(crate) lineage: Lineage,
    pub(crate) stamp: Stamp,
    /// Of the roster now, and where this history parted from another.
    pub(crate) version: u64,
    pub(crate) base: u64,
    pub(crate) round: u64,
    /// Under which number the history is strong.
    pub(crate) founding: Founding,
}

/// The leases that a master holds.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Under which stamp, version of the roster and founding number they were given.
    under: (Stamp, u64, Founding),
    round: u64,
    sent: VecDeque<(u64, Time)>,
    asked: Option<Time>,
    /// When what each answered last was sent.
    given: BTreeMap<NodeId, Time>,
}

impl Leases {
    pub(crate) fn new(round: u64) -> Self {
        Self { round, ..Self::default() }
    }

    /// When the newest majority of what was given was asked for, of both rosters after a change.
    fn majority(&self, group: &Group) -> Option<Time> {
        if self.under != under(group) {
            return None;
        }
        group.newest_of_majority(&self.given)
    }
}

impl Group {
    /// Of times that belong to nodes of the roster the newest that a majority of it has passed; of
    /// both rosters after a change.
    pub(crate) fn newest_of_majority(&self, times: &BTreeMap<NodeId, Time>) -> Option<Time> {
        let newest = |roster: &mut dyn Iterator<Item = NodeId>| {
            let mut count = 0;
            let mut passed: Vec<Time> = Vec::new();
            for node in roster {
                count += 1;
                passed.extend(times.get(&node));
            }
            passed.sort_unstable_by(|a, b| b.cmp(a));
            passed.get(count / 2).copied()
        };
        let now = newest(&mut self.meta.roster.iter().map(|place| place.node))?;
        if self.meta.roster_before.is_empty() {
            return Some(now);
        }
        Some(now.min(newest(&mut self.meta.roster_before.iter().copied())?))
    }

    /// Whom a master of a strong history asks for promises: its roster, after a change that before
    /// it as well.
    pub(crate) fn whole_roster(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.meta.roster.iter().map(|place| place.node).collect();
        nodes.extend(&self.meta.roster_before);
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

fn under(group: &Group) -> (Stamp, u64, Founding) {
    (group.stamp(), group.meta.roster_version, group.meta.founding)
}

impl Managers {
    /// Until when this node has strict authority, if it has.
    #[must_use]
    pub fn strict_until(&self, now: Time) -> Option<Time> {
        let mastership = self.mastership.as_ref().filter(|it| it.stamped && !it.lease_given_up)?;
        let group = self.group.as_ref().filter(|it| it.engine.term() == mastership.term)?;
        if !self.descends() || self.giver.is_some() || self.disk.failed.is_some() {
            return None;
        }
        let until = mastership.leases.majority(group)? + self.config.strict_lease;
        (group.engine.leads() && until > now).then_some(until)
    }

    /// Whether what this master acknowledges now is strong: a majority of its roster noted the
    /// sync set, and the newest promise of a majority is this master's stamp. That they gave
    /// another none since is sure only while their leases last.
    pub(crate) fn is_strong(&self, now: Time) -> bool {
        let witnessed = self.mastership.as_ref().is_some_and(|it| it.witnessed);
        #[cfg(test)]
        if crate::plant::is(crate::plant::Bug::StalePromises) {
            let promised = |group| self.mastership.as_ref()?.leases.majority(group);
            return witnessed && self.group.as_ref().and_then(promised).is_some();
        }
        witnessed && self.strict_until(now).is_some()
    }

    /// For how long who gave a lease takes it for granted: longer than its holder may, also when
    /// the one's clock is a hundredth slow and the other's a hundredth fast.
    pub(crate) fn strict_hold(&self) -> Duration {
        self.config.strict_lease + self.config.strict_lease / 25 + self.config.drift
    }

    /// Asks the roster, again and again, while this node is the master of a strong history.
    pub(crate) fn seek_authority(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (held, strong) = (self.strict_until(now).is_some(), self.descends());
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        // Whoever only asks to hand over may yet be asked itself, and by whom it is confirmed then.
        let hands_over = self.giver.as_ref().is_some_and(|giver| !giver.asks());
        if !strong || mastership.lease_given_up || hands_over {
            return;
        }
        let leases = &mut mastership.leases;
        let under = under(group);
        if leases.under != under {
            *leases = Leases { under, ..Leases::new(leases.round) };
        }
        let pause = if held { RENEW } else { SEEK };
        if leases.asked.is_some_and(|at| now.since(at) < pause) {
            return;
        }
        leases.round = leases.round.wrapping_add(1);
        leases.asked = Some(now);
        leases.sent.push_back((leases.round, now));
        if leases.sent.len() > ROUNDS {
            leases.sent.pop_front();
        }
        let meta = &group.meta;
        let (lineage, stamp, version) = (meta.lineage, under.0, under.1);
        let (base, round, founding) = (meta.roster_base, leases.round, under.2);
        let ask = AuthorityAsk { lineage, stamp, version, base, round, founding };
        let present = |node: &NodeId| self.nodes.get(node).is_some_and(|known| known.present);
        for node in group.whole_roster().into_iter().filter(present) {
            self.send(node, &Message::AuthorityAsk(ask), out);
        }
        self.authority_asked(now, self.me.id, ask, out);
    }

    /// Notes for whoever leads after this node that most of the roster before has promised under
    /// the roster as it is: strict authority was had under it, and that takes both.
    pub(crate) fn settle_roster(&mut self, now: Time) {
        let settled = self.group.as_ref().is_none_or(|it| it.meta.roster_before.is_empty());
        if settled || self.strict_until(now).is_none() {
            return;
        }
        let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) else {
            return;
        };
        if mastership.roster_proposed.is_none_or(|at| at <= group.applied.0) {
            let version = group.meta.roster_version;
            mastership.roster_proposed = group.engine.propose(&Record::RosterSettled { version });
        }
    }

    /// A master asks for a lease. The promise is on disk before it is given.
    pub(crate) fn authority_asked(
        &mut self,
        now: Time,
        from: NodeId,
        ask: AuthorityAsk,
        out: &mut Outbox<Output>,
    ) {
        let AuthorityAsk { lineage, stamp, version, base, round, founding } = ask;
        if self.me.eligible == Eligibility::No {
            return;
        }
        let passed = self.state.founding > founding;
        #[cfg(test)]
        let passed = passed && !crate::plant::is(crate::plant::Bug::AnyFounding);
        if passed {
            let founding = self.state.founding;
            return self.send(from, &Message::FoundingPassed { lineage, founding }, out);
        }
        if let Some(pledge) = self.state.pledge {
            if pledge.stamp.judge(stamp) != Judgement::Obey {
                let seen = pledge.stamp;
                return self.send(from, &Message::OrderRefused { lineage, seen }, out);
            }
            let known = if pledge.lineage == lineage { version } else { base };
            if self.has_promised_beyond(known, founding) {
                return; // Of a part that knows no newer roster, of which this node does.
            }
        }
        let lasts = |given: &Given| given.to != from && given.until > now;
        #[cfg(test)]
        let lasts = |it: &Given| !crate::plant::is(crate::plant::Bug::TwoLeases) && lasts(it);
        if self.given.as_ref().is_some_and(lasts) {
            return; // Asked again when that is over.
        }
        let pledge = Pledge { lineage, stamp, version, founding };
        self.saw_founding(founding);
        if self.state.pledge != Some(pledge) {
            self.state.pledge = Some(pledge);
            self.state_changed = true;
            self.saw_epoch(stamp.epoch);
        }
        self.given = Some(Given { to: from, until: now + self.strict_hold() });
        self.send_when_safe(from, Message::AuthorityGiven { lineage, round }, out);
    }

    /// Whether this node has promised under a newer roster than of this version: what knows no
    /// newer one, and parted before, gets nothing. What was promised under a lower founding number
    /// is ended by a higher one.
    pub(crate) fn has_promised_beyond(&self, version: u64, founding: Founding) -> bool {
        self.state.pledge.is_some_and(|pledge| {
            let ended = self.state.ended.iter().any(|(ended, _)| *ended == pledge.lineage);
            founding <= pledge.founding && version < pledge.version && !ended
        })
    }

    pub(crate) fn authority_given(&mut self, from: NodeId, lineage: Lineage, round: u64) {
        let ours = self.history_of() == Some(lineage);
        let Some(mastership) = self.mastership.as_mut().filter(|_| ours) else { return };
        let leases = &mut mastership.leases;
        if let Some((_, sent)) = leases.sent.iter().find(|(of, _)| *of == round) {
            let newest = leases.given.entry(from).or_insert(*sent);
            *newest = (*newest).max(*sent);
        }
    }

    /// What an earlier life of this node may have given is still good.
    pub(crate) fn recall_leases(&mut self, now: Time) {
        if self.state.pledge.is_some() {
            let nobody = NodeId::from_bytes([0; NodeId::LEN]);
            self.given = Some(Given { to: nobody, until: now + self.strict_hold() });
        }
    }
}
