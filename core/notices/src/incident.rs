//! What may be wrong, and what the flock remembers of it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::fmt;

use skep_base::WallTime;

/// Incidents that a flock remembers at a time, those that are over included.
pub const MAX_NOTICES: usize = 256;
/// Longest name of what an incident is about. With its kind it fits into the name of an entry.
pub const MAX_SUBJECT_BYTES: usize = 128;
/// Longest sentence that says what is wrong or what to do: a mail's line or two.
pub const MAX_TEXT_BYTES: usize = 320;
/// Targets that a node can have. Each adds to every entry how far it was told.
pub const MAX_TARGETS: usize = 8;

/// Who sees incidents of a kind, and so says when they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whoever is master: it begins and ends with what the flock is.
    Flock,
    /// The node that it is about, wherever the master is.
    Node,
    /// A node without a master, which tells it by itself.
    Alone,
}

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A master or backup is not there, and did not say that it goes (DVM-5, DVM-25).
    ManagerLost,
    /// A node of the roster was away for so long that nobody looks for it any more (DVM-13).
    GivenUp,
    /// A node manages nothing until it is well, or until somebody releases it (DVM-10).
    OnHold,
    /// A lone manager has no backup: one disk has all that was acknowledged.
    Unprotected,
    /// A part of a flock was founded again: the other parts may go on as well (DVM-22).
    Fork,
    /// Two flocks became one, and what both had changed waits for a decision (DVM-27).
    Conflicts,
    /// A node's certificate is near its end, or over, and was not renewed.
    Certificate,
    /// A node's disk takes no writes.
    DiskFailed,
    /// A manager that lost both others: nothing can be written (DVM-20).
    SemiMastery,
    /// A node and those it can reach have no master.
    NoMaster,
    /// More was wrong than a flock remembers at a time: some of it is in no entry.
    Dropped,
    /// None at all: the entry that says who is told of incidents.
    Targets,
}

impl Kind {
    const WORDS: [(Self, &'static str); 12] = [
        (Self::ManagerLost, "manager-lost"),
        (Self::GivenUp, "given-up"),
        (Self::OnHold, "on-hold"),
        (Self::Unprotected, "unprotected"),
        (Self::Fork, "fork"),
        (Self::Conflicts, "merge-conflicts"),
        (Self::Certificate, "certificate"),
        (Self::DiskFailed, "disk-failed"),
        (Self::SemiMastery, "semi-mastery"),
        (Self::NoMaster, "no-master"),
        (Self::Dropped, "dropped"),
        (Self::Targets, "targets"),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// The kind of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }

    /// Who sees it.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::ManagerLost
            | Self::GivenUp
            | Self::OnHold
            | Self::Unprotected
            | Self::Fork
            | Self::Conflicts
            | Self::Dropped
            | Self::Targets => Scope::Flock,
            Self::Certificate | Self::DiskFailed => Scope::Node,
            Self::SemiMastery | Self::NoMaster => Scope::Alone,
        }
    }

    /// Whether it is over the moment it happened: nothing ends it, and nobody is told so.
    #[must_use]
    pub const fn is_momentary(self) -> bool {
        matches!(self, Self::Fork | Self::Dropped)
    }
}

/// What is wrong with what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incident {
    /// What is wrong.
    pub kind: Kind,
    /// With which node, flock or history.
    pub subject: String,
}

impl Incident {
    /// An incident, its subject cut to what fits.
    #[must_use]
    pub fn new(kind: Kind, subject: &str) -> Self {
        Self { kind, subject: cut(&subject.to_ascii_lowercase(), MAX_SUBJECT_BYTES) }
    }

    /// From the name of an entry.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, subject) = name.split_once('.')?;
        let fits = !subject.is_empty() && subject.len() <= MAX_SUBJECT_BYTES;
        fits.then_some(())?;
        Some(Self { kind: Kind::of(kind)?, subject: subject.into() })
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.kind.word(), self.subject))
    }
}

/// Something is wrong, as a node sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What, with what.
    pub incident: Incident,
    /// What happened, for people.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Sighting {
    /// A sighting, its sentences cut to what fits.
    #[must_use]
    pub fn new(kind: Kind, subject: &str, what: &str, hint: &str) -> Self {
        let incident = Incident::new(kind, subject);
        Self { incident, what: cut(what, MAX_TEXT_BYTES), hint: cut(hint, MAX_TEXT_BYTES) }
    }
}

/// How far a target was told of an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The last step that it has taken.
    pub step: u32,
    /// The letter that is on its way there.
    pub letter: Option<Claim>,
}

/// What a letter says of an incident, noted before it is sent, so that whoever sends it again says
/// the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The letter's name.
    pub letter: String,
    /// Up to which step it tells.
    pub step: u32,
    /// When that was over, if it was.
    pub closed: Option<WallTime>,
}

/// What the flock remembers of an incident: an entry of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What, with what.
    pub incident: Incident,
    /// Which occurrence of it: drawn when it was opened.
    pub id: String,
    /// What happened, for people.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// Which node saw it.
    pub seen_by: String,
    /// When it was opened, by that node's wall clock: for people.
    pub opened: WallTime,
    /// When it was over.
    pub closed: Option<WallTime>,
    /// How often it opened and closed: odd while it is open.
    pub step: u32,
    /// How far each target was told.
    pub told: BTreeMap<String, Told>,
}

impl Notice {
    /// Whether it is so now. What is momentary never is.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.step % 2 == 1 && !self.incident.kind.is_momentary()
    }

    /// Whether a target is to be told of it. One that was never told that it began need not hear
    /// that it is over, where another was told both.
    #[must_use]
    pub fn is_due(&self, target: &str) -> bool {
        if self.incident.kind == Kind::Targets {
            return false;
        }
        match self.told.get(target) {
            Some(told) => told.step < self.step,
            None if self.is_open() => true,
            None => self.told.values().all(|told| told.step < self.step),
        }
    }
}

/// The beginning of a text, whole characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}
