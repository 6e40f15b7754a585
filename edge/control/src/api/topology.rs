//! Who links to whom in a group and why, and how far apart two nodes are (FLOOD-9, 22, 24, 27, 28).

use serde::{Deserialize, Serialize};
use skep_base::{GroupName, NodeName};

/// What a group's overlay begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlayBasis {
    /// A topology that the group's topology master computed from estimates.
    Computed,
    /// A hash of who is present: no computed topology covers them.
    Hash,
}

impl OverlayBasis {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Hash => "hash",
        }
    }
}

/// Why the overlay begins with the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashReason {
    /// So few members all link to one another and need no topology.
    Few,
    /// Nobody has decreed a topology yet.
    Undecreed,
    /// A decree has come, and the topology itself, which travels apart, has not.
    Awaited,
    /// The topology in force knows fewer than half of those who are present.
    Uncovered,
}

/// `GET /v1/groups/{group}/topology`: the overlay of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Which group.
    pub group: GroupName,
    /// The node that answers is in it.
    pub joined: bool,
    /// What the overlay begins with.
    pub basis: OverlayBasis,
    /// Why with the hash, where it does.
    pub reason: Option<HashReason>,
    /// The same in words.
    pub why: Option<String>,
    /// The decree in force, also where it does not cover who is present.
    pub decree: Option<TopologyDecree>,
    /// Who computes the next, by name or identity.
    pub master: Option<String>,
    /// Disjoint paths between any two members.
    pub connectivity: u32,
    /// Edges that were added because members went or came since it was computed.
    pub mended: u32,
    /// How good the overlay is.
    pub figures: TopologyFigures,
    /// For how long, in milliseconds, old links are kept beside the new.
    pub switching_ms: Option<u64>,
    /// For how long, in milliseconds, this node has been computing the next.
    pub computing_ms: Option<u64>,
    /// Why the last computation of this node came to nothing.
    pub failure: Option<TopologyFailure>,
    /// The members present.
    pub sites: Vec<TopologySite>,
    /// Pairs that link.
    pub edges: Vec<TopologyEdge>,
    /// The drawing, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawing: Option<String>,
}

/// A topology that a topology master decreed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyDecree {
    /// Its stamp: the greater one counts.
    pub epoch: u64,
    /// Tells apart what two masters decreed under one epoch.
    pub fork: u64,
    /// Who computed it, by name or identity.
    pub by: String,
    /// For how long, in milliseconds, it has been in force at the node that answers.
    pub adopted_ms: u64,
    /// Members that it was computed for.
    pub members: u32,
    /// Edges that it has.
    pub edges: u32,
    /// Disjoint paths that it was computed for.
    pub connectivity: u32,
}

/// How good an overlay is, by what is estimated now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyFigures {
    /// What its edges cost together, in microseconds.
    pub cost_us: u64,
    /// The longest of the ways between two members, in microseconds one way.
    pub diameter_us: u64,
    /// The mean way between two members, in microseconds one way.
    pub distance_us: u64,
    /// Edges of the member that has most.
    pub most_links: u32,
    /// Edges of the member that has fewest.
    pub fewest_links: u32,
}

/// A computation that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyFailure {
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
    /// Why.
    pub why: String,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologySite {
    /// Its name.
    pub node: NodeName,
    /// Ten-thousandths of a degree north, where it says so.
    pub latitude_e4: Option<i32>,
    /// Ten-thousandths of a degree east, where it says so.
    pub longitude_e4: Option<i32>,
}

/// Two members that link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyEdge {
    /// One end: its place in [`Topology::sites`].
    pub a: u32,
    /// The other.
    pub b: u32,
    /// The round trip in microseconds, where anything is known of it.
    pub rtt_us: Option<u64>,
    /// What that rests on.
    pub basis: Option<RttBasis>,
    /// What the edge costs, in microseconds: the round trip, which is taken to be long where
    /// nothing is known of it, its deviation, and the time of 1 KiB where the bandwidth is known.
    pub cost_us: u64,
    /// It is an edge of the decree in force, and not one that was added since.
    pub decreed: bool,
}

/// How a drawing is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrawAs {
    /// For Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// The query of `GET /v1/groups/{group}/topology`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadTopology {
    /// Also draw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawAs>,
}

/// What a round trip rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RttBasis {
    /// One of the two measured it.
    Measured,
    /// Measured over the links of others, as neither can dial the other.
    Routed,
    /// Predicted from network coordinates.
    Coordinates,
    /// Predicted from latitude and longitude.
    Distance,
}

impl RttBasis {
    /// The words for it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Routed => "routed (neither can dial the other: over the links of others)",
            Self::Coordinates => "predicted from network coordinates",
            Self::Distance => "predicted from latitude and longitude",
        }
    }
}

/// `GET /v1/rtt/{from}/{to}`: what is known of a pair of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// One of them.
    pub from: NodeName,
    /// The other.
    pub to: NodeName,
    /// The round trip in microseconds; absent where nothing is known.
    pub rtt_us: Option<u64>,
    /// How far samples were from it on average, or by how much a prediction may be wrong.
    pub deviation_us: Option<u64>,
    /// What it rests on.
    pub basis: Option<RttBasis>,
    /// Who measured it, by name or identity.
    pub by: Option<String>,
    /// How old that is, in milliseconds.
    pub age_ms: Option<u64>,
    /// Bandwidth in bytes a second, where it was measured.
    pub bytes_per_second: Option<u64>,
}
