//! Announcements on the local link, over IPv4 and IPv6, on every interface that carries them.
//!
//! Several agents of one host hear one another too: multicast is looped back, the port is shared,
//! and the loopback interface takes part, so it works on a host without any other.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_base::{Nonce, Rng};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bucket::Bucket;
use crate::discovery::datagram::{Announcement, MAX_DATAGRAM_BYTES};
use crate::discovery::{DatagramError, DiscoveryKey};
use crate::sys::interfaces::{Interface, interfaces};

/// Heard announcements that may wait; more are dropped, they come again.
const HEARD_QUEUE: usize = 256;
/// Datagrams looked at: a thousand a second, after a burst of as many. A flood costs no more.
const RECEIVE_BURST: u32 = 1000;
const RECEIVE_PERIOD: Duration = Duration::from_millis(1);
/// Announcements sent: whatever the caller's schedule says, no more than these.
const SEND_BURST: u32 = 8;
const SEND_PERIOD: Duration = Duration::from_millis(250);

/// Where announcements are sent and heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MulticastConfig {
    /// The IPv4 group; nothing leaves IPv4 out. Any of 239.0.0.0/8 that the site does not use.
    pub group_v4: Option<Ipv4Addr>,
    /// The IPv6 group; nothing leaves IPv6 out. Link-local (ff02::/16) reaches what it should.
    pub group_v6: Option<Ipv6Addr>,
    /// The port of both groups. All nodes of a bloc must agree on it.
    pub port: u16,
    /// Names of the interfaces that take part; empty for all.
    pub interfaces: Vec<String>,
    /// How often interfaces are looked for that came since. An announcement on a new interface is
    /// missed for at most so long.
    pub refresh: Duration,
}

impl Default for MulticastConfig {
    fn default() -> Self {
        Self {
            group_v4: Some(Ipv4Addr::new(239, 77, 83, 75)),
            group_v6: Some(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x736b, 0x6570)),
            port: 7401,
            interfaces: Vec::new(),
            refresh: Duration::from_secs(15),
        }
    }
}

/// Somebody of our bloc is on the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which process spoke.
    pub nonce: Nonce,
    /// Where to dial it, likeliest first.
    pub addresses: Vec<SocketAddr>,
}

/// Why nothing was announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// The caller announces more often than is ever useful.
    #[error("announced too often")]
    TooOften,
    /// No interface took it; the text is the last refusal of the system.
    #[error("no interface takes multicast: {0}")]
    NoInterface(String),
}

/// What was heard so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MulticastStats {
    /// Announcements of our bloc, our own left out.
    pub heard: u64,
    /// Other datagrams: foreign, forged or malformed.
    pub ignored: u64,
    /// Datagrams that were not looked at, because they came too fast or nobody took them.
    pub dropped: u64,
}

/// Multicast of one agent. Ends when dropped.
#[derive(Debug)]
pub struct Multicast {
    config: MulticastConfig,
    keys: Vec<DiscoveryKey>,
    sender: Mutex<Sender>,
    counts: Arc<Counts>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Sender {
    v4: Option<Socket>,
    v6: Option<Socket>,
    bucket: Bucket,
    rng: Rng,
}

#[derive(Debug, Default)]
struct Counts {
    heard: AtomicU64,
    ignored: AtomicU64,
    dropped: AtomicU64,
}

impl Multicast {
    /// Opens the sockets and begins to listen, on the current tokio runtime. `me` is the nonce in
    /// our own announcements; the first of `keys` seals them, all are understood.
    ///
    /// # Errors
    /// The system's, when neither family can be listened to. One that is missing is logged.
    pub fn start(
        config: MulticastConfig,
        keys: Vec<DiscoveryKey>,
        me: Nonce,
        rng: Rng,
    ) -> io::Result<(Self, mpsc::Receiver<Heard>)> {
        let v4 = config.group_v4.map(|group| Listener::open_v4(group, config.port));
        let v6 = config.group_v6.map(|group| Listener::open_v6(group, config.port));
        let listeners = working([v4, v6].into_iter().flatten().collect())?;
        let (heard, receiver) = mpsc::channel(HEARD_QUEUE);
        let counts = Arc::new(Counts::default());
        let stop = CancellationToken::new();
        let bucket = Bucket::new(RECEIVE_BURST, RECEIVE_PERIOD, Instant::now());
        let bucket = Arc::new(Mutex::new(bucket));
        for listener in listeners {
            let ear = Ear {
                listener,
                keys: keys.clone(),
                me,
                heard: heard.clone(),
                counts: Arc::clone(&counts),
                bucket: Arc::clone(&bucket),
                wanted: config.interfaces.clone(),
                refresh: config.refresh,
            };
            tokio::spawn(ear.listen(stop.clone()));
        }
        let sender = Sender {
            v4: config.group_v4.and_then(|_| sending(Domain::IPV4)),
            v6: config.group_v6.and_then(|_| sending(Domain::IPV6)),
            bucket: Bucket::new(SEND_BURST, SEND_PERIOD, Instant::now()),
            rng,
        };
        let multicast =
            Self { config, keys, sender: Mutex::new(sender), counts, _stop: stop.drop_guard() };
        Ok((multicast, receiver))
    }

