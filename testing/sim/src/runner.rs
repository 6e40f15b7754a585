//! Plays one scenario and writes the report.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};

use skep_base::Time;

use crate::plant::{self, Bug};
use crate::report::{Checker, Failure, Report};
use crate::scenario::Scenario;
use crate::trace::Sink;
use crate::world::{Config, World};

/// Nodes of a world that is worth several threads.
const MANY: usize = 64;

/// What to run.
pub struct Run {
    /// Which scenario.
    pub scenario: &'static Scenario,
    /// From which everything else follows.
    pub seed: u64,
    /// With how many nodes; nothing: as many as the scenario likes.
    pub nodes: Option<usize>,
    /// Who reads the trace, line by line.
    pub sink: Option<Sink>,
    /// A bug to plant.
    pub bug: Option<Bug>,
    /// Threads to work on; nothing: one, or as many as the machine has where nodes are many.
    pub threads: Option<NonZero<usize>>,
}

impl Run {
    /// A run that nobody reads the trace of.
    #[must_use]
    pub const fn new(scenario: &'static Scenario, seed: u64) -> Self {
        Self { scenario, seed, nodes: None, sink: None, bug: None, threads: None }
    }

    /// The same with so many nodes.
    #[must_use]
    pub const fn with_nodes(mut self, nodes: usize) -> Self {
        self.nodes = Some(nodes);
        self
    }

    /// The same on so many threads.
    #[must_use]
    pub const fn on_threads(mut self, threads: NonZero<usize>) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The same with a bug planted.
    #[must_use]
    pub const fn with_bug(mut self, bug: Bug) -> Self {
        self.bug = Some(bug);
        self
    }
}

/// Plays a scenario to its end or its first failure. A machine's panic is such a failure.
///
/// # Errors
/// When the world cannot be made at all; what goes wrong in it is in the report.
pub fn run(run: Run) -> anyhow::Result<Report> {
    let Run { scenario, seed, nodes, sink, bug, threads } = run;
    let nodes = nodes.unwrap_or(scenario.nodes).max(scenario.least);
    let threads = threads.unwrap_or_else(|| threads_for(nodes)).get();
    let mut config = Config { bug, threads, check_every: check_every(nodes), ..Config::default() };
    (scenario.configure)(&mut config);
    if let Some(bug) = bug {
        plant::configure(bug, &mut config);
    }
    let mut world = World::new(config, seed, sink)?;
    let played = catch_unwind(AssertUnwindSafe(|| (scenario.play)(&mut world, nodes)));
    let failure = match played {
        Ok(Ok(())) => world.failure.clone(),
        Ok(Err(error)) => Some(match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => machine_failure(world.now(), format!("{error:#}")),
        }),
        Err(panic) => Some(machine_failure(world.now(), panic_text(&*panic))),
    };
    Ok(Report {
        scenario: scenario.name,
        seed,
        nodes,
        virtual_time: world.now().since(Time::ZERO),
        events: world.events,
        lines: world.trace.lines(),
        trace: world.trace.digest(),
        traffic: world.traffic(),
        wrong_silences: world.invariants.wrong_silences,
        rejected: std::mem::take(&mut world.rejected),
        updates: world.ledger.promised.len(),
        layouts: world.layouts_computed(),
        measured: std::mem::take(&mut world.measured),
        costs: std::mem::take(&mut world.costs),
        last_lines: failure.as_ref().map(|_| world.trace.last()).unwrap_or_default(),
        failure,
    })
}

/// Checks cost as much as a large world's calls do: there they are made less often.
fn check_every(nodes: usize) -> u32 {
    match nodes {
        0..=32 => 1,
        33..=200 => 31,
        _ => 997,
    }
}

/// Few nodes are seldom busy at one time, and of small worlds many can be played side by side.
fn threads_for(nodes: usize) -> NonZero<usize> {
    let one = NonZero::<usize>::MIN;
    if nodes < MANY { one } else { std::thread::available_parallelism().unwrap_or(one) }
}

fn machine_failure(at: Time, what: String) -> Failure {
    Failure { at, checker: Checker::Machine, what }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
