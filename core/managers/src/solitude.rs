//! A manager that meets nobody (DVM-17, 18): it holds what it has, and after long solitude it
//! retires. What it was in its flock stays on its disk; it does nothing about it until it meets an
//! eligible node, and then it is what a restarted manager is: it holds, compares logs, hands over.
//!
//! How long that was is counted while it runs, from look to look on a clock that nobody sets, and
//! written down as it grows. A restart goes on from what was written; what no process saw (a stop,
//! a stall, a sleeping host) counts for nothing, and no jump of a clock ends it early.

use std::time::Duration;

use skep_base::{Outbox, Time};

use crate::event::{Decided, Eligibility, Event, Output};
use crate::group::Group;
use crate::machine::Managers;
use crate::stored::Solitude;
use crate::view::{Wait, Waiting};

/// Of a longer pause between two looks no more than this counts: nobody looked.
const LOOKED_WITHIN: Duration = Duration::from_secs(5);
/// What a restart may forget of a solitude is at most a hundredth of what leads to retirement, and
/// at most this.
const KEPT_WITHIN: Duration = Duration::from_secs(600);

/// A solitude that goes on.
#[derive(Debug)]
pub(crate) struct Alone {
    since: Time,
    looked: Time,
    /// In all lives.
    counted: Duration,
}

impl Managers {
    /// Counts how long this manager met nobody. Whether it is retired, and so has nothing to do.
    pub(crate) fn is_withdrawn(&mut self, now: Time, out: &mut Outbox<Output>) -> bool {
        // Whoever leads does so by right: of a roster of one or two nobody else is needed.
        let serves = self.group.as_ref().is_none_or(|group| group.engine.leads());
        if serves || self.meets_anybody() {
            self.end_solitude(now);
            return false;
        }
        let before = Duration::from_secs(self.state.solitude.seconds);
        let alone = self.alone.get_or_insert(Alone { since: now, looked: now, counted: before });
        alone.counted += now.since(alone.looked).min(LOOKED_WITHIN);
        alone.looked = now;
        let counted = alone.counted;
        if self.state.solitude.retired {
            return true;
        }
        let kept = (self.config.solitude / 100).min(KEPT_WITHIN);
        if counted - before >= kept.max(Duration::from_secs(1)) {
            self.state.solitude.seconds = counted.as_secs();
            self.state_changed = true;
        }
        if counted < self.config.solitude {
            return false;
        }
        self.retire(now, counted, out);
        true
    }

    fn meets_anybody(&self) -> bool {
        self.nodes.values().any(|known| known.present && known.eligible != Eligibility::No)
    }

    fn retire(&mut self, now: Time, alone: Duration, out: &mut Outbox<Output>) {
        self.end_mastership(out);
        self.lonely = None;
        self.giver = None;
        self.leaderless = None;
        // As after a restart nothing is voted and nothing is taken from the engine.
        self.hold(now);
        self.because("it met nobody for too long");
        self.state.solitude = Solitude { seconds: alone.as_secs(), retired: true };
        self.state_changed = true;
        out.push(Output::Event(Event::Retired { alone }));
    }

    /// Somebody is there, or this node leads. A retired manager is one that has just restarted.
    pub(crate) fn end_solitude(&mut self, now: Time) {
        self.alone = None;
        if self.state.solitude == Solitude::default() {
            return;
        }
        let retired = self.state.solitude.retired && self.boot.is_some();
        self.state.solitude = Solitude::default();
        self.state_changed = true;
        if retired {
            self.hold(now);
            self.leaderless = Some(now);
            self.next_tick = now;
        }
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.state.solitude.retired && self.group.is_some()
    }

    /// What a lone manager waits for, and until when it does before it retires.
    pub(crate) fn waits_for_company(&self) -> Option<Waiting> {
        let alone = self.alone.as_ref()?;
        let left = self.config.solitude.saturating_sub(alone.counted);
        let until = (!self.is_retired()).then(|| alone.looked + left);
        Some(Waiting { what: Wait::Company, since: alone.since, until })
    }

    /// Entries of this node's log of which it does not know whether they are decided: what a lone
    /// manager has beyond its catalog, and hands over when it meets its flock.
    #[must_use]
    pub fn undecided(&self) -> Vec<Decided> {
        self.group.as_ref().map_or_else(Vec::new, Group::tail)
    }
}
