//! `cargo xtask bench`: figures of the release binary, beside a peer's of the same minute.
//!
//! A bench is a list of measures, a measure gives one or more [`Figure`]s. A measure that fails
//! says why and leaves its figures out; the others still run. Standard output carries the result
//! and nothing else: a table, or with `--json` one object. Nothing is written to disk, so a figure
//! never goes without the machine and the commit it was measured on.
//!
//! | part | does |
//! |---|---|
//! | [`failover`] | the loss of managers: gaps in writing, repairs, merges, rates |
//! | [`figure`] | medians, targets, the table and the JSON |
//! | [`fleet`] | many agents on one machine: started, signalled, measured, ended |
//! | [`software`] | how `skep` and how its peer are set up, and what their logs say |
//! | [`flood`] | updates: time to all, rate, bytes, processor time, catching up |
//! | [`membership`] | presence, silence, merging, updates, what an idle node costs |
//! | [`topology`] | the computed overlay: time, cost against the best, reach, steadiness |

pub mod clock;
pub mod failover;
pub mod figure;
pub mod fleet;
pub mod flood;
pub mod machine;
pub mod membership;
mod neighbours;
mod simulator;
pub mod software;
pub mod topology;
pub mod usage;
mod wave;

use std::cell::OnceCell;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::process::{cargo, pass_through};
use crate::{print, root, say};
use figure::Figure;
use software::Software;

/// What to measure and how.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which bench.
    name: Name,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Every figure in under a minute: fewer runs, smaller where it must be. Its names say so.
    #[arg(long)]
    quick: bool,
    /// Only measures whose name holds this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How often each figure is taken; its median counts. [default: 5, quick: 1; failover: 30, 3]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Measure this binary of skep instead of building one.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// The benches there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// How fast members see one another come and go, and what knowing it costs.
    Membership,
    /// How fast updates reach everybody, what they cost, and how a site catches up.
    Flood,
    /// How fast a topology is computed, and how good it is.
    Topology,
    /// How long writing stops when managers are lost, and what is mended how fast.
    Failover,
}

impl Name {
    /// How often its figures are taken, unless it is asked otherwise.
    const fn runs(self, quick: bool) -> u32 {
        match (self, quick) {
            (Self::Failover, false) => failover::TRIALS,
            (Self::Failover, true) => failover::TRIALS_QUICK,
            (_, false) => 5,
            (_, true) => 1,
        }
    }
}

/// One thing that is measured.
pub struct Measure {
    /// What `--only` looks for.
    pub name: &'static str,
    /// Takes its figures.
    pub run: fn(&Setting) -> Result<Vec<Figure>>,
}

/// What every measure is told.
#[derive(Debug, Default)]
pub struct Setting {
    built: OnceCell<PathBuf>,
    /// Whether figures are to be had in a minute each.
    pub quick: bool,
    /// How often a figure is taken.
    pub runs: u32,
    /// Whether measures were chosen by their names.
    pub named_by_only: bool,
}

/// Measures and prints.
///
/// # Errors
/// When a measure failed: the rest is printed all the same.
pub fn run(arguments: &Arguments) -> Result<()> {
    let root = root();
    if matches!(arguments.name, Name::Topology) && cfg!(debug_assertions) {
        return again_optimised(&root, arguments);
    }
    let setting = Setting {
        built: arguments.binary.clone().map(OnceCell::from).unwrap_or_default(),
        quick: arguments.quick,
        runs: arguments.runs.unwrap_or_else(|| arguments.name.runs(arguments.quick)),
        named_by_only: arguments.only.is_some(),
    };
    let measures = match arguments.name {
        Name::Membership => membership::MEASURES,
        Name::Flood => flood::MEASURES,
        Name::Topology => topology::MEASURES,
        Name::Failover => failover::MEASURES,
    };
    let wanted =
        |measure: &&Measure| arguments.only.as_ref().is_none_or(|text| measure.name.contains(text));
    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for measure in measures.iter().filter(wanted) {
        say(format_args!("measuring {}", measure.name));
        match (measure.run)(&setting) {
            Ok(taken) => figures.extend(taken),
            Err(error) => {
                say(format_args!("{} failed: {error:#}", measure.name));
                failed.push(measure.name);
            }
        }
    }
    let report = figure::Report {
        bench: format!("{:?}", arguments.name).to_lowercase(),
        machine: machine::describe(),
        commit: machine::commit(&root),
        figures,
    };
    print(if arguments.json { report.json()? } else { report.table() });
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}

impl Setting {
    /// Our software, built for release when it is first asked for.
    ///
    /// # Errors
    /// When it does not build.
    pub fn skep(&self) -> Result<Software> {
        if let Some(binary) = self.built.get() {
            return Ok(Software::Skep(binary.clone()));
        }
        let root = root();
        pass_through(&mut cargo(&root, &["build", "--release", "--package", "skep-agent"]))?;
        let binary = target_folder(&root).join("release/skep");
        Ok(Software::Skep(self.built.get_or_init(|| binary).clone()))
    }
}

/// What is measured in this process is measured in its release build.
fn again_optimised(root: &std::path::Path, arguments: &Arguments) -> Result<()> {
    let mut command = cargo(root, &["run", "--quiet", "--release", "--package", "skep-xtask"]);
    command.args(["--", "bench", "topology"]);
    if arguments.json {
        command.arg("--json");
    }
    if arguments.quick {
        command.arg("--quick");
    }
    if let Some(only) = &arguments.only {
        command.args(["--only", only]);
    }
    if let Some(runs) = arguments.runs {
        command.args(["--runs", &runs.to_string()]);
    }
    pass_through(&mut command)
}

fn target_folder(root: &std::path::Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
