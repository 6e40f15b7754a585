//! What a master says of its flock's management to whoever looks (BLOC-10, 11, DVM-1).
//!
//! A node that manages nothing has no log: it knows what the master announces to all, which is as
//! little as everybody needs all the time. Roster, term, what is waited for and until when strict
//! authority lasts are the master's to say, to those who ask. It answers from what it knows;
//! nothing is written for it, and nothing waits for it.
//!
//! Clocks of two nodes have nothing to do with one another, so every time is told as an age or as
//! what is left, in milliseconds. Whoever takes it for a page knows how long ago it asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::{NodeId, Time};
use skep_wire::{decode, encode};

use crate::config::{MAX_ROSTER, MAX_VOTERS};
use crate::event::Refusal;
use crate::id::{Founding, Generation, Lineage, Stamp};
use crate::machine::Managers;
use crate::others::MAX_OTHERS;
use crate::view::{Authority, FlockView, OtherFlock, RosterView, View, Wait, Waiting, Weak};

/// The longest answer: what is in it is bounded, and this is more than all of that takes.
pub const MAX_SHOWN_BYTES: usize = 16 * 1024;
/// Waits that are told: more than a master with as many voters as there may be has.
const MAX_WAITS: usize = 64;
/// Of a thousand: the most that a node can have to spare, and can have been there.
const WHOLE: u16 = 1000;

/// What a node knows of its flock's management, in ages instead of times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its flock; a master always has one.
    pub flock: Option<FlockShown>,
    /// What it waits for.
    pub waits: Vec<WaitShown>,
    /// Other flocks of the bloc, as it saw them.
    pub others: Vec<OtherShown>,
}

/// A flock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlockShown {
    /// Its history.
    pub lineage: Lineage,
    /// How often it was founded again.
    pub generation: Generation,
    /// Its newest stamp.
    pub stamp: Stamp,
    /// The engine's election count; 0 where only the master knows it.
    pub term: u64,
    /// Why what it acknowledges now is weak; nothing where that is strong.
    pub weak: Option<Weak>,
    /// Under which founding number it is strong, or what it comes from was; 0 where none was.
    pub founding: Founding,
    /// Who decides, if anybody does now.
    pub master: Option<NodeId>,
    /// How long ago it was heard of; nothing where it is the one that tells.
    pub heard_ms: Option<u64>,
    /// How long it has been master; told by itself alone.
    pub leads_ms: Option<u64>,
    /// Who votes beside it.
    pub backups: Vec<NodeId>,
    /// Who is about to.
    pub learners: Vec<NodeId>,
    /// On whose disks every acknowledgement is.
    pub sync_set: Vec<NodeId>,
    /// Who may become a manager, best first.
    pub roster: Vec<PlaceShown>,
    /// The highest place of the log that is decided.
    pub committed: u64,
    /// How many are on the roster; 0 where no master says.
    pub roster_count: u32,
    /// How many of them the master sees, itself among them.
    pub there: u32,
    /// Who has strict authority, if anybody has.
    pub holder: Option<NodeId>,
    /// For how much longer; told by the holder alone, which renews it all the time.
    pub holds_ms: Option<u64>,
}

/// A place on the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceShown {
    /// Whose.
    pub node: NodeId,
    /// What it has to spare, 0 to 1000.
    pub resources: u16,
    /// How much it was there lately, 0 to 1000.
    pub availability: u16,
    /// Whether it is there now.
    pub present: bool,
    /// Never more than a witness.
    pub witness: bool,
    /// An operator's hold.
    pub held: bool,
    /// For how long, at least.
    pub held_ms: Option<u64>,
    /// For how long it says that its baseline is not well, if it does.
    pub unwell_ms: Option<u64>,
    /// Nobody looks for it any more.
    pub given_up: bool,
    /// For how long it is there, or away, as whoever tells saw it since its agent started.
    pub since_ms: u64,
    /// How often it went away since then.
    pub absences: u32,
    /// For how long in all, now included.
    pub away_ms: u64,
    /// How long ago it last came back, and how long it had been away.
    pub returned: Option<(u64, u64)>,
}

/// One thing that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitShown {
    /// For what.
    pub what: Wait,
    /// Since when.
    pub since_ms: u64,
    /// For how much longer, if a time is set.
    pub until_ms: Option<u64>,
}

/// Another flock of the bloc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherShown {
    /// Its history.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: Generation,
    /// Its stamp.
    pub stamp: Stamp,
    /// Its master, if it has one or had one when it was last seen.
    pub master: Option<NodeId>,
    /// How many announce now that they are of it.
    pub members: u32,
    /// How long ago somebody last did.
    pub seen_ms: u64,
}

