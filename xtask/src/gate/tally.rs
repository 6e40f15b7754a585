//! Counting what test runners say they ran.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, failed and were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ran and held.
    pub passed: u64,
    /// Ran and did not hold, were stopped, or could not be built.
    pub failed: u64,
    /// Did not run.
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Tally {
    /// One thing that passed.
    pub const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    /// One thing that failed.
    pub const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };

    /// What a step came to, from its output and from whether it exited well.
    ///
    /// A runner's word is not enough: one that fails without a failed test (a build that broke, a
    /// process that died) counts as one failure, and one that ran nothing has failed.
    #[must_use]
    pub fn of_tests(output: &str, success: bool) -> Self {
        let mut tally = Self::default();
        for line in output.lines() {
            tally += parse(line).unwrap_or_default();
        }
        if (!success && tally.failed == 0) || tally.passed + tally.failed == 0 {
            tally.failed += 1;
        }
        tally
    }
}

/// Reads the closing line of one runner: of cargo's own, of nextest's, or of the simulator's.
fn parse(line: &str) -> Option<Tally> {
    let plain = without_colour(line);
    if let Some((played, rest)) = plain.split_once(" runs in ") {
        let played: u64 = played.parse().ok()?;
        let failed: u64 = rest.split_once(", ")?.1.strip_suffix(" failed")?.parse().ok()?;
        let passed = played.checked_sub(failed)?;
        return Some(Tally { passed, failed, skipped: 0 });
    }
    let counts = if let Some(rest) = plain.strip_prefix("test result: ") {
        rest.split_once(". ")?.1.to_owned()
    } else if plain.trim_start().starts_with("Summary [") {
        plain.split_once(" run: ")?.1.to_owned()
    } else {
        return None;
    };
    let mut tally = Tally::default();
    for part in counts.split([',', ';']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) = (words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match what {
            "passed" => tally.passed += number,
            "failed" | "timed" | "exec" => tally.failed += number,
            "ignored" | "skipped" => tally.skipped += number,
            _ => {}
        }
    }
    Some(tally)
}

/// `line` without escape sequences of a terminal.
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn cargos_own_runner_is_summed_over_its_binaries() {
        let output = "\
running 2 tests
test a ... ok
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out; finished in 1.0s
";
        assert_eq!(Tally::of_tests(output, false), tally(5, 1, 2));
    }

    #[test]
    fn nextest_is_understood_in_colour_too() {
        let output = "\u{1b}[32;1m     Summary\u{1b}[0m [   4.2s] \u{1b}[1m9\u{1b}[0m tests run: \
                      6 passed (1 slow), 2 failed, 1 timed out, 3 skipped\n";
        assert_eq!(Tally::of_tests(output, false), tally(6, 3, 3));
    }

    #[test]
    fn seeds_of_the_simulator_count() {
        assert_eq!(Tally::of_tests("40 runs in 239.7 s, 0 failed\n", true), tally(40, 0, 0));
        assert_eq!(Tally::of_tests("40 runs in 239.7 s, 2 failed\n", false), tally(38, 2, 0));
    }

    #[test]
    fn a_build_that_broke_is_a_failure() {
        assert_eq!(Tally::of_tests("error: could not compile", false), tally(0, 1, 0));
        let passed_then_died = "test result: ok. 2 passed; 0 failed; 0 ignored";
        assert_eq!(Tally::of_tests(passed_then_died, false), tally(2, 1, 0));
    }

    #[test]
    fn a_runner_that_ran_nothing_has_failed() {
        assert_eq!(Tally::of_tests("", true), tally(0, 1, 0));
    }

    #[test]
    fn the_closing_line_has_one_form() {
        assert_eq!(tally(12, 0, 3).to_string(), "12 passed, 0 failed, 3 skipped");
    }
}
