//! One entry of a tree with everything that `rsync -aHAXS --numeric-ids` would keep of it.

use alloc::vec::Vec;

use crate::chunk::{CHUNK_MAX, CHUNK_MIN, ChunkRef};
use crate::limits::{
    MAX_DEVICE, MAX_FILE_BYTES, MAX_HOLES, MAX_NAME_BYTES, MAX_TARGET_BYTES, MAX_XATTR_BYTES,
    MAX_XATTRS,
};
use crate::path::{PathError, TreePath};

/// A name in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: TreePath,
    /// What it is.
    pub kind: Kind,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A thing of its own.
    Node(Metadata, Node),
    /// One more name of a thing that an earlier entry names: the index of that entry, which is a
    /// [`Kind::Node`] and no directory. All names share its metadata.
    HardLink(u32),
}

/// Owner, permissions, time and extended attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The lower twelve bits of the mode: permissions, set-user-id, set-group-id, sticky. A
    /// symbolic link's is always `0o777`.
    pub mode: u16,
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// When the contents were last changed.
    pub modified: Timestamp,
    /// Extended attributes by ascending name, capabilities (`security.capability`) and access
    /// control lists (`system.posix_acl_access`, `system.posix_acl_default`) among them.
    pub xattrs: Vec<Xattr>,
}

/// Seconds since 1970, negative before it, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanos: u32,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// With its namespace, such as `user.origin`.
    pub name: Vec<u8>,
    /// Any bytes.
    pub value: Vec<u8>,
}

/// The kinds of thing a tree holds. Sockets are not among them: they mean nothing without the
/// process that bound them, and are named as skipped when an image is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory; its entries follow it.
    Directory,
    /// A regular file.
    File(Contents),
    /// A symbolic link to these bytes.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Which driver.
        major: u32,
        /// Which of its devices.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Which driver.
        major: u32,
        /// Which of its devices.
        minor: u32,
    },
}

/// A regular file's bytes: holes, and the chunks of everything between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Length in bytes, holes included.
    pub size: u64,
    /// Ranges that read as zeroes and take no space, ascending, apart from one another.
    pub holes: Vec<Hole>,
    /// The bytes outside the holes, one after the other, as chunks. A chunk may span a hole.
    pub chunks: Vec<ChunkRef>,
}

/// A range without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// First byte.
    pub offset: u64,
    /// How many bytes, at least one.
    pub len: u64,
}

/// Which rule an entry breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The path itself.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The first entry is not the root, or a later one is.
    #[error("an empty path is the root's, which is the first entry and no other")]
    Root,
    /// The root is not what the image's kind says.
    #[error("the root of a tree is a directory, and that of a file image the file itself")]
    RootKind,
    /// Twice the same path.
    #[error("the path is there twice")]
    Duplicate,
    /// Not in ascending order.
    #[error("entries are not in ascending order")]
    Unsorted,
    /// No entry for the directory it is in.
    #[error("the directory it is in has no entry")]
    NoParent,
    /// What it is in is a file, a link or a device.
    #[error("what it is in is not a directory")]
    ParentKind,
    /// The first byte of the entry is none of the known kinds.
    #[error("unknown kind of entry {0}")]
    UnknownKind(u8),
    /// Bits over `0o7777`, or a symbolic link whose mode is not `0o777`.
    #[error("mode {0:o} is out of range")]
    Mode(u64),
    /// The number by which system calls say "leave it as it is".
    #[error("user and group {} mean nobody", u32::MAX)]
    Owner,
    /// Nanoseconds of a second or more.
    #[error("{0} nanoseconds are a second or more")]
    Nanos(u32),
    /// A name that is empty, too long, holds NUL or is out of order.
    #[error("extended attributes must have names in ascending order, without NUL, within bounds")]
    Xattr,
    /// Empty, too long, or with NUL.
    #[error("target of a symbolic link is empty, too long or holds NUL")]
    Target,
    /// Beyond what Linux has.
    #[error("device number {0}:{1} is out of range")]
    Device(u32, u32),
    /// Beyond what offsets reach.
    #[error("file of {0} bytes is too large")]
    Size(u64),
    /// Empty, overlapping, touching, unsorted or beyond the end.
    #[error("holes must be apart, ascending and within the file")]
    Holes,
    /// Empty, over the largest size, or below the smallest and not the last.
    #[error("chunk of {0} bytes is outside the sizes chunks have")]
    ChunkSize(u32),
    /// The chunks are not as long as the file without its holes.
    #[error("chunks hold {chunks} bytes where the file has {data}")]
    ChunkSum {
        /// Sum of the chunks' lengths.
        chunks: u64,
        /// Size without the holes.
        data: u64,
    },
    /// To an entry that is not there, comes later, is a directory, or is itself a hard link.
    #[error("hard link to entry {0}, which is not an earlier file")]
    HardLink(u32),
}

impl Entry {
    /// The metadata and node, when this is not a hard link to an earlier one.
    #[must_use]
    pub const fn node(&self) -> Option<(&Metadata, &Node)> {
        match &self.kind {
            Kind::Node(metadata, node) => Some((metadata, node)),
            Kind::HardLink(_) => None,
        }
    }

