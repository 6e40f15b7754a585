//! The master calls its roster's roll: who of it is there *now*, and not as presence has it, which
//! takes seconds to learn of a cut.
//!
//! Each call is a round of its own, so that only answers to questions that were asked after it
//! count. It is over when all that seem present have answered, or soon after; the master says what
//! it heard within its lease, or nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::event::{Output, Refusal, Token};
use crate::machine::Managers;
use crate::message::{Answer, Message};
use crate::view::Authority;

/// Calls under way at a time: people ask, one after the other.
pub(crate) const MAX_CALLS: usize = 16;
/// Who has not answered by then is not there: beyond the longest round trip that is borne, and well
/// within what whoever asked waits for.
const PATIENCE: Duration = Duration::from_millis(700);

/// A call of the roll that is under way.
#[derive(Debug)]
pub(crate) struct RollCall {
    token: Token,
    round: u64,
    since: Time,
    asked: BTreeSet<NodeId>,
    there: BTreeSet<NodeId>,
}

impl Managers {
    /// Asks all of the roster that seem present whether they are.
    pub(crate) fn call_roll(&mut self, now: Time, token: Token, out: &mut Outbox<Output>) {
        if let Err(why) = self.may_decide() {
            return out.push(Output::Refused { token, why });
        }
        let waiting = self.mastership.as_ref().map_or(0, |mastership| mastership.calls.len());
        if waiting >= MAX_CALLS {
            let why = Refusal::Busy { waiting };
            return out.push(Output::Refused { token, why });
        }
        // Others ask under a round of 0.
        let round = self.rng.bits() | 1;
        let Some(group) = &self.group else { return };
        let lineage = group.meta.lineage;
        let places = group.meta.roster.iter().map(|place| place.node);
        let present = |node: &NodeId| self.nodes.get(node).is_some_and(|known| known.present);
        let asked: BTreeSet<NodeId> = places.filter(present).collect();
        for node in &asked {
            self.send(*node, &Message::Ask { lineage, round, about: None }, out);
        }
        if let Some(mastership) = &mut self.mastership {
            let there = BTreeSet::new();
            mastership.calls.push(RollCall { token, round, since: now, asked, there });
        }
    }

    /// A node has answered a question about this history.
    pub(crate) fn roll_answered(&mut self, from: NodeId, answer: &Answer) {
        // Who knows that this history has ended is there for another.
        let Some(mastership) = self.mastership.as_mut().filter(|_| answer.ended.is_none()) else {
            return;
        };
        for call in mastership.calls.iter_mut().filter(|call| call.round == answer.round) {
            if call.asked.contains(&from) {
                call.there.insert(from);
            }
        }
    }

    /// Answers the calls to which all have answered that will.
    pub(crate) fn finish_calls(&mut self, now: Time, out: &mut Outbox<Output>) {
        let over = |call: &RollCall| {
            call.there.len() == call.asked.len() || now.since(call.since) >= PATIENCE
        };
        let (lease, until) = (self.lease(now), self.strict_until(now));
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        let (me, roster) = (self.me.id, &group.meta.roster);
        mastership.calls.retain(|call| {
            if !over(call) {
                return true;
            }
            let token = call.token;
            let there =
                roster.iter().filter(|it| it.node == me || call.there.contains(&it.node)).count();
            out.push(if lease.is_some() {
                let (roster, holder) = (roster.len(), until.map(|_| me));
                Output::Called { token, authority: Authority { roster, there, holder, until } }
            } else {
                Output::Refused { token, why: Refusal::NoLease }
            });
            false
        });
    }
}

impl RollCall {
    pub(crate) const fn token(&self) -> Token {
        self.token
    }
}
