//! Which updates the log holds, by position and by identity. Bodies stay in the log.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use skep_base::{Incarnation, NodeId};

use crate::event::ReadItem;
use crate::id::{Position, Serial, UpdateId};
use crate::life::{GroupIx, Life, LifeKey, Place};

/// Lives of origins remembered over all groups: 10,000 nodes in six groups fit. Each takes about
/// 150 bytes.
pub(crate) const MAX_LIVES: usize = 65_536;
/// Origins whose highest purged update is remembered, over all groups.
pub(crate) const MAX_PURGED: usize = 65_536;

/// Marks a group whose updates from disk are of unknown age: they are offered to nobody until a
/// peer offers them.
const UNSURE: u32 = 1 << 31;
const DEAD: u32 = u32::MAX;
/// The life of a place that holds a note for subscribers and no update.
const NOTE: u32 = u32::MAX - 1;
/// What a record takes on disk beside its body: its header and its head, in a round number.
pub(crate) const RECORD_OVERHEAD_BYTES: u64 = 96;

/// What is kept for each position.
#[derive(Clone, Copy, Debug)]
struct Slot {
    life: u32,
    /// Whether its body is announced and pulled.
    large: bool,
    bytes: u64,
    /// When it was published, in milliseconds of the machine's clock; may be before its zero.
    born: i64,
    sequence: u64,
}

impl Slot {
    /// What it takes on disk, if it holds an update or held one.
    const fn occupies(&self) -> u64 {
        // Sequences begin at 1: without one it is a note, or a hole in what a disk gave back.
        if self.sequence == 0 { 0 } else { self.bytes + RECORD_OVERHEAD_BYTES }
    }
}

/// One entry as others see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) key: LifeKey,
    pub(crate) sequence: u64,
    pub(crate) position: u64,
    pub(crate) bytes: u64,
    pub(crate) large: bool,
    pub(crate) born: i64,
}

impl Entry {
    pub(crate) const fn id(&self) -> UpdateId {
        UpdateId {
            origin: self.key.origin,
            serial: Serial { incarnation: self.key.incarnation, sequence: self.sequence },
        }
    }

    /// A read of all of it.
    pub(crate) fn item(&self) -> ReadItem {
        let length = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        ReadItem { position: Position(self.position), length }
    }

    /// A read of its head.
    pub(crate) const fn head_item(&self) -> ReadItem {
        ReadItem { position: Position(self.position), length: 0 }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<LifeKey, u32>,
    lives: Vec<Option<Life>>,
    free: Vec<u32>,
    slots: VecDeque<Slot>,
    base: u64,
    live: usize,
    /// What live entries take on disk.
    bytes: u64,
    /// What dead entries take that stand behind a live one.
    holes: u64,
    purged: BTreeMap<(GroupIx, NodeId), Serial>,
    /// What was purged since it was last taken, the highest of each.
    newly_purged: BTreeMap<(GroupIx, NodeId), Serial>,
    /// Whether any group has updates of unknown age.
    unsure: bool,
}

/// All lives are taken.
#[derive(Debug)]
pub(crate) struct TooManyLives;

impl Index {
    /// The position that the next entry gets.
    pub(crate) fn next(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// The first position that may still hold something.
    pub(crate) const fn first(&self) -> u64 {
        self.base
    }

    pub(crate) const fn live(&self) -> usize {
        self.live
    }

    /// What the live entries take on disk.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same with what is dropped and not free yet.
    pub(crate) const fn occupied(&self) -> u64 {
        self.bytes + self.holes
    }

    /// Starts an empty index at a position.
    pub(crate) fn start_at(&mut self, position: u64) {
        debug_assert!(self.slots.is_empty(), "only an empty index can be moved");
        self.base = position;
    }

    pub(crate) fn life(&self, key: LifeKey) -> Option<&Life> {
        let at = *self.keys.get(&key)?;
        self.lives.get(at as usize)?.as_ref()
    }

    /// The lives of the origins of a group from `from` on, ascending by origin and incarnation.
    pub(crate) fn lives_from(&self, group: GroupIx, from: NodeId) -> impl Iterator<Item = &Life> {
        let start = LifeKey { group, origin: from, incarnation: Incarnation(0) };
        self.keys
            .range(start..)
            .take_while(move |(key, _)| key.group == group)
            .filter_map(|(_, at)| self.lives.get(*at as usize)?.as_ref())
    }

    pub(crate) fn purged(&self, group: GroupIx, origin: NodeId) -> Option<Serial> {
        self.purged.get(&(group, origin)).copied()
    }

    pub(crate) fn purged_from(
        &self,
        group: GroupIx,
        from: NodeId,
    ) -> impl Iterator<Item = (NodeId, Serial)> + '_ {
        self.purged
            .range((group, from)..)
            .take_while(move |((at, _), _)| *at == group)
            .map(|((_, origin), serial)| (*origin, *serial))
    }

