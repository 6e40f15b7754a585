//! Handing updates over to subscribers on this node: in the order of the log, at least once, each
//! time under the same identity.

use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{GroupName, Outbox, Time};

use crate::config::HAND_OVER_BYTES;
use crate::event::{CursorName, Delivered, DeliveredBody, LogRecord, Missed, Output, ReadToken};
use crate::id::Position;
use crate::machine::{Flood, ReadFor, age_ms};
use crate::message::StoredHead;

/// Subscribers at most: the applications of this host and those that connect to it, a thousand at
/// once and their names.
const MAX_CURSORS: usize = 4096;
/// Updates handed over at once.
const BATCH_UPDATES: usize = 256;
/// Bytes of bodies handed over at once, unless one alone is longer.
const BATCH_BODY_BYTES: usize = 256 * 1024;

/// One subscriber.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) group: GroupName,
    durable: bool,
    /// The first position that was not handed over.
    pub(crate) next: Position,
    /// The first position that was not committed.
    pub(crate) committed: Position,
    turn: Turn,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Ours: it gets what comes.
    Ours,
    /// The log's: updates are being read for it, by this read. One that was begun for an earlier
    /// subscriber of its name is none of its own.
    Log(ReadToken),
    /// The subscriber's: it has not committed what it was given, the last of which ends here.
    /// What follows up to `next` is of other groups.
    Theirs(Position),
}

/// Where a subscriber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorView {
    /// The first position that it did not commit.
    pub committed: Position,
    /// Whether it has committed everything of its group that is in the log now.
    pub caught_up: bool,
}

/// What is handed over at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    positions: Vec<Position>,
    gaps: Vec<(Position, Missed)>,
    /// The first position after it.
    next: Position,
}

impl Cursor {
    /// Whose updates it reads.
    pub(crate) const fn group(&self) -> &GroupName {
        &self.group
    }
}

impl Flood {
    pub(crate) fn cursor_open(
        &mut self,
        now: Time,
        name: CursorName,
        group: GroupName,
        from: Option<Position>,
        durable: bool,
        out: &mut Outbox<Output>,
    ) {
        if self.cursors.len() >= MAX_CURSORS && !self.cursors.contains_key(&name) {
            return;
        }
        let end = Position(self.index.next());
        // A position beyond the end was committed before a power cut took the log's tail: what
        // stands there will be written again, and must not be skipped.
        let next = from.unwrap_or(end).min(end);
        let cursor = Cursor { group, durable, next, committed: next, turn: Turn::Ours };
        self.cursors.insert(name.clone(), cursor);
        // Also where nothing was committed yet: after a restart it goes on here.
        if durable {
            self.persist_cursor(&name, out);
        }
        self.feed_cursor(now, &name, out);
    }

    pub(crate) fn cursor_commit(
        &mut self,
        now: Time,
        name: &CursorName,
        up_to: Position,
        out: &mut Outbox<Output>,
    ) {
        let Some(cursor) = self.cursors.get_mut(name) else {
            return;
        };
        cursor.committed = cursor.committed.max(up_to.min(cursor.next));
        // Not more than one hand-over is under way, also to one that commits update by update.
        if let Turn::Theirs(end) = cursor.turn
            && cursor.committed >= end
        {
            cursor.turn = Turn::Ours;
            cursor.committed = cursor.next;
        }
        if cursor.durable {
            self.persist_cursor(name, out);
        }
        self.feed_cursor(now, name, out);
    }

    /// Where a subscriber is; nothing where there is none of that name.
    #[must_use]
    pub fn cursor(&self, name: &CursorName) -> Option<CursorView> {
        let cursor = self.cursors.get(name)?;
        let caught_up = cursor.turn == Turn::Ours && cursor.next >= self.written;
        Some(CursorView { committed: cursor.committed, caught_up })
    }

    /// The first position of the log that is not written yet.
    #[must_use]
    pub const fn written(&self) -> Position {
        self.written
    }

    fn persist_cursor(&self, name: &CursorName, out: &mut Outbox<Output>) {
        if let Some(cursor) = self.cursors.get(name) {
            out.push(Output::PersistCursor {
                name: name.clone(),
                group: cursor.group.clone(),
                position: cursor.committed,
            });
        }
    }

    pub(crate) fn feed_cursors(&mut self, now: Time, out: &mut Outbox<Output>) {
        let idle = self.cursors.iter().filter(|(_, cursor)| cursor.turn == Turn::Ours);
        let idle: Vec<_> = idle.map(|(name, _)| name.clone()).collect();
        for name in idle {
            self.feed_cursor(now, &name, out);
        }
    }

