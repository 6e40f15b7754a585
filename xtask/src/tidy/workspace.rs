//! What the checks look at: the packages as cargo sees them and the files as git sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::process::{capture, cargo};

/// Files over this are judged by their size alone.
const READ_BYTES_AT_MOST: u64 = 4 << 20;

/// A snapshot of the project. Checks read it and nothing else, so a test can plant what it likes.
#[derive(Debug, Clone, Default)]
pub struct Workspace {
    /// Our own crates.
    pub members: Vec<Member>,
    /// Everybody else's, as locked.
    pub externals: Vec<External>,
    /// Text files that are tracked, or would be.
    pub files: Vec<SourceFile>,
    /// Every path below the root, binary ones too, with its size in bytes.
    pub paths: Vec<(String, u64)>,
    /// Blobs of the whole history, with their size in bytes.
    pub blobs: Vec<(String, u64)>,
}

/// One of our crates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path below the root: `core/base`, `agent`.
    pub folder: String,
    /// The package's name.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// The text of its `Cargo.toml`.
    pub manifest: String,
    /// The root file of its library or, without one, of its binary.
    pub entry: String,
    /// What it depends on, of every kind.
    pub dependencies: Vec<Dependency>,
}

/// One line of a `[dependencies]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// The folder, where it is one of our own crates.
    pub folder: Option<String>,
    /// Which table it stands in.
    pub kind: Kind,
}

/// The table a dependency stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `[dependencies]`
    Normal,
    /// `[dev-dependencies]`
    Dev,
    /// `[build-dependencies]`
    Build,
}

/// A package that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The package's name.
    pub name: String,
    /// The locked version.
    pub version: String,
    /// The licence expression it declares.
    pub licence: Option<String>,
    /// Where cargo takes it from.
    pub source: String,
    /// Whether any build of ours compiles it. The lock file also names what optional features of
    /// others could ask for and ours never do.
    pub built: bool,
}

/// A text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path below the root, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl SourceFile {
    /// The part of the name after the last dot.
    #[must_use]
    pub fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// Lines with their number, counted from one.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

impl Workspace {
    /// Reads the project below `root`.
    ///
    /// # Errors
    /// When cargo or git cannot be run there, or a file cannot be read.
    pub fn load(root: &Path) -> Result<Self> {
        let root = root.canonicalize().with_context(|| format!("finding {}", root.display()))?;
        let metadata =
            MetadataCommand::new().current_dir(&root).exec().context("running cargo metadata")?;
        let built = built(&root)?;
        let mut workspace = Self::default();
        for package in &metadata.packages {
            match &package.source {
                Some(source) => workspace.externals.push(External {
                    name: package.name.to_string(),
                    version: package.version.to_string(),
                    licence: package.license.clone(),
                    source: source.repr.clone(),
                    built: built.contains(&format!("{} v{}", package.name, package.version)),
                }),
                None => workspace.members.push(member(&root, package)?),
            }
        }
        workspace.members.sort_by(|a, b| a.folder.cmp(&b.folder));
        workspace.read_tree(&root)?;
        workspace.blobs = blobs(&root)?;
        Ok(workspace)
    }

    /// The file at `path` below the root.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    fn read_tree(&mut self, root: &Path) -> Result<()> {
        let listed = git(root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let names: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
        for name in names {
            let path = root.join(name);
            let Ok(meta) = path.symlink_metadata() else {
                continue; // Tracked, and just removed from the work tree.
            };
            self.paths.push((name.to_owned(), meta.len()));
            if !meta.is_file() || meta.len() > READ_BYTES_AT_MOST {
                continue;
            }
            let bytes = fs::read(&path).with_context(|| format!("reading {name}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                self.files.push(SourceFile { path: name.to_owned(), text });
            }
        }
        Ok(())
    }
}

/// `name vVERSION` of every package that is compiled on any platform, tests included.
fn built(root: &Path) -> Result<BTreeSet<String>> {
    let tree = capture(&mut cargo(
        root,
        &["tree", "--workspace", "--target", "all", "--prefix", "none", "--format", "{p}"],
    ))?;
    Ok(tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect())
}

fn member(root: &Path, package: &Package) -> Result<Member> {
    let manifest_path = package.manifest_path.as_std_path();
    let manifest = fs::read_to_string(manifest_path)
        .with_context(|| format!("reading {}", manifest_path.display()))?;
    let dependencies = package
        .dependencies
        .iter()
        .map(|dependency| Dependency {
            name: dependency.name.clone(),
            folder: dependency.path.as_ref().map(|path| below(root, path.as_std_path())),
            kind: match dependency.kind {
                DependencyKind::Development => Kind::Dev,
                DependencyKind::Build => Kind::Build,
                DependencyKind::Normal | DependencyKind::Unknown => Kind::Normal,
            },
        })
        .collect();
    let entry = package
        .targets
        .iter()
        .find(|target| target.is_lib())
        .or_else(|| package.targets.iter().find(|target| target.is_bin()))
        .with_context(|| format!("{} has neither a library nor a binary", package.name))?;
    Ok(Member {
        folder: below(root, manifest_path.parent().unwrap_or(root)),
        name: package.name.to_string(),
        version: package.version.to_string(),
        manifest,
        entry: below(root, entry.src_path.as_std_path()),
        dependencies,
    })
}

fn below(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative.to_string_lossy().replace('\\', "/")
}

/// Every blob that a clone carries, of commits long gone too: history is downloaded for ever.
fn blobs(root: &Path) -> Result<Vec<(String, u64)>> {
    let named = git(root, &["rev-list", "--objects", "HEAD"])?;
    let sized = git(
        root,
        &[
            "cat-file",
            "--batch-all-objects",
            "--batch-check=%(objectname) %(objecttype) %(objectsize)",
        ],
    )?;
    let names: BTreeMap<&str, &str> =
        named.lines().filter_map(|line| line.split_once(' ')).collect();
    Ok(sized
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (id, kind, size) = (words.next()?, words.next()?, words.next()?);
            let path = names.get(id).filter(|_| kind == "blob")?;
            Some(((*path).to_owned(), size.parse().ok()?))
        })
        .collect())
}

fn git(root: &Path, arguments: &[&str]) -> Result<String> {
    capture(Command::new("git").arg("-C").arg(root).args(arguments))
        .context("asking git what belongs to the project")
}
