//! `cargo xtask`: every command that a contributor or a machine runs on this project.
//!
//! This file only reads the command line and hands over; the commands themselves are modules of
//! the library beside it. `cargo xtask help` lists them with an example each.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use skep_xtask::gate::{self, Settings};
use skep_xtask::process::{cargo, pass_through};
use skep_xtask::tidy::{self, Workspace};
use skep_xtask::{bench, packages, print, root, say};

/// Everything one runs on this project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = false)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the release binary and run `skep demo` with it.
    ///
    /// Example: cargo xtask demo --nodes 7 --tree /usr/share/doc
    Demo {
        /// Handed to `skep demo` as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every tier of tests; the last line counts them.
    ///
    /// Example: cargo xtask test --quick
    Test(TestArguments),
    /// The same as nobody watches it: locked versions, nothing installed but what it needs.
    ///
    /// Example: cargo xtask ci
    Ci(TestArguments),
    /// Check the rules that neither the compiler nor clippy can see.
    ///
    /// Example: cargo xtask tidy --list
    Tidy {
        /// Print every rule and why it is there, and check nothing.
        #[arg(long)]
        list: bool,
    },
    /// Run whole flocks in one process, in virtual time, by seed.
    ///
    /// Example: cargo xtask sim --nodes 1000 --seed 1
    Sim {
        /// Handed to `skep-sim` as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the real binary on hosts in network namespaces, with faults. Needs root.
    ///
    /// Example: cargo xtask lab walk_through
    Lab {
        /// Run only the tests whose name holds this.
        filter: Option<String>,
    },
    /// Measure the release binary, beside its peers where they are installed.
    ///
    /// Example: cargo xtask bench membership --quick --json
    Bench(bench::Arguments),
}

#[derive(Args)]
struct TestArguments {
    /// Fewer seeds and no lab: a few minutes.
    #[arg(long)]
    quick: bool,
    /// Leave out the hosts in network namespaces.
    #[arg(long)]
    no_lab: bool,
    /// Install no Debian package, even where we may.
    #[arg(long)]
    no_install: bool,
    /// Wall time for the simulator's seeds.
    #[arg(long, value_name = "SECONDS")]
    sim_seconds: Option<u64>,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Demo { arguments } => demo(&arguments),
        Task::Test(arguments) => gate::run(&settings(&arguments, std::env::var_os("CI").is_some())),
        Task::Ci(arguments) => gate::run(&settings(&arguments, true)),
        Task::Tidy { list: true } => {
            for check in tidy::checks() {
                print(format_args!("{:<12} {}", check.name, check.why));
            }
            Ok(())
        }
        Task::Tidy { list: false } => check_rules(),
        Task::Sim { arguments } => {
            let mut command = cargo(&root(), &["run", "--release", "--package", "skep-sim", "--"]);
            pass_through(in_huge_pages(&mut command).args(arguments))
        }
        Task::Lab { filter } => lab(filter.as_deref()),
        Task::Bench(arguments) => bench::run(&arguments),
    }
}

/// Has what the simulator takes lie in huge pages, where the kernel leaves it to programs, and stay
/// with it when it is freed: a thousand nodes are gigabytes that are walked all over, and a third
/// of that time is misses of page tables and pages that are zeroed once more. Whoever sets one of
/// the variables means it.
fn in_huge_pages(command: &mut Command) -> &mut Command {
    let options = [("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1"), ("MIMALLOC_PURGE_DELAY", "-1")];
    for (option, value) in options {
        if std::env::var_os(option).is_none() {
            command.env(option, value);
        }
    }
    command
}

fn settings(arguments: &TestArguments, ci: bool) -> Settings {
    let seconds =
        if arguments.quick { gate::SIMULATOR_SECONDS_QUICK } else { gate::SIMULATOR_SECONDS };
    Settings {
        quick: arguments.quick,
        lab: !arguments.no_lab,
        install: !arguments.no_install,
        ci,
        simulator_seconds: arguments.sim_seconds.unwrap_or(seconds),
    }
}

fn demo(arguments: &[String]) -> Result<()> {
    let mut command =
        cargo(&root(), &["run", "--release", "--package", "skep-agent", "--", "demo"]);
    pass_through(command.args(arguments))
}

fn check_rules() -> Result<()> {
    let findings = tidy::run(&Workspace::load(&root())?);
    findings.iter().for_each(print);
    if findings.is_empty() {
        print(format_args!("{} rules hold", tidy::checks().count()));
        return Ok(());
    }
    bail!("{} findings", findings.len());
}

fn lab(filter: Option<&str>) -> Result<()> {
    if !packages::is_root() {
        bail!("hosts in network namespaces need root: run `sudo -E cargo xtask lab`");
    }
    let missing = packages::ensure(packages::LAB, true)?;
    if !missing.is_empty() {
        bail!("the lab needs these packages: {}", missing.join(" "));
    }
    let root = root();
    pass_through(&mut cargo(&root, &["build", "--package", "skep-agent"]))?;
    let mut command = cargo(&root, &["test", "--package", "skep-lab", "--tests", "--"]);
    pass_through(command.args(["--test-threads", "1"]).args(filter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound_and_every_command_shows_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        for task in command.get_subcommands() {
            let help = task.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example: cargo xtask"), "{}", task.get_name());
        }
    }

    #[test]
    fn a_quick_test_is_shorter_and_a_given_time_wins() {
        let arguments = |line: &[&str]| {
            let Task::Test(arguments) = Cli::try_parse_from(line).unwrap().task else {
                panic!("not the test command");
            };
            settings(&arguments, false)
        };
        let quick = arguments(&["xtask", "test", "--quick"]);
        assert!(quick.simulator_seconds < gate::SIMULATOR_SECONDS);
        let given = arguments(&["xtask", "test", "--quick", "--sim-seconds", "3"]);
        assert_eq!(given.simulator_seconds, 3);
    }
}
