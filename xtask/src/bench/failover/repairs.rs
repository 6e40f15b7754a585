//! What a flock mends by itself: a backup that is silent, the loss of two managers at once, and
//! having been two.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::super::Setting;
use super::super::clock::Micros;
use super::super::figure::{Better, Figure};
use super::super::fleet::{Fleet, Ground};
use super::super::membership::{formed, left_out};
use super::super::software::Control;
use super::flock::{
    Managed, PATIENCE, catalog, import, management, numbered, set, until, until_managed,
};

/// How long a backup is silent before it is replaced, as agents are configured.
const BACKUP_SILENT: f64 = 10.0;
/// Entries that whoever comes anew has to catch up with.
const ENTRIES: usize = 10_000;
/// Entries that each of two flocks has written since they parted.
const DIFFERING: usize = 1000;

/// How often what takes a minute each is done.
fn few(setting: &Setting) -> u32 {
    if setting.quick { 1 } else { setting.runs.min(5) }
}

/// A silent backup is replaced, and the new one has everything.
///
/// # Errors
/// When none takes its place.
pub fn replaced(setting: &Setting) -> Result<Vec<Figure>> {
    let mut fleet = formed(setting.skep()?, 5, Ground::Loopback)?;
    let all: Vec<usize> = (0..fleet.len()).collect();
    let first = until_managed(&fleet, &all)?;
    let names = (0..ENTRIES).map(|number| (format!("entry-{number}"), number));
    import(fleet.seat(first.master)?, names)?;
    let mut samples = Vec::new();
    for _ in 0..few(setting) {
        let before = until_managed(&fleet, &all)?;
        let silent = *before.backups.first().context("two backups")?;
        let name = fleet.seat(silent)?.name.clone();
        let since = fleet.signal(silent, Signal::STOP)?;
        until("another is in its place and has everything", || {
            let seen = management(fleet.seat(before.master)?)?;
            let (backups, kept) = (names_in(&seen["backups"]), names_in(&seen["sync_set"]));
            ensure!(!backups.contains(&name) && backups.len() == 2, "backups: {backups:?}");
            ensure!(!kept.contains(&name) && kept.len() == 3, "kept by {kept:?}");
            Ok(())
        })?;
        samples.push(Micros::now().seconds_since(since) - BACKUP_SILENT);
        fleet.signal(silent, Signal::CONT)?;
        until("it learns that it was replaced", || {
            let seen = management(fleet.seat(silent)?)?;
            ensure!(seen["role"] == "eligible", "it is {}", seen["role"]);
            Ok(())
        })?;
    }
    let name = format!("silent backup replaced, {ENTRIES} entries: after the {BACKUP_SILENT} s");
    Ok(vec![Figure::of(&setting.named(&name), "s", &samples, Better::Lower, 5.0)?])
}

fn names_in(list: &serde_json::Value) -> BTreeSet<String> {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

/// Master and a backup are killed at once; the other backup founds the next generation.
///
/// # Errors
/// When it does not.
pub fn double_loss(setting: &Setting) -> Result<Vec<Figure>> {
    let mut samples = Vec::new();
    for _ in 0..few(setting) {
        let mut fleet = formed(setting.skep()?, 5, Ground::Loopback)?;
        let before = until_managed(&fleet, &[0, 1, 2, 3, 4])?;
        let backup = *before.backups.first().context("two backups")?;
        let since = fleet.signal(before.master, Signal::KILL)?;
        fleet.signal(backup, Signal::KILL)?;
        fleet.ended(before.master, PATIENCE)?;
        fleet.ended(backup, PATIENCE)?;
        let at = *before.plain(fleet.len()).first().context("an agent without an office")?;
        let generation = until("a write of the next generation", || {
            let mut control = Control::new(fleet.seat(at)?)?;
            set(&mut control, "after", 1)?;
            let seen = management(fleet.seat(at)?)?;
            seen["generation"].as_u64().context("no generation")
        })?;
        samples.push(Micros::now().seconds_since(since));
        ensure!(generation == before.history.1 + 1, "it is generation {generation}");
    }
    let name = "master and a backup killed, N=5: to the first write of the next generation";
    Ok(vec![Figure::of(&setting.named(name), "s", &samples, Better::Lower, 15.0)?])
}

/// A flock of sixteen parts in two that both go on, and meets again.
///
/// # Errors
/// When a half does not go on, or they do not become one.
pub fn meeting(setting: &Setting) -> Result<Vec<Figure>> {
    if left_out("two flocks that meet") {
        return Ok(Vec::new());
    }
    let mut samples = Vec::new();
    let mut missing = Vec::new();
    for _ in 0..few(setting) {
        let (took, lacking) = meet_once(setting)?;
        samples.push(took);
        missing.push(lacking);
    }
    let name = format!("two flocks of 8, {DIFFERING} differing entries each, half of them alike");
    let named = |what: &str| setting.named(&format!("{name}: {what}"));
    Ok(vec![
        Figure::of(&named("one flock, one catalog everywhere"), "s", &samples, Better::Lower, 5.0)?,
        Figure::of(
            &named("neither applied nor among the conflicts"),
            "entries",
            &missing,
            Better::Lower,
            0.0,
        )?,
    ])
}

fn meet_once(setting: &Setting) -> Result<(f64, f64)> {
    let fleet = formed(setting.skep()?, 16, Ground::Lab)?;
    let all: Vec<usize> = (0..fleet.len()).collect();
    let before = until_managed(&fleet, &all)?;
    let (left, right) = halves(&before, fleet.len());
    let hosts = fleet.lab()?.all_hosts();
    let side = |side: &[usize]| -> Vec<_> {
        side.iter().filter_map(|number| hosts.get(*number).cloned()).collect()
    };
    fleet.lab()?.partition(&[&side(&left), &side(&right)])?;
    let (one, other) = (own_managers(&fleet, &left)?, own_managers(&fleet, &right)?);
    ensure!(one.history != other.history, "both halves are {:?}", one.history);
    // Half of the names are those of the other side as well.
    let names = |side: &'static str, value: usize| {
        let own = (0..DIFFERING / 2).map(move |number| (format!("{side}-{number}"), value));
        own.chain((0..DIFFERING / 2).map(move |number| (format!("both-{number}"), value)))
    };
    import(fleet.seat(one.master)?, names("left", 1))?;
    import(fleet.seat(other.master)?, names("right", 2))?;
    let healed = Micros::now();
    fleet.lab()?.heal()?;
    until("one flock and one catalog", || one_catalog(&fleet, &all))?;
    let took = Micros::now().seconds_since(healed);
    Ok((took, lacking(&fleet)?))
}

