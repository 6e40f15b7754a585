//! placeholder
#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod cache;
mod config;
mod cursor;
mod event;
mod fault;
mod group;
mod held;
mod id;
mod index;
mod large;
mod life;
mod machine;
pub mod message;
mod publish;
mod pull;
mod receive;
mod relay;
mod restore;
mod serve;
mod stats;
#[cfg(test)]
mod tests;

pub use config::{Config, ConfigError, FRAGMENT_BYTES, INLINE_BELOW_BYTES, MAX_BODY_BYTES};
pub use event::{
    CursorName, Delivered, GapReason, Input, LogEntry, LogRecord, Output, PublishToken, ReadItem,
    ReadToken, Refusal, Rejection, Restored,
};
pub use id::{Position, Serial, UpdateId};
pub use machine::Flood;
pub use stats::Stats;
