//! Two flocks that meet end as one (scenario 5; DVM-27, 28; BLOC-15 to 18): who yields, and how
//! what it acknowledged reaches the other.
//!
//! What travels is not the log of the one that yields but what its host makes of it: *items*, of
//! which the managers understand nothing. The host makes them from the entries that the history
//! holds and not from the catalog that it shows, which may be another flock's by then. A master's
//! log goes on for a moment while it yields (what it takes over from a third is decided), so its
//! host is asked again until there is nothing after what it was asked for; a former manager's log
//! stands still, and what of it was never known to be decided is handed over with the rest. Nothing
//! ends before all items are as safe over there as an acknowledged write.

use std::cmp::Reverse;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::config::{MAX_ENTRY_BYTES, MAX_HAND_OVER_BYTES, MAX_IMAGE_BYTES};
use crate::event::{Decided, Event, Origin, Output};
use crate::follow::foremost;
use crate::group::Group;
use crate::id::{Founding, Generation, Lineage};
use crate::machine::Managers;
use crate::message::{FlockClaim, Items, MAX_ITEMS, MAX_POINTS, Message};
use crate::proof::Proof;
use crate::stored::{ALL_ITEMS, Chain, History, Holder, Record};

/// Bytes of items in one message; with one item over it, that one alone.
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
    /// A former manager hands over what its log holds, and not the flock's master what it decided.
    holder: bool,
    /// When the other side last answered.
    heard: Time,
    sent: Option<Time>,
    phase: Phase,
    /// What the host made of the history. The other side counts them, so that in one session none
    /// is ever another; but more may follow.
    items: Vec<Bytes>,
    /// How many entries of the catalog they are about.
    entries: u64,
    /// Up to which place of the log they say everything.
    upto: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asking,
    /// The host makes items of what the log holds up to a place.
    Making {
        upto: u64,
        next: u64,
    },
    /// The other side has all items before `next`.
    Giving {
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

    /// When it is given up and decided anew unless the other side says something; before the other
    /// is asked, when it is at the latest.
    pub(crate) fn decided_anew_at(&self) -> Option<Time> {
        (self.phase != Phase::Ending).then(|| self.heard + PATIENCE)
    }

    /// The items from `next` on that fit one message, and whether they are the last there are.
    fn batch(&self, next: u64) -> (Vec<Bytes>, bool) {
        let next = usize::try_from(next).unwrap_or(usize::MAX).min(self.items.len());
        let mut bytes = 0;
        let fits = |item: &&Bytes| {
            let first = bytes == 0;
            bytes += History::bytes_of(item);
            first || bytes <= BATCH_BYTES
        };
        let left = &self.items[next..];
        let batch: Vec<Bytes> = left.iter().take(MAX_ITEMS).take_while(fits).cloned().collect();
        let all = batch.len() == left.len();
        (batch, all)
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

    /// Whether the items of a giver say all that this history is to hand over. A master's log goes
    /// on until its last entry is applied; nobody writes to that of a holder.
    fn is_said(&self, giver: &Giver) -> bool {
        giver.holder || (!self.is_undecided() && self.history.head().0 <= giver.upto)
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
        let (into, to, phase) = (giver.into, giver.to, giver.phase);
        let there = self.master_of(into).map(|(node, _)| node);
        // Who has not asked yet waits for itself.
        let asked = phase != Phase::Asking || giver.sent.is_some();
        let silent = asked && now.since(giver.heard) >= PATIENCE;
        // A master that is none any more has a log that may hold more than was decided.
        let another = giver.holder == self.is_master();
        if phase != Phase::Ending && (there != Some(to) || silent || another) {
            // Killed half-way, or another is master there now: begin again, with whoever it is.
            self.giver = None;
            return;
        }
        match phase {
            Phase::Ending => self.end_history(now, out),
            Phase::Asking | Phase::Giving { .. } => self.say_again(now, out),
            Phase::Making { .. } => {}
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
        self.giver = Some(Giver {
            into,
            to,
            session: self.rng.bits(),
            since: now,
            holder: !self.is_master(),
            heard: now,
            sent: None,
            phase: Phase::Asking,
            items: Vec::new(),
            entries: 0,
            upto: 0,
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
        let (to, from, session, into) = (giver.to, group.meta.lineage, giver.session, giver.into);
        let (message, asks) = match giver.phase {
            Phase::Asking if self.is_about_to_decide(now, giver) => return,
            Phase::Asking => {
                let (points, led) = (group.points(), self.is_master());
                let first = giver.sent.is_none();
                (Message::MergeAsk { from, session, into, points, led }, first)
            }
            Phase::Giving { next } => {
                let (items, all) = giver.batch(next);
                let last = all && group.is_said(giver);
                if items.is_empty() && !last {
                    let (upto, more) = (giver.upto, group.history.head().0 > giver.upto);
                    if more {
                        self.want_hand_over(upto, next, out);
                    }
                    return; // What is not decided yet is waited for.
                }
                let generation = group.meta.generation;
                let (first, last) = (next, last.then_some(giver.entries));
                let items = Items { from, generation, session, into, first, items, last };
                (Message::Items(items), false)
            }
            Phase::Making { .. } | Phase::Ending => return,
        };
        if let Some(giver) = &mut self.giver {
            giver.sent = Some(now);
            if asks {
                giver.heard = now;
            }
        }
        self.send(to, &message, out);
    }

    /// Whether a master that yields waits for its own log: what it takes over from a third history,
    /// and what it acknowledges, is in its history before that is compared.
    fn is_about_to_decide(&self, now: Time, giver: &Giver) -> bool {
        let (Some(group), Some(mastership)) = (&self.group, &self.mastership) else {
            return false;
        };
        let under_way = mastership.waiting() > 0 || !mastership.taking.is_empty();
        (under_way || group.is_undecided()) && now.since(giver.since) < PATIENCE
    }

    /// Has the host make items of what the history holds after `common`.
    fn want_hand_over(&mut self, common: u64, next: u64, out: &mut Outbox<Output>) {
        let (Some(group), Some(giver)) = (&self.group, &mut self.giver) else {
            return;
        };
        let mut entries: Vec<Decided> = group.history.decided().collect();
        if giver.holder {
            entries.extend(group.tail());
        }
        let upto = entries.last().map_or(group.history.head().0, |entry| entry.index);
        giver.phase = Phase::Making { upto, next };
        let checkpoint = group.history.checkpoint.clone();
        out.push(Output::WantHandOver { checkpoint, entries, common });
    }

    /// What the host made.
    pub(crate) fn hand_over_came(
        &mut self,
        now: Time,
        items: Vec<Bytes>,
        entries: u64,
        out: &mut Outbox<Output>,
    ) {
        let Some(giver) = &mut self.giver else {
            return;
        };
        let Phase::Making { upto, next } = giver.phase else {
            return;
        };
        let all = giver.items.iter().chain(&items);
        let bytes = all.map(History::bytes_of).fold(0, usize::saturating_add);
        let long = items.iter().map(Bytes::len).max().filter(|len| *len > MAX_ENTRY_BYTES);
        if bytes > MAX_HAND_OVER_BYTES || long.is_some() {
            let bytes = long.unwrap_or(bytes);
            out.push(Output::Event(Event::HandOverRefused { bytes }));
            return;
        }
        giver.items.extend(items);
        giver.entries = giver.entries.saturating_add(entries);
        giver.upto = upto;
        giver.phase = Phase::Giving { next };
        giver.sent = None;
        self.say_again(now, out);
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
            giver.heard = now;
            self.want_hand_over(common, next, out);
        }
    }

    /// The other is merging itself: it is asked again, until patience ends.
    pub(crate) fn merge_waits(&mut self, now: Time, from: NodeId, into: Lineage) {
        if let Some(giver) = self.giver.as_mut().filter(|it| (it.to, it.into) == (from, into)) {
            giver.sent = Some(now);
        }
    }

    pub(crate) fn items_came(&mut self, from: NodeId, items: Items, out: &mut Outbox<Output>) {
        let Items { from: lineage, generation, session, into, first, items, last } = items;
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
        let size: usize = items.iter().map(Bytes::len).sum();
        let room = group.bytes + size <= MAX_IMAGE_BYTES;
        if first != applied || mastership.taking.contains_key(&holder) || !room {
            return;
        }
        let mut next = first;
        let mut place = None;
        let origin = Origin::Foreign { lineage, generation };
        for body in items {
            let record = Record::Foreign { from: holder, item: next, origin, body };
            let Some(index) = group.engine.propose(&record) else {
                break;
            };
            (next, place) = (next + 1, Some(index));
        }
        if let Some(entries) = last
            && let Some(index) =
                group.engine.propose(&Record::Absorbed { from: holder, changes: entries })
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
            Phase::Giving { next: before } if next > before => {
                giver.phase = Phase::Giving { next };
                self.say_again(now, out);
            }
            Phase::Asking | Phase::Making { .. } | Phase::Giving { .. } | Phase::Ending => {}
        }
    }
}
