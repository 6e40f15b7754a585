//! Wall clocks that jump under a running agent, and that are still wrong when it is started again
//! (BLOC-40, FLOOD-32).
//!
//! The kernel has one wall clock, and it is the machine's: each agent takes its own from a file.

use anyhow::{Context as _, Result, ensure};

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};
use crate::tree;
use crate::wave::{roll_out, until_done};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Longer than certificates and their grace, and back to before they were made.
const FAR_MS: i64 = 400 * 24 * 3600 * 1000;

/// Each node publishes a line, and everybody has it.
fn say(bloc: &Bloc, nodes: &[Node], what: &str, lines: &mut Vec<String>) -> Result<()> {
    for node in nodes {
        let line = format!("{} {what}", node.name);
        node.publish(&line)?;
        lines.push(line);
    }
    bloc.until_logged(&nodes.iter().collect::<Vec<_>>(), lines)
}

/// Nobody saw anybody silent, since these lives began.
fn ensure_nobody_was_silent(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        for name in NAMES {
            let silent = node.times_seen(name, "silent")?;
            ensure!(silent == 0, "{} saw {name} silent {silent} times", node.name);
        }
    }
    Ok(())
}

fn until_problem(bloc: &Bloc, node: &Node, text: &str, there: bool) -> Result<()> {
    let what = format!("{} says{} {text:?}", node.name, if there { "" } else { " no more" });
    bloc.lab.wait_until(&what, PATIENCE, || {
        let problems = node.ask(&["status"])?["problems"].to_string();
        ensure!(problems.contains(text) == there, "its problems are {problems}");
        Ok(())
    })
}

#[test]
fn a_clock_that_jumps_back_before_all_certificates_changes_nothing() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("clock-back")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(NAMES)?;
    hosts[2].jump_clock(0)?;
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &NAMES)?;
    let mut lines = Vec::new();
    say(&bloc, &nodes, "before the jump", &mut lines)?;

    hosts[2].jump_clock(-FAR_MS)?;
    say(&bloc, &nodes, "after the jump", &mut lines)?;
    let source = hosts[0].dir().join("source");
    tree::grow(&source, 6, 1 << 20)?;
    let wave = roll_out(&nodes[0], &source, "/srv/tree")?;
    until_done(&bloc, &nodes[2], &wave, &nodes.iter().collect::<Vec<_>>())?;
    tree::ensure_equal(&hosts[2], &source.display().to_string(), "/srv/tree")?;
    ensure_nobody_was_silent(&nodes)?;
    until_problem(&bloc, &nodes[2], "the wall clock is wrong", true)?;

    // Twice: what the first of these lives noted must not keep the second out.
    for life in ["first", "second"] {
        nodes[2].kill()?;
        nodes[2].start()?;
        bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &NAMES)?;
        say(&bloc, &nodes, &format!("in the {life} life of c with it"), &mut lines)?;
    }
    hosts[2].jump_clock(0)?;
    until_problem(&bloc, &nodes[2], "the wall clock is wrong", false)?;
    nodes[2].kill()?;
    nodes[2].start()?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &NAMES)?;
    say(&bloc, &nodes, "when it was right again", &mut lines)
}

#[test]
fn a_clock_that_jumps_beyond_all_certificates_shuts_one_node_in_until_it_is_set() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("clock-ahead")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(NAMES)?;
    hosts[2].jump_clock(0)?;
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &NAMES)?;
    let mut lines = Vec::new();
    say(&bloc, &nodes, "before the jump", &mut lines)?;
    let source = hosts[0].dir().join("source");
    tree::grow(&source, 7, 1 << 20)?;
    let wave = roll_out(&nodes[0], &source, "/srv/tree")?;
    until_done(&bloc, &nodes[0], &wave, &nodes.iter().collect::<Vec<_>>())?;

    // Links that stand are judged by nobody's clock.
    hosts[2].jump_clock(FAR_MS)?;
    say(&bloc, &nodes, "after the jump", &mut lines)?;
    ensure_nobody_was_silent(&nodes)?;
    until_problem(&bloc, &nodes[2], "the certificate expired", true)?;

    // A start with it: all that the others show has expired long ago, so c is alone and says why.
    nodes[2].kill()?;
    nodes[2].start()?;
    bloc.until_seen(&[&nodes[0], &nodes[1]], "c", "silent")?;
    bloc.until_present(&[&nodes[0], &nodes[1]], &["a", "b"])?;
    bloc.lab.wait_until("c names whom it refuses, and why", PATIENCE, || {
        let events = nodes[2].events()?;
        let refused = events.iter().filter(|event| event["event"] == "refused");
        let whys: Vec<_> = refused.map(|event| event["why"].to_string()).collect();
        ensure!(whys.iter().any(|why| why.contains("expired")), "{whys:?}");
        Ok(())
    })?;
    tree::ensure_equal(&hosts[2], &source.display().to_string(), "/srv/tree")?;
    nodes[2].publish("c alone with its clock")?;
    say(&bloc, &nodes[..2], "while c is shut in", &mut lines)?;

    // It is set right: nothing needs a restart, though c noted a time that is far ahead.
    hosts[2].jump_clock(0)?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    until_problem(&bloc, &nodes[2], "the certificate expired", false)?;
    lines.push("c alone with its clock".into());
    bloc.until_logged(&all[..2], &lines)?;
    // By the clock of its start, c's own copies were past the purge age. What was said since it has
    // as well, and everything once.
    let since = lines.iter().filter(|line| line.contains("shut in") || line.contains("alone"));
    bloc.until_logged(&all[2..], &since.cloned().collect::<Vec<_>>())?;
    let log = nodes[2].log()?;
    let twice = log.iter().find(|line| log.iter().filter(|other| other == line).count() > 1);
    ensure!(twice.is_none(), "c has {twice:?} twice");
    let life = nodes[0].member("c")?["incarnation"].as_u64().context("no incarnation")?;
    nodes[2].kill()?;
    nodes[2].start()?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &NAMES)?;
    let next = nodes[0].member("c")?["incarnation"].as_u64().context("no incarnation")?;
    ensure!(next > life, "life {life} was followed by {next}");
    Ok(())
}
