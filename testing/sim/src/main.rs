//! The simulator's command line: `cargo xtask sim` runs it.

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use skep_sim::managed::script;
use skep_sim::scenario::{self, Scenario};
use skep_sim::{Run, run, surge};

/// What nodes keep is made on one thread and freed on another, in small pieces by the million.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whole flocks in one process, in virtual time, by seed.
#[derive(Debug, Parser)]
struct Args {
    /// Which scenario; without it, all of them (with --nodes: form, then churn).
    #[arg(long)]
    scenario: Option<String>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, counting up.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many nodes; without it, as many as the scenario likes.
    #[arg(long)]
    nodes: Option<usize>,
    /// Print what the run cost each node: records, signatures, links, frames. Alone with --nodes
    /// it plays the scenario crowd.
    #[arg(long)]
    report: bool,
    /// How many threads one world works on; without it, one, or all processors where it has many
    /// nodes. What happens does not depend on it.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Print every event.
    #[arg(long)]
    trace: bool,
    /// Play no further seed once so many seconds have passed.
    #[arg(long)]
    for_seconds: Option<u64>,
    /// Measure flood machines alone instead: `regions` (with --nodes, 200 unless told otherwise),
    /// `flood` (the same without pruning) or `outage` (of --for-seconds, 600 unless told
    /// otherwise).
    #[arg(long)]
    surge: Option<String>,
    /// Play a file of commands about managers, and print what they lead to: a folder with a file
    /// `commands` in it, as in `testing/sim/scenarios/managers`.
    #[arg(long)]
    script: Option<PathBuf>,
    /// List the scenarios.
    #[arg(long)]
    list: bool,
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.list {
        for scenario in scenario::ALL {
            println!("{:<24} {}", scenario.name, scenario.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &args.script {
        let file = folder.join("commands");
        let commands = std::fs::read_to_string(&file);
        let commands = commands.with_context(|| format!("{} cannot be read", file.display()))?;
        print!("{}", script::play(&commands, args.seed)?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = &args.surge {
        for value in surged(name, &args)? {
            println!("{value}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    // A machine's panic is in the report of its run, with the seed.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let (mut played, mut failed) = (0, 0);
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let late = args.for_seconds.is_some_and(|limit| began.elapsed().as_secs() >= limit);
        if late && played > 0 {
            break;
        }
        for scenario in chosen(&args)? {
            let (passed, text) = play(&args, scenario, seed)?;
            played += 1;
            failed += u64::from(!passed);
            println!("{text}");
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{played} runs in {seconds:.1} s, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn surged(name: &str, args: &Args) -> anyhow::Result<Vec<surge::Value>> {
    let nodes = args.nodes.unwrap_or(200);
    let down = Duration::from_secs(args.for_seconds.unwrap_or(600));
    match name {
        "regions" => surge::regions::measure(nodes, args.seed, true),
        "flood" => surge::regions::measure(nodes, args.seed, false),
        "outage" => surge::outage::measure(down, args.seed),
        other => anyhow::bail!("no measure is called {other:?}: regions, flood, or outage"),
    }
}

fn chosen(args: &Args) -> anyhow::Result<Vec<&'static Scenario>> {
    let find = |name: &str| {
        scenario::named(name).with_context(|| {
            format!("no scenario is called {name:?}: see --list for those there are")
        })
    };
    match (&args.scenario, args.nodes) {
        (Some(name), _) => Ok(vec![find(name)?]),
        (None, _) if args.report => Ok(vec![find("crowd")?]),
        // A large world is asked whether it forms and bears churn, which is forming and more.
        (None, Some(_)) => Ok(vec![find("churn")?]),
        (None, None) => Ok(scenario::ALL.iter().collect()),
    }
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn play(args: &Args, scenario: &'static Scenario, seed: u64) -> anyhow::Result<(bool, String)> {
    let began = Instant::now();
    let mut asked = Run::new(scenario, seed);
    asked.nodes = args.nodes;
    asked.threads = args.threads;
    if args.trace {
        asked.sink = Some(Box::new(|line| println!("{line}")));
    }
    let report = run(asked)?;
    let mut text = report.to_string();
    if args.report {
        report.costs.iter().for_each(|costs| text += &costs.to_string());
    }
    text += &format!("  {:.2} s of wall time", began.elapsed().as_secs_f64());
    Ok((report.passed(), text))
}
