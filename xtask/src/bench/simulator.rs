//! Figures of the simulator: many seeds, or many nodes, of the very code that ships.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Setting;
use super::figure::{Better, Figure};
use crate::process::{capture, cargo};
use crate::root;

/// A hundred nodes at two per cent loss for ten virtual minutes, by seed: who was called silent
/// though it was alive and could be reached.
pub(super) fn wrong_silences(setting: &Setting) -> Result<Vec<Figure>> {
    let (nodes, seeds, within) = if setting.quick { (40, 20, "40") } else { (100, 100, "36000") };
    let (nodes, seeds) = (nodes.to_string(), seeds.to_string());
    let (output, _) = simulate(&[
        "--scenario",
        "loss",
        "--nodes",
        &nodes,
        "--seeds",
        &seeds,
        "--for-seconds",
        within,
    ])?;
    let counts = counted(&output, "wrong silences");
    ensure!(!counts.is_empty(), "no seed was played: {output}");
    let wrong = f64::from(u32::try_from(counts.iter().sum::<u64>())?);
    let name = format!("simulator, N={nodes} at 2 % loss, {} seeds: wrong silences", counts.len());
    Ok(vec![Figure::of(&setting.named(&name), "", &[wrong], Better::Lower, 0.0)?])
}

/// How long a thousand nodes take to form one flock and bear ten minutes of churn.
pub(super) fn thousand(setting: &Setting) -> Result<Vec<Figure>> {
    let nodes = if setting.quick { "300" } else { "1000" };
    let (_, took) = simulate(&["--nodes", nodes, "--seed", "1"])?;
    let name = format!("simulator: {nodes} nodes form, then 10 min of churn");
    let samples = [took.as_secs_f64()];
    Ok(vec![Figure::of(&setting.named(&name), "s", &samples, Better::Lower, 120.0)?])
}

/// Values that the simulator measures with flood machines alone, by name.
pub(super) fn surge(arguments: &[&str]) -> Result<BTreeMap<String, f64>> {
    let (output, _) = simulate(arguments)?;
    let value = |line: &str| {
        let (name, rest) = line.split_once(" = ")?;
        let number = rest.split_whitespace().next()?.parse().ok()?;
        Some((name.to_owned(), number))
    };
    Ok(output.lines().filter_map(value).collect())
}

/// Runs the simulator's release build, which is built before the clock starts.
fn simulate(arguments: &[&str]) -> Result<(String, Duration)> {
    let root = root();
    capture(&mut cargo(&root, &["build", "--release", "--package", "skep-sim"]))?;
    let binary = super::target_folder(&root).join("release/skep-sim");
    let begun = Instant::now();
    let output = capture(Command::new(binary).args(arguments))
        .context("a seed failed: run it with --trace to see why")?;
    Ok((output, begun.elapsed()))
}

/// The numbers that stand before `what`.
fn counted(output: &str, what: &str) -> Vec<u64> {
    let before = output.match_indices(what).map(|(at, _)| output.split_at(at).0);
    before.filter_map(|text| text.split_whitespace().next_back()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_what_they_count() {
        let output = "  3 updates, 0 wrong silences, 7 layouts\n  1 updates, 12 wrong silences, 2";
        assert_eq!(counted(output, "wrong silences"), [0, 12]);
        assert_eq!(counted("nothing", "wrong silences"), [0_u64; 0]);
    }
}
