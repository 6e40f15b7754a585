use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;
use skep_base::WallTime;

use super::{STAMP, command, key, says, set, write};
use crate::*;

const OTHER: Stamp = Stamp { epoch: 2, fork: 0xcd << 56 };
const LINEAGE: u64 = 0x1234_5678 << 32;

/// A flock with the log since it went its own way.
struct Flock {
    catalog: Catalog,
    log: Vec<(u64, Bytes)>,
}

impl Flock {
    fn of(base: &Catalog) -> Self {
        Self { catalog: base.clone(), log: Vec::new() }
    }

    fn want(&mut self, stamp: Stamp, name: &str, expect: Expect, value: Option<&str>) -> Outcome {
        let index = self.catalog.index() + 1;
        let bytes = command(alloc::vec![write(name, expect, value)]);
        self.log.push((index, bytes.clone()));
        self.catalog.apply(index, stamp, Origin::Own, &bytes)
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        self.want(OTHER, name, Expect::Anything, value);
    }

    /// Hands its log to another.
    fn hand_over(&self, to: &mut Catalog, common: u64) {
        for (index, command) in &self.log {
            let foreign = Foreign { lineage: LINEAGE, stamp: OTHER, index: *index, common };
            let at = to.index() + 1;
            to.apply(at, STAMP, Origin::Foreign(foreign), command);
            to.check();
        }
    }
}

fn conflicts(catalog: &Catalog) -> Vec<(Key, Conflict)> {
    let all = catalog.entries().into_iter();
    all.filter(|(key, _, _)| key.kind() == Kind::CONFLICT)
        .map(|(key, _, payload)| (key.clone(), Conflict::read(payload).unwrap()))
        .collect()
}

#[test]
fn who_was_told_of_what_is_no_conflict() {
    let mut base = Catalog::new();
    set(&mut base, "notice/on-hold.web-1", Some("open"));
    let mut ours = base.clone();
    let mut theirs = Flock::of(&base);
    set(&mut ours, "notice/on-hold.web-1", Some("told"));
    theirs.set("notice/on-hold.web-1", Some("over"));
    theirs.set("notice/on-hold.web-2", Some("open"));
    theirs.hand_over(&mut ours, base.index());
    assert_eq!(conflicts(&ours), []);
    assert_eq!(says(&ours, "notice/on-hold.web-1").as_deref(), Some("told"));
    assert_eq!(says(&ours, "notice/on-hold.web-2").as_deref(), Some("open"));
    assert!(!export(&ours).contains("web-1"), "a backup has none of it");
}

/// What a master notes of its letters comes in commands of several entries.
#[test]
fn who_was_told_on_the_other_side_is_known_though_this_one_noted_something_as_well() {
    let (one, two) = ("notice/on-hold.web-1", "notice/on-hold.web-2");
    let mut base = Catalog::new();
    for name in [one, two] {
        set(&mut base, name, Some("open"));
    }
    let mut ours = base.clone();
    let mut theirs = Flock::of(&base);
    set(&mut ours, one, Some("told here"));
    let both = |theirs: &mut Flock, expect: Option<(u64, u64)>, value: &str, happens: bool| {
        let live = |name: &str| theirs.catalog.live(&key(name)).unwrap().0.revision;
        let (first, second) = expect.unwrap_or_else(|| (live(one), live(two)));
        let index = theirs.catalog.index() + 1;
        let bytes = command(alloc::vec![
            write(one, Expect::Revision(first), Some(value)),
            write(two, Expect::Revision(second), Some(value)),
        ]);
        theirs.log.push((index, bytes.clone()));
        let outcome = theirs.catalog.apply(index, OTHER, Origin::Own, &bytes);
        assert_eq!(matches!(outcome, Outcome::Applied { .. }), happens, "{value}: {outcome:?}");
    };
    both(&mut theirs, None, "claimed", true);
    // Refused there, for one of the two had gone on: it must not be half there here.
    both(&mut theirs, Some((1, 3)), "refused", false);
    both(&mut theirs, None, "told", true);
    both(&mut theirs, None, "over", true);
    theirs.hand_over(&mut ours, base.index());
    assert_eq!(says(&ours, one).as_deref(), Some("told here"));
    assert_eq!(says(&ours, two).as_deref(), Some("over"));
    assert_eq!(conflicts(&ours), []);
    let root = ours.root();
    theirs.hand_over(&mut ours, base.index());
    assert_eq!(ours.root(), root, "another that has it hands it over as well");
}

