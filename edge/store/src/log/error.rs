//! Why the log could not do what it should.

use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// Why the log could not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk, or the user's quota, is full. Nothing of the call was kept.
    #[error("no room to {doing} {}: free some, the log goes on by itself", path.display())]
    NoSpace {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file with a segment's name that is no segment.
    #[error("{} is not a segment of an update log: move it away", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// A segment that a newer agent wrote.
    #[error(
        "{} has version {version} of the log, newer than this agent knows: update it",
        path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// What it says.
        version: u8,
    },
    /// Damage, with [`super::OnDamage::Refuse`], or met when reading.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is there.
        what: &'static str,
    },
    /// A head or body over its limit.
    #[error("a record's {what} of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Head or body.
        what: &'static str,
        /// What was given.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// An earlier write or sync failed in a way that leaves the disk's content unknown.
    #[error("the log at {} is closed after a failed write: restart the agent", dir.display())]
    Closed {
        /// Which.
        dir: PathBuf,
    },
}

impl LogError {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if files::is_full(&source) {
            Self::NoSpace { doing, path, source }
        } else {
            Self::Io { doing, path, source }
        }
    }
}
