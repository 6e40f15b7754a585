//! Nodes find one another, by each means alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use skep_node::Source;

use super::{Played, Scenario, flock, patience, publish_at, usual};
use crate::host::HostIx;
use crate::oracle;
use crate::report::{Checker, Failure};
use crate::world::{Config, World};

pub(super) const MULTICAST: Scenario = Scenario {
    name: "multicast",
    about: "halves without a common seed merge by multicast alone",
    nodes: 12,
    least: 4,
    configure: multicasting,
    play: merge_by_multicast,
};

pub(super) const BEACON: Scenario = Scenario {
    name: "beacon",
    about: "halves without a common seed merge by the beacon alone",
    nodes: 12,
    least: 4,
    configure: beaconing,
    play: merge_by_beacon,
};

pub(super) const LATE_ADDRESS: Scenario = Scenario {
    name: "late-address",
    about: "halves without a common seed merge by one address that one node is told late",
    nodes: 12,
    least: 4,
    configure: usual,
    play: merge_by_late_address,
};

pub(super) const MOVE: Scenario = Scenario {
    name: "move",
    about: "nodes change their addresses while they run, and are dialled there after a restart",
    nodes: 10,
    least: 3,
    configure: usual,
    play: change_addresses,
};

pub(super) const STRANGERS: Scenario = Scenario {
    name: "strangers",
    about: "two blocs that hear one another by multicast stay apart",
    nodes: 10,
    least: 4,
    configure: multicasting,
    play: stay_apart,
};

const PERIOD: Duration = Duration::from_secs(10);

fn multicasting(config: &mut Config) {
    config.multicast = Some(PERIOD);
}

fn beaconing(config: &mut Config) {
    config.beacon = Some(PERIOD);
}

/// Two halves, each with a seed of its own.
fn halves(world: &mut World, n: usize) -> anyhow::Result<(Vec<HostIx>, Vec<HostIx>)> {
    let hosts = world.add_hosts(n)?;
    let (left, right) = hosts.split_at(n / 2);
    for half in [left, right] {
        for host in &half[1..] {
            world.set_seeds(*host, &half[..1]);
        }
    }
    Ok((left.to_vec(), right.to_vec()))
}

/// Starts both halves and lets each become a flock that knows nothing of the other.
fn form_apart(world: &mut World, halves: &[Vec<HostIx>]) -> Result<(), Failure> {
    world.split(halves);
    for host in halves.iter().flatten() {
        world.start(*host);
    }
    let n = world.hosts.len();
    world.until_at_rest(patience(n))?;
    world.heal();
    Ok(())
}

fn must_be_two(world: &mut World, span: Duration) -> Result<(), Failure> {
    world.run_for(span)?;
    if oracle::presence(world).is_ok() {
        world.fail(Checker::Oracle, "halves that nobody told of one another have merged");
    }
    world.failure.clone().map_or(Ok(()), Err)
}

fn merged(world: &mut World, began: &str) -> Played {
    let n = world.hosts.len();
    let took = world.until_met(patience(n))?;
    world.measure(format!("one flock, after {began}"), took);
    let hosts: Vec<HostIx> = world.hosts().collect();
    publish_at(world, &hosts)?;
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn merge_by_multicast(world: &mut World, n: usize) -> Played {
    let (left, right) = halves(world, n)?;
    form_apart(world, &[left.clone(), right.clone()])?;
    must_be_two(world, Duration::from_secs(20))?;
    // One of each half stands in a common domain, from its next start on.
    for host in [left[0], right[0]] {
        world.set_domain(host, Some(7));
        world.kill(host);
        world.run_for(Duration::from_secs(1))?;
        world.start(host);
    }
    merged(world, "the first announcement")
}

fn merge_by_beacon(world: &mut World, n: usize) -> Played {
    let (left, right) = halves(world, n)?;
    world.split(&[left.clone(), right.clone()]);
    for host in left.iter().chain(&right) {
        world.start(*host);
    }
    world.run_for(Duration::from_secs(20))?;
    world.until_met(patience(n))?;
    world.heal();
    merged(world, "the halves could reach one another")
}

fn merge_by_late_address(world: &mut World, n: usize) -> Played {
    let (left, right) = halves(world, n)?;
    form_apart(world, &[left.clone(), right.clone()])?;
    must_be_two(world, Duration::from_secs(30))?;
    let address = world.address(right[right.len() - 1]).into_iter().collect();
    world.tell_of(left[left.len() - 1], address, Source::Operator);
    merged(world, "join-address")
}

fn change_addresses(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    for (at, host) in (0_u8..).zip(&hosts) {
        let moved = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(172, 16, 0, at)), 7400);
        world.set_addresses(*host, &[moved]);
        world.run_for(Duration::from_millis(300))?;
    }
    world.until_at_rest(patience(n))?;
    for host in &hosts {
        world.set_seeds(*host, &[]);
    }
    for host in &hosts[..n / 2] {
        world.kill(*host);
    }
    world.run_for(Duration::from_secs(3))?;
    for host in &hosts[..n / 2] {
        world.start(*host);
    }
    let took = world.until_met(patience(n))?;
    world.measure("one flock again, at new addresses", took);
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn stay_apart(world: &mut World, n: usize) -> Played {
    for number in 0..n {
        let bloc = u8::from(number % 2 == 1);
        let host = world.add_host(&format!("n{number}"), bloc)?;
        world.set_domain(host, Some(1));
    }
    let hosts: Vec<HostIx> = world.hosts().collect();
    for host in &hosts {
        world.start(*host);
    }
    let took = world.until_met(patience(n))?;
    world.measure("two flocks of two blocs", took);
    world.until_at_rest(patience(n))?;
    world.run_for(Duration::from_secs(60))?;
    world.until_at_rest(patience(n))?;
    Ok(())
}
