//! What the machine keeps for each group it is in.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{GroupName, NodeId, Time};

use crate::id::Serial;
use crate::life::GroupIx;
use crate::message::Header;

/// An update on its way to the neighbours.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub(crate) header: Header,
    /// When it was published, in milliseconds of the machine's clock.
    pub(crate) born: i64,
    /// Empty for a large one, which is announced.
    pub(crate) body: Bytes,
    /// Who has it already.
    pub(crate) from: Option<NodeId>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) ix: GroupIx,
    pub(crate) name: GroupName,
    pub(crate) peers: BTreeSet<NodeId>,
    /// The last update that this node published, in any of its lives.
    pub(crate) last_own: Option<Serial>,
    /// What goes out at the next flush.
    pub(crate) fresh: Vec<Fresh>,
    /// When to compare with one random neighbour again.
    pub(crate) compare_at: Time,
    /// When to compare with all neighbours, because something old came in.
    pub(crate) compare_all_at: Option<Time>,
    /// Whom to ask for everything that is missing, one after the other.
    pub(crate) to_pull: VecDeque<NodeId>,
}

impl Group {
    pub(crate) const fn new(ix: GroupIx, name: GroupName, compare_at: Time) -> Self {
        Self {
            ix,
            name,
            peers: BTreeSet::new(),
            last_own: None,
            fresh: Vec::new(),
            compare_at,
            compare_all_at: None,
            to_pull: VecDeque::new(),
        }
    }
}
