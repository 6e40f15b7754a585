//! What the machine keeps for each group it is in.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::{GroupName, NodeId, Time};

use crate::id::{Serial, UpdateId};
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
    pub(crate) known_by: Vec<NodeId>,
    /// It fills a gap: all are given it, since nobody else may have it.
    pub(crate) late: bool,
}

impl Fresh {
    /// What a neighbour asked for.
    pub(crate) const fn answer(header: Header, born: i64, body: Bytes) -> Self {
        Self { header, born, body, known_by: Vec::new(), late: false }
    }
}

/// Ids that wait to be told to a neighbour.
#[derive(Debug)]
pub(crate) struct Ids {
    pub(crate) due: Time,
    pub(crate) ids: BTreeSet<UpdateId>,
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
    /// Ids on their way to neighbours that want no bodies.
    pub(crate) ids: BTreeMap<NodeId, Ids>,
    /// Origins whose bodies neighbours shall no longer send, from the next flush on.
    pub(crate) prunes: BTreeMap<NodeId, BTreeSet<NodeId>>,
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
            ids: BTreeMap::new(),
            prunes: BTreeMap::new(),
            compare_at,
            compare_all_at: None,
            to_pull: VecDeque::new(),
        }
    }

    /// A neighbour has this update: it need not be told.
    pub(crate) fn has(&mut self, peer: NodeId, id: UpdateId) {
        if let Some(queue) = self.ids.get_mut(&peer)
            && queue.ids.remove(&id)
            && queue.ids.is_empty()
        {
            self.ids.remove(&peer);
        }
    }

    /// Forgets what was to be said to a neighbour that is gone.
    pub(crate) fn forget_peer(&mut self, peer: NodeId) {
        self.ids.remove(&peer);
        self.prunes.remove(&peer);
        self.to_pull.retain(|other| *other != peer);
    }
}
