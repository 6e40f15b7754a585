//! Disks that fail as disks do.

use std::fs;
use std::io::{ErrorKind, Write as _};

use anyhow::{Result, ensure};
use skep_base::ByteSize;
use skep_lab::{BlockDisk, Lab};

use crate::PATIENCE;

const MIB: u64 = 1024 * 1024;

#[test]
fn a_full_disk_says_so_until_there_is_room() -> Result<()> {
    let Some(lab) = Lab::or_skip("full-disk") else {
        return Ok(());
    };
    let [host, other] = lab.hosts(["host", "other"])?;
    // Started before the disk is mounted, as an agent is whose disk is replaced.
    let writer = host
        .shell("while read line; do echo $line > data/file && echo ok || echo full; done")
        .stdin("")
        .output()?;
    ensure!(writer.status.success());
    let disk = host.disk("data", ByteSize(4 * MIB))?;
    let file = disk.path().join("file");
    fs::write(&file, "old")?;
    let filled = disk.fill()?;
    ensure!(filled.0 > 3 * MIB && filled.0 <= 4 * MIB, "{filled}");

    let error = fs::File::create(disk.path().join("new"))
        .and_then(|mut new| new.write_all(&[1; 8192]))
        .unwrap_err();
    ensure!(error.kind() == ErrorKind::StorageFull, "{error}");
    let refused = host.shell("head -c 8192 /dev/zero > data/more").output()?;
    ensure!(refused.stderr.contains("No space left"), "{refused:?}");
    ensure!(fs::read_to_string(&file)? == "old", "what was there stays");
    other.shell("head -c 8192 /dev/zero > more").run()?;

    disk.resize(ByteSize(8 * MIB))?;
    host.shell("head -c 8192 /dev/zero > data/more").run()?;
    disk.fill()?;
    disk.free()?;
    host.shell("head -c 1048576 /dev/zero > data/more").run()?;

    disk.set_read_only(true)?;
    let refused = host.shell("echo x > data/more").output()?;
    ensure!(refused.stderr.contains("Read-only"), "{refused:?}");
    disk.set_read_only(false)?;
    host.shell("echo x > data/more").run()?;
    Ok(())
}

#[test]
fn a_block_device_can_hang_and_be_slow() -> Result<()> {
    let Some(lab) = Lab::or_skip("slow-disk") else {
        return Ok(());
    };
    let [host] = lab.hosts(["host"])?;
    let disk = host.block_disk("data", ByteSize(32 * MIB))?;
    let writing = "while :; do echo x > data/tick; sync data/tick; echo tick; done";
    let writer = host.shell(writing).spawn("writer")?;
    writer.wait_for_line("tick", PATIENCE)?;
    disk.freeze()?;
    lab.wait_until("the writer hangs", PATIENCE, || {
        let ticks = writer.stdout()?.len();
        host.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").run()?;
        ensure!(writer.stdout()?.len() == ticks, "it still writes");
        Ok(())
    })?;
    let ticks = writer.stdout()?.len();
    disk.thaw()?;
    lab.wait_until("the writer goes on", PATIENCE, || {
        ensure!(writer.stdout()?.len() > ticks, "it stands still");
        Ok(())
    })?;
    drop(writer);

    if let Err(why) = BlockDisk::can_throttle() {
        writeln!(std::io::stderr(), "left out slow disks: {why}")?;
        return Ok(());
    }
    let timed = "read go; s=$(date +%s%N); dd if=/dev/zero of=data/big bs=64k count=32 \
                 conv=fsync 2>/dev/null; echo $(( ($(date +%s%N) - s) / 1000000 )) ms";
    let script = format!("mkfifo go; exec < go; {timed}");
    let slow = host.shell(script).spawn("slow")?;
    disk.throttle(&slow, ByteSize(MIB))?;
    host.shell("until [ -p go ]; do :; done; echo > go").run()?;
    let line = slow.wait_for_line(" ms", PATIENCE)?;
    let taken: u64 = line.trim_end_matches(" ms").parse()?;
    // 2 MiB at 1 MiB/s, less the first slice of the throttle.
    ensure!(taken >= 1000, "2 MiB took {taken} ms");
    Ok(())
}

#[test]
fn a_disk_with_a_fault_takes_nothing_from_anybody_until_it_is_mended() -> Result<()> {
    let Some(lab) = Lab::or_skip("faulty-disk") else {
        return Ok(());
    };
    let [host] = lab.hosts(["host"])?;
    let mut disk = host.block_disk("data", ByteSize(32 * MIB))?;
    if let Err(why) = disk.can_fail() {
        writeln!(std::io::stderr(), "left out a faulty disk: {why}")?;
        return Ok(());
    }
    let write = "mkfifo go; exec 3> data/open; echo before >&3; sync data/open; echo ready; \
                 exec < go; if echo after >&3; then echo taken; else echo refused; fi";
    let writer = host.shell(write).spawn("writer")?;
    writer.wait_for_line("ready", PATIENCE)?;
    disk.fail()?;
    host.shell("echo > go").run()?;
    writer.wait_for_line("refused", PATIENCE)?;
    drop(writer);
    disk.repair()?;
    let said = host.shell("echo x > data/more; cat data/open").run()?;
    ensure!(said.starts_with("before"), "{said}");
    Ok(())
}
