//! What a manager has promised and what its flock has decided: state, image and log, which change
//! together or not at all (DVM-4, invariant 10).
//!
//! Nothing here understands what is kept; `core/managers` does. A [`Change`] is one record of an
//! append-only [`Log`], whole or not there: what a crash left at the end is cut off, which nobody
//! was told was safe. Damage before the end is another thing. Then the node must not start with a
//! guess, since it might take back what it promised: [`ManagersStore::open`] refuses, names file
//! and byte, and says what to do.
//!
//! What is superseded stays in the log until there is much of it; then everything that still counts
//! is written as one record, and the segments before it go.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use skep_base::WallTime;

use crate::log::{Entry, Log, LogError, OnDamage, Options, Source, TornTail};

/// Superseded bytes that are kept at least before everything is written anew: a segment's worth, so
/// that it happens seldom.
const REWRITE_BYTES: u64 = 8 << 20;
/// Longest change: the longest image, and the log after it.
const MAX_CHANGE_BYTES: usize = 256 << 20;
/// What stands before each record of this layout; a later one is another.
const HEAD: &[u8] = b"managers 1";

/// Which entries go, before anything else of a change happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// None.
    Nothing,
    /// Those at and after this place.
    From(u64),
    /// Those up to and at this place.
    Through(u64),
    /// All.
    All,
}

/// What becomes of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image<'a> {
    /// It stays.
    Keep,
    /// It is this one now.
    Replace(&'a [u8]),
    /// There is none any more.
    Drop,
}

/// One change of what is on disk, in the order of its fields.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// What happens to the entries that are there.
    pub cut: Cut,
    /// What happens to the image.
    pub image: Image<'a>,
    /// Entries to append, each with its place.
    pub entries: &'a [(u64, &'a [u8])],
    /// The state, if it is another.
    pub state: Option<&'a [u8]>,
}

/// What the disk holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The newest state.
    pub state: Option<Vec<u8>>,
    /// The newest image.
    pub image: Option<Vec<u8>>,
    /// The entries after it, with their places.
    pub entries: Vec<(u64, Vec<u8>)>,
}

/// Why the managers' store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManagersError {
    /// It is damaged, foreign or too new, or the disk failed.
    #[error(
        "the managers' store in {} cannot be used; restore it from this very node's disk, or move \
         the directory away to come back as a new manager: what only this node held is lost then",
        dir.display()
    )]
    Open {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong, with file and byte.
        source: LogError,
    },
    /// A record that is whole and yet none of ours.
    #[error(
        "record {position} of the managers' store in {} is not one that this build wrote: update \
         the agent, or move the directory away to come back as a new manager",
        dir.display()
    )]
    Unreadable {
        /// Where it is.
        dir: PathBuf,
        /// Which.
        position: u64,
    },
    /// A change could not be written. Nothing of it was kept.
    #[error(transparent)]
    Write(#[from] LogError),
}

/// See the module.
#[derive(Debug)]
pub struct ManagersStore {
    dir: PathBuf,
    log: Log,
    places: Places,
    /// Bytes written since all was written as one.
    since: u64,
    /// Bytes of that one.
    whole: u64,
}

/// Which record of the log holds what still counts.
#[derive(Clone, Debug, Default)]
struct Places {
    state: Option<u64>,
    image: Option<u64>,
    entries: VecDeque<(u64, u64)>,
}

impl ManagersStore {
    /// Opens the store in a directory, made if it is not there, and gives what it holds.
    ///
    /// # Errors
    /// [`ManagersError`] where the node must not start with what is there.
    pub fn open(dir: &Path) -> Result<(Self, Kept, Option<TornTail>), ManagersError> {
        let refused = |source| ManagersError::Open { dir: dir.to_owned(), source };
        let options = Options { on_damage: OnDamage::Refuse, ..Options::default() };
        let mut positions = Vec::new();
        let (log, opened) = Log::open(dir, options, |found| {
            positions.push((found.position, found.head == HEAD, found.body_bytes));
        })
        .map_err(refused)?;
        let places = Places::default();
        let mut store = Self { dir: dir.to_owned(), log, places, since: 0, whole: 0 };
        for (position, ours, bytes) in positions {
            let body = if ours { store.body(position)? } else { Vec::new() };
            let change = Parts::read(&body).ok_or_else(|| store.unreadable(position))?;
            store.places.note(position, &change);
            store.since += bytes;
        }
        let kept = store.kept()?;
        Ok((store, kept, opened.torn))
    }

    /// Makes a change. It survives a power cut once [`ManagersStore::sync`] was called.
    ///
    /// # Errors
    /// [`ManagersError::Write`] when nothing of it was kept. A full disk may take it later.
    pub fn change(&mut self, now: WallTime, change: &Change<'_>) -> Result<(), ManagersError> {
        let bytes = to_bytes(change);
        let position = self.append(now, &bytes)?;
        if let Some(parts) = Parts::read(&bytes) {
            self.places.note(position, &parts);
        }
        self.since += bytes.len() as u64;
        if self.since > self.whole.saturating_mul(2).max(REWRITE_BYTES) {
            self.rewrite(now)?;
        }
        Ok(())
    }

    /// Lets every change reach the disk.
    ///
    /// # Errors
    /// [`ManagersError::Write`]; what the disk holds is unknown then until it is opened again.
    pub fn sync(&mut self) -> Result<(), ManagersError> {
        self.log.sync()?;
        Ok(())
    }

