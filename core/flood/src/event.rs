//! What may happen to a flood machine, and what it wants done.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{Digest, GroupName, NodeId, Trail};

use crate::id::{Position, Serial, UpdateId};
use crate::message::{self, StoredHead};

/// Names a publish until it is acknowledged or refused. Chosen by the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishToken(pub u64);

/// Names a read from the log until its answer. Chosen by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// Names a body that was written to the store by whoever publishes it, before it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolId(pub u64);

/// A body that is in the store already, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// Which.
    pub spool: SpoolId,
    /// Its length.
    pub length: u64,
    /// Its digest.
    pub digest: Digest,
}

/// Where the body of an update is that goes to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In memory.
    Here(Bytes),
    /// In the store, where [`Output::BodyPiece`] brought it, under the update's id. The log takes
    /// it over.
    Fetched,
    /// In the store. It stays there as well: one body may be published to several groups.
    Spooled(SpoolId),
}

impl Body {
    /// What it takes in memory.
    pub(crate) const fn in_memory(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Fetched | Self::Spooled(_) => 0,
        }
    }
}

/// What a disk did with a piece of a body, or with its leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is what was announced, and is kept.
    Yes,
    /// It is not what was announced.
    Wrong,
    /// There are no leaves to check it against.
    Unchecked,
    /// The disk does not take it now.
    No,
}

/// The name of a subscriber, under which its committed position is kept.
pub type CursorName = Arc<str>;

/// What may happen to it.
#[derive(Clone, Debug)]
pub enum Input {
    /// The node publishes from now on as this life, which is on disk and was never used before.
    /// Sequences start anew; before the first of these a publish is refused. It comes again when a
    /// trace of a later life of this node is found.
    Begin {
        /// Greater than any before.
        incarnation: skep_base::Incarnation,
    },
    /// The live neighbours of a group are now these. Links to all of them are up.
    Neighbours {
        /// Whose overlay.
        group: GroupName,
        /// All of them, not only what changed.
        peers: Vec<NodeId>,
    },
    /// The node entered a group.
    Join {
        /// Which.
        group: GroupName,
    },
    /// The node left a group: its updates are forgotten.
    Leave {
        /// Which.
        group: GroupName,
    },
    /// How long it takes to a neighbour and back, as samples of its link show. Says how long a body
    /// may take before it is asked for.
    RoundTrip {
        /// To whom.
        peer: NodeId,
        /// The smoothed time.
        time: Duration,
    },
    /// How far off a neighbour is, as estimates have it. Says who of several is near.
    Distance {
        /// Who.
        peer: NodeId,
        /// The least round trip that was measured, or what is predicted.
        time: Duration,
    },
    /// A frame of kind [`skep_wire::kind::FLOOD`] came in.
    Received {
        /// Over the link to whom.
        from: NodeId,
        /// The frame's body; update bodies share its memory.
        body: Bytes,
    },
    /// Somebody on this node wants an update flooded.
    Publish {
        /// To whom.
        group: GroupName,
        /// What; opaque (FLOOD-3).
        body: Bytes,
        /// Named in the acknowledgement.
        token: PublishToken,
        /// What goes with it.
        label: Label,
    },
    /// The same of a body that is in the store.
    PublishSpooled {
        /// To whom.
        group: GroupName,
        /// What.
        body: Spooled,
        /// Named in the acknowledgement.
        token: PublishToken,
        /// What goes with it.
        label: Label,
    },
    /// The answer to [`Output::BodyOpen`].
    BodyOpened {
        /// Of which update.
        id: UpdateId,
        /// Whether its leaves are there, and the pieces that are not. Nothing when the disk can
        /// keep no more now.
        missing: Option<(bool, Vec<u32>)>,
    },
    /// The answer to [`Output::BodyLeaves`].
    LeavesKept {
        /// Of which update.
        id: UpdateId,
        /// What was done.
        kept: Kept,
    },
    /// The answer to [`Output::BodyPiece`].
    PieceKept {
        /// Of which update.
        id: UpdateId,
        /// Which piece.
        piece: u32,
        /// What was done.
        kept: Kept,
    },
    /// The log holds everything below this position.
    Appended {
        /// The first position that is not written yet.
        up_to: Position,
        /// Whether it would survive a power cut as well.
        durable: bool,
    },
    /// The log could not take this record nor any after it. Appends that were handed out and not
    /// written yet are void; the machine hands out from this position again.
    AppendFailed {
        /// The first record that was not written.
        from: Position,
    },
    /// The answer to [`Output::Read`].
    Read {
        /// Which read.
        token: ReadToken,
        /// One for each position asked for, in that order; nothing where the log cannot give it.
        records: Vec<Option<LogRecord>>,
    },
    /// A subscriber wants updates of a group, from its committed position on. Durable cursors are
    /// opened right after [`crate::Flood::restore`], before anything else happens.
    CursorOpen {
        /// Who.
        name: CursorName,
        /// Of which group.
        group: GroupName,
        /// The first position not yet committed; nothing for "from now on".
        from: Option<Position>,
        /// Whether commits are to be kept on disk.
        durable: bool,
    },
    /// A subscriber has dealt with everything below this position.
    CursorCommit {
        /// Who.
        name: CursorName,
        /// [`Output::HandOver`]'s `next`.
        up_to: Position,
    },
    /// A subscriber is gone. What it had committed stays on disk.
    CursorClose {
        /// Who.
        name: CursorName,
    },
    /// Nothing needs to be remembered of this origin any more: its address-book entry is gone.
    Forget {
        /// Who.
        origin: NodeId,
    },
}

