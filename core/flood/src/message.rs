//! What flood machines say to one another, and what they keep in the log.
//!
//! The body of a flood frame is a head and, after it, the update bodies that the head counts:
//!
//! ```text
//!   0          2
//!   +----------+-----------------------+---------------------------------+
//!   | head len | head: postcard        | bodies, in the order of headers |
//!   +----------+-----------------------+---------------------------------+
//!     u16 BE     [`Message`]             raw
//! ```
//!
//! Bodies stay outside the encoding so that a received one is a slice of the frame's memory and is
//! never copied on its way to the log and to the neighbours.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{Digest, GroupName, Incarnation, MAX_TRAIL, NodeId, Trail, tree};
use skep_wire::{Lane, decode, encode};

use crate::config::{MAX_BODY_BYTES, MAX_EAGER_BYTES};
use crate::event::Missed;
use crate::id::{Serial, UpdateId};

/// Heads and bodies of one frame together stay below this, which leaves room for the head's length
/// and the message around the headers.
pub const BATCH_BYTES: usize = 48 * 1024;
/// Headers in one frame at most. Empty bodies are allowed, so bytes alone do not bound them.
pub const BATCH_HEADERS: usize = 1024;
/// Origins in one request for what is missing. A mark takes at most about 40 bytes with one life
/// and no gap; the sender also watches [`BATCH_BYTES`].
pub const MARKS_PER_PULL: usize = 1024;
/// Runs of ids in one message.
pub const RUNS_PER_MESSAGE: usize = 1024;
/// Ids in all the runs of one message: two hundred milliseconds of the fastest flood.
pub const RUN_IDS: usize = 8192;
/// Lives of one origin in its mark.
pub const LIVES_PER_MARK: usize = 64;
/// Pieces of a large body in one request.
pub const MAX_FETCH_PIECES: u32 = 16;
/// Bytes of the leaves of the longest body.
const MAX_LEAVES_BYTES: u64 = Digest::LEN as u64 * (MAX_BODY_BYTES / tree::PIECE_BYTES as u64);
/// Gaps told of one life of one origin.
pub const GAPS_PER_LIFE: usize = 32;

/// Everything about an update but its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Who and which.
    pub id: UpdateId,
    /// The update of this origin in this group before this one.
    pub predecessor: Option<Serial>,
    /// Milliseconds since it was published: time in storage and on the way, added up.
    pub age_ms: u64,
    /// Length of the body.
    pub length: u64,
    /// Digest of a body that is announced and pulled; small bodies come with their header and have
    /// none. Which are large is its origin's to say.
    pub digest: Option<Digest>,
    /// The export commands that it has come through (FLOOD-42).
    pub trail: Trail,
}

impl Header {
    /// Whether the body is announced and pulled, and does not follow its header.
    #[must_use]
    pub const fn is_large(&self) -> bool {
        self.digest.is_some()
    }
}

/// What the log keeps beside a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHead {
    /// What the publisher wants to find beside it after a restart, and only there: it does not
    /// travel. At most [`TAG_BYTES_MAX`].
    pub tag: Vec<u8>,
    /// The group it was published to.
    pub group: GroupName,
    /// As it came, with the age at the time of writing.
    pub header: Header,
    /// Whether a later one of the same origin already stood in the log.
    pub late: bool,
}

impl StoredHead {
    /// The bytes for the log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&(STORED_VERSION, self))
    }

    /// Whether the bytes may have a tag, by a look at them: most have none, and a log is long.
    #[must_use]
    pub fn may_have_tag(bytes: &[u8]) -> bool {
        matches!(bytes, [STORED_VERSION, tag, ..] if *tag != 0)
    }

    /// Reads what [`StoredHead::to_bytes`] made; nothing when it is of another version or broken.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, head) = decode::<(u8, Self)>("stored update", bytes).ok()?;
        (version == STORED_VERSION).then_some(head)
    }
}

/// The first had no tag and no trail.
const STORED_VERSION: u8 = 3;
/// Told from updates by its first byte.
const MISSED_VERSION: u8 = 2;
/// Longest tag: a name, some numbers.
pub const TAG_BYTES_MAX: usize = 128;

pub(crate) fn missed_to_bytes(missed: &Missed) -> Vec<u8> {
    encode(&(MISSED_VERSION, missed))
}

pub(crate) fn missed_from_bytes(bytes: &[u8]) -> Option<Missed> {
    let (version, missed) = decode::<(u8, Missed)>("stored gap", bytes).ok()?;
    (version == MISSED_VERSION).then_some(missed)
}

/// What one node has of one life of one origin in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Which life.
    pub incarnation: Incarnation,
    /// Everything up to here is there or was, but for the gaps.
    pub head: u64,
    /// Missing: above the first and up to the second, ascending.
    pub gaps: Vec<(u64, u64)>,
}

