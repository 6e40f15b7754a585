//! Computed topologies: that they come into force and stay there, whoever dies at whatever step.

mod worth;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skep_base::{GroupName, NodeId, Time};
use skep_node::Event;
use skep_topology::adoption::{Event as Adoption, Plan};
use skep_topology::computed::Topology;
use skep_topology::{connectivity::is_connected, hash_overlay};

use worth::is_worth_replacing;

use super::{Played, Scenario, flock, patience, publish_at};
use crate::host::HostIx;
use crate::net::Latency;
use crate::report::{Checker, Failure};
use crate::world::{Config, World};

pub(super) const TOPOLOGY: Scenario = Scenario {
    name: "topology",
    about: "a flock over nineteen regions measures and computes its overlay; nodes die and come",
    nodes: 60,
    least: LEAST_NODES,
    configure: regions,
    play: topology,
};

pub(super) const MASTER: Scenario = Scenario {
    name: "topology-master-killed",
    about: "the topology master dies at some step of a switch-over, and a member with it",
    nodes: 16,
    least: 10,
    configure: regions,
    play: master_killed,
};

pub(super) const NOISE: Scenario = Scenario {
    name: "topology-noise",
    about: "round trips vary by fifteen percent while topologies are computed: no link moves",
    nodes: 40,
    least: 8,
    configure: regions,
    play: noise,
};

pub(super) const DETOUR: Scenario = Scenario {
    name: "topology-detour",
    about: "a link of an overlay that has settled takes twice as long: others take its place",
    nodes: 40,
    least: LEAST_NODES,
    configure: regions,
    play: detour,
};

/// With fewer, a region of the nineteen has one node or two: nearly every edge must leave its
/// region, and geography itself forbids half the cost of the hash overlay.
const LEAST_NODES: usize = 40;
/// Disjoint paths that are asked for.
const K: usize = 3;
/// Calm, a computation, and a few heartbeats until old links are closed.
const SWITCHED_WITHIN: Duration = Duration::from_secs(180);

/// The kernel forgets a least round trip after some minutes, a window after eight looks at that; a
/// minute for the record, one for the computation.
const NOTICED_WITHIN: Duration = Duration::from_secs(600);
/// Shorter than anybody needs to make a link into another region.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How much worse a link becomes, in times its round trip.
const WORSE: u32 = 2;
/// What is nearer may take twice as long, and no process would see it.
const FAR: Duration = Duration::from_millis(8);

pub(super) fn regions(config: &mut Config) {
    config.latency = Latency::Regions;
    let plan = Plan { k: K, master: None, update_period: Duration::from_secs(60) };
    config.node.adoption.plans.insert(GroupName::all(), plan);
}

