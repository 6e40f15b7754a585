//! What goes out: batches for the log and for the neighbours.

use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::event::Output;
use crate::group::{Fresh, Group};
use crate::life::GroupIx;
use crate::machine::{Flood, age_ms};
use crate::message::{BATCH_BYTES, BATCH_HEADERS, HEADER_BYTES_MAX, Header, Message, Packet};

/// What one hop adds to an age at least, so that no update travels for ever.
const HOP_AGE_MS: u64 = 1;
/// Updates that wait for a flush at most: with more, one is made at once.
const FLUSH_AT: usize = 512;

impl Flood {
    /// Queues a small update for all neighbours of its group but the one it came from.
    pub(crate) fn pass_on(
        &mut self,
        now: Time,
        ix: GroupIx,
        header: Header,
        body: Bytes,
        from: Option<NodeId>,
        out: &mut Outbox<Output>,
    ) {
        let born = crate::machine::born_ms(now, header.age_ms);
        let Some(group) = self.group_at(ix) else {
            return;
        };
        group.fresh.push(Fresh { header, born, body, from });
        if group.fresh.len() >= FLUSH_AT {
            self.flush(now, out);
        }
    }

    pub(crate) fn has_unflushed(&self) -> bool {
        !self.appending.is_empty() || self.groups.values().any(|group| !group.fresh.is_empty())
    }

    /// Hands out everything that was queued.
    pub(crate) fn flush(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.tell_purged(out);
        if !self.appending.is_empty() {
            out.push(Output::Append {
                entries: mem::take(&mut self.appending),
                sync: mem::take(&mut self.sync),
            });
        }
        let mut sends = Vec::new();
        for group in self.groups.values_mut() {
            if !group.fresh.is_empty() {
                let fresh = mem::take(&mut group.fresh);
                packets(now, group, &fresh, &mut sends);
            }
        }
        for (to, body) in sends {
            self.send_bytes(to, body, out);
        }
    }
}

/// The frames that carry `fresh` to the neighbours. Those who gave us none of it share theirs.
fn packets(now: Time, group: &Group, fresh: &[Fresh], sends: &mut Vec<(NodeId, Bytes)>) {
    let mut shared: Option<Vec<Bytes>> = None;
    for peer in &group.peers {
        if fresh.iter().any(|update| update.from == Some(*peer)) {
            let rest = fresh.iter().filter(|update| update.from != Some(*peer));
            let own = batches(now, group, rest);
            sends.extend(own.into_iter().map(|body| (*peer, body)));
        } else {
            let shared = shared.get_or_insert_with(|| batches(now, group, fresh.iter()));
            sends.extend(shared.iter().map(|body| (*peer, body.clone())));
        }
    }
}

fn batches<'a>(now: Time, group: &Group, updates: impl Iterator<Item = &'a Fresh>) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut headers: Vec<Header> = Vec::new();
    let mut bodies: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    let mut close = |headers: &mut Vec<Header>, bodies: &mut Vec<Bytes>| {
        if !headers.is_empty() {
            let message =
                Message::Updates { group: group.name.clone(), headers: mem::take(headers) };
            let bodies = mem::take(bodies);
            frames.push(Packet { message, bodies }.to_bytes());
        }
    };
    for update in updates {
        let size = HEADER_BYTES_MAX + update.body.len();
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
