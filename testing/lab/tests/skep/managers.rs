//! One master and two backups, of real agents: what was acknowledged survives the master's death,
//! and a backup takes over (DVM-25, DVM-26).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};

/// Who manages the flock, as a node shows it.
pub(crate) fn management(node: &Node) -> Result<Value> {
    Ok(node.ask(&["flock"])?["management"].clone())
}

/// Waits until all of `nodes` name the same master, which has so many backups; gives its name.
pub(crate) fn until_managed(bloc: &Bloc, nodes: &[&Node], backups: usize) -> Result<String> {
    let what = format!("one master with {backups} backups");
    bloc.lab.wait_until(&what, PATIENCE, || {
        let mut master = None;
        for node in nodes {
            let seen = management(node)?;
            let named = seen["master"].as_str().context("it names no master")?.to_owned();
            let of = seen["backups"].as_array().map_or(0, Vec::len);
            ensure!(of == backups, "{} sees {of} backups: {seen}", node.name);
            let first = master.get_or_insert_with(|| named.clone());
            ensure!(*first == named, "{first} and {named} are both called master");
        }
        let master = master.context("nobody was asked")?;
        let itself = nodes.iter().find(|node| node.name == master);
        let itself = itself.context("the master is not among those that live")?;
        let role = management(itself)?["role"].clone();
        ensure!(role == "master", "{master} calls itself {role}");
        Ok(master)
    })
}

pub(crate) fn set(node: &Node, name: &str, value: usize) -> Result<()> {
    let (key, value) = (format!("setting/{name}"), format!("value={value}"));
    node.skep(&["catalog", "set", &key, &value]).deadline(PATIENCE).run().map(drop)
}

/// Waits until each of `nodes` shows each of the entries.
pub(crate) fn until_shown(bloc: &Bloc, nodes: &[&Node], entries: &[(String, usize)]) -> Result<()> {
    for node in nodes {
        let what = format!("{} shows {} entries", node.name, entries.len());
        bloc.lab.wait_until(&what, PATIENCE, || {
            let catalog = node.ask(&["catalog", "get"])?;
            let shown = catalog["entries"].as_array().context("entries are no list")?;
            for (name, value) in entries {
                let key = format!("setting/{name}");
                let entry = shown.iter().find(|entry| entry["key"] == *key);
                let says = entry.map(|entry| entry["fields"]["value"].clone());
                ensure!(says == Some(Value::from(*value)), "{name} says {says:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_backup_takes_over_from_a_killed_master_and_nothing_acknowledged_is_lost() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("fail-over")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c", "d"])?;
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &["a", "b", "c", "d"])?;
    let master = until_managed(&bloc, &all, 2)?;
    let mut written = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let name = format!("first-{}", node.name);
        set(node, &name, at)?;
        written.push((name, at));
    }
    until_shown(&bloc, &all, &written)?;

    let place = nodes.iter().position(|node| node.name == master).context("who is master?")?;
    nodes[place].kill()?;
    let killed = Instant::now();
    let others: Vec<&Node> = nodes.iter().filter(|node| node.name != master).collect();
    // What was on its way to the dead may have happened: who asks looks, or asks again.
    bloc.lab.wait_until("a write is acknowledged", PATIENCE, || set(others[0], "second", 2))?;
    let gap = killed.elapsed();
    written.push(("second".to_owned(), 2));
    until_shown(&bloc, &others, &written)?;
    let next = until_managed(&bloc, &others, 2)?;
    ensure!(next != master, "the dead are no masters");

    nodes[place].start()?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &["a", "b", "c", "d"])?;
    set(all[place], "third", 3)?;
    written.push(("third".to_owned(), 3));
    until_shown(&bloc, &all, &written)?;
    let role = management(all[place])?["role"].clone();
    ensure!(role != "master", "it came back as {role}, unasked");
    ensure!(gap < Duration::from_secs(30), "the next write took {gap:?}");
    Ok(())
}

#[test]
fn a_master_hands_over_a_file_restores_the_catalog_and_an_expelled_node_is_let_go() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("hand-over")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c", "d"])?;
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &["a", "b", "c", "d"])?;
    let master = until_managed(&bloc, &all, 2)?;
    set(&nodes[3], "kept", 1)?;
    nodes[3].skep(&["flock", "step-down"]).deadline(PATIENCE).run()?;
    let next = until_managed(&bloc, &all, 2)?;
    ensure!(next != master, "{master} stepped down, and is master");

    // Who is stopped hands over before it goes: there is another master by then.
    let place = nodes.iter().position(|node| node.name == next).context("who is master?")?;
    let status = nodes[place].process()?.terminate(PATIENCE)?;
    ensure!(status.success(), "{next} ended with {status}");
    let others = nodes.iter().filter(|node| node.name != next);
    let roles: Vec<Value> = others
        .map(|node| management(node).map(|seen| seen["role"].clone()))
        .collect::<Result<_>>()?;
    ensure!(roles.contains(&Value::from("master")), "{next} has stopped, and there is {roles:?}");
    nodes[place].start()?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &["a", "b", "c", "d"])?;
    let next = until_managed(&bloc, &all, 2)?;

    let file = nodes[0].skep(&["catalog", "export"]).run()?;
    ensure!(file.contains("[setting.\"kept\"]\nvalue = 1\n"), "the export is {file}");
    nodes[1].skep(&["catalog", "rm", "setting/kept"]).deadline(PATIENCE).run()?;
    nodes[1].host.shell("cat > /tmp/catalog.toml").stdin(file).run()?;
    let import = ["catalog", "import", "/tmp/catalog.toml"];
    let said = nodes[1].skep(&import).deadline(PATIENCE).run()?;
    ensure!(said.contains("1 set, 0 removed"), "the import said {said}");
    until_shown(&bloc, &all, &[("kept".to_owned(), 1)])?;

    let out = nodes.iter().find(|node| node.name != next);
    let out = out.context("three others")?;
    let key = format!("expelled/{}", out.name);
    let left: Vec<&Node> = nodes.iter().filter(|node| node.name != out.name).collect();
    left[0].skep(&["catalog", "set", &key, "reason=test"]).deadline(PATIENCE).run()?;
    bloc.until_seen(&left, &out.name, "silent")
}
