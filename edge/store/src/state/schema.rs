//! The tables, and how an older file becomes a newer one.

use rusqlite::Connection;

/// `skep` in ASCII, in the file's header: a database of another program is told apart by it.
pub(super) const APPLICATION_ID: i32 = 0x736B_6570;

/// Each brings a file from the version that is its index to the next. Never changed once released:
/// add another.
pub(super) const MIGRATIONS: [&str; 2] = [
    "CREATE TABLE node (
         one INTEGER PRIMARY KEY CHECK (one = 1),
         incarnation INTEGER NOT NULL,
         wall_ms INTEGER NOT NULL
     ) STRICT;
     INSERT INTO node VALUES (1, 0, 0);
     CREATE TABLE records (
         owner BLOB NOT NULL CHECK (length(owner) = 16),
         kind INTEGER NOT NULL,
         raw BLOB NOT NULL,
         PRIMARY KEY (owner, kind)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE ages (
         owner BLOB PRIMARY KEY CHECK (length(owner) = 16),
         age_ms INTEGER NOT NULL,
         noted_ms INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE address_book (
         node BLOB PRIMARY KEY CHECK (length(node) = 16),
         name TEXT NOT NULL,
         addresses TEXT NOT NULL,
         reached INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX address_book_reached ON address_book (reached);
     CREATE TABLE cursors (
         name TEXT PRIMARY KEY,
         in_group TEXT NOT NULL,
         position INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;",
    "CREATE TABLE purged (
         origin BLOB NOT NULL CHECK (length(origin) = 16),
         in_group TEXT NOT NULL,
         incarnation INTEGER NOT NULL,
         sequence INTEGER NOT NULL,
         PRIMARY KEY (origin, in_group)
     ) STRICT, WITHOUT ROWID;",
];

/// The version that this build writes.
pub(super) const VERSION: i32 = 2;

/// Brings a file up to [`VERSION`], all steps or none.
pub(super) fn migrate(db: &mut Connection, from: i32) -> rusqlite::Result<()> {
    let steps = usize::try_from(from).unwrap_or(usize::MAX);
    let transaction = db.transaction()?;
    for step in MIGRATIONS.iter().skip(steps) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
