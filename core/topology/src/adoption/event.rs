//! What may happen to the adoption of topologies, and what it wants done.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, NodeId};

use crate::computed::decree::Stamp;
use crate::computed::{Margin, Topology};

/// What this node would do as a group's topology master, and whom it takes for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The connectivity to ask for (FLOOD-23).
    pub k: usize,
    /// Who computes, while present; the lowest present identity where nobody is named (FLOOD-27).
    pub master: Option<NodeId>,
    /// How often the topology is computed anew though nobody came or went (FLOOD-31).
    pub update_period: Duration,
}

/// The groups that this node is in, and how long it waits for calm.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it would do as the master of each group. Of a group that is not named here it never is
    /// the master; it adopts what others decree all the same.
    pub plans: BTreeMap<GroupName, Plan>,
    /// A node that has just begun has not heard yet what others measured: it computes nothing for
    /// so long.
    pub listen_first: Duration,
    /// And for so much longer for each member of the group, until most have said what they
    /// measured: their first reports are spread over time in proportion to their number. A
    /// topology of unknown costs is no better than the hash overlay, and moves all links.
    pub listen_of_each: Duration,
    /// But no longer than this on that account.
    pub listen_of_all: Duration,
    /// Members must have kept still for so long before a topology is computed for them.
    pub calm: Duration,
    /// Who never keeps still does not put it off for longer than this.
    pub calm_at_most: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            plans: BTreeMap::new(),
            listen_first: Duration::from_secs(45),
            listen_of_each: Duration::from_secs(6),
            listen_of_all: Duration::from_secs(600),
            calm: Duration::from_secs(10),
            calm_at_most: Duration::from_secs(60),
        }
    }
}

/// What may happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// This node publishes from now on.
    Begun,
    /// Who is present of a group that this node is in, sorted, this node among them.
    Members {
        /// Of which group.
        group: GroupName,
        /// Who.
        present: Vec<NodeId>,
    },
    /// The group was laid out, and these are this node's neighbours in it now.
    Laid {
        /// Which group.
        group: GroupName,
        /// Whom this node links to in it.
        neighbours: Vec<NodeId>,
    },
    /// The answer to [`Output::Inspect`]: edges of the group's overlay that are no links.
    Missing {
        /// Of which group.
        group: GroupName,
        /// Which; the first few will do.
        edges: Vec<(NodeId, NodeId)>,
    },
    /// A decree is new or newer, or was taken back.
    Decree {
        /// Whose record it is.
        owner: NodeId,
        /// In which of its slots.
        slot: u8,
        /// The record's body.
        body: Option<Bytes>,
    },
    /// The records of a node were forgotten.
    Forgotten {
        /// Whose.
        owner: NodeId,
    },
    /// The answer to [`Output::Compute`].
    Computed {
        /// Of which group.
        group: GroupName,
        /// Which job.
        job: u64,
        /// The topology, judged; or why there is none.
        answer: Result<Answer, String>,
    },
    /// A link is up or gone.
    Link {
        /// To whom.
        peer: NodeId,
        /// Whether it is up.
        up: bool,
    },
    /// A message about bodies came.
    Message {
        /// From whom.
        from: NodeId,
        /// What it says.
        body: Bytes,
    },
}

/// What a computation came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The topology to use.
    pub topology: Topology,
    /// It is the one that stands: nothing found was better by enough.
    pub kept: bool,
    /// The round trip of each of its edges, in their order, in microseconds.
    pub rtts: Vec<u32>,
}

/// What is to be computed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// For which group.
    pub group: GroupName,
    /// Names the answer.
    pub job: u64,
    /// The members, in order.
    pub members: Vec<NodeId>,
    /// The topology in force, where there is one.
    pub standing: Option<Arc<Topology>>,
    /// By how much another must be better than that.
    pub margin: Margin,
    /// The connectivity wanted.
    pub k: usize,
    /// Pairs that were seen unable to link.
    pub apart: Vec<(NodeId, NodeId)>,
}

/// What is wanted done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Compute a topology; [`Input::Computed`] follows.
    Compute(Wanted),
    /// Publish this decree as a record of this node, or take it back.
    Publish {
        /// In which slot.
        slot: u8,
        /// The record's body.
        body: Option<Bytes>,
    },
    /// What the group's overlay begins with has changed, or old neighbours may go: lay it out
    /// again.
    LayOut {
        /// Which group.
        group: GroupName,
    },
    /// See which edges of the group's overlay are links; [`Input::Missing`] follows.
    Inspect {
        /// Of which group.
        group: GroupName,
    },
    /// Send this to a peer that is linked.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        body: Bytes,
    },
    /// What a peer sent was refused.
    Reject {
        /// Who sent it.
        from: NodeId,
        /// Why.
        reason: String,
    },
    /// Something that people may want to know.
    Event(Event),
}

/// What happened to a group's topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A newer decree is in force; old neighbours are kept until it is whole.
    Adopted {
        /// Of which group.
        group: GroupName,
        /// Which decree.
        stamp: Stamp,
        /// Whose.
        by: NodeId,
        /// Members that it was made for.
        members: usize,
        /// Its edges.
        edges: usize,
    },
    /// Every edge of it is linked, and the old neighbours may go.
    Whole {
        /// Of which group.
        group: GroupName,
        /// Which decree.
        stamp: Stamp,
    },
    /// It is not whole though there was time: old neighbours stay, and the master avoids these
    /// pairs.
    Lacking {
        /// Of which group.
        group: GroupName,
        /// The first few edges that do not come to be links.
        edges: Vec<(NodeId, NodeId)>,
    },
    /// No topology came of a computation; the last one stays in force.
    Failed {
        /// Of which group.
        group: GroupName,
        /// Why.
        why: String,
    },
}
