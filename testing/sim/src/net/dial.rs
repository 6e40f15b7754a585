//! Dialling: from the first packet to two processes that have a link.
//!
//! A TCP connection takes one round trip, TLS 1.3 with certificates on both sides one more, and the
//! hellos travel with its last flight: the dialled side has its link after two and a half round
//! trips, the dialling side after three. Several addresses are raced, each with a head start over
//! the next.

use std::net::SocketAddr;
use std::time::Duration;

use skep_base::{NodeId, Time};
use skep_node::{DialFailure, DialId, DownReason, Input};

use super::conn::{Conn, End, EndState, Parcel, Pipe};
use super::network::{Card, NetEvent, Network, Power, link_id};
use crate::HostIx;

pub(crate) type AttemptId = u64;

/// What two handshakes cost the processor of either side.
const HANDSHAKE_WORK: Duration = Duration::from_millis(1);
/// The first packet is sent again after this long, then after twice as long (`TCP_TIMEOUT_INIT`).
const SYN_RTO: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) from: HostIx,
    dial: DialId,
    expect: Option<NodeId>,
    began: Time,
    legs: Vec<Leg>,
    won: Option<u32>,
}

#[derive(Debug)]
struct Leg {
    address: SocketAddr,
    to: Option<HostIx>,
    connected: bool,
    failure: Option<DialFailure>,
}

impl Network {
    pub(crate) fn dial(
        &mut self,
        now: Time,
        from: HostIx,
        dial: DialId,
        expect: Option<NodeId>,
        addresses: &[SocketAddr],
    ) {
        self.next_attempt += 1;
        let attempt = self.next_attempt;
        self.traffic.dials += 1;
        let mut legs = Vec::new();
        for (leg, address) in (0_u8..).zip(addresses) {
            let to = self.listeners.get(address).copied();
            if let Some(to) = to {
                let begins = now + self.timing.stagger * u32::from(leg);
                let lost = SYN_RTO * ((1 << self.losses_in_a_row().min(8)) - 1);
                let answered = begins + self.round_trip(from, to) + lost;
                self.later.push((answered, NetEvent::Answered { attempt, leg }));
            }
            legs.push(Leg { address: *address, to, connected: false, failure: None });
        }
        let patience = self.timing.connect + self.timing.stagger * legs_after_first(&legs);
        self.later.push((now + patience, NetEvent::DialTimeout { attempt }));
        self.attempts.insert(attempt, Attempt { from, dial, expect, began: now, legs, won: None });
    }

    pub(crate) fn answered(&mut self, now: Time, attempt: AttemptId, leg: u8) {
        let Some((from, to)) = self.open_leg(attempt, leg) else {
            return;
        };
        if !self.passes(from, to) || !self.passes(to, from) {
            return;
        }
        match self.station(to).power {
            Power::Off => {}
            Power::Idle => self.leg_failed(attempt, leg, DialFailure::Refused),
            Power::Running | Power::Stopped => {
                if let Some(state) = self.attempts.get_mut(&attempt) {
                    state.legs[leg as usize].connected = true;
                }
                let losses = self.losses_in_a_row();
                let round_trip = self.round_trip(from, to);
                let delay = super::conn::retransmission_delay(losses, round_trip);
                let accepted = now + round_trip * 3 / 2 + delay + HANDSHAKE_WORK;
                self.later.push((accepted, NetEvent::Accepted { attempt, leg }));
            }
        }
    }

    pub(crate) fn accepted(&mut self, now: Time, attempt: AttemptId, leg: u8) {
        let Some((from, to)) = self.open_leg(attempt, leg) else {
            return;
        };
        if !self.passes(from, to) || !self.passes(to, from) {
            return;
        }
        match self.station(to).power {
            Power::Off => return,
            Power::Idle => return self.leg_failed(attempt, leg, DialFailure::Refused),
            Power::Stopped => return self.station_mut(to).backlog.push((attempt, leg)),
            Power::Running => {}
        }
        if self.station(from).power != Power::Running {
            return;
        }
        if let Some(why) = self.judge(attempt, from, to) {
            return self.leg_failed(attempt, leg, why);
        }
        let round_trip = self.round_trip(from, to);
        let end = |host, state| End { host, state, last_heard: now };
        let ends = [end(from, EndState::Connecting), end(to, EndState::Up)];
        let conn = self.add_conn(Conn::new(ends, round_trip));
        let up = now + self.one_way(to, from);
        if let Some(state) = self.conn_mut(conn) {
            state.pipes[1].last_due = up;
        }
        self.watch_for_idleness(now, conn, 1);
        self.later.push((up, NetEvent::Established { attempt }));
        if let Some(state) = self.attempts.get_mut(&attempt) {
            state.won = Some(conn);
        }
        if let Some(peer) = self.peer(from, conn) {
            let link = link_id(conn, 1);
            self.give(to, Input::LinkUp { link, peer });
        }
    }

