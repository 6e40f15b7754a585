//! The state that comes of commands in their order: the same wherever they are applied.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::Digest;
use skep_wire::{decode, encode};

use crate::command::{Command, Expect, Payload, Write};
use crate::context::Dot;
use crate::key::{Key, Kind};
use crate::merging::Conflict;
use crate::slot::{OVERHEAD, Slot, Stamp, Version};

/// Entries that a catalog holds. Every node holds all of them.
pub const MAX_ENTRIES: usize = 32_768;
/// Bytes of all entries with their versions. Every node holds them in memory.
pub const MAX_CATALOG_BYTES: usize = 16 << 20;
/// Removed entries that are remembered, with what they said: those removed last.
pub const MAX_REMOVED: usize = 1024;
/// Parts of the catalog that are compared by one digest each: a change of one entry among ten
/// thousand hashes forty digests, and finding it takes one message.
pub const BUCKETS: usize = 256;

/// What every encoded catalog begins with: a later layout is another number.
const LAYOUT: u8 = 2;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It happened.
    Applied {
        /// To which entries; none where all of them said so already.
        changed: Vec<Key>,
    },
    /// An entry is not as its author saw it. Nothing happened.
    Conflict {
        /// Which.
        key: Key,
        /// How it should have been.
        expected: Expect,
        /// Its revision; nothing where it is not there.
        found: Option<u64>,
    },
    /// It cannot happen. Nothing did.
    Refused(Refusal),
    /// It was applied before; or all that another flock hands over was here.
    Skipped,
}

/// What a command of the managers' log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A [`Command`], which happens or does not.
    Own,
    /// Entries of a flock that merged into this one, of its [`Catalog::hand_over`]. They may come
    /// more than once, and from several of its managers.
    Foreign,
}

/// Why a command cannot happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Bytes that are no command of a layout that is known here.
    #[error("not a catalog command that this build can read")]
    Malformed,
    /// What should be removed is not there.
    #[error("{key} is not in the catalog")]
    Absent {
        /// What.
        key: Key,
    },
    /// No room for more.
    #[error(
        "the catalog is full: {MAX_ENTRIES} entries and {} MiB with their last versions",
        MAX_CATALOG_BYTES >> 20
    )]
    Full,
    /// It would be written anew by a build that does not know all that it says.
    #[error(
        "{key} was written in schema {has} by a newer build, and in schema {writes} would lose \
         what is new there"
    )]
    Schema {
        /// What.
        key: Key,
        /// The schema of what it says.
        has: u16,
        /// That of what was to be written.
        writes: u16,
    },
}

/// What an entry said at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// It was not there.
    Nothing,
    /// This.
    Version(&'a Version),
    /// The versions of then were let go.
    Unknown,
}

/// An entry that says something else at one index than at another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Which.
    pub key: &'a Key,
    /// At the earlier index.
    pub before: Seen<'a>,
    /// At the later one.
    pub after: Seen<'a>,
}

/// Why bytes are no catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// They were written by a newer build.
    #[error("a catalog of layout {0}, newer than this build knows: update it")]
    Newer(u8),
    /// They are not what they claim to be.
    #[error("bytes that are no catalog, or break its bounds")]
    Malformed,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Catalog {
    buckets: Vec<Bucket>,
    /// Removed entries that are remembered, by the revision of their removal.
    removed: BTreeSet<(u64, Key)>,
    entries: usize,
    bytes: usize,
    index: u64,
    stamp: Stamp,
}

#[derive(Clone, Debug)]
struct Bucket {
    slots: BTreeMap<Key, (Slot, Digest)>,
    /// Over those of its entries.
    digest: Digest,
    /// What [`Catalog::check`] found since it was last changed: to hash and count all of a catalog
    /// after every event would cost more than the events.
    counts: OnceCount,
}

impl Bucket {
    fn hash(&mut self) {
        self.digest = self.hashed();
    }

    fn hashed(&self) -> Digest {
        let all: Vec<u8> = self.slots.values().flat_map(|(_, digest)| digest.0).collect();
        Digest::of(&all)
    }

