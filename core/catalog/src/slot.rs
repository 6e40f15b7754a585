//! One entry with its last few versions.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use skep_base::{Digest, WallTime};
use skep_wire::{Malformed, encode};

use crate::command::{MAX_STORED_BYTES, MAX_WHO_BYTES, Payload};
use crate::context::{Context, Dot};
use crate::key::Key;

/// Versions of one entry that are kept, the newest among them: enough to see who broke it.
pub const MAX_VERSIONS: usize = 8;
/// Bytes of all versions of one entry: they travel in one frame.
pub const MAX_SLOT_BYTES: usize = 40 * 1024;
/// Others that are remembered to have written the same. Of more some count as overtaken by those
/// that are.
const MAX_ALIKE: usize = 32;
/// What a version takes besides its body and its author's name, by and large.
pub(crate) const OVERHEAD: usize = 64;

/// Under which mastership something was decided. Ordered by epoch; equal epochs of two forks
/// contradict each other.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Grows with every election, fork and merge.
    pub epoch: u64,
    /// Tells apart those that computed the same epoch.
    pub fork: u64,
}

impl Stamp {
    /// How far an epoch may be ahead of what was seen: a liar could use up the numbers otherwise.
    pub const MAX_JUMP: u64 = 1 << 32;
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:08x}", self.epoch, self.fork >> 32)
    }
}

/// What an entry said at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The index of the command that wrote it: compare-and-set compares this.
    pub revision: u64,
    /// Under which mastership.
    pub stamp: Stamp,
    /// In which term of the log.
    pub term: u64,
    /// Who wrote it: shown, never judged by.
    pub who: String,
    /// When, by his clock: shown, never compared.
    pub when: WallTime,
    /// Where another flock decided it, before it merged into this one.
    pub from: Option<Dot>,
    /// What it says; nothing where it was removed.
    pub put: Option<Payload>,
}

impl Version {
    /// Where it was decided first, in whichever log.
    #[must_use]
    pub fn dot(&self) -> Dot {
        let here = Dot { stamp: self.stamp, term: self.term, index: self.revision };
        self.from.unwrap_or(here)
    }

    fn bytes(&self) -> usize {
        OVERHEAD + self.who.len() + self.put.as_ref().map_or(0, |put| put.body.len())
    }
}

/// A write of the same that an entry says, by somebody who did not know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Alike {
    dot: Dot,
    who: String,
    when: WallTime,
}

/// An entry: its versions, the newest last, and never none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    versions: Vec<Version>,
    /// Older versions were let go.
    cut: bool,
    /// Others that say the same, written where the newest version was not known.
    alike: Vec<Alike>,
    /// Which writes come before what it says, or stand beside it in the conflict log, or did.
    context: Context,
    /// The index of the command that changed it last, be it only what it has seen.
    touched: u64,
}

impl Slot {
    /// An entry that is written for the first time.
    pub(crate) fn new(version: Version) -> Self {
        let mut slot = Self {
            versions: Vec::new(),
            cut: false,
            alike: Vec::new(),
            context: Context::default(),
            touched: version.revision,
        };
        slot.push(version);
        slot
    }

    /// Writes it anew, and lets old versions go.
    pub(crate) fn push(&mut self, version: Version) {
        self.touched = version.revision;
        self.alike.clear();
        self.context.add(&version.dot());
        self.versions.push(version);
        while self.versions.len() > 1
            && (self.versions.len() > MAX_VERSIONS || self.body_bytes() > MAX_SLOT_BYTES)
        {
            self.versions.remove(0);
            self.cut = true;
        }
    }

    /// Whether what it says was written at `dot`, there alone or there as well.
    pub(crate) fn says(&self, dot: &Dot) -> bool {
        self.newest().is_some_and(|newest| newest.dot().is(dot))
            || self.alike.iter().any(|alike| alike.dot.is(dot))
    }

