//! What must hold after every step, whatever is done to the world.
//!
//! * Each machine's own `check` (asked with each call, in `world/ahead.rs`).
//! * A machine comes to an end: it does not tick for ever at one instant, nor fill its outbox.
//! * A node that lives, can be reached and was left alone is never called silent.
//! * A node never begins a life with a number it has used, as long as it keeps its disk.
//! * A log is dense, holds no update twice, and holds no other body than was published.
//! * An identity is given to one update only, and nobody is acknowledged who did not ask.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_base::{Incarnation, Time};

use crate::host::HostIx;
use crate::oracle;
use crate::report::Checker;
use crate::world::World;

/// How long after a node was killed, stopped, cut off or started it may be called silent, and may
/// call others so. Two silences and what dialling again takes.
const SETTLING: Duration = Duration::from_secs(10);

/// What the invariants remember.
#[derive(Debug, Default)]
pub struct Invariants {
    lives: BTreeMap<HostIx, Incarnation>,
    pub(crate) wrong_silences: u64,
    pub(crate) last_disturbed: Time,
}

impl Invariants {
    /// A node begins a life.
    pub(crate) fn began(&mut self, host: HostIx, life: Incarnation) -> Result<(), String> {
        match self.lives.insert(host, life) {
            Some(before) if before >= life => {
                Err(format!("begins its life {life} after its life {before}"))
            }
            _ => Ok(()),
        }
    }

    /// A host's disk is lost: what it began is known to its peers at best.
    pub(crate) fn disk_lost(&mut self, host: HostIx) {
        self.lives.remove(&host);
    }

    pub(crate) fn disturbed(&mut self, now: Time) {
        self.last_disturbed = now;
    }
}

impl World {
    /// A node says that another is silent.
    pub(crate) fn judge_silence(&mut self, observer: HostIx, about: HostIx) {
        let left_alone = |host: HostIx| {
            let state = self.host(host);
            let speaks = state.process.as_ref().is_some_and(|process| !process.name_taken);
            speaks && state.is_live() && self.now.since(state.disturbed) >= SETTLING
        };
        if observer == about || !left_alone(observer) || !left_alone(about) {
            return;
        }
        if !oracle::can_meet(self, observer, about) {
            return;
        }
        self.invariants.wrong_silences += 1;
        let (observer, about) = (&self.host(observer).name, &self.host(about).name);
        let what = format!("{observer} calls {about} silent, which lives and can be reached");
        self.fail(Checker::Invariant, what);
    }
}
