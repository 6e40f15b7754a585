//! What a target gets.

use alloc::string::String;
use alloc::vec::Vec;

use skep_base::{Digest, WallTime};

use crate::incident::{Claim, Incident, Notice};

/// Incidents in one letter, and entries that one command changes, where their bytes fit into it.
pub(crate) const MAX_ITEMS: usize = 16;

/// One incident in a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What, with what.
    pub incident: Incident,
    /// Which occurrence of it.
    pub id: String,
    /// How far it had come: odd while it is open.
    pub step: u32,
    /// What happened.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// Which node saw it.
    pub seen_by: String,
    /// When it began.
    pub opened: WallTime,
    /// When it was over, if this letter says so.
    pub closed: Option<WallTime>,
}

impl Item {
    /// Whether it is over, as this letter tells it. What is momentary is neither.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.step.is_multiple_of(2)
    }
}

/// What a target gets: the same bytes however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its name: the left side of a Message-ID. Follows from the incidents in it and their steps.
    pub name: String,
    /// What it tells, oldest first.
    pub items: Vec<Item>,
}

impl Letter {
    /// The letter of this name, as its notices say.
    pub(crate) fn of<'a>(
        name: &str,
        notices: impl Iterator<Item = (&'a Notice, &'a Claim)>,
    ) -> Self {
        let mut items: Vec<Item> = notices
            .map(|(notice, claim)| Item {
                incident: notice.incident.clone(),
                id: notice.id.clone(),
                step: claim.step,
                what: notice.what.clone(),
                hint: notice.hint.clone(),
                seen_by: notice.seen_by.clone(),
                opened: notice.opened,
                closed: claim.closed,
            })
            .collect();
        items.sort_by(|a, b| (a.opened, &a.incident).cmp(&(b.opened, &b.incident)));
        Self { name: name.into(), items }
    }
}

/// What a letter about these is called.
pub(crate) fn name<'a>(items: impl Iterator<Item = &'a Notice>) -> String {
    let mut parts: Vec<String> = items
        .map(|notice| alloc::format!("{}.{}.{}", notice.incident, notice.id, notice.step))
        .collect();
    parts.sort();
    match parts.as_slice() {
        [one] => one.clone(),
        all => {
            let bytes: Vec<&[u8]> = all.iter().map(|part| part.as_bytes()).collect();
            let digest = Digest::of_parts(&bytes);
            alloc::format!("{}-incidents.{}", all.len(), digest.abbreviated(24))
        }
    }
}
