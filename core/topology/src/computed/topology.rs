//! The answer: who links to whom.

use alloc::vec::Vec;

use skep_base::{Digest, NodeId};

use crate::connectivity::index;
use crate::{Overlay, member_digest};

/// Members and the edges between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    k: usize,
    members: Vec<NodeId>,
    /// Pairs of indices, the lesser first, in order and none twice.
    edges: Vec<(u32, u32)>,
    /// `targets[starts[i]..starts[i + 1]]` are the neighbours of `members[i]`, in order.
    starts: Vec<u32>,
    targets: Vec<NodeId>,
}

impl Topology {
    /// A topology of connectivity `k` over `members`, which must be in order, with `edges` between
    /// indices of theirs. Loops, repeated edges and edges that lead out of the list are left out;
    /// whether it *is* k-connected says [`judge`](super::judge()).
    #[must_use]
    pub fn new(members: Vec<NodeId>, k: usize, edges: &[(u32, u32)]) -> Self {
        let n = index(members.len());
        let inside = edges.iter().filter(|(a, b)| a != b && *a.max(b) < n);
        let mut edges: Vec<(u32, u32)> = inside.map(|(a, b)| (*a.min(b), *a.max(b))).collect();
        edges.sort_unstable();
        edges.dedup();
        let both = edges.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        let mut halves: Vec<(u32, u32)> = both.collect();
        halves.sort_unstable();
        let starts = (0..=n).map(|v| index(halves.partition_point(|(from, _)| *from < v)));
        let starts = starts.collect();
        let targets = halves.iter().map(|(_, to)| members[*to as usize]).collect();
        Self { k, members, edges, starts, targets }
    }

    /// The edges of an overlay that is in force, as a topology.
    #[must_use]
    pub fn of(overlay: &Overlay) -> Self {
        let members = overlay.members();
        let place = |id: &NodeId| members.binary_search(id).ok().map(index);
        let edges = overlay.edges().filter_map(|(a, b)| place(&a).zip(place(&b)));
        let edges: Vec<(u32, u32)> = edges.collect();
        Self::new(members.to_vec(), overlay.connectivity(), &edges)
    }

    /// The members, in order.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// The connectivity it was made for.
    #[must_use]
    pub const fn connectivity(&self) -> usize {
        self.k
    }

    /// Every edge once, as indices of members, the lesser first, in order.
    #[must_use]
    pub fn edges(&self) -> &[(u32, u32)] {
        &self.edges
    }

    /// Whom `id` links to, in order; none when it is no member.
    #[must_use]
    pub fn neighbours(&self, id: &NodeId) -> &[NodeId] {
        match self.members.binary_search(id) {
            Ok(at) => &self.targets[self.starts[at] as usize..self.starts[at + 1] as usize],
            Err(_) => &[],
        }
    }

    /// Whether `a` and `b` link to one another.
    #[must_use]
    pub fn joins(&self, a: &NodeId, b: &NodeId) -> bool {
        self.neighbours(a).binary_search(b).is_ok()
    }

    /// The digest of the list of members: equal to that of a hash overlay of the same members.
    #[must_use]
    pub fn member_digest(&self) -> Digest {
        member_digest(&self.members)
    }

    /// How many edges are in one of the two and not in the other, by identities.
    #[must_use]
    pub fn edges_moved(&self, other: &Self) -> usize {
        let missing = |of: &Self, from: &Self| {
            let gone = |(a, b): &&(u32, u32)| {
                let (a, b) = (of.members[*a as usize], of.members[*b as usize]);
                !from.joins(&a, &b)
            };
            of.edges.iter().filter(gone).count()
        };
        missing(self, other) + missing(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 16])
    }

    #[test]
    fn edges_are_put_in_order_and_nonsense_is_left_out() {
        let topology =
            Topology::new((0..4).map(id).collect(), 1, &[(2, 1), (1, 2), (3, 3), (0, 9), (0, 1)]);
        assert_eq!(topology.edges(), [(0, 1), (1, 2)]);
        assert_eq!(topology.neighbours(&id(1)), [id(0), id(2)]);
        assert_eq!(topology.neighbours(&id(3)), []);
        assert_eq!(topology.neighbours(&id(9)), []);
    }

    #[test]
    fn moved_edges_are_counted_by_identity() {
        let before = Topology::new((0..4).map(id).collect(), 1, &[(0, 1), (1, 2), (2, 3)]);
        let after = Topology::new((1..5).map(id).collect(), 1, &[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(before.edges_moved(&before), 0);
        assert_eq!(before.edges_moved(&after), 2);
    }
}
