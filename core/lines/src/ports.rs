//! Where a node serves clients: a record that others read for their hints (FLOOD-11).

use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};
use skep_wire::{Malformed, decode, encode};

/// Addresses of either kind that a node may announce.
pub const MAX_PORT_ADDRESSES: usize = 8;

/// Where clients on other hosts reach a node: a record of kind `CLIENT_PORTS`, schema 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Without TLS.
    pub plain: Vec<SocketAddr>,
    /// With TLS and certificates of the bloc.
    pub tls: Vec<SocketAddr>,
}

impl Ports {
    /// The record's body.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one, or lists more than [`MAX_PORT_ADDRESSES`] of a kind.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let ports: Self = decode("client ports", body)?;
        if ports.plain.len().max(ports.tls.len()) <= MAX_PORT_ADDRESSES {
            Ok(ports)
        } else {
            Err(Malformed { what: "client ports" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_is_written_is_read() {
        let plain = vec!["127.0.0.1:2000".parse().unwrap()];
        let tls = vec!["[2001:db8::1]:7403".parse().unwrap()];
        let ports = Ports { plain, tls };
        assert_eq!(Ports::from_body(&ports.to_body()), Ok(ports));
    }

    #[test]
    fn a_list_over_its_bound_is_refused() {
        let plain = vec!["127.0.0.1:2000".parse().unwrap(); MAX_PORT_ADDRESSES + 1];
        let ports = Ports { plain, tls: Vec::new() };
        assert!(Ports::from_body(&ports.to_body()).is_err());
    }
}
