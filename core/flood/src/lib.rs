//! placeholder
#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod config;
mod event;
mod id;
mod machine;
pub mod message;
mod stats;

pub use config::{Config, ConfigError, FRAGMENT_BYTES, INLINE_BELOW_BYTES, MAX_BODY_BYTES};
pub use event::{
    CursorName, Delivered, GapReason, Input, LogEntry, LogRecord, Output, PublishToken, ReadItem,
    ReadToken, Refusal, Rejection, Restored,
};
pub use id::{Position, Serial, UpdateId};
pub use machine::Flood;
pub use stats::Stats;
