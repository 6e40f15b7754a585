//! The socket file: made with its final mode, never taken from a living agent, removed at the end.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::access::Credentials;

/// The longest path that fits into a unix socket's address, its closing zero left out.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Why the agent cannot offer its control socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The path does not fit into a socket's address.
    #[error(
        "control socket path {} is {} bytes long, and a unix socket's may have \
         {MAX_SOCKET_PATH_BYTES} at most: choose a shorter one as control.socket",
        path.display(), path.as_os_str().len()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error(
        "another process listens on {}: stop that agent, or give this one its own control.socket",
        path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket stands there.
    #[error(
        "{} exists and is no socket: remove it, or choose another control.socket",
        path.display()
    )]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A call failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A socket file that is removed when this is dropped, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

/// Listens on `path`, with mode 0660 and group `readers`, or 0600 where there is no such group.
///
/// The file is made beside its place and renamed, so that it never stands there with another mode
/// and a stale file is replaced in one step.
///
/// # Errors
/// [`ListenError`] names the path and what to do.
pub async fn bind(
    path: &Path,
    readers: Option<u32>,
) -> Result<(UnixListener, SocketFile), ListenError> {
    let failed = |what: &'static str| {
        let path = path.to_owned();
        move |source: io::Error| ListenError::Io { what, path, source }
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    if beside.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(ListenError::TooLong { path: path.to_owned() });
    }
    if let Some(directory) = path.parent()
        && !directory.as_os_str().is_empty()
    {
        std::fs::create_dir_all(directory).map_err(failed("make the directory of"))?;
    }
    refuse_the_living(path).await?;
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("replace a left-over beside")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&beside).map_err(failed("listen on"))?;
    let finish = || -> Result<SocketFile, ListenError> {
        let mode = if readers.is_some() { 0o660 } else { 0o600 };
        // Owner only until the group is right.
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))
            .map_err(failed("set the mode of"))?;
        if let Some(readers) = readers {
            std::os::unix::fs::chown(&beside, None, Some(readers))
                .map_err(failed("give the readers' group"))?;
        }
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))
            .map_err(failed("set the mode of"))?;
        let inode = std::fs::symlink_metadata(&beside).map_err(failed("look at"))?.ino();
        std::fs::rename(&beside, path).map_err(failed("put in place"))?;
        Ok(SocketFile { path: path.to_owned(), inode })
    };
    match finish() {
        Ok(file) => Ok((listener, file)),
        Err(error) => {
            drop(std::fs::remove_file(&beside));
            Err(error)
        }
    }
}

/// Only a socket on which nobody listens may be replaced.
async fn refuse_the_living(path: &Path) -> Result<(), ListenError> {
    let io_error = |what: &'static str| {
        move |source: io::Error| ListenError::Io { what, path: path.to_owned(), source }
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing the socket of an agent that is gone");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Anything else, a full queue say, means that somebody may be there.
        Ok(_) | Err(_) => Err(ListenError::InUse { path: path.to_owned() }),
    }
}

/// The number of the group `name` in `/etc/group`, or the number that `name` is.
///
/// # Errors
/// The file cannot be read.
pub fn group_number(name: &str) -> io::Result<Option<u32>> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    Ok(find_group(&std::fs::read_to_string("/etc/group")?, name))
}

fn find_group(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let number = fields.nth(1)?;
        found.then(|| number.parse().ok()).flatten()
    })
}

/// What the kernel says of the other end, as it was when it connected.
pub(crate) fn peer_credentials(stream: &UnixStream) -> io::Result<Credentials> {
    let peer = stream.peer_cred()?;
    Ok(Credentials {
        uid: peer.uid(),
        gid: peer.gid(),
        groups: peer_groups(stream)?,
        pid: peer.pid(),
    })
}

/// Supplementary groups of the other end: a user's membership in `skep` is usually one of these.
/// A kernel without the option gives none, and then only the primary group counts.
fn peer_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    /// The kernel's own bound, `NGROUPS_MAX`.
    const MAX_GROUPS: usize = 65_536;
    let mut groups = vec![0_u32; 64];
    loop {
        let mut bytes =
            libc::socklen_t::try_from(groups.len() * size_of::<u32>()).map_err(io::Error::other)?;
        #[expect(
            unsafe_code,
            reason = "SO_PEERGROUPS has no safe wrapper in std, tokio or rustix; the buffer is a \
                      live Vec<u32> of exactly `bytes` bytes, and any bytes make a valid u32"
        )]
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ERANGE) if count > groups.len() && count <= MAX_GROUPS => {
                groups.resize(count, 0);
            }
            Some(libc::ENOPROTOOPT | libc::ENODATA) => return Ok(Vec::new()),
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let file = "root:x:0:\nskepper:x:6:\nbroken\nskep:x:77:anna,bert\nskep2:x:78:\n";
        assert_eq!(find_group(file, "skep"), Some(77));
        assert_eq!(find_group(file, "ske"), None);
        assert_eq!(group_number("4711").unwrap(), Some(4711));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/control.sock");
        let (listener, file) = bind(&path, None).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind(&path, None).await.unwrap_err(), ListenError::InUse { .. }));
        drop(listener);
        let (_listener, newer) = bind(&path, None).await.unwrap();
        drop(file);
        assert!(path.exists(), "the old owner must not remove the new file");
        drop(newer);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, None).await.unwrap_err(), ListenError::NotASocket { .. }));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_path_that_does_not_fit_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d".repeat(120));
        let error = bind(&path, None).await.unwrap_err();
        assert!(error.to_string().contains("107 at most"), "{error}");
    }

    #[tokio::test]
    async fn the_kernel_tells_our_own_groups() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let credentials = peer_credentials(&ours).unwrap();
        assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
        assert_eq!(credentials.gid, rustix::process::getegid().as_raw());
        let mut expected: Vec<u32> =
            rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        let mut groups = credentials.groups;
        expected.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, expected);
    }
}
