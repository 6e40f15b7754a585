//! The update log: append-only segments, checksummed, synced in groups (FLOOD-32, FLOOD-35).
//!
//! ```text
//!   log/0000000000000000.seg     records from position 0 on
//!   log/0000000000002f10.seg     records from position 0x2f10 on; the last one is appended to
//!   log/bodies/0000000000002f11  the body of that record, too long for a segment, and its leaves
//! ```
//!
//! Records have dense positions and are opaque: a head and a body. [`Log::append`] gives them to
//! the kernel, [`Log::sync`] to the disk; one sync serves everything that was appended before it. A
//! record is whole or it is not there: what a crash left at the end of the last segment is cut off
//! when the log is opened, and said. Damage before that is a different thing: it is reported with
//! file and offset, and either the log is not opened, or the damaged records are holes and the
//! others stay readable, as [`OnDamage`] says.
//!
//! After a failed sync nothing is appended any more: what the disk holds is then unknown until the
//! log is opened again.

mod error;
mod open;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use skep_base::{Digest, WallTime, tree};

pub use error::LogError;

use crate::bodies::{leaves_bytes, write_leaves};
use crate::files;
use open::{open_segment, segment_bases};
use record::{Body, MAX_HEAD_BYTES, MAX_INLINE_BYTES, RECORD_HEADER_BYTES, Record};
use segment::Segment;

/// Longest body: what the flood allows.
pub const MAX_BODY_BYTES: u64 = 4 << 30;

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment is closed when it holds this much, bodies that are files included. The disk gets
    /// room back segment by segment. At most 32 MiB.
    pub segment_bytes: u64,
    /// What to do about damage.
    pub on_damage: OnDamage,
}

impl Source<'_> {
    fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { length, .. } => usize::try_from(*length).unwrap_or(usize::MAX),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 8 * 1024 * 1024, on_damage: OnDamage::Skip }
    }
}

/// What to do about records that are damaged and not merely torn off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// The log is not opened.
    Refuse,
    /// They are reported and count as holes: peers have them still.
    Skip,
}

/// What is to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// At most 4 KiB.
    pub head: &'a [u8],
    /// At most [`MAX_BODY_BYTES`].
    pub body: Source<'a>,
}

/// Where the body of a record comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// From memory.
    Bytes(&'a [u8]),
    /// From a file on the same filesystem, with its leaves behind it. The log makes a name of its
    /// own for the file, which must not change any more.
    File {
        /// Which.
        path: &'a Path,
        /// The length of the body.
        length: u64,
        /// Its digest.
        digest: [u8; 32],
    },
}

/// A body to be read part by part. It can be read even when the log forgets the record meanwhile.
#[derive(Debug)]
pub enum BodyFile {
    /// It is short.
    Bytes(Vec<u8>),
    /// The body stands at the beginning, its leaves behind it if it has more than one piece.
    File {
        /// Open for reading.
        file: File,
        /// The length of the body.
        length: u64,
    },
}

/// One record, as [`Log::open`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its number.
    pub position: u64,
    /// When it was appended.
    pub written: WallTime,
    /// What was given as head.
    pub head: &'a [u8],
    /// The length of its body.
    pub body_bytes: u64,
}

/// One record, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// When it was appended.
    pub written: WallTime,
    /// What was given as head.
    pub head: Vec<u8>,
    /// The part of the body that was asked for.
    pub body: Vec<u8>,
}

/// Something that should be in the log and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file.
    pub path: PathBuf,
    /// At which byte.
    pub offset: u64,
    /// What is there.
    pub what: &'static str,
    /// The positions that are lost.
    pub lost: Range<u64>,
}

