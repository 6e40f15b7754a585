//! What the CA has promised and done, on disk: a journal of lines, each durable before it counts.
//!
//! An invitation is used up and a certificate recorded by *one* line, written and synced before the
//! certificate leaves the process. So a crash at any moment leaves the invitation unused and no
//! certificate in the world, or both the one and the other; there is nothing in between. The line
//! holds the certificate, so that whoever asks again with the same key gets the same one.
//!
//! Every line is sixteen hexadecimal digits of its digest, a space, and JSON: an operator can read
//! it, and a torn end is told from a broken middle. A torn end is what a crash leaves of a line
//! that never counted: it is put aside and the journal goes on. A broken middle is damage, and
//! refused.
//!
//! `skep ca invite` and a serving agent use one journal at the same time: each transaction holds an
//! exclusive lock and first reads what others have added.

mod book;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use skep_base::{Digest, WallTime};

pub(crate) use book::{Book, Entry, Founding, Issued};

use crate::files::{FileError, sync_parent, with_suffix, write_atomically};

/// Largest journal that is read: about 100,000 certificates.
const MAX_JOURNAL_BYTES: u64 = 64 << 20;
/// Longest line: a certificate of the greatest length in base64, and names.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// Lines that no longer matter before the journal is written anew.
const SLACK_LINES: usize = 1024;
const DIGEST_DIGITS: usize = 16;

/// Why the CA cannot keep its books.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system refused.
    #[error("cannot {operation} the CA's ledger {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The journal.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody or something changed what was written.
    #[error(
        "the CA's ledger {} is damaged at line {line}; restore it from a backup: the CA refuses to \
         guess which invitations were used", path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Which line, counted from one.
        line: usize,
    },
    /// Whole, but of a form that this build does not know.
    #[error(
        "line {line} of the CA's ledger {} was written by a newer skep; run that one here",
        path.display()
    )]
    Unknown {
        /// The journal.
        path: PathBuf,
        /// Which line, counted from one.
        line: usize,
    },
    /// Over its greatest size, or a device, which has none.
    #[error(
        "the CA's ledger {} is no regular file of at most {} MiB",
        path.display(), MAX_JOURNAL_BYTES >> 20
    )]
    NotAFile {
        /// The journal.
        path: PathBuf,
    },
    /// The new journal could not be put in the old one's place.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The journal and what follows from it.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    /// Device and inode of the file that was read, and how far.
    read: Option<((u64, u64), u64)>,
    lines: usize,
}

impl Ledger {
    /// The ledger at `path`, which need not exist yet. Reads it once, to report damage early.
    pub(crate) fn open(path: PathBuf) -> Result<Self, LedgerError> {
        let ledger = Self { path, state: Mutex::default() };
        ledger.look(|_| ())?;
        Ok(ledger)
    }

