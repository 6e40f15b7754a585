//! What two nodes say to each other about records. Frame kind [`skep_wire::kind::RECORDS`].
//!
//! ```text
//!   A                                   B
//!   | Digest ------------------------->  |   link came up, or the slow repair's turn
//!   | <------------------------- InSync  |   equal: done
//!   | <------------------------ Buckets  |   different, and many records
//!   | Summary ------------------------>  |   what A has in the buckets that differ
//!   | <------------------------ Records  |   what A lacks
//!   | <------------------------ Request  |   what B lacks
//!   | Records (done) ----------------->  |   and both are in sync
//! ```
//! With few records B answers the digest with its own summary at once, and the roles are swapped.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::NodeId;
use skep_wire::{Malformed, decode};

use crate::Version;

/// Bytes of entries or items that one frame carries at most: below the control lane's 64 KiB.
pub const MAX_BATCH_BYTES: usize = 48 * 1024;

/// A record on its way, with its owner's age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since a present watcher last heard the owner, as far as the sender knows.
    pub age_ms: u64,
    /// The record's bytes.
    pub raw: Bytes,
}

/// One line of a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Whose.
    pub owner: NodeId,
    /// Which.
    pub kind: u16,
    /// Which version of it the sender has.
    pub version: Version,
}

/// A message between two nodes' records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// All that the sender holds, as one number.
    Digest {
        /// The sum over all records.
        root: u64,
        /// How many records that is.
        count: u32,
    },
    /// The digests were equal, or nothing is left to send.
    InSync,
    /// The sender's non-empty buckets: number and sum.
    Buckets(Vec<(u16, u64)>),
    /// What the sender holds in `buckets`, all of it in these `items`.
    Summary {
        /// Which buckets this speaks of.
        buckets: Vec<u16>,
        /// Every record in them.
        items: Vec<Item>,
        /// No more summaries follow in this exchange.
        last: bool,
    },
    /// Records that the receiver lacks, asked for or new.
    Records {
        /// Certificates before what they signed.
        entries: Vec<Entry>,
        /// This ends the exchange.
        done: bool,
    },
    /// Send me these.
    Request(Vec<(NodeId, u16)>),
}

/// What [`Message::Records`] begins with on the wire.
const RECORDS: u8 = 4;

/// [`Message::Records`], read where it lies.
#[derive(Deserialize)]
struct RecordsFields<'a> {
    _variant: u32,
    #[serde(borrow)]
    entries: Vec<(u64, &'a serde_bytes::Bytes)>,
    done: bool,
}

impl Message {
    /// Reads a frame's body. Records are left where they lie: most that come are known already, and
    /// cost no copy then.
    ///
    /// # Errors
    /// [`Malformed`] when it is no message.
    pub fn read(body: &Bytes) -> Result<Self, Malformed> {
        if body.first() != Some(&RECORDS) {
            return decode("records message", body);
        }
        let fields: RecordsFields<'_> = decode("records message", body)?;
        let entry =
            |(age_ms, raw): (u64, &serde_bytes::Bytes)| Entry { age_ms, raw: body.slice_ref(raw) };
        let entries = fields.entries.into_iter().map(entry).collect();
        Ok(Self::Records { entries, done: fields.done })
    }
}
