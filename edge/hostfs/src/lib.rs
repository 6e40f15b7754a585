//! Trees on this host: read whole into an image, built beside the active one and switched at once,
//! compared (DLIF-16 to DLIF-24, MULTI-7).
//!
//! *Reading.* [`build`] walks a directory or takes one file, streams contents into the chunker and
//! hands each chunk to a [`ChunkSink`]. Files that change meanwhile are read again, then named;
//! what cannot be read is named; sockets are skipped by name.
//!
//! *Applying.* [`Stage`] builds the new tree beside its [`Target`], in the same directory and so on
//! the same filesystem, from a [`ChunkSource`], with everything that `rsync -aHAXS --numeric-ids`
//! keeps. When all of it has reached the disk, old and new change places in one system call, and
//! the old one, now under the stage's name, is removed:
//!
//! ```text
//!   site                          active, never touched while the new one grows
//!   .skep-stage-site-<tag>        the new tree; after the switch, the old one
//!   .skep-stage-site-<tag>.state  which manifest, and the new root's identity once it is whole
//! ```
//!
//! At every moment the target is the old tree or the new one, and the stage is disposable: a killed
//! process resumes ([`Stage::open`]), a full disk loses nothing, and what others left is cleaned.
//!
//! *Comparing.* [`verify`] says in words how a tree differs from a manifest; [`tree_digest`] gives
//! one number for everything that is kept, to compare copies by.
//!
//! Every path is resolved from a directory handle with `openat2` and may leave it neither upward
//! nor through a symbolic link: a tree that somebody else can write to cannot lead us elsewhere.

mod build;
mod dir;
mod error;
mod harvest;
mod observe;
mod places;
mod read;
mod remove;
mod report;
mod scan;
mod stage;
mod state;
mod verify;
mod write;
mod xattr;

pub use build::{BuildError, BuildOptions, Built, ChunkSink, OnTrouble, build};
pub use error::{BoxError, HostError};
pub use harvest::harvest;
pub use observe::{Observer, Progress, Quiet, Step, Stopped};
pub use places::{Tag, TagError, Target};
pub use report::{Left, LeftOut, LeftWhat};
pub use scan::{Trouble, TroubleKind};
pub use stage::{
    ApplyError, ApplyOptions, ChunkSource, Opened, Stage, Switched, Whole, apply, clean_leftovers,
    predict_left_out,
};
pub use verify::{Difference, Mismatch, VerifyOptions, tree_digest, verify};
