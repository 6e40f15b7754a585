//! A disk that is slow, and one that stands still (FLOOD-35, DLIF-18).

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use skep_base::ByteSize;
use skep_lab::BlockDisk;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings, address};
use crate::tree;
use crate::wave::{roll_out, until_done};

const MIB: u64 = 1 << 20;
/// What the slow disk takes: less than a wave brings, and enough for its heartbeats to be ours.
const SLOW: ByteSize = ByteSize(MIB / 2);

#[test]
fn a_slow_or_hanging_disk_delays_what_it_must_and_loses_nothing() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("slow-disk")? else {
        return Ok(());
    };
    if let Err(why) = BlockDisk::can_throttle() {
        writeln!(std::io::stderr(), "left out a slow disk: {why}")?;
        return Ok(());
    }
    let [a, b, slow] = bloc.lab.machines(["a", "b", "slow"])?;
    let disk = slow.block_disk("disk", ByteSize(96 * MIB))?;
    let mut nodes = Vec::new();
    for host in [&a, &b, &slow] {
        let state_dir = (host.name() == "slow").then(|| PathBuf::from("/disk/state"));
        if state_dir.is_some() {
            let device = disk.device()?;
            slow.shell(format!("mkdir /disk; mount {} /disk", device.display())).run()?;
        }
        let settings = Settings { join: vec![address(&a)], state_dir, ..Settings::default() };
        let mut node = bloc.node(host, &settings)?;
        node.start()?;
        nodes.push(node);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    let names = ["a", "b", "slow"];
    bloc.until_present(&all, &names)?;
    disk.throttle(nodes[2].process()?, SLOW)?;

    let source = a.dir().join("source");
    tree::grow(&source, 5, 6 * MIB)?;
    let wave = roll_out(&nodes[0], &source, "/srv/tree")?;
    let mut lines = Vec::new();
    for round in 0..10 {
        for node in &nodes {
            let line = format!("{} while the disk is slow, {round}", node.name);
            node.publish(&line)?;
            lines.push(line);
        }
    }
    until_done(&bloc, &nodes[1], &wave, &all)?;
    tree::ensure_equal(&slow, &source.display().to_string(), "/srv/tree")?;

    // It stands still: nothing is acknowledged there that is not on it, and its links live on.
    disk.freeze()?;
    let stuck =
        nodes[2].skep(&["flood", "send", "--text", "said to a hanging disk"]).spawn("stuck")?;
    for round in 0..10 {
        let line = format!("a while the disk hangs, {round}");
        nodes[0].publish(&line)?;
        lines.push(line);
    }
    bloc.until_logged(&all[..2], &lines)?;
    ensure!(stuck.is_running(), "acknowledged without a disk: {}", stuck.stdout()?);
    for node in &all[..2] {
        let silent = node.times_seen("slow", "silent")?;
        ensure!(silent == 0, "{} took a slow disk for a silent node {silent} times", node.name);
    }
    disk.thaw()?;
    let status = stuck.wait(PATIENCE)?;
    ensure!(status.success(), "it ended with {status}: {}", stuck.stderr()?);
    lines.push("said to a hanging disk".into());
    bloc.until_logged(&all, &lines)?;

    // Killed right after the acknowledgement, it has all of it.
    drop(all);
    let last = "the last thing that was acknowledged";
    nodes[2].publish(last)?;
    nodes[2].kill()?;
    lines.push(last.into());
    nodes[2].start()?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &names)?;
    bloc.until_logged(&all, &lines)
}
