//! Long bodies outside the log: those that come in piece by piece, and those that are about to be
//! published.
//!
//! ```text
//!   incoming/NAME.part   the body, as far as it came; what did not come is a hole
//!   incoming/NAME.map    its digest and length, its leaves, and a bit for each piece that is kept
//!   incoming/NUMBER.spool  a whole body with its leaves behind it, to be published
//! ```
//!
//! A piece is checked against its leaf before it is written, and its bit is set after that, so a
//! process that is killed at any moment goes on with what it had. A power cut may keep a bit and
//! lose the piece: what an earlier process left is checked again before it counts. A body that is
//! whole gets its leaves behind it, and the log takes the file over as it is: by a second name of
//! its own, after which the first one goes. A process that is killed between the two leaves both,
//! and the next one removes the first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use skep_base::{Digest, tree};

use crate::files;

const MAGIC: &[u8; 8] = b"skepmap1";
/// The magic, the digest and the length.
const MAP_HEADER_BYTES: usize = 8 + Digest::LEN + 8;
/// Maps in memory: those of the bodies that are being pulled, and some that were just now.
const MAX_OPEN: usize = 16;
/// How long what came of a body is kept after its last piece, when the log does not say otherwise.
const KEEP: Duration = Duration::from_secs(72 * 3600);

/// How much of a body that is laid down may be in the kernel's hands only: what piles up there
/// makes every other sync of the disk slow.
const WRITE_OUT_BYTES: u64 = 16 << 20;

/// What was done with a piece, or with leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is right, and is kept.
    Kept,
    /// It is not what was announced.
    Wrong,
    /// There are no leaves to check it against.
    Unchecked,
}

/// What there is of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Whether its leaves are there.
    pub leaves: bool,
    /// The pieces that are not.
    pub missing: Vec<u32>,
}

/// Bodies that come in. One thread uses it.
#[derive(Debug)]
pub struct Incoming {
    dir: PathBuf,
    /// Bytes on disk that bodies which nobody pulls at the moment may take.
    idle_max: u64,
    open: BTreeMap<String, Part>,
    uses: u64,
}

#[derive(Debug)]
struct Part {
    file: File,
    map: File,
    digest: Digest,
    length: u64,
    leaves: Vec<Digest>,
    kept: Vec<u8>,
    used: u64,
}

