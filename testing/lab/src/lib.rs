//! Hosts, links and faults on one machine, as values.
//!
//! A [`Lab`] is a network of [`Host`]s. Each host is a network namespace with an IPv4 and an IPv6
//! address, a name that the others can look up, and a folder; a *machine* also has its own root
//! file system, processes and host name. Real programs run on them. The network between them is a
//! kernel bridge at full speed, or a switch in user space where frames are to take time
//! ([`Lab::switched`]). Faults are methods: [`Lab::cut`], [`Lab::partition`], [`Lab::heal`],
//! [`Host::unplug`], [`Process::pause`], [`Process::kill`], [`Disk::fill`], [`Host::crash`].
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! # use std::time::Duration;
//! let lab = skep_lab::Lab::new("cuts")?;
//! let [a, b] = lab.hosts(["a", "b"])?;
//! let server = b.command("agent").spawn("agent")?;
//! lab.cut(&a, &b)?; // one event, both directions
//! server.pause()?;
//! lab.wait_until("a sees b silent", Duration::from_secs(30), || {
//!     let members = a.command("skep").args(["members", "--json"]).run()?;
//!     anyhow::ensure!(members.contains("silent"), "a sees {members}");
//!     Ok(())
//! })?;
//! lab.heal()?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything ends with its handle: a process is killed when its [`Process`] is dropped, and
//! namespaces, mounts and folders go when the [`Lab`] is, also after a panic. What a killed test
//! leaves behind is taken away by the next lab. It takes root; [`Lab::available`] says in one line
//! what is missing. Nothing sleeps but [`wait_until`].
//!
//! The lab shows on the real binary what the simulator shows on the machines: BLOC-9, BLOC-10,
//! BLOC-15 to BLOC-18, DLIF-16 to DLIF-24.

mod bridge;
mod command;
mod disk;
mod fabric;
mod host;
mod machine;
mod netns;
mod place;
mod process;
mod router;
mod rules;
mod switch;
mod sys;
mod tools;
mod traffic;
mod wait;

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skep_base::Digest;

pub use command::{Finished, HostCommand};
pub use disk::{BlockDisk, Disk};
pub use host::Host;
pub use process::{Process, was_killed_by};
pub use rules::{Dropped, Path};
pub use rustix::process::Signal;
pub use traffic::Traffic;
pub use wait::wait_until;

use bridge::Bridge;
use fabric::Fabric;
use host::SETTLE;
use machine::Machine;
use netns::NetNs;
use place::Place;
use rules::{Port, Rules};
use switch::Switch;

/// The environment variable by which an agent's wall clock is set wrong, in milliseconds.
pub const CLOCK_OFFSET_ENV: &str = "SKEP_TEST_CLOCK_OFFSET_MS";
/// The same from a file, which may change while the agent runs.
pub const CLOCK_FILE_ENV: &str = "SKEP_TEST_CLOCK_OFFSET_FILE";
/// Set to anything, it makes labs stay after their tests, for a look by hand.
const KEEP_ENV: &str = "SKEP_LAB_KEEP";

/// A network of hosts. Everything in it ends when it is dropped.
#[derive(Debug)]
pub struct Lab {
    place: Place,
    fabric: Arc<Fabric>,
    hosts: Mutex<Vec<Host>>,
    rules: Mutex<Rules>,
    /// Whether a failed wait has told the logs' ends already.
    told: AtomicBool,
}

