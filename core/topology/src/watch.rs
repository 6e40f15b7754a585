//! The ring that names extra watchers.

use alloc::vec::Vec;

use skep_base::NodeId;

use crate::Overlay;
use crate::hash::{Order, rank};
use crate::overlay::{in_order, ring};

/// Members in the order of the third ring. Whoever comes after a node in it watches over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRing {
    ring: Vec<(u64, NodeId)>,
}

impl WatchRing {
    /// The ring of `members`.
    #[must_use]
    pub fn new(members: &[NodeId]) -> Self {
        let members = in_order(members);
        let placed = ring(&members, Order::Watch).into_iter();
        Self { ring: placed.map(|(rank, at)| (rank, members[at as usize])).collect() }
    }

    /// The members after `id`, nearest first, once around and without `id` itself. `id` need not be
    /// a member: a node that is away has a place in the ring all the same.
    pub fn successors<'a>(&'a self, id: &NodeId) -> impl Iterator<Item = NodeId> + use<'a> {
        let place = (rank(Order::Watch, id), *id);
        let at = self.ring.partition_point(|member| *member <= place);
        let (before, after) = self.ring.split_at(at);
        let me = *id;
        let around = after.iter().chain(before).map(|(_, member)| *member);
        around.filter(move |member| *member != me)
    }

    /// The members before `id`, nearest first, once around and without `id` itself.
    pub fn predecessors<'a>(&'a self, id: &NodeId) -> impl Iterator<Item = NodeId> + use<'a> {
        let place = (rank(Order::Watch, id), *id);
        let at = self.ring.partition_point(|member| *member < place);
        let (before, after) = self.ring.split_at(at);
        let me = *id;
        let around = before.iter().rev().chain(after.iter().rev());
        around.map(|(_, member)| *member).filter(move |member| *member != me)
    }

    /// The first `count` successors of `id` that it has no edge to in `overlay`.
    pub fn extra_watchers<'a>(
        &'a self,
        overlay: &Overlay,
        id: &NodeId,
        count: usize,
    ) -> impl Iterator<Item = NodeId> + use<'a> {
        // The neighbours are copied, a handful, so that the caller may keep the iterator.
        let neighbours = overlay.neighbours(id).to_vec();
        self.successors(id)
            .filter(move |member| neighbours.binary_search(member).is_err())
            .take(count)
    }
}