/// The end of the log that a crash tore off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// In which file.
    pub path: PathBuf,
    /// From which byte.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// What was cut off the end.
    pub torn: Option<TornTail>,
    /// What is damaged, with [`OnDamage::Skip`].
    pub damage: Vec<Damage>,
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    bodies: PathBuf,
    options: Options,
    /// Ascending, never empty; the last one is appended to.
    segments: VecDeque<Segment>,
    file: File,
    /// A closed segment that is being read.
    reader: Option<(u64, File)>,
    /// Everything below is on the disk.
    durable: u64,
    new_names: bool,
    closed: bool,
}

impl Log {
    /// Opens the log in a directory, made if it is not there, and shows every record to `each`.
    ///
    /// # Errors
    /// [`LogError`] names the file that is foreign, too new or, with [`OnDamage::Refuse`], damaged.
    pub fn open(
        dir: &Path,
        options: Options,
        mut each: impl FnMut(&Found<'_>),
    ) -> Result<(Self, Opened), LogError> {
        let bodies = dir.join("bodies");
        files::private_dir(&bodies).map_err(|error| LogError::io("make", &bodies, error))?;
        files::private_dir(dir).map_err(|error| LogError::io("open", dir, error))?;
        let mut opened = Opened::default();
        let mut segments = VecDeque::new();
        let bases = segment_bases(dir)?;
        for (at, &base) in bases.iter().enumerate() {
            let following = bases.get(at + 1).copied();
            let segment = open_segment(dir, &bodies, base, following, &mut opened, &mut each)?;
            segments.extend(segment);
        }
        for damage in &opened.damage {
            if options.on_damage == OnDamage::Refuse {
                let Damage { path, offset, what, .. } = damage.clone();
                return Err(LogError::Damaged { path, offset, what });
            }
            let (file, offset, lost) = (damage.path.display(), damage.offset, &damage.lost);
            tracing::warn!(%file, offset, ?lost, "update log damaged: {}", damage.what);
        }
        if let Some(torn) = &opened.torn {
            let (file, offset, bytes) = (torn.path.display(), torn.offset, torn.bytes);
            tracing::info!(%file, offset, bytes, "update log: cut what a crash left at its end");
        }
        let file = match segments.back() {
            Some(last) => files::private_file(&last.path)
                .map_err(|error| LogError::io("open", &last.path, error))?,
            None => {
                let (segment, file) = Segment::create(dir, 0)
                    .map_err(|error| LogError::io("start a segment in", dir, error))?;
                segments.push_back(segment);
                file
            }
        };
        let durable = segments.back().map_or(0, Segment::next);
        let mut log = Self {
            dir: dir.to_owned(),
            bodies,
            options,
            segments,
            file,
            reader: None,
            durable,
            new_names: true,
            closed: false,
        };
        log.remove_orphans()?;
        // What was in the kernel's hands only may be shown to others from now on.
        log.flush_all()?;
        Ok((log, opened))
    }

    /// The position that the next record gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.segments.back().map_or(0, Segment::next)
    }

