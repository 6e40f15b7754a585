//! Overlays that begin with edges that are wanted for a reason, and end k-connected all the same.
//!
//! A computed topology was made for the members of a moment. Some have gone since, others have
//! come. Every node has to draw the same conclusion from that without talking: edges between two
//! that are still there stay; each newcomer hangs on k of the topology's members; and where the
//! losses left the graph too thin, the max-flow check that also patches the hash overlay adds an
//! edge. So a loss moves as few links as it does in the hash overlay, until the next topology takes
//! all of it up (FLOOD-23, MULTI-13).
//!
//! A group that has no topology of its own uses the links that are there for everybody, and adds
//! what it lacks the same way: groups share links first.

use alloc::vec::Vec;

use skep_base::NodeId;

use crate::computed::Topology;
use crate::connectivity::{index, patch};
use crate::graph::Graph;
use crate::hash::{Order, affinity, rank};
use crate::overlay::{COMPLETE_UP_TO, Overlay, complete, in_order};

/// Whether a topology of `made_for` is still the better beginning for `members`, both in order: at
/// least half of these are in it, and there are enough of them that not all link to all.
#[must_use]
pub fn covers(made_for: &[NodeId], members: &[NodeId]) -> bool {
    let known = members.iter().filter(|id| made_for.binary_search(id).is_ok()).count();
    members.len() > COMPLETE_UP_TO && known * 2 >= members.len()
}

/// The overlay of `members` that keeps what it can of `standing`. At least min(`k`, N −
/// 1)-connected whatever that is.
#[must_use]
pub fn standing_overlay(members: &[NodeId], k: usize, standing: &Topology) -> Overlay {
    let members = in_order(members);
    let made_for = standing.members();
    let place = |at: u32| members.binary_search(&made_for[at as usize]).ok().map(index);
    let edges = standing.edges().iter().filter_map(|(a, b)| place(*a).zip(place(*b)));
    let mut edges: Vec<(u32, u32)> = edges.collect();
    let ranks = patch_ranks(&members);
    let is_known = |at: &u32| made_for.binary_search(&members[*at as usize]).is_ok();
    let (known, new): (Vec<u32>, Vec<u32>) = (0..index(members.len())).partition(is_known);
    for from in new {
        let preference = |to: &u32| affinity(ranks[from as usize], ranks[*to as usize]);
        let mut hosts: Vec<(u64, u32)> = known.iter().map(|to| (preference(to), *to)).collect();
        if hosts.len() > k && k > 0 {
            hosts.select_nth_unstable(k - 1);
            hosts.truncate(k);
        }
        edges.extend(hosts.into_iter().map(|(_, to)| (from, to)));
    }
    mended(members.into_owned(), k, &edges, &ranks)
}

/// The overlay of `members`, a part of those of `base`, that uses the links of `base` first. At
/// least min(`k`, N − 1)-connected.
#[must_use]
pub fn shared_overlay(members: &[NodeId], k: usize, base: &Overlay) -> Overlay {
    let members = in_order(members);
    let mut edges = Vec::new();
    for (from, id) in (0..).zip(members.iter()) {
        let shared = base.neighbours(id).iter().filter_map(|to| members.binary_search(to).ok());
        edges.extend(shared.map(index).filter(|to| from < *to).map(|to| (from, to)));
    }
    let ranks = patch_ranks(&members);
    mended(members.into_owned(), k, &edges, &ranks)
}

fn patch_ranks(members: &[NodeId]) -> Vec<u64> {
    members.iter().map(|id| rank(Order::Patch, id)).collect()
}

