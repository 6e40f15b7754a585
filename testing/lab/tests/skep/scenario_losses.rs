//! The founding documents' scenarios of lost managers on real agents: a backup silent (1), master
//! and a backup lost (2), both backups silent (3), the master cut off (4). DVM-5 to 26.

use anyhow::{Context as _, Result, ensure};

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};
use crate::managers::{management, set, until_managed, until_shown};
use crate::scenario_timeline::{
    Timeline, apart, backups, history, settings, settings_with_letters, until_role, until_told_once,
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Five nodes with a master and two backups, and one entry.
fn flock(bloc: &Bloc) -> Result<(Vec<Node>, String)> {
    flock_with(bloc, &settings())
}

fn flock_with(bloc: &Bloc, settings: &Settings) -> Result<(Vec<Node>, String)> {
    let hosts = bloc.lab.machines(NAMES)?;
    let nodes = bloc.started(&hosts, settings)?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    let master = until_managed(bloc, &all, 2)?;
    set(&nodes[0], "before", 1)?;
    until_shown(bloc, &all, &entries(&["before"]))?;
    Ok((nodes, master))
}

fn entries(names: &[&str]) -> Vec<(String, usize)> {
    names.iter().map(|name| ((*name).to_owned(), 1)).collect()
}

#[test]
fn scenario_1_a_silent_backup_is_replaced_and_comes_back_as_one_of_many() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("scenario-1")? else {
        return Ok(());
    };
    let (nodes, master) = flock(&bloc)?;
    let mut timeline = Timeline::new("scenario 1: a backup is silent")?;
    let (mastering, _) = apart(&nodes, &master)?;
    let stamp = management(mastering)?["stamp"].clone();
    let silent = backups(mastering)?.first().context("two backups")?.clone();
    let (away, others) = apart(&nodes, &silent)?;

    timeline.note(&silent, "its network is cut")?;
    bloc.lab.isolate(&away.host)?;
    set(others[0], "meanwhile", 1)?;
    timeline.note(&others[0].name, "a write is acknowledged")?;
    bloc.lab.wait_until("another has its place", PATIENCE, || {
        let (backups, seen) = (backups(mastering)?, management(mastering)?);
        let kept = seen["sync_set"].as_array().map_or(0, Vec::len);
        ensure!(!backups.contains(&silent) && backups.len() == 2 && kept == 3, "it is {seen}");
        Ok(())
    })?;
    until_managed(&bloc, &others, 2)?;

    timeline.note(&silent, "its network is back")?;
    bloc.lab.heal()?;
    until_role(&bloc, away, &["eligible"])?;
    let all: Vec<&Node> = nodes.iter().collect();
    until_shown(&bloc, &all, &entries(&["before", "meanwhile"]))?;
    timeline.gather(&nodes);
    ensure!(timeline.tells(&format!("{silent} is no backup any more")), "nobody noted it");
    ensure!(management(mastering)?["stamp"] == stamp, "there was an election");
    Ok(())
}

#[test]
fn scenario_2_the_last_manager_founds_the_next_generation_and_the_dead_hand_over() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("scenario-2")? else {
        return Ok(());
    };
    let (mut nodes, master) = flock_with(&bloc, &settings_with_letters())?;
    let mut timeline = Timeline::new("scenario 2: master and a backup are lost")?;
    let before = history(&nodes[0])?;
    let (mastering, _) = apart(&nodes, &master)?;
    let lost = [master.clone(), backups(mastering)?.first().context("two backups")?.clone()];
    timeline.gather(&nodes);
    for node in nodes.iter_mut().filter(|node| lost.contains(&node.name)) {
        timeline.note(&node.name, "its process is killed")?;
        node.kill()?;
    }
    let left: Vec<&Node> = nodes.iter().filter(|node| !lost.contains(&node.name)).collect();
    bloc.lab.wait_until("a write is acknowledged", PATIENCE, || set(left[0], "after", 1))?;
    timeline.note(&left[0].name, "a write is acknowledged")?;
    until_managed(&bloc, &left, 2)?;
    let next = history(left[0])?;
    ensure!(next.1 == before.1 + 1 && next.0 != before.0, "{next:?} came after {before:?}");
    until_shown(&bloc, &left, &entries(&["before", "after"]))?;

    for node in nodes.iter_mut().filter(|node| lost.contains(&node.name)) {
        timeline.note(&node.name, "its process is started")?;
        node.start()?;
    }
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    let last = until_managed(&bloc, &all, 2)?;
    ensure!(!lost.contains(&last), "{last} is master again, unasked");
    until_shown(&bloc, &all, &entries(&["before", "after"]))?;
    timeline.gather(&nodes);
    ensure!(timeline.tells("semi-master"), "nobody was semi-master");
    // The lone manager told of itself, and then of the flock that it founded.
    for what in ["open: semi-mastery", "over: semi-mastery", "happened: fork"] {
        until_told_once(&bloc, &nodes, what)?;
    }
    Ok(())
}

