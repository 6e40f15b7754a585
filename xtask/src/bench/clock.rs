//! The clock that all processes of one machine share and that never steps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Microseconds of the machine's boot-time clock, as the agents stamp their events with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Micros {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
        Self(seconds * 1_000_000 + nanos / 1_000)
    }

    /// Seconds from `earlier` to this; nothing where it is not earlier.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        Duration::from_micros(self.0.saturating_sub(earlier.0)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_steps_back() {
        let earlier = Micros::now();
        assert!(Micros::now() >= earlier);
        assert!(Micros(3_500_000).seconds_since(Micros(1_000_000)).total_cmp(&2.5).is_eq());
        assert!(Micros(1).seconds_since(Micros(2)).total_cmp(&0.0).is_eq());
    }
}
