//! Giving peers what they lack: read from the log in bounded parts, a few at a time.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::event::{LogRecord, Output, ReadToken, Rejection};
use crate::id::Serial;
use crate::index::Entry;
use crate::life::{GroupIx, Life, LifeKey};
use crate::machine::{Flood, ReadFor, age_ms};
use crate::message::{
    self, BATCH_BYTES, BATCH_HEADERS, Floor, HEADER_BYTES_MAX, Mark, Message, Packet, StoredHead,
};
use crate::relay::sent_age;

/// Parts of an answer that may be on their way: half a megabyte, so that ten minutes of a thousand
/// updates a second come back within half a minute over a link round the world.
const WINDOW: usize = 12;
/// Answers under way for one neighbour.
const MAX_SERVING_PER_PEER: usize = 32;
/// Answers under way for all.
pub(crate) const MAX_SERVING: usize = 1024;
/// How long the neighbour may take to ask for the next part.
const SERVING_IDLE: Duration = Duration::from_secs(10);
/// Floors told in one part.
const FLOORS_PER_PART: usize = 512;

/// One answer under way.
#[derive(Debug)]
pub(crate) struct Serving {
    floors: VecDeque<Floor>,
    plan: VecDeque<Span>,
    /// Parts sent and not dealt with.
    in_flight: usize,
    /// What is being read from the log, and by which read: one that was begun for an answer of the
    /// same name over a link that is gone is none of this one's.
    reading: Vec<u64>,
    read: Option<ReadToken>,
    last: Time,
}

/// Updates of one life: above `after` and up to `up_to`.
#[derive(Debug)]
struct Span {
    key: LifeKey,
    after: u64,
    up_to: u64,
}

impl Serving {
    /// Whether the neighbour has yet to get this update.
    pub(crate) fn awaits(&self, key: LifeKey, sequence: u64) -> bool {
        let mut spans = self.plan.iter();
        spans.any(|span| span.key == key && (span.after + 1..=span.up_to).contains(&sequence))
    }
}

type ServingKey = (NodeId, GroupIx, u32);

impl Flood {
    pub(crate) fn serve(
        &mut self,
        now: Time,
        key: ServingKey,
        (first, last): (NodeId, NodeId),
        marks: &[Mark],
        out: &mut Outbox<Output>,
    ) {
        let (peer, ix, _) = key;
        let of_peer = self.serving.keys().filter(|key| key.0 == peer).count();
        // Whoever asks under one name over and over makes one answer, and a read each time.
        let read_for = |read: &&ReadFor| matches!(read, ReadFor::Serve((to, ..)) if *to == peer);
        let reads = self.reads.values().filter(read_for).count();
        let most = of_peer.max(reads);
        if most >= MAX_SERVING_PER_PEER || self.serving.len() >= MAX_SERVING {
            let reason = Rejection::TooManyRequests(MAX_SERVING_PER_PEER);
            return self.reject(peer, reason, out);
        }
        self.stats.pulls_served += 1;
        let mut serving = Serving {
            floors: VecDeque::new(),
            plan: VecDeque::new(),
            in_flight: 0,
            reading: Vec::new(),
            read: None,
            last: now,
        };
        let mark_of = |origin: NodeId| {
            let at = marks.binary_search_by_key(&origin, |mark| mark.origin);
            at.ok().and_then(|at| marks.get(at))
        };
        for (origin, serial) in self.index.purged_from(ix, first) {
            if origin > last {
                break;
            }
            if mark_of(origin).and_then(|mark| mark.purged) < Some(serial) {
                let floor = Floor { origin, serial, whole: true, dropped: false };
                serving.floors.push_back(floor);
            }
        }
        for life in self.index.lives_from(ix, first) {
            if life.key.origin > last {
                break;
            }
            plan_life(life, mark_of(life.key.origin), &mut serving);
        }
        self.serving.insert(key, serving);
        self.wake_at(now + SERVING_IDLE, "answers");
        self.serve_next(now, key, out);
    }

