//! The moves.
//!
//! Each takes away at most two edges and adds at most two. A *swap* is that of Steiglitz, Weiner
//! and Kleitman: `a–b, c–d` become `a–c, b–d`, and nobody's number of edges changes. A *slide*
//! moves one end of an edge, *add* and *drop* are what they say. A *shortcut* looks at the longest
//! of all shortest ways from a source and joins two sites on it, alone or as a swap.
//!
//! A move is taken when it makes the objective better, or worse by less than a draw of chance that
//! grows rarer as the search cools. Nothing is taken that leaves the graph less than k-connected,
//! or a site with more links than it may hold.

use alloc::vec::Vec;

use skep_base::Rng;

use super::costs::{Costs, Price, Pricer};
use super::net::Net;
use super::paths::Paths;
use super::spread::{Patience, Spread, Ways};
use super::start::Near;
use crate::connectivity::index;

/// Sources are drawn anew so often in a run.
const DRAWS: u64 = 48;
/// Of a hundred swaps, slides and additions so many look farther than the nearest.
const FAR_PERCENT: u64 = 6;
/// Sites looked at for one that can spare an edge.
const TRIES: usize = 6;
/// Beyond so many sites length counts by the root of their number.
const MANY: usize = 200;
/// Steps from either end of the longest way within which a shortcut may end.
const ENDS: usize = 8;

/// A search in progress.
pub(crate) struct Search<'a, 'p, C: ?Sized> {
    pub(crate) pricer: &'a Pricer<'p, C>,
    pub(crate) near: &'a Near,
    pub(crate) net: Net,
    pub(crate) paths: Paths,
    pub(crate) spread: Spread,
    pub(crate) rng: Rng,
    pub(crate) k: usize,
    cost: i64,
    gone: Vec<(u32, u32)>,
    come: Vec<(u32, u32, Price)>,
    way: Vec<u32>,
    best: Option<(i64, Net)>,
}

/// How hot a run begins and ends, in microseconds of objective; and how many steps it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cooling {
    pub(crate) hot: u64,
    pub(crate) cold: u64,
    pub(crate) steps: u64,
}

impl Cooling {
    /// Halves at even steps and is straight between: no logarithm is needed, and none missed.
    fn at(&self, step: u64) -> u64 {
        if self.cold == 0 || self.hot <= self.cold {
            return self.cold;
        }
        let halvings = u64::from((self.hot / self.cold).ilog2()) + 1;
        let span = (self.steps / halvings).max(1);
        let whole = self.hot.checked_shr(u32::try_from(step / span).unwrap_or(u32::MAX));
        let whole = whole.unwrap_or(0);
        whole - whole / 2 * (step % span) / span
    }
}

impl<'a, 'p, C: Costs + ?Sized> Search<'a, 'p, C> {
    pub(crate) fn new(
        pricer: &'a Pricer<'p, C>,
        near: &'a Near,
        net: Net,
        paths: Paths,
        k: usize,
        rng: Rng,
    ) -> Self {
        let (cost, spread) = (net.cost(), Spread::new(net.len()));
        let (gone, come, way, best) = (Vec::new(), Vec::new(), Vec::new(), None);
        Self { pricer, near, net, paths, spread, rng, k, cost, gone, come, way, best }
    }

    /// Searches, and leaves the best graph found in `net`.
    pub(crate) fn run(&mut self, cooling: Cooling) {
        if self.net.len() < 3 {
            return;
        }
        let fresh = (cooling.steps / DRAWS).max(1);
        for step in 0..cooling.steps {
            if step.is_multiple_of(fresh) && (step == 0 || !self.spread.is_exact()) {
                self.spread.draw(&self.net, &mut self.rng);
            }
            self.gone.clear();
            self.come.clear();
            let proposed = match self.rng.within(0..100) {
                0..50 => self.swap(),
                50..68 => self.slide(),
                68..74 => self.add(),
                74..84 => self.drop_one(),
                _ => self.shortcut(),
            };
            let limit = self.draw_limit(cooling.at(step));
            if proposed && self.attempt(limit) && self.spread.is_exact() {
                self.keep_best();
            }
        }
        if let Some((_, net)) = self.best.take() {
            self.net = net;
            self.cost = self.net.cost();
        }
        self.spread.draw(&self.net, &mut self.rng);
    }

