//! What one command is to change among the entries.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::incident::{Claim, Incident, Notice, STEP_WEIGHT, Told, claim_weight};
use crate::letter::{MAX_ITEMS, name};

/// Bytes of entries that one command changes, by their [`Notice::weight`]: a command of the catalog
/// has 32 KiB, its author's name included. An entry of its own always fits.
pub const MAX_CHANGES_BYTES: usize = 30 * 1024;

/// Entries, with their revisions.
pub(crate) type Entries = BTreeMap<Incident, (u64, Notice)>;

/// Changes to entries, all or none of which happen.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) changes: BTreeMap<Incident, (Option<u64>, Option<Notice>)>,
    /// What is so once they have happened, and not before: targets for which a letter was claimed,
    /// and dropped incidents that are told of.
    pub(crate) claimed: Vec<String>,
    pub(crate) dropped: u64,
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

    /// Has an entry say this, unless that is too much for one command: it comes with the next then.
    pub(crate) fn put(&mut self, expect: Option<u64>, notice: Notice) -> bool {
        let fits = !self.is_full() && self.weight() + notice.weight() <= MAX_CHANGES_BYTES;
        if fits {
            self.changes.insert(notice.incident.clone(), (expect, Some(notice)));
        }
        fits
    }

    pub(crate) fn remove(&mut self, revision: u64, incident: &Incident) {
        if !self.is_full() {
            self.changes.entry(incident.clone()).or_insert((Some(revision), None));
        }
    }

    /// Claims a letter with these for a target: as many of the first as fit into a command, unless
    /// others have taken its room already.
    pub(crate) fn claim(&mut self, due: &[&(u64, Notice)], target: &str) -> bool {
        let letter = |all: &[&(u64, Notice)]| name(all.iter().map(|(_, notice)| notice));
        let mut due = due;
        while due.len() > 1 && !Self::default().has_room(due, target, &letter(due)) {
            due = &due[..due.len() - 1];
        }
        let name = letter(due);
        if due.is_empty() || !self.has_room(due, target, &name) {
            return false;
        }
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
        let mut all: Vec<&(u64, Notice)> = entries.values().filter(of_letter).collect();
        if !self.has_room(&all, target, "") {
            // What does not fit comes with the next command.
            if !self.is_empty() {
                return;
            }
            // They grew since the letter was claimed: then one part after the other.
            while all.len() > 1 && !self.has_room(&all, target, "") {
                all.pop();
            }
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
    fn has_room(&self, all: &[&(u64, Notice)], target: &str, letter: &str) -> bool {
        let fresh: Vec<_> =
            all.iter().filter(|(_, it)| !self.changes.contains_key(&it.incident)).collect();
        let removed = |it: &Notice| {
            self.changes.get(&it.incident).is_some_and(|(_, notice)| notice.is_none())
        };
        let entries: usize = fresh.iter().map(|(_, it)| it.weight()).sum();
        let more = target.len() + STEP_WEIGHT + claim_weight(target, letter);
        self.len() + fresh.len() <= MAX_ITEMS
            && self.weight() + entries + all.len() * more <= MAX_CHANGES_BYTES
            && !all.iter().any(|(_, it)| removed(it))
    }

    fn weight(&self) -> usize {
        let weight = |(incident, (_, notice)): (&Incident, &(Option<u64>, Option<Notice>))| {
            notice.as_ref().map_or_else(|| Notice::gone_weight(incident), Notice::weight)
        };
        self.changes.iter().map(weight).sum()
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
