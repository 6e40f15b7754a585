//! The words every other crate is written in: validated names, node identifiers, time as a value,
//! seeded chance, byte sizes and the bounded outbox.
//!
//! Nothing here converses or decides. What lives in this crate is what two or more machines must
//! agree on to talk of the same thing, and no more: a type that only one machine needs stays with
//! it. Names are validated once, in [`name`]; after that a name *is* valid (BLOC-8, BLOC-33,
//! BLOC-46). A [`Trail`] says which export commands an update has come through (FLOOD-42).

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod by_id;
pub mod digest;
pub mod id;
pub mod name;
pub mod outbox;
pub mod rng;
pub mod size;
pub mod time;
pub mod trail;
pub mod tree;

pub use by_id::ById;
pub use digest::Digest;
pub use id::{Incarnation, NodeId, Nonce};
pub use name::{BlocName, ChannelName, GroupName, ImageName, NameError, NetworkName, NodeName};
pub use outbox::Outbox;
pub use rng::Rng;
pub use size::ByteSize;
pub use time::{Time, WallTime};
pub use trail::{MAX_TRAIL, Trail, TrailError};
