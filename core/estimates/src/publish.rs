//! When estimates are published again, and which.

use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{NodeId, Time};

use crate::coordinate::Coordinate;
use crate::machine::Estimates;
use crate::peers::Measured;
use crate::report::{MAX_PAIRS, Pair, Report, short_id};

/// What changed by less than this share is not worth telling everybody (links must not move
/// for noise).
const CHANGE: f64 = 0.20;
/// After so long, smaller changes are told as well.
pub(crate) const REFRESH: Duration = Duration::from_secs(600);
/// Those of less than this share never are: a flock at rest says nothing twice.
const NOISE: f64 = 0.05;
/// A coordinate whose error has fallen by this much since it was told is told again.
const SURER: f64 = 0.5;
/// Differences of a round trip below this tell of processes, not of networks.
const SLACK_US: f64 = 200.0;

/// What was published last.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) report: Option<Report>,
    coordinate: Option<Coordinate>,
    pub(crate) at: Time,
}

impl Estimates {
    /// The report to publish now, if there is one.
    pub(crate) fn consider_publishing(&mut self, now: Time) -> Option<Report> {
        let refresh = now.since(self.published.at) >= REFRESH;
        let tolerance = if refresh { NOISE } else { CHANGE };
        let chosen = self.choose_pairs();
        if chosen.is_empty() && self.config.place.is_none() {
            return None;
        }
        let (pairs, news) = self.settle_pairs(&chosen, tolerance);
        let coordinate = self.settle_coordinate(tolerance);
        let moved = coordinate != self.published.coordinate;
        let first = self.published.report.is_none();
        if !(first || news || moved || refresh) {
            return None;
        }
        let report = Report::new(coordinate.as_ref(), self.config.place, pairs);
        self.published.at = now;
        self.published.coordinate = coordinate;
        let unchanged = self.published.report.as_ref() == Some(&report);
        self.published.report = Some(report.clone());
        (!unchanged).then_some(report)
    }

    /// Links first, for they are measured all the time; then what was published already, so that a
    /// report does not change for every ping; then the newest. What the coordinates predict well
    /// enough need not be told at all.
    fn choose_pairs(&self) -> Vec<(NodeId, Pair)> {
        let published = self.published.report.as_ref();
        let mut candidates: Vec<_> = self
            .peers
            .iter()
            .filter(|(peer, _)| self.present.binary_search(peer).is_ok())
            .filter_map(|(peer, measured)| {
                let pair = pair_of(peer, measured)?;
                let linked = self.links.contains(&peer);
                let said = published.is_some_and(|report| report.pair(peer).is_some());
                let tolerance = if said { CHANGE / 2.0 } else { CHANGE };
                let told = linked || pair.rate_kib > 0 || self.surprises(peer, &pair, tolerance);
                let age = u64::MAX - measured.rtt.map_or(0, |rtt| rtt.at().as_nanos());
                told.then_some(((!linked, !said, age), peer, pair))
            })
            .collect();
        candidates.sort_unstable_by_key(|(order, ..)| *order);
        candidates.truncate(MAX_PAIRS);
        candidates.into_iter().map(|(_, peer, pair)| (peer, pair)).collect()
    }

    /// Whether a round trip is another than the coordinates that everybody has would predict.
    fn surprises(&self, peer: NodeId, pair: &Pair, tolerance: f64) -> bool {
        let theirs = self.nodes.get(&peer).and_then(|node| node.coordinate);
        let (Some(ours), Some(theirs)) = (self.published.coordinate, theirs) else {
            return true;
        };
        let predicted = ours.distance(&theirs) * 1e6;
        let measured = f64::from(pair.rtt_us);
        (predicted - measured).abs() > (measured * tolerance).max(SLACK_US)
    }

    /// The pairs to publish: what was said before, where it still holds within `tolerance`. And
    /// whether any of it is news: a pair that does not, or a link that was not spoken of.
    fn settle_pairs(&self, chosen: &[(NodeId, Pair)], tolerance: f64) -> (Vec<Pair>, bool) {
        let published = self.published.report.as_ref();
        let mut news = false;
        let settled = chosen.iter().map(|(peer, pair)| {
            match published.and_then(|report| report.pair(*peer)) {
                Some(said) if still_holds(said, pair, tolerance) => *said,
                Some(_) => {
                    news = true;
                    *pair
                }
                None => {
                    news |= self.links.contains(peer);
                    *pair
                }
            }
        });
        let pairs = settled.collect();
        (pairs, news)
    }

    fn settle_coordinate(&self, tolerance: f64) -> Option<Coordinate> {
        let now = self.locator.is_placed().then_some(*self.locator.coordinate())?;
        let Some(said) = self.published.coordinate else {
            return Some(now);
        };
        let rtts = self.peers.round_trips();
        let typical = rtts.get(rtts.len() / 2).copied().unwrap_or(0);
        let slack = (f64::from(typical) * tolerance).max(SLACK_US) / 1e6;
        let surer = said.error() - now.error() > SURER;
        Some(if now.shift_from(&said) > slack || surer { now } else { said })
    }
}

fn pair_of(peer: NodeId, measured: &Measured) -> Option<Pair> {
    let rtt = measured.rtt?;
    let rate = measured.rate.map_or(0, |rate| (rate.middle() / 1024).max(1));
    Some(Pair {
        peer: short_id(peer),
        rtt_us: rtt.least(),
        deviation_us: rtt.deviation(rtt.least()),
        rate_kib: rate,
    })
}

fn still_holds(said: &Pair, now: &Pair, tolerance: f64) -> bool {
    let near = |said: u32, now: u32, slack: f64| {
        let (said, now) = (f64::from(said), f64::from(now));
        (said - now).abs() <= (said * tolerance).max(slack)
    };
    near(said.rtt_us, now.rtt_us, SLACK_US) && near(said.rate_kib, now.rate_kib, 0.0)
}
