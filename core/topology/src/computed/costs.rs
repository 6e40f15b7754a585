//! What a link between two sites would cost.

use alloc::vec;
use alloc::vec::Vec;

use super::place::Direction;
use super::problem::{Problem, Weights};

/// Two sites of which nothing is known are taken to be on different continents: a link that might
/// be good is not preferred to one that is.
pub(crate) const UNKNOWN_RTT_US: u32 = 150_000;
/// Round trip between two sites at one place.
const SAME_PLACE_US: u32 = 1000;
/// Sites nearer than this are at one place.
const SAME_PLACE_KM: f64 = 5.0;
/// What a round trip takes besides the way.
const WAY_BASE_US: f64 = 4000.0;
/// Kilometres of great circle to a microsecond of round trip: two thirds of the speed of light,
/// there and back, over cables a third longer than the way of the crow.
const KM_PER_US: f64 = 0.075;
/// No pair costs more: ten seconds are as far away as anything needs to be, and sums stay small.
const MAX_COST_US: u32 = 10_000_000;

/// What was measured between two sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Round trip, the least of a window, in microseconds.
    pub rtt_us: u32,
    /// How much it varies, in microseconds.
    pub deviation_us: u32,
    /// Bytes a second, where known.
    pub bandwidth: Option<u64>,
}

/// What is known of pairs of sites. Always asked with two different indices; answers must be the
/// same in both orders.
pub trait Costs {
    /// What was measured.
    fn measured(&self, a: usize, b: usize) -> Option<Measured>;

    /// The round trip that network coordinates predict, in microseconds. Asked when nothing was
    /// measured; without an answer the sites' places decide.
    fn predicted(&self, a: usize, b: usize) -> Option<u32> {
        let _: (usize, usize) = (a, b);
        None
    }

    /// Whether one of the two can dial the other.
    fn may_meet(&self, a: usize, b: usize) -> bool {
        let _: (usize, usize) = (a, b);
        true
    }

    /// Whether the two hold a link for another group already.
    fn is_linked(&self, a: usize, b: usize) -> bool {
        let _: (usize, usize) = (a, b);
        false
    }
}

/// Facts about pairs, kept by site: a few dozen each, so nothing grows with the square of N.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// For each site the others of which something is known, in order.
    facts: Vec<Vec<(u32, Fact)>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fact {
    measured: Option<Measured>,
    apart: bool,
    linked: bool,
}

impl Known {
    /// Nothing known of `n` sites.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { facts: vec![Vec::new(); n] }
    }

    /// Notes a measurement; a later one of the same pair takes its place.
    pub fn measure(&mut self, a: usize, b: usize, measured: Measured) {
        self.note(a, b, |fact| fact.measured = Some(measured));
    }

    /// Notes that neither of the two can dial the other.
    pub fn keep_apart(&mut self, a: usize, b: usize) {
        self.note(a, b, |fact| fact.apart = true);
    }

    /// Notes that the two hold a link for another group.
    pub fn link(&mut self, a: usize, b: usize) {
        self.note(a, b, |fact| fact.linked = true);
    }

    /// Each pair of which something is known once, lower index first, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.facts.iter().enumerate().flat_map(|(a, facts)| {
            let later = facts.iter().map(|(b, _)| *b as usize).filter(move |b| *b > a);
            later.map(move |b| (a, b))
        })
    }

    /// A site beyond the first `n` is nobody: nothing is noted.
    fn note(&mut self, a: usize, b: usize, change: impl Fn(&mut Fact)) {
        if a == b || a.max(b) >= self.facts.len() {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            let to = crate::connectivity::index(to);
            let facts = &mut self.facts[from];
            let at = match facts.binary_search_by_key(&to, |(other, _)| *other) {
                Ok(at) => at,
                Err(at) => {
                    facts.insert(at, (to, Fact::default()));
                    at
                }
            };
            change(&mut facts[at].1);
        }
    }

    fn fact(&self, a: usize, b: usize) -> Fact {
        let Some(facts) = self.facts.get(a) else {
            return Fact::default();
        };
        let b = crate::connectivity::index(b);
        let found = facts.binary_search_by_key(&b, |(other, _)| *other);
        found.map_or_else(|_| Fact::default(), |at| facts[at].1)
    }
}

impl Costs for Known {
    fn measured(&self, a: usize, b: usize) -> Option<Measured> {
        self.fact(a, b).measured
    }

    fn may_meet(&self, a: usize, b: usize) -> bool {
        !self.fact(a, b).apart
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        self.fact(a, b).linked
    }
}

/// What a link costs, and what it is worth as a part of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Price {
    /// Its share of the objective, in microseconds.
    pub(crate) cost: u32,
    /// How long an update takes over it, in microseconds.
    pub(crate) delay: u32,
    /// Whether it is there for another group already, and so takes no room at its ends.
    pub(crate) shared: bool,
}

