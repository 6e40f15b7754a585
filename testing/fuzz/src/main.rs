//! Runs a target for as long as one likes, on files, or renews the committed seeds.
//!
//! `cargo run -p skep-fuzz -- TARGET [--inputs N] [--seed S]`, `… TARGET FILE…`, `… --write-seeds`,
//! and without arguments the list of targets.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use skep_fuzz::{Allowance, TARGETS, Target, corpus, run_one, run_seeded};

#[global_allocator]
static ALLOWANCE: Allowance = Allowance;

/// A few minutes of most targets, without optimisation.
const DEFAULT_INPUTS: u64 = 5_000_000;

fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let Some(first) = args.next() else {
        for target in TARGETS {
            say(target.name);
        }
        return Ok(ExitCode::SUCCESS);
    };
    if first == "--write-seeds" {
        for target in TARGETS {
            corpus::write_seeds(target)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let target = TARGETS.iter().find(|target| target.name == first);
    let target = target.with_context(|| format!("there is no target {first:?}"))?;
    let (mut inputs, mut seed, mut files) = (DEFAULT_INPUTS, 1, Vec::new());
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            let value = args.next().with_context(|| format!("{arg} wants a number"))?;
            value.parse().with_context(|| format!("{arg} {value}"))
        };
        match arg.as_str() {
            "--inputs" => inputs = number()?,
            "--seed" => seed = number()?,
            option if option.starts_with('-') => bail!("there is no option {option}"),
            file => files.push(file.to_owned()),
        }
    }
    run(target, seed, inputs, &files)
}

fn run(target: &Target, seed: u64, inputs: u64, files: &[String]) -> Result<ExitCode> {
    let mut failures = Vec::new();
    for file in files {
        let input = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
        failures.extend(run_one(target.decode, &input).err());
    }
    if files.is_empty() {
        let corpus = corpus::inputs(target)?;
        failures.extend(run_seeded(target.decode, &corpus, seed, inputs).err());
        say(&format!("{}: seed {seed}, up to {inputs} inputs", target.name));
    }
    for failure in &failures {
        say(&failure.to_string());
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(line: &str) {
    // A reader that has gone away wants to hear no more.
    writeln!(std::io::stdout(), "{line}").ok();
}
