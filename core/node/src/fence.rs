//! Orders among the other machines: which of those that come as records are carried out, and under
//! which stamp this node's own are given (architecture: *stamp*).
//!
//! A topology that is decreed, or a wave that is ordered, is a record of its owner with the stamp
//! of the owner's flock before its body. No machine hears of it before the managers have the stamp
//! on disk; what they refuse no machine hears of at all. An order without a stamp, of a flock that
//! never had a master, is carried out while this node never saw one. Orders of this node that stand
//! are given again under each new stamp of its flock: after an election, a fork, a merge.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};
use skep_managers::{Epoch, ForkId, Stamp, Token};
use skep_records::stamped::{self, Numbers};

use crate::api::{Event, Output};
use crate::node::Node;

/// Between two tellings of what is refused, for a master that did not hear of it.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// Refused orders that are told of again: as many as a flock of that many issuers can have stand.
const MAX_REFUSED: usize = 256;

/// An order: whose record of which kind.
type Order = (NodeId, u16);

/// Orders on their way, and this node's own.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    /// Whether they may be carried out was asked, by which token and under which stamp: one
    /// question an order, so no more than there are orders, however often their owners repeat them
    /// while the disk is waited for.
    asked: BTreeMap<Order, (Token, Numbers)>,
    last: u64,
    /// May be carried out, and were not yet.
    due: Vec<(Order, Option<Numbers>)>,
    /// May not; told again now and then, until their owner gives them under another stamp.
    refused: BTreeMap<Order, Numbers>,
    tell_at: Option<Time>,
    /// The kinds of orders of this node that stand.
    own: BTreeSet<u16>,
}

impl Fence {
    pub(crate) fn deadline(&self) -> Option<(Time, &'static str)> {
        self.tell_at.map(|at| (at, "a refused order is told of again"))
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.due.is_empty()
    }

    pub(crate) fn check(&self) {
        assert!(self.refused.len() <= MAX_REFUSED, "refused orders without a bound");
        assert_eq!(self.refused.is_empty(), self.tell_at.is_none(), "refused, and never told");
    }
}

impl Node {
    /// Publishes an order of this node, or takes it back.
    pub(crate) fn publish_order(&mut self, now: Time, kind: u16, body: Option<Bytes>) {
        let stamp = self.managed.order_stamp().or_else(|| self.managed.seen()).map(numbers_of);
        let (schema, body) = match body.map(|body| stamped::seal(stamp, body)) {
            Some((schema, body)) => (schema, Some(body)),
            None => (stamped::SCHEMA_BARE, None),
        };
        self.record(now, skep_records::Input::Publish { kind, schema, body });
    }

    /// A record that is an order is new or newer.
    pub(crate) fn order_changed(&mut self, now: Time, owner: NodeId, kind: u16) {
        let order = (owner, kind);
        self.forget_refused(order);
        let stands = self.order_in(order);
        if owner == self.id && stands.is_some() {
            self.fence.own.insert(kind);
        } else if owner == self.id {
            self.fence.own.remove(&kind);
        }
        match stands {
            Some((Some(stamp), _)) => self.ask_fence(now, order, stamp),
            Some((None, _)) | None => self.fence.due.push((order, None)),
        }
    }

    /// What is said of the managers of `owner` is forgotten with its records.
    pub(crate) fn orders_forgotten(&mut self, owner: NodeId) {
        let gone: Vec<Order> =
            self.fence.refused.keys().filter(|(of, _)| *of == owner).copied().collect();
        gone.into_iter().for_each(|order| self.forget_refused(order));
    }

    fn forget_refused(&mut self, order: Order) {
        self.seldom_changed |= self.fence.refused.remove(&order).is_some();
        if self.fence.refused.is_empty() {
            self.fence.tell_at = None;
        }
    }

    /// The order that a record holds, if it stands.
    fn order_in(&self, (owner, kind): Order) -> Option<(Option<Numbers>, Bytes)> {
        let stored = self.records.get(owner, kind).filter(|stored| !stored.retracted)?;
        stamped::open(stored.schema, &stored.body)
    }

    fn ask_fence(&mut self, now: Time, order: Order, stamp: Numbers) {
        if self.fence.asked.contains_key(&order) {
            return; // What it says by then is asked when that is answered.
        }
        self.fence.last += 1;
        let token = Token(self.fence.last);
        self.fence.asked.insert(order, (token, stamp));
        let stamp = stamp_of(stamp);
        self.manage(now, skep_managers::Input::Order { token, stamp });
    }

