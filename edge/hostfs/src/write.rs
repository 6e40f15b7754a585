//! Making one entry, with all that is kept of it, in the order the system allows:
//!
//! owner first, since giving a file away clears set-user-id and capabilities; attributes while the
//! mode still lets us write; then the mode; then access control lists, which share bits with it;
//! the time last, since all before would move it.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, makedev,
};
use rustix::io::Errno;
use skep_image::{ChunkRef, Contents, Metadata, Node, TreePath};

use crate::dir::{Dir, file_type, size};
use crate::read::{self, ReadError};
use crate::report::{LeftOut, LeftWhat};
use crate::scan::modified;
use crate::xattr::{ACLS, Subject};

/// A system call that failed, and what it was for.
pub(crate) type Failed = (&'static str, Errno);

pub(crate) fn during(what: &'static str) -> impl Fn(Errno) -> Failed {
    move |errno| (what, errno)
}

/// Makes the directory `name`, open to this user alone, or takes over the one that is there.
pub(crate) fn directory(dir: &Dir, name: &[u8]) -> Result<Dir, Failed> {
    match rustix::fs::mkdirat(dir.fd(), name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(("make the directory", errno)),
    }
    let made = open_ours(dir, name).map_err(during("open the directory"))?;
    // It may have inherited rights from the directory it is in, or have its final ones already.
    rustix::fs::fchmod(made.fd(), Mode::RWXU).map_err(during("set the mode of"))?;
    for acl in ACLS {
        let removed = Subject::Open(made.fd()).remove(acl);
        removed.map_err(during("remove an inherited access control list of"))?;
    }
    Ok(made)
}

/// Opens a directory of the stage, of which an earlier attempt may have shut us out.
fn open_ours(dir: &Dir, name: &[u8]) -> Result<Dir, Errno> {
    match dir.open_dir_here(name) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir.fd(), name, Mode::RWXU, AtFlags::empty())?;
            dir.open_dir_here(name)
        }
        other => other,
    }
}

/// Makes anything but a directory or a regular file. Whether it was made.
pub(crate) fn special(
    dir: &Dir,
    name: &[u8],
    path: &TreePath,
    node: &Node,
    left: &mut LeftOut,
) -> Result<bool, Failed> {
    let device = |kind, major: &u32, minor: &u32| {
        rustix::fs::mknodat(dir.fd(), name, kind, Mode::empty(), makedev(*major, *minor))
    };
    let made = match node {
        Node::Symlink(target) => rustix::fs::symlinkat(target, dir.fd(), name),
        Node::Fifo => rustix::fs::mknodat(dir.fd(), name, FileType::Fifo, Mode::empty(), 0),
        Node::CharDevice { major, minor } => device(FileType::CharacterDevice, major, minor),
        Node::BlockDevice { major, minor } => device(FileType::BlockDevice, major, minor),
        Node::Directory | Node::File(_) => Err(Errno::INVAL),
    };
    match made {
        Ok(()) => Ok(true),
        Err(Errno::PERM) if is_device(node) => {
            left.add(path, LeftWhat::Device);
            Ok(false)
        }
        Err(errno) => Err(("make", errno)),
    }
}

pub(crate) const fn is_device(node: &Node) -> bool {
    matches!(node, Node::CharDevice { .. } | Node::BlockDevice { .. })
}