impl Incoming {
    /// Opens the directory, made if it is not there; removes what is too old, what a publisher left
    /// there, and what the log took over. The log is opened first: it lets go of a body whose
    /// record was torn off, which is then still on its way.
    ///
    /// # Errors
    /// The system's.
    pub fn open(dir: &Path, idle_max: u64) -> io::Result<Self> {
        files::private_dir(dir)?;
        let now = SystemTime::now();
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            found.push((entry.path(), entry.metadata()?));
        }
        for (path, meta) in found {
            let end = |end| path.extension().is_some_and(|it| it == end);
            let old = now.duration_since(meta.modified()?).is_ok_and(|age| age > KEEP);
            let taken_over = end("part") && meta.nlink() > 1;
            if taken_over {
                // A kill in between leaves a file that says by itself that it goes.
                remove(&path.with_extension("map"))?;
            }
            if old || taken_over || end("spool") {
                remove(&path)?;
            }
        }
        Ok(Self { dir: dir.to_owned(), idle_max, open: BTreeMap::new(), uses: 0 })
    }

    /// Says what there is of a body. What there is of another one of that name is removed.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    pub fn begin(&mut self, name: &str, length: u64, digest: Digest) -> io::Result<Begun> {
        let known = self.open.get(name);
        if known.is_none_or(|part| part.digest != digest || part.length != length) {
            self.open.remove(name);
            self.trim(name)?;
            let part = Part::open(&self.part_path(name), &self.map_path(name), length, digest)?;
            self.open.insert(name.to_owned(), part);
        }
        self.uses += 1;
        let uses = self.uses;
        let part = self.open.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        part.used = uses;
        let pieces = 0..tree::pieces(length);
        let missing = pieces.filter(|piece| !part.has(*piece)).collect();
        Ok(Begun { leaves: !part.leaves.is_empty(), missing })
    }

    /// Keeps the leaves of a body that was begun.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    pub fn leaves(&mut self, name: &str, bytes: &[u8]) -> io::Result<Verdict> {
        let part = self.open.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let leaves = tree::leaves_from(bytes);
        let due = tree::pieces(part.length) as usize;
        if leaves.len() != due || tree::root(&leaves) != Some(part.digest) {
            return Ok(Verdict::Wrong);
        }
        part.map.write_all_at(bytes, MAP_HEADER_BYTES as u64)?;
        part.leaves = leaves;
        Ok(Verdict::Kept)
    }

    /// Keeps a piece of a body that was begun.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    pub fn piece(&mut self, name: &str, piece: u32, bytes: &[u8]) -> io::Result<Verdict> {
        let part = self.open.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let Some(leaf) = part.leaves.get(piece as usize) else {
            return Ok(Verdict::Unchecked);
        };
        let right = tree::piece_bytes(part.length, piece) == Some(bytes.len())
            && tree::leaf(part.length, piece, bytes) == *leaf;
        if !right {
            return Ok(Verdict::Wrong);
        }
        part.file.write_all_at(bytes, tree::piece_offset(piece))?;
        part.note(piece)?;
        Ok(Verdict::Kept)
    }

    /// The file of a body that is whole, with its leaves behind it, as the log takes it over.
    ///
    /// # Errors
    /// The system's, and `NotFound` when the body is not whole.
    pub fn finish(&mut self, name: &str) -> io::Result<PathBuf> {
        let part = self.open.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let whole = (0..tree::pieces(part.length)).all(|piece| part.has(piece));
        if !whole {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the body is not whole"));
        }
        write_leaves(&part.file, part.length, &part.leaves)?;
        Ok(self.part_path(name))
    }

    /// Removes what there is of a body.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        for path in [self.map_path(name), self.part_path(name)] {
            remove(&path)?;
        }
        Ok(())
    }

    /// Makes room for one more: closes what was not used for long, and removes the oldest of what
    /// nobody pulls while it is over its bound.
    fn trim(&mut self, coming: &str) -> io::Result<()> {
        while self.open.len() >= MAX_OPEN {
            let oldest = self.open.iter().min_by_key(|(_, part)| part.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            self.open.remove(&oldest);
        }
        let mut idle = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".part")) else {
                continue;
            };
            if name != coming && !self.open.contains_key(name) {
                let meta = entry.metadata()?;
                idle.push((meta.modified()?, meta.blocks() * 512, name.to_owned()));
            }
        }
        idle.sort();
        let mut bytes: u64 = idle.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, freed, name) in idle {
            if bytes <= self.idle_max {
                break;
            }
            tracing::info!(%name, "dropped the beginning of a large update: too many wait");
            self.remove(&name)?;
            bytes = bytes.saturating_sub(freed);
        }
        Ok(())
    }

    fn part_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.part"))
    }

    fn map_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.map"))
    }
}

