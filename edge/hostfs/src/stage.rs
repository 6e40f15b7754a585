//! Building the new tree beside the old one, and the switch.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;
use skep_image::{
    ChunkRef, Contents, Entry, ImageKind, Kind, Manifest, ManifestDigest, Metadata, Node, TreePath,
};

use crate::dir::{Dir, file_type, write_at};
use crate::error::{BoxError, HostError};
use crate::observe::{Observer, Progress, Step, Stopped};
use crate::places::{Tag, Target};
use crate::remove::remove_all;
use crate::report::{LeftOut, LeftWhat};
use crate::state::{Note, RootId, State};
use crate::write::{self, Failed, Handle, is_device};

/// Where the chunks of an image come from.
pub trait ChunkSource {
    /// The bytes of `chunk`, or nothing when they are not there (yet). They are compared with the
    /// digest before they are used.
    ///
    /// # Errors
    /// Whatever keeps them from being read.
    fn chunk(&mut self, chunk: &ChunkRef) -> Result<Option<Vec<u8>>, BoxError>;
}

/// How an image is applied.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// Tells this attempt from others; the same tag resumes.
    pub tag: Tag,
    /// Go on without owners, devices and attributes that this user may not set, and list them. Else
    /// the first look that finds any fails, and the target is not touched.
    pub as_user: bool,
}

/// Why an image was not applied. In every case the target is what it was, whole.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The filesystem, or the user's quota on it, is full. What was staged stays for the next try.
    #[error("no space left to stage {}: the active tree is untouched; free some and it resumes",
        .target.display())]
    Full {
        /// Where the image was to go.
        target: PathBuf,
        /// Where exactly.
        #[source]
        cause: HostError,
    },
    /// The system refused something.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A chunk is not there yet.
    #[error("chunk {chunk} of {path} is missing; it resumes when that has been fetched")]
    MissingChunk {
        /// Of which entry.
        path: TreePath,
        /// Which.
        chunk: skep_base::Digest,
    },
    /// The source's bytes are not the chunk's.
    #[error("chunk {chunk} of {path} came with other bytes")]
    WrongChunk {
        /// Of which entry.
        path: TreePath,
        /// Which.
        chunk: skep_base::Digest,
    },
    /// The source failed.
    #[error("cannot read a chunk of {path}")]
    Source {
        /// Of which entry.
        path: TreePath,
        /// Why.
        #[source]
        cause: BoxError,
    },
    /// Some metadata needs root.
    #[error(
        "{} things cannot be set on {} without root ({left}); run the agent as root, or apply with \
         --as-user to leave them out",
        .left.count, .target.display()
    )]
    NotPermitted {
        /// Where the image was to go.
        target: PathBuf,
        /// What.
        left: LeftOut,
    },
    /// Another process works on the same stage.
    #[error("another process is already applying this to {}", .0.display())]
    Busy(PathBuf),
    /// What is at the target is not what the image could replace.
    #[error("{} is a {found}, which a {wanted} does not replace; move it away first",
        .target.display())]
    TargetKind {
        /// The target.
        target: PathBuf,
        /// What is there.
        found: &'static str,
        /// What the image is.
        wanted: &'static str,
    },
    /// The target is where a filesystem is mounted: it cannot change places.
    #[error("{} is a mount point and cannot be switched; apply to a directory below it",
        .0.display())]
    MountPoint(PathBuf),
    /// The filesystem knows no exchange of two names.
    #[error("the filesystem of {} cannot exchange two names; use ext4, xfs, btrfs or tmpfs",
        .0.display())]
    NoExchange(PathBuf),
    /// The observer ended it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What [`Stage::open`] came upon.
#[derive(Debug)]
pub enum Opened<'a> {
    /// A stage to fill, empty or as an earlier attempt left it.
    Stage(Stage<'a>),
    /// An earlier attempt switched, and was killed before it was done with the rest.
    Switched(Switched<'a>),
}

/// A new tree in the making.
#[derive(Debug)]
pub struct Stage<'a> {
    place: Place<'a>,
    manifest: &'a Manifest,
    as_user: bool,
    left: LeftOut,
    progress: Progress,
}

