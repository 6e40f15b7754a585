//! What an operator orders of the managers: carried to the master, answered, and told to every
//! node, with who and when (DVM-1, BLOC-21).
//!
//! The node that was asked says so in a record of its own, so the word is signed by the node whose
//! kernel vouched for the user, and reaches every node of the bloc whatever becomes of the flock.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use skep_base::{NodeId, NodeName, WallTime};
use skep_catalog::{Expect, Granted, Key, Kind, Order, Outcome, Wish, Write};
use skep_control::Reply;
use skep_control::api::{Accepted, Code, EventKind, Field, ManageFlock, Refusal};
use skep_managers::{Command, Token};
use skep_node::Input;
use skep_records::kind as record;

use crate::catalog::{Waiting, payload};
use crate::spine::Spine;

/// What this node's own managers are asked by an operator. One order at a time.
pub(crate) const RECOVERS: Token = Token(u64::MAX - 1);
/// Orders that a node's record holds: they go with the next eight.
const MAX_TOLD: usize = 8;
/// Longest part of an order that is told: eight of them fit a record.
const MAX_WORDS: usize = 140;
/// Layout of the record's body.
const SCHEMA: u16 = 1;

/// Orders of this node and what was heard of those of others.
#[derive(Default)]
pub(crate) struct Orders {
    told: VecDeque<Told>,
    /// The last that was heard of each node.
    heard: BTreeMap<NodeId, u64>,
    /// A recovery of this node that is under way.
    recovery: Option<Asked>,
}

/// One order, as a record tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// Grows over all orders and lives of a node.
    number: u64,
    when: WallTime,
    who: String,
    what: String,
    came: String,
}

/// An order that waits for its end.
pub(crate) struct Asked {
    what: String,
    /// What is said once it is done.
    done: String,
    who: String,
    reply: Reply<Accepted>,
}

impl Spine {
    /// Carries an operator's order out, or sees to it that the master does.
    pub(crate) async fn manage_flock(&mut self, order: ManageFlock, reply: Reply<Accepted>) {
        let who = self.asked_by();
        let asked = |what: String, done: String| Asked { what, done, who, reply };
        let (order, asked) = match order {
            ManageFlock::StepDown => {
                let done = "the master has handed over".to_owned();
                (Order::StepDown, asked("step-down".into(), done))
            }
            ManageFlock::Recover => {
                let done = "this node founded the next generation: see `skep flock`".to_owned();
                return self.recover(asked("recover".into(), done)).await;
            }
            ManageFlock::Expel { node, reason } => {
                let done = format!(
                    "{node} is expelled: every node closes its links to it, and the CA gives it no \
                     certificate; undo it with `skep catalog rm expelled/{node}`"
                );
                let asked = asked(format!("expel {node}"), done);
                return self.expel(&node, reason, asked).await;
            }
            ManageFlock::Transfer { node } => {
                let done = format!("{node} is to be master: see `skep flock`");
                let asked = asked(format!("transfer {node}"), done);
                let Some((id, asked)) = self.ordered_of(&node, asked) else { return };
                (Order::Transfer(id), asked)
            }
            ManageFlock::Promote { node } => {
                let asked = asked(format!("promote {node}"), format!("{node} is a backup"));
                let Some((id, asked)) = self.ordered_of(&node, asked) else { return };
                (Order::Promote(id), asked)
            }
            ManageFlock::Demote { node } => {
                let done = format!("{node} is no backup any more: another has its place");
                let asked = asked(format!("demote {node}"), done);
                let Some((id, asked)) = self.ordered_of(&node, asked) else { return };
                (Order::Demote(id), asked)
            }
            ManageFlock::Hold { node } => {
                let done = format!(
                    "{node} is held: it manages nothing until `skep flock release {node}`; a \
                     backup leaves its place as soon as another has taken it"
                );
                let asked = asked(format!("hold {node}"), done);
                let Some((id, asked)) = self.ordered_of(&node, asked) else { return };
                (Order::Hold(id), asked)
            }
            ManageFlock::Release { node } => {
                let asked = asked(format!("release {node}"), format!("{node} may manage again"));
                let Some((id, asked)) = self.ordered_of(&node, asked) else { return };
                (Order::Release(id), asked)
            }
        };
        self.wish_for(Wish::Manage(order), Waiting::Order(OrderWaits::Order(asked))).await;
    }

