//! Everything the agent keeps on a disk: the update log, the small durable state, and the chunks
//! and images.
//!
//! | module | what | for |
//! |---|---|---|
//! | [`log`] | updates in checksummed segments, synced in groups | FLOOD-32, FLOOD-35, MULTI-5 |
//! | [`managers`] | what a manager promised and its flock decided | DVM-4 |
//! | [`bodies`] | long bodies on their way in, piece by piece | FLOOD-32, FLOOD-35 |
//! | [`state`] | incarnation, records, address book, cursors: a database | BLOC-9, 40, FLOOD-36 |
//! | [`blobs`] | chunks by digest, sealed images | DLIF-18, DLIF-22 |
//! | [`lock`] | one writer for a state directory | |
//!
//! Three things hold for all of it. What was reported durable survives a power cut. What is found
//! torn, damaged, foreign or too new is said by file and offset, and nothing is thrown away without
//! saying so. A full disk is its own error, so that it can be told from a broken one. Files are for
//! the agent's user alone: 0600 in directories of 0700.
//!
//! Everything here is synchronous: call it from a thread that may wait.

pub mod blobs;
pub mod bodies;
mod files;
pub mod lock;
pub mod log;
pub mod managers;
pub mod state;

pub use lock::StateLock;
pub use log::Log;
pub use managers::ManagersStore;
pub use state::State;
