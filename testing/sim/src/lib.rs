//! Whole flocks in one process, in virtual time, by seed.
//!
//! The simulator runs N times the very [`skep_node::Node`] that the agent runs, over a virtual
//! network that behaves as TCP shows itself, with virtual disks, and without a clock: from a
//! scenario, a seed and a number of nodes follows every event of a run, so a failure that was seen
//! once can be seen again (architecture, section 7; BLOC-9, 10, 15–18, 39, 40;
//! FLOOD-1; MULTI-13).
//!
//! ```text
//!   scenario ──> World ──> Process (a Node, or a Node with a planted bug)
//!                  │ ╲         ↑ inputs   ↓ outputs
//!                  │  ╲──> Network (latency, loss, cuts) · Disk (delay, power cut)
//!                  │
//!                  ├──> invariants: after every step           (`invariants`)
//!                  ├──> oracle: what must be true at rest      (`oracle`)
//!                  └──> liveness: that rest comes, in time     (`liveness`)
//! ```
//!
//! [`surge`] runs flood machines alone, in numbers, for figures. [`run`] plays one scenario;
//! `cargo xtask sim` plays many. Every checker is itself checked: each [`plant::Bug`] makes one of
//! them fail.

mod crew;
mod disk;
mod host;
pub mod invariants;
mod keys;
mod ledger;
pub mod liveness;
pub mod managed;
mod net;
pub mod oracle;
pub mod plant;
mod queue;
pub mod report;
mod runner;
pub mod scenario;
pub mod surge;
mod tokens;
mod trace;
mod wishes;
mod world;

pub use disk::DiskModel;
pub use host::{HostIx, Machine};
pub use net::Latency;
pub use report::{Cost, Costs, Failure, Report};
pub use runner::{Run, run};
pub use trace::Sink;
pub use world::{Config, World};