/// A new tree that is whole and not yet active.
#[derive(Debug)]
pub struct Whole<'a> {
    place: Place<'a>,
    manifest: &'a Manifest,
    left: LeftOut,
}

/// A new tree that is active. The old one is still there, under the stage's name, so that the
/// caller can note what was applied before the last trace of the switch goes.
#[derive(Debug)]
pub struct Switched<'a> {
    place: Place<'a>,
    left: LeftOut,
}

#[derive(Debug)]
struct Place<'a> {
    target: &'a Target,
    stage: Vec<u8>,
    state_name: Vec<u8>,
    state: State,
}

/// Applies `manifest` to `target` from `source`: stages, switches. The old tree is still there, for
/// [`Switched::discard_old`].
///
/// # Errors
/// [`ApplyError`]; the target is then what it was.
pub fn apply<'a>(
    target: &'a Target,
    (manifest, digest): (&'a Manifest, ManifestDigest),
    options: &ApplyOptions,
    source: &mut dyn ChunkSource,
    observer: &mut dyn Observer,
) -> Result<Switched<'a>, ApplyError> {
    match Stage::open(target, (manifest, digest), options, observer)? {
        Opened::Switched(switched) => Ok(switched),
        Opened::Stage(stage) => stage.fill(source, observer)?.switch(observer),
    }
}

impl<'a> Stage<'a> {
    /// Opens the stage of `manifest` beside `target`, taking over what an earlier attempt of the
    /// same tag and manifest left, and throwing away what is of another.
    ///
    /// # Errors
    /// [`ApplyError`] when the target cannot take the image, another process is at it, or (without
    /// `as_user`) some of it needs root.
    pub fn open(
        target: &'a Target,
        (manifest, digest): (&'a Manifest, ManifestDigest),
        options: &ApplyOptions,
        observer: &mut dyn Observer,
    ) -> Result<Opened<'a>, ApplyError> {
        check_target(target, manifest.header().kind)?;
        let predicted = predict_left_out(manifest);
        if !options.as_user && !predicted.is_empty() {
            return Err(not_permitted(target, predicted));
        }
        observer.step(Step::Open)?;
        let (stage, state_name) =
            (target.stage_name(&options.tag), target.state_name(&options.tag));
        let failed = |what| move |errno| wrap(target, &target.shown, (what, errno));
        let state = State::open(&target.parent, &state_name)
            .map_err(failed("open the stage's state beside"))?
            .ok_or_else(|| ApplyError::Busy(target.shown.clone()))?;
        let note = state.read().map_err(failed("read the stage's state beside"))?;
        let active = RootId::of(&target.parent, &target.name).map_err(failed("look at"))?;
        let place = Place { target, stage, state_name, state };
        let resumed = match note {
            Note::Ready(was, root) if was == digest && active == Some(root) => {
                return Ok(Opened::Switched(Switched { place, left: predicted }));
            }
            Note::Ready(was, _) | Note::Building(was) => was == digest,
            Note::Nothing => false,
        };
        if !resumed {
            remove_all(&target.parent, &place.stage).map_err(failed("clear the stage beside"))?;
        }
        place.state.begin(digest).map_err(failed("write the stage's state beside"))?;
        let totals = manifest.totals();
        Ok(Opened::Stage(Self {
            place,
            manifest,
            as_user: options.as_user,
            left: LeftOut::default(),
            progress: Progress {
                entries_total: totals.entries,
                bytes_total: totals.data_bytes,
                ..Progress::default()
            },
        }))
    }

