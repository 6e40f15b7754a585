//! Walking a tree in the order manifests have: a directory, then what is in it, names as bytes.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use skep_image::{Metadata, PathError, Timestamp, TreePath};

use crate::dir::{Dir, file_type};
use crate::xattr::Subject;

/// Something the walk came upon that is not simply there to be read.
#[derive(Debug)]
pub struct Trouble {
    /// Where, below the root, escaped for a terminal.
    pub path: String,
    /// What.
    pub kind: TroubleKind,
}

/// What can be the matter with an entry.
#[derive(Debug)]
pub enum TroubleKind {
    /// The system refuses to open or read it.
    Unreadable(std::io::Error),
    /// It was changed while it was read, several times over.
    Changed,
    /// It was listed, and gone a moment later.
    Vanished,
    /// Its path is longer or deeper than images hold.
    Path(PathError),
    /// More extended attributes, or a longer one, than images hold; or a kind of file Linux has
    /// not.
    Unknown,
    /// A socket, which no image holds: it means nothing without the process that bound it.
    Socket,
    /// Another filesystem is mounted here: the directory is taken, what is in it is not.
    Mount,
}

impl TroubleKind {
    /// Whether this is worth a word only, and no reason to fail.
    #[must_use]
    pub const fn is_note(&self) -> bool {
        matches!(self, Self::Socket | Self::Mount)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match &self.kind {
            TroubleKind::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
            TroubleKind::Changed => f.write_str("changes while it is read"),
            TroubleKind::Vanished => f.write_str("was removed while the tree was read"),
            TroubleKind::Path(why) => write!(f, "{why}"),
            TroubleKind::Unknown => f.write_str("is of a kind that images do not hold"),
            TroubleKind::Socket => f.write_str("is a socket, which is skipped"),
            TroubleKind::Mount => {
                f.write_str("is a mount point, of which only the directory itself is taken")
            }
        }
    }
}

/// One entry, opened where it can be.
pub(crate) struct Found<'a> {
    pub(crate) path: &'a TreePath,
    pub(crate) stat: Stat,
    pub(crate) subject: Subject<'a>,
    pub(crate) what: What,
}

pub(crate) enum What {
    Directory,
    File(OwnedFd),
    Symlink(Vec<u8>),
    Fifo,
    CharDevice,
    BlockDevice,
}

impl Found<'_> {
    pub(crate) fn metadata(&self) -> Result<Metadata, Errno> {
        match &self.what {
            What::File(file) => metadata(&self.stat, Subject::Open(file.as_fd())),
            What::Directory
            | What::Symlink(_)
            | What::Fifo
            | What::CharDevice
            | What::BlockDevice => metadata(&self.stat, self.subject),
        }
    }
}

/// The metadata of what `stat` and `subject` both are.
pub(crate) fn metadata(stat: &Stat, subject: Subject<'_>) -> Result<Metadata, Errno> {
    let bits = u16::try_from(stat.st_mode & 0o7777).unwrap_or(0);
    let symlink = file_type(stat) == FileType::Symlink;
    Ok(Metadata {
        mode: if symlink { 0o777 } else { bits },
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: modified(stat),
        xattrs: subject.read_all()?,
    })
}

