//! Orders under the flock's stamp: none of a lower one is carried out after one of a higher, on any
//! host, whatever is done to it; and nobody refuses for ever.

use std::time::Duration;

use super::managers::{master_of, until_managed};
use super::{Played, Scenario, flock, start_within_a_second, usual};
use crate::host::HostIx;
use crate::report::Failure;
use crate::world::World;

pub(super) const ORDERS: Scenario = Scenario {
    name: "orders",
    about: "two queens order waves while masters are killed, the flock splits and heals, and all \
            lose power: no host carries out what is stale, and all end with the same orders",
    nodes: 7,
    least: 7,
    configure: usual,
    play: orders,
};

/// What is ordered is carried out everywhere within this, also by who has seen a higher stamp.
const OBEYED_WITHIN: Duration = Duration::from_secs(60);

fn orders(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    // An order of a flock that has no master yet has no stamp, and is carried out.
    world.order(hosts[0], "before there is a master");
    obeyed(world)?;
    until_managed(world)?;
    let queens = queens(world, &hosts);
    for round in 0..3 {
        for queen in &queens {
            world.order(*queen, &format!("round {round} of {}", queen.0));
        }
        world.run_for(Duration::from_secs(1))?;
        if let Some(master) = master_of(world) {
            world.kill(master);
            world.run_for(Duration::from_secs(4))?;
            world.order(queens[round % 2], &format!("late in round {round}"));
            world.start(master);
        }
        until_managed(world)?;
        let took = obeyed(world)?;
        world.measure("orders are obeyed after the master was killed", took);
    }
    split(world, &hosts)?;
    let took = obeyed(world)?;
    world.measure("orders are obeyed after the parts met", took);
    for host in &hosts {
        world.cut_power(*host);
    }
    world.run_for(Duration::from_secs(3))?;
    start_within_a_second(world, &hosts)?;
    until_managed(world)?;
    world.order(queens[0], "after the power came back");
    obeyed(world)?;
    Ok(())
}

/// A queen is cut off with one other, and orders under the stamp that she knows, while the others
/// get another master, and so a higher one.
fn split(world: &mut World, hosts: &[HostIx]) -> Played {
    let queens = queens(world, hosts);
    let master = master_of(world);
    let apart: Vec<HostIx> =
        hosts.iter().copied().filter(|host| Some(*host) != master && *host != queens[0]).collect();
    let apart =
        [queens[1], *apart.iter().rev().find(|host| **host != queens[1]).unwrap_or(&queens[1])];
    let rest: Vec<HostIx> = hosts.iter().copied().filter(|host| !apart.contains(host)).collect();
    world.split(&[apart.to_vec(), rest]);
    world.order(queens[1], "from the lesser part");
    if let Some(master) = master {
        world.kill(master);
        world.run_for(Duration::from_secs(8))?;
        world.order(queens[0], "from the greater part");
        world.run_for(Duration::from_secs(2))?;
        world.start(master);
    }
    world.run_for(Duration::from_secs(2))?;
    world.heal();
    until_managed(world)?;
    Ok(())
}

/// Two that order, of whom none is the master.
fn queens(world: &World, hosts: &[HostIx]) -> [HostIx; 2] {
    let master = master_of(world);
    let mut others = hosts.iter().copied().rev().filter(|host| Some(*host) != master);
    let first = others.next().unwrap_or(hosts[0]);
    [first, others.next().unwrap_or(first)]
}

fn obeyed(world: &mut World) -> Result<Duration, Failure> {
    world.until(OBEYED_WITHIN, "orders that all obey", World::all_obey)
}
