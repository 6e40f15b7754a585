//! The reference model: what must be true at rest, computed from what was done to the world and
//! from nothing that a node says.
//!
//! Two live processes of one bloc *can meet* when a chain of live processes leads from one to the
//! other, each pair of which can exchange packets in both directions. Those who can meet are a
//! *part*. At rest, in each part:
//!
//! * everybody sees present exactly the part's nodes;
//! * everybody holds the same records;
//! * the links that exist include the overlay's, and these are min(k, N − 1)-connected;
//! * every update that was promised to a publisher of the part, or that anybody of the part has, is
//!   in the log of every member of its group, and was handed to every subscriber.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::ford_fulkerson;
use petgraph::graph::DiGraph;
use skep_base::{GroupName, NodeId};
use skep_flood::UpdateId;
use skep_topology::connectivity::is_connected;
use skep_topology::{Overlay, hash_overlay};

use crate::host::HostIx;
use crate::world::World;

/// Up to this many nodes, connectivity is judged by max-flow between all pairs.
const ALL_PAIRS_UP_TO: usize = 24;

/// Whether everybody sees exactly those present that are. Says who does not.
///
/// # Errors
/// The first disagreement.
pub fn presence(world: &World) -> Result<(), String> {
    parts(world).iter().try_for_each(|part| presence_in(world, part))
}

/// Whether the world is as it must be at rest. Says what is not.
///
/// # Errors
/// The first disagreement.
pub fn rest(world: &World) -> Result<(), String> {
    for part in parts(world) {
        presence_in(world, &part)?;
        records_in(world, &part)?;
        overlay_in(world, &part)?;
        updates_in(world, &part)?;
    }
    Ok(())
}

/// The live hosts, by who can meet whom.
#[must_use]
pub fn parts(world: &World) -> Vec<Vec<HostIx>> {
    let mut left: BTreeSet<HostIx> = world.live().collect();
    let mut parts = Vec::new();
    while let Some(first) = left.pop_first() {
        let mut part = vec![first];
        let mut next = 0;
        while let Some(at) = part.get(next).copied() {
            next += 1;
            let near: Vec<HostIx> =
                left.iter().filter(|host| can_link(world, at, **host)).copied().collect();
            for host in near {
                left.remove(&host);
                part.push(host);
            }
        }
        part.sort_unstable();
        parts.push(part);
    }
    parts
}

/// Whether two live hosts are in one part.
#[must_use]
pub fn can_meet(world: &World, a: HostIx, b: HostIx) -> bool {
    can_link(world, a, b) || parts(world).iter().any(|part| part.contains(&a) && part.contains(&b))
}

fn can_link(world: &World, a: HostIx, b: HostIx) -> bool {
    let one_bloc = world.host(a).bloc == world.host(b).bloc;
    one_bloc && world.net.passes(a, b) && world.net.passes(b, a)
}

/// The hosts of a part that may speak for their name, and the names.
fn speakers(world: &World, part: &[HostIx]) -> Result<BTreeMap<NodeId, HostIx>, String> {
    let mut speakers = BTreeMap::new();
    let taken =
        |host: HostIx| world.host(host).process.as_ref().is_some_and(|process| process.name_taken);
    for host in part.iter().copied().filter(|host| !taken(*host)) {
        if speakers.insert(world.id(host), host).is_some() {
            return Err(format!("two live nodes go by the name {}", world.host(host).name));
        }
    }
    for host in part {
        if !speakers.contains_key(&world.id(*host)) {
            return Err(format!("{} is taken, and nobody has it", world.host(*host).name));
        }
    }
    Ok(speakers)
}

fn presence_in(world: &World, part: &[HostIx]) -> Result<(), String> {
    let speakers = speakers(world, part)?;
    let expected: Vec<NodeId> = speakers.keys().copied().collect();
    for host in speakers.values() {
        let Some(machine) = world.host(*host).machine() else {
            continue;
        };
        let seen = machine.present();
        if seen != expected {
            return Err(disagreement(world, *host, seen, &expected));
        }
    }
    Ok(())
}

fn disagreement(world: &World, host: HostIx, seen: &[NodeId], expected: &[NodeId]) -> String {
    let named = |id: &NodeId| world.by_id.get(id).map_or(u32::MAX, |host| host.0);
    let missing = expected.iter().filter(|id| !seen.contains(id));
    let extra = seen.iter().filter(|id| !expected.contains(id));
    let missing: Vec<_> = missing.take(5).map(named).collect();
    let extra: Vec<_> = extra.take(5).map(named).collect();
    let (seen, expected) = (seen.len(), expected.len());
    let name = &world.host(host).name;
    format!(
        "{name} sees {seen} of {expected} present; misses {missing:?}, and sees {extra:?} too many"
    )
}

fn records_in(world: &World, part: &[HostIx]) -> Result<(), String> {
    let mut first = None;
    for host in speakers(world, part)?.values() {
        let Some(node) = world.node(*host) else {
            continue;
        };
        let digest = node.records().digest();
        let (other, wanted) = *first.get_or_insert((*host, digest));
        if digest != wanted {
            let (a, b) = (&world.host(other).name, &world.host(*host).name);
            let (a_has, b_has) = (wanted, digest);
            return Err(format!("{a} and {b} hold different records: {a_has:?} and {b_has:?}"));
        }
    }
    Ok(())
}

