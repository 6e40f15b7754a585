//! A host: a network namespace with addresses, a name, a folder, and processes that run inside.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skep_base::ByteSize;

use crate::command::{self, HostCommand};
use crate::disk::{BlockDisk, Disk};
use crate::fabric::Fabric;
use crate::machine::Machine;
use crate::netns::NetNs;
use crate::process::Logs;
use crate::rules::Port;
use crate::tools;
use crate::traffic::Traffic;
use crate::{CLOCK_FILE_ENV, CLOCK_OFFSET_ENV};

/// A host of a lab. A cheap handle: clones are the same host. It is of no use after its lab ended.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    port: Port,
    netns: NetNs,
    dir: PathBuf,
    fabric: Arc<Fabric>,
    /// Its own root, processes and host name; nothing for a host that only has its own network.
    machine: Option<Machine>,
    env: Mutex<BTreeMap<OsString, OsString>>,
    logs_made: AtomicU32,
}

/// Everything the lab decides about a host.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) port: Port,
    pub(crate) netns: NetNs,
    pub(crate) dir: PathBuf,
    pub(crate) fabric: Arc<Fabric>,
    pub(crate) machine: Option<Machine>,
}

impl Host {
    /// A host whose namespace, folder and plug exist.
    pub(crate) fn new(plan: Plan) -> Self {
        Self(Arc::new(Inner {
            name: plan.name,
            port: plan.port,
            netns: plan.netns,
            dir: plan.dir,
            fabric: plan.fabric,
            machine: plan.machine,
            env: Mutex::new(BTreeMap::new()),
            logs_made: AtomicU32::new(0),
        }))
    }

    /// Its name, by which the other hosts of the lab find it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        ipv4(self.0.port)
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        ipv6(self.0.port)
    }

    /// Its IPv4 address, as what most callers want.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ipv4().into()
    }

    /// A folder of its own, seen at the same path by the test and by every process of the lab.
    /// Commands run in it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// What will run `program` on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> HostCommand {
        HostCommand::new(self.clone(), program.as_ref())
    }

    /// What will run a line of shell on this host.
    pub fn shell(&self, line: impl AsRef<OsStr>) -> HostCommand {
        self.command("sh").arg("-ec").arg(line)
    }

    /// Runs `action` on a thread inside the host's network. Sockets it opens stay there.
    ///
    /// # Errors
    /// When the lab has ended.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        self.0.netns.enter(action)
    }

    /// Sets an environment variable for every command that is run here from now on.
    pub fn set_env(&self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.env_lock().insert(name.as_ref().to_owned(), value.as_ref().to_owned());
    }

    /// Lets agents that are started here from now on see a wall clock that is wrong by so many
    /// milliseconds.
    pub fn set_clock_offset_ms(&self, offset: i64) {
        self.set_env(CLOCK_OFFSET_ENV, offset.to_string());
    }

    /// Moves the wall clock of the host's agents, as somebody does who sets it: those that run see
    /// it jump, those that are started later see it where it is. Agents that were started before
    /// the first call see nothing of it. The kernel has one wall clock for all hosts, so it is the
    /// agent that reads it from a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn jump_clock(&self, offset_ms: i64) -> Result<()> {
        let file = self.dir().join("clock");
        let next = file.with_extension("next");
        fs::write(&next, offset_ms.to_string())?;
        // At no time is there half a number.
        fs::rename(&next, &file).context("cannot move the clock")?;
        self.set_env(CLOCK_FILE_ENV, file);
        Ok(())
    }

    /// Pulls the cable: the interface stays, its carrier is gone.
    ///
    /// # Errors
    /// When a tool refuses.
    pub fn unplug(&self) -> Result<()> {
        self.0.fabric.set_carrier(self.0.port, false)
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// When a tool refuses.
    pub fn plug(&self) -> Result<()> {
        self.0.fabric.set_carrier(self.0.port, true)
    }

    /// Limits what the host sends to so many bytes a second, or takes the limit away.
    ///
    /// # Errors
    /// When `tc` refuses.
    pub fn limit_egress(&self, rate: Option<ByteSize>) -> Result<()> {
        let netns = self.0.netns.name();
        let base = ["-n", netns, "qdisc"];
        let Some(rate) = rate else {
            let args = base.iter().chain(&["del", "dev", "eth0", "root"]);
            return tools::run("tc", &args.copied().collect::<Vec<_>>()).map(drop);
        };
        // A burst of a frame at least, and of what one tick of a slow timer lets through.
        let burst = (rate.0 / 100).max(16 * 1024);
        let spec =
            format!("replace dev eth0 root tbf rate {}bps burst {burst} latency 50ms", rate.0);
        let args = base.into_iter().chain(spec.split(' '));
        tools::run("tc", &args.collect::<Vec<_>>()).map(drop)
    }

    /// What the host sent and received so far.
    ///
    /// # Errors
    /// When the lab has ended.
    pub fn traffic(&self) -> Result<Traffic> {
        self.enter(Traffic::of_this_thread)?
    }

    /// A disk of its own of `size`, in memory, at `dir()/NAME`. Full means full there.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn disk(&self, name: &str, size: ByteSize) -> Result<Disk> {
        crate::place::check_name(name)?;
        Disk::mount(self.dir().join(name), size)
    }

    /// A disk of its own with a block device, which can be slow or hang, at `dir()/NAME`.
    ///
    /// # Errors
    /// When it cannot be made: this kernel may have no loop devices.
    pub fn block_disk(&self, name: &str, size: ByteSize) -> Result<BlockDisk> {
        crate::place::check_name(name)?;
        BlockDisk::mount(self.dir().join(name), size)
    }

    /// The power fails: everything that runs on the host is killed. A machine keeps its disks and
    /// loses `/run` and `/tmp`; it does nothing until [`Host::boot`].
    ///
    /// # Errors
    /// When a process refuses to die.
    pub fn crash(&self) -> Result<()> {
        if let Some(machine) = &self.0.machine {
            machine.halt()?;
        }
        self.0.netns.kill_all()
    }

    /// Starts a machine that crashed.
    ///
    /// # Errors
    /// When it runs, is no machine, or does not start.
    pub fn boot(&self) -> Result<()> {
        let machine = self.0.machine.as_ref();
        machine
            .with_context(|| format!("{} is a host without a system of its own", self.name()))?
            .boot(self.new_logs("init"))
    }

    /// Where the host's own `/` is to be found from outside: what a test reads after the fact.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        match &self.0.machine {
            Some(machine) => machine.root(),
            None => PathBuf::from("/"),
        }
    }

    pub(crate) fn port(&self) -> Port {
        self.0.port
    }

    pub(crate) fn netns(&self) -> &NetNs {
        &self.0.netns
    }

    pub(crate) fn env(&self) -> Vec<(OsString, OsString)> {
        self.env_lock().clone().into_iter().collect()
    }

    /// Fresh files for the outputs of something called `name`.
    pub(crate) fn new_logs(&self, name: &str) -> Logs {
        let number = self.0.logs_made.fetch_add(1, Ordering::Relaxed);
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(60)
            .collect();
        let stem = logs_folder(self.dir()).join(format!("{number:03}-{name}"));
        Logs { out: stem.with_extension("out"), err: stem.with_extension("err") }
    }

    /// A command that runs what follows on this host, and whether it forks before that.
    pub(crate) fn enter_command(&self, folder: Option<&Path>) -> Result<(Command, bool)> {
        let folder = folder.unwrap_or(self.dir());
        let Some(machine) = &self.0.machine else {
            let mut command = command::in_netns(self.0.netns.name())?;
            command.current_dir(folder);
            return Ok((command, false));
        };
        Ok((machine.enter_command(folder)?, true))
    }

    fn env_lock(&self) -> MutexGuard<'_, BTreeMap<OsString, OsString>> {
        self.0.env.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long set-up and tear-down steps may take: the kernel does them in milliseconds, a loaded
