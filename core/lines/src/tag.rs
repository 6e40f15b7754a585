//! The key of a publish as it stands beside its update in the log, so that a retry is recognised
//! after a restart as well.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use skep_wire::{decode, encode};

use crate::keys::{Key, MAX_PUBLISHER_BYTES};

/// The first byte: what else may stand beside an update later.
const VERSION: u8 = 1;

/// Which publish, and which of its updates: there is one for each of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The publish.
    pub key: Key,
    /// Which of its groups, from 0.
    pub at: u8,
    /// How many there are.
    pub of: u8,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    version: u8,
    publisher: &'a str,
    number: u64,
    at: u8,
    of: u8,
}

impl Tag {
    /// The bytes for the log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { key, at, of } = self;
        encode(&Written {
            version: VERSION,
            publisher: &key.publisher,
            number: key.number,
            at: *at,
            of: *of,
        })
    }

    /// Reads what [`Tag::to_bytes`] made; nothing where it is something else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let written: Written<'_> = decode("key of a publish", bytes).ok()?;
        let Written { version, publisher, number, at, of } = written;
        let sound = version == VERSION && publisher.len() <= MAX_PUBLISHER_BYTES && at < of;
        sound.then(|| Self { key: Key { publisher: Arc::from(publisher), number }, at, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_these_bytes_for_ever() {
        let tag = Tag { key: "w-1:300".parse().unwrap(), at: 1, of: 2 };
        let bytes = tag.to_bytes();
        assert_eq!(bytes, b"\x01\x03w-1\xac\x02\x01\x02");
        assert_eq!(Tag::from_bytes(&bytes), Some(tag));
        for cut in 0..bytes.len() {
            assert_eq!(Tag::from_bytes(&bytes[..cut]), None);
        }
        assert_eq!(Tag::from_bytes(b"\x01\x03w-1\xac\x02\x02\x02"), None, "the third of two");
        assert_eq!(Tag::from_bytes(b"\x02\x03w-1\xac\x02\x01\x02"), None, "of another version");
    }

    #[test]
    fn the_longest_fits_beside_an_update() {
        let publisher = "x".repeat(MAX_PUBLISHER_BYTES).as_str().into();
        let tag = Tag { key: Key { publisher, number: u64::MAX }, at: 15, of: 16 };
        assert!(tag.to_bytes().len() <= 80);
    }
}
