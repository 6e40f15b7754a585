//! One node, whole and without a body: records, membership, overlay and flood composed, before any
//! socket, disk or clock touches them.
//!
//! The same [`Node`] runs in the agent, in the lab and in the simulator (invariant 3). This is the
//! only crate that knows all machines, and it adds no protocol of its own: what one machine learns,
//! it carries to the others. Links, time, chance, keys and disk are handed in; what is to be sent,
//! dialled, closed and stored comes out.
//!
//! ```text
//!   LinkUp/Frame/LinkDown ─> Node ─> Send/Dial/Close
//!   Publish/Stop ─────────>   │  ─> Persist…, Flood(Append/Read)     the disk
//!   Flood(Appended/Read) ─>   │  ─> Event, Flood(HandOver)           the rest of the agent
//! ```
//!
//! After [`Node::handle`] or [`Node::tick`] the outbox is carried out in order, and
//! [`Node::deadline`] says when the next tick is due. Only control-lane links come here; the bulk
//! lane goes straight from the transport to whoever moves chunks. What nodes without a link ask of
//! each other goes over others ([`Input::Ask`]). What the flock's managers decide changes the
//! catalog, and what is asked of the master is passed on to it ([`Input::Wish`]).
//! Serves BLOC-9, 10, 15–18, 26, 39, 40; DVM-1–4; MULTI-13; FLOOD-1.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod access;
mod adopt;
mod api;
mod carry;
mod desk;
mod fence;
mod heard;
mod job;
mod managed;
mod measure;
mod node;
mod portrait;
mod routed;

pub use api::*;
pub use managed::Fit;
pub use node::Node;
pub use portrait::{Portrait, appraise};
pub use routed::service;
