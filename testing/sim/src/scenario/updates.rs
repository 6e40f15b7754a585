//! Updates reach every member once, whatever happens to the flock meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use skep_base::{GroupName, NodeId};
use skep_node::Farewell;

use super::{Played, Scenario, flock, patience, publish_at, publish_sized, usual};
use crate::host::HostIx;
use crate::report::Checker;
use crate::world::World;

pub(super) const UPDATES: Scenario = Scenario {
    name: "updates",
    about: "small and large updates from everywhere, to all and a group, while nodes come and go",
    nodes: 16,
    least: 4,
    configure: usual,
    play: updates,
};

pub(super) const OUTAGE: Scenario = Scenario {
    name: "outage",
    about: "a node comes back among entirely different neighbours and gets every update it missed",
    nodes: 16,
    least: 8,
    configure: usual,
    play: outage,
};

fn updates(world: &mut World, n: usize) -> Played {
    let group: GroupName = "web".parse()?;
    let hosts = super::hosts(world, n)?;
    for host in hosts.iter().step_by(2) {
        world.set_groups(*host, std::slice::from_ref(&group));
    }
    super::start_within_a_second(world, &hosts)?;
    world.until_at_rest(patience(n))?;
    for round in 0..10 {
        publish_at(world, &hosts)?;
        let publisher = hosts[round % n];
        publish_sized(world, publisher, 20_000 + round * 30_000);
        world.publish(hosts[0], &group, vec![7; 100 + round].into());
        let victim = hosts[(round * 5 + 1) % n];
        world.kill(victim);
        world.run_for(Duration::from_millis(700))?;
        world.start(victim);
        world.run_for(Duration::from_millis(700))?;
    }
    let took = world.until_at_rest(Duration::from_secs(90))?;
    world.measure("every update everywhere, after the last", took);
    Ok(())
}

fn outage(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let away = hosts[n - 1];
    let before = neighbours(world, away);
    publish_at(world, &hosts)?;
    world.until_at_rest(patience(n))?;
    world.kill(away);
    publish_at(world, &hosts)?;
    // Everybody whom it was linked to leaves, and others come.
    let (gone, stay): (Vec<HostIx>, Vec<HostIx>) =
        hosts[..n - 1].iter().partition(|host| before.contains(&world.id(**host)));
    let fresh = world.add_hosts(gone.len() + 2)?;
    for host in &fresh {
        world.set_seeds(*host, &stay[..1]);
        world.start(*host);
    }
    world.until_at_rest(patience(n))?;
    for host in &gone {
        world.stop(*host, Farewell::Leaving);
        world.run_for(Duration::from_secs(2))?;
    }
    for _ in 0..20 {
        publish_at(world, &fresh)?;
    }
    world.run_for(Duration::from_secs(600))?;
    world.until_at_rest(patience(n))?;
    world.set_seeds(away, &fresh[..1]);
    world.start(away);
    let took = world.until_at_rest(Duration::from_secs(60))?;
    world.measure("the node that was away has every update", took);
    let after = neighbours(world, away);
    if after.is_empty() || !after.is_disjoint(&before) {
        world.fail(Checker::Oracle, "the node did not come back among entirely other neighbours");
    }
    Ok(())
}

fn neighbours(world: &World, host: HostIx) -> BTreeSet<NodeId> {
    let links = world.node(host).into_iter().flat_map(|node| node.links());
    links.map(|link| link.peer).collect()
}
