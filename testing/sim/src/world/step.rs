//! The loop: the next event, who is called, what must hold then.

use std::net::SocketAddr;
use std::time::Duration;

use skep_base::Time;
use skep_node::{Deadline, Input, Source};
use skep_wire::kind;

use super::{Answer, Ask, Happening, World};
use crate::host::{HostIx, Machine};
use crate::report::{Checker, Failure};

/// Ticks at one instant before a machine counts as spinning.
const MAX_TICKS_AT_ONCE: u32 = 1_000;
/// Addresses that the beacon gives at once.
const BEACON_LIST: usize = 16;

impl World {
    /// Lets time pass.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Failure> {
        let end = self.now + span;
        self.run_until(end)
    }

    /// Lets time pass until then.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn run_until(&mut self, end: Time) -> Result<(), Failure> {
        while self.queue.next_at().is_some_and(|at| at <= end) {
            self.work_ahead(end);
            self.step();
            if let Some(failure) = self.failure.clone() {
                self.call_off();
                return Err(failure);
            }
        }
        self.now = self.now.max(end);
        Ok(())
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub(crate) fn run_event(&mut self) -> Result<(), Failure> {
        self.step();
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn step(&mut self) {
        let Some((at, order, happening)) = self.queue.pop() else {
            return;
        };
        self.now = self.now.max(at);
        self.events += 1;
        let foreseen = self.bring_back(order);
        match happening {
            Happening::Net(event) => self.net.handle(self.now, event),
            Happening::Tick { host, at } => self.tick(host, at),
            Happening::Flood { host, epoch, input } => {
                if self.host(host).epoch == epoch {
                    self.net.give(host, Input::Flood(*input));
                }
            }
            Happening::Released { host, epoch } => {
                if self.host(host).epoch == epoch {
                    self.release(host);
                }
            }
            Happening::Announce { host, epoch } => {
                if self.host(host).epoch == epoch {
                    self.announce(host);
                }
            }
            Happening::AskBeacon { host, epoch } => {
                if self.host(host).epoch == epoch {
                    self.ask_beacon(host);
                }
            }
            Happening::Computed { host, epoch, input } => {
                if self.host(host).epoch == epoch {
                    self.net.give(host, *input);
                }
            }
            Happening::Knocked { host, epoch, peer, took } => {
                if self.host(host).epoch == epoch {
                    self.net.give(host, Input::Knocked { peer, took });
                }
            }
            Happening::Token { host, epoch } => {
                if self.host(host).epoch == epoch {
                    self.look_after_token(host);
                }
            }
            Happening::Found { host, epoch, addresses, source } => {
                if self.host(host).epoch == epoch {
                    self.net.give(host, Input::Found { addresses: addresses.into(), source });
                }
            }
        }
        self.hand_out();
        if let Some(process) = foreseen.and_then(|host| self.host(host).process.as_ref()) {
            assert!(process.foreseen.is_none(), "a call was foreseen and did not come");
        }
    }

    /// Hands everything that arrived to its process, and brings the network's plans to the heap.
    pub(crate) fn hand_out(&mut self) {
        loop {
            for (at, event) in self.net.later.drain(..) {
                self.queue.push(at, Happening::Net(event));
            }
            let Some(arrival) = self.net.arrivals.pop_front() else {
                return;
            };
            self.feed(arrival.host, arrival.input);
        }
    }

    fn feed(&mut self, host: HostIx, input: Input) {
        if !self.host(host).is_live() {
            return;
        }
        self.note_input(host, &input);
        if let Input::Frame { frame, .. } = &input {
            self.host_mut(host).frames.came(frame.kind);
        }
        let now = self.host(host).local(self.now);
        let process = self.host_mut(host).process.as_mut();
        if let Some(answer) = process.and_then(|process| process.ask(now, Ask::Input(input))) {
            self.after_call(host, answer);
        }
    }

    fn tick(&mut self, host: HostIx, at: Time) {
        let world_now = self.now;
        let local = self.host(host).local(world_now);
        let Some(process) = &mut self.host_mut(host).process else {
            return;
        };
        if process.tick_at != Some(at) || process.stopped {
            return;
        }
        process.tick_at = None;
        let Some(answer) = process.ask(local, Ask::Tick) else {
            return;
        };
        let Some(why) = answer.ticked else {
            return self.plan_tick_at(host, answer.due);
        };
        process.ticks_now = match process.ticks_now {
            (last, count) if last == world_now => (last, count + 1),
            _ => (world_now, 1),
        };
        let spins = process.ticks_now.1 > MAX_TICKS_AT_ONCE;
        self.line(Some(host), "tick", None, (0, 0), || Some(why.to_owned()));
        if spins {
            let name = &self.host(host).name;
            let what = format!("{name} is never done: its deadline stays in the past ({why})");
            self.fail(Checker::Invariant, what);
        }
        self.after_call(host, answer);
    }

    /// What a machine wants done is done, and its next tick planned.
    fn after_call(&mut self, host: HostIx, answer: Answer) {
        let Answer { mut out, due, .. } = answer;
        if out.dropped() > 0 {
            let name = &self.host(host).name;
            let what = format!("{name} filled its outbox: {} outputs dropped", out.dropped());
            self.fail(Checker::Invariant, what);
        }
        self.refresh_card(host);
        while let Some(output) = out.pop() {
            self.carry_out_in_turn(host, output);
        }
        self.watch_node(host);
        self.plan_tick_at(host, due);
    }

    /// Before a node has begun, its hello names the life that it would begin now.
    fn refresh_card(&mut self, host: HostIx) {
        let Self { hosts, net, .. } = self;
        let machine = hosts[host.index()].machine();
        if let Some(node) = machine.map(|machine| machine.node()).filter(|node| !node.has_begun())
            && let Some(card) = &mut net.station_mut(host).card
        {
            card.incarnation = node.incarnation();
        }
    }

    /// Plans a process' next tick as its machine wants it.
    pub(crate) fn plan_tick(&mut self, host: HostIx) {
        let due = self.host(host).machine().and_then(Machine::deadline);
        self.plan_tick_at(host, due);
    }

    fn plan_tick_at(&mut self, host: HostIx, due: Option<Deadline>) {
        let now = self.now;
        let Self { hosts, queue, .. } = self;
        let state = &mut hosts[host.index()];
        let due = due.filter(|(due, _)| *due != Time::NEVER).map(|(due, _)| state.global(due));
        let Some(process) = &mut state.process else {
            return;
        };
        if let Some(due) = due {
            let at = due.max(now);
            if process.tick_at.is_none_or(|planned| at < planned) {
                process.tick_at = Some(at);
                queue.push(at, Happening::Tick { host, at });
            }
        }
    }

    fn note_input(&mut self, host: HostIx, input: &Input) {
        let (event, other, numbers): (&'static str, Option<u64>, (u64, u64)) = match input {
            Input::LinkUp { link, peer } => ("link-up", Some(link.0), (peer.incarnation.0, 0)),
            Input::LinkDown { link, .. } => ("link-down", Some(link.0), (0, 0)),
            Input::Frame { link, frame } => {
                let numbers = (u64::from(frame.kind), frame.body.len() as u64);
                (frame_name(frame.kind), Some(link.0), numbers)
            }
            Input::Restrict { link, on } => ("restrict", Some(link.0), (u64::from(*on), 0)),
            Input::DialFailed { dial, .. } => ("dial-failed", None, (dial.0, 0)),
            Input::Found { addresses, .. } => ("found", None, (addresses.len() as u64, 0)),
            Input::Addresses(addresses) => ("addresses", None, (addresses.len() as u64, 0)),
            Input::Renewed(_) => ("renewed", None, (0, 0)),
            Input::Publish { kind, .. } => ("publish", None, (u64::from(*kind), 0)),
            Input::Looked(samples) => ("looked", None, (samples.len() as u64, 0)),
            Input::Computed { answer, .. } => ("computed", None, (u64::from(answer.is_ok()), 0)),
            Input::Knocked { took, .. } => ("knocked", None, (u64::from(took.is_some()), 0)),
            Input::Flood(_) => ("flood-input", None, (0, 0)),
            Input::Ask { to, service, .. } => {
                let other = self.by_id.get(to).map(|host| u64::from(host.0));
                ("ask", other, (u64::from(*service), 0))
            }
            Input::Answer { ticket, .. } => ("answer", None, (ticket.key.serial, 0)),
            Input::Spare { resources, .. } => ("spare", None, (u64::from(*resources), 0)),
            Input::Managers(_) => ("managers-input", None, (0, 0)),
            Input::Wish { token, .. } => ("wish", None, (*token, 0)),
            Input::Stop(_) => ("stop", None, (0, 0)),
        };
        self.line(Some(host), event, other, numbers, || match input {
            Input::LinkUp { peer, .. } => Some(format!("{} {:?}", peer.name, peer.dialled)),
            Input::LinkDown { why, .. } => Some(format!("{why:?}")),
            Input::DialFailed { why, .. } => Some(format!("{why:?}")),
            Input::Found { addresses, source } => Some(format!("{source:?} {addresses:?}")),
            Input::Stop(farewell) => Some(format!("{farewell:?}")),
            Input::Frame { .. }
            | Input::Restrict { .. }
            | Input::Addresses(_)
            | Input::Renewed(_)
            | Input::Publish { .. }
            | Input::Ask { .. }
            | Input::Answer { .. }
            | Input::Looked(_)
            | Input::Computed { .. }
            | Input::Knocked { .. }
            | Input::Spare { .. }
            | Input::Managers(_)
            | Input::Wish { .. }
            | Input::Flood(_) => None,
        });
    }

    /// A node's announcement reaches whoever is in its domain and hears it.
    fn announce(&mut self, host: HostIx) {
        let (Some(every), Some(domain)) = (self.config.multicast, self.host(host).domain) else {
            return;
        };
        let epoch = self.host(host).epoch;
        let next = self.now + self.rng.jitter(every, 0.2);
        self.queue.push(next, Happening::Announce { host, epoch });
        if !self.host(host).is_live() {
            return;
        }
        let addresses: Box<[SocketAddr]> =
            self.host(host).addresses.iter().map(|address| address.socket).collect();
        let hears = |other: &HostIx| {
            let near = self.host(*other).domain == Some(domain) && *other != host;
            near && self.host(*other).is_live() && self.net.passes(host, *other)
        };
        let listeners: Vec<HostIx> = self.hosts().filter(hears).collect();
        for other in listeners {
            let at = self.now + self.net.one_way(host, other);
            let epoch = self.host(other).epoch;
            let addresses = addresses.clone();
            let source = Source::Multicast;
            self.queue.push(at, Happening::Found { host: other, epoch, addresses, source });
        }
    }

    /// The beacon, which everybody reaches, names some others that asked it.
    fn ask_beacon(&mut self, host: HostIx) {
        let Some(every) = self.config.beacon else {
            return;
        };
        let epoch = self.host(host).epoch;
        let next = self.now + self.rng.jitter(every, 0.2);
        self.queue.push(next, Happening::AskBeacon { host, epoch });
        if !self.host(host).is_live() {
            return;
        }
        let mut others: Vec<HostIx> = self.live().filter(|other| *other != host).collect();
        self.rng.shuffle(&mut others);
        others.truncate(BEACON_LIST);
        let addresses = others.iter().filter_map(|other| self.address(*other)).collect();
        let source = Source::Beacon;
        let at = self.now + Duration::from_millis(20);
        self.queue.push(at, Happening::Found { host, epoch, addresses, source });
    }
}

const fn frame_name(number: u8) -> &'static str {
    match number {
        kind::RECORDS => "records",
        kind::MEMBERSHIP => "heartbeat",
        kind::FLOOD => "flood",
        kind::ESTIMATES => "estimates",
        kind::TOPOLOGY => "topology",
        kind::MANAGERS => "managers",
        kind::CATALOG => "catalog",
        kind::WISHES => "wishes",
        _ => "frame",
    }
}