    /// Answers a question about what stands in the ledger now.
    pub(crate) fn look<T>(&self, ask: impl FnOnce(&Book) -> T) -> Result<T, LedgerError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = self.lock()?;
        self.refresh(&mut state)?;
        Ok(ask(&state.book))
    }

    /// Lets `decide` read the ledger and say what to add. What it answers is given back only after
    /// the entry is durable. Nobody else decides in between.
    pub(crate) fn transact<T, E: From<LedgerError>>(
        &self,
        now: WallTime,
        decide: impl FnOnce(&Book) -> Result<(Option<Entry>, T), E>,
    ) -> Result<T, E> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = self.lock()?;
        self.refresh(&mut state)?;
        let (entry, answer) = decide(&state.book)?;
        if let Some(entry) = entry {
            self.append(&mut state, entry)?;
            if state.lines > state.book.len() * 2 + SLACK_LINES {
                self.compact(&mut state, now)?;
            }
        }
        Ok(answer)
    }

    /// Held until it is dropped, by this transaction alone, across processes.
    fn lock(&self) -> Result<File, LedgerError> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(with_suffix(&self.path, ".lock"))
            .map_err(|source| self.failed("lock", source))?;
        lock.lock().map_err(|source| self.failed("lock", source))?;
        Ok(lock)
    }

    /// Reads what was added since the last look; everything, when the file is another.
    fn refresh(&self, state: &mut State) -> Result<(), LedgerError> {
        let mut file = match OpenOptions::new().read(true).write(true).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && state.read.is_none() => {
                return Ok(());
            }
            opened => opened.map_err(|source| self.failed("open", source))?,
        };
        let facts = file.metadata().map_err(|source| self.failed("read", source))?;
        if !facts.is_file() || facts.len() > MAX_JOURNAL_BYTES {
            return Err(LedgerError::NotAFile { path: self.path.clone() });
        }
        let name = (facts.dev(), facts.ino());
        let from = match state.read {
            Some((known, length)) if known == name && length <= facts.len() => length,
            _ => {
                *state = State::default();
                0
            }
        };
        let mut added = Vec::new();
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.read_to_end(&mut added))
            .map_err(|source| self.failed("read", source))?;
        let whole = self.take_lines(state, &added)?;
        if whole < added.len() {
            self.put_aside(&mut file, from + whole as u64, &added[whole..])?;
        }
        state.read = Some((name, from + whole as u64));
        Ok(())
    }

    /// Takes the entries of all whole lines; gives how many bytes they were.
    fn take_lines(&self, state: &mut State, bytes: &[u8]) -> Result<usize, LedgerError> {
        let mut whole = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match read_line(line) {
                Ok(entry) => state.book.apply(entry),
                // Only the last line can be what a crash left.
                Err(Fault::Broken) if whole + line.len() == bytes.len() => break,
                Err(fault) => {
                    let (path, line) = (self.path.clone(), state.lines + 1);
                    return Err(match fault {
                        Fault::Broken => LedgerError::Damaged { path, line },
                        Fault::Unknown => LedgerError::Unknown { path, line },
                    });
                }
            }
            whole += line.len();
            state.lines += 1;
        }
        Ok(whole)
    }

    /// Cuts off a torn end, and keeps it for whoever wants to see it.
    fn put_aside(&self, file: &mut File, keep: u64, torn: &[u8]) -> Result<(), LedgerError> {
        let aside = with_suffix(&self.path, ".torn");
        tracing::warn!(
            ledger = %self.path.display(),
            bytes = torn.len(),
            kept_in = %aside.display(),
            "the last line of the CA's ledger was never finished and does not count"
        );
        write_atomically(&aside, torn, 0o600)?;
        file.set_len(keep)
            .and_then(|()| file.sync_all())
            .map_err(|source| self.failed("repair", source))
    }

    fn append(&self, state: &mut State, entry: Entry) -> Result<(), LedgerError> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(|source| self.failed("open", source))?;
        let line = write_line(&entry);
        let new = state.read.is_none();
        let written = file
            .write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .and_then(|()| if new { sync_parent(&self.path) } else { Ok(()) })
            .and_then(|()| file.metadata());
        match written {
            Ok(facts) => {
                state.read = Some(((facts.dev(), facts.ino()), facts.len()));
                state.lines += 1;
                state.book.apply(entry);
                Ok(())
            }
            Err(source) => {
                // The line may be there in whole, in part or not at all; its certificate was not
                // given out. Without the line the same request can be made again; with it, the
                // same request gets what the line holds.
                let before = state.read.map_or(0, |(_, length)| length);
                if let Err(error) = file.set_len(before).and_then(|()| file.sync_all()) {
                    tracing::error!(%error, "a failed entry could not be taken back either");
                }
                *state = State::default();
                Err(self.failed("write", source))
            }
        }
    }

    /// Writes the journal anew with only what still matters.
    fn compact(&self, state: &mut State, now: WallTime) -> Result<(), LedgerError> {
        state.book.forget(now);
        let lines: String = state.book.entries().map(|entry| write_line(&entry)).collect();
        write_atomically(&self.path, lines.as_bytes(), 0o600)?;
        let facts = fs::metadata(&self.path).map_err(|source| self.failed("read", source))?;
        state.read = Some(((facts.dev(), facts.ino()), facts.len()));
        state.lines = state.book.len();
        Ok(())
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> LedgerError {
        LedgerError::Io { operation, path: self.path.clone(), source }
    }
}

fn write_line(entry: &Entry) -> String {
    #[expect(
        clippy::expect_used,
        reason = "the entry is made of texts and numbers, which JSON can always say"
    )]
    let json = serde_json::to_string(entry).expect("texts and numbers");
    let digest = Digest::of(json.as_bytes()).abbreviated(DIGEST_DIGITS);
    format!("{digest} {json}\n")
}

/// What can be wrong with a line.
enum Fault {
    /// Its digest does not fit.
    Broken,
    /// It is whole and says nothing that this build knows.
    Unknown,
}

fn read_line(line: &[u8]) -> Result<Entry, Fault> {
    let json = whole_line(line).ok_or(Fault::Broken)?;
    serde_json::from_slice(json).map_err(|_| Fault::Unknown)
}

/// The JSON of a line whose digest fits.
fn whole_line(line: &[u8]) -> Option<&[u8]> {
    if line.len() > MAX_LINE_BYTES {
        return None;
    }
    let (digest, json) = line.strip_suffix(b"\n")?.split_at_checked(DIGEST_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    let fits = Digest::of(json).abbreviated(DIGEST_DIGITS).as_bytes() == digest;
    fits.then_some(json)
}
