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
pub(crate) const CHANGE: f64 = 0.20;
/// After so long, smaller changes are told as well.
pub(crate) const REFRESH: Duration = Duration::from_secs(600);
/// Those of less than this share never are: a flock at rest says nothing twice.
const NOISE: f64 = 0.05;
/// A coordinate that was told when it knew next to nothing, with an error above this, is told again
/// once that is half of it.
const UNSURE: f64 = 1.0;
/// Differences of a round trip below this tell of processes, not of networks.
pub(crate) const SLACK_US: f64 = 200.0;
/// A round trip that differs by less than so many times what its samples differ by on average is
/// the same as before.
const SPREADS: f64 = 2.0;
/// What was told wanders on a busy machine, and the kernel's least of some minutes hides by how
/// much. So who has told a change does not tell one of less than so many times as much ..
const RESTLESS: f64 = 3.0;
/// .. until that is forgotten, by half in so long; but no process makes a difference of more
/// than this, in microseconds, and what networks do is always told.
const RESTLESS_AT_MOST: f64 = 2_000.0;
const HALF_FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// What was published last.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) report: Option<Report>,
    coordinate: Option<Coordinate>,
    restless: Restless,
    pub(crate) at: Time,
}

/// By how much something has wandered lately, so that as much of it is no news.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Restless {
    slack_us: f64,
    at: Time,
}

impl Restless {
    /// A change of so many microseconds was told.
    fn told(&mut self, now: Time, change_us: f64) {
        let slack_us = (change_us * RESTLESS).min(RESTLESS_AT_MOST).max(self.slack_us(now));
        *self = Self { slack_us, at: now };
    }