/// A part that lived on while others took over what it had decided, and that leads when they meet.
#[test]
fn what_comes_back_to_its_own_flock_happens_no_second_time() {
    let (one, two) = ("setting/one", "setting/two");
    let mut base = Catalog::new();
    set(&mut base, one, Some("before"));
    let common = base.index();
    let mut theirs = base.clone();
    let mut ours = base;
    let wanted = |expect, name, value| command(alloc::vec![write(name, expect, Some(value))]);
    let own = [wanted(Expect::Anything, one, "ours"), wanted(Expect::Anything, two, "ours")];
    for (command, index) in own.iter().zip(common + 1..) {
        ours.apply(index, STAMP, Origin::Own, command);
    }
    let changed = wanted(Expect::Anything, one, "theirs");
    theirs.apply(common + 1, OTHER, Origin::Own, &changed);
    for (command, index) in own.iter().zip(common + 1..) {
        let foreign = Foreign { lineage: LINEAGE + 1, stamp: STAMP, index, common };
        theirs.apply(index + 1, OTHER, Origin::Foreign(foreign), command);
    }
    // It went on from what it took over, by its own revision of that.
    let later = wanted(Expect::Revision(common + 3), two, "theirs");
    let outcome = theirs.apply(common + 4, OTHER, Origin::Own, &later);
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");

    let by = |index| Foreign { lineage: LINEAGE, stamp: OTHER, index, common };
    let back = |place: u64| Origin::Returned { by: by(place + 1), place };
    let passed = |place: u64| Origin::Passed { by: by(place + 1), first: (place, STAMP) };
    for how in [&back as &dyn Fn(u64) -> Origin, &passed] {
        let mut ours = ours.clone();
        let mut take = |origin, command| {
            let at = ours.index() + 1;
            ours.apply(at, STAMP, origin, command);
            ours.check();
        };
        take(Origin::Foreign(by(common + 1)), &changed);
        take(how(common + 1), &own[0]);
        take(how(common + 2), &own[1]);
        take(Origin::Foreign(by(common + 4)), &later);
        assert_eq!(says(&ours, one).as_deref(), Some("ours"));
        assert_eq!(says(&ours, two).as_deref(), Some("theirs"), "it expected what it had");
        let logged = conflicts(&ours);
        assert_eq!(logged.len(), 1, "what they wanted of the first is not forgotten: {logged:?}");
        assert_eq!(logged[0].1.key, key(one));
    }
}

/// A lost manager held at some place what never was decided there, and handed it over.
#[test]
fn what_was_decided_where_a_lost_manager_held_something_else_is_not_taken_as_known() {
    let name = "setting/one";
    let mut ours = Catalog::new();
    set(&mut ours, name, Some("before"));
    let common = ours.index();
    // Where it was held last it was decided: this flock was founded from that.
    set(&mut ours, name, Some("held"));
    let held = command(alloc::vec![write(name, Expect::Anything, Some("held"))]);
    let decided = command(alloc::vec![write(name, Expect::Anything, Some("decided"))]);
    let later = Stamp { epoch: STAMP.epoch + 1, ..STAMP };
    let place = common + 1;
    let mut take = |stamp, common, command| {
        let foreign = Foreign { lineage: LINEAGE, stamp, index: place, common };
        ours.apply(ours.index() + 1, OTHER, Origin::Foreign(foreign), command);
        ours.check();
    };
    take(STAMP, 0, &held);
    take(later, common, &decided);
    assert_eq!(says(&ours, name).as_deref(), Some("held"));
    let logged = conflicts(&ours);
    assert_eq!(logged.len(), 1, "what was decided there is not lost: {logged:?}");
    assert_eq!(logged[0].1.key, key(name));
}

