//! Two flocks that meet end as one (scenario 5; DVM-27, 28; BLOC-15 to 18): who yields, and how
//! what it acknowledged reaches the other.

use std::cmp::Reverse;
use std::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::config::MAX_IMAGE_BYTES;
use crate::event::{Event, Origin, Output};
use crate::follow::foremost;
use crate::group::Group;
use crate::id::{Founding, Generation, Lineage};
use crate::machine::Managers;
use crate::message::{FlockClaim, Item, MAX_POINTS, Message};
use crate::proof::Proof;
use crate::stored::{ALL_ITEMS, Chain, Holder, Record};

/// Bytes of changes in one message; with one change over it, that one alone.
const BATCH_BYTES: usize = 24 * 1024;
/// A merge whose other side is silent, or waits for somebody itself, is given up after this long
/// and decided anew.
const PATIENCE: Duration = Duration::from_secs(5);

/// The order in which flocks lead a merge, the greatest first. It is total, and every part of it
/// only grows while a master masters, so that two never yield to each other.
pub(crate) fn order(flock: &FlockClaim) -> Order {
    order_as(flock, flock.strong)
}

type Order = (bool, Option<Founding>, bool, Reverse<Generation>, u8, Reverse<Lineage>);

/// The same for a flock of which it is another question whether it is strong.
pub(crate) fn order_as(flock: &FlockClaim, strong: bool) -> Order {
    (
        flock.acknowledged,
        strong.then_some(flock.founding),
        !flock.rebooted,
        Reverse(flock.generation),
        flock.mastership,
        Reverse(flock.lineage),
    )
}

/// A history's question whether it may merge into this one.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) from: NodeId,
    pub(crate) lineage: Lineage,
    pub(crate) session: u64,
    pub(crate) points: Vec<(u64, Chain)>,
    /// Its master asks it.
    pub(crate) led: bool,
}

/// A history that is being handed over to another.
#[derive(Debug)]
pub(crate) struct Giver {
    pub(crate) into: Lineage,
    pub(crate) to: NodeId,
    pub(crate) session: u64,
    pub(crate) since: Time,
    /// When the other side last answered.
    heard: Time,
    sent: Option<Time>,
    phase: Phase,
    /// What is in a holder's log and was never known to be decided.
    tail: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asking,
    Giving {
        common: u64,
        next: u64,
    },
    /// Everything is over there: the history ends by its own decision.
    Ending,
}

impl Giver {
    /// Whether the other side has not granted anything yet: what was promised to this history is
    /// still its.
    pub(crate) fn asks(&self) -> bool {
        self.phase == Phase::Asking
    }

    /// When it is given up and decided anew unless the other side says something.
    pub(crate) fn decided_anew_at(&self) -> Option<Time> {
        (self.phase != Phase::Ending).then(|| self.heard + PATIENCE)
    }
}

impl Group {
    /// Places of the history, newest first and ever further apart.
    fn points(&self) -> Vec<(u64, Chain)> {
        let entries = &self.history.entries;
        let mut points = Vec::new();
        let mut back = 1;
        while back <= entries.len() && points.len() + 1 < MAX_POINTS {
            let entry = &entries[entries.len() - back];
            points.push((entry.index, entry.chain));
            back = if back < 16 { back + 1 } else { back + back / 4 };
        }
        if let Some((index, _)) = &self.history.checkpoint {
            points.push((*index, self.history.chain));
        }
        points
    }

    fn has_point(&self, (index, chain): (u64, Chain)) -> bool {
        let before = self.history.checkpoint.as_ref().map(|(at, _)| (*at, self.history.chain));
        let at = self.history.entries.binary_search_by_key(&index, |entry| entry.index);
        before == Some((index, chain)) || at.is_ok_and(|at| self.history.entries[at].chain == chain)
    }

