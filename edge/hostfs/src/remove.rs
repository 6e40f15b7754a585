//! Removing a tree below a handle, without ever leaving it.

use std::os::fd::AsRawFd as _;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::dir::{Dir, file_type};

/// Deepest tree that is removed; one handle a level stays below the usual limit of 1,024.
const MAX_DEPTH: usize = 600;

/// Removes `name` in `dir`, a tree or a single thing; it may be missing. What is mounted inside
/// stays, and is an error ([`Errno::XDEV`]).
pub(crate) fn remove_all(dir: &Dir, name: &[u8]) -> Result<(), Errno> {
    match dir.stat_if_any(name)? {
        None => Ok(()),
        Some(stat) if file_type(&stat) == FileType::Directory => remove_tree(dir, name, 0),
        Some(_) => unlink(dir, name),
    }
}

fn remove_tree(dir: &Dir, name: &[u8], depth: usize) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let inner = match dir.open_dir_here(name) {
        // Not root, and the tree's own mode shuts us out: it is ours, so open it up.
        Err(Errno::ACCESS) => {
            let handle = dir.open(name, OFlags::PATH | OFlags::DIRECTORY)?;
            rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::RWXU)?;
            dir.open_dir_here(name)?
        }
        other => other?,
    };
    let stat = inner.own_stat()?;
    if stat.st_mode & 0o700 != 0o700 {
        // Without these rights its entries could not be removed; root does not need them.
        match rustix::fs::fchmod(inner.fd(), Mode::RWXU) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    for child in inner.names()? {
        match inner.stat_if_any(&child)? {
            None => {}
            Some(stat) if file_type(&stat) == FileType::Directory => {
                remove_tree(&inner, &child, depth + 1)?;
            }
            Some(_) => unlink(&inner, &child)?,
        }
    }
    match dir.remove_dir(name) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn unlink(dir: &Dir, name: &[u8]) -> Result<(), Errno> {
    match dir.unlink(name) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