    pub(crate) fn serve_more(&mut self, now: Time, key: ServingKey, out: &mut Outbox<Output>) {
        if let Some(serving) = self.serving.get_mut(&key) {
            serving.in_flight = serving.in_flight.saturating_sub(1);
            serving.last = now;
            self.serve_next(now, key, out);
        }
    }

    /// Sends parts while the window has room and nothing has to be read first.
    fn serve_next(&mut self, now: Time, key: ServingKey, out: &mut Outbox<Output>) {
        while let Some(serving) = self.serving.get_mut(&key) {
            if serving.in_flight >= WINDOW || !serving.reading.is_empty() {
                return;
            }
            if !serving.floors.is_empty() {
                let count = serving.floors.len().min(FLOORS_PER_PART);
                let floors = serving.floors.drain(..count).collect();
                self.send_part(key, floors, Vec::new(), Vec::new(), out);
                continue;
            }
            let entries = self.next_part(now, key);
            let floors = self.serving.get(&key).is_some_and(|it| !it.floors.is_empty());
            if floors && entries.is_empty() {
                // Something was dropped since this answer was planned: that is said first.
                continue;
            }
            let cached = entries.iter();
            let cached: Option<Vec<_>> =
                cached.map(|entry| self.cache.head(entry.position).cloned()).collect();
            if let Some(records) = cached {
                let records = entries.iter().zip(records);
                let records = records.map(|(entry, (head, body))| (entry.born, head, body));
                let (headers, bodies) = assemble(now, records);
                self.send_part(key, Vec::new(), headers, bodies, out);
            } else {
                let items = entries.iter().map(|entry| match entry.large {
                    true => entry.head_item(),
                    false => entry.item(),
                });
                let items = items.collect();
                let token = self.next_read(ReadFor::Serve(key));
                if let Some(serving) = self.serving.get_mut(&key) {
                    serving.reading = entries.iter().map(|entry| entry.position).collect();
                    serving.read = Some(token);
                }
                out.push(Output::Read { token, items });
            }
        }
    }

    /// The next entries of the plan that fit into one frame.
    fn next_part(&mut self, now: Time, key: ServingKey) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let purge_age = u64::try_from(self.config.purge_age.as_millis()).unwrap_or(u64::MAX);
        let Some(serving) = self.serving.get_mut(&key) else {
            return entries;
        };
        while let Some(span) = serving.plan.front_mut() {
            let life = self.index.life(span.key);
            let mut full = false;
            let dropped = life.filter(|life| life.floor.min(span.up_to) > span.after);
            if let Some(life) = dropped {
                if !entries.is_empty() {
                    break;
                }
                serving.floors.extend(floors(life, span.after));
                span.after = life.floor;
                return entries;
            }
            let start = span.after;
            for (sequence, position) in life.into_iter().flat_map(|it| it.entries_after(start)) {
                if sequence > span.up_to {
                    break;
                }
                let Some(entry) = self.index.entry(position) else {
                    continue;
                };
                let readable = position < self.written.0 || self.cache.head(position).is_some();
                if !readable {
                    break;
                }
                let body = if entry.large { 0 } else { entry.bytes };
                let size = HEADER_BYTES_MAX + usize::try_from(body).unwrap_or(BATCH_BYTES);
                full = bytes + size > BATCH_BYTES || entries.len() == BATCH_HEADERS;
                if full {
                    break;
                }
                span.after = sequence;
                if age_ms(now, entry.born) <= purge_age {
                    bytes += size;
                    entries.push(entry);
                }
            }
            if full {
                break;
            }
            serving.plan.pop_front();
        }
        entries
    }

    fn send_part(
        &mut self,
        key: ServingKey,
        floors: Vec<Floor>,
        headers: Vec<message::Header>,
        bodies: Vec<Bytes>,
        out: &mut Outbox<Output>,
    ) {
        let (peer, ix, token) = key;
        let Some(group) = self.group_name(ix).cloned() else {
            return;
        };
        let Some(serving) = self.serving.get_mut(&key) else {
            return;
        };
        serving.in_flight += 1;
        let done = serving.floors.is_empty() && serving.plan.is_empty();
        if done {
            self.serving.remove(&key);
        }
        let message = Message::Pulled { group, token, floors, headers, done };
        self.send(peer, &Packet { message, bodies }, out);
    }

    /// A read from the log is answered.
    pub(crate) fn read(
        &mut self,
        now: Time,
        token: ReadToken,
        records: Vec<Option<LogRecord>>,
        out: &mut Outbox<Output>,
    ) {
        match self.reads.remove(&token) {
            Some(ReadFor::Serve(key)) => self.serve_read(now, key, (token, records), out),
            Some(ReadFor::Asked { peer, group }) => {
                self.asked_read(now, (group, peer), records, out)
            }
            Some(ReadFor::Cursor { name, batch }) => {
                self.cursor_read(now, &name, batch, (token, records), out)
            }
            None => {}
        }
    }

    fn serve_read(
        &mut self,
        now: Time,
        key: ServingKey,
        (token, records): (ReadToken, Vec<Option<LogRecord>>),
        out: &mut Outbox<Output>,
    ) {
        let serving = self.serving.get_mut(&key);
        let Some(serving) = serving.filter(|serving| serving.read == Some(token)) else {
            return;
        };
        serving.read = None;
        let positions = core::mem::take(&mut serving.reading);
        let records = positions.into_iter().zip(records);
        let records = records.filter_map(|(position, record)| {
            let record = record?;
            let born = self.index.entry(position)?.born;
            Some((born, StoredHead::from_bytes(&record.head)?, record.body))
        });
        let (headers, bodies) = assemble(now, records);
        self.send_part(key, Vec::new(), headers, bodies, out);
        self.serve_next(now, key, out);
    }

    pub(crate) fn tick_serving(&mut self, now: Time) {
        let idle = |serving: &Serving| serving.last + SERVING_IDLE;
        self.serving.retain(|_, serving| idle(serving) > now);
        if let Some(at) = self.serving.values().map(idle).min() {
            self.wake_at(at, "answers");
        }
    }
}

