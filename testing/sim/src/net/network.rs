//! Who is on the network, and what happens to frames on their way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use skep_base::{Incarnation, NodeId, NodeName, Nonce, Rng, Time};
use skep_node::{DownReason, Goodbye, Input, LinkId, Peer};
use skep_wire::{Address, Frame};

use super::conn::{Conn, EndState, Parcel, Pipe, Trouble, retransmission_delay};
use super::dial::{Attempt, AttemptId};
use super::latency::{Distances, Latency};
use super::reach::Reach;
use crate::HostIx;
use crate::report::Traffic;

/// What a kernel takes for a process that does not read.
const WINDOW_BYTES: usize = 256 * 1024;
/// What the transport queues for a link before it gives it up (`transport.control_queue_bytes`).
const SEND_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a frame that go into one segment, TLS and headers taken off.
const SEGMENT_BYTES: usize = 1_380;
/// TLS record, TCP and IP headers of a segment, and half of the acknowledgement that answers it.
const SEGMENT_OVERHEAD_BYTES: u64 = 22 + 52 + 26;

/// The transport's and the kernel's patience. The defaults are those of `edge/transport`.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// How long an address may take to accept a connection.
    pub(crate) connect: Duration,
    /// How long the handshake may take after that.
    pub(crate) handshake: Duration,
    /// How long one address is tried alone before the next is tried beside it.
    pub(crate) stagger: Duration,
    /// How long a link may be without any byte from the peer.
    pub(crate) idle: Duration,
    /// How long bytes may stay unacknowledged.
    pub(crate) user: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(4),
            handshake: Duration::from_secs(8),
            stagger: Duration::from_millis(250),
            idle: Duration::from_secs(60),
            user: Duration::from_secs(20),
        }
    }
}

/// What a host is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// Nothing: it has no power.
    Off,
    /// Its kernel runs, and nobody listens.
    Idle,
    /// Its agent runs.
    Running,
    /// Its agent is stopped; its kernel takes what comes.
    Stopped,
}

/// What a process says of itself in certificate and hello.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) bloc: u8,
    pub(crate) incarnation: Incarnation,
    pub(crate) nonce: Nonce,
    pub(crate) addresses: Vec<Address>,
}

/// Something for a process.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) host: HostIx,
    pub(crate) input: Input,
}

/// Something that happens in the network at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NetEvent {
    /// The first parcel of a pipe is due.
    Arrive { conn: u32, dir: u8 },
    /// A sender tries again.
    Retry { conn: u32, dir: u8 },
    /// The answer of a host that knows no such connection is back.
    Reset { conn: u32, side: u8 },
    /// Whether an end has been idle for too long must be looked at.
    Idle { conn: u32, side: u8 },
    /// A dial's first packet was answered, if it could be.
    Answered { attempt: AttemptId, leg: u8 },
    /// The dialled side has completed the handshake.
    Accepted { attempt: AttemptId, leg: u8 },
    /// So has the dialling side.
    Established { attempt: AttemptId },
    /// A dial has taken too long.
    DialTimeout { attempt: AttemptId },
}

#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) power: Power,
    pub(crate) place: u16,
    pub(crate) card: Option<Card>,
    conns: BTreeSet<u32>,
    /// What came while the process was stopped.
    held: VecDeque<Input>,
    /// Handshakes that wait for a process that is stopped.
    pub(crate) backlog: Vec<(AttemptId, u8)>,
}

/// The network and all connections in it.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) distances: Distances,
    /// Pairs whose way has become longer by this factor, the lesser host first.
    pub(crate) detours: BTreeMap<(HostIx, HostIx), u32>,
    pub(crate) loss: f64,
    pub(crate) timing: Timing,
    pub(crate) reach: Reach,
    pub(crate) rng: Rng,
    pub(crate) stations: Vec<Station>,
    pub(crate) listeners: BTreeMap<SocketAddr, HostIx>,
    pub(crate) conns: Vec<Option<Box<Conn>>>,
    pub(crate) attempts: BTreeMap<AttemptId, Attempt>,
    pub(crate) next_attempt: AttemptId,
    pub(crate) traffic: Traffic,
    /// What the caller must bring back at a time.
    pub(crate) later: Vec<(Time, NetEvent)>,
    /// What the caller must hand to processes, in this order.
    pub(crate) arrivals: VecDeque<Arrival>,
}

