//! The agent's small durable state, in one SQLite file in WAL mode that an administrator can open.
//!
//! It holds what a node must know when it starts: which life this will be (BLOC-9), the retained
//! facts of others with their ages (FLOOD-36), where others were last reached (BLOC-40), how far
//! each subscriber has read, and the wall clock when it was last written, by which ages grow over a
//! stop. Changes are applied in batches, each whole or not at all.
//!
//! A file that is torn, foreign or of a newer agent is refused with a message and stays as it is:
//! starting over is for an operator to decide, with [`State::set_aside`].

mod schema;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, params};
use skep_base::{GroupName, Incarnation, NodeId, NodeName, WallTime};

use crate::files;

/// Entries of the address book: those reached longest ago go first.
pub const MAX_ADDRESS_BOOK: usize = 4096;
/// Longest record: well above what the protocol lets pass.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
/// Marks of what was purged, over all groups: as many as the flood machine remembers. Beyond that,
/// those of origins that are in no address book go first.
pub const MAX_PURGED: usize = 65_536;
/// Addresses kept of one node.
pub const MAX_ADDRESSES: usize = 16;

const FILE: &str = "state.db";
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Something to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The node's life. Never goes back.
    Incarnation(Incarnation),
    /// What the wall clock showed.
    Wall(WallTime),
    /// A retained fact.
    Record {
        /// Whose.
        owner: NodeId,
        /// Which of its facts.
        kind: u16,
        /// As it came.
        raw: Vec<u8>,
    },
    /// How long ago an owner was heard, at a wall time.
    Age {
        /// Who.
        owner: NodeId,
        /// How long.
        age: Duration,
        /// When that was so.
        noted: WallTime,
    },
    /// Nothing is kept of this owner any more.
    Forget {
        /// Who.
        owner: NodeId,
    },
    /// Where a node was reached.
    Address {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// At most [`MAX_ADDRESSES`] are kept.
        addresses: Vec<SocketAddr>,
    },
    /// What was purged of an origin; kept as long as the origin is in the address book, and what is
    /// lower than what is kept already changes nothing.
    Purged(SavedPurged),
    /// How far a subscriber has read.
    Cursor {
        /// Who.
        name: String,
        /// Of which group.
        group: GroupName,
        /// The first position it has not committed.
        position: u64,
    },
    /// A subscriber is no more.
    ForgetCursor {
        /// Who.
        name: String,
    },
}

/// A retained fact with its age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRecord {
    /// Whose.
    pub owner: NodeId,
    /// Which of its facts.
    pub kind: u16,
    /// As it came.
    pub raw: Vec<u8>,
    /// How long ago the owner was heard, at `noted`; nothing when that was never noted.
    pub age: Option<(Duration, WallTime)>,
}

/// An entry of the address book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedAddress {
    /// Who.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it was reached.
    pub addresses: Vec<SocketAddr>,
}

/// How far a subscriber has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedCursor {
    /// Who.
    pub name: String,
    /// Of which group.
    pub group: GroupName,
    /// The first position it has not committed.
    pub position: u64,
}

/// The highest update of an origin that was purged in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedPurged {
    /// In which group.
    pub group: GroupName,
    /// Whose.
    pub origin: NodeId,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// Which of that life.
    pub sequence: u64,
}

/// Why the state could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk is full. Nothing of the batch was kept.
    #[error("no room to {doing} {}: free some and try again", path.display())]
    NoSpace {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is not ours.
    #[error(
        "{} is not the state of an agent ({what}): move it away or choose another directory",
        path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// How one sees it.
        what: &'static str,
    },
    /// A newer agent wrote it.
    #[error(
        "{} has version {found} of the state, this agent knows {known}: update the agent",
        path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// What it says.
        found: i32,
        /// What we write.
        known: i32,
    },
    /// The file is torn or damaged. It is left as it is.
    #[error(
        "{} is damaged ({what}): bring a copy back, or set it aside and let the node start anew; \
         peers have most of it still", path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The database refused.
    #[error("cannot {doing} {}", path.display())]
    Database {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A life that is not later than the one on disk.
    #[error("incarnation {given} is not after {kept}, which is kept already")]
    IncarnationBack {
        /// What was given.
        given: Incarnation,
        /// What is kept.
        kept: Incarnation,
    },
    /// A record over its limit.
    #[error("a record of {length} bytes of {owner} is over the limit of {MAX_RECORD_BYTES}")]
    TooLong {
        /// Whose.
        owner: NodeId,
        /// How long.
        length: usize,
    },
}

/// See the module.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    db: Connection,
    /// Whether the connection lets each commit reach the disk.
    syncing: bool,
}

