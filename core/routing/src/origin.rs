//! The asking half: one route after the other, until there is an answer or no time left.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};

use crate::machine::{MAX_ASKED, MAX_ROUTES, Output, Routing, Token};
use crate::message::{Failure, Key, MAX_BODY_BYTES, MAX_HOPS, Message, Outcome, Path};

/// Longest that a request may wait for its answer.
const MAX_WITHIN: Duration = Duration::from_secs(600);

/// Why a request of this node came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody who is linked leads to the target.
    #[error("no chain of at most {MAX_HOPS} links leads to the node; is it present?")]
    NoRoute,
    /// No answer came in time over any route.
    #[error("no answer came in time over any route; the node may be overloaded or gone")]
    TimedOut,
    /// A node on the way or the target said no.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The body is over the limit.
    #[error("a routed body of {0} bytes is over the limit of {MAX_BODY_BYTES}")]
    TooLong(usize),
    /// Too many requests wait for their answers.
    #[error("{MAX_ASKED} routed requests wait for their answers already; try again later")]
    Overloaded,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Asked {
    token: Token,
    service: u8,
    body: Bytes,
    /// Routes not tried yet.
    routes: VecDeque<Vec<NodeId>>,
    /// The first hops of those that were, and when: at most [`MAX_ROUTES`].
    sent: Vec<(NodeId, Time)>,
    /// A route was given up because nothing was heard: what was sent over it may have arrived.
    pub(crate) unheard: bool,
    until: Time,
    /// When the next route is tried.
    pub(crate) due: Time,
}

impl AskError {
    /// Whether the same may be asked in a moment, and nothing is done twice: as far as honest nodes
    /// tell, the target was not asked.
    #[must_use]
    pub const fn is_worth_asking_again(&self) -> bool {
        match self {
            Self::NoRoute | Self::Overloaded => true,
            Self::Failed(Failure::NoLink | Failure::Busy) => true,
            Self::TimedOut | Self::TooLong(_) => false,
            Self::Failed(Failure::NoService | Failure::Refused) => false,
        }
    }
}

impl Routing {
    pub(crate) fn ask(
        &mut self,
        now: Time,
        token: Token,
        routes: Vec<Vec<NodeId>>,
        (service, body): (u8, Bytes),
        within: Duration,
        out: &mut Outbox<Output>,
    ) {
        let refused = if body.len() > MAX_BODY_BYTES {
            Some(AskError::TooLong(body.len()))
        } else if self.asked.len() >= MAX_ASKED {
            Some(AskError::Overloaded)
        } else {
            None
        };
        if let Some(why) = refused {
            return out.push(Output::Answered { token, outcome: Err(why), took: Duration::ZERO });
        }
        let key = Key { life: self.life, serial: self.next_serial };
        self.next_serial += 1;
        let sound = |route: &Vec<NodeId>| Path::begin(self.me, route).check().is_ok();
        let routes = routes.into_iter().filter(sound).take(MAX_ROUTES).collect();
        let until = now + within.min(MAX_WITHIN);
        let sent = Vec::new();
        let (due, unheard) = (until, false);
        let asked = Asked { token, service, body, routes, sent, unheard, until, due };
        self.asked.insert(key, asked);
        self.try_next_route(now, key, AskError::NoRoute, out);
    }

    /// Sends a request over its next route whose first hop is linked; `why` the last one failed is
    /// told when there is none, or no time.
    pub(crate) fn try_next_route(
        &mut self,
        now: Time,
        key: Key,
        why: AskError,
        out: &mut Outbox<Output>,
    ) {
        let Some(asked) = self.asked.get_mut(&key) else {
            return;
        };
        while now < asked.until
            && let Some(route) = asked.routes.pop_front()
        {
            let Some(first) = route.first().copied().filter(|hop| self.peers.contains(hop)) else {
                continue;
            };
            let left = asked.until.since(now);
            // The routes that remain share the time that remains.
            let share = u32::try_from(asked.routes.len() + 1).unwrap_or(1);
            asked.due = now + left / share;
            asked.sent.push((first, now));
            let message = Message::Request {
                path: Path::begin(self.me, &route),
                key,
                within_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
                service: asked.service,
                body: asked.body.to_vec(),
            };
            return Self::send(first, &message, out);
        }
        // Of all routes the least certain end counts.
        let why = if asked.unheard { AskError::TimedOut } else { why };
        self.conclude(key, Err(why), Duration::ZERO, out);
    }

    /// An answer to a request of this node came in over its first hop `from`. One that nobody waits
    /// for is the answer to a route that was given up.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        from: NodeId,
        key: Key,
        outcome: Outcome,
        out: &mut Outbox<Output>,
    ) {
        match outcome {
            Outcome::Failed(why @ (Failure::NoLink | Failure::Busy)) => {
                self.try_next_route(now, key, why.into(), out);
            }
            Outcome::Failed(why) => self.conclude(key, Err(why.into()), Duration::ZERO, out),
            Outcome::Done(body) => {
                // Routes share no node, so the first hop tells which it was. A peer may answer what
                // was never sent over it.
                let asked = self.asked.get(&key);
                let sent = asked.and_then(|asked| asked.sent.iter().find(|(hop, _)| *hop == from));
                let Some((_, sent)) = sent else { return };
                let took = now.since(*sent);
                self.conclude(key, Ok(body.into()), took, out);
            }
        }
    }

    fn conclude(
        &mut self,
        key: Key,
        outcome: Result<Bytes, AskError>,
        took: Duration,
        out: &mut Outbox<Output>,
    ) {
        if let Some(asked) = self.asked.remove(&key) {
            out.push(Output::Answered { token: asked.token, outcome, took });
        }
    }
}
