//! What a node publishes of the nodes that no link can join it with: a record of kind `WAYS`,
//! schema 1. It is a record of its own, so that who does not know it reads the other as ever.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::NodeId;
use skep_wire::{Malformed, decode, encode};

use crate::report::{ShortId, short_id};

/// Ways that one record may hold. Among hundreds that stand behind address translation, or on the
/// two sides of a bridge, more are left to prediction.
pub const MAX_WAYS: usize = 32;
/// No round trip is longer than a ping is waited for.
const MAX_RTT_US: u32 = 10_000_000;

/// What a message and its answer take between two nodes neither of which can dial the other, over
/// the links of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The other.
    pub peer: ShortId,
    /// The least round trip of the last few, in microseconds.
    pub rtt_us: u32,
    /// How far these were from it on average, in microseconds.
    pub deviation_us: u32,
}

impl Way {
    /// The round trip.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_us.into())
    }
}

/// Whom a node cannot meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ways {
    /// Sorted by peer.
    ways: Vec<Way>,
}

impl Ways {
    /// At most [`MAX_WAYS`], which are put in order.
    #[must_use]
    pub fn new(mut ways: Vec<Way>) -> Self {
        ways.truncate(MAX_WAYS);
        ways.sort_unstable_by_key(|way| way.peer);
        Self { ways }
    }

    /// All of them, by peer.
    #[must_use]
    pub fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// The way to one peer.
    #[must_use]
    pub fn way(&self, peer: NodeId) -> Option<&Way> {
        let at = self.ways.binary_search_by_key(&short_id(peer), |way| way.peer).ok()?;
        self.ways.get(at)
    }

    /// The record's body.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one, has more than [`MAX_WAYS`] or ways out of order, or a
    /// round trip that is longer than anybody waits.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let read: Self = decode("record of ways", body)?;
        let ordered = read.ways.windows(2).all(|two| two[0].peer < two[1].peer);
        let near = read.ways.iter().all(|way| way.rtt_us <= MAX_RTT_US);
        let sound = read.ways.len() <= MAX_WAYS && ordered && near;
        if sound { Ok(read) } else { Err(Malformed { what: "record of ways" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn way(peer: ShortId) -> Way {
        Way { peer, rtt_us: 81_234, deviation_us: 2_345 }
    }

    #[test]
    fn the_layout_is_part_of_the_protocol() {
        let ways = Ways::new(vec![way(300), way(7)]);
        let golden = [2, 7, 210, 250, 4, 169, 18, 172, 2, 210, 250, 4, 169, 18];
        assert_eq!(ways.to_body(), golden, "{:?}", ways.to_body());
        assert_eq!(Ways::from_body(&golden), Ok(ways));
        assert_eq!(Ways::default().to_body(), [0]);
    }

    #[test]
    fn a_full_record_is_small_and_comes_back() {
        let ways = Ways::new((0..100).map(|n| way(u64::MAX - n * 7919)).collect());
        let body = ways.to_body();
        assert_eq!(ways.ways().len(), MAX_WAYS);
        assert!(body.len() < 512, "{}", body.len());
        assert_eq!(Ways::from_body(&body), Ok(ways));
    }

    #[test]
    fn ways_that_lie_about_themselves_are_refused() {
        let refused = |ways: Vec<Way>| Ways::from_body(&Ways { ways }.to_body()).is_err();
        assert!(refused(vec![way(7), way(7)]));
        assert!(refused((0..33).map(way).collect()));
        assert!(refused(vec![Way { rtt_us: MAX_RTT_US + 1, ..way(1) }]));
        assert!(Ways::from_body(&[7; 40]).is_err());
    }
}