    /// Hands over what is written and not handed over yet, or starts to read it.
    fn feed_cursor(&mut self, now: Time, name: &CursorName, out: &mut Outbox<Output>) {
        let Some(batch) = self.collect(name, out) else {
            return;
        };
        let Some(cursor) = self.cursors.get_mut(name) else {
            return;
        };
        if batch.positions.is_empty() && batch.gaps.is_empty() {
            cursor.next = batch.next;
            cursor.committed = batch.next;
            return;
        }
        let cached = batch.positions.iter().map(|at| self.cache.get(at.0).cloned());
        if let Some(cached) = cached.collect::<Option<Vec<_>>>() {
            let updates = batch.positions.iter().zip(cached);
            let updates = updates.filter_map(|(at, (head, body))| {
                self.delivered(now, *at, &head, DeliveredBody::Here(body))
            });
            let updates = updates.collect();
            return self.hand_over(now, name, updates, batch, out);
        }
        let items = batch.positions.iter().filter_map(|at| {
            let entry = self.index.entry(at.0)?;
            Some(if entry.bytes > HAND_OVER_BYTES { entry.head_item() } else { entry.item() })
        });
        let items = items.collect();
        let token = self.next_read(ReadFor::Cursor { name: name.clone(), batch });
        if let Some(cursor) = self.cursors.get_mut(name) {
            cursor.turn = Turn::Log(token);
        }
        out.push(Output::Read { token, items });
    }

    /// The next positions for a subscriber, and the one after them.
    fn collect(&mut self, name: &CursorName, out: &mut Outbox<Output>) -> Option<Batch> {
        let cursor = self.cursors.get_mut(name).filter(|it| it.turn == Turn::Ours)?;
        let group = self.groups.get(&cursor.group)?.ix;
        let mut batch = Batch::default();
        let (mut at, mut bytes) = (cursor.next.0, 0);
        let mut purged = Vec::new();
        if at < self.index.first() {
            purged.push((at, self.index.first()));
            at = self.index.first();
        }
        while at < self.written.0 && batch.positions.len() + batch.gaps.len() < BATCH_UPDATES {
            match self.index.entry(at) {
                Some(entry) if entry.key.group.sure() == group => {
                    let here = if entry.bytes > HAND_OVER_BYTES { 0 } else { entry.bytes };
                    bytes += usize::try_from(here).unwrap_or(BATCH_BODY_BYTES);
                    if bytes > BATCH_BODY_BYTES && !batch.positions.is_empty() {
                        break;
                    }
                    batch.positions.push(Position(at));
                }
                Some(_) => {}
                None => match (self.notes.get(&at), purged.last_mut()) {
                    (Some(note), _) if note.group == group => {
                        batch.gaps.push((Position(at), note.missed.clone()));
                    }
                    (Some(_), _) => {}
                    (None, Some((_, end))) if *end == at => *end = at + 1,
                    (None, _) => purged.push((at, at + 1)),
                },
            }
            at += 1;
        }
        for (from, to) in purged {
            out.push(Output::CursorGap {
                name: name.clone(),
                from: Position(from),
                to: Position(to),
            });
        }
        batch.next = Position(at);
        Some(batch)
    }

    fn delivered(
        &self,
        now: Time,
        position: Position,
        head: &StoredHead,
        body: DeliveredBody,
    ) -> Option<Delivered> {
        let entry = self.index.entry(position.0)?;
        let age = Duration::from_millis(age_ms(now, entry.born));
        // The head says how old it was when it was appended.
        let before = Duration::from_millis(head.header.age_ms);
        (entry.id() == head.header.id).then(|| Delivered {
            position,
            id: head.header.id,
            age,
            logged: age.saturating_sub(before),
            late: head.late,
            trail: head.header.trail.clone(),
            body,
        })
    }

    pub(crate) fn cursor_read(
        &mut self,
        now: Time,
        name: &CursorName,
        batch: Batch,
        (token, records): (ReadToken, Vec<Option<LogRecord>>),
        out: &mut Outbox<Output>,
    ) {
        if self.cursors.get(name).is_none_or(|cursor| cursor.turn != Turn::Log(token)) {
            return;
        }
        let mut updates = Vec::new();
        let records = records.into_iter().chain(core::iter::repeat_with(|| None));
        for (position, record) in batch.positions.iter().zip(records) {
            let update = record.and_then(|record| {
                let head = StoredHead::from_bytes(&record.head)?;
                let length = head.header.length;
                let stored = length > HAND_OVER_BYTES;
                let whole = stored || record.body.len() as u64 == length;
                let body = match stored {
                    true => DeliveredBody::Stored { length },
                    false => DeliveredBody::Here(record.body),
                };
                self.delivered(now, *position, &head, body).filter(|_| whole)
            });
            match update {
                Some(update) => updates.push(update),
                None => out.push(Output::CursorGap {
                    name: name.clone(),
                    from: *position,
                    to: position.next(),
                }),
            }
        }
        self.hand_over(now, name, updates, batch, out);
    }

    fn hand_over(
        &mut self,
        now: Time,
        name: &CursorName,
        updates: Vec<Delivered>,
        Batch { gaps, next, .. }: Batch,
        out: &mut Outbox<Output>,
    ) {
        let Some(cursor) = self.cursors.get_mut(name) else {
            return;
        };
        cursor.next = next.min(Position(self.index.next()));
        if updates.is_empty() && gaps.is_empty() {
            cursor.turn = Turn::Ours;
            return self.feed_cursor(now, name, out);
        }
        let last = updates.last().map(|last| last.position).max(gaps.last().map(|(at, _)| *at));
        let end = last.map_or(cursor.next, Position::next);
        cursor.turn = Turn::Theirs(end.min(cursor.next));
        out.push(Output::HandOver { name: name.clone(), updates, gaps, next });
    }
}