impl Network {
    pub(crate) fn new(latency: &Latency, loss: f64, rng: Rng) -> anyhow::Result<Self> {
        Ok(Self {
            distances: Distances::new(latency)?,
            detours: BTreeMap::new(),
            loss,
            timing: Timing::default(),
            reach: Reach::default(),
            rng,
            stations: Vec::new(),
            listeners: BTreeMap::new(),
            conns: Vec::new(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            traffic: Traffic::default(),
            later: Vec::new(),
            arrivals: VecDeque::new(),
        })
    }

    pub(crate) fn add_host(&mut self) {
        let place = self.distances.place(&mut self.rng);
        self.reach.add_host();
        self.stations.push(Station {
            power: Power::Idle,
            place,
            card: None,
            conns: BTreeSet::new(),
            held: VecDeque::new(),
            backlog: Vec::new(),
        });
    }

    pub(crate) fn station(&self, host: HostIx) -> &Station {
        &self.stations[host.index()]
    }

    pub(crate) fn station_mut(&mut self, host: HostIx) -> &mut Station {
        &mut self.stations[host.index()]
    }

    /// Where `host` listens from now on.
    pub(crate) fn listen(&mut self, host: HostIx, addresses: &[Address]) {
        self.listeners.retain(|_, listener| *listener != host);
        let new = addresses.iter().map(|address| (address.socket, host));
        self.listeners.extend(new);
        if let Some(card) = &mut self.station_mut(host).card {
            card.addresses = addresses.to_vec();
        }
    }

    /// Whether packets get from one host to the other now.
    pub(crate) fn passes(&self, from: HostIx, to: HostIx) -> bool {
        let on = |host| self.station(host).power != Power::Off;
        on(from) && on(to) && self.reach.is_open(from, to)
    }

    /// A process begins to listen.
    pub(crate) fn start(&mut self, host: HostIx, card: Card) {
        self.listen(host, &card.addresses);
        let station = self.station_mut(host);
        station.power = Power::Running;
        station.card = Some(card);
    }

    /// A process ends, and its kernel closes what it had.
    pub(crate) fn kill(&mut self, now: Time, host: HostIx) {
        for (conn, side) in self.ends_of(host) {
            if self.end_is_open(conn, side) {
                self.set_end(conn, side, EndState::Gone);
                self.transmit(now, conn, side, Parcel::Fin(DownReason::Closed));
            }
        }
        self.silence_process(host, Power::Idle);
    }

    /// A host loses power: no packet of it says so.
    pub(crate) fn power_off(&mut self, host: HostIx) {
        for (conn, side) in self.ends_of(host) {
            self.set_end(conn, side, EndState::Gone);
            if let Some(conn) = self.conn_mut(conn) {
                conn.pipes[side as usize].clear();
            }
            self.tidy(conn);
        }
        self.silence_process(host, Power::Off);
    }

    pub(crate) fn power_on(&mut self, host: HostIx) {
        self.station_mut(host).power = Power::Idle;
    }

    fn silence_process(&mut self, host: HostIx, power: Power) {
        self.attempts.retain(|_, attempt| attempt.from != host);
        let station = self.station_mut(host);
        station.power = power;
        station.card = None;
        station.held.clear();
        station.backlog.clear();
    }

    pub(crate) fn stop(&mut self, host: HostIx) {
        self.station_mut(host).power = Power::Stopped;
    }

    pub(crate) fn resume(&mut self, now: Time, host: HostIx) {
        let station = self.station_mut(host);
        station.power = Power::Running;
        let held = std::mem::take(&mut station.held);
        let backlog = std::mem::take(&mut station.backlog);
        let arrivals = held.into_iter().map(|input| Arrival { host, input });
        self.arrivals.extend(arrivals);
        for (conn, side) in self.ends_of(host) {
            if let Some(conn) = self.conn_mut(conn) {
                conn.pipes[1 - side as usize].unread = 0;
                conn.ends[side as usize].last_heard = now;
            }
        }
        for (attempt, leg) in backlog {
            self.accepted(now, attempt, leg);
        }
    }

    /// Sends a frame. On a link that is down it goes nowhere, as with the real transport.
    pub(crate) fn send(&mut self, now: Time, link: LinkId, frame: Frame) {
        let Some((conn, side)) = self.open_end(link) else {
            return;
        };
        let parcel = Parcel::Frame(frame);
        let segments = parcel.bytes().div_ceil(SEGMENT_BYTES) as u64;
        self.traffic.frames += 1;
        self.traffic.bytes += parcel.bytes() as u64 + segments * SEGMENT_OVERHEAD_BYTES;
        self.transmit(now, conn, side, parcel);
        let full = self
            .conn(conn)
            .is_some_and(|conn| conn.pipes[side as usize].queued_bytes > SEND_QUEUE_BYTES);
        if full {
            self.end_down(conn, side, DownReason::Fault);
            self.transmit(now, conn, side, Parcel::Fin(DownReason::Closed));
        }
    }

    /// Closes a link with a goodbye.
    pub(crate) fn close(&mut self, now: Time, link: LinkId, why: Goodbye) {
        if let Some((conn, side)) = self.open_end(link) {
            self.end_down(conn, side, DownReason::Local);
            self.transmit(now, conn, side, Parcel::Fin(DownReason::Goodbye(why)));
        }
    }

    /// The two hosts of each link that both processes have, the dialling one first.
    pub(crate) fn links(&self) -> impl Iterator<Item = (HostIx, HostIx)> + '_ {
        let conns = self.conns.iter().flatten();
        let up = conns.filter(|conn| conn.ends.iter().all(|end| end.state == EndState::Up));
        up.map(|conn| (conn.ends[0].host, conn.ends[1].host))
    }

