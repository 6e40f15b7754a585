//! The network falls apart, and together again.

use std::time::Duration;

use super::{Played, Scenario, flock, patience, publish_at, usual};
use crate::host::HostIx;
use crate::world::World;

pub(super) const HALVES: Scenario = Scenario {
    name: "halves",
    about: "two halves cannot reach one another for a minute, live on, and are one flock again",
    nodes: 16,
    least: 2,
    configure: usual,
    play: halves,
};

pub(super) const ONE_WAY: Scenario = Scenario {
    name: "one-way",
    about: "nothing passes from one half to the other, everything the other way, for a minute",
    nodes: 16,
    least: 2,
    configure: usual,
    play: one_way,
};

pub(super) const BRIDGE: Scenario = Scenario {
    name: "bridge",
    about: "two halves reach one another only over one node that reaches both",
    nodes: 13,
    least: 3,
    configure: usual,
    play: bridge,
};

pub(super) const PAIRS: Scenario = Scenario {
    name: "pairs",
    about: "a few pairs of nodes cannot reach one another, and all see all nonetheless",
    nodes: 12,
    least: 6,
    configure: usual,
    play: pairs,
};

/// One flock again after a minute's split: what the benchmark asks of real agents.
const MERGE_LIMIT: Duration = Duration::from_secs(10);
const SPLIT: Duration = Duration::from_secs(60);

fn halves(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let (left, right) = hosts.split_at(n / 2);
    world.split(&[left.to_vec(), right.to_vec()]);
    let took = world.until_met(patience(n))?;
    world.measure("two flocks", took);
    publish_at(world, &hosts)?;
    world.run_for(SPLIT)?;
    world.until_at_rest(patience(n))?;
    heal(world, n)
}

fn one_way(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let (left, right) = hosts.split_at(n / 2);
    world.cut_one_way(left, right);
    let took = world.until_met(Duration::from_secs(60))?;
    world.measure("two flocks", took);
    publish_at(world, &hosts)?;
    world.run_for(SPLIT)?;
    world.until_at_rest(patience(n))?;
    heal(world, n)
}

fn bridge(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let (_, ends) = hosts.split_at(1);
    let (left, right) = ends.split_at(ends.len() / 2);
    world.split(&[left.to_vec(), right.to_vec()]);
    // The bridge is in no part: it sees both. Everybody stays present, over it.
    world.run_for(Duration::from_secs(20))?;
    world.until_met(patience(n))?;
    publish_at(world, &hosts)?;
    world.run_for(SPLIT)?;
    world.until_at_rest(patience(n))?;
    heal(world, n)
}

fn pairs(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    for pair in hosts.chunks_exact(2).take(n / 3) {
        world.cut_pair(pair[0], pair[1]);
    }
    world.run_for(Duration::from_secs(40))?;
    world.until_met(patience(n))?;
    publish_at(world, &hosts)?;
    world.until_at_rest(patience(n))?;
    heal(world, n)
}

fn heal(world: &mut World, n: usize) -> Played {
    world.heal();
    let took = world.until_met(MERGE_LIMIT)?;
    world.measure("one flock again", took);
    world.until_at_rest(patience(n))?;
    let hosts: Vec<HostIx> = world.hosts().collect();
    publish_at(world, &hosts)?;
    world.until_at_rest(patience(n))?;
    Ok(())
}
