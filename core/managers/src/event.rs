//! What may happen to the managers of a node, and what they want done.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{Incarnation, NodeId, Time};

use crate::id::{Founding, Generation, Lineage, Role, Stamp, Strength};
use crate::stored::Write;
use crate::view::{Authority, Wait};

/// What a node may become, by its certificate or config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Eligibility {
    /// Nothing.
    No,
    /// It notes and promises like any node of the roster, and is never master or backup.
    Witness,
    /// Anything.
    Eligible,
}

/// Numbers one [`Output::Persist`]; they grow by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Chosen by the host for a proposal, a read or a command; comes back in the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Why a link went down: what a backup may conclude from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// The peer's host closed the connection.
    Closed,
    /// Closed, and the peer's host refuses a new connection: no process listens there. The host
    /// says so again when that becomes known after [`Down::Closed`].
    Refused,
    /// Nothing was heard for too long; the peer may well be alive.
    Silent,
    /// This node hung up.
    Ours,
}

/// Why a write did not reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskFault {
    /// No room.
    #[error("the disk is full")]
    Full,
    /// Mounted read-only.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Anything else.
    #[error("the disk failed")]
    Failed,
}

/// What may happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// Membership and records say this of a present node, or the node itself of what it may
    /// become. Again when any of it changes.
    Member {
        /// Who.
        node: NodeId,
        /// Its newest life.
        incarnation: Incarnation,
        /// What it may become.
        eligible: Eligibility,
        /// What it has to spare, 0 to 1000, network and CPU before disk (DVM-12).
        resources: u16,
    },
    /// A node is not present any more.
    Silent {
        /// Who.
        node: NodeId,
    },
    /// A node said that it leaves, or restarts.
    Left {
        /// Who.
        node: NodeId,
    },
    /// A direct link to a node is up.
    LinkUp {
        /// To whom.
        node: NodeId,
    },
    /// It is down.
    LinkDown {
        /// To whom.
        node: NodeId,
        /// Why.
        why: Down,
    },
    /// A body from a node, over a link or routed. `from` is who the transport says it is.
    Message {
        /// From whom.
        from: NodeId,
        /// An [`Output::Send`] of the sender.
        body: Bytes,
    },
    /// The newest announcement of a node: a record of its own that is flooded.
    Announced {
        /// Of whom.
        node: NodeId,
        /// An [`Output::Announce`] of its.
        body: Bytes,
    },
    /// A write, and all before it, is on disk.
    Persisted {
        /// Which.
        ticket: Ticket,
    },
    /// A write, and all after it, will not reach the disk. The host drops those after it.
    PersistFailed {
        /// Which.
        ticket: Ticket,
        /// Why.
        why: DiskFault,
    },
    /// The nodes that the catalog expels, all of them: none of them is or becomes a manager, and
    /// the roster forgets them. Replaces what was said before.
    Expelled(BTreeSet<NodeId>),
    /// Somebody wants an entry in the catalog, of at most [`crate::MAX_ENTRY_BYTES`]. Answered by
    /// [`Output::Accepted`] or [`Output::Refused`].
    Propose {
        /// Comes back.
        token: Token,
        /// The entry.
        body: Bytes,
    },
    /// May I read what I applied, and is it the newest? Answered by [`Output::ReadGranted`] or
    /// [`Output::Refused`].
    Read {
        /// Comes back.
        token: Token,
    },
    /// The host's catalog with everything committed up to `index` in it, so that the log may be
    /// cut there. Of at most [`crate::MAX_IMAGE_BYTES`]; longer ones are ignored and reported.
    Checkpoint {
        /// The last entry that is in it.
        index: u64,
        /// The catalog, as the host will want it back in [`Output::Install`].
        state: Bytes,
    },
    /// Answers [`Output::WantHandOver`], at once. In all not more than
    /// [`crate::MAX_HAND_OVER_BYTES`] for one merge; more is reported, and hands nothing over.
    HandOver {
        /// What the entries came to, in the order in which it shall be taken over; each at most
        /// [`crate::MAX_ENTRY_BYTES`].
        items: Vec<Bytes>,
        /// How many entries of the catalog they are about: for people.
        entries: u64,
    },
    /// An operator's hand. Answered by [`Output::Done`] or [`Output::Refused`].
    Command {
        /// Comes back.
        token: Token,
        /// What.
        command: Command,
    },
    /// Whether this node does well enough to manage: reachable, disk writable, clock sane (DVM-9,
    /// 10). Until this is said it does.
    Baseline {
        /// Whether it does.
        well: bool,
        /// What is wrong, for the operator.
        why: String,
    },
    /// Somebody gives this node an order under `stamp`: may it be carried out? Answered by
    /// [`Output::Obeyed`] once the stamp is on disk, or by [`Output::Disobeyed`].
    Order {
        /// Comes back. Of a series of its own.
        token: Token,
        /// The order's stamp.
        stamp: Stamp,
    },
    /// A host refused an order of this master, with the stamp it has seen.
    StampRefused {
        /// The host's stamp.
        stamp: Stamp,
    },
    /// Who of the roster is there now? Answered by [`Output::Called`] or [`Output::Refused`].
    RollCall {
        /// Comes back.
        token: Token,
    },
    /// Somebody has a founding token, which was checked. Answered by [`Output::Wanted`],
    /// [`Output::Done`] or [`Output::Refused`].
    Strengthen {
        /// Comes back.
        token: Token,
        /// What the token says.
        number: Founding,
        /// For which history the token was destroyed, durably and for no other; nothing where it is
        /// still there, and is only offered.
        of: Option<Lineage>,
    },
    /// The node is about to stop: a master hands over first. [`Output::Done`] with the token when
    /// nothing keeps it any more; the host waits for it no longer than it likes.
    Stopping {
        /// Comes back.
        token: Token,
    },
}