/// What one node has of one origin in a group: its watermark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Whose updates.
    pub origin: NodeId,
    /// Everything up to here was purged and forgotten.
    pub purged: Option<Serial>,
    /// Its lives after that, ascending.
    pub lives: Vec<Life>,
}

/// Nothing up to here is to be had from the sender: it is over the purge age, or was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Whose updates.
    pub origin: NodeId,
    /// The last one that is gone in that life.
    pub serial: Serial,
    /// Whether all earlier lives are purged as well.
    pub whole: bool,
    /// Whether they went for lack of room and not for their age: another node may have them.
    pub dropped: bool,
}

/// Updates of one life with consecutive sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Whose updates.
    pub origin: NodeId,
    /// Of which life.
    pub incarnation: Incarnation,
    /// The first one.
    pub first: u64,
    /// How many.
    pub count: u32,
}

impl Run {
    /// Each of them, ascending.
    pub fn ids(&self) -> impl Iterator<Item = UpdateId> + use<> {
        let Self { origin, incarnation, first, count } = *self;
        let sequences = first..first.saturating_add(u64::from(count));
        sequences.map(move |sequence| UpdateId { origin, serial: Serial { incarnation, sequence } })
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Updates, newly flooded. The bodies of small ones follow in this order; large ones are
    /// thereby announced: the sender has them.
    Updates {
        /// Published to.
        group: GroupName,
        /// At most [`BATCH_HEADERS`].
        headers: Vec<Header>,
    },
    /// A digest of what the sender has in a group. The receiver asks for what it lacks when its own
    /// differs.
    Compare {
        /// Of which group.
        group: GroupName,
        /// Of the sender's marks.
        digest: u64,
        /// Whether the receiver should say its digest too when it differs.
        answer: bool,
    },
    /// "Send me what I lack" of the origins from `from` to `to`, both included. Marks of origins
    /// in that range that are not listed are empty.
    Pull {
        /// Of which group.
        group: GroupName,
        /// Names the answer.
        token: u32,
        /// First origin asked about.
        from: NodeId,
        /// Last origin asked about.
        to: NodeId,
        /// What the sender has of them, ascending.
        marks: Vec<Mark>,
    },
    /// A part of the answer to [`Message::Pull`]; bodies follow as in [`Message::Updates`].
    Pulled {
        /// Of which group.
        group: GroupName,
        /// Of which pull.
        token: u32,
        /// What nobody needs to wait for.
        floors: Vec<Floor>,
        /// What the other side lacked.
        headers: Vec<Header>,
        /// Whether this is the last part.
        done: bool,
    },
    /// One part of the answer was dealt with: another may be sent.
    More {
        /// Of which group.
        group: GroupName,
        /// Of which pull.
        token: u32,
    },
    /// "Send me these pieces of a large body."
    Fetch {
        /// Of which group.
        group: GroupName,
        /// Which update.
        id: UpdateId,
        /// Whether its leaves are wanted before them.
        leaves: bool,
        /// The first piece.
        first: u32,
        /// How many, at most [`MAX_FETCH_PIECES`].
        count: u32,
    },
    /// The leaves of a large body, which follow: on the bulk lane.
    Leaves {
        /// Of which group.
        group: GroupName,
        /// Which update.
        id: UpdateId,
        /// How many bytes follow.
        length: u32,
    },
    /// A piece of a large body; the bytes follow: on the bulk lane.
    Piece {
        /// Of which group.
        group: GroupName,
        /// Which update.
        id: UpdateId,
        /// Which piece.
        piece: u32,
        /// How many bytes follow, at most [`skep_base::tree::PIECE_BYTES`].
        length: u32,
    },
    /// The sender has not got that large body: ask somebody else.
    Missing {
        /// Of which group.
        group: GroupName,
        /// Which update.
        id: UpdateId,
    },
    /// The sender has these small updates. Said over edges that do not carry their bodies.
    Have {
        /// Of which group.
        group: GroupName,
        /// At most [`RUNS_PER_MESSAGE`], of at most [`RUN_IDS`] updates.
        runs: Vec<Run>,
    },
    /// "Send me ids instead of bodies of these origins": the receiver's came too late.
    Prune {
        /// In which group.
        group: GroupName,
        /// At most [`RUNS_PER_MESSAGE`].
        origins: Vec<NodeId>,
    },
    /// "Send me these updates, and bodies of these origins from now on."
    Graft {
        /// In which group.
        group: GroupName,
        /// At most [`RUNS_PER_MESSAGE`].
        origins: Vec<NodeId>,
        /// As in [`Message::Have`].
        runs: Vec<Run>,
    },
}

/// A message with the bodies that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What is said.
    pub message: Message,
    /// One body for each small header, or the fragment.
    pub bodies: Vec<Bytes>,
}