    pub(crate) fn handle(&mut self, now: Time, event: NetEvent) {
        match event {
            NetEvent::Arrive { conn, dir } => self.arrive(now, conn, dir),
            NetEvent::Retry { conn, dir } => self.retry(now, conn, dir),
            NetEvent::Reset { conn, side } => self.reset(conn, side),
            NetEvent::Idle { conn, side } => self.look_whether_idle(now, conn, side),
            NetEvent::Answered { attempt, leg } => self.answered(now, attempt, leg),
            NetEvent::Accepted { attempt, leg } => self.accepted(now, attempt, leg),
            NetEvent::Established { attempt } => self.established(now, attempt),
            NetEvent::DialTimeout { attempt } => self.dial_timed_out(now, attempt),
        }
    }

    fn transmit(&mut self, now: Time, conn: u32, dir: u8, parcel: Parcel) {
        let segments = parcel.bytes().div_ceil(SEGMENT_BYTES).max(1);
        let losses = (0..segments).map(|_| self.losses_in_a_row()).max();
        let Some((from, to)) = self.direction(conn, dir) else {
            return;
        };
        let way = self.one_way(from, to);
        let user = self.timing.user;
        let Some(state) = self.conn_mut(conn) else {
            return;
        };
        let delay = retransmission_delay(losses.unwrap_or(0), state.round_trip);
        let pipe = &mut state.pipes[dir as usize];
        if pipe.trouble.is_some() {
            pipe.push(Time::NEVER, parcel);
            return;
        }
        if delay >= user {
            pipe.push(Time::NEVER, parcel);
            pipe.trouble = Some(Trouble { since: now, rto: user });
            self.later.push((now + user, NetEvent::Retry { conn, dir }));
            return;
        }
        let due = pipe.last_due.max(now + way + delay);
        pipe.last_due = due;
        pipe.push(due, parcel);
        self.arm(conn, dir);
    }