    /// Sends `announcement` on every interface now, and says how many took it. When to announce,
    /// with what jitter, is the caller's choice.
    ///
    /// # Errors
    /// [`AnnounceError`]; try again at the next turn.
    pub fn announce(&self, announcement: &Announcement) -> Result<usize, AnnounceError> {
        let mut sender = self.lock_sender();
        if !sender.bucket.take(Instant::now()) {
            return Err(AnnounceError::TooOften);
        }
        let Some(key) = self.keys.first() else {
            return Err(AnnounceError::NoInterface("no bloc is known".to_owned()));
        };
        let datagram = announcement.encode(key, sender.rng.bits());
        let mut last = "there is none".to_owned();
        let mut sent = 0;
        let all = interfaces().map_err(|error| AnnounceError::NoInterface(error.to_string()))?;
        for interface in taking_part(&all, &self.config.interfaces) {
            for outcome in sender.send(&self.config, interface, &datagram) {
                match outcome {
                    Ok(()) => sent += 1,
                    Err(error) => last = format!("{}: {error}", interface.name),
                }
            }
        }
        if sent == 0 {
            return Err(AnnounceError::NoInterface(last));
        }
        Ok(sent)
    }

    /// What was heard so far.
    #[must_use]
    pub fn stats(&self) -> MulticastStats {
        MulticastStats {
            heard: self.counts.heard.load(Ordering::Relaxed),
            ignored: self.counts.ignored.load(Ordering::Relaxed),
            dropped: self.counts.dropped.load(Ordering::Relaxed),
        }
    }

    fn lock_sender(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    fn send(
        &self,
        config: &MulticastConfig,
        interface: &Interface,
        datagram: &[u8],
    ) -> Vec<io::Result<()>> {
        let mut outcomes = Vec::new();
        if let (Some(socket), Some(group), Some(source)) =
            (&self.v4, config.group_v4, interface_v4(interface))
        {
            let to = SocketAddrV4::new(group, config.port);
            outcomes.push(
                socket
                    .set_multicast_if_v4(&source)
                    .and_then(|()| socket.send_to(datagram, &to.into()))
                    .map(drop),
            );
        }
        if let (Some(socket), Some(group), true) = (&self.v6, config.group_v6, has_v6(interface)) {
            let to = SocketAddrV6::new(group, config.port, 0, interface.index);
            outcomes.push(
                socket
                    .set_multicast_if_v6(interface.index)
                    .and_then(|()| socket.send_to(datagram, &to.into()))
                    .map(drop),
            );
        }
        outcomes
    }
}

/// One family's listening socket.
#[derive(Debug)]
struct Listener {
    socket: UdpSocket,
    group: IpAddr,
}

impl Listener {
    fn open_v4(group: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = shared_socket(Domain::IPV4)?;
        // Only groups that this socket joined, not those of others on the host.
        socket.set_multicast_all_v4(false)?;
        socket.bind(&SocketAddrV4::new(group, port).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, group: group.into() })
    }

    fn open_v6(group: Ipv6Addr, port: u16) -> io::Result<Self> {
        let socket = shared_socket(Domain::IPV6)?;
        socket.set_only_v6(true)?;
        socket.set_multicast_all_v6(false)?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, group: group.into() })
    }

    fn join(&self, interface: &Interface) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        match self.group {
            IpAddr::V4(group) => match interface_v4(interface) {
                Some(source) => socket.join_multicast_v4(&group, &source),
                None => Err(io::ErrorKind::AddrNotAvailable.into()),
            },
            IpAddr::V6(group) => socket.join_multicast_v6(&group, interface.index),
        }
    }
}