impl State {
    /// Opens the state in a directory, made if it is not there, and brings it up to date.
    ///
    /// # Errors
    /// [`StateError`] says what is wrong with the file, which then is left as it is.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        files::private_dir(dir).map_err(|error| io_error("make", dir, error))?;
        let file = files::private_file(&path).map_err(|error| io_error("open", &path, error))?;
        let fresh = check_magic(&path, file)?;
        let failed = |error| database_error("open", &path, error);
        let mut db = Connection::open(&path).map_err(failed)?;
        db.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        let version = check_identity(&path, &db, fresh)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        // 256 KiB: the whole state of a hundred nodes, and an idle agent stays small.
        db.pragma_update(None, "cache_size", -256).map_err(failed)?;
        if version < schema::VERSION {
            schema::migrate(&mut db, version)
                .map_err(|error| database_error("migrate", &path, error))?;
        }
        check_node_row(&path, &db)?;
        Ok(Self { path, db, syncing: true })
    }

    /// Moves the state of a directory aside, for an operator who has decided to start anew. Gives
    /// the new name, or nothing when there is none.
    ///
    /// # Errors
    /// [`StateError::Io`] when a file cannot be moved.
    pub fn set_aside(dir: &Path, now: WallTime) -> Result<Option<PathBuf>, StateError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let aside = dir.join(format!("{FILE}.aside-{}", now.unix_ms));
        for suffix in ["-wal", "-shm", ""] {
            let (from, to) = (with_suffix(&path, suffix), with_suffix(&aside, suffix));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("move aside", &from, error));
                }
                _ => {}
            }
        }
        Ok(Some(aside))
    }

    /// Where the state is kept.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps all of these or none. With `durable`, they survive a power cut when this returns;
    /// without, when a later durable batch has.
    ///
    /// # Errors
    /// [`StateError::NoSpace`] when the disk is full; nothing was changed then.
    pub fn apply(&mut self, changes: &[Change], durable: bool) -> Result<(), StateError> {
        self.check(changes)?;
        let path = self.path.clone();
        let failed = |error| database_error("write to", &path, error);
        if durable != self.syncing {
            let mode = if durable { "FULL" } else { "NORMAL" };
            self.db.pragma_update(None, "synchronous", mode).map_err(failed)?;
            self.syncing = durable;
        }
        let transaction = self.db.transaction().map_err(failed)?;
        for change in changes {
            write(&transaction, change).map_err(failed)?;
        }
        if changes.iter().any(|change| matches!(change, Change::Purged(_))) {
            forget_far_marks(&transaction).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    fn check(&self, changes: &[Change]) -> Result<(), StateError> {
        for change in changes {
            match change {
                Change::Incarnation(given) => {
                    let (given, kept) = (*given, self.incarnation()?);
                    if given < kept {
                        return Err(StateError::IncarnationBack { given, kept });
                    }
                }
                Change::Record { owner, raw, .. } if raw.len() > MAX_RECORD_BYTES => {
                    let length = raw.len();
                    return Err(StateError::TooLong { owner: *owner, length });
                }
                Change::Wall(_)
                | Change::Record { .. }
                | Change::Age { .. }
                | Change::Forget { .. }
                | Change::Address { .. }
                | Change::Purged(_)
                | Change::Cursor { .. }
                | Change::ForgetCursor { .. } => {}
            }
        }
        Ok(())
    }

    /// The newest life that was kept; zero before the first.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be read.
    pub fn incarnation(&self) -> Result<Incarnation, StateError> {
        self.node_number("SELECT incarnation FROM node").map(Incarnation)
    }

    /// What the wall clock showed when it was last kept; zero before the first time.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be read.
    pub fn wall(&self) -> Result<WallTime, StateError> {
        self.node_number("SELECT wall_ms FROM node").map(WallTime::from_unix_ms)
    }

    fn node_number(&self, query: &str) -> Result<u64, StateError> {
        let number = self.db.query_row(query, [], |row| row.get(0));
        number.map(unsigned).map_err(|error| self.reading(error))
    }

    /// All retained facts.
    ///
    /// # Errors
    /// [`StateError::Damaged`] names what cannot be one.
    pub fn records(&self) -> Result<Vec<SavedRecord>, StateError> {
        let query = "SELECT owner, kind, raw, age_ms, noted_ms
                     FROM records LEFT JOIN ages USING (owner) ORDER BY owner, kind";
        self.rows(query, |row| {
            let age: Option<i64> = row.get(3)?;
            let noted: Option<i64> = row.get(4)?;
            let age = age.zip(noted).map(|(age, noted)| {
                let noted = WallTime::from_unix_ms(unsigned(noted));
                (Duration::from_millis(unsigned(age)), noted)
            });
            let kind = u16::try_from(row.get::<_, i64>(1)?).unwrap_or(u16::MAX);
            let owner = NodeId::from_bytes(row.get(0)?);
            Ok(Some(SavedRecord { owner, kind, raw: row.get(2)?, age }))
        })
    }

    /// The address book.
    ///
    /// # Errors
    /// [`StateError::Damaged`] names what cannot be an entry.
    pub fn address_book(&self) -> Result<Vec<SavedAddress>, StateError> {
        let query = "SELECT node, name, addresses FROM address_book ORDER BY reached DESC";
        self.rows(query, |row| {
            let node = NodeId::from_bytes(row.get(0)?);
            let (name, addresses): (String, String) = (row.get(1)?, row.get(2)?);
            let addresses = addresses.split_whitespace().map(str::parse).collect();
            let entry = name.parse().ok().zip(Result::ok(addresses));
            Ok(entry.map(|(name, addresses)| SavedAddress { node, name, addresses }))
        })
    }

    /// What was purged, of every origin in every group.
    ///
    /// # Errors
    /// [`StateError::Damaged`] names what cannot be one.
    pub fn purged(&self) -> Result<Vec<SavedPurged>, StateError> {
        let query = "SELECT origin, in_group, incarnation, sequence FROM purged
                     ORDER BY origin, in_group";
        self.rows(query, |row| {
            let group: String = row.get(1)?;
            let (incarnation, sequence) = (unsigned(row.get(2)?), unsigned(row.get(3)?));
            let origin = NodeId::from_bytes(row.get(0)?);
            let group = group.parse().ok();
            let incarnation = Incarnation(incarnation);
            Ok(group.map(|group| SavedPurged { group, origin, incarnation, sequence }))
        })
    }

    /// All subscribers.
    ///
    /// # Errors
    /// [`StateError::Damaged`] names what cannot be one.
    pub fn cursors(&self) -> Result<Vec<SavedCursor>, StateError> {
        self.rows("SELECT name, in_group, position FROM cursors ORDER BY name", |row| {
            let (name, group): (String, String) = (row.get(0)?, row.get(1)?);
            let position = unsigned(row.get(2)?);
            Ok(group.parse().ok().map(|group| SavedCursor { name, group, position }))
        })
    }

    fn rows<T>(
        &self,
        query: &'static str,
        mut read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, StateError> {
        let mut statement = self.db.prepare_cached(query).map_err(|error| self.reading(error))?;
        let mut rows = statement.query([]).map_err(|error| self.reading(error))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.reading(error))? {
            let Some(it) = read(row).map_err(|error| self.reading(error))? else {
                let what = format!("a row of `{query}` is not what it should be");
                return Err(StateError::Damaged { path: self.path.clone(), what });
            };
            all.push(it);
        }
        Ok(all)
    }

    fn reading(&self, error: rusqlite::Error) -> StateError {
        database_error("read", &self.path, error)
    }
}

fn write(db: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Incarnation(incarnation) => {
            db.execute("UPDATE node SET incarnation = ?1", [signed(incarnation.0)])?;
        }
        Change::Wall(wall) => {
            db.execute("UPDATE node SET wall_ms = ?1", [signed(wall.unix_ms)])?;
        }
        Change::Record { owner, kind, raw } => {
            db.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3)")?
                .execute(params![owner.as_bytes(), kind, raw])?;
        }
        Change::Age { owner, age, noted } => {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            db.prepare_cached("INSERT OR REPLACE INTO ages VALUES (?1, ?2, ?3)")?
                .execute(params![owner.as_bytes(), signed(age), signed(noted.unix_ms)])?;
        }
        Change::Forget { owner } => {
            db.execute("DELETE FROM records WHERE owner = ?1", [owner.as_bytes()])?;
            db.execute("DELETE FROM ages WHERE owner = ?1", [owner.as_bytes()])?;
        }
        Change::Address { node, name, addresses } => {
            let kept = addresses.iter().take(MAX_ADDRESSES).map(ToString::to_string);
            let kept = kept.collect::<Vec<_>>().join(" ");
            // Numbered in the order of reaching, which no clock can disturb.
            db.prepare_cached(
                "INSERT OR REPLACE INTO address_book VALUES
                 (?1, ?2, ?3, (SELECT coalesce(max(reached), 0) + 1 FROM address_book))",
            )?
            .execute(params![node.as_bytes(), name.as_str(), kept])?;
            forget_far_addresses(db)?;
        }
        Change::Purged(mark) => {
            let SavedPurged { group, origin, incarnation, sequence } = mark;
            db.prepare_cached(
                "INSERT INTO purged VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (origin, in_group) DO UPDATE
                 SET incarnation = excluded.incarnation, sequence = excluded.sequence
                 WHERE (excluded.incarnation, excluded.sequence)
                     > (purged.incarnation, purged.sequence)",
            )?
            .execute(params![
                origin.as_bytes(),
                group.as_str(),
                signed(incarnation.0),
                signed(*sequence)
            ])?;
        }
        Change::Cursor { name, group, position } => {
            db.prepare_cached("INSERT OR REPLACE INTO cursors VALUES (?1, ?2, ?3)")?
                .execute(params![name, group.as_str(), signed(*position)])?;
        }
        Change::ForgetCursor { name } => {
            db.execute("DELETE FROM cursors WHERE name = ?1", [name])?;
        }
    }
    Ok(())
}

