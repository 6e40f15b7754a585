//! Where a wave goes: an absolute path that means one place only.

/// Longest path of a wave.
pub const MAX_PATH_BYTES: usize = 1024;

/// Why a wave cannot go to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin at the root.
    #[error("a wave's path begins with a slash")]
    Relative,
    /// It is the root itself.
    #[error("a wave's path is not the root itself, which cannot change places")]
    Root,
    /// It has empty parts, `.` or `..`, or ends with a slash.
    #[error("a wave's path has no empty part, no `.`, no `..` and no slash at its end")]
    Part,
    /// It has a NUL or another control character.
    #[error("a wave's path has no control characters")]
    Control,
    /// It is over [`MAX_PATH_BYTES`].
    #[error("a wave's path has at most {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// Checks where a wave is to go.
///
/// # Errors
/// [`PathError`] names the first rule that is broken.
pub fn check_path(path: &str) -> Result<(), PathError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    let inner = path.strip_prefix('/').ok_or(PathError::Relative)?;
    if inner.is_empty() {
        return Err(PathError::Root);
    }
    if path.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    let sound = inner.split('/').all(|part| !matches!(part, "" | "." | ".."));
    sound.then_some(()).ok_or(PathError::Part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_of_an_absolute_path_is_taken() {
        assert_eq!(check_path("/srv/web"), Ok(()));
        assert_eq!(check_path("/srv/.web ..x"), Ok(()));
        assert_eq!(check_path("srv"), Err(PathError::Relative));
        assert_eq!(check_path(""), Err(PathError::Relative));
        assert_eq!(check_path("/"), Err(PathError::Root));
        for bad in ["/srv/", "//srv", "/srv/../etc", "/./srv", "/srv//web"] {
            assert_eq!(check_path(bad), Err(PathError::Part), "{bad}");
        }
        assert_eq!(check_path("/srv\0x"), Err(PathError::Control));
        assert_eq!(check_path("/srv\n"), Err(PathError::Control));
        let long = alloc::format!("/{}", "x".repeat(MAX_PATH_BYTES));
        assert_eq!(check_path(&long), Err(PathError::TooLong));
    }
}
