//! A few nodes joined by wires without delay. The simulator asks the same of a thousand nodes on
//! bad networks; this answers within a second.

#![expect(clippy::unwrap_used, reason = "this is a test, its own helpers included")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what a test looks for is what it names")]

mod access;
mod flock;
mod net;
mod wishes;
