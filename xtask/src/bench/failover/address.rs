//! keepalived, where it is installed: who has the address when the host that has it is cut off. It
//! decides by silence alone, so the one that is cut off goes on as well.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use skep_lab::{Host, Lab};

use super::super::figure::Peer;
use super::flock::PATIENCE;
use crate::process::find;
use crate::say;

/// Between two looks at who has the address.
const LOOK: Duration = Duration::from_millis(20);
/// How long both are watched once another has it.
const WATCHED: Duration = Duration::from_secs(3);

/// What came of striking keepalived, over all trials.
#[derive(Debug)]
pub struct Addresses {
    binary: PathBuf,
    /// Until another host has the address, in seconds.
    pub gaps: Vec<f64>,
    /// Trials in which two hosts had it at the same time.
    pub doubled: usize,
}

impl Addresses {
    /// As a peer with this figure.
    #[must_use]
    pub fn peer(&self, value: f64) -> Peer {
        // It says so on its standard error, after its name.
        let said = Command::new(&self.binary).arg("--version").output();
        let said = said.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        let version = said.unwrap_or_default().split_whitespace().nth(1).map(str::to_owned);
        let version = version.unwrap_or_else(|| "of unknown version".into());
        Peer { name: "keepalived".into(), version, value }
    }
}

/// Cuts the host off that has keepalived's address, `trials` times; nothing where it is not
/// installed.
///
/// # Errors
/// When no host takes the address.
pub fn cut_off(trials: u32) -> Result<Option<Addresses>> {
    let Some(binary) = find("keepalived") else {
        return Ok(None);
    };
    let mut came = Addresses { binary, gaps: Vec::new(), doubled: 0 };
    for _ in 0..trials {
        let (gap, doubled) = trial(&came.binary)?;
        say(format_args!(
            "  keepalived: {gap:.3} s{}",
            if doubled { ", on two hosts" } else { "" }
        ));
        came.gaps.push(gap);
        came.doubled += usize::from(doubled);
    }
    Ok(Some(came))
}

fn trial(binary: &Path) -> Result<(f64, bool)> {
    let lab = Lab::new("keepalived")?;
    let hosts = lab.hosts(["one", "two", "three"])?;
    let [first, ..] = &hosts;
    let [high, low, ..] = first.ipv4().octets();
    let address = Ipv4Addr::new(high, low, 255, 250);
    let mut running = Vec::new();
    for (host, priority) in hosts.iter().zip([100, 99, 98]) {
        let file = host.dir().join("keepalived.conf");
        std::fs::write(&file, config(address, priority))?;
        let command = host.command(binary).args(["--dont-fork", "--log-console", "--use-file"]);
        let command = command.arg(&file).arg("--pid").arg(host.dir().join("pid"));
        running
            .push(command.arg("--vrrp_pid").arg(host.dir().join("vrrp-pid")).spawn("keepalived")?);
    }
    let before = wait(&hosts, address, |has| matches!(has, [true, false, false]))?;
    lab.isolate(first)?;
    wait(&hosts, address, |has| has.get(1..).is_some_and(|others| others.contains(&true)))?;
    let gap = before.elapsed();
    let end = Instant::now() + WATCHED;
    let mut doubled = false;
    while Instant::now() < end && !doubled {
        doubled = holders(&hosts, address)?.iter().filter(|has| **has).count() > 1;
        thread::sleep(LOOK);
    }
    for process in running {
        process.kill()?;
    }
    Ok((gap.as_secs_f64(), doubled))
}

/// Waits until those with the address are as wished, and says when that was.
fn wait(hosts: &[Host], address: Ipv4Addr, wished: impl Fn(&[bool]) -> bool) -> Result<Instant> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let has = holders(hosts, address)?;
        if wished(&has) {
            return Ok(Instant::now());
        }
        thread::sleep(LOOK);
    }
    bail!("keepalived's address is at {:?}", holders(hosts, address)?)
}

fn holders(hosts: &[Host], address: Ipv4Addr) -> Result<Vec<bool>> {
    let needle = format!(" {address}/");
    let has = |host: &Host| {
        let shown = host.command("ip").args(["-4", "-oneline", "address"]).run();
        shown.context("asking for addresses").map(|text| text.contains(&needle))
    };
    hosts.iter().map(has).collect()
}

/// Debian's example with the interval it has by default.
fn config(address: Ipv4Addr, priority: u8) -> String {
    let shared = format!("    virtual_ipaddress {{\n        {address}/16\n    }}\n");
    let own = format!("    virtual_router_id 51\n    priority {priority}\n    advert_int 1\n");
    format!("vrrp_instance V {{\n    state BACKUP\n    interface eth0\n{own}{shared}}}\n")
}
