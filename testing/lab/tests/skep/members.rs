//! Who is seen by whom when processes and cables fail (BLOC-9, BLOC-10, BLOC-39).

use anyhow::{Context as _, Result, ensure};

use crate::PATIENCE;
use crate::bloc::{Bloc, Settings};

#[test]
fn killed_paused_and_cut_nodes_are_seen_silent_and_back() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("faults")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c", "d"])?;
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    let names = ["a", "b", "c", "d"];
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &names)?;

    let life = |node: &crate::bloc::Node| -> Result<u64> {
        node.member("d")?["incarnation"].as_u64().context("no incarnation")
    };
    let before = life(&nodes[0])?;
    nodes[3].kill()?;
    bloc.until_seen(&nodes[..3].iter().collect::<Vec<_>>(), "d", "silent")?;
    nodes[3].start()?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &names)?;
    ensure!(life(&nodes[0])? > before, "a life is used once");

    nodes[2].process()?.pause()?;
    let others = [&nodes[0], &nodes[1], &nodes[3]];
    bloc.until_seen(&others, "c", "silent")?;
    nodes[2].process()?.resume()?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &names)?;

    bloc.lab.isolate(&hosts[1])?;
    bloc.until_seen(&[&nodes[0], &nodes[2], &nodes[3]], "b", "silent")?;
    bloc.until_present(&[&nodes[1]], &["b"])?;
    bloc.lab.heal()?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &names)?;

    // A planned stop is announced, and no failure.
    let status = nodes[3].process()?.terminate(PATIENCE)?;
    ensure!(status.success(), "the agent ended with {status}");
    let told = nodes[0].presence()?;
    ensure!(told["d"] == "restarting", "a sees {told:?}");
    Ok(())
}

#[test]
fn halves_of_a_partition_go_on_and_meet_again() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("halves")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c", "d"])?;
    let nodes = bloc.started(&hosts, &Settings::default())?;
    let all: Vec<_> = nodes.iter().collect();
    bloc.until_present(&all, &["a", "b", "c", "d"])?;
    bloc.lab.partition(&[&hosts[..2], &hosts[2..]])?;
    bloc.until_present(&all[..2], &["a", "b"])?;
    bloc.until_present(&all[2..], &["c", "d"])?;
    for node in &nodes {
        let publish = ["flood", "send", "--text", "said while apart"];
        node.skep(&publish).run()?;
    }
    bloc.lab.heal()?;
    bloc.until_present(&all, &["a", "b", "c", "d"])?;
    bloc.lab.wait_until("all hold one digest", PATIENCE, || {
        let digests = nodes
            .iter()
            .map(|node| Ok(node.ask(&["flock"])?["digest"].clone()))
            .collect::<Result<Vec<_>>>()?;
        ensure!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
        Ok(())
    })
}