impl Managers {
    /// What this node says to whoever looks, if it is the master.
    ///
    /// # Errors
    /// [`Refusal::NotMaster`] or [`Refusal::NoMaster`] elsewhere.
    pub fn look(&self, now: Time) -> Result<Shown, Refusal> {
        // Whether it may decide anything now, and how strongly, is among what it says.
        if self.is_master() { Ok(Shown::of(&self.status(now), now)) } else { Err(self.no_master()) }
    }
}

impl Shown {
    /// What `view` says at `now`, by the clock that it was made by.
    #[must_use]
    pub fn of(view: &View, now: Time) -> Self {
        Self {
            flock: view.flock.as_ref().map(|flock| FlockShown::of(flock, now)),
            waits: view.waits.iter().take(MAX_WAITS).map(|it| WaitShown::of(it, now)).collect(),
            others: view.others.iter().take(MAX_OTHERS).map(|it| OtherShown::of(it, now)).collect(),
        }
    }

    /// As a body.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// A master's answer, within its bounds.
    #[must_use]
    pub fn from_bytes(body: &[u8]) -> Option<Self> {
        if body.len() > MAX_SHOWN_BYTES {
            return None;
        }
        let shown: Self = decode("what a master shows", body).ok()?;
        let flock = shown.flock.as_ref()?;
        let lists = [&flock.backups, &flock.learners, &flock.sync_set];
        let place = |place: &PlaceShown| place.resources <= WHOLE && place.availability <= WHOLE;
        let bounded = lists.iter().all(|list| list.len() <= MAX_VOTERS)
            && flock.roster.len() <= MAX_ROSTER
            && flock.roster.iter().all(place)
            && shown.waits.len() <= MAX_WAITS
            && shown.others.len() <= MAX_OTHERS;
        bounded.then_some(shown)
    }

    /// Whether this is what `node` may say as the master that it is.
    #[must_use]
    pub fn is_of_master(&self, node: NodeId) -> bool {
        self.flock.as_ref().is_some_and(|flock| flock.master == Some(node))
    }
}

impl FlockShown {
    fn of(flock: &FlockView, now: Time) -> Self {
        let some = |nodes: &[NodeId]| nodes.iter().take(MAX_VOTERS).copied().collect();
        let age = |at: Time| ms(now.since(at));
        let Authority { roster, there, holder, until } = flock.authority;
        Self {
            lineage: flock.lineage,
            generation: flock.generation,
            stamp: flock.stamp,
            term: flock.term,
            weak: flock.weak,
            founding: flock.founding,
            master: flock.master,
            heard_ms: flock.heard.map(age),
            leads_ms: flock.master_since.map(age),
            backups: some(&flock.backups),
            learners: some(&flock.learners),
            sync_set: some(&flock.sync_set),
            roster: flock
                .roster
                .iter()
                .take(MAX_ROSTER)
                .map(|it| PlaceShown::of(it, now))
                .collect(),
            committed: flock.committed,
            roster_count: count(roster),
            there: count(there),
            holder,
            holds_ms: until.map(|until| ms(until.since(now))),
        }
    }

    /// How much of its roster the master has behind it.
    #[must_use]
    pub fn authority(&self) -> Authority {
        let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let (roster, there) = (number(self.roster_count), number(self.there));
        Authority { roster, there, holder: self.holder, until: None }
    }
}

impl PlaceShown {
    fn of(place: &RosterView, now: Time) -> Self {
        let age = |at: Time| ms(now.since(at));
        Self {
            node: place.node,
            resources: place.resources.min(WHOLE),
            availability: place.availability.min(WHOLE),
            present: place.present,
            witness: place.witness,
            held: place.held,
            held_ms: place.held_since.map(age),
            unwell_ms: place.unwell.map(age),
            given_up: place.given_up,
            since_ms: age(place.seen.since),
            absences: place.seen.absences,
            away_ms: ms(place.seen.away),
            returned: place.seen.returned.map(|(back, long)| (age(back), ms(long))),
        }
    }

    /// Resources times availability, 0 to 1000.
    #[must_use]
    pub fn standing(&self) -> u16 {
        crate::stored::standing(self.resources, self.availability)
    }
}

impl WaitShown {
    fn of(wait: &Waiting, now: Time) -> Self {
        let until_ms = wait.until.map(|until| ms(until.since(now)));
        Self { what: wait.what, since_ms: ms(now.since(wait.since)), until_ms }
    }
}

