//! The agent: where all parts meet, and the one binary `skep` (a thin layer over this library).
//!
//! [`boot`] reads as a boot log: it makes every part and hands it what it needs. [`spine`] is the
//! one loop that owns the node ([`skep_node::Node`]) and carries its wishes out; [`answer`],
//! [`status`] and [`updates`] make the answers of the control socket from its state, [`problems`]
//! what an administrator should look at, and [`certificates`] does what certificates ask of it.
//! Beside it run the disk's thread ([`disk`]), measuring ([`measure`]), computing overlays
//! ([`topology`]), discovery ([`discovery`]), renewal ([`renewal`]), the waves ([`rollout`]), and
//! the ways to nodes that cannot be dialled ([`reach`], [`routed`]), which channels of applications
//! take ([`channel`]). What is asked about the catalog and the flock's managers is answered in
//! `catalog`, `management` and `look`, what operators order of them carried out in `orders` and
//! `recovery`. What happens to the flock is told to [`hooks`], what is wrong with it to people
//! (`notify`).
//! Commands that need no agent live in [`offline`].
//!
//! What the crates promise singly is kept here together: BLOC-7, BLOC-9, BLOC-33 to BLOC-40,
//! DLIF-16 to DLIF-24, FLOOD-1 to FLOOD-42.

pub mod answer;
pub mod authority;
mod baseline;
pub mod boot;
mod catalog;
pub mod certificates;
pub mod channel;
pub mod clients;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod disk;
pub mod export;
pub mod founding;
pub mod giving;
pub(crate) mod history;
pub mod hooks;
pub mod keys;
mod look;
#[cfg(test)]
mod loopback;
mod management;
pub mod measure;
mod notify;
pub mod offline;
mod orders;
pub mod problems;
pub mod reach;
mod recovery;
pub mod renewal;
mod retired;
pub mod rollout;
pub mod routed;
mod spare;
pub mod spine;
pub mod split;
pub mod status;
pub mod topology;
pub mod updates;

/// When this release was made, in milliseconds since 1970: certificates are never judged by a clock
/// that is behind it. Raised with each release.
pub const BUILT_UNIX_MS: u64 = 1_795_219_200_000;
