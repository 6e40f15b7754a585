//! A switch-over from one computed topology to the next, its master dead at each step of it; and
//! the topology of a group that not everybody is in.

use std::collections::BTreeSet;
use std::time::Duration;

use skep_base::{GroupName, NodeId};
use skep_topology::adoption::{Basis, Plan, View};
use skep_topology::computed::decree::Stamp;

use super::topology::{failed, links, master, regions, until_in_force, watch};
use super::{Played, Scenario, flock, patience, publish_at};
use crate::host::HostIx;
use crate::report::{Checker, Failure};
use crate::world::{Config, World};

pub(super) const SWITCH: Scenario = Scenario {
    name: "topology-switch-killed",
    about: "the topology master dies at every step of a switch-over, one step after the other",
    nodes: 14,
    least: 10,
    configure: regions,
    play: every_step,
};

pub(super) const GROUP: Scenario = Scenario {
    name: "topology-of-a-group",
    about: "a group of some nodes has a master and a topology of its own, and updates go over it",
    nodes: 16,
    least: 12,
    configure: regions_and_web,
    play: own_topology,
};

/// A step of a switch-over, as somebody sees it who sees all nodes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The master computes.
    Computing,
    /// The decree is on the master's disk, and nowhere else.
    Unsent,
    /// Some have it, others do not.
    SentToSome,
    /// All have it, and edges of the new overlay are no links yet.
    Linking,
    /// The new overlay is whole for some, and the first old link is gone; others keep theirs.
    Dropping,
}

/// All of them.
const STEPS: [Step; 5] =
    [Step::Computing, Step::Unsent, Step::SentToSome, Step::Linking, Step::Dropping];
/// A death is noticed, members keep still, a topology is computed, links are made and let go.
const REACHED_WITHIN: Duration = Duration::from_secs(90);
/// Old links need not go at all, where the new overlay has all of them.
const DROPPED_WITHIN: Duration = Duration::from_secs(20);
/// How long it is looked on after the master died: longer than another one takes to decree.
const LOOKED_ON: Duration = Duration::from_secs(40);

fn regions_and_web(config: &mut Config) {
    regions(config);
    let plan = Plan { k: 2, master: None, update_period: Duration::from_secs(60) };
    config.node.adoption.plans.insert(web(), plan);
}

fn web() -> GroupName {
    GroupName::new("web").unwrap_or_else(|_| GroupName::all())
}

fn every_step(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let mut steps = STEPS;
    world.rng.shuffle(&mut steps);
    for step in steps {
        die_at(world, &hosts, step)?;
        until_in_force(world, &hosts, &GroupName::all())?;
        world.until_at_rest(patience(n))?;
    }
    Ok(())
}

/// Somebody dies, so that a switch-over follows; the master dies at `step` of it; another finishes
/// what it began; both come back.
fn die_at(world: &mut World, hosts: &[HostIx], step: Step) -> Played {
    until_in_force(world, hosts, &GroupName::all())?;
    let master = master(world, hosts, &GroupName::all());
    let others: Vec<HostIx> = hosts.iter().copied().filter(|host| *host != master).collect();
    let victim = world.rng.pick(&others).copied().unwrap_or(others[0]);
    let left: Vec<HostIx> = others.iter().copied().filter(|host| *host != victim).collect();
    let before = stamp(world, master);
    world.kill(victim);
    publish_at(world, &left[..1])?;
    let reached = reach(world, master, &left, before, step)?;
    world.measure(format!("{step:?}: {reached}"), Duration::ZERO);
    world.kill(master);
    world.heal();
    publish_at(world, &left)?;
    watch(world, &left, LOOKED_ON)?;
    let took = until_in_force(world, &left, &GroupName::all())?;
    world.measure("another master's topology in force", LOOKED_ON + took);
    // The one comes back with an old decree on its disk, or with one that nobody else ever saw.
    world.start(master);
    world.start(victim);
    Ok(())
}

/// Lets things happen, one after the other, until the switch-over is at `step`.
fn reach(
    world: &mut World,
    master: HostIx,
    left: &[HostIx],
    before: Option<Stamp>,
    step: Step,
) -> Result<&'static str, Failure> {
    let newer = move |world: &World, host: HostIx| stamp(world, host) > before;
    let computing =
        move |world: &World| view(world, master).is_some_and(|view| view.computing_since.is_some());
    world.until_event(REACHED_WITHIN, "a computation", computing)?;
    if step == Step::Computing {
        return Ok("as it computes");
    }
    if step == Step::Unsent {
        world.split(&[vec![master], left.to_vec()]);
    }
    world.until_event(REACHED_WITHIN, "a decree", move |world| newer(world, master))?;
    let have = |world: &World| left.iter().filter(|host| newer(world, **host)).count();
    if step == Step::Unsent {
        return some(world, have(world) == 0, "before anybody has the decree");
    }
    if step == Step::SentToSome {
        world.until_event(REACHED_WITHIN, "a decree at somebody", |world| have(world) > 0)?;
        return some(world, have(world) < left.len(), "some have the decree");
    }
    world.until_event(REACHED_WITHIN, "a decree at all", |world| have(world) == left.len())?;
    if step == Step::Linking {
        return Ok("as links are made");
    }
    let old = links_among(world, left);
    let dropping = |world: &World| !old.is_subset(&links_among(world, left));
    let end = world.now() + DROPPED_WITHIN;
    world.until_event(DROPPED_WITHIN, "", |world| dropping(world) || world.now() >= end)?;
    Ok(if dropping(world) { "as old links go" } else { "no old link was to go" })
}

