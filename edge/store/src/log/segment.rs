//! One file of the log: a header and records, their offsets in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::record::{RECORD_HEADER_BYTES, Record};
use super::{Damage, LogError};
use crate::files;

/// `skeplog`, the version, and the position of the first record; a checksum of these.
pub(super) const SEGMENT_HEADER_BYTES: usize = 24;
const MAGIC: &[u8; 7] = b"skeplog";
const VERSION: u8 = 1;
/// What stands in place of the offset of a record that is not there.
const HOLE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// The position of the first record.
    pub(super) base: u64,
    offsets: Vec<u32>,
    /// Where the next record goes.
    pub(super) end: u64,
    /// Bytes of bodies that are files.
    pub(super) outside: u64,
}

/// What a look through a segment's bytes found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) damage: Vec<Damage>,
    /// Bytes at the end that are no whole record, when no whole one follows.
    pub(super) torn: Option<u64>,
}

impl Segment {
    pub(super) fn file_name(base: u64) -> String {
        format!("{base:016x}.seg")
    }

    /// The first position of the segment of that name.
    pub(super) fn parse_name(name: &str) -> Option<u64> {
        let hex = name.strip_suffix(".seg").filter(|hex| hex.len() == 16)?;
        u64::from_str_radix(hex, 16).ok()
    }

    pub(super) fn empty(path: PathBuf, base: u64) -> Self {
        Self { path, base, offsets: Vec::new(), end: SEGMENT_HEADER_BYTES as u64, outside: 0 }
    }

    /// Makes the file.
    pub(super) fn create(dir: &Path, base: u64) -> io::Result<(Self, File)> {
        let path = dir.join(Self::file_name(base));
        let file = files::new_private_file(&path)?;
        let written = file.write_all_at(&header(base), 0);
        if let Err(error) = written {
            drop(std::fs::remove_file(&path));
            return Err(error);
        }
        Ok((Self::empty(path, base), file))
    }

    /// The position after the last record.
    pub(super) fn next(&self) -> u64 {
        self.base + self.offsets.len() as u64
    }

    pub(super) fn push(&mut self, offset: u32) {
        self.offsets.push(offset);
    }

    /// Where the record of that position begins.
    pub(super) fn offset(&self, position: u64) -> Option<u64> {
        let at = usize::try_from(position.checked_sub(self.base)?).ok()?;
        self.offsets.get(at).filter(|offset| **offset != HOLE).map(|offset| u64::from(*offset))
    }

    /// Takes back the records from a position on.
    pub(super) fn truncate(&mut self, next: u64, end: u64) {
        let keep = usize::try_from(next.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.offsets.truncate(keep);
        self.end = end;
    }

    /// Notes that everything before `next` that is not there is missing.
    pub(super) fn pad_to(&mut self, next: u64) {
        while self.next() < next {
            self.offsets.push(HOLE);
        }
    }

    /// Marks a record as not there.
    pub(super) fn lose(&mut self, position: u64) {
        let at = position.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        if let Some(offset) = at.and_then(|at| self.offsets.get_mut(at)) {
            *offset = HOLE;
        }
    }

    /// Checks the header of a file that is named for `base`.
    pub(super) fn check_header(path: &Path, bytes: &[u8], base: u64) -> Result<bool, LogError> {
        let Some(start) = bytes.get(..SEGMENT_HEADER_BYTES) else {
            let torn = header(base).starts_with(bytes) || bytes.iter().all(|byte| *byte == 0);
            return if torn { Ok(false) } else { Err(LogError::Foreign { path: path.to_owned() }) };
        };
        if start[..MAGIC.len()] != *MAGIC {
            // A header of zeros is one that never reached the disk.
            if start.iter().all(|byte| *byte == 0) {
                return Ok(false);
            }
            return Err(LogError::Foreign { path: path.to_owned() });
        }
        if start[MAGIC.len()] > VERSION {
            let version = start[MAGIC.len()];
            return Err(LogError::Newer { path: path.to_owned(), version });
        }
        Ok(*start == header(base))
    }

    /// Looks through the records in `bytes`, the whole file.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        max_jump: u64,
        mut each: impl FnMut(&Record<'_>),
    ) -> Findings {
        let mut found = Findings::default();
        let mut at = SEGMENT_HEADER_BYTES;
        while at < bytes.len() {
            let next = self.next();
            let here = whole_record(&bytes[at..], next..next.saturating_add(1));
            let resumed = here.map(|it| (at, it)).or_else(|| {
                let last = next.saturating_add(max_jump);
                (at + 1..bytes.len())
                    .find_map(|at| whole_record(&bytes[at..], next..last).map(|it| (at, it)))
            });
            let Some((start, (record, length))) = resumed else {
                found.torn = Some((bytes.len() - at) as u64);
                break;
            };
            if start != at {
                let lost = next..record.position;
                self.damaged(&mut found, at, "bytes that are no record", lost);
                self.pad_to(record.position);
            }
            self.outside += match record.body {
                super::record::Body::File { length, .. } => length,
                super::record::Body::Inline(_) => 0,
            };
            each(&record);
            self.push(u32::try_from(start).unwrap_or(HOLE));
            at = start + length;
        }
        self.end = at as u64;
        found
    }

    fn damaged(
        &self,
        found: &mut Findings,
        offset: usize,
        what: &'static str,
        lost: std::ops::Range<u64>,
    ) {
        found.damage.push(Damage { path: self.path.clone(), offset: offset as u64, what, lost });
    }
}

/// A whole record with one of these positions at the beginning of `bytes`. Looks at the position
/// first: a search for the next record after a damaged one tries this at every byte.
fn whole_record(bytes: &[u8], positions: std::ops::Range<u64>) -> Option<(Record<'_>, usize)> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    let position = u64::from_be_bytes(*header[4..].first_chunk()?);
    positions.contains(&position).then(|| Record::read(bytes)).flatten()
}

pub(super) fn header(base: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..7].copy_from_slice(MAGIC);
    bytes[7] = VERSION;
    bytes[8..16].copy_from_slice(&base.to_be_bytes());
    let sum = blake3::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&sum.as_bytes()[..8]);
    bytes
}
