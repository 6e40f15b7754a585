//! Ten minutes in which something happens all the time.

use std::time::Duration;

use skep_node::Farewell;

use super::{Played, Scenario, flock, patience, publish_sized, usual};
use crate::host::HostIx;
use crate::world::World;

pub(super) const CHURN: Scenario = Scenario {
    name: "churn",
    about: "a flock forms, and for ten minutes nodes die, stop, restart and publish all the time",
    nodes: 30,
    least: 8,
    configure: usual,
    play: churn,
};

/// How long it goes on.
const SPAN: Duration = Duration::from_secs(600);
/// How often something is done to somebody.
const EVERY: Duration = Duration::from_secs(2);
/// At most this share of the nodes is away at a time.
const AWAY: usize = 5;

fn churn(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let end = world.now() + SPAN;
    let mut stopped: Vec<HostIx> = Vec::new();
    while world.now() < end {
        disturb_somebody(world, &hosts, &mut stopped);
        let span = world.rng.jitter(EVERY, 0.9);
        world.run_for(span)?;
    }
    for host in hosts {
        world.resume(host);
        world.start(host);
    }
    let took = world.until_met(patience(n))?;
    world.measure("one flock after the last start", took);
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn disturb_somebody(world: &mut World, hosts: &[HostIx], stopped: &mut Vec<HostIx>) {
    let away: Vec<HostIx> =
        hosts.iter().copied().filter(|host| world.node(*host).is_none()).collect();
    let host = world.rng.pick(hosts).copied().unwrap_or(hosts[0]);
    let full = away.len() >= hosts.len() / AWAY;
    match world.rng.within(0..10) {
        _ if full => bring_back(world, &away, stopped),
        0..=2 => bring_back(world, &away, stopped),
        3 if !away.contains(&host) => world.kill(host),
        4 if !away.contains(&host) => world.cut_power(host),
        5 if !away.contains(&host) => {
            world.pause(host);
            stopped.push(host);
        }
        6 if !away.contains(&host) => {
            world.stop(host, Farewell::Restarting(Duration::from_secs(5)));
        }
        _ => {
            let length = usize::try_from(world.rng.within(1..2_000)).unwrap_or(1);
            publish_sized(world, host, length);
        }
    }
}

fn bring_back(world: &mut World, away: &[HostIx], stopped: &mut Vec<HostIx>) {
    let Some(host) = world.rng.pick(away).copied() else {
        return;
    };
    if let Some(at) = stopped.iter().position(|other| *other == host) {
        stopped.swap_remove(at);
        world.resume(host);
    } else {
        world.start(host);
    }
}
