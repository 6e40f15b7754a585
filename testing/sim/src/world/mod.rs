//! The world: hosts, their processes and disks, the network between them, and one clock.

mod ahead;
mod carry;
mod costs;
mod faults;
mod managers;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use skep_base::{BlocName, GroupName, NodeId, NodeName, Rng, Time};
use skep_flood::Input as FloodInput;
use skep_node::{Event, Node, Source};
use skep_topology::adoption::Standing;
use skep_topology::{Layout, LayoutCache, LayoutSource, Shape};
use skep_wire::Address;

pub(crate) use ahead::{Answer, Ask, Call, Foreseen};

use crate::disk::{Disk, DiskModel};
use crate::host::{Frames, Host, HostIx};
use crate::invariants::Invariants;
use crate::ledger::Ledger;
use crate::managed::clients::Reading;
use crate::managed::watch::Watch;
use crate::net::{Latency, NetEvent, Network};
use crate::plant::Bug;
use crate::queue::Queue;
use crate::report::{Checker, Costs, Failure, Traffic};
use crate::trace::{Line, Sink, Trace};
use ahead::Ahead;

/// Wall time at the world's zero: far from 1970, so that ages and sentinels are told apart.
pub(crate) const WALL_AT_ZERO_MS: u64 = 1_700_000_000_000;

/// Where agents listen.
const PORT: u16 = 7400;
/// Layouts remembered for all nodes together: while a flock forms, its nodes disagree.
const LAYOUTS: usize = 256;

/// What a world is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// How far apart hosts are.
    pub latency: Latency,
    /// Which share of segments is lost.
    pub loss: f64,
    /// How fast disks are.
    pub disk: DiskModel,
    /// How often a node announces itself in its multicast domain; nothing: there is no multicast.
    pub multicast: Option<Duration>,
    /// How often a node asks the beacon who else is there; nothing: there is no beacon.
    pub beacon: Option<Duration>,
    /// A machine's `check` runs after every so manieth call of it.
    pub check_every: u32,
    /// The nodes' own settings.
    pub node: skep_node::Config,
    /// Those of the managers.
    pub managers: skep_managers::Config,
    /// A bug to plant, and at how many nodes out of all.
    pub bug: Option<Bug>,
    /// Threads to work on, this one included. What happens does not depend on it.
    pub threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            latency: Latency::local(),
            loss: 0.0,
            disk: DiskModel::fast(),
            multicast: None,
            beacon: None,
            check_every: 1,
            node: skep_node::Config::default(),
            managers: skep_managers::Config::default(),
            bug: None,
            threads: 1,
        }
    }
}

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Happening {
    Net(NetEvent),
    Tick {
        host: HostIx,
        at: Time,
    },
    /// The disk has done something for the flood machine.
    Flood {
        host: HostIx,
        epoch: u32,
        input: Box<FloodInput>,
    },
    /// The disk has kept what outputs wait for.
    Released {
        host: HostIx,
        epoch: u32,
    },
    /// The node announces itself by multicast.
    Announce {
        host: HostIx,
        epoch: u32,
    },
    /// The node asks the beacon.
    AskBeacon {
        host: HostIx,
        epoch: u32,
    },
    /// A topology was computed, or could not be; or the disk has kept something for the managers.
    Computed {
        host: HostIx,
        epoch: u32,
        input: Box<skep_node::Input>,
    },
    /// A bare connection was made, or none.
    Knocked {
        host: HostIx,
        epoch: u32,
        peer: NodeId,
        took: Option<Duration>,
    },
    /// A process looks after the founding token that its host has.
    Token {
        host: HostIx,
        epoch: u32,
    },
    /// Addresses reach a node.
    Found {
        host: HostIx,
        epoch: u32,
        addresses: Box<[SocketAddr]>,
        source: Source,
    },
}