/// Whether `name` is a file that an earlier attempt finished: of this size and time, which is set
/// last, and with these very contents.
pub(crate) fn is_finished(
    dir: &Dir,
    name: &[u8],
    metadata: &Metadata,
    contents: &Contents,
) -> Result<bool, Errno> {
    let Some(stat) = dir.stat_if_any(name)? else {
        return Ok(false);
    };
    let plausible = file_type(&stat) == FileType::RegularFile
        && size(&stat) == contents.size
        && modified(&stat) == metadata.modified;
    if !plausible {
        return Ok(false);
    }
    match dir.open_file(name) {
        Ok(file) => holds(file.as_fd(), contents),
        // Its final mode may keep us from reading it; then it is written again.
        Err(Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether the file's bytes outside the holes are those of the chunks.
pub(crate) fn holds(file: BorrowedFd<'_>, contents: &Contents) -> Result<bool, Errno> {
    let mut expected = contents.chunks.iter();
    let mut waiting: Vec<u8> = Vec::new();
    let mut next: Option<&ChunkRef> = expected.next();
    let mut compare = |bytes: &[u8]| {
        waiting.extend_from_slice(bytes);
        while let Some(chunk) = next.filter(|chunk| waiting.len() >= chunk.len()) {
            if !chunk.matches(&waiting[..chunk.len()]) {
                return Err(());
            }
            waiting.drain(..chunk.len());
            next = expected.next();
        }
        Ok(())
    };
    for extent in contents.extents() {
        match read::range(file, extent, &mut compare) {
            Ok(()) => {}
            Err(ReadError::Short | ReadError::Taker(())) => return Ok(false),
            Err(ReadError::Io(errno)) => return Err(errno),
        }
    }
    Ok(next.is_none() && waiting.is_empty())
}

/// What metadata is set on.
#[derive(Clone, Copy)]
pub(crate) enum Handle<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A name in a directory of the stage that nobody else can reach: of a pipe, a device, or (when
    /// the last is true) a symbolic link.
    Name(&'a Dir, &'a [u8], bool),
}

impl<'a> Handle<'a> {
    const fn subject(self) -> Subject<'a> {
        match self {
            Self::Open(fd) => Subject::Open(fd),
            Self::Name(dir, name, _) => Subject::Name(dir, name),
        }
    }

    fn stat(self) -> Result<Stat, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fstat(fd),
            Self::Name(dir, name, _) => dir.stat(name),
        }
    }

    fn chown(self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Name(dir, name, _) => {
                rustix::fs::chownat(dir.fd(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn chmod(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            // A symbolic link has no mode of its own.
            Self::Name(_, _, true) => Ok(()),
            Self::Name(dir, name, false) => {
                rustix::fs::chmodat(dir.fd(), name, mode, AtFlags::empty())
            }
        }
    }

    fn set_time(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, times),
            Self::Name(dir, name, _) => {
                rustix::fs::utimensat(dir.fd(), name, times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }
}

/// Sets all of `metadata`; what privilege is missing for goes to `left`.
pub(crate) fn set_metadata(
    handle: Handle<'_>,
    path: &TreePath,
    metadata: &Metadata,
    left: &mut LeftOut,
) -> Result<(), Failed> {
    let stat = set_owner(handle, path, metadata, left)?;
    let is_acl = |name: &[u8]| ACLS.contains(&name);
    remove_others(handle.subject(), metadata)?;
    for xattr in metadata.xattrs.iter().filter(|xattr| !is_acl(&xattr.name)) {
        set_xattr(handle.subject(), path, xattr, left)?;
    }
    let mut mode = u32::from(metadata.mode);
    let foreign = (u32::from(stat.st_uid != metadata.uid) * 0o4000)
        | (u32::from(stat.st_gid != metadata.gid) * 0o2000);
    if mode & foreign != 0 {
        left.add(path, LeftWhat::SetId);
        mode &= !foreign;
    }
    handle.chmod(Mode::from_raw_mode(mode)).map_err(during("set the mode of"))?;
    for xattr in metadata.xattrs.iter().filter(|xattr| is_acl(&xattr.name)) {
        set_xattr(handle.subject(), path, xattr, left)?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: metadata.modified.seconds,
            tv_nsec: metadata.modified.nanos.into(),
        },
    };
    handle.set_time(&times).map_err(during("set the time of"))
}

/// Gives it to its owner as far as we may; what it is afterwards.
fn set_owner(
    handle: Handle<'_>,
    path: &TreePath,
    metadata: &Metadata,
    left: &mut LeftOut,
) -> Result<Stat, Failed> {
    let stat = handle.stat().map_err(during("look at"))?;
    if (stat.st_uid, stat.st_gid) == (metadata.uid, metadata.gid) {
        return Ok(stat);
    }
    // The manifest holds no number that the system would take for "leave it".
    let uid = Uid::from_raw(metadata.uid);
    let gid = Gid::from_raw(metadata.gid);
    match handle.chown(Some(uid), Some(gid)) {
        Ok(()) => {}
        // INVAL: a number that this user namespace does not map.
        Err(Errno::PERM | Errno::INVAL) => {
            left.add(path, LeftWhat::Owner { uid: metadata.uid, gid: metadata.gid });
            // A group that we are in may still be set.
            match handle.chown(None, Some(gid)) {
                Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
                Err(errno) => return Err(("set the group of", errno)),
            }
        }
        Err(errno) => return Err(("set the owner of", errno)),
    }
    handle.stat().map_err(during("look at"))
}

/// Removes attributes that it came with and should not have, such as inherited access rights.
fn remove_others(subject: Subject<'_>, metadata: &Metadata) -> Result<(), Failed> {
    for name in subject.names().map_err(during("list extended attributes of"))? {
        if metadata.xattrs.iter().any(|xattr| xattr.name == name) {
            continue;
        }
        match subject.remove(&name) {
            // A label that this host's security module puts on everything stays.
            Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::INVAL) => {}
            Err(errno) => return Err(("remove an extended attribute of", errno)),
        }
    }
    Ok(())
}

fn set_xattr(
    subject: Subject<'_>,
    path: &TreePath,
    xattr: &skep_image::Xattr,
    left: &mut LeftOut,
) -> Result<(), Failed> {
    match subject.set(xattr) {
        Ok(()) => Ok(()),
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => {
            left.add(path, LeftWhat::Xattr(xattr.name.clone()));
            Ok(())
        }
        Err(errno) => Err(("set an extended attribute of", errno)),
    }
}