/// Bytes before the head.
const HEAD_LENGTH_BYTES: usize = 2;

/// Why the bytes of a frame are no flood message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The head is cut off, or not what postcard makes of a message.
    #[error("its head is broken")]
    Head,
    /// The bodies do not have the lengths that the head says.
    #[error("its bodies do not have the lengths that its head says")]
    Bodies,
    /// A list is longer than any sender makes it.
    #[error("it lists more {0} than the limit")]
    TooMany(&'static str),
    /// Values that no sender makes.
    #[error("{0}")]
    Nonsense(&'static str),
}

impl Message {
    /// The group it is about.
    #[must_use]
    pub const fn group(&self) -> &GroupName {
        match self {
            Self::Updates { group, .. }
            | Self::Compare { group, .. }
            | Self::Pull { group, .. }
            | Self::Pulled { group, .. }
            | Self::More { group, .. }
            | Self::Fetch { group, .. }
            | Self::Leaves { group, .. }
            | Self::Piece { group, .. }
            | Self::Missing { group, .. }
            | Self::Have { group, .. }
            | Self::Prune { group, .. }
            | Self::Graft { group, .. } => group,
        }
    }

    /// Checks what the encoding cannot: counts, order and ranges.
    fn validate(&self) -> Result<(), PacketError> {
        match self {
            Self::Updates { headers, .. } => validate_headers(headers),
            Self::Pulled { headers, floors, .. } => {
                if floors.len() > BATCH_HEADERS {
                    return Err(PacketError::TooMany("floors"));
                }
                validate_headers(headers)
            }
            Self::Pull { from, to, marks, .. } => validate_marks(*from, *to, marks),
            Self::Piece { length, .. } if *length as usize > tree::PIECE_BYTES => {
                Err(PacketError::Nonsense("its piece is over the limit"))
            }
            Self::Leaves { length, .. } if u64::from(*length) > MAX_LEAVES_BYTES => {
                Err(PacketError::Nonsense("its leaves are over the limit"))
            }
            Self::Fetch { count, .. } if *count == 0 || *count > MAX_FETCH_PIECES => {
                Err(PacketError::Nonsense("it asks for no piece, or for too many"))
            }
            Self::Have { runs, .. } => validate_runs(runs),
            Self::Prune { origins, .. } => validate_origins(origins),
            Self::Graft { origins, runs, .. } => {
                validate_origins(origins).and_then(|()| validate_runs(runs))
            }
            Self::Compare { .. }
            | Self::More { .. }
            | Self::Fetch { .. }
            | Self::Leaves { .. }
            | Self::Piece { .. }
            | Self::Missing { .. } => Ok(()),
        }
    }
}

fn validate_headers(headers: &[Header]) -> Result<(), PacketError> {
    if headers.len() > BATCH_HEADERS {
        return Err(PacketError::TooMany("updates"));
    }
    for header in headers {
        if header.id.serial.sequence == 0 {
            return Err(PacketError::Nonsense("an update has the sequence 0"));
        }
        if header.predecessor.is_some_and(|it| it >= header.id.serial) {
            return Err(PacketError::Nonsense("an update precedes itself"));
        }
        if !header.trail.is_sound() {
            return Err(PacketError::Nonsense(
                "the trail of an update is out of order or too long",
            ));
        }
        if !header.is_large() && header.length > MAX_EAGER_BYTES as u64 {
            return Err(PacketError::Nonsense("a large update carries no digest"));
        }
    }
    Ok(())
}

fn validate_origins(origins: &[NodeId]) -> Result<(), PacketError> {
    match origins.len() > RUNS_PER_MESSAGE {
        true => Err(PacketError::TooMany("origins")),
        false => Ok(()),
    }
}

fn validate_runs(runs: &[Run]) -> Result<(), PacketError> {
    if runs.len() > RUNS_PER_MESSAGE {
        return Err(PacketError::TooMany("runs"));
    }
    let mut ids: usize = 0;
    for run in runs {
        ids = ids.saturating_add(run.count as usize);
        if run.first == 0 || run.count == 0 || run.first.checked_add(run.count.into()).is_none() {
            return Err(PacketError::Nonsense("a run of ids begins at 0, is empty, or has no end"));
        }
    }
    if ids > RUN_IDS {
        return Err(PacketError::TooMany("ids"));
    }
    Ok(())
}

fn validate_marks(from: NodeId, to: NodeId, marks: &[Mark]) -> Result<(), PacketError> {
    if marks.len() > MARKS_PER_PULL {
        return Err(PacketError::TooMany("origins"));
    }
    let ascending = marks.windows(2).all(|pair| pair[0].origin < pair[1].origin);
    let inside = marks.iter().all(|mark| (from..=to).contains(&mark.origin));
    if !ascending || !inside {
        return Err(PacketError::Nonsense("its marks are out of order"));
    }
    for mark in marks {
        if mark.lives.len() > LIVES_PER_MARK {
            return Err(PacketError::TooMany("lives of an origin"));
        }
        if mark.lives.iter().any(|life| life.gaps.len() > GAPS_PER_LIFE) {
            return Err(PacketError::TooMany("gaps"));
        }
        if mark.lives.iter().any(|life| !gaps_ascend(life)) {
            return Err(PacketError::Nonsense("its gaps are out of order"));
        }
    }
    Ok(())
}

fn gaps_ascend(life: &Life) -> bool {
    let mut at = 0;
    life.gaps.iter().all(|&(after, last)| {
        let ascends = after >= at && last > after && last <= life.head;
        at = last;
        ascends
    })
}

impl Packet {
    /// A message that no bodies follow.
    #[must_use]
    pub const fn bare(message: Message) -> Self {
        Self { message, bodies: Vec::new() }
    }

    /// The body of a frame. Senders keep it below the lane's limit.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let bodies: usize = self.bodies.iter().map(Bytes::len).sum();
        let mut bytes = head_bytes(&self.message, bodies);
        for body in &self.bodies {
            bytes.extend_from_slice(body);
        }
        let pieces = matches!(self.message, Message::Leaves { .. } | Message::Piece { .. });
        let lane = if pieces { Lane::Bulk } else { Lane::Control };
        debug_assert!(bytes.len() <= lane.max_body_bytes(), "a flood frame over its lane's limit");
        bytes.into()
    }

    /// Reads the body of a frame. The bodies in it share its memory.
    ///
    /// # Errors
    /// [`PacketError`] says what no sender would have made.
    pub fn from_bytes(frame: &Bytes) -> Result<Self, PacketError> {
        let length = frame.first_chunk().ok_or(PacketError::Head)?;
        let head_end = HEAD_LENGTH_BYTES + usize::from(u16::from_be_bytes(*length));
        let head = frame.get(HEAD_LENGTH_BYTES..head_end).ok_or(PacketError::Head)?;
        let message: Message = decode("flood head", head).map_err(|_| PacketError::Head)?;
        message.validate()?;
        let mut rest = frame.slice(head_end..);
        let mut bodies = Vec::new();
        let mut take = |length: usize| {
            if length > rest.len() {
                return Err(PacketError::Bodies);
            }
            bodies.push(rest.split_to(length));
            Ok(())
        };
        match &message {
            Message::Updates { headers, .. } | Message::Pulled { headers, .. } => {
                headers.iter().filter(|header| !header.is_large()).try_for_each(|header| {
                    take(usize::try_from(header.length).unwrap_or(usize::MAX))
                })?
            }
            Message::Leaves { length, .. } | Message::Piece { length, .. } => {
                take(*length as usize)?;
            }
            Message::Compare { .. }
            | Message::Pull { .. }
            | Message::More { .. }
            | Message::Fetch { .. }
            | Message::Missing { .. }
            | Message::Have { .. }
            | Message::Prune { .. }
            | Message::Graft { .. } => {}
        }
        if !rest.is_empty() {
            return Err(PacketError::Bodies);
        }
        Ok(Self { message, bodies })
    }
}

