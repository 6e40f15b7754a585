//! Network coordinates: Vivaldi (Dabek et al. 2004) with height, and with the refinements that
//! Serf ships.
//!
//! Each node has a point in a space of [`DIMENSIONS`] and a height over it. The distance between
//! two nodes is that of their points (the core of the network) plus both heights (the way from the
//! core to each). A sample of a round trip is a spring between two nodes: it pushes or pulls this
//! node by the difference between what was measured and what the coordinates say, gently where the
//! other is unsure of itself and firmly where this one is. Nobody computes anything for anybody
//! else, and the coordinates of the whole flock come to rest.
//!
//! Units are seconds.

use serde::{Deserialize, Serialize};
use skep_base::Rng;

use crate::math::sqrt;

/// Dimensions of the space. Eight, as in Serf: more buy nothing that was measured, fewer fold
/// continents into one another.
pub const DIMENSIONS: usize = 8;
/// No component of a coordinate is farther out: ten seconds is beyond any network, and a peer that
/// claims more is not believed.
pub const MAX_COMPONENT: f64 = 10.0;

/// A node that knows nothing of its place is wrong by this factor. Also the worst that an error
/// may be (Serf's `VivaldiErrorMax`).
const ERROR_MAX: f64 = 1.5;
/// How far one sample moves the error (Vivaldi's cₑ).
const ERROR_STEP: f64 = 0.25;
/// How far one sample moves the point, as a share of what it is off (Vivaldi's c꜀).
const POINT_STEP: f64 = 0.25;
/// The least height: nobody is in the core.
const HEIGHT_MIN: f64 = 10e-6;
/// What is shorter is nothing.
const ZERO: f64 = 1e-6;
/// How strongly all points are drawn back to the origin, so that the flock as a whole does not
/// drift: this many seconds out it pulls by a second (Serf's `GravityRho`).
const GRAVITY_RHO: f64 = 150.0;
/// The last so many samples correct a node's predictions for what no point can express.
const ADJUSTMENT_WINDOW: usize = 20;

/// A place in the network's space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinate {
    point: [f64; DIMENSIONS],
    height: f64,
    error: f64,
    adjustment: f64,
}

impl Coordinate {
    /// The place of a node that has measured nothing.
    pub const ORIGIN: Self =
        Self { point: [0.0; DIMENSIONS], height: HEIGHT_MIN, error: ERROR_MAX, adjustment: 0.0 };

    /// How wrong its predictions were lately, as a share of what was measured: 0.1 is good, 1.5
    /// knows nothing.
    #[must_use]
    pub const fn error(&self) -> f64 {
        self.error
    }

    /// Two of the dimensions, in seconds: for drawings.
    #[must_use]
    pub const fn plane(&self) -> (f64, f64) {
        (self.point[0], self.point[1])
    }