fn mended(members: Vec<NodeId>, k: usize, edges: &[(u32, u32)], ranks: &[u64]) -> Overlay {
    if members.len() <= COMPLETE_UP_TO.max(k.saturating_add(1)) {
        let graph = complete(members.len());
        return Overlay::from_graph(members, k, &graph, 0);
    }
    let mut graph = Graph::new(members.len(), k + 1);
    for (a, b) in edges {
        graph.join(*a, *b);
    }
    let patches = patch(&mut graph, k, |from, candidates| {
        let from = ranks[from as usize];
        let preference = |to: &u32| (affinity(from, ranks[*to as usize]), *to);
        candidates.iter().copied().min_by_key(preference)
    });
    graph.sort();
    Overlay::from_graph(members, k, &graph, patches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectivity::is_connected;
    use crate::hash_overlay;

    fn node(n: u32) -> NodeId {
        let digest = skep_base::Digest::of_parts(&[&n.to_le_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&digest.0[..16]);
        NodeId::from_bytes(id)
    }

    fn flock(range: core::ops::Range<u32>) -> Vec<NodeId> {
        let mut members: Vec<NodeId> = range.map(node).collect();
        members.sort_unstable();
        members
    }

    /// A ring with chords, as a stand-in for what was computed.
    fn computed(members: &[NodeId]) -> Topology {
        let n = index(members.len());
        let edges: Vec<_> = (0..n).flat_map(|a| [(a, (a + 1) % n), (a, (a + 7) % n)]).collect();
        Topology::new(members.to_vec(), 3, &edges)
    }

    fn holds(overlay: &Overlay, k: usize) -> bool {
        let members = overlay.members();
        let place = |id| index(members.binary_search(&id).unwrap());
        let edges = overlay.edges().map(|(a, b)| (place(a), place(b)));
        is_connected(members.len(), edges, k)
    }

    #[test]
    fn the_members_it_was_made_for_get_just_that() {
        let members = flock(0..40);
        let topology = computed(&members);
        let overlay = standing_overlay(&members, 3, &topology);
        assert!(overlay.edges().count() == topology.edges().len() && overlay.patches() == 0);
    }

    #[test]
    fn losses_and_newcomers_leave_it_connected_and_move_few_links() {
        let before = flock(0..60);
        let topology = computed(&before);
        for (lost, come) in [(1, 0), (0, 1), (5, 5), (20, 0), (0, 30)] {
            let after = flock(lost..60 + come);
            assert!(covers(&before, &after));
            let overlay = standing_overlay(&after, 3, &topology);
            assert!(holds(&overlay, 3), "{lost} lost, {come} come");
            let kept = |(a, b): &(u32, u32)| {
                let (a, b) = (&before[*a as usize], &before[*b as usize]);
                overlay.joins(a, b)
            };
            let gone = topology.edges().len() - topology.edges().iter().filter(|e| kept(e)).count();
            assert!(gone <= 4 * lost as usize, "{gone} edges went with {lost} nodes");
            for id in after.iter().filter(|id| before.binary_search(id).is_err()) {
                assert!(overlay.neighbours(id).len() >= 3, "a newcomer hangs on too few");
            }
        }
    }

    #[test]
    fn too_few_that_it_knows_are_not_covered() {
        let before = flock(0..10);
        assert!(!covers(&before, &flock(6..18)));
        assert!(covers(&before, &flock(4..16)));
        assert!(!covers(&before, &flock(0..4)), "four are all linked anyway");
    }

    #[test]
    fn a_group_uses_the_links_of_all_first() {
        let all = flock(0..80);
        let base = hash_overlay(&all, 4);
        let group: Vec<NodeId> = all.iter().copied().step_by(2).collect();
        let overlay = shared_overlay(&group, 3, &base);
        assert!(holds(&overlay, 3));
        for (a, b) in base.edges() {
            let both = group.binary_search(&a).is_ok() && group.binary_search(&b).is_ok();
            assert!(!both || overlay.joins(&a, &b), "a link that is there is not used");
        }
        let own = overlay.edges().filter(|(a, b)| !base.joins(a, b)).count();
        assert_eq!(own, overlay.patches());
        assert!(own < 2 * group.len());
    }
}