    /// Whether anything was ever seen of an origin.
    pub(crate) fn knows_origin(&self, group: GroupIx, origin: NodeId) -> bool {
        self.purged.contains_key(&(group, origin))
            || self.lives_from(group, origin).next().is_some_and(|life| life.key.origin == origin)
    }

    /// The last update of an origin that is there or was.
    pub(crate) fn highest(&self, group: GroupIx, origin: NodeId) -> Option<Serial> {
        let key = |incarnation| LifeKey { group, origin, incarnation };
        let range = key(Incarnation(0))..=key(Incarnation(u64::MAX));
        let last = self.keys.range(range).next_back();
        last.and_then(|(key, _)| self.life(*key))
            .map(|life| Serial { incarnation: life.key.incarnation, sequence: life.head })
            .max(self.purged(group, origin))
    }

    pub(crate) fn place(&self, group: GroupIx, id: UpdateId) -> Place {
        match self.life(LifeKey::of(group, id)) {
            Some(life) => life.place(id.serial.sequence),
            None if self.purged(group, id.origin) >= Some(id.serial) => Place::Known,
            None => Place::New,
        }
    }

    /// Whether nothing needs to wait for this update: it is there, was, or was given up.
    pub(crate) fn settled(&self, group: GroupIx, origin: NodeId, serial: Serial) -> bool {
        let id = UpdateId { origin, serial };
        let key = LifeKey::of(group, id);
        self.life(key).is_some_and(|life| life.head >= serial.sequence)
            || self.purged(group, origin) >= Some(serial)
            || (self.unsure && self.unsure_position(group, id).is_some())
    }

    /// The life of that name, made when it is not there yet. When there are too many, those that
    /// hold nothing are forgotten first, the longest untouched before all.
    pub(crate) fn life_mut(
        &mut self,
        key: LifeKey,
        now: i64,
    ) -> Result<(u32, &mut Life), TooManyLives> {
        let at = match self.keys.get(&key) {
            Some(at) => *at,
            None => {
                if self.keys.len() >= MAX_LIVES && !self.forget_idle_life() {
                    return Err(TooManyLives);
                }
                self.insert_life(key, now)
            }
        };
        let life = self.lives.get_mut(at as usize).and_then(Option::as_mut);
        life.map(|life| (at, life)).ok_or(TooManyLives)
    }

    fn insert_life(&mut self, key: LifeKey, now: i64) -> u32 {
        let life = Some(Life::new(key, now));
        let at = if let Some(at) = self.free.pop() {
            self.lives[at as usize] = life;
            at
        } else {
            self.lives.push(life);
            u32::try_from(self.lives.len() - 1).unwrap_or(DEAD)
        };
        self.keys.insert(key, at);
        at
    }

    fn forget_idle_life(&mut self) -> bool {
        let idle = self.lives.iter().flatten().filter(|life| life.is_empty());
        let Some(key) = idle.min_by_key(|life| life.touched).map(|life| life.key) else {
            return false;
        };
        self.forget_life(key);
        true
    }

    fn forget_life(&mut self, key: LifeKey) {
        let Some(at) = self.keys.remove(&key) else {
            return;
        };
        let life = self.lives.get_mut(at as usize).and_then(Option::take);
        self.free.push(at);
        if let Some(life) = life
            && life.head > 0
            && key.group.0 & UNSURE == 0
        {
            let serial = Serial { incarnation: key.incarnation, sequence: life.head };
            self.note_purged(key.group, key.origin, serial);
        }
    }

    /// What was purged since the last call, the highest of each origin in each group.
    pub(crate) fn take_newly_purged(&mut self) -> BTreeMap<(GroupIx, NodeId), Serial> {
        core::mem::take(&mut self.newly_purged)
    }

    pub(crate) fn note_purged(&mut self, group: GroupIx, origin: NodeId, serial: Serial) {
        if self.purged.len() >= MAX_PURGED && !self.purged.contains_key(&(group, origin)) {
            self.purged.pop_first();
        }
        let entry = self.purged.entry((group, origin)).or_insert(serial);
        *entry = serial.max(*entry);
    }

    /// Puts an entry at the next position. The caller has made sure that it is not there yet.
    pub(crate) fn append(
        &mut self,
        key: LifeKey,
        sequence: u64,
        predecessor: Option<Serial>,
        (bytes, large): (u64, bool),
        (born, now): (i64, i64),
    ) -> Result<u64, TooManyLives> {
        let position = self.next();
        let (at, life) = self.life_mut(key, now)?;
        let predecessor =
            predecessor.filter(|it| it.incarnation == key.incarnation).map(|it| it.sequence);
        life.add(sequence, predecessor, position);
        life.touched = now;
        self.slots.push_back(Slot { life: at, large, bytes, born, sequence });
        self.live += 1;
        self.bytes += bytes + RECORD_OVERHEAD_BYTES;
        Ok(position)
    }

