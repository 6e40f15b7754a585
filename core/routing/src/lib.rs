//! Requests to nodes that cannot be dialled: passed on from link to link, answered the same way.
//!
//! Links are few, and some pairs of nodes can never have one: one sits behind address translation,
//! or the network between them is broken while others still reach both (a *bridge* partition). What
//! one of such a pair wants of the other, for example to be dialled back, travels as a **routed
//! request**: a source route of at most [`MAX_HOPS`] hops, a body of at most [`MAX_BODY_BYTES`], a
//! deadline, and an idempotency key, so that a request which is sent again over another route is
//! carried out once (FLOOD-2, MULTI-13).
//!
//! The origin chooses the route from what all nodes publish about whom they hear. A node on the
//! route keeps nothing: the message carries its whole path, and an answer goes back along it. Where
//! the next hop is not linked any more, the node says so, and the origin tries its next route.
//!
//! A request is vouched for hop by hop, as updates are: a member on the route could claim to be the
//! origin. So a request may only ask for what proves itself otherwise; a dialled-back link, for
//! one, proves both its ends by certificate.
//!
//! * [`Routing`]: the machine;
//! * [`Message`]: what travels.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod machine;
mod message;
mod origin;
mod serve;

pub use machine::{Input, MAX_ASKED, MAX_ROUTES, Output, Routing, Ticket, Token};
pub use message::{Failure, Key, MAX_BODY_BYTES, MAX_HOPS, Message, Outcome, Path, Unsound};
pub use origin::AskError;
pub use serve::{MAX_FORWARDED_PER_S, MAX_SERVED, MAX_SERVED_OF_ONE};

#[cfg(test)]
mod tests;
