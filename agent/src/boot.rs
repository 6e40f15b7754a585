//! Starting the agent: which part is made when, and what it is handed. Reads as a boot log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use skep_base::{Incarnation, NodeName, Nonce, Rng, WallTime};
use skep_control::backend;
use skep_identity::{Ca, CertInfo, Identity, IdentityHandle, tls};
use skep_managers::{Eligibility, Managers};
use skep_node::{Birth, Farewell, Me, Node};
use skep_topology::LayoutCache;
use skep_transport::TransportHandle;
use skep_wire::{Address, Hello, Lane, MAX_HELLO_ADDRESSES, Magic};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::channel::Channels;
use crate::clients::{self, Clients};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::high::Format;
use crate::discovery::Discovery;
use crate::disk::{BodyReader, Disk, Found};
use crate::export::{Commands, Exports};
use crate::founding::{FoundingTask, Held};
use crate::hooks::Hooks;
use crate::keys::{BlocVerifier, NodeSigner};
use crate::notify::Notify;
use crate::reach::Reach;
use crate::renewal::{Asking, Renewal, Wall};
use crate::rollout::Rollout;
use crate::spine::{CertificateParts, REQUEST_QUEUE, Request, Sources, Spine};

/// The build, for people.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Threads that carry links and the main loop: a second one lets bulk and heartbeats go on beside
/// each other.
const WORKERS: usize = 2;
/// Threads that may wait for disks and hashes at one time.
const BLOCKING: usize = 8;
/// How long a node that was told to stop by the service manager may be away before others see it
/// silent: a restart of the host.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// After this long a start is over.
const STARTED: Duration = Duration::from_secs(20);
/// How long the control socket may take to close.
const CONTROL_CLOSES: Duration = Duration::from_secs(2);
/// Answers of a CA that may wait: one is asked for at a time, and may be given twice.
const CA_ANSWERS: usize = 4;
/// How often the host's addresses are looked at: an address that was added is announced within it.
const LOOK_AT_ADDRESSES: Duration = Duration::from_secs(3);

