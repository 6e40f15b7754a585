//! Large bodies: announced by everybody who has them, pulled once, from one holder at a time.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, NodeId, Outbox, Time};

use crate::config::FRAGMENT_BYTES;
use crate::event::{LogRecord, Output, ReadItem, Rejection};
use crate::id::{Position, UpdateId};
use crate::life::{GroupIx, Place};
use crate::machine::{Flood, ReadFor};
use crate::message::{Header, Message, Packet};
use crate::serve::Fetching;

/// Large updates known and not here yet.
pub(crate) const MAX_WANTS: usize = 256;
/// Of those, being pulled: with [`crate::MAX_BODY_BYTES`] each, 64 MiB of memory.
const MAX_ACTIVE: usize = 8;
/// Holders remembered of each.
const MAX_HOLDERS: usize = 8;
/// Bytes asked for and not yet here.
const WINDOW_BYTES: u32 = 128 * 1024;
/// How long the next fragment is awaited before another holder is asked.
const FETCH_STALL: Duration = Duration::from_secs(3);
/// What is taken for the distance of a holder that was not measured: it is asked last.
const FAR: Duration = Duration::from_secs(1);
/// Reads for fetches of one neighbour at a time.
const MAX_FETCHES_PER_PEER: usize = 64;

/// A large update whose body is not here.
#[derive(Debug)]
pub(crate) struct Want {
    header: Header,
    born: i64,
    holders: Vec<NodeId>,
    /// Which holder is being asked.
    source: Option<NodeId>,
    body: Vec<u8>,
    /// Up to where it was asked for.
    asked: u32,
    progress: Time,
}

impl Flood {
    /// Somebody has a large update that is not here. Says whether it is new to us.
    pub(crate) fn want(
        &mut self,
        now: Time,
        ix: GroupIx,
        header: Header,
        born: i64,
        from: NodeId,
        out: &mut Outbox<Output>,
    ) -> bool {
        let key = (ix, header.id);
        if let Some(want) = self.wants.get_mut(&key) {
            if want.holders.len() < MAX_HOLDERS && !want.holders.contains(&from) {
                want.holders.push(from);
            }
            self.start_fetches(now, out);
            return false;
        }
        if self.wants.len() >= MAX_WANTS {
            self.stats.dropped_fetches += 1;
            return false;
        }
        let want = Want {
            header,
            born,
            holders: [from].into(),
            source: None,
            body: Vec::new(),
            asked: 0,
            progress: now,
        };
        self.wants.insert(key, want);
        self.start_fetches(now, out);
        true
    }

    /// Asks for bodies while few are under way, those of low identities first.
    fn start_fetches(&mut self, now: Time, out: &mut Outbox<Output>) {
        let active = self.wants.values().filter(|want| want.source.is_some());
        let room = MAX_ACTIVE.saturating_sub(active.count());
        let idle = self.wants.iter();
        let idle = idle.filter(|(_, want)| want.source.is_none() && !want.holders.is_empty());
        let idle: Vec<_> = idle.map(|(key, _)| *key).take(room).collect();
        for key in idle {
            if let Some(want) = self.wants.get_mut(&key) {
                // The nearest; among equals the one that said so first.
                let far = |holder: &&NodeId| self.round_trips.get(*holder).copied();
                let nearest = want.holders.iter().min_by_key(|it| far(it).unwrap_or(FAR));
                want.source = nearest.copied();
                want.progress = now;
            }
            self.ask_more(key, out);
            self.wake_at(now + FETCH_STALL, "large bodies");
        }
    }

