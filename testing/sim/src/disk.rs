//! A virtual disk: what a node asked to keep, and what of it survives a power cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{ById, GroupName, Incarnation, NodeId, NodeName, Time};
use skep_flood::shelf::Shelf;
use skep_flood::{LogEntry, LogRecord, Position, PurgedMark, ReadItem, Restored, UpdateId};
use skep_managers::{Cut, ImageChange, Restored as Kept, Write};

/// How fast a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskModel {
    /// Until a write is in the operating system's hands, or a read is done.
    pub write: Duration,
    /// Until it would survive a power cut.
    pub sync: Duration,
}

impl DiskModel {
    /// An SSD.
    #[must_use]
    pub const fn fast() -> Self {
        Self { write: Duration::from_micros(50), sync: Duration::from_millis(2) }
    }

    /// A disk that many share and that is busy.
    #[must_use]
    pub const fn slow() -> Self {
        Self { write: Duration::from_millis(80), sync: Duration::from_millis(900) }
    }
}

/// A value that was written, and what a power cut would leave of it.
#[derive(Clone, Debug)]
struct Cell<T> {
    value: T,
    written: Time,
    durable_at: Time,
    /// The last version that was durable when this one was written.
    before: Option<(T, Time)>,
}

#[derive(Clone, Debug)]
struct Row {
    head: Bytes,
    body: Bytes,
    written: Time,
    durable_at: Time,
}

/// What one host's disk holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) incarnation: Incarnation,
    /// By owner and then by kind, of which there are few.
    records: ById<Vec<(u16, Cell<Bytes>)>>,
    book: BTreeMap<NodeId, (NodeName, Vec<SocketAddr>)>,
    log: BTreeMap<Position, Row>,
    /// Large bodies that are being pulled. A power cut leaves them: a disk checks what it finds.
    pub(crate) shelf: Shelf,
    pub(crate) log_next: Position,
    /// The updates that were ever appended to this log, and where.
    pub(crate) appended: BTreeMap<UpdateId, Position>,
    pub(crate) cursor: Position,
    pub(crate) purged: BTreeMap<(GroupName, NodeId), PurgedMark>,
    /// What the managers keep, as far as it is durable.
    managers: Kept,
    /// What they asked to keep since, and from when on each survives a power cut.
    managers_later: VecDeque<(Time, Write)>,
    /// Operations complete in order.
    busy_until: Time,
    /// The managers' next sync that has not begun: when it begins, and when it is complete.
    next_sync: (Time, Time),
}

impl Disk {
    /// When an operation that is asked for now and takes so long is complete.
    pub(crate) fn finish(&mut self, now: Time, takes: Duration) -> Time {
        self.busy_until = self.busy_until.max(now) + takes;
        self.busy_until
    }

    /// When something that is to be synced with all else that waits for it is safe, where a sync
    /// takes so long: what comes while one is under way shares the next.
    pub(crate) fn sync(&mut self, now: Time, takes: Duration) -> Time {
        let (begins, ends) = self.next_sync;
        if begins > now {
            return ends;
        }
        let begins = self.busy_until.max(now);
        let ends = self.finish(now, takes);
        self.next_sync = (begins, ends);
        ends
    }

