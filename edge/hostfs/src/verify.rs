//! Comparing a tree with its manifest, and trees with one another.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{Stat, major, minor};
use rustix::io::Errno;
use skep_base::Digest;
use skep_image::{Contents, Digester, Entry, Kind, Manifest, Metadata, Node, TreePath};

use crate::build::{BuildError, open_source};
use crate::dir::{identity, size};
use crate::read::{self, ReadError};
use crate::scan::{Found, Trouble, TroubleKind, Visitor, What, trouble_of, walk};
use crate::write::holds;

/// Most differences that are named; the rest is counted.
const MAX_NAMED: usize = 1000;
/// Contents are compared in blocks of this many bytes, of which those of zeroes count as holes.
const BLOCK: u64 = 4096;

/// How a tree is compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyOptions {
    /// Owners and attributes that need root, and devices, may be missing.
    pub as_user: bool,
}

/// One way in which a tree is not what its manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, escaped for a terminal; `.` for the root.
    pub path: String,
    /// What.
    pub what: Mismatch,
}

/// What can differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// In the manifest and not in the tree.
    Missing,
    /// In the tree and not in the manifest.
    Extra,
    /// Another kind of thing.
    Kind {
        /// In the manifest.
        wanted: &'static str,
        /// In the tree.
        found: &'static str,
    },
    /// Other bytes, or another length.
    Contents,
    /// Another target of a symbolic link.
    Target,
    /// Another device.
    Device,
    /// Another mode.
    Mode {
        /// In the manifest.
        wanted: u16,
        /// In the tree.
        found: u16,
    },
    /// Another user or group.
    Owner {
        /// In the manifest.
        wanted: (u32, u32),
        /// In the tree.
        found: (u32, u32),
    },
    /// Another time of change.
    Time,
    /// An extended attribute, by name, that is missing, too many or has another value.
    Xattr(String),
    /// A name of another file than the manifest says.
    HardLink,
    /// It cannot be compared.
    Trouble(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.path)?;
        match &self.what {
            Mismatch::Missing => f.write_str("is missing"),
            Mismatch::Extra => f.write_str("is not in the image"),
            Mismatch::Kind { wanted, found } => write!(f, "is a {found} instead of a {wanted}"),
            Mismatch::Contents => f.write_str("has other contents"),
            Mismatch::Target => f.write_str("points elsewhere"),
            Mismatch::Device => f.write_str("is another device"),
            Mismatch::Mode { wanted, found } => {
                write!(f, "has mode {found:04o} instead of {wanted:04o}")
            }
            Mismatch::Owner { wanted, found } => {
                write!(f, "belongs to {}:{} instead of {}:{}", found.0, found.1, wanted.0, wanted.1)
            }
            Mismatch::Time => f.write_str("has another time of change"),
            Mismatch::Xattr(name) => write!(f, "differs in extended attribute {name}"),
            Mismatch::HardLink => f.write_str("is a name of another file"),
            Mismatch::Trouble(what) => f.write_str(what),
        }
    }
}

/// How the tree or file at `path` differs from `manifest`; the first thousand, and how many in all.
///
/// # Errors
/// [`BuildError`] when `path` cannot be opened at all.
pub fn verify(
    path: &Path,
    manifest: &Manifest,
    options: VerifyOptions,
) -> Result<(Vec<Difference>, u64), BuildError> {
    let (root, _) = open_source(path)?;
    let mut comparer = Comparer {
        manifest,
        options,
        next: 0,
        inodes: BTreeMap::new(),
        differences: Vec::new(),
        count: 0,
    };
    let walked: Result<(), Never> = walk(&root, true, &mut comparer);
    if let Err(never) = walked {
        match never {}
    }
    comparer.missing_until(None);
    Ok((comparer.differences, comparer.count))
}

