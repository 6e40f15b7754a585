//! What must be true of a flock's managers when all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use skep_catalog::{Catalog, Conflict, Kind};
use skep_managers::Role;

use crate::host::HostIx;
use crate::oracle;
use crate::report::Failure;
use crate::wishes::value_in;
use crate::world::World;

/// A flock with a master and two backups is there within this, from whatever befell it. A part
/// whose managers all hold waits a minute for one that has more.
pub(crate) const MANAGED_WITHIN: Duration = Duration::from_secs(150);
/// What was decided is everywhere within this.
pub(crate) const AGREED_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn role_of(world: &World, host: HostIx) -> Option<Role> {
    let now = world.host(host).local(world.now());
    Some(world.node(host)?.management(now).role)
}

pub(crate) fn master_of(world: &World) -> Option<HostIx> {
    world.live().find(|host| role_of(world, *host) == Some(Role::Master))
}

/// One master with two backups in each part, or with as many as there can be; all of them in the
/// sync set, whoever was a manager before is holding or eligible, and all follow the one master.
pub(crate) fn managed(world: &World) -> Result<(), String> {
    for part in oracle::parts(world) {
        let roles: Vec<Role> = part.iter().filter_map(|host| role_of(world, *host)).collect();
        let count = |wanted: &[Role]| roles.iter().filter(|role| wanted.contains(role)).count();
        let able = part.iter().filter(|host| world.host(**host).eligible.is_none()).count();
        let backups = 2.min(able.saturating_sub(1));
        let others = part.len() - 1 - backups;
        let wanted = (1, backups, others);
        let rest = [Role::Eligible, Role::Holding];
        if (count(&[Role::Master]), count(&[Role::Backup]), count(&rest)) != wanted {
            let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
            return Err(format!("{} of {}", roles.join(" "), part.len()));
        }
        one_flock(world, &part, backups)?;
    }
    Ok(())
}

fn one_flock(world: &World, part: &[HostIx], backups: usize) -> Result<(), String> {
    let view = |host: &HostIx| {
        let now = world.host(*host).local(world.now());
        world.node(*host).map(|node| node.management(now))
    };
    let leads = |host: &&HostIx| role_of(world, **host) == Some(Role::Master);
    let Some(flock) = part.iter().find(leads).and_then(|it| view(it)?.flock) else {
        return Err("nobody leads".to_owned());
    };
    if flock.sync_set.len() != backups + 1 {
        return Err(format!("{} in the sync set", flock.sync_set.len()));
    }
    for host in part {
        let other = view(host).and_then(|view| view.flock).map(|it| (it.lineage, it.master));
        if other != Some((flock.lineage, flock.master)) {
            return Err(format!("{} follows another master", host.0));
        }
    }
    Ok(())
}

pub(crate) fn until_managed(world: &mut World) -> Result<Duration, Failure> {
    world.until(MANAGED_WITHIN, "a master with two backups", managed)
}

/// All wishes at nodes that live are answered, all catalogs are the same, and everything that was
/// promised is there: in its entry, or in the conflict log.
pub(crate) fn agreed(world: &mut World) -> Result<Duration, Failure> {
    world.until(AGREED_WITHIN, "in agreement", |world| {
        for part in oracle::parts(world) {
            let mut common: Option<(HostIx, &Catalog)> = None;
            for host in &part {
                let Some(node) = world.node(*host) else { continue };
                let catalog = node.catalog().catalog();
                let (other, first) = *common.get_or_insert((*host, catalog));
                if first.root() != catalog.root() {
                    let now = world.host(*host).local(world.now());
                    let (a, b) = (other.0, host.0);
                    let fresh = node.catalog().freshness(now);
                    let (stamp, seen) = (catalog.stamp(), node.catalog().seen());
                    return Err(format!(
                        "{a} and {b} show different catalogs; {b} stands at {stamp}, saw {seen}, \
                         {fresh:?}"
                    ));
                }
            }
            common.map_or(Ok(()), |(_, catalog)| nothing_is_missing(world, catalog))?;
        }
        Ok(())
    })
}

fn nothing_is_missing(world: &World, catalog: &Catalog) -> Result<(), String> {
    let mut there = BTreeSet::new();
    let mut cut = BTreeMap::new();
    for (key, _, _) in catalog.entries() {
        let Some(slot) = catalog.slot(key) else { continue };
        if let Some(first) = slot.versions().first().filter(|_| slot.is_cut()) {
            cut.insert(key.name().to_owned(), first.revision);
        }
        for put in slot.versions().iter().filter_map(|version| version.put.as_ref()) {
            if key.kind() == Kind::CONFLICT {
                let conflict = Conflict::read(put);
                let wanted = conflict.and_then(|it| it.version.put.as_ref().and_then(value_in));
                there.extend(wanted);
            } else {
                there.extend(value_in(put));
            }
        }
    }
    for (token, asked, index) in world.wishes.promised() {
        let Some(value) = asked.value else { continue };
        let older = cut.get(&asked.entry.0).is_some_and(|first| index < *first);
        let excused = world.lost.contains(&value) || older;
        if !there.contains(&value) && !excused {
            let (at, from, name) = (asked.at, asked.host.0, &asked.entry.0);
            return Err(format!(
                "{name} = {value}, wish {token} of {from} at {at}, was promised and is lost"
            ));
        }
    }
    Ok(())
}

/// Promised values that only the disk of `host` holds: where it is lost, so are they, and nobody
/// can help it.
pub(crate) fn held_only_by(world: &World, host: HostIx) -> Vec<u64> {
    let promised = world.wishes.promised().filter_map(|(_, asked, _)| asked.value);
    let mut only = Vec::new();
    for value in promised {
        let needle = crate::wishes::text_of(value);
        let holds =
            |at: &HostIx| world.host(*at).disk.managers_hold(world.now(), needle.as_bytes());
        if holds(&host) && !world.hosts().any(|other| other != host && holds(&other)) {
            only.push(value);
        }
    }
    only
}
