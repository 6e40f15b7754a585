//! The steps of the test command, in order.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use super::{Outcome, Tally};
use crate::packages::{self, LAB, MAILS, TREES};
use crate::process::{cargo, find, shown, watch};
use crate::say;
use crate::tidy::{self, Workspace};

/// Wall time the simulator gets in a full run. It goes through as many seeds as fit.
pub const SIMULATOR_SECONDS: u64 = 240;
/// The same in a quick run.
pub const SIMULATOR_SECONDS_QUICK: u64 = 20;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Fewer seeds and no lab.
    pub quick: bool,
    /// Whether hosts in network namespaces are tried.
    pub lab: bool,
    /// Whether missing Debian packages may be installed.
    pub install: bool,
    /// Nobody watches: the lock file is law and nextest's profile `ci` is used.
    pub ci: bool,
    /// Wall time for the simulator.
    pub simulator_seconds: u64,
}

/// One step: what it runs and how its result is counted.
pub(super) struct Step {
    pub(super) name: &'static str,
    action: Action,
}

enum Action {
    /// The rules of [`tidy`], in this process.
    Tidy(std::path::PathBuf),
    /// A program that passes or fails.
    Pass(Command),
    /// Programs that run tests and say how many.
    Tests(Vec<Command>),
    /// What does not run here, why, and how many tests that is.
    LeftOut { why: String, count: Command },
}

impl Step {
    pub(super) fn shown(&self) -> String {
        match &self.action {
            Action::Tidy(_) => "cargo xtask tidy".to_owned(),
            Action::Pass(command) => shown(command),
            Action::Tests(commands) => commands.iter().map(shown).collect::<Vec<_>>().join(" && "),
            Action::LeftOut { why, .. } => format!("left out: {why}"),
        }
    }

    pub(super) fn run(self) -> Outcome {
        let begun = Instant::now();
        let (tally, note) = match self.action {
            Action::Tidy(root) => tidy_step(&root),
            Action::Pass(mut command) => pass(&mut command),
            Action::Tests(commands) => tests(commands),
            Action::LeftOut { why, mut count } => (listed(&mut count), Some(why)),
        };
        Outcome { name: self.name, tally, took: begun.elapsed(), note }
    }
}

/// Decides what runs, and installs what that needs.
pub(super) fn plan(settings: &Settings, root: &Path) -> Result<Vec<Step>> {
    let command = |arguments: &[&str]| {
        let mut command = cargo(root, arguments);
        if settings.ci && arguments.first() != Some(&"fmt") {
            command.arg("--locked");
        }
        command
    };
    let step = |name, action| Step { name, action };
    let mut clippy = command(&["clippy", "--workspace", "--all-targets"]);
    clippy.args(["--", "-D", "warnings"]);
    let mut rustdoc = command(&["doc", "--workspace", "--no-deps", "--lib", "--bins"]);
    rustdoc.env("RUSTDOCFLAGS", "-D warnings");
    // Before any test runs: a tree that `rsync` never looked at is one less proof.
    packages::ensure(TREES, settings.install)?;
    packages::ensure(MAILS, settings.install)?;
    let mut steps = vec![
        step("fmt", Action::Pass(command(&["fmt", "--all", "--check"]))),
        step("tidy", Action::Tidy(root.to_owned())),
        step("clippy", Action::Pass(clippy)),
        step("rustdoc", Action::Pass(rustdoc)),
        step("tests", Action::Tests(vec![workspace_tests(settings, &command)])),
        step("doctests", Action::Tests(vec![command(&["test", "--workspace", "--doc"])])),
        step("simulator", Action::Tests(vec![simulator(settings, &command)])),
    ];
    steps.push(step("lab", lab(settings, &command)?));
    Ok(steps)
}

/// The tests of every crate but the lab, which needs the machine for itself.
fn workspace_tests(settings: &Settings, command: &dyn Fn(&[&str]) -> Command) -> Command {
    if find("cargo-nextest").is_some() {
        let profile = if settings.ci { "ci" } else { "default" };
        let mut tests = command(&["nextest", "run", "--workspace", "--exclude", "skep-lab"]);
        tests.args(["--no-fail-fast", "--profile", profile]);
        return tests;
    }
    command(&[
        "test",
        "--workspace",
        "--exclude",
        "skep-lab",
        "--lib",
        "--bins",
        "--tests",
        "--no-fail-fast",
    ])
}

fn simulator(settings: &Settings, command: &dyn Fn(&[&str]) -> Command) -> Command {
    let mut simulator = command(&["run", "--package", "skep-sim"]);
    let seconds = settings.simulator_seconds.to_string();
    simulator.args(["--", "--seeds", "1000000", "--for-seconds", &seconds]);
    simulator
}