impl Lab {
    /// Whether labs can be made here.
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn available() -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".into());
        }
        for tool in ["ip", "mount", "umount", "unshare", "nsenter"] {
            tools::find(tool).map_err(|error| error.to_string())?;
        }
        // Root in a container may be root of nothing.
        let probe = tools::run("unshare", &["--net", "--mount", "true"]);
        probe.map(drop).map_err(|error| error.to_string())
    }

    /// Whether labs with latency can be made here.
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn switched_available() -> Result<(), String> {
        Self::available()?;
        if FilePath::new("/dev/net/tun").exists() {
            Ok(())
        } else {
            Err("there is no /dev/net/tun".into())
        }
    }

    /// A lab, or nothing where none can be made: then one line on standard error says what is
    /// left out, and the test passes.
    ///
    /// # Panics
    /// When the lab could be made and still was not.
    #[must_use]
    pub fn or_skip(name: &str) -> Option<Self> {
        or_skip(name, Self::available(), Self::new)
    }

    /// [`Lab::switched`], or nothing, as [`Lab::or_skip`].
    ///
    /// # Panics
    /// When the lab could be made and still was not.
    #[must_use]
    pub fn switched_or_skip(name: &str) -> Option<Self> {
        or_skip(name, Self::switched_available(), Self::switched)
    }

    /// An empty lab on a kernel bridge; on the user-space switch where `nft` is not installed.
    ///
    /// # Errors
    /// When the kernel or a tool refuses.
    pub fn new(name: &str) -> Result<Self> {
        if tools::find("nft").is_err() {
            return Self::switched(name);
        }
        Self::with(name, |place| Ok(Fabric::Bridge(Bridge::new(place.netns("switch"))?)))
    }

    /// An empty lab on the user-space switch, which can delay, shape and reorder.
    ///
    /// # Errors
    /// When the kernel or a tool refuses.
    pub fn switched(name: &str) -> Result<Self> {
        let digest = Digest::of_parts(&[b"lab", name.as_bytes()]);
        // The same test loses the same frames, as far as its programs send the same ones.
        let seed = digest.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self::with(name, |_| Ok(Fabric::Switch(Switch::new(seed)?)))
    }

    fn with(name: &str, fabric: impl FnOnce(&Place) -> Result<Fabric>) -> Result<Self> {
        place::clear_stale().context("cannot take away what an earlier lab left behind")?;
        let place = Place::new(name)?;
        let fabric = match fabric(&place) {
            Ok(fabric) => Arc::new(fabric),
            Err(error) => {
                drop(place.clear());
                return Err(error).context("cannot make the lab's network");
            }
        };
        Ok(Self {
            place,
            fabric,
            hosts: Mutex::new(Vec::new()),
            rules: Mutex::new(Rules::default()),
            told: AtomicBool::new(false),
        })
    }

    /// Adds hosts that share the test's file system and see its processes.
    ///
    /// # Errors
    /// When a name is taken or no name, or a tool refuses.
    pub fn hosts<const N: usize>(&self, names: [&str; N]) -> Result<[Host; N]> {
        let added = self.add(&names, false)?;
        added.try_into().map_err(|_| anyhow::anyhow!("not as many hosts as names"))
    }

    /// Adds `count` hosts, called `h1` and so on.
    ///
    /// # Errors
    /// As [`Lab::hosts`].
    pub fn many_hosts(&self, count: usize) -> Result<Vec<Host>> {
        let names: Vec<String> = (1..=count).map(|number| format!("h{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.add(&names, false)
    }

    /// Adds hosts with a root file system, processes and a host name of their own.
    ///
    /// # Errors
    /// As [`Lab::hosts`].
    pub fn machines<const N: usize>(&self, names: [&str; N]) -> Result<[Host; N]> {
        let added = self.add(&names, true)?;
        added.try_into().map_err(|_| anyhow::anyhow!("not as many machines as names"))
    }

    /// All hosts, in the order of their making.
    #[must_use]
    pub fn all_hosts(&self) -> Vec<Host> {
        self.hosts_lock().clone()
    }

    /// Whether hosts can be put behind routers that translate addresses.
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn translation_available() -> Result<(), String> {
        Self::available()?;
        router::available()
    }

    /// [`Lab::new`], or nothing where addresses cannot be translated, as [`Lab::or_skip`].
    ///
    /// # Panics
    /// When the lab could be made and still was not.
    #[must_use]
    pub fn translating_or_skip(name: &str) -> Option<Self> {
        or_skip(name, Self::translation_available(), Self::new)
    }

    /// Puts a router that translates addresses before a host on which nothing runs yet. The host's
    /// address is [`Lab::BEHIND_ROUTER`] from then on, whichever host it is, and its connections
    /// to the others come from [`Host::ipv4`], at which nobody can open one to it. There is no
    /// IPv6 behind it.
    ///
    /// # Errors
    /// When a tool refuses.
    pub fn put_behind_router(&self, host: &Host) -> Result<()> {
        // No host's name has a dot.
        router::put_before(host, &self.place.netns(&format!("{}.router", host.name())))
    }

    /// The address of a host behind a router, and of every other one that is behind its own.
    pub const BEHIND_ROUTER: Ipv4Addr = router::INSIDE;

    /// Cuts a pair, both ways, as one event.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn cut(&self, a: &Host, b: &Host) -> Result<()> {
        self.change(|rules| {
            rules.cut_one_way(a.port(), b.port());
            rules.cut_one_way(b.port(), a.port());
        })
    }

    /// Cuts one direction: `to` hears nothing from `from` any more.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn cut_one_way(&self, from: &Host, to: &Host) -> Result<()> {
        self.change(|rules| rules.cut_one_way(from.port(), to.port()))
    }

    /// Undoes the cuts of one pair.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn join(&self, a: &Host, b: &Host) -> Result<()> {
        self.change(|rules| rules.join(a.port(), b.port()))
    }

    /// Undoes all cuts, as one event. Paths stay as they are.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn heal(&self) -> Result<()> {
        self.change(Rules::join_all)
    }

    /// Replaces all cuts, as one event: hosts of different groups cannot reach one another, all
    /// others can. A host in no group reaches everyone, and so bridges them.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn partition(&self, groups: &[&[Host]]) -> Result<()> {
        let groups: Vec<Vec<Port>> =
            groups.iter().map(|group| group.iter().map(Host::port).collect()).collect();
        self.change(|rules| rules.partition(&groups))
    }

    /// Cuts one host from all others, as one event.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn isolate(&self, host: &Host) -> Result<()> {
        let others: Vec<Port> = self.hosts_lock().iter().map(Host::port).collect();
        self.change(|rules| {
            for other in others.into_iter().filter(|other| *other != host.port()) {
                rules.cut_one_way(host.port(), other);
                rules.cut_one_way(other, host.port());
            }
        })
    }

    /// Sets how frames travel from one host to another.
    ///
    /// # Errors
    /// When the network is a bridge and the path does more than lose frames.
    pub fn set_path(&self, from: &Host, to: &Host, path: Path) -> Result<()> {
        self.change(|rules| rules.set_path(from.port(), to.port(), path))
    }

    /// Sets how frames travel between every two hosts there are, as one event.
    ///
    /// # Errors
    /// As [`Lab::set_path`].
    pub fn set_all_paths(&self, path_of: impl Fn(&Host, &Host) -> Path) -> Result<()> {
        let hosts = self.all_hosts();
        self.change(|rules| {
            for from in &hosts {
                for to in hosts.iter().filter(|to| to.port() != from.port()) {
                    rules.set_path(from.port(), to.port(), path_of(from, to));
                }
            }
        })
    }

    /// Frames that did not arrive so far, by reason.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn dropped(&self) -> Result<Dropped> {
        self.fabric.dropped()
    }

    /// [`wait_until`], and when it was in vain, the ends of all logs of the lab in the error.
    ///
    /// # Errors
    /// As [`wait_until`].
    pub fn wait_until<T>(
        &self,
        what: &str,
        within: Duration,
        probe: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        wait_until(what, within, probe).map_err(|error| {
            self.told.store(true, Ordering::Relaxed);
            error.context(self.log_tails())
        })
    }

    /// The ends of everything that processes of this lab wrote.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let mut tails = String::new();
        for host in self.all_hosts() {
            for file in sorted_files(&host::logs_folder(host.dir())) {
                let tail = process::tail(&file);
                if !tail.trim().is_empty() {
                    let name = file.file_name().unwrap_or_default().to_string_lossy();
                    tails += &format!("--- {} {name}\n{}\n", host.name(), tail.trim_end());
                }
            }
        }
        tails
    }

    fn add(&self, names: &[&str], machines: bool) -> Result<Vec<Host>> {
        let mut hosts = self.hosts_lock();
        let mut plans = Vec::new();
        for name in names {
            place::check_name(name)?;
            let taken = |host: &Host| host.name() == *name;
            let twice = names.iter().filter(|other| *other == name).count() > 1;
            let reserved = *name == "switch";
            ensure!(
                !reserved && !twice && !hosts.iter().any(taken),
                "the lab has a host {name} already"
            );
            let port = host::port_numbered(hosts.len() + plans.len())?;
            plans.push((port, self.place.netns(name)));
        }
        let lines = plans.iter().map(|(_, netns)| format!("netns add {}", netns.name()));
        tools::ip_batch(None, &lines.collect::<Vec<_>>())?;
        self.fabric.attach(&plans)?;
        let mut added = Vec::new();
        for (name, (port, netns)) in names.iter().zip(plans) {
            host::bring_up(port, &netns)?;
            added.push(self.host(name, port, netns, machines)?);
        }
        hosts.extend(added.iter().cloned());
        write_all_names(&hosts)?;
        if machines {
            for host in &added {
                host.boot()?;
            }
        }
        Ok(added)
    }

    fn host(&self, name: &str, port: Port, netns: NetNs, machine: bool) -> Result<Host> {
        let dir = self.place.hosts().join(name);
        fs::create_dir_all(host::logs_folder(&dir))?;
        let machine = if machine {
            let folder = self.place.private().join(name);
            Some(Machine::new(name, netns.clone(), folder, self.place.hosts())?)
        } else {
            None
        };
        Ok(Host::new(host::Plan {
            name: name.to_owned(),
            port,
            netns,
            dir,
            fabric: Arc::clone(&self.fabric),
            machine,
        }))
    }

    /// Changes the rules, and puts them in force as one event; when that fails, nothing changed.
    fn change(&self, change: impl FnOnce(&mut Rules)) -> Result<()> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = rules.clone();
        change(&mut changed);
        self.fabric.apply(&changed)?;
        *rules = changed;
        Ok(())
    }

    fn hosts_lock(&self) -> MutexGuard<'_, Vec<Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.told.load(Ordering::Relaxed) {
            say(&self.log_tails());
        }
        if std::env::var_os(KEEP_ENV).is_some() {
            say(&format!("{KEEP_ENV} is set: {:?} stays", self.place));
            return;
        }
        for host in self.all_hosts() {
            drop(host.crash());
        }
        if let Err(error) = self.place.clear() {
            // Not a panic: the test's own failure, if there is one, matters more.
            say(&format!("the lab left something behind: {error:#}"));
        }
    }
}

/// Writes a line to standard error, past the test harness's own capture, so that it is seen.
fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn or_skip(
    name: &str,
    available: Result<(), String>,
    make: impl FnOnce(&str) -> Result<Lab>,
) -> Option<Lab> {
    if let Err(why) = available {
        say(&format!("left out {name}: {why}"));
        return None;
    }
    match make(name) {
        Ok(lab) => Some(lab),
        Err(error) => panic!("cannot make the lab {name}: {error:#}"),
    }
}

fn sorted_files(folder: &FilePath) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

fn write_all_names(hosts: &[Host]) -> Result<()> {
    let mut names = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for host in hosts {
        let name = host.name();
        names += &format!("{} {name}\n{} {name}\n", host.ipv4(), host.ipv6());
    }
    for host in hosts {
        host::write_names(host.netns(), &names)?;
    }
    Ok(())
}