    /// What it says, by each who wrote it without having known of the others.
    pub(crate) fn all_said(&self) -> impl Iterator<Item = Version> + '_ {
        let newest = self.newest();
        let alike = newest.into_iter().flat_map(|newest| {
            self.alike.iter().map(|Alike { dot, who, when }| {
                let Dot { stamp, term, index: revision } = *dot;
                let (who, when, put) = (who.clone(), *when, newest.put.clone());
                Version { revision, stamp, term, who, when, from: None, put }
            })
        });
        newest.cloned().into_iter().chain(alike)
    }

    /// What it says was written in these places as well, and in no others that were not overtaken.
    /// Says whether that is news.
    pub(crate) fn is_said_by(&mut self, others: Vec<Version>, index: u64) -> bool {
        let alike = |version: Version| {
            let (dot, Version { who, when, .. }) = (version.dot(), version);
            Alike { dot, who, when }
        };
        let mut alike: Vec<Alike> = others.into_iter().map(alike).collect();
        alike.sort_by_key(|it| core::cmp::Reverse(it.dot));
        alike.truncate(MAX_ALIKE);
        let known = |it: &Alike| self.alike.iter().any(|other| other.dot.is(&it.dot));
        let news = alike.len() != self.alike.len() || !alike.iter().all(known);
        if news {
            alike.iter().for_each(|it| {
                self.context.add(&it.dot);
            });
            (self.alike, self.touched) = (alike, index);
        }
        news
    }

    /// Has seen what another flock's has, by the command at `index`. Says whether that is news.
    pub(crate) fn joins(&mut self, context: &Context, index: u64) -> bool {
        let news = self.context.join(context);
        if news {
            // Whatever is forgotten, what it says is not.
            let newest = self.newest().map(Version::dot);
            newest.iter().for_each(|dot| {
                self.context.add(dot);
            });
            self.touched = index;
        }
        news
    }

    /// What stands beside it in the conflict log is changed by the command at `index`.
    pub(crate) const fn touch(&mut self, index: u64) {
        self.touched = index;
    }

    /// The same with as few versions as fit `bytes`, and none but the newest of those up to
    /// `common`.
    pub(crate) fn since(&self, common: u64, bytes: usize) -> Self {
        let mut slot = self.clone();
        let mut taken = 0;
        let newest = self.versions.len().saturating_sub(1);
        let fits = |(at, version): &(usize, &Version)| {
            taken += version.bytes();
            *at == newest || (taken <= bytes && version.revision > common)
        };
        let kept = self.versions.iter().enumerate().rev().take_while(fits).count();
        slot.cut |= kept < slot.versions.len();
        slot.versions.drain(..slot.versions.len() - kept);
        slot
    }

    /// What it has seen.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The index of the command that changed it last, be it only what it has seen.
    #[must_use]
    pub const fn touched(&self) -> u64 {
        self.touched
    }

    /// All versions that are kept, the newest last.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// Whether older ones were let go.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// The newest version, which says that the entry is not there any more where it has no payload.
    #[must_use]
    pub fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// What the entry says now, and since which revision.
    #[must_use]
    pub fn live(&self) -> Option<(&Version, &Payload)> {
        let newest = self.newest()?;
        newest.put.as_ref().map(|put| (newest, put))
    }

    /// The revision of the newest version, be it a removal.
    pub(crate) fn revision(&self) -> u64 {
        self.newest().map_or(0, |newest| newest.revision)
    }

    fn body_bytes(&self) -> usize {
        self.versions.iter().map(Version::bytes).sum()
    }

    /// What it takes of the catalog's room.
    pub(crate) fn bytes(&self, key: &Key) -> usize {
        let alike: usize = self.alike.iter().map(|it| OVERHEAD + it.who.len()).sum();
        key.name().len() + self.body_bytes() + self.context.bytes() + alike
    }

    /// What stands for it in its bucket.
    pub(crate) fn digest(&self, key: &Key) -> Digest {
        Digest::of_parts(&[b"skep catalog entry 2", &encode(&(key, self))])
    }

    /// Whether a peer may send it: what decodes need not be one.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        let malformed = Err(Malformed { what: "catalog entry" });
        // What another flock wrote one after the other is taken over by one command.
        let ascending = self.versions.windows(2).all(|two| two[0].revision <= two[1].revision);
        let fits = !self.versions.is_empty() && self.versions.len() <= MAX_VERSIONS;
        let short = |version: &Version| {
            let body = version.put.as_ref().map_or(0, |put| put.body.len());
            version.who.len() <= MAX_WHO_BYTES && body <= MAX_STORED_BYTES
        };
        let seen = self.newest().is_some_and(|newest| self.context.covers(&newest.dot()));
        let named = self.alike.iter().all(|alike| alike.who.len() <= MAX_WHO_BYTES);
        let seen = seen && named && self.alike.len() <= MAX_ALIKE;
        let sound = ascending && fits && seen && self.versions.iter().all(short);
        if sound && self.context.is_sound() && self.body_bytes() <= MAX_SLOT_BYTES {
            Ok(())
        } else {
            malformed
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::tests::{place, setting};

    fn slot() -> Slot {
        let Dot { stamp, term, index: revision } = place(7);
        let (who, when) = ("a".into(), WallTime::default());
        Slot::new(Version { revision, stamp, term, who, when, from: None, put: Some(setting("x")) })
    }

    #[test]
    fn what_a_peer_says_of_what_it_has_seen_is_checked() {
        assert!(slot().check().is_ok());
        let unseen = Slot { context: Context::default(), ..slot() };
        assert!(unseen.check().is_err(), "it has not seen what it says");
        let alike = |who: &str| Alike { dot: place(3), who: who.into(), when: WallTime::default() };
        let most = Slot { alike: vec![alike("b"); MAX_ALIKE], ..slot() };
        assert!(most.check().is_ok());
        let more = Slot { alike: vec![alike("b"); MAX_ALIKE + 1], ..slot() };
        assert!(more.check().is_err());
        let long = Slot { alike: vec![alike(&"b".repeat(MAX_WHO_BYTES + 1))], ..slot() };
        assert!(long.check().is_err());
    }
}
