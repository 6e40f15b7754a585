//! Telling people and programs what becomes of their flock: what an application's hook should know
//! (BLOC-10, BLOC-21), and what an administrator should be mailed (DVM-10, DVM-13, DVM-14).
//!
//! There are four machines, each of which knows nothing of the others:
//!
//! ```text
//!   who is there, who is master ──▶ Watch ──▶ formed, merged, split, stable … ──▶ Line ──▶ a hook
//!                                              │
//!                      the master's ───────────┴──▶ Teller ──▶ a record, which all nodes keep
//!
//!   what is wrong here ──▶ Desk ──▶ entries of the catalog ──▶ every Desk of the flock
//!                           │                                 the master's: letters to targets
//!                           └── alone: what nobody else can tell ──▶ letters to targets
//! ```
//!
//! [`Watch`] looks at a flock from one of its nodes and says what changed, once for what happened
//! together. [`Line`] hands such events to one hook: never two at once, a bounded number waiting,
//! those of one sort folded into the newest.
//!
//! [`Teller`] has the master tell the bloc what happened to its flock, in a record of a bounded
//! number of events; a node that becomes master tells what it saw while there was none.
//! [`in_one_order`] makes one list of all such records, the same on every node, in which what two
//! masters told is there once (BLOC-21). An idle flock tells nothing.
//!
//! [`Desk`] keeps *incidents*: something that is wrong from some moment to another. Whoever sees
//! one proposes an entry for it, which all nodes then hold; the name of the entry says what is
//! wrong with what, so that two who see the same propose the same, and the second is refused. So
//! an incident is one for the flock and not one for each node, also where the master dies in the
//! middle of it (BLOC-19). The master *claims* what is due to a target in a letter, in the entries
//! themselves, before it is sent, and notes there that it was taken. A new master finds a letter
//! that was claimed and not taken and sends it again as it was, under the same name: a letter may
//! come twice, and who gets it can tell, for its name follows from the incidents in it and how far
//! each had come. A node that has had no master for some time can note nothing with others, and
//! tells what only it can see by itself.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod config;
mod desk;
mod draft;
mod history;
mod incident;
mod letter;
mod line;
mod post;
mod teller;
mod watch;

pub use config::{Config, ConfigError};
pub use desk::{Change, Desk, Event, Input, Office, Output, Post, Ticket, Untaken};
pub use draft::MAX_CHANGES_BYTES;
pub use history::{
    FlockEvent, HISTORY_SCHEMA, MAX_EVENT_NODES, MAX_EVENTS, MAX_HISTORY_BYTES, Tale, Under, Who,
    from_body, in_one_order, to_body,
};
pub use incident::{
    Claim, Incident, Kind, MAX_ID_BYTES, MAX_LETTER_BYTES, MAX_NOTICES, MAX_SEEN_BY_BYTES,
    MAX_STEP, MAX_SUBJECT_BYTES, MAX_TARGET_BYTES, MAX_TARGETS, MAX_TEXT_BYTES, MAX_TOLD, Notice,
    Scope, Sighting, Told,
};
pub use letter::{Item, Letter};
pub use line::{Line, MAX_LINE, Run};
pub use post::Figures;
pub use teller::Teller;
pub use watch::{FlockSeen, Happened, MAX_NAMED, Seen, Watch, WatchConfig, What};

#[cfg(test)]
mod tests;
