//! What a process costs, as the kernel accounts for it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// `/proc` counts processor time in hundredths of a second on every Linux there is.
const TICKS_A_SECOND: u64 = 100;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Processor time since the process began.
    pub cpu: Duration,
    /// Bytes sent since its network namespace was made, with IP headers.
    pub sent: u64,
}

impl Usage {
    /// Reads what process `pid` has used so far.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let status = read("status")?;
        let stat = read("stat")?;
        let netstat = read("net/netstat")?;
        let snmp6 = read("net/snmp6").unwrap_or_default();
        Ok(Self {
            resident: resident(&status).context("no VmRSS in /proc/PID/status")?,
            cpu: cpu(&stat).context("no times in /proc/PID/stat")?,
            sent: octets(&netstat).context("no OutOctets in /proc/PID/net/netstat")?
                + octets6(&snmp6),
        })
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_A_SECOND))
}

/// `OutOctets` of the pair of lines that begin with `IpExt:`.
fn octets(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "OutOctets")?.1.parse().ok()
}

fn octets6(snmp6: &str) -> u64 {
    let mut lines = snmp6.lines().filter_map(|line| line.strip_prefix("Ip6OutOctets"));
    lines.next().and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 1 << 16);
        assert!(Usage::of(u32::MAX).is_err());
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 9";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn octets_are_found_by_name() {
        let netstat = "TcpExt: A\nTcpExt: 1\nIpExt: InOctets OutOctets\nIpExt: 7 9\n";
        assert_eq!(octets(netstat), Some(9));
        assert_eq!(octets6("Ip6InOctets 1\nIp6OutOctets   \t 33\n"), 33);
    }
}
