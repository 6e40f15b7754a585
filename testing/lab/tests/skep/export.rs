//! A command that fills a disk: its own, and the one that the agent writes its log to (FLOOD-34,
//! FLOOD-41).

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skep_lab::Host;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};

/// One file an update, which is there as a whole or not at all.
const FILER: &str = "#!/bin/sh
f=/srv/$SKEP_FIRST
cat > $f.part && mv $f.part $f && exit 0
rm -f $f.part
exit 1
";
/// While there is a file `greedy`, takes all the room there is on the disk of the agent, and fails.
const GREEDY: &str = "#!/bin/sh
if [ -e /run/skep/greedy ]; then
    [ -e /disk/fill ] || cat /dev/zero > /disk/fill
    exit 1
fi
cat >> /run/skep/out
";
const KIB: usize = 1 << 10;

fn lay_out(host: &Host, command: &str) -> Result<()> {
    let line = "mkdir -p /etc/skep && cat > /etc/skep/command && chmod 755 /etc/skep/command";
    host.shell(line).stdin(command).run().map(drop)
}

/// A group of its own for exports, tried again soon, an update at a time.
fn exporting(settings: Settings) -> Settings {
    let more = "[group.web]\nexport_command = [\"/etc/skep/command\"]\n\
                [export]\nbatch_updates = 1\nretry_first = \"50ms\"\nretry_last = \"200ms\"\n";
    Settings { more: more.to_owned(), ..settings }
}

/// Waits until a node says of one of its checks on itself whether it holds.
fn until_check(bloc: &Bloc, node: &Node, name: &str, holds: bool) -> Result<()> {
    bloc.lab.wait_until(&format!("what health says of {name}"), PATIENCE, || {
        let health = node.skep(&["health", "--json"]).output()?;
        let told: Value = serde_json::from_str(&health.stdout)?;
        let checks = told["checks"].as_array().context("no checks")?;
        let check = checks.iter().find(|check| check["name"] == name);
        let check = check.with_context(|| format!("nothing about {name}"))?;
        ensure!(check["ok"] == holds, "{check}");
        ensure!(holds || !health.status.success(), "it calls itself well");
        Ok(())
    })
}

/// Publishes to everybody, and not to the group of the commands, which a node with a group of its
/// own would choose by itself.
fn say(node: &Node, text: &str) -> Result<()> {
    let send = node.skep(&["flood", "send", "--group", "all", "--text", text]);
    send.deadline(PATIENCE).run().map(drop)
}

#[test]
fn a_command_whose_disk_is_full_gets_its_batch_again_until_there_is_room() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("export-full")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b"])?;
    hosts[1].shell("mount -t tmpfs -o size=256k srv /srv").run()?;
    hosts.iter().try_for_each(|host| lay_out(host, FILER))?;
    let nodes = bloc.started(&hosts, &exporting(Settings::default()))?;
    bloc.until_present(&[&nodes[0], &nodes[1]], &["a", "b"])?;
    let body = |number: usize| format!("{number:010}").repeat(10 * KIB);
    for number in 0..6 {
        let publish = nodes[0].skep(&["flood", "send", "--group", "web"]);
        publish.stdin(body(number)).run()?;
    }
    until_check(&bloc, &nodes[1], "export", false)?;
    // Nobody else is held up by it, and nothing on that disk is half of anything.
    let filed = |host: &Host| host.shell("ls /srv | grep -v part$ | wc -l").run();
    bloc.lab.wait_until("the other has them all", PATIENCE, || {
        let count = filed(&hosts[0])?;
        ensure!(count.trim() == "6", "{count}");
        Ok(())
    })?;
    until_check(&bloc, &nodes[0], "export", true)?;
    ensure!(filed(&hosts[1])?.trim() == "2", "{}", filed(&hosts[1])?);

    hosts[1].shell("mount -o remount,size=8m /srv").run()?;
    bloc.lab.wait_until("all of them are filed", PATIENCE, || {
        let count = filed(&hosts[1])?;
        ensure!(count.trim() == "6", "{count}");
        Ok(())
    })?;
    for (number, sequence) in (1..=6).enumerate() {
        let file = hosts[1].shell(format!("cat /srv/a:1:{sequence}")).run()?;
        ensure!(file == body(number), "update {number} is another");
    }
    until_check(&bloc, &nodes[1], "export", true)
}

#[test]
fn a_command_that_fills_the_agents_disk_costs_nothing_that_was_promised() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("export-greedy")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b"])?;
    hosts[1].shell("mkdir /disk; mount -t tmpfs -o size=24m disk /disk").run()?;
    hosts.iter().try_for_each(|host| lay_out(host, GREEDY))?;
    let mut nodes = bloc.started(&hosts[..1], &exporting(Settings::default()))?;
    let settings = Settings {
        state_dir: Some(PathBuf::from("/disk/state")),
        ..exporting(Settings::joining(&[&hosts[0]]))
    };
    let mut greedy = bloc.node(&hosts[1], &settings)?;
    greedy.start()?;
    nodes.push(greedy);
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &["a", "b"])?;
    let mut lines = vec!["before".to_owned()];
    say(&nodes[1], &lines[0])?;

    hosts[1].shell("touch /run/skep/greedy").run()?;
    nodes[0].skep(&["flood", "send", "--group", "web", "--text", "eat"]).run()?;
    bloc.lab.wait_until("a publish at b is refused for want of room", PATIENCE, || {
        // More than may still fit into the last page of a file.
        let send = nodes[1].skep(&["flood", "send", "--group", "all"]);
        let sent = send.stdin("refused".repeat(2 * KIB)).output()?;
        ensure!(!sent.status.success(), "it was taken");
        let room = sent.stderr.contains("disk") || sent.stderr.contains("space");
        ensure!(room, "refused for another reason: {}", sent.stderr);
        Ok(())
    })?;
    until_check(&bloc, &nodes[1], "disk", false)?;
    for number in 0..5 {
        let line = format!("a while the disk of b is full, {number}");
        say(&nodes[0], &line)?;
        lines.push(line);
    }
    bloc.until_logged(&all[..1], &lines)?;
    bloc.until_present(&all, &["a", "b"])?;
    ensure!(nodes[1].process()?.is_running(), "a full disk was the end of its agent");

    hosts[1].shell("rm /run/skep/greedy /disk/fill").run()?;
    bloc.until_logged(&all, &lines)?;
    say(&nodes[1], "after")?;
    lines.push("after".to_owned());
    bloc.until_logged(&all, &lines)?;
    bloc.lab.wait_until("the command has what it could not take", PATIENCE, || {
        let out = hosts[1].shell("cat /run/skep/out").run()?;
        ensure!(out == "eat", "{out:?}");
        Ok(())
    })?;
    until_check(&bloc, &nodes[1], "disk", true)?;
    until_check(&bloc, &nodes[1], "export", true)?;
    // What it had promised before survives what it could not write.
    drop(all);
    nodes[1].kill()?;
    nodes[1].start()?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_logged(&all, &lines)
}
