use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn node(number: u16) -> NodeId {
    let mut id = [0; NodeId::LEN];
    id[..2].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

fn address(number: u16) -> Change {
    Change::Address {
        node: node(number),
        name: format!("node-{number}").parse().unwrap(),
        addresses: vec![SocketAddr::from(([10, 0, 0, 1], number))],
    }
}

fn record(owner: u16, kind: u16, raw: &[u8]) -> Change {
    Change::Record { owner: node(owner), kind, raw: raw.to_vec() }
}

#[test]
fn everything_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    assert_eq!(state.incarnation().unwrap(), Incarnation(0));
    let noted = WallTime::from_unix_ms(5000);
    let changes = [
        Change::Incarnation(Incarnation(7)),
        Change::Wall(noted),
        record(1, 2, b"old"),
        record(1, 2, b"new"),
        record(1, 3, b""),
        record(2, 2, b"other"),
        Change::Age { owner: node(1), age: Duration::from_secs(60), noted },
        address(1),
        Change::Cursor { name: "export".into(), group: GroupName::all(), position: 12 },
    ];
    state.apply(&changes, true).unwrap();
    drop(state);
    let state = State::open(dir.path()).unwrap();
    assert_eq!(state.incarnation().unwrap(), Incarnation(7));
    assert_eq!(state.wall().unwrap(), noted);
    let records = state.records().unwrap();
    let raw: Vec<_> = records.iter().map(|it| (it.owner, it.kind, &it.raw[..])).collect();
    let expected = [(node(1), 2, &b"new"[..]), (node(1), 3, b""), (node(2), 2, b"other")];
    assert_eq!(raw, expected);
    assert_eq!(records[0].age, Some((Duration::from_secs(60), noted)));
    assert_eq!(records[2].age, None);
    let book = state.address_book().unwrap();
    assert_eq!((book[0].node, book[0].name.as_str()), (node(1), "node-1"));
    assert_eq!(book[0].addresses, ["10.0.0.1:1".parse().unwrap()]);
    let cursor = SavedCursor { name: "export".into(), group: GroupName::all(), position: 12 };
    assert_eq!(state.cursors().unwrap(), [cursor]);
}

fn purged(origin: u16, group: &str, incarnation: u64, sequence: u64) -> SavedPurged {
    SavedPurged {
        group: group.parse().unwrap(),
        origin: node(origin),
        incarnation: Incarnation(incarnation),
        sequence,
    }
}

#[test]
fn the_highest_that_was_purged_is_kept_as_long_as_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    let marks = [
        purged(1, "all", 2, 9),
        purged(1, "all", 2, 7),
        purged(1, "web", 1, 1),
        purged(2, "all", 3, 4),
        purged(2, "all", 2, 400),
        purged(9, "all", 1, 1),
    ];
    let mut changes: Vec<Change> = marks.into_iter().map(Change::Purged).collect();
    changes.extend([address(1), address(2)]);
    state.apply(&changes, false).unwrap();
    drop(state);
    let mut state = State::open(dir.path()).unwrap();
    let kept = [
        purged(1, "all", 2, 9),
        purged(1, "web", 1, 1),
        purged(2, "all", 3, 4),
        purged(9, "all", 1, 1),
    ];
    assert_eq!(state.purged().unwrap(), kept);
    // Enough others are reached for the first to leave the address book, but not the second.
    let others = u16::try_from(MAX_ADDRESS_BOOK).unwrap() - 1;
    state.apply(&(100..100 + others).map(address).collect::<Vec<_>>(), false).unwrap();
    assert!(state.address_book().unwrap().iter().all(|entry| entry.node != node(1)));
    assert_eq!(state.purged().unwrap(), kept[2..]);
}

#[test]
fn marks_are_bounded_and_strangers_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    let groups = ["all", "web", "db"];
    let marks = groups.iter().flat_map(|group| (0..u16::MAX).map(|of| purged(of, group, 1, 1)));
    let mut changes: Vec<Change> = vec![address(7), address(8)];
    changes.extend(marks.map(Change::Purged));
    state.apply(&changes, false).unwrap();
    let kept = state.purged().unwrap();
    assert_eq!(kept.len(), MAX_PURGED);
    for known in [7, 8] {
        assert_eq!(kept.iter().filter(|mark| mark.origin == node(known)).count(), groups.len());
    }
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = Connection::open(dir.path().join(FILE)).unwrap();
    db.execute_batch(schema::MIGRATIONS[0]).unwrap();
    db.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    db.execute("UPDATE node SET incarnation = 5", []).unwrap();
    drop(db);
    let mut state = State::open(dir.path()).unwrap();
    assert_eq!(state.incarnation().unwrap(), Incarnation(5));
    state.apply(&[Change::Purged(purged(1, "all", 1, 1))], true).unwrap();
    assert_eq!(state.purged().unwrap().len(), 1);
    drop(state);
    db = Connection::open(dir.path().join(FILE)).unwrap();
    let version: i32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, schema::VERSION);
}

#[test]
fn what_is_forgotten_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    let name = || "export".to_owned();
    let noted = WallTime::from_unix_ms(1);
    let changes = [
        record(1, 2, b"x"),
        Change::Age { owner: node(1), age: Duration::ZERO, noted },
        Change::Cursor { name: name(), group: GroupName::all(), position: 1 },
        Change::Forget { owner: node(1) },
        Change::ForgetCursor { name: name() },
        record(1, 2, b"back"),
    ];
    state.apply(&changes, false).unwrap();
    assert!(state.cursors().unwrap().is_empty());
    assert_eq!(state.records().unwrap()[0].age, None);
}

