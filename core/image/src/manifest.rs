//! The list of everything in one version of an image.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use skep_base::{Digest, ImageName, NodeId, NodeName, WallTime};

use crate::chunk::ChunkRef;
use crate::codec;
use crate::entry::{Entry, EntryError, Kind, Node};
use crate::limits::{MAX_ENTRIES, MAX_IMAGE_BYTES};

/// The identity of one version of an image: the digest of its manifest's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ManifestDigest(pub Digest);

impl fmt::Display for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whether an image is a directory with all that is in it, or one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// The root entry is a directory.
    Tree,
    /// The only entry is a regular file.
    File,
}

/// What a manifest says of the image as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Tree or file.
    pub kind: ImageKind,
    /// The image, over all its versions.
    pub name: ImageName,
    /// Which version, counted from 1 by the queen.
    pub version: u64,
    /// When the queen built it, by her clock; for people.
    pub created: WallTime,
    /// The queen's name (DLIF-7).
    pub queen: NodeName,
    /// The queen's identity. The seal must be hers.
    pub queen_id: NodeId,
    /// The version this one followed when it was built.
    pub previous: Option<ManifestDigest>,
}

/// Sums over the entries. They stand in the manifest's first bytes, so that a reader may show them
/// before all of it has come, and are checked when it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries, the root and every further name of a hard-linked file included.
    pub entries: u64,
    /// Regular files, each counted once.
    pub files: u64,
    /// Bytes of those files, holes included.
    pub bytes: u64,
    /// Bytes of their chunks: without the holes, and with what occurs twice counted twice.
    pub data_bytes: u64,
    /// Chunks named, with repetition.
    pub chunks: u64,
}

/// A valid manifest: a header and sorted entries that form one tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    header: Header,
    totals: Totals,
    entries: Vec<Entry>,
}

/// Why bytes or entries are not a manifest. All of it is refused, never a part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Other bytes altogether.
    #[error("not an image manifest")]
    Magic,
    /// A newer format.
    #[error("manifest of format {0}, but this release reads format 1; upgrade skep on this node")]
    Format(u8),
    /// Cut with other parameters.
    #[error("manifest with unknown chunking {0}; upgrade skep on this node")]
    Chunking(u8),
    /// The bytes end early.
    #[error("manifest ends in the middle of {0}")]
    Truncated(&'static str),
    /// Bytes after the last entry.
    #[error("manifest has {0} bytes after its last entry")]
    LeftOver(usize),
    /// A count or length over its bound, or over what the remaining bytes can hold.
    #[error("manifest claims {claimed} for {what}, over the limit of {limit}")]
    TooMuch {
        /// What was counted.
        what: &'static str,
        /// What it said.
        claimed: u64,
        /// The bound.
        limit: u64,
    },
    /// A number that has more than one spelling here, or does not fit.
    #[error("manifest has a badly spelt number for {0}")]
    Number(&'static str),
    /// A field of the header.
    #[error("manifest header has a bad {0}")]
    Header(&'static str),
    /// The header's sums are not those of the entries.
    #[error("manifest header's totals are not those of its entries")]
    Totals,
    /// An entry breaks a rule.
    #[error("manifest entry {index} ({path}): {why}")]
    Entry {
        /// Which entry, from 0.
        index: usize,
        /// Its path, escaped and cut at 200 characters.
        path: String,
        /// Which rule.
        why: EntryError,
    },
}

impl Manifest {
    /// A manifest of `entries`, which must be sorted by path and begin with the root.
    ///
    /// # Errors
    /// [`ManifestError`] names the first entry that breaks a rule.
    pub fn new(header: Header, entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if header.version == 0 {
            return Err(ManifestError::Header("version"));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(ManifestError::TooMuch {
                what: "entries",
                claimed: entries.len() as u64,
                limit: MAX_ENTRIES as u64,
            });
        }
        check_tree(header.kind, &entries)?;
        let totals = sum(&entries)?;
        Ok(Self { header, totals, entries })
    }

    /// The manifest in `bytes`, all of which must belong to it.
    ///
    /// # Errors
    /// [`ManifestError`] names the first rule that is broken; nothing of the manifest is kept.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (header, totals, entries) = codec::decode(bytes)?;
        let manifest = Self::new(header, entries)?;
        if manifest.totals == totals { Ok(manifest) } else { Err(ManifestError::Totals) }
    }

    /// The bytes, the same for the same manifest everywhere.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&self.header, &self.totals, &self.entries)
    }

    /// What it says of the whole image.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The sums.
    #[must_use]
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The entries in order, the root first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry a hard link leads to, or the entry itself.
    #[must_use]
    pub fn resolve<'a>(&'a self, entry: &'a Entry) -> &'a Entry {
        match entry.kind {
            Kind::HardLink(first) => &self.entries[first as usize],
            Kind::Node(..) => entry,
        }
    }

    /// Every chunk of every file in order, repetition included.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkRef> + '_ {
        self.entries
            .iter()
            .filter_map(Entry::contents)
            .flat_map(|contents| contents.chunks.iter().copied())
    }
}

