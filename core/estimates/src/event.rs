//! What may happen to estimates, and what they want done.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::NodeId;

use crate::place::Place;

/// How often is measured and told. The defaults are for fleets: all of it costs a node some twenty
/// bytes a second, and nearly nothing once a flock has come to rest.
#[derive(Clone, Debug)]
pub struct Config {
    /// Between two round trips measured to a random node (floodd's `ping-period`). Each costs about
    /// 400 bytes, headers and all.
    pub ping_period: Duration,
    /// Between two bandwidths measured to a random node (floodd's `bandwidth-period`). Each costs
    /// at most [`crate::probe::PROBE_BYTES`]. Zero: never.
    pub bandwidth_period: Duration,
    /// How often changes are published, if there are any (floodd's `estimates-period`).
    pub estimates_period: Duration,
    /// Where the node is on the earth, where that is known.
    pub place: Option<Place>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_period: Duration::from_secs(60),
            bandwidth_period: Duration::from_secs(6 * 3600),
            estimates_period: Duration::from_secs(60),
            place: None,
        }
    }
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Who is at the other end.
    pub peer: NodeId,
    /// Whether it is the bulk lane; else the control lane.
    pub bulk: bool,
    /// The least round trip of the last minutes; zero where it is not known.
    pub least_rtt: Duration,
    /// Bytes that the peer acknowledged since the connection was made.
    pub acked: u64,
    /// The rate of the newest delivery, in bytes a second.
    pub rate: u64,
    /// That rate was limited by how little was sent.
    pub sender_limited: bool,
}

/// What may happen to estimates.
#[derive(Clone, Debug)]
pub enum Input {
    /// Who is present, sorted, this node among them.
    Present(Vec<NodeId>),
    /// A control link is up, or gone.
    Link {
        /// To whom.
        peer: NodeId,
        /// Whether it is up.
        up: bool,
    },
    /// A message came.
    Message {
        /// From whom.
        from: NodeId,
        /// What it says.
        body: Bytes,
    },
    /// The answer to [`Output::Look`].
    Looked(Vec<Sample>),
    /// The answer to [`Output::Knock`].
    Knocked {
        /// At whose door.
        peer: NodeId,
        /// How long a connection took to be there; nothing where none came to be.
        took: Option<Duration>,
    },
    /// The answer to [`Output::Ask`].
    Answered {
        /// Who was asked.
        peer: NodeId,
        /// How long its answer took over the links of others; nothing where none came.
        took: Option<Duration>,
    },
    /// A node asked this one over the links of others, which says that it could not dial it. It was
    /// answered at once.
    Pinged {
        /// Who.
        by: NodeId,
    },
    /// A node's record of kind `WAYS` is new or newer; also our own of an earlier life.
    Ways {
        /// Whose.
        node: NodeId,
        /// Its body; nothing where it was retracted.
        body: Option<Bytes>,
    },
    /// A node's record of kind `ESTIMATES` is new or newer. Our own of an earlier life tells where
    /// we were.
    Record {
        /// Whose.
        node: NodeId,
        /// Its body; nothing where it was retracted.
        body: Option<Bytes>,
    },
    /// A node's records were forgotten.
    Forgotten {
        /// Whose.
        node: NodeId,
    },
}

/// What estimates want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a peer that is linked.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        body: Bytes,
    },
    /// Open a bare connection to a peer that is not linked, and close it again without a word: the
    /// two kernels measure the round trip, and no process has a part in it. [`Input::Knocked`]
    /// follows.
    Knock {
        /// At whose door.
        peer: NodeId,
    },
    /// Ask a peer that could not be knocked at, over the links of others, to answer at once.
    /// [`Input::Answered`] follows.
    Ask {
        /// Whom.
        peer: NodeId,
    },
    /// Make a control link for an errand; [`Input::Link`] follows if that succeeds.
    Reach {
        /// To whom.
        peer: NodeId,
    },
    /// Ask the kernel about all links.
    Look,
    /// Publish this as the record of kind `ESTIMATES`, schema 1.
    Publish {
        /// Its body.
        body: Bytes,
    },
    /// Publish this as the record of kind `WAYS`, schema 1; or retract that.
    PublishWays {
        /// Its body.
        body: Option<Bytes>,
    },
    /// What a peer sent was refused.
    Reject {
        /// Who sent it.
        from: NodeId,
        /// Why.
        reason: &'static str,
    },
}