    /// Makes every entry that is not there yet, then sets what belongs to directories.
    ///
    /// # Errors
    /// [`ApplyError`]; what was made stays for the next [`Stage::open`].
    pub fn fill(
        mut self,
        source: &mut dyn ChunkSource,
        observer: &mut dyn Observer,
    ) -> Result<Whole<'a>, ApplyError> {
        let manifest = self.manifest;
        match manifest.header().kind {
            ImageKind::File => {
                let parent = &self.place.target.parent;
                let name = self.place.stage.clone();
                for entry in manifest.entries() {
                    self.entry((parent, &name), entry, source, observer)?;
                }
            }
            ImageKind::Tree => self.fill_tree(source, observer)?,
        }
        if !self.as_user && !self.left.is_empty() {
            return Err(not_permitted(self.place.target, self.left));
        }
        Ok(Whole { place: self.place, manifest, left: self.left })
    }

    fn fill_tree(
        &mut self,
        source: &mut dyn ChunkSource,
        observer: &mut dyn Observer,
    ) -> Result<(), ApplyError> {
        let (root_path, manifest) = (TreePath::root(), self.manifest);
        let root = write::directory(&self.place.target.parent, &self.place.stage)
            .map_err(|failed| self.wrap(&root_path, failed))?;
        self.count_entry(observer);
        let mut cursor = Cursor::new();
        for entry in manifest.entries().iter().skip(1) {
            let Some((parent, name)) = entry.path.split() else {
                continue;
            };
            let dir = cursor
                .parent(&root, parent)
                .map_err(|errno| self.wrap(&entry.path, ("open the directory of", errno)))?;
            if let Kind::HardLink(first) = entry.kind {
                observer.step(Step::Entry(entry.path.as_bytes()))?;
                let first = &manifest.entries()[first as usize];
                self.hard_link(&root, first, (dir, name), entry)?;
                self.count_entry(observer);
            } else {
                self.entry((dir, name), entry, source, observer)?;
            }
        }
        observer.step(Step::Directories)?;
        for entry in manifest.entries().iter().rev() {
            if let Kind::Node(metadata, Node::Directory) = &entry.kind {
                let set = root
                    .open_dir(entry.path.as_bytes())
                    .map_err(write::during("open the directory"))
                    .and_then(|dir| {
                        let handle = Handle::Open(dir.fd());
                        write::set_metadata(handle, &entry.path, metadata, &mut self.left)
                    });
                set.map_err(|failed| self.wrap(&entry.path, failed))?;
            }
        }
        Ok(())
    }

    /// Makes an entry that is no hard link. A directory's metadata waits for the end.
    fn entry(
        &mut self,
        (dir, name): (&Dir, &[u8]),
        entry: &Entry,
        source: &mut dyn ChunkSource,
        observer: &mut dyn Observer,
    ) -> Result<(), ApplyError> {
        observer.step(Step::Entry(entry.path.as_bytes()))?;
        let path = &entry.path;
        let made = match entry.node() {
            None => Ok(()),
            Some((_, Node::Directory)) => write::directory(dir, name).map(drop),
            Some((metadata, Node::File(contents))) => {
                return self.file((dir, name), path, (metadata, contents), source, observer);
            }
            Some((metadata, node)) => remove_all(dir, name)
                .map_err(write::during("clear the way for"))
                .and_then(|()| write::special(dir, name, path, node, &mut self.left))
                .and_then(|made| {
                    let handle = Handle::Name(dir, name, matches!(node, Node::Symlink(_)));
                    if made {
                        write::set_metadata(handle, path, metadata, &mut self.left)?;
                    }
                    Ok(())
                }),
        };
        made.map_err(|failed| self.wrap(path, failed))?;
        self.count_entry(observer);
        Ok(())
    }

    fn file(
        &mut self,
        (dir, name): (&Dir, &[u8]),
        path: &TreePath,
        (metadata, contents): (&Metadata, &Contents),
        source: &mut dyn ChunkSource,
        observer: &mut dyn Observer,
    ) -> Result<(), ApplyError> {
        let failed = |what| move |errno| (what, errno);
        let finished = write::is_finished(dir, name, metadata, contents)
            .map_err(|errno| self.wrap(path, ("look at what is staged of", errno)))?;
        let file = if finished {
            dir.open_file(name).map_err(failed("open"))
        } else {
            remove_all(dir, name).and_then(|()| dir.create_file(name)).map_err(failed("make"))
        };
        let file = file.map_err(|failed| self.wrap(path, failed))?;
        if finished {
            self.progress.bytes += contents.data_bytes();
        } else {
            rustix::fs::ftruncate(&file, contents.size)
                .map_err(|errno| self.wrap(path, ("set the size of", errno)))?;
            self.contents(&file, path, contents, source, observer)?;
        }
        write::set_metadata(Handle::Open(file.as_fd()), path, metadata, &mut self.left)
            .map_err(|failed| self.wrap(path, failed))?;
        self.count_entry(observer);
        Ok(())
    }

    /// Writes the chunks to where the holes leave room.
    fn contents(
        &mut self,
        file: &impl std::os::fd::AsFd,
        path: &TreePath,
        contents: &Contents,
        source: &mut dyn ChunkSource,
        observer: &mut dyn Observer,
    ) -> Result<(), ApplyError> {
        let mut extents = contents.extents();
        let (mut offset, mut room) = (0, 0);
        for chunk in &contents.chunks {
            observer.step(Step::Chunk)?;
            let bytes = fetch(source, path, chunk)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                if room == 0 {
                    // The manifest's sums were checked: there is an extent for every byte.
                    (offset, room) = extents.next().unwrap_or((offset, u64::MAX));
                }
                let fits = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
                let (part, after) = rest.split_at(fits);
                write_at(file.as_fd(), part, offset).map_err(|cause| {
                    let shown = self.shown(path);
                    wrap_host(self.place.target, HostError::new("write", &shown, cause))
                })?;
                offset += part.len() as u64;
                room -= part.len() as u64;
                rest = after;
            }
            self.progress.bytes += bytes.len() as u64;
            observer.progress(&self.progress);
        }
        Ok(())
    }

    fn hard_link(
        &mut self,
        root: &Dir,
        first: &Entry,
        (dir, name): (&Dir, &[u8]),
        entry: &Entry,
    ) -> Result<(), ApplyError> {
        let linked = first.path.split().ok_or(Errno::NOENT).and_then(|(parent, first_name)| {
            let from = root.open_dir(parent)?;
            remove_all(dir, name)?;
            rustix::fs::linkat(from.fd(), first_name, dir.fd(), name, AtFlags::empty())
        });
        match linked {
            Ok(()) => Ok(()),
            // Nothing was made that it could be a name of.
            Err(Errno::NOENT) if first.node().is_some_and(|(_, node)| is_device(node)) => {
                self.left.add(&entry.path, LeftWhat::Device);
                Ok(())
            }
            Err(errno) => Err(self.wrap(&entry.path, ("hard-link", errno))),
        }
    }

    fn count_entry(&mut self, observer: &mut dyn Observer) {
        self.progress.entries += 1;
        observer.progress(&self.progress);
    }

    fn shown(&self, path: &TreePath) -> PathBuf {
        let target = &self.place.target.shown;
        if path.is_root() {
            return target.clone();
        }
        target.join(OsStr::from_bytes(path.as_bytes()))
    }

    fn wrap(&self, path: &TreePath, failed: Failed) -> ApplyError {
        wrap(self.place.target, &self.shown(path), failed)
    }
}