    /// The order that was asked about, and its stamp, unless it is under another by now: then that
    /// is asked.
    fn answered_fence(&mut self, now: Time, token: Token) -> Option<(Order, Numbers)> {
        let asked = self.fence.asked.iter().find(|(_, (of, _))| *of == token);
        let (order, stamp) = asked.map(|(order, (_, stamp))| (*order, *stamp))?;
        self.fence.asked.remove(&order);
        match self.order_in(order) {
            Some((Some(newer), _)) if newer != stamp => {
                self.ask_fence(now, order, newer);
                None
            }
            _ => Some((order, stamp)),
        }
    }

    pub(crate) fn obeyed(&mut self, now: Time, token: Token) {
        if let Some((order, stamp)) = self.answered_fence(now, token) {
            self.fence.due.push((order, Some(stamp)));
        }
    }

    pub(crate) fn disobeyed(
        &mut self,
        now: Time,
        token: Token,
        seen: Stamp,
        out: &mut Outbox<Output>,
    ) {
        let Some((order, stamp)) = self.answered_fence(now, token) else { return };
        if self.fence.refused.contains_key(&order) || self.fence.refused.len() < MAX_REFUSED {
            self.fence.tell_at.get_or_insert(now + TELL_AGAIN);
            self.seldom_changed = true;
            if self.fence.refused.insert(order, stamp).is_some() {
                return;
            }
            let (owner, kind) = order;
            let (stamp, seen) = (Some(stamp_of(stamp)), Some(seen));
            out.push(Output::Event(Event::OrderRefused { owner, kind, stamp, seen }));
        }
    }

    /// Carries out what may be.
    pub(crate) fn carry_orders(&mut self, now: Time, out: &mut Outbox<Output>) {
        for (order, stamp) in core::mem::take(&mut self.fence.due) {
            let (owner, kind) = order;
            let body = match self.order_in(order) {
                // Another took its place since, and is asked about itself.
                Some((newer, _)) if newer != stamp => continue,
                // In a flock that has, or had, a master this is nobody's order.
                Some((None, _)) if self.managed.seen().is_some() => {
                    let seen = self.managed.seen();
                    let event = Event::OrderRefused { owner, kind, stamp: None, seen };
                    out.push(Output::Event(event));
                    continue;
                }
                Some((_, body)) => Some(body),
                None if stamp.is_some() => continue,
                None => None,
            };
            let stamp = stamp.map(stamp_of);
            if let Some(slot) = Self::slot_of(kind) {
                self.decreed(now, owner, slot, body.clone());
            }
            out.push(Output::Event(Event::Ordered { owner, kind, stamp, body }));
        }
    }

    /// Tells again of what is still refused.
    pub(crate) fn tick_fence(&mut self, now: Time) {
        if self.fence.tell_at.is_some_and(|at| at <= now) {
            self.fence.tell_at = Some(now + TELL_AGAIN);
            let refused: Vec<_> = self.fence.refused.iter().map(|(o, s)| (*o, *s)).collect();
            for (order, stamp) in refused {
                self.ask_fence(now, order, stamp);
            }
        }
    }

    /// The flock's stamp may be another: orders of this node that stand are given under it.
    pub(crate) fn restamp(&mut self, now: Time) {
        // Before it has begun, what its disk holds may be older than what its peers have.
        if self.fence.own.is_empty() || !self.membership.has_begun() {
            return;
        }
        let Some(stamp) = self.managed.order_stamp().map(numbers_of) else { return };
        for kind in self.fence.own.clone() {
            let standing = self.order_in((self.id, kind));
            // An old word of a former master of the same history takes nothing back.
            let passed = |under: &Option<Numbers>| {
                under.is_none_or(|(epoch, fork)| fork != stamp.1 || epoch < stamp.0)
            };
            if let Some((_, body)) = standing.filter(|(under, _)| passed(under)) {
                self.publish_order(now, kind, Some(body));
            }
        }
    }
}

const fn stamp_of((epoch, fork): Numbers) -> Stamp {
    Stamp { epoch: Epoch(epoch), fork: ForkId(fork) }
}

const fn numbers_of(stamp: Stamp) -> Numbers {
    (stamp.epoch.0, stamp.fork.0)
}
