//! A token bucket: how often something may happen.

use std::time::{Duration, Instant};

/// Lets `burst` events happen at once and one more each `period`.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    period: Duration,
    burst: u32,
    tokens: u32,
    since: Instant,
}

impl Bucket {
    /// A full bucket. A period of zero lets everything happen.
    pub(crate) const fn new(burst: u32, period: Duration, now: Instant) -> Self {
        Self { period, burst, tokens: burst, since: now }
    }

    /// Takes a token, if one is there.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens = match self.tokens.checked_sub(1) {
            Some(rest) => rest,
            None => return false,
        };
        true
    }

    /// Whether nothing was taken for so long that the bucket need not be remembered.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens == self.burst
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let grown = match self.period.as_nanos() {
            0 => u128::from(self.burst),
            period => elapsed.as_nanos() / period,
        };
        let grown = u32::try_from(grown).unwrap_or(u32::MAX);
        if grown == 0 {
            return;
        }
        self.tokens = self.tokens.saturating_add(grown).min(self.burst);
        self.since = if self.tokens == self.burst { now } else { self.since + self.period * grown };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_each_period() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, Duration::from_secs(1), start);
        let taken = (0..5).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(start + Duration::from_millis(999)));
        assert!(bucket.take(start + Duration::from_millis(1000)));
        assert!(!bucket.take(start + Duration::from_millis(1999)));
        assert!(bucket.take(start + Duration::from_millis(2000)));
        assert!(!bucket.is_full(start + Duration::from_millis(4999)));
        assert!(bucket.is_full(start + Duration::from_millis(5000)));
    }
}