    /// What must hold of the part at `place`; gives its bytes, entries and removed entries.
    fn check(&self, place: u8) -> [usize; 3] {
        assert_eq!(self.hashed(), self.digest, "bucket {place} was not hashed again");
        assert!(self.slots.keys().all(|key| bucket_of(key) == place), "in another's bucket");
        let bytes = self.slots.iter().map(|(key, (slot, _))| slot.bytes(key)).sum();
        let removed = self.slots.values().filter(|(slot, _)| slot.live().is_none()).count();
        [bytes, self.slots.len(), removed]
    }
}

/// Bytes, entries and removed entries of a part, where they were counted.
#[derive(Debug, Default)]
struct OnceCount {
    done: AtomicBool,
    counts: [AtomicUsize; 3],
}

impl OnceCount {
    /// What `count` gives, which is asked once.
    fn get(&self, count: impl FnOnce() -> [usize; 3]) -> [usize; 3] {
        // Nobody changes a part while it is counted, so that whoever counts it finds the same.
        if !self.done.load(Ordering::Acquire) {
            for (kept, found) in self.counts.iter().zip(count()) {
                kept.store(found, Ordering::Relaxed);
            }
            self.done.store(true, Ordering::Release);
        }
        self.counts.each_ref().map(|kept| kept.load(Ordering::Relaxed))
    }
}