pub(crate) fn modified(stat: &Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// What tells that a file was written to, or its metadata changed, between two looks at it.
pub(crate) fn is_same(before: &Stat, after: &Stat) -> bool {
    let key = |stat: &Stat| {
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        (stat.st_ino, stat.st_size, modified(stat), changed)
    };
    key(before) == key(after)
}

/// Takes what the walk finds.
pub(crate) trait Visitor {
    type Error;

    fn found(&mut self, found: Found<'_>) -> Result<(), Self::Error>;
    fn trouble(&mut self, trouble: Trouble) -> Result<(), Self::Error>;
}

/// What is walked.
pub(crate) enum Root {
    /// A directory and all below it.
    Tree(Dir),
    /// One file of a directory.
    File(Dir, Vec<u8>),
}

/// Walks everything, staying on the root's filesystem unless `cross_mounts`.
pub(crate) fn walk<V: Visitor>(
    root: &Root,
    cross_mounts: bool,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let mut walk = Walk { cross_mounts, visitor };
    let path = TreePath::root();
    match root {
        Root::Tree(dir) => walk.directory(dir, &path),
        Root::File(parent, name) => walk.leaf(parent, &path, name),
    }
}

struct Walk<'v, V> {
    cross_mounts: bool,
    visitor: &'v mut V,
}

impl<V: Visitor> Walk<'_, V> {
    fn directory(&mut self, dir: &Dir, path: &TreePath) -> Result<(), V::Error> {
        let Some(before) = self.directory_itself(dir, path)? else {
            return Ok(());
        };
        let names = match dir.names() {
            Ok(names) => names,
            Err(errno) => return self.refused(path, errno),
        };
        for name in names {
            match path.join(&name) {
                Ok(child) => self.child(dir, &child, &name)?,
                Err(why) => {
                    let shown = format!("{path}/{}", name.escape_ascii());
                    self.trouble(shown, TroubleKind::Path(why))?;
                }
            }
        }
        match dir.own_stat() {
            Ok(after) if is_same(&before, &after) => Ok(()),
            Ok(_) => self.trouble(path.to_string(), TroubleKind::Changed),
            Err(errno) => self.refused(path, errno),
        }
    }

    fn directory_itself(&mut self, dir: &Dir, path: &TreePath) -> Result<Option<Stat>, V::Error> {
        let stat = match dir.own_stat() {
            Ok(stat) => stat,
            Err(errno) => return self.refused(path, errno).map(|()| None),
        };
        self.visitor.found(Found {
            path,
            stat,
            subject: Subject::Open(dir.fd()),
            what: What::Directory,
        })?;
        Ok(Some(stat))
    }

    fn child(&mut self, dir: &Dir, path: &TreePath, name: &[u8]) -> Result<(), V::Error> {
        match dir.stat(name).map(|stat| file_type(&stat)) {
            Ok(FileType::Directory) => {}
            Ok(_) => return self.leaf(dir, path, name),
            Err(errno) => return self.refused(path, errno),
        }
        let opened = if self.cross_mounts { dir.open_dir(name) } else { dir.open_dir_here(name) };
        match opened {
            Ok(inner) => self.directory(&inner, path),
            Err(Errno::XDEV) => match dir.open_dir(name) {
                Ok(mounted) => {
                    self.directory_itself(&mounted, path)?;
                    self.trouble(path.to_string(), TroubleKind::Mount)
                }
                Err(errno) => self.refused(path, errno),
            },
            Err(errno) => self.refused(path, errno),
        }
    }

    /// Anything but a directory.
    fn leaf(&mut self, dir: &Dir, path: &TreePath, name: &[u8]) -> Result<(), V::Error> {
        let stat = match dir.stat(name) {
            Ok(stat) => stat,
            Err(errno) => return self.refused(path, errno),
        };
        let what = match file_type(&stat) {
            FileType::RegularFile => dir.open_file(name).map(What::File),
            FileType::Symlink => rustix::fs::readlinkat(dir.fd(), name, Vec::new())
                .map(|target| What::Symlink(target.into_bytes())),
            FileType::Fifo => Ok(What::Fifo),
            FileType::CharacterDevice => Ok(What::CharDevice),
            FileType::BlockDevice => Ok(What::BlockDevice),
            FileType::Socket => return self.trouble(path.to_string(), TroubleKind::Socket),
            FileType::Directory => return self.trouble(path.to_string(), TroubleKind::Changed),
            FileType::Unknown => return self.trouble(path.to_string(), TroubleKind::Unknown),
        };
        let what = match what {
            Ok(what) => what,
            Err(errno) => return self.refused(path, errno),
        };
        let stat = match &what {
            // What was opened counts, not what had the name before.
            What::File(file) => match rustix::fs::fstat(file) {
                Ok(opened) if file_type(&opened) == FileType::RegularFile => opened,
                Ok(_) => return self.trouble(path.to_string(), TroubleKind::Changed),
                Err(errno) => return self.refused(path, errno),
            },
            What::Directory
            | What::Symlink(_)
            | What::Fifo
            | What::CharDevice
            | What::BlockDevice => stat,
        };
        self.visitor.found(Found { path, stat, subject: Subject::Name(dir, name), what })
    }

    fn refused(&mut self, path: &TreePath, errno: Errno) -> Result<(), V::Error> {
        self.trouble(path.to_string(), trouble_of(errno))
    }

    fn trouble(&mut self, path: String, kind: TroubleKind) -> Result<(), V::Error> {
        self.visitor.trouble(Trouble { path, kind })
    }
}

/// What an error of the system says about an entry.
pub(crate) fn trouble_of(errno: Errno) -> TroubleKind {
    match errno {
        Errno::NOENT => TroubleKind::Vanished,
        // A directory or file that has become a symbolic link, or something else, since it was
        // listed.
        Errno::LOOP | Errno::NOTDIR => TroubleKind::Changed,
        other => TroubleKind::Unreadable(other.into()),
    }
}