    /// The `n`th change after `common`, for the history `into`: the parts of a checkpoint first,
    /// where it is later.
    fn item(&self, into: Lineage, common: u64, n: u64, tail: &[Item]) -> Option<Item> {
        let (lineage, generation) = (self.meta.lineage, self.meta.generation);
        let n = usize::try_from(n).ok()?;
        let checkpoint = self.history.checkpoint.as_ref().filter(|(index, _)| *index > common);
        let parts = checkpoint.map_or(0, |(_, state)| state.len().div_ceil(BATCH_BYTES));
        if let Some((index, state)) = checkpoint.filter(|_| n < parts) {
            let start = n * BATCH_BYTES;
            let body = state.slice(start..state.len().min(start + BATCH_BYTES));
            let (part, parts) = (u32::try_from(n).ok()?, u32::try_from(parts).ok()?);
            let index = *index;
            let origin = Origin::ForeignState { lineage, generation, index, part, parts, common };
            return Some(Item { origin, body });
        }
        let first = self.history.entries.partition_point(|entry| entry.index <= common);
        let at = first + (n - parts);
        let Some(entry) = self.history.entries.get(at) else {
            return tail.get(at - self.history.entries.len()).cloned();
        };
        let (index, stamp) = (entry.index, entry.stamp);
        let returned = |place| Origin::Returned { lineage, index, stamp, common, place };
        let passed = |first, first_stamp| Origin::Passed {
            lineage,
            generation,
            index,
            stamp,
            common,
            first,
            first_stamp,
        };
        let origin = match entry.origin {
            Origin::Foreign { lineage: of, index: place, .. } if of == into => returned(place),
            // What came back to this history happened in it before, and was handed over with that.
            Origin::Returned { .. } => returned(0),
            Origin::ForeignState { lineage: of, .. } if of == into => returned(0),
            // A part of a whole catalog is nothing by itself: it stays one of that history's.
            Origin::ForeignState { lineage, generation, index, part, parts, common: before } => {
                let common = common.min(before);
                Origin::ForeignState { lineage, generation, index, part, parts, common }
            }
            Origin::Foreign { index, stamp, .. } => passed(index, stamp),
            Origin::Passed { first, first_stamp, .. } => passed(first, first_stamp),
            Origin::Own => Origin::Foreign { lineage, generation, index, stamp, common },
        };
        Some(Item { origin, body: entry.body.clone() })
    }

    /// Changes that may have been decided, as far as this node alone can tell.
    fn tail_items(&self) -> Vec<Item> {
        let (lineage, generation, stamp) = (self.meta.lineage, self.meta.generation, self.stamp());
        let records = self.engine.records_after(self.applied.0).into_iter();
        let bodies = records.filter_map(|(index, _, record)| match record {
            Record::Catalog(body) => Some((index, body)),
            Record::Stamp { .. }
            | Record::Sync(_)
            | Record::Roster(_)
            | Record::RosterGone(_)
            | Record::Foreign { .. }
            | Record::Absorbed { .. }
            | Record::Ended { .. }
            | Record::Founding { .. }
            | Record::RosterSettled { .. } => None,
        });
        let common = 0;
        let origin = |index| Origin::Foreign { lineage, generation, index, stamp, common };
        bodies.map(|(index, body)| Item { origin: origin(index), body }).collect()
    }
}

impl Managers {
    /// Keeps a hand-over going.
    pub(crate) fn give(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.group.is_none() || (!self.is_master() && self.is_led(now)) {
            self.giver = None; // It is for the master to hand over.
            return;
        }
        let Some(giver) = &self.giver else {
            return;
        };
        let (into, to, heard) = (giver.into, giver.to, giver.heard);
        let there = self.master_of(into).map(|(node, _)| node);
        let phase = self.giver.as_ref().map(|giver| giver.phase);
        if phase != Some(Phase::Ending) && (there != Some(to) || now.since(heard) >= PATIENCE) {
            // Killed half-way, or another is master there now: begin again, with whoever it is.
            self.giver = None;
            return;
        }
        match phase {
            Some(Phase::Ending) => self.end_history(now, out),
            Some(Phase::Asking | Phase::Giving { .. }) => self.say_again(now, out),
            None => {}
        }
    }

    /// Yields to a flock that leads, if one is announced.
    pub(crate) fn decide_to_yield(&mut self, now: Time, out: &mut Outbox<Output>) {
        if !self.is_master() {
            return;
        }
        let (Some(ours), Some(group)) = (self.flock_claim(now), &self.group) else {
            return;
        };
        let better = self.masters().filter(|(_, flock)| {
            let (theirs, our) = self.strengths(now, flock, &ours);
            let leads = order_as(flock, theirs) > order_as(&ours, our);
            flock.lineage != ours.lineage && !flock.merging && leads
        });
        let Some((to, into)) = foremost(better).map(|(node, flock)| (node, flock.lineage)) else {
            return;
        };
        let empty = !group.meta.acknowledged
            && self.mastership.as_ref().is_none_or(|mastership| mastership.waiting() == 0)
            && group.engine.records_after(group.applied.0).is_empty();
        if empty && group.conf.voters.len() == 1 && group.conf.outgoing.is_empty() {
            self.dissolve(now, Some(into), "it met a flock that leads", out);
            return;
        }
        self.begin_giving(now, into, to);
        if let Some(giver) = self.giver.as_mut().filter(|_| empty) {
            giver.phase = Phase::Ending;
        }
    }