/// One digest over everything that is kept of the tree or file at `path`: names, kinds, metadata,
/// which names are one file, and contents, in which a hole and zeroes are the same. Equal digests
/// mean equal copies, whatever filesystem each is on.
///
/// # Errors
/// [`BuildError`] when something cannot be read, or changes meanwhile.
pub fn tree_digest(path: &Path) -> Result<Digest, BuildError> {
    let (root, _) = open_source(path)?;
    let mut digester = TreeDigester {
        sum: Digester::new(),
        inodes: BTreeMap::new(),
        count: 0,
        troubles: Vec::new(),
        trouble_count: 0,
    };
    let walked: Result<(), Never> = walk(&root, true, &mut digester);
    if let Err(never) = walked {
        match never {}
    }
    if digester.trouble_count == 0 {
        return Ok(digester.sum.finish());
    }
    Err(BuildError::Troubles {
        source_path: path.to_owned(),
        named: digester.troubles,
        count: digester.trouble_count,
    })
}

/// An error that does not occur.
enum Never {}

struct Comparer<'a> {
    manifest: &'a Manifest,
    options: VerifyOptions,
    /// The first entry that has not been compared.
    next: usize,
    /// The entry that first named an inode.
    inodes: BTreeMap<(u64, u64), usize>,
    differences: Vec<Difference>,
    count: u64,
}

impl Visitor for Comparer<'_> {
    type Error = Never;

    fn found(&mut self, found: Found<'_>) -> Result<(), Never> {
        self.missing_until(Some(found.path));
        match self.manifest.entries().get(self.next) {
            Some(entry) if entry.path == *found.path => {
                let index = self.next;
                self.next += 1;
                self.compare(index, entry, &found);
            }
            _ => self.differ(found.path, Mismatch::Extra),
        }
        Ok(())
    }

    fn trouble(&mut self, trouble: Trouble) -> Result<(), Never> {
        let what = match trouble.kind {
            TroubleKind::Socket => Mismatch::Extra,
            // Everything is walked, mounted or not.
            TroubleKind::Mount => return Ok(()),
            TroubleKind::Unreadable(cause) => Mismatch::Trouble(format!("cannot be read: {cause}")),
            TroubleKind::Changed | TroubleKind::Vanished => {
                Mismatch::Trouble("changes while it is compared".to_owned())
            }
            TroubleKind::Path(_) | TroubleKind::Unknown => Mismatch::Extra,
        };
        self.note(trouble.path, what);
        Ok(())
    }
}

