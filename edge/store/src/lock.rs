//! One agent for a state directory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::files;

/// The file that is locked, in the state directory.
const NAME: &str = "agent.lock";

/// The right to write a state directory, for as long as it lives. The kernel gives it back when the
/// process ends, however it ends, so a lock file left lying means nothing.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
    path: PathBuf,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error(
        "the state directory {} is in use by process {}: stop that agent, or give this one \
         another directory", dir.display(), holder(*.pid)
    )]
    Held {
        /// Which directory.
        dir: PathBuf,
        /// Who, as it wrote itself.
        pid: Option<u32>,
    },
    /// The file could not be made or locked.
    #[error("cannot lock {}: is the directory writable for this user?", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "of unknown id".to_owned(), |pid| pid.to_string())
}

impl StateLock {
    /// Takes the lock of a state directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(NAME);
        let failed = |source| LockError::Io { path: path.clone(), source };
        files::private_dir(dir).map_err(failed)?;
        let mut file = files::private_file(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let written = fs::read_to_string(&path).unwrap_or_default();
                let pid = written.trim().parse().ok();
                return Err(LockError::Held { dir: dir.to_owned(), pid });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        // Who has it is for people; that it is had is what the kernel knows.
        let pid = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(failed)?;
        Ok(Self { _file: file, path })
    }

    /// The locked file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = StateLock::acquire(&state).unwrap();
        let error = StateLock::acquire(&state).unwrap_err();
        let me = std::process::id();
        assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == me));
        assert!(error.to_string().contains(&format!("process {me}")), "{error}");
        drop(first);
        StateLock::acquire(&state).unwrap();
    }

    #[test]
    fn a_file_left_lying_means_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "123456789\n").unwrap();
        let lock = StateLock::acquire(dir.path()).unwrap();
        let written = fs::read_to_string(lock.path()).unwrap();
        assert_eq!(written.trim(), std::process::id().to_string());
    }
}
