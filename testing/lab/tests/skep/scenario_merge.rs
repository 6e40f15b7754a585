//! Scenario 5 on real agents: two masters meet, and what both decided is in one catalog or in its
//! log of conflicts (DVM-27, 28).

use anyhow::{Context as _, Result, ensure};

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, address};
use crate::managers::{set, until_managed, until_shown};
use crate::scenario_timeline::{Timeline, history, settings};

#[test]
fn scenario_5_two_masters_meet_and_nothing_that_either_decided_vanishes() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("scenario-5")? else {
        return Ok(());
    };
    let names = ["a", "b", "c", "d", "e", "f"];
    let hosts = bloc.lab.machines(names)?;
    let (here, there) = hosts.split_at(3);
    bloc.lab.partition(&[here, there])?;
    let mut nodes = bloc.started(here, &settings())?;
    let mut beyond = settings();
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
            let key = |entry: &serde_json::Value| entry["key"].as_str().unwrap_or("").to_owned();
            let both = entries.iter().find(|entry| key(entry) == "setting/of-both");
            let value = both.and_then(|entry| entry["fields"]["value"].as_u64());
            ensure!(matches!(value, Some(3 | 4)), "of-both says {value:?}");
            let conflicts = entries.iter().filter(|entry| key(entry).starts_with("conflict/"));
            ensure!(conflicts.count() == 1, "the conflicts are not one: {catalog}");
            Ok(())
        })?;
    }
    timeline.gather(&nodes);
    ensure!(timeline.tells("merged into this one"), "nobody noted the merge");
    Ok(())
}