/// Waits until a half has managers that are all its own.
fn own_managers(fleet: &Fleet, half: &[usize]) -> Result<Managed> {
    until("managers of its own", || {
        let managed = until_managed(fleet, half)?;
        let own = half.contains(&managed.master);
        ensure!(own && managed.backups.iter().all(|it| half.contains(it)), "{managed:?}");
        Ok(managed)
    })
}

/// Eight with the master and a backup, and eight with the other backup.
fn halves(managed: &Managed, count: usize) -> (Vec<usize>, Vec<usize>) {
    let right = managed.backups.last().copied();
    let plain = managed.plain(count);
    let mut left: Vec<usize> =
        (0..count).filter(|number| !plain.contains(number) && Some(*number) != right).collect();
    let (more, rest) = plain.split_at(count / 2 - left.len());
    left.extend(more);
    (left, right.into_iter().chain(rest.iter().copied()).collect())
}

fn one_catalog(fleet: &Fleet, all: &[usize]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for number in all {
        let seat = fleet.seat(*number)?;
        let says = management(seat)?;
        let master = says["master"].as_str().and_then(|name| numbered(fleet, name));
        seen.insert((master, says["lineage"].to_string(), catalog(seat)?.0));
    }
    let settled = seen.len() == 1 && seen.iter().all(|(master, _, _)| master.is_some());
    ensure!(settled, "{seen:?}");
    // Agreed on what was before the merge is not one catalog.
    let missing = lacking(fleet)?;
    ensure!(missing.total_cmp(&0.0).is_eq(), "{missing} entries are missing");
    Ok(())
}

/// Entries of either side that are neither in the catalog nor in its log of conflicts.
fn lacking(fleet: &Fleet) -> Result<f64> {
    let catalog = Control::new(fleet.seat(0)?)?.get("/v1/catalog")?;
    let entries = catalog["entries"].as_array().context("entries are no list")?;
    let keys = entries.iter().filter_map(|entry| entry["key"].as_str());
    let (mut conflicts, mut settings) = (0, 0);
    for key in keys {
        conflicts += u32::from(key.starts_with("conflict/"));
        settings += u32::from(
            ["setting/left-", "setting/right-", "setting/both-"]
                .iter()
                .any(|start| key.starts_with(start)),
        );
    }
    let half = u32::try_from(DIFFERING / 2)?;
    let missing = (3 * half).saturating_sub(settings) + half.saturating_sub(conflicts);
    Ok(f64::from(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_has_eight_and_a_part_of_the_managers() {
        let managed = Managed { master: 3, backups: vec![0, 9], history: (String::new(), 1) };
        let (left, right) = halves(&managed, 16);
        assert_eq!((left.len(), right.len()), (8, 8));
        assert!(left.contains(&3) && left.contains(&0) && right.contains(&9));
        let all: BTreeSet<usize> = left.into_iter().chain(right).collect();
        assert_eq!(all.len(), 16);
    }
}