impl Clone for OnceCount {
    /// A copy is counted anew.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What entries shall be, or were: nothing for one that is not there at all.
pub(crate) type Slots = Vec<(Key, Option<Slot>)>;

impl Default for Catalog {
    fn default() -> Self {
        let counts = OnceCount::default();
        let empty = Bucket { slots: BTreeMap::new(), digest: Digest::of(&[]), counts };
        Self {
            buckets: alloc::vec![empty; BUCKETS],
            removed: BTreeSet::new(),
            entries: 0,
            bytes: 0,
            index: 0,
            stamp: Stamp::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    index: u64,
    stamp: Stamp,
    slots: Vec<(Key, Slot)>,
}

impl Catalog {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the command at a place of the managers' log. Whoever applies the same commands in
    /// the same order has the same [`Catalog::root`].
    pub fn apply(&mut self, at: Dot, origin: Origin, command: &[u8]) -> Outcome {
        if at.index <= self.index {
            return Outcome::Skipped;
        }
        self.set_place(at.index, at.stamp);
        match origin {
            Origin::Foreign => self.absorb(at, command),
            Origin::Own => match Command::from_bytes(command) {
                Ok(command) => self.command(at, command),
                Err(_) => Outcome::Refused(Refusal::Malformed),
            },
        }
    }

    fn command(&mut self, at: Dot, command: Command) -> Outcome {
        if let Some(outcome) = self.judge(&command) {
            return outcome;
        }
        let Command { who, when, writes } = command;
        let Dot { stamp, term, index: revision } = at;
        let (mut changed, mut settled) = (BTreeSet::new(), BTreeSet::new());
        for Write { key, put, .. } in writes {
            if self.says(&key, put.as_ref()) {
                continue;
            }
            let stood = self.standing(&key);
            let who = who.clone();
            self.write(&key, Version { revision, stamp, term, who, when, from: None, put });
            match self.standing(&key) {
                // From a backup.
                Some(Conflict { key: of, .. }) if self.touch(&of, revision) => {
                    changed.insert(of);
                }
                Some(_) => {}
                None => settled.extend(stood.map(|conflict| conflict.key)),
            }
            changed.insert(key);
        }
        // Who settles a conflict wants what its entry says, and knows what others wanted of it.
        for key in settled {
            let newest = self.slot(&key).and_then(Slot::newest);
            let unsaid = newest.filter(|newest| newest.revision < revision);
            if let Some(put) = unsaid.map(|newest| newest.put.clone()) {
                let who = who.clone();
                self.write(&key, Version { revision, stamp, term, who, when, from: None, put });
                changed.insert(key);
            }
        }
        Outcome::Applied { changed: changed.into_iter().collect() }
    }

    /// Notes that the log went on without a command of this catalog.
    pub fn pass(&mut self, index: u64, stamp: Stamp) {
        if index > self.index {
            self.index = index;
            self.stamp = stamp;
        }
    }

    /// Why a command does not happen, if it does not.
    fn judge(&self, command: &Command) -> Option<Outcome> {
        for Write { key, expect, put } in &command.writes {
            let found = self.live(key).map(|(version, _)| version.revision);
            let holds = match expect {
                Expect::Anything => true,
                Expect::Absent => found.is_none(),
                Expect::Revision(revision) => found == Some(*revision),
            };
            if !holds {
                let (key, expected) = (key.clone(), *expect);
                return Some(Outcome::Conflict { key, expected, found });
            }
            if put.is_none() && found.is_none() {
                return Some(Outcome::Refused(Refusal::Absent { key: key.clone() }));
            }
            if let Some(outdated) = put.as_ref().and_then(|put| self.outdated(key, put)) {
                return Some(Outcome::Refused(outdated));
            }
        }
        (!self.has_room(command)).then_some(Outcome::Refused(Refusal::Full))
    }

    /// Why `put` may not be written over what an entry says: it is of an older schema, so its
    /// author does not know all that the entry says. Removing it is another thing.
    #[must_use]
    pub fn outdated(&self, key: &Key, put: &Payload) -> Option<Refusal> {
        let (_, said) = self.live(key)?;
        let (has, writes) = (said.schema, put.schema);
        (writes < has).then(|| Refusal::Schema { key: key.clone(), has, writes })
    }

    /// Whether there is room for what a command puts. What only removes needs none.
    fn has_room(&self, command: &Command) -> bool {
        let put = |Write { key, put, .. }: &Write| {
            let put = put.as_ref()?;
            let bytes = put.body.len() + command.who.len() + key.name().len() + OVERHEAD;
            Some((usize::from(self.slot(key).is_none()), bytes))
        };
        self.has_room_for(command.writes.iter().filter_map(put))
    }

    /// Whether there is room for what puts so many entries and bytes.
    pub(crate) fn has_room_for(&self, puts: impl Iterator<Item = (usize, usize)>) -> bool {
        let (mut entries, mut bytes, mut any) = (self.entries, self.bytes, false);
        for (more_entries, more_bytes) in puts {
            any = true;
            entries += more_entries;
            bytes += more_bytes;
        }
        !any || (entries <= MAX_ENTRIES && bytes <= MAX_CATALOG_BYTES)
    }

    /// Whether an entry says this already.
    fn says(&self, key: &Key, put: Option<&Payload>) -> bool {
        self.live(key).map(|(_, payload)| payload) == put
    }

    pub(crate) fn write(&mut self, key: &Key, version: Version) {
        let slot = match self.take(key) {
            Some(mut slot) => {
                slot.push(version);
                slot
            }
            None => Slot::new(version),
        };
        self.put_back(key, slot);
    }

    /// Changes an entry that is here; says whether `change` did.
    pub(crate) fn alter(&mut self, key: &Key, change: impl FnOnce(&mut Slot) -> bool) -> bool {
        let Some(mut slot) = self.take(key) else { return false };
        let changed = change(&mut slot);
        self.put_back(key, slot);
        changed
    }

    /// Notes that what stands beside an entry in the conflict log is another; says whether there
    /// is such an entry.
    pub(crate) fn touch(&mut self, key: &Key, index: u64) -> bool {
        self.alter(key, |slot| {
            slot.touch(index);
            true
        })
    }

    fn put_back(&mut self, key: &Key, slot: Slot) {
        self.place(key.clone(), slot);
        self.bucket_mut(key).hash();
        // What was removed long ago is let go of.
        while self.removed.len() > MAX_REMOVED {
            let Some((_, oldest)) = self.removed.first().cloned() else { return };
            self.take(&oldest);
            self.bucket_mut(&oldest).hash();
        }
    }

    fn take(&mut self, key: &Key) -> Option<Slot> {
        let (slot, _) = self.bucket_mut(key).slots.remove(key)?;
        self.entries -= 1;
        self.bytes -= slot.bytes(key);
        self.removed.remove(&(slot.revision(), key.clone()));
        Some(slot)
    }

    /// Puts an entry where none is.
    fn place(&mut self, key: Key, slot: Slot) {
        self.entries += 1;
        self.bytes += slot.bytes(&key);
        if slot.live().is_none() {
            self.removed.insert((slot.revision(), key.clone()));
        }
        let digest = slot.digest(&key);
        self.bucket_mut(&key).slots.insert(key, (slot, digest));
    }

    fn bucket_mut(&mut self, key: &Key) -> &mut Bucket {
        self.bucket_at(bucket_of(key))
    }

    /// The one way to change a part.
    fn bucket_at(&mut self, place: u8) -> &mut Bucket {
        let bucket = &mut self.buckets[usize::from(place)];
        bucket.counts = OnceCount::default();
        bucket
    }

    /// A digest of all that is in it. Equal roots are equal catalogs.
    #[must_use]
    pub fn root(&self) -> Digest {
        let parts: Vec<&[u8]> = self.buckets.iter().map(|bucket| &bucket.digest.0[..]).collect();
        Digest::of_parts(&parts)
    }

    /// The beginnings of the digests of its parts, to find where two differ.
    pub(crate) fn shorts(&self) -> Vec<u64> {
        self.buckets.iter().map(|bucket| bucket.digest.short()).collect()
    }

    /// The index of the last command that it has seen.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Under which mastership that was.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Entries, removed ones among them.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Whether nothing was ever in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes that count towards [`MAX_CATALOG_BYTES`].
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// One entry with its versions.
    #[must_use]
    pub fn slot(&self, key: &Key) -> Option<&Slot> {
        self.buckets[usize::from(bucket_of(key))].slots.get(key).map(|(slot, _)| slot)
    }

    /// What an entry says.
    #[must_use]
    pub fn live(&self, key: &Key) -> Option<(&Version, &Payload)> {
        self.slot(key)?.live()
    }

    /// All entries with their versions, by key; removed ones among them.
    #[must_use]
    pub fn slots(&self) -> Vec<(&Key, &Slot)> {
        let of = |bucket: u8| self.bucket_slots(bucket);
        let mut all: Vec<_> = (0..=u8::MAX).flat_map(of).collect();
        all.sort_by_key(|(key, _)| *key);
        all
    }

    /// All entries that are there, by key.
    #[must_use]
    pub fn entries(&self) -> Vec<(&Key, &Version, &Payload)> {
        let all = self.slots().into_iter();
        all.filter_map(|(key, slot)| slot.live().map(|(version, put)| (key, version, put)))
            .collect()
    }

    /// The version that was written last, of whatever entry.
    #[must_use]
    pub fn newest(&self) -> Option<&Version> {
        let slots = self.buckets.iter().flat_map(|bucket| bucket.slots.values());
        slots.filter_map(|(slot, _)| slot.newest()).max_by_key(|version| version.revision)
    }

    /// What an entry said after the command at `index`.
    #[must_use]
    pub fn at(&self, key: &Key, index: u64) -> Seen<'_> {
        let Some(slot) = self.slot(key) else { return Seen::Nothing };
        let then = slot.versions().iter().rev().find(|version| version.revision <= index);
        match then {
            Some(version) if version.put.is_none() => Seen::Nothing,
            Some(version) => Seen::Version(version),
            None if slot.is_cut() => Seen::Unknown,
            None => Seen::Nothing,
        }
    }

    /// What changed after `from` up to `to`, by key.
    #[must_use]
    pub fn diff(&self, from: u64, to: u64) -> Vec<Change<'_>> {
        let changed = |(key, slot): (_, &Slot)| {
            let between = |version: &Version| (from + 1..=to).contains(&version.revision);
            slot.versions().iter().any(between).then(|| Change {
                key,
                before: self.at(key, from),
                after: self.at(key, to),
            })
        };
        self.slots().into_iter().filter_map(changed).collect()
    }

