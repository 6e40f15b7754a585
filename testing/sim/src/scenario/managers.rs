//! One master, two backups: they form, lose one another, and nothing that was promised is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_managers::{Lineage, Role};

use super::{Played, Scenario, flock, start_within_a_second, usual};
use crate::host::HostIx;
use crate::oracle;
use crate::report::{Checker, Failure};
use crate::world::World;

pub(super) const MANAGERS: Scenario = Scenario {
    name: "managers",
    about: "a master and two backups form; the master is killed, a backup falls silent and is \
            replaced, all lose power: nothing promised is lost, and all catalogs are the same",
    nodes: 7,
    least: 5,
    configure: usual,
    play: managers,
};

/// A flock with a master and two backups is there within this, from whatever befell it.
const MANAGED_WITHIN: Duration = Duration::from_secs(90);
/// What was decided is everywhere within this.
const AGREED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at who is master.
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn managers(world: &mut World, n: usize) -> Played {
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
    agreed(world)?;

    let backup = hosts.iter().copied().find(|host| role_of(world, *host) == Some(Role::Backup));
    if let Some(backup) = backup {
        world.pause(backup);
        let others: Vec<HostIx> = hosts.iter().copied().filter(|host| *host != backup).collect();
        write_everywhere(world, &others, "silent")?;
        watched_for(world, Duration::from_secs(25))?;
        let took = until_managed(world)?;
        world.measure("two backups after one was silent for 25 s", took);
        world.resume(backup);
    }
    write_everywhere(world, &hosts, "resumed")?;
    agreed(world)?;

    for host in &hosts {
        world.cut_power(*host);
    }
    world.run_for(Duration::from_secs(3))?;
    start_within_a_second(world, &hosts)?;
    let took = until_managed(world)?;
    world.measure("managed after all lost power", took);
    write_everywhere(world, &hosts, "powered")?;
    let took = agreed(world)?;
    world.measure("agreed", took);
    Ok(())
}

/// Sets an entry at each of `hosts`, and lets a little time pass between.
fn write_everywhere(world: &mut World, hosts: &[HostIx], when: &str) -> Result<(), Failure> {
    for host in hosts {
        world.set_entry(*host, &format!("{when}-{}", host.0), when);
        world.set_entry(*host, "shared", &format!("{when}-{}", host.0));
        watched_for(world, Duration::from_millis(200))?;
    }
    Ok(())
}

/// Lets time pass, and looks all the time whether two masters acknowledge at once.
fn watched_for(world: &mut World, span: Duration) -> Result<(), Failure> {
    let end = world.now() + span;
    while world.now() < end {
        world.run_for(LOOK_EVERY)?;
        one_master_acknowledges(world)?;
    }
    Ok(())
}

/// At most one node of a lineage holds a lease at any instant.
fn one_master_acknowledges(world: &mut World) -> Result<(), Failure> {
    let mut holders: BTreeMap<Lineage, HostIx> = BTreeMap::new();
    let mut both = None;
    for host in world.live() {
        let (Some(node), now) = (world.node(host), world.host(host).local(world.now())) else {
            continue;
        };
        let view = node.management(now);
        let Some(flock) = view.flock.filter(|_| view.role == Role::Master) else { continue };
        if flock.lease_until.is_some_and(|until| until > now)
            && let Some(other) = holders.insert(flock.lineage, host)
        {
            both = Some((other, host, flock.lineage));
        }
    }
    if let Some((a, b, lineage)) = both {
        let what = format!("{} and {} both hold the lease of {lineage}", a.0, b.0);
        world.fail(Checker::Invariant, what);
    }
    world.failure.clone().map_or(Ok(()), Err)
}

fn role_of(world: &World, host: HostIx) -> Option<Role> {
    let now = world.host(host).local(world.now());
    Some(world.node(host)?.management(now).role)
}

pub(super) fn master_of(world: &World) -> Option<HostIx> {
    world.live().find(|host| role_of(world, *host) == Some(Role::Master))
}

pub(super) fn until_managed(world: &mut World) -> Result<Duration, Failure> {
    world.until(MANAGED_WITHIN, "a master with two backups", managed)
}

/// One master, which has its backups.
fn managed(world: &World) -> Result<(), String> {
    for part in oracle::parts(world) {
        let roles = part.iter().filter_map(|host| role_of(world, *host));
        let masters = roles.clone().filter(|role| *role == Role::Master).count();
        let backups = roles.clone().filter(|role| *role == Role::Backup).count();
        let wanted = 2.min(part.len() - 1);
        if (masters, backups) != (1, wanted) {
            let roles: Vec<String> = roles.map(|role| role.to_string()).collect();
            return Err(format!("{} of {}", roles.join(" "), part.len()));
        }
    }
    Ok(())
}

fn agreed(world: &mut World) -> Result<Duration, Failure> {
    world.until(AGREED_WITHIN, "in agreement", |world| {
        if world.wishes.open() > 0 {
            return Err(format!("{} wishes wait", world.wishes.open()));
        }
        for part in oracle::parts(world) {
            one_catalog(world, &part)?;
        }
        Ok(())
    })
}

/// All show the same catalog, and in it everything that was promised.
fn one_catalog(world: &World, part: &[HostIx]) -> Result<(), String> {
    let mut common = None;
    for host in part {
        let Some(node) = world.node(*host) else { continue };
        let catalog = node.catalog().catalog();
        let (other, root) = *common.get_or_insert((*host, catalog.root()));
        if root != catalog.root() {
            return Err(format!("{} and {} show different catalogs", other.0, host.0));
        }
        for (token, asked, index) in world.wishes.promised() {
            let (name, value) = &asked.entry;
            let key = format!("setting/{name}").parse().map_err(|error| format!("{error}"))?;
            let slot = catalog.slot(&key);
            let there = slot.is_some_and(|slot| {
                let kept = slot.versions().iter().any(|version| version.revision == index);
                let first = slot.versions().first().map_or(0, |first| first.revision);
                kept || slot.is_cut() && index < first
            });
            if !there {
                let (at, from) = (asked.at, asked.host.0);
                let wish = format!("wish {token} of {from} at {at}");
                let host = host.0;
                return Err(format!("{host} lacks {name} = {value} ({wish}), which was promised"));
            }
        }
    }
    Ok(())
}
