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

/// `GET /v1/groups/{group}/topology`: the overlay of a group that the node is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Which group.
    pub group: GroupName,
    /// What the overlay begins with.
    pub basis: OverlayBasis,
    /// Which decree is in force, also where it does not cover who is present.
    pub epoch: Option<u64>,
    /// Who computed that, by name or identity.
    pub by: Option<String>,
    /// Who computes the next, by name or identity.
    pub master: Option<String>,
    /// Disjoint paths between any two members.
    pub connectivity: u32,
    /// Edges that were added because members went or came since it was computed.
    pub mended: u32,
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