/// Forgets the nodes that were reached longest ago, with all that is kept for their sake.
fn forget_far_addresses(db: &Transaction<'_>) -> rusqlite::Result<()> {
    let far = "SELECT node FROM address_book ORDER BY reached DESC LIMIT -1 OFFSET ?1";
    let most = [i64::try_from(MAX_ADDRESS_BOOK).unwrap_or(i64::MAX)];
    db.prepare_cached(&format!("DELETE FROM purged WHERE origin IN ({far})"))?.execute(most)?;
    db.prepare_cached(&format!("DELETE FROM address_book WHERE node IN ({far})"))?.execute(most)?;
    Ok(())
}

/// Keeps marks within their bound, once a batch: the order costs a walk over all of them.
fn forget_far_marks(db: &Transaction<'_>) -> rusqlite::Result<()> {
    let count: i64 = db.query_row("SELECT count(*) FROM purged", [], |row| row.get(0))?;
    let most = i64::try_from(MAX_PURGED).unwrap_or(i64::MAX);
    if count > most {
        db.execute(
            "DELETE FROM purged WHERE (origin, in_group) IN
             (SELECT origin, in_group FROM purged LEFT JOIN address_book ON node = origin
              ORDER BY reached IS NULL, reached DESC LIMIT -1 OFFSET ?1)",
            [most],
        )?;
    }
    Ok(())
}

