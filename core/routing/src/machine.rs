//! The machine: its state, and which half an input goes to.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Time};
use skep_wire::encode;

use crate::message::{Key, Message, Unsound};
use crate::origin::{AskError, Asked};
use crate::serve::{Bucket, Served};

/// Requests of this node that may wait for their answers.
pub const MAX_ASKED: usize = 256;
/// Routes that are tried for one request.
pub const MAX_ROUTES: usize = 3;

/// Names a request until its answer. Chosen by whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names a request of another node until this one has answered it. Chosen by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Who asks.
    pub origin: NodeId,
    /// Its name for it.
    pub key: Key,
}

/// What may happen to the machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// There are links to these now.
    Peers {
        /// All of them, not only what changed.
        peers: Vec<NodeId>,
    },
    /// This node asks something of another.
    Ask {
        /// Names it until [`Output::Answered`].
        token: Token,
        /// Ways to the target, best first, each from the first hop to the target itself. The first
        /// [`MAX_ROUTES`] are tried.
        routes: Vec<Vec<NodeId>>,
        /// What is asked.
        service: u8,
        /// What the service says.
        body: Bytes,
        /// How long to wait.
        within: Duration,
    },
    /// This node has an answer to a request.
    Answer {
        /// Which.
        ticket: Ticket,
        /// What it came to.
        outcome: Result<Bytes, crate::Failure>,
    },
    /// A frame of kind [`skep_wire::kind::ROUTED`] came in.
    Received {
        /// From whom.
        from: NodeId,
        /// Its body.
        body: Bytes,
    },
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame of kind [`skep_wire::kind::ROUTED`].
    Send {
        /// To whom.
        to: NodeId,
        /// Its body.
        body: Bytes,
    },
    /// Another node asks something of this one: answer with [`Input::Answer`].
    Request {
        /// Names it.
        ticket: Ticket,
        /// What is asked.
        service: u8,
        /// What the service says.
        body: Bytes,
        /// How long the origin waits.
        within: Duration,
    },
    /// What came of a request of this node.
    Answered {
        /// Which.
        token: Token,
        /// The target's answer, or why there is none.
        outcome: Result<Bytes, AskError>,
        /// How long the answer took, from when the request was sent over the very route that it
        /// came back over; zero where there is none.
        took: Duration,
    },
    /// A peer sent what no honest node sends.
    Reject {
        /// Who.
        from: NodeId,
        /// What is wrong with it.
        reason: Unsound,
    },
}

/// The routed requests of one node.
#[derive(Debug)]
pub struct Routing {
    pub(crate) me: NodeId,
    pub(crate) life: u64,
    pub(crate) next_serial: u64,
    pub(crate) peers: BTreeSet<NodeId>,
    pub(crate) asked: BTreeMap<Key, Asked>,
    pub(crate) served: BTreeMap<Ticket, Served>,
    pub(crate) passing: BTreeMap<NodeId, Bucket>,
}

impl Routing {
    /// The machine of `me`; `life` is the process's nonce.
    #[must_use]
    pub const fn new(me: NodeId, life: u64) -> Self {
        Self {
            me,
            life,
            next_serial: 0,
            peers: BTreeSet::new(),
            asked: BTreeMap::new(),
            served: BTreeMap::new(),
            passing: BTreeMap::new(),
        }
    }

    /// Lets `input` happen.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Peers { peers } => {
                self.peers = peers.into_iter().collect();
                let peers = &self.peers;
                self.passing.retain(|peer, _| peers.contains(peer));
            }
            Input::Ask { token, routes, service, body, within } => {
                self.ask(now, token, routes, (service, body), within, out);
            }
            Input::Answer { ticket, outcome } => self.answer(now, ticket, outcome, out),
            Input::Received { from, body } => match self.read(from, &body) {
                Ok(message) => self.received(now, from, message, out),
                Err(reason) => out.push(Output::Reject { from, reason }),
            },
        }
    }

    /// When [`Routing::tick`] has work, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let asked = self.asked.values().map(|asked| asked.due);
        let asked = asked.min().map(|at| (at, "an answer to a routed request is due"));
        let served = self.served.values().map(|served| served.until);
        let served = served.min().map(|at| (at, "a routed request may be forgotten"));
        asked.into_iter().chain(served).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.served.retain(|_, served| now < served.until);
        let late: Vec<Key> =
            self.asked.iter().filter(|(_, asked)| now >= asked.due).map(|(key, _)| *key).collect();
        for key in late {
            if let Some(asked) = self.asked.get_mut(&key) {
                asked.unheard = true;
            }
            self.try_next_route(now, key, AskError::TimedOut, out);
        }
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        assert!(self.asked.len() <= MAX_ASKED, "too many requests wait");
        assert!(self.served.len() <= crate::MAX_SERVED, "too many requests are remembered");
        assert!(self.passing.len() <= self.peers.len(), "a bucket of a peer that is not linked");
    }

    fn read(&self, from: NodeId, body: &Bytes) -> Result<Message, Unsound> {
        let message = Message::read(body)?;
        message.check_way(self.me, from)?;
        Ok(message)
    }

    fn received(&mut self, now: Time, from: NodeId, message: Message, out: &mut Outbox<Output>) {
        match message {
            Message::Request { path, key, within_ms, service, body } => {
                let within = Duration::from_millis(within_ms.into());
                if path.target() == Some(self.me) {
                    self.asked_of_us(now, path, key, within, (service, body.into()), out);
                } else {
                    let rest = |path| Message::Request { path, key, within_ms, service, body };
                    self.pass_on(now, from, path, key, rest, out);
                }
            }
            Message::Answer { path, key, outcome } => {
                if path.origin() == Some(self.me) {
                    self.answered(now, from, key, outcome, out);
                } else {
                    self.pass_back(path, key, outcome, out);
                }
            }
        }
    }

    pub(crate) fn send(to: NodeId, message: &Message, out: &mut Outbox<Output>) {
        out.push(Output::Send { to, body: encode(message).into() });
    }
}
