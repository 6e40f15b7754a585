//! Extended attributes, access control lists and capabilities among them.

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use skep_image::Xattr;

use crate::dir::Dir;

/// The kernel's bound on a value and on the list of names.
const MAX_BYTES: usize = 64 << 10;
/// Access control lists. They are set after the mode, of which they share the group's bits.
pub(crate) const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Whose attributes: an open file or directory, or a name that cannot be opened (a symbolic link, a
/// pipe, a device).
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Open(BorrowedFd<'a>),
    Name(&'a Dir, &'a [u8]),
}

impl Subject<'_> {
    /// All attributes that are kept, by ascending name. A filesystem without any has none.
    pub(crate) fn read_all(self) -> Result<Vec<Xattr>, Errno> {
        let mut xattrs = Vec::new();
        for name in self.names()? {
            match self.read(&name) {
                Ok(value) => xattrs.push(Xattr { name, value }),
                // Removed meanwhile, or listed without being readable for this user.
                Err(Errno::NODATA | Errno::ACCESS | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(xattrs)
    }

    /// The names of the attributes that are kept, ascending.
    pub(crate) fn names(self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut list = vec![0; MAX_BYTES];
        let listed = match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, &mut list[..]),
            Self::Name(dir, name) => rustix::fs::llistxattr(dir.proc_path(name), &mut list[..]),
        };
        match listed {
            Ok(len) => list.truncate(len),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
        let mut names: Vec<Vec<u8>> = list
            .split(|byte| *byte == 0)
            .filter(|name| is_kept(name))
            .map(<[u8]>::to_vec)
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn read(self, xattr: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0; MAX_BYTES];
        let len = match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, xattr, &mut value[..])?,
            Self::Name(dir, name) => {
                rustix::fs::lgetxattr(dir.proc_path(name), xattr, &mut value[..])?
            }
        };
        value.truncate(len);
        value.shrink_to_fit();
        Ok(value)
    }

    pub(crate) fn set(self, xattr: &Xattr) -> Result<(), Errno> {
        let (name, value, flags) = (&xattr.name, &xattr.value, XattrFlags::empty());
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Self::Name(dir, at) => rustix::fs::lsetxattr(dir.proc_path(at), name, value, flags),
        }
    }

    /// Removes an attribute; it may be missing.
    pub(crate) fn remove(self, xattr: &[u8]) -> Result<(), Errno> {
        let removed = match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, xattr),
            Self::Name(dir, name) => rustix::fs::lremovexattr(dir.proc_path(name), xattr),
        };
        match removed {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// The namespace `system` belongs to the filesystem, but for the access control lists.
fn is_kept(name: &[u8]) -> bool {
    !name.is_empty() && (!name.starts_with(b"system.") || ACLS.contains(&name))
}
