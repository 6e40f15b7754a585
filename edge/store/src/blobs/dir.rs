//! Directories as handles. Names are ours, one component each, and never followed when they turn
//! out to be symbolic links.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Dir as ReadDir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat,
};
use rustix::io::Errno;

const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

impl Dir {
    /// Opens the operator's `path`, making its last component when it is missing.
    pub(super) fn open_root(path: &Path) -> io::Result<Self> {
        match rustix::fs::mkdirat(CWD, path, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            let why = "it belongs to another user";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        if stat.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(&fd, DIR_MODE)?;
        }
        Ok(Self(fd))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens the directory `name`, making it when it is missing.
    pub(super) fn make_dir(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.0, name, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(self.open_dir(name)?)
    }

    pub(super) fn open_dir(&self, name: &str) -> Result<Self, Errno> {
        self.open(name, OFlags::DIRECTORY).map(Self)
    }

    pub(super) fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // A mode may be given only where a file may be made.
        let mode = if flags.contains(OFlags::CREATE) { FILE_MODE } else { Mode::empty() };
        rustix::fs::openat2(&self.0, name, flags | OFlags::CLOEXEC, mode, resolve)
    }

    pub(super) fn stat(&self, name: &str) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// The size of the regular file `name`.
    pub(super) fn file_size(&self, name: &str) -> Result<Option<u64>, Errno> {
        match self.stat(name) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {
                Ok(Some(u64::try_from(stat.st_size).unwrap_or(0)))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The whole of the file `name`, unless it is longer than `limit`.
    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, Errno> {
        let file = self.open(name, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let stat = rustix::fs::fstat(&file)?;
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if size > limit || !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(None);
        }
        let mut bytes = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes[filled..]))? {
                0 => break,
                more => filled += more,
            }
        }
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    /// Writes a new file of a name that nobody else has, for this user alone, and returns the name.
    pub(super) fn write_new(&self, parts: &[&[u8]], sync: bool) -> io::Result<String> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let (name, file) = loop {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{count}", std::process::id());
            match self.open(&name, flags) {
                Ok(file) => break (name, file),
                // Left by a killed process that had our number.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let written = write_all(&file, parts).and_then(|()| {
            if sync {
                rustix::fs::fsync(&file)?;
            }
            Ok(())
        });
        match written {
            Ok(()) => Ok(name),
            Err(errno) => {
                // On a full disk the half must not stay. That it could not be removed changes
                // nothing about the failure: the collector removes it later.
                self.remove_file(&name).ok();
                Err(errno.into())
            }
        }
    }

    pub(super) fn remove_file(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes the directory `name` when it is empty.
    pub(super) fn remove_empty_dir(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Moves the file `name` to `to` in the directory `target`.
    pub(super) fn rename(
        &self,
        name: &str,
        target: &Self,
        to: &str,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.0, name, &target.0, to, flags)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// The names in the directory that are text, sorted; others are not ours.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in ReadDir::read_from(&self.0)? {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn write_all(file: &OwnedFd, parts: &[&[u8]]) -> Result<(), Errno> {
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::write(file, rest))? {
                0 => return Err(Errno::NOSPC),
                written => rest = &rest[written..],
            }
        }
    }
    Ok(())
}
