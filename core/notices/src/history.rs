//! What happened to a flock, as its masters told it: the body of a record, and one list of all
//! (BLOC-21).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::{NodeName, WallTime};
use skep_wire::{Malformed, decode, encode};

/// Events that one node's record holds: the last ones.
pub const MAX_EVENTS: usize = 32;
/// Nodes that one of them names. More are counted.
pub const MAX_EVENT_NODES: usize = 8;
/// Longest body of such a record: as long as any record's may be.
pub const MAX_HISTORY_BYTES: usize = 4096;
/// Longest name of a flock: two words and a number.
const MAX_FLOCK_BYTES: usize = 64;
/// That a member parted, told twice within this, is one parting: another master tells what it saw
/// within a minute, and what lies between two partings may have been told by nobody.
const SAME: Duration = Duration::from_secs(600);
/// Layout of the record's body.
pub const HISTORY_SCHEMA: u16 = 1;

/// One event of a flock, as whoever was its master then told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlockEvent {
    /// Grows over all events and lives of the node that tells it. Numbers that are missing are
    /// events that it could not tell.
    pub number: u64,
    /// By the teller's wall clock; but later than all that it had heard of when it told this.
    pub when: WallTime,
    /// Under which mastership it was told.
    pub under: Under,
    /// Members that were present.
    pub present: u32,
    /// What happened.
    pub tale: Tale,
}

/// A mastership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Under {
    /// The number of its stamp.
    pub epoch: u64,
    /// The fork of its stamp.
    pub fork: u64,
    /// The flock's history.
    pub lineage: u64,
    /// How often it was founded again.
    pub generation: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tale {
    /// The flock was founded; out of the one of this name, if any.
    Formed {
        /// The flock that it was before.
        before: Option<String>,
    },
    /// Another history ended in this one, or this one in another.
    Merged {
        /// The history that ended.
        ended: u64,
        /// What its flock was called, where that was known.
        before: Option<String>,
        /// How many entries of the catalog were handed over, where that is known.
        changes: Option<u64>,
    },
    /// Members went without a word.
    Split(Who),
    /// Members that had parted are there again.
    Back(Who),
    /// Whoever tells this is the master.
    MasterChanged,
    /// Nobody came or went, and the master was the same, for some time.
    Stable,
}

/// Some of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The first [`MAX_EVENT_NODES`] of them.
    pub nodes: Vec<NodeName>,
    /// How many they are.
    pub count: u32,
}

impl Who {
    /// These, of which only the first are named.
    #[must_use]
    pub fn of(nodes: &[NodeName], count: usize) -> Self {
        let nodes = nodes.iter().take(MAX_EVENT_NODES).cloned().collect();
        Self { nodes, count: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    fn is_whole(&self) -> bool {
        self.nodes.len() == usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// Without those that are not wanted; nothing where nobody is left of those that are named.
    fn only(&self, wanted: impl Fn(&NodeName) -> bool) -> Option<Self> {
        let nodes: Vec<NodeName> = self.nodes.iter().filter(|node| wanted(node)).cloned().collect();
        if nodes.is_empty() {
            return None;
        }
        // Of more than are named, those that are not are taken to be with those that are.
        let count = if self.is_whole() { Self::of(&nodes, nodes.len()).count } else { self.count };
        Some(Self { nodes, count })
    }
}

/// The body of a record: the last events that fit. Those before are let go of.
pub fn to_body(events: &mut Vec<FlockEvent>) -> Vec<u8> {
    let surplus = events.len().saturating_sub(MAX_EVENTS);
    events.drain(..surplus);
    loop {
        let body = encode(events);
        if body.len() <= MAX_HISTORY_BYTES || events.is_empty() {
            return body;
        }
        events.remove(0);
    }
}

/// The events of a record's body.
///
/// # Errors
/// [`Malformed`], also where a bound is broken or numbers do not grow.
pub fn from_body(body: &[u8]) -> Result<Vec<FlockEvent>, Malformed> {
    const WHAT: &str = "events of a flock";
    if body.len() > MAX_HISTORY_BYTES {
        return Err(Malformed { what: WHAT });
    }
    let events: Vec<FlockEvent> = decode(WHAT, body)?;
    let short = |name: &Option<String>| name.as_ref().is_none_or(|it| it.len() <= MAX_FLOCK_BYTES);
    let fits = |event: &FlockEvent| match &event.tale {
        Tale::Formed { before } | Tale::Merged { before, .. } => short(before),
        Tale::Split(who) | Tale::Back(who) => {
            who.nodes.len() <= MAX_EVENT_NODES && who.nodes.len() as u64 <= u64::from(who.count)
        }
        Tale::MasterChanged | Tale::Stable => true,
    };
    let grow = events.windows(2).all(|pair| pair[0].number < pair[1].number);
    if events.len() <= MAX_EVENTS && grow && events.iter().all(fits) {
        Ok(events)
    } else {
        Err(Malformed { what: WHAT })
    }
}

/// What some masters told already: of what they told again only what is new counts.
#[derive(Default)]
pub(crate) struct Known {
    formed: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    /// Whether a member had parted from a history, as was told last, and when.
    parted: BTreeMap<(u64, NodeName), (bool, WallTime)>,
}

impl Known {
    /// Takes note of an event; what of it is news.
    pub(crate) fn hear(&mut self, lineage: u64, when: WallTime, tale: &Tale) -> Option<Tale> {
        match tale {
            Tale::Formed { .. } => self.formed.insert(lineage).then(|| tale.clone()),
            Tale::Merged { ended, .. } => self.ended.insert(*ended).then(|| tale.clone()),
            Tale::Split(who) => self.turn(lineage, who, (true, when)).map(Tale::Split),
            Tale::Back(who) => self.turn(lineage, who, (false, when)).map(Tale::Back),
            Tale::MasterChanged | Tale::Stable => Some(tale.clone()),
        }
    }

    fn turn(&mut self, lineage: u64, who: &Who, is: (bool, WallTime)) -> Option<Who> {
        let known = &self.parted;
        let new = who.only(|node| {
            let was = known.get(&(lineage, node.clone()));
            was.is_none_or(|was| was.0 != is.0 || is.1.since(was.1) > SAME)
        });
        for node in new.iter().flat_map(|who| &who.nodes) {
            self.parted.insert((lineage, node.clone()), is);
        }
        new
    }
}

/// All events of all records in one order, the same on every node that has the same records, and
/// each once: what several masters told of one thing is told by the first of them. A node that
/// tells what it had heard of before tells it later, so the order is no worse than its clock.
pub fn in_one_order<T: Ord + Clone>(
    records: impl IntoIterator<Item = (T, Vec<FlockEvent>)>,
) -> Vec<(T, FlockEvent)> {
    let mut all: Vec<(T, FlockEvent)> = Vec::new();
    for (teller, events) in records {
        all.extend(events.into_iter().map(|event| (teller.clone(), event)));
    }
    all.sort_by(|(a, x), (b, y)| (x.when, a, x.number).cmp(&(y.when, b, y.number)));
    let mut known = Known::default();
    all.retain_mut(|(_, event)| {
        let news = known.hear(event.under.lineage, event.when, &event.tale);
        news.map(|tale| event.tale = tale).is_some()
    });
    all
}
