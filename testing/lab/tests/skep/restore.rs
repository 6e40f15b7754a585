//! The whole catalog is there again after all three managers were destroyed at once, disks and all:
//! by what the nodes that are left show, and by an export where none is left (DVM-22).

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node};
use crate::managers::{set, until_managed, until_shown};
use crate::scenario_timeline::{Timeline, apart, backups, history, settings};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const STATE: &str = "/var/lib/skep";
/// Several entries of each kind that people write.
const CATALOG: &str = r#"
[group."web"]
about = "who serves pages, \"both\" rooms"
connectivity = 3
members = ["a", "b", "c"]

[group."db"]
topology_master = "d"

[rule."readers"]
who = ["a", "role:operator"]
may = ["subscribe"]
groups = ["web"]

[rule."writers"]
who = ["*"]
may = ["publish", "join-address"]

[expelled."stolen-1"]
reason = "a laptop that was stolen"

[expelled."stolen-2"]
reason = "another"

[setting."motd"]
value = "zurück um zwölf"

[setting."on"]
value = true

[setting."few"]
value = ["one", "two"]

[setting."gone"]
value = 1

[setting."number"]
value = 1

[target."chat"]
way = "webhook"
url = "https://chat.example/hook"
kinds = ["fork", "retired"]

[target."ops"]
way = "sendmail"
from = "skep@example.org"
to = ["ops@example.org"]
kinds = ["retired"]
"#;

/// The tables of an export, each with the comment before it: who wrote it, and when.
fn tables(export: &str) -> BTreeSet<String> {
    // Before the first is what is of the flock, not of the entries.
    export.split("\n\n").skip(1).map(|table| table.trim_end().to_owned()).collect()
}

/// The same without the comments.
fn said(export: &str) -> BTreeSet<String> {
    let bare = |table: &String| {
        let lines = table.lines().filter(|line| !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    };
    tables(export).iter().map(bare).collect()
}

fn exported(node: &Node) -> Result<String> {
    node.skep(&["catalog", "export"]).run()
}

/// Waits until each node's export is the same in all that `of` sees in it.
fn until_exported(
    bloc: &Bloc,
    nodes: &[&Node],
    wanted: &str,
    of: fn(&str) -> BTreeSet<String>,
) -> Result<()> {
    let wanted = of(wanted);
    for node in nodes {
        bloc.lab.wait_until("its export is what it was", PATIENCE, || {
            let has = of(&exported(node)?);
            let differs: Vec<&String> = wanted.symmetric_difference(&has).collect();
            ensure!(differs.is_empty(), "{} differs in {differs:#?}", node.name);
            Ok(())
        })?;
    }
    Ok(())
}

/// Fills the catalog and changes it; gives what the master exports then.
fn filled(bloc: &Bloc, nodes: &[&Node], master: &str) -> Result<String> {
    nodes[0].host.shell("cat > /tmp/filled.toml").stdin(CATALOG).run()?;
    let import = ["catalog", "import", "/tmp/filled.toml"];
    nodes[0].skep(&import).deadline(PATIENCE).run()?;
    nodes[0].skep(&["catalog", "rm", "setting/gone"]).deadline(PATIENCE).run()?;
    set(nodes[0], "number", 2)?;
    let mastering = nodes.iter().find(|node| node.name == master).context("who is master?")?;
    until_shown(bloc, &[mastering], &[("number".to_owned(), 2)])?;
    let export = exported(mastering)?;
    ensure!(said(&export).len() == CATALOG.matches("\n[").count() - 1, "it has {export}");
    until_exported(bloc, nodes, &export, tables)?;
    Ok(export)
}

/// Kills all of them at once. Nothing stays of what was on their disks.
fn destroy(timeline: &mut Timeline, nodes: &mut [Node], doomed: &[String]) -> Result<()> {
    timeline.gather(nodes);
    let doomed = |node: &&mut Node| doomed.contains(&node.name);
    for node in nodes.iter_mut().filter(doomed) {
        timeline.note(&node.name, "its process is killed, and its disk is lost")?;
        node.process()?.signal(Signal::KILL)?;
    }
    for node in nodes.iter_mut().filter(doomed) {
        node.kill()?;
        let lose = format!("test -d {STATE}/managers && find {STATE} -mindepth 1 -delete");
        node.host.shell(lose).run()?;
    }
    Ok(())
}

#[test]
fn restore_who_is_left_founds_with_all_that_three_destroyed_managers_had_decided() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("destroyed")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(NAMES)?;
    let mut nodes = bloc.started(&hosts, &settings())?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    let master = until_managed(&bloc, &all, 2)?;
    let before = filled(&bloc, &all, &master)?;
    let lost = history(&nodes[0])?;
    let mut doomed = backups(apart(&nodes, &master)?.0)?;
    doomed.push(master);
    let mut timeline = Timeline::new("restore: all three managers are destroyed")?;

    destroy(&mut timeline, &mut nodes, &doomed)?;
    let left: Vec<&Node> = nodes.iter().filter(|node| !doomed.contains(&node.name)).collect();
    until_managed(&bloc, &left, 1)?;
    let next = history(left[0])?;
    ensure!(next.1 == lost.1 + 1 && next.0 != lost.0, "{next:?} came after {lost:?}");
    until_exported(&bloc, &left, &before, tables)?;
    bloc.lab.wait_until("a write is acknowledged", PATIENCE, || set(left[0], "after", 1))?;
    timeline.note(&left[0].name, "a write is acknowledged")?;

    // They come back with nothing, and are given all of it.
    for node in nodes.iter_mut().filter(|node| doomed.contains(&node.name)) {
        timeline.note(&node.name, "it is started with an empty disk")?;
        node.start()?;
    }
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    until_managed(&bloc, &all, 2)?;
    let after = format!("{before}\n[setting.\"after\"]\nvalue = 1\n");
    until_exported(&bloc, &all, &after, said)?;
    timeline.gather(&nodes);
    Ok(())
}

