//! The newest updates with their bodies, so that passing them on needs no disk.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::event::Body;
use crate::id::Position;
use crate::message::StoredHead;

/// Entries kept at most, whatever their size.
const MAX_ENTRIES: usize = 8192;
/// What an entry takes beside its body.
const ENTRY_BYTES: usize = 192;

/// The tail of the log in memory, without gaps.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: VecDeque<(StoredHead, Bytes)>,
    /// The position of the first entry.
    first: u64,
    bytes: usize,
    limit: usize,
}

impl Cache {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), first: 0, bytes: 0, limit }
    }

    /// Adds what goes to the log. Large bodies are not kept.
    pub(crate) fn push(&mut self, position: Position, head: &StoredHead, body: &Body) {
        if self.entries.is_empty() || position.0 != self.next() {
            self.truncate(0);
            self.first = position.0;
        }
        let body = match body {
            Body::Here(body) if !head.header.is_large() => body.clone(),
            Body::Here(_) | Body::Fetched | Body::Spooled(_) => Bytes::new(),
        };
        self.bytes += body.len() + ENTRY_BYTES;
        self.entries.push_back((head.clone(), body));
        while self.bytes > self.limit || self.entries.len() > MAX_ENTRIES {
            let Some((_, body)) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= body.len() + ENTRY_BYTES;
            self.first += 1;
        }
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The entry at a position, if its body is here as well.
    pub(crate) fn get(&self, position: u64) -> Option<&(StoredHead, Bytes)> {
        let entry = self.head(position)?;
        (!entry.0.header.is_large()).then_some(entry)
    }

    /// The entry at a position; a large body is not with it.
    pub(crate) fn head(&self, position: u64) -> Option<&(StoredHead, Bytes)> {
        let at = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.entries.get(at)
    }

    /// Forgets everything from a position on.
    pub(crate) fn truncate(&mut self, from: u64) {
        while self.next() > from {
            let Some((_, body)) = self.entries.pop_back() else {
                break;
            };
            self.bytes -= body.len() + ENTRY_BYTES;
        }
    }
}