    pub(crate) fn begin_giving(&mut self, now: Time, into: Lineage, to: NodeId) {
        let holder = !self.is_master();
        let tail = self.group.as_ref().filter(|_| holder).map(Group::tail_items);
        self.giver = Some(Giver {
            into,
            to,
            session: self.rng.bits(),
            since: now,
            heard: now,
            sent: None,
            phase: Phase::Asking,
            tail: tail.unwrap_or_default(),
        });
    }

    /// The flock's own decision to be over; a holder decides for itself alone.
    fn end_history(&mut self, now: Time, out: &mut Outbox<Output>) {
        let Some(into) = self.giver.as_ref().map(|giver| giver.into) else {
            return;
        };
        if !self.is_master() {
            // Only this node's copy is over there: of what others hold of this history nothing is
            // said, so it is not announced as ended.
            let lineage = self.history_of();
            self.dissolve(now, None, "everything it held is handed over", out);
            self.follow = Some(into);
            if let Some(lineage) = lineage {
                out.push(Output::Event(Event::MergedInto { lineage, into }));
            }
            return;
        }
        let waiting = self.mastership.as_ref().map_or(0, |mastership| mastership.waiting());
        let (Some(group), Some(giver)) = (&mut self.group, &mut self.giver) else {
            return;
        };
        let due = giver.sent.is_none_or(|at| now.since(at) >= PATIENCE);
        if waiting == 0 && due {
            giver.sent = Some(now);
            let _place = group.engine.propose(&Record::Ended { into });
        }
    }

    fn say_again(&mut self, now: Time, out: &mut Outbox<Output>) {
        let due = |at: Time| now.since(at) >= self.config.retry;
        let (Some(group), Some(giver)) = (&self.group, &self.giver) else {
            return;
        };
        if !giver.sent.is_none_or(due) {
            return;
        }
        // A master's acknowledgements under way are in its history before it is compared.
        let waiting = self.mastership.as_ref().map_or(0, |mastership| mastership.waiting());
        if waiting > 0 && now.since(giver.since) < PATIENCE {
            return;
        }
        let (to, from, session, into) = (giver.to, group.meta.lineage, giver.session, giver.into);
        let message = match giver.phase {
            Phase::Asking => {
                let (points, led) = (group.points(), self.is_master());
                Message::MergeAsk { from, session, into, points, led }
            }
            Phase::Giving { common, next } => {
                let (items, last) = batch(group, giver, common, next);
                Message::Items { from, session, into, first: next, items, last }
            }
            Phase::Ending => return,
        };
        if let Some(giver) = &mut self.giver {
            giver.sent = Some(now);
        }
        self.send(to, &message, out);
    }

    pub(crate) fn merge_asked(
        &mut self,
        now: Time,
        question: Question,
        into: Lineage,
        out: &mut Outbox<Output>,
    ) {
        let Question { from, lineage, session, .. } = question;
        let ours = self.history_of() == Some(into) && lineage != into;
        if !ours || !self.is_master() {
            return;
        }
        match self.prove(now, question, out) {
            Proof::Given(question) => self.grant_merge(question, out),
            Proof::Sought => self.send(from, &Message::MergeWait { from: lineage, into }, out),
            Proof::Failed => {
                self.send(from, &Message::MergeDoubted { from: lineage, session, into }, out);
            }
        }
    }

    /// Lets another history merge into this master's, from where it was before, if it was.
    pub(crate) fn grant_merge(&self, question: Question, out: &mut Outbox<Output>) {
        let Question { from, lineage, session, points, .. } = question;
        let Some(group) = self.group.as_ref().filter(|_| self.is_master()) else {
            return;
        };
        let into = group.meta.lineage;
        if self.giver.is_some() {
            self.send(from, &Message::MergeWait { from: lineage, into }, out);
            return;
        }
        let holder = Holder { node: from, lineage, session };
        let next = group.next_item(holder);
        let common = points.into_iter().filter(|point| group.has_point(*point));
        let common = common.map(|(index, _)| index).max().unwrap_or(0);
        let message = if next == ALL_ITEMS {
            Message::ItemsTaken { from: lineage, session, into, next, done: true }
        } else {
            Message::MergeGrant { from: lineage, session, into, common, next }
        };
        self.send(from, &message, out);
    }

