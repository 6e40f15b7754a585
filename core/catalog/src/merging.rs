//! Two flocks that went apart become one: entry by entry.
//!
//! The one that does not lead hands over what changed since the fork, each entry with what it has
//! seen ([`crate::Context`]). What says that it has seen what is here takes its place; what was
//! seen here already says nothing new; what neither had seen of the other's stays as it is here,
//! and the other's version, unless it says the same, goes to the *conflict log*, an entry of its
//! own beside it, until somebody lets it happen or removes it.
//!
//! So an entry is a set of versions that nobody has overtaken: the one that it says, others that
//! say the same, and those beside it. A version that one side has seen and has no longer was
//! overtaken there, by a write or by whoever settled a conflict, and goes; every other one stays.
//! That makes the same of the same changes in whichever order and however often they come, and
//! through however many flocks (DVM-27, DVM-28); only which of them the entry says depends on who
//! leads.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{Digest, WallTime};
use skep_wire::{Malformed, decode, encode};

use crate::catalog::{Catalog, Outcome, Refusal};
use crate::command::{
    Command, Expect, MAX_BODY_BYTES, MAX_COMMAND_BYTES, MAX_WHO_BYTES, MAX_WRITES, Payload, Write,
};
use crate::context::Dot;
use crate::key::{Key, Kind};
use crate::schema::newest_schema;
use crate::slot::{OVERHEAD, Slot, Version};

/// Room that is left in a command for its author and the lengths in it.
const COMMAND_SLACK: usize = 1024;

/// What is handed over at once, unless one thing alone is longer.
pub const MAX_ITEM_BYTES: usize = 24 * 1024;
/// What the versions of one entry that is handed over may take, but for the newest.
const GIVEN_VERSIONS_BYTES: usize = 16 * 1024;
/// Versions that stand beside one entry in the conflict log: which they are goes with the entry.
const MAX_BESIDE: usize = 64;

/// What every item begins with: a later layout is another number.
const LAYOUT: u8 = 1;

/// What a side that does not lead wanted of an entry that both had changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Of which entry.
    pub key: Key,
    /// What it said, where it was decided.
    pub version: Version,
}

impl Conflict {
    /// What an entry of the conflict log says.
    #[must_use]
    pub fn read(payload: &Payload) -> Option<Self> {
        (payload.schema == newest_schema(Kind::CONFLICT))
            .then(|| decode("conflict", &payload.body).ok())
            .flatten()
    }

    /// As it was where it was decided first, so that everybody logs the same.
    fn of(key: Key, version: &Version) -> Self {
        let Dot { stamp, term, index: revision } = version.dot();
        Self { key, version: Version { revision, stamp, term, from: None, ..version.clone() } }
    }

    fn payload(&self) -> Payload {
        Payload { schema: newest_schema(Kind::CONFLICT), body: encode(self).into() }
    }

    fn is_sound(&self) -> bool {
        let Version { who, put, .. } = &self.version;
        let body = put.as_ref().map_or(0, |put| put.body.len());
        let may_be = !matches!(self.key.kind(), Kind::CONFLICT | Kind::NOTICE);
        may_be && who.len() <= MAX_WHO_BYTES && body <= MAX_BODY_BYTES
    }
}

/// Where the conflict log has a version of an entry: the fork of its log, and what tells it apart.
fn logged_as(key: &Key, dot: &Dot) -> Option<Key> {
    let Dot { stamp, term, index } = dot;
    let which = Digest::of_parts(&[
        &key.kind().0.to_le_bytes(),
        key.name().as_bytes(),
        &stamp.fork.to_le_bytes(),
        &term.to_le_bytes(),
        &index.to_le_bytes(),
    ]);
    let name = format!("{:08x}-{}", stamp.fork >> 32, which.abbreviated(12));
    Key::new(Kind::CONFLICT, &name).ok()
}

/// One of the things that a flock hands over.
#[derive(Debug, Serialize, Deserialize)]
enum Given {
    /// What stands beside an entry, which comes after all of these.
    Beside(Conflict),
    /// An entry; nothing where it was removed so long ago that only what stands beside it is left.
    Entry {
        key: Key,
        slot: Option<Slot>,
        /// Which versions stand beside it.
        beside: Vec<Dot>,
    },
}

impl Given {
    /// What it says, and of which entry.
    fn newest(&self) -> Option<(&Key, &Version)> {
        match self {
            Self::Beside(Conflict { key, version }) => Some((key, version)),
            Self::Entry { key, slot, .. } => Some((key, slot.as_ref()?.newest()?)),
        }
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Beside(conflict) => conflict.is_sound(),
            Self::Entry { slot, beside, .. } => {
                beside.len() <= MAX_BESIDE && slot.as_ref().is_none_or(|slot| slot.check().is_ok())
            }
        }
    }
}

