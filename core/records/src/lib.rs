//! Records: small retained facts of which one node is the owner; the newest wins.
//!
//! A record is signed by its owner and numbered by (incarnation, sequence), so whoever relays it
//! can neither change it nor pass an old one off as new. It is relayed byte for byte, also when its
//! kind or schema means nothing to the node that relays it: an old relay never eats a new fact
//! (invariant 4). Only the owner announces or retracts.
//!
//! Two mechanisms spread records. What is new is *flooded* at once over the links the machine is
//! handed. Whatever flooding missed is *repaired*: whenever a link comes up, and slowly all the
//! time, two nodes compare digests, narrow the difference down to buckets of owners, and each sends
//! what the other lacks (BLOC-9, BLOC-26, BLOC-40, MULTI-16).
//!
//! Records are *forgotten* by age. An owner's age is the time since any present watcher last heard
//! it, counted in accumulated durations and never by a remote clock; records travel with it, the
//! minimum wins, and past the purge age they are refused, so that a stale peer resurrects nothing
//! (FLOOD-36). The certificate that signed a record is itself a record, of kind
//! [`kind::CERTIFICATE`], and precedes what it signed on every link.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod age;
mod machine;
mod message;
mod publish;
mod receive;
mod record;
pub mod stamped;
mod store;
mod sync;

pub use machine::{Config, Input, Output, Records, Rejection, Statistics};
pub use message::{Entry, Item, MAX_BATCH_BYTES, Message};
pub use record::{
    Content, MAX_BODY_BYTES, MAX_RECORD_BYTES, Record, Signatory, Signer, Verifier, Version, kind,
};
pub use store::{MAX_KINDS_PER_OWNER, MAX_OWNERS, Stored};

#[cfg(test)]
mod tests;
