//! What the system refused, with where and while doing what.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// An error of whoever keeps the chunks.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A system call failed on a path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", .path.display())]
pub struct HostError {
    /// What was being done, as a verb.
    pub what: &'static str,
    /// To what.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

impl HostError {
    pub(crate) fn new(what: &'static str, path: &Path, cause: impl Into<io::Error>) -> Self {
        Self { what, path: path.to_owned(), cause: cause.into() }
    }

    /// Whether the filesystem, or the user's quota on it, is full: free some and resume.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        full.contains(&self.cause.kind())
    }
}
