//! A host with a system of its own: root file system, processes, host name, `/run` and `/tmp`.
//!
//! The root is an overlay on that of the test's machine: everything installed is there, and what
//! is changed stays with the machine, over a crash as well. That is what a walk-through needs that
//! writes below `/etc` and `/var` on three hosts.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::netns::NetNs;
use crate::process::{Logs, Process};
use crate::{command, place, tools, wait_until};

/// Runs as the shell of the new namespaces; `$1` is the host's name, `$2` the overlay's folder,
/// `$3` the folder all hosts share and `$4` the file of names. What becomes process 1 waits for
/// ever and reaps what its children leave behind.
const BOOT: &str = r#"
set -e
hostname "$1"
cd "$2"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" root
mount --rbind "$3" "root$3"
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mount --rbind /dev root/dev
mount -t tmpfs tmpfs root/run
mount --bind "$4" root/etc/hosts
echo "$1" > root/etc/hostname
touch "$2/up"
exec chroot root sh -c 'while :; do sleep 1000000 & wait; done'
"#;

/// The system of one host.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    netns: NetNs,
    /// Holds `upper`, `work` and `root`.
    folder: PathBuf,
    shared: PathBuf,
    init: Mutex<Option<Process>>,
}

impl Machine {
    /// A machine that does not run yet. `folder` must not be below `shared`.
    pub(crate) fn new(name: &str, netns: NetNs, folder: PathBuf, shared: PathBuf) -> Result<Self> {
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(folder.join(part))?;
        }
        Ok(Self { name: name.to_owned(), netns, folder, shared, init: Mutex::new(None) })
    }

    /// Starts it.
    pub(crate) fn boot(&self, logs: Logs) -> Result<()> {
        let mut init = self.init();
        ensure!(init.is_none(), "{} runs already", self.name);
        // The folder for shared files and `/tmp` are below the machine's own `/tmp`, which is
        // fresh at each start: made here, seen through the overlay.
        let upper = self.folder.join("upper");
        let tmp = std::env::temp_dir();
        let own_tmp = upper.join(tmp.strip_prefix("/").unwrap_or(&tmp));
        drop(fs::remove_dir_all(&own_tmp));
        fs::create_dir_all(upper.join(self.shared.strip_prefix("/")?))?;
        make_opaque(&own_tmp)?;
        let ready = self.folder.join("up");
        drop(fs::remove_file(&ready));

        let mut command = command::in_netns(self.netns.name())?;
        command
            .arg(tools::find("unshare")?)
            .args(["--uts", "--mount", "--propagation", "slave", "--pid"])
            .args(["--fork", "--kill-child=KILL", "sh", "-c", BOOT, "boot"])
            .arg(&self.name)
            .args([&self.folder, &self.shared])
            .arg(place::etc_folder(&self.netns).join("hosts"));
        let name = format!("the system of {}", self.name);
        let process = Process::start(name, command, None, logs, true)?;
        wait_until(&format!("{} has started", self.name), crate::SETTLE, || {
            ensure!(ready.exists(), "{}", process.stderr()?);
            // Whoever entered before its first process changed its root would see ours.
            let root = fs::metadata(format!("/proc/{}/root", process.pid()))?;
            ensure!(root.dev() != fs::metadata("/")?.dev(), "its root is not its own yet");
            Ok(())
        })?;
        *init = Some(process);
        Ok(())
    }

    /// Kills its first process, and with that all others.
    pub(crate) fn halt(&self) -> Result<()> {
        match self.init().take() {
            Some(init) => init.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Its `/` as seen from outside while it runs.
    pub(crate) fn root(&self) -> PathBuf {
        match &*self.init() {
            Some(init) => PathBuf::from(format!("/proc/{}/root", init.pid())),
            None => self.folder.join("upper"),
        }
    }

    /// A command that runs what follows inside, in `folder`.
    pub(crate) fn enter_command(&self, folder: &Path) -> Result<Command> {
        let init = self.init();
        let init = init.as_ref().with_context(|| format!("{} is switched off", self.name))?;
        let pid = init.pid().to_string();
        let mut command = Command::new(tools::find("nsenter")?);
        command
            .args(["--target", &pid, "--net", "--mount", "--uts", "--pid"])
            .args(["--root", "--", "env", "--chdir"])
            .arg(folder);
        Ok(command)
    }

    fn init(&self) -> MutexGuard<'_, Option<Process>> {
        self.init.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hides what the test's machine has in that folder.
fn make_opaque(folder: &Path) -> Result<()> {
    rustix::fs::setxattr(folder, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .with_context(|| format!("cannot hide what is below {}", folder.display()))
}
