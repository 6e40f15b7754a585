//! What replicas say to one another, and what a master signs.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use skep_base::Digest;
use skep_wire::{Malformed, decode, encode};

use crate::catalog::BUCKETS;
use crate::key::Key;
use crate::slot::{Slot, Stamp};

/// Bytes of entries in one [`Delta`]; more is told of, and asked for.
pub const MAX_DELTA_BYTES: usize = 16 * 1024;
/// Bytes of entries in one [`Give`]: an entry with all its versions fits on top of it.
pub const MAX_GIVE_BYTES: usize = 16 * 1024;

/// What a head's body begins with.
const LAYOUT: u8 = 1;

/// What a master says of the catalog; the body of a record that it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Of which flock this is the catalog.
    pub lineage: u64,
    /// Under which mastership it is said.
    pub stamp: Stamp,
    /// After which command.
    pub index: u64,
    /// What [`crate::Catalog::root`] is then.
    pub root: Digest,
}

impl Head {
    /// As the body of a record.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let mut body = alloc::vec![LAYOUT];
        body.extend_from_slice(&encode(self));
        body
    }

    /// From the body of a record.
    ///
    /// # Errors
    /// [`Malformed`], also for a layout of a newer build.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        match body.split_first() {
            Some((&LAYOUT, rest)) => decode("catalog head", rest),
            Some(_) | None => Err(Malformed { what: "catalog head" }),
        }
    }
}

/// Where a catalog stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// What its root is.
    pub root: Digest,
    /// After which command.
    pub index: u64,
    /// The highest epoch that the sender has seen of any master: one that leads under a lower one
    /// learns of it so.
    pub seen: u64,
}

/// What became of a catalog with another root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// What its root was.
    pub from: Digest,
    /// What it is.
    pub to: Digest,
    /// Entries that are others now; nothing for one of which not even the removal is remembered.
    pub slots: Vec<(Key, Option<Slot>)>,
}

/// Asks for what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The beginnings of the digests of the asker's buckets, one for each of [`BUCKETS`].
    pub buckets: Vec<u64>,
    /// Only what comes after this entry, in the order of buckets and then of keys.
    pub after: Option<Key>,
}

/// Some of what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Give {
    /// Buckets that differ, ascending. What the asker has in them and this does not name, between
    /// `after` and `until`, is not there.
    pub buckets: Vec<u8>,
    /// As in the question.
    pub after: Option<Key>,
    /// The last entry that this tells of; nothing where it tells of all that follow.
    pub until: Option<Key>,
    /// Entries, in the order of buckets and then of keys.
    pub slots: Vec<(Key, Slot)>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The link came up, or the catalog changed.
    Tell(Tell),
    /// A few entries changed.
    Delta(Delta),
    /// Send me what differs.
    Want(Want),
    /// The answer.
    Give(Give),
}

impl Message {
    /// As the body of a frame.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// From the body of a frame.
    ///
    /// # Errors
    /// [`Malformed`], also where a list is not as long as it must be.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let message: Self = decode("catalog message", body)?;
        let sound = match &message {
            Self::Tell(_) | Self::Delta(_) => true,
            Self::Want(want) => want.buckets.len() == BUCKETS,
            Self::Give(give) => give.buckets.windows(2).all(|two| two[0] < two[1]),
        };
        if sound { Ok(message) } else { Err(Malformed { what: "catalog message" }) }
    }
}
