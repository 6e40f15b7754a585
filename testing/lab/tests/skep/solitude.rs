//! A manager that reaches nobody for too long, on real agents: it holds, over a restart as well,
//! writes down what it has, retires, and is of its flock again when it meets it (DVM-17, DVM-18).

use anyhow::{Context as _, Result, ensure};

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};
use crate::managers::{management, set, until_managed, until_shown};
use crate::scenario_timeline::{Timeline, apart, backups, until_role};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Days in life.
const TIMERS: &str = "[managers]\nalone = \"3s\"\nsolitude = \"8s\"\n";

fn problems(node: &Node) -> Result<String> {
    Ok(node.ask(&["status"])?["problems"].to_string())
}

#[test]
fn solitude_a_backup_that_meets_nobody_retires_with_what_it_has_and_comes_back() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("solitude")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(NAMES)?;
    let settings = Settings { more: TIMERS.to_owned(), ..Settings::default() };
    let mut nodes = bloc.started(&hosts, &settings)?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    let master = until_managed(&bloc, &all, 2)?;
    set(&nodes[0], "before", 1)?;
    until_shown(&bloc, &all, &[("before".to_owned(), 1)])?;
    let mut timeline = Timeline::new("solitude: a backup meets nobody")?;
    let (mastering, _) = apart(&nodes, &master)?;
    let lone = backups(mastering)?.first().context("two backups")?.clone();
    let place = nodes.iter().position(|node| node.name == lone).context("who is it?")?;

    timeline.note(&lone, "its network is cut")?;
    bloc.lab.isolate(&nodes[place].host)?;
    until_role(&bloc, &nodes[place], &["semi-master"])?;
    timeline.gather(&nodes);
    timeline.note(&lone, "its process is killed, and started")?;
    nodes[place].kill()?;
    nodes[place].start()?;
    until_role(&bloc, &nodes[place], &["retired"])?;
    let alone = &nodes[place];
    bloc.lab.wait_until("it says so, and what it has can be read", PATIENCE, || {
        let said = problems(alone)?;
        ensure!(said.contains("met no eligible node"), "its problems are {said}");
        let kept = alone.host.shell("cat /var/lib/skep/retired/catalog.toml").run()?;
        ensure!(kept.contains("[setting.\"before\"]\nvalue = 1\n"), "it wrote {kept}");
        Ok(())
    })?;
    // It shows what it has, and decides nothing.
    until_shown(&bloc, &[alone], &[("before".to_owned(), 1)])?;
    ensure!(management(alone)?["master"].is_null(), "it names a master");
    says_that_it_may_be_old(alone)?;
    let (_, others) = apart(&nodes, &lone)?;
    until_managed(&bloc, &others, 2)?;
    set(others[0], "meanwhile", 1)?;

    timeline.note(&lone, "its network is back")?;
    bloc.lab.heal()?;
    until_role(&bloc, alone, &["eligible", "backup"])?;
    let all: Vec<&Node> = nodes.iter().collect();
    until_shown(&bloc, &all, &[("before".to_owned(), 1), ("meanwhile".to_owned(), 1)])?;
    let said = problems(alone)?;
    ensure!(!said.contains("met no eligible node"), "its problems are {said}");
    bloc.lab.wait_until("what it shows is what the flock says", PATIENCE, || {
        let read = alone.ask(&["catalog", "get"])?;
        let fresh = &read["freshness"];
        ensure!(read["current"] == true && fresh["stale"] == false, "it says {fresh}");
        ensure!(!fresh["master"].is_null(), "it says {fresh}");
        Ok(())
    })?;
    timeline.gather(&nodes);
    ensure!(timeline.tells("it retires"), "nobody noted it");
    Ok(())
}

/// Whatever is read of the catalog there is marked stale, for people and for programs (DVM-17).
fn says_that_it_may_be_old(alone: &Node) -> Result<()> {
    let read = alone.ask(&["catalog", "get"])?;
    let fresh = &read["freshness"];
    ensure!(read["current"] == false && fresh["stale"] == true, "it says {fresh}");
    ensure!(fresh["master"].is_null(), "it says {fresh}");
    ensure!(fresh["unreached_ms"].as_u64() > Some(0), "it says {fresh}");
    let entry = alone.ask(&["catalog", "get", "setting/before"])?;
    ensure!(entry["freshness"]["stale"] == true, "it says {entry}");
    let reads: [&[&str]; 5] = [
        &["catalog", "get"],
        &["catalog", "get", "setting/before"],
        &["catalog", "history", "setting/before"],
        &["catalog", "diff", "0"],
        &["catalog", "export"],
    ];
    for read in reads {
        let said = alone.skep(read).run()?;
        ensure!(said.contains("STALE: no master was reached since this agent"), "it says {said}");
    }
    Ok(())
}

/// Why each stands where it stands, as an administrator reads it (DVM-11, DVM-12).
#[test]
fn a_roster_says_what_its_nodes_have_and_when_they_were_away() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("roster")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c"])?;
    let set_by_hand = |resources: u16| {
        let more = format!("[managers]\nresources = {resources}\n");
        Settings { more, ..Settings::joining(&[&hosts[0]]) }
    };
    let mut nodes = Vec::new();
    for (host, resources) in hosts.iter().zip([300, 600, 900]) {
        let mut node = bloc.node(host, &set_by_hand(resources))?;
        node.start()?;
        nodes.push(node);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &["a", "b", "c"])?;
    let master = until_managed(&bloc, &all, 2)?;
    let (mastering, _) = apart(&nodes, &master)?;
    let roster = |node: &Node| -> Result<Vec<serde_json::Value>> {
        let listed = node.ask(&["flock", "roster"])?;
        listed.as_array().cloned().context("the roster is no list")
    };
    bloc.lab.wait_until("the roster has all three, best first", PATIENCE, || {
        let listed = roster(mastering)?;
        let named: Vec<&str> = listed.iter().filter_map(|it| it["node"].as_str()).collect();
        ensure!(named == ["c", "b", "a"], "it is {named:?}");
        let has: Vec<_> = listed.iter().map(|it| it["resources"].clone()).collect();
        ensure!(has == [900, 600, 300], "they have {has:?}");
        Ok(())
    })?;
    let away = nodes.iter().position(|node| node.name != master).context("two others")?;
    nodes[away].kill()?;
    let (mastering, _) = apart(&nodes, &master)?;
    bloc.until_seen(&[mastering], &nodes[away].name, "silent")?;
    nodes[away].start()?;
    let (mastering, _) = apart(&nodes, &master)?;
    let name = nodes[away].name.clone();
    bloc.lab.wait_until("the roster says that it was away", PATIENCE, || {
        let listed = roster(mastering)?;
        let place = listed.iter().find(|it| it["node"] == *name).context("it is not listed")?;
        let seen = &place["seen"];
        ensure!(place["present"] == true && seen["absences"] == 1, "it says {place}");
        ensure!(seen["last"]["lasted_ms"].as_u64() > Some(0), "it says {place}");
        Ok(())
    })?;
    let said = mastering.skep(&["flock", "roster", "--explain"]).run()?;
    let (_, why) = said
        .split_once(&format!("\n{name}: "))
        .with_context(|| format!("nothing of {name} in {said}"))?;
    let why: Vec<&str> = why.lines().skip(1).take_while(|line| line.starts_with("  ")).collect();
    let why = why.join("; ");
    ensure!(why.contains("away once") && why.contains("resources are set"), "it says {why}");
    Ok(())
}