/// A step that went by is a scenario that was not played.
fn some(world: &World, there: bool, step: &'static str) -> Result<&'static str, Failure> {
    if there {
        return Ok(step);
    }
    let what = format!("never there: {step}");
    Err(Failure { at: world.now(), checker: Checker::Oracle, what })
}

fn own_topology(world: &mut World, n: usize) -> Played {
    let hosts = world.add_hosts(n)?;
    for host in &hosts[1..] {
        world.set_seeds(*host, &hosts[..1]);
    }
    let mut shuffled = hosts.clone();
    world.rng.shuffle(&mut shuffled);
    let (members, others) = shuffled.split_at(n * 5 / 8);
    for host in members {
        world.set_groups(*host, &[web()]);
    }
    super::start_within_a_second(world, &hosts)?;
    world.until_at_rest(patience(n))?;
    until_in_force(world, &hosts, &GroupName::all())?;
    until_in_force(world, members, &web())?;
    world.until_at_rest(patience(n))?;
    seen_alike(world, members, others)?;
    publish_to_web(world, members)?;

    let first = master(world, members, &web());
    world.kill(first);
    let left: Vec<HostIx> = members.iter().copied().filter(|host| *host != first).collect();
    publish_to_web(world, &left)?;
    let took = until_in_force(world, &left, &web())?;
    world.measure("the group's next topology in force", took);
    let second = master(world, &left, &web());
    let by = world.node(left[0]).and_then(|node| node.adoption().view(&web())?.by);
    if by != Some(world.id(second)) || second == first {
        return failed(world, "the group's master is gone, and nobody has its office");
    }
    publish_to_web(world, &left)?;
    world.until_at_rest(patience(n))?;
    seen_alike(world, &left, others)?;
    world.start(first);
    until_in_force(world, members, &web())?;
    world.until_at_rest(patience(n))?;
    Ok(())
}

/// Each member, and whoever is no member, gives the same account of the group's overlay, which is a
/// computed one over exactly its members.
fn seen_alike(world: &World, members: &[HostIx], others: &[HostIx]) -> Played {
    let mut ids: Vec<NodeId> = members.iter().map(|host| world.id(*host)).collect();
    ids.sort_unstable();
    let mut first: Option<Vec<(NodeId, NodeId)>> = None;
    for host in members.iter().chain(others) {
        let name = &world.host(*host).name;
        let Some(portrait) = world.node(*host).and_then(|node| node.portrait(&web())) else {
            return failed(world, &format!("{name} knows nothing of the group"));
        };
        let edges: Vec<_> = portrait.overlay.edges().collect();
        if portrait.view.basis != Basis::Computed || portrait.overlay.members() != ids {
            return failed(world, &format!("{name} sees {:?}", portrait.view.basis));
        }
        if portrait.joined != members.contains(host) {
            return failed(world, &format!("{name} does not know whether it is in the group"));
        }
        if first.get_or_insert_with(|| edges.clone()) != &edges {
            return failed(world, &format!("{name} sees another overlay of the group"));
        }
    }
    Ok(())
}

fn publish_to_web(world: &mut World, hosts: &[HostIx]) -> Result<(), Failure> {
    for host in hosts {
        let length = 1 + usize::try_from(world.rng.within(0..600)).unwrap_or(0);
        world.publish(*host, &web(), vec![7; length].into());
        world.run_for(Duration::from_millis(20))?;
    }
    Ok(())
}

fn links_among(world: &World, hosts: &[HostIx]) -> BTreeSet<(NodeId, NodeId)> {
    let ids: BTreeSet<NodeId> = hosts.iter().map(|host| world.id(*host)).collect();
    let all = links(world).into_iter();
    all.filter(|(a, b)| ids.contains(a) && ids.contains(b)).collect()
}

fn view(world: &World, host: HostIx) -> Option<View<'_>> {
    world.node(host).and_then(|node| node.adoption().view(&GroupName::all()))
}

fn stamp(world: &World, host: HostIx) -> Option<Stamp> {
    view(world, host).and_then(|view| view.stamp)
}