    /// As bytes, for a disk or for a manager that lags.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let slots = self.slots().into_iter().map(|(key, slot)| (key.clone(), slot.clone()));
        let snapshot = Snapshot { index: self.index, stamp: self.stamp, slots: slots.collect() };
        let mut bytes = alloc::vec![LAYOUT];
        bytes.extend_from_slice(&encode(&snapshot));
        bytes.into()
    }

    /// From [`Catalog::to_bytes`].
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        // Bodies, names and authors are counted below; the rest of a version takes less than that.
        if bytes.len() > 2 * MAX_CATALOG_BYTES {
            return Err(SnapshotError::Malformed);
        }
        let (layout, rest) = bytes.split_first().ok_or(SnapshotError::Malformed)?;
        match *layout {
            LAYOUT => {}
            newer if newer > LAYOUT => return Err(SnapshotError::Newer(newer)),
            _ => return Err(SnapshotError::Malformed),
        }
        let snapshot: Snapshot = decode("catalog", rest).map_err(|_| SnapshotError::Malformed)?;
        let mut catalog = Self::new();
        catalog.set_place(snapshot.index, snapshot.stamp);
        let slots = snapshot.slots.into_iter().map(|(key, slot)| (key, Some(slot)));
        catalog.exchange(slots.collect())?;
        Ok(catalog)
    }

    /// Makes entries what they are elsewhere; gives what they were. Nothing happens where a bound
    /// is broken.
    pub(crate) fn exchange(&mut self, slots: Slots) -> Result<Slots, SnapshotError> {
        let (mut before, mut broken) = (Slots::new(), false);
        for (key, slot) in slots {
            let old = self.take(&key);
            let gone = slot.is_none();
            if let Some(slot) = slot {
                broken |= slot.check().is_err();
                self.place(key.clone(), slot);
            }
            if gone && old.is_none() {
                continue;
            }
            before.push((key, old));
            // A little more than `apply` lets in: what is replaced may come before what goes.
            let full = self.entries > MAX_ENTRIES + MAX_REMOVED;
            broken |= full || self.bytes > MAX_CATALOG_BYTES + (MAX_CATALOG_BYTES >> 3);
            if broken {
                break;
            }
        }
        if broken {
            before.into_iter().rev().for_each(|(key, old)| {
                self.take(&key);
                if let Some(old) = old {
                    self.place(key, old);
                }
            });
            return Err(SnapshotError::Malformed);
        }
        let touched: BTreeSet<u8> = before.iter().map(|(key, _)| bucket_of(key)).collect();
        for bucket in touched {
            self.bucket_at(bucket).hash();
        }
        Ok(before)
    }

    pub(crate) const fn set_place(&mut self, index: u64, stamp: Stamp) {
        self.index = index;
        self.stamp = stamp;
    }

    /// The entries of one kind, in no order.
    pub(crate) fn keys_of(&self, kind: Kind) -> Vec<Key> {
        // The first that a name can be.
        let Ok(first) = Key::new(kind, "0") else { return Vec::new() };
        let of = |bucket: &'_ Bucket| {
            let from = bucket.slots.range(&first..).map(|(key, _)| key.clone());
            from.take_while(|key| key.kind() == kind).collect::<Vec<Key>>()
        };
        self.buckets.iter().flat_map(of).collect()
    }

    /// Entries of a bucket, with their versions, by key.
    pub(crate) fn bucket_slots(&self, bucket: u8) -> impl Iterator<Item = (&Key, &Slot)> {
        let bucket = &self.buckets[usize::from(bucket)];
        bucket.slots.iter().map(|(key, (slot, _))| (key, slot))
    }

    /// Entries that are not the same in another catalog, those that only one of them has included.
    pub(crate) fn differing(&self, other: &Self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let pairs = self.buckets.iter().zip(&other.buckets);
        for (mine, theirs) in pairs.filter(|(mine, theirs)| mine.digest != theirs.digest) {
            let digest = |of: &Bucket, key: &Key| of.slots.get(key).map(|(_, digest)| *digest);
            let all = mine.slots.keys().chain(theirs.slots.keys());
            keys.extend(all.filter(|key| digest(mine, key) != digest(theirs, key)).cloned());
        }
        keys
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        let [mut bytes, mut entries, mut removed] = [0; 3];
        for (place, bucket) in (0..=u8::MAX).zip(&self.buckets) {
            let counted = bucket.counts.get(|| bucket.check(place));
            bytes += counted[0];
            entries += counted[1];
            removed += counted[2];
        }
        assert_eq!(bytes, self.bytes, "the bytes of the catalog were miscounted");
        assert_eq!(entries, self.entries, "the entries of the catalog were miscounted");
        assert_eq!(removed, self.removed.len(), "removed entries were miscounted");
    }
}

/// Which part of a catalog an entry is in. Part of the wire format.
pub(crate) fn bucket_of(key: &Key) -> u8 {
    Digest::of_parts(&[&key.kind().0.to_le_bytes(), key.name().as_bytes()]).0[0]
}
