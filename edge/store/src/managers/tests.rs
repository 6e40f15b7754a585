use std::fs;

use proptest::prelude::*;

use super::*;

const NOW: WallTime = WallTime::from_unix_ms(5);

/// What a change should lead to, said without the code under test.
fn expected(kept: &mut Kept, change: &Change<'_>) {
    match change.cut {
        Cut::Nothing => {}
        Cut::From(index) => kept.entries.retain(|(at, _)| *at < index),
        Cut::Through(index) => kept.entries.retain(|(at, _)| *at > index),
        Cut::All => kept.entries.clear(),
    }
    match change.image {
        Image::Keep => {}
        Image::Replace(bytes) => kept.image = Some(bytes.to_vec()),
        Image::Drop => kept.image = None,
    }
    kept.entries.extend(change.entries.iter().map(|(index, body)| (*index, body.to_vec())));
    if let Some(state) = change.state {
        kept.state = Some(state.to_vec());
    }
}

fn entry(index: u64, body: &'static [u8]) -> (u64, &'static [u8]) {
    (index, body)
}

/// Five changes, and what the disk holds after none to all of them.
fn history(dir: &Path) -> Vec<Kept> {
    let first = [entry(1, b"one"), entry(2, b"two")];
    let second = [entry(2, b"another two"), entry(3, b"three")];
    let keep = Change { cut: Cut::Nothing, image: Image::Keep, entries: &[], state: None };
    let changes = [
        Change { state: Some(b"vote 1"), ..keep },
        Change { entries: &first, ..keep },
        Change { cut: Cut::From(2), entries: &second, state: Some(b"vote 2"), ..keep },
        Change { cut: Cut::Through(2), image: Image::Replace(b"image"), ..keep },
        Change { entries: &[(4, b"four")], state: Some(b"vote 3"), ..keep },
    ];
    let (mut store, found, torn) = ManagersStore::open(dir).unwrap();
    assert_eq!((found, torn), (Kept::default(), None));
    let mut after = vec![Kept::default()];
    for change in &changes {
        store.change(NOW, change).unwrap();
        store.sync().unwrap();
        let mut kept = after.last().unwrap().clone();
        expected(&mut kept, change);
        after.push(kept);
    }
    after
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("0000000000000000.seg")
}

#[test]
fn what_was_kept_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let after = history(dir.path());
    let (_, kept, _) = ManagersStore::open(dir.path()).unwrap();
    assert_eq!(Some(&kept), after.last());
    assert_eq!(kept.entries.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn cut_at_every_byte_it_holds_what_some_of_the_changes_led_to() {
    let dir = tempfile::tempdir().unwrap();
    let after = history(dir.path());
    let whole = fs::read(segment(dir.path())).unwrap();
    let mut reached = 0;
    for cut in 0..=whole.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment(dir.path()), &whole[..cut]).unwrap();
        let (mut store, kept, _) = ManagersStore::open(dir.path()).unwrap();
        let at = after.iter().rposition(|then| *then == kept);
        let at = at.unwrap_or_else(|| panic!("cut at {cut}: {kept:?}"));
        assert!(at >= reached, "cut at {cut}: fewer changes than with a byte less");
        reached = at;
        let change =
            Change { cut: Cut::All, image: Image::Drop, entries: &[], state: Some(b"goes on") };
        store.change(NOW, &change).unwrap();
        store.sync().unwrap();
        drop(store);
        let (_, kept, torn) = ManagersStore::open(dir.path()).unwrap();
        assert_eq!(kept.state.as_deref(), Some(&b"goes on"[..]), "cut at {cut}");
        assert_eq!(torn, None, "cut at {cut}: it was cut off for good");
    }
    assert_eq!(reached, after.len() - 1);
}

