//! What a node publishes of its estimates: a record of kind `ESTIMATES`, schema 1.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::NodeId;
use skep_wire::{Malformed, decode, encode};

use crate::coordinate::{Coordinate, WireCoordinate};
use crate::place::Place;

/// Pairs that one record may hold: all pairs would be 10⁸ facts among 10,000 nodes.
pub const MAX_PAIRS: usize = 64;

/// The first eight bytes of an identity. Among 10,000 nodes two share them once in 10¹¹ flocks, and
/// then one estimate is wrong; half of a record's bytes would be the other eight.
pub type ShortId = u64;

/// The short form of an identity.
#[must_use]
pub fn short_id(node: NodeId) -> ShortId {
    let [a, b, c, d, e, f, g, h, ..] = *node.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What a node measured of one other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The other.
    pub peer: ShortId,
    /// The least round trip of the window, in microseconds.
    pub rtt_us: u32,
    /// How far samples were from it on average, in microseconds.
    pub deviation_us: u32,
    /// Bandwidth in KiB a second; 0 where none was measured.
    pub rate_kib: u32,
}

impl Pair {
    /// The round trip.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_us.into())
    }

    /// Bytes a second, where that was measured.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        (self.rate_kib > 0).then(|| u64::from(self.rate_kib) * 1024)
    }
}

/// A node's estimates, as it publishes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    coordinate: Option<WireCoordinate>,
    place: Option<Place>,
    /// Sorted by peer.
    pairs: Vec<Pair>,
}

impl Report {
    /// A report of at most [`MAX_PAIRS`], which are put in order.
    #[must_use]
    pub fn new(
        coordinate: Option<&Coordinate>,
        place: Option<Place>,
        mut pairs: Vec<Pair>,
    ) -> Self {
        pairs.truncate(MAX_PAIRS);
        pairs.sort_unstable_by_key(|pair| pair.peer);
        Self { coordinate: coordinate.map(WireCoordinate::new), place, pairs }
    }

    /// Where the node is in the network's space.
    #[must_use]
    pub fn coordinate(&self) -> Option<Coordinate> {
        self.coordinate.as_ref().and_then(WireCoordinate::read)
    }

    /// Where it is on the earth.
    #[must_use]
    pub const fn place(&self) -> Option<Place> {
        self.place
    }

    /// What it measured, by peer.
    #[must_use]
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// What it measured of one peer.
    #[must_use]
    pub fn pair(&self, peer: NodeId) -> Option<&Pair> {
        let at = self.pairs.binary_search_by_key(&short_id(peer), |pair| pair.peer).ok()?;
        self.pairs.get(at)
    }

    /// The record's body.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one, has more than [`MAX_PAIRS`] or pairs out of order, or a
    /// place that is not on the earth.
    pub fn from_body(body: &[u8]) -> Result<Self, Malformed> {
        let report: Self = decode("estimates record", body)?;
        let ordered = report.pairs.windows(2).all(|two| two[0].peer < two[1].peer);
        let sound =
            report.pairs.len() <= MAX_PAIRS && ordered && report.place.is_none_or(Place::is_valid);
        if sound { Ok(report) } else { Err(Malformed { what: "estimates record" }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn pair(peer: ShortId) -> Pair {
        Pair { peer, rtt_us: 81_234, deviation_us: 2_345, rate_kib: 120_000 }
    }

    #[test]
    fn a_full_report_fits_into_a_record_and_comes_back() {
        let peers = (0..100).map(|n| pair(u64::MAX - n * 7919));
        let place = Place::from_degrees(-33.95, 151.18);
        let report = Report::new(Some(&Coordinate::ORIGIN), place, peers.collect());
        let body = report.to_body();
        assert_eq!(report.pairs().len(), MAX_PAIRS);
        assert!(body.len() < 1600, "{}", body.len());
        assert_eq!(Report::from_body(&body), Ok(report));
    }

    #[test]
    fn the_layout_is_part_of_the_protocol() {
        let report = Report::new(
            Some(&Coordinate::ORIGIN),
            Place::from_degrees(52.31, 4.76),
            vec![pair(0x0102_0304_0506_0708)],
        );
        let golden = [
            1, 0, 0, 0, 0, 0, 0, 0, 0, 10, 220, 11, 0, 1, 184, 237, 63, 224, 231, 5, 1, 136, 142,
            152, 168, 192, 224, 128, 129, 1, 210, 250, 4, 169, 18, 192, 169, 7,
        ];
        assert_eq!(report.to_body(), golden, "{:?}", report.to_body());
    }

    #[test]
    fn reports_that_lie_about_themselves_are_refused() {
        let twice = Report { coordinate: None, place: None, pairs: vec![pair(7), pair(7)] };
        assert!(Report::from_body(&twice.to_body()).is_err());
        let many = Report { coordinate: None, place: None, pairs: (0..65).map(pair).collect() };
        assert!(Report::from_body(&many.to_body()).is_err());
        assert!(Report::from_body(&[7; 40]).is_err());
    }
}
