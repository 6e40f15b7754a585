//! The machine: one for each group that is exported.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Outbox, Rng, Time};

use crate::config::Config;

/// How much of a wait is left to chance, so that the nodes of a group, whose commands may all need
/// one server, do not come back to it together.
const JITTER: f64 = 0.25;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u64);

/// Names a run of the command. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// An update that was handed over; what is in it is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed<U> {
    /// The place after it: what is committed when it is delivered.
    pub end: Mark,
    /// The length of its body.
    pub bytes: u64,
    /// Only updates of one kind share a batch: what is said of a batch must hold for all of it.
    pub kind: u64,
    /// The update.
    pub update: U,
}

/// What may happen to it.
#[derive(Clone, Debug)]
pub enum Input<U> {
    /// The log hands over what is not committed, in its order.
    HandedOver {
        /// The updates; none where all that was there is lost.
        updates: Vec<Handed<U>>,
        /// What to commit when they are all delivered.
        next: Mark,
    },
    /// The log has dropped so many updates before they were handed over.
    Lost(u64),
    /// A run has ended.
    Ended {
        /// Which.
        run: RunId,
        /// How.
        outcome: Outcome,
    },
}

/// How a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command has the batch: it ended with 0.
    Delivered,
    /// It may have it or not: anything else.
    Failed,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<U> {
    /// Run the command with this batch, then say [`Input::Ended`]. No other runs until then.
    Run {
        /// Named in the answer.
        run: RunId,
        /// How often this batch was run, this time included.
        attempt: u32,
        /// The batch, in the order of the log; never empty.
        updates: Vec<U>,
    },
    /// Everything below this place is delivered. The log may hand over what is behind it when all
    /// of its last hand-over is committed.
    Commit {
        /// The first place that is not.
        up_to: Mark,
    },
    /// Hand over again from here, with what has come since.
    Again {
        /// What is committed.
        from: Mark,
    },
}

/// What was counted since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Updates delivered.
    pub delivered: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Runs that delivered a batch.
    pub batches: u64,
    /// Runs that failed.
    pub failures: u64,
    /// Updates that the log dropped before they were delivered.
    pub lost: u64,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Updates: there is nothing to do.
    Updates,
    /// More updates for one batch.
    Gathering,
    /// The command.
    Command,
    /// The time at which a batch that failed is run again.
    Retry,
}

/// What is waited for, since when and until when (invariant 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For what.
    pub what: WaitsFor,
    /// Since when.
    pub since: Time,
    /// Until when, where that is known.
    pub until: Option<Time>,
    /// How often the batch at hand failed.
    pub failures: u32,
    /// Updates at hand.
    pub held: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Gathering {
        until: Time,
    },
    /// The log was asked to hand over again.
    Asked,
    Running {
        run: RunId,
        count: usize,
        failures: u32,
    },
    Waiting {
        until: Time,
        count: usize,
        failures: u32,
    },
}

/// See the crate.
#[derive(Debug)]
pub struct Export<U> {
    config: Config,
    rng: Rng,
    state: State,
    /// Since when it is in that state.
    since: Time,
    /// Everything below is delivered.
    committed: Mark,
    /// What was handed over and is not delivered.
    held: VecDeque<Handed<U>>,
    /// What to commit when all of that is.
    next: Mark,
    runs: u64,
    figures: Figures,
}

impl<U: Clone> Export<U> {
    /// A machine for a cursor whose first place that is not committed is `committed`. Its
    /// configuration has been validated.
    #[must_use]
    pub fn new(now: Time, committed: Mark, config: Config, rng: Rng) -> Self {
        Self {
            config,
            rng,
            state: State::Empty,
            since: now,
            committed,
            held: VecDeque::new(),
            next: committed,
            runs: 0,
            figures: Figures::default(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, input: Input<U>, out: &mut Outbox<Output<U>>) {
        match input {
            Input::HandedOver { updates, next } => self.handed_over(now, updates, next, out),
            Input::Lost(count) => self.figures.lost += count,
            Input::Ended { run, outcome } => self.ended(now, run, outcome, out),
        }
    }

    /// When [`Export::tick`] has work, and which.
    #[must_use]
    pub const fn deadline(&self) -> Option<(Time, &'static str)> {
        match self.state {
            State::Gathering { until } => Some((until, "enough gathered")),
            State::Waiting { until, .. } => Some((until, "run a batch again")),
            State::Empty | State::Asked | State::Running { .. } => None,
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output<U>>) {
        match self.state {
            State::Gathering { until } if until <= now => {
                self.held.clear();
                self.enter(now, State::Asked);
                out.push(Output::Again { from: self.committed });
            }
            State::Waiting { until, count, failures } if until <= now => {
                self.run(now, count, failures, out);
            }
            State::Empty
            | State::Gathering { .. }
            | State::Asked
            | State::Running { .. }
            | State::Waiting { .. } => {}
        }
    }

    /// Whether nothing was handed over to it yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.runs == 0 && self.state == State::Empty && self.figures == Figures::default()
    }

    /// What was counted.
    #[must_use]
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// The first place that is not delivered.
    #[must_use]
    pub const fn committed(&self) -> Mark {
        self.committed
    }

    /// What is waited for.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let (what, until, failures) = match self.state {
            State::Empty | State::Asked => (WaitsFor::Updates, None, 0),
            State::Gathering { until } => (WaitsFor::Gathering, Some(until), 0),
            State::Running { failures, .. } => (WaitsFor::Command, None, failures),
            State::Waiting { until, failures, .. } => (WaitsFor::Retry, Some(until), failures),
        };
        Waiting { what, since: self.since, until, failures, held: self.held.len() }
    }