/// Hosts, network and clock.
pub struct World {
    pub(crate) config: Config,
    pub(crate) now: Time,
    pub(crate) queue: Queue<Happening>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) net: Network,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) ledger: Ledger,
    /// What was asked of masters, and what was promised.
    pub(crate) wishes: crate::wishes::Wishes,
    /// Reads at masters.
    pub(crate) reads: BTreeMap<u64, Reading>,
    /// What managers must keep to after every step, where that is looked at.
    pub(crate) watch: Option<Watch>,
    /// Promised values that were on one disk only, which was lost.
    pub(crate) lost: BTreeSet<u64>,
    /// Founding tokens, by who has them.
    pub(crate) tokens: BTreeMap<HostIx, crate::tokens::Held>,
    /// The highest founding number that a token was made with.
    pub(crate) foundings: u64,
    /// What the managers of each host reported, where that is wanted.
    pub(crate) events_log: Option<BTreeMap<HostIx, Vec<skep_managers::Event>>>,
    /// The seed of it all.
    pub(crate) seed: u64,
    pub(crate) invariants: Invariants,
    pub(crate) rejected: BTreeMap<String, u64>,
    /// The last process events, newest last: what scenarios wait for.
    pub(crate) heard: Vec<(Time, HostIx, Event)>,
    pub(crate) keep_events: bool,
    pub(crate) by_id: BTreeMap<NodeId, HostIx>,
    layouts: SharedLayouts,
    ahead: Option<Ahead>,
    pub(crate) events: u64,
    pub(crate) failure: Option<Failure>,
    pub(crate) measured: Vec<(String, Duration)>,
    pub(crate) costs: Vec<Costs>,
}

impl World {
    /// A world without hosts.
    ///
    /// # Errors
    /// When the table of regions cannot be read, or no thread can be started.
    pub fn new(config: Config, seed: u64, sink: Option<Sink>) -> anyhow::Result<Self> {
        let mut rng = Rng::seeded(seed);
        let net = Network::new(&config.latency, config.loss, rng.fork());
        let helpers = NonZero::new(config.threads.saturating_sub(1));
        let ahead = helpers.map(Ahead::new).transpose().context("a thread could not be started")?;
        Ok(Self {
            net: net.context("the network could not be made")?,
            config,
            now: Time::ZERO,
            queue: Queue::new(),
            hosts: Vec::new(),
            rng,
            trace: Trace::new(sink),
            ledger: Ledger::default(),
            wishes: crate::wishes::Wishes::default(),
            reads: BTreeMap::new(),
            watch: None,
            lost: BTreeSet::new(),
            tokens: BTreeMap::new(),
            foundings: 0,
            events_log: None,
            seed,
            invariants: Invariants::default(),
            rejected: BTreeMap::new(),
            heard: Vec::new(),
            keep_events: false,
            by_id: BTreeMap::new(),
            layouts: SharedLayouts(Arc::new(Mutex::new(LayoutCache::new(LAYOUTS)))),
            ahead,
            events: 0,
            failure: None,
            measured: Vec::new(),
            costs: Vec::new(),
        })
    }