#[test]
fn the_address_book_keeps_those_reached_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    let max = u16::try_from(MAX_ADDRESS_BOOK).unwrap();
    let all: Vec<_> = (0..max).map(address).collect();
    state.apply(&all, false).unwrap();
    state.apply(&[address(0), address(max), address(max + 1)], true).unwrap();
    let book = state.address_book().unwrap();
    assert_eq!(book.len(), MAX_ADDRESS_BOOK);
    let has = |number| book.iter().any(|entry| entry.node == node(number));
    assert!(has(0) && !has(1) && !has(2) && has(3) && has(max + 1));
}

#[test]
fn a_batch_is_kept_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    state.apply(&[Change::Incarnation(Incarnation(5))], true).unwrap();
    let back = [record(1, 1, b"x"), Change::Incarnation(Incarnation(4))];
    let error = state.apply(&back, true).unwrap_err();
    assert!(matches!(error, StateError::IncarnationBack { .. }), "{error}");
    let long = [record(1, 1, b"x"), record(1, 2, &[0; MAX_RECORD_BYTES + 1])];
    assert!(matches!(state.apply(&long, true).unwrap_err(), StateError::TooLong { .. }));
    assert!(state.records().unwrap().is_empty());
    assert_eq!(state.incarnation().unwrap(), Incarnation(5));
}

#[test]
fn files_are_for_the_agent_alone() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("state");
    let mut state = State::open(&inner).unwrap();
    state.apply(&[record(1, 1, b"x")], true).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    let mut files = 0;
    for entry in fs::read_dir(&inner).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
        files += 1;
    }
    assert!(files >= 2, "the database and its log");
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    for content in [&b"hello"[..], &[7; 9000], b"SQLite format 2\0 and more of it"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, content).unwrap();
        let error = State::open(dir.path()).unwrap_err();
        assert!(matches!(error, StateError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("state.db"));
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn the_database_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = Connection::open(dir.path().join(FILE)).unwrap();
    db.execute_batch("CREATE TABLE mine (x); INSERT INTO mine VALUES (1)").unwrap();
    drop(db);
    assert!(matches!(State::open(dir.path()).unwrap_err(), StateError::Foreign { .. }));
}

#[test]
fn the_state_of_a_newer_agent_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(State::open(dir.path()).unwrap());
    let db = Connection::open(dir.path().join(FILE)).unwrap();
    db.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    drop(db);
    let error = State::open(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::Newer { .. }), "{error}");
}

#[test]
fn a_start_that_was_killed_at_once_leaves_nothing_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), b"").unwrap();
    drop(State::open(dir.path()).unwrap());
    State::open(dir.path()).unwrap();
}

/// A file cut at any length, or with a page overwritten, is opened as it was, or refused with a
/// message and left alone; it never panics.
#[test]
fn torn_and_damaged_files_are_refused_with_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    for number in 0..200 {
        state.apply(&[record(number, 1, &[7; 300]), address(number)], false).unwrap();
    }
    drop(state);
    let path = dir.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 40_000);
    let mut refused = 0;
    let mut attempt = |content: &[u8]| {
        let torn = tempfile::tempdir().unwrap();
        let path = torn.path().join(FILE);
        fs::write(&path, content).unwrap();
        let opened = State::open(torn.path()).and_then(|state| {
            state.incarnation()?;
            Ok((state.records()?.len(), state.address_book()?.len()))
        });
        match opened {
            Ok(counts) => assert_eq!(counts, (200, 200)),
            Err(error) => {
                assert!(error.to_string().contains("state.db"), "{error}");
                refused += 1;
            }
        }
    };
    let cuts = (1..whole.len()).step_by(whole.len() / 40);
    cuts.for_each(|cut| attempt(&whole[..cut]));
    assert!(refused >= 38, "every cut is seen, not {refused}");
    let mut attempt_at = |at: usize| {
        let mut damaged = whole.clone();
        damaged[at..at + 64].fill(0xA5);
        let torn = tempfile::tempdir().unwrap();
        fs::write(torn.path().join(FILE), &damaged).unwrap();
        // Content of a row may change without SQLite seeing it; structure may not.
        if let Ok(state) = State::open(torn.path()) {
            drop((state.records(), state.address_book(), state.cursors()));
        }
    };
    (0..whole.len() - 64).step_by(1021).for_each(&mut attempt_at);
}

#[test]
fn an_operator_may_set_it_aside_and_start_anew() {
    let dir = tempfile::tempdir().unwrap();
    let now = WallTime::from_unix_ms(99);
    assert_eq!(State::set_aside(dir.path(), now).unwrap(), None);
    fs::write(dir.path().join(FILE), b"broken").unwrap();
    let aside = State::set_aside(dir.path(), now).unwrap().unwrap();
    assert_eq!(fs::read(aside).unwrap(), b"broken");
    State::open(dir.path()).unwrap();
}

#[test]
fn a_full_disk_is_its_own_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    // SQLite answers as on a full disk when its own page limit is reached.
    let pages: i64 = state.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    state.db.pragma_update(None, "max_page_count", pages).unwrap();
    let much: Vec<_> = (0..100).map(|kind| record(1, kind, &[1; 4000])).collect();
    let error = state.apply(&much, true).unwrap_err();
    assert!(matches!(error, StateError::NoSpace { .. }), "{error}");
    assert!(state.records().unwrap().is_empty());
    state.db.pragma_update(None, "max_page_count", 1 << 20).unwrap();
    state.apply(&much, true).unwrap();
}
