//! Pruning the eager flood, and repairing what pruning loses.
//!
//! A body that came and was here already prunes the edge it came over, for its origin. Over a
//! pruned edge go ids, gathered for a few milliseconds. An id whose body does not come by another
//! edge within two round trips is asked for, and whoever is asked carries that origin's bodies from
//! then on. So an update that any survivor holds reaches every neighbour of it as a body or as an
//! id, and from there everybody, whoever dies meanwhile.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{NodeId, Outbox, Time};

use crate::event::{Body, LogRecord, Output, ReadItem, Rejection};
use crate::fault::planted;
use crate::group::{Fresh, Ids};
use crate::id::{Serial, UpdateId};
use crate::life::{GroupIx, Place};
use crate::machine::{Flood, ReadFor};
use crate::message::{
    BATCH_BYTES, HEADER_BYTES_MAX, Message, Packet, RUN_IDS, RUNS_PER_MESSAGE, Run, StoredHead,
};
use crate::relay::batches;

/// How long ids are gathered. Of the two ends of an edge one waits half as long: what it says
/// first, the other need not say.
const GATHER: Duration = Duration::from_millis(10);
/// What is taken for the round trip of a link that was not measured.
const ROUND_TRIP_UNKNOWN: Duration = Duration::from_millis(50);
/// Nobody is asked before this: an id may have waited [`GATHER`], and a body in a busy process.
const ASK_AT_LEAST: Duration = Duration::from_millis(20);
/// How long a body is awaited at most while those before it come one after the other: a busy link
/// brings them late, and to ask for them would make it no less busy.
const AWAIT_AT_MOST: Duration = Duration::from_secs(1);
/// What is added to four round trips before the next is asked.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often each holder is asked before the update is left to comparisons.
const ASKS_PER_HOLDER: usize = 3;
/// A neighbour whose id comes this much before the body would have brought it earlier by that and
/// what it gathered.
const WELL_AHEAD: Duration = Duration::from_millis(2);
/// Links whose round trips are remembered: more than a node keeps.
const MAX_ROUND_TRIPS: usize = 4096;
/// Origins in one message.
const MAX_ORIGINS: usize = RUNS_PER_MESSAGE;
/// Reads for one neighbour's questions at a time; what is over is asked again.
const MAX_READS_PER_PEER: usize = 64;

impl Flood {
    /// How long it takes to a neighbour and back, as its link shows.
    pub(crate) fn round_trip(&mut self, peer: NodeId, time: Duration) {
        if self.round_trips.len() < MAX_ROUND_TRIPS || self.round_trips.contains_key(&peer) {
            self.round_trips.insert(peer, time);
        }
    }

    /// How far off a neighbour is, as estimates have it.
    pub(crate) fn distance(&mut self, peer: NodeId, time: Duration) {
        if self.distances.len() < MAX_ROUND_TRIPS || self.distances.contains_key(&peer) {
            self.distances.insert(peer, time);
        }
    }

    fn ask_after(&self, peer: NodeId) -> Duration {
        let time = self.round_trips.get(&peer).copied().unwrap_or(ROUND_TRIP_UNKNOWN);
        (time * 2).max(ASK_AT_LEAST)
    }

    /// A body came that was here already.
    pub(crate) fn came_late(&mut self, now: Time, ix: GroupIx, id: UpdateId, from: NodeId) {
        let own = id.origin == self.me;
        let prune = self.config.prune && self.branches.came_late(ix, id.origin, (from, own), now);
        let Some(group) = self.group_at(ix) else {
            return;
        };
        group.has(from, id);
        if prune && group.peers.contains(&from) {
            group.prunes.entry(from).or_default().insert(id.origin);
        }
    }

    /// A body came that was not here. Gives the neighbours that have it as well.
    pub(crate) fn came_first(
        &mut self,
        now: Time,
        ix: GroupIx,
        id: UpdateId,
        (from, pulled): (NodeId, bool),
        out: &mut Outbox<Output>,
    ) -> Vec<NodeId> {
        let rumour = self.rumours.settle(ix, id);
        if !pulled {
            self.branches.came_from(ix, id, from, now);
            match &rumour {
                Some(rumour) if rumour.asked == 0 && rumour.first + WELL_AHEAD <= now => {
                    let ahead = rumour.holders.first().copied().filter(|ahead| *ahead != from);
                    if let Some(ahead) = ahead
                        && self.branches.was_ahead(ix, id.origin, ahead, now)
                    {
                        self.graft_to(ix, ahead, &[id.origin], &[], out);
                    }
                }
                _ => self.branches.was_first(ix, id.origin),
            }
        }
        let mut known_by = rumour.map_or_else(Vec::new, |rumour| rumour.holders);
        known_by.push(from);
        known_by
    }

