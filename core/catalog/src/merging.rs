//! Two flocks that went apart become one: entry by entry, three ways.
//!
//! The log of the one that does not lead is handed to the other, command by command. What changed
//! only there happens here; what both changed stays as it is here, and the other's version goes to
//! the conflict log, one entry for each flock and entry. Whether a command happened where it was
//! decided is judged again: a write that had been refused there must not happen here.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::{Digest, WallTime};
use skep_wire::{decode, encode};

use crate::catalog::{Catalog, Foreign, Outcome, Refusal, Seen};
use crate::command::{Command, Expect, MAX_COMMAND_BYTES, MAX_WRITES, Payload, Write};
use crate::key::{Key, Kind};
use crate::schema::newest_schema;
use crate::slot::{Slot, Source, Stamp, Version};

/// Room that is left in a command for its author and the lengths in it.
const COMMAND_SLACK: usize = 1024;

/// Parts that another flock's catalog may come in: one of 32 MiB.
const MAX_PARTS: u32 = 1024;

/// What the side that does not lead wanted of an entry that both had changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Of which entry.
    pub key: Key,
    /// What it said there.
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

    fn payload(&self) -> Payload {
        Payload { schema: newest_schema(Kind::CONFLICT), body: encode(self).into() }
    }
}

/// Where the conflict log has what a flock wanted of an entry.
fn logged_as(lineage: u64, key: &Key) -> Option<Key> {
    let entry = Digest::of_parts(&[&key.kind().0.to_le_bytes(), key.name().as_bytes()]);
    Key::new(Kind::CONFLICT, &format!("{:08x}-{}", lineage >> 32, entry.abbreviated(12))).ok()
}

/// Parts of another flock's catalog that have come. They are in no root: nobody shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// Of which flock, and after which of its commands.
    of: (u64, u64),
    bytes: BTreeMap<u32, Bytes>,
}

/// One of them, as it comes.
pub(crate) struct Part<'a> {
    pub(crate) lineage: u64,
    pub(crate) up_to: u64,
    pub(crate) part: u32,
    pub(crate) parts: u32,
    pub(crate) bytes: &'a [u8],
}

impl Catalog {
    /// Takes a part of another flock's catalog; with the last one what only that flock changed
    /// happens, as far as its newest versions say.
    pub(crate) fn absorb_part(&mut self, at: (u64, Stamp), common: u64, part: Part<'_>) -> Outcome {
        let Part { lineage, up_to, part, parts, bytes } = part;
        if part >= parts || parts > MAX_PARTS || bytes.len() > MAX_COMMAND_BYTES {
            return Outcome::Refused(Refusal::Malformed);
        }
        if self.parts.of != (lineage, up_to) {
            self.parts = Parts { of: (lineage, up_to), bytes: BTreeMap::new() };
        }
        self.parts.bytes.insert(part, Bytes::copy_from_slice(bytes));
        if (self.parts.bytes.len() as u64) < u64::from(parts) {
            return Outcome::Skipped;
        }
        let whole: Vec<u8> =
            self.parts.bytes.values().flat_map(|bytes| bytes.iter()).copied().collect();
        self.parts = Parts::default();
        let Ok(theirs) = Self::from_bytes(&whole) else {
            return Outcome::Refused(Refusal::Malformed);
        };
        let mut all = Vec::new();
        for (key, slot) in theirs.slots() {
            let Some(newest) = slot.newest().filter(|newest| newest.revision > common) else {
                continue;
            };
            let (index, stamp) = (newest.revision, newest.stamp);
            let write =
                Write { key: key.clone(), expect: Expect::Anything, put: newest.put.clone() };
            let command = Command::one(newest.who.clone(), newest.when, write);
            match self.absorb(at, Foreign { lineage, stamp, index, common }, command) {
                Outcome::Applied { changed } => all.extend(changed),
                Outcome::Skipped => {}
                refused @ (Outcome::Refused(_) | Outcome::Conflict { .. }) => return refused,
            }
        }
        Outcome::Applied { changed: all }
    }