/// What of a life a peer with this mark lacks.
fn plan_life(life: &Life, mark: Option<&Mark>, serving: &mut Serving) {
    let key = life.key;
    let told = mark.and_then(|mark| {
        let lives = mark.lives.iter();
        lives.into_iter().find(|it| it.incarnation == key.incarnation)
    });
    let purged = mark.and_then(|mark| mark.purged);
    let purged = purged.map_or(0, |purged| match purged.incarnation.cmp(&key.incarnation) {
        core::cmp::Ordering::Less => 0,
        core::cmp::Ordering::Equal => purged.sequence,
        core::cmp::Ordering::Greater => u64::MAX,
    });
    let after = told.map_or(0, |it| it.head).max(purged);
    serving.floors.extend(floors(life, after));
    for &(after, up_to) in told.into_iter().flat_map(|it| &it.gaps) {
        serving.plan.push_back(Span { key, after, up_to });
    }
    if life.head > after {
        let up_to = life.head;
        serving.plan.push_back(Span { key, after, up_to });
    }
}

/// What of a life nobody need wait for who has everything up to `after`.
fn floors(life: &Life, after: u64) -> impl Iterator<Item = Floor> + use<> {
    let key = life.key;
    let floor = move |sequence, dropped| Floor {
        origin: key.origin,
        serial: Serial { incarnation: key.incarnation, sequence },
        whole: false,
        dropped,
    };
    let aged = (life.aged > after).then(|| floor(life.aged, false));
    let dropped = (life.floor > after.max(life.aged)).then(|| floor(life.floor, true));
    aged.into_iter().chain(dropped)
}

/// Headers and bodies for one frame, with the ages of now.
fn assemble(
    now: Time,
    records: impl Iterator<Item = (i64, StoredHead, Bytes)>,
) -> (Vec<message::Header>, Vec<Bytes>) {
    let mut headers = Vec::new();
    let mut bodies = Vec::new();
    for (born, head, body) in records {
        let mut header = head.header;
        header.age_ms = sent_age(now, born);
        if !header.is_large() {
            // A body of another length would put the whole frame out of step.
            if body.len() as u64 != header.length {
                continue;
            }
            bodies.push(body);
        }
        headers.push(header);
    }
    (headers, bodies)
}
