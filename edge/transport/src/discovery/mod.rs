//! How a node learns addresses to dial when it knows nobody (BLOC-2, BLOC-9, BLOC-16, BLOC-40):
//! multicast on the local link, the beacon, and a file of addresses.
//!
//! All three give *hints*. A hint costs at most a dial: who answers there still has to prove itself
//! by certificate, so a liar wins nothing but a connection. `docs/protocol/discovery.md` is the
//! protocol in prose. Nothing here has a schedule of its own: the caller says when to announce,
//! when to ask, and when to look at the file again.

mod address_file;
pub mod beacon;
mod datagram;
mod multicast;

pub use address_file::{
    AddressFile, AddressFileError, JoinAddress, JoinAddressError, LineError, LineFault,
    MAX_JOIN_ADDRESSES, parse_addresses,
};
pub use datagram::{Announcement, DatagramError, MAX_ANNOUNCED, MAX_DATAGRAM_BYTES};
pub use multicast::{AnnounceError, Heard, Multicast, MulticastConfig, MulticastStats};

use skep_base::{BlocName, Digest};

/// What members of one bloc know in common and others do not: made from the bloc's name and the
/// fingerprint of its CA, which is seen only inside TLS and in join tokens.
///
/// It hides the bloc's name from those who listen, and keeps strangers on the link from sending us
/// to addresses of their choice. It is no secret worth stealing: certificates decide who links.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DiscoveryKey([u8; 32]);

impl DiscoveryKey {
    /// The key of the bloc `bloc` whose CA's certificate has the given fingerprint. While a CA is
    /// being replaced there are two.
    #[must_use]
    pub fn derive(bloc: &BlocName, ca_fingerprint: &Digest) -> Self {
        let parts = [b"skep discovery key", &ca_fingerprint.0[..], bloc.as_str().as_bytes()];
        Self(Digest::of_parts(&parts).0)
    }

    /// Under what the beacon files the nodes of this bloc.
    #[must_use]
    pub fn beacon_tag(&self) -> [u8; 32] {
        Digest::of_parts(&[b"skep beacon tag", &self.0]).0
    }

    /// Proves knowledge of the key over `salt` and `payload`.
    fn seal(&self, salt: &[u8], payload: &[u8]) -> [u8; 16] {
        let digest = Digest::of_parts(&[b"skep announcement", &self.0, salt, payload]);
        let mut seal = [0; 16];
        seal.copy_from_slice(&digest.0[..16]);
        seal
    }
}

impl std::fmt::Debug for DiscoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiscoveryKey(..)")
    }
}
