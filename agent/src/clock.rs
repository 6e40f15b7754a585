//! The agent's two clocks. Everything else is handed the time.
//!
//! Protocol timers run on the boot-time clock, which no administrator sets and which counts while
//! the machine sleeps. The wall clock is shown to people, dates certificates, and lets ages grow
//! over a stop; tests may set it off by `SKEP_TEST_CLOCK_OFFSET_MS`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use skep_base::{Time, WallTime};

/// The environment variable that sets this process's wall clock off, in milliseconds.
pub const OFFSET_VARIABLE: &str = "SKEP_TEST_CLOCK_OFFSET_MS";

/// Both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    offset_ms: i64,
}

impl Clock {
    /// The clocks of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let offset = std::env::var(OFFSET_VARIABLE).ok();
        Self { offset_ms: offset.and_then(|text| text.parse().ok()).unwrap_or(0) }
    }

    /// Now, by the boot-time clock.
    #[must_use]
    pub fn now(self) -> Time {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// Now, by the wall clock.
    #[must_use]
    pub fn wall(self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        WallTime::from_unix_ms(unix_ms.saturating_add_signed(self.offset_ms))
    }
}
