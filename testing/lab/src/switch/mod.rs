//! The slow network: a switch in user space, with one TAP device in every host.
//!
//! The kernels this runs on have no `netem`, so latency, jitter and reordering are made here. One
//! thread reads the frames of all hosts, asks [`forward::Forwarder`] when each is to come out, and
//! writes it to its receiver then. About 100,000 frames a second; a bridge does thirty times that,
//! so this backend is chosen where time matters.

mod forward;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use skep_base::{Rng, Time};

use self::forward::Forwarder;
use crate::netns::NetNs;
use crate::rules::{Dropped, Line, Port, Rules};
use crate::sys;

/// The longest frame: an Ethernet header and the 64 KiB that offloading may pass, were it on.
const MAX_FRAME_BYTES: usize = 64 * 1024 + 14;
/// Frames taken from one host before the next one is looked at, so that no sender starves others.
const MAX_FRAMES_A_TURN: usize = 64;
/// Events handled between two waits.
const MAX_EVENTS: usize = 256;
/// The number of the descriptor that ends the thread; ports count from 1 and end far below.
const STOP: u64 = u64::MAX;
/// The number of the timer.
const TIMER: u64 = u64::MAX - 1;

/// The hardware address of a port: locally administered, and the port's number at its end, so
/// that nothing needs to be learnt.
pub(crate) fn mac(port: Port) -> [u8; 6] {
    let [high, low] = port.0.to_be_bytes();
    [0x02, 0x53, 0x4b, 0x00, high, low]
}

/// The running switch.
#[derive(Debug)]
pub(crate) struct Switch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    stop: OwnedFd,
    timer: OwnedFd,
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    forwarder: Forwarder,
    taps: BTreeMap<Port, Tap>,
}

/// A host's device. The kernel takes frames for a device without a carrier, so the switch keeps
/// them from it.
#[derive(Clone, Debug)]
struct Tap {
    device: Arc<OwnedFd>,
    plugged: bool,
}

impl Switch {
    /// Starts a switch without ports. `seed` decides which frames are lost, late or early.
    ///
    /// # Errors
    /// When the kernel gives no descriptors or threads.
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let clock = TimerfdClockId::Monotonic;
        let shared = Arc::new(Shared {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            stop: rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?,
            timer: rustix::time::timerfd_create(
                clock,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )?,
            started: Instant::now(),
            inner: Mutex::new(Inner {
                forwarder: Forwarder::new(Rng::seeded(seed)),
                taps: BTreeMap::new(),
            }),
        });
        shared.watch(&shared.stop, STOP)?;
        shared.watch(&shared.timer, TIMER)?;
        let thread = std::thread::Builder::new()
            .name("lab-switch".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.run()
            })
            .context("cannot start the switch's thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Plugs hosts in: each gets an `eth0`.
    ///
    /// # Errors
    /// When there is no `/dev/net/tun` or the kernel refuses.
    pub(crate) fn attach(&self, hosts: &[(Port, NetNs)]) -> Result<()> {
        for (port, host) in hosts {
            let device = host
                .enter(|| sys::open_tap("eth0"))?
                .with_context(|| format!("cannot open a TAP device in {}", host.name()))?;
            let device = Arc::new(device);
            self.shared.watch(&device, u64::from(port.0))?;
            let plugged = true;
            let tap = Tap { device, plugged };
            self.shared.lock().taps.insert(*port, tap);
        }
        Ok(())
    }

    /// Puts new rules in force: when this returns, no frame follows the old ones.
    pub(crate) fn apply(&self, rules: &Rules) {
        self.shared.lock().forwarder.set_rules(rules.clone());
    }

    /// Plugs a host's cable in or out.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn set_carrier(&self, port: Port, up: bool) -> Result<()> {
        let mut inner = self.shared.lock();
        let tap = inner.taps.get_mut(&port);
        let tap = tap.with_context(|| format!("no host hangs on {port:?}"))?;
        sys::set_carrier(tap.device.as_fd(), up)
            .context("cannot set the carrier of a TAP device")?;
        tap.plugged = up;
        Ok(())
    }

    /// Frames dropped so far.
    pub(crate) fn dropped(&self) -> Dropped {
        self.shared.lock().forwarder.dropped()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // An eventfd that was never read takes any number but the largest.
        rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes()).ok();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic of the other side leaves nothing half done that matters to a test that fails.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, what: &OwnedFd, number: u64) -> Result<()> {
        epoll::add(&self.epoll, what, EventData::new_u64(number), EventFlags::IN)
            .context("cannot watch a descriptor")
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// The thread: waits for frames, for the time of the next one, and for the end.
    fn run(&self) {
        let mut buffer = vec![0; MAX_FRAME_BYTES];
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            events.clear();
            let waited =
                epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None);
            match waited {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in &events {
                match event.data.u64() {
                    STOP => return,
                    // Read so that it falls silent; what is due is looked at below in any case.
                    TIMER => {
                        rustix::io::read(&self.timer, &mut [0_u8; 8]).ok();
                    }
                    port => self.take_frames(port, &mut buffer),
                }
            }
            self.deliver();
        }
    }

    fn take_frames(&self, port: u64, buffer: &mut [u8]) {
        let Ok(from) = u16::try_from(port).map(Port) else {
            return;
        };
        let Some(tap) = self.lock().taps.get(&from).cloned() else {
            return;
        };
        for _ in 0..MAX_FRAMES_A_TURN {
            let Ok(length) = rustix::io::read(&*tap.device, &mut *buffer) else {
                return;
            };
            let frame: Arc<[u8]> = Arc::from(&buffer[..length]);
            let now = self.now();
            let mut inner = self.lock();
            for line in inner.lines_of(from, &frame) {
                inner.forwarder.accept(now, line, Arc::clone(&frame));
            }
        }
    }

    fn deliver(&self) {
        let mut inner = self.lock();
        // Asked once: a sender faster than the switch must not keep it from listening.
        let now = self.now();
        while let Some((to, frame)) = inner.forwarder.pop_due(now) {
            let Some(tap) = inner.taps.get(&to).filter(|tap| tap.plugged) else {
                continue;
            };
            // A host whose interface is down has no room for a frame: lost, as on any cable.
            if rustix::io::write(&*tap.device, &frame).is_err() {
                inner.forwarder.count_full_receiver();
            }
        }
        if let Some(due) = inner.forwarder.next_due() {
            // Nothing is done about a failure: a valid time on an open timer cannot fail.
            drop(self.set_timer(due.since(now)));
        }
    }

    fn set_timer(&self, wait: Duration) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would disarm it.
        let wait = wait.max(Duration::from_nanos(1));
        let value = Timespec::try_from(wait).map_err(io::Error::other)?;
        let timer = Itimerspec { it_interval: zero, it_value: value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        Ok(())
    }
}

impl Inner {
    /// Where a frame goes: to the port in its destination, or to all others when that is a group.
    fn lines_of(&self, from: Port, frame: &[u8]) -> Vec<Line> {
        let Some(to) = frame.first_chunk::<6>() else {
            return Vec::new();
        };
        let group = to[0] & 1 == 1;
        self.taps
            .keys()
            .filter(|port| **port != from && (group || mac(**port) == *to))
            .map(|port| (from, *port))
            .collect()
    }
}
