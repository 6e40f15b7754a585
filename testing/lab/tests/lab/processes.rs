//! Handles of processes: output, signals, cost, and what happens when they are dropped.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use skep_lab::{Lab, Signal, wait_until, was_killed_by};

use crate::PATIENCE;

#[test]
fn a_process_is_paused_measured_ended_and_killed() -> Result<()> {
    let Some(lab) = Lab::or_skip("processes") else {
        return Ok(());
    };
    let [host] = lab.hosts(["host"])?;
    let busy = "echo started; while :; do :; done";
    let process = host.shell(busy).spawn("busy")?;
    process.wait_for_line("started", PATIENCE)?;
    ensure!(process.is_running() && process.resident()?.0 > 0);
    let grows = |from: Duration| {
        wait_until("processor time is used", PATIENCE, || {
            let used = process.cpu_time()?;
            ensure!(used > from, "still {used:?}");
            Ok(used)
        })
    };
    grows(Duration::ZERO)?;
    process.pause()?;
    let paused = process.cpu_time()?;
    // Other processes get on meanwhile, this one does not.
    host.shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").run()?;
    ensure!(process.cpu_time()? == paused, "it worked while it was paused");
    process.resume()?;
    grows(paused)?;
    ensure!(was_killed_by(process.kill()?, Signal::KILL));
    ensure!(!process.is_running() && process.cpu_time().is_err());
    Ok(())
}

#[test]
fn a_process_may_tidy_up_when_it_is_asked_to_end() -> Result<()> {
    let Some(lab) = Lab::or_skip("terminate") else {
        return Ok(());
    };
    let [host] = lab.hosts(["host"])?;
    let tidy = "trap 'echo tidy; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let process = host.shell(tidy).spawn("tidy")?;
    process.wait_for_line("ready", PATIENCE)?;
    let status = process.terminate(PATIENCE)?;
    ensure!(status.code() == Some(3), "{status}");
    ensure!(process.stdout()? == "ready\ntidy\n");
    let told = process.wait_for_line("never said", Duration::ZERO);
    ensure!(format!("{:#}", told.unwrap_err()).contains("ended"));
    Ok(())
}

#[test]
fn a_dropped_handle_kills_and_a_failed_wait_shows_the_logs() -> Result<()> {
    let Some(lab) = Lab::or_skip("dropped") else {
        return Ok(());
    };
    let [host] = lab.hosts(["host"])?;
    let process = host.shell("echo i was here >&2; exec sleep 1000").spawn("sleeper")?;
    process.wait_for_line("i was here", PATIENCE)?;
    let failed =
        lab.wait_until("never", Duration::ZERO, || -> Result<()> { anyhow::bail!("not yet") });
    let told = format!("{:#}", failed.unwrap_err());
    ensure!(told.contains("i was here") && told.contains("sleeper"), "{told}");
    let proc_folder = format!("/proc/{}", process.pid());
    ensure!(Path::new(&proc_folder).exists());
    drop(process);
    ensure!(!Path::new(&proc_folder).exists(), "it outlived its handle");
    Ok(())
}

#[test]
fn commands_get_their_input_environment_and_folder() -> Result<()> {
    let Some(lab) = Lab::or_skip("commands") else {
        return Ok(());
    };
    let [host] = lab.hosts(["host"])?;
    ensure!(host.command("cat").stdin("some input").run()? == "some input");
    host.set_env("WHO", "everyone");
    host.set_clock_offset_ms(-5000);
    let said =
        host.shell("echo $WHO $SKEP_TEST_CLOCK_OFFSET_MS; pwd").env("WHO", "only me").run()?;
    let expected = format!("only me -5000\n{}\n", host.dir().display());
    ensure!(said == expected, "{said}");
    let failed = host.shell("echo out; echo err >&2; exit 4").run();
    let told = format!("{:#}", failed.unwrap_err());
    ensure!(told.contains("out\nerr") && told.contains('4'), "{told}");
    let endless = host.command("sleep").arg("1000").deadline(Duration::ZERO);
    ensure!(endless.output().is_err(), "a deadline is kept");
    Ok(())
}