    /// The node that an order names; told where there is none.
    fn ordered_of(&self, node: &NodeName, asked: Asked) -> Option<(NodeId, Asked)> {
        let member = self.node.members().find(|member| member.name == Some(node));
        if let Some(member) = member {
            return Some((member.node, asked));
        }
        let refusal = Refusal::new(Code::NotFound, format!("no node named {node} is known here"));
        asked.reply.refuse(refusal.hint("`skep flock roster` names those that may manage"));
        None
    }

    /// Expels a node, which is an entry of the catalog: from then on every node refuses it, and the
    /// master sees to it that it is no manager. A master is expelled by the next one.
    async fn expel(&mut self, node: &NodeName, reason: Option<String>, asked: Asked) {
        let Some((id, asked)) = self.ordered_of(node, asked) else { return };
        if id == self.node.id() {
            let message = format!("{node} would cut itself off: this command runs on it");
            let hint = "expel it from another node; to leave the flock in peace, `skep leave`";
            return asked.reply.refuse(Refusal::new(Code::Refused, message).hint(hint));
        }
        let reason = reason.unwrap_or_else(|| format!("expelled by {}", asked.who));
        let fields = BTreeMap::from([("reason".to_owned(), Field::Text(reason))]);
        let put = Key::new(Kind::EXPELLED, node.as_str())
            .map_err(|error| Refusal::new(Code::Malformed, error.to_string()))
            .and_then(|key| Ok((payload(&key, &fields)?, key)));
        let (put, key) = match put {
            Ok(made) => made,
            Err(refusal) => return asked.reply.refuse(refusal),
        };
        let write = Write { key, expect: Expect::Anything, put: Some(put) };
        let leads = self.node.management(self.clock.now()).flock.and_then(|flock| flock.master);
        if leads == Some(id) {
            let waiting = Waiting::Order(OrderWaits::HandedOver(asked, write));
            return self.wish_for(Wish::Manage(Order::StepDown), waiting).await;
        }
        self.propose(vec![write], Waiting::Order(OrderWaits::Expelled(asked))).await;
    }

    /// This node founds the next generation.
    async fn recover(&mut self, asked: Asked) {
        if self.orders.recovery.is_some() {
            let refusal = Refusal::new(Code::Conflict, "this node is recovering already");
            return asked.reply.refuse(refusal.hint("see `skep flock`"));
        }
        self.orders.recovery = Some(asked);
        let command = Command::RecoverForce;
        let input = skep_managers::Input::Command { token: RECOVERS, command };
        Box::pin(self.feed(Input::Managers(input))).await;
    }

    /// What came of it.
    pub(crate) fn recovered(&mut self, came: Result<(), String>) {
        let Some(asked) = self.orders.recovery.take() else { return };
        self.order_ended(asked, came.map_err(|why| Refusal::new(Code::Refused, why)));
    }

    /// What the master said to an order.
    pub(crate) async fn order_granted(&mut self, waiting: OrderWaits, granted: Granted) {
        match (waiting, granted) {
            (OrderWaits::HandedOver(asked, write), Granted::Done) => {
                let waiting = Waiting::Order(OrderWaits::Expelled(asked));
                Box::pin(self.propose(vec![write], waiting)).await;
            }
            (OrderWaits::Order(asked), Granted::Done) => self.order_ended(asked, Ok(())),
            (OrderWaits::Expelled(asked), Granted::Decided { outcome, .. }) => {
                let came = match outcome {
                    Outcome::Applied { .. } => Ok(()),
                    Outcome::Refused(why) => Err(Refusal::new(Code::Refused, why.to_string())),
                    Outcome::Conflict { .. } | Outcome::Skipped => {
                        let message = "what came of it is not known here";
                        Err(Refusal::new(Code::Internal, message)
                            .hint("look with `skep catalog get --kind expelled`"))
                    }
                };
                self.order_ended(asked, came);
            }
            (waiting, Granted::Refused { why, again }) => {
                let code = if again { Code::Unavailable } else { Code::Refused };
                self.order_ended(waiting.asked(), Err(Refusal::new(code, why)));
            }
            (
                waiting,
                Granted::Done
                | Granted::Decided { .. }
                | Granted::Called { .. }
                | Granted::Wanted { .. }
                | Granted::Shown(_),
            ) => {
                let message = "the master answered something else than was asked";
                self.order_ended(waiting.asked(), Err(Refusal::new(Code::Internal, message)));
            }
        }
    }