fn topology(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    // Long enough for coordinates to come to rest, and for the topology to follow them.
    world.run_for(Duration::from_secs(900))?;
    let took = until_in_force(world, &hosts, &GroupName::all())?;
    world.measure("in force everywhere, after a quarter of an hour", took);
    world.until_at_rest(patience(n))?;
    let (computed, hash) = costs(world, &hosts);
    world.measure("mean round trip of an edge", computed);
    world.measure("mean round trip of an edge of the hash overlay", hash);
    if computed >= hash / 2 {
        return failed(world, "the computed overlay is hardly cheaper than the hash");
    }
    publish_at(world, &hosts[..3])?;
    // Unplanned and planned loss, and somebody new.
    let gone = &hosts[1..3];
    world.kill(gone[0]);
    world.stop(gone[1], skep_node::Farewell::Leaving);
    let left: Vec<HostIx> = hosts.iter().copied().filter(|host| !gone.contains(host)).collect();
    let took = until_in_force(world, &left, &GroupName::all())?;
    world.measure("in force without two that are gone", took);
    let new = world.add_host("newcomer", 0)?;
    world.set_seeds(new, &left[..1]);
    world.start(new);
    let all: Vec<HostIx> = left.into_iter().chain([new]).collect();
    let took = until_in_force(world, &all, &GroupName::all())?;
    world.measure("in force with a newcomer", took);
    publish_at(world, &all[..3])?;
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn master_killed(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    until_in_force(world, &hosts, &GroupName::all())?;
    let master = master(world, &hosts, &GroupName::all());
    let others: Vec<HostIx> = hosts.iter().copied().filter(|host| *host != master).collect();
    let victim = world.rng.pick(&others).copied().unwrap_or(others[0]);
    // One dies, so that a switch-over follows: calm, a computation, a decree, its flooding, new
    // links, the closing of old ones. Somewhere in between the master dies as well.
    world.kill(victim);
    let step = Duration::from_millis(world.rng.within(0..25_000));
    publish_at(world, &others[..1])?;
    watch(world, &hosts, step)?;
    world.kill(master);
    let left: Vec<HostIx> = others.iter().copied().filter(|host| *host != victim).collect();
    publish_at(world, &left)?;
    watch(world, &left, Duration::from_secs(40))?;
    let took = until_in_force(world, &left, &GroupName::all())?;
    world.measure("another master's topology in force", took);
    world.until_at_rest(patience(n))?;
    // What was master before comes back with its old decree on its disk, and is not followed.
    world.start(master);
    world.start(victim);
    until_in_force(world, &hosts, &GroupName::all())?;
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn noise(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    world.run_for(Duration::from_secs(1800))?;
    until_in_force(world, &hosts, &GroupName::all())?;
    world.until_at_rest(patience(n))?;
    let before = links(world);
    let joined = edges(world, &hosts);
    world.keep_events = true;
    world.heard.clear();
    world.run_for(Duration::from_secs(1200))?;
    world.keep_events = false;
    let adopted = |(_, _, event): &&(Time, HostIx, Event)| {
        matches!(event, Event::Topology(Adoption::Adopted { .. }))
    };
    let adoptions = world.heard.iter().filter(adopted).count();
    if edges(world, &hosts) != joined {
        return failed(world, "noise moved edges of the overlay");
    }
    // Links for errands come and go, and are no part of any overlay: counted at rest, as before.
    world.until_at_rest(patience(n))?;
    let moved = links(world).symmetric_difference(&before).count();
    world.measure(
        format!("twenty computations: {adoptions} adoptions, {moved} links moved"),
        Duration::ZERO,
    );
    if moved > 0 || adoptions > 0 {
        let what = format!("noise moved {moved} links, by {adoptions} adoptions");
        return failed(world, &what);
    }
    Ok(())
}

/// What hysteresis must not keep: a link that has become worse for real, though it is a small part
/// of the whole.
fn detour(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    world.run_for(Duration::from_secs(1800))?;
    until_in_force(world, &hosts, &GroupName::all())?;
    world.until_at_rest(patience(n))?;
    let before = edges(world, &hosts);
    let far = |(a, b): &&(HostIx, HostIx)| world.round_trip(*a, *b) >= FAR;
    let mut candidates: Vec<(HostIx, HostIx)> = before.iter().filter(far).copied().collect();
    if candidates.is_empty() {
        return failed(world, "no edge of the overlay leaves its region");
    }
    world.rng.shuffle(&mut candidates);
    let Some(standing) = in_force(world, &hosts) else {
        return failed(world, "no topology is in force");
    };
    let worth = |ends: &&(HostIx, HostIx)| is_worth_replacing(world, &standing, **ends, WORSE);
    let Some((a, b)) = candidates.iter().find(worth).copied() else {
        return failed(world, "no link of the overlay could be replaced, were it slower");
    };
    world.detour(a, b, WORSE);
    let names = [a, b].map(|host| world.host(host).name.clone());
    let changed = world.now();
    let all = hosts.clone();
    world.until(NOTICED_WITHIN, "an overlay without the link that got worse", move |world| {
        let stays = edges(world, &all).contains(&(a, b));
        if stays { Err(format!("{} and {} are joined", names[0], names[1])) } else { Ok(()) }
    })?;
    world.measure("the link is replaced", world.now().since(changed));
    until_in_force(world, &hosts, &GroupName::all())?;
    world.until_at_rest(patience(n))?;
    let after = edges(world, &hosts);
    let moved = after.symmetric_difference(&before).count();
    world.measure(format!("of {} edges {moved} were moved", before.len()), Duration::ZERO);
    // Of each edge that is replaced two are counted.
    if moved > before.len() {
        return failed(world, &format!("one link got worse, and {moved} edges moved"));
    }
    Ok(())
}

pub(super) fn failed(world: &World, what: &str) -> Played {
    Err(Failure { at: world.now(), checker: Checker::Oracle, what: what.to_owned() }.into())
}

/// Waits until all of `hosts`, and nobody else, are in the topology that each of them has in force,
/// and its overlay is whole.
pub(super) fn until_in_force(
    world: &mut World,
    hosts: &[HostIx],
    group: &GroupName,
) -> Result<Duration, Failure> {
    let group = group.clone();
    let mut members: Vec<NodeId> = hosts.iter().map(|host| world.id(*host)).collect();
    members.sort_unstable();
    let hosts = hosts.to_vec();
    world.until(SWITCHED_WITHIN, "a computed topology in force", move |world| {
        for host in &hosts {
            let name = &world.host(*host).name;
            let view = world.node(*host).and_then(|node| node.adoption().view(&group));
            let view = view.ok_or_else(|| format!("{name} does not run"))?;
            let topology = view.topology.ok_or_else(|| format!("{name} adopted nothing"))?;
            if topology.members() != members {
                return Err(format!("{name} adopted one for others: {:?}", view.stamp));
            }
            if view.switching_since.is_some() {
                return Err(format!("{name} is still switching"));
            }
        }
        Ok(())
    })
}

/// Who computes, as the first host sees it.
pub(super) fn master(world: &World, hosts: &[HostIx], group: &GroupName) -> HostIx {
    let node = hosts.first().and_then(|host| world.node(*host));
    let view = node.and_then(|node| node.adoption().view(group));
    let master = view.and_then(|view| view.master);
    master.and_then(|id| world.by_id.get(&id).copied()).unwrap_or(hosts[0])
}

/// Lets time pass and sees all the while that links hold the living together: make before break.
pub(super) fn watch(world: &mut World, hosts: &[HostIx], span: Duration) -> Result<(), Failure> {
    let end = world.now() + span;
    while world.now() < end {
        world.run_for(LOOK_EVERY.min(end.since(world.now())))?;
        let live: Vec<NodeId> = hosts
            .iter()
            .filter(|host| world.host(**host).is_live())
            .map(|host| world.id(*host))
            .collect();
        if !hold_together(&live, &links(world)) {
            let what = "links no longer hold the living together".to_owned();
            return Err(Failure { at: world.now(), checker: Checker::Oracle, what });
        }
    }
    Ok(())
}

/// Whether from each of `live` a chain of links leads to each other.
fn hold_together(live: &[NodeId], links: &BTreeSet<(NodeId, NodeId)>) -> bool {
    let place = |id: &NodeId| live.iter().position(|other| other == id);
    let edges = links.iter().filter_map(|(a, b)| place(a).zip(place(b)));
    is_connected(live.len(), edges.map(|(a, b)| (index(a), index(b))), 1)
}

pub(super) fn links(world: &World) -> BTreeSet<(NodeId, NodeId)> {
    let ends = world.net.links().map(|(a, b)| (world.id(a), world.id(b)));
    ends.map(|(a, b)| (a.min(b), a.max(b))).collect()
}

/// The topology that the first host has in force.
fn in_force(world: &World, hosts: &[HostIx]) -> Option<Arc<Topology>> {
    let node = hosts.first().and_then(|host| world.node(*host))?;
    node.adoption().view(&GroupName::all())?.topology.cloned()
}

/// The edges of the overlay as the first host sees it.
fn edges(world: &World, hosts: &[HostIx]) -> BTreeSet<(HostIx, HostIx)> {
    let node = hosts.first().and_then(|host| world.node(*host));
    let Some(overlay) = node.and_then(|node| node.overlay(&GroupName::all())) else {
        return BTreeSet::new();
    };
    let host = |id: &NodeId| world.by_id.get(id).copied();
    let ends = overlay.edges().filter_map(|(a, b)| host(&a).zip(host(&b)));
    ends.map(|(a, b)| (a.min(b), a.max(b))).collect()
}

/// The mean round trip over an edge of the overlay in force, and of the hash overlay.
fn costs(world: &World, hosts: &[HostIx]) -> (Duration, Duration) {
    let mut ids: Vec<NodeId> = hosts.iter().map(|host| world.id(*host)).collect();
    ids.sort_unstable();
    let mean = |edges: Vec<(NodeId, NodeId)>| {
        let host = |id: &NodeId| world.by_id.get(id).copied().unwrap_or(hosts[0]);
        let sum: Duration = edges.iter().map(|(a, b)| world.round_trip(host(a), host(b))).sum();
        sum / index(edges.len().max(1))
    };
    let layout = hosts.first().and_then(|host| world.node(*host)).and_then(|node| node.layout());
    let computed = layout.map(|layout| layout.overlay().edges().collect()).unwrap_or_default();
    (mean(computed), mean(hash_overlay(&ids, K).edges().collect()))
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_over_the_dead_hold_nobody_together() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|byte| NodeId::from_bytes([byte; 16]));
        let links = BTreeSet::from([(a, b), (b, c), (c, d)]);
        assert!(hold_together(&[a, b, c, d], &links));
        assert!(hold_together(&[b, c], &links) && hold_together(&[a], &links));
        assert!(!hold_together(&[a, c, d], &links), "b is dead");
    }
}