impl Part {
    fn open(path: &Path, map: &Path, length: u64, digest: Digest) -> io::Result<Self> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&digest.0);
        header.extend_from_slice(&length.to_be_bytes());
        let pieces = tree::pieces(length) as usize;
        let mut found = vec![0; MAP_HEADER_BYTES + pieces * Digest::LEN + pieces.div_ceil(8)];
        let read = files::private_file(map)?.read_at(&mut found, 0)?;
        let known = read >= MAP_HEADER_BYTES && found[..MAP_HEADER_BYTES] == header;
        if !known {
            // A new file: the log may have the old one by another name.
            remove(path)?;
            remove(map)?;
            found.fill(0);
        }
        let (file, map) = (files::private_file(path)?, files::private_file(map)?);
        if !known {
            map.write_all_at(&header, 0)?;
        }
        let mut part = Self {
            file,
            map,
            digest,
            length,
            leaves: Vec::new(),
            kept: vec![0; pieces.div_ceil(8)],
            used: 0,
        };
        let (leaves, bits) = found[MAP_HEADER_BYTES..].split_at(pieces * Digest::LEN);
        let leaves = if pieces == 1 { vec![digest] } else { tree::leaves_from(leaves) };
        if tree::root(&leaves) == Some(digest) {
            part.leaves = leaves;
            part.check(bits)?;
        }
        Ok(part)
    }

    /// Counts what an earlier process kept, as far as it is there.
    fn check(&mut self, bits: &[u8]) -> io::Result<()> {
        let mut bytes = vec![0; tree::PIECE_BYTES];
        for (piece, leaf) in (0..).zip(&self.leaves) {
            let due = tree::piece_bytes(self.length, piece).unwrap_or(0);
            let noted = bits.get(piece as usize / 8).is_some_and(|it| it >> (piece % 8) & 1 == 1);
            if !noted {
                continue;
            }
            let there = self.file.read_exact_at(&mut bytes[..due], tree::piece_offset(piece));
            if there.is_ok() && tree::leaf(self.length, piece, &bytes[..due]) == *leaf {
                self.kept[piece as usize / 8] |= 1 << (piece % 8);
            }
        }
        Ok(())
    }

    fn has(&self, piece: u32) -> bool {
        self.kept.get(piece as usize / 8).is_some_and(|bits| bits >> (piece % 8) & 1 == 1)
    }

    fn note(&mut self, piece: u32) -> io::Result<()> {
        let at = piece as usize / 8;
        let Some(bits) = self.kept.get_mut(at) else {
            return Ok(());
        };
        *bits |= 1 << (piece % 8);
        let place = MAP_HEADER_BYTES + self.leaves.len() * Digest::LEN + at;
        self.map.write_all_at(&[*bits], place as u64)
    }
}

/// Where bodies are laid down that are to be published. Cheap to clone; used by many threads.
#[derive(Clone, Debug)]
pub struct Spools {
    dir: PathBuf,
    next: Arc<AtomicU64>,
}

/// A whole body in a file of its own, which goes with this value.
#[derive(Debug)]
pub struct SpooledBody {
    /// Names it.
    pub number: u64,
    /// Its length.
    pub length: u64,
    /// Its digest.
    pub digest: Digest,
    path: PathBuf,
}

impl Spools {
    /// In the directory of [`Incoming::open`].
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), next: Arc::default() }
    }

    /// Begins to lay a body down, of which nobody knows yet how long it is.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    pub fn begin(&self) -> io::Result<Laying> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let path = self.path(number);
        let file = files::new_private_file(&path)?;
        let digest = Digest([0; Digest::LEN]);
        let body = SpooledBody { number, length: 0, digest, path };
        Ok(Laying { file, body, growing: tree::Growing::new(), synced: 0 })
    }

    /// The file of a body that was laid down.
    #[must_use]
    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.spool"))
    }
}

/// A body that is being laid down. Dropped before it is whole, nothing is left of it.
#[derive(Debug)]
pub struct Laying {
    file: File,
    body: SpooledBody,
    growing: tree::Growing,
    /// Bytes that are on the disk.
    synced: u64,
}

impl Laying {
    /// Lays down what follows. Waits for the disk.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.body.length)?;
        self.growing.update(bytes);
        self.body.length += bytes.len() as u64;
        if self.body.length - self.synced >= WRITE_OUT_BYTES {
            self.file.sync_data()?;
            self.synced = self.body.length;
        }
        Ok(())
    }

    /// That was all: what is given is whole, and would survive a power cut. Waits for the disk.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    pub fn finish(mut self) -> io::Result<SpooledBody> {
        let (leaves, digest) = self.growing.finish();
        write_leaves(&self.file, self.body.length, &leaves)?;
        // Here, where only this publisher waits: the log finds nothing left to sync.
        self.file.sync_data()?;
        self.body.digest = digest;
        Ok(self.body)
    }
}

impl Drop for SpooledBody {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a published body stays behind");
        }
    }
}

/// A body of one piece has no leaves behind it: its digest is in its record.
pub(crate) fn write_leaves(file: &File, length: u64, leaves: &[Digest]) -> io::Result<()> {
    if leaves.len() > 1 {
        let bytes: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
        file.write_all_at(&bytes, length)?;
    }
    Ok(())
}

/// Bytes of the leaves behind a body.
pub(crate) fn leaves_bytes(length: u64) -> u64 {
    match tree::pieces(length) {
        1 => 0,
        pieces => u64::from(pieces) * Digest::LEN as u64,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
