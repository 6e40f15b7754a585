//! Where a lab keeps its things, and how its names tell whose they are: a lab that died with its
//! test is found by the next one and taken away.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::netns::NetNs;
use crate::tools;

/// What the names of all namespaces and folders of labs begin with.
const PREFIX: &str = "skep-lab";
/// Where `ip netns` looks for files to lay over `/etc`.
const NETNS_ETC: &str = "/etc/netns";
/// Where `ip netns` keeps the namespaces.
const NETNS_RUN: &str = "/run/netns";
/// Labs made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// One lab's folder, a tmpfs of its own, and its name.
#[derive(Debug)]
pub(crate) struct Place {
    key: String,
    root: PathBuf,
}

impl Place {
    /// Makes the folder. The name's owner is this process, told apart by its start time from
    /// another one that gets the same number later.
    ///
    /// # Errors
    /// When a tool refuses.
    pub(crate) fn new(name: &str) -> Result<Self> {
        check_name(name)?;
        let pid = std::process::id();
        let start = start_time(&pid.to_string()).context("this process has no start time")?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let key = format!("{PREFIX}.{pid}.{start}.{number}.{name}");
        let root = std::env::temp_dir().join(&key);
        fs::create_dir(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let place = Self { key, root };
        let path = place.root_text()?;
        tools::run("mount", &["-t", "tmpfs", "-o", "mode=0755", "lab", path])?;
        // Disks that are mounted later must be seen by processes that run already.
        tools::run("mount", &["--make-shared", path])?;
        fs::create_dir(place.root.join("hosts"))?;
        Ok(place)
    }

    /// The network namespace of that name in this lab.
    pub(crate) fn netns(&self, name: &str) -> NetNs {
        NetNs::named(format!("{}.{name}", self.key))
    }

    /// The folder that all hosts see, one folder a host below it.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.root.join("hosts")
    }

    /// A folder for what only the lab itself looks at.
    pub(crate) fn private(&self) -> PathBuf {
        self.root.join("private")
    }

    fn root_text(&self) -> Result<&str> {
        self.root.to_str().context("the folder for temporary files is not UTF-8")
    }

    /// Takes everything of this lab away.
    pub(crate) fn clear(&self) -> Result<()> {
        clear(&self.key)
    }
}

/// Where the file is that `ip netns exec` lays over a host's `/etc/hosts`.
pub(crate) fn etc_folder(netns: &NetNs) -> PathBuf {
    Path::new(NETNS_ETC).join(netns.name())
}

/// Host and lab names become parts of file names, and hosts are also looked up by name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ensure!(
        !name.is_empty() && name.len() <= 40 && name.bytes().all(fits),
        "not a name for a lab or a host: {name:?}; use up to 40 of a–z, 0–9 and -"
    );
    Ok(())
}

/// Takes away what is left of labs whose process is no more.
pub(crate) fn clear_stale() -> Result<()> {
    for folder in [NETNS_RUN.as_ref(), NETNS_ETC.as_ref(), std::env::temp_dir().as_path()] {
        for name in names_in(folder) {
            if let Some((key, false)) = owner_lives(&name) {
                clear(key)?;
            }
        }
    }
    Ok(())
}

/// Splits a namespace's or folder's name into its lab's key and whether its process lives; nothing
/// for what is not ours.
fn owner_lives(name: &str) -> Option<(&str, bool)> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix('.')?;
    let mut parts = rest.splitn(5, '.');
    let (pid, start, number, lab) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let key_bytes =
        PREFIX.len() + 1 + pid.len() + 1 + start.len() + 1 + number.len() + 1 + lab.len();
    let key = name.get(..key_bytes)?;
    Some((key, start_time(pid).as_deref() == Some(start)))
}

fn clear(key: &str) -> Result<()> {
    let ours = |name: &String| {
        name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    for name in names_in(NETNS_RUN.as_ref()).into_iter().filter(ours) {
        let netns = NetNs::named(name);
        // Two tests may find the same stale lab; the one that comes second finds nothing.
        let cleared =
            netns.kill_all().and_then(|()| tools::run("ip", &["netns", "del", netns.name()]));
        if Path::new(NETNS_RUN).join(netns.name()).exists() {
            cleared?;
        }
    }
    for name in names_in(NETNS_ETC.as_ref()).into_iter().filter(ours) {
        drop(fs::remove_dir_all(Path::new(NETNS_ETC).join(name)));
    }
    let root = std::env::temp_dir().join(key);
    if root.exists() {
        unmount_below(&root)?;
        drop(fs::remove_dir(&root));
    }
    Ok(())
}

/// Unmounts all that is mounted at or below `root`, the innermost first.
fn unmount_below(root: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(root))
        .collect();
    points.reverse();
    for point in points {
        // Lazily: a hung disk must not hang the tear-down. `-d` frees the loop device as well.
        let unmounted = tools::run("umount", &["-l", "-d", point]);
        if is_mounted(point) {
            unmounted?;
        }
    }
    Ok(())
}

fn is_mounted(point: &str) -> bool {
    fs::read_to_string("/proc/self/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(1) == Some(point)))
}

/// When a process started, in ticks since the machine did; nothing when there is no such process.
fn start_time(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    // Field 22 of proc(5); the rest begins with field 3.
    rest.split_whitespace().nth(19).map(str::to_owned)
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whether_its_owner_lives() {
        let pid = std::process::id();
        let start = start_time(&pid.to_string()).unwrap();
        let key = format!("skep-lab.{pid}.{start}.0.cuts");
        assert_eq!(owner_lives(&key), Some((key.as_str(), true)));
        assert_eq!(owner_lives(&format!("{key}.host-1")), Some((key.as_str(), true)));
        let stale = format!("skep-lab.{pid}.1{start}.0.cuts");
        assert_eq!(owner_lives(&stale), Some((stale.as_str(), false)));
        assert_eq!(owner_lives("skep-laboratory.1.2.3.x"), None);
        assert_eq!(owner_lives("skep-lab.1"), None);
    }

    #[test]
    fn names_that_would_be_paths_are_refused() {
        assert!(check_name("web-1").is_ok());
        for bad in ["", "..", "a/b", "a.b", "Web", &"x".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