impl<'a> Whole<'a> {
    /// What was left out for want of privilege.
    #[must_use]
    pub const fn left_out(&self) -> &LeftOut {
        &self.left
    }

    /// Lets the new tree reach the disk and puts it in the old one's place.
    ///
    /// # Errors
    /// [`ApplyError`]; the target is then the old tree, or, when only the last wait failed, the
    /// new.
    pub fn switch(self, observer: &mut dyn Observer) -> Result<Switched<'a>, ApplyError> {
        let target = self.place.target;
        let failed = |what| move |errno| wrap(target, &target.shown, (what, errno));
        observer.step(Step::Sync)?;
        rustix::fs::syncfs(target.parent.fd()).map_err(failed("sync the new tree of"))?;
        check_target(target, self.manifest.header().kind)?;
        observer.step(Step::MarkReady)?;
        let root = RootId::of(&target.parent, &self.place.stage)
            .and_then(|root| root.ok_or(Errno::NOENT))
            .map_err(failed("look at the new tree of"))?;
        self.place
            .state
            .mark_ready(&root)
            .and_then(|()| rustix::fs::fsync(target.parent.fd()))
            .map_err(failed("note as whole the new tree of"))?;
        observer.step(Step::Switch)?;
        self.place.exchange()?;
        observer.step(Step::SyncParent)?;
        rustix::fs::fsync(target.parent.fd()).map_err(failed("sync the directory of"))?;
        Ok(Switched { place: self.place, left: self.left })
    }
}

