//! Repair: two nodes find out where they differ, and each sends what the other lacks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::machine::{Output, Records};
use crate::message::{Item, MAX_BATCH_BYTES, Message};
use crate::store::certificates_first;

/// Stores of at most this many records skip the buckets: their whole summary is hardly larger.
const SUMMARIZE_AT_ONCE: u32 = 48;
/// A node that is in sync with somebody begins to compare with others no more often than this:
/// while a flock forms, what differs is mostly on its way already.
const COMPARE_EVERY: Duration = Duration::from_millis(100);
/// Bytes that an item takes in a frame at most.
const ITEM_BYTES: usize = 16 + 3 + 10 + 10;
/// Records that one exchange may ask for; what is over it comes with the next.
const MAX_REQUESTED: usize = 65_536;

/// What is known of one link.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Whether new records are flooded over it, once that was said.
    pub(crate) flood: Option<bool>,
    /// Records to send with the next batch.
    news: BTreeSet<(u16, NodeId, u16)>,
    /// What the peer's summaries showed that we lack, until the last of them.
    lacking: BTreeSet<(u16, NodeId, u16)>,
    synced: bool,
    /// When digests are to be compared.
    compare_at: Option<Time>,
}

impl Peer {
    pub(crate) fn floods(&self) -> bool {
        self.flood == Some(true)
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    pub(crate) fn queue(&mut self, owner: NodeId, kind: u16) {
        self.news.insert((certificates_first(kind), owner, kind));
    }

    /// The peer has this already: it sent it itself.
    pub(crate) fn has(&mut self, owner: NodeId, kind: u16) {
        self.news.remove(&(certificates_first(kind), owner, kind));
    }

    /// What waits to be sent, certificates first.
    pub(crate) fn take_news(&mut self) -> Vec<(NodeId, u16)> {
        let news = core::mem::take(&mut self.news);
        news.into_iter().map(|(_, owner, kind)| (owner, kind)).collect()
    }
}

impl Records {
    pub(crate) fn peer_up(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        self.peers.insert(peer, Peer::default());
        if !self.synced_once {
            // Whoever knows nothing yet does not wait for the other side to ask.
            self.send_digest(peer, out);
        } else if self.me < peer {
            // One side is enough, and both know which.
            self.compare_soon(now, peer, out);
        }
    }

    /// What was flooded while this link took no part never came over it: digests tell.
    pub(crate) fn flood_over(
        &mut self,
        now: Time,
        peer: NodeId,
        on: bool,
        out: &mut Outbox<Output>,
    ) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let was = state.flood.replace(on);
        if on && was == Some(false) {
            self.compare_soon(now, peer, out);
        }
    }

    /// Compares with a peer at once, or as soon as the last comparison lies back far enough.
    fn compare_soon(&mut self, now: Time, peer: NodeId, out: &mut Outbox<Output>) {
        let at = self.next_comparison;
        if now >= at {
            self.next_comparison = now + COMPARE_EVERY;
            self.send_digest(peer, out);
        } else if let Some(state) = self.peers.get_mut(&peer) {
            state.compare_at.get_or_insert(at);
            self.first_comparison = self.first_comparison.or(Some(at));
        }
    }