impl OtherShown {
    fn of(other: &OtherFlock, now: Time) -> Self {
        Self {
            lineage: other.lineage,
            generation: other.generation,
            stamp: other.stamp,
            master: other.master,
            members: count(other.members),
            seen_ms: ms(now.since(other.seen)),
        }
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// One of everything, for golden bytes.
pub(crate) fn sample() -> Shown {
    use crate::id::{Epoch, ForkId};
    let node = |n: u8| NodeId::from_bytes([n; 16]);
    let lineage = Lineage(0x0102_0304_0506_0708);
    let stamp = Stamp { epoch: Epoch(9), fork: ForkId(0x1112_1314_1516_1718) };
    let place = PlaceShown {
        node: node(3),
        resources: 700,
        availability: 900,
        present: true,
        witness: false,
        held: true,
        held_ms: Some(61_000),
        unwell_ms: None,
        given_up: false,
        since_ms: 5_000,
        absences: 2,
        away_ms: 754_000,
        returned: Some((5_000, 750_000)),
    };
    let flock = FlockShown {
        lineage,
        generation: Generation(2),
        stamp,
        term: 4,
        weak: Some(Weak::NoAuthority),
        founding: Founding(1),
        master: Some(node(1)),
        heard_ms: None,
        leads_ms: Some(3_600_000),
        backups: vec![node(2)],
        learners: vec![node(3)],
        sync_set: vec![node(1), node(2)],
        roster: vec![place],
        committed: 812,
        roster_count: 3,
        there: 2,
        holder: Some(node(1)),
        holds_ms: Some(2_100),
    };
    let (what, until_ms) = (Wait::Manager(node(2)), Some(4_000));
    let other = OtherShown {
        lineage: Lineage(0x5152_5354_5556_5758),
        generation: Generation(1),
        stamp,
        master: Some(node(7)),
        members: 3,
        seen_ms: 12,
    };
    let waits = vec![
        WaitShown { what, since_ms: 6_000, until_ms },
        WaitShown { what: Wait::Merge(other.lineage), since_ms: 80, until_ms: None },
    ];
    Shown { flock: Some(flock), waits, others: vec![other] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> NodeId {
        NodeId::from_bytes([0; 16])
    }

    fn with(edit: impl FnOnce(&mut Shown, &mut FlockShown)) -> Option<Shown> {
        let mut shown = sample();
        let mut flock = shown.flock.take()?;
        edit(&mut shown, &mut flock);
        shown.flock = Some(flock);
        Shown::from_bytes(&shown.to_bytes())
    }

    #[test]
    fn what_is_over_a_bound_or_none_of_a_master_is_refused() {
        assert_eq!(with(|_, _| {}), Some(sample()));
        assert!(with(|_, flock| flock.backups = vec![nobody(); MAX_VOTERS + 1]).is_none());
        assert!(with(|_, flock| flock.sync_set = vec![nobody(); MAX_VOTERS + 1]).is_none());
        assert!(with(|_, flock| flock.learners = vec![nobody(); MAX_VOTERS + 1]).is_none());
        let place = |flock: &FlockShown| flock.roster[0].clone();
        assert!(with(|_, it| it.roster = vec![place(it); MAX_ROSTER + 1]).is_none());
        assert!(with(|_, flock| flock.roster[0].resources = WHOLE + 1).is_none());
        assert!(with(|_, flock| flock.roster[0].availability = u16::MAX).is_none());
        assert!(with(|shown, _| shown.waits = vec![shown.waits[0]; MAX_WAITS + 1]).is_none());
        assert!(with(|shown, _| shown.others = vec![shown.others[0]; MAX_OTHERS + 1]).is_none());
        let nothing = Shown { flock: None, ..sample() };
        assert!(Shown::from_bytes(&nothing.to_bytes()).is_none(), "a master has a flock");
        assert!(Shown::from_bytes(&vec![0; MAX_SHOWN_BYTES + 1]).is_none());
        let (master, backup) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        assert!(sample().is_of_master(master) && !sample().is_of_master(backup));
    }

    #[test]
    fn the_most_that_may_be_said_fits() {
        let mut shown = sample();
        let flock = shown.flock.as_mut().unwrap();
        let node = NodeId::from_bytes([255; 16]);
        let long = u64::MAX;
        let stamp = Stamp { epoch: crate::Epoch(long), fork: crate::ForkId(long) };
        let place = PlaceShown {
            node,
            resources: WHOLE,
            availability: WHOLE,
            held_ms: Some(long),
            unwell_ms: Some(long),
            since_ms: long,
            absences: u32::MAX,
            away_ms: long,
            returned: Some((long, long)),
            ..flock.roster[0].clone()
        };
        (flock.stamp, flock.term, flock.committed) = (stamp, long, long);
        flock.roster = vec![place; MAX_ROSTER];
        for list in [&mut flock.backups, &mut flock.learners, &mut flock.sync_set] {
            *list = vec![node; MAX_VOTERS];
        }
        let wait = WaitShown { what: Wait::Learner(node), since_ms: long, until_ms: Some(long) };
        shown.waits = vec![wait; MAX_WAITS];
        let (lineage, members) = (Lineage(long), u32::MAX);
        let other = OtherShown { lineage, stamp, members, seen_ms: long, ..shown.others[0] };
        shown.others = vec![other; MAX_OTHERS];
        let bytes = shown.to_bytes();
        assert!(bytes.len() <= MAX_SHOWN_BYTES, "{} bytes", bytes.len());
        assert_eq!(Shown::from_bytes(&bytes), Some(shown));
    }
}
