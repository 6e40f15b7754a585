//! Scenario 5 on real agents: two masters meet, and what both decided is in one catalog or in its
//! log of conflicts, from which one command brings it back (DVM-27, 28).

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, address};
use crate::managers::{management, set, until_managed, until_shown};
use crate::scenario_timeline::{
    Timeline, flock_events, history, settings_with_letters, until_told_once,
};

/// How `skep` ends when an agent refuses.
const REFUSED: i32 = 4;

#[test]
fn scenario_5_two_masters_meet_and_nothing_that_either_decided_vanishes() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("scenario-5")? else {
        return Ok(());
    };
    let names = ["a", "b", "c", "d", "e", "f"];
    let hosts = bloc.lab.machines(names)?;
    let (here, there) = hosts.split_at(3);
    bloc.lab.partition(&[here, there])?;
    let mut nodes = bloc.started(here, &settings_with_letters())?;
    let mut beyond = settings_with_letters();
    beyond.join.push(address(&here[0]));
    nodes.extend(bloc.started(there, &beyond)?);
    let all: Vec<&Node> = nodes.iter().collect();
    let (left, right) = all.split_at(3);
    for (side, names) in [(left, &names[..3]), (right, &names[3..])] {
        bloc.until_present(side, names)?;
        until_managed(&bloc, side, 2)?;
    }
    let mut timeline = Timeline::new("scenario 5: two masters meet")?;
    ensure!(history(left[0])? != history(right[0])?, "they are one flock already");
    // What each side tells of itself is told before they meet.
    let mut formed = Vec::new();
    for side in [left, right] {
        let name = management(side[0])?["name"].as_str().context("it has no name")?.to_owned();
        bloc.lab.wait_until("a side tells that it formed", PATIENCE, || {
            let told = flock_events(side[0])?;
            ensure!(told.iter().any(|(what, _)| *what == format!("formed {name}")), "{told:?}");
            Ok(())
        })?;
        formed.push(format!("formed {name}"));
    }
    set(left[0], "of-the-left", 1)?;
    set(right[0], "of-the-right", 2)?;
    set(left[0], "of-both", 3)?;
    set(right[0], "of-both", 4)?;

    timeline.note("", "the network is whole")?;
    bloc.lab.heal()?;
    bloc.until_present(&all, &names)?;
    until_managed(&bloc, &all, 2)?;
    let own = [("of-the-left".to_owned(), 1), ("of-the-right".to_owned(), 2)];
    until_shown(&bloc, &all, &own)?;
    let lineage = history(left[0])?.0;
    for node in &all {
        bloc.lab.wait_until("the one that lost is a conflict", PATIENCE, || {
            ensure!(history(node)?.0 == lineage, "{} is of another flock", node.name);
            let catalog = node.ask(&["catalog", "get"])?;
            let entries = catalog["entries"].as_array().context("entries are no list")?;
            let key = |entry: &Value| entry["key"].as_str().unwrap_or("").to_owned();
            let both = entries.iter().find(|entry| key(entry) == "setting/of-both");
            let value = both.and_then(|entry| entry["fields"]["value"].as_u64());
            ensure!(matches!(value, Some(3 | 4)), "of-both says {value:?}");
            let conflicts = entries.iter().filter(|entry| key(entry).starts_with("conflict/"));
            ensure!(conflicts.count() == 1, "the conflicts are not one: {catalog}");
            Ok(())
        })?;
    }
    until_told_once(&bloc, &nodes, "open: merge-conflicts")?;
    bloc.lab.wait_until("all list what happened to both, and list the same", PATIENCE, || {
        let first = flock_events(&nodes[0])?;
        for what in &formed {
            ensure!(first.iter().filter(|(of, _)| of == what).count() == 1, "{what}: {first:?}");
        }
        let merged = first.iter().filter(|(what, _)| what.starts_with("merged "));
        ensure!(merged.count() >= 1, "no merge in {first:?}");
        for node in &nodes {
            let listed = flock_events(node)?;
            ensure!(listed == first, "{} lists {listed:?}, and a {first:?}", node.name);
        }
        Ok(())
    })?;
    timeline.gather(&nodes);
    ensure!(timeline.tells("merged into this one"), "nobody noted the merge");
    what_lost_is_let_happen(&bloc, &all)?;
    until_told_once(&bloc, &nodes, "over: merge-conflicts")
}

/// As an operator does: looks what merges left to decide, and has the other version after all.
fn what_lost_is_let_happen(bloc: &Bloc, all: &[&Node]) -> Result<()> {
    let conflicts = all[1].ask(&["catalog", "conflicts"])?;
    let [conflict] = conflicts.as_array().context("conflicts are no list")?.as_slice() else {
        bail!("there is not one conflict: {conflicts}");
    };
    let stands = all[1].ask(&["catalog", "get", "setting/of-both"])?["fields"]["value"].clone();
    let lost = &conflict["fields"]["wanted_value"];
    let both = [stands.as_u64(), lost.as_u64()];
    ensure!([[Some(3), Some(4)], [Some(4), Some(3)]].contains(&both), "{stands}, and {conflict}");
    ensure!(conflict["fields"]["entry"] == "setting/of-both", "it is about another: {conflict}");
    let name = conflict["key"].as_str().and_then(|key| key.strip_prefix("conflict/"));
    let name = name.with_context(|| format!("a conflict without a name: {conflict}"))?;
    let listed = all[1].skep(&["catalog", "conflicts"]).run()?;
    ensure!(listed.contains(name), "what a person reads names no {name}: {listed}");

    // Any node does.
    let apply = ["catalog", "conflicts", "--apply", name];
    all[4].skep(&apply).deadline(PATIENCE).run()?;
    let lost = lost.as_u64().and_then(|value| usize::try_from(value).ok());
    until_shown(bloc, all, &[("of-both".to_owned(), lost.context("it wanted no number")?)])?;
    for node in all {
        let left = node.ask(&["catalog", "conflicts"])?;
        ensure!(left == Value::Array(Vec::new()), "{} still lists {left}", node.name);
    }
    let again = all[4].skep(&apply).output()?;
    ensure!(again.status.code() == Some(REFUSED), "it was applied twice: {}", again.stdout);
    ensure!(again.stderr.contains(name), "it said {}", again.stderr);
    Ok(())
}
