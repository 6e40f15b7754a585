//! The heartbeat, all that membership says on a link. Frame kind [`skep_wire::kind::MEMBERSHIP`].

use serde::{Deserialize, Serialize};
use skep_base::Incarnation;

/// Sent every beat, answered at once when the last one lies half a beat back, so that the two
/// directions share their acknowledgements. One that says the same as the one before it on the link
/// is a frame without a body: a flock at rest sends nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which members the sender sees, as a digest. 0 before it knows.
    pub members: u64,
    /// As which life the sender publishes; its link's hello may be older than that.
    pub incarnation: Incarnation,
    /// [`Heartbeat::WANTED`], [`Heartbeat::FLOOD`], [`Heartbeat::RELEASABLE`],
    /// [`Heartbeat::CONTESTED`].
    pub flags: u8,
}

impl Heartbeat {
    /// The sender wants this edge.
    pub const WANTED: u8 = 1;
    /// The sender floods facts and updates over it: it is an edge of the overlay, or stands in for
    /// one that is missing.
    pub const FLOOD: u8 = 2;
    /// The sender knows another present watcher that hears the receiver: the edge may go without
    /// anybody looking silent.
    pub const RELEASABLE: u8 = 4;
    /// The sender turned another live process away that has the receiver's name.
    pub const CONTESTED: u8 = 8;

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}