    /// Virtual time.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = HostIx> + use<> {
        let count = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        (0..count).map(HostIx)
    }

    /// Hosts on which a process runs that is not stopped.
    pub fn live(&self) -> impl Iterator<Item = HostIx> + '_ {
        self.hosts().filter(|host| self.host(*host).is_live())
    }

    /// Adds `count` hosts named `n0`, `n1`, … that run nothing yet and know nobody.
    ///
    /// # Errors
    /// When a name is none, which is a bug here.
    pub fn add_hosts(&mut self, count: usize) -> anyhow::Result<Vec<HostIx>> {
        let first = self.hosts.len();
        (first..first + count).map(|number| self.add_host(&format!("n{number}"), 0)).collect()
    }

    /// Adds a host whose certificate names it so, of a bloc.
    ///
    /// # Errors
    /// When the name is none.
    pub fn add_host(&mut self, name: &str, bloc: u8) -> anyhow::Result<HostIx> {
        let number = u32::try_from(self.hosts.len()).context("too many hosts")?;
        let host = HostIx(number);
        let name: NodeName = name.parse()?;
        let bloc_name: BlocName = format!("bloc{bloc}").parse()?;
        let id = NodeId::derive(&bloc_name, &name);
        let [_, high, middle, low] = number.to_be_bytes();
        let address = Address::classify(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(10, high, middle, low)),
            PORT,
        ));
        let clock_ahead = Duration::from_nanos(self.rng.within(0..3_600_000_000_000));
        self.net.add_host();
        self.hosts.push(Host {
            name,
            id,
            bloc,
            domain: None,
            addresses: vec![address],
            seeds: Vec::new(),
            groups: Vec::new(),
            eligible: None,
            disk: Disk::default(),
            process: None,
            epoch: 0,
            clock_ahead,
            drift: 0,
            disk_model: None,
            disturbed: Time::ZERO,
            frames: Frames::default(),
        });
        self.by_id.insert(id, host);
        Ok(host)
    }

    /// Where a host listens first.
    #[must_use]
    pub fn address(&self, host: HostIx) -> Option<SocketAddr> {
        self.host(host).addresses.first().map(|address| address.socket)
    }

    /// Who a host is.
    #[must_use]
    pub fn id(&self, host: HostIx) -> NodeId {
        self.host(host).id
    }

    /// `join = [..]` in the configuration of `host`.
    pub fn set_seeds(&mut self, host: HostIx, seeds: &[HostIx]) {
        let addresses = seeds.iter().filter_map(|seed| self.address(*seed)).collect();
        self.host_mut(host).seeds = addresses;
    }

    /// Which multicast domain `host` is in.
    pub fn set_domain(&mut self, host: HostIx, domain: Option<u16>) {
        self.host_mut(host).domain = domain;
    }

    /// Groups of `host` besides `all`.
    pub fn set_groups(&mut self, host: HostIx, groups: &[GroupName]) {
        self.host_mut(host).groups = groups.to_vec();
    }

    /// The node on a host, where its process runs.
    #[must_use]
    pub fn node(&self, host: HostIx) -> Option<&Node> {
        self.host(host).machine().map(|machine| machine.node())
    }

    /// The quickest round trip between two hosts: what their nodes try to find out.
    #[must_use]
    pub fn round_trip(&self, a: HostIx, b: HostIx) -> Duration {
        self.net.round_trip(a, b)
    }

    /// What the network carried so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.net.traffic
    }

    /// Notes a figure for the report.
    pub fn measure(&mut self, what: impl Into<String>, time: Duration) {
        self.measured.push((what.into(), time));
    }

    /// The connectivity that the overlay is asked for.
    pub(crate) const fn shape(&self) -> Shape {
        self.config.node.shape
    }

    pub(crate) fn host(&self, host: HostIx) -> &Host {
        &self.hosts[host.index()]
    }

    pub(crate) fn host_mut(&mut self, host: HostIx) -> &mut Host {
        &mut self.hosts[host.index()]
    }

    /// How fast a host's disk is now.
    pub(crate) fn disk_of(&self, host: HostIx) -> DiskModel {
        self.host(host).disk_model.unwrap_or(self.config.disk)
    }

    pub(crate) fn fail(&mut self, checker: Checker, what: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(Failure { at: self.now, checker, what: what.into() });
        }
    }

    pub(crate) fn line(
        &mut self,
        host: Option<HostIx>,
        event: &'static str,
        other: Option<u64>,
        numbers: (u64, u64),
        note: impl FnOnce() -> Option<String>,
    ) {
        self.trace.line(Line { at: self.now, host, event, other, numbers }, note);
    }

    pub(crate) fn layouts(&self) -> Box<dyn LayoutSource + Send> {
        Box::new(self.layouts.clone())
    }

    pub(crate) fn layouts_computed(&self) -> u64 {
        self.layouts.lock().computed()
    }
}

/// One memory of layouts for all nodes: those that agree on who is present compute theirs once.
#[derive(Clone, Debug)]
struct SharedLayouts(Arc<Mutex<LayoutCache>>);

impl SharedLayouts {
    fn lock(&self) -> std::sync::MutexGuard<'_, LayoutCache> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl LayoutSource for SharedLayouts {
    fn layout(
        &mut self,
        members: &[NodeId],
        shape: Shape,
        standing: Option<&Standing>,
    ) -> Arc<Layout> {
        self.lock().layout(members, shape, standing)
    }
}
