//! Figures of the computed overlay: how long a topology takes, how near it is to the best there is,
//! and how fast an update could be everywhere over it.
//!
//! All of it is computation in this process, so it is measured with optimised code: a build for
//! debugging starts the release build of itself. Time is the thread's own processor time, which a
//! busy machine does not stretch as it stretches the wall clock's.

mod exhaustive;
mod world;

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use skep_base::Rng;
use skep_topology::computed::{
    Change, Effort, Margin, Measured, Outcome, Problem, Site, Topology, Weights, compute, improve,
    round_trips,
};

use super::figure::{Better, Figure, quantile};
use super::{Measure, Setting};
use world::World;

/// What is measured.
pub const MEASURES: &[Measure] = &[
    Measure { name: "time", run: time },
    Measure { name: "exhaustive", run: exhaustive::measure },
    Measure { name: "reach", run: reach },
    Measure { name: "noise", run: noise },
];

/// The connectivity that targets are stated for.
const K: usize = 3;
/// Links that a site may hold.
const DEGREE_BOUND: u16 = 8;
/// Updates that are sent over each topology.
const UPDATES: u32 = 2000;

/// Processor seconds to a topology from nothing.
fn time(setting: &Setting) -> Result<Vec<Figure>> {
    let sizes: &[(usize, f64)] = &[(100, 0.5), (1000, 5.0), (5000, 60.0)];
    let mut figures = Vec::new();
    for (n, target) in &sizes[..if setting.quick { 2 } else { 3 }] {
        let mut samples = Vec::new();
        for seed in 0..u64::from(setting.runs) {
            let world = World::regions(*n, &mut Rng::seeded(seed))?;
            let begun = clock_gettime(ClockId::ThreadCPUTime);
            fresh(&world, Weights::default(), seed)?;
            let took = clock_gettime(ClockId::ThreadCPUTime) - begun;
            samples.push(took.tv_sec as f64 + took.tv_nsec as f64 / 1e9);
        }
        let name = format!("topology from nothing, k={K}, N={n}, one core");
        figures.push(Figure::of(&setting.named(&name), "s", &samples, Better::Lower, *target)?);
    }
    Ok(figures)
}

/// How soon an update is everywhere, by the latencies of links alone: the simulator adds what nodes
/// and disks take, and cannot be faster. And how many copies too many it costs when no duplicate is
/// pruned.
fn reach(setting: &Setting) -> Result<Vec<Figure>> {
    let sizes: &[(usize, f64, f64, f64)] = &[(200, 125.0, 155.0, 1.3), (2000, 130.0, 155.0, 1.1)];
    let mut figures = Vec::new();
    for (n, half, nearly_all, copies) in &sizes[..if setting.quick { 1 } else { 2 }] {
        let (mut medians, mut tails, mut duplicates) = (Vec::new(), Vec::new(), Vec::new());
        for seed in 0..u64::from(setting.runs) {
            let mut rng = Rng::seeded(seed);
            let world = World::regions(*n, &mut rng)?;
            let outcome = fresh(&world, Weights::default(), seed)?;
            let times = world.flood(&outcome.topology, UPDATES, &mut rng);
            medians.extend(quantile(&times, 0.5));
            tails.extend(quantile(&times, 0.99));
            // A node sends to all neighbours but the one it heard from: 2E - (N - 1) copies are
            // sent, N - 1 of them are wanted.
            let sent = 2 * outcome.figures.edges + 1 - n;
            duplicates.push((sent + 1 - n) as f64 / *n as f64);
        }
        let of = |what: &str| setting.named(&format!("regions, k={K}, N={n}: {what}"));
        let figure = |what, unit, samples: &[f64], target| {
            Figure::of(&of(what), unit, samples, Better::Lower, target)
        };
        figures.push(figure("to all, links alone, p50", "ms", &medians, *half)?);
        figures.push(figure("to all, links alone, p99", "ms", &tails, *nearly_all)?);
        figures.push(figure("duplicates a node, nothing pruned", "", &duplicates, *copies)?);
    }
    Ok(figures)
}

/// Edges moved when every estimate is wrong by up to a fifth.
fn noise(setting: &Setting) -> Result<Vec<Figure>> {
    let n = if setting.quick { 100 } else { 500 };
    let mut moved = Vec::new();
    for seed in 0..u64::from(setting.runs) {
        let mut rng = Rng::seeded(seed);
        let world = World::regions(n, &mut rng)?;
        let before = fresh(&world, Weights::default(), seed)?;
        let settled = settled(&world, &before.topology);
        let noisy = world.blurred(0.2, &mut rng);
        let (sites, effort) = (noisy.sites(), Effort::for_sites(n));
        let problem = problem(&noisy, &sites, Weights::default());
        let after = improve(&problem, &before.topology, &settled, effort, seed + 1)?;
        moved.push(f64::from(u32::try_from(match after.change {
            Change::Kept => 0,
            Change::Fresh => after.figures.edges,
            Change::Improved { moved } | Change::Repaired { moved } => moved,
        })?));
    }
    let name = format!("regions, k={K}, N={n}: edges moved by estimates wrong by up to 20 %");
    Ok(vec![Figure::of(&setting.named(&name), "", &moved, Better::Lower, 0.0)?])
}

fn fresh(world: &World, weights: Weights, seed: u64) -> Result<Outcome> {
    let sites = world.sites();
    let effort = Effort::for_sites(sites.len());
    let outcome = compute(&problem(world, &sites, weights), effort, seed)?;
    ensure!(outcome.change == Change::Fresh, "there was nothing before");
    Ok(outcome)
}

/// As demanding as of a topology that has settled at what links of `world` cost.
fn settled(world: &World, topology: &Topology) -> Margin {
    let sites = world.sites();
    let rtts = round_trips(&problem(world, &sites, Weights::default()), topology);
    Margin::Settled(rtts.into())
}

fn problem<'a>(world: &'a World, sites: &'a [Site], weights: Weights) -> Problem<'a, World> {
    Problem { sites, costs: world, k: K, degree_bound: DEGREE_BOUND, weights }
}

const fn measured(rtt_us: u32) -> Measured {
    Measured { rtt_us, deviation_us: 0, bandwidth: None }
}