    /// Puts the arrival of a pipe's first parcel on the heap, unless it is there.
    fn arm(&mut self, conn: u32, dir: u8) {
        let Some(state) = self.conn_mut(conn) else {
            return;
        };
        let pipe = &mut state.pipes[dir as usize];
        if let Some((due, _)) = pipe.queue.front()
            && *due != Time::NEVER
            && !pipe.armed
        {
            pipe.armed = true;
            let due = *due;
            self.later.push((due, NetEvent::Arrive { conn, dir }));
        }
    }

    fn arrive(&mut self, now: Time, conn: u32, dir: u8) {
        let Some((from, to)) = self.direction(conn, dir) else {
            return;
        };
        let (forth, back) = (self.passes(from, to), self.passes(to, from));
        if let Some(state) = self.conn_mut(conn) {
            state.pipes[dir as usize].armed = false;
        }
        loop {
            let Some(state) = self.conn(conn) else {
                return;
            };
            let Some((due, parcel)) = state.pipes[dir as usize].queue.front() else {
                break;
            };
            if *due > now {
                self.arm(conn, dir);
                break;
            }
            let full = self.is_full(conn, dir, parcel.bytes());
            if !forth || full || state.ends[1 - dir as usize].state == EndState::Connecting {
                return self.begin_trouble(now, conn, dir);
            }
            self.deliver(now, conn, dir, back);
        }
        if !back {
            self.begin_trouble(now, conn, dir);
        }
        self.tidy(conn);
    }

    /// Whether the receiver's kernel has no room for so many bytes.
    fn is_full(&self, conn: u32, dir: u8, bytes: usize) -> bool {
        self.conn(conn).is_some_and(|state| {
            let to = state.ends[1 - dir as usize].host;
            let unread = state.pipes[dir as usize].unread;
            self.station(to).power == Power::Stopped && unread + bytes > WINDOW_BYTES
        })
    }

    fn deliver(&mut self, now: Time, conn: u32, dir: u8, back: bool) {
        let Some(state) = self.conn_mut(conn) else {
            return;
        };
        let Some(parcel) = state.pipes[dir as usize].pop() else {
            return;
        };
        let side = 1 - dir;
        if state.ends[side as usize].state != EndState::Up {
            // Nobody has this end any more. A goodbye that is on its way says so better.
            if !state.pipes[side as usize].has_fin() {
                state.pipes[dir as usize].clear();
                let answer = state.round_trip / 2;
                if back {
                    self.later.push((now + answer, NetEvent::Reset { conn, side: dir }));
                }
            }
            return;
        }
        state.ends[side as usize].last_heard = now;
        match parcel {
            Parcel::Frame(frame) => {
                let bytes = frame.body.len();
                let host = state.ends[side as usize].host;
                state.pipes[dir as usize].unread += bytes;
                let link = link_id(conn, side);
                self.give(host, Input::Frame { link, frame });
                if self.station(host).power == Power::Running
                    && let Some(state) = self.conn_mut(conn)
                {
                    state.pipes[dir as usize].unread = 0;
                }
            }
            Parcel::Fin(why) => {
                state.pipes[side as usize].clear();
                self.end_down(conn, side, why);
            }
        }
    }

    fn begin_trouble(&mut self, now: Time, conn: u32, dir: u8) {
        let Some(state) = self.conn_mut(conn) else {
            return;
        };
        let round_trip = state.round_trip;
        let pipe = &mut state.pipes[dir as usize];
        if pipe.trouble.is_none() {
            let trouble = Trouble::begin(now, round_trip);
            pipe.trouble = Some(trouble);
            self.later.push((now + trouble.rto, NetEvent::Retry { conn, dir }));
        }
    }