    /// The objective of the graph as it is, by the sources there are.
    pub(crate) fn objective(&self) -> i64 {
        self.cost + self.weigh(self.spread.ways())
    }

    fn weigh(&self, ways: Ways) -> i64 {
        weigh(self.pricer.weights(), self.net.len(), self.spread.sources().len(), ways)
    }

    /// How much worse the ways may get, for a move that may cost so much.
    fn patience(&self, limit: i64) -> Patience {
        let weights = self.pricer.weights();
        let (scale, sources) = (scale(self.net.len()), self.spread.sources().len().max(1));
        // The other way round than `weigh`: from microseconds of objective to those of all sources.
        let worse = i128::from(limit) * 1000 * sources as i128 / scale.max(1) as i128;
        Patience {
            eccentricity: i64::from(weights.eccentricity),
            distance: i64::from(weights.distance),
            worse: i64::try_from(worse).unwrap_or(if limit < 0 {
                i64::MIN / 2
            } else {
                i64::MAX / 2
            }),
        }
    }

    fn keep_best(&mut self) {
        let objective = self.objective();
        if self.best.as_ref().is_none_or(|(least, _)| objective < *least) {
            self.best = Some((objective, self.net.clone()));
        }
    }

    /// By how much a move may be worse: exponentially distributed about the temperature, with its
    /// logarithm taken as straight between powers of two.
    fn draw_limit(&mut self, temperature: u64) -> i64 {
        let bits = self.rng.bits() | 1;
        let zeros = u64::from(bits.leading_zeros());
        let fraction = 255 - ((bits << zeros >> 55) & 255);
        let limit = temperature.saturating_mul(zeros * 256 + fraction) >> 8;
        i64::try_from(limit).unwrap_or(i64::MAX)
    }

    /// Makes the move proposed if it is good enough and leaves the graph well connected.
    fn attempt(&mut self, limit: i64) -> bool {
        let new: i64 = self.come.iter().map(|(_, _, price)| i64::from(price.cost)).sum();
        let price = |(a, b): &(u32, u32)| self.net.price(*a, *b).unwrap_or_default();
        let gone: Vec<Price> = self.gone.iter().map(price).collect();
        let old: i64 = gone.iter().map(|price| i64::from(price.cost)).sum();
        let dearer = new - old;
        if dearer > limit {
            let most = self.spread.most_gain(&self.come);
            if dearer - self.weigh(Ways { eccentricity: most, distance: most }) > limit {
                return false;
            }
        }
        self.gone.iter().for_each(|(a, b)| self.net.part(*a, *b));
        self.come.iter().for_each(|(a, b, price)| self.net.join(*a, *b, *price));
        let taken = self.fits() && {
            let patience = self.patience(limit - dearer);
            let taken = self.spread.follow(&self.net, &self.gone, &self.come, patience)
                && self.stays_connected();
            if !taken {
                self.spread.take_back();
            }
            taken
        };
        if taken {
            self.cost += dearer;
        } else {
            self.come.iter().for_each(|(a, b, _)| self.net.part(*a, *b));
            let gone = self.gone.iter().zip(&gone);
            gone.for_each(|((a, b), price)| self.net.join(*a, *b, *price));
        }
        taken
    }

    /// Whether nobody who is touched has too many links or too few.
    fn fits(&self) -> bool {
        let lost = self.gone.iter().flat_map(|(a, b)| [*a, *b]);
        let got = self.come.iter().flat_map(|(a, b, _)| [*a, *b]);
        lost.chain(got).all(|v| self.net.room(v) >= 0 && self.net.degree(v) >= self.k)
    }

    fn stays_connected(&mut self) -> bool {
        let (net, paths, k) = (&self.net, &mut self.paths, self.k);
        self.gone.iter().all(|(a, b)| paths.between(net, *a, *b, k))
    }

    fn site(&mut self) -> u32 {
        index(self.rng.index(self.net.len()).unwrap_or(0))
    }