    pub(crate) fn put_record(
        &mut self,
        now: Time,
        model: &DiskModel,
        key: (NodeId, u16),
        raw: Bytes,
    ) {
        let durable_at = now + model.sync;
        let new = Cell { value: raw, written: now, durable_at, before: None };
        let (owner, kind) = key;
        let kinds = self.records.get_or_insert_with(owner, Vec::new);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            None => kinds.push((kind, new)),
            Some((_, cell)) => {
                let old = std::mem::replace(cell, new);
                let durable = old.durable_at <= now;
                cell.before = durable.then_some((old.value, old.written)).or(old.before);
            }
        }
    }

    pub(crate) fn forget_records(&mut self, owner: NodeId) {
        self.records.remove(&owner);
    }

    pub(crate) fn put_address(&mut self, node: NodeId, name: NodeName, at: Vec<SocketAddr>) {
        self.book.insert(node, (name, at));
    }

    /// Adds a record to the log. Says what is wrong with it, if anything is.
    pub(crate) fn append(
        &mut self,
        now: Time,
        durable_at: Time,
        entry: LogEntry,
    ) -> Result<(), String> {
        let LogEntry { position, head, body } = entry;
        let id = head.update().map(|head| head.header.id);
        if position != self.log_next {
            return Err(format!("appends at {position}, and the log ends at {}", self.log_next));
        }
        if let Some(id) = id
            && let Some(before) = self.appended.insert(id, position)
        {
            return Err(format!("appends {id} at {position}, which stands at {before} already"));
        }
        self.log_next = position.next();
        let body = match id {
            Some(id) => self.shelf.take(id, body),
            None => Bytes::new(),
        };
        let head = Bytes::from(head.to_bytes());
        self.log.insert(position, Row { head, body, written: now, durable_at });
        Ok(())
    }

    pub(crate) fn read(&self, item: &ReadItem) -> Option<LogRecord> {
        let row = self.log.get(&item.position)?;
        let to = (item.length as usize).min(row.body.len());
        Some(LogRecord { head: row.head.clone(), body: row.body.slice(..to) })
    }

    /// The body of a record; empty where there is none.
    pub(crate) fn body(&self, position: Position) -> Bytes {
        self.log.get(&position).map(|row| row.body.clone()).unwrap_or_default()
    }

    pub(crate) fn note_purged(&mut self, marks: Vec<PurgedMark>) {
        for mark in marks {
            let key = (mark.group.clone(), mark.origin);
            let higher = self.purged.get(&key).is_none_or(|kept| kept.serial < mark.serial);
            if higher {
                self.purged.insert(key, mark);
            }
        }
    }

    pub(crate) fn purge(&mut self, below: Position) {
        self.log = self.log.split_off(&below);
    }

    /// Keeps what the managers want kept.
    pub(crate) fn put_managers(&mut self, durable_at: Time, write: Write) {
        self.managers_later.push_back((durable_at, write));
    }

    /// Whether there is a part in a flock's management on it.
    pub(crate) fn manages(&self) -> bool {
        self.managers.image.is_some() || !self.managers_later.is_empty()
    }

    /// Whether `needle` is in what the managers keep, safe from a power cut by now.
    pub(crate) fn managers_hold(&self, now: Time, needle: &[u8]) -> bool {
        // Most places are told apart by one byte, without a call.
        let begins = |part: &[u8]| part.first() == needle.first();
        let is_in =
            |bytes: &Bytes| bytes.windows(needle.len()).any(|part| begins(part) && part == needle);
        let later = self.managers_later.iter().filter(|(durable_at, _)| *durable_at <= now);
        let later = later.flat_map(|(_, write)| {
            let image = match &write.image {
                ImageChange::Replace(image) => Some(image),
                ImageChange::Keep | ImageChange::Drop => None,
            };
            image.into_iter().chain(write.entries.iter().map(|entry| &entry.body))
        });
        let kept = self.managers.entries.iter().map(|entry| &entry.body);
        kept.chain(&self.managers.image).chain(later).any(is_in)
    }

    /// What the managers get back: everything that was written and not lost.
    pub(crate) fn restored_managers(&mut self) -> Kept {
        while let Some((_, write)) = self.managers_later.pop_front() {
            change(&mut self.managers, write);
        }
        self.managers.clone()
    }

    /// What is left when the power is cut: what was durable.
    pub(crate) fn lose_power(&mut self, now: Time) {
        self.busy_until = now;
        self.next_sync = (now, now);
        self.managers_later.retain(|(durable_at, _)| *durable_at <= now);
        for kinds in self.records.values_mut() {
            kinds.retain_mut(|(_, cell)| {
                if cell.durable_at <= now {
                    return true;
                }
                let Some((value, written)) = cell.before.take() else {
                    return false;
                };
                *cell = Cell { value, written, durable_at: written, before: None };
                true
            });
        }
        let torn = self.log.iter().find(|(_, row)| row.durable_at > now);
        if let Some((torn, _)) = torn {
            let torn = *torn;
            self.log.split_off(&torn);
            self.log_next = torn;
            self.appended.retain(|_, position| *position < torn);
        }
    }

    /// Records with their owner's age as far as the disk knows it.
    pub(crate) fn restored_records(&self, now: Time) -> Vec<(Bytes, Duration)> {
        let cells = self.records.iter().flat_map(|(_, kinds)| kinds);
        cells.map(|(_, cell)| (cell.value.clone(), now.since(cell.written))).collect()
    }

    pub(crate) fn address_book(&self) -> Vec<(NodeId, NodeName, Vec<SocketAddr>)> {
        let book = self.book.iter();
        book.map(|(node, (name, at))| (*node, name.clone(), at.clone())).collect()
    }

    pub(crate) fn forget_addresses(&mut self) {
        self.book.clear();
    }

    pub(crate) fn restored_log(&self, now: Time) -> Vec<Restored> {
        let restored = |(position, row): (&Position, &Row)| Restored {
            position: *position,
            head: row.head.clone(),
            body_bytes: row.body.len() as u64,
            stored_for: now.since(row.written),
        };
        self.log.iter().map(restored).collect()
    }

    pub(crate) fn log_ids(&self) -> BTreeSet<UpdateId> {
        self.appended.keys().copied().collect()
    }
}

/// As in the agent's store: in the order of the fields.
fn change(kept: &mut Kept, write: Write) {
    match write.cut {
        Cut::Nothing => {}
        Cut::From(index) => kept.entries.retain(|entry| entry.index < index),
        Cut::Through(index) => kept.entries.retain(|entry| entry.index > index),
        Cut::All => kept.entries.clear(),
    }
    match write.image {
        ImageChange::Keep => {}
        ImageChange::Replace(image) => kept.image = Some(image),
        ImageChange::Drop => kept.image = None,
    }
    kept.entries.extend(write.entries);
    if write.state.is_some() {
        kept.state = write.state;
    }
}