    /// The ids of `fresh` go to a neighbour, soon.
    pub(crate) fn queue_id(&mut self, now: Time, ix: GroupIx, peer: NodeId, id: UpdateId) {
        let wait = if self.me < peer { GATHER / 2 } else { GATHER };
        let mut due = now + wait;
        if let Some(group) = self.group_at(ix) {
            let queue = group.ids.entry(peer).or_insert_with(|| Ids { due, ids: BTreeSet::new() });
            due = queue.due;
            queue.ids.insert(id);
        }
        self.wake_at(due, "ids");
    }

    pub(crate) fn tick_ids(&mut self, now: Time, out: &mut Outbox<Output>) {
        let mut due = Vec::new();
        let mut next = Time::NEVER;
        for group in self.groups.values_mut() {
            let ready = group.ids.iter().filter(|(_, queue)| queue.due <= now);
            let ready: Vec<NodeId> = ready.map(|(peer, _)| *peer).collect();
            for peer in ready {
                due.extend(group.ids.remove(&peer).map(|queue| (group.ix, peer, queue.ids)));
            }
            next = group.ids.values().map(|queue| queue.due).fold(next, Time::min);
        }
        for (ix, peer, ids) in due {
            self.send_ids(ix, peer, &ids, out);
        }
        self.wake_at(next, "ids");
    }

    fn send_ids(
        &mut self,
        ix: GroupIx,
        peer: NodeId,
        ids: &BTreeSet<UpdateId>,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group_name(ix).cloned().filter(|_| !planted().silence) else {
            return;
        };
        self.stats.ids_sent += ids.len() as u64;
        for runs in runs_of(ids.iter().copied()) {
            let message = Message::Have { group: group.clone(), runs };
            self.send(peer, &Packet::bare(message), out);
        }
    }

    pub(crate) fn send_prunes(&mut self, out: &mut Outbox<Output>) {
        let mut sends = Vec::new();
        for group in self.groups.values_mut() {
            for (peer, origins) in core::mem::take(&mut group.prunes) {
                let origins: Vec<NodeId> = origins.into_iter().collect();
                for origins in origins.chunks(MAX_ORIGINS) {
                    let (group, origins) = (group.name.clone(), origins.to_vec());
                    self.stats.prunes_sent += origins.len() as u64;
                    sends.push((peer, Message::Prune { group, origins }));
                }
            }
        }
        for (peer, message) in sends {
            self.send(peer, &Packet::bare(message), out);
        }
    }

    /// A neighbour has updates.
    pub(crate) fn heard(&mut self, now: Time, ix: GroupIx, from: NodeId, runs: &[Run]) {
        let times = (now, now + self.ask_after(from));
        for id in runs.iter().flat_map(Run::ids) {
            if let Some(group) = self.group_at(ix) {
                group.has(from, id);
            }
            let known = self.index.place(ix, id) == Place::Known
                || self.held.contains(ix, id.origin, id.serial)
                || id.origin == self.me;
            if !known && !self.rumours.hear(ix, id, from, times) {
                self.stats.dropped_rumours += 1;
            }
        }
        if let Some(at) = self.rumours.next_due() {
            self.wake_at(at, "ids without bodies");
        }
    }

    /// Asks for what did not come by itself.
    pub(crate) fn tick_rumours(&mut self, now: Time, out: &mut Outbox<Output>) {
        let mut asks: BTreeMap<(GroupIx, NodeId), Vec<UpdateId>> = BTreeMap::new();
        while let Some((ix, id, rumour)) = self.rumours.due(now) {
            let holders = rumour.holders.len();
            let holder = rumour.holders.get(rumour.asked % holders.max(1)).copied();
            let tired = rumour.asked >= holders * ASKS_PER_HOLDER || planted().incurious;
            let (first, unasked) = (rumour.first, rumour.asked == 0);
            let Some(holder) = holder.filter(|_| !tired) else {
                self.rumours.settle(ix, id);
                continue;
            };
            let (until, within) = (first + AWAIT_AT_MOST, self.ask_after(holder));
            if unasked && now < until && self.branches.is_on_its_way(ix, id, (now, within)) {
                // As long again as it was awaited: a thousand are not looked at all the time.
                let again = now + now.since(first).max(within);
                self.rumours.again(ix, id, again.min(until), false);
                continue;
            }
            let wait = self.ask_after(holder) * 2 + ASK_AGAIN;
            self.rumours.again(ix, id, now + wait, true);
            asks.entry((ix, holder)).or_default().push(id);
        }
        for ((ix, holder), ids) in asks {
            self.stats.asked += ids.len() as u64;
            let mut origins: Vec<NodeId> = ids.iter().map(|id| id.origin).collect();
            origins.sort_unstable();
            origins.dedup();
            self.graft_to(ix, holder, &origins, &ids, out);
        }
        if let Some(at) = self.rumours.next_due() {
            self.wake_at(at, "ids without bodies");
        }
    }

