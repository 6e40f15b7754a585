//! Waves under faults: a full disk, and a node that is killed again and again (DLIF-16 to DLIF-24).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skep_base::{ByteSize, Rng};

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};
use crate::tree;

const MIB: u64 = 1 << 20;

/// The longest chunk.
const CHUNK: u64 = 256 << 10;
/// More than the manifest of any tree here takes.
const MANIFEST: u64 = MIB;
/// What may be on its way from four throttled sources when a node is killed, with what it takes to
/// meet the flock again.
const IN_FLIGHT: u64 = 2 * MIB;

fn figure(row: &Value, name: &str) -> Result<u64> {
    row[name].as_u64().with_context(|| format!("no {name} in {row}"))
}

/// What one node does about a wave, as another tells it.
fn step_of(asked: &Node, wave: &str, node: &str) -> Result<Value> {
    let detail = asked.ask(&["wave", "status", wave])?;
    let nodes = detail["nodes"].as_array().context("a wave without nodes")?;
    let found = nodes.iter().find(|row| row["node"] == node);
    found.cloned().with_context(|| format!("the wave has no node {node}: {detail}"))
}

/// Builds an image of a tree on the queen, and starts a wave of it.
pub(crate) fn roll_out(queen: &Node, source: &Path, at: &str) -> Result<String> {
    roll_out_to("all", queen, source, at)
}

/// The same to the nodes of one group.
pub(crate) fn roll_out_to(group: &str, queen: &Node, source: &Path, at: &str) -> Result<String> {
    let source = source.to_str().context("a folder that is not UTF-8")?;
    queen.skep(&["image", "build", source, "--name", "site"]).deadline(PATIENCE).run()?;
    let started = queen.ask(&["wave", "start", "site", "--to", group, "--at", at])?;
    let id = started["wave"]["id"].as_str().or_else(|| started["id"].as_str());
    id.map(str::to_owned).with_context(|| format!("a wave without a name: {started}"))
}

pub(crate) fn until_done(bloc: &Bloc, queen: &Node, wave: &str, nodes: &[&Node]) -> Result<()> {
    for node in nodes {
        let what = format!("{} has wave {wave}", node.name);
        bloc.lab.wait_until(&what, PATIENCE, || {
            let row = step_of(queen, wave, &node.name)?;
            ensure!(row["step"] == "done", "{row}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_full_disk_leaves_the_active_tree_alone_and_the_wave_resumes() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("wave-full-disk")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["queen", "near", "full"])?;
    hosts[2].shell("mount -t tmpfs -o size=6m srv /srv").run()?;
    let nodes = bloc.started(&hosts, &Settings::default())?;
    let [queen, near, full] = nodes.as_slice() else {
        unreachable!("three hosts make three nodes");
    };
    bloc.until_present(&[queen, near, full], &["queen", "near", "full"])?;

    let (old, new) = (hosts[0].dir().join("old"), hosts[0].dir().join("new"));
    tree::grow(&old, 1, MIB)?;
    tree::grow(&new, 2, 12 * MIB)?;
    let first = roll_out(queen, &old, "/srv/tree")?;
    until_done(&bloc, queen, &first, &[queen, near, full])?;
    let text = |path: &PathBuf| path.display().to_string();
    tree::ensure_equal(&hosts[2], &text(&old), "/srv/tree")?;

    let second = roll_out(queen, &new, "/srv/tree")?;
    until_done(&bloc, queen, &second, &[queen, near])?;
    bloc.lab.wait_until("full says that its disk is full", PATIENCE, || {
        let row = step_of(queen, &second, "full")?;
        let error = row["error"].as_str().unwrap_or_default();
        ensure!(error.contains("/srv") && error.contains("space"), "{row}");
        Ok(())
    })?;
    tree::ensure_equal(&hosts[2], &text(&old), "/srv/tree")?;

    hosts[2].shell("mount -o remount,size=64m /srv").run()?;
    until_done(&bloc, queen, &second, &[full])?;
    for host in &hosts {
        tree::ensure_equal(host, &text(&new), "/srv/tree")?;
    }
    Ok(())
}

#[test]
fn a_node_killed_at_twenty_points_of_a_wave_resumes() -> Result<()> {
    const KILLS: u64 = 20;
    let Some(bloc) = Bloc::or_skip("wave-killed")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["queen", "b", "c", "d", "victim"])?;
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    let names = ["queen", "b", "c", "d", "victim"];
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &names)?;
    let source = hosts[0].dir().join("source");
    tree::grow(&source, 3, 24 * MIB)?;
    // The victim is cut off until the others have it, so that all of them may serve it; then its
    // sources are slow enough for twenty kills to fall into the transfer.
    bloc.lab.isolate(&hosts[4])?;
    let wave = roll_out(&nodes[0], &source, "/srv/tree")?;
    until_done(&bloc, &nodes[0], &wave, &nodes[..4].iter().collect::<Vec<_>>())?;
    for host in &hosts[..4] {
        host.limit_egress(Some(ByteSize(MIB)))?;
    }
    bloc.lab.heal()?;

    let received_before = hosts[4].traffic()?.frame_bytes_received;
    let mut rng = Rng::seeded(20);
    let (mut kept, mut fetched) = (0, 0);
    for kill in 0..KILLS {
        let point = (kill * 1000 + rng.within(0..1000)) * 1000 / KILLS;
        let row = bloc.lab.wait_until("the victim has so much", PATIENCE, || {
            let row = step_of(&nodes[4], &wave, "victim")?;
            let (have, all) = (figure(&row, "bytes_have")?, figure(&row, "bytes_all")?);
            ensure!(row["step"] != "comparing" && all > 0, "{row}");
            ensure!(have * 1_000_000 >= all * point, "{have} of {all}");
            Ok(row)
        })?;
        // What an earlier life said it had, and had fetched, no kill takes away.
        ensure!(figure(&row, "bytes_have")? >= kept, "it had {kept} before kill {kill}: {row}");
        ensure!(figure(&row, "fetched")? >= fetched, "{fetched} before kill {kill}: {row}");
        (kept, fetched) = (figure(&row, "bytes_have")?, figure(&row, "fetched")?);
        nodes[4].kill()?;
        nodes[4].start()?;
    }
    until_done(&bloc, &nodes[4], &wave, &[&nodes[4]])?;
    tree::ensure_equal(&hosts[4], &source.display().to_string(), "/srv/tree")?;

    let row = step_of(&nodes[4], &wave, "victim")?;
    let (all, fetched) = (figure(&row, "bytes_all")?, figure(&row, "fetched")?);
    ensure!(figure(&row, "sources")? >= 3, "{row}");
    ensure!(figure(&row, "from_queen")? < fetched, "all of it came from the queen: {row}");
    // Nothing that was on its disk was fetched again: at most one chunk for each kill was counted
    // and not yet stored. The manifest is beside the contents.
    ensure!(fetched >= all, "{row}");
    ensure!(fetched <= all + MANIFEST + KILLS * CHUNK, "{fetched} of {all}: {row}");
    // The kernel's own count, in which what was on its way at a kill is too: what the sockets of
    // four sources hold, and what it takes to link again.
    let received = hosts[4].traffic()?.frame_bytes_received - received_before;
    ensure!(received >= all, "{received} bytes came for {all}: is this the right interface?");
    ensure!(received <= (all + MANIFEST) * 11 / 10 + KILLS * IN_FLIGHT, "{received} for {all}");
    Ok(())
}
