//! From a directory or a file to a manifest and chunks.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, major, minor};
use rustix::io::Errno;
use skep_image::{
    ChunkRef, Chunker, Contents, Entry, Header, ImageKind, Kind, Manifest, ManifestError, Metadata,
    Node,
};

use crate::dir::{Dir, identity, size};
use crate::error::{BoxError, HostError};
use crate::observe::{Observer, Progress, Step, Stopped};
use crate::read::{self, ReadError};
use crate::scan::{
    Found, Root, Trouble, TroubleKind, Visitor, What, is_same, metadata, trouble_of, walk,
};
use crate::xattr::Subject;

/// How often a file that changes is read before it is named instead.
const READ_ATTEMPTS: usize = 3;
/// Most troubles that are named; the rest is counted.
const MAX_NAMED: usize = 100;

/// Takes the chunks of an image as they are cut. The same chunk may come twice.
pub trait ChunkSink {
    /// Keeps `bytes` as `chunk`.
    ///
    /// # Errors
    /// Whatever keeps it from doing so ends the build.
    fn put(&mut self, chunk: &ChunkRef, bytes: &[u8]) -> Result<(), BoxError>;
}

/// What an image is built as.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// What the manifest says of the whole. Its kind is overwritten by what the source is.
    pub header: Header,
    /// Whether to go on into filesystems that are mounted below the source.
    pub cross_mounts: bool,
    /// What to do about entries that cannot be read or keep changing.
    pub on_trouble: OnTrouble,
}

/// What to do about an entry that cannot be taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTrouble {
    /// Name them all and build nothing.
    Fail,
    /// Leave them out, and say so.
    Skip,
}

/// A finished image.
#[derive(Debug)]
pub struct Built {
    /// What it holds.
    pub manifest: Manifest,
    /// What was left out or is worth a word, the first hundred.
    pub notes: Vec<Trouble>,
    /// How many such there were.
    pub note_count: u64,
}

/// Why no image was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The source cannot be opened.
    #[error(transparent)]
    Source(#[from] HostError),
    /// The source is neither a directory nor a regular file.
    #[error("{} is neither a directory nor a regular file", .0.display())]
    Kind(PathBuf),
    /// Entries that cannot be taken as they are.
    #[error("{count} entries of {} cannot be taken, first {}", .source_path.display(),
        shown(.named))]
    Troubles {
        /// What was to be read.
        source_path: PathBuf,
        /// The first hundred.
        named: Vec<Trouble>,
        /// How many.
        count: u64,
    },
    /// The chunks cannot be kept.
    #[error("cannot keep a chunk of {path}")]
    Sink {
        /// Of which file, below the source.
        path: String,
        /// Why.
        #[source]
        cause: BoxError,
    },
    /// The tree is beyond what a manifest holds.
    #[error("the tree does not fit an image")]
    Manifest(#[from] ManifestError),
    /// The observer ended it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

fn shown(troubles: &[Trouble]) -> String {
    troubles.first().map(ToString::to_string).unwrap_or_default()
}

/// Builds an image of `source`, a directory or a regular file, which may be named by way of
/// symbolic links; nothing below it is followed.
///
/// # Errors
/// [`BuildError`]; chunks that were put by then are of no image.
pub fn build(
    source: &Path,
    options: &BuildOptions,
    sink: &mut dyn ChunkSink,
    observer: &mut dyn Observer,
) -> Result<Built, BuildError> {
    let (root, kind) = open_source(source)?;
    let mut builder = Builder {
        source,
        sink,
        observer,
        on_trouble: options.on_trouble,
        entries: Vec::new(),
        links: BTreeMap::new(),
        chunker: Chunker::new(),
        progress: Progress::default(),
        notes: Vec::new(),
        note_count: 0,
        failures: 0,
    };
    walk(&root, options.cross_mounts, &mut builder)?;
    if builder.failures > 0 && options.on_trouble == OnTrouble::Fail {
        return Err(BuildError::Troubles {
            source_path: source.to_owned(),
            named: builder.notes.into_iter().filter(|trouble| !trouble.kind.is_note()).collect(),
            count: builder.failures,
        });
    }
    let mut header = options.header.clone();
    header.kind = kind;
    Ok(Built {
        manifest: Manifest::new(header, builder.entries)?,
        notes: builder.notes,
        note_count: builder.note_count,
    })
}

/// Opens what is to be read, wherever the operator's path leads.
pub(crate) fn open_source(source: &Path) -> Result<(Root, ImageKind), BuildError> {
    let failed = |cause: std::io::Error| HostError::new("open", source, cause);
    let real = fs::canonicalize(source).map_err(failed)?;
    let kind = fs::symlink_metadata(&real).map_err(failed)?.file_type();
    if kind.is_dir() {
        let dir = Dir::open_ambient(&real).map_err(|errno| failed(errno.into()))?;
        return Ok((Root::Tree(dir), ImageKind::Tree));
    }
    match (kind.is_file(), real.parent(), real.file_name()) {
        (true, Some(parent), Some(name)) => {
            let dir = Dir::open_ambient(parent).map_err(|errno| failed(errno.into()))?;
            Ok((Root::File(dir, name.as_bytes().to_vec()), ImageKind::File))
        }
        _ => Err(BuildError::Kind(source.to_owned())),
    }
}

struct Builder<'a> {
    source: &'a Path,
    sink: &'a mut dyn ChunkSink,
    observer: &'a mut dyn Observer,
    on_trouble: OnTrouble,
    entries: Vec<Entry>,
    /// The entry that first named an inode of several names.
    links: BTreeMap<(u64, u64), u32>,
    chunker: Chunker,
    progress: Progress,
    notes: Vec<Trouble>,
    note_count: u64,
    failures: u64,
}