#[test]
fn scenario_3_a_master_without_its_backups_acknowledges_nothing_until_it_is_a_new_flock()
-> Result<()> {
    let Some(bloc) = Bloc::or_skip("scenario-3")? else {
        return Ok(());
    };
    let (nodes, master) = flock(&bloc)?;
    let mut timeline = Timeline::new("scenario 3: both backups are silent")?;
    let before = history(&nodes[0])?;
    let (mastering, _) = apart(&nodes, &master)?;
    // The first node came with the bloc's founding token.
    bloc.lab.wait_until("all five are on a strong flock's roster", PATIENCE, || {
        let seen = management(mastering)?;
        let strict = seen["authority"]["holder"] == master.as_str();
        ensure!(strict && seen["strength"] == "strong", "it is {seen}");
        ensure!(seen["authority"]["roster"] == NAMES.len(), "the roster is {}", seen["roster"]);
        Ok(())
    })?;
    bloc.lab.wait_until("a write is strong", PATIENCE, || {
        let write = ["catalog", "set", "setting/strong", "value=1"];
        let said = mastering.skep(&write).deadline(PATIENCE).run()?;
        ensure!(said.contains("strong"), "it said {said}");
        Ok(())
    })?;
    timeline.note(&master, "a write is strong")?;
    let silent = backups(mastering)?;
    for node in nodes.iter().filter(|node| silent.contains(&node.name)) {
        timeline.note(&node.name, "its process stands still")?;
        node.process()?.pause()?;
    }
    until_role(&bloc, mastering, &["backup", "semi-master"])?;
    let left: Vec<&Node> = nodes.iter().filter(|node| !silent.contains(&node.name)).collect();
    bloc.lab.wait_until("a write is acknowledged", PATIENCE, || set(mastering, "after", 1))?;
    timeline.note(&master, "a write is acknowledged")?;
    let next = history(mastering)?;
    ensure!(next.1 == before.1 + 1, "it was acknowledged in {next:?}, before it was {before:?}");
    until_managed(&bloc, &left, 2)?;

    for node in nodes.iter().filter(|node| silent.contains(&node.name)) {
        timeline.note(&node.name, "its process goes on")?;
        node.process()?.resume()?;
    }
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    until_managed(&bloc, &all, 2)?;
    until_shown(&bloc, &all, &entries(&["before", "after"]))?;
    timeline.gather(&nodes);
    // With most of the roster it does so at once, and its writes are strong again.
    ensure!(timeline.tells("is founded, generation 2, strong"), "nobody founded it strong");
    Ok(())
}

#[test]
fn scenario_4_a_master_that_is_cut_off_acknowledges_nothing_while_another_does() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("scenario-4")? else {
        return Ok(());
    };
    let (nodes, master) = flock(&bloc)?;
    let mut timeline = Timeline::new("scenario 4: the master is cut off")?;
    let before = history(&nodes[0])?;
    let (cut_off, others) = apart(&nodes, &master)?;
    timeline.note(&master, "its network is cut")?;
    bloc.lab.isolate(&cut_off.host)?;
    let wrongly = std::thread::scope(|scope| {
        // It waits for a master for as long as agents do, and is told that there was none.
        let minor = scope.spawn(|| set(cut_off, "minor", 1).is_ok());
        bloc.lab.wait_until("a write is acknowledged", PATIENCE, || set(others[0], "major", 1))?;
        timeline.note(&others[0].name, "a write is acknowledged")?;
        minor.join().map_err(|_| anyhow::anyhow!("the other writer failed"))
    })?;
    ensure!(!wrongly, "{master} acknowledged a write without its flock");
    timeline.note(&master, "a write there was refused")?;
    let next = until_managed(&bloc, &others, 2)?;
    ensure!(next != master, "the cut-off one is master");
    ensure!(history(others[0])? == before, "an election founds nothing");

    timeline.note(&master, "its network is back")?;
    bloc.lab.heal()?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    until_managed(&bloc, &all, 2)?;
    until_shown(&bloc, &all, &entries(&["before", "major"]))?;
    let role = management(cut_off)?["role"].clone();
    ensure!(role != "master", "it came back as master, unasked");
    timeline.gather(&nodes);
    Ok(())
}
