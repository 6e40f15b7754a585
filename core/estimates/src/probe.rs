//! Bandwidth, measured by trains: bytes sent only to see how long they take.
//!
//! A probe sends a train of [`FIRST_TRAIN`] bytes and waits until the other side says that it came;
//! then one of twice the length, and so on, up to [`LAST_TRAIN`] or until a train took
//! [`LONG_ENOUGH`]. So a probe costs a fast link [`PROBE_BYTES`] and a slow one about a fifth of a
//! second, whatever its rate: nothing need be known of the link beforehand.
//!
//! A link is not probed again for a minute, nor for fifty times as long as the probe kept it busy.
//! **A probe thus never takes more than 2 % of a link over a minute**: of any link that carries at
//! least a kibibyte a second, for on a slower one the first train alone would.
//!
//! The rate of a train is what its receiver saw: the bytes that came after the first moment, over
//! the time they took. Where all came at one moment (short trains, fast links) the sender's view
//! stands in: the bytes over the time to the answer, less the round trip.

use core::time::Duration;

use skep_base::{NodeId, Time};

/// The first train. Short enough for 2 % of a minute of the slowest link worth having.
pub const FIRST_TRAIN: u32 = 1024;
/// The longest train: a millisecond of a gigabit, which is enough to be told from nothing.
pub const LAST_TRAIN: u32 = 128 * 1024;
/// What a probe sends at most: each train is twice the one before.
pub const PROBE_BYTES: u32 = 2 * LAST_TRAIN - FIRST_TRAIN;
/// A train that took this long has measured the link; a longer one would only hold up what waits
/// behind it.
pub const LONG_ENOUGH: Duration = Duration::from_millis(50);
/// A train that is not answered by then is given up, and the probe with it.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// A link rests this many times as long as a probe kept it busy: 2 %.
pub const REST: u32 = 50;
/// And at least this long.
pub const LEAST_REST: Duration = Duration::from_secs(60);

/// Pieces of a train: a piece is about one record of TLS, so that the receiver sees them come one
/// after the other.
pub(crate) const PIECE: u32 = 16 * 1024 - 64;
/// Times below this say more about the two processes than about the link between them.
const SHORTEST_SPAN: Duration = Duration::from_micros(100);

/// A probe in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) peer: NodeId,
    pub(crate) token: u32,
    length: u32,
    sent: Time,
    /// How long trains kept the link busy so far.
    busy: Duration,
    rate: u32,
}

/// What follows from the answer to a train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send a train of so many bytes.
    Train(u32),
    /// The probe is over: the rate in bytes a second, and how long the link was kept busy.
    Done { rate: u32, busy: Duration },
}

impl Probe {
    pub(crate) const fn new(now: Time, peer: NodeId, token: u32) -> Self {
        Self { peer, token, length: FIRST_TRAIN, sent: now, busy: Duration::ZERO, rate: 0 }
    }

    pub(crate) const fn length(&self) -> u32 {
        self.length
    }

    /// When it is given up.
    pub(crate) fn deadline(&self) -> Time {
        self.sent + PATIENCE
    }

    /// How long an unanswered train is taken to have kept the link busy.
    pub(crate) fn busy_if_given_up(&self, now: Time) -> Duration {
        self.busy + now.since(self.sent)
    }

    /// The train in flight arrived.
    pub(crate) fn arrived(
        &mut self,
        now: Time,
        token: u32,
        (later, span): (u32, Duration),
        round_trip: Duration,
    ) -> Next {
        let took = now.since(self.sent).saturating_sub(round_trip).max(SHORTEST_SPAN);
        self.busy += took;
        // A receiver that claims more than was sent is not believed.
        let seen_by_receiver = span >= SHORTEST_SPAN && later >= PIECE && later <= self.length;
        self.rate =
            if seen_by_receiver { rate_of(later, span) } else { rate_of(self.length, took) };
        if took >= LONG_ENOUGH || self.length >= LAST_TRAIN {
            return Next::Done { rate: self.rate, busy: self.busy };
        }
        self.token = token;
        self.length *= 2;
        self.sent = now;
        Next::Train(self.length)
    }
}

fn rate_of(bytes: u32, span: Duration) -> u32 {
    let micros = span.as_micros().max(1);
    u32::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u32::MAX)
}

/// How long a link that was kept busy for this long is left alone.
pub(crate) fn rest(busy: Duration) -> Duration {
    (busy * REST).max(LEAST_REST)
}

/// A train that is coming in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    token: u32,
    first: Time,
    later: u32,
}

impl Incoming {
    pub(crate) const fn new(now: Time, token: u32) -> Self {
        Self { token, first: now, later: 0 }
    }

    pub(crate) const fn token(&self) -> u32 {
        self.token
    }

    /// Takes a piece: bytes that come with the first tell nothing.
    pub(crate) fn piece(&mut self, now: Time, bytes: usize) {
        if now > self.first {
            self.later = self.later.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// What to answer.
    pub(crate) fn seen(&self, now: Time) -> (u32, Duration) {
        (self.later, now.since(self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_sends_no_more_than_it_may() {
        let mut probe = Probe::new(Time::ZERO, NodeId::from_bytes([1; 16]), 0);
        let mut sent = probe.length();
        let mut now = Time::ZERO;
        loop {
            now = now + Duration::from_micros(150);
            let quick = (0, Duration::ZERO);
            match probe.arrived(now, 1, quick, Duration::from_micros(100)) {
                Next::Train(length) => sent += length,
                Next::Done { .. } => break,
            }
        }
        assert_eq!(sent, PROBE_BYTES);
    }

    #[test]
    fn a_receiver_that_saw_more_than_was_sent_is_not_believed() {
        let mut probe = Probe::new(Time::ZERO, NodeId::from_bytes([1; 16]), 0);
        let lie = (u32::MAX, Duration::from_micros(100));
        let now = Time::from_millis(1024);
        let next = probe.arrived(now, 1, lie, Duration::ZERO);
        assert_eq!(next, Next::Done { rate: 1000, busy: Duration::from_millis(1024) });
    }
}
