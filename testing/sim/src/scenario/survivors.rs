//! As many nodes die at once as connectivity allows, in the middle of a pruned flood.

use std::collections::BTreeSet;
use std::time::Duration;

use skep_flood::UpdateId;

use super::{Played, Scenario, flock, patience, publish_sized};
use crate::host::HostIx;
use crate::net::Latency;
use crate::report::Failure;
use crate::world::{Config, World};

pub(super) const SURVIVORS: Scenario = Scenario {
    name: "flood-survives-k-minus-1",
    about: "k - 1 nodes die at once amid updates: what any survivor holds, all get; the rest comes \
            with the dead when they are back",
    nodes: 10,
    least: 6,
    configure: far_apart,
    play: survive,
};

/// Updates from each node before anybody dies, so that edges are pruned for every origin.
const WARM_UP: usize = 4;
/// Updates in the burst amid which nodes die.
const BURST: u64 = 24;
/// Nothing needs to be noticed nor dialled for survivors to agree: ids are out within 10 ms, and
/// what does not come is asked for after some more. Holders that died cost a few such waits.
const AGREE_WITHIN: Duration = Duration::from_secs(5);

/// Far enough apart that much is on its way when a node dies.
fn far_apart(config: &mut Config) {
    let (least, most) = (Duration::from_millis(2), Duration::from_millis(40));
    config.latency = Latency::Uniform { least, most };
}

fn survive(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    for _ in 0..WARM_UP {
        for host in &hosts {
            publish_sized(world, *host, 64);
            world.run_for(Duration::from_millis(60))?;
        }
    }
    let k = world.shape().connectivity;
    let mut shuffled = hosts.clone();
    world.rng.shuffle(&mut shuffled);
    let (victims, survivors) = shuffled.split_at((k - 1).min(n - 2));
    burst(world, &hosts, victims)?;
    for victim in victims {
        if world.rng.chance(0.5) {
            world.kill(*victim);
        } else {
            world.cut_power(*victim);
        }
    }
    let took = world.until(AGREE_WITHIN, "in agreement", |world| agree(world, survivors))?;
    world.measure("survivors hold the same", took);
    world.run_for(Duration::from_secs(1))?;
    for victim in victims {
        world.start(*victim);
    }
    let took = world.until_at_rest(patience(n))?;
    world.measure("everybody has what anybody had", took);
    let all = agree(world, &hosts);
    world.until(Duration::ZERO, "in agreement with those that died", |_| all.clone())?;
    Ok(())
}

/// Updates from everywhere, half of them from those about to die, at any distance in time; the last
/// may not even have left its origin.
fn burst(world: &mut World, hosts: &[HostIx], victims: &[HostIx]) -> Result<(), Failure> {
    let count = 1 + world.rng.within(0..BURST);
    for _ in 0..count {
        let among = if world.rng.chance(0.5) { victims } else { hosts };
        let Some(host) = world.rng.pick(among).copied() else {
            continue;
        };
        let length = usize::try_from(world.rng.within(1..2_000)).unwrap_or(1);
        publish_sized(world, host, length);
        let pause = world.rng.within(0..1_500);
        world.run_for(Duration::from_micros(pause))?;
    }
    Ok(())
}

/// Whether each of `hosts` has every update that one of them has.
fn agree(world: &World, hosts: &[HostIx]) -> Result<(), String> {
    let logs: Vec<BTreeSet<UpdateId>> =
        hosts.iter().map(|host| world.host(*host).disk.log_ids()).collect();
    let all: BTreeSet<UpdateId> = logs.iter().flatten().copied().collect();
    for (host, log) in hosts.iter().zip(&logs) {
        if let Some(id) = all.difference(log).next() {
            let name = &world.host(*host).name;
            return Err(format!("{name} lacks {id}, which a survivor holds"));
        }
    }
    Ok(())
}
