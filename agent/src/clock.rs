//! The agent's two clocks. Everything else is handed the time.
//!
//! Protocol timers run on the boot-time clock, which no administrator sets and which counts while
//! the machine sleeps. The wall clock is shown to people, dates certificates, and lets ages grow
//! over a stop. Tests may set it off by `SKEP_TEST_CLOCK_OFFSET_MS`, and let it jump under a
//! running agent by what stands in the file that `SKEP_TEST_CLOCK_OFFSET_FILE` names.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use skep_base::{Time, WallTime};

/// The environment variable that sets this process's wall clock off, in milliseconds.
pub const OFFSET_VARIABLE: &str = "SKEP_TEST_CLOCK_OFFSET_MS";

/// The environment variable that names a file with such an offset, which is read at every look at
/// the clock.
pub const OFFSET_FILE_VARIABLE: &str = "SKEP_TEST_CLOCK_OFFSET_FILE";

/// Both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    offset_ms: i64,
    offset_file: Option<&'static Path>,
}

impl Clock {
    /// The clocks of this process.
    #[must_use]
    pub fn of_process() -> Self {
        static OFFSET_FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        let offset = std::env::var(OFFSET_VARIABLE).ok();
        let file =
            OFFSET_FILE.get_or_init(|| std::env::var_os(OFFSET_FILE_VARIABLE).map(Into::into));
        Self {
            offset_ms: offset.and_then(|text| text.parse().ok()).unwrap_or(0),
            offset_file: file.as_deref(),
        }
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
        let jumped = self.offset_file.and_then(|file| std::fs::read_to_string(file).ok());
        let jumped = jumped.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        WallTime::from_unix_ms(
            unix_ms.saturating_add_signed(self.offset_ms).saturating_add_signed(jumped),
        )
    }
}
