//! What neighbours say, and what they are answered.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use skep_base::{NodeId, Outbox, Time};

use super::message::{Delta, Give, MAX_GIVE_BYTES, Message, Tell, Want};
use super::{MAX_PENDING, Output, Place, Replica};
use crate::catalog::{Catalog, Slots, bucket_of};
use crate::key::Key;
use crate::slot::{OVERHEAD, Slot, Stamp};

impl Replica {
    pub(super) fn message(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        out: &mut Outbox<Output>,
    ) {
        match message {
            Message::Tell(tell) => self.told_by(now, from, tell, out),
            Message::Delta(delta) => self.delta(now, from, delta, out),
            Message::Want(want) => {
                let give = page(self.catalog(), want);
                self.send(from, &Message::Give(give), out);
            }
            Message::Give(give) => self.given(now, from, give, out),
        }
    }

    fn told_by(&mut self, now: Time, from: NodeId, tell: Tell, out: &mut Outbox<Output>) {
        let Some(told) = self.peers.get_mut(&from) else { return };
        *told = Some(tell.root);
        self.tried.remove(&from);
        if tell.seen > self.seen {
            if tell.seen > self.seen.saturating_add(Stamp::MAX_JUMP) {
                let reason = "an epoch that is far beyond any that was seen".into();
                out.push(Output::Reject { from, reason });
            } else {
                self.see(tell.seen, out);
                let others: Vec<NodeId> =
                    self.peers.keys().copied().filter(|peer| *peer != from).collect();
                let tell = Message::Tell(self.stand());
                others.into_iter().for_each(|peer| self.send(peer, &tell, out));
            }
        }
        self.follow(now, out);
    }

    fn delta(&mut self, now: Time, from: NodeId, delta: Delta, out: &mut Outbox<Output>) {
        if self.place != Place::Host || self.catalog.root() == delta.to {
            return;
        }
        if self.pending.iter().any(|(_, other)| other.to == delta.to) {
            return;
        }
        if self.pending.len() == MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push((from, delta));
        // It may be what the newest head signs; else it waits for the head that signs it.
        let signed = self.head.map(|(_, head, _)| head.root);
        if self.pending.iter().any(|(_, delta)| Some(delta.to) == signed) {
            self.follow(now, out);
        }
    }

    pub(super) fn ask(
        &mut self,
        now: Time,
        peer: NodeId,
        after: Option<Key>,
        out: &mut Outbox<Output>,
    ) {
        let draft = self.draft.get_or_insert_with(|| self.catalog.clone());
        let want = Want { buckets: draft.shorts(), after: after.clone() };
        self.pull = Some((peer, after, now + self.config.answer_within));
        self.send(peer, &Message::Want(want), out);
    }

    fn given(&mut self, now: Time, from: NodeId, give: Give, out: &mut Outbox<Output>) {
        let asked = self
            .pull
            .as_ref()
            .is_some_and(|(peer, after, _)| *peer == from && *after == give.after);
        let Some(draft) = self.draft.as_mut().filter(|_| asked) else { return };
        self.pull = None;
        let until = give.until.clone();
        let changes = changes(draft, give);
        let changes = changes.and_then(|changes| draft.exchange(changes).ok());
        let Some(changes) = changes else {
            let reason = "entries that are none, or not those that were asked for".into();
            out.push(Output::Reject { from, reason });
            return self.asked_in_vain(now, from, out);
        };
        let Some((_, head, _)) = self.head else { return };
        if self.reached(head, out) {
            return;
        }
        let more = until.is_some();
        if more || !changes.is_empty() {
            // The sender may have gone on while it told: what it has now is nearer to the head.
            let has_it = self.peers.get(&from).is_some_and(|told| *told == Some(head.root));
            if more || has_it {
                return self.ask(now, from, until, out);
            }
            return self.follow(now, out);
        }
        self.asked_in_vain(now, from, out);
    }
}

/// The next part of what differs.
fn page(catalog: &Catalog, want: Want) -> Give {
    let Want { buckets, after } = want;
    let mine = catalog.shorts();
    let differs = |at: &u8| buckets.get(usize::from(*at)) != mine.get(usize::from(*at));
    let from = after.as_ref().map_or(0, bucket_of);
    let differing: Vec<u8> = (from..=u8::MAX).filter(differs).collect();
    let mut give = Give { buckets: differing, after, until: None, slots: Vec::new() };
    let mut bytes = 0;
    for bucket in &give.buckets {
        for (key, slot) in catalog.bucket_slots(*bucket) {
            if !is_after(key, give.after.as_ref()) {
                continue;
            }
            let more = slot.bytes(key) + slot.versions().len() * OVERHEAD + OVERHEAD;
            if bytes > 0 && bytes + more > MAX_GIVE_BYTES {
                give.until = give.slots.last().map(|(last, _)| last.clone());
                return give;
            }
            bytes += more;
            give.slots.push((key.clone(), slot.clone()));
        }
    }
    give
}

/// Whether an entry comes after another in the order of buckets and then of keys.
fn is_after(key: &Key, after: Option<&Key>) -> bool {
    after.is_none_or(|after| (bucket_of(key), key) > (bucket_of(after), after))
}

/// What an answer makes of a draft. Nothing where it tells of entries that it may not tell of.
fn changes(draft: &Catalog, give: Give) -> Option<Slots> {
    let Give { buckets, after, until, slots } = give;
    let within = |key: &Key| {
        is_after(key, after.as_ref())
            && until.as_ref().is_none_or(|until| !is_after(key, Some(until)))
    };
    let told: BTreeSet<&Key> = slots.iter().map(|(key, _)| key).collect();
    let listed = |key: &Key| buckets.binary_search(&bucket_of(key)).is_ok();
    if told.len() != slots.len() || !slots.iter().all(|(key, _)| within(key) && listed(key)) {
        return None;
    }
    let here = buckets.iter().flat_map(|bucket| draft.bucket_slots(*bucket));
    let gone = here.map(|(key, _)| key).filter(|key| within(key) && !told.contains(key));
    let mut changes: Slots = gone.map(|key| (key.clone(), None)).collect();
    let same = |key: &Key, slot: &Slot| draft.slot(key) == Some(slot);
    let new = slots.into_iter().filter(|(key, slot)| !same(key, slot));
    changes.extend(new.map(|(key, slot)| (key, Some(slot))));
    Some(changes)
}
