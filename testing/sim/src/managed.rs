//! A flock's managers under faults: who asks what of them, what is done to them, and what must hold
//! after every step.
//!
//! * `clients` write and read entries with compare-and-set; what they saw must be linearizable
//!   within each fork (`skep_model::entry`).
//! * `watch` looks at every node after each of its calls and at every disk after each write.
//! * `faults` are what the scenario `managers` draws pairs of. Each says whether it came about.
//! * `rest` is what must be true when all is over.
//! * [`script`] plays files of commands, and logs what they lead to.

pub(crate) mod clients;
pub(crate) mod faults;
pub(crate) mod rest;
pub mod script;
pub(crate) mod watch;