    /// Answers whoever ordered, and tells every node.
    pub(crate) fn order_ended(&mut self, asked: Asked, came: Result<(), Refusal>) {
        let Asked { what, done, who, reply } = asked;
        let when = self.clock.wall();
        let last = self.orders.told.back().map_or(0, |told| told.number);
        // Above what an earlier life told, by a clock that has hardly gone back so far.
        let number = when.unix_ms.max(last + 1);
        let word = came.as_ref().err().map_or("done", |refusal| &refusal.message);
        let came_words = cut(word);
        let told = Told { number, when, who: cut(&who), what: cut(&what), came: came_words };
        let node = self.identity.current().info().node.clone();
        tracing::info!(%who, %what, came = %told.came, "an operator's order");
        self.note(event(node, told.clone()));
        if self.orders.told.len() >= MAX_TOLD {
            self.orders.told.pop_front();
        }
        self.orders.told.push_back(told);
        let all: Vec<&Told> = self.orders.told.iter().collect();
        let body = Some(skep_wire::encode(&all).into());
        self.take(Input::Publish { kind: record::ORDERS, schema: SCHEMA, body });
        match came {
            Ok(()) => reply.ok(Accepted { message: done }),
            Err(refusal) => reply.refuse(refusal),
        }
    }

    /// Another node tells of orders: what is new of them is noted here as well.
    pub(crate) fn orders_told(&mut self, owner: NodeId) {
        if owner == self.node.id() {
            return;
        }
        let Some(stored) = self.node.stored(owner, record::ORDERS) else { return };
        if stored.schema != SCHEMA || stored.retracted {
            return;
        }
        let Ok(all) = skep_wire::decode::<Vec<Told>>("orders", &stored.body) else { return };
        let Ok(node) = self.name_of(owner).parse::<NodeName>() else { return };
        // Of a node that was not heard in this life only what is about this life is news.
        let heard = self.orders.heard.get(&owner).copied();
        let is_new = |told: &Told| match heard {
            Some(heard) => told.number > heard,
            None => told.when >= self.started.1,
        };
        let new: Vec<Told> =
            all.iter().filter(|told| is_new(told)).take(MAX_TOLD).cloned().collect();
        let last = all.iter().map(|told| told.number).max().unwrap_or(0).max(heard.unwrap_or(0));
        self.orders.heard.insert(owner, last);
        for told in new {
            self.note(event(node.clone(), told));
        }
    }

    /// A node is forgotten.
    pub(crate) fn orders_forgotten(&mut self, owner: NodeId) {
        self.orders.heard.remove(&owner);
    }
}

/// An order that waits for the master.
pub(crate) enum OrderWaits {
    /// For its end.
    Order(Asked),
    /// For the master to hand over, before it is expelled.
    HandedOver(Asked, Write),
    /// For the entry that expels.
    Expelled(Asked),
}

impl OrderWaits {
    /// Who gave it.
    pub(crate) fn who(&self) -> &str {
        let (Self::Order(asked) | Self::HandedOver(asked, _) | Self::Expelled(asked)) = self;
        &asked.who
    }

    pub(crate) fn asked(self) -> Asked {
        match self {
            Self::Order(asked) | Self::HandedOver(asked, _) | Self::Expelled(asked) => asked,
        }
    }
}

fn event(node: NodeName, told: Told) -> EventKind {
    let Told { when, who, what, came, .. } = told;
    EventKind::Order { what: cut(&what), who: cut(&who), node, when, came: cut(&came) }
}

fn cut(text: &str) -> String {
    let mut bytes = 0;
    text.chars().take_while(|c| (bytes += c.len_utf8(), bytes <= MAX_WORDS).1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_of_the_longest_orders_fit_a_record() {
        let text = cut(&"ü".repeat(4000));
        assert!(text.len() <= MAX_WORDS && text.len() > MAX_WORDS - 4);
        let when = WallTime::from_unix_ms(u64::MAX);
        let told =
            Told { number: u64::MAX, when, who: text.clone(), what: text.clone(), came: text };
        let body = skep_wire::encode(&vec![told; MAX_TOLD]);
        assert!(body.len() <= skep_records::MAX_BODY_BYTES, "{} bytes", body.len());
    }
}
