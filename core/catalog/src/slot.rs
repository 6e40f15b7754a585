//! One entry with its last few versions.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use skep_base::{Digest, WallTime};
use skep_wire::{Malformed, encode};

use crate::command::{MAX_STORED_BYTES, MAX_WHO_BYTES, Payload};
use crate::key::Key;

/// Versions of one entry that are kept, the newest among them: enough to see who broke it.
pub const MAX_VERSIONS: usize = 8;
/// Bytes of all versions of one entry: they travel in one frame.
pub const MAX_SLOT_BYTES: usize = 40 * 1024;
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

/// Where a write comes from that another flock decided, before it merged into this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// Which flock.
    pub lineage: u64,
    /// Its index there.
    pub index: u64,
}

/// What an entry said at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The index of the command that wrote it: compare-and-set compares this.
    pub revision: u64,
    /// Under which mastership.
    pub stamp: Stamp,
    /// Who wrote it: shown, never judged by.
    pub who: String,
    /// When, by his clock: shown, never compared.
    pub when: WallTime,
    /// The other flock that decided it, where one did.
    pub from: Option<Source>,
    /// What it says; nothing where it was removed.
    pub put: Option<Payload>,
}

impl Version {
    fn source_in(version: &Self, lineage: u64) -> Option<Source> {
        version.from.filter(|from| from.lineage == lineage)
    }

    fn bytes(&self) -> usize {
        OVERHEAD + self.who.len() + self.put.as_ref().map_or(0, |put| put.body.len())
    }
}

/// An entry: its versions, the newest last, and never none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    versions: Vec<Version>,
    /// Older versions were let go.
    cut: bool,
}

impl Slot {
    /// An entry that was just written.
    pub(crate) fn new(version: Version) -> Self {
        Self { versions: alloc::vec![version], cut: false }
    }

    /// Writes it anew, and lets old versions go.
    pub(crate) fn push(&mut self, version: Version) {
        self.versions.push(version);
        while self.versions.len() > 1
            && (self.versions.len() > MAX_VERSIONS || self.body_bytes() > MAX_SLOT_BYTES)
        {
            self.versions.remove(0);
            self.cut = true;
        }
    }

    /// The version of this revision is another flock's as well.
    pub(crate) fn came_too(&mut self, revision: u64, from: Source) {
        for version in self.versions.iter_mut().filter(|it| it.revision == revision) {
            version.from = Some(from);
        }
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

    /// The newest version that came from another flock.
    pub(crate) fn newest_from(&self, lineage: u64) -> Option<(Source, &Version)> {
        self.newest_from_where(lineage, |_, _| true)
    }

    /// The same of those for which `counts` holds.
    pub(crate) fn newest_from_where(
        &self,
        lineage: u64,
        counts: impl Fn(Source, &Version) -> bool,
    ) -> Option<(Source, &Version)> {
        let of = |version| Version::source_in(version, lineage).map(|from| (from, version));
        let counting = self.versions.iter().filter_map(of).filter(|it| counts(it.0, it.1));
        counting.max_by_key(|(from, _)| from.index)
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
        key.name().len() + self.body_bytes()
    }

    /// What stands for it in its bucket.
    pub(crate) fn digest(&self, key: &Key) -> Digest {
        Digest::of_parts(&[b"skep catalog entry 1", &encode(&(key, self))])
    }

    /// Whether a peer may send it: what decodes need not be one.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        let malformed = Err(Malformed { what: "catalog entry" });
        let ascending = self.versions.windows(2).all(|two| two[0].revision < two[1].revision);
        let fits = !self.versions.is_empty() && self.versions.len() <= MAX_VERSIONS;
        let short = |version: &Version| {
            let body = version.put.as_ref().map_or(0, |put| put.body.len());
            version.who.len() <= MAX_WHO_BYTES && body <= MAX_STORED_BYTES
        };
        let sound = ascending && fits && self.versions.iter().all(short);
        if sound && self.body_bytes() <= MAX_SLOT_BYTES { Ok(()) } else { malformed }
    }
}