impl Catalog {
    /// What changed after the command at `common`, for a flock that this one merges into: items
    /// for [`crate::Origin::Foreign`], of about [`MAX_ITEM_BYTES`] at most.
    #[must_use]
    pub fn hand_over(&self, common: u64) -> Vec<Bytes> {
        let beside = self.beside();
        let mut items = Items::default();
        for key in self.changed_after(common, &beside) {
            let beside = beside.get(key).map_or(&[][..], Vec::as_slice);
            let logged = beside.iter().filter_map(|dot| self.standing(&logged_as(key, dot)?));
            logged.for_each(|conflict| items.add(Given::Beside(conflict)));
            let slot = self.slot(key).map(|slot| slot.since(common, GIVEN_VERSIONS_BYTES));
            items.add(Given::Entry { key: key.clone(), slot, beside: beside.to_vec() });
        }
        items.finish()
    }

    /// How many entries that are.
    #[must_use]
    pub fn handed_over(&self, common: u64) -> u64 {
        self.changed_after(common, &self.beside()).len() as u64
    }

    fn changed_after<'a>(
        &'a self,
        common: u64,
        beside: &'a BTreeMap<Key, Vec<Dot>>,
    ) -> BTreeSet<&'a Key> {
        let is_told = |(key, slot): &(&Key, &Slot)| {
            // What stands beside an entry goes with it; and of a conflict that somebody removed
            // nobody need hear but by that.
            let removed = key.kind() == Kind::CONFLICT && slot.live().is_none();
            slot.touched() > common && !removed && self.standing(key).is_none()
        };
        let touched = self.slots().into_iter().filter(is_told).map(|(key, _)| key);
        let left = beside.keys().filter(|key| self.slot(key).is_none());
        touched.chain(left).collect()
    }

    /// Takes over an item of another flock's [`Catalog::hand_over`]. The same one may come several
    /// times.
    pub(crate) fn absorb(&mut self, at: Dot, item: &[u8]) -> Outcome {
        let Ok(given) = read(item) else { return Outcome::Refused(Refusal::Malformed) };
        let beside = self.beside();
        let mut merge = Merge { catalog: self, at, beside, changed: BTreeSet::new() };
        if !merge.has_room(&given) {
            return Outcome::Refused(Refusal::Full);
        }
        for given in given {
            match given {
                Given::Beside(conflict) => merge.conflict(&conflict),
                Given::Entry { key, slot: Some(slot), beside } => {
                    merge.entry(&key, &slot, &beside);
                }
                Given::Entry { slot: None, .. } => {}
            }
        }
        let changed: Vec<Key> = merge.changed.into_iter().collect();
        if changed.is_empty() { Outcome::Skipped } else { Outcome::Applied { changed } }
    }

    /// What an entry of the conflict log says of the entry that it stands beside. One that was
    /// written by hand under another name is an entry like any other.
    pub(crate) fn standing(&self, logged: &Key) -> Option<Conflict> {
        if logged.kind() != Kind::CONFLICT {
            return None;
        }
        let conflict = Conflict::read(self.live(logged)?.1)?;
        let named = logged_as(&conflict.key, &conflict.version.dot());
        (named.as_ref() == Some(logged)).then_some(conflict)
    }

    /// Which versions of an entry stand beside it in the conflict log.
    fn beside(&self) -> BTreeMap<Key, Vec<Dot>> {
        let mut all: BTreeMap<Key, Vec<Dot>> = BTreeMap::new();
        for logged in self.keys_of(Kind::CONFLICT) {
            let Some(Conflict { key, version }) = self.standing(&logged) else { continue };
            all.entry(key).or_default().push(version.dot());
        }
        all
    }
}

/// Things to hand over, in items.
#[derive(Default)]
struct Items {
    done: Vec<Bytes>,
    open: Vec<Given>,
    bytes: usize,
}

impl Items {
    fn add(&mut self, given: Given) {
        let bytes = encode(&given).len();
        if self.bytes + bytes > MAX_ITEM_BYTES {
            self.close();
        }
        self.bytes += bytes;
        self.open.push(given);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let mut item = alloc::vec![LAYOUT];
            item.extend_from_slice(&encode(&self.open));
            self.done.push(item.into());
        }
        self.open.clear();
        self.bytes = 0;
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.done
    }
}

/// An item that came from another flock.
fn read(item: &[u8]) -> Result<Vec<Given>, Malformed> {
    let malformed = Malformed { what: "catalog item" };
    let Some((&LAYOUT, rest)) = item.split_first() else { return Err(malformed) };
    if item.len() > MAX_COMMAND_BYTES {
        return Err(malformed);
    }
    let given: Vec<Given> = decode(malformed.what, rest)?;
    let sound = !given.is_empty() && given.iter().all(Given::is_sound);
    if sound { Ok(given) } else { Err(malformed) }
}

