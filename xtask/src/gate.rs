//! `cargo xtask test`: every tier, each step with its time, one closing line that counts.
//!
//! Cheap steps come first, so that a slip of formatting is known after a second; a failed step does
//! not stop those after it, so that one run tells everything. A step that runs tests is counted by
//! what its runner says; one that only passes or fails counts as one.

mod steps;
mod tally;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use steps::{SIMULATOR_SECONDS, SIMULATOR_SECONDS_QUICK, Settings};
pub use tally::Tally;

use crate::{print, root, say};

/// What one step came to.
struct Outcome {
    name: &'static str,
    tally: Tally,
    took: Duration,
    note: Option<String>,
}

/// Runs the steps that `settings` ask for and prints the closing line last.
///
/// # Errors
/// When a step failed, or a program that every step needs cannot be started.
pub fn run(settings: &Settings) -> Result<()> {
    let root = root();
    let begun = Instant::now();
    let mut outcomes = Vec::new();
    for step in steps::plan(settings, &root)? {
        say(format_args!("\n== {}: {}", step.name, step.shown()));
        let outcome = step.run();
        say(format_args!("== {}", line(&outcome)));
        outcomes.push(outcome);
    }
    say("");
    let mut total = Tally::default();
    for outcome in &outcomes {
        print(line(outcome));
        total += outcome.tally;
    }
    print(format_args!("all steps in {}", minutes(begun.elapsed())));
    print(total);
    if total.failed > 0 || total.passed == 0 {
        bail!("the project's tests failed");
    }
    Ok(())
}

fn line(outcome: &Outcome) -> String {
    let word = if outcome.tally.failed > 0 { "FAILED" } else { "ok" };
    let mut line =
        format!("{:<10} {word:<6} {:>8}  {}", outcome.name, minutes(outcome.took), outcome.tally);
    if let Some(note) = &outcome.note {
        line.push_str("  (");
        line.push_str(note);
        line.push(')');
    }
    line
}

fn minutes(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds < 60 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_tell_them() {
        assert_eq!(minutes(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(minutes(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn a_failed_step_is_seen_in_its_line() {
        let outcome = Outcome {
            name: "clippy",
            tally: Tally { failed: 1, ..Tally::default() },
            took: Duration::from_secs(2),
            note: Some("exit status: 101".to_owned()),
        };
        let line = line(&outcome);
        assert!(line.contains("FAILED") && line.contains("exit status: 101"), "{line}");
    }
}
