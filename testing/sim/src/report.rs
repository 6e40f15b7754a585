//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use skep_base::Time;

/// What the network carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames sent.
    pub frames: u64,
    /// Their bytes, with TLS, TCP and IP headers and half of each acknowledgement.
    pub bytes: u64,
    /// Segments lost.
    pub lost: u64,
    /// Dials begun.
    pub dials: u64,
    /// Connections made.
    pub connections: u64,
}

/// What one thing cost each node: the mean and the most.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// What was counted.
    pub what: &'static str,
    /// Of all nodes.
    pub mean: f64,
    /// At the node that had most of it.
    pub most: u64,
}

/// What a stretch of a run cost its nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// Which stretch.
    pub stretch: String,
    /// What it cost.
    pub costs: Vec<Cost>,
}

impl Costs {
    /// The mean of a cost, by its name.
    #[must_use]
    pub fn mean(&self, what: &str) -> Option<f64> {
        self.costs.iter().find(|cost| cost.what == what).map(|cost| cost.mean)
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  cost a node {}: mean, most", self.stretch)?;
        for Cost { what, mean, most } in &self.costs {
            writeln!(f, "    {what:<32} {mean:>10.1} {most:>8}")?;
        }
        Ok(())
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Time,
    /// Which checker says so.
    pub checker: Checker,
    /// What it saw.
    pub what: String,
}

/// What may find fault with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checker {
    /// A machine's own `check`, or a panic.
    Machine,
    /// What holds after every step.
    Invariant,
    /// What holds at rest.
    Oracle,
    /// That rest comes.
    Liveness,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checker = match self.checker {
            Checker::Machine => "a machine's own check",
            Checker::Invariant => "an invariant",
            Checker::Oracle => "the oracle",
            Checker::Liveness => "liveness",
        };
        write!(f, "{} s: {checker}: {}", self.at, self.what)
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which scenario was played.
    pub scenario: &'static str,
    /// By which seed.
    pub seed: u64,
    /// With how many nodes.
    pub nodes: usize,
    /// Virtual time at the end.
    pub virtual_time: Duration,
    /// Events on the heap.
    pub events: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// Digest of the trace: equal for equal runs.
    pub trace: u128,
    /// What the network carried.
    pub traffic: Traffic,
    /// Nodes that were called silent though they were alive and could be reached.
    pub wrong_silences: u64,
    /// What honest nodes refused of one another, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Updates that were acknowledged to their publishers.
    pub updates: usize,
    /// Layouts that were computed, for all nodes together.
    pub layouts: u64,
    /// What the scenario measured, in virtual time.
    pub measured: Vec<(String, Duration)>,
    /// What stretches of the run cost its nodes.
    pub costs: Vec<Costs>,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
    /// The last lines of the trace, where something went wrong.
    pub last_lines: Vec<String>,
}

impl Report {
    /// Whether nothing went wrong.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, nodes, .. } = self;
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        writeln!(f, "{scenario} --nodes {nodes} --seed {seed}: {verdict}")?;
        let seconds = self.virtual_time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let rate = self.traffic.bytes as f64 / seconds.max(1e-9) / (self.nodes.max(1) as f64);
        writeln!(
            f,
            "  {seconds:.1} virtual seconds, {} events, {} frames, {} connections of {} dials, \
             {} segments lost, {rate:.0} bytes/s a node",
            self.events,
            self.traffic.frames,
            self.traffic.connections,
            self.traffic.dials,
            self.traffic.lost,
        )?;
        writeln!(
            f,
            "  {} updates, {} wrong silences, {} layouts, trace {:032x}",
            self.updates, self.wrong_silences, self.layouts, self.trace
        )?;
        for (what, time) in &self.measured {
            writeln!(f, "  {what}: {:.3} s", time.as_secs_f64())?;
        }
        for (reason, count) in &self.rejected {
            writeln!(f, "  refused {count} times: {reason}")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "  {failure}")?;
            for line in &self.last_lines {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