impl Place<'_> {
    /// One system call: afterwards the target is the new tree, and the stage's name the old one's.
    fn exchange(&self) -> Result<(), ApplyError> {
        let (target, dir) = (self.target, self.target.parent.fd());
        let exists = target
            .parent
            .stat_if_any(&target.name)
            .map_err(|errno| wrap(target, &target.shown, ("look at", errno)))?
            .is_some();
        let flags = if exists { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let to = target.name.as_slice();
        rustix::fs::renameat_with(dir, self.stage.as_slice(), dir, to, flags).map_err(|errno| {
            match errno {
                Errno::BUSY => ApplyError::MountPoint(target.shown.clone()),
                Errno::INVAL | Errno::NOSYS => ApplyError::NoExchange(target.shown.clone()),
                errno => wrap(target, &target.shown, ("switch", errno)),
            }
        })
    }
}

impl Switched<'_> {
    /// What was left out for want of privilege.
    #[must_use]
    pub const fn left_out(&self) -> &LeftOut {
        &self.left
    }

    /// Removes the old tree and the state file. Called once it is noted what was applied; until
    /// then the same [`Stage::open`] finds the switch done.
    ///
    /// # Errors
    /// [`ApplyError`] when something of the old tree cannot be removed, such as what is mounted in
    /// it. The new tree is active all the same, and [`clean_leftovers`] tries again.
    pub fn discard_old(self, observer: &mut dyn Observer) -> Result<LeftOut, ApplyError> {
        let target = self.place.target;
        let failed = |what| move |errno| wrap(target, &target.shown, (what, errno));
        observer.step(Step::RemoveOld)?;
        remove_all(&target.parent, &self.place.stage)
            .map_err(failed("remove the old tree, now .skep-stage-…, beside"))?;
        observer.step(Step::RemoveState)?;
        remove_all(&target.parent, &self.place.state_name)
            .map_err(failed("remove the stage's state beside"))?;
        Ok(self.left)
    }
}

/// Removes stages beside `target` that nobody works on: of waves that were given up, or old trees
/// that a crash left. Stages with the tag `keep` stay. Returns how many were removed.
///
/// # Errors
/// [`HostError`] names what cannot be removed.
pub fn clean_leftovers(target: &Target, keep: Option<&Tag>) -> Result<usize, HostError> {
    let failed = |what| move |errno: Errno| HostError::new(what, &target.shown, errno);
    let names = target.parent.names().map_err(failed("list the directory of"))?;
    let mut tags: Vec<Tag> = names.iter().filter_map(|name| target.tag_of(name)).collect();
    tags.dedup();
    let mut removed = 0;
    for tag in tags.iter().filter(|tag| Some(*tag) != keep) {
        let state_name = target.state_name(tag);
        let state = State::open(&target.parent, &state_name)
            .map_err(failed("open the state of a stage beside"))?;
        let Some(held) = state else {
            continue;
        };
        remove_all(&target.parent, &target.stage_name(tag))
            .map_err(failed("remove an old stage beside"))?;
        remove_all(&target.parent, &state_name).map_err(failed("remove an old state beside"))?;
        drop(held);
        removed += 1;
    }
    Ok(removed)
}