    pub(crate) fn established(&mut self, now: Time, attempt: AttemptId) {
        let Some(state) = self.attempts.get(&attempt) else {
            return;
        };
        let (from, dial, began) = (state.from, state.dial, state.began);
        let won = state.legs.iter().find(|leg| leg.connected && leg.failure.is_none());
        let remote = won.map(|leg| leg.address);
        let Some(conn) = state.won else {
            return;
        };
        let Some(to) = self.conn(conn).map(|conn| conn.ends[1].host) else {
            return;
        };
        if !self.passes(to, from) || !self.passes(from, to) {
            if now.since(began) < self.timing.connect + self.timing.handshake {
                let again = now + super::conn::RTO_MIN;
                self.later.push((again, NetEvent::Established { attempt }));
                return;
            }
            self.attempts.remove(&attempt);
            self.abandon(now, conn);
            return self.give(from, dial_failed(dial, DialFailure::Silent));
        }
        self.attempts.remove(&attempt);
        let Some(mut peer) = self.peer(to, 0) else {
            // The process ended between the two halves of the handshake.
            self.abandon(now, conn);
            return self.give(from, dial_failed(dial, DialFailure::Refused));
        };
        peer.dialled = Some(dial);
        peer.remote = remote.unwrap_or(peer.remote);
        if let Some(state) = self.conn_mut(conn) {
            state.ends[0].state = EndState::Up;
            state.ends[0].last_heard = now;
        }
        self.watch_for_idleness(now, conn, 0);
        let link = link_id(conn, 0);
        self.give(from, Input::LinkUp { link, peer });
    }

    pub(crate) fn dial_timed_out(&mut self, now: Time, attempt: AttemptId) {
        let Some(state) = self.attempts.get(&attempt) else {
            return;
        };
        if state.won.is_some() {
            return;
        }
        let longest = self.timing.connect + self.timing.handshake;
        if state.legs.iter().any(|leg| leg.connected) && now.since(state.began) < longest {
            let at = state.began + longest;
            self.later.push((at, NetEvent::DialTimeout { attempt }));
            return;
        }
        let (from, dial, why) = (state.from, state.dial, most_telling(&state.legs));
        self.attempts.remove(&attempt);
        self.give(from, dial_failed(dial, why));
    }

    /// The dialling side's half of a connection goes without having been one.
    fn abandon(&mut self, now: Time, conn: u32) {
        if let Some(state) = self.conn_mut(conn) {
            state.ends[0].state = EndState::Gone;
            state.pipes[0] = Pipe::default();
            state.pipes[0].push(now, Parcel::Fin(DownReason::Closed));
            state.pipes[0].armed = true;
            self.later.push((now, NetEvent::Arrive { conn, dir: 0 }));
        }
    }

    /// What the dialling side sees wrong in the other's certificate or hello.
    fn judge(&self, attempt: AttemptId, from: HostIx, to: HostIx) -> Option<DialFailure> {
        let expect = self.attempts.get(&attempt)?.expect;
        let ours: &Card = self.station(from).card.as_ref()?;
        let theirs: &Card = self.station(to).card.as_ref()?;
        if ours.bloc != theirs.bloc || expect.is_some_and(|id| id != theirs.id) {
            Some(DialFailure::Stranger)
        } else if ours.nonce == theirs.nonce {
            Some(DialFailure::Ourselves)
        } else {
            None
        }
    }

    /// The two hosts of a leg that may still win.
    fn open_leg(&self, attempt: AttemptId, leg: u8) -> Option<(HostIx, HostIx)> {
        let attempt = self.attempts.get(&attempt)?;
        let leg = attempt.legs.get(leg as usize)?;
        let open = attempt.won.is_none() && leg.failure.is_none();
        open.then_some((attempt.from, leg.to?))
    }

    fn leg_failed(&mut self, attempt: AttemptId, leg: u8, why: DialFailure) {
        let Some(state) = self.attempts.get_mut(&attempt) else {
            return;
        };
        state.legs[leg as usize].failure = Some(why);
        if state.legs.iter().all(|leg| leg.failure.is_some()) {
            let (from, dial, why) = (state.from, state.dial, most_telling(&state.legs));
            self.attempts.remove(&attempt);
            self.give(from, dial_failed(dial, why));
        }
    }
}

fn legs_after_first(legs: &[Leg]) -> u32 {
    u32::try_from(legs.len().saturating_sub(1)).unwrap_or(0)
}

fn most_telling(legs: &[Leg]) -> DialFailure {
    let order = [DialFailure::Ourselves, DialFailure::Stranger, DialFailure::Refused];
    let said = |why: &DialFailure| legs.iter().any(|leg| leg.failure == Some(*why));
    order.into_iter().find(said).unwrap_or(DialFailure::Silent)
}

const fn dial_failed(dial: DialId, why: DialFailure) -> Input {
    Input::DialFailed { dial, why }
}
