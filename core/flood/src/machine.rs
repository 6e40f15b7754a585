//! The machine itself.

use skep_base::{Incarnation, NodeId, Outbox, Rng, Time};

use crate::config::Config;
use crate::event::{Input, Output, Restored};
use crate::id::Position;
use crate::stats::Stats;

/// The updates of one node's groups: what it has, what it lacks, and who should get it.
#[derive(Debug)]
pub struct Flood {
    stats: Stats,
}

impl Flood {
    /// A machine with an empty log. `incarnation` is on disk already and was never used before.
    #[must_use]
    pub fn new(me: NodeId, incarnation: Incarnation, config: Config, rng: Rng) -> Self {
        let _ = (me, incarnation, config, rng);
        Self {
            stats: Stats::default(),
        }
    }

    /// Takes over what the log holds, before anything else is handled. `next` is the position
    /// after its last record. With `clock_went_back`, ages are unknown: updates of others are
    /// offered to nobody until a peer offers them.
    pub fn restore(
        &mut self,
        now: Time,
        records: impl IntoIterator<Item = Restored>,
        next: Position,
        clock_went_back: bool,
    ) {
        let _ = (now, records.into_iter(), next, clock_went_back);
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        let _ = (now, input, out);
    }

    /// When [`Flood::tick`] has work, and which. It may be at once: call `tick` when all inputs that
    /// are there have been handled, and everything they caused goes out in few batches.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        None
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        let _ = (now, out);
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Asserts what must hold between calls.
    pub fn check(&self) {}
}
