//! What a node holds of one group, for listings.

use core::time::Duration;

use skep_base::{GroupName, Time};

use crate::id::Position;
use crate::machine::{Flood, age_ms};

/// What a node holds of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFigures {
    /// Updates in the log.
    pub updates: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Age of the oldest of them.
    pub oldest: Option<Duration>,
    /// Updates that wait for one before them.
    pub waiting: u64,
}

impl Flood {
    /// What the log holds of `group`. Looks at every entry: for people, not for protocols.
    #[must_use]
    pub fn group_figures(&self, now: Time, group: &GroupName) -> GroupFigures {
        let Some(group) = self.groups.get(group) else {
            return GroupFigures::default();
        };
        let mut figures = GroupFigures::default();
        for entry in self.index.entries().filter(|entry| entry.key.group == group.ix) {
            let age = Duration::from_millis(age_ms(now, entry.born));
            figures.updates += 1;
            figures.bytes += entry.bytes;
            figures.oldest = figures.oldest.max(Some(age));
        }
        let blocked = self.held.blocked.iter().filter(|((ix, _), _)| *ix == group.ix);
        figures.waiting = blocked.map(|(_, blocked)| blocked.waiting.len() as u64).sum();
        figures
    }

    /// The first position that was not handed over to a subscriber yet.
    #[must_use]
    pub fn cursor_next(&self, name: &str) -> Option<Position> {
        self.cursors.get(name).map(|cursor| cursor.next)
    }

    /// How far a subscriber is: the first position it has not committed, and how many updates of
    /// its group stand from there on. Looks at every entry, as above.
    #[must_use]
    pub fn cursor_figures(&self, name: &str) -> Option<(Position, u64)> {
        let cursor = self.cursors.get(name)?;
        let group = self.groups.get(&cursor.group).map(|group| group.ix);
        let behind = self
            .index
            .entries()
            .filter(|entry| Some(entry.key.group.sure()) == group)
            .filter(|entry| entry.position >= cursor.committed.0);
        Some((cursor.committed, behind.count() as u64))
    }
}
