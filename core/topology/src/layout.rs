//! Overlay and watch ring of one list of members, and a memory for the last few.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use skep_base::NodeId;

use crate::adoption::Standing;
use crate::connectivity::index;
use crate::overlay::in_order;
use crate::standing::standing_overlay;
use crate::{Overlay, WatchRing, hash_overlay};

/// What the flock wants of its layout. The same for all nodes of a bloc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Disjoint paths between any two members (FLOOD-23). 4 costs nothing over 3, as two rings make
    /// four edges anyway, and survives the loss of any three nodes. Above 4 each two more cost
    /// every node two more links.
    pub connectivity: usize,
    /// Watchers of a node besides its neighbours. Two of them see through the loss of a node
    /// together with all its neighbours.
    pub extra_watchers: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { connectivity: 4, extra_watchers: 2 }
    }
}

/// Who links to whom and who watches whom among one list of members.
#[derive(Clone, Debug)]
pub struct Layout {
    shape: Shape,
    /// Which topology its overlay begins with; nothing where that is the hash.
    basis: Option<u64>,
    overlay: Overlay,
    ring: WatchRing,
    /// Of each member, in the members' order: its extra watchers.
    extra: Rows,
    /// Of each member: whom it watches as an extra watcher.
    extra_watched: Rows,
}

impl Layout {
    /// The layout of `members`, which should be in order, and is put in order otherwise.
    #[must_use]
    pub fn new(members: &[NodeId], shape: Shape) -> Self {
        Self::of(hash_overlay(members, shape.connectivity), shape, None)
    }

    /// The layout of `members` whose overlay begins with a topology that was decreed.
    #[must_use]
    pub fn standing(members: &[NodeId], shape: Shape, standing: &Standing) -> Self {
        let k = standing.topology.connectivity();
        let overlay = standing_overlay(members, k, &standing.topology);
        Self::of(overlay, shape, Some(standing.id))
    }

    fn of(overlay: Overlay, shape: Shape, basis: Option<u64>) -> Self {
        let ring = WatchRing::new(overlay.members());
        let mut extra = Rows::default();
        let mut watched: Vec<(NodeId, NodeId)> = Vec::new();
        for id in overlay.members() {
            for watcher in ring.extra_watchers(&overlay, id, shape.extra_watchers) {
                extra.push(watcher);
                watched.push((watcher, *id));
            }
            extra.end_row();
        }
        watched.sort_unstable();
        let extra_watched = Rows::grouped(overlay.members(), &watched);
        Self { shape, basis, overlay, ring, extra, extra_watched }
    }

    /// The shape it was made for.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Which topology its overlay begins with: [`Standing::id`]. Nothing where that is the hash.
    #[must_use]
    pub const fn basis(&self) -> Option<u64> {
        self.basis
    }

    /// Who links to whom.
    #[must_use]
    pub const fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// The ring that names extra watchers: also asked where these do not suffice, or for a node
    /// that is no member.
    #[must_use]
    pub const fn watch_ring(&self) -> &WatchRing {
        &self.ring
    }

    /// The members, in order.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        self.overlay.members()
    }

    /// The members that `id` links to; none when it is not a member.
    #[must_use]
    pub fn neighbours(&self, id: &NodeId) -> &[NodeId] {
        self.overlay.neighbours(id)
    }

    /// Who watches over `id` besides its neighbours, nearest in the ring first.
    #[must_use]
    pub fn extra_watchers_of(&self, id: &NodeId) -> &[NodeId] {
        self.row(&self.extra, id)
    }

    /// Whom `id` watches over besides its neighbours, in order.
    #[must_use]
    pub fn extra_watched_by(&self, id: &NodeId) -> &[NodeId] {
        self.row(&self.extra_watched, id)
    }

    /// Everybody who watches over `id`: neighbours, then extra watchers. Nobody twice.
    pub fn watchers_of(&self, id: &NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let extra = self.extra_watchers_of(id);
        self.neighbours(id).iter().chain(extra).copied()
    }

    /// Everybody whom `id` watches over: neighbours, then others. Nobody twice.
    pub fn watched_by(&self, id: &NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let extra = self.extra_watched_by(id);
        self.neighbours(id).iter().chain(extra).copied()
    }

    fn row<'a>(&self, rows: &'a Rows, id: &NodeId) -> &'a [NodeId] {
        match self.members().binary_search(id) {
            Ok(at) => rows.get(at),
            Err(_) => &[],
        }
    }
}

/// Lists of identities, one after the other in one block.
#[derive(Clone, Debug)]
struct Rows {
    starts: Vec<u32>,
    items: Vec<NodeId>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { starts: vec![0], items: Vec::new() }
    }
}

impl Rows {
    /// One row for each of `keys`: the second halves of the `pairs` whose first half it is. Both in
    /// order.
    fn grouped(keys: &[NodeId], pairs: &[(NodeId, NodeId)]) -> Self {
        let mut rows = Self::default();
        let mut rest = pairs;
        for key in keys {
            let end = rest.partition_point(|(first, _)| first <= key);
            rows.items.extend(rest[..end].iter().map(|(_, second)| *second));
            rows.end_row();
            rest = &rest[end..];
        }
        rows
    }

    fn push(&mut self, item: NodeId) {
        self.items.push(item);
    }

    fn end_row(&mut self) {
        self.starts.push(index(self.items.len()));
    }

    fn get(&self, at: usize) -> &[NodeId] {
        &self.items[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}

/// Where a node gets its layouts from. Injected, so that a thousand simulated nodes that agree on
/// who is present compute their common layout once.
pub trait LayoutSource {
    /// The layout of `members`, which must be in order and without repetition. Its overlay begins
    /// with the topology that stands, where one does, else with the hash.
    fn layout(
        &mut self,
        members: &[NodeId],
        shape: Shape,
        standing: Option<&Standing>,
    ) -> Arc<Layout>;
}

/// Computes layouts and remembers the last few: a flock in which one node comes and goes swings
/// between two.
#[derive(Debug)]
pub struct LayoutCache {
    capacity: usize,
    /// Least recently used first.
    layouts: VecDeque<Arc<Layout>>,
    computed: u64,
}

impl LayoutCache {
    /// A memory for at most `capacity` layouts, and at least one. A layout of 1,000 members takes
    /// about 0.2 MB.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), layouts: VecDeque::new(), computed: 0 }
    }

    /// How many layouts were computed, and not found here.
    #[must_use]
    pub const fn computed(&self) -> u64 {
        self.computed
    }
}

impl Default for LayoutCache {
    fn default() -> Self {
        Self::new(2)
    }
}

impl LayoutSource for LayoutCache {
    fn layout(
        &mut self,
        members: &[NodeId],
        shape: Shape,
        standing: Option<&Standing>,
    ) -> Arc<Layout> {
        let members = in_order(members);
        let basis = standing.map(|standing| standing.id);
        // Nearly always decided by the length or the first few identities that differ.
        let wanted = |known: &Arc<Layout>| {
            known.shape == shape && known.basis == basis && known.members() == &*members
        };
        let layout = match self.layouts.iter().rposition(wanted) {
            Some(at) => self.layouts.remove(at),
            None => None,
        };
        let layout = layout.unwrap_or_else(|| {
            self.computed += 1;
            Arc::new(match standing {
                Some(standing) => Layout::standing(&members, shape, standing),
                None => Layout::new(&members, shape),
            })
        });
        if self.layouts.len() >= self.capacity {
            self.layouts.pop_front();
        }
        self.layouts.push_back(Arc::clone(&layout));
        layout
    }
}