/// A standing edge counts as this much of its estimate, another one as the inverse: 0.8 · 1.2 is
/// less than 1.25 · 0.8, so an error of a fifth in every estimate never makes a swap pay.
const STANDING: (u32, u32) = (4, 5);

/// Prices of pairs.
pub(crate) struct Pricer<'a, C: ?Sized> {
    costs: &'a C,
    directions: Vec<Option<Direction>>,
    weights: Weights,
    /// For each site its neighbours in the topology that stands, in order; empty when none does.
    standing: Vec<Vec<u32>>,
}

impl<'a, C: Costs + ?Sized> Pricer<'a, C> {
    pub(crate) fn new(problem: &Problem<'a, C>) -> Self {
        let direction = |site: &super::Site| site.place.map(|place| place.direction());
        Self {
            costs: problem.costs,
            directions: problem.sites.iter().map(direction).collect(),
            weights: problem.weights,
            standing: Vec::new(),
        }
    }

    /// From now on `edges` count less than they cost, and others more.
    pub(crate) fn favour(&mut self, edges: &[(u32, u32)]) {
        self.standing = vec![Vec::new(); self.directions.len()];
        for (a, b) in edges {
            self.standing[*a as usize].push(*b);
            self.standing[*b as usize].push(*a);
        }
        self.standing.iter_mut().for_each(|row| row.sort_unstable());
    }

    pub(crate) const fn weights(&self) -> &Weights {
        &self.weights
    }

    pub(crate) fn len(&self) -> usize {
        self.directions.len()
    }

    /// What a link between the two costs; nothing when they cannot meet.
    pub(crate) fn price(&self, a: u32, b: u32) -> Option<Price> {
        let (rtt, extra) = self.estimate(a as usize, b as usize);
        self.priced(a, b, rtt, extra)
    }

    /// The round trip that a link between the two has or would have, in microseconds.
    pub(crate) fn round_trip(&self, a: u32, b: u32) -> u32 {
        self.estimate(a as usize, b as usize).0.min(MAX_COST_US)
    }

    /// What a link between the two costs by itself: without what every edge costs, and whether or
    /// not another group holds it already.
    pub(crate) fn plain(&self, a: u32, b: u32) -> u32 {
        let (rtt, extra) = self.estimate(a as usize, b as usize);
        rtt.saturating_add(extra).min(MAX_COST_US)
    }

    /// What a link between the two would cost if it took `rtt` microseconds.
    pub(crate) fn price_at(&self, a: u32, b: u32, rtt: u32) -> Option<Price> {
        let (_, extra) = self.estimate(a as usize, b as usize);
        self.priced(a, b, rtt, extra)
    }

    fn priced(&self, a: u32, b: u32, rtt: u32, extra: u32) -> Option<Price> {
        let (at, to) = (a as usize, b as usize);
        if !self.costs.may_meet(at, to) {
            return None;
        }
        let (mut rtt, mut extra) = (rtt.min(MAX_COST_US), extra.min(MAX_COST_US));
        if let Some(row) = self.standing.get(at) {
            let (less, more) = STANDING;
            let stands = row.binary_search(&b).is_ok();
            let (factor, divisor) = if stands { (less, more) } else { (more, less) };
            rtt = rtt * factor / divisor;
            extra = extra * factor / divisor;
        }
        let shared = self.costs.is_linked(at, to);
        let own = (rtt + extra).min(MAX_COST_US);
        let cost = if shared {
            // In 64 bits: a hundredfold of ten seconds is beyond 32.
            let part = u64::from(own) * u64::from(self.weights.shared_percent) / 100;
            u32::try_from(part).unwrap_or(MAX_COST_US)
        } else {
            own + self.weights.edge_us.min(MAX_COST_US)
        };
        Some(Price { cost, delay: rtt / 2 + extra + self.weights.hop_us.min(MAX_COST_US), shared })
    }

    /// Round trip, and what else makes the link worse.
    fn estimate(&self, a: usize, b: usize) -> (u32, u32) {
        if let Some(measured) = self.costs.measured(a, b) {
            let bytes = u64::from(self.weights.update_bytes);
            let transfer = measured.bandwidth.map_or(0, |rate| bytes * 1_000_000 / rate.max(1));
            let transfer = u32::try_from(transfer).unwrap_or(MAX_COST_US).min(MAX_COST_US);
            return (measured.rtt_us, transfer.saturating_add(measured.deviation_us));
        }
        if let Some(rtt) = self.costs.predicted(a, b) {
            return (rtt, 0);
        }
        let rtt = match (&self.directions[a], &self.directions[b]) {
            (Some(from), Some(to)) => rtt_of_way(from.kilometres_to(to)),
            _ => UNKNOWN_RTT_US,
        };
        (rtt, 0)
    }
}

/// The round trip over so many kilometres.
fn rtt_of_way(kilometres: f64) -> u32 {
    if kilometres < SAME_PLACE_KM {
        return SAME_PLACE_US;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "half the Earth's girth is 0.3 s"
    )]
    let rtt = (WAY_BASE_US + kilometres / KM_PER_US) as u32;
    rtt
}
