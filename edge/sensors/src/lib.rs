//! What a host says of itself in `/proc` and `/sys`: how busy its processors, memory, disks and
//! interfaces are (DVM-12).
//!
//! [`Sensors::read`] reads a handful of small files, takes well under a millisecond and keeps
//! nothing. It gives counters as the kernel has them; what they are worth is decided elsewhere
//! (`core/managers`). A file that is missing or reads otherwise than expected is a fact that the
//! host does not say: kernels without pressure stall information, interfaces without a speed
//! (virtual ones say −1), a `/sys` that is not mounted.
//!
//! It sees the whole host, as `/proc` shows it. In a container that is the machine around it, and
//! limits of control groups are not seen.
//!
//! | bounded | by |
//! |---|---|
//! | a file | its first 256 KiB: `/proc/stat` has a line for each processor and interrupt |
//! | interfaces | 64 |

#![warn(missing_docs)]

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What is read of one file at most.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Interfaces looked at.
const MAX_INTERFACES: usize = 64;

/// An interface's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name, as `eth0`.
    pub name: String,
    /// Its speed in Mbit/s, where it has one.
    pub speed: Option<u64>,
    /// Bytes received since it is up.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// What a host says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Processors that are on.
    pub processors: Option<u32>,
    /// Time that they were busy, and all of their time, since the host started, in ticks. What a
    /// hypervisor took away counts as busy, waiting for a disk does not.
    pub busy: Option<(u64, u64)>,
    /// Of the last minute, how many thousandths some work waited for a processor.
    pub processor_wait: Option<u16>,
    /// Memory that is available without swapping, and all of it, in KiB.
    pub memory: Option<(u64, u64)>,
    /// Of the last minute, how many thousandths some work waited for memory.
    pub memory_wait: Option<u16>,
    /// Room that is left for this user on the file system of the sensors' directory, and its size,
    /// in bytes.
    pub disk: Option<(u64, u64)>,
    /// Of the last minute, how many thousandths some work waited for a disk.
    pub disk_wait: Option<u16>,
    /// The interfaces that were asked for and are there, by name.
    pub interfaces: Vec<Interface>,
}

/// Where a host's counters are.
#[derive(Clone, Debug)]
pub struct Sensors {
    proc: PathBuf,
    sys: PathBuf,
    dir: PathBuf,
}

impl Sensors {
    /// Those of this host; of its file systems the one that holds `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::at(Path::new("/proc"), Path::new("/sys"), dir)
    }

    /// Those below other directories.
    #[must_use]
    pub fn at(proc: &Path, sys: &Path, dir: &Path) -> Self {
        Self { proc: proc.to_owned(), sys: sys.to_owned(), dir: dir.to_owned() }
    }

    /// What they say now, of the named interfaces among others. May wait for a file system that
    /// hangs.
    #[must_use]
    pub fn read(&self, interfaces: &[String]) -> Reading {
        let stat = text(&self.proc.join("stat")).unwrap_or_default();
        let meminfo = text(&self.proc.join("meminfo")).unwrap_or_default();
        let net = text(&self.proc.join("self/net/dev")).unwrap_or_default();
        let wait = |of: &str| pressure(&text(&self.proc.join("pressure").join(of))?);
        let mut found: Vec<Interface> = net
            .lines()
            .filter_map(interface)
            .filter(|it| interfaces.contains(&it.name))
            .take(MAX_INTERFACES)
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        for interface in &mut found {
            interface.speed = self.speed(&interface.name);
        }
        Reading {
            processors: processors(&stat),
            busy: busy(&stat),
            processor_wait: wait("cpu"),
            memory: kibibytes(&meminfo, "MemAvailable:").zip(kibibytes(&meminfo, "MemTotal:")),
            memory_wait: wait("memory"),
            disk: room(&self.dir),
            disk_wait: wait("io"),
            interfaces: found,
        }
    }

    fn speed(&self, interface: &str) -> Option<u64> {
        // A name of the kernel has no slash, but who knows what a namespace was made to say.
        if interface.contains('/') || interface.starts_with('.') {
            return None;
        }
        let said = text(&self.sys.join("class/net").join(interface).join("speed"))?;
        let speed: i64 = said.trim().parse().ok()?;
        u64::try_from(speed).ok().filter(|speed| *speed > 0 && *speed < u64::from(u32::MAX))
    }
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// `cpu0`, `cpu1`, … of `/proc/stat`.
fn processors(stat: &str) -> Option<u32> {
    let one = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()))
    };
    u32::try_from(stat.lines().filter(one).count()).ok().filter(|count| *count > 0)
}

/// The line of all processors: user, nice, system, idle, waiting for disks, interrupts, soft
/// interrupts, stolen. What guests had is in user.
fn busy(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|it| it.parse().ok()).collect();
    let idle = times.get(3)?.saturating_add(times.get(4).copied().unwrap_or(0));
    let all = times.iter().fold(0_u64, |sum, time| sum.saturating_add(*time));
    Some((all.saturating_sub(idle), all))
}