impl Comparer<'_> {
    /// Names the entries before `path`, or all that are left, as missing.
    fn missing_until(&mut self, path: Option<&TreePath>) {
        while let Some(entry) = self.manifest.entries().get(self.next) {
            if path.is_some_and(|path| entry.path.cmp(path) != Ordering::Less) {
                return;
            }
            self.next += 1;
            let device = self.manifest.resolve(entry).node();
            let excused = self.options.as_user
                && device.is_some_and(|(_, node)| crate::write::is_device(node));
            if !excused {
                self.differ(&entry.path, Mismatch::Missing);
            }
        }
    }

    fn compare(&mut self, index: usize, entry: &Entry, found: &Found<'_>) {
        let known = self.inodes.get(&identity(&found.stat)).copied();
        if !matches!(found.what, What::Directory) && found.stat.st_nlink > 1 {
            self.inodes.entry(identity(&found.stat)).or_insert(index);
        }
        match &entry.kind {
            Kind::HardLink(first) => {
                if known != Some(*first as usize) {
                    self.differ(&entry.path, Mismatch::HardLink);
                }
            }
            Kind::Node(metadata, node) => {
                if known.is_some() {
                    self.differ(&entry.path, Mismatch::HardLink);
                }
                self.compare_node(&entry.path, node, found);
                match found.metadata() {
                    Ok(there) => self.compare_metadata(&entry.path, metadata, &there),
                    Err(errno) => self.errno(&entry.path, errno),
                }
            }
        }
    }

    fn compare_node(&mut self, path: &TreePath, node: &Node, found: &Found<'_>) {
        let same = match (node, &found.what) {
            (Node::Directory, What::Directory) | (Node::Fifo, What::Fifo) => return,
            (Node::File(contents), What::File(file)) => {
                match same_contents(file.as_fd(), &found.stat, contents) {
                    Ok(true) => return,
                    Ok(false) => Mismatch::Contents,
                    Err(errno) => return self.errno(path, errno),
                }
            }
            (Node::Symlink(target), What::Symlink(there)) => {
                if target == there {
                    return;
                }
                Mismatch::Target
            }
            (Node::CharDevice { major: first, minor: second }, What::CharDevice)
            | (Node::BlockDevice { major: first, minor: second }, What::BlockDevice) => {
                if (*first, *second) == device(&found.stat) {
                    return;
                }
                Mismatch::Device
            }
            _ => Mismatch::Kind { wanted: node.word(), found: word(&found.what) },
        };
        self.differ(path, same);
    }

    fn compare_metadata(&mut self, path: &TreePath, wanted: &Metadata, found: &Metadata) {
        let owners = ((wanted.uid, wanted.gid), (found.uid, found.gid));
        let excused_owner = self.options.as_user && owners.0 != owners.1;
        if owners.0 != owners.1 && !excused_owner {
            self.differ(path, Mismatch::Owner { wanted: owners.0, found: owners.1 });
        }
        // Without the owner, what lends the owner's rights was left out as well.
        let lent = if excused_owner { 0o6000 } else { 0 };
        if wanted.mode & !lent != found.mode & !lent {
            self.differ(path, Mismatch::Mode { wanted: wanted.mode, found: found.mode });
        }
        if wanted.modified != found.modified {
            self.differ(path, Mismatch::Time);
        }
        let (mut left, mut right) = (wanted.xattrs.as_slice(), found.xattrs.as_slice());
        loop {
            let name = match (left.first(), right.first()) {
                (None, None) => break,
                (Some(a), Some(b)) => a.name.as_slice().min(b.name.as_slice()),
                (Some(only), None) | (None, Some(only)) => only.name.as_slice(),
            };
            let (a, rest_left) = take(left, name);
            let (b, rest_right) = take(right, name);
            (left, right) = (rest_left, rest_right);
            let excused = self.options.as_user && !name.starts_with(b"user.");
            if a != b && !excused {
                self.differ(path, Mismatch::Xattr(name.escape_ascii().to_string()));
            }
        }
    }

    fn errno(&mut self, path: &TreePath, errno: Errno) {
        let trouble = Trouble { path: path.to_string(), kind: trouble_of(errno) };
        match self.trouble(trouble) {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    fn differ(&mut self, path: &TreePath, what: Mismatch) {
        self.note(path.to_string(), what);
    }

    fn note(&mut self, path: String, what: Mismatch) {
        self.count += 1;
        if self.differences.len() < MAX_NAMED {
            self.differences.push(Difference { path, what });
        }
    }
}

type Xattrs<'a> = &'a [skep_image::Xattr];

/// The attribute `name`, should it be the first of `xattrs`, and those after it.
fn take<'a>(xattrs: Xattrs<'a>, name: &[u8]) -> (Option<&'a skep_image::Xattr>, Xattrs<'a>) {
    match xattrs.split_first() {
        Some((first, rest)) if first.name == name => (Some(first), rest),
        _ => (None, xattrs),
    }
}

const fn word(what: &What) -> &'static str {
    match what {
        What::Directory => "directory",
        What::File(_) => "file",
        What::Symlink(_) => "symbolic link",
        What::Fifo => "fifo",
        What::CharDevice => "character device",
        What::BlockDevice => "block device",
    }
}

fn device(stat: &Stat) -> (u32, u32) {
    (major(stat.st_rdev), minor(stat.st_rdev))
}