/// What an operator may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The master hands over to its best backup.
    StepDown,
    /// The master hands over to this backup.
    Transfer(NodeId),
    /// A node of the roster becomes a backup in the place of the lowest one.
    Promote(NodeId),
    /// A backup becomes eligible, with a lower standing.
    Demote(NodeId),
    /// A node of the roster manages nothing until it is released.
    Hold(NodeId),
    /// Ends a hold.
    Release(NodeId),
    /// A node leaves the roster for good.
    Remove(NodeId),
    /// This node founds a new generation from what it holds, whoever else may have more. What that
    /// may lose is for the operator to weigh.
    RecoverForce,
}

/// What the managers want done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send `body` to `to`: over the link if there is one, else routed. May be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// An [`Input::Message`] there, of at most 62 KiB.
        body: Bytes,
    },
    /// Write this, all of it or nothing, after all that was given before, and say
    /// [`Input::Persisted`] when it is safe from a power cut.
    Persist {
        /// Which.
        ticket: Ticket,
        /// What.
        write: Write,
    },
    /// Publish `body` as this node's record of managers, in the place of the one before.
    Announce {
        /// An [`Input::Announced`] everywhere.
        body: Bytes,
    },
    /// The catalog of this node is, from now on, `state` (empty when there is none) as of `index`
    /// of this history; what was there before is not. [`Output::Committed`] follow.
    Install {
        /// Which history.
        lineage: Lineage,
        /// The last entry that is in `state`.
        index: u64,
        /// A checkpoint that some host gave, or nothing.
        state: Option<Bytes>,
    },
    /// An entry is decided. In the order of its places, each once; managers and learners get them.
    Committed(Decided),
    /// A proposal is decided and on every disk of the sync set.
    Accepted {
        /// Of the proposal.
        token: Token,
        /// Its place.
        index: u64,
        /// The stamp it was proposed under.
        stamp: Stamp,
        /// What it may rely on.
        strength: Strength,
    },
    /// The catalog up to `index` may be read as the newest, until `until`.
    ReadGranted {
        /// Of the read.
        token: Token,
        /// Everything acknowledged before the read has a lower or equal place.
        index: u64,
        /// When the permission ends.
        until: Time,
    },
    /// So much of the roster answered this master after the call, while its lease lasts.
    Called {
        /// Of the call.
        token: Token,
        /// Who is there now.
        authority: Authority,
    },
    /// A command is carried out.
    Done {
        /// Of the command.
        token: Token,
    },
    /// The founding token that was offered is wanted: whoever has it destroys it for this history,
    /// and then gives its number in another [`Input::Strengthen`], to whoever is its master.
    Wanted {
        /// Of the offer.
        token: Token,
        /// For which history.
        lineage: Lineage,
    },
    /// A proposal, read, call of the roll or command is refused.
    Refused {
        /// Of it.
        token: Token,
        /// Why, and what to do next.
        why: Refusal,
    },
    /// The order may be carried out: its stamp is not below any that this node ever saw, and is on
    /// disk.
    Obeyed {
        /// Of [`Input::Order`].
        token: Token,
    },
    /// The order must not be carried out. The master of its flock is told, where this node knows
    /// one: its next stamp passes what was seen here.
    Disobeyed {
        /// Of [`Input::Order`].
        token: Token,
        /// The highest stamp seen here.
        seen: Stamp,
    },
    /// A checkpoint of the catalog is wanted: [`Input::Checkpoint`] when the host has one.
    WantCheckpoint,
    /// This history merges into another: what shall be handed over of it is to be made from these
    /// entries, whatever the host's catalog shows now. [`Input::HandOver`] answers, at once; no
    /// answer at all keeps the history from ending.
    WantHandOver {
        /// A checkpoint that some host gave, and the last entry that is in it.
        checkpoint: Option<(u64, Bytes)>,
        /// Everything after it; of a log that has no master also what was never known to be
        /// decided.
        entries: Vec<Decided>,
        /// What has this place in this history or a lower one, the other has as well.
        common: u64,
    },
    /// Links wanted to these nodes: managers and learners. Replaces the wish before.
    Pin(BTreeSet<NodeId>),
    /// Something an operator or an application may want to know (BLOC-21).
    Event(Event),
    /// A message that cannot be right.
    Reject {
        /// From whom.
        from: NodeId,
        /// Why.
        reason: Reason,
    },
}

