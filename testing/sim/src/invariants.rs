//! What must hold after every step, whatever is done to the world.
//!
//! * Each machine's own `check` (asked with each call, in `world/ahead.rs`).
//! * A machine comes to an end: it does not tick for ever at one instant, nor fill its outbox.
//! * A node that lives, can be reached and was left alone is never called silent.
//! * A node never begins a life with a number it has used, as long as it keeps its disk.
//! * A log is dense, holds no update twice, and holds no other body than was published.
//! * No host carries out an order of a lower stamp than one before, in any of its lives.
//! * An identity is given to one update only, and nobody is acknowledged who did not ask.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Incarnation, NodeId, Time};
use skep_managers::{Judgement, Stamp};
use skep_node::Input;

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
    /// The highest stamp under which each host carried an order out, in all its lives.
    stamps: BTreeMap<HostIx, Stamp>,
    /// What each carried out last in this life, of each owner.
    obeyed: BTreeMap<(HostIx, NodeId), Bytes>,
    /// The last order of each owner.
    orders: BTreeMap<NodeId, Bytes>,
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
        self.stamps.remove(&host);
    }

    /// An order is carried out: never under a lower stamp than one before, nor without one after.
    pub(crate) fn ordered(
        &mut self,
        host: HostIx,
        owner: NodeId,
        stamp: Option<Stamp>,
        body: Option<&Bytes>,
    ) -> Result<(), String> {
        let Some(body) = body else {
            // What is taken back has no stamp: nobody's order is left.
            self.obeyed.remove(&(host, owner));
            return Ok(());
        };
        self.obeyed.insert((host, owner), body.clone());
        let before = self.stamps.get(&host).copied();
        if let Some(stamp) = stamp {
            self.stamps.insert(host, stamp);
        }
        match (before, stamp) {
            (Some(before), None) => Err(format!("obeys an order without a stamp after {before}")),
            (Some(before), Some(stamp)) if before.judge(stamp) != Judgement::Obey => {
                Err(format!("obeys an order of {stamp} after {before}"))
            }
            _ => Ok(()),
        }
    }

    /// A process ended.
    pub(crate) fn ended(&mut self, host: HostIx) {
        self.obeyed.retain(|(of, _), _| *of != host);
    }

    pub(crate) fn disturbed(&mut self, now: Time) {
        self.last_disturbed = now;
    }
}

impl World {
    /// Orders a wave at a host.
    pub(crate) fn order(&mut self, host: HostIx, what: &str) {
        if !self.host(host).is_live() {
            return;
        }
        let body = Bytes::copy_from_slice(what.as_bytes());
        self.invariants.orders.insert(self.id(host), body.clone());
        let kind = skep_records::kind::WAVE_ORDER;
        self.input(host, Input::Publish { kind, schema: 1, body: Some(body) });
    }

    /// Whether the last order of each owner that lives was carried out by all that live.
    pub(crate) fn all_obey(&self) -> Result<(), String> {
        for queen in self.live() {
            let owner = self.id(queen);
            let Some(order) = self.invariants.orders.get(&owner) else { continue };
            for host in self.live() {
                if self.invariants.obeyed.get(&(host, owner)) != Some(order) {
                    return Err(format!("{} does not obey {}", host.0, queen.0));
                }
            }
        }
        Ok(())
    }

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