    /// Lets a command happen that another flock decided. The same one may come several times.
    pub(crate) fn absorb(
        &mut self,
        at: (u64, Stamp),
        foreign: Foreign,
        command: Command,
    ) -> Outcome {
        let known = |write: &Write| {
            let view = self.foreign_view(&write.key, &foreign);
            view.is_some_and(|view| view.index.is_some_and(|index| index >= foreign.index))
        };
        #[cfg(test)]
        let known = |write: &Write| !crate::plant::takes_twice() && known(write);
        if command.writes.iter().all(known) || !self.happened(&foreign, &command) {
            return Outcome::Skipped;
        }
        if !self.has_room(&command) {
            return Outcome::Refused(Refusal::Full);
        }
        let from = Some(Source { lineage: foreign.lineage, index: foreign.index });
        let mut changed = Vec::new();
        for Write { key, put, .. } in command.writes {
            // What both had before they parted is theirs as well as ours, and as old as it was.
            if self.inherits(&key, &foreign, put.as_ref()) {
                changed.push(key);
                continue;
            }
            // Who was told of what is no wish of anybody's: nobody need decide about it, and what
            // is said here stays. Which of their revisions it stands for is noted all the same, or
            // no later command that names it would have happened, whatever else it changes.
            if key.kind() == Kind::NOTICE && self.is_changed_here(&key, &foreign) {
                self.stand_for(at, &key, from);
                changed.push(key);
                continue;
            }
            // What an entry said already made no version there, and no revision that a later
            // write expects.
            let there = self.foreign_view(&key, &foreign);
            if there.is_some_and(|view| view.put == put) {
                continue;
            }
            let ours = Version {
                revision: at.0,
                stamp: at.1,
                who: command.who.clone(),
                when: command.when,
                from,
                put,
            };
            if let Some(logged) = self.contradicted(&key, &foreign, ours.put.as_ref()) {
                let version = Version { revision: foreign.index, stamp: foreign.stamp, ..ours };
                let conflict = Conflict { key, version };
                let Version { who, when, .. } = conflict.version.clone();
                let put = Some(conflict.payload());
                let entry = Version { revision: at.0, stamp: at.1, who, when, from, put };
                self.write(&logged, entry);
                changed.push(logged);
            } else {
                changed.extend(self.settled(&key, &ours));
                self.write(&key, ours);
                changed.push(key);
            }
        }
        Outcome::Applied { changed }
    }

    /// Lets a command happen that a third flock decided and another handed on; unless it is this
    /// flock's own, which the third had from a time when the two were one.
    pub(crate) fn absorb_passed(
        &mut self,
        at: (u64, Stamp),
        by: Foreign,
        (place, stamp): (u64, Stamp),
        command: Command,
    ) -> Outcome {
        let is_ours = |write: &Write| match self.at(&write.key, place) {
            Seen::Version(version) => {
                (version.revision, version.stamp) == (place, stamp) && version.put == write.put
            }
            Seen::Nothing | Seen::Unknown => false,
        };
        if command.writes.iter().any(is_ours) {
            return self.take_back(at, by, place, command);
        }
        self.absorb(at, by, command)
    }

    /// Takes back what was decided at a place of this flock's own log, as whoever took it over knew
    /// that. A manager that was lost may have held something else there, which never was decided.
    pub(crate) fn absorb_returned(
        &mut self,
        at: (u64, Stamp),
        by: Foreign,
        place: u64,
        command: Command,
    ) -> Outcome {
        let is_ours = |write: &Write| match self.at(&write.key, place) {
            Seen::Version(version) => version.put == write.put,
            Seen::Nothing => write.put.is_none(),
            // What was let go of was decided long ago.
            Seen::Unknown => true,
        };
        if place == 0 || command.writes.iter().all(is_ours) {
            return self.take_back(at, by, place, command);
        }
        self.absorb(at, by, command)
    }

    /// Takes back a command of this flock's own that another took over. It happened here, and
    /// happens no second time, least of all after what the other changed itself. Where the other
    /// changed nothing of an entry, it went on from what the command says, under a revision of its
    /// own.
    fn take_back(
        &mut self,
        at: (u64, Stamp),
        by: Foreign,
        place: u64,
        command: Command,
    ) -> Outcome {
        let mut changed = Vec::new();
        for Write { key, .. } in command.writes {
            let Some(slot) = self.slot(&key) else { continue };
            let ours = slot.versions().iter().find(|version| version.revision == place);
            let Some(ours) =
                ours.filter(|ours| ours.from.is_none_or(|from| from.lineage != by.lineage))
            else {
                continue;
            };
            let logged = logged_as(by.lineage, &key).and_then(|key| self.slot(&key));
            let wanted = logged.is_some_and(|slot| slot.newest_from(by.lineage).is_some());
            // Of the versions that the other has as well, those before are this flock's.
            let newest = slot.newest_from(by.lineage).map(|(_, version)| version.revision);
            let changed_there = wanted || newest.is_some_and(|newest| newest > ours.revision);
            let from = Source { lineage: by.lineage, index: by.index };
            if key.kind() == Kind::NOTICE && changed_there {
                self.stand_for(at, &key, Some(from));
            } else if !changed_there {
                self.came_too(&key, place, from);
            } else {
                continue;
            }
            changed.push(key);
        }
        if changed.is_empty() { Outcome::Skipped } else { Outcome::Applied { changed } }
    }

    /// Has what an entry says stand for a version of the other flock's.
    fn stand_for(&mut self, at: (u64, Stamp), key: &Key, from: Option<Source>) {
        let Some(newest) = self.slot(key).and_then(Slot::newest) else { return };
        let ours = Version { revision: at.0, stamp: at.1, from, ..newest.clone() };
        self.write(key, ours);
    }

