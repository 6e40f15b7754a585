//! What somebody wants changed: entries to put or remove, all of them or none.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::WallTime;
use skep_wire::{Malformed, decode, encode};

use crate::fields::Fields;
use crate::key::{Key, Kind};
use crate::schema::{newest_schema, upgrade};

/// Longest body of one entry: 10 MiB belong in an image or a file, not in every node's memory.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
/// Longest body that is kept: an entry of the conflict log says what another entry should have
/// said, and whose that was.
pub(crate) const MAX_STORED_BYTES: usize = MAX_BODY_BYTES + 1024;
/// Longest command: it is one entry of the managers' log, and travels in one frame, also where it
/// is passed on from link to link.
pub const MAX_COMMAND_BYTES: usize = 32 * 1024;
/// Entries that one command may change.
pub const MAX_WRITES: usize = 256;
/// Longest name of an author.
pub const MAX_WHO_BYTES: usize = 128;

/// What every encoded command begins with: a later layout is another number.
const LAYOUT: u8 = 1;

/// What an entry says, in which layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The version of what the fields mean, within the kind.
    pub schema: u16,
    /// At most [`MAX_BODY_BYTES`].
    pub body: Bytes,
}

impl Payload {
    /// `fields` of an entry of this kind, in the newest schema that this build knows of it.
    #[must_use]
    pub fn of(kind: Kind, fields: &Fields) -> Self {
        Self { schema: newest_schema(kind), body: fields.to_body().into() }
    }

    /// The fields as they were written, in whatever schema, where the body has any: to be shown,
    /// compared and exported. Who acts on them calls [`Payload::read`].
    #[must_use]
    pub fn fields(&self) -> Option<Fields> {
        Fields::from_body(&self.body).ok()
    }

    /// The fields as the newest schema of the kind has them; nothing where a newer build wrote
    /// them, or where there are none.
    #[must_use]
    pub fn read(&self, kind: Kind) -> Option<Fields> {
        upgrade(kind, self.schema, self.fields()?)
    }
}

/// How an entry must be found for a write to it to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// However it is.
    Anything,
    /// Not there.
    Absent,
    /// As it was at this revision.
    Revision(u64),
}

/// A change of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Of which.
    pub key: Key,
    /// How it must be found.
    pub expect: Expect,
    /// What it says from then on; nothing removes it.
    pub put: Option<Payload>,
}

/// A change, as it is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Who wants it: shown, never judged by.
    pub who: String,
    /// When, by his clock: shown, never compared.
    pub when: WallTime,
    /// What; no entry twice.
    pub writes: Vec<Write>,
}

/// Something is over its bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// One entry.
    #[error("{key} has {bytes} bytes, and an entry at most {MAX_BODY_BYTES}")]
    Entry {
        /// Which.
        key: Key,
        /// How long it is.
        bytes: usize,
    },
    /// All together.
    #[error("a change of {bytes} bytes, and one has at most {MAX_COMMAND_BYTES}")]
    Command {
        /// How long it is.
        bytes: usize,
    },
    /// Too many entries at once.
    #[error("a change of {writes} entries, and one has at most {MAX_WRITES}")]
    Writes {
        /// How many.
        writes: usize,
    },
}

impl Command {
    /// A change of one entry.
    #[must_use]
    pub fn one(who: String, when: WallTime, write: Write) -> Self {
        Self { who, when, writes: alloc::vec![write] }
    }

    /// Its bytes for the managers' log.
    ///
    /// # Errors
    /// [`TooLarge`] names the bound.
    pub fn to_bytes(&self) -> Result<Bytes, TooLarge> {
        if self.writes.len() > MAX_WRITES {
            return Err(TooLarge::Writes { writes: self.writes.len() });
        }
        for write in &self.writes {
            let bytes = write.put.as_ref().map_or(0, |put| put.body.len());
            if bytes > longest(&write.key) {
                return Err(TooLarge::Entry { key: write.key.clone(), bytes });
            }
        }
        let mut bytes = alloc::vec![LAYOUT];
        bytes.extend_from_slice(&encode(self));
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(TooLarge::Command { bytes: bytes.len() });
        }
        Ok(bytes.into())
    }

    /// From the bytes of a log or a peer.
    ///
    /// # Errors
    /// [`Malformed`] also where a bound is broken, or an entry is named twice.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let malformed = Malformed { what: "catalog command" };
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(malformed);
        }
        let (&[LAYOUT], rest) = bytes.split_first_chunk().ok_or(malformed)? else {
            return Err(malformed);
        };
        let command: Self = decode(malformed.what, rest)?;
        let long = |write: &Write| {
            write.put.as_ref().is_some_and(|put| put.body.len() > longest(&write.key))
        };
        let mut keys: Vec<&Key> = command.writes.iter().map(|write| &write.key).collect();
        keys.sort();
        let twice = keys.windows(2).any(|pair| pair[0] == pair[1]);
        let many = command.writes.is_empty() || command.writes.len() > MAX_WRITES;
        let nameless = command.who.len() > MAX_WHO_BYTES;
        if many || nameless || twice || command.writes.iter().any(long) {
            return Err(malformed);
        }
        Ok(command)
    }
}

/// How long the body of an entry may be.
fn longest(key: &Key) -> usize {
    if key.kind() == Kind::CONFLICT { MAX_STORED_BYTES } else { MAX_BODY_BYTES }
}