/// machine in seconds.
pub(crate) const SETTLE: Duration = Duration::from_secs(30);

/// `10.77.0.0/16`, from .0.2 on.
pub(crate) fn ipv4(port: Port) -> Ipv4Addr {
    let [high, low] = (port.0 + 1).to_be_bytes();
    Ipv4Addr::new(10, 77, high, low)
}

/// `fd77::/64`, with the same number.
pub(crate) fn ipv6(port: Port) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, port.0 + 1)
}

/// Where the outputs of a host's processes are.
pub(crate) fn logs_folder(dir: &Path) -> PathBuf {
    dir.join("logs")
}

/// Gives a host that is plugged in its addresses. No address is probed for duplicates: they would
/// be of no use for a second.
pub(crate) fn bring_up(port: Port, netns: &NetNs) -> Result<()> {
    no_duplicate_detection(netns)?;
    let mac = crate::switch::mac(port).map(|byte| format!("{byte:02x}"));
    let lines = [
        "link set lo up".into(),
        format!("link set eth0 address {}", mac.join(":")),
        format!("addr add {}/16 brd + dev eth0", ipv4(port)),
        format!("addr add {}/64 dev eth0 nodad", ipv6(port)),
        "link set eth0 up".into(),
        "route add 224.0.0.0/4 dev eth0".into(),
    ];
    tools::ip_batch(Some(netns.name()), &lines)
}

/// Lets addresses of IPv6 be of use at once.
pub(crate) fn no_duplicate_detection(netns: &NetNs) -> Result<()> {
    netns
        .enter(|| {
            for setting in ["all/accept_dad", "default/accept_dad", "eth0/accept_dad"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{setting}"), "0")?;
            }
            Ok::<_, std::io::Error>(())
        })?
        .with_context(|| format!("cannot set up IPv6 in {}", netns.name()))
}

/// Rewrites the file of names in place, so that processes that have it mounted see the change.
pub(crate) fn write_names(netns: &NetNs, names: &str) -> Result<()> {
    let folder = crate::place::etc_folder(netns);
    fs::create_dir_all(&folder)?;
    let file = folder.join("hosts");
    fs::write(&file, names).with_context(|| format!("cannot write {}", file.display()))
}

/// The number of hosts that the addresses allow.
pub(crate) fn port_numbered(number: usize) -> Result<Port> {
    ensure!(number < 4096, "a lab has room for 4096 hosts");
    Ok(Port(u16::try_from(number + 1)?))
}