    /// Whether this is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Node(_, Node::Directory))
    }

    /// A regular file's contents.
    #[must_use]
    pub const fn contents(&self) -> Option<&Contents> {
        match &self.kind {
            Kind::Node(_, Node::File(contents)) => Some(contents),
            Kind::Node(..) | Kind::HardLink(_) => None,
        }
    }
}

impl Node {
    /// The kind in a word, for people.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "file",
            Self::Symlink(_) => "symbolic link",
            Self::Fifo => "fifo",
            Self::CharDevice { .. } => "character device",
            Self::BlockDevice { .. } => "block device",
        }
    }
}

impl Contents {
    /// How many bytes are outside the holes.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        let holes: u64 = self.holes.iter().map(|hole| hole.len).sum();
        self.size.saturating_sub(holes)
    }

    /// The ranges outside the holes as (offset, length), ascending, none empty.
    pub fn extents(&self) -> impl Iterator<Item = (u64, u64)> {
        let ends = Hole { offset: self.size, len: 0 };
        let mut at = 0;
        self.holes.iter().copied().chain(core::iter::once(ends)).filter_map(move |hole| {
            let extent = (at, hole.offset - at);
            at = hole.offset + hole.len;
            (extent.1 > 0).then_some(extent)
        })
    }

    pub(crate) fn check(&self) -> Result<(), EntryError> {
        if self.size > MAX_FILE_BYTES {
            return Err(EntryError::Size(self.size));
        }
        self.check_holes()?;
        let mut sum = 0_u64;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let last = index + 1 == self.chunks.len();
            let least = if last { 1 } else { CHUNK_MIN };
            if !(least..=CHUNK_MAX).contains(&chunk.len()) {
                return Err(EntryError::ChunkSize(chunk.len));
            }
            // At most 2^23 chunks (they stand in the manifest) of 2^18 bytes: no overflow.
            sum += u64::from(chunk.len);
        }
        let data = self.data_bytes();
        if sum == data { Ok(()) } else { Err(EntryError::ChunkSum { chunks: sum, data }) }
    }

    fn check_holes(&self) -> Result<(), EntryError> {
        if self.holes.len() > MAX_HOLES {
            return Err(EntryError::Holes);
        }
        let mut end = None;
        for hole in &self.holes {
            let apart = end.is_none_or(|end| hole.offset > end);
            let hole_end = hole.offset.checked_add(hole.len);
            match hole_end {
                Some(hole_end) if apart && hole.len > 0 && hole_end <= self.size => {
                    end = Some(hole_end);
                }
                _ => return Err(EntryError::Holes),
            }
        }
        Ok(())
    }
}

impl Metadata {
    pub(crate) fn check(&self, node: &Node) -> Result<(), EntryError> {
        let symlink = matches!(node, Node::Symlink(_));
        if self.mode > 0o7777 || (symlink && self.mode != 0o777) {
            return Err(EntryError::Mode(u64::from(self.mode)));
        }
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Err(EntryError::Owner);
        }
        if self.modified.nanos >= 1_000_000_000 {
            return Err(EntryError::Nanos(self.modified.nanos));
        }
        let ascending = self.xattrs.windows(2).all(|pair| pair[0].name < pair[1].name);
        let sound = self.xattrs.iter().all(|xattr| {
            (1..=MAX_NAME_BYTES).contains(&xattr.name.len())
                && !xattr.name.contains(&0)
                && xattr.value.len() <= MAX_XATTR_BYTES
        });
        if ascending && sound && self.xattrs.len() <= MAX_XATTRS {
            Ok(())
        } else {
            Err(EntryError::Xattr)
        }
    }
}

impl Node {
    pub(crate) fn check(&self) -> Result<(), EntryError> {
        match self {
            Self::Directory | Self::Fifo => Ok(()),
            Self::File(contents) => contents.check(),
            Self::Symlink(target) => {
                let sound = (1..=MAX_TARGET_BYTES).contains(&target.len()) && !target.contains(&0);
                sound.then_some(()).ok_or(EntryError::Target)
            }
            Self::CharDevice { major, minor } | Self::BlockDevice { major, minor } => {
                let sound = *major <= MAX_DEVICE.0 && *minor <= MAX_DEVICE.1;
                sound.then_some(()).ok_or(EntryError::Device(*major, *minor))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_what_the_holes_leave() {
        let hole = |offset, len| Hole { offset, len };
        let extents = |size, holes: &[Hole]| {
            let contents = Contents { size, holes: holes.to_vec(), chunks: Vec::new() };
            let extents: Vec<_> = contents.extents().collect();
            assert_eq!(extents.iter().map(|e| e.1).sum::<u64>(), contents.data_bytes());
            extents
        };
        assert_eq!(extents(10, &[]), [(0, 10)]);
        assert_eq!(extents(0, &[]), []);
        assert_eq!(extents(10, &[hole(0, 10)]), []);
        assert_eq!(extents(10, &[hole(0, 2), hole(4, 1)]), [(2, 2), (5, 5)]);
        assert_eq!(extents(10, &[hole(3, 7)]), [(0, 3)]);
    }
}
