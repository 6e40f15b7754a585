//! The catalog: what the fleet shall be, as small typed entries that every node holds.
//!
//! An operator says what is wanted as entries: which groups there are, who may do what, who is
//! expelled, settings. A [`Command`] changes some of them, all or none, and may demand that they
//! are as its author saw them (compare-and-set). The flock's managers agree on an order of
//! commands; a [`Catalog`] is what comes of applying them one after the other, the same wherever
//! that is done, down to its [`Catalog::root`], a digest of all that is in it.
//!
//! ```text
//!   skep catalog set ─> Command ─> the managers' log ─> Catalog::apply        on managers
//!                                                            │
//!   every other node: Replica <── what differs, by buckets ──┘   checked against a signed Head
//! ```
//!
//! Managers apply commands. Every other node holds a [`Replica`]: it learns of a [`Head`] (stamp,
//! index and root, signed by the master), asks its neighbours for what differs, and switches over
//! when the root is right, so that it never shows anything that no master signed (BLOC-26). A head
//! with an older stamp is refused, and so is one with an equal epoch of another fork.
//!
//! Entries keep their last few versions with who wrote them and when, for people; the revision is
//! what counts. An entry of a kind or schema that a node does not know is kept, digested and
//! relayed as the bytes that came, and not interpreted; nor can a build that does not know it set
//! it anew. One of an older schema is read as the newest ([`upgrade`]). When two flocks merge, the
//! one that does not lead hands over what changed since the fork ([`Catalog::hand_over`]), each
//! entry with what it has seen ([`Context`]); what neither had seen of the other's becomes an entry
//! of the conflict log, which one command applies again (DVM-27, BLOC-19).

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod access;
mod catalog;
mod command;
mod context;
mod desk;
mod fields;
mod key;
mod merging;
#[cfg(test)]
mod plant;
mod replica;
mod schema;
mod slot;
mod target;
mod text;
mod value;

pub use access::{Asker, RIGHT_CATALOG, RIGHT_FLOCK, Rules};
pub use catalog::{
    BUCKETS, Catalog, Change, MAX_CATALOG_BYTES, MAX_ENTRIES, MAX_REMOVED, Origin, Outcome,
    Refusal, Seen, SnapshotError,
};
pub use command::{
    Command, Expect, MAX_BODY_BYTES, MAX_COMMAND_BYTES, MAX_WHO_BYTES, MAX_WRITES, Payload,
    TooLarge, Write,
};
pub use context::{Context, Dot, MAX_LOGS};
pub use desk::{Forward, Granted, MAX_SHOWN_BYTES, MAX_TOKEN_BYTES, Name, Order, Token, Wish};
pub use fields::{Field, Fields, FieldsError, MAX_FIELDS, MAX_LIST};
pub use key::{Key, KeyError, Kind, MAX_KEY_NAME_BYTES};
pub use merging::{Conflict, MAX_ITEM_BYTES, in_commands, reapply};
pub use replica::{
    Config, Delta, Freshness, Give, Head, Input, MAX_DELTA_BYTES, MAX_GIVE_BYTES, Message, Output,
    Place, Replica, Tell, Want,
};
pub use schema::{FIRST_SCHEMA, newest_schema, upgrade};
pub use slot::{MAX_SLOT_BYTES, MAX_VERSIONS, Slot, Stamp, Version};
pub use target::{MAX_CATALOG_TARGETS, Target, Tls, Way};
pub use text::export;
pub use value::{Expelled, Group, Invalid, Rule, Setting, Value, check, fields_known};

#[cfg(test)]
mod tests;
