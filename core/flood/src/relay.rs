//! What goes out: batches for the log and for the neighbours.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;
use skep_base::{GroupName, NodeId, Outbox, Time};

use crate::event::Output;
use crate::group::{Fresh, Group};
use crate::life::GroupIx;
use crate::machine::{Flood, age_ms};
use crate::message::{BATCH_BYTES, BATCH_HEADERS, Header, Message, PLAIN_HEADER_BYTES_MAX, Packet};

/// What one hop adds to an age at least, so that no update travels for ever.
const HOP_AGE_MS: u64 = 1;
/// Updates that wait for a flush at most: with more, one is made at once.
const FLUSH_AT: usize = 512;

impl Flood {
    /// Queues a small update for all neighbours of its group that have not got it.
    pub(crate) fn pass_on(
        &mut self,
        now: Time,
        ix: GroupIx,
        fresh: Fresh,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group_at(ix) else {
            return;
        };
        group.fresh.push(fresh);
        if group.fresh.len() >= FLUSH_AT {
            self.flush(now, out);
        }
    }

    pub(crate) fn has_unflushed(&self) -> bool {
        let unsent = |group: &Group| !group.fresh.is_empty() || !group.prunes.is_empty();
        !self.appending.is_empty()
            || !self.unread.is_empty()
            || !self.reports.is_empty()
            || self.groups.values().any(unsent)
    }

    /// Hands out everything that was queued.
    pub(crate) fn flush(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.note_unread(now);
        if !self.appending.is_empty() {
            out.push(Output::Append {
                entries: mem::take(&mut self.appending),
                sync: mem::take(&mut self.sync),
            });
        }
        // What was dropped unread is noted before it is forgotten.
        self.tell_purged(out);
        self.send_reports(out);
        let fresh = self.groups.values_mut().filter(|group| !group.fresh.is_empty());
        let fresh: Vec<_> = fresh.map(|group| (group.ix, mem::take(&mut group.fresh))).collect();
        for (ix, fresh) in fresh {
            self.spread(now, ix, &fresh, out);
        }
        self.send_prunes(out);
    }

    /// Gives each neighbour the bodies that its edge carries, and plans to tell it the other ids.
    /// Those that get the same updates share the frames.
    fn spread(&mut self, now: Time, ix: GroupIx, fresh: &[Fresh], out: &mut Outbox<Output>) {
        let Some(group) = self.group_at(ix) else {
            return;
        };
        let (name, peers) = (group.name.clone(), group.peers.clone());
        let branches = &mut self.branches;
        let lazy: Vec<Vec<NodeId>> = fresh
            .iter()
            .map(|update| match update.header.is_large() || update.late {
                true => Vec::new(),
                false => branches.lazy(ix, update.header.id.origin).to_vec(),
            })
            .collect();
        let mut made: BTreeMap<Vec<usize>, Vec<Bytes>> = BTreeMap::new();
        for peer in peers {
            let mut given = Vec::new();
            for (at, (update, lazy)) in fresh.iter().zip(&lazy).enumerate() {
                if update.known_by.contains(&peer) {
                    continue;
                }
                if lazy.binary_search(&peer).is_ok() {
                    self.queue_id(now, ix, peer, update.header.id);
                } else {
                    given.push(at);
                }
            }
            if given.is_empty() {
                continue;
            }
            let updates = || given.iter().filter_map(|at| fresh.get(*at));
            let frames = match made.get(&given) {
                Some(frames) => frames.clone(),
                None => batches(now, &name, updates()),
            };
            for frame in &frames {
                self.send_bytes(peer, frame.clone(), out);
            }
            made.insert(given, frames);
        }
    }
}

/// The frames that carry updates of a group.
pub(crate) fn batches<'a>(
    now: Time,
    group: &GroupName,
    updates: impl Iterator<Item = &'a Fresh>,
) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut headers: Vec<Header> = Vec::new();
    let mut bodies: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    let mut close = |headers: &mut Vec<Header>, bodies: &mut Vec<Bytes>| {
        if !headers.is_empty() {
            let message = Message::Updates { group: group.clone(), headers: mem::take(headers) };
            let bodies = mem::take(bodies);
            frames.push(Packet { message, bodies }.to_bytes());
        }
    };
    for update in updates {
        let size = PLAIN_HEADER_BYTES_MAX + 4 * update.header.trail.len() + update.body.len();
        if bytes + size > BATCH_BYTES || headers.len() == BATCH_HEADERS {
            close(&mut headers, &mut bodies);
            bytes = 0;
        }
        bytes += size;
        let mut header = update.header.clone();
        header.age_ms = sent_age(now, update.born);
        if !header.is_large() {
            bodies.push(update.body.clone());
        }
        headers.push(header);
    }
    close(&mut headers, &mut bodies);
    frames
}

/// The age under which an update is sent.
pub(crate) fn sent_age(now: Time, born: i64) -> u64 {
    age_ms(now, born).saturating_add(HOP_AGE_MS)
}