#[test]
fn damage_in_the_middle_is_refused_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    history(dir.path());
    let whole = fs::read(segment(dir.path())).unwrap();
    // Within the last record, damage cannot be told from a write that never ended.
    let last = HEAD.len()
        + 31
        + to_bytes(&Change {
            cut: Cut::Nothing,
            image: Image::Keep,
            entries: &[(4, b"four")],
            state: Some(b"vote 3"),
        })
        .len();
    for at in 0..whole.len() - last {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(segment(dir.path()), &bytes).unwrap();
        let Err(error) = ManagersStore::open(dir.path()) else {
            panic!("byte {at} was damaged, and nobody saw it");
        };
        assert!(error.to_string().contains("move the directory away"), "{error}");
    }
}

#[test]
fn a_foreign_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment(dir.path()), "this is the diary of somebody else").unwrap();
    let error = ManagersStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, ManagersError::Open { source: LogError::Foreign { .. }, .. }));
    let other = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(other.path(), Options::default(), |_| {}).unwrap();
    log.append(NOW, &[Entry { head: b"an update", body: Source::Bytes(b"hello") }]).unwrap();
    log.sync().unwrap();
    drop(log);
    let error = ManagersStore::open(other.path()).unwrap_err();
    assert!(matches!(error, ManagersError::Unreadable { position: 0, .. }), "{error}");
}

#[test]
fn what_is_superseded_does_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _, _) = ManagersStore::open(dir.path()).unwrap();
    let body = vec![7; 30_000];
    let image = vec![9; 100_000];
    let rounds = 3 * REWRITE_BYTES / 30_000;
    for index in 1..=rounds {
        let image = if index % 50 == 0 { Image::Replace(&image[..]) } else { Image::Keep };
        let cut = if index % 50 == 0 { Cut::Through(index - 1) } else { Cut::Nothing };
        let entries = [(index, &body[..])];
        store.change(NOW, &Change { cut, image, entries: &entries, state: Some(b"s") }).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
    let bytes: u64 = entries.map(|entry| entry.metadata().unwrap().len()).sum();
    assert!(bytes < 3 * REWRITE_BYTES, "{bytes} bytes of segments");
    let (_, kept, _) = ManagersStore::open(dir.path()).unwrap();
    assert_eq!(kept.entries.last().map(|(index, _)| *index), Some(rounds));
    assert_eq!(kept.entries.len() as u64, rounds % 50 + 1);
    assert_eq!(kept.image.as_deref(), Some(&image[..]));
}

proptest! {
    #[test]
    fn changes_of_any_kind_lead_to_what_they_say(
        steps in proptest::collection::vec((0..4_u8, 0..12_u64, 0..3_u8, 0..3_usize), 1..24)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Kept::default();
        let (mut store, _, _) = ManagersStore::open(dir.path()).unwrap();
        for (cut, at, image, more) in steps {
            let cut = match cut {
                0 => Cut::Nothing,
                1 => Cut::From(at),
                2 => Cut::Through(at),
                _ => Cut::All,
            };
            let image = [Image::Keep, Image::Replace(b"img"), Image::Drop][usize::from(image)];
            let mut place = match cut {
                Cut::From(at) => at,
                Cut::Nothing | Cut::Through(_) | Cut::All => 20,
            };
            place = place.max(model.entries.last().map_or(0, |(at, _)| *at) + 1);
            let entries: Vec<(u64, &[u8])> =
                (0..more).map(|n| (place + n as u64, &b"entry"[..])).collect();
            let state = (more == 1).then_some(&b"state"[..]);
            let change = Change { cut, image, entries: &entries, state };
            store.change(NOW, &change).unwrap();
            expected(&mut model, &change);
        }
        drop(store);
        let (_, kept, _) = ManagersStore::open(dir.path()).unwrap();
        prop_assert_eq!(kept, model);
    }

    #[test]
    fn bytes_that_are_no_change_are_not_read_as_one(
        bytes in proptest::collection::vec(any::<u8>(), 0..60)
    ) {
        if let Some(parts) = Parts::read(&bytes) {
            let Parts { cut, image, ref entries, state } = parts;
            let again = to_bytes(&Change { cut, image, entries, state });
            prop_assert!(Parts::read(&again).is_some());
        }
    }
}