#[test]
fn both_sides_changes_are_there_or_in_the_conflict_log() {
    let mut base = Catalog::new();
    for name in ["setting/both", "setting/theirs", "setting/gone", "setting/alike"] {
        set(&mut base, name, Some("old"));
    }
    let mut ours = base.clone();
    let mut theirs = Flock::of(&base);
    set(&mut ours, "setting/both", Some("ours"));
    set(&mut ours, "setting/alike", Some("new"));
    theirs.set("setting/alike", Some("new"));
    theirs.set("setting/both", Some("their first"));
    theirs.set("setting/both", Some("theirs"));
    theirs.set("setting/theirs", Some("1"));
    theirs.set("setting/theirs", Some("2"));
    theirs.set("setting/gone", None);
    theirs.set("setting/fresh", Some("3"));
    theirs.hand_over(&mut ours, base.index());
    let now = |catalog: &Catalog, name: &str| says(catalog, &format!("setting/{name}"));
    assert_eq!(now(&ours, "both").as_deref(), Some("ours"));
    assert_eq!(now(&ours, "theirs").as_deref(), Some("2"));
    assert_eq!(now(&ours, "fresh").as_deref(), Some("3"));
    assert_eq!(now(&ours, "gone"), None);
    let logged = conflicts(&ours);
    assert_eq!(logged.len(), 1, "one for each entry: {logged:?}");
    assert_eq!(logged[0].1.version.revision, 7, "where it was decided");

    let again = reapply(&ours, &logged[0].0, "me".into(), WallTime::default()).unwrap();
    let index = ours.index() + 1;
    let outcome = ours.apply(index, STAMP, Origin::Own, &again.to_bytes().unwrap());
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    assert_eq!(now(&ours, "both").as_deref(), Some("theirs"));
    assert!(conflicts(&ours).is_empty(), "it is done with");
    let root = ours.root();
    theirs.hand_over(&mut ours, base.index());
    assert_eq!(ours.root(), root, "and stays done with, though another holder has it as well");
    assert!(reapply(&ours, &key("conflict/none"), "me".into(), WallTime::default()).is_none());
}

#[test]
fn a_whole_catalog_comes_in_parts_and_says_the_same() {
    let mut base = Catalog::new();
    set(&mut base, "setting/both", Some("old"));
    let mut ours = base.clone();
    let mut theirs = Flock::of(&base);
    set(&mut ours, "setting/both", Some("ours"));
    theirs.set("setting/both", Some("theirs"));
    theirs.set("setting/fresh", Some(&"x".repeat(500)));
    theirs.set("setting/passing", Some("1"));
    theirs.set("setting/passing", None);
    let bytes = theirs.catalog.to_bytes();
    let parts: Vec<&[u8]> = bytes.chunks(100).collect();
    let count = u32::try_from(parts.len()).unwrap();
    for _ in 0..2 {
        for (part, bytes) in (0..).zip(&parts) {
            let (index, common) = (theirs.catalog.index(), base.index());
            let origin =
                Origin::ForeignState { lineage: LINEAGE, index, part, parts: count, common };
            // Checkpoints may be taken between any two parts.
            ours = Catalog::from_bytes(&ours.to_bytes()).unwrap();
            let outcome = ours.apply(ours.index() + 1, STAMP, origin, bytes);
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
            ours.check();
        }
        assert_eq!(says(&ours, "setting/both").as_deref(), Some("ours"));
        assert_eq!(says(&ours, "setting/fresh").map(|text| text.len()), Some(500));
        assert_eq!(conflicts(&ours).len(), 1);
    }
}

/// A part that founds itself from its copy of the catalog does not know where the two parted, and
/// hands over all of it. What both had is as old as it was: who expects its revision still may.
#[test]
fn what_both_had_before_they_parted_stays_as_old_as_it_was() {
    let mut ours = Catalog::new();
    set(&mut ours, "setting/both", Some("as ever"));
    set(&mut ours, "setting/theirs", Some("as ever"));
    let before = ours.live(&key("setting/both")).unwrap().0.revision;
    let there = ours.live(&key("setting/theirs")).unwrap().0.revision;
    let mut theirs = Flock::of(&ours);
    set(&mut ours, "setting/ours", Some("since"));
    let state = theirs.catalog.to_bytes();
    let (lineage, index) = (LINEAGE, theirs.catalog.index());
    let expect = Expect::Revision(there);
    theirs.want(OTHER, "setting/theirs", expect, Some("changed"));
    let at = ours.index() + 1;
    let whole = Origin::ForeignState { lineage, index, part: 0, parts: 1, common: 0 };
    ours.apply(at, STAMP, whole, &state);
    ours.check();
    theirs.hand_over(&mut ours, 0);
    let (version, _) = ours.live(&key("setting/both")).unwrap();
    assert_eq!(version.revision, before, "{version:?}");
    let (version, _) = ours.live(&key("setting/theirs")).unwrap();
    assert!(version.revision > at, "{version:?}");
    assert_eq!(says(&ours, "setting/theirs").as_deref(), Some("changed"));
    assert!(conflicts(&ours).is_empty(), "{:?}", conflicts(&ours));
}