/// A catalog that takes over what another flock had.
struct Merge<'a> {
    catalog: &'a mut Catalog,
    /// By the command at this place.
    at: Dot,
    /// Which versions stand beside entries here.
    beside: BTreeMap<Key, Vec<Dot>>,
    changed: BTreeSet<Key>,
}

impl Merge<'_> {
    /// Whether there is room for all that is new in it, wherever it comes to stand.
    fn has_room(&self, given: &[Given]) -> bool {
        let new: Vec<(&Key, &Version)> = given
            .iter()
            .filter_map(Given::newest)
            .filter(|(key, newest)| !self.has_seen(key, &newest.dot()))
            .collect();
        let crowded = |key: &Key| {
            let more = new.iter().filter(|(other, _)| *other == key).count();
            let said = usize::from(self.catalog.slot(key).is_some());
            self.beside.get(key).map_or(0, Vec::len) + said + more > MAX_BESIDE + 1
        };
        let puts = new.iter().filter_map(|(key, newest)| {
            let put = newest.put.as_ref()?;
            Some((1, put.body.len() + newest.who.len() + key.name().len() + OVERHEAD))
        });
        !new.iter().any(|(key, _)| crowded(key)) && self.catalog.has_room_for(puts)
    }

    fn has_seen(&self, key: &Key, dot: &Dot) -> bool {
        self.catalog.slot(key).is_some_and(|slot| slot.context().covers(dot))
    }

    fn stands_beside(&self, key: &Key, dot: &Dot) -> bool {
        self.beside.get(key).is_some_and(|all| all.iter().any(|other| other.is(dot)))
    }

    /// What stands beside an entry there stands beside it here as well, until the entry comes and
    /// says what else it has seen; unless it is overtaken here.
    fn conflict(&mut self, Conflict { key, version }: &Conflict) {
        let dot = version.dot();
        if !self.stands_beside(key, &dot) && !self.has_seen(key, &dot) {
            self.log(key, core::slice::from_ref(version));
        }
    }

    fn entry(&mut self, key: &Key, theirs: &Slot, beside: &[Dot]) {
        let Some(newest) = theirs.newest() else { return };
        #[cfg(test)]
        if crate::plant::takes_twice() {
            return self.adopt(key, theirs.versions());
        }
        let ours = self.catalog.slot(key).cloned();
        let stands_there = |dot: &Dot| theirs.says(dot) || beside.iter().any(|it| it.is(dot));
        let stands_here = |dot: &Dot| {
            ours.as_ref().is_some_and(|slot| slot.says(dot)) || self.stands_beside(key, dot)
        };
        let left_here: Vec<Version> = (ours.iter().flat_map(Slot::all_said))
            .chain(self.logged(key))
            .filter(|it| stands_there(&it.dot()) || !theirs.context().covers(&it.dot()))
            .collect();
        let left_there = theirs.all_said().filter(|it| {
            let dot = it.dot();
            stands_here(&dot) || !self.has_seen(key, &dot)
        });
        let mut left = left_here;
        for version in left_there {
            if !left.iter().any(|known| known.dot().is(&version.dot())) {
                left.push(version);
            }
        }
        let now = ours.as_ref().and_then(Slot::newest).cloned();
        let at = |wanted: &Version| left.iter().position(|it| it.dot().is(&wanted.dot()));
        let last = || (0..left.len()).max_by_key(|at| left[*at].dot());
        let leads = now.as_ref().and_then(at).or_else(|| at(newest)).or_else(last);
        // Where each overtook what the other says they say the same.
        let Some(leads) = leads.map(|at| left.remove(at)).or_else(|| now.clone()) else { return };
        let versions = ours.as_ref().map_or(&[][..], Slot::versions);
        let news = after_shared(versions, theirs.versions());
        let history = |of: &Version| {
            let theirs = of.dot().is(&newest.dot()) && !news.is_empty();
            if theirs { news.to_vec() } else { alloc::vec![of.clone()] }
        };
        if !now.is_some_and(|now| now.dot().is(&leads.dot())) {
            self.adopt(key, &history(&leads));
        }
        // Who was told of what is no wish of anybody's, and a conflict about one would help nobody.
        if matches!(key.kind(), Kind::NOTICE | Kind::CONFLICT) {
            left.clear();
        }
        let (alike, others): (Vec<Version>, Vec<Version>) =
            left.into_iter().partition(|it| it.put == leads.put);
        let index = self.at.index;
        let news = |slot: &mut Slot| {
            let other = slot.is_said_by(alike, index);
            slot.joins(theirs.context(), index) || other
        };
        if self.catalog.alter(key, news) {
            self.changed.insert(key.clone());
        }
        self.settle(key, &others);
        others.iter().for_each(|it| self.log(key, &history(it)));
    }

    /// What stands beside an entry.
    fn logged(&self, key: &Key) -> Vec<Version> {
        let all = self.beside.get(key).map_or(&[][..], Vec::as_slice).iter();
        let logged = all.filter_map(|dot| self.catalog.standing(&logged_as(key, dot)?));
        logged.map(|conflict| conflict.version).collect()
    }

    /// What the other flock had goes on from what is here.
    fn adopt(&mut self, key: &Key, news: &[Version]) {
        for version in news {
            let version = self.here(version);
            self.catalog.write(key, version);
        }
        self.changed.insert(key.clone());
    }

    /// What was decided elsewhere, as this flock's log has it.
    fn here(&self, version: &Version) -> Version {
        let Dot { stamp, term, index: revision } = self.at;
        Version { revision, stamp, term, from: Some(version.dot()), ..version.clone() }
    }

    /// Puts the last of `versions` into the conflict log, with those before it as its history.
    fn log(&mut self, key: &Key, versions: &[Version]) {
        let dot = versions.last().map(Version::dot);
        let Some((dot, logged)) = dot.and_then(|dot| Some((dot, logged_as(key, &dot)?))) else {
            return;
        };
        if self.stands_beside(key, &dot) {
            return;
        }
        for version in versions {
            let put = Some(Conflict::of(key.clone(), version).payload());
            let entry = Version { put, ..self.here(version) };
            self.catalog.write(&logged, entry);
        }
        self.beside.entry(key.clone()).or_default().push(dot);
        self.changed.insert(logged);
        self.is_touched(key);
    }

    /// Takes from the conflict log what stands beside the entry no more.
    fn settle(&mut self, key: &Key, others: &[Version]) {
        let Some(all) = self.beside.get(key).cloned() else { return };
        for dot in all {
            if others.iter().any(|it| it.dot().is(&dot)) {
                continue;
            }
            let Some(logged) = logged_as(key, &dot) else { continue };
            let Some(Conflict { version, .. }) = self.catalog.standing(&logged) else { continue };
            let gone = Version { from: None, put: None, ..self.here(&version) };
            self.catalog.write(&logged, gone);
            self.beside.entry(key.clone()).or_default().retain(|other| !other.is(&dot));
            self.changed.insert(logged);
            self.is_touched(key);
        }
    }

    /// Another version stands beside an entry than did.
    fn is_touched(&mut self, key: &Key) {
        if self.catalog.touch(key, self.at.index) {
            self.changed.insert(key.clone());
        }
    }
}