    fn graft_to(
        &mut self,
        ix: GroupIx,
        peer: NodeId,
        origins: &[NodeId],
        ids: &[UpdateId],
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group_name(ix).cloned() else {
            return;
        };
        self.stats.grafts_sent += origins.len() as u64;
        origins.iter().for_each(|origin| self.branches.uncut(ix, *origin, peer));
        let mut origins = origins.chunks(MAX_ORIGINS);
        let mut runs = runs_of(ids.iter().copied()).into_iter();
        loop {
            let (some, run) = (origins.next(), runs.next());
            if some.is_none() && run.is_none() {
                return;
            }
            let origins = some.unwrap_or_default().to_vec();
            let message =
                Message::Graft { group: group.clone(), origins, runs: run.unwrap_or_default() };
            self.send(peer, &Packet::bare(message), out);
        }
    }

    pub(crate) fn pruned(&mut self, ix: GroupIx, from: NodeId, origins: &[NodeId]) {
        for origin in origins {
            self.branches.prune(ix, *origin, from);
        }
    }

    /// A neighbour wants the bodies of these origins, and of these updates at once.
    pub(crate) fn grafted(
        &mut self,
        now: Time,
        ix: GroupIx,
        from: NodeId,
        (origins, runs): (&[NodeId], &[Run]),
        out: &mut Outbox<Output>,
    ) {
        for origin in origins {
            self.branches.graft(ix, *origin, from);
        }
        let mut here: Vec<Fresh> = Vec::new();
        let mut stored: Vec<ReadItem> = Vec::new();
        for id in runs.iter().flat_map(Run::ids) {
            if let Some(waiting) = self.held.get(ix, id.origin, id.serial) {
                // Of what is over this node's limit the body was not kept.
                if let Body::Here(body) = &waiting.body
                    && body.len() as u64 == waiting.header.length
                {
                    let (header, body) = (waiting.header.clone(), body.clone());
                    here.push(Fresh::answer(header, waiting.born, body));
                }
                continue;
            }
            let Some(entry) = self.index.find(ix, id) else {
                continue;
            };
            if let Some((head, body)) = self.cache.get(entry.position).cloned() {
                here.push(Fresh::answer(head.header, entry.born, body));
            } else if entry.position < self.written.0 && !entry.large {
                stored.push(entry.item());
            }
        }
        if let Some(name) = self.group_name(ix).cloned() {
            for frame in batches(now, &name, here.iter()) {
                self.send_bytes(from, frame, out);
            }
        }
        self.read_asked(ix, from, &stored, out);
    }

    fn read_asked(
        &mut self,
        group: GroupIx,
        peer: NodeId,
        stored: &[ReadItem],
        out: &mut Outbox<Output>,
    ) {
        let of_peer =
            |read: &&ReadFor| matches!(read, ReadFor::Asked { peer: of, .. } if *of == peer);
        let mut under_way = self.reads.values().filter(of_peer).count();
        let mut rest = stored;
        while !rest.is_empty() {
            if under_way >= MAX_READS_PER_PEER {
                let reason = Rejection::TooManyRequests(MAX_READS_PER_PEER);
                return self.reject(peer, reason, out);
            }
            let mut bytes = 0;
            let fits = |item: &&ReadItem| {
                bytes += HEADER_BYTES_MAX + item.length as usize;
                bytes <= BATCH_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (items, after) = rest.split_at(count.min(rest.len()));
            rest = after;
            under_way += 1;
            let token = self.next_read(ReadFor::Asked { peer, group });
            out.push(Output::Read { token, items: items.to_vec() });
        }
    }

    pub(crate) fn asked_read(
        &mut self,
        now: Time,
        (ix, peer): (GroupIx, NodeId),
        records: Vec<Option<LogRecord>>,
        out: &mut Outbox<Output>,
    ) {
        let answers = records.into_iter().flatten().filter_map(|record| {
            let header = StoredHead::from_bytes(&record.head)?.header;
            let born = self.index.find(ix, header.id)?.born;
            let whole = record.body.len() as u64 == header.length && !header.is_large();
            whole.then(|| Fresh::answer(header, born, record.body))
        });
        let answers: Vec<Fresh> = answers.collect();
        if let Some(name) = self.group_name(ix).cloned() {
            for frame in batches(now, &name, answers.iter()) {
                self.send_bytes(peer, frame, out);
            }
        }
    }
}

/// Ids in ascending order as runs, as many messages as it takes.
fn runs_of(ids: impl Iterator<Item = UpdateId>) -> Vec<Vec<Run>> {
    let mut messages: Vec<Vec<Run>> = Vec::new();
    let mut room = 0;
    for id in ids {
        let UpdateId { origin, serial: Serial { incarnation, sequence } } = id;
        if room > 0
            && let Some(run) = messages.last_mut().and_then(|runs| runs.last_mut())
            && (run.origin, run.incarnation) == (origin, incarnation)
            && run.first + u64::from(run.count) == sequence
        {
            run.count += 1;
            room -= 1;
            continue;
        }
        let run = Run { origin, incarnation, first: sequence, count: 1 };
        match messages.last_mut() {
            Some(runs) if room > 0 && runs.len() < RUNS_PER_MESSAGE => runs.push(run),
            _ => {
                messages.push([run].into());
                room = RUN_IDS;
            }
        }
        room -= 1;
    }
    messages
}