/// An entry of the catalog. The fork of its stamp, its term and its place name it among all entries
/// of all histories, also where it was never decided: two masters may come to the same epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Its place; places in between belong to the machine.
    pub index: u64,
    /// Under which stamp it was proposed.
    pub stamp: Stamp,
    /// And in which term of the engine.
    pub term: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// The entry.
    pub body: Bytes,
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A proposal to a master of this history.
    Own,
    /// Entries of another history, which merged into this one, as its host made them: they may come
    /// more than once and from several holders.
    Foreign {
        /// Which history.
        lineage: Lineage,
        /// Its generation.
        generation: Generation,
    },
}

/// Why something asked for is not done, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another node is the master.
    #[error("this node is not the master: ask the master")]
    NotMaster {
        /// Who is, if anybody.
        master: Option<NodeId>,
    },
    /// There is no master now.
    #[error("the flock has no master now: {0}; ask again")]
    NoMaster(Wait),
    /// The entry is too large.
    #[error("an entry of {bytes} bytes is over the limit of {limit}: split it")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// [`crate::MAX_ENTRY_BYTES`].
        limit: usize,
    },
    /// Too much waits already.
    #[error("{waiting} proposals wait already: ask again when some are answered")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// Whether it was or will be decided is not known: the master changed in between.
    #[error("whether it was decided is not known: look before asking again")]
    Unknown,
    /// An earlier master may still hold a lease, or this one's has run out.
    #[error("the master has no lease now: ask again in a moment")]
    NoLease,
    /// The disk does not take anything.
    #[error("{0}: the node manages nothing until it does; free the disk and restart it")]
    Disk(DiskFault),
    /// The node named cannot be that.
    #[error("that node {why}")]
    Node {
        /// Which.
        node: NodeId,
        /// What keeps it, and what to do.
        why: &'static str,
    },
    /// A merge runs.
    #[error("the flock merges into another: ask again at its master")]
    Merging {
        /// Into which.
        into: Lineage,
    },
    /// A founding number that was used, or is below one that was.
    #[error(
        "founding number {} is of no use: number {} was used in this bloc; destroy the token, and \
         let the CA sign a higher one with `skep ca refound` if it is needed", .number.0, .known.0
    )]
    Spent {
        /// The token's.
        number: Founding,
        /// The highest that is known.
        known: Founding,
    },
    /// It cannot be done now, and will be.
    #[error("not yet: {why}")]
    NotYet {
        /// What is waited for.
        why: &'static str,
    },
    /// Something of the kind runs already.
    #[error("another change of managers runs: ask again when it is done")]
    Changing,
}