    fn append(&mut self, now: WallTime, bytes: &[u8]) -> Result<u64, ManagersError> {
        if bytes.len() > MAX_CHANGE_BYTES {
            let (what, length, limit) = ("change", bytes.len(), MAX_CHANGE_BYTES);
            return Err(LogError::TooLong { what, length, limit }.into());
        }
        let entry = Entry { head: HEAD, body: Source::Bytes(bytes) };
        Ok(self.log.append(now, &[entry])?.start)
    }

    /// Writes everything that counts as one record, and lets go of what is before it.
    fn rewrite(&mut self, now: WallTime) -> Result<(), ManagersError> {
        let kept = self.kept()?;
        let entries: Vec<(u64, &[u8])> =
            kept.entries.iter().map(|(index, body)| (*index, &body[..])).collect();
        let image = kept.image.as_deref().map_or(Image::Drop, Image::Replace);
        let state = kept.state.as_deref();
        let whole = to_bytes(&Change { cut: Cut::All, image, entries: &entries, state });
        let position = self.append(now, &whole)?;
        self.log.sync()?;
        if let Some(parts) = Parts::read(&whole) {
            self.places.note(position, &parts);
        }
        (self.since, self.whole) = (0, whole.len() as u64);
        // What cannot be removed now is tried again next time.
        if let Err(error) = self.log.purge(position) {
            tracing::warn!(%error, "what the managers superseded could not be removed");
        }
        Ok(())
    }

    /// Reads what counts back from the disk.
    fn kept(&mut self) -> Result<Kept, ManagersError> {
        let places = self.places.clone();
        let mut kept = Kept::default();
        if let Some(position) = places.state {
            let body = self.body(position)?;
            kept.state = Parts::read(&body).and_then(|it| it.state).map(<[u8]>::to_vec);
        }
        if let Some(position) = places.image {
            let body = self.body(position)?;
            let image = Parts::read(&body).map(|it| it.image);
            kept.image = match image {
                Some(Image::Replace(bytes)) => Some(bytes.to_vec()),
                Some(Image::Keep | Image::Drop) | None => None,
            };
        }
        let mut last: Option<(u64, Vec<u8>)> = None;
        for (index, position) in places.entries {
            let body = match last.take().filter(|(at, _)| *at == position) {
                Some((_, body)) => body,
                None => self.body(position)?,
            };
            let parts = Parts::read(&body).ok_or_else(|| self.unreadable(position))?;
            let entry = parts.entries.iter().find(|(at, _)| *at == index);
            let entry = entry.ok_or_else(|| self.unreadable(position))?;
            kept.entries.push((index, entry.1.to_vec()));
            last = Some((position, body));
        }
        Ok(kept)
    }

    fn body(&mut self, position: u64) -> Result<Vec<u8>, ManagersError> {
        let stored = self.log.read(position, u32::MAX);
        let stored = stored.map_err(|source| {
            let dir = self.dir.clone();
            ManagersError::Open { dir, source }
        })?;
        stored.map(|stored| stored.body).ok_or_else(|| self.unreadable(position))
    }

    fn unreadable(&self, position: u64) -> ManagersError {
        ManagersError::Unreadable { dir: self.dir.clone(), position }
    }
}

impl Places {
    fn note(&mut self, position: u64, change: &Parts<'_>) {
        match change.cut {
            Cut::Nothing => {}
            Cut::From(index) => self.entries.retain(|(at, _)| *at < index),
            Cut::Through(index) => self.entries.retain(|(at, _)| *at > index),
            Cut::All => self.entries.clear(),
        }
        match change.image {
            Image::Keep => {}
            Image::Replace(_) => self.image = Some(position),
            Image::Drop => self.image = None,
        }
        self.entries.extend(change.entries.iter().map(|(index, _)| (*index, position)));
        if change.state.is_some() {
            self.state = Some(position);
        }
    }
}

/// A change, as it stands in a record.
struct Parts<'a> {
    cut: Cut,
    image: Image<'a>,
    entries: Vec<(u64, &'a [u8])>,
    state: Option<&'a [u8]>,
}

fn to_bytes(change: &Change<'_>) -> Vec<u8> {
    let (tag, place) = match change.cut {
        Cut::Nothing => (0, 0),
        Cut::From(index) => (1, index),
        Cut::Through(index) => (2, index),
        Cut::All => (3, 0),
    };
    let mut out = vec![tag];
    out.extend_from_slice(&place.to_be_bytes());
    match change.image {
        Image::Keep => out.push(0),
        Image::Replace(bytes) => {
            out.push(1);
            put(&mut out, bytes);
        }
        Image::Drop => out.push(2),
    }
    out.push(u8::from(change.state.is_some()));
    put(&mut out, change.state.unwrap_or_default());
    for (index, body) in change.entries {
        out.extend_from_slice(&index.to_be_bytes());
        put(&mut out, body);
    }
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

impl<'a> Parts<'a> {
    /// Nothing where the bytes are not a change, to the last of them.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let cut = match (rest.byte()?, rest.number()?) {
            (0, _) => Cut::Nothing,
            (1, index) => Cut::From(index),
            (2, index) => Cut::Through(index),
            (3, _) => Cut::All,
            _ => return None,
        };
        let image = match rest.byte()? {
            0 => Image::Keep,
            1 => Image::Replace(rest.bytes()?),
            2 => Image::Drop,
            _ => return None,
        };
        let (told, state) = (rest.byte()?, rest.bytes()?);
        let state = (told == 1).then_some(state);
        let mut entries = Vec::new();
        while !rest.0.is_empty() {
            entries.push((rest.number()?, rest.bytes()?));
        }
        Some(Self { cut, image, entries, state })
    }
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*first))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests;
