//! Waves in the parts of a flock that was cut in two: each policy of `managers.split` by what a
//! queen is told who starts one (DVM-24, DLIF-16).

use anyhow::{Context as _, Result, ensure};
use skep_lab::Host;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings, address};
use crate::managers::{management, until_managed};
use crate::scenario_timeline::{Timeline, backups, settings};
use crate::tree;
use crate::wave::until_done;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Of each. The first two are cut off from the others.
const POLICIES: [&str; 5] = ["hold-minority", "hold", "hold", "hold-minority", "hold-minority"];
/// How `skep` ends when an agent refuses.
const REFUSED: i32 = 4;
const CONFIG: &str = "/etc/skep/skep.toml";
const WAVE: [&str; 7] = ["wave", "start", "site", "--to", "all", "--at", "/srv/tree"];

/// Settings of a scenario, whose last section is that of the managers.
fn with_policy(policy: &str, first: &Host) -> Settings {
    let more = format!("{}split = {policy:?}\n", settings().more);
    Settings { more, join: vec![address(first)], ..Settings::default() }
}

/// Makes the first the master and the second a backup, whoever was.
fn first_two_manage(bloc: &Bloc, all: &[&Node]) -> Result<()> {
    let order = |verb: &str, node: &str| {
        all[2].skep(&["flock", verb, node]).deadline(PATIENCE).run().map(drop)
    };
    bloc.lab.wait_until("the first two manage", PATIENCE, || {
        let master = until_managed(bloc, all, 2)?;
        for node in all.iter().take(2).map(|node| node.name.as_str()) {
            // Only a backup can be handed the office, and a promotion takes the lowest one's place.
            if master != node && !backups(all[2])?.iter().any(|it| it == node) {
                order("promote", node)?;
            }
        }
        if master != all[0].name {
            order("transfer", &all[0].name)?;
        }
        let (seen, named) = (management(all[2])?, backups(all[2])?);
        ensure!(seen["master"] == *all[0].name && named.contains(&all[1].name), "it is {seen}");
        Ok(())
    })
}

/// Waits until a node shows so many of a roster of five, and whether a wave may start there.
fn until_ruled(bloc: &Bloc, node: &Node, there: usize, may_start: bool) -> Result<()> {
    let what = format!("{} has {there} of the roster and says what it rules", node.name);
    bloc.lab.wait_until(&what, PATIENCE, || {
        let seen = management(node)?;
        let (authority, split) = (&seen["authority"], &seen["split"]);
        ensure!(authority["roster"] == NAMES.len() && authority["there"] == there, "{seen}");
        ensure!(split["may_start"] == may_start, "{split}");
        Ok(())
    })
}

/// Has a queen start a wave, which she refuses under this policy for this reason. Who does not
/// answer the master's call of the roll at once is not there, so she may be asked again.
fn until_refused(bloc: &Bloc, queen: &Node, policy: &str, why: &str) -> Result<()> {
    let what = format!("{} refuses a wave for the right reason", queen.name);
    bloc.lab.wait_until(&what, PATIENCE, || ensure_refused(queen, policy, why))
}

fn ensure_refused(queen: &Node, policy: &str, why: &str) -> Result<()> {
    let answer = queen.skep(&WAVE).deadline(PATIENCE).output()?;
    let said = &answer.stderr;
    let code = answer.status.code();
    ensure!(code == Some(REFUSED), "{} ended with {code:?}: {}{said}", queen.name, answer.stdout);
    let reason = format!("no new wave is started: split = {policy}, and {why}");
    ensure!(said.contains(&reason), "{} said {said}", queen.name);
    ensure!(said.contains("skep flock"), "what to do is not said: {said}");
    let waves = queen.ask(&["wave", "status"])?;
    ensure!(waves.as_array().is_some_and(Vec::is_empty), "it started all the same: {waves}");
    Ok(())
}

fn started(queen: &Node) -> Result<String> {
    let started = queen.ask(&WAVE)?;
    let id = started["wave"]["id"].as_str().or_else(|| started["id"].as_str());
    id.map(str::to_owned).with_context(|| format!("a wave without a name: {started}"))
}

#[test]
fn split_the_lesser_part_starts_no_wave_unless_it_shall_and_the_greater_one_does() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("split-policies")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(NAMES)?;
    let mut nodes = Vec::new();
    for (host, policy) in hosts.iter().zip(POLICIES) {
        let mut node = bloc.node(host, &with_policy(policy, &hosts[0]))?;
        node.start()?;
        nodes.push(node);
    }
    let source = hosts[0].dir().join("source");
    tree::grow(&source, 4, 256 << 10)?;
    let source = source.to_str().context("a folder that is not UTF-8")?;
    for node in &nodes[..4] {
        let build = ["image", "build", source, "--name", "site"];
        node.skep(&build).deadline(PATIENCE).run()?;
    }
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &NAMES)?;
    first_two_manage(&bloc, &all)?;
    until_ruled(&bloc, all[0], NAMES.len(), true)?;
    until_ruled(&bloc, all[2], NAMES.len(), true)?;

    let mut timeline = Timeline::new("split: two of five are cut off")?;
    timeline.note("", "the network is cut")?;
    let (lesser, greater) = hosts.split_at(2);
    bloc.lab.partition(&[lesser, greater])?;
    // Strict authority lasts for seconds, and says more than a look around while it does.
    until_ruled(&bloc, all[0], 2, false)?;
    until_refused(&bloc, all[0], "hold-minority", "2 of 5 of the roster are there")?;
    until_refused(&bloc, all[1], "hold", "2 of 5 of the roster are there")?;
    timeline.note("", "the lesser part refused waves")?;

    // The one backup there founds the next generation with most of the roster behind it.
    until_ruled(&bloc, all[3], 3, true)?;
    until_ruled(&bloc, all[2], 3, false)?;
    until_refused(&bloc, all[2], "hold", "3 of 5 of the roster are there")?;
    let wave = bloc.lab.wait_until("a wave starts", PATIENCE, || started(all[3]))?;
    until_done(&bloc, all[3], &wave, &all[2..])?;
    timeline.note("d", "the greater part rolled out")?;

    let change = format!("sed -i 's/split = .*/split = \"continue\"/' {CONFIG}");
    hosts[1].shell(change).run()?;
    nodes[1].kill()?;
    nodes[1].start()?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all[..2], &NAMES[..2])?;
    let wave = started(all[1])?;
    until_done(&bloc, all[1], &wave, &all[..2])?;
    timeline.note("b", "the lesser part rolled out, for it shall")?;
    for host in &hosts {
        tree::ensure_equal(host, source, "/srv/tree")?;
    }
    timeline.gather(&nodes);
    Ok(())
}