    fn neighbour(&mut self, site: u32) -> Option<u32> {
        let at = self.rng.index(self.net.degree(site))?;
        self.net.halves(site).get(at).map(|half| half.to)
    }

    /// Somebody to join `site` to: nearly always one of the nearest, the nearer the likelier.
    fn partner(&mut self, site: u32) -> Option<u32> {
        if self.rng.within(0..100) < FAR_PERCENT {
            return Some(self.site());
        }
        let near = self.near.of(site);
        let (first, second) = (self.rng.index(near.len())?, self.rng.index(near.len())?);
        near.get(first.min(second)).copied()
    }

    fn is_new(&self, a: u32, b: u32) -> bool {
        a != b && !self.net.has_edge(a, b)
    }

    /// Notes an edge to add; says whether it can be.
    fn bring(&mut self, a: u32, b: u32) -> bool {
        let price = self.is_new(a, b).then(|| self.pricer.price(a, b)).flatten();
        self.come.extend(price.map(|price| (a, b, price)));
        price.is_some()
    }

    fn swap(&mut self) -> bool {
        let a = self.site();
        let Some(c) = self.partner(a) else {
            return false;
        };
        self.swap_into(a, c)
    }

    /// `a–b, c–d` become `a–c, b–d`, with b and d by chance.
    fn swap_into(&mut self, a: u32, c: u32) -> bool {
        let (Some(b), Some(d)) = (self.neighbour(a), self.neighbour(c)) else {
            return false;
        };
        self.gone.extend([(a, b), (c, d)]);
        self.bring(a, c) && self.bring(b, d)
    }

    fn slide(&mut self) -> bool {
        let a = self.site();
        let (Some(b), Some(c)) = (self.neighbour(a), self.partner(a)) else {
            return false;
        };
        self.gone.push((a, b));
        self.net.degree(b) > self.k && self.bring(a, c)
    }

    fn add(&mut self) -> bool {
        let a = self.site();
        let partner = self.partner(a);
        partner.is_some_and(|c| self.bring(a, c))
    }

    fn drop_one(&mut self) -> bool {
        for _ in 0..TRIES {
            let a = self.site();
            if self.net.degree(a) <= self.k {
                continue;
            }
            let spare = |b: u32| self.net.degree(b) > self.k;
            let spared = self.net.halves(a).iter().map(|half| half.to).filter(|b| spare(*b));
            let spared: Vec<u32> = spared.collect();
            if let Some(b) = self.rng.pick(&spared) {
                self.gone.push((a, *b));
                return true;
            }
        }
        false
    }

    /// Joins two sites of the longest way from a source, one near each of its ends.
    fn shortcut(&mut self) -> bool {
        let Some(source) = self.rng.index(self.spread.sources().len()) else {
            return false;
        };
        let mut way = core::mem::take(&mut self.way);
        self.spread.way_back(source, &mut way);
        let reach = way.len().min(ENDS);
        let (first, last) = (self.rng.index(reach), self.rng.index(reach));
        let ends = first.zip(last).map(|(first, last)| (way[first], way[way.len() - 1 - last]));
        self.way = way;
        let Some((a, c)) = ends.filter(|(a, c)| self.is_new(*a, *c)) else {
            return false;
        };
        match self.rng.within(0..3) {
            0 => self.bring(a, c),
            1 => self.swap_into(a, c),
            _ => {
                let Some(b) = self.neighbour(a) else {
                    return false;
                };
                self.gone.push((a, b));
                self.net.degree(b) > self.k && self.bring(a, c)
            }
        }
    }
}

/// What ways from `sources` of `n` sites count for in the objective.
pub(crate) fn weigh(
    weights: &super::problem::Weights,
    n: usize,
    sources: usize,
    ways: Ways,
) -> i64 {
    let far = u128::from(ways.eccentricity) * u128::from(weights.eccentricity);
    let mean = u128::from(ways.distance) * u128::from(weights.distance);
    let weighed = (far + mean) * scale(n) as u128 / (1000 * sources.max(1) as u128);
    i64::try_from(weighed).unwrap_or(i64::MAX / 4)
}

/// How many times length counts.
fn scale(n: usize) -> usize {
    n.min((MANY * n).isqrt())
}
