//! The engine's view of what is, or will shortly be, on disk.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry as PbEntry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// The log after the image, in memory. What is appended here is given to the disk at the same
/// moment; the engine is told when it is safe there.
pub(crate) struct Store {
    /// The place and term that the log begins after.
    base: (u64, u64),
    entries: VecDeque<PbEntry>,
    hard: HardState,
    /// Of the newest configuration that was applied, at `applied`.
    conf: ConfState,
    applied: u64,
}

impl Store {
    pub(crate) fn new(base: (u64, u64), conf: ConfState, hard: HardState) -> Self {
        Self { base, entries: VecDeque::new(), hard, conf, applied: base.0 }
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Puts `entries` at their places, in the place of what was there and after.
    pub(crate) fn append(&mut self, entries: &[PbEntry]) {
        let Some(first) = entries.first() else {
            return;
        };
        let keep = first.index.saturating_sub(self.base.0 + 1);
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.entries.extend(entries.iter().cloned());
    }

    /// Begins again after an image.
    pub(crate) fn install(&mut self, base: (u64, u64), conf: ConfState) {
        *self = Self::new(base, conf, self.hard.clone());
    }

    pub(crate) fn applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
    }

    pub(crate) fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    pub(crate) fn conf(&self) -> &ConfState {
        &self.conf
    }

    /// Forgets the entries up to `index`, which are in the image now.
    pub(crate) fn compact(&mut self, index: u64) {
        while self.base.0 < index {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.base = (entry.index, entry.term);
        }
    }

    /// The entries after `index`, decided or not.
    pub(crate) fn after(&self, index: u64) -> impl Iterator<Item = &PbEntry> {
        let skipped = usize::try_from(index.saturating_sub(self.base.0)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skipped)
    }

    fn at(&self, index: u64) -> Option<&PbEntry> {
        let offset = index.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }
}

impl Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<PbEntry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let mut found: Vec<PbEntry> = (low..high).filter_map(|at| self.at(at).cloned()).collect();
        raft::util::limit_size(&mut found, max_size.into());
        Ok(found)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.at(index).map(|entry| entry.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    /// Only the head of one: the image itself is made when the message is sent.
    fn snapshot(&self, _request_index: u64, _to: u64) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let head = snapshot.mut_metadata();
        head.index = self.applied;
        head.term = self.term(self.applied)?;
        head.set_conf_state(self.conf.clone());
        Ok(snapshot)
    }
}