    /// The round trip between two coordinates, in seconds.
    #[must_use]
    pub fn distance(&self, other: &Self) -> f64 {
        let raw = self.raw_distance(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { raw }
    }

    /// How far it is from an earlier one of the same node, in seconds: what predictions may differ
    /// by.
    pub(crate) fn shift_from(&self, earlier: &Self) -> f64 {
        magnitude(&difference(&self.point, &earlier.point))
            + (self.height - earlier.height).abs()
            + (self.adjustment - earlier.adjustment).abs()
    }

    fn raw_distance(&self, other: &Self) -> f64 {
        magnitude(&difference(&self.point, &other.point)) + self.height + other.height
    }

    /// Draws or pushes this node by `force` seconds away from `other`.
    fn apply_force(&mut self, force: f64, other: &Self, rng: &mut Rng) {
        let (unit, far) = direction(&self.point, &other.point, rng);
        for (at, unit) in self.point.iter_mut().zip(unit) {
            *at = (*at + unit * force).clamp(-MAX_COMPONENT, MAX_COMPONENT);
        }
        if far > ZERO {
            let height = (self.height + other.height) * force / far + self.height;
            self.height = height.clamp(HEIGHT_MIN, MAX_COMPONENT);
        }
    }
}

fn difference(a: &[f64; DIMENSIONS], b: &[f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    core::array::from_fn(|at| a[at] - b[at])
}

fn magnitude(vector: &[f64; DIMENSIONS]) -> f64 {
    sqrt(vector.iter().map(|x| x * x).sum())
}

/// The direction from `b` to `a` and how far that is; any direction, where they are at one point.
fn direction(
    a: &[f64; DIMENSIONS],
    b: &[f64; DIMENSIONS],
    rng: &mut Rng,
) -> ([f64; DIMENSIONS], f64) {
    let mut way = difference(a, b);
    let far = magnitude(&way);
    if far > ZERO {
        return (way.map(|x| x / far), far);
    }
    way = core::array::from_fn(|_| rng.unit() - 0.5);
    let length = magnitude(&way);
    if length > ZERO {
        return (way.map(|x| x / length), 0.0);
    }
    let mut first = [0.0; DIMENSIONS];
    first[0] = 1.0;
    (first, 0.0)
}

/// This node's own coordinate and what it is corrected by.
#[derive(Clone, Debug)]
pub(crate) struct Locator {
    coordinate: Coordinate,
    adjustments: [f64; ADJUSTMENT_WINDOW],
    next_adjustment: usize,
    samples: u64,
}

impl Locator {
    pub(crate) const fn new() -> Self {
        Self {
            coordinate: Coordinate::ORIGIN,
            adjustments: [0.0; ADJUSTMENT_WINDOW],
            next_adjustment: 0,
            samples: 0,
        }
    }

    pub(crate) const fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// Takes the place that an earlier life of this node had come to, unless it has one by now.
    pub(crate) const fn remember(&mut self, coordinate: Coordinate) {
        if !self.is_placed() {
            self.coordinate = coordinate;
        }
    }

    /// Whether any sample has moved it.
    pub(crate) const fn is_placed(&self) -> bool {
        self.samples > 0
    }

    /// Takes a round trip of `rtt` seconds to a node at `other`.
    pub(crate) fn update(&mut self, rtt: f64, other: &Coordinate, rng: &mut Rng) {
        if !rtt.is_finite() || !(0.0..=MAX_COMPONENT).contains(&rtt) {
            return;
        }
        let rtt = rtt.max(ZERO);
        self.samples += 1;
        self.spring(rtt, other, rng);
        self.adjust(rtt, other);
        self.gravity(rng);
    }

    fn spring(&mut self, rtt: f64, other: &Coordinate, rng: &mut Rng) {
        let mine = &mut self.coordinate;
        let distance = mine.distance(other);
        let wrong = (distance - rtt).abs() / rtt;
        let weight = mine.error / (mine.error + other.error).max(ZERO);
        let step = ERROR_STEP * weight;
        mine.error = (wrong * step + mine.error * (1.0 - step)).min(ERROR_MAX);
        mine.apply_force(POINT_STEP * weight * (rtt - distance), other, rng);
    }

    fn adjust(&mut self, rtt: f64, other: &Coordinate) {
        self.adjustments[self.next_adjustment] = rtt - self.coordinate.raw_distance(other);
        self.next_adjustment = (self.next_adjustment + 1) % ADJUSTMENT_WINDOW;
        let sum: f64 = self.adjustments.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "twenty")]
        let window = ADJUSTMENT_WINDOW as f64;
        // Both ends of a pair correct for the same thing: each by half.
        self.coordinate.adjustment = sum / (2.0 * window);
    }

    fn gravity(&mut self, rng: &mut Rng) {
        let out = magnitude(&self.coordinate.point) / GRAVITY_RHO;
        let height = self.coordinate.height;
        self.coordinate.apply_force(-out * out, &Coordinate::ORIGIN, rng);
        self.coordinate.height = height;
    }
}

/// A coordinate as it travels, in microseconds: a third of the bytes, and no number that is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireCoordinate {
    point: [i32; DIMENSIONS],
    height: u32,
    /// In thousandths.
    error: u16,
    adjustment: i32,
}