/// What goes with an update that is published here, beside its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The export commands that it has come through: told to everybody. That it may go to its group
    /// was judged by whoever publishes it.
    pub trail: Trail,
    /// Kept beside it in this node's log, see [`StoredHead::tag`].
    pub tag: Vec<u8>,
}

/// The highest update of an origin that was purged in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgedMark {
    /// In which group.
    pub group: GroupName,
    /// Whose.
    pub origin: NodeId,
    /// Which.
    pub serial: Serial,
}

/// What it wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a frame of kind [`skep_wire::kind::FLOOD`] on the control lane. It is small.
    Send {
        /// To whom.
        to: NodeId,
        /// The frame's body, shared between neighbours where it is the same.
        body: Bytes,
    },
    /// Say what of a body there is in the store, under the update's id: see
    /// [`Input::BodyOpened`].
    BodyOpen {
        /// Of which update.
        id: UpdateId,
        /// How long the body is.
        length: u64,
        /// Its digest. What there is of another one is of no use.
        digest: Digest,
    },
    /// Check these leaves against the body's digest and keep them: see [`Input::LeavesKept`]. A
    /// body of one piece has none.
    BodyLeaves {
        /// Of which update.
        id: UpdateId,
        /// As [`skep_base::tree::leaves_from`] reads them.
        leaves: Bytes,
    },
    /// Check a piece against its leaf and keep it: see [`Input::PieceKept`].
    BodyPiece {
        /// Of which update.
        id: UpdateId,
        /// Which piece; of the length that is due to it.
        piece: u32,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Pieces are asked of this neighbour: a bulk connection with it will be needed.
    Fetching {
        /// Whom.
        from: NodeId,
    },
    /// What there is of a body is of no use any more.
    BodyDrop {
        /// Of which update.
        id: UpdateId,
    },
    /// Send pieces of a large body on the bulk lane, as [`crate::message::piece_head`] and
    /// [`crate::message::leaves_head`] say, each when there is room for it.
    Serve {
        /// To whom.
        to: NodeId,
        /// In which group.
        group: GroupName,
        /// Of which update.
        id: UpdateId,
        /// Where it stands in the log.
        position: Position,
        /// How long the body is.
        length: u64,
        /// Whether its leaves go first.
        leaves: bool,
        /// The first piece.
        first: u32,
        /// The piece after the last.
        end: u32,
    },
    /// Write these records to the log in this order, then report [`Input::Appended`] (or
    /// [`Input::AppendFailed`]). Positions are consecutive.
    Append {
        /// What to write.
        entries: Vec<LogEntry>,
        /// Whether somebody waits for it to be durable. Receivers do not: what they lose in a
        /// power cut they get again.
        sync: bool,
    },
    /// Read from the log, then answer with [`Input::Read`].
    Read {
        /// Named in the answer.
        token: ReadToken,
        /// What to read.
        items: Vec<ReadItem>,
    },
    /// Records below this position will not be asked for again.
    Purge {
        /// The first one that is still wanted.
        below: Position,
    },
    /// These were over the purge age. Keep the highest of each origin for as long as anything is
    /// known of it, which is longer than the log has it, and give them to
    /// [`crate::Flood::restore_purged`]: a later life then neither takes them again nor waits for
    /// them.
    Purged(Vec<PurgedMark>),
    /// The update is durable here and will reach every live member.
    Acknowledge {
        /// Of which publish.
        token: PublishToken,
        /// Under which identity it travels.
        id: UpdateId,
        /// Where it stands in this node's log.
        position: Position,
    },
    /// The update is not published.
    Refuse {
        /// Of which publish.
        token: PublishToken,
        /// Why.
        reason: Refusal,
    },
    /// Give these updates to a subscriber; no more follow until it commits `next`. They come again,
    /// under the same identities, after a restart without a commit.
    HandOver {
        /// To whom.
        name: CursorName,
        /// In the order of this node's log. Empty only where there are gaps.
        updates: Vec<Delivered>,
        /// What stands between them in the log in place of updates that did not come, or that were
        /// dropped before this subscriber had them.
        gaps: Vec<(Position, Missed)>,
        /// What to commit when they are dealt with.
        next: Position,
    },
    /// Keep a subscriber's committed position on disk. Need not be synced at once.
    PersistCursor {
        /// Whose.
        name: CursorName,
        /// Of which group.
        group: GroupName,
        /// The first position not yet committed.
        position: Position,
    },
    /// A subscriber was too slow: these records were purged before it had them (FLOOD-1).
    CursorGap {
        /// Who.
        name: CursorName,
        /// The first one it will not get.
        from: Position,
        /// The first one it may still get.
        to: Position,
    },
    /// Updates of an origin are missing from this node's log and were given up for now. They are
    /// delivered late if they come (FLOOD-1, FLOOD-2).
    Gap {
        /// In which group.
        group: GroupName,
        /// Whose updates.
        origin: NodeId,
        /// The last one before them, if any was ever seen.
        after: Option<Serial>,
        /// The last one that is missing.
        up_to: Serial,
        /// Why.
        reason: GapReason,
    },
    /// A peer sent what it must not. The machine is unharmed.
    Reject {
        /// Who.
        from: NodeId,
        /// What was wrong.
        reason: Rejection,
    },
}