    /// Whether a later update of the origin is there already.
    pub(crate) fn is_late(&self, key: LifeKey, sequence: u64) -> bool {
        let life = self.life(key);
        life.is_some_and(|life| sequence <= life.head)
            || self
                .highest(key.group, key.origin)
                .is_some_and(|highest| highest.incarnation > key.incarnation)
    }

    /// Fills a position of which nothing is known.
    pub(crate) fn append_dead(&mut self) {
        self.slots.push_back(Slot { life: DEAD, large: false, bytes: 0, born: 0, sequence: 0 });
    }

    /// Keeps the next position for a note; says which it is.
    pub(crate) fn append_note(&mut self, born: i64) -> u64 {
        let position = self.next();
        self.slots.push_back(Slot { life: NOTE, large: false, bytes: 0, born, sequence: 0 });
        position
    }

    /// The note at a position is of no use any more.
    pub(crate) fn clear_note(&mut self, position: Position) {
        let at = position.0.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let slot = at.and_then(|at| self.slots.get_mut(at));
        if let Some(slot) = slot.filter(|slot| slot.life == NOTE) {
            slot.life = DEAD;
        }
        self.drop_dead_front();
    }

    pub(crate) fn entry(&self, position: u64) -> Option<Entry> {
        let at = usize::try_from(position.checked_sub(self.base)?).ok()?;
        let slot = self.slots.get(at).filter(|slot| slot.life < NOTE)?;
        let life = self.lives.get(slot.life as usize)?.as_ref()?;
        Some(Entry {
            key: life.key,
            sequence: slot.sequence,
            position,
            bytes: slot.bytes,
            large: slot.large,
            born: slot.born,
        })
    }

    /// Every entry, oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (self.base..self.next()).filter_map(|position| self.entry(position))
    }

    pub(crate) fn find(&self, group: GroupIx, id: UpdateId) -> Option<Entry> {
        let life = self.life(LifeKey::of(group, id))?;
        self.entry(life.position(id.serial.sequence)?)
    }

    /// Removes the entry at a position; its place stays until those before it are gone.
    fn clear(&mut self, position: u64) -> Option<Slot> {
        let at = usize::try_from(position.checked_sub(self.base)?).ok()?;
        let slot = self.slots.get_mut(at).filter(|slot| slot.life < NOTE)?;
        let was = *slot;
        slot.life = DEAD;
        let bytes = was.occupies();
        self.live -= 1;
        self.bytes -= bytes;
        self.holes += bytes;
        Some(was)
    }

    fn drop_dead_front(&mut self) {
        while let Some(slot) = self.slots.front().copied().filter(|slot| slot.life == DEAD) {
            self.slots.pop_front();
            self.base += 1;
            self.holes -= slot.occupies();
        }
    }

    /// Drops what was born before `horizon`, and what is remembered of lives in which nothing
    /// happened since `forget`. Says how many entries went.
    pub(crate) fn purge(&mut self, horizon: i64, forget: i64) -> u64 {
        let mut gone = 0;
        for position in self.base..self.next() {
            let Some(entry) = self.entry(position).filter(|entry| entry.born < horizon) else {
                continue;
            };
            self.clear(position);
            gone += 1;
            if entry.key.group.0 & UNSURE == 0 {
                let (group, origin) = (entry.key.group, entry.key.origin);
                let serial =
                    Serial { incarnation: entry.key.incarnation, sequence: entry.sequence };
                let newly = self.newly_purged.entry((group, origin)).or_insert(serial);
                *newly = serial.max(*newly);
            }
            if let Ok((_, life)) = self.life_mut(entry.key, 0) {
                let first = life.entries_after(0).next();
                let oldest = first.is_some_and(|first| first.0 == entry.sequence);
                life.remove(entry.sequence);
                if oldest {
                    life.raise_aged(entry.sequence);
                }
            }
        }
        self.drop_dead_front();
        let idle = self.lives.iter().flatten();
        let idle = idle.filter(|life| life.is_empty() && life.touched < forget);
        let idle: Vec<_> = idle.map(|life| life.key).collect();
        for key in idle {
            self.forget_life(key);
        }
        gone
    }

    /// Drops an entry for lack of room.
    pub(crate) fn drop_entry(&mut self, entry: Entry) {
        self.clear(entry.position);
        if let Ok((_, life)) = self.life_mut(entry.key, 0) {
            let first = life.entries_after(0).next();
            life.remove(entry.sequence);
            if first.is_some_and(|first| first.0 == entry.sequence) {
                life.raise_floor(entry.sequence);
            }
        }
        self.drop_dead_front();
    }