#[test]
fn what_was_refused_where_it_was_decided_does_not_happen_here() {
    let mut base = Catalog::new();
    set(&mut base, "setting/a", Some("old"));
    let mut theirs = Flock::of(&base);
    theirs.want(OTHER, "setting/a", Expect::Revision(9), Some("stale"));
    theirs.want(OTHER, "setting/b", Expect::Absent, Some("first"));
    theirs.want(OTHER, "setting/b", Expect::Absent, Some("second"));
    theirs.want(OTHER, "setting/b", Expect::Revision(3), Some("third"));
    let mut ours = base.clone();
    theirs.hand_over(&mut ours, base.index());
    assert_eq!(says(&ours, "setting/a").as_deref(), Some("old"));
    assert_eq!(says(&ours, "setting/b").as_deref(), Some("third"));
    assert!(conflicts(&ours).is_empty());
}

#[test]
fn a_write_that_changed_nothing_there_does_not_stand_in_the_way_of_the_next() {
    let mut base = Catalog::new();
    set(&mut base, "setting/a", Some("old"));
    set(&mut base, "setting/b", Some("old"));
    let revision = Expect::Revision(1);
    let mut theirs = Flock::of(&base);
    theirs.want(OTHER, "setting/a", Expect::Anything, Some("old"));
    theirs.want(OTHER, "setting/a", revision, None);
    let mut ours = base.clone();
    theirs.hand_over(&mut ours, base.index());
    assert_eq!(says(&ours, "setting/a"), None, "it was removed there, and acknowledged");
    assert_eq!(says(&ours, "setting/b").as_deref(), Some("old"));
    let root = ours.root();
    theirs.hand_over(&mut ours, base.index());
    assert_eq!(ours.root(), root);
}

/// Entries that are set to something, or removed; some of it only when they are as expected.
fn changes() -> impl Strategy<Value = Vec<(u8, Option<String>, Option<u64>)>> {
    let revision = proptest::option::weighted(0.2, 0..20_u64);
    proptest::collection::vec((0..5_u8, proptest::option::of("[ab]"), revision), 0..6)
}

fn change(flock: &mut Flock, stamp: Stamp, changes: &[(u8, Option<String>, Option<u64>)]) {
    for (at, value, revision) in changes {
        let expect = revision.map_or(Expect::Anything, Expect::Revision);
        flock.want(stamp, &format!("setting/k{at}"), expect, value.as_deref());
    }
}

proptest! {
    #[test]
    fn nothing_vanishes_and_merging_again_changes_nothing(
        before in changes(), here in changes(), there in changes(),
    ) {
        let mut base = Flock::of(&Catalog::new());
        change(&mut base, STAMP, &before);
        let base = base.catalog;
        let (mut ours, mut theirs) = (Flock::of(&base), Flock::of(&base));
        change(&mut ours, STAMP, &here);
        change(&mut theirs, OTHER, &there);
        let mut one = ours.catalog.clone();
        theirs.hand_over(&mut one, base.index());
        let logged = conflicts(&one).into_iter();
        let logged: BTreeMap<Key, Conflict> =
            logged.map(|(_, conflict)| (conflict.key.clone(), conflict)).collect();
        for (key, slot) in theirs.catalog.slots() {
            let newest = slot.newest().unwrap();
            let live = one.live(key).map(|(_, payload)| payload);
            let wanted = logged.get(key).map(|conflict| conflict.version.put.as_ref());
            let theirs_too = newest.revision > base.index();
            let kept = live == newest.put.as_ref() || wanted == Some(newest.put.as_ref());
            prop_assert!(!theirs_too || kept, "{} vanished", key);
        }
        for (key, slot) in ours.catalog.slots() {
            let newest = slot.newest().unwrap();
            let live = one.live(key).map(|(_, payload)| payload);
            let touched = newest.revision > base.index();
            prop_assert!(!touched || live == newest.put.as_ref(), "{} was overruled", key);
        }
        let root = one.root();
        theirs.hand_over(&mut one, base.index());
        prop_assert_eq!(one.root(), root);
    }
}

/// What each entry says, and what the conflict log says that others wanted of it.
type Said = BTreeMap<Key, (Option<Payload>, Vec<Option<Payload>>)>;

fn said(catalog: &Catalog) -> Said {
    let mut said = Said::new();
    for (key, slot) in catalog.slots() {
        if key.kind() != Kind::CONFLICT {
            said.entry(key.clone()).or_default().0 = slot.newest().unwrap().put.clone();
        }
    }
    for (_, conflict) in conflicts(catalog) {
        said.entry(conflict.key).or_default().1.push(conflict.version.put);
    }
    said
}

