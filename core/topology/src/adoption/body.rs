//! Bodies of topologies too large for a record, asked for by their digest and passed on in parts.
//!
//! Whoever holds a decree whose body is not in it asks a linked peer for it, from its beginning,
//! part by part, and another when one does not have it or does not answer. Everybody who adopts
//! keeps the body, so it spreads as far as the decree does.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_base::{Digest, NodeId, Outbox, Rng, Time};
use skep_wire::{decode, encode};

use super::event::Output;

/// Bytes of a body in one message: below the control lane's longest frame, and short enough that a
/// heartbeat does not wait for long behind it.
pub const MAX_PART_BYTES: usize = 16 * 1024;
/// A part that did not come by then is asked of somebody else.
const PATIENCE: Duration = Duration::from_secs(3);
/// A peer that does not have a body may have it after this long.
const PAUSE: Duration = Duration::from_millis(300);

/// About a body. Frame kind [`skep_wire::kind::TOPOLOGY`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Send me the part that begins here.
    Ask {
        /// Of which body.
        digest: Digest,
        /// Bytes that I have.
        from: u32,
    },
    /// A part; an empty one says that I do not have the body.
    Part {
        /// Of which body.
        digest: Digest,
        /// Where it begins.
        from: u32,
        /// At most [`MAX_PART_BYTES`].
        bytes: ByteBuf,
    },
}

/// Bodies that are held, and those that are being fetched. As many as there are groups, at most:
/// the machine says which are wanted.
#[derive(Debug)]
pub struct Bodies {
    rng: Rng,
    held: BTreeMap<Digest, Bytes>,
    fetches: BTreeMap<Digest, Fetch>,
    links: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Fetch {
    length: usize,
    got: Vec<u8>,
    asked: Option<NodeId>,
    /// When to ask again.
    again: Time,
}

impl Bodies {
    pub(super) const fn new(rng: Rng) -> Self {
        Self { rng, held: BTreeMap::new(), fetches: BTreeMap::new(), links: BTreeSet::new() }
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Bytes> {
        self.held.get(digest)
    }

    pub(super) fn hold(&mut self, body: Bytes) {
        self.held.insert(Digest::of(&body), body);
    }

    /// Holds and fetches these and no others.
    pub(super) fn want(&mut self, now: Time, wanted: &BTreeMap<Digest, usize>) {
        self.held.retain(|digest, _| wanted.contains_key(digest));
        self.fetches.retain(|digest, _| wanted.contains_key(digest));
        for (digest, length) in wanted {
            if !self.held.contains_key(digest) {
                let begun = || Fetch { length: *length, got: Vec::new(), asked: None, again: now };
                self.fetches.entry(*digest).or_insert_with(begun);
            }
        }
    }

    pub(super) fn link(&mut self, peer: NodeId, up: bool) {
        if up {
            self.links.insert(peer);
        } else {
            self.links.remove(&peer);
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let due = self.fetches.values().map(|fetch| fetch.again).min();
        due.filter(|_| !self.links.is_empty())
    }

    pub(super) fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        let links: Vec<NodeId> = self.links.iter().copied().collect();
        for (digest, fetch) in &mut self.fetches {
            if now < fetch.again {
                continue;
            }
            let others: Vec<NodeId> =
                links.iter().copied().filter(|peer| Some(*peer) != fetch.asked).collect();
            let candidates = if others.is_empty() { &links } else { &others };
            let Some(peer) = self.rng.pick(candidates).copied() else { continue };
            fetch.ask(now, peer, *digest, out);
        }
    }

    /// Takes a message; the body, when it is complete by this.
    pub(super) fn message(
        &mut self,
        now: Time,
        from: NodeId,
        body: &[u8],
        out: &mut Outbox<Output>,
    ) -> Option<Digest> {
        match decode::<Message>("topology message", body) {
            Ok(Message::Ask { digest, from: at }) => {
                self.answer(from, digest, at as usize, out);
                None
            }
            Ok(Message::Part { digest, from: at, bytes }) => {
                self.part(now, from, (digest, at as usize), &bytes, out)
            }
            Err(error) => {
                let reason = alloc::format!("{error}");
                out.push(Output::Reject { from, reason });
                None
            }
        }
    }

    fn answer(&self, to: NodeId, digest: Digest, at: usize, out: &mut Outbox<Output>) {
        let rest = self.held.get(&digest).and_then(|body| body.get(at..)).unwrap_or(&[]);
        let part = &rest[..rest.len().min(MAX_PART_BYTES)];
        let from = u32::try_from(at).unwrap_or(u32::MAX);
        send(to, &Message::Part { digest, from, bytes: ByteBuf::from(part.to_vec()) }, out);
    }

    fn part(
        &mut self,
        now: Time,
        from: NodeId,
        (digest, at): (Digest, usize),
        bytes: &[u8],
        out: &mut Outbox<Output>,
    ) -> Option<Digest> {
        let fetch = self.fetches.get_mut(&digest)?;
        if fetch.asked != Some(from) || fetch.got.len() != at {
            return None;
        }
        if bytes.is_empty() {
            fetch.again = now + PAUSE;
            return None;
        }
        let room = fetch.length - fetch.got.len();
        fetch.got.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if fetch.got.len() < fetch.length {
            fetch.ask(now, from, digest, out);
            return None;
        }
        let body = core::mem::take(&mut fetch.got);
        if Digest::of(&body) == digest {
            self.fetches.remove(&digest);
            self.held.insert(digest, body.into());
            return Some(digest);
        }
        // Somebody gave other bytes than were asked for: from the beginning, and not from him.
        fetch.again = now + PAUSE;
        let reason = "a topology's body with another digest".into();
        out.push(Output::Reject { from, reason });
        None
    }
}

impl Fetch {
    fn ask(&mut self, now: Time, peer: NodeId, digest: Digest, out: &mut Outbox<Output>) {
        self.asked = Some(peer);
        self.again = now + PATIENCE;
        let from = u32::try_from(self.got.len()).unwrap_or(u32::MAX);
        send(peer, &Message::Ask { digest, from }, out);
    }
}

fn send(to: NodeId, message: &Message, out: &mut Outbox<Output>) {
    out.push(Output::Send { to, body: encode(message).into() });
}
