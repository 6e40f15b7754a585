//! Who is present, as each node derives it, and whom to link to.
//!
//! **Nobody declares a death; everyone derives it.** Each node publishes one record that lists whom
//! it hears over a live link now ([`Watch`]). A member is *present* while a chain of such edges
//! leads from this node to it, through members that are present themselves: link-state routing's
//! idea. So a rack, or the other half, goes silent at once and comes back at once, one `heard`
//! outweighs any number of `silent`, and no verdict is left lying around to be flooded again
//! (BLOC-9, 10, 15–18, 39, 40; MULTI-13).
//!
//! The machine is told of links, of the records that members publish, and of the layout that
//! follows from who is present; it sends heartbeats, says which links it wants, and dials without
//! end: two halves that never met must merge when they can. It also guards the node's name: what a
//! second live process of the same name may do, and which incarnation this one takes.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod dialling;
mod event;
mod facts;
mod link;
mod machine;
mod message;
mod name;
mod presence;
mod reach;
mod route;

pub use event::{
    DialFailure, DialId, DownReason, Goodbye, Input, Layout, LinkId, Output, Peer, Source,
};
pub use facts::{Edge, MAX_ADDRESSES, MAX_EDGES, MAX_GROUPS, NodeFacts, NodeState, Verdict, Watch};
pub use machine::{Config, LinkView, MAX_MEMBERS, Me, MemberView, Membership, Statistics, Status};
pub use message::Heartbeat;
pub use name::Contest;

#[cfg(test)]
mod tests;
