//! One master, two backups: they form, lose one another, and nothing that was promised is lost.

use std::time::Duration;

use skep_managers::Role;

use super::{Played, Scenario, flock, start_within_a_second, usual};
use crate::host::HostIx;
use crate::managed::clients::Clients;
use crate::managed::faults::{PAIRS, Stage, pair_of};
use crate::managed::rest::{agreed, role_of};
pub(super) use crate::managed::rest::{master_of, until_managed};
use crate::managed::watch::Watch;
use crate::plant::Bug;
use crate::report::{Checker, Failure};
use crate::world::World;

pub(super) const MANAGERS: Scenario = Scenario {
    name: "managers",
    about: "two faults one after the other, by seed each pair of thirteen kinds, while clients \
            write, compare and read: what they saw is linearizable, and nothing promised is lost",
    nodes: 7,
    least: 7,
    configure: usual,
    play: managers,
};

pub(super) const LOSSES: Scenario = Scenario {
    name: "managers-losses",
    about: "a master and two backups form; the master is killed, a backup falls silent and is \
            replaced, all lose power: nothing promised is lost, and all catalogs are the same",
    nodes: 7,
    least: 5,
    configure: usual,
    play: losses,
};

/// Fewer answers than this show nothing.
const LEAST_ANSWERED: usize = 30;
/// How long a flock that is well may take to answer them.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

fn managers(world: &mut World, n: usize) -> Played {
    world.watch = Some(Watch::default());
    let hosts = world.add_hosts(n)?;
    for host in &hosts[1..] {
        world.set_seeds(*host, &hosts[..1]);
    }
    for host in &hosts {
        // Clocks are wrong by up to a hundredth.
        let wrong = i64::try_from(world.rng.within(0..20_001)).unwrap_or(0) - 10_000;
        world.set_drift(*host, wrong);
    }
    let strong = (world.seed / PAIRS).is_multiple_of(2);
    // Any of them has been given the token of the bloc, or nobody: whoever leads gets it.
    if let Some(first) = world.rng.index(hosts.len()).filter(|_| strong) {
        world.give_token(hosts[first]);
    }
    start_within_a_second(world, &hosts)?;
    let took = until_managed(world)?;
    world.measure("a master and two backups", took);

    let mut clients = Clients::default();
    clients.work(world, Duration::from_secs(3))?;
    let pair = pair_of(world.seed);
    for fault in pair {
        let mut stage = Stage { world, hosts: &hosts, clients: &mut clients };
        if !stage.play(fault)? {
            let what = format!("{fault:?} was not exercised, in {pair:?}");
            return Err(Failure { at: world.now(), checker: Checker::Oracle, what }.into());
        }
    }
    Stage { world, hosts: &hosts, clients: &mut clients }.heal();
    let took = until_managed(world)?;
    world.measure(format!("managed after {:?} and {:?}", pair[0], pair[1]), took);
    clients.work(world, Duration::from_secs(5))?;
    // Clients that wait for what a fault took along give up one by one.
    let mut waited = Duration::ZERO;
    while clients.answered(world) < LEAST_ANSWERED && waited < ANSWERED_WITHIN {
        clients.work(world, Duration::from_secs(1))?;
        waited += Duration::from_secs(1);
    }
    let answered = clients.judge(world);
    if let Some(failure) = world.failure.clone() {
        return Err(failure.into());
    }
    let took = agreed(world)?;
    world.measure("agreed", took);
    let strict = world.watch.as_ref().map_or(0, |watch| watch.strict_calls);
    if strong && strict == 0 {
        world.fail(Checker::Liveness, "nobody ever had strict authority".to_owned());
    }
    if answered < LEAST_ANSWERED {
        world.fail(Checker::Liveness, format!("{answered} answers only"));
    }
    Ok(world.failure.clone().map_or(Ok(()), Err)?)
}

fn losses(world: &mut World, n: usize) -> Played {
    // What is promised and not done is seen at once where every step is watched. That it is seen at
    // rest as well is what this bug is there for.
    if world.config.bug != Some(Bug::PromisesNothing) {
        world.watch = Some(Watch::default());
    }
    let hosts = flock(world, n)?;
    let took = until_managed(world)?;
    world.measure("a master and two backups", took);
    write_everywhere(world, &hosts, "formed")?;

    let master = master_of(world).unwrap_or(hosts[0]);
    world.kill(master);
    let others: Vec<HostIx> = hosts.iter().copied().filter(|host| *host != master).collect();
    write_everywhere(world, &others, "killed")?;
    let took = until_managed(world)?;
    world.measure("two backups after the master was killed", took);
    world.start(master);
    write_everywhere(world, &hosts, "back")?;
    answered(world)?;
    agreed(world)?;

    let backup = hosts.iter().copied().find(|host| role_of(world, *host) == Some(Role::Backup));
    if let Some(backup) = backup {
        world.pause(backup);
        let others: Vec<HostIx> = hosts.iter().copied().filter(|host| *host != backup).collect();
        write_everywhere(world, &others, "silent")?;
        world.run_for(Duration::from_secs(25))?;
        let took = until_managed(world)?;
        world.measure("two backups after one was silent for 25 s", took);
        world.resume(backup);
    }
    write_everywhere(world, &hosts, "resumed")?;
    answered(world)?;
    agreed(world)?;

    for host in &hosts {
        world.cut_power(*host);
    }
    world.run_for(Duration::from_secs(3))?;
    start_within_a_second(world, &hosts)?;
    let took = until_managed(world)?;
    world.measure("managed after all lost power", took);
    write_everywhere(world, &hosts, "powered")?;
    answered(world)?;
    let took = agreed(world)?;
    world.measure("agreed", took);
    Ok(())
}

/// Sets entries at each of `hosts`, and lets a little time pass between.
fn write_everywhere(world: &mut World, hosts: &[HostIx], when: &str) -> Result<(), Failure> {
    for host in hosts {
        world.set_number(*host, &format!("{when}-{}", host.0));
        world.set_number(*host, "shared");
        world.run_for(Duration::from_millis(200))?;
    }
    Ok(())
}

/// Every wish is answered in the end.
fn answered(world: &mut World) -> Result<Duration, Failure> {
    world.until(Duration::from_secs(30), "all answered", |world| match world.wishes.open() {
        0 => Ok(()),
        open => Err(format!("{open} wishes wait")),
    })
}
