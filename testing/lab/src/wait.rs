//! Waiting for a condition: the only place of the lab where anything sleeps.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The first pause between two looks; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause: short beside any deadline, long beside the cost of a look.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Looks with `probe` until it succeeds, and returns what it found. An error of the probe means
/// "not yet" and says what is missing. A last look is taken after the deadline, so that a machine
/// that stood still for a while fails no test that would have passed.
///
/// # Errors
/// The last error of the probe, with `what` was waited for, when the deadline has passed.
pub fn wait_until<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let late = start.elapsed() >= within;
        match probe() {
            Ok(found) => return Ok(found),
            Err(missing) if late => {
                return Err(missing)
                    .with_context(|| format!("waited {within:?} in vain until {what}"));
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[test]
    fn the_probe_is_asked_until_it_succeeds_and_its_last_word_is_told() {
        let mut looks = 0;
        let found = wait_until("the fifth look", Duration::from_secs(60), || {
            looks += 1;
            ensure!(looks >= 5, "only {looks}");
            Ok(looks)
        });
        assert_eq!(found.unwrap(), 5);
        let failed = wait_until("pigs fly", Duration::ZERO, || -> Result<()> {
            anyhow::bail!("still on the ground")
        });
        let told = format!("{:#}", failed.unwrap_err());
        assert!(told.contains("pigs fly") && told.contains("still on the ground"), "{told}");
    }
}