fn lab(settings: &Settings, command: &dyn Fn(&[&str]) -> Command) -> Result<Action> {
    let why = if !settings.lab || settings.quick {
        Some("not asked for".to_owned())
    } else if packages::is_root() {
        let missing = packages::ensure(LAB, settings.install)?;
        (!missing.is_empty()).then(|| format!("missing packages: {}", missing.join(", ")))
    } else {
        Some("hosts in network namespaces need root".to_owned())
    };
    let tests = ["test", "--package", "skep-lab", "--lib", "--bins", "--tests"];
    if let Some(why) = why {
        let mut count = command(&tests);
        count.args(["--", "--list"]);
        return Ok(Action::LeftOut { why, count });
    }
    // The lab runs the real binary and builds nothing: its deadlines are not for compilers.
    let build = command(&["build", "--package", "skep-agent"]);
    let mut run = command(&tests);
    run.args(["--no-fail-fast", "--", "--test-threads", "1"]);
    Ok(Action::Tests(vec![build, run]))
}

fn tidy_step(root: &Path) -> (Tally, Option<String>) {
    let findings = match Workspace::load(root) {
        Ok(workspace) => tidy::run(&workspace),
        Err(error) => return (Tally::FAILED, Some(format!("{error:#}"))),
    };
    findings.iter().for_each(say);
    match findings.len() {
        0 => (Tally::PASSED, None),
        found => (Tally::FAILED, Some(format!("{found} findings"))),
    }
}

fn pass(command: &mut Command) -> (Tally, Option<String>) {
    match watch(command) {
        Ok(ended) if ended.status.success() => (Tally::PASSED, None),
        Ok(ended) => (Tally::FAILED, Some(ended.status.to_string())),
        Err(error) => (Tally::FAILED, Some(format!("{error:#}"))),
    }
}

fn tests(commands: Vec<Command>) -> (Tally, Option<String>) {
    let mut output = String::new();
    for mut command in commands {
        match watch(&mut command) {
            Ok(ended) => {
                output.push_str(&ended.output);
                if !ended.status.success() {
                    let tally = Tally::of_tests(&output, false);
                    return (tally, Some(ended.status.to_string()));
                }
            }
            Err(error) => return (Tally::FAILED, Some(format!("{error:#}"))),
        }
    }
    (Tally::of_tests(&output, true), None)
}

/// How many tests `command` lists.
fn listed(command: &mut Command) -> Tally {
    let Ok(ended) = watch(command) else {
        return Tally::FAILED;
    };
    if !ended.status.success() {
        return Tally::FAILED;
    }
    let tests = ended.output.lines().filter(|line| line.ends_with(": test")).count();
    Tally { skipped: u64::try_from(tests).unwrap_or(u64::MAX), ..Tally::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Settings =
        Settings { quick: true, lab: false, install: false, ci: false, simulator_seconds: 7 };

    fn shown_steps(settings: &Settings) -> Vec<(&'static str, String)> {
        let steps = plan(settings, Path::new("/")).unwrap();
        steps.iter().map(|step| (step.name, step.shown())).collect()
    }

    #[test]
    fn a_quick_run_says_that_the_lab_is_left_out() {
        let steps = shown_steps(&QUICK);
        let (_, lab) = steps.iter().find(|(name, _)| *name == "lab").unwrap();
        assert_eq!(lab, "left out: not asked for");
    }

    #[test]
    fn the_lock_file_is_law_where_nobody_watches() {
        let loose = shown_steps(&QUICK);
        assert!(loose.iter().all(|(_, line)| !line.contains("--locked")));
        let strict = shown_steps(&Settings { ci: true, ..QUICK });
        for (name, line) in strict {
            let cargo = !matches!(name, "fmt" | "tidy" | "lab");
            assert_eq!(line.contains("--locked"), cargo, "{name}: {line}");
        }
    }

    #[test]
    fn the_simulator_gets_its_time() {
        let steps = shown_steps(&QUICK);
        let (_, simulator) = steps.iter().find(|(name, _)| *name == "simulator").unwrap();
        assert!(simulator.ends_with("--for-seconds 7"), "{simulator}");
    }

    #[test]
    fn a_step_that_cannot_start_fails_and_says_why() {
        let step = Step { name: "gone", action: Action::Pass(Command::new("/no/such/program")) };
        let outcome = step.run();
        assert_eq!(outcome.tally, Tally::FAILED);
        assert!(outcome.note.unwrap().contains("program"));
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let mut list = Command::new("sh");
        list.args(["-c", "echo a: test; echo b: test; echo '2 tests, 0 benchmarks'"]);
        assert_eq!(listed(&mut list), Tally { skipped: 2, ..Tally::default() });
    }
}
