//! Nothing stays behind, however a test ends.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use skep_base::ByteSize;
use skep_lab::{Lab, wait_until};

use crate::PATIENCE;

/// Names of namespaces, folders and mounts whose names hold `part`.
fn left(part: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for folder in ["/run/netns", "/etc/netns", "/tmp"] {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path().display().to_string();
            if path.contains(part) {
                left.push(path);
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    left.extend(mounts.lines().filter(|line| line.contains(part)).map(str::to_owned));
    Ok(left)
}

#[test]
fn nothing_is_left_of_a_lab_that_was_dropped() -> Result<()> {
    let Some(lab) = Lab::or_skip("goes-away") else {
        return Ok(());
    };
    let [host] = lab.hosts(["host"])?;
    let [machine] = lab.machines(["machine"])?;
    let _disk = host.disk("data", ByteSize(65536))?;
    let process = host.command("sleep").arg("1000").spawn("sleep")?;
    let inside = machine.command("sleep").arg("1000").spawn("sleep")?;
    // A grandchild that nobody holds: it dies with its namespace's end.
    host.shell("sleep 1000 > /dev/null 2>&1 &").run()?;
    ensure!(left("goes-away")?.len() >= 5, "{:?}", left("goes-away")?);
    drop(lab);
    ensure!(left("goes-away")?.is_empty(), "{:?}", left("goes-away")?);
    ensure!(!process.is_running() && !inside.is_running());
    Ok(())
}

#[test]
fn a_lab_that_panicked_is_gone_as_well() {
    let Some(lab) = Lab::or_skip("panics") else {
        return;
    };
    let panicked = std::thread::spawn(move || {
        let _hosts = lab.hosts(["host"]).unwrap();
        panic!("as a failing test does");
    });
    assert!(panicked.join().is_err());
    assert!(
        left(".panics").unwrap().iter().all(|name| !name.contains(&std::process::id().to_string()))
    );
}

/// Run again by [`a_killed_tests_lab_is_taken_away_by_the_next_one`], to be killed.
#[test]
fn holds_a_lab_until_it_is_killed_when_it_is_told_to() -> Result<()> {
    if std::env::var_os("SKEP_LAB_TEST_HOLD").is_none() {
        return Ok(());
    }
    let lab = Lab::new("is-killed")?;
    let [host] = lab.hosts(["host"])?;
    let process = host.command("sleep").arg("1000").spawn("sleep")?;
    let _disk = host.disk("data", ByteSize(65536))?;
    process.wait(PATIENCE * 60).map(drop)
}

#[test]
fn a_killed_tests_lab_is_taken_away_by_the_next_one() -> Result<()> {
    if Lab::or_skip("stale").is_none() {
        return Ok(());
    }
    let mut holder = Command::new(std::env::current_exe()?)
        .args(["--exact", "teardown::holds_a_lab_until_it_is_killed_when_it_is_told_to"])
        .env("SKEP_LAB_TEST_HOLD", "1")
        .stdout(Stdio::null())
        .spawn()?;
    let key = format!("skep-lab.{}.", holder.id());
    let sleeper = wait_until("the other test holds its lab", PATIENCE, || {
        let found = left(&key)?;
        ensure!(found.iter().any(|name| name.contains("/data")), "only {found:?}");
        let netns = found
            .iter()
            .find_map(|name| name.strip_prefix("/run/netns/").filter(|n| n.ends_with(".host")))
            .context("no namespace")?;
        let output = Command::new("ip").args(["netns", "pids", netns]).output()?;
        let pid: u32 = String::from_utf8(output.stdout)?.trim().parse()?;
        Ok(pid)
    })?;
    holder.kill()?;
    holder.wait()?;
    ensure!(fs::exists(format!("/proc/{sleeper}"))?, "it is an orphan now");
    // Another test's lab may have done it already: all that counts is that it is gone.
    let next = Lab::new("after")?;
    wait_until("the stale lab is gone", PATIENCE, || {
        let found = left(&key)?;
        ensure!(found.is_empty(), "{found:?}");
        ensure!(!fs::exists(format!("/proc/{sleeper}"))?, "its process lives");
        Ok(())
    })?;
    drop(next);
    Ok(())
}
