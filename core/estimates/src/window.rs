//! The last few samples of one thing, and what is believed of it.

use core::time::Duration;

use skep_base::Time;

/// Samples kept: enough that one quiet moment is among them, few enough that a change of route is
/// believed after as many.
const SAMPLES: usize = 8;

/// The last few samples of a pair's round trip or rate, in microseconds or bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    samples: [u32; SAMPLES],
    count: usize,
    next: usize,
    at: Time,
}

impl Window {
    /// A window with its first sample in it.
    #[must_use]
    pub const fn new(now: Time, sample: u32) -> Self {
        let mut samples = [0; SAMPLES];
        samples[0] = sample;
        Self { samples, count: 1, next: 1, at: now }
    }

    /// Adds a sample; the oldest of a full window goes.
    pub fn add(&mut self, now: Time, sample: u32) {
        self.samples[self.next] = sample;
        self.next = (self.next + 1) % SAMPLES;
        self.count = (self.count + 1).min(SAMPLES);
        self.at = now;
    }

    /// The least: round trips are only ever lengthened by what is in the way.
    #[must_use]
    pub fn least(&self) -> u32 {
        self.kept().iter().copied().min().unwrap_or(0)
    }

    /// The middle one: a rate may come out too high (a burst that was measured as one) as well as
    /// too low (other traffic), so neither extreme is to be trusted.
    #[must_use]
    pub fn middle(&self) -> u32 {
        let mut sorted = [0; SAMPLES];
        let kept = &mut sorted[..self.count];
        kept.copy_from_slice(self.kept());
        kept.sort_unstable();
        kept.get(self.count / 2).copied().unwrap_or(0)
    }

    /// How far samples are from `centre` on average.
    #[must_use]
    pub fn deviation(&self, centre: u32) -> u32 {
        let sum: u64 = self.kept().iter().map(|sample| u64::from(sample.abs_diff(centre))).sum();
        let mean = sum / (self.count as u64).max(1);
        u32::try_from(mean).unwrap_or(u32::MAX)
    }

    /// When the newest sample was taken.
    #[must_use]
    pub const fn at(&self) -> Time {
        self.at
    }

    fn kept(&self) -> &[u32] {
        &self.samples[..self.count]
    }
}

/// Microseconds, as samples count them.
pub(crate) fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_quiet_moment_tells_the_round_trip() {
        let mut window = Window::new(Time::ZERO, 900);
        for sample in [1200, 500, 700] {
            window.add(Time::from_millis(5), sample);
        }
        assert_eq!((window.least(), window.middle()), (500, 900));
        assert_eq!(window.deviation(500), (400 + 700 + 200) / 4);
        assert_eq!(window.at(), Time::from_millis(5));
    }

    #[test]
    fn a_longer_route_is_believed_after_a_window() {
        let mut window = Window::new(Time::ZERO, 500);
        (0..SAMPLES - 1).for_each(|_| window.add(Time::ZERO, 2000));
        assert_eq!(window.least(), 500);
        window.add(Time::ZERO, 2000);
        assert_eq!(window.least(), 2000);
    }
}