/// Those of `theirs` that come after the last that both have.
fn after_shared<'a>(ours: &[Version], theirs: &'a [Version]) -> &'a [Version] {
    let shared = |version: &Version| ours.iter().any(|other| other.dot().is(&version.dot()));
    let after = theirs.iter().rposition(shared).map_or(0, |at| at + 1);
    theirs.get(after..).unwrap_or_default()
}

/// Applies an entry of the conflict log: what the other side wanted happens now, and the entry is
/// done with. Nothing where there is no such entry.
#[must_use]
pub fn reapply(catalog: &Catalog, conflict: &Key, who: String, when: WallTime) -> Option<Command> {
    let (logged, payload) = catalog.live(conflict)?;
    let Conflict { key, version } = Conflict::read(payload)?;
    let revision = catalog.slot(&key).and_then(Slot::live).map(|(now, _)| now.revision);
    let expect = Expect::Revision(logged.revision);
    let mut writes = alloc::vec![Write { key: conflict.clone(), expect, put: None }];
    // What it wanted removed may be gone by now.
    if version.put.is_some() || revision.is_some() {
        let expect = revision.map_or(Expect::Absent, Expect::Revision);
        writes.push(Write { key, expect, put: version.put });
    }
    Some(Command { who, when, writes })
}

/// `writes` in as few commands as their bounds allow. Each happens whole or not at all; together
/// they need not.
#[must_use]
pub fn in_commands(who: &str, when: WallTime, writes: Vec<Write>) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let more = encode(&write).len();
        let fits = bytes + more <= MAX_COMMAND_BYTES - COMMAND_SLACK;
        match commands.last_mut() {
            Some(last) if fits && last.writes.len() < MAX_WRITES => last.writes.push(write),
            Some(_) | None => {
                bytes = 0;
                commands.push(Command::one(who.into(), when, write));
            }
        }
        bytes += more;
    }
    commands
}

/// The things of items, each in an item of its own.
#[cfg(test)]
pub(crate) fn one_by_one(items: &[Bytes]) -> Vec<Bytes> {
    let mut all = Items::default();
    for given in items.iter().flat_map(|item| read(item).unwrap_or_default()) {
        all.open.push(given);
        all.close();
    }
    all.finish()
}
