//! Hosts: what is there before, between and after the processes that run on them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use skep_base::{GroupName, NodeId, NodeName, Outbox, Time};
use skep_managers::{Eligibility, View};
use skep_node::{Deadline, Input, Node, Output};
use skep_wire::Address;

use crate::disk::{Disk, DiskModel};
use crate::world::{Answer, Ask, Call, Foreseen};

/// The number of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIx(pub u32);

impl HostIx {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What runs on a host: a node, or a node with a planted bug around it.
pub trait Machine: Send {
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
    /// What it says of its flock's management, at a time of its clock.
    fn management(&self, now: Time) -> View {
        self.node().management(now)
    }
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
    /// Nothing while it works ahead.
    pub(crate) machine: Option<Box<dyn Machine>>,
    /// The call that comes next, where that was foreseen.
    pub(crate) foreseen: Option<Foreseen>,
    /// Calls of the machine, beginning with a number by which processes differ.
    pub(crate) calls: u32,
    /// After every so manieth of them it is checked.
    pub(crate) check_every: u32,
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

impl Process {
    /// Asks the machine at a time of the host's clock, or finds what it has answered already.
    pub(crate) fn ask(&mut self, now: Time, ask: Ask) -> Option<Answer> {
        let call = Call { now, ask, check: self.is_checked_next() };
        self.calls = self.calls.wrapping_add(1);
        let answered = self.foreseen.take().and_then(|foreseen| foreseen.comes(&call));
        answered.or_else(|| self.machine.as_deref_mut().map(|machine| call.make(machine)))
    }

    /// Whether the machine's check follows upon the next call.
    pub(crate) const fn is_checked_next(&self) -> bool {
        self.calls.is_multiple_of(self.check_every)
    }
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
    /// `[managers] eligible` of its configuration, where that is another than the world's.
    pub(crate) eligible: Option<Eligibility>,
    pub(crate) disk: Disk,
    pub(crate) process: Option<Process>,
    /// Counts processes, so that what was meant for one never reaches the next.
    pub(crate) epoch: u32,
    /// What its clock is ahead of the world's.
    pub(crate) clock_ahead: Duration,
    /// How much faster it runs, in millionths.
    pub(crate) drift: i64,
    /// How fast its disk is, where that is another than the world's.
    pub(crate) disk_model: Option<DiskModel>,
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
    /// What its clock shows.
    pub(crate) fn local(&self, now: Time) -> Time {
        drifted(now, self.drift) + self.clock_ahead
    }

    /// When its clock shows that, or a moment later.
    pub(crate) fn global(&self, local: Time) -> Time {
        let since = local - self.clock_ahead;
        if self.drift == 0 {
            return since;
        }
        let nanos = i128::from(since.as_nanos()) * 1_000_000 / (1_000_000 + i128::from(self.drift));
        Time::from_nanos(u64::try_from(nanos + 2).unwrap_or(u64::MAX))
    }

    /// Whether a process runs that is not stopped.
    pub(crate) fn is_live(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.stopped)
    }

    /// The machine of a process that is not stopped.
    pub(crate) fn machine(&self) -> Option<&dyn Machine> {
        let process = self.process.as_ref().filter(|process| !process.stopped)?;
        process.machine.as_deref()
    }
}

fn drifted(now: Time, millionths: i64) -> Time {
    let nanos = i128::from(now.as_nanos());
    let nanos = nanos + nanos * i128::from(millionths) / 1_000_000;
    Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
