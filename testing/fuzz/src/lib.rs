//! Hostile bytes for everything that decodes what a peer or a disk gave (invariant 5: no input
//! makes a machine fail, panic or take memory past a named bound).
//!
//! A [`Target`] is a decoder as a plain function with its *properties*: what it accepts it must be
//! able to say again, what it refuses it must refuse without taking much memory. Around it stand:
//!
//! * `corpus/NAME/`, small files that every `cargo test` replays: valid messages, from which
//!   mutations start, and inputs that once failed;
//! * [`Mutator`], seeded: the same run tries the same inputs, so a failure has a seed and a number
//!   that bring it back;
//! * [`Allowance`], an allocator that fails an input which asks for more memory than its length
//!   allows;
//! * the binary `skep-fuzz`, which runs a target for as long as one likes: see `docs/lab.md`.
//!
//! Covered are the formats behind DLIF-16 to DLIF-24 (manifest, seal) and FLOOD-33 (the update
//! log's headers), FLOOD-24 (estimates), FLOOD-27 and FLOOD-30 (topologies), and those of the
//! spine: frame, hello, records, membership, enrolment.

pub mod corpus;
mod memory;
mod mutate;
mod run;
mod targets;

pub use memory::{Allowance, within_allowance};
pub use mutate::Mutator;
pub use run::{Failure, run_one, run_seeded};
pub use targets::{TARGETS, Target};