/// Listens on one family for as long as the agent runs.
struct Ear {
    listener: Listener,
    keys: Vec<DiscoveryKey>,
    me: Nonce,
    heard: mpsc::Sender<Heard>,
    counts: Arc<Counts>,
    bucket: Arc<Mutex<Bucket>>,
    wanted: Vec<String>,
    refresh: Duration,
}

impl Ear {
    async fn listen(self, stop: CancellationToken) {
        let mut joined = HashSet::new();
        let mut refresh = interval(self.refresh.max(Duration::from_millis(100)));
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // One byte more than any announcement: a longer datagram is seen to be one.
        let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = refresh.tick() => self.join_new(&mut joined),
                received = self.listener.socket.recv_from(&mut buffer) => match received {
                    Ok((len, from)) => self.hear(&buffer[..len], from),
                    Err(error) => tracing::debug!(%error, "multicast socket"),
                },
            }
        }
    }

    /// Joins the group on interfaces that came or got another address since.
    fn join_new(&self, joined: &mut HashSet<(u32, Option<Ipv4Addr>)>) {
        let Ok(all) = interfaces() else {
            return;
        };
        let mut present = HashSet::new();
        for interface in taking_part(&all, &self.wanted) {
            let key = (interface.index, interface_v4(interface));
            present.insert(key);
            if !joined.contains(&key) {
                match self.listener.join(interface) {
                    Ok(()) => {}
                    // Joined before, by another address of the interface.
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                    Err(error) => {
                        tracing::debug!(interface = %interface.name, %error, "no multicast there");
                    }
                }
                joined.insert(key);
            }
        }
        // An interface that comes back under the same number is joined again.
        joined.retain(|key| present.contains(key));
    }

    fn hear(&self, datagram: &[u8], from: SocketAddr) {
        let fits = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if !fits {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let announcement = match Announcement::decode(datagram, &self.keys) {
            Ok(announcement) if announcement.nonce == self.me => return,
            Ok(announcement) => announcement,
            Err(DatagramError::Foreign | DatagramError::OtherBloc | DatagramError::Malformed) => {
                self.counts.ignored.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        self.counts.heard.fetch_add(1, Ordering::Relaxed);
        let heard = Heard { nonce: announcement.nonce, addresses: dialable(&announcement, from) };
        if self.heard.try_send(heard).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Where to dial: the address that spoke comes first, for it is one that reaches us.
fn dialable(announcement: &Announcement, from: SocketAddr) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    if announcement.port != 0 {
        let mut source = from;
        source.set_port(announcement.port);
        addresses.push(source);
    }
    for &address in &announcement.addresses {
        let usable =
            address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast();
        if usable && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn working(opened: Vec<io::Result<Listener>>) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let mut failed = None;
    for outcome in opened {
        match outcome {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                tracing::info!(%error, "multicast of one address family is not to be had");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn shared_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // For multicast this lets every agent of the host, of whichever user, have the port.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn sending(domain: Domain) -> Option<Socket> {
    let open = || {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if domain == Domain::IPV4 {
            socket.set_multicast_loop_v4(true)?;
            socket.set_multicast_ttl_v4(1)?;
        } else {
            socket.set_only_v6(true)?;
            socket.set_multicast_loop_v6(true)?;
            socket.set_multicast_hops_v6(1)?;
        }
        Ok::<_, io::Error>(socket)
    };
    open()
        .inspect_err(|error| tracing::info!(%error, "cannot announce over one address family"))
        .ok()
}

/// The interfaces that are up, carry multicast (the loopback does, though it does not say so) and
/// are wanted.
fn taking_part<'a>(
    all: &'a [Interface],
    wanted: &'a [String],
) -> impl Iterator<Item = &'a Interface> {
    all.iter()
        .filter(|interface| interface.up && (interface.multicast || interface.loopback))
        .filter(|interface| wanted.is_empty() || wanted.contains(&interface.name))
}

fn interface_v4(interface: &Interface) -> Option<Ipv4Addr> {
    interface.addresses.iter().find_map(|address| match address {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    })
}

fn has_v6(interface: &Interface) -> bool {
    interface.addresses.iter().any(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests;
