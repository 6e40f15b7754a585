//! What one command is to change among the entries.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::incident::{Claim, Incident, Notice, Told};
use crate::letter::{MAX_ITEMS, name};

/// Entries, with their revisions.
pub(crate) type Entries = BTreeMap<Incident, (u64, Notice)>;

/// Changes to entries, all or none of which happen.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) changes: BTreeMap<Incident, (Option<u64>, Option<Notice>)>,
}

impl Draft {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MAX_ITEMS
    }

    pub(crate) fn put(&mut self, expect: Option<u64>, notice: Notice) {
        self.changes.insert(notice.incident.clone(), (expect, Some(notice)));
    }

    pub(crate) fn remove(&mut self, revision: u64, incident: &Incident) {
        if !self.is_full() {
            self.changes.entry(incident.clone()).or_insert((Some(revision), None));
        }
    }

    /// Claims a letter with these for a target, unless that is too much for one command.
    pub(crate) fn claim(&mut self, due: &[&(u64, Notice)], target: &str) -> bool {
        if !self.has_room(due) {
            return false;
        }
        let name = name(due.iter().map(|(_, notice)| notice));
        for entry in due {
            let (step, over) = (entry.1.step, !entry.1.is_open());
            let closed = entry.1.closed.filter(|_| over);
            let claim = Claim { letter: name.clone(), step, closed };
            self.touch(entry, target, |told| told.letter = Some(claim));
        }
        true
    }

    /// Notes that a target has a letter.
    pub(crate) fn mark(&mut self, entries: &Entries, target: &str, name: &str) {
        let of_letter = |entry: &&(u64, Notice)| {
            let told = entry.1.told.get(target).and_then(|told| told.letter.as_ref());
            told.is_some_and(|claim| claim.letter == name)
        };
        let all: Vec<&(u64, Notice)> = entries.values().filter(of_letter).collect();
        // What does not fit comes with the next command.
        if !self.has_room(&all) {
            return;
        }
        for entry in all {
            self.touch(entry, target, |told| {
                if let Some(claim) = told.letter.take() {
                    told.step = claim.step;
                }
            });
        }
    }

    /// Whether changes to these fit into the command as well. What it removes is let go of first.
    fn has_room(&self, all: &[&(u64, Notice)]) -> bool {
        let more = all.iter().filter(|(_, it)| !self.changes.contains_key(&it.incident)).count();
        let removed = |it: &Notice| {
            self.changes.get(&it.incident).is_some_and(|(_, notice)| notice.is_none())
        };
        self.len() + more <= MAX_ITEMS && !all.iter().any(|(_, it)| removed(it))
    }

    fn touch(
        &mut self,
        (revision, notice): &(u64, Notice),
        target: &str,
        how: impl FnOnce(&mut Told),
    ) {
        let fresh = || (Some(*revision), Some(notice.clone()));
        let change = self.changes.entry(notice.incident.clone()).or_insert_with(fresh);
        if let Some(notice) = &mut change.1 {
            how(notice.told.entry(target.into()).or_default());
        }
    }
}

/// The letter that is on its way to a target.
pub(crate) fn under_way(entries: &Entries, target: &str) -> Option<String> {
    let letters = entries.values().filter_map(|(_, notice)| {
        notice.told.get(target)?.letter.as_ref().map(|claim| claim.letter.clone())
    });
    letters.min()
}