/// All that anybody wants of each entry, whoever leads.
fn wanted(catalog: &Catalog) -> BTreeMap<Key, Vec<Option<Payload>>> {
    let all = said(catalog).into_iter().map(|(key, (live, mut others))| {
        others.push(live);
        others.sort_by_key(|put| put.as_ref().map(|put| put.body.clone()));
        others.dedup();
        (key, others)
    });
    all.collect()
}

impl Flock {
    /// Hands a part of its log to another.
    fn hand_part(&self, to: &mut Catalog, common: u64, part: core::ops::Range<usize>, of: u64) {
        for (index, command) in &self.log[part] {
            let foreign = Foreign { lineage: of, stamp: OTHER, index: *index, common };
            let at = to.index() + 1;
            to.apply(at, STAMP, Origin::Foreign(foreign), command);
            to.check();
        }
    }
}

/// Whether a log that is handed over twice makes something else of a catalog than once.
fn differs_the_second_time() -> bool {
    let mut base = Catalog::new();
    set(&mut base, "setting/a", Some("old"));
    let mut ours = base.clone();
    let mut theirs = Flock::of(&base);
    set(&mut ours, "setting/b", Some("ours"));
    theirs.set("setting/a", Some("first"));
    theirs.set("setting/a", Some("second"));
    theirs.set("setting/b", Some("theirs"));
    theirs.hand_over(&mut ours, base.index());
    let (once, root) = (said(&ours), ours.root());
    theirs.hand_over(&mut ours, base.index());
    said(&ours) != once || ours.root() != root
}

#[test]
fn the_checker_sees_a_foreign_change_that_happens_twice() {
    assert!(!differs_the_second_time(), "and none without it");
    plant::take_twice(true);
    let found = differs_the_second_time();
    plant::take_twice(false);
    assert!(found);
}

proptest! {
    /// Hand-overs that are killed begin again, at the beginning or where they were, and several
    /// nodes may hand over what they have of one log: whatever comes of that says the same.
    #[test]
    fn a_log_that_comes_in_any_pieces_any_number_of_times_says_the_same(
        before in changes(), here in changes(), there in changes(),
        pieces in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize), 0..8),
    ) {
        let mut base = Flock::of(&Catalog::new());
        change(&mut base, STAMP, &before);
        let base = base.catalog;
        let (mut ours, mut theirs) = (Flock::of(&base), Flock::of(&base));
        change(&mut ours, STAMP, &here);
        change(&mut theirs, OTHER, &there);
        let (common, whole) = (base.index(), theirs.log.len());
        let mut straight = ours.catalog.clone();
        theirs.hand_part(&mut straight, common, 0..whole, LINEAGE);
        let mut torn = ours.catalog.clone();
        let mut reached = 0;
        for (from, count) in pieces {
            // Nobody begins after what has come.
            let from = from.index(reached + 1);
            let to = (from + count).min(whole).max(from);
            theirs.hand_part(&mut torn, common, from..to, LINEAGE);
            reached = reached.max(to);
        }
        theirs.hand_part(&mut torn, common, reached..whole, LINEAGE);
        theirs.hand_part(&mut torn, common, 0..whole, LINEAGE);
        prop_assert_eq!(said(&torn), said(&straight));
    }

    /// Of two flocks that merge into a third the one that comes first is heard first; what all of
    /// them want is kept all the same.
    #[test]
    fn what_is_wanted_of_an_entry_does_not_depend_on_who_merges_first(
        before in changes(), here in changes(), one in changes(), other in changes(),
    ) {
        let mut base = Flock::of(&Catalog::new());
        change(&mut base, STAMP, &before);
        let base = base.catalog;
        let mut ours = Flock::of(&base);
        change(&mut ours, STAMP, &here);
        let (mut one_flock, mut other_flock) = (Flock::of(&base), Flock::of(&base));
        change(&mut one_flock, OTHER, &one);
        change(&mut other_flock, OTHER, &other);
        let mut flocks = [(&one_flock, LINEAGE), (&other_flock, LINEAGE << 1)];
        let merged = |flocks: &[(&Flock, u64)]| {
            let mut merged = ours.catalog.clone();
            for (flock, lineage) in flocks {
                flock.hand_part(&mut merged, base.index(), 0..flock.log.len(), *lineage);
            }
            merged
        };
        let first = merged(&flocks);
        flocks.reverse();
        prop_assert_eq!(wanted(&merged(&flocks)), wanted(&first));
    }
}