    fn ask_more(&mut self, key: (GroupIx, UpdateId), out: &mut Outbox<Output>) {
        let Some(group) = self.group_name(key.0).cloned() else {
            return;
        };
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        let here = u32::try_from(want.body.len()).unwrap_or(u32::MAX);
        let outstanding = want.asked.saturating_sub(here);
        let rest = want.header.length.saturating_sub(want.asked);
        if outstanding > WINDOW_BYTES / 2 || rest == 0 {
            return;
        }
        let (offset, length) = (want.asked, rest.min(WINDOW_BYTES - outstanding));
        want.asked += length;
        if let Some(source) = want.source {
            let message = Message::Fetch { group, id: key.1, offset, length };
            self.send(source, &Packet::bare(message), out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    pub(crate) fn fragment(
        &mut self,
        now: Time,
        ix: GroupIx,
        from: NodeId,
        id: UpdateId,
        offset: u32,
        bytes: &Bytes,
        out: &mut Outbox<Output>,
    ) {
        let key = (ix, id);
        // What comes from a holder that was given up is late, not wrong.
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        if want.source != Some(from) {
            return;
        }
        let end = (offset as usize).saturating_add(bytes.len());
        if offset as usize != want.body.len() || bytes.is_empty() || end > want.asked as usize {
            self.reject(from, Rejection::Unasked(id, offset), out);
            return self.next_holder(now, key, false, out);
        }
        want.body.extend_from_slice(bytes);
        want.progress = now;
        if end < want.header.length as usize {
            return self.ask_more(key, out);
        }
        if Some(Digest::of(&want.body)) != want.header.digest {
            want.body.clear();
            self.reject(from, Rejection::WrongBody(id), out);
            return self.next_holder(now, key, false, out);
        }
        if let Some(want) = self.wants.remove(&key) {
            self.stats.fetched += 1;
            if self.index.place(ix, id) != Place::Known {
                let body = Bytes::from(want.body);
                self.arrived(now, ix, want.header, want.born, body, from, out);
            }
        }
        self.start_fetches(now, out);
    }

    pub(crate) fn missing(
        &mut self,
        now: Time,
        ix: GroupIx,
        from: NodeId,
        id: UpdateId,
        out: &mut Outbox<Output>,
    ) {
        let key = (ix, id);
        if self.wants.get(&key).is_some_and(|it| it.source == Some(from)) {
            self.next_holder(now, key, false, out);
        }
    }

    /// Goes on with another holder; with `again`, the present one may be asked once more later.
    fn next_holder(
        &mut self,
        now: Time,
        key: (GroupIx, UpdateId),
        again: bool,
        out: &mut Outbox<Output>,
    ) {
        if let Some(want) = self.wants.get_mut(&key)
            && let Some(source) = want.source.take()
        {
            want.holders.retain(|holder| *holder != source);
            if again {
                want.holders.push(source);
            }
            want.asked = u32::try_from(want.body.len()).unwrap_or(u32::MAX);
            want.progress = now;
        }
        self.start_fetches(now, out);
    }

    pub(crate) fn drop_holder(
        &mut self,
        now: Time,
        ix: GroupIx,
        peer: NodeId,
        out: &mut Outbox<Output>,
    ) {
        let of_group = self.wants.iter_mut().filter(|(key, _)| key.0 == ix);
        let mut stopped = Vec::new();
        for (key, want) in of_group {
            if want.source == Some(peer) {
                stopped.push(*key);
            } else {
                want.holders.retain(|holder| *holder != peer);
            }
        }
        for key in stopped {
            self.next_holder(now, key, false, out);
        }
    }

    pub(crate) fn tick_wants(&mut self, now: Time, out: &mut Outbox<Output>) {
        let forget = self.config.pull_timeout;
        // Nobody has it any more: a comparison shows it again when somebody does.
        self.wants.retain(|_, want| !want.holders.is_empty() || want.progress + forget > now);
        let stalled = self
            .wants
            .iter()
            .filter(|(_, want)| want.source.is_some() && want.progress + FETCH_STALL <= now);
        let stalled: Vec<_> = stalled.map(|(key, _)| *key).collect();
        for key in stalled {
            self.next_holder(now, key, true, out);
        }
        let next = self.wants.values().map(|want| {
            want.progress
                + match want.source {
                    Some(_) => FETCH_STALL,
                    None => forget,
                }
        });
        if let Some(at) = next.min() {
            self.wake_at(at, "large bodies");
        }
    }

    /// A peer asks for a part of a large body.
    pub(crate) fn fetch(
        &mut self,
        ix: GroupIx,
        peer: NodeId,
        id: UpdateId,
        (offset, length): (u32, u32),
        out: &mut Outbox<Output>,
    ) {
        let of_peer = self
            .reads
            .values()
            .filter(|read| matches!(read, ReadFor::Fetch(fetching) if fetching.peer == peer));
        if of_peer.count() >= MAX_FETCHES_PER_PEER {
            let reason = Rejection::TooManyRequests(MAX_FETCHES_PER_PEER);
            return self.reject(peer, reason, out);
        }
        let fetching = Fetching { peer, group: ix, id, offset };
        let entry = self.index.find(ix, id);
        let entry = entry.filter(|entry| offset < entry.bytes && length > 0);
        let Some(entry) = entry.filter(|entry| entry.position < self.written.0) else {
            return self.fetch_read(&fetching, None, out);
        };
        let item = ReadItem {
            position: Position(entry.position),
            offset,
            length: length.min(WINDOW_BYTES).min(entry.bytes - offset),
        };
        let token = self.next_read(ReadFor::Fetch(fetching));
        let items = [item].into();
        out.push(Output::Read { token, items });
    }

    pub(crate) fn fetch_read(
        &mut self,
        fetching: &Fetching,
        record: Option<LogRecord>,
        out: &mut Outbox<Output>,
    ) {
        let Some(group) = self.group_name(fetching.group).cloned() else {
            return;
        };
        let id = fetching.id;
        let Some(record) = record.filter(|record| !record.body.is_empty()) else {
            let message = Message::Missing { group, id };
            return self.send(fetching.peer, &Packet::bare(message), out);
        };
        let mut rest = record.body;
        let mut offset = fetching.offset;
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(FRAGMENT_BYTES));
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let message = Message::Fragment { group: group.clone(), id, offset, length };
            offset = offset.saturating_add(length);
            let bodies = [bytes].into();
            self.send(fetching.peer, &Packet { message, bodies }, out);
        }
    }
}
