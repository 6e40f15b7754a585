//! Goes through everything that may happen to a flock's managers, deeper than the tests do.

use std::time::Instant;

use clap::Parser;
use skep_model::flock::{Left, Managers, REPLACING};
use stateright::{Checker, Expectation, Model};

/// The managers of a flock, by model checking.
#[derive(Debug, Parser)]
struct Args {
    /// Steps from the beginning.
    #[arg(long, default_value_t = 7)]
    depth: usize,
    /// Threads to search with. Of several, one may come first to a state by a longer way than
    /// another would have, and go on from it for fewer steps.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How often the network changes.
    #[arg(long, default_value_t = 2)]
    cuts: u8,
    /// How many processes end.
    #[arg(long, default_value_t = 1)]
    restarts: u8,
    /// How many nodes pause.
    #[arg(long, default_value_t = 1)]
    pauses: u8,
    /// How many writes there are.
    #[arg(long, default_value_t = 2)]
    writes: u8,
    /// How many elections there may be.
    #[arg(long, default_value_t = 1)]
    elections: u8,
    /// How many backups are replaced.
    #[arg(long, default_value_t = 1)]
    replacements: u8,
    /// Begins where a backup is cut off and about to be replaced. That takes a cut and a
    /// replacement of those there may be.
    #[arg(long)]
    replacing: bool,
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn main() {
    let args = Args::parse();
    let mut model = Managers::new(None);
    let Args { cuts, pauses, restarts, writes, elections, replacements, .. } = args;
    model.left = Left { cuts, pauses, restarts, writes, elections, replacements };
    if args.replacing {
        model.before = REPLACING;
    }
    let began = Instant::now();
    model.steps = args.depth;
    let checker = model.checker().threads(args.threads).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{states} states in up to {} steps, in {:?}", args.depth, began.elapsed());
    for (name, path) in checker.discoveries() {
        println!("{name}: {} steps", path.into_actions().len());
    }
    for property in checker.model().properties() {
        if matches!(property.expectation, Expectation::Always) {
            checker.assert_no_discovery(property.name);
        } else if checker.discovery(property.name).is_none() {
            println!("{}: not come to", property.name);
        }
    }
}