    /// Begins the comparisons that are due.
    pub(crate) fn compare(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.first_comparison.is_none_or(|at| now < at) {
            return;
        }
        self.first_comparison = None;
        let mut due = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.compare_at.is_some_and(|at| now >= at) {
                peer.compare_at = None;
                due.push(*id);
            }
        }
        for peer in due {
            self.next_comparison = now + COMPARE_EVERY;
            self.send_digest(peer, out);
        }
    }

    pub(crate) fn repair_one(&mut self, out: &mut Outbox<Output>) {
        let floods: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| peer.floods()).map(|(id, _)| *id).collect();
        if let Some(peer) = self.rng.pick(&floods).copied() {
            self.send_digest(peer, out);
        }
    }

    pub(crate) fn message(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        out: &mut Outbox<Output>,
    ) {
        if !self.peers.contains_key(&from) {
            return;
        }
        match message {
            Message::Digest { root, count } => self.digest_came(from, root, count, out),
            Message::InSync => {
                self.verify_pending(now, out);
                self.synced(from, out);
            }
            Message::Buckets(theirs) => self.buckets_came(from, &theirs, out),
            Message::Summary { buckets, items, last } => {
                self.summary_came(now, from, &buckets, &items, last, out);
            }
            Message::Records { entries, done } => {
                self.receive(now, from, entries, out);
                if done {
                    // What was asked for is in the store before anybody is told so.
                    self.verify_pending(now, out);
                    self.synced(from, out);
                }
            }
            Message::Request(wanted) => {
                let mut wanted = wanted;
                wanted.sort_by_key(|(owner, kind)| (certificates_first(*kind), *owner));
                self.send_records(now, from, wanted.into_iter(), Some(true), out);
                self.verify_pending(now, out);
                self.synced(from, out);
            }
        }
        self.flush_if_due(now, out);
    }

    fn send_digest(&self, to: NodeId, out: &mut Outbox<Output>) {
        let (root, count) = self.store.root();
        out.push(Output::Send { to, message: Message::Digest { root, count } });
    }

    fn synced(&mut self, peer: NodeId, out: &mut Outbox<Output>) {
        if let Some(state) = self.peers.get_mut(&peer)
            && !state.synced
        {
            state.synced = true;
            state.compare_at = None;
            self.synced_once = true;
            out.push(Output::Synced { peer });
        }
    }

    fn digest_came(&mut self, from: NodeId, root: u64, count: u32, out: &mut Outbox<Output>) {
        let (our_root, our_count) = self.store.root();
        if (root, count) == (our_root, our_count) {
            out.push(Output::Send { to: from, message: Message::InSync });
            self.synced(from, out);
        } else if our_count.max(count) <= SUMMARIZE_AT_ONCE {
            let all: Vec<u16> = (0..1024).collect();
            self.send_summary(from, &all, out);
        } else {
            let buckets = self.store.filled_buckets().collect();
            out.push(Output::Send { to: from, message: Message::Buckets(buckets) });
        }
    }

    fn buckets_came(&mut self, from: NodeId, theirs: &[(u16, u64)], out: &mut Outbox<Output>) {
        let theirs: BTreeMap<u16, u64> = theirs.iter().copied().collect();
        let ours: BTreeMap<u16, u64> = self.store.filled_buckets().collect();
        let differing: Vec<u16> = theirs
            .keys()
            .chain(ours.keys().filter(|at| !theirs.contains_key(at)))
            .copied()
            .filter(|at| theirs.get(at).copied().unwrap_or(0) != self.store.bucket(*at))
            .collect();
        self.send_summary(from, &differing, out);
    }

    /// Says what is held in `buckets`, in frames that each speak of whole buckets.
    fn send_summary(&self, to: NodeId, buckets: &[u16], out: &mut Outbox<Output>) {
        let mut named = Vec::new();
        let mut items: Vec<Item> = Vec::new();
        for bucket in buckets {
            let start = items.len();
            items.extend(self.store.items_in(*bucket));
            if items.len() * ITEM_BYTES > MAX_BATCH_BYTES && start > 0 {
                let rest = items.split_off(start);
                let full = Message::Summary {
                    buckets: core::mem::take(&mut named),
                    items: core::mem::replace(&mut items, rest),
                    last: false,
                };
                out.push(Output::Send { to, message: full });
            }
            named.push(*bucket);
        }
        let message = Message::Summary { buckets: named, items, last: true };
        out.push(Output::Send { to, message });
    }

    fn summary_came(
        &mut self,
        now: Time,
        from: NodeId,
        buckets: &[u16],
        items: &[Item],
        last: bool,
        out: &mut Outbox<Output>,
    ) {
        let theirs: BTreeMap<(NodeId, u16), _> =
            items.iter().map(|item| ((item.owner, item.kind), item.version)).collect();
        let mut surplus: BTreeSet<(u16, NodeId, u16)> = BTreeSet::new();
        for bucket in buckets.iter().copied().collect::<BTreeSet<u16>>() {
            for item in self.store.items_in(bucket) {
                let known = theirs.get(&(item.owner, item.kind));
                if known.is_none_or(|version| *version < item.version) {
                    surplus.insert((certificates_first(item.kind), item.owner, item.kind));
                }
            }
        }
        let surplus = surplus.into_iter().map(|(_, owner, kind)| (owner, kind));
        self.send_records(now, from, surplus, None, out);
        let store = &self.store;
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        for item in items {
            if peer.lacking.len() < MAX_REQUESTED
                && store.version(item.owner, item.kind).is_none_or(|ours| ours < item.version)
            {
                peer.lacking.insert((certificates_first(item.kind), item.owner, item.kind));
            }
        }
        if last {
            self.request_lacking(from, out);
        }
    }

    fn request_lacking(&mut self, from: NodeId, out: &mut Outbox<Output>) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let lacking: Vec<(NodeId, u16)> = core::mem::take(&mut peer.lacking)
            .into_iter()
            .map(|(_, owner, kind)| (owner, kind))
            .collect();
        if lacking.is_empty() {
            out.push(Output::Send { to: from, message: Message::InSync });
            return self.synced(from, out);
        }
        for part in lacking.chunks(MAX_BATCH_BYTES / ITEM_BYTES) {
            out.push(Output::Send { to: from, message: Message::Request(part.to_vec()) });
        }
    }
}
