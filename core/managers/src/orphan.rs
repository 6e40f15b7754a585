//! A part in which no manager is left: one of its nodes founds the flock again (scenario 6).
//!
//! Every host has the catalog as decrees, and none of the log. So the master also tells the nodes
//! of its roster who is on it, whenever that changes, and each keeps that on disk. The first
//! eligible node of a part without managers founds the next generation from both. That generation
//! descends from the founding, and so may be strong, when most of the roster that was told has
//! promised its number; else it is weak. Who has promised anything under a newer roster than the
//! founder was told of refuses it, as it does whoever forks with an old log: [`mod@crate::strict`].

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::{NodeId, Outbox, Time};

use crate::config::MAX_ROSTER;
use crate::event::{Eligibility, Output};
use crate::id::{ForkId, Founding, Generation, Lineage, Role};
use crate::lonely::ENOUGH;
use crate::machine::Managers;
use crate::message::{Message, PromiseAsk};
use crate::stored::{History, Meta, Place, SyncSet};

/// Nodes before this one that are waited for, at most.
const MAX_RANK: usize = 64;
/// Between two tellings of the roster to nodes that did not keep it. A roster that grows is told
/// when it rests.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// How often most of the roster is asked for a promise before the part founds itself weak.
const MAX_APPEALS: u32 = 3;

/// The roster of a history, as its master told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RosterNote {
    pub(crate) lineage: Lineage,
    /// Up to which place of the log: of two the higher is the newer.
    pub(crate) index: u64,
    /// The history descends from the founding, under this number.
    pub(crate) strong: bool,
    pub(crate) founding: Founding,
    /// How often somebody entered or left, and who was on it before the last time.
    pub(crate) version: u64,
    pub(crate) before: Vec<NodeId>,
    pub(crate) places: Vec<Place>,
}

/// To whom a master told its roster.
#[derive(Debug, Default)]
pub(crate) struct RosterTold {
    note: Option<RosterNote>,
    kept: BTreeSet<NodeId>,
    sent: Option<Time>,
}

impl RosterNote {
    /// Whether `other` is the same to who founds from it: standings come and go.
    fn means(&self, other: &Self) -> bool {
        let lasting = |place: &Place| (place.node, place.eligible, place.held, place.given_up);
        let places = |note: &Self| {
            let mut places: Vec<_> = note.places.iter().map(lasting).collect();
            places.sort_unstable_by_key(|(node, ..)| *node);
            places
        };
        (self.lineage, self.version, self.strong, self.founding)
            == (other.lineage, other.version, other.strong, other.founding)
            && self.before == other.before
            && places(self) == places(other)
    }

    /// Whether a peer may have meant it: within its bounds, and nobody on it twice.
    pub(crate) fn is_sound(&self) -> bool {
        let nodes: BTreeSet<NodeId> = self.places.iter().map(|place| place.node).collect();
        nodes.len() == self.places.len()
            && nodes.len() <= MAX_ROSTER
            && self.before.len() <= MAX_ROSTER
    }

    fn names(&self, node: NodeId) -> bool {
        self.places.iter().any(|place| place.node == node)
    }
}

/// A founder that asks most of the roster to promise the next generation.
#[derive(Debug)]
pub(crate) struct Appeal {
    lineage: Lineage,
    round: u64,
    asked: Time,
    tries: u32,
    wanted: Generation,
    granted: BTreeSet<NodeId>,
}

impl Appeal {
    pub(crate) const fn is_round(&self, round: u64) -> bool {
        self.round == round
    }

    pub(crate) fn answered(&mut self, from: NodeId, generation: Generation, granted: bool) {
        if granted && generation == self.wanted {
            self.granted.insert(from);
        }
    }
}

