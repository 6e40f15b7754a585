//! Hosts: what is there before, between and after the processes that run on them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use skep_base::{GroupName, NodeId, NodeName, Outbox, Time};
use skep_node::{Deadline, Input, Node, Output};
use skep_wire::Address;

use crate::disk::Disk;

/// The number of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIx(pub u32);

impl HostIx {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What runs on a host: a node, or a node with a planted bug around it.
pub trait Machine {
    /// As [`Node::handle`].
    fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>);
    /// As [`Node::tick`].
    fn tick(&mut self, now: Time, out: &mut Outbox<Output>);
    /// As [`Node::deadline`].
    fn deadline(&self) -> Option<Deadline>;
    /// As [`Node::check`].
    fn check(&self);
    /// What the node says of itself to the checkers.
    fn node(&self) -> &Node;
    /// Who it says is present.
    fn present(&self) -> &[NodeId] {
        self.node().present()
    }
}

impl Machine for Node {
    fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        Self::handle(self, now, input, out);
    }

    fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        Self::tick(self, now, out);
    }

    fn deadline(&self) -> Option<Deadline> {
        Self::deadline(self)
    }

    fn check(&self) {
        Self::check(self);
    }

    fn node(&self) -> &Node {
        self
    }
}

/// A process on a host, from its start to its end.
pub(crate) struct Process {
    pub(crate) machine: Box<dyn Machine>,
    /// The earliest tick that is on the heap.
    pub(crate) tick_at: Option<Time>,
    /// Ticks at one instant: a machine that is never done is a bug.
    pub(crate) ticks_now: (Time, u32),
    /// What must wait for the disk, while something before it does.
    pub(crate) waiting: Option<VecDeque<Output>>,
    /// SIGSTOP was sent.
    pub(crate) stopped: bool,
    /// It said that another has its name.
    pub(crate) name_taken: bool,
}

pub(crate) struct Host {
    pub(crate) name: NodeName,
    pub(crate) id: NodeId,
    pub(crate) bloc: u8,
    /// Which multicast domain it is in, if it is in any.
    pub(crate) domain: Option<u16>,
    pub(crate) addresses: Vec<Address>,
    /// `join = [..]` of its configuration.
    pub(crate) seeds: Vec<SocketAddr>,
    pub(crate) groups: Vec<GroupName>,
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    /// Counts processes, so that what was meant for one never reaches the next.
    pub(crate) epoch: u32,
    /// What its clock is ahead of the world's.
    pub(crate) clock_ahead: Duration,
    /// The last time that something was done to this host.
    pub(crate) disturbed: Time,
    pub(crate) frames: Frames,
}

/// Frames that the processes of a host sent and received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frames {
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received: u64,
    /// Of these, with records.
    pub(crate) records: u64,
    /// Of these, heartbeats.
    pub(crate) beats: u64,
}

impl Frames {
    pub(crate) fn came(&mut self, kind: u8) {
        self.received += 1;
        self.records += u64::from(kind == skep_wire::kind::RECORDS);
        self.beats += u64::from(kind == skep_wire::kind::MEMBERSHIP);
    }
}

impl Host {
    pub(crate) fn local(&self, now: Time) -> Time {
        now + self.clock_ahead
    }

    /// Whether a process runs that is not stopped.
    pub(crate) fn is_live(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.stopped)
    }

    /// The machine of a process that is not stopped.
    pub(crate) fn machine(&self) -> Option<&dyn Machine> {
        let process = self.process.as_ref().filter(|process| !process.stopped)?;
        Some(&*process.machine)
    }
}