/// Updates that a node did not get, or dropped before a subscriber had them. Each subscriber is
/// told in its turn; what to do about it is the application's to say (FLOOD-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// In which group.
    pub group: GroupName,
    /// Whose updates.
    pub origin: NodeId,
    /// The last one before them, if any was ever seen.
    pub after: Option<Serial>,
    /// The last one that is missing.
    pub up_to: Serial,
    /// Why.
    pub reason: GapReason,
}

/// What a record of the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogHead {
    /// An update; its body follows.
    Update(StoredHead),
    /// A gap, for those who read the log.
    Gap(Missed),
}

impl LogHead {
    /// The bytes for the log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Update(head) => head.to_bytes(),
            Self::Gap(missed) => message::missed_to_bytes(missed),
        }
    }

    /// Reads what [`LogHead::to_bytes`] made; nothing when it is of another version or broken.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match message::missed_from_bytes(bytes) {
            Some(missed) => Some(Self::Gap(missed)),
            None => StoredHead::from_bytes(bytes).map(Self::Update),
        }
    }

    /// The update, if it is one.
    #[must_use]
    pub const fn update(&self) -> Option<&StoredHead> {
        match self {
            Self::Update(head) => Some(head),
            Self::Gap(_) => None,
        }
    }
}

/// One record for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The number it must get.
    pub position: Position,
    /// Kept with the body; [`LogHead::to_bytes`] makes the bytes.
    pub head: LogHead,
    /// The opaque body, of the length that the head says.
    pub body: Body,
}

/// One record out of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// What [`LogHead::to_bytes`] made.
    pub head: Bytes,
    /// As much of the body as was asked for.
    pub body: Bytes,
}

/// A part of one record that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadItem {
    /// Which record.
    pub position: Position,
    /// At most so many bytes of the body, from its beginning.
    pub length: u32,
}