/// What this process cannot set of `manifest`, as far as one can tell beforehand. Nothing for root.
#[must_use]
pub fn predict_left_out(manifest: &Manifest) -> LeftOut {
    let mut left = LeftOut::default();
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return left;
    }
    let mut groups: Vec<u32> =
        rustix::process::getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()).collect();
    groups.push(rustix::process::getegid().as_raw());
    for entry in manifest.entries() {
        let Some((metadata, node)) = entry.node() else {
            continue;
        };
        if is_device(node) {
            left.add(&entry.path, LeftWhat::Device);
        }
        if metadata.uid != uid.as_raw() || !groups.contains(&metadata.gid) {
            let (uid, gid) = (metadata.uid, metadata.gid);
            left.add(&entry.path, LeftWhat::Owner { uid, gid });
        }
        for xattr in &metadata.xattrs {
            if xattr.name.starts_with(b"security.") || xattr.name.starts_with(b"trusted.") {
                left.add(&entry.path, LeftWhat::Xattr(xattr.name.clone()));
            }
        }
    }
    left
}

/// The directory that was used last, since entries of one directory stand together.
struct Cursor(Option<(Vec<u8>, Dir)>);

impl Cursor {
    const fn new() -> Self {
        Self(None)
    }

    fn parent(&mut self, root: &Dir, path: &[u8]) -> Result<&Dir, Errno> {
        if self.0.as_ref().is_none_or(|(held, _)| held != path) {
            self.0 = Some((path.to_vec(), root.open_dir(path)?));
        }
        self.0.as_ref().map(|(_, dir)| dir).ok_or(Errno::NOENT)
    }
}

fn fetch(
    source: &mut dyn ChunkSource,
    path: &TreePath,
    chunk: &ChunkRef,
) -> Result<Vec<u8>, ApplyError> {
    let (path, digest) = (path.clone(), chunk.digest);
    match source.chunk(chunk) {
        Ok(Some(bytes)) if chunk.matches(&bytes) => Ok(bytes),
        Ok(Some(_)) => Err(ApplyError::WrongChunk { path, chunk: digest }),
        Ok(None) => Err(ApplyError::MissingChunk { path, chunk: digest }),
        Err(cause) => Err(ApplyError::Source { path, cause }),
    }
}

/// Whether the image may take the target's place: nothing is there, or the same kind of thing.
fn check_target(target: &Target, kind: ImageKind) -> Result<(), ApplyError> {
    let failed = |errno| wrap(target, &target.shown, ("look at", errno));
    let Some(stat) = target.parent.stat_if_any(&target.name).map_err(failed)? else {
        return Ok(());
    };
    let parent = target.parent.own_stat().map_err(failed)?;
    if stat.st_dev != parent.st_dev {
        return Err(ApplyError::MountPoint(target.shown.clone()));
    }
    let found = match file_type(&stat) {
        FileType::Directory => "directory",
        FileType::RegularFile => "file",
        FileType::Symlink => "symbolic link",
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => "pipe, socket or device",
    };
    let wanted = match kind {
        ImageKind::Tree => "directory",
        ImageKind::File => "file",
    };
    if found == wanted {
        return Ok(());
    }
    Err(ApplyError::TargetKind { target: target.shown.clone(), found, wanted })
}

fn not_permitted(target: &Target, left: LeftOut) -> ApplyError {
    ApplyError::NotPermitted { target: target.shown.clone(), left }
}

fn wrap(target: &Target, path: &Path, (what, errno): Failed) -> ApplyError {
    wrap_host(target, HostError::new(what, path, errno))
}

fn wrap_host(target: &Target, cause: HostError) -> ApplyError {
    if cause.is_full() {
        ApplyError::Full { target: target.shown.clone(), cause }
    } else {
        ApplyError::Host(cause)
    }
}
