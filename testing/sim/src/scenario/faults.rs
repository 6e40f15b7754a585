//! Nodes die, stop, lose power and come back.

use std::time::Duration;

use skep_base::NodeId;
use skep_node::{Event, Farewell, Status};

use super::{Played, Scenario, flock, patience, publish_at, start_within_a_second, usual};
use crate::host::HostIx;
use crate::report::{Checker, Failure};
use crate::world::{Config, World};

/// A silent death is seen within this: three beats and the flood of the verdict.
const SILENCE_LIMIT: Duration = Duration::from_secs(4);
/// A death that closes connections is seen within this: one doubt, and the flood.
const CRASH_LIMIT: Duration = Duration::from_millis(500);

pub(super) const RACK: Scenario = Scenario {
    name: "rack",
    about: "a rack of a quarter of the nodes loses power at once, and comes back at once",
    nodes: 16,
    least: 4,
    configure: usual,
    play: rack,
};

pub(super) const CRASH: Scenario = Scenario {
    name: "crash",
    about: "one node after the other is killed, seen silent at once, and started again",
    nodes: 12,
    least: 2,
    configure: usual,
    play: crash,
};

pub(super) const POWER: Scenario = Scenario {
    name: "power",
    about: "a node vanishes without closing a connection, with its disk or without it",
    nodes: 12,
    least: 2,
    configure: usual,
    play: power,
};

pub(super) const PAUSE: Scenario = Scenario {
    name: "pause",
    about: "a node is stopped by SIGSTOP, is seen silent, goes on, and is seen again",
    nodes: 12,
    least: 2,
    configure: usual,
    play: pause,
};

pub(super) const RESTART_ALL: Scenario = Scenario {
    name: "restart-all",
    about: "every agent is killed and started at once, without any seed: the address book is left",
    nodes: 16,
    least: 1,
    configure: usual,
    play: restart_all,
};

pub(super) const POWER_ALL: Scenario = Scenario {
    name: "power-all",
    about: "every host loses power at once in the middle of a flood, and gets it back",
    nodes: 16,
    least: 1,
    configure: usual,
    play: power_all,
};

pub(super) const GOODBYE: Scenario = Scenario {
    name: "goodbye",
    about: "nodes that announce a restart or leave are never seen silent",
    nodes: 12,
    least: 3,
    configure: usual,
    play: goodbye,
};

pub(super) const LOSS: Scenario = Scenario {
    name: "loss",
    about: "ten minutes with one segment in fifty lost: nobody is called silent",
    nodes: 100,
    least: 2,
    configure: lossy,
    play: loss,
};

pub(super) const DUPLICATE: Scenario = Scenario {
    name: "duplicate",
    about: "a second process of one name starts: the first keeps the name until it ends",
    nodes: 8,
    least: 2,
    configure: usual,
    play: duplicate,
};

fn lossy(config: &mut Config) {
    config.loss = 0.02;
}

/// Lets time pass until no live node but `except` calls any of `gone` present.
fn until_unseen(world: &mut World, gone: &[HostIx], limit: Duration) -> Result<Duration, Failure> {
    let ids: Vec<NodeId> = gone.iter().map(|host| world.id(*host)).collect();
    world.until(limit, "seen silent by all", |world| {
        for host in world.live() {
            let Some(node) = world.node(host) else {
                continue;
            };
            if let Some(id) = ids.iter().find(|id| node.present().binary_search(id).is_ok())
                && !ids.contains(&world.id(host))
            {
                return Err(format!("host {} still sees {id:?}", host.0));
            }
        }
        Ok(())
    })
}