impl Managers {
    /// Has the nodes of the roster keep who is on it.
    pub(crate) fn tell_roster(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (Some(group), Some(mastership)) = (&self.group, &mut self.mastership) else {
            return;
        };
        let meta = &group.meta;
        let note = RosterNote {
            lineage: meta.lineage,
            index: group.applied.0,
            strong: meta.strong,
            founding: meta.founding,
            version: meta.roster_version,
            before: meta.roster_before.clone(),
            places: meta.roster.clone(),
        };
        let told = &mut mastership.told;
        if !told.note.as_ref().is_some_and(|last| last.means(&note)) {
            *told = RosterTold { note: Some(note), kept: BTreeSet::new(), sent: Some(now) };
            return;
        }
        if told.sent.is_some_and(|at| now.since(at) < TELL_AGAIN) {
            return;
        }
        let Some(note) = told.note.clone() else {
            return;
        };
        told.sent = Some(now);
        let lacks = |node: &NodeId| {
            let present = self.nodes.get(node).is_some_and(|known| known.present);
            present && !told.kept.contains(node)
        };
        let roster = note.places.iter().map(|place| place.node);
        let lack: Vec<NodeId> = roster.filter(|node| *node != self.me.id).filter(lacks).collect();
        let message = Message::Roster(note.clone());
        lack.into_iter().for_each(|node| self.send(node, &message, out));
        self.keep_roster(note);
    }

    /// Keeps a roster, unless it is older than what is kept.
    fn keep_roster(&mut self, note: RosterNote) {
        let known = self.state.roster.as_ref().filter(|known| known.lineage == note.lineage);
        if known.is_none_or(|known| known.index < note.index) {
            self.state.roster = Some(note);
            self.state_changed = true;
        }
    }

    /// A roster came from who says that it is master.
    pub(crate) fn roster_came(&mut self, from: NodeId, note: RosterNote, out: &mut Outbox<Output>) {
        let (lineage, index) = (note.lineage, note.index);
        let master = self.master_of(lineage).map(|(master, _)| master);
        let ours = self.history_of().or(self.follow) == Some(lineage);
        // A number that nobody announced is no number.
        let known = note.founding <= self.state.founding;
        if !ours || master != Some(from) || !known || self.me.eligible == Eligibility::No {
            return; // Told again, if it is the flock's.
        }
        self.keep_roster(note);
        self.send_when_safe(from, Message::RosterKept { lineage, index }, out);
    }

    pub(crate) fn roster_kept(&mut self, from: NodeId, lineage: Lineage, index: u64) {
        let Some(told) = self.mastership.as_mut().map(|mastership| &mut mastership.told) else {
            return;
        };
        let same = |note: &&RosterNote| (note.lineage, note.index) == (lineage, index);
        if told.note.as_ref().filter(same).is_some_and(|note| note.names(from)) {
            told.kept.insert(from);
        }
    }

    /// A part in which no manager is left: its first eligible node founds anew from the decrees
    /// that its host holds. Where a holding node is present that one decides.
    pub(crate) fn orphaned(&mut self, now: Time, out: &mut Outbox<Output>) {
        let (patience, waited) = (self.patience_orphaned(), now.since(self.masterless));
        if self.is_held_by_another() || waited < patience {
            return;
        }
        if self.decrees.is_none() && waited < patience + self.config.orphaned {
            if self.decrees_asked.is_none_or(|at| now.since(at) >= self.config.retry) {
                self.decrees_asked = Some(now);
                out.push(Output::WantCheckpoint);
            }
            return;
        }
        match self.appeal(now, out) {
            Appealed::Waits => {}
            Appealed::Granted(generation) => self.found_from_decrees(now, Some(generation), out),
            Appealed::Weak => self.found_from_decrees(now, None, out),
        }
    }

    /// Whether somebody there manages, or holds a history.
    pub(crate) fn is_held_by_another(&self) -> bool {
        self.nodes.values().any(|known| {
            let claim = known.claim.as_ref().filter(|_| known.present);
            claim.is_some_and(|claim| claim.holds.is_some() || claim.role > Role::Eligible)
        })
    }

    /// How long a node of a flock without any manager waits: those before it found first.
    pub(crate) fn patience_orphaned(&self) -> Duration {
        let before = self.nodes.iter().filter(|(node, known)| {
            let claim = known.claim.as_ref().filter(|_| known.present);
            let fit = claim.is_some_and(|it| it.eligible == Eligibility::Eligible && it.well);
            **node < self.me.id && fit
        });
        let rank = u32::try_from(before.count().min(MAX_RANK)).unwrap_or(0);
        self.config.orphaned + self.config.retry * 4 * rank
    }

