//! The hash overlay.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use skep_base::{Digest, NodeId};

use crate::connectivity::{index, patch};
use crate::graph::Graph;
use crate::hash::{Order, affinity, rank};

/// Up to this many members are all joined to one another.
pub(crate) const COMPLETE_UP_TO: usize = 4;

/// Rings are at least this many, so that a flock of any size is short across.
const MIN_RINGS: usize = 2;

/// Who links to whom: an undirected graph over a list of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    k: usize,
    members: Vec<NodeId>,
    /// `targets[starts[i]..starts[i + 1]]` are the neighbours of `members[i]`, in order.
    starts: Vec<u32>,
    targets: Vec<NodeId>,
    patches: usize,
    digest: Digest,
}

/// The hash overlay of `members` with connectivity min(`k`, N − 1).
///
/// `members` should be in order and without repetition; where it is not it is copied and put right.
/// The result depends on nothing but the set and `k`.
#[must_use]
pub fn hash_overlay(members: &[NodeId], k: usize) -> Overlay {
    let members = in_order(members);
    let mut graph;
    let mut patches = 0;
    if members.len() <= COMPLETE_UP_TO.max(k.saturating_add(1)) {
        graph = complete(members.len());
    } else {
        graph = rings(&members, k.div_ceil(2).max(MIN_RINGS));
        let ranks: Vec<u64> = members.iter().map(|id| rank(Order::Patch, id)).collect();
        patches = patch(&mut graph, k, |from, candidates| {
            let from = ranks[from as usize];
            let preference = |to: &u32| (affinity(from, ranks[*to as usize]), *to);
            candidates.iter().copied().min_by_key(preference)
        });
        graph.sort();
    }
    Overlay::from_graph(members.into_owned(), k, &graph, patches)
}

/// A digest of a list of members, which must be in order: equal digests, equal flocks.
#[must_use]
pub fn member_digest(members: &[NodeId]) -> Digest {
    let mut bytes = Vec::with_capacity(members.len() * NodeId::LEN);
    for id in members {
        bytes.extend_from_slice(id.as_bytes());
    }
    Digest::of_parts(&[b"skep members", &bytes])
}

impl Overlay {
    /// The members, in order.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// The connectivity that was asked for. That of the graph is at least the lesser of this and
    /// N − 1.
    #[must_use]
    pub const fn connectivity(&self) -> usize {
        self.k
    }

    /// The members that `id` links to, in order; none when `id` is not a member.
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

    /// Every edge once, the lesser identity first, in order.
    pub fn edges(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        self.members.iter().enumerate().flat_map(|(at, from)| {
            let range = self.starts[at] as usize..self.starts[at + 1] as usize;
            let later = self.targets[range].iter().filter(move |to| *to > from);
            later.map(move |to| (*from, *to))
        })
    }

    /// How many edges were added because the rings alone were not connected well enough.
    #[must_use]
    pub const fn patches(&self) -> usize {
        self.patches
    }

    /// A digest of members and edges: two builds that compute differently are told apart by it.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn from_graph(
        members: Vec<NodeId>,
        k: usize,
        graph: &Graph,
        patches: usize,
    ) -> Self {
        let mut starts = Vec::with_capacity(members.len() + 1);
        let mut targets = Vec::with_capacity(members.len() * (k + 1));
        let mut edges = Vec::with_capacity(members.len() * (k + 1) * 4);
        starts.push(0);
        for at in 0..members.len() {
            let neighbours = graph.neighbours(index(at));
            targets.extend(neighbours.iter().map(|to| members[*to as usize]));
            starts.push(index(targets.len()));
            for to in neighbours.iter().filter(|to| **to > index(at)) {
                edges.extend_from_slice(&index(at).to_le_bytes());
                edges.extend_from_slice(&to.to_le_bytes());
            }
        }
        let digest =
            Digest::of_parts(&[b"skep overlay", &member_digest(&members).0, edges.as_slice()]);
        Self { k, members, starts, targets, patches, digest }
    }
}

pub(crate) fn in_order(members: &[NodeId]) -> Cow<'_, [NodeId]> {
    if members.windows(2).all(|pair| pair[0] < pair[1]) {
        return Cow::Borrowed(members);
    }
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    Cow::Owned(sorted)
}

pub(crate) fn complete(n: usize) -> Graph {
    let mut graph = Graph::new(n, n);
    for a in 0..index(n) {
        for b in (0..index(n)).filter(|b| *b != a) {
            graph.join(a, b);
        }
    }
    graph.sort();
    graph
}

/// The indices of `members` in the order of their ranks. Equal ranks are told apart by identity.
pub(crate) fn ring(members: &[NodeId], order: Order) -> Vec<(u64, u32)> {
    let place = |(at, id)| (rank(order, id), index(at));
    let mut ring: Vec<(u64, u32)> = members.iter().enumerate().map(place).collect();
    ring.sort_unstable();
    ring
}

fn rings(members: &[NodeId], count: usize) -> Graph {
    let mut graph = Graph::new(members.len(), 2 * count);
    for number in 0..count {
        // A connectivity beyond 510 is no overlay any more; the patches would still make it.
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        let ring = ring(members, Order::Ring(number));
        let next = ring.iter().cycle().skip(1);
        for ((_, from), (_, to)) in ring.iter().zip(next) {
            graph.join(*from, *to);
        }
    }
    graph
}