fn rack(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let (rack, others) = hosts.split_at(n / 4);
    for host in rack {
        world.cut_power(*host);
    }
    let took = until_unseen(world, rack, SILENCE_LIMIT)?;
    world.measure("rack seen silent by all", took);
    publish_at(world, others)?;
    world.until_at_rest(patience(n))?;
    world.run_for(Duration::from_secs(30))?;
    for host in rack {
        world.start(*host);
    }
    let took = world.until_met(patience(n))?;
    world.measure("rack back", took);
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn crash(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    for host in &hosts {
        world.kill(*host);
        let limit = if n > 2 { CRASH_LIMIT } else { SILENCE_LIMIT };
        let took = until_unseen(world, &[*host], limit)?;
        world.measure(format!("kill of {} seen by all", host.0), took);
        world.run_for(Duration::from_secs(5))?;
        world.start(*host);
        world.until_met(patience(n))?;
    }
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn power(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    publish_at(world, &hosts)?;
    for (at, host) in hosts.iter().enumerate().skip(1).take(4) {
        world.cut_power(*host);
        let took = until_unseen(world, &[*host], SILENCE_LIMIT)?;
        world.measure(format!("loss of {} seen by all", host.0), took);
        world.run_for(Duration::from_secs(5))?;
        if at % 2 == 0 {
            world.wipe_disk(*host);
        }
        world.start(*host);
        world.until_met(patience(n))?;
    }
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn pause(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    for (at, host) in hosts.iter().enumerate().take(4) {
        world.pause(*host);
        let took = until_unseen(world, &[*host], SILENCE_LIMIT)?;
        world.measure(format!("stop of {} seen by all", host.0), took);
        let span = [1, 8, 25, 90][at];
        world.run_for(Duration::from_secs(span))?;
        world.resume(*host);
        let took = world.until_met(patience(n))?;
        world.measure(format!("{} back after {span} s more", host.0), took);
    }
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn restart_all(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    publish_at(world, &hosts)?;
    for host in &hosts {
        world.kill(*host);
        world.set_seeds(*host, &[]);
    }
    world.run_for(Duration::from_secs(2))?;
    for host in &hosts {
        world.start(*host);
    }
    let took = world.until_met(patience(n))?;
    world.measure("one flock again", took);
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn power_all(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    for host in &hosts {
        super::publish_sized(world, *host, 300);
    }
    world.run_for(Duration::from_millis(3))?;
    for host in &hosts {
        world.cut_power(*host);
    }
    world.run_for(Duration::from_secs(60))?;
    start_within_a_second(world, &hosts)?;
    let took = world.until_met(patience(n))?;
    world.measure("one flock again", took);
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn goodbye(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let (restarting, leaving) = (hosts[1], hosts[2]);
    world.keep_events = true;
    world.stop(restarting, Farewell::Restarting(Duration::from_secs(10)));
    world.run_for(Duration::from_millis(1900))?;
    world.start(restarting);
    let took = world.until_met(patience(n))?;
    world.measure("restarted node present at all", took);
    world.stop(leaving, Farewell::Leaving);
    let took = until_unseen(world, &[leaving], Duration::from_secs(2))?;
    world.measure("leave seen by all", took);
    world.until_at_rest(patience(n))?;
    let said = world.heard.iter().find_map(|(at, host, event)| {
        let Event::Status { status: Status::Silent, node, .. } = event else {
            return None;
        };
        Some((*at, *host, *node))
    });
    if let Some((at, host, node)) = said {
        let what = format!("at {at} s host {} called {node:?} silent, which had said so", host.0);
        world.fail(Checker::Oracle, what);
    }
    world.start(leaving);
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn loss(world: &mut World, n: usize) -> Played {
    flock(world, n)?;
    world.run_for(Duration::from_secs(600))?;
    world.until_at_rest(patience(n))?;
    Ok(())
}

fn duplicate(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let twin = world.add_host("n1", 0)?;
    world.set_seeds(twin, &hosts[..1]);
    world.start(twin);
    world.run_for(Duration::from_secs(30))?;
    if !world.host(twin).process.as_ref().is_some_and(|process| process.name_taken) {
        world.fail(Checker::Oracle, "the second process of a name does not say so");
    }
    world.until_at_rest(patience(n))?;
    world.kill(hosts[1]);
    let took = world.until_at_rest(Duration::from_secs(60))?;
    world.measure("the second process has the name", took);
    Ok(())
}
