//! Cuts that are felt at one end alone (BLOC-9, BLOC-10, FLOOD-32, DLIF-22).

use anyhow::{Result, ensure};

use crate::bloc::{Bloc, Node, Settings};
use crate::tree;
use crate::wave::{roll_out, until_done};

/// What one node hears and the other does not, with a third that hears both: nobody is lost, and
/// what cannot go straight goes round.
#[test]
fn a_one_way_cut_is_bridged_by_who_hears_both() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("one-way")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c"])?;
    let nodes = bloc.started(&hosts, &Settings::default())?;
    let all: Vec<&Node> = nodes.iter().collect();
    let names = ["a", "b", "c"];
    bloc.until_present(&all, &names)?;

    bloc.lab.cut_one_way(&hosts[0], &hosts[1])?;
    bloc.lab.wait_until("a and b have lost their link", crate::PATIENCE, || {
        for (node, peer) in [(&nodes[0], "b"), (&nodes[1], "a")] {
            let links = node.ask(&["links"])?;
            let links = links.as_array().cloned().unwrap_or_default();
            ensure!(links.iter().all(|link| link["peer"] != peer), "{} has {links:?}", node.name);
        }
        Ok(())
    })?;
    let mut lines = Vec::new();
    for round in 0..5 {
        for node in &nodes {
            let line = format!("{} while a is not heard, {round}", node.name);
            node.publish(&line)?;
            lines.push(line);
        }
    }
    bloc.until_logged(&all, &lines)?;
    let source = hosts[0].dir().join("source");
    tree::grow(&source, 4, 2 << 20)?;
    let wave = roll_out(&nodes[0], &source, "/srv/tree")?;
    until_done(&bloc, &nodes[2], &wave, &all)?;
    for host in &hosts {
        tree::ensure_equal(host, &source.display().to_string(), "/srv/tree")?;
    }
    bloc.until_present(&all, &names)?;
    for node in &nodes {
        for name in names {
            let silent = node.times_seen(name, "silent")?;
            ensure!(silent == 0, "{} saw {name} silent {silent} times", node.name);
        }
    }

    bloc.lab.heal()?;
    bloc.lab.wait_until("a and b are linked again", crate::PATIENCE, || {
        let links = nodes[0].ask(&["links"])?;
        let links = links.as_array().cloned().unwrap_or_default();
        ensure!(links.iter().any(|link| link["peer"] == "b"), "a has {links:?}");
        Ok(())
    })
}

/// A node that everybody hears and that hears nobody, and the other way round: both are silent to
/// the rest, and what they published meanwhile is nobody's loss.
#[test]
fn a_node_that_is_deaf_or_dumb_is_silent_and_comes_back_with_what_it_said() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("deaf")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c", "d"])?;
    let nodes = bloc.started(&hosts, &Settings::default())?;
    let all: Vec<&Node> = nodes.iter().collect();
    let names = ["a", "b", "c", "d"];
    bloc.until_present(&all, &names)?;
    let mut lines = Vec::new();
    for (which, deaf) in [("deaf", true), ("dumb", false)] {
        for host in &hosts[..3] {
            let (from, to) = if deaf { (host, &hosts[3]) } else { (&hosts[3], host) };
            bloc.lab.cut_one_way(from, to)?;
        }
        bloc.until_seen(&all[..3], "d", "silent")?;
        bloc.until_present(&all[..3], &names[..3])?;
        bloc.until_present(&all[3..], &names[3..])?;
        for node in &nodes {
            let line = format!("{} while d is {which}", node.name);
            node.publish(&line)?;
            lines.push(line);
        }
        bloc.lab.heal()?;
        bloc.until_present(&all, &names)?;
        bloc.until_logged(&all, &lines)?;
    }
    Ok(())
}
