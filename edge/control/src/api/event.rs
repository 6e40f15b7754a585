//! The agent's own log of what happened, numbered and timed by a clock that never steps.

use serde::{Deserialize, Serialize};
use skep_base::{GroupName, ImageName, NodeName, WallTime};

use super::{FlockChange, Presence, UpdateId, WaveId, WaveState};

/// One line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each event of this process; starts with 1.
    pub number: u64,
    /// Wall clock, for people.
    pub at: WallTime,
    /// The node's boot-time clock in microseconds: differences between events of one host are
    /// true whatever the wall clock does, and processes of one host may be compared. 0 of what
    /// another node told.
    pub monotonic_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. The tag is the word shown in listings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The agent began a life.
    Started {
        /// Which.
        incarnation: u64,
    },
    /// What is derived of a member changed.
    Member {
        /// Which member.
        node: NodeName,
        /// What it is now.
        presence: Presence,
        /// In which life.
        incarnation: u64,
    },
    /// The set of present members changed.
    Flock {
        /// The transient name now.
        name: String,
        /// Members present.
        present: u32,
    },
    /// A link came up.
    LinkUp {
        /// To whom.
        node: NodeName,
        /// The other end's socket address.
        remote: String,
        /// Whether this node dialled. What the link is kept for shows later: `skep links`.
        dialled: bool,
    },
    /// A link went down.
    LinkDown {
        /// To whom.
        node: NodeName,
        /// Why.
        why: String,
    },
    /// Somebody was turned away.
    Refused {
        /// From where.
        remote: String,
        /// Why, naming him where he gave a name.
        why: String,
    },
    /// Another live process bears our name.
    Duplicate {
        /// Where it was met: its address, or the node that told of it.
        remote: String,
        /// Whether this one keeps the name.
        keeps: bool,
    },
    /// Something happened among the managers of the flock.
    Managers {
        /// What.
        what: String,
    },
    /// An operator ordered something of the managers: at any node of the bloc.
    Order {
        /// What.
        what: String,
        /// Who: the user there.
        who: String,
        /// At which node.
        node: NodeName,
        /// When, by that node's clock.
        when: WallTime,
        /// What came of it.
        came: String,
    },
    /// This node is in a flock, or its part of one was founded again.
    Formed(FlockChange),
    /// Members that had parted are back, or flocks became one.
    Merged(FlockChange),
    /// Members went without a word.
    Split(FlockChange),
    /// Another node is the master.
    MasterChanged(FlockChange),
    /// Nothing has changed in the flock for some time.
    Stable(FlockChange),
    /// This node is something else in the flock.
    RoleChanged(FlockChange),
    /// A hook was run, or could not be.
    Hook {
        /// Which.
        hook: String,
        /// For which of the events above.
        of: String,
        /// Whether it ended well.
        well: bool,
        /// How it ended.
        ended: String,
    },
    /// A target has taken a letter about incidents.
    Notified {
        /// Which target.
        target: String,
        /// What the letter is called.
        letter: String,
    },
    /// Entries of the catalog say something else.
    Catalog {
        /// After which command.
        index: u64,
        /// Which entries: at most 64 are named.
        keys: Vec<String>,
    },
    /// An update came into the log.
    Update {
        /// Of which group.
        group: GroupName,
        /// Which.
        id: UpdateId,
        /// Bytes.
        bytes: u64,
        /// Milliseconds since its publication.
        age_ms: u64,
    },
    /// Updates of one origin will be handed over without one that did not come in time.
    Gap {
        /// Of which group.
        group: GroupName,
        /// The last that is missing.
        id: UpdateId,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A newer topology of a group is in force; old links stay until it is whole.
    Topology {
        /// Of which group.
        group: GroupName,
        /// Which: each is one more than the last.
        epoch: u64,
        /// Who computed it.
        by: String,
        /// Members that it was made for.
        members: u32,
        /// Its edges.
        edges: u32,
    },
    /// Something is wrong with a group's topology; the last one stays in force.
    TopologyFault {
        /// Of which group.
        group: GroupName,
        /// What.
        why: String,
    },
    /// A version of an image is complete on this node.
    Image {
        /// Which image.
        image: ImageName,
        /// The version's first digits.
        version: String,
    },
    /// A wave reached a new state.
    Wave {
        /// Which.
        id: WaveId,
        /// What it is now.
        state: WaveState,
    },
    /// This node applied a wave, or could not.
    Applied {
        /// Which.
        id: WaveId,
        /// What went wrong, if anything.
        error: Option<String>,
    },
    /// The certificate was renewed while links stayed up.
    Renewed {
        /// Until when the new one holds.
        not_after: WallTime,
    },
    /// Something an administrator should look at.
    Problem {
        /// What.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Events were lost to this reader: the log keeps a bounded number, or he read too slowly.
    Lost {
        /// How many.
        count: u64,
        /// Why, and what to do.
        message: String,
    },
    /// An event that this build does not know.
    #[serde(other)]
    Unknown,
}

/// Query of `GET /v1/events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadEvents {
    /// Only events with a greater number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only the last so many of those that were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// Keep the connection and send events as they happen.
    #[serde(default)]
    pub follow: bool,
    /// What happened to the flock, as its masters told it in records that every node keeps, in
    /// place of what happened at this node. Numbers are places in the list then, and those that
    /// come later go on from there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flock: bool,
}