    /// Takes back everything from a position on: the log could not keep it, so it is missing.
    pub(crate) fn truncate(&mut self, from: u64) -> u64 {
        let mut lost = 0;
        while self.next() > from.max(self.base) {
            let position = self.next() - 1;
            if let Some(entry) = self.entry(position) {
                self.clear(position);
                lost += 1;
                if let Ok((_, life)) = self.life_mut(entry.key, 0) {
                    life.lose(entry.sequence);
                }
            }
            if let Some(slot) = self.slots.pop_back().filter(|slot| slot.life == DEAD) {
                self.holes -= slot.occupies();
            }
        }
        lost
    }

    /// Forgets everything of the groups or origins that `of` names.
    pub(crate) fn forget(&mut self, of: impl Fn(GroupIx, NodeId) -> bool) {
        let keys = self.keys.keys().map(|key| (*key, key.group.sure()));
        let gone: Vec<_> =
            keys.filter(|(key, group)| of(*group, key.origin)).map(|(key, _)| key).collect();
        for key in gone {
            let positions: Vec<u64> = self
                .life(key)
                .map_or_else(Vec::new, |life| life.entries_after(0).map(|entry| entry.1).collect());
            for position in positions {
                self.clear(position);
            }
            self.forget_life(key);
        }
        self.purged.retain(|(group, origin), _| !of(*group, *origin));
        self.newly_purged.retain(|(group, origin), _| !of(*group, *origin));
        self.drop_dead_front();
    }

    /// Puts an entry of unknown age aside, at the next position.
    pub(crate) fn append_unsure(
        &mut self,
        mut key: LifeKey,
        sequence: u64,
        size: (u64, bool),
        now: i64,
    ) -> Result<u64, TooManyLives> {
        self.unsure = true;
        key.group.0 |= UNSURE;
        self.append(key, sequence, None, size, (now, now))
    }

    fn unsure_position(&self, group: GroupIx, id: UpdateId) -> Option<u64> {
        let mut key = LifeKey::of(group, id);
        key.group.0 |= UNSURE;
        self.life(key)?.position(id.serial.sequence)
    }

    /// A peer offers an update that was put aside: it counts from now on, with the peer's age. Says
    /// whether there was one.
    pub(crate) fn make_sure(
        &mut self,
        group: GroupIx,
        id: UpdateId,
        predecessor: Option<Serial>,
        (born, now): (i64, i64),
    ) -> bool {
        if !self.unsure {
            return false;
        }
        let Some(position) = self.unsure_position(group, id) else {
            return false;
        };
        let key = LifeKey::of(group, id);
        let sequence = id.serial.sequence;
        let mut aside = key;
        aside.group.0 |= UNSURE;
        let Ok((at, life)) = self.life_mut(key, now) else {
            return false;
        };
        let predecessor =
            predecessor.filter(|it| it.incarnation == key.incarnation).map(|it| it.sequence);
        life.add(sequence, predecessor, position);
        life.touched = now;
        if let Ok((_, life)) = self.life_mut(aside, now) {
            life.remove(sequence);
        }
        let slot = usize::try_from(position - self.base).ok();
        if let Some(slot) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            slot.life = at;
            slot.born = born;
        }
        true
    }

    pub(crate) fn check(&self) {
        let indexed: usize = self.lives.iter().flatten().map(Life::len).sum();
        let live = self.slots.iter().filter(|slot| slot.life < NOTE);
        let bytes: u64 = live.clone().map(Slot::occupies).sum();
        let dead = self.slots.iter().filter(|slot| slot.life == DEAD);
        assert_eq!(self.holes, dead.map(Slot::occupies).sum::<u64>(), "holes are counted");
        assert_eq!(live.count(), self.live, "live entries are counted");
        assert_eq!(indexed, self.live, "each entry is in exactly one life");
        assert_eq!(bytes, self.bytes, "bytes are counted");
        assert!(self.keys.len() <= MAX_LIVES, "lives are bounded");
        assert!(self.purged.len() <= MAX_PURGED, "purged marks are bounded");
        for life in self.lives.iter().flatten() {
            life.check();
            for (sequence, position) in life.entries_after(0) {
                let entry = self.entry(position);
                assert!(
                    entry.is_some_and(|it| it.sequence == sequence && it.key == life.key),
                    "both directions agree"
                );
            }
        }
    }
}

impl LifeKey {
    pub(crate) const fn of(group: GroupIx, id: UpdateId) -> Self {
        Self { group, origin: id.origin, incarnation: id.serial.incarnation }
    }
}

impl GroupIx {
    /// The group itself, whether its updates are of known age or not.
    pub(crate) const fn sure(self) -> Self {
        Self(self.0 & !UNSURE)
    }
}
