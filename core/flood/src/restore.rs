//! Taking over the log of an earlier life.

use core::time::Duration;

use skep_base::Time;

use crate::event::{LogHead, Missed, PurgedMark, Restored};
use crate::id::Position;
use crate::life::{GroupIx, LifeKey, Place};
use crate::machine::{Flood, born_ms, millis};
use crate::message::Header;
use crate::note::Note;

impl Flood {
    /// Takes over what the log holds, before anything else is handled. Records come in the order of
    /// their positions; `next` is the position after the last. With `clock_went_back`, ages are
    /// unknown: updates of others are offered to nobody until a peer offers them.
    pub fn restore(
        &mut self,
        now: Time,
        records: impl IntoIterator<Item = Restored>,
        next: Position,
        clock_went_back: bool,
    ) {
        for record in records {
            if self.index.live() == 0 {
                self.skip_to(record.position);
            }
            while self.index.next() < record.position.0 {
                self.index.append_dead();
            }
            // A position below the next one is a record twice, which no log gives.
            if record.position.0 == self.index.next()
                && !self.restore_one(now, &record, clock_went_back)
            {
                self.index.append_dead();
            }
        }
        if self.index.live() == 0 {
            self.skip_to(next);
        }
        while self.index.next() < next.0 {
            self.index.append_dead();
        }
        self.written = Position(self.index.next());
        self.make_room();
    }

    /// Takes over what an earlier life purged, before [`Flood::restore`].
    pub fn restore_purged(&mut self, marks: impl IntoIterator<Item = PurgedMark>) {
        for mark in marks {
            if let Some(group) = self.groups.get(&mark.group) {
                self.index.note_purged(group.ix, mark.origin, mark.serial);
            }
        }
    }

    fn skip_to(&mut self, position: Position) {
        if self.index.first() == self.index.next() {
            self.index.start_at(position.0);
        }
    }

    /// Says whether the record is of any use.
    fn restore_one(&mut self, now: Time, record: &Restored, unknown_age: bool) -> bool {
        let head = match LogHead::from_bytes(&record.head) {
            Some(LogHead::Update(head)) => head,
            Some(LogHead::Gap(missed)) => return self.restore_note(now, record, missed),
            None => return false,
        };
        let header = head.header;
        let Some(group) = self.groups.get_mut(&head.group) else {
            return false;
        };
        let (ix, id) = (group.ix, header.id);
        if id.origin == self.me {
            group.last_own = group.last_own.max(Some(id.serial));
            if id.serial.incarnation == self.incarnation {
                self.sequence = self.sequence.max(id.serial.sequence);
            }
        }
        let key = LifeKey::of(ix, id);
        let sequence = id.serial.sequence;
        let size = (record.body_bytes, header.is_large());
        if unknown_age && id.origin != self.me {
            return self.index.append_unsure(key, sequence, size, millis(now)).is_ok();
        }
        let stored = record.stored_for.as_millis();
        let stored = u64::try_from(stored).unwrap_or(u64::MAX);
        let age = header.age_ms.saturating_add(stored);
        if Duration::from_millis(age) > self.config.purge_age {
            return false;
        }
        self.restore_gap(now, ix, &header);
        if self.index.place(ix, id) == Place::Known && !head.late {
            return false;
        }
        let times = (born_ms(now, age), millis(now));
        self.index.append(key, sequence, header.predecessor, size, times).is_ok()
    }

    fn restore_note(&mut self, now: Time, record: &Restored, missed: Missed) -> bool {
        let Some(group) = self.groups.get(&missed.group).map(|group| group.ix) else {
            return false;
        };
        let stored = u64::try_from(record.stored_for.as_millis()).unwrap_or(u64::MAX);
        let born = born_ms(now, stored);
        let position = self.index.append_note(born);
        self.notes.insert(position, Note { group, born, missed });
        true
    }

    /// What stands before the first record of a life is gone; what is missing after it was given
    /// up, and may still come.
    fn restore_gap(&mut self, now: Time, ix: GroupIx, header: &Header) {
        let id = header.id;
        let predecessor = header.predecessor;
        let of_life = predecessor.filter(|it| it.incarnation == id.serial.incarnation);
        let Some(before) = of_life else {
            return;
        };
        let Ok((_, life)) = self.index.life_mut(LifeKey::of(ix, id), millis(now)) else {
            return;
        };
        if life.head == 0 {
            life.raise_floor(before.sequence);
        } else {
            life.give_up(before.sequence);
        }
    }
}