/// One record found in the log at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its number.
    pub position: Position,
    /// What [`LogHead::to_bytes`] made.
    pub head: Bytes,
    /// The length of its body.
    pub body_bytes: u64,
    /// How long ago it was written, by the wall clock; zero where that is unknown.
    pub stored_for: Duration,
}

/// One update for a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where it stands in this node's log.
    pub position: Position,
    /// The same at every hand-over, on every node.
    pub id: UpdateId,
    /// How long ago it was published, as far as its travels tell.
    pub age: Duration,
    /// How long ago it came into this node's log.
    pub logged: Duration,
    /// Whether a later one of the same origin stands before it in the log.
    pub late: bool,
    /// The export commands that it has come through.
    pub trail: Trail,
    /// What was published.
    pub body: DeliveredBody,
}

/// A body for a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveredBody {
    /// All of it.
    Here(Bytes),
    /// It is longer than what is handed over in memory ([`crate::HAND_OVER_BYTES`]): it is in the
    /// log, at the update's position, as long as the update is.
    Stored {
        /// How long it is.
        length: u64,
    },
}

impl DeliveredBody {
    /// How long it is.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Stored { length } => *length,
        }
    }
}

/// Why a publish was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is not in that group.
    #[error("this node is not in group {0}: add it to the node's groups first")]
    NotMember(GroupName),
    /// The node does not know yet as which of its lives it may publish.
    #[error("this node is still finding out which of its lives this is: try again in a moment")]
    NotBegun,
    /// The body is over the configured limit.
    #[error("the body of {length} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// What was given.
        length: u64,
        /// [`crate::Config::body_max`].
        limit: u64,
    },
    /// It has come through more export commands than an update may (FLOOD-42).
    #[error("it has come through {0} export commands already")]
    LongTrail(usize),
    /// So much waits for the disk that more is not taken.
    #[error("{waiting} updates wait for the disk: try again when some are acknowledged")]
    Overloaded {
        /// How many.
        waiting: usize,
    },
    /// The log could not be written. The update may have been flooded by then, so that others may
    /// have it: it is not promised to anybody.
    #[error("the update log could not be written: is the disk full?")]
    Storage,
}

/// Why updates are missing.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error,
)]
pub enum GapReason {
    /// No peer gave them within the pull time-out.
    #[error("no neighbour gave them within the pull time-out")]
    PullTimeout,
    /// A peer says that they are over the purge age.
    #[error("they are over the purge age")]
    Purged,
    /// A peer dropped them while this node was away; they are delivered late if another has them.
    #[error("a neighbour dropped them for lack of room while this node was away")]
    Dropped,
    /// This node dropped them before every subscriber had them.
    #[error("this node dropped them for lack of room before they were read")]
    NoRoom,
    /// The last of them is longer than this node takes.
    #[error(
        "the last is {length} bytes long, over flood.body_max of {limit} here: raise that, restart \
         the agent, and it comes late from who has it"
    )]
    TooLarge {
        /// What its header says.
        length: u64,
        /// [`crate::Config::body_max`].
        limit: u64,
    },
}

impl GapReason {
    /// A word for it, as it is counted.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::PullTimeout => "timed-out",
            Self::Purged => "purged",
            Self::Dropped => "dropped",
            Self::NoRoom => "unread",
            Self::TooLarge { .. } => "too-large",
        }
    }
}

/// What a peer did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Bytes that are no flood message.
    #[error("malformed flood message: {0}")]
    Malformed(String),
    /// A message about a group that this node is not in.
    #[error("message for group {0}, which this node is not in")]
    NotMember(GroupName),
    /// An update under our own name that we have not published.
    #[error("update {0} claims to be ours and is not")]
    Forged(UpdateId),
    /// Updates of more origins than can be remembered.
    #[error("update {0} is of an origin too many")]
    TooManyOrigins(UpdateId),
    /// A body that is not what its header promised.
    #[error("the body of update {0} does not match its digest")]
    WrongBody(UpdateId),
    /// A piece that nobody asked for.
    #[error("piece {1} of update {0} was not asked for")]
    Unasked(UpdateId, u32),
    /// More requests at once than a neighbour may have.
    #[error("more than {0} requests at once")]
    TooManyRequests(usize),
}