    /// The first position that may still be there.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.segments.front().map_or(0, |segment| segment.base)
    }

    /// Everything below survives a power cut.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// Appends records; gives their positions. All of them are kept or none.
    ///
    /// # Errors
    /// [`LogError::NoSpace`] when the disk is full; later calls may succeed again.
    pub fn append(&mut self, now: WallTime, entries: &[Entry<'_>]) -> Result<Range<u64>, LogError> {
        self.check_open()?;
        for entry in entries {
            check_length("head", entry.head.len(), MAX_HEAD_BYTES)?;
            let limit = usize::try_from(MAX_BODY_BYTES).unwrap_or(usize::MAX);
            check_length("body", entry.body.length(), limit)?;
        }
        let start = self.next();
        let segments = self.segments.len();
        let end = self.segments.back().map_or(0, |it| it.end);
        let outside = self.segments.back().map_or(0, |it| it.outside);
        match self.append_all(now, entries) {
            Ok(()) => Ok(start..self.next()),
            Err(error) => {
                self.take_back(start, (segments, end, outside));
                Err(error)
            }
        }
    }

    fn append_all(&mut self, now: WallTime, entries: &[Entry<'_>]) -> Result<(), LogError> {
        let mut buffer = Vec::new();
        for (position, entry) in (self.next()..).zip(entries) {
            let body = match entry.body {
                Source::Bytes(bytes) if bytes.len() <= MAX_INLINE_BYTES => Body::Inline(bytes),
                Source::Bytes(bytes) => self.write_body(position, bytes)?,
                Source::File { path, length, digest } => {
                    self.take_over(position, path)?;
                    Body::File { digest, length }
                }
            };
            let room = self.options.segment_bytes;
            let Some(last) = self.segments.back_mut() else {
                return Err(LogError::Closed { dir: self.dir.clone() });
            };
            let at = last.end + buffer.len() as u64;
            last.push(u32::try_from(at).unwrap_or(u32::MAX));
            if let Body::File { length, .. } = body {
                last.outside += length;
            }
            Record { position, written: now, head: entry.head, body }.write(&mut buffer);
            let full = last.end + buffer.len() as u64 + last.outside >= room;
            if full {
                self.write_out(&mut buffer)?;
                self.rotate()?;
            }
        }
        self.write_out(&mut buffer)
    }

    fn write_out(&mut self, buffer: &mut Vec<u8>) -> Result<(), LogError> {
        let Some(last) = self.segments.back_mut() else {
            return Ok(());
        };
        let written = self.file.write_all_at(buffer, last.end);
        written.map_err(|error| LogError::io("append to", &last.path, error))?;
        last.end += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    fn write_body(&mut self, position: u64, bytes: &[u8]) -> Result<Body<'static>, LogError> {
        let path = self.body_path(position);
        let failed = |error| LogError::io("write", &path, error);
        let file = files::private_file(&path).map_err(failed)?;
        let length = bytes.len() as u64;
        let pieces = (0..).zip(bytes.chunks(tree::PIECE_BYTES));
        let leaves: Vec<Digest> =
            pieces.map(|(piece, bytes)| tree::leaf(length, piece, bytes)).collect();
        file.set_len(0)
            .and_then(|()| file.write_all_at(bytes, 0))
            .and_then(|()| write_leaves(&file, length, &leaves))
            .map_err(failed)?;
        // The record must never be on the disk without its body.
        file.sync_data().map_err(failed)?;
        self.new_names = true;
        let digest = tree::root(&leaves).map_or([0; 32], |root| root.0);
        Ok(Body::File { digest, length })
    }

    /// Gives a file a name among the bodies.
    fn take_over(&mut self, position: u64, from: &Path) -> Result<(), LogError> {
        let path = self.body_path(position);
        remove(&path)?;
        let file = File::open(from).map_err(|error| LogError::io("take over", from, error))?;
        // The record must never be on the disk without its body.
        file.sync_data().map_err(|error| LogError::io("sync", from, error))?;
        fs::hard_link(from, &path).map_err(|error| LogError::io("take over", from, error))?;
        self.new_names = true;
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), LogError> {
        let next = self.next();
        self.flush_last()?;
        let (segment, file) = Segment::create(&self.dir, next)
            .map_err(|error| LogError::io("start a segment in", &self.dir, error))?;
        self.segments.push_back(segment);
        self.file = file;
        self.new_names = true;
        Ok(())
    }

    /// Undoes a failed append. Where that fails too, nothing may follow what is left.
    fn take_back(&mut self, start: u64, (segments, end, outside): (usize, u64, u64)) {
        for position in start..self.next() {
            drop(fs::remove_file(self.body_path(position)));
        }
        while self.segments.len() > segments {
            if let Some(segment) = self.segments.pop_back() {
                self.closed |= fs::remove_file(&segment.path).is_err();
            }
        }
        let Some(last) = self.segments.back_mut() else {
            return;
        };
        last.truncate(start, end);
        last.outside = outside;
        match files::private_file(&last.path) {
            Ok(file) => {
                self.closed |= file.set_len(end).is_err();
                self.file = file;
            }
            Err(_) => self.closed = true,
        }
    }

    /// Lets everything that was appended reach the disk; gives the position below which all is.
    ///
    /// # Errors
    /// [`LogError::Io`]; after it the log takes nothing any more until it is opened again.
    pub fn sync(&mut self) -> Result<u64, LogError> {
        self.check_open()?;
        if self.durable < self.next() {
            self.flush_all()?;
        }
        Ok(self.durable)
    }

    fn flush_all(&mut self) -> Result<(), LogError> {
        self.flush_last()?;
        if self.new_names {
            for dir in [&self.bodies, &self.dir] {
                if let Err(error) = files::sync_dir(dir) {
                    self.closed = true;
                    return Err(LogError::io("sync", dir, error));
                }
            }
            self.new_names = false;
        }
        self.durable = self.next();
        Ok(())
    }

    fn flush_last(&mut self) -> Result<(), LogError> {
        self.file.sync_data().map_err(|error| {
            self.closed = true;
            let path = self.segments.back().map_or(&self.dir, |last| &last.path);
            LogError::io("sync", path, error)
        })
    }

    /// Reads a record with the first `length` bytes of its body, or as many as there are. Nothing
    /// when the record was purged, is a hole, or is not there yet.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when the disk gives something else than what was written.
    pub fn read(&mut self, position: u64, length: u32) -> Result<Option<Stored>, LogError> {
        self.with_record(position, |log, record| {
            let body = match record.body {
                Body::Inline(body) => part(body, length).to_vec(),
                Body::File { digest, length: whole } => {
                    log.read_body(position, (digest, whole), length)?
                }
            };
            Ok(Stored { written: record.written, head: record.head.to_vec(), body })
        })
    }

    /// Opens the body of a record. Nothing where [`Log::read`] gives nothing.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when the disk gives something else than what was written.
    pub fn body(&mut self, position: u64) -> Result<Option<BodyFile>, LogError> {
        self.with_record(position, |log, record| match record.body {
            Body::Inline(body) => Ok(BodyFile::Bytes(body.to_vec())),
            Body::File { length, .. } => {
                Ok(BodyFile::File { file: log.open_body(position, length)?, length })
            }
        })
    }

    fn with_record<T>(
        &mut self,
        position: u64,
        then: impl FnOnce(&Self, &Record<'_>) -> Result<T, LogError>,
    ) -> Result<Option<T>, LogError> {
        let at = self.segments.partition_point(|segment| segment.base <= position);
        let Some(segment) = at.checked_sub(1).and_then(|at| self.segments.get(at)) else {
            return Ok(None);
        };
        let Some(start) = segment.offset(position) else {
            return Ok(None);
        };
        let (base, path) = (segment.base, segment.path.clone());
        let limit = RECORD_HEADER_BYTES + MAX_HEAD_BYTES + MAX_INLINE_BYTES;
        let room = usize::try_from(segment.end.saturating_sub(start)).unwrap_or(limit).min(limit);
        let last = at == self.segments.len();
        let file = self.reader(base, &path, last)?;
        let bytes = read_record(file, start, room);
        let bytes = bytes.map_err(|error| LogError::io("read", &path, error))?;
        let damaged = |what| LogError::Damaged { path: path.clone(), offset: start, what };
        let found = Record::read(&bytes).filter(|(record, _)| record.position == position);
        let Some((record, _)) = found else {
            return Err(damaged("a record that was whole before"));
        };
        then(self, &record).map(Some)
    }

    /// The file of a segment; the last one that was read stays open.
    fn reader(&mut self, base: u64, path: &Path, last: bool) -> Result<&File, LogError> {
        if last {
            return Ok(&self.file);
        }
        if self.reader.as_ref().is_none_or(|(of, _)| *of != base) {
            let file = File::open(path).map_err(|error| LogError::io("open", path, error))?;
            self.reader = Some((base, file));
        }
        self.reader.as_ref().map_or(Ok(&self.file), |(_, file)| Ok(file))
    }

    fn read_body(
        &self,
        position: u64,
        (digest, whole): ([u8; 32], u64),
        length: u32,
    ) -> Result<Vec<u8>, LogError> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let path = self.body_path(position);
        let file = self.open_body(position, whole)?;
        // A part is given without reading the whole: nobody can check it anyway.
        let length = usize::try_from(u64::from(length).min(whole)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0).map_err(|error| LogError::io("read", &path, error))?;
        if length as u64 == whole && *blake3::hash(&bytes).as_bytes() != digest {
            let what = "a body that does not match its digest";
            return Err(LogError::Damaged { path, offset: 0, what });
        }
        Ok(bytes)
    }

    fn open_body(&self, position: u64, whole: u64) -> Result<File, LogError> {
        let path = self.body_path(position);
        let file = File::open(&path).map_err(|error| LogError::io("open", &path, error))?;
        let meta = file.metadata().map_err(|error| LogError::io("read", &path, error))?;
        if meta.len() != whole + leaves_bytes(whole) {
            let what = "a body of another length";
            return Err(LogError::Damaged { path, offset: 0, what });
        }
        Ok(file)
    }

    /// Forgets the segments whose records all are below `position`; says how many.
    ///
    /// # Errors
    /// [`LogError::Io`] names the file that could not be removed. A segment is tried again next
    /// time, a body when the log is opened.
    pub fn purge(&mut self, position: u64) -> Result<usize, LogError> {
        let mut removed = 0;
        while self.segments.len() > 1 {
            let Some(first) = self.segments.front().filter(|first| first.next() <= position) else {
                break;
            };
            // The segment first. Whoever is killed then leaves bodies without records, which go
            // when the log is opened; a record without its body would be damage.
            remove(&first.path)?;
            let (positions, outside) = (first.base..first.next(), first.outside > 0);
            if self.reader.as_ref().is_some_and(|(base, _)| *base == first.base) {
                self.reader = None;
            }
            self.segments.pop_front();
            removed += 1;
            for position in positions.filter(|_| outside) {
                remove(&self.body_path(position))?;
            }
        }
        Ok(removed)
    }

    /// Removes bodies whose record was torn off.
    fn remove_orphans(&self) -> Result<(), LogError> {
        let entries = fs::read_dir(&self.bodies);
        for entry in entries.map_err(|error| LogError::io("list", &self.bodies, error))? {
            let entry = entry.map_err(|error| LogError::io("list", &self.bodies, error))?;
            let name = entry.file_name();
            let position = name.to_str().filter(|name| name.len() == 16);
            let position = position.and_then(|name| u64::from_str_radix(name, 16).ok());
            if position.is_some_and(|at| at >= self.next() || at < self.first()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn body_path(&self, position: u64) -> PathBuf {
        body_path(&self.bodies, position)
    }

    fn check_open(&self) -> Result<(), LogError> {
        if self.closed {
            return Err(LogError::Closed { dir: self.dir.clone() });
        }
        Ok(())
    }
}

fn body_path(bodies: &Path, position: u64) -> PathBuf {
    bodies.join(format!("{position:016x}"))
}

fn check_length(what: &'static str, length: usize, limit: usize) -> Result<(), LogError> {
    if length > limit {
        return Err(LogError::TooLong { what, length, limit });
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), LogError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LogError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn part(body: &[u8], length: u32) -> &[u8] {
    &body[..(length as usize).min(body.len())]
}

/// The bytes of one record, of which at most `room` are there.
fn read_record(file: &File, start: u64, room: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; RECORD_HEADER_BYTES.min(room)];
    file.read_exact_at(&mut bytes, start)?;
    let length = bytes.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let whole = RECORD_HEADER_BYTES.saturating_add(length).min(room);
    let read = bytes.len();
    bytes.resize(whole.max(read), 0);
    file.read_exact_at(&mut bytes[read..], start + read as u64)?;
    Ok(bytes)
}