impl ManifestDigest {
    /// The digest of a manifest's bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Digest::of(bytes))
    }
}

fn at(index: usize, entry: &Entry, why: EntryError) -> ManifestError {
    entry_error(index, &alloc::format!("{}", entry.path), why)
}

pub(crate) fn entry_error(index: usize, path: &str, why: EntryError) -> ManifestError {
    ManifestError::Entry { index, path: path.chars().take(200).collect(), why }
}

/// Checks each entry and how they stand to one another, in one pass.
fn check_tree(kind: ImageKind, entries: &[Entry]) -> Result<(), ManifestError> {
    let Some(root) = entries.first() else {
        return Err(ManifestError::Truncated("entries"));
    };
    if !root.path.is_root() {
        return Err(at(0, root, EntryError::Root));
    }
    let fits = match kind {
        ImageKind::Tree => root.is_directory(),
        ImageKind::File => root.contents().is_some(),
    };
    if !fits {
        return Err(at(0, root, EntryError::RootKind));
    }
    check_kind(entries, 0).map_err(|why| at(0, root, why))?;
    // The entries from the root to the one before: any directory still to come must be among them.
    let mut chain = alloc::vec![root];
    for (index, entry) in entries.iter().enumerate().skip(1) {
        check_order(&entries[index - 1], entry)
            .and_then(|()| check_parent(&mut chain, entry))
            .and_then(|()| check_kind(entries, index))
            .map_err(|why| at(index, entry, why))?;
        chain.push(entry);
    }
    Ok(())
}

fn check_order(before: &Entry, entry: &Entry) -> Result<(), EntryError> {
    if entry.path.is_root() {
        return Err(EntryError::Root);
    }
    match before.path.cmp(&entry.path) {
        core::cmp::Ordering::Less => Ok(()),
        core::cmp::Ordering::Equal => Err(EntryError::Duplicate),
        core::cmp::Ordering::Greater => Err(EntryError::Unsorted),
    }
}

/// Shortens `chain` to the directory that `entry` is in.
fn check_parent(chain: &mut Vec<&Entry>, entry: &Entry) -> Result<(), EntryError> {
    let (directory, _) = entry.path.split().ok_or(EntryError::Root)?;
    while chain.last().is_some_and(|top| top.path.as_bytes() != directory) {
        chain.pop();
    }
    match chain.last() {
        None => Err(EntryError::NoParent),
        Some(parent) if !parent.is_directory() => Err(EntryError::ParentKind),
        Some(_) => Ok(()),
    }
}

fn check_kind(entries: &[Entry], index: usize) -> Result<(), EntryError> {
    match &entries[index].kind {
        Kind::Node(metadata, node) => metadata.check(node).and_then(|()| node.check()),
        Kind::HardLink(first) => {
            let earlier = usize::try_from(*first).ok().filter(|first| *first < index);
            match earlier.map(|first| &entries[first].kind) {
                Some(Kind::Node(_, node)) if !matches!(node, Node::Directory) => Ok(()),
                Some(_) | None => Err(EntryError::HardLink(*first)),
            }
        }
    }
}

fn sum(entries: &[Entry]) -> Result<Totals, ManifestError> {
    let mut totals = Totals { entries: entries.len() as u64, ..Totals::default() };
    for contents in entries.iter().filter_map(Entry::contents) {
        totals.files += 1;
        totals.bytes = totals.bytes.saturating_add(contents.size);
        totals.data_bytes = totals.data_bytes.saturating_add(contents.data_bytes());
        totals.chunks += contents.chunks.len() as u64;
    }
    if totals.bytes > MAX_IMAGE_BYTES {
        return Err(ManifestError::TooMuch {
            what: "bytes of all files",
            claimed: totals.bytes,
            limit: MAX_IMAGE_BYTES,
        });
    }
    Ok(totals)
}

#[cfg(test)]
pub(crate) mod tests;
