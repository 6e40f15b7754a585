//! The beacon (BLOC-2): a small meeting place outside the bloc, known by its own public key.
//!
//! A node tells it, over TLS, under what tag and at which addresses it can be found, and is told
//! where others of the same tag are. The tag is made from the bloc's name and its CA
//! ([`super::DiscoveryKey::beacon_tag`]); the beacon learns addresses and nothing else, holds them
//! in memory only, and forgets those that do not come again.

mod client;
mod directory;
mod message;
mod server;

pub use client::{BeaconClient, BeaconError};
pub use directory::{Directory, Limits};
pub use message::{MAX_PEERS, MAX_REGISTERED, Peers, Refused, Register, Token};
pub use server::{BeaconServer, BeaconStats};