    fn retry(&mut self, now: Time, conn: u32, dir: u8) {
        let Some((from, to)) = self.direction(conn, dir) else {
            return;
        };
        let (forth, back) = (self.passes(from, to), self.passes(to, from));
        let full = self.is_full(conn, dir, 1);
        let (way, user) = (self.one_way(from, to), self.timing.user);
        let Some(state) = self.conn_mut(conn) else {
            return;
        };
        let (near, far) = (state.ends[dir as usize].state, state.ends[1 - dir as usize].state);
        let pipe = &mut state.pipes[dir as usize];
        let Some(trouble) = &mut pipe.trouble else {
            return;
        };
        let given_up = now.since(trouble.since) >= user;
        if given_up || (near == EndState::Gone && pipe.queue.is_empty()) {
            pipe.clear();
            if near != EndState::Gone {
                self.end_down(conn, dir, DownReason::TimedOut);
                if forth {
                    self.later.push((now + way, NetEvent::Reset { conn, side: 1 - dir }));
                }
            }
            return self.tidy(conn);
        }
        if forth && back && far == EndState::Gone {
            pipe.clear();
            self.reset(conn, dir);
            return self.tidy(conn);
        }
        if forth && back && !full {
            pipe.trouble = None;
        } else {
            trouble.back_off();
            let next = (now + trouble.rto).min(trouble.since + user);
            self.later.push((next, NetEvent::Retry { conn, dir }));
        }
        if forth && !full {
            self.send_again(now, conn, dir, way);
        }
    }

    /// Everything that has not arrived is under way once more.
    fn send_again(&mut self, now: Time, conn: u32, dir: u8, way: Duration) {
        if let Some(state) = self.conn_mut(conn) {
            let pipe = &mut state.pipes[dir as usize];
            pipe.last_due = now + way;
            for (due, _) in &mut pipe.queue {
                *due = now + way;
            }
            // An arrival that is on the heap already finds these not due, and arms anew.
            self.arm(conn, dir);
        }
    }

    /// The kernel learns that the other end knows nothing of the connection.
    fn reset(&mut self, conn: u32, side: u8) {
        if let Some(state) = self.conn_mut(conn) {
            state.pipes[side as usize].clear();
            self.end_down(conn, side, DownReason::Closed);
            self.tidy(conn);
        }
    }

    fn look_whether_idle(&mut self, now: Time, conn: u32, side: u8) {
        let idle = self.timing.idle;
        let Some(state) = self.conn_mut(conn) else {
            return;
        };
        let end = &mut state.ends[side as usize];
        let (host, state, last_heard) = (end.host, end.state, end.last_heard);
        if state != EndState::Up {
            return;
        }
        // A process that is stopped looks at no clock; it is asked again when it runs.
        if self.station(host).power == Power::Stopped || now.since(last_heard) < idle {
            let next = (last_heard + idle).max(now + idle / 4);
            self.later.push((next, NetEvent::Idle { conn, side }));
            return;
        }
        self.end_down(conn, side, DownReason::TimedOut);
        self.transmit(now, conn, side, Parcel::Fin(DownReason::Closed));
    }

    pub(crate) fn watch_for_idleness(&mut self, now: Time, conn: u32, side: u8) {
        let at = now + self.timing.idle;
        self.later.push((at, NetEvent::Idle { conn, side }));
    }

    /// Takes an end from its process, which is told why.
    pub(crate) fn end_down(&mut self, conn: u32, side: u8, why: DownReason) {
        let Some(state) = self.conn_mut(conn) else {
            return;
        };
        let end = &mut state.ends[side as usize];
        let was = std::mem::replace(&mut end.state, EndState::Gone);
        let host = end.host;
        if was == EndState::Up {
            let link = link_id(conn, side);
            self.give(host, Input::LinkDown { link, why });
        }
    }

    /// Hands something to a process, or to the kernel that keeps it until the process runs.
    pub(crate) fn give(&mut self, host: HostIx, input: Input) {
        match self.station(host).power {
            Power::Running => self.arrivals.push_back(Arrival { host, input }),
            Power::Stopped => self.station_mut(host).held.push_back(input),
            Power::Off | Power::Idle => {}
        }
    }

    pub(crate) fn add_conn(&mut self, conn: Conn) -> u32 {
        let number = u32::try_from(self.conns.len()).unwrap_or(u32::MAX);
        for end in conn.ends {
            self.station_mut(end.host).conns.insert(number);
        }
        self.conns.push(Some(Box::new(conn)));
        self.traffic.connections += 1;
        number
    }