/// A bound on the encoded length of a header: two serials of at most 20 bytes after a node
/// identity, two numbers, a digest, their tags, and a trail.
pub const HEADER_BYTES_MAX: usize = PLAIN_HEADER_BYTES_MAX + 4 * MAX_TRAIL;
/// The same without a trail, as nearly all headers are.
pub(crate) const PLAIN_HEADER_BYTES_MAX: usize = 16 + 20 + 21 + 10 + 10 + 33 + 1;

/// The beginning of a frame's body that carries a piece of so many bytes, which follow.
#[must_use]
pub fn piece_head(group: &GroupName, id: UpdateId, piece: u32, bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    head_bytes(&Message::Piece { group: group.clone(), id, piece, length }, 0)
}

/// The beginning of a frame's body that carries leaves, likewise.
#[must_use]
pub fn leaves_head(group: &GroupName, id: UpdateId, bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    head_bytes(&Message::Leaves { group: group.clone(), id, length }, 0)
}

fn head_bytes(message: &Message, room: usize) -> Vec<u8> {
    let head = encode(message);
    let mut bytes = Vec::with_capacity(HEAD_LENGTH_BYTES + head.len() + room);
    let length = u16::try_from(head.len()).unwrap_or(u16::MAX);
    debug_assert!(usize::from(length) == head.len(), "a head over every limit");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&head);
    bytes
}

#[cfg(test)]
mod tests;