    /// Notes of a version that is here already, decided under the same mastership at the same
    /// index, that the other flock had it too. One that was founded from a copy of the catalog
    /// cannot say where the two parted.
    fn inherits(&mut self, key: &Key, foreign: &Foreign, put: Option<&Payload>) -> bool {
        let same = |version: &Version| {
            let place = (version.revision, version.stamp.fork);
            let theirs = (foreign.index, foreign.stamp.fork);
            place == theirs && version.from.is_none() && version.put.as_ref() == put
        };
        let there = self.slot(key).is_some_and(|slot| slot.versions().iter().any(same));
        if there {
            let from = Source { lineage: foreign.lineage, index: foreign.index };
            self.came_too(key, foreign.index, from);
        }
        there
    }

    /// What the other flock had wanted of an entry before it came to want what is there is logged
    /// no longer.
    fn settled(&mut self, key: &Key, ours: &Version) -> Option<Key> {
        let logged = logged_as(ours.from?.lineage, key)?;
        self.live(&logged)?;
        self.write(&logged, Version { put: None, ..ours.clone() });
        Some(logged)
    }

    /// Whether all that a command expects was so where it was decided.
    fn happened(&self, foreign: &Foreign, command: &Command) -> bool {
        command.writes.iter().all(|Write { key, expect, put }| {
            // What was let go of is given the benefit of the doubt: nothing may vanish.
            let Some(view) = self.foreign_view(key, foreign) else { return true };
            let holds = match expect {
                Expect::Anything => true,
                Expect::Absent => view.revision.is_none(),
                Expect::Revision(revision) => view.revision == Some(*revision),
            };
            holds && (put.is_some() || view.revision.is_some())
        })
    }

    /// Whether a command of the other flock's log was refused there because it would have written
    /// an entry anew in an older schema.
    pub(crate) fn was_outdated(&self, foreign: &Foreign, command: &Command) -> bool {
        // For incidents this flock's note stands for the other's, whatever that was written in.
        let mut writes = command.writes.iter().filter(|write| write.key.kind() != Kind::NOTICE);
        writes.any(|write| {
            let had = self.foreign_view(&write.key, foreign).and_then(|view| view.put);
            had.zip(write.put.as_ref()).is_some_and(|(had, put)| put.schema < had.schema)
        })
    }

    /// What the other flock had of an entry, as far as its commands have come; nothing where that
    /// is not known any more.
    fn foreign_view(&self, key: &Key, foreign: &Foreign) -> Option<View> {
        let here = self.slot(key).and_then(|slot| {
            slot.newest_from_where(foreign.lineage, |from, version| {
                !strayed(from, version, foreign)
            })
        });
        let here = here.map(|(from, version)| (from.index, version.put.clone()));
        let logged = logged_as(foreign.lineage, key);
        let logged = logged.and_then(|key| self.slot(&key)?.newest_from(foreign.lineage));
        let logged = logged.and_then(|(from, version)| {
            let conflict = Conflict::read(version.put.as_ref()?)?;
            Some((from.index, conflict.version.put))
        });
        let newest = here.into_iter().chain(logged).max_by_key(|(index, _)| *index);
        if let Some((index, put)) = newest {
            let revision = put.is_some().then_some(index);
            return Some(View { index: Some(index), revision, put });
        }
        let (revision, put) = match self.at(key, foreign.common) {
            Seen::Nothing => (None, None),
            Seen::Version(version) => (Some(version.revision), version.put.clone()),
            Seen::Unknown => return None,
        };
        Some(View { index: None, revision, put })
    }

    /// Where what another flock wanted of an entry is logged, if this one changed it as well, and
    /// to something else.
    fn contradicted(&self, key: &Key, foreign: &Foreign, put: Option<&Payload>) -> Option<Key> {
        let same = self.slot(key)?.live().map(|(_, payload)| payload) == put;
        let contradicts = self.is_changed_here(key, foreign) && !same;
        contradicts.then(|| logged_as(foreign.lineage, key)).flatten()
    }

    /// Whether this flock changed an entry since the fork, or may have.
    fn is_changed_here(&self, key: &Key, foreign: &Foreign) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        let foreign_too = |version: &Version| {
            let from = version.from.filter(|from| from.lineage == foreign.lineage);
            from.is_some_and(|from| !strayed(from, version, foreign))
        };
        let after = |version: &Version| version.revision > foreign.common;
        let versions = slot.versions();
        let unknown = slot.is_cut() && versions.iter().all(after);
        unknown || versions.iter().any(|version| after(version) && !foreign_too(version))
    }
}

/// Whether a version that both had is none of what the other flock decided: a manager that was lost
/// held it at that place or behind, and a later master decided this.
const fn strayed(from: Source, version: &Version, foreign: &Foreign) -> bool {
    let as_it_was = version.revision == from.index && version.stamp.fork == foreign.stamp.fork;
    as_it_was && version.stamp.epoch < foreign.stamp.epoch && from.index >= foreign.index
}

/// What another flock had of an entry.
struct View {
    /// Where in its log that was decided, if after the fork.
    index: Option<u64>,
    /// The revision there; nothing where it was not there.
    revision: Option<u64>,
    /// What it said there.
    put: Option<Payload>,
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