/// What an operator or an application may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A flock was founded, or founded again.
    Formed {
        /// The new history.
        lineage: Lineage,
        /// Its generation.
        generation: Generation,
        /// From which, and up to which place of it.
        parent: Option<(Lineage, u64)>,
        /// What its writes may rely on.
        strength: Strength,
    },
    /// This node's role is another.
    RoleChanged {
        /// What it was.
        from: Role,
        /// What it is.
        to: Role,
        /// Why.
        why: &'static str,
    },
    /// This history is strong from now on.
    Strengthened {
        /// Which.
        lineage: Lineage,
        /// Under which number.
        founding: Founding,
    },
    /// Another node is the master, under this stamp.
    MasterChanged {
        /// Who.
        master: NodeId,
        /// The first stamp of its mastership.
        stamp: Stamp,
    },
    /// The master put a node among the backups.
    BackupAdded {
        /// Who.
        node: NodeId,
    },
    /// The master took a node from among them.
    BackupRemoved {
        /// Who.
        node: NodeId,
        /// Why.
        why: &'static str,
    },
    /// The set of disks that every acknowledgement waits for is another.
    SyncSet {
        /// Who is in it.
        members: Vec<NodeId>,
    },
    /// A node of the roster is unreachable for so long that nobody looks for it any more (DVM-13).
    GivenUp {
        /// Who.
        node: NodeId,
    },
    /// The one manager there is has no backup: a lost disk loses the catalog.
    Unprotected,
    /// The disk refuses writes: this node steps down.
    DiskFailed {
        /// How.
        why: DiskFault,
    },
    /// This history ends: its flock goes on in another.
    MergedInto {
        /// Which ends.
        lineage: Lineage,
        /// In which it goes on.
        into: Lineage,
    },
    /// Another history ended in this one.
    Absorbed {
        /// Which.
        lineage: Lineage,
        /// How many entries of the catalog were handed over.
        changes: u64,
    },
    /// This manager met nobody for so long that it manages nothing until it does (DVM-18). What it
    /// has is on its disk; the host makes it readable as well.
    Retired {
        /// How long it was alone, in all its lives since it last met anybody.
        alone: Duration,
    },
    /// A checkpoint was too long and is not used; the log cannot be cut.
    CheckpointRefused {
        /// Its length.
        bytes: usize,
    },
    /// What the host made of a history that is to be handed over is too long, in all or in one
    /// item, and is not used; the history is kept.
    HandOverRefused {
        /// Its length.
        bytes: usize,
    },
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It cannot be read.
    #[error("a message of the managers that cannot be read")]
    Malformed,
    /// It claims a raft id that is another node's.
    #[error("an engine message under another node's raft id")]
    Impostor,
    /// It contradicts what is decided.
    #[error("an engine message that contradicts what is decided")]
    Contradiction,
    /// It names a number that nobody can have reached.
    #[error("an engine message with a number out of range")]
    OutOfRange,
    /// It asks for what only a manager or its master may ask.
    #[error("a message of managers from a node that is none")]
    NotEntitled,
}
