//! What this node measured of others, and whom it measures next.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{NodeId, Rng, Time};

use crate::event::Sample;
use crate::machine::MAX_MEASURED;
use crate::publish::Restless;
use crate::window::{Window, micros};

/// A link whose peer acknowledged this much between two looks carried bulk, so that the rate which
/// the kernel saw is that of the path.
const BULK: u64 = 256 * 1024;

/// What was measured of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) rtt: Option<Window>,
    pub(crate) rate: Option<Window>,
    /// By how much the round trip that was told has wandered.
    pub(crate) restless: Restless,
    /// Not probed again before.
    pub(crate) rests_until: Time,
    /// Bytes that the peer had acknowledged at the last look: on the control and on the bulk lane.
    acked: [u64; 2],
    touched: Time,
}

/// All that this node measured, bounded by [`MAX_MEASURED`].
#[derive(Debug, Default)]
pub(crate) struct Peers {
    measured: BTreeMap<NodeId, Measured>,
}

impl Peers {
    pub(crate) fn get(&self, peer: NodeId) -> Option<&Measured> {
        self.measured.get(&peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Measured)> + '_ {
        self.measured.iter().map(|(peer, measured)| (*peer, measured))
    }

    pub(crate) fn len(&self) -> usize {
        self.measured.len()
    }

    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.measured.remove(&peer);
    }

    /// The least round trip of a window.
    pub(crate) fn round_trip(&self, peer: NodeId) -> Option<Duration> {
        let rtt = self.get(peer)?.rtt?;
        Some(Duration::from_micros(rtt.least().into()))
    }

    pub(crate) fn add_rtt(&mut self, now: Time, peer: NodeId, rtt: Duration) {
        let sample = micros(rtt);
        let entry = self.entry(now, peer);
        match &mut entry.rtt {
            Some(window) => window.add(now, sample),
            None => entry.rtt = Some(Window::new(now, sample)),
        }
    }

    pub(crate) fn add_rate(&mut self, now: Time, peer: NodeId, rate: u32) {
        let entry = self.entry(now, peer);
        match &mut entry.rate {
            Some(window) => window.add(now, rate),
            None => entry.rate = Some(Window::new(now, rate)),
        }
    }

    pub(crate) fn restless(&mut self, peer: NodeId, change: impl FnOnce(&mut Restless)) {
        if let Some(measured) = self.measured.get_mut(&peer) {
            change(&mut measured.restless);
        }
    }

    pub(crate) fn rest(&mut self, now: Time, peer: NodeId, span: Duration) {
        self.entry(now, peer).rests_until = now + span;
    }

    /// Takes what the kernel says of a link.
    pub(crate) fn look(&mut self, now: Time, sample: &Sample) {
        let entry = self.entry(now, sample.peer);
        let acked = &mut entry.acked[usize::from(sample.bulk)];
        // A new connection counts from zero.
        let carried = sample.acked.saturating_sub(if sample.acked < *acked { 0 } else { *acked });
        *acked = sample.acked;
        if carried >= BULK && !sample.sender_limited && sample.rate > 0 {
            let rate = u32::try_from(sample.rate).unwrap_or(u32::MAX);
            self.add_rate(now, sample.peer, rate);
        }
        if sample.least_rtt > Duration::ZERO {
            self.add_rtt(now, sample.peer, sample.least_rtt);
        }
    }

    /// The one of `present` to measure next: any but `me`, each as likely as the others.
    pub(crate) fn draw(me: NodeId, present: &[NodeId], rng: &mut Rng) -> Option<NodeId> {
        let others = present.len().checked_sub(1)?;
        let at = rng.index(others)?;
        // `me` is among them, and the last stands in for it.
        let peer = present.get(at).copied()?;
        if peer == me { present.last().copied().filter(|last| *last != me) } else { Some(peer) }
    }

    /// The least round trips of all, sorted.
    pub(crate) fn round_trips(&self) -> Vec<u32> {
        let rtts = self.measured.values().filter_map(|measured| measured.rtt);
        let mut least: Vec<u32> = rtts.map(|window| window.least()).collect();
        least.sort_unstable();
        least
    }

    fn entry(&mut self, now: Time, peer: NodeId) -> &mut Measured {
        if self.measured.len() >= MAX_MEASURED && !self.measured.contains_key(&peer) {
            let oldest = self.measured.iter().min_by_key(|(_, measured)| measured.touched);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.measured.remove(&oldest);
            }
        }
        let entry = self.measured.entry(peer).or_default();
        entry.touched = now;
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u16) -> NodeId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    #[test]
    fn everybody_else_is_drawn_and_equally_often() {
        let present: Vec<NodeId> = (0..10).map(node).collect();
        let mut rng = Rng::seeded(1);
        for me in [0, 4, 9] {
            let mut counts = BTreeMap::new();
            for _ in 0..9_000 {
                *counts.entry(Peers::draw(node(me), &present, &mut rng).unwrap()).or_insert(0) += 1;
            }
            assert_eq!(counts.len(), 9);
            assert!(!counts.contains_key(&node(me)));
            assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
        }
        assert_eq!(Peers::draw(node(0), &[node(0)], &mut rng), None);
        assert_eq!(Peers::draw(node(0), &[], &mut rng), None);
    }

    #[test]
    fn what_was_not_touched_for_longest_goes_first() {
        let mut peers = Peers::default();
        for n in 0..2_000_u16 {
            let now = Time::from_millis(u64::from(n));
            peers.add_rtt(now, node(n), Duration::from_millis(1));
            peers.add_rtt(now, node(0), Duration::from_millis(1));
        }
        assert_eq!(peers.len(), MAX_MEASURED);
        assert!(peers.get(node(0)).is_some() && peers.get(node(1)).is_none());
    }

    #[test]
    fn the_kernels_rate_counts_only_where_the_path_was_full() {
        let mut peers = Peers::default();
        let mut sample = Sample {
            peer: node(1),
            bulk: true,
            least_rtt: Duration::from_millis(3),
            acked: 10 << 20,
            rate: 5_000_000,
            sender_limited: false,
        };
        let look = |peers: &mut Peers, sample: &Sample| {
            peers.look(Time::ZERO, sample);
            peers.get(node(1)).unwrap().rate.map(|rate| rate.middle())
        };
        assert_eq!(look(&mut peers, &sample), Some(5_000_000));
        sample.rate = 900;
        assert_eq!(look(&mut peers, &sample), Some(5_000_000), "nothing moved since");
        sample.acked += 1 << 20;
        sample.sender_limited = true;
        assert_eq!(look(&mut peers, &sample), Some(5_000_000), "the sender was the limit");
        // A new connection: it has moved as much as it says.
        (sample.acked, sample.sender_limited, sample.rate) = (1 << 20, false, 7_000_000);
        assert_eq!(look(&mut peers, &sample), Some(7_000_000));
    }
}
