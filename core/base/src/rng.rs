//! Chance as an argument: every machine owns a generator that was seeded by its caller.

use core::ops::Range;
use core::time::Duration;

/// A seeded generator, fast and not for secrets. The agent seeds it from the operating system, the
/// simulator from the run's seed.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A second generator, independent of this one from here on.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// Sixty-four random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number in `range`, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        self.0.u64(range)
    }

    /// An index below `len`, or nothing when there is nothing to choose from.
    pub fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.0.usize(..len))
    }

    /// One element of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        self.index(items.len()).map(|at| &items[at])
    }

    /// Puts `items` in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.0.shuffle(items);
    }

    /// True with the given probability, which is clamped to 0–1.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.0.f64() < probability
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// `span` made shorter or longer by up to `fraction` of itself, so that many nodes with one
    /// period do not act as one.
    pub fn jitter(&mut self, span: Duration, fraction: f64) -> Duration {
        let swing = fraction.clamp(0.0, 1.0) * (2.0 * self.0.f64() - 1.0);
        span.mul_f64(1.0 + swing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence() {
        let (mut a, mut b) = (Rng::seeded(7), Rng::seeded(7));
        assert!((0..100).all(|_| a.bits() == b.bits()));
        assert_ne!(a.fork().bits(), a.bits());
    }

    #[test]
    fn jitter_stays_within_its_fraction() {
        let mut rng = Rng::seeded(1);
        let span = Duration::from_secs(10);
        for _ in 0..1000 {
            let got = rng.jitter(span, 0.2);
            assert!(got >= Duration::from_secs(8) && got <= Duration::from_secs(12));
        }
    }
}
