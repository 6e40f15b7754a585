use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec as many;
use proptest::prelude::*;
use skep_base::WallTime;

use super::{command, key, place, says, set, write};
use crate::*;

#[test]
fn a_write_that_saw_something_else_changes_nothing() {
    let mut catalog = Catalog::new();
    assert!(matches!(set(&mut catalog, "setting/a", Some("1")), Outcome::Applied { .. }));
    let root = catalog.root();
    let stale = [Expect::Absent, Expect::Revision(9)];
    for (index, expect) in (2..).zip(stale) {
        let writes =
            vec![write("setting/b", Expect::Absent, Some("x")), write("setting/a", expect, None)];
        let outcome = catalog.apply(place(index), Origin::Own, &command(writes));
        let key = key("setting/a");
        assert_eq!(outcome, Outcome::Conflict { key, expected: expect, found: Some(1) });
        assert_eq!(catalog.root(), root, "half of a command happened");
    }
    let right = command(vec![write("setting/a", Expect::Revision(1), Some("2"))]);
    assert!(matches!(catalog.apply(place(4), Origin::Own, &right), Outcome::Applied { .. }));
    assert_eq!(says(&catalog, "setting/a").as_deref(), Some("2"));
    assert_eq!(
        catalog.apply(place(4), Origin::Own, &right),
        Outcome::Skipped,
        "the same index again"
    );
}

#[test]
fn what_is_removed_stays_removed_and_is_remembered() {
    let mut catalog = Catalog::new();
    set(&mut catalog, "setting/a", Some("1"));
    set(&mut catalog, "setting/a", None);
    let refused = set(&mut catalog, "setting/a", None);
    assert_eq!(refused, Outcome::Refused(Refusal::Absent { key: key("setting/a") }));
    assert!(catalog.entries().is_empty());
    let slot = catalog.slot(&key("setting/a")).unwrap();
    assert_eq!(slot.versions().len(), 2);
    assert!(matches!(catalog.at(&key("setting/a"), 1), Seen::Version(_)));
    assert_eq!(catalog.at(&key("setting/a"), 2), Seen::Nothing);
    let diff = catalog.diff(0, 1);
    assert_eq!((diff.len(), diff[0].before), (1, Seen::Nothing));
    for at in 0..=MAX_REMOVED {
        let name = format!("setting/x{at}");
        set(&mut catalog, &name, Some("1"));
        set(&mut catalog, &name, None);
    }
    catalog.check();
    assert!(catalog.slot(&key("setting/a")).is_none(), "what was removed first goes first");
    assert_eq!(catalog.len(), MAX_REMOVED);
}

#[test]
fn an_entry_keeps_its_last_versions_and_says_that_there_were_more() {
    let mut catalog = Catalog::new();
    for at in 0..MAX_VERSIONS + 3 {
        set(&mut catalog, "setting/a", Some(&format!("{at}")));
    }
    let slot = catalog.slot(&key("setting/a")).unwrap();
    assert_eq!((slot.versions().len(), slot.is_cut()), (MAX_VERSIONS, true));
    assert_eq!(catalog.at(&key("setting/a"), 1), Seen::Unknown);
    let long = "x".repeat(MAX_BODY_BYTES - 100);
    for at in 0..4 {
        set(&mut catalog, "setting/b", Some(&format!("{at}{long}")));
    }
    let slot = catalog.slot(&key("setting/b")).unwrap();
    assert_eq!(slot.versions().len(), 2, "all versions travel in one frame");
    catalog.check();
}

#[test]
fn saying_what_is_said_already_is_no_new_version() {
    let mut catalog = Catalog::new();
    set(&mut catalog, "setting/a", Some("1"));
    assert_eq!(set(&mut catalog, "setting/a", Some("1")), Outcome::Applied { changed: vec![] });
    assert_eq!(catalog.live(&key("setting/a")).unwrap().0.revision, 1);
}

