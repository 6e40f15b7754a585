//! Where an image goes, and the names beside it.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use skep_base::Digest;
use skep_image::TreePath;

use crate::dir::Dir;
use crate::error::HostError;

/// A target's name longer than this stands by its digest in the stage's name, which has 255 bytes.
const LONGEST_PLAIN: usize = 150;
const PREFIX: &[u8] = b".skep-stage-";
const STATE_SUFFIX: &[u8] = b".state";

/// The path an image is applied at: a directory that exists, and a name in it that may not.
#[derive(Debug)]
pub struct Target {
    pub(crate) parent: Dir,
    pub(crate) name: Vec<u8>,
    pub(crate) shown: PathBuf,
}

impl Target {
    /// The target `path` below `base`. `base` is this host's own configuration and is taken as it
    /// is; `path` may have come from a peer: its directories must be real ones, without symbolic
    /// links, and it cannot leave `base`. A leading slash stands for `base`.
    ///
    /// # Errors
    /// [`HostError`] when a directory on the way is missing or a link, or the path is not one.
    pub fn new(base: &Path, path: &Path) -> Result<Self, HostError> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let shown = base.join(relative);
        let refused = |why: &str| {
            HostError::new(
                "apply an image at",
                &shown,
                io::Error::new(io::ErrorKind::InvalidInput, why),
            )
        };
        let inner = TreePath::new(relative.as_os_str().as_bytes().to_vec())
            .map_err(|why| refused(&why.to_string()))?;
        let Some((parent, name)) = inner.split() else {
            return Err(refused("it is the base directory itself, which cannot change places"));
        };
        if name.starts_with(PREFIX) {
            return Err(refused("names that begin with .skep-stage- are taken"));
        }
        let base_dir =
            Dir::open_ambient(base).map_err(|errno| HostError::new("open", base, errno))?;
        let parent = base_dir.open_dir(parent).map_err(|errno| {
            HostError::new(
                "open (it must exist, and no part of it be a symbolic link) the directory of",
                &shown,
                errno,
            )
        })?;
        Ok(Self { parent, name: name.to_vec(), shown })
    }

    /// The whole path, for people.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shown
    }

    pub(crate) fn stage_name(&self, tag: &Tag) -> Vec<u8> {
        [&self.stage_prefix(), tag.0.as_bytes()].concat()
    }

    pub(crate) fn state_name(&self, tag: &Tag) -> Vec<u8> {
        [&self.stage_name(tag), STATE_SUFFIX].concat()
    }

    /// The tag in the name of a stage or state file of this target, should `name` be one.
    pub(crate) fn tag_of(&self, name: &[u8]) -> Option<Tag> {
        let rest = name.strip_prefix(self.stage_prefix().as_slice())?;
        let tag = rest.strip_suffix(STATE_SUFFIX).unwrap_or(rest);
        std::str::from_utf8(tag).ok()?.parse().ok()
    }

    /// Tags hold no hyphen, so `a` and `a-b` as targets never share a stage's name.
    fn stage_prefix(&self) -> Vec<u8> {
        if self.name.len() > LONGEST_PLAIN {
            let digest = Digest::of(&self.name).abbreviated(32);
            return [PREFIX, b"~", digest.as_bytes(), b"-"].concat();
        }
        [PREFIX, &self.name, b"-"].concat()
    }
}

/// Tells one attempt to apply an image at a target from others: short, of lower-case letters and
/// digits. The same wave uses the same tag again, and so resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

/// What stood where a tag was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stage's tag is 1 to 32 lower-case letters and digits")]
pub struct TagError;

impl std::str::FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let sound = (1..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        sound.then(|| Self(text.to_owned())).ok_or(TagError)
    }
}

impl Tag {
    /// The tag of whatever has this digest: its first sixteen digits.
    #[must_use]
    pub fn of(digest: &Digest) -> Self {
        Self(digest.abbreviated(16))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
