//! Paths inside a tree: bytes, validated once.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use crate::limits::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES};

/// A path below an image's root: components of any bytes but NUL and `/`, joined by `/`. The root
/// itself is the empty path.
///
/// No value of this type can lead out of the tree: it is relative, and no component is empty, `.`
/// or `..`. Ordered component by component, so a directory stands right before all that is in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Vec<u8>);

/// Why bytes are not a path inside a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It begins with `/`.
    #[error("path is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("path has an empty name")]
    EmptyName,
    /// A component that is `.` or `..`.
    #[error("path has a component that is `.` or `..`")]
    Dots,
    /// A NUL byte.
    #[error("path holds a NUL byte")]
    Nul,
    /// Over [`MAX_PATH_BYTES`].
    #[error("path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// A component over [`MAX_NAME_BYTES`].
    #[error("path has a name longer than {MAX_NAME_BYTES} bytes")]
    NameTooLong,
    /// Over [`MAX_DEPTH`].
    #[error("path is deeper than {MAX_DEPTH} names")]
    TooDeep,
}

impl TreePath {
    /// The root of the tree.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Validates `bytes`. No bytes at all are the root.
    ///
    /// # Errors
    /// [`PathError`] names the first rule that is broken.
    pub fn new(bytes: Vec<u8>) -> Result<Self, PathError> {
        if bytes.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if bytes.first() == Some(&b'/') {
            return Err(PathError::Absolute);
        }
        if !bytes.is_empty() {
            for (depth, name) in bytes.split(|byte| *byte == b'/').enumerate() {
                if depth >= MAX_DEPTH {
                    return Err(PathError::TooDeep);
                }
                check_name(name)?;
            }
        }
        Ok(Self(bytes))
    }

    /// The path of `name` in the directory `self`.
    ///
    /// # Errors
    /// [`PathError`] when `name` is no name, or the whole grows too long or too deep.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_name(name)?;
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !self.is_root() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if bytes.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if self.depth() >= MAX_DEPTH {
            return Err(PathError::TooDeep);
        }
        Ok(Self(bytes))
    }

    /// The bytes, empty for the root.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// How many names the path has: 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.names().count()
    }

    /// The names from the root down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let some = (!self.is_root()).then_some(&self.0);
        some.into_iter().flat_map(|bytes| bytes.split(|byte| *byte == b'/'))
    }

    /// The directory's bytes and the last name; nothing for the root.
    #[must_use]
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[], &self.0),
        })
    }

    #[cfg(test)]
    pub(crate) fn unchecked(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// Whether `name` may be one component of a path.
fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.is_empty() {
        Err(PathError::EmptyName)
    } else if name == b"." || name == b".." {
        Err(PathError::Dots)
    } else if name.contains(&0) {
        Err(PathError::Nul)
    } else if name.len() > MAX_NAME_BYTES {
        Err(PathError::NameTooLong)
    } else if name.contains(&b'/') {
        Err(PathError::EmptyName)
    } else {
        Ok(())
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash ends a name, so it sorts before every byte a name may hold.
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    /// As text where it is text; other bytes, control characters and the backslash escaped, so that
    /// a name can neither forge a log line nor be taken for another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for part in self.0.utf8_chunks() {
            for c in part.valid().chars() {
                if c.is_control() || c == '\\' {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_could_leave_the_tree_is_no_path() {
        let refused = |bytes: &[u8]| TreePath::new(bytes.to_vec()).unwrap_err();
        assert_eq!(refused(b"/etc"), PathError::Absolute);
        assert_eq!(refused(b".."), PathError::Dots);
        assert_eq!(refused(b"a/../b"), PathError::Dots);
        assert_eq!(refused(b"a/./b"), PathError::Dots);
        assert_eq!(refused(b"a//b"), PathError::EmptyName);
        assert_eq!(refused(b"a/"), PathError::EmptyName);
        assert_eq!(refused(b"a\0b"), PathError::Nul);
        assert_eq!(refused(&[b'a'; 256]), PathError::NameTooLong);
        assert_eq!(refused(&b"a/".repeat(3000)), PathError::TooLong);
        assert_eq!(refused(&[&b"a/".repeat(256)[..], b"a"].concat()), PathError::TooDeep);
        assert!(TreePath::new(b"...".to_vec()).is_ok());
        assert!(TreePath::new(vec_of(&[0xff, b'/', b'\n'])).is_ok());
    }

    fn vec_of(bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    #[test]
    fn joining_keeps_every_rule() {
        assert_eq!(TreePath::root().join(b"a").unwrap().join(b"b").unwrap(), path("a/b"));
        assert_eq!(path("a").join(b"b/c"), Err(PathError::EmptyName));
        assert_eq!(path("a").join(b".."), Err(PathError::Dots));
        let deepest = TreePath::new(b"a/".repeat(MAX_DEPTH - 1)[..2 * MAX_DEPTH - 3].to_vec());
        let deepest = deepest.unwrap().join(b"a").unwrap();
        assert_eq!(deepest.depth(), MAX_DEPTH);
        assert_eq!(deepest.join(b"a"), Err(PathError::TooDeep));
    }

    #[test]
    fn a_directory_stands_right_before_what_is_in_it() {
        let mut paths =
            [path("a.b"), path("a/c"), path("a"), path("a-"), path("a/b/c"), path("a/b")];
        paths.sort();
        let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a", "a/b", "a/b/c", "a/c", "a-", "a.b"]);
        assert!(TreePath::root() < path("a"));
    }

    #[test]
    fn strange_bytes_are_shown_escaped() {
        let strange = TreePath::new(b"new\nline/\xff\x1b[31m\\".to_vec()).unwrap();
        assert_eq!(strange.to_string(), "new\\nline/\\xff\\u{1b}[31m\\\\");
    }
}
