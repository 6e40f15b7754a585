//! Machines: hosts with a root, processes and a name of their own, that can lose their power.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use skep_base::ByteSize;
use skep_lab::{Lab, Signal, was_killed_by};

use crate::PATIENCE;
use crate::probe::tell;

#[test]
fn machines_share_nothing_but_the_network_and_their_folders() -> Result<()> {
    let Some(lab) = Lab::or_skip("machines") else {
        return Ok(());
    };
    let [a, b] = lab.machines(["alpha", "beta"])?;
    for host in [&a, &b] {
        ensure!(host.command("hostname").run()?.trim() == host.name());
        host.shell("mkdir -p /etc/skep-lab-test && hostname > /etc/skep-lab-test/name").run()?;
        host.shell("hostname > /tmp/name; hostname > /run/name").run()?;
    }
    for host in [&a, &b] {
        let said = host.shell("cat /etc/skep-lab-test/name /tmp/name /run/name").run()?;
        let expected = format!("{0}\n{0}\n{0}\n", host.name());
        ensure!(said == expected, "{said}");
        let seen = host.root().join("etc/skep-lab-test/name");
        ensure!(fs::read_to_string(seen)?.trim() == host.name());
    }
    ensure!(!Path::new("/etc/skep-lab-test").exists(), "the test's own machine stays as it is");
    let pids = a.shell("ls /proc | grep -c '^[0-9]*$'").run()?;
    ensure!(pids.trim().parse::<u32>()? < 10, "alpha sees {pids} processes");
    let named = a.command("getent").args(["ahostsv4", "beta"]).run()?;
    ensure!(named.contains(&b.ipv4().to_string()), "{named}");
    ensure!(tell(&a, &b, b.ip(), "hello")? == "hello");

    let disk = a.disk("data", ByteSize(1024 * 1024))?;
    a.shell("echo inside > data/file").run()?;
    ensure!(fs::read_to_string(disk.path().join("file"))? == "inside\n");
    Ok(())
}

#[test]
fn a_crashed_machine_keeps_its_disk_and_nothing_else() -> Result<()> {
    let Some(lab) = Lab::or_skip("crash") else {
        return Ok(());
    };
    let [host] = lab.machines(["alpha"])?;
    let process = host
        .shell(
            "echo kept > /etc/kept; echo lost > /run/lost; echo lost > /tmp/lost; echo up; \
                exec sleep 1000",
        )
        .spawn("service")?;
    process.wait_for_line("up", PATIENCE)?;
    process.pause()?;
    process.resume()?;
    host.crash()?;
    ensure!(was_killed_by(process.wait(PATIENCE)?, Signal::KILL));
    ensure!(host.command("true").run().is_err(), "it is switched off");
    host.boot()?;
    let said = host.shell("cat /etc/kept; ls /run/lost /tmp/lost 2>/dev/null || true").run()?;
    ensure!(said == "kept\n", "{said}");
    ensure!(host.boot().is_err(), "it runs already");
    Ok(())
}

#[test]
fn a_paused_process_of_a_machine_can_be_resumed_and_killed() -> Result<()> {
    let Some(lab) = Lab::or_skip("machine-signals") else {
        return Ok(());
    };
    let [host] = lab.machines(["alpha"])?;
    let count = "i=0; while :; do i=$((i+1)); echo tick $i; done";
    let process = host.shell(count).spawn("counter")?;
    process.wait_for_line("tick 5", PATIENCE)?;
    process.pause()?;
    let ticks = process.stdout()?.len();
    host.command("true").run()?;
    ensure!(process.stdout()?.len() == ticks, "it counted while it was paused");
    process.resume()?;
    lab.wait_until("it counts again", PATIENCE, || {
        ensure!(process.stdout()?.len() > ticks);
        Ok(())
    })?;
    process.pause()?;
    ensure!(was_killed_by(process.kill()?, Signal::KILL));
    Ok(())
}