#[test]
fn restore_an_export_brings_all_of_it_back_where_nobody_has_anything_left() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("destroyed-all")? else {
        return Ok(());
    };
    let names = &NAMES[..3];
    let hosts = bloc.lab.machines(["a", "b", "c"])?;
    let mut nodes = bloc.started(&hosts, &settings())?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, names)?;
    let master = until_managed(&bloc, &all, 2)?;
    let before = filled(&bloc, &all, &master)?;
    let doomed: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let mut timeline = Timeline::new("restore: all nodes are destroyed")?;

    destroy(&mut timeline, &mut nodes, &doomed)?;
    for node in &mut nodes {
        timeline.note(&node.name, "it is started with an empty disk")?;
        node.start()?;
    }
    let all: Vec<&Node> = nodes.iter().collect();
    for node in &all {
        bloc.lab.wait_until("it answers, and has nothing", PATIENCE, || {
            let export = exported(node)?;
            ensure!(tables(&export).is_empty(), "it has {export}");
            Ok(())
        })?;
    }
    all[1].host.shell("cat > /tmp/catalog.toml").stdin(before.as_str()).run()?;
    // A node that is alone begins a flock by itself, perhaps at that moment: who is refused looks
    // and says it again.
    bloc.lab.wait_until("the export is restored", PATIENCE, || {
        let recover = ["flock", "recover", "--from", "/tmp/catalog.toml", "--yes"];
        all[1].skep(&recover).deadline(PATIENCE).run()
    })?;
    timeline.note(&all[1].name, "the export is restored")?;
    bloc.until_present(&all, names)?;
    until_managed(&bloc, &all, 2)?;
    until_exported(&bloc, &all, &before, said)?;
    set(all[2], "after", 1)?;
    until_shown(&bloc, &all, &[("after".to_owned(), 1)])?;
    timeline.gather(&nodes);
    Ok(())
}
