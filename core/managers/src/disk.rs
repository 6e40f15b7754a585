//! What waits for the disk.

use std::collections::VecDeque;

use skep_base::{NodeId, Outbox};

use crate::engine::Wire;
use crate::event::{DiskFault, Output, Ticket, Token};
use crate::message::Message;
use crate::stored::Write;

/// Writes that a disk may be behind with before this node promises nothing more to others: they ask
/// again. A disk that hangs must not gather what peers go on asking.
const MAX_BEHIND: usize = 1024;

/// What is done when a write is safe.
#[derive(Debug)]
pub(crate) enum After {
    /// A round of the engine in this life of the group is safe; these may go.
    Round { life: u64, number: u64, wires: Vec<Wire> },
    /// This may go.
    Send(NodeId, Message),
    /// This order may be carried out.
    Obey(Token),
}

/// The writes under way.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    last: u64,
    waiting: VecDeque<(Ticket, Vec<After>)>,
    pub(crate) failed: Option<DiskFault>,
}

impl Disk {
    pub(crate) fn write(&mut self, write: Write, after: Vec<After>, out: &mut Outbox<Output>) {
        if self.failed.is_some() {
            return;
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        self.waiting.push_back((ticket, after));
        out.push(Output::Persist { ticket, write });
    }

    /// Puts `after` behind everything that is under way; gives it back when nothing is.
    pub(crate) fn behind(&mut self, after: After) -> Option<After> {
        match self.waiting.back_mut() {
            _ if self.failed.is_some() => None,
            Some((_, list)) => {
                list.push(after);
                None
            }
            None => Some(after),
        }
    }

    /// Whether more is waited for than any disk that works is behind with.
    pub(crate) fn is_overdue(&self) -> bool {
        let last = self.waiting.back().map_or(0, |(_, after)| after.len());
        self.waiting.len() >= MAX_BEHIND || last >= MAX_BEHIND
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn done(&mut self, ticket: Ticket) -> Vec<After> {
        let mut all = Vec::new();
        while self.waiting.front().is_some_and(|(at, _)| *at <= ticket) {
            all.extend(self.waiting.pop_front().into_iter().flat_map(|(_, after)| after));
        }
        all
    }

    pub(crate) fn fail(&mut self, why: DiskFault) {
        self.failed = Some(why);
        self.waiting.clear();
    }
}