    /// What became of asking the roster for the next generation.
    fn appeal(&mut self, now: Time, out: &mut Outbox<Output>) -> Appealed {
        let Some(note) = self.told_roster() else {
            return Appealed::Weak;
        };
        let there = |node: NodeId| self.nodes.get(&node).is_some_and(|known| known.present);
        let (lineage, version, founding) = (note.lineage, note.version, note.founding);
        let (count, mine) = (note.places.len(), usize::from(note.names(self.me.id)));
        let others = note.places.iter().map(|place| place.node);
        let others: Vec<NodeId> =
            others.filter(|node| *node != self.me.id && there(*node)).collect();
        let descends = note.strong && founding >= self.state.founding;
        // As much as it asks of others.
        let current = !self.has_promised_beyond(version, founding);
        // A host that has no catalog to give may lack much.
        let able = descends && current && self.decrees.is_some() && count >= ENOUGH;
        if !able || others.len() + mine <= count / 2 {
            return Appealed::Weak;
        }
        let retry = self.config.retry;
        // What was granted for a question of long ago says nothing of who is there now.
        let asked = self.appeal.as_ref().filter(|it| it.lineage == lineage);
        let asked = asked.filter(|it| now.since(it.asked) < retry * 2);
        let granted = asked
            .map_or(0, |it| mine + others.iter().filter(|node| it.granted.contains(node)).count());
        let tries = match asked {
            Some(it) if granted > count / 2 => return Appealed::Granted(it.wanted),
            Some(it) if now.since(it.asked) < retry => return Appealed::Waits,
            Some(it) if it.tries >= MAX_APPEALS => return Appealed::Weak,
            Some(it) => it.tries,
            None => 0,
        };
        let wanted = Generation(self.state.promised.0.saturating_add(1));
        let round = self.rng.bits() | 1;
        self.promise(now, lineage, wanted);
        self.appeal = Some(Appeal {
            lineage,
            round,
            asked: now,
            tries: tries + 1,
            wanted,
            granted: BTreeSet::new(),
        });
        let ask = PromiseAsk { lineage, generation: wanted, round, version, founding };
        for node in others {
            self.send_when_safe(node, Message::Promise(ask), out);
        }
        Appealed::Waits
    }

    /// The roster of the flock that this node followed, if it was told.
    fn told_roster(&self) -> Option<&RosterNote> {
        let followed = self.state.followed?;
        self.state.roster.as_ref().filter(|note| note.lineage == followed)
    }

    /// Founds the flock again from the decrees: weak, or as the generation that most of the roster
    /// promised.
    pub(crate) fn found_from_decrees(
        &mut self,
        now: Time,
        promised: Option<Generation>,
        out: &mut Outbox<Output>,
    ) {
        let (index, state) = self.decrees.take().unwrap_or_default();
        let next = Generation(self.state.promised.0.saturating_add(1));
        let (strong, note) = (promised.is_some(), self.told_roster().cloned());
        let (version, founding) =
            note.as_ref().map_or((0, Founding(0)), |it| (it.version, it.founding));
        let (before, mut roster) = note.map_or_else(Default::default, |it| (it.before, it.places));
        // From the roster of a strong history all leave one by one, under strict authority.
        roster.retain(|place| strong || !self.expelled.contains(&place.node));
        if !strong && !roster.iter().any(|place| place.node == self.me.id) {
            roster.truncate(MAX_ROSTER - 1);
            roster.push(Place {
                node: self.me.id,
                eligible: self.me.eligible,
                resources: self.me.resources,
                availability: 500,
                held: false,
                given_up: false,
            });
        }
        let meta = Meta {
            lineage: Lineage(self.rng.bits()),
            generation: promised.unwrap_or(next),
            fork: ForkId(self.rng.bits()),
            parent: self.state.followed.map(|lineage| (lineage, index)),
            strong,
            founding,
            acknowledged: strong || !state.is_empty(),
            epoch: self.highest,
            master: None,
            sync: SyncSet { version: 1, members: vec![self.me.id] },
            roster,
            roster_version: version,
            roster_base: version,
            roster_before: before,
            names: Vec::new(),
            merging: Vec::new(),
            absorbed: Vec::new(),
            ended: None,
        };
        let mut history = History::default();
        if !state.is_empty() {
            history.checkpoint = Some((index, state));
        }
        self.begin(now, meta, history, (index.max(1), 1), out);
    }
}

/// What becomes of a part that asks for promises.
enum Appealed {
    Waits,
    Granted(Generation),
    Weak,
}