/// Runs the agent until it is told to stop.
///
/// # Errors
/// What it could not start without: identity, state directory, sockets.
pub fn run(config: Config, serve_ca: bool) -> anyhow::Result<()> {
    start_logging(&config);
    if let Err(error) = skep_runner::take_all_files() {
        tracing::warn!(%error, "no more files can be open than the system gave at first");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(agent(config, serve_ca))
}

async fn agent(config: Config, serve_ca: bool) -> anyhow::Result<()> {
    let clock = Clock::of_process();
    let identity = load_identity(&config)?;
    let info = identity.info().clone();
    tracing::info!(node = %info.node, bloc = %info.bloc, "starting");

    let (disk, found, disk_done) =
        Disk::open(&config.node.state_dir, clock, info.not_before, config.flood.storage_max)?;
    let identity = IdentityHandle::new(identity);
    let nonce = Nonce(random()?);
    let stored = found.incarnation;
    let (listeners, listening) = listen(&config)?;
    let addresses = own_addresses(&config, &listening);
    let (tell_addresses, told_addresses) = watch::channel(addresses.clone());
    let life = Arc::new(AtomicU64::new(stored.next().0));
    let (said, known) = (Arc::clone(&life), told_addresses.clone());
    let greeting = Greeting { identity: identity.clone(), addresses: known, life: said, nonce };
    let judging = judging(&config, &identity, (clock, found.noted));
    let (limits, hello) = (config.transport.clone(), move |lane| greeting.hello(lane));
    let (transport, events) =
        skep_transport::start(listeners, identity.clone(), judging.clone(), limits, hello)?;
    let authority = open_authority(&config, serve_ca, clock)?;
    transport.serve_enrolment(authority.is_some());

    let (requests, inbox) = mpsc::channel(REQUEST_QUEUE);
    let me = me(&info, (nonce, stored), clock, addresses.clone());
    let (cursors, clock_went_back) = (found.cursors.clone(), found.clock_went_back);
    let (problems, noted) = (found.problems.clone(), found.noted);
    let keys = clients::keys_in(&found.log, info.id);
    let managers = managers(&config, &info, clock, found.managers.clone())?;
    let born = birth(me, random()?, (&identity, &judging), found, managers);
    let node = Node::new(clock.now(), born, machine_config(&config, &info));
    let reach = Reach::new(transport.clone(), requests.clone(), Channels::default());
    let rollout = start_rollout(&config, &transport, (&requests, &reach), &identity, clock)?;

    let (client_asks, client_side) = skep_client_port::asks();
    let client_tls =
        skep_client_port::Tls { identity: identity.clone(), settings: judging.clone() };
    let commands = Commands::new(skep_runner::Runner::of_this_program());
    let behind = (Arc::new(commands.clone()) as _, disk.spools());
    let client_port = clients::port::open(&config, client_tls, behind, client_asks).await?;
    client_port.announce(&requests).await;

    let control = skep_control::listen(&config.control).await?;
    let (asked, side) = backend();
    let stop_control = CancellationToken::new();
    let served = tokio::spawn(control.serve(asked, stop_control.clone().cancelled_owned()));

    let (founding, token) = founding(&config, &identity, &judging, &requests);
    let (answers, answered) = mpsc::channel(CA_ANSWERS);
    let (tell_asking, asking) = watch::channel(None);
    let bodies = disk.reader();
    let mut spine = Spine::new(
        clock,
        node,
        identity.clone(),
        transport,
        disk,
        authority,
        rollout,
        Clients::new(info.node.clone(), &config, keys),
        reach,
        addresses,
        VERSION.to_owned(),
        requests.clone(),
        CertificateParts { judging, answers, asking },
        life,
        (clock_went_back, config.records.purge_after),
    );
    spine.founding = Some(token);
    spine.found_on_disk(problems, noted);
    spine.rules_of(&config);
    let runner = commands.runner().clone();
    spine.hooks = Some(hooks(&config, &info.node, (&requests, runner.clone())));
    let rng = Rng::seeded(random()?);
    let whose = (info.bloc.as_str(), &info.node);
    spine.notify = Some(Notify::new(clock.now(), &config.notify, whose, runner, rng));
    let exports = exports(&config, &info.node, (&requests, commands, bodies))?;
    let cursors = spine.open_exports(exports, cursors).await;
    spine.open_cursors(cursors).await;
    let discovery = Discovery {
        join: config.join.clone(),
        identity: identity.clone(),
        nonce,
        addresses: told_addresses,
        found: requests.clone(),
        rng: Rng::seeded(random()?),
    };
    let mut tasks = start_looking(discovery, &config, clock, &requests);
    let watching = watch_addresses(config.clone(), listening, requests.clone(), tell_addresses);
    tasks.push(tokio::spawn(watching));
    let wall = Arc::new(move || clock.wall());
    let renewal = renewal(&config, identity, wall, &requests, (answered, tell_asking))?;
    tasks.extend([tokio::spawn(renewal.run()), tokio::spawn(founding.run())]);
    tasks.extend([tokio::spawn(stop_on_signal(requests)), tokio::spawn(settle_down())]);

    tell_manager(sd_notify::NotifyState::Ready);
    let (disk, transport, control, clients) = (disk_done, events, side, client_side);
    let sources = Sources { transport, control, disk, clients, requests: inbox };
    // As a task it runs on the thread of the link that woke it, and the links that it wakes run
    // there next: on the process's own thread each of these steps would wake another thread.
    let ended = tokio::spawn(spine.run(sources)).await;
    let ended = ended.context("the main loop broke off").and_then(|ended| ended);
    client_port.stop().await;

    wind_down(tasks, &stop_control, served).await;
    tracing::info!("stopped");
    ended
}

/// Looks for other nodes, and at this host.
fn start_looking(
    discovery: Discovery,
    config: &Config,
    clock: Clock,
    requests: &mpsc::Sender<Request>,
) -> Vec<JoinHandle<()>> {
    let measuring = start_measuring(config, clock, &discovery.addresses, requests);
    let mut tasks = discovery.start();
    tasks.extend(measuring);
    tasks
}

/// Measures what this host has to spare, unless the configuration says it or nobody asks.
fn start_measuring(
    config: &Config,
    clock: Clock,
    listens: &watch::Receiver<Vec<Address>>,
    requests: &mpsc::Sender<Request>,
) -> Option<JoinHandle<()>> {
    let asked = config.managers.eligible != Eligibility::No && config.managers.resources.is_none();
    let sensors = skep_sensors::Sensors::new(&config.node.state_dir);
    let measure = crate::spare::measure(sensors, clock, listens.clone(), requests.clone());
    asked.then(|| tokio::spawn(measure))
}

fn start_rollout(
    config: &Config,
    transport: &TransportHandle,
    (requests, reach): (&mpsc::Sender<Request>, &Reach),
    identity: &IdentityHandle,
    clock: Clock,
) -> anyhow::Result<Rollout> {
    Rollout::start(crate::rollout::Parts {
        transport: transport.clone(),
        reach: reach.clone(),
        requests: requests.clone(),
        identity: identity.clone(),
        clock,
        state_dir: config.node.state_dir.clone(),
        me: identity.current().info().id,
        config: config.wave.clone(),
    })
}

fn renewal(
    config: &Config,
    identity: IdentityHandle,
    wall: Wall,
    requests: &mpsc::Sender<Request>,
    (answers, asking): (mpsc::Receiver<Bytes>, watch::Sender<Option<Asking>>),
) -> anyhow::Result<Renewal> {
    Ok(Renewal {
        handle: identity,
        dir: config.node.identity_dir.clone(),
        wall,
        requests: requests.clone(),
        answers,
        asking,
        rng: Rng::seeded(random()?),
    })
}

/// Who looks after the founding token, and where it is said what becomes of it.
fn founding(
    config: &Config,
    identity: &IdentityHandle,
    judging: &tls::Settings,
    requests: &mpsc::Sender<Request>,
) -> (FoundingTask, watch::Receiver<Option<Held>>) {
    let (state, told) = watch::channel(None);
    let task = FoundingTask {
        handle: identity.clone(),
        dir: config.node.identity_dir.clone(),
        clock: judging.clock.clone(),
        requests: requests.clone(),
        state,
    };
    (task, told)
}

/// Gives back what only the start needed, once the flock has had the time to form.
async fn settle_down() {
    tokio::time::sleep(STARTED).await;
    match skep_runner::let_go_of_start() {
        Ok(bytes) => tracing::debug!(bytes, "let go of what only the start needed"),
        Err(error) => tracing::debug!(%error, "what only the start needed stays in memory"),
    }
}

async fn wind_down(
    tasks: Vec<JoinHandle<()>>,
    stop_control: &CancellationToken,
    served: JoinHandle<()>,
) {
    for task in tasks {
        task.abort();
    }
    stop_control.cancel();
    if tokio::time::timeout(CONTROL_CLOSES, served).await.is_err() {
        tracing::warn!("the control socket did not close in time");
    }
}

/// The identity that this node has from its CA.
///
/// # Errors
/// Where it was looked for, what is wrong with it and how to get one.
pub(crate) fn load_identity(config: &Config) -> anyhow::Result<Identity> {
    let dir = &config.node.identity_dir;
    Identity::load(dir).with_context(|| {
        format!(
            "this node has no usable identity in {}; get one with `skep join TOKEN`, or lay one \
             there that `skep ca issue` made",
            dir.display()
        )
    })
}

fn open_authority(config: &Config, serve: bool, clock: Clock) -> anyhow::Result<Option<Authority>> {
    if !(serve || config.ca.serve) {
        return Ok(None);
    }
    let ca = Ca::load(&config.ca.dir)?.with_life(config.ca.life)?;
    tracing::info!(fingerprint = %ca.fingerprint(), "serving the certificate authority");
    Ok(Some(Authority::new(ca, clock)))
}

/// The listeners, and where they listen.
fn listen(config: &Config) -> anyhow::Result<(Vec<std::net::TcpListener>, Vec<SocketAddr>)> {
    let mut listeners = Vec::new();
    for address in &config.listen.addresses {
        match skep_transport::bind(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.ip().is_unspecified() && lacks_family(&error) => {
                tracing::info!(%address, "this host has no such addresses; not listening there");
            }
            Err(error) => {
                let hint = format!("cannot listen on {address}; is another agent running there?");
                return Err(error).context(hint);
            }
        }
    }
    anyhow::ensure!(!listeners.is_empty(), "nothing to listen on: see `listen.addresses`");
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    Ok((listeners, addresses))
}

/// Certificates are judged by a clock that never falls behind the build or what was noted.
fn judging(
    config: &Config,
    identity: &IdentityHandle,
    (clock, noted): (Clock, WallTime),
) -> tls::Settings {
    let built = WallTime::from_unix_ms(crate::BUILT_UNIX_MS);
    let (own, grace) = (identity.clone(), config.node.expiry_grace);
    let judge = move || {
        let wall = clock.wall();
        skep_identity::judgement_time_of(own.current().info(), grace, wall, built, noted)
    };
    let mut settings = tls::Settings::new(Arc::new(judge));
    settings.grace = grace;
    settings
}

/// What this node says first on every connection, as it is when the connection is made.
struct Greeting {
    identity: IdentityHandle,
    addresses: watch::Receiver<Vec<Address>>,
    /// Which life of the node this is, or will be.
    life: Arc<AtomicU64>,
    nonce: Nonce,
}

impl Greeting {
    fn hello(&self, lane: Lane) -> Hello {
        let identity = self.identity.current();
        let info = identity.info();
        Hello {
            magic: Magic::CURRENT,
            protocol: (skep_wire::PROTOCOL_MIN, skep_wire::PROTOCOL_MAX),
            feature_level: skep_wire::FEATURE_LEVEL,
            lane,
            bloc: info.bloc.clone(),
            node: info.node.clone(),
            incarnation: Incarnation(self.life.load(Ordering::Relaxed)),
            nonce: self.nonce,
            addresses: self.addresses.borrow().clone(),
            version: VERSION.to_owned(),
        }
    }
}

/// Whether a host without IPv6, or without IPv4, answers so.
pub(crate) fn lacks_family(error: &std::io::Error) -> bool {
    let raw = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(raw, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

/// Where others can reach this node: what the config says, or every address of the host that a
/// listener covers.
fn own_addresses(config: &Config, listening: &[SocketAddr]) -> Vec<Address> {
    let mut addresses: Vec<Address> = Vec::new();
    if config.listen.advertise.is_empty() {
        for socket in listening {
            if socket.ip().is_unspecified() {
                addresses.extend(addresses_of_host(*socket));
            } else {
                addresses.push(Address::classify(*socket));
            }
        }
    } else {
        addresses.extend(config.listen.advertise.iter().copied().map(Address::classify));
    }
    // The farthest-reaching first: they are raced in this order.
    addresses.sort_by_key(|address| (std::cmp::Reverse(address.scope), address.socket));
    addresses.dedup();
    addresses.truncate(MAX_HELLO_ADDRESSES);
    addresses
}

pub(crate) fn addresses_of_host(socket: SocketAddr) -> Vec<Address> {
    let interfaces = skep_transport::interfaces().unwrap_or_default();
    let all = interfaces.iter().filter(|interface| !interface.loopback);
    let all = all.flat_map(|interface| interface.addresses.iter());
    all.filter(|ip| ip.is_ipv4() == socket.is_ipv4())
        .filter(|ip| !matches!(ip, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local()))
        .map(|ip| Address::classify(SocketAddr::new(*ip, socket.port())))
        .collect()
}

async fn watch_addresses(
    config: Config,
    listening: Vec<SocketAddr>,
    requests: mpsc::Sender<Request>,
    tell: watch::Sender<Vec<Address>>,
) {
    loop {
        tokio::time::sleep(LOOK_AT_ADDRESSES).await;
        let now = own_addresses(&config, &listening);
        if *tell.borrow() != now {
            tracing::info!(addresses = ?now, "this host's addresses changed");
            tell.send_replace(now.clone());
            if requests.send(Request::Addresses(now)).await.is_err() {
                return;
            }
        }
    }
}

fn hooks(
    config: &Config,
    node: &NodeName,
    (requests, runner): (&mpsc::Sender<Request>, skep_runner::Runner),
) -> Hooks {
    let parts = crate::hooks::Parts {
        runner,
        requests: requests.clone(),
        node: node.clone(),
        socket: config.control.socket.display().to_string(),
    };
    Hooks::new(&config.hooks, parts)
}

fn exports(
    config: &Config,
    node: &NodeName,
    (requests, commands, bodies): (&mpsc::Sender<Request>, Commands, BodyReader),
) -> anyhow::Result<Exports> {
    let parts = crate::export::Parts {
        commands,
        bodies,
        requests: requests.clone(),
        node: node.clone(),
        socket: config.control.socket.display().to_string(),
        rng: Rng::seeded(random()?),
    };
    Ok(Exports::new(&config.groups, parts))
}

fn machine_config(config: &Config, info: &CertInfo) -> skep_node::Config {
    skep_node::Config {
        records: config.records.clone(),
        membership: config.membership.clone(),
        flood: config.flood.clone(),
        estimates: crate::measure::config(config),
        adoption: crate::topology::config(config, &info.bloc),
        shape: skep_topology::Shape::default(),
        catalog: skep_catalog::Config::default(),
        fit: fit(config, info),
    }
}

fn me(
    info: &CertInfo,
    (nonce, stored): (Nonce, Incarnation),
    clock: Clock,
    addresses: Vec<Address>,
) -> Me {
    Me {
        id: info.id,
        name: info.node.clone(),
        network: info.network.clone(),
        nonce,
        started: clock.wall(),
        stored,
        addresses,
        version: VERSION.to_owned(),
    }
}

/// What this node may become among the managers.
fn fit(config: &Config, info: &CertInfo) -> skep_node::Fit {
    let named = info.roles.contains(skep_identity::Role::Manager);
    let may = named || !config.managers.by_certificate;
    let eligible = if may { config.managers.eligible } else { Eligibility::No };
    let usual = skep_node::Fit::default();
    let resources = config.managers.resources.unwrap_or(usual.resources);
    skep_node::Fit { eligible, resources, ..usual }
}

/// The managers, as they were. What cannot be read is never guessed at: the node does not start.
fn managers(
    config: &Config,
    info: &CertInfo,
    clock: Clock,
    kept: skep_managers::Restored,
) -> anyhow::Result<Box<Managers>> {
    let skep_node::Fit { eligible, resources, .. } = fit(config, info);
    let me = skep_managers::Me { id: info.id, eligible, resources };
    let rng = Rng::seeded(random()?);
    let managers = Managers::new(me, config.managers.timers.clone(), kept, rng, clock.now());
    let dir = config.node.state_dir.join("managers");
    Ok(Box::new(managers.with_context(|| format!("cannot go on from {}", dir.display()))?))
}

fn birth(
    me: Me,
    seed: u64,
    (identity, judging): (&IdentityHandle, &tls::Settings),
    found: Found,
    managers: Box<Managers>,
) -> Birth {
    Birth {
        me,
        seed,
        signer: Arc::new(NodeSigner(identity.current())),
        verifier: Arc::new(BlocVerifier {
            identity: identity.clone(),
            clock: judging.clock.clone(),
        }),
        layouts: Box::new(LayoutCache::default()),
        records: found.records,
        address_book: found.address_book,
        purged: found.purged,
        log: found.log,
        log_next: found.log_next,
        managers,
        catalog: found.catalog,
        clock_went_back: found.clock_went_back,
    }
}

async fn stop_on_signal(requests: mpsc::Sender<Request>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::error!("cannot listen for signals; stop with `skep leave` or SIGKILL");
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(requests.send(Request::Stop(Farewell::Restarting(BACK_WITHIN))).await);
}

fn start_logging(config: &Config) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(&config.log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log.format {
        Format::Json => builder.json().try_init(),
        Format::Text => builder.with_ansi(false).try_init(),
    };
    // Whoever embeds the agent may have started it already.
    drop(started);
}

/// Tells the service manager, where there is one.
pub(crate) fn tell_manager(what: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[what]) {
        tracing::debug!(%error, "no service manager was told");
    }
}

fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("the system gives no random bytes")?;
    anyhow::ensure!(filled == bytes.len(), "the system gives too few random bytes");
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use skep_identity::IssueRequest;

    use super::*;

    #[test]
    fn a_hello_says_what_is_so_when_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let now = Clock::default().wall();
        let ca = Ca::init(&dir.path().join("ca"), &"example".parse().unwrap(), now).unwrap();
        let identity = ca.issue(&IssueRequest::new("web-1".parse().unwrap()), now).unwrap();
        let address = |text: &str| Address::classify(text.parse().unwrap());
        let (tell, addresses) = watch::channel(vec![address("192.0.2.1:7400")]);
        let life = Arc::new(AtomicU64::new(4));
        let greeting = Greeting {
            identity: IdentityHandle::new(identity),
            addresses,
            life: Arc::clone(&life),
            nonce: Nonce(9),
        };
        let before = greeting.hello(Lane::Control);
        assert_eq!(before.addresses, [address("192.0.2.1:7400")]);
        assert_eq!(before.incarnation, Incarnation(4));
        tell.send_replace(vec![address("192.0.2.2:7400"), address("10.0.0.2:7400")]);
        life.store(7, Ordering::Relaxed);
        let after = greeting.hello(Lane::Bulk);
        assert_eq!(after.addresses, [address("192.0.2.2:7400"), address("10.0.0.2:7400")]);
        assert_eq!((after.incarnation, after.nonce), (Incarnation(7), before.nonce));
    }
}
