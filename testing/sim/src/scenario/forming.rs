//! A flock comes together.

use std::time::Duration;

use super::{Played, Scenario, flock, hosts, patience, start_within_a_second, usual};
use crate::disk::DiskModel;
use crate::net::Latency;
use crate::world::{Config, World};

pub(super) const FORM: Scenario = Scenario {
    name: "form",
    about: "N nodes that know one address all start within a second and become one flock",
    nodes: 16,
    least: 1,
    configure: usual,
    play: form,
};

pub(super) const CROWD: Scenario = Scenario {
    name: "crowd",
    about: "N nodes that know one address all start at once, on a network of 0.1 ms",
    nodes: 100,
    least: 2,
    configure: near,
    play: crowd,
};

pub(super) const FORM_REGIONS: Scenario = Scenario {
    name: "form-regions",
    about: "the same over nineteen regions of the world",
    nodes: 40,
    least: 1,
    configure: regions,
    play: form,
};

pub(super) const ONE_BY_ONE: Scenario = Scenario {
    name: "one-by-one",
    about: "nodes join a flock that is there, one after the other, each through the one before it",
    nodes: 12,
    least: 1,
    configure: usual,
    play: one_by_one,
};

pub(super) const SLOW_DISKS: Scenario = Scenario {
    name: "slow-disks",
    about: "a flock forms on disks that take a second for a write, and is restarted",
    nodes: 16,
    least: 1,
    configure: slow_disks,
    play: slow,
};

fn regions(config: &mut Config) {
    config.latency = Latency::Regions;
}

fn near(config: &mut Config) {
    let way = Duration::from_micros(100);
    config.latency = Latency::Uniform { least: way, most: way };
}

fn slow_disks(config: &mut Config) {
    config.disk = DiskModel::slow();
}

fn form(world: &mut World, n: usize) -> Played {
    let hosts = hosts(world, n)?;
    start_within_a_second(world, &hosts)?;
    let met = world.until_met(patience(n))?;
    world.measure("all present at all, after the last start", met);
    world.count_costs("until all were present");
    let rest = world.until_at_rest(patience(n))?;
    world.measure("at rest, after that", rest);
    Ok(())
}

fn crowd(world: &mut World, n: usize) -> Played {
    let hosts = hosts(world, n)?;
    for host in &hosts {
        world.start(*host);
    }
    let met = world.until_met(patience(n))?;
    world.measure("all present at all, after the start", met);
    world.count_costs("until all were present");
    let rest = world.until_at_rest(patience(n))?;
    world.measure("at rest, after that", rest);
    world.count_costs("until five seconds after rest");
    Ok(())
}

fn one_by_one(world: &mut World, n: usize) -> Played {
    let hosts = world.add_hosts(n)?;
    for (at, host) in hosts.iter().enumerate() {
        if at > 0 {
            world.set_seeds(*host, &hosts[at - 1..at]);
        }
        world.start(*host);
        let took = world.until_met(patience(n))?;
        world.measure(format!("{} present", at + 1), took);
    }
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn slow(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    super::publish_at(world, &hosts)?;
    world.until_at_rest(patience(n))?;
    for host in &hosts {
        world.kill(*host);
    }
    world.run_for(Duration::from_secs(3))?;
    start_within_a_second(world, &hosts)?;
    world.until_at_rest(patience(n))?;
    Ok(())
}