/// Whether the file is new; an error when it is no database.
fn check_magic(path: &Path, mut file: File) -> Result<bool, StateError> {
    let mut start = Vec::new();
    let read = file.by_ref().take(SQLITE_MAGIC.len() as u64).read_to_end(&mut start);
    read.map_err(|error| io_error("read", path, error))?;
    if start.is_empty() {
        return Ok(true);
    }
    if start != SQLITE_MAGIC {
        let what = "it is no SQLite database, or its beginning is torn";
        return Err(StateError::Foreign { path: path.to_owned(), what });
    }
    Ok(false)
}

/// Whose database it is, whether it is whole, and of which version.
fn check_identity(path: &Path, db: &Connection, fresh: bool) -> Result<i32, StateError> {
    let failed = |error| database_error("read", path, error);
    if fresh {
        return Ok(0);
    }
    let checked: Option<String> =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).optional().map_err(failed)?;
    if let Some(what) = checked.filter(|what| what != "ok") {
        return Err(StateError::Damaged { path: path.to_owned(), what });
    }
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get(0)).map_err(failed);
    let (application, version): (i32, i32) = (number("application_id")?, number("user_version")?);
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    // A start that was killed before its first commit leaves an empty database.
    let empty = tables == 0 && version == 0 && application == 0;
    if application != schema::APPLICATION_ID && !empty {
        let what = "it is the database of another program";
        return Err(StateError::Foreign { path: path.to_owned(), what });
    }
    if version > schema::VERSION {
        let (found, known) = (version, schema::VERSION);
        return Err(StateError::Newer { path: path.to_owned(), found, known });
    }
    Ok(version.max(0))
}

/// Whether the one row that everything begins with is there.
fn check_node_row(path: &Path, db: &Connection) -> Result<(), StateError> {
    let rows: i64 = db
        .query_row("SELECT count(*) FROM node", [], |row| row.get(0))
        .map_err(|error| database_error("read", path, error))?;
    if rows != 1 {
        let what = "the node's own row is missing".to_owned();
        return Err(StateError::Damaged { path: path.to_owned(), what });
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> StateError {
    let path = path.to_owned();
    if files::is_full(&source) {
        StateError::NoSpace { doing, path, source: source.into() }
    } else {
        StateError::Io { doing, path, source }
    }
}

fn database_error(doing: &'static str, path: &Path, source: rusqlite::Error) -> StateError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StateError::NoSpace { doing, path, source: source.into() },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StateError::Damaged { path, what: source.to_string() }
        }
        // It keeps to itself what the operating system said.
        Some(ErrorCode::SystemIoFailure) => match path.parent().and_then(files::read_only) {
            Some(source) => StateError::Io { doing, path, source },
            None => StateError::Database { doing, path, source },
        },
        _ => StateError::Database { doing, path, source },
    }
}

/// SQLite's integers are signed; ours never reach the upper half.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
