//! How far apart any two nodes are: measured for a few pairs, predicted for all the others.
//!
//! All pairs would be 10⁸ facts among 10,000 nodes. So each node measures *some*: the round trip to
//! one random node each ping period, and for nothing what the kernel knows of links that stand
//! anyway; the bandwidth to one random node each bandwidth period, from bulk traffic that flows
//! anyway where there is some, else by a [`probe`] bounded in bytes and time (FLOOD-22, 28).
//! What was measured is kept as the least of a [window](Window) with its deviation, and published
//! as one record of at most [`MAX_PAIRS`] pairs, again only when it changed by more than a fifth or
//! ten minutes have gone by (FLOOD-24).
//!
//! Every sample also moves the node's [`Coordinate`] (Vivaldi with height, as Serf has it): the
//! distance of two coordinates predicts the round trip of two nodes that never met. Where one has
//! no coordinate yet, latitude and longitude do (FLOOD-16); else the pair is unknown, and the
//! answer says which of these it is ([`Basis`]).
//!
//! Where neither of two nodes can dial the other, both find that out, and what a message takes
//! between them over the links of others: they publish it as a record of its own, as [`Ways`], so
//! that no topology takes such a pair for one that a link could join.
//!
//! This is a machine of its own, beside `skep-topology`, because it converses (pings, trains,
//! records) while the overlay is computed; the overlay is handed [`Costs`].
//!
//! * [`Estimates`]: the machine; [`Estimates::between`] answers for one pair;
//! * [`Report`]: the body of the record; [`Ways`]: that of the other one;
//! * [`Costs`]: all of it for a list of members, for whoever computes a topology.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod apart;
mod coordinate;
mod costs;
mod event;
mod machine;
mod math;
mod message;
mod peers;
mod place;
pub mod probe;
mod publish;
mod report;
mod ways;
mod window;

pub use coordinate::{Coordinate, DIMENSIONS, MAX_COMPONENT};
pub use costs::{Basis, Between, Costs, Measurement, Reports};
pub use event::{Config, Input, Output, Sample};
pub use machine::{Estimates, MAX_MEASURED, MAX_NODES};
pub use message::{Message, Pong};
pub use place::{KM_PER_MS, Place};
pub use report::{MAX_PAIRS, Pair, Report, ShortId, short_id};
pub use ways::{MAX_WAYS, Way, Ways};
pub use window::Window;

#[cfg(test)]
mod tests;
