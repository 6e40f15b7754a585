//! As many nodes killed at once as connectivity allows, amid updates: spot checks on real hosts of
//! what the simulator shows by thousands of seeds (FLOOD-1, FLOOD-23).

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use skep_base::Rng;
use skep_lab::Process;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// One less than there are ways without a common node between any two, unless the configuration
/// says otherwise.
const VICTIMS: usize = 2;
/// Times that some are killed, other ones each time.
const ROUNDS: u64 = 3;
/// Updates of each node before anybody dies, so that edges are pruned for each origin.
const WARM_UP: usize = 4;
/// Updates of each while some die, and how many of each must be out before that.
const BURST: usize = 40;
const OUT: usize = 5;

/// Publishes one update after the other until it is done or no agent answers, and prints those that
/// were acknowledged.
fn burst(bloc: &Bloc, node: &Node, round: u64) -> Result<Process> {
    let (skep, name) = (bloc.binary().display(), &node.name);
    let line = format!(
        "for n in $(seq {BURST}); do {skep} flood send --text \"{name} $n of {round}\" \
         > /dev/null 2>&1 || exit 0; echo \"{name} $n of {round}\"; done"
    );
    node.host.shell(line).spawn("burst")
}

/// Updates in a node's log by identity, each there once; and what they say.
fn logged(node: &Node) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let printed = node.skep(&["flood", "tail", "--from", "first", "--no-follow"]).run()?;
    let (mut ids, mut texts) = (BTreeSet::new(), BTreeSet::new());
    let mut lines = printed.lines();
    while let Some((head, text)) = lines.next().zip(lines.next()) {
        let id = head.split(' ').nth(1).context("an update without identity")?;
        ensure!(ids.insert(id.to_owned()), "{} has {id} twice", node.name);
        texts.insert(text.to_owned());
    }
    Ok((ids, texts))
}

/// Waits until all of `nodes` have the same updates, and what was promised among them.
fn until_alike(bloc: &Bloc, nodes: &[&Node], promised: &[String]) -> Result<()> {
    bloc.lab.wait_until("all hold the same updates", PATIENCE, || {
        let (first, texts) = logged(nodes[0])?;
        let lost = promised.iter().find(|line| !texts.contains(*line));
        ensure!(lost.is_none(), "{} lacks {lost:?}", nodes[0].name);
        for node in nodes {
            let (ids, _) = logged(node)?;
            let differs = first.symmetric_difference(&ids).next();
            ensure!(differs.is_none(), "{} and {}: {differs:?}", nodes[0].name, node.name);
        }
        Ok(())
    })
}

fn said(bursts: &[Process]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for burst in bursts {
        lines.extend(burst.stdout()?.lines().map(str::to_owned));
    }
    Ok(lines)
}

fn until_ended(bursts: &[Process]) -> Result<()> {
    bursts.iter().try_for_each(|burst| {
        let status = burst.wait(PATIENCE)?;
        ensure!(status.success(), "{} ended with {status}", burst.name());
        Ok(())
    })
}

/// Kills some at once amid updates of all, looks what the others have, and brings them back.
fn round(bloc: &Bloc, nodes: &mut [Node], round: u64, victims: &[usize]) -> Result<Vec<String>> {
    let of = |victim: bool, nodes: &[Node]| -> Result<Vec<Process>> {
        let chosen = nodes.iter().enumerate().filter(|(at, _)| victims.contains(at) == victim);
        chosen.map(|(_, node)| burst(bloc, node, round)).collect()
    };
    let (dying, living) = (of(true, nodes)?, of(false, nodes)?);
    bloc.lab.wait_until("each has updates out", PATIENCE, || {
        for burst in dying.iter().chain(&living) {
            let out = burst.stdout()?.lines().count();
            ensure!(out >= OUT, "{} has {out}", burst.name());
        }
        Ok(())
    })?;
    // At once: none of them sees that another is gone.
    for victim in victims {
        nodes[*victim].process()?.signal(Signal::KILL)?;
    }
    victims.iter().try_for_each(|victim| nodes[*victim].kill())?;
    until_ended(&living)?;
    let promised = said(&living)?;
    ensure!(promised.len() == living.len() * BURST, "{} of the living", promised.len());
    let left = nodes.iter().enumerate().filter(|(at, _)| !victims.contains(at));
    let left: Vec<&Node> = left.map(|(_, node)| node).collect();
    until_alike(bloc, &left, &promised)?;

    victims.iter().try_for_each(|victim| nodes[*victim].start())?;
    until_ended(&dying)?;
    Ok([promised, said(&dying)?].concat())
}

#[test]
fn what_a_survivor_holds_reaches_all_survivors_and_the_rest_comes_with_the_dead() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("survivors")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(NAMES)?;
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    let mut rng = Rng::seeded(23);
    let mut promised = Vec::new();
    for number in 0..ROUNDS {
        bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &NAMES)?;
        for warm in 0..WARM_UP {
            for node in &nodes {
                let line = format!("{} grows its tree, {warm} of {number}", node.name);
                node.publish(&line)?;
                promised.push(line);
            }
        }
        until_alike(&bloc, &nodes.iter().collect::<Vec<_>>(), &promised)?;
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        rng.shuffle(&mut order);
        promised.extend(round(&bloc, &mut nodes, number, &order[..VICTIMS])?);
        until_alike(&bloc, &nodes.iter().collect::<Vec<_>>(), &promised)?;
    }
    Ok(())
}