impl WireCoordinate {
    pub(crate) fn new(coordinate: &Coordinate) -> Self {
        Self {
            point: coordinate.point.map(micros),
            height: micros(coordinate.height).unsigned_abs(),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "within 0 and ERROR_MAX"
            )]
            error: (coordinate.error.clamp(0.0, ERROR_MAX) * 1e3) as u16,
            adjustment: micros(coordinate.adjustment),
        }
    }

    /// The coordinate, unless it is one that no honest node has.
    pub(crate) fn read(&self) -> Option<Coordinate> {
        let seconds = |micros: i32| f64::from(micros) / 1e6;
        let near = |x: f64| x.abs() <= MAX_COMPONENT;
        let coordinate = Coordinate {
            point: self.point.map(seconds),
            height: f64::from(self.height) / 1e6,
            error: f64::from(self.error) / 1e3,
            adjustment: seconds(self.adjustment),
        };
        let plausible = coordinate.point.iter().all(|x| near(*x))
            && near(coordinate.height)
            && near(coordinate.adjustment)
            && coordinate.error <= ERROR_MAX;
        plausible.then_some(coordinate)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to ten seconds")]
fn micros(seconds: f64) -> i32 {
    (seconds.clamp(-MAX_COMPONENT, MAX_COMPONENT) * 1e6) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// `n` nodes whose round trips are those of points in a plane plus a height each, measured with
    /// noise; the median relative error of predicted round trips after `rounds` samples each.
    fn converge(n: usize, rounds: usize, noise: f64, seed: u64) -> f64 {
        let mut rng = Rng::seeded(seed);
        let place = |rng: &mut Rng| (rng.unit() * 0.1, rng.unit() * 0.1, rng.unit() * 0.01);
        let places: Vec<_> = (0..n).map(|_| place(&mut rng)).collect();
        let truth = |a: usize, b: usize| {
            let ((ax, ay, ah), (bx, by, bh)) = (places[a], places[b]);
            sqrt((ax - bx) * (ax - bx) + (ay - by) * (ay - by)) + ah + bh
        };
        let mut nodes: Vec<Locator> = (0..n).map(|_| Locator::new()).collect();
        for _ in 0..rounds {
            for a in 0..n {
                let b = (a + 1 + rng.index(n - 1).unwrap()) % n;
                let rtt = truth(a, b) * (1.0 + noise * rng.unit());
                let other = *nodes[b].coordinate();
                nodes[a].update(rtt, &other, &mut rng);
            }
        }
        let pairs = (0..n).flat_map(|a| (0..a).map(move |b| (a, b)));
        let mut errors: Vec<f64> = pairs
            .map(|(a, b)| {
                let said = nodes[a].coordinate().distance(nodes[b].coordinate());
                (said - truth(a, b)).abs() / truth(a, b)
            })
            .collect();
        errors.sort_by(f64::total_cmp);
        errors[errors.len() / 2]
    }

    #[test]
    fn a_plane_with_heights_is_learnt() {
        let error = converge(60, 200, 0.0, 1);
        assert!(error < 0.05, "{error}");
    }

    #[test]
    fn noise_costs_no_more_than_itself() {
        for seed in 0..3 {
            let error = converge(60, 200, 0.15, seed);
            assert!(error < 0.15, "{error} with seed {seed}");
        }
    }

    #[test]
    fn nothing_is_learnt_without_samples() {
        assert!(converge(20, 0, 0.0, 1) > 0.9);
    }

    #[test]
    fn two_nodes_at_one_point_are_driven_apart() {
        let mut rng = Rng::seeded(3);
        let mut near = Locator::new();
        for _ in 0..200 {
            near.update(0.1, &Coordinate::ORIGIN, &mut rng);
        }
        let said = near.coordinate().distance(&Coordinate::ORIGIN);
        assert!((said - 0.1).abs() < 0.02, "{said}");
    }

    #[test]
    fn what_is_no_round_trip_moves_nothing() {
        let mut rng = Rng::seeded(3);
        let mut node = Locator::new();
        for rtt in [f64::NAN, f64::INFINITY, -1.0, 1e9] {
            node.update(rtt, &Coordinate::ORIGIN, &mut rng);
        }
        assert!(!node.is_placed() && *node.coordinate() == Coordinate::ORIGIN);
    }

    #[test]
    fn coordinates_travel_to_the_microsecond_and_lies_do_not() {
        let mut rng = Rng::seeded(5);
        let mut node = Locator::new();
        (0..50).for_each(|_| node.update(0.05, &Coordinate::ORIGIN, &mut rng));
        let wire = WireCoordinate::new(node.coordinate());
        let read = wire.read().unwrap();
        let off =
            read.distance(&Coordinate::ORIGIN) - node.coordinate().distance(&Coordinate::ORIGIN);
        assert!(off.abs() < 1e-5, "{off}");
        let far = WireCoordinate { height: u32::MAX, ..wire.clone() };
        assert!(far.read().is_none());
        let sure = WireCoordinate { error: u16::MAX, ..wire };
        assert!(sure.read().is_none());
    }
}
