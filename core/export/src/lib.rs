//! Handing the updates of one group to a command of this host: in batches, never two at once, each
//! until the command says that it has it (FLOOD-34, FLOOD-41, MULTI-5).
//!
//! The machine stands between a subscriber's cursor and whoever runs the command. The log hands it
//! updates over, and no more until they are committed; it cuts them into batches and has them run
//! one after the other, in the order of the log:
//!
//! ```text
//!            handed over            delay is over            handed over again
//!   empty ────────────────▶ gathering ───────────▶ asked ─────────────────────▶ running
//!     ▲        full or no delay                                               ▲   │ │
//!     │ └─────────────────────────────────────────────────────────────────────┘   │ │ failed
//!     └───────────────────────────────────────────────────────────────────────────┘ ▼
//!                          delivered: commit, and the next batch                 waiting
//! ```
//!
//! *Gathering* makes one batch of what trickles in: what was handed over is not run but waited
//! with, and then the cursor is asked to begin again at what is committed; it comes back with all
//! that has come since. A batch that failed is kept as it is and run again after a wait that
//! doubles up to a bound, and what is behind it waits with it: an order that is kept only while all
//! goes well is none. It is never given up, because nobody could be told.
//!
//! Only the commit is durable. After a crash the log hands over from there, so that a batch may be
//! run once more, perhaps cut otherwise, with the same updates under the same identities.

//!
//! What a command publishes in its turn is judged by [`judge`]: it may not come round (FLOOD-42).

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod config;
mod machine;
mod reflood;
#[cfg(test)]
mod tests;

pub use config::{Config, ConfigError, MAX_BATCH_BYTES, MAX_BATCH_UPDATES};
pub use machine::{
    Export, Figures, Handed, Input, Mark, Outcome, Output, RunId, Waiting, WaitsFor,
};
pub use reflood::{Allowed, Came, Looped, judge};
