//! Goes through everything that may happen to a flock's managers, deeper than the tests do.

use std::time::Instant;

use clap::Parser;
use skep_model::flock::Managers;
use stateright::{Checker, Model};

/// The managers of a flock, by model checking.
#[derive(Debug, Parser)]
struct Args {
    /// Steps from the beginning.
    #[arg(long, default_value_t = 14)]
    depth: usize,
    /// Threads to search with.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How often the network changes.
    #[arg(long, default_value_t = 2)]
    cuts: u8,
    /// How many processes end.
    #[arg(long, default_value_t = 1)]
    restarts: u8,
    /// How many elections there may be.
    #[arg(long, default_value_t = 1)]
    elections: u8,
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn main() {
    let args = Args::parse();
    let mut model = Managers::new(None);
    model.left.cuts = args.cuts;
    model.left.restarts = args.restarts;
    model.left.elections = args.elections;
    let began = Instant::now();
    let checker =
        model.checker().threads(args.threads).target_max_depth(args.depth).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{states} states to depth {} in {:?}", checker.max_depth(), began.elapsed());
    for (name, path) in checker.discoveries() {
        println!("{name}: {} steps", path.into_actions().len());
    }
    checker.assert_properties();
}
