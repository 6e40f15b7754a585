//! Updates: opaque messages to a group, in every member's log once, in the order of their origin,
//! kept for the purge age (FLOOD-1, FLOOD-3, FLOOD-35, MULTI-5).
//!
//! An update is named by its origin, the origin's life and a sequence, and names the update before
//! it in its group, so that a node in few groups sees no false gaps. The machine is *handed* the
//! neighbours of each group and does three things with them:
//!
//! * **flood**: a small update goes to every neighbour but those that have it; over edges that
//!   only ever brought an origin's updates too late goes its id; a large one is announced and
//!   pulled from one holder;
//! * **order**: what comes before its predecessor waits, and the predecessor is asked for; what
//!   cannot be had within the pull time-out is a reported gap, and is delivered late if it comes;
//! * **repair**: when a link comes up, and now and then, neighbours compare a digest. Where it
//!   differs each side sends its watermarks and gets what it lacks, in parts, from the log. So a
//!   node that was away is repaired by whomever it meets.
//!
//! The machine keeps an index; bodies are in the log, which its owner writes and reads for it. A
//! publisher is acknowledged when its update is durable; the flood does not wait for that, because
//! a life and a sequence are never used twice. Subscribers read the log through cursors, at least
//! once, each time under the same identity. What there is no room for goes in a stated order, and
//! each drop is counted by its reason (FLOOD-32, FLOOD-33): see [`Stats`].
//!
//! | file | what |
//! |---|---|
//! | `event` `message` `config` | what may happen, what is wanted and said, what may be chosen |
//! | `machine` | the state, and which handler takes which input |
//! | `publish` `relay` `receive` `held` | the flood and its order |
//! | `lazy` `branch` `rumour` | which edges carry bodies and which ids; asking for what was lost |
//! | `pull` `serve` | repair: asking, answering |
//! | `large` | bodies that are announced and pulled piece by piece |
//! | `life` `index` `cache` | what there is: per origin, per position, in memory |
//! | `room` `note` | what goes when the log is full; telling who lost something |
//! | `cursor` `restore` | subscribers; the log of an earlier life |
//! | `shelf` | a store for bodies in memory, for simulators |

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod branch;
mod cache;
mod config;
mod cursor;
mod event;
mod fault;
mod figures;
mod group;
mod held;
mod id;
mod index;
mod large;
mod lazy;
mod life;
mod machine;
pub mod message;
mod note;
mod publish;
mod pull;
mod receive;
mod relay;
mod restore;
mod room;
mod rumour;
mod serve;
pub mod shelf;
mod stats;
#[cfg(test)]
mod tests;

pub use config::{
    BODY_BYTES, Config, ConfigError, EAGER_BELOW_BYTES, HAND_OVER_BYTES, MAX_BODY_BYTES,
    MAX_EAGER_BYTES,
};
pub use cursor::CursorView;
pub use event::{
    Body, CursorName, Delivered, DeliveredBody, GapReason, Input, Kept, Label, LogEntry, LogHead,
    LogRecord, Missed, Output, PublishToken, PurgedMark, ReadItem, ReadToken, Refusal, Rejection,
    Restored, SpoolId, Spooled,
};
pub use figures::GroupFigures;
pub use id::{Position, Serial, UpdateId};
pub use machine::Flood;
pub use stats::Stats;
