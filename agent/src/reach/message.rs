//! What nodes say to one another to come together.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::NodeId;
use skep_wire::{MAX_HELLO_ADDRESSES, Malformed, decode, encode};

/// Longest first frame of a stream, and longest answer to it.
pub(super) const MAX_FIRST_BYTES: usize = 512;

/// What nobody else can know: by it a node knows again what it was promised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Cookie(pub(super) [u8; 16]);

/// Body of [`skep_node::service::DIAL_BACK`]: open a stream to me, and show the cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DialBack {
    pub(super) cookie: Cookie,
    /// At most [`MAX_HELLO_ADDRESSES`].
    pub(super) addresses: Vec<SocketAddr>,
}

/// Body of [`skep_node::service::LINK_BACK`]: make a bulk link to me.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkBack {
    /// At most [`MAX_HELLO_ADDRESSES`].
    pub(super) addresses: Vec<SocketAddr>,
}

/// Body of [`skep_node::service::MEET`]: dial this relay, show it the cookie, and accept me.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meet {
    pub(super) cookie: Cookie,
    pub(super) relay: NodeId,
    /// At most [`MAX_HELLO_ADDRESSES`].
    pub(super) addresses: Vec<SocketAddr>,
}

impl Cookie {
    /// One from the system's random bytes.
    pub(super) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        if filled < bytes.len() {
            return Err(std::io::Error::other("the system gives too few random bytes"));
        }
        Ok(Self(bytes))
    }

    /// One that a frame carries.
    pub(super) fn from_body(body: &[u8]) -> Option<Self> {
        body.try_into().ok().map(Self)
    }
}

// A cookie is a secret while it lasts.
impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie")
    }
}

impl DialBack {
    pub(super) fn to_body(&self) -> Bytes {
        encode(self).into()
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let mut said: Self = decode("request to dial back", body)?;
        said.addresses.truncate(MAX_HELLO_ADDRESSES);
        Ok(said)
    }
}

impl LinkBack {
    pub(super) fn to_body(&self) -> Bytes {
        encode(self).into()
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let mut said: Self = decode("request to link back", body)?;
        said.addresses.truncate(MAX_HELLO_ADDRESSES);
        Ok(said)
    }
}

impl Meet {
    pub(super) fn to_body(&self) -> Bytes {
        encode(self).into()
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let mut said: Self = decode("request to meet", body)?;
        said.addresses.truncate(MAX_HELLO_ADDRESSES);
        Ok(said)
    }
}

/// A text of a peer, fit for a log.
pub(super) fn text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}