/// Whether the file has these contents. Where the manifest has holes there may be zeroes.
fn same_contents(file: BorrowedFd<'_>, stat: &Stat, contents: &Contents) -> Result<bool, Errno> {
    if size(stat) != contents.size || !holds(file, contents)? {
        return Ok(false);
    }
    let data = Contents {
        size: contents.size,
        holes: read::holes(file, contents.size)?,
        chunks: Vec::new(),
    };
    for hole in &contents.holes {
        for (offset, len) in data.extents() {
            let from = offset.max(hole.offset);
            let to = (offset + len).min(hole.offset + hole.len);
            if from < to && !is_zero(file, (from, to - from))? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn is_zero(file: BorrowedFd<'_>, range: (u64, u64)) -> Result<bool, Errno> {
    let mut check = |bytes: &[u8]| match bytes.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(()),
    };
    match read::range(file, range, &mut check) {
        Ok(()) => Ok(true),
        Err(ReadError::Short | ReadError::Taker(())) => Ok(false),
        Err(ReadError::Io(errno)) => Err(errno),
    }
}

struct TreeDigester {
    sum: Digester,
    inodes: BTreeMap<(u64, u64), u64>,
    count: u64,
    troubles: Vec<Trouble>,
    trouble_count: u64,
}

impl Visitor for TreeDigester {
    type Error = Never;

    fn found(&mut self, found: Found<'_>) -> Result<(), Never> {
        let index = self.count;
        self.count += 1;
        self.sum.bytes(found.path.as_bytes());
        let several = found.stat.st_nlink > 1 && !matches!(found.what, What::Directory);
        if several {
            let first = *self.inodes.entry(identity(&found.stat)).or_insert(index);
            if first != index {
                self.sum.bytes(b"hard link");
                self.sum.number(first);
                return Ok(());
            }
        }
        self.sum.bytes(word(&found.what).as_bytes());
        if let Err(kind) = self.node(&found) {
            return self.trouble(Trouble { path: found.path.to_string(), kind });
        }
        Ok(())
    }

    fn trouble(&mut self, trouble: Trouble) -> Result<(), Never> {
        if !trouble.kind.is_note() {
            self.trouble_count += 1;
            if self.troubles.len() < MAX_NAMED {
                self.troubles.push(trouble);
            }
        }
        Ok(())
    }
}

impl TreeDigester {
    fn node(&mut self, found: &Found<'_>) -> Result<(), TroubleKind> {
        let metadata = found.metadata().map_err(trouble_of)?;
        self.sum.number(metadata.mode.into());
        self.sum.number(metadata.uid.into());
        self.sum.number(metadata.gid.into());
        self.sum.number(metadata.modified.seconds.cast_unsigned());
        self.sum.number(metadata.modified.nanos.into());
        self.sum.number(metadata.xattrs.len() as u64);
        for xattr in &metadata.xattrs {
            self.sum.bytes(&xattr.name);
            self.sum.bytes(&xattr.value);
        }
        match &found.what {
            What::Directory | What::Fifo => Ok(()),
            What::Symlink(target) => {
                self.sum.bytes(target);
                Ok(())
            }
            What::CharDevice | What::BlockDevice => {
                let (major, minor) = device(&found.stat);
                self.sum.number(major.into());
                self.sum.number(minor.into());
                Ok(())
            }
            What::File(file) => match self.contents(file.as_fd(), size(&found.stat)) {
                Ok(()) => Ok(()),
                Err(ReadError::Io(errno)) => Err(trouble_of(errno)),
                Err(ReadError::Short | ReadError::Taker(())) => Err(TroubleKind::Changed),
            },
        }
    }

    /// Size, then every block that is not all zeroes with its number.
    fn contents(&mut self, file: BorrowedFd<'_>, size: u64) -> Result<(), ReadError<()>> {
        self.sum.number(size);
        let data = Contents { size, holes: read::holes(file, size)?, chunks: Vec::new() };
        let mut done = 0;
        for (offset, len) in data.extents() {
            let from = (offset / BLOCK * BLOCK).max(done);
            let to = (offset + len).next_multiple_of(BLOCK).min(size);
            if from >= to {
                continue;
            }
            done = to;
            let (mut at, mut block) = (from, Vec::new());
            let mut take = |mut bytes: &[u8]| {
                while !bytes.is_empty() {
                    let room = usize::try_from(BLOCK).unwrap_or(usize::MAX) - block.len();
                    let (part, rest) = bytes.split_at(room.min(bytes.len()));
                    block.extend_from_slice(part);
                    bytes = rest;
                    let end = at + block.len() as u64;
                    if end.is_multiple_of(BLOCK) || end == to {
                        if block.iter().any(|byte| *byte != 0) {
                            self.sum.number(at);
                            self.sum.bytes(&block);
                        }
                        block.clear();
                        at = end;
                    }
                }
                Ok(())
            };
            read::range(file, (from, to - from), &mut take)?;
        }
        self.sum.number(u64::MAX);
        Ok(())
    }
}
