//! Pairs that no link can join: what is known of them, and that no overlay wants them.

use std::time::Duration;

use skep_base::{GroupName, NodeId};
use skep_estimates::Basis;

use super::topology::{regions, until_in_force};
use super::{Played, Scenario, flock, patience};
use crate::host::HostIx;
use crate::world::World;

pub(super) const APART: Scenario = Scenario {
    name: "apart",
    about: "a few pairs can never meet: they are measured over others, and no topology joins them",
    nodes: 20,
    least: 12,
    configure: regions,
    play: apart,
};

/// A node draws another each minute, and pairs are few: after so long each was drawn, but for once
/// in many thousand runs.
const FOUND_WITHIN: Duration = Duration::from_secs(3 * 3600);
/// Knocks every quarter of an hour, and a minute for the record.
const OVER_WITHIN: Duration = Duration::from_secs(3600);
/// A packet takes up to 15 % longer than the quickest, and processes on the way take nothing.
const WRONG_AT_MOST: f64 = 0.2;

fn apart(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let pairs: Vec<(HostIx, HostIx)> =
        hosts.chunks_exact(2).take(n / 5).map(|pair| (pair[0], pair[1])).collect();
    for (a, b) in &pairs {
        world.cut_pair(*a, *b);
    }
    let (all, these) = (hosts.clone(), pairs.clone());
    let found = world.until(FOUND_WITHIN, "pairs that cannot meet are measured", move |world| {
        these.iter().try_for_each(|pair| measured(world, &all, *pair))
    })?;
    world.measure(format!("{} pairs are measured over others", pairs.len()), found);
    until_in_force(world, &hosts, &GroupName::all())?;
    let (all, these) = (hosts.clone(), pairs.clone());
    world.until(patience(n), "a topology that joins none of them", move |world| {
        let decreed = world.node(all[0]).and_then(|node| {
            let view = node.adoption().view(&GroupName::all())?;
            Some(view.topology?.clone())
        });
        let decreed = decreed.ok_or("no topology is in force")?;
        let joined = these.iter().find(|(a, b)| decreed.joins(&world.id(*a), &world.id(*b)));
        joined.map_or(Ok(()), |pair| Err(format!("{} is joined", names(world, *pair))))
    })?;
    world.until_at_rest(patience(n))?;
    world.heal();
    let over = world.until(OVER_WITHIN, "pairs that can meet again are so", move |world| {
        let routed = pairs.iter().find(|(a, b)| {
            let known = hosts.iter().filter_map(|host| between(world, *host, *a, *b));
            known.into_iter().any(|(_, basis)| basis == Basis::Routed)
        });
        routed.map_or(Ok(()), |pair| Err(format!("{} still cannot meet", names(world, *pair))))
    })?;
    world.measure("all can meet again", over);
    world.until_at_rest(patience(n))?;
    Ok(())
}

/// Whether all nodes have a figure for a pair that is about what the way over others takes.
fn measured(world: &World, hosts: &[HostIx], (a, b): (HostIx, HostIx)) -> Result<(), String> {
    let ways = [way(world, a, b), way(world, b, a)];
    let (least, most) = (ways.iter().flatten().min(), ways.iter().flatten().max());
    let (Some(least), Some(most)) = (least, most) else {
        return Err(format!("no way leads from one of {} to the other", names(world, (a, b))));
    };
    for host in hosts {
        let by = &world.host(*host).name;
        let known = between(world, *host, a, b);
        let Some((rtt, Basis::Routed)) = known else {
            return Err(format!("{by} says of {}: {known:?}", names(world, (a, b))));
        };
        let wrong = rtt < *least || rtt > most.mul_f64(1.0 + WRONG_AT_MOST);
        if wrong {
            let pair = names(world, (a, b));
            return Err(format!("{by} says {rtt:?} of {pair}: it is {least:?} to {most:?}"));
        }
    }
    Ok(())
}

fn between(world: &World, by: HostIx, a: HostIx, b: HostIx) -> Option<(Duration, Basis)> {
    let now = world.host(by).local(world.now());
    let known = world.node(by)?.between(now, world.id(a), world.id(b))?;
    Some((known.rtt, known.basis))
}

/// The quickest round trip over the way that `from` would take.
fn way(world: &World, from: HostIx, to: HostIx) -> Option<Duration> {
    let ways = world.node(from)?.ways_to(world.id(to));
    let hops = ways.first()?.iter().map(|hop: &NodeId| world.by_id.get(hop).copied());
    let hops: Vec<HostIx> = std::iter::once(Some(from)).chain(hops).collect::<Option<_>>()?;
    Some(hops.windows(2).map(|hop| world.round_trip(hop[0], hop[1])).sum())
}

fn names(world: &World, (a, b): (HostIx, HostIx)) -> String {
    format!("{} and {}", world.host(a).name, world.host(b).name)
}
