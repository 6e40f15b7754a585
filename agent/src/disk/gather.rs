//! Changes of the state that may wait: what other nodes know as well.
//!
//! While a flock forms, hundreds of facts come within a second, and most are overtaken by the next
//! version before anybody would read them from a disk. So they are gathered for a moment, and of
//! each only the newest is written. Losing that moment to a kill or a power cut costs a repair by
//! the peers, which hold the same facts (FLOOD-36, BLOC-40).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use skep_base::NodeId;
use skep_store::state::Change;

/// How long a change may wait.
const GATHER: Duration = Duration::from_secs(1);
/// Changes that may wait: a state of a thousand nodes. With more, they are written at once.
const MAX_GATHERED: usize = 4096;

/// What a change replaces when it comes again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Record(NodeId, u16),
    Age(NodeId),
    Address(NodeId),
}

/// Changes in the order in which they came, each only as it was last.
#[derive(Default)]
pub(super) struct Gathered {
    changes: Vec<Change>,
    places: HashMap<Key, usize>,
    since: Option<Instant>,
}

impl Gathered {
    /// Adds changes that came at `now`.
    pub(super) fn add(&mut self, now: Instant, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.since.get_or_insert(now);
            match key(&change) {
                Some(key) => match self.places.get(&key) {
                    Some(at) => self.changes[*at] = change,
                    None => {
                        self.places.insert(key, self.changes.len());
                        self.changes.push(change);
                    }
                },
                None => {
                    // What comes after this must not take a place before it.
                    self.places.clear();
                    self.changes.push(change);
                }
            }
        }
    }

    /// Takes back what could not be written, to be tried again. A life and a time are those of
    /// that moment, and of more than [`MAX_GATHERED`] the peers must repair the loss.
    pub(super) fn put_back(&mut self, now: Instant, changes: Vec<Change>) {
        if changes.len() < MAX_GATHERED {
            let keeps =
                |change: &Change| !matches!(change, Change::Incarnation(_) | Change::Wall(_));
            self.add(now, changes.into_iter().filter(keeps));
        }
    }

    /// When they must be written; nothing while there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.changes.len() < MAX_GATHERED { since + GATHER } else { since })
    }

    /// Gives them all, to be written.
    pub(super) fn take(&mut self) -> Vec<Change> {
        self.since = None;
        self.places.clear();
        std::mem::take(&mut self.changes)
    }
}

/// What a change replaces; nothing for one whose place among the others matters.
fn key(change: &Change) -> Option<Key> {
    match change {
        Change::Record { owner, kind, .. } => Some(Key::Record(*owner, *kind)),
        Change::Age { owner, .. } => Some(Key::Age(*owner)),
        Change::Address { node, .. } => Some(Key::Address(*node)),
        Change::Incarnation(_)
        | Change::Wall(_)
        | Change::Forget { .. }
        | Change::Cursor { .. }
        | Change::Purged(_)
        | Change::ForgetCursor { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(owner: u8, kind: u16, raw: u8) -> Change {
        Change::Record { owner: NodeId::from_bytes([owner; 16]), kind, raw: vec![raw] }
    }

    fn forget(owner: u8) -> Change {
        Change::Forget { owner: NodeId::from_bytes([owner; 16]) }
    }

    #[test]
    fn only_the_newest_of_each_is_written_and_nothing_passes_a_forgetting() {
        let mut gathered = Gathered::default();
        let now = Instant::now();
        assert_eq!(gathered.due(), None);
        gathered.add(now, [record(1, 2, 1), record(2, 2, 1), record(1, 2, 2)]);
        gathered.add(now + GATHER / 2, [forget(1), record(1, 2, 3), record(1, 2, 4)]);
        assert_eq!(gathered.due(), Some(now + GATHER));
        let written = gathered.take();
        assert_eq!(written, [record(1, 2, 2), record(2, 2, 1), forget(1), record(1, 2, 4)]);
        assert_eq!(gathered.due(), None);
        gathered.add(now, [record(1, 2, 5)]);
        assert_eq!(gathered.take(), [record(1, 2, 5)], "a place of those written is used");
    }

    #[test]
    fn a_flood_of_changes_is_written_at_once() {
        let mut gathered = Gathered::default();
        let now = Instant::now();
        let kinds = (0..).take(MAX_GATHERED).map(|kind| record(1, kind, 0));
        gathered.add(now, kinds);
        assert_eq!(gathered.due(), Some(now));
    }
}
