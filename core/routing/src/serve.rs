//! The other half: passing on what others ask, and answering what they ask of this node.

use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::machine::{Output, Routing, Ticket};
use crate::message::{Failure, Key, MAX_BODY_BYTES, Message, Outcome, Path};

/// Requests that are remembered, with their answers: one that comes again is not carried out again.
pub const MAX_SERVED: usize = 256;
/// Of these, requests of one origin: nobody keeps the others out.
pub const MAX_SERVED_OF_ONE: usize = 16;
/// Requests of one peer that are passed on in a second, on average. They are rare: one precedes a
/// link that could not be dialled.
pub const MAX_FORWARDED_PER_S: u32 = 64;
/// Longest that an answer is remembered, whatever the origin says.
const MAX_REMEMBERED: Duration = Duration::from_secs(120);

/// A request that this node was asked.
#[derive(Debug)]
pub(crate) struct Served {
    /// The way back.
    path: Path,
    /// Known once it was carried out.
    outcome: Option<Outcome>,
    /// When it may be forgotten.
    pub(crate) until: Time,
}

/// How much of a peer's is passed on: refilled evenly, a second's worth at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    left: u32,
    refilled: Time,
}

impl Routing {
    /// Passes a request on to the next node of its path, or says back why not.
    pub(crate) fn pass_on(
        &mut self,
        now: Time,
        from: NodeId,
        path: Path,
        key: Key,
        rest: impl FnOnce(Path) -> Message,
        out: &mut Outbox<Output>,
    ) {
        let full = Bucket { left: MAX_FORWARDED_PER_S, refilled: now };
        let bucket = self.passing.entry(from).or_insert(full);
        let room = bucket.take(now);
        if !self.peers.contains(&from) {
            self.passing.remove(&from);
        }
        let next = path.clone().onward().filter(|(next, _)| self.peers.contains(next));
        match next {
            Some((next, onward)) if room => Self::send(next, &rest(onward), out),
            Some(_) => self.pass_back(path, key, Outcome::Failed(Failure::Busy), out),
            None => self.pass_back(path, key, Outcome::Failed(Failure::NoLink), out),
        }
    }

    /// Passes an answer to the node before this one. Where that is not linked any more the answer
    /// is lost, and the origin asks again over another route.
    pub(crate) fn pass_back(
        &self,
        path: Path,
        key: Key,
        outcome: Outcome,
        out: &mut Outbox<Output>,
    ) {
        if let Some((before, path)) = path.back().filter(|(peer, _)| self.peers.contains(peer)) {
            Self::send(before, &Message::Answer { path, key, outcome }, out);
        }
    }

    /// Something is asked of this node: once, however often it comes.
    pub(crate) fn asked_of_us(
        &mut self,
        now: Time,
        path: Path,
        key: Key,
        within: Duration,
        (service, body): (u8, Bytes),
        out: &mut Outbox<Output>,
    ) {
        let Some(origin) = path.origin() else {
            return;
        };
        let ticket = Ticket { origin, key };
        if let Some(served) = self.served.get_mut(&ticket) {
            // The newest way is the one that works.
            served.path = path.clone();
            if let Some(outcome) = served.outcome.clone() {
                self.pass_back(path, key, outcome, out);
            }
            return;
        }
        let of_one = self.served.keys().filter(|ticket| ticket.origin == origin).count();
        if self.served.len() >= MAX_SERVED || of_one >= MAX_SERVED_OF_ONE {
            return self.pass_back(path, key, Outcome::Failed(Failure::Busy), out);
        }
        // The origin may ask again until its time is over, and a little later here.
        let until = now + (within * 2).min(MAX_REMEMBERED);
        self.served.insert(ticket, Served { path, outcome: None, until });
        out.push(Output::Request { ticket, service, body, within });
    }

    /// This node has carried out what it was asked.
    pub(crate) fn answer(
        &mut self,
        now: Time,
        ticket: Ticket,
        outcome: Result<Bytes, Failure>,
        out: &mut Outbox<Output>,
    ) {
        let Some(served) = self.served.get_mut(&ticket).filter(|served| now < served.until) else {
            return;
        };
        let outcome = match outcome {
            Ok(body) if body.len() <= MAX_BODY_BYTES => Outcome::Done(body.to_vec()),
            Ok(_) => Outcome::Failed(Failure::Refused),
            Err(why) => Outcome::Failed(why),
        };
        served.outcome = Some(outcome.clone());
        let path = served.path.clone();
        self.pass_back(path, ticket.key, outcome, out);
    }
}

impl Bucket {
    /// Takes one, if there is one.
    fn take(&mut self, now: Time) -> bool {
        let each = Duration::from_secs(1) / MAX_FORWARDED_PER_S;
        let grown = now.since(self.refilled).as_nanos() / each.as_nanos();
        if grown > 0 {
            let grown = u32::try_from(grown).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(grown).min(MAX_FORWARDED_PER_S);
            self.refilled = now;
        }
        let room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        room
    }
}
