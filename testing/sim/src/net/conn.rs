//! One connection: two ends, and a pipe in each direction.

use std::collections::VecDeque;
use std::time::Duration;

use skep_base::Time;
use skep_node::DownReason;
use skep_wire::{FRAME_HEADER_BYTES, Frame};

use crate::HostIx;

/// Least time before what was not acknowledged is sent again (Linux' `TCP_RTO_MIN`).
pub(crate) const RTO_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two attempts (Linux' `TCP_RTO_MAX`).
const RTO_MAX: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Conn {
    /// The end that dialled, and the one that was dialled.
    pub(crate) ends: [End; 2],
    /// From each end to the other.
    pub(crate) pipes: [Pipe; 2],
    /// The quickest round trip.
    pub(crate) round_trip: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) host: HostIx,
    pub(crate) state: EndState,
    pub(crate) last_heard: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndState {
    /// Dialled; the other end's hello is still under way.
    Connecting,
    /// The process has it.
    Up,
    /// The process, or the process and its kernel, have it no more.
    Gone,
}

/// What travels in a pipe.
#[derive(Debug)]
pub(crate) enum Parcel {
    Frame(Frame),
    /// The sender closed its end; the receiver sees this.
    Fin(DownReason),
}

impl Parcel {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => FRAME_HEADER_BYTES + frame.body.len(),
            Self::Fin(_) => 0,
        }
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// What was sent and has not arrived, and when each arrives if nothing comes in between.
    pub(crate) queue: VecDeque<(Time, Parcel)>,
    pub(crate) queued_bytes: usize,
    /// When the last one arrives that was given a time.
    pub(crate) last_due: Time,
    /// An arrival is on the event heap.
    pub(crate) armed: bool,
    /// Nothing gets through, or no acknowledgement gets back.
    pub(crate) trouble: Option<Trouble>,
    /// Bytes that the receiver's kernel holds for a process that is stopped.
    pub(crate) unread: usize,
}

/// A sender that waits for acknowledgements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) since: Time,
    pub(crate) rto: Duration,
}

impl Trouble {
    pub(crate) fn begin(now: Time, round_trip: Duration) -> Self {
        Self { since: now, rto: first_rto(round_trip) }
    }

    pub(crate) fn back_off(&mut self) {
        self.rto = (self.rto * 2).min(RTO_MAX);
    }
}

impl Pipe {
    pub(crate) fn push(&mut self, due: Time, parcel: Parcel) {
        self.queued_bytes += parcel.bytes();
        self.queue.push_back((due, parcel));
    }

    pub(crate) fn pop(&mut self) -> Option<Parcel> {
        let (_, parcel) = self.queue.pop_front()?;
        self.queued_bytes -= parcel.bytes();
        Some(parcel)
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
        self.trouble = None;
    }

    pub(crate) fn has_fin(&self) -> bool {
        matches!(self.queue.back(), Some((_, Parcel::Fin(_))))
    }
}

pub(crate) fn first_rto(round_trip: Duration) -> Duration {
    RTO_MIN.max(round_trip * 2)
}

/// The delay of a segment that is lost `losses` times in a row.
pub(crate) fn retransmission_delay(losses: u32, round_trip: Duration) -> Duration {
    let mut rto = first_rto(round_trip);
    let mut delay = Duration::ZERO;
    for _ in 0..losses {
        delay += rto;
        rto = (rto * 2).min(RTO_MAX);
    }
    delay
}
