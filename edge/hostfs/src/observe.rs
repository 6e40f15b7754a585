//! Watching a long operation: how far it is, and a word before each step that changes the disk.

use std::path::Path;

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries done.
    pub entries: u64,
    /// Entries in all; 0 while that is not known.
    pub entries_total: u64,
    /// Bytes of contents done, holes not counted.
    pub bytes: u64,
    /// Bytes in all; 0 while that is not known.
    pub bytes_total: u64,
}

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The state file and the empty stage are made, or a resumed stage is taken over.
    Open,
    /// An entry is made: its path below the root, as bytes.
    Entry(&'a [u8]),
    /// One more chunk is written to the file being made.
    Chunk,
    /// Owners, modes and times of all directories are set, innermost first.
    Directories,
    /// Everything is waited for to reach the disk.
    Sync,
    /// The stage is noted as whole.
    MarkReady,
    /// Old and new change places.
    Switch,
    /// The switch is waited for to reach the disk.
    SyncParent,
    /// What the stage's name now stands for is removed.
    RemoveOld,
    /// The state file is removed.
    RemoveState,
}

/// The observer wants no more. What is on the disk stays as it is, to be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request; it resumes where it was")]
pub struct Stopped;

/// Is told of progress and may stop the work before any step.
pub trait Observer {
    /// Before `step`.
    ///
    /// # Errors
    /// [`Stopped`] ends the operation as a kill would: nothing is cleaned up.
    fn step(&mut self, step: Step<'_>) -> Result<(), Stopped> {
        let _: Step<'_> = step;
        Ok(())
    }

    /// After some work.
    fn progress(&mut self, progress: &Progress) {
        let _: &Progress = progress;
    }

    /// While building: the file that is being read.
    fn reading(&mut self, path: &Path) {
        let _: &Path = path;
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {}