impl Visitor for Builder<'_> {
    type Error = BuildError;

    fn found(&mut self, found: Found<'_>) -> Result<(), BuildError> {
        self.observer.step(Step::Entry(found.path.as_bytes()))?;
        let several = found.stat.st_nlink > 1 && !matches!(found.what, What::Directory);
        let known = several.then(|| self.links.get(&identity(&found.stat)).copied()).flatten();
        let kind = match known {
            Some(first) => Ok(Kind::HardLink(first)),
            None => self.node(&found)?,
        };
        let kind = match kind {
            Ok(kind) => kind,
            Err(trouble) => {
                return self.trouble(Trouble { path: found.path.to_string(), kind: trouble });
            }
        };
        if several && known.is_none() {
            let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            self.links.insert(identity(&found.stat), index);
        }
        self.entries.push(Entry { path: found.path.clone(), kind });
        self.progress.entries += 1;
        self.observer.progress(&self.progress);
        Ok(())
    }

    fn trouble(&mut self, trouble: Trouble) -> Result<(), BuildError> {
        self.note_count += 1;
        if !trouble.kind.is_note() {
            self.failures += 1;
        }
        // Where troubles end the build, they are what must be named.
        let wanted = self.on_trouble == OnTrouble::Skip || !trouble.kind.is_note();
        if self.notes.len() < MAX_NAMED && (wanted || self.notes.len() < MAX_NAMED / 2) {
            self.notes.push(trouble);
        }
        Ok(())
    }
}

impl Builder<'_> {
    /// What the entry is, with its metadata; or what is the matter with it.
    fn node(&mut self, found: &Found<'_>) -> Result<Result<Kind, TroubleKind>, BuildError> {
        let node = match &found.what {
            What::File(file) => return self.file(found, file),
            What::Directory => Node::Directory,
            What::Symlink(target) => Node::Symlink(target.clone()),
            What::Fifo => Node::Fifo,
            What::CharDevice => Node::CharDevice {
                major: major(found.stat.st_rdev),
                minor: minor(found.stat.st_rdev),
            },
            What::BlockDevice => Node::BlockDevice {
                major: major(found.stat.st_rdev),
                minor: minor(found.stat.st_rdev),
            },
        };
        Ok(found.metadata().map(|metadata| Kind::Node(metadata, node)).map_err(trouble_of))
    }

    /// Reads a file, again where it changed meanwhile.
    fn file(
        &mut self,
        found: &Found<'_>,
        file: &OwnedFd,
    ) -> Result<Result<Kind, TroubleKind>, BuildError> {
        self.observer.reading(&self.source.join(as_path(found)));
        let bytes_before = self.progress.bytes;
        for _ in 0..READ_ATTEMPTS {
            self.progress.bytes = bytes_before;
            match self.attempt(found, file) {
                Ok(Some((metadata, contents))) => {
                    return Ok(Ok(Kind::Node(metadata, Node::File(contents))));
                }
                Ok(None) | Err(ReadError::Short) => {}
                Err(ReadError::Io(errno)) => return Ok(Err(trouble_of(errno))),
                Err(ReadError::Taker(cause)) => {
                    return Err(BuildError::Sink { path: found.path.to_string(), cause });
                }
            }
        }
        Ok(Err(TroubleKind::Changed))
    }

    /// Reads a file once; nothing when it changed meanwhile.
    fn attempt(
        &mut self,
        found: &Found<'_>,
        file: &OwnedFd,
    ) -> Result<Option<(Metadata, Contents)>, ReadError<BoxError>> {
        let before: Stat = rustix::fs::fstat(file)?;
        let metadata = metadata(&before, Subject::Open(file.as_fd()))?;
        let mut contents = Contents {
            size: size(&before),
            holes: read::holes(file.as_fd(), size(&before))?,
            chunks: Vec::new(),
        };
        let mut chunks = Vec::new();
        let (sink, chunker) = (&mut *self.sink, &mut self.chunker);
        let (progress, observer) = (&mut self.progress, &mut *self.observer);
        chunker.restart();
        let mut keep = |chunk: ChunkRef, bytes: &[u8]| {
            sink.put(&chunk, bytes)?;
            chunks.push(chunk);
            progress.bytes += u64::from(chunk.len);
            observer.progress(progress);
            Ok::<(), BoxError>(())
        };
        for extent in contents.extents() {
            let mut feed = |bytes: &[u8]| chunker.push(bytes, &mut keep);
            read::range(file.as_fd(), extent, &mut feed)?;
        }
        chunker.finish(&mut keep).map_err(ReadError::Taker)?;
        contents.chunks = chunks;
        let after = rustix::fs::fstat(file)?;
        // The name must still be this file's: a file that was replaced is another.
        let named = match found.subject {
            Subject::Name(dir, name) => dir.stat(name).map(|stat| identity(&stat)),
            Subject::Open(_) => Ok(identity(&after)),
        };
        let still = match named {
            Ok(named) => named == identity(&after),
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(errno.into()),
        };
        Ok((is_same(&before, &after) && still).then_some((metadata, contents)))
    }
}

fn as_path<'a>(found: &'a Found<'_>) -> &'a Path {
    Path::new(std::ffi::OsStr::from_bytes(found.path.as_bytes()))
}
