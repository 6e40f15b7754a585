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
/// Targets of which an entry tells: also those of earlier masters that were configured otherwise.
pub const MAX_TOLD: usize = 4 * MAX_TARGETS;
/// Longest name of a target.
pub const MAX_TARGET_BYTES: usize = 32;
/// Longest name of a letter: that of one incident, its occurrence and its step.
pub const MAX_LETTER_BYTES: usize = 200;
/// Longest name of an occurrence.
pub const MAX_ID_BYTES: usize = 64;
/// Longest name of the node that saw it: as long as any node's.
pub const MAX_SEEN_BY_BYTES: usize = 200;
/// How often an incident may have opened and closed: what a peer says beyond it is no incident.
pub const MAX_STEP: u32 = 1 << 30;

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
    /// A manager that met nobody for days: it manages nothing until it does (DVM-18).
    Retired,
    /// A node and those it can reach have no master.
    NoMaster,
    /// More was wrong than a flock remembers at a time: some of it is in no entry.
    Dropped,
    /// None at all: the entry that says who is told of incidents.
    Targets,
}

impl Kind {
    const WORDS: [(Self, &'static str); 13] = [
        (Self::ManagerLost, "manager-lost"),
        (Self::GivenUp, "given-up"),
        (Self::OnHold, "on-hold"),
        (Self::Unprotected, "unprotected"),
        (Self::Fork, "fork"),
        (Self::Conflicts, "merge-conflicts"),
        (Self::Certificate, "certificate"),
        (Self::DiskFailed, "disk-failed"),
        (Self::SemiMastery, "semi-mastery"),
        (Self::Retired, "retired"),
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
            Self::SemiMastery | Self::Retired | Self::NoMaster => Scope::Alone,
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
    /// An incident, its subject cut to what fits and with nothing in it that the name of an entry
    /// may not have.
    #[must_use]
    pub fn new(kind: Kind, subject: &str) -> Self {
        let plain = |c: char| if is_plain(c) { c } else { '-' };
        let subject: String = subject.to_ascii_lowercase().chars().map(plain).collect();
        Self { kind, subject: cut(&subject, MAX_SUBJECT_BYTES) }
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
    /// A sighting, its sentences one line each and cut to what fits.
    #[must_use]
    pub fn new(kind: Kind, subject: &str, what: &str, hint: &str) -> Self {
        let line = |text: &str| {
            let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            cut(&line, MAX_TEXT_BYTES)
        };
        Self { incident: Incident::new(kind, subject), what: line(what), hint: line(hint) }
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

    /// Whether every part of it is within its bound and of plain characters, as this build writes
    /// it: names of letters become headers, and sixteen entries must fit into a command.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let name =
            |text: &str, max: usize| (1..=max).contains(&text.len()) && text.chars().all(is_plain);
        let line = |text: &str, max: usize| text.len() <= max && !text.contains(char::is_control);
        let told = |(target, told): (&String, &Told)| {
            let letter = told.letter.as_ref();
            name(target, MAX_TARGET_BYTES)
                && told.step <= MAX_STEP
                && letter.is_none_or(|claim| {
                    name(&claim.letter, MAX_LETTER_BYTES) && claim.step <= MAX_STEP
                })
        };
        name(&self.id, MAX_ID_BYTES)
            && name(&self.incident.subject, MAX_SUBJECT_BYTES)
            && line(&self.what, MAX_TEXT_BYTES)
            && line(&self.hint, MAX_TEXT_BYTES)
            && line(&self.seen_by, MAX_SEEN_BY_BYTES)
            && (1..=MAX_STEP).contains(&self.step)
            && self.told.len() <= MAX_TOLD
            && self.told.iter().all(told)
    }

    /// Bytes that it takes in a command at most, with its name and what is expected of it.
    #[must_use]
    pub fn weight(&self) -> usize {
        let told = |(target, told): (&String, &Told)| {
            let letter = told.letter.as_ref();
            let claim = letter.map_or(0, |claim| claim_weight(target, &claim.letter));
            target.len() + STEP_WEIGHT + claim
        };
        let told: usize = self.told.iter().map(told).sum();
        let texts = [&self.id, &self.what, &self.hint, &self.seen_by, &self.incident.subject];
        ENTRY_WEIGHT + texts.iter().map(|text| text.len()).sum::<usize>() + told
    }

    /// Bytes that the removal of an entry takes in a command at most.
    pub(crate) const fn gone_weight(incident: &Incident) -> usize {
        ENTRY_WEIGHT + incident.subject.len()
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
            None if self.is_open() || self.incident.kind.is_momentary() => true,
            None => self.told.values().all(|told| told.step < self.step),
        }
    }
}

const fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_')
}

/// What names of fields, lengths, numbers and an entry's kind take of a command at most.
const ENTRY_WEIGHT: usize = 256;
/// What a step takes besides the target's name.
pub(crate) const STEP_WEIGHT: usize = 16;

/// What a claim takes at most.
pub(crate) const fn claim_weight(target: &str, letter: &str) -> usize {
    target.len() + letter.len() + 48
}

/// The beginning of a text, whole characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}
