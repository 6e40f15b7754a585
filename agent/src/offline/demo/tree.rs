//! What the demonstration rolls out: a tree that is named, else the repository it is run in.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use skep_base::ByteSize;

/// Most that is gathered unasked: more is not for a demonstration that takes seconds.
const MAX_BYTES: u64 = 512 << 20;
/// Most files that are gathered unasked.
const MAX_FILES: u64 = 50_000;
/// What builds and version control leave in a directory, and nobody means by it.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// A tree, and whence.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) words: String,
}

/// The tree at `named` as it is; else what git tracks here, else this directory without what builds
/// leave in it, gathered in `gathered`.
pub(super) fn choose(named: Option<PathBuf>, gathered: &Path) -> anyhow::Result<Source> {
    if let Some(path) = named {
        let words = path.display().to_string();
        return Ok(Source { path, words });
    }
    let here = std::env::current_dir().context("the current directory cannot be used")?;
    let mut gatherer = Gatherer { to: gathered, bytes: 0, files: 0 };
    fs::create_dir_all(gathered).with_context(|| format!("cannot make {}", gathered.display()))?;
    let words = match tracked(&here) {
        Some((top, files)) => {
            for file in files.iter().filter(|file| !file.as_os_str().is_empty()) {
                gatherer.take(&top, file)?;
            }
            format!("the repository {}", top.display())
        }
        None => {
            gatherer.walk(&here, Path::new(""))?;
            format!("{}", here.display())
        }
    };
    Ok(Source { path: gathered.to_owned(), words })
}

/// The repository around `here` and the files that git tracks in it, if git says so.
fn tracked(here: &Path) -> Option<(PathBuf, Vec<PathBuf>)> {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let top = git(here, &["rev-parse", "--show-toplevel"])?;
    let top = path(top.strip_suffix(b"\n").unwrap_or(&top));
    let files = git(&top, &["ls-files", "-z"])?;
    let files: Vec<PathBuf> =
        files.split(|byte| *byte == 0).filter(|file| !file.is_empty()).map(path).collect();
    (!files.is_empty()).then_some((top, files))
}

fn git(dir: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(args).stdin(Stdio::null());
    let output = command.output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Copies files, up to a bound.
struct Gatherer<'a> {
    to: &'a Path,
    bytes: u64,
    files: u64,
}

impl Gatherer<'_> {
    /// Takes all below `top`/`inner`, but for what [`LEFT_OUT`] names.
    fn walk(&mut self, top: &Path, inner: &Path) -> anyhow::Result<()> {
        let dir = top.join(inner);
        let failed = || format!("cannot read {}", dir.display());
        for entry in fs::read_dir(&dir).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            if LEFT_OUT.iter().any(|left_out| entry.file_name() == *left_out) {
                continue;
            }
            let path = inner.join(entry.file_name());
            if entry.file_type().with_context(failed)?.is_dir() {
                self.walk(top, &path)?;
            } else {
                self.take(top, &path)?;
            }
        }
        Ok(())
    }

    /// Takes one file or symbolic link; what was removed since it was listed, and what is neither,
    /// is left out.
    fn take(&mut self, top: &Path, inner: &Path) -> anyhow::Result<()> {
        let (from, to) = (top.join(inner), self.to.join(inner));
        let failed = || format!("cannot copy {}", from.display());
        let metadata = match fs::symlink_metadata(&from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            metadata => metadata.with_context(failed)?,
        };
        if !metadata.is_file() && !metadata.is_symlink() {
            return Ok(());
        }
        self.files += 1;
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.files > MAX_FILES || self.bytes > MAX_BYTES {
            bail!(
                "{} holds more than {} or {MAX_FILES} files, too much for a demonstration; \
                 choose a tree with --tree DIR",
                top.display(),
                ByteSize(MAX_BYTES)
            );
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        if metadata.is_symlink() {
            symlink(fs::read_link(&from).with_context(failed)?, &to).with_context(failed)
        } else {
            fs::copy(&from, &to).map(drop).with_context(failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_gathered_without_what_builds_leave() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for path in ["src", "target/debug", ".git"] {
            fs::create_dir_all(from.join(path)).unwrap();
        }
        for path in ["src/a", "target/debug/b", ".git/c"] {
            fs::write(from.join(path), "x").unwrap();
        }
        symlink("src/a", from.join("link")).unwrap();
        let mut gatherer = Gatherer { to: &to, bytes: 0, files: 0 };
        gatherer.walk(&from, Path::new("")).unwrap();
        assert_eq!(fs::read_to_string(to.join("src/a")).unwrap(), "x");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("src/a"));
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
    }

    #[test]
    fn too_much_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        let to = dir.path().join("to");
        let mut gatherer = Gatherer { to: &to, bytes: MAX_BYTES, files: 0 };
        let error = gatherer.take(dir.path(), Path::new("a")).unwrap_err();
        assert!(error.to_string().contains("--tree"), "{error}");
    }

    #[test]
    fn a_tree_that_is_named_is_taken_as_it_is() {
        let source = choose(Some("/usr/share/doc".into()), Path::new("/nowhere")).unwrap();
        assert_eq!(source.path, Path::new("/usr/share/doc"));
    }
}
