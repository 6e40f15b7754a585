//! What others must agree with: small models that know nothing of the code that they judge.
//!
//! [`entry`] is one entry of the catalog as its writers and readers see it, a register with
//! compare-and-set, and says whether a recorded history of it is linearizable. The simulator
//! records such histories while it does its worst.
//!
//! [`flock`] is the core of a flock's management; a model checker goes through everything that may
//! happen to it.
//!
//! What decides is `stateright`'s, or is held to agree with it.

#![warn(missing_docs)]

pub mod entry;
pub mod flock;
