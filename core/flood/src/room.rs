//! Room in the log, and what goes when there is none (FLOOD-32, FLOOD-33).
//!
//! One copy of each update is stored, whoever waits for it. When the log is full, what waits only
//! for members that are away goes first, then the oldest that a linked neighbour waits for, then
//! the oldest that a subscriber here has not had. Whoever loses something by that is told: a
//! neighbour that asks by a floor in the answer, a subscriber here by a gap in its log.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use skep_base::Time;

use crate::event::GapReason;
use crate::id::{Position, Serial};
use crate::index::Entry;
use crate::life::{GroupIx, LifeKey};
use crate::machine::Flood;

/// Why an entry may go, in the order in which entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// Only for members that are away.
    Absent,
    /// For a neighbour that is being repaired.
    Neighbour,
    /// For a subscriber here.
    Subscriber,
}

/// Which part of the room is made free at once where unread updates have to go.
const AMPLE: u64 = 32;

/// What was dropped that a subscriber had not had: of each life the first and the last.
pub(crate) type Unread = BTreeMap<LifeKey, (u64, u64)>;

impl Flood {
    /// Drops entries until what is kept is within its bounds.
    pub(crate) fn make_room(&mut self) {
        let mut ample = false;
        while self.is_over(ample) {
            // Places in the middle of the log are free on disk only when those before them are.
            let crowded = self.index.bytes() <= self.config.storage_max.0
                && self.index.live() <= self.config.index_max;
            let victim = if crowded { self.oldest() } else { self.victim() };
            let Some((entry, waits)) = victim else {
                return;
            };
            match waits {
                Waits::Absent => self.stats.dropped_for_absent += 1,
                Waits::Neighbour => self.stats.dropped_unsent += 1,
                Waits::Subscriber => {
                    // A note for each that is dropped would fill the log with notes.
                    ample = true;
                    self.stats.dropped_unread += 1;
                    let sequence = entry.sequence;
                    let range = self.unread.entry(entry.key).or_insert((sequence, sequence));
                    *range = (range.0.min(sequence), range.1.max(sequence));
                }
            }
            self.index.drop_entry(entry);
        }
    }

    /// Whether something has to go; with `ample`, until a part of the room is free.
    fn is_over(&self, ample: bool) -> bool {
        let free = if ample { AMPLE } else { u64::MAX };
        // What is being pulled stands beside the log, and soon in it.
        let max =
            self.config.storage_max.0 - self.coming_bytes().min(self.config.storage_max.0 / 4);
        let max = max - max / free;
        let most = self.config.index_max as u64;
        self.index.live() as u64 > most - most / free
            || self.index.bytes() > max
            || self.index.occupied() > max.saturating_add(max / 4)
    }

    /// The next entry to go.
    fn victim(&mut self) -> Option<(Entry, Waits)> {
        let committed = self.committed();
        let end = |committed: &Committed| {
            let all = self.groups.values().map(|group| committed.get(&group.ix));
            all.map(|at| at.copied().unwrap_or(u64::MAX)).max().unwrap_or(0)
        };
        let end = end(&committed).min(self.index.next());
        let first = self.index.first();
        let mut sending = None;
        // What was looked at the last time waits for somebody: begin there, then at the front.
        for (from, to) in [(self.room_from.max(first), end), (first, self.room_from.min(end))] {
            for position in from..to {
                let Some(entry) = self.index.entry(position) else {
                    continue;
                };
                if position >= committed_in(&committed, entry.key.group) {
                    continue;
                }
                if self.is_awaited(&entry) {
                    let older = sending.filter(|before: &Entry| before.position < position);
                    sending = older.or(Some(entry));
                    continue;
                }
                self.room_from = position;
                return Some((entry, Waits::Absent));
            }
        }
        self.room_from = first;
        sending.map(|entry| (entry, Waits::Neighbour)).or_else(|| self.oldest())
    }

    /// The oldest entry, whoever waits for it.
    fn oldest(&self) -> Option<(Entry, Waits)> {
        let entry = self.index.entries().next()?;
        let read = entry.position < committed_in(&self.committed(), entry.key.group);
        let waits = match (read, self.is_awaited(&entry)) {
            (false, _) => Waits::Subscriber,
            (true, true) => Waits::Neighbour,
            (true, false) => Waits::Absent,
        };
        Some((entry, waits))
    }

    /// Of each group that somebody reads, up to where everybody has read.
    fn committed(&self) -> Committed {
        let mut committed = Committed::new();
        for cursor in self.cursors.values() {
            if let Some(group) = self.groups.get(cursor.group()) {
                let at = committed.entry(group.ix).or_insert(u64::MAX);
                *at = (*at).min(cursor.committed.0);
            }
        }
        committed
    }

    /// Whether a neighbour that is linked now is known to wait for this entry.
    fn is_awaited(&self, entry: &Entry) -> bool {
        self.serving.values().any(|serving| serving.awaits(entry.key, entry.sequence))
    }

    /// Notes in the log what subscribers will not get.
    pub(crate) fn note_unread(&mut self, now: Time) {
        for (key, (first, last)) in core::mem::take(&mut self.unread) {
            let serial = |sequence| Serial { incarnation: key.incarnation, sequence };
            let after = first.checked_sub(1).filter(|after| *after > 0).map(serial);
            let (group, origin) = (key.group.sure(), key.origin);
            self.report_gap(now, group, origin, after, serial(last), GapReason::NoRoom);
        }
    }

    /// Lets go of notes that every subscriber of their group has had, and of old ones.
    pub(crate) fn release_notes(&mut self, horizon: i64) {
        let committed = self.committed();
        let done = self.notes.iter().filter(|(position, note)| {
            let read = committed.get(&note.group).is_some_and(|at| **position < *at);
            read || note.born < horizon
        });
        let done: Vec<u64> = done.map(|(position, _)| *position).collect();
        for position in done {
            self.notes.remove(&position);
            self.index.clear_note(Position(position));
        }
    }
}

type Committed = BTreeMap<GroupIx, u64>;

/// Everybody has read what nobody reads (FLOOD-34).
fn committed_in(committed: &Committed, group: GroupIx) -> u64 {
    committed.get(&group.sure()).copied().unwrap_or(u64::MAX)
}
