//! The overlay's promises: well connected, the same everywhere, and still when one node comes or
//! goes. Connectivity is judged by a second, slow and unrelated implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use petgraph::algo::ford_fulkerson;
use petgraph::graph::DiGraph;
use proptest::prelude::*;
use skep_base::{NodeId, Rng};
use skep_topology::connectivity::is_connected;
use skep_topology::{Layout, LayoutCache, LayoutSource, Overlay, Shape, WatchRing, hash_overlay};

type Edges = BTreeSet<(u32, u32)>;

/// Vertex connectivity of a graph by max flow between all pairs that are not joined.
fn slow_connectivity(n: u32, edges: &Edges) -> usize {
    let joined = |a: u32, b: u32| edges.contains(&(a.min(b), a.max(b)));
    let mut least = n.saturating_sub(1) as usize;
    for a in 0..n {
        for b in (a + 1..n).filter(|b| !joined(a, *b)) {
            least = least.min(disjoint_paths(n, edges, a, b));
        }
    }
    least
}

fn disjoint_paths(n: u32, edges: &Edges, a: u32, b: u32) -> usize {
    let mut graph = DiGraph::<(), u32>::new();
    let entry: Vec<_> = (0..n).map(|_| graph.add_node(())).collect();
    let exit: Vec<_> = (0..n).map(|_| graph.add_node(())).collect();
    for v in 0..n as usize {
        graph.add_edge(entry[v], exit[v], 1);
    }
    for (v, w) in edges {
        graph.add_edge(exit[*v as usize], entry[*w as usize], 1);
        graph.add_edge(exit[*w as usize], entry[*v as usize], 1);
    }
    let (flow, _) = ford_fulkerson(&graph, exit[a as usize], entry[b as usize]);
    flow as usize
}

fn members(seed: u64, n: usize) -> Vec<NodeId> {
    let mut rng = Rng::seeded(seed);
    let mut ids = BTreeSet::new();
    while ids.len() < n {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&rng.bits().to_le_bytes());
        bytes[8..].copy_from_slice(&rng.bits().to_le_bytes());
        ids.insert(NodeId::from_bytes(bytes));
    }
    ids.into_iter().collect()
}

fn numbered_edges(overlay: &Overlay) -> Edges {
    let number: BTreeMap<NodeId, u32> = overlay.members().iter().copied().zip(0..).collect();
    overlay.edges().map(|(a, b)| (number[&a], number[&b])).collect()
}

fn edge_set(overlay: &Overlay) -> BTreeSet<(NodeId, NodeId)> {
    overlay.edges().collect()
}

fn any_graph() -> impl Strategy<Value = (u32, Edges)> {
    (1_u32..14).prop_flat_map(|n| {
        let edge = (0..n, 0..n).prop_map(|(a, b)| (a.min(b), a.max(b)));
        let edges = proptest::collection::btree_set(edge, 0..(n * n / 2 + 1) as usize);
        (Just(n), edges.prop_map(|set| set.into_iter().filter(|(a, b)| a != b).collect()))
    })
}