/// Thousandths of the last minute, of `some avg10=0.00 avg60=1.25 avg300=0.50 total=12345`.
fn pressure(said: &str) -> Option<u16> {
    let some = said.lines().find_map(|line| line.strip_prefix("some "))?;
    let minute = some.split_whitespace().find_map(|word| word.strip_prefix("avg60="))?;
    let (whole, part) = minute.split_once('.').unwrap_or((minute, "0"));
    let tenth = part.get(..1)?.parse::<u16>().ok()?;
    let thousandths = whole.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenth)?;
    Some(thousandths.min(1000))
}

fn kibibytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A line of `/proc/net/dev`: eight numbers of what came, eight of what went.
fn interface(line: &str) -> Option<Interface> {
    let (name, numbers) = line.split_once(':')?;
    let mut numbers = numbers.split_whitespace().map(str::parse::<u64>);
    let received = numbers.next()?.ok()?;
    let sent = numbers.nth(7)?.ok()?;
    Some(Interface { name: name.trim().to_owned(), speed: None, received, sent })
}

fn room(dir: &Path) -> Option<(u64, u64)> {
    let said = rustix::fs::statvfs(dir).ok()?;
    let all = said.f_blocks.saturating_mul(said.f_frsize);
    (all > 0).then(|| (said.f_bavail.saturating_mul(said.f_frsize).min(all), all))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const STAT: &str = "cpu  100 5 50 800 40 3 2 10 7 0\ncpu0 50 5 25 400 20 3 2 5 7 0\n\
                        cpu1 50 0 25 400 20 0 0 5 0 0\nintr 12345 0 0\nctxt 99\n";
    const NET: &str = "Inter-|   Receive                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo:     700       7 0 0 0 0 0 0      700       7 0 0 0 0 0 0
  eth0: 1000      10 0 0 0 0 0 0     2000      20 0 0 0 0 0 0
";

    fn host() -> (tempfile::TempDir, Sensors) {
        let dir = tempfile::tempdir().unwrap();
        let (proc, sys) = (dir.path().join("proc"), dir.path().join("sys"));
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(proc.join("stat"), STAT);
        write(proc.join("meminfo"), "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  750 kB\n");
        write(proc.join("self/net/dev"), NET);
        let some = "some avg10=9.00 avg60=12.34 avg300=1.00 total=5\nfull avg10=0.00 avg60=50.00";
        write(proc.join("pressure/cpu"), some);
        write(proc.join("pressure/io"), "some avg10=0.00 avg60=100.00 avg300=0.00 total=0\n");
        write(sys.join("class/net/eth0/speed"), "2500\n");
        let sensors = Sensors::at(&proc, &sys, dir.path());
        (dir, sensors)
    }

    #[test]
    fn counters_are_what_the_kernel_says() {
        let (_dir, sensors) = host();
        let reading = sensors.read(&["eth0".into(), "lo".into(), "wlan0".into()]);
        assert_eq!(reading.processors, Some(2));
        assert_eq!(
            reading.busy,
            Some((170, 1010)),
            "stolen time is busy, waiting for a disk is not"
        );
        assert_eq!((reading.processor_wait, reading.disk_wait), (Some(123), Some(1000)));
        assert_eq!(reading.memory, Some((750, 1000)));
        let eth0 = Interface { name: "eth0".into(), speed: Some(2500), received: 1000, sent: 2000 };
        let lo = Interface { name: "lo".into(), speed: None, received: 700, sent: 700 };
        assert_eq!(reading.interfaces, [eth0, lo]);
        let (free, all) = reading.disk.unwrap();
        assert!(free <= all && all > 0);
    }

    #[test]
    fn what_a_host_does_not_say_or_says_oddly_is_not_guessed() {
        let (dir, sensors) = host();
        assert_eq!(sensors.read(&[]).memory_wait, None, "a kernel without it");
        let speed = dir.path().join("sys/class/net/eth0/speed");
        for odd in ["-1\n", "0\n", "4294967295\n", "fast\n", ""] {
            fs::write(&speed, odd).unwrap();
            assert_eq!(sensors.read(&["eth0".into()]).interfaces[0].speed, None, "{odd:?}");
        }
        for odd in ["", "cpu \n", "cpu  a b c d\n", "cpux 1 2 3 4\n"] {
            assert_eq!((processors(odd), busy(odd)), (None, None), "{odd:?}");
        }
        for odd in ["", "some", "some avg60=", "some avg60=x.1", "full avg60=1.00", "some avg60=1."]
        {
            assert_eq!(pressure(odd), None, "{odd:?}");
        }
        assert_eq!(pressure("some avg60=6553.99"), None);
        assert_eq!(interface("eth0: 1 2 3"), None);
        let none = Sensors::at(Path::new("/none"), Path::new("/none"), Path::new("/none/such"));
        assert_eq!(none.read(&["eth0".into()]), Reading::default());
    }

    #[test]
    fn this_host_says_how_busy_it_is() {
        let reading = Sensors::new(Path::new("/")).read(&["lo".into()]);
        let (busy, all) = reading.busy.unwrap();
        assert!(all > busy && reading.processors.unwrap() > 0, "{reading:?}");
        let (free, all) = reading.memory.unwrap();
        assert!(all > free && reading.disk.is_some(), "{reading:?}");
    }
}