    /// Changes of less are no news.
    fn slack_us(&self, now: Time) -> f64 {
        let halvings = now.since(self.at).as_secs() / HALF_FORGOTTEN.as_secs();
        (0..halvings.min(32)).fold(self.slack_us, |slack, _| slack / 2.0)
    }
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
        let (pairs, news) = self.settle_pairs(now, &chosen, tolerance);
        let coordinate = self.settle_coordinate(now, tolerance);
        let moved = coordinate != self.published.coordinate;
        let first = self.published.report.is_none();
        if !(first || news || moved || refresh) {
            return None;
        }
        self.note_changes(now, &chosen, &pairs, coordinate.as_ref());
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
        // The first report says where this node is now.
        let ours = self.published.coordinate.or_else(|| self.coordinate());
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            return true;
        };
        let predicted = ours.distance(&theirs) * 1e6;
        let measured = f64::from(pair.rtt_us);
        (predicted - measured).abs() > (measured * tolerance).max(SLACK_US)
    }

    /// The pairs to publish: what was said before, where it still holds within `tolerance`. And
    /// whether any of it is news: a pair that does not, or a link that was not spoken of.
    fn settle_pairs(
        &self,
        now: Time,
        chosen: &[(NodeId, Pair)],
        tolerance: f64,
    ) -> (Vec<Pair>, bool) {
        let published = self.published.report.as_ref();
        let mut news = false;
        let settled = chosen.iter().map(|(peer, pair)| {
            match published.and_then(|report| report.pair(*peer)) {
                Some(said) if still_holds(said, pair, tolerance, self.restless(now, *peer)) => {
                    *said
                }
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

    fn restless(&self, now: Time, peer: NodeId) -> f64 {
        self.peers.get(peer).map_or(0.0, |measured| measured.restless.slack_us(now))
    }

    /// Remembers by how much what is told differs from what was.
    fn note_changes(
        &mut self,
        now: Time,
        chosen: &[(NodeId, Pair)],
        pairs: &[Pair],
        coordinate: Option<&Coordinate>,
    ) {
        let published = self.published.report.as_ref();
        for ((peer, _), pair) in chosen.iter().zip(pairs) {
            let before = published.and_then(|report| report.pair(*peer));
            let change = before.map_or(0, |before| before.rtt_us.abs_diff(pair.rtt_us));
            if change > 0 {
                self.peers.restless(*peer, |restless| restless.told(now, change.into()));
            }
        }
        if let (Some(before), Some(coordinate)) = (self.published.coordinate, coordinate) {
            let change = self.prediction_change_us(&before, coordinate);
            if change > 0.0 {
                self.published.restless.told(now, change);
            }
        }
    }

    fn settle_coordinate(&self, at: Time, tolerance: f64) -> Option<Coordinate> {
        let now = self.locator.is_placed().then_some(*self.locator.coordinate())?;
        let Some(said) = self.published.coordinate else {
            return Some(now);
        };
        let rtts = self.peers.round_trips();
        let typical = rtts.get(rtts.len() / 2).copied().unwrap_or(0);
        let slack = (f64::from(typical) * tolerance).max(SLACK_US) / 1e6;
        let restless = self.published.restless.slack_us(at);
        let surer = said.error() > UNSURE && now.error() < said.error() / 2.0;
        let moved =
            now.shift_from(&said) > slack && self.prediction_change_us(&said, &now) >= restless;
        Some(if moved || surer { now } else { said })
    }

    /// By how many microseconds round trips to the nodes that were measured are predicted otherwise
    /// from one place of this node than from another: the middle one. On a busy machine places
    /// wander, and turn around one another, by more than any prediction changes.
    fn prediction_change_us(&self, before: &Coordinate, after: &Coordinate) -> f64 {
        let places = self.peers.iter().filter_map(|(peer, _)| self.nodes.get(&peer)?.coordinate);
        let mut changes: Vec<f64> =
            places.map(|place| (before.distance(&place) - after.distance(&place)).abs()).collect();
        changes.sort_unstable_by(f64::total_cmp);
        let middle = changes.get(changes.len() / 2).copied();
        middle.unwrap_or_else(|| after.shift_from(before)) * 1e6
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

fn still_holds(said: &Pair, now: &Pair, tolerance: f64, restless_us: f64) -> bool {
    let near = |said: u32, now: u32, slack: f64| {
        let (said, now) = (f64::from(said), f64::from(now));
        (said - now).abs() <= (said * tolerance).max(slack)
    };
    let spread = f64::from(said.deviation_us.max(now.deviation_us)) * SPREADS;
    let slack = SLACK_US.max(restless_us).max(spread.min(RESTLESS_AT_MOST));
    near(said.rtt_us, now.rtt_us, slack) && near(said.rate_kib, now.rate_kib, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn pair(rtt_us: u32, deviation_us: u32) -> Pair {
        Pair { peer: 7, rtt_us, deviation_us, rate_kib: 0 }
    }

    #[test]
    fn what_samples_differ_by_is_no_news() {
        let said = pair(300, 250);
        assert!(still_holds(&said, &pair(700, 10), CHANGE, 0.0));
        assert!(!still_holds(&said, &pair(900, 10), CHANGE, 0.0));
        // Where samples agree, a change of a fifth is one.
        assert!(!still_holds(&pair(40_000, 100), &pair(49_000, 100), CHANGE, 0.0));
        assert!(still_holds(&pair(40_000, 100), &pair(47_000, 100), CHANGE, 0.0));
    }

    #[test]
    fn what_wanders_is_told_once_and_what_networks_do_each_time() {
        let start = Time::from_millis(5_000);
        let mut restless = Restless::default();
        restless.told(start, 400.0);
        let back = |restless: &Restless, now| {
            still_holds(&pair(700, 0), &pair(300, 0), CHANGE, restless.slack_us(now))
        };
        assert!(back(&restless, start + REFRESH));
        assert!(!back(&restless, start + HALF_FORGOTTEN * 2), "it is forgotten after a while");
        restless.told(start, 30_000.0);
        let slack = restless.slack_us(start);
        assert!(!still_holds(&pair(60_000, 0), &pair(30_000, 0), CHANGE, slack));
    }
}