    /// Asserts what must hold between calls.
    pub fn check(&self) {
        let ends = self.held.iter().map(|handed| handed.end);
        let after = ends.clone().skip(1);
        assert!(ends.clone().zip(after).all(|(a, b)| a < b), "held in the order of the log");
        assert!(ends.clone().all(|end| end > self.committed), "nothing that is delivered is held");
        assert!(ends.last().is_none_or(|end| end <= self.next), "held below what is committed");
        match self.state {
            State::Empty | State::Asked => assert!(self.held.is_empty(), "empty"),
            State::Gathering { .. } => assert!(!self.held.is_empty(), "gathered something"),
            State::Running { count, .. } | State::Waiting { count, .. } => {
                assert!((1..=self.held.len()).contains(&count), "a batch of what is held");
                assert!(count <= self.config.batch_updates, "a batch is bounded");
            }
        }
    }

    fn enter(&mut self, now: Time, state: State) {
        self.state = state;
        self.since = now;
    }

    fn handed_over(
        &mut self,
        now: Time,
        updates: Vec<Handed<U>>,
        next: Mark,
        out: &mut Outbox<Output<U>>,
    ) {
        let asked = match self.state {
            State::Empty => false,
            State::Asked => true,
            // The log hands nothing over while it waits for a commit; if it does, it is more.
            State::Gathering { .. } | State::Running { .. } | State::Waiting { .. } => {
                self.held.extend(updates);
                self.next = next;
                return;
            }
        };
        let new = updates.into_iter().filter(|handed| handed.end > self.committed);
        self.held = new.collect();
        self.next = next;
        if self.held.is_empty() {
            self.commit(next, out);
            return self.enter(now, State::Empty);
        }
        // What the log hands over ends before the update that would be too much, so that half a
        // batch may be all that is to be had at once.
        let bytes = self.held.iter().map(|handed| handed.bytes).sum::<u64>();
        let full = self.batch() < self.held.len()
            || self.held.len() >= self.config.batch_updates
            || bytes >= self.config.batch_bytes.0 / 2;
        if asked || full || self.config.delay.is_zero() {
            return self.run(now, self.batch(), 0, out);
        }
        self.enter(now, State::Gathering { until: now + self.config.delay });
    }

    /// How many of what is held make the next batch.
    fn batch(&self) -> usize {
        let mut bytes = 0_u64;
        let kind = self.held.front().map(|first| first.kind);
        let fitting = self.held.iter().take(self.config.batch_updates).take_while(|handed| {
            bytes = bytes.saturating_add(handed.bytes);
            bytes <= self.config.batch_bytes.0 && Some(handed.kind) == kind
        });
        fitting.count().max(1).min(self.held.len())
    }

    fn run(&mut self, now: Time, count: usize, failures: u32, out: &mut Outbox<Output<U>>) {
        self.runs += 1;
        let run = RunId(self.runs);
        let updates = self.held.iter().take(count).map(|handed| handed.update.clone()).collect();
        self.enter(now, State::Running { run, count, failures });
        out.push(Output::Run { run, attempt: failures.saturating_add(1), updates });
    }

    fn ended(&mut self, now: Time, ended: RunId, outcome: Outcome, out: &mut Outbox<Output<U>>) {
        let State::Running { run, count, failures } = self.state else {
            return;
        };
        if run != ended {
            return;
        }
        match outcome {
            Outcome::Failed => {
                self.figures.failures += 1;
                let until = now + self.pause(failures);
                let failures = failures.saturating_add(1);
                self.enter(now, State::Waiting { until, count, failures });
            }
            Outcome::Delivered => {
                let mut up_to = self.next;
                for handed in self.held.drain(..count) {
                    self.figures.delivered += 1;
                    self.figures.bytes += handed.bytes;
                    up_to = handed.end;
                }
                self.figures.batches += 1;
                if self.held.is_empty() {
                    self.commit(self.next, out);
                    return self.enter(now, State::Empty);
                }
                self.commit(up_to, out);
                self.run(now, self.batch(), 0, out);
            }
        }
    }

    fn commit(&mut self, up_to: Mark, out: &mut Outbox<Output<U>>) {
        self.committed = self.committed.max(up_to);
        out.push(Output::Commit { up_to: self.committed });
    }

    /// How long to wait after so many failures before this one.
    fn pause(&mut self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        let pause = self.config.retry_first.saturating_mul(factor).min(self.config.retry_last);
        self.rng.jitter(pause, JITTER).min(self.config.retry_last)
    }
}