    pub(crate) fn merge_granted(
        &mut self,
        now: Time,
        from: NodeId,
        session: u64,
        into: Lineage,
        (common, next): (u64, u64),
        out: &mut Outbox<Output>,
    ) {
        let Some(giver) = &mut self.giver else {
            return;
        };
        if (giver.to, giver.session, giver.into, giver.phase)
            == (from, session, into, Phase::Asking)
        {
            giver.phase = Phase::Giving { common, next };
            (giver.heard, giver.sent) = (now, None);
            self.say_again(now, out);
        }
    }

    /// The other is merging itself: it is asked again, until patience ends.
    pub(crate) fn merge_waits(&mut self, now: Time, from: NodeId, into: Lineage) {
        if let Some(giver) = self.giver.as_mut().filter(|it| (it.to, it.into) == (from, into)) {
            giver.sent = Some(now);
        }
    }

    pub(crate) fn items_came(
        &mut self,
        from: NodeId,
        (lineage, session): (Lineage, u64),
        into: Lineage,
        (first, last): (u64, bool),
        items: Vec<Item>,
        out: &mut Outbox<Output>,
    ) {
        let ours = self.history_of() == Some(into) && self.is_master() && self.giver.is_none();
        let (Some(group), Some(mastership)) = (&mut self.group, &mut self.mastership) else {
            return;
        };
        if !ours || lineage == into {
            return;
        }
        let holder = Holder { node: from, lineage, session };
        let applied = group.next_item(holder);
        if first < applied {
            let done = applied == ALL_ITEMS;
            let message = Message::ItemsTaken { from: lineage, session, into, next: applied, done };
            self.send_when_safe(from, message, out);
            return;
        }
        let size: usize = items.iter().map(|item| item.body.len()).sum();
        let room = group.bytes + size <= MAX_IMAGE_BYTES;
        if first != applied || mastership.taking.contains_key(&holder) || !room {
            return;
        }
        let mut next = first;
        let mut place = None;
        for Item { origin, body } in items {
            let record = Record::Foreign { from: holder, item: next, origin, body };
            let Some(index) = group.engine.propose(&record) else {
                break;
            };
            (next, place) = (next + 1, Some(index));
        }
        if last
            && let Some(index) =
                group.engine.propose(&Record::Absorbed { from: holder, changes: next })
        {
            (next, place) = (ALL_ITEMS, Some(index));
        }
        if let Some(index) = place {
            mastership.taking.insert(holder, (next, index));
        }
    }

    /// Confirms what was taken over once it is as safe as an acknowledged write.
    pub(crate) fn taken(&mut self, out: &mut Outbox<Output>) {
        let safe = self.safe_everywhere();
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        if mastership.taking.is_empty() {
            return;
        }
        let upto = safe.min(group.applied.0);
        let into = group.meta.lineage;
        let mut safe = Vec::new();
        mastership.taking.retain(|holder, (next, index)| {
            let done = *index <= upto;
            if done {
                safe.push((*holder, *next));
            }
            !done
        });
        for (holder, next) in safe {
            let Holder { node, lineage: from, session } = holder;
            let done = next == ALL_ITEMS;
            self.send(node, &Message::ItemsTaken { from, session, into, next, done }, out);
        }
    }

    pub(crate) fn items_taken(
        &mut self,
        now: Time,
        from: NodeId,
        session: u64,
        (next, done): (u64, bool),
        out: &mut Outbox<Output>,
    ) {
        let Some(giver) = &mut self.giver else {
            return;
        };
        if (giver.to, giver.session) != (from, session) {
            return;
        }
        giver.heard = now;
        giver.sent = None;
        #[cfg(test)]
        let done = done || crate::plant::is(crate::plant::Bug::HalfMerge);
        match giver.phase {
            _ if done => giver.phase = Phase::Ending,
            Phase::Giving { common, next: before } if next > before => {
                giver.phase = Phase::Giving { common, next };
                self.say_again(now, out);
            }
            Phase::Asking | Phase::Giving { .. } | Phase::Ending => {}
        }
    }
}

/// The changes from `next` on that fit one message, and whether they are the last.
fn batch(group: &Group, giver: &Giver, common: u64, next: u64) -> (Vec<Item>, bool) {
    let mut items: Vec<Item> = Vec::new();
    let mut bytes = 0;
    loop {
        let Some(item) = group.item(giver.into, common, next + items.len() as u64, &giver.tail)
        else {
            return (items, true);
        };
        bytes += item.body.len() + 96;
        if bytes > BATCH_BYTES && !items.is_empty() {
            return (items, false);
        }
        items.push(item);
    }
}