fn overlay_in(world: &World, part: &[HostIx]) -> Result<(), String> {
    let speakers = speakers(world, part)?;
    let ids: Vec<NodeId> = speakers.keys().copied().collect();
    let overlay = common_overlay(world, &speakers, &ids)?;
    let k = overlay.connectivity();
    let linked: BTreeSet<(NodeId, NodeId)> = world
        .net
        .links()
        .map(|(a, b)| (world.id(a), world.id(b)))
        .map(|(a, b)| (a.min(b), a.max(b)))
        .collect();
    let number: BTreeMap<NodeId, u32> = ids.iter().copied().zip(0..).collect();
    let wanted: BTreeSet<(NodeId, NodeId)> = overlay.edges().collect();
    // Pairs that cannot exchange packets cannot link; what is left must hold the part together.
    let cut = |(a, b): &&(NodeId, NodeId)| !can_link(world, speakers[a], speakers[b]);
    let k = if wanted.iter().any(|edge| cut(&edge)) { 1 } else { k };
    let edges: BTreeSet<(u32, u32)> = if k == 1 {
        let inside = |(a, b): &&(NodeId, NodeId)| number.contains_key(a) && number.contains_key(b);
        linked.iter().filter(inside).map(|(a, b)| (number[a], number[b])).collect()
    } else {
        wanted.intersection(&linked).map(|(a, b)| (number[a], number[b])).collect()
    };
    if connected(ids.len(), &edges, k) {
        return Ok(());
    }
    let missing = wanted.difference(&linked).next();
    let between = missing.map(|(a, b)| (world.by_id.get(a), world.by_id.get(b)));
    let n = ids.len();
    Err(format!("the {n} linked nodes are not {k}-connected; one missing edge: {between:?}"))
}

/// The overlay that all nodes of a part have to agree on: that of the hash, or the one that a
/// topology in force leads to.
fn common_overlay(
    world: &World,
    speakers: &BTreeMap<NodeId, HostIx>,
    ids: &[NodeId],
) -> Result<Overlay, String> {
    let layouts = speakers.values().filter_map(|host| Some((host, world.node(*host)?.layout()?)));
    let mut common: Option<(&HostIx, &Overlay)> = None;
    for (host, layout) in layouts {
        let (other, overlay) = *common.get_or_insert((host, layout.overlay()));
        if overlay.digest() != layout.overlay().digest() {
            let (a, b) = (&world.host(*other).name, &world.host(*host).name);
            return Err(format!("{a} and {b} want different overlays"));
        }
        if layout.basis().is_none() {
            let hash = hash_overlay(ids, world.shape().connectivity);
            if hash.digest() != layout.overlay().digest() {
                return Err(format!("{} has another hash overlay", world.host(*host).name));
            }
        }
    }
    let overlay = common.map(|(_, overlay)| overlay.clone());
    Ok(overlay.unwrap_or_else(|| hash_overlay(ids, world.shape().connectivity)))
}

fn connected(n: usize, edges: &BTreeSet<(u32, u32)>, k: usize) -> bool {
    if n > ALL_PAIRS_UP_TO {
        return is_connected(n, edges.iter().copied(), k);
    }
    let k = k.min(n.saturating_sub(1));
    let count = u32::try_from(n).unwrap_or(0);
    let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    let mut apart = pairs.filter(|pair| !edges.contains(pair));
    apart.all(|(a, b)| disjoint_paths(count, edges, a, b) as usize >= k)
}

fn disjoint_paths(n: u32, edges: &BTreeSet<(u32, u32)>, a: u32, b: u32) -> u32 {
    let mut graph = DiGraph::<(), u32>::new();
    let enter: Vec<_> = (0..n).map(|_| graph.add_node(())).collect();
    let leave: Vec<_> = (0..n).map(|_| graph.add_node(())).collect();
    for (enter, leave) in enter.iter().zip(&leave) {
        graph.add_edge(*enter, *leave, 1);
    }
    for (v, w) in edges {
        graph.add_edge(leave[*v as usize], enter[*w as usize], 1);
        graph.add_edge(leave[*w as usize], enter[*v as usize], 1);
    }
    ford_fulkerson(&graph, leave[a as usize], enter[b as usize]).0
}

fn updates_in(world: &World, part: &[HostIx]) -> Result<(), String> {
    let speakers = speakers(world, part)?;
    let anybody: BTreeSet<UpdateId> =
        speakers.values().flat_map(|host| world.host(*host).disk.log_ids()).collect();
    for (id, promise) in &world.ledger.promised {
        if !anybody.contains(id) && !speakers.contains_key(&id.origin) {
            continue;
        }
        for host in speakers.values() {
            let state = world.host(*host);
            let all = promise.group == GroupName::all();
            if !all && !state.groups.contains(&promise.group) {
                continue;
            }
            let name = &state.name;
            let since = promise.at;
            if !state.disk.appended.contains_key(id) {
                return Err(format!("{name} lacks the update {id}, acknowledged at {since}"));
            }
            let handed = world.ledger.handed.get(host);
            if all && !handed.is_some_and(|handed| handed.contains(id)) {
                return Err(format!("{name} has not handed {id} over, acknowledged at {since}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connectivity_is_judged_by_disjoint_paths() {
        let ring: BTreeSet<(u32, u32)> = (0..6).map(|v| (v, (v + 1) % 6)).map(sorted).collect();
        assert!(connected(6, &ring, 2));
        assert!(!connected(6, &ring, 3));
        let mut broken = ring;
        broken.remove(&(2, 3));
        assert!(connected(6, &broken, 1));
        assert!(!connected(6, &broken, 2));
        assert!(connected(1, &BTreeSet::new(), 4));
    }

    fn sorted((a, b): (u32, u32)) -> (u32, u32) {
        (a.min(b), a.max(b))
    }
}