    /// Forgets a connection that neither end has and nothing travels on.
    fn tidy(&mut self, conn: u32) {
        let over = self.conn(conn).is_some_and(|state| {
            let gone = state.ends.iter().all(|end| end.state == EndState::Gone);
            gone && state.pipes.iter().all(|pipe| pipe.queue.is_empty())
        });
        if over && let Some(state) = self.conns[conn as usize].take() {
            for end in state.ends {
                self.station_mut(end.host).conns.remove(&conn);
            }
        }
    }

    pub(crate) fn conn(&self, conn: u32) -> Option<&Conn> {
        self.conns.get(conn as usize)?.as_deref()
    }

    pub(crate) fn conn_mut(&mut self, conn: u32) -> Option<&mut Conn> {
        self.conns.get_mut(conn as usize)?.as_deref_mut()
    }

    pub(crate) fn direction(&self, conn: u32, dir: u8) -> Option<(HostIx, HostIx)> {
        let ends = &self.conn(conn)?.ends;
        Some((ends[dir as usize].host, ends[1 - dir as usize].host))
    }

    fn open_end(&self, link: LinkId) -> Option<(u32, u8)> {
        let conn = u32::try_from(link.0 / 2).ok()?;
        let side = u8::from(link.0 % 2 == 1);
        let state = self.conn(conn)?.ends[side as usize].state;
        (state == EndState::Up).then_some((conn, side))
    }

    fn end_is_open(&self, conn: u32, side: u8) -> bool {
        self.conn(conn).is_some_and(|conn| conn.ends[side as usize].state != EndState::Gone)
    }

    fn set_end(&mut self, conn: u32, side: u8, state: EndState) {
        if let Some(conn) = self.conn_mut(conn) {
            conn.ends[side as usize].state = state;
        }
    }

    /// The connections of a host, and which end of each it is.
    fn ends_of(&self, host: HostIx) -> Vec<(u32, u8)> {
        let side = |conn: &u32| {
            let ends = &self.conn(*conn)?.ends;
            Some((*conn, u8::from(ends[0].host != host)))
        };
        self.station(host).conns.iter().filter_map(side).collect()
    }

    pub(crate) fn one_way(&mut self, from: HostIx, to: HostIx) -> Duration {
        let places = (self.station(from).place, self.station(to).place);
        self.distances.one_way(places.0, places.1, &mut self.rng) * self.detour(from, to)
    }

    fn detour(&self, a: HostIx, b: HostIx) -> u32 {
        self.detours.get(&(a.min(b), a.max(b))).copied().unwrap_or(1)
    }

    pub(crate) fn round_trip(&self, a: HostIx, b: HostIx) -> Duration {
        self.distances.round_trip(self.station(a).place, self.station(b).place) * self.detour(a, b)
    }

    /// How many times in a row the next segment is lost.
    pub(crate) fn losses_in_a_row(&mut self) -> u32 {
        let mut losses = 0;
        while losses < 16 && self.loss > 0.0 && self.rng.chance(self.loss) {
            losses += 1;
        }
        self.traffic.lost += u64::from(losses);
        losses
    }

    pub(crate) fn peer(&self, host: HostIx, port: u32) -> Option<Peer> {
        let card = self.station(host).card.as_ref()?;
        let mut remote = card.addresses.first().map(|address| address.socket)?;
        remote.set_port(u16::try_from(32_768 + port % 28_000).unwrap_or(0));
        Some(Peer {
            id: card.id,
            name: card.name.clone(),
            incarnation: card.incarnation,
            nonce: card.nonce,
            addresses: card.addresses.clone(),
            dialled: None,
            remote,
        })
    }
}

pub(crate) fn link_id(conn: u32, side: u8) -> LinkId {
    LinkId(u64::from(conn) * 2 + u64::from(side))
}

impl Conn {
    pub(crate) fn new(ends: [super::conn::End; 2], round_trip: Duration) -> Self {
        Self { ends, pipes: [Pipe::default(), Pipe::default()], round_trip }
    }
}