#[test]
fn a_full_catalog_says_so_and_lets_itself_be_emptied() {
    let mut catalog = Catalog::new();
    let body = "x".repeat(MAX_BODY_BYTES - 64);
    let mut at = 0;
    let refusal = loop {
        match set(&mut catalog, &format!("setting/{at}"), Some(&body)) {
            Outcome::Applied { .. } => at += 1,
            Outcome::Refused(refusal) => break refusal,
            other @ (Outcome::Conflict { .. } | Outcome::Skipped) => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal, Refusal::Full);
    assert!(at > 900 && catalog.bytes() <= MAX_CATALOG_BYTES, "{at} entries");
    assert!(matches!(set(&mut catalog, "setting/0", None), Outcome::Applied { .. }));
}

#[test]
fn what_a_newer_build_wrote_is_kept_as_it_came() {
    let odd = Payload { schema: 9, body: vec![0xff; 5].into() };
    let write = Write { key: key("kind-900/x"), expect: Expect::Anything, put: Some(odd.clone()) };
    let mut catalog = Catalog::new();
    catalog.apply(place(1), Origin::Own, &command(vec![write]));
    let again = Catalog::from_bytes(&catalog.to_bytes()).unwrap();
    assert_eq!(again.live(&key("kind-900/x")).unwrap().1, &odd);
    assert_eq!(odd.fields(), None);
    assert_eq!(again.root(), catalog.root());
}

#[test]
fn bytes_that_are_no_catalog_are_told_from_those_of_a_newer_build() {
    assert_eq!(Catalog::from_bytes(&[]).unwrap_err(), SnapshotError::Malformed);
    assert_eq!(Catalog::from_bytes(&[9, 1]).unwrap_err(), SnapshotError::Newer(9));
    let whole = Catalog::new().to_bytes();
    assert!(Catalog::from_bytes(&whole[..whole.len() - 1]).is_err());
}

/// Some writes to a few entries, many of them stale.
fn commands() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let expect = prop_oneof![
        Just(Expect::Anything),
        Just(Expect::Absent),
        (0..12_u64).prop_map(Expect::Revision)
    ];
    let value = proptest::option::of("[a-z]{0,9}");
    let one = (0..6_u8, expect, value).prop_map(|(at, expect, value): (u8, _, Option<String>)| {
        write(&format!("setting/k{at}"), expect, value.as_deref())
    });
    let command = many(one, 1..4).prop_map(|writes| {
        let command = Command { who: "a".into(), when: WallTime::default(), writes };
        command.to_bytes().unwrap().to_vec()
    });
    let junk = many(any::<u8>(), 0..20);
    many(prop_oneof![8 => command, 1 => junk], 0..40)
}

proptest! {
    #[test]
    fn whoever_applies_the_same_commands_has_the_same_catalog(
        commands in commands(),
        cut in 0..40_usize,
    ) {
        let mut whole = Catalog::new();
        let mut parted = Catalog::new();
        for (index, command) in (1..).zip(&commands) {
            let one = whole.apply(place(index), Origin::Own, command);
            if usize::try_from(index).unwrap() == cut {
                parted = Catalog::from_bytes(&parted.to_bytes()).unwrap();
            }
            prop_assert_eq!(one, parted.apply(place(index), Origin::Own, command));
            whole.check();
        }
        prop_assert_eq!(whole.root(), parted.root());
        prop_assert_eq!(whole.to_bytes(), parted.to_bytes());
    }

    #[test]
    fn a_diff_says_exactly_what_is_different(commands in commands(), from in 0..40_u64) {
        let mut catalog = Catalog::new();
        let mut then = Catalog::new();
        for (index, command) in (1..).zip(&commands) {
            catalog.apply(place(index), Origin::Own, command);
            if index <= from {
                then.apply(place(index), Origin::Own, command);
            }
        }
        let to = catalog.index();
        for change in catalog.diff(from.min(to), to) {
            let before = then.live(change.key).map(|(version, _)| version);
            match change.before {
                Seen::Unknown => {}
                Seen::Nothing => prop_assert_eq!(before, None),
                Seen::Version(version) => prop_assert_eq!(before, Some(version)),
            }
            let now = catalog.live(change.key).map(|(version, _)| version);
            prop_assert_eq!(matches!(change.after, Seen::Version(_)), now.is_some());
        }
        let changed: Vec<&Key> = catalog.diff(from.min(to), to).iter().map(|it| it.key).collect();
        for (key, version, _) in catalog.entries() {
            prop_assert_eq!(version.revision > from, changed.contains(&key), "{}", key);
        }
    }
}
