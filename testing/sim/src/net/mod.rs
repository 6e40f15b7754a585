//! The virtual network: hosts that dial one another, and connections that behave as TCP shows
//! itself to those who use it.
//!
//! What a program sees of TCP is order, delay and an end. So packets are not modelled; frames are:
//!
//! * frames of one direction arrive in order, each after the latency of the moment;
//! * a lost one is sent again after a retransmission time-out of 200 ms (or two round trips, where
//!   that is longer) that doubles; what was sent after it waits behind it;
//! * where nothing gets through, or no acknowledgement gets back, the sender tries again at the
//!   same pace and ends the connection after its *user time-out*; the other end may not hear of
//!   that;
//! * a process that is stopped is acknowledged by its kernel until the window is full;
//! * a process that dies closes its connections, if its packets get out; a host that loses power
//!   closes nothing, and answers with resets when it is back.

mod conn;
mod dial;
mod foresee;
mod latency;
mod network;
mod reach;

pub(crate) use latency::Distances;
pub use latency::Latency;
pub(crate) use network::{Card, NetEvent, Network, Power};