/// Graphs that are connected well but for a planted bottleneck, which chance would rarely make.
fn two_blobs_over_a_cut() -> impl Strategy<Value = (u32, Edges)> {
    (2_u32..7, 2_u32..7, 0_u32..5, any::<u64>()).prop_map(|(left, right, cut, seed)| {
        let n = left + right + cut;
        let mut names: Vec<u32> = (0..n).collect();
        Rng::seeded(seed).shuffle(&mut names);
        let side = |v: u32| u32::from(v >= left) + u32::from(v >= left + cut);
        let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
        let kept = pairs.filter(|(a, b)| side(*a).abs_diff(side(*b)) < 2);
        let named = kept.map(|(a, b)| (names[a as usize], names[b as usize]));
        (n, named.map(|(a, b)| (a.min(b), a.max(b))).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn evens_algorithm_agrees_with_all_pairs_flow((n, edges) in any_graph(), k in 0_usize..8) {
        let truth = slow_connectivity(n, &edges) >= k.min(n as usize - 1);
        prop_assert_eq!(is_connected(n as usize, edges.iter().copied(), k), truth);
    }

    #[test]
    fn a_planted_cut_is_found((n, edges) in two_blobs_over_a_cut()) {
        let truth = slow_connectivity(n, &edges);
        prop_assert!(is_connected(n as usize, edges.iter().copied(), truth));
        if truth + 1 < n as usize {
            prop_assert!(!is_connected(n as usize, edges.iter().copied(), truth + 1));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn overlays_are_connected_as_asked(seed: u64, n in 1_usize..36, k in 1_usize..7) {
        let overlay = hash_overlay(&members(seed, n), k);
        let connectivity = slow_connectivity(u32::try_from(n).unwrap(), &numbered_edges(&overlay));
        prop_assert!(connectivity >= k.min(n - 1), "{connectivity}");
    }

    #[test]
    fn the_order_in_which_members_are_named_does_not_matter(seed: u64, n in 1_usize..40) {
        let mut ids = members(seed, n);
        let sorted = hash_overlay(&ids, 4);
        Rng::seeded(seed).shuffle(&mut ids);
        ids.extend_from_within(..n / 2);
        prop_assert_eq!(hash_overlay(&ids, 4), sorted);
    }

    /// In a ring a newcomer parts one edge and makes two. All else are patches.
    #[test]
    fn a_newcomer_moves_the_edges_beside_it(
        seed: u64,
        n in 6_usize..80,
        gone: prop::sample::Index,
    ) {
        let all = members(seed, n);
        let mut fewer = all.clone();
        fewer.remove(gone.index(n));
        let (before, after) = (hash_overlay(&fewer, 4), hash_overlay(&all, 4));
        let moved = edge_set(&before).symmetric_difference(&edge_set(&after)).count();
        let bound = 2 * 3 + before.patches() + after.patches();
        prop_assert!(moved <= bound, "{moved} moved, at most {bound} should");
    }

    #[test]
    fn watchers_are_successors_and_no_neighbours(seed: u64, n in 1_usize..40, extra in 0_usize..4) {
        let ids = members(seed, n);
        let shape = Shape { connectivity: 4, extra_watchers: extra };
        let layout = Layout::new(&ids, shape);
        for id in &ids {
            let strangers = n - 1 - layout.neighbours(id).len();
            let watchers = layout.extra_watchers_of(id);
            prop_assert_eq!(watchers.len(), extra.min(strangers));
            prop_assert!(!watchers.contains(id));
            prop_assert!(watchers.iter().all(|w| !layout.overlay().joins(id, w)));
            for watcher in layout.watchers_of(id) {
                prop_assert!(layout.watched_by(&watcher).any(|watched| watched == *id));
            }
            for watched in layout.watched_by(id) {
                prop_assert!(layout.watchers_of(&watched).any(|watcher| watcher == *id));
            }
        }
    }
}

#[test]
fn small_flocks_are_complete() {
    for n in 0..=4 {
        let overlay = hash_overlay(&members(1, n), 2);
        assert_eq!(overlay.edges().count(), n * n.saturating_sub(1) / 2);
    }
}

#[test]
fn patches_are_rare_and_newcomers_move_little() {
    let (mut patches, mut moved, mut most) = (0, 0, 0);
    const ROUNDS: usize = 200;
    for seed in 0..ROUNDS {
        let all = members(seed as u64, 200);
        let mut fewer = all.clone();
        fewer.remove(seed % 200);
        let (before, after) = (hash_overlay(&fewer, 4), hash_overlay(&all, 4));
        let changed = edge_set(&before).symmetric_difference(&edge_set(&after)).count();
        (moved, most) = (moved + changed, most.max(changed));
        patches += after.patches();
    }
    assert!(patches <= 6 * ROUNDS, "{patches} patches in {ROUNDS} overlays");
    assert!(moved <= 8 * ROUNDS, "{moved} edges moved by {ROUNDS} newcomers");
    assert!(most <= 16, "{most} edges moved by one newcomer");
}

#[test]
fn a_ring_serves_nodes_that_are_away() {
    let ids = members(3, 20);
    let (away, present) = ids.split_first().unwrap();
    let with = WatchRing::new(&ids);
    let without = WatchRing::new(present);
    let successors: Vec<_> = with.successors(away).collect();
    assert_eq!(successors, without.successors(away).collect::<Vec<_>>());
    assert_eq!(successors.len(), 19);
    let backwards: Vec<_> = with.predecessors(away).collect();
    assert_eq!(backwards, successors.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn the_cache_remembers_the_last_few() {
    let mut cache = LayoutCache::new(2);
    let (a, b, c) = (members(1, 9), members(2, 9), members(3, 9));
    let first = cache.layout(&a, Shape::default(), None);
    cache.layout(&b, Shape::default(), None);
    assert!(Arc::ptr_eq(&first, &cache.layout(&a, Shape::default(), None)));
    cache.layout(&c, Shape::default(), None);
    assert_eq!(cache.computed(), 3);
    assert!(Arc::ptr_eq(&first, &cache.layout(&a, Shape::default(), None)));
    cache.layout(&b, Shape::default(), None);
    assert_eq!(cache.computed(), 4);
    let wider = Shape { connectivity: 6, ..Shape::default() };
    assert_eq!(cache.layout(&a, wider, None).shape(), wider);
}

#[test]
fn overlays_are_part_of_the_protocol() {
    let digest = |n, k| hash_overlay(&members(42, n), k).digest().abbreviated(16);
    let got = [digest(1, 4), digest(4, 4), digest(5, 3), digest(16, 4), digest(100, 5)];
    let golden = [
        "bd66207cf8b43be9",
        "f477fc7023f4c362",
        "aa15c496dc8332c2",
        "73c95d89b7a7cb03",
        "86dfce7927a1b73c",
    ];
    assert_eq!(got, golden);
}

#[test]
fn ten_thousand_members_are_four_connected_and_a_lost_edge_is_noticed() {
    let overlay = hash_overlay(&members(5, 10_000), 4);
    let mut edges = numbered_edges(&overlay);
    assert!(is_connected(10_000, edges.iter().copied(), 4));
    let thin = overlay.members().iter().position(|id| overlay.neighbours(id).len() == 4);
    let thin = u32::try_from(thin.unwrap()).unwrap();
    let lost = edges.iter().copied().find(|(a, b)| *a == thin || *b == thin).unwrap();
    edges.remove(&lost);
    assert!(!is_connected(10_000, edges, 4));
}
