use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use bytes::Bytes;
use proptest::prelude::*;
use skep_base::WallTime;

use super::{STAMP, command, key, place, says, set, write};
use crate::*;

const OTHER: Stamp = Stamp { epoch: 2, fork: 0xcd << 56 };

/// A flock since it went its own way.
struct Flock {
    catalog: Catalog,
    stamp: Stamp,
    common: u64,
}

impl Flock {
    fn of(base: &Catalog, stamp: Stamp) -> Self {
        Self { catalog: base.clone(), stamp, common: base.index() }
    }

    fn next(&self) -> Dot {
        Dot { stamp: self.stamp, term: 1, index: self.catalog.index() + 1 }
    }

    fn want(&mut self, name: &str, expect: Expect, value: Option<&str>) -> Outcome {
        let bytes = command(vec![write(name, expect, value)]);
        self.catalog.apply(self.next(), Origin::Own, &bytes)
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        self.want(name, Expect::Anything, value);
    }

    /// Hands what it changed to another.
    fn hand_over(&self, to: &mut Catalog) {
        take_all(to, &self.catalog.hand_over(self.common));
    }
}

fn take(to: &mut Catalog, item: &[u8]) -> Outcome {
    let outcome = to.apply(place(to.index() + 1), Origin::Foreign, item);
    to.check();
    outcome
}

pub(super) fn take_all(to: &mut Catalog, items: &[Bytes]) {
    for item in items {
        assert!(item.len() <= MAX_COMMAND_BYTES);
        let outcome = take(to, item);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
}

pub(super) fn conflicts(catalog: &Catalog) -> Vec<(Key, Conflict)> {
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
    let mut theirs = Flock::of(&base, OTHER);
    set(&mut ours, "notice/on-hold.web-1", Some("told"));
    theirs.set("notice/on-hold.web-1", Some("over"));
    theirs.set("notice/on-hold.web-2", Some("open"));
    theirs.hand_over(&mut ours);
    assert_eq!(conflicts(&ours), []);
    assert_eq!(says(&ours, "notice/on-hold.web-1").as_deref(), Some("told"));
    assert_eq!(says(&ours, "notice/on-hold.web-2").as_deref(), Some("open"));
    assert!(!export(&ours).contains("web-1"), "a backup has none of it");
    let root = ours.root();
    theirs.hand_over(&mut ours);
    assert_eq!(ours.root(), root, "another that has it hands it over as well");
}

/// A part that lived on while others took over what it had decided, and that leads when they meet.
#[test]
fn what_comes_back_to_its_own_flock_happens_no_second_time() {
    let (one, two) = ("setting/one", "setting/two");
    let mut base = Catalog::new();
    set(&mut base, one, Some("before"));
    let mut ours = Flock::of(&base, STAMP);
    ours.set(one, Some("ours"));
    ours.set(two, Some("ours"));
    let mut theirs = Flock::of(&base, OTHER);
    theirs.set(one, Some("theirs"));
    ours.hand_over(&mut theirs.catalog);
    // It went on from what it took over, by its own revision of that.
    let taken = theirs.catalog.live(&key(two)).unwrap().0.revision;
    let outcome = theirs.want(two, Expect::Revision(taken), Some("theirs"));
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    theirs.hand_over(&mut ours.catalog);
    assert_eq!(says(&ours.catalog, one).as_deref(), Some("ours"));
    assert_eq!(says(&ours.catalog, two).as_deref(), Some("theirs"), "it had seen ours");
    let logged = conflicts(&ours.catalog);
    assert_eq!(logged.len(), 1, "what they wanted of the first is not forgotten: {logged:?}");
    assert_eq!(logged[0].1.key, key(one));
}

/// A lost manager held at some place what never was decided there, and handed it over, or founded
/// a flock from it.
#[test]
fn what_was_decided_overtakes_what_a_lost_manager_held_at_its_place() {
    let name = "setting/one";
    let mut base = Catalog::new();
    set(&mut base, name, Some("before"));
    let held = place(base.index() + 1);
    let decided = Dot { term: held.term + 1, ..held };
    let (mut holder, mut decider) = (base.clone(), base.clone());
    let wanted = |value| command(vec![write(name, Expect::Anything, Some(value))]);
    holder.apply(held, Origin::Own, &wanted("held"));
    decider.apply(decided, Origin::Own, &wanted("decided"));
    let mut ours = Flock::of(&base, OTHER);
    take_all(&mut ours.catalog, &holder.hand_over(base.index()));
    assert_eq!(says(&ours.catalog, name).as_deref(), Some("held"), "it may have been decided");
    take_all(&mut ours.catalog, &decider.hand_over(base.index()));
    assert_eq!(says(&ours.catalog, name).as_deref(), Some("decided"));
    take_all(&mut ours.catalog, &holder.hand_over(base.index()));
    assert_eq!(says(&ours.catalog, name).as_deref(), Some("decided"), "nor does it come back");
    assert_eq!(conflicts(&ours.catalog), []);
    // Whoever went on from what was held wanted something that the others did not know of.
    let mut founded = Flock::of(&holder, OTHER);
    founded.set(name, Some("founded"));
    take_all(&mut founded.catalog, &decider.hand_over(base.index()));
    assert_eq!(says(&founded.catalog, name).as_deref(), Some("founded"));
    let logged = conflicts(&founded.catalog);
    assert_eq!(logged.len(), 1, "what was decided there is not lost: {logged:?}");
}

#[test]
fn both_sides_changes_are_there_or_in_the_conflict_log() {
    let mut base = Catalog::new();
    for name in ["setting/both", "setting/theirs", "setting/gone", "setting/alike"] {
        set(&mut base, name, Some("old"));
    }
    let mut ours = base.clone();
    let mut theirs = Flock::of(&base, OTHER);
    set(&mut ours, "setting/both", Some("ours"));
    set(&mut ours, "setting/alike", Some("new"));
    theirs.set("setting/alike", Some("new"));
    theirs.set("setting/both", Some("their first"));
    theirs.set("setting/both", Some("theirs"));
    theirs.set("setting/theirs", Some("1"));
    theirs.set("setting/theirs", Some("2"));
    theirs.set("setting/gone", None);
    theirs.set("setting/fresh", Some("3"));
    theirs.hand_over(&mut ours);
    let now = |catalog: &Catalog, name: &str| says(catalog, &format!("setting/{name}"));
    assert_eq!(now(&ours, "both").as_deref(), Some("ours"));
    assert_eq!(now(&ours, "theirs").as_deref(), Some("2"));
    assert_eq!(now(&ours, "fresh").as_deref(), Some("3"));
    assert_eq!(now(&ours, "gone"), None);
    let versions = ours.slot(&key("setting/theirs")).unwrap().versions();
    assert_eq!(versions.len(), 3, "what it said in between is its history here as well");
    let logged = conflicts(&ours);
    assert_eq!(logged.len(), 1, "one for each entry: {logged:?}");
    assert_eq!(logged[0].1.version.revision, 7, "where it was decided");
    assert_eq!(ours.slot(&logged[0].0).unwrap().versions().len(), 2, "and what came before it");

    let again = reapply(&ours, &logged[0].0, "me".into(), WallTime::default()).unwrap();
    let at = place(ours.index() + 1);
    let outcome = ours.apply(at, Origin::Own, &again.to_bytes().unwrap());
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    assert_eq!(now(&ours, "both").as_deref(), Some("theirs"));
    assert!(conflicts(&ours).is_empty(), "it is done with");
    let root = ours.root();
    theirs.hand_over(&mut ours);
    assert_eq!(ours.root(), root, "and stays done with, though another holder has it as well");
    assert!(reapply(&ours, &key("conflict/none"), "me".into(), WallTime::default()).is_none());
}

/// What an operator settled in one flock is settled in the next, whichever of the two leads.
#[test]
fn a_conflict_that_was_settled_is_none_in_the_next_flock() {
    let name = "setting/both";
    let mut base = Catalog::new();
    set(&mut base, name, Some("old"));
    let mut one = Flock::of(&base, STAMP);
    one.set(name, Some("one"));
    let mut two = Flock::of(&base, OTHER);
    two.set(name, Some("two"));
    two.hand_over(&mut one.catalog);
    let unsettled = Flock { catalog: one.catalog.clone(), ..Flock::of(&base, OTHER) };
    let (logged, _) = conflicts(&one.catalog).remove(0);
    let again = reapply(&one.catalog, &logged, "me".into(), WallTime::default()).unwrap();
    let removed = Command::one(
        "me".into(),
        WallTime::default(),
        Write { key: logged, expect: Expect::Anything, put: None },
    );
    for (settling, said) in [(again, "two"), (removed, "one")] {
        let mut settled = Flock { catalog: one.catalog.clone(), ..Flock::of(&base, STAMP) };
        let at = settled.next();
        settled.catalog.apply(at, Origin::Own, &settling.to_bytes().unwrap());
        for other in [&two, &unsettled] {
            let mut leads = settled.catalog.clone();
            other.hand_over(&mut leads);
            let mut yields = other.catalog.clone();
            settled.hand_over(&mut yields);
            for catalog in [leads, yields] {
                assert_eq!(says(&catalog, name).as_deref(), Some(said));
                assert_eq!(conflicts(&catalog), []);
            }
        }
    }
}

/// Of two flocks that each settled the same conflict for itself nobody knows better.
#[test]
fn what_was_settled_both_ways_is_asked_again() {
    let name = "setting/both";
    let base = Catalog::new();
    let mut one = Flock::of(&base, STAMP);
    one.set(name, Some("one"));
    let mut two = Flock::of(&base, OTHER);
    two.set(name, Some("two"));
    let (first, second) = (one.catalog.clone(), two.catalog.clone());
    take_all(&mut one.catalog, &second.hand_over(0));
    take_all(&mut two.catalog, &first.hand_over(0));
    for flock in [&mut one, &mut two] {
        let (logged, _) = conflicts(&flock.catalog).remove(0);
        let removed = Write { key: logged, expect: Expect::Anything, put: None };
        let removed = Command::one("me".into(), WallTime::default(), removed);
        let at = flock.next();
        flock.catalog.apply(at, Origin::Own, &removed.to_bytes().unwrap());
        assert_eq!(conflicts(&flock.catalog), []);
    }
    let mut merged = one.catalog.clone();
    two.hand_over(&mut merged);
    assert_eq!(says(&merged, name).as_deref(), Some("one"));
    assert_eq!(conflicts(&merged).len(), 1);
    let root = merged.root();
    two.hand_over(&mut merged);
    assert_eq!(merged.root(), root, "once");
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
    let mut theirs = Flock { common: 0, ..Flock::of(&ours, OTHER) };
    set(&mut ours, "setting/ours", Some("since"));
    theirs.want("setting/theirs", Expect::Revision(there), Some("changed"));
    let at = ours.index();
    theirs.hand_over(&mut ours);
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
    let mut theirs = Flock::of(&base, OTHER);
    theirs.want("setting/a", Expect::Revision(9), Some("stale"));
    theirs.want("setting/b", Expect::Absent, Some("first"));
    theirs.want("setting/b", Expect::Absent, Some("second"));
    theirs.want("setting/b", Expect::Revision(3), Some("third"));
    let mut ours = base.clone();
    theirs.hand_over(&mut ours);
    assert_eq!(says(&ours, "setting/a").as_deref(), Some("old"));
    assert_eq!(says(&ours, "setting/b").as_deref(), Some("third"));
    assert!(conflicts(&ours).is_empty());
}

#[test]
fn a_large_catalog_is_handed_over_in_items_that_fit_the_log() {
    let mut theirs = Flock::of(&Catalog::new(), OTHER);
    let long = "x".repeat(15_000);
    for number in 0..40 {
        theirs.set(&format!("setting/long-{number}"), Some(&long));
        theirs.set(&format!("setting/short-{number}"), Some("1"));
    }
    for _ in 0..MAX_VERSIONS {
        theirs.set("setting/often", Some(&long));
        theirs.set("setting/often", Some("short"));
    }
    let items = theirs.catalog.hand_over(0);
    assert!(items.len() > 20 && items.iter().all(|item| item.len() <= MAX_COMMAND_BYTES));
    let mut ours = Catalog::new();
    take_all(&mut ours, &items);
    assert_eq!(said(&ours), said(&theirs.catalog));
}

#[test]
fn what_is_no_item_is_refused_and_changes_nothing() {
    let mut theirs = Flock::of(&Catalog::new(), OTHER);
    theirs.set("setting/a", Some("theirs"));
    let good = theirs.catalog.hand_over(0).remove(0);
    let mut ours = Catalog::new();
    set(&mut ours, "setting/a", Some("ours"));
    let root = ours.root();
    let mut layout = good.to_vec();
    layout[0] += 1;
    let long = vec![1; MAX_COMMAND_BYTES + 1];
    let (empty, none) = (Vec::new(), vec![1, 0]);
    let more = [&good[..], &[0]].concat();
    for bad in [&layout[..], &long, &empty, &none, &more, &good[..good.len() - 1]] {
        assert_eq!(take(&mut ours, bad), Outcome::Refused(Refusal::Malformed));
        assert_eq!(ours.root(), root);
    }
    assert!(matches!(take(&mut ours, &good), Outcome::Applied { .. }));
    assert_eq!(conflicts(&ours).len(), 1);
}

#[test]
fn what_has_no_room_is_refused_whole() {
    let mut ours = Catalog::new();
    let long = "x".repeat(15_000);
    for number in 0.. {
        if let Outcome::Refused(_) = set(&mut ours, &format!("setting/{number}"), Some(&long)) {
            break;
        }
    }
    let mut theirs = Flock::of(&Catalog::new(), OTHER);
    theirs.set("setting/theirs", Some(&long));
    let root = ours.root();
    let item = theirs.catalog.hand_over(0).remove(0);
    assert_eq!(take(&mut ours, &item), Outcome::Refused(Refusal::Full));
    assert_eq!(ours.root(), root);
}

/// Flocks of which each wrote the entry without knowing of the others.
fn flocks(count: u64, value: impl Fn(u64) -> String) -> impl Iterator<Item = Flock> {
    (1..=count).map(move |fork| {
        let mut flock = Flock::of(&Catalog::new(), Stamp { epoch: 1, fork: fork << 32 });
        flock.set("setting/a", Some(&value(fork)));
        flock
    })
}

#[test]
fn as_many_stand_beside_an_entry_as_can_be_handed_on_and_more_are_refused() {
    let mut ours = Flock::of(&Catalog::new(), STAMP);
    ours.set("setting/a", Some("ours"));
    let most = 64;
    for flock in flocks(most, |fork| format!("{fork}")) {
        flock.hand_over(&mut ours.catalog);
    }
    assert_eq!(conflicts(&ours.catalog).len() as u64, most);
    let mut next = Flock::of(&Catalog::new(), OTHER);
    take_all(&mut next.catalog, &ours.catalog.hand_over(0));
    assert_eq!(said(&next.catalog), said(&ours.catalog));
    let (one, root) =
        (flocks(most + 1, |fork| format!("{fork}")).last().unwrap(), ours.catalog.root());
    let item = one.catalog.hand_over(0).remove(0);
    assert_eq!(take(&mut ours.catalog, &item), Outcome::Refused(Refusal::Full));
    assert_eq!(ours.catalog.root(), root);
    // Nor do many at once come in.
    let mut full = Flock::of(&Catalog::new(), OTHER);
    full.set("setting/a", Some("theirs"));
    one.hand_over(&mut full.catalog);
    let outcomes: Vec<Outcome> =
        ours.catalog.hand_over(0).iter().map(|item| take(&mut full.catalog, item)).collect();
    assert!(outcomes.contains(&Outcome::Refused(Refusal::Full)), "{outcomes:?}");
    assert!(conflicts(&full.catalog).len() as u64 <= most);
}

#[test]
fn of_many_that_wrote_the_same_some_are_remembered() {
    let mut ours = Flock::of(&Catalog::new(), STAMP);
    ours.set("setting/a", Some("same"));
    for flock in flocks(40, |_| "same".into()) {
        flock.hand_over(&mut ours.catalog);
        let root = ours.catalog.root();
        flock.hand_over(&mut ours.catalog);
        assert_eq!(ours.catalog.root(), root);
    }
    assert_eq!(ours.catalog.slot(&key("setting/a")).unwrap().all_said().count(), 33);
    let mut next = Flock::of(&Catalog::new(), OTHER);
    take_all(&mut next.catalog, &ours.catalog.hand_over(0));
    assert_eq!(said(&next.catalog), said(&ours.catalog));
}

#[test]
fn an_entry_that_more_flocks_wrote_than_are_remembered_can_be_handed_on() {
    let mut ours = Flock::of(&Catalog::new(), STAMP);
    ours.set("setting/a", Some("ours"));
    // Each goes on from what the one before it says.
    for fork in 1..=MAX_LOGS as u64 + 9 {
        let mut next = Flock::of(&ours.catalog, Stamp { epoch: 1, fork: fork << 32 });
        next.set("setting/a", Some(&format!("{fork}")));
        next.hand_over(&mut ours.catalog);
        let root = ours.catalog.root();
        next.hand_over(&mut ours.catalog);
        assert_eq!((ours.catalog.root(), conflicts(&ours.catalog)), (root, Vec::new()));
    }
    let mut next = Flock::of(&Catalog::new(), OTHER);
    take_all(&mut next.catalog, &ours.catalog.hand_over(0));
    assert_eq!(said(&next.catalog), said(&ours.catalog));
}

/// Entries that are set to something, or removed; some of it only when they are as expected.
fn changes() -> impl Strategy<Value = Vec<(u8, Option<String>, Option<u64>)>> {
    let revision = proptest::option::weighted(0.2, 0..20_u64);
    proptest::collection::vec((0..5_u8, proptest::option::of("[ab]"), revision), 0..6)
}

fn change(flock: &mut Flock, changes: &[(u8, Option<String>, Option<u64>)]) {
    for (at, value, revision) in changes {
        let expect = revision.map_or(Expect::Anything, Expect::Revision);
        flock.want(&format!("setting/k{at}"), expect, value.as_deref());
    }
}

fn begun(before: &[(u8, Option<String>, Option<u64>)]) -> Catalog {
    let mut base = Flock::of(&Catalog::new(), STAMP);
    change(&mut base, before);
    base.catalog
}

proptest! {
    #[test]
    fn nothing_vanishes_and_merging_again_changes_nothing(
        before in changes(), here in changes(), there in changes(),
    ) {
        let base = begun(&before);
        let (mut ours, mut theirs) = (Flock::of(&base, STAMP), Flock::of(&base, OTHER));
        change(&mut ours, &here);
        change(&mut theirs, &there);
        let mut one = ours.catalog.clone();
        theirs.hand_over(&mut one);
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
        theirs.hand_over(&mut one);
        prop_assert_eq!(one.root(), root);
        prop_assert_eq!(Catalog::from_bytes(&one.to_bytes()).unwrap().root(), root);
    }
}

/// What each entry says, and what the conflict log says that others wanted of it.
pub(super) type Said = BTreeMap<Key, (Option<Payload>, Vec<Option<Payload>>)>;

pub(super) fn said(catalog: &Catalog) -> Said {
    let mut said = Said::new();
    for (key, slot) in catalog.slots() {
        if key.kind() != Kind::CONFLICT {
            said.entry(key.clone()).or_default().0 = slot.newest().unwrap().put.clone();
        }
    }
    for (_, conflict) in conflicts(catalog) {
        said.entry(conflict.key).or_default().1.push(conflict.version.put);
    }
    said.values_mut().for_each(|(_, others)| {
        others.sort_by_key(|put| put.as_ref().map(|put| put.body.clone()));
    });
    said
}

/// All that anybody wants of each entry, whoever leads.
pub(super) fn wanted(catalog: &Catalog) -> BTreeMap<Key, Vec<Option<Payload>>> {
    let all = said(catalog).into_iter().map(|(key, (live, mut others))| {
        others.push(live);
        others.sort_by_key(|put| put.as_ref().map(|put| put.body.clone()));
        others.dedup();
        (key, others)
    });
    all.collect()
}

/// Whether what is handed over twice makes something else of a catalog than once.
fn differs_the_second_time() -> bool {
    let mut base = Catalog::new();
    set(&mut base, "setting/a", Some("old"));
    let mut ours = base.clone();
    let mut theirs = Flock::of(&base, OTHER);
    set(&mut ours, "setting/b", Some("ours"));
    theirs.set("setting/a", Some("first"));
    theirs.set("setting/a", Some("second"));
    theirs.set("setting/b", Some("theirs"));
    theirs.hand_over(&mut ours);
    let (once, root) = (said(&ours), ours.root());
    theirs.hand_over(&mut ours);
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

/// Whether it matters which of two flocks merges into a third first.
fn depends_on_the_order() -> bool {
    let mut base = Catalog::new();
    set(&mut base, "setting/a", Some("old"));
    let [one, other] = [OTHER, Stamp { fork: OTHER.fork + 1, ..OTHER }].map(|stamp| {
        let mut flock = Flock::of(&base, stamp);
        flock.set("setting/a", Some(if stamp == OTHER { "one" } else { "other" }));
        flock
    });
    let merged = |flocks: [&Flock; 2]| {
        let mut merged = base.clone();
        flocks.iter().for_each(|flock| flock.hand_over(&mut merged));
        wanted(&merged)
    };
    merged([&one, &other]) != merged([&other, &one])
}

#[test]
fn the_checker_sees_a_merge_of_which_the_order_matters() {
    assert!(!depends_on_the_order(), "and none without it");
    // Whoever comes last is all that is left.
    plant::take_twice(true);
    let found = depends_on_the_order();
    plant::take_twice(false);
    assert!(found);
}

proptest! {
    /// Hand-overs that are killed begin again, at the beginning or where they were, and several
    /// nodes may hand over what they have of one log: whatever comes of that says the same.
    #[test]
    fn what_comes_in_any_pieces_any_number_of_times_says_the_same(
        before in changes(), here in changes(), there in changes(), third in changes(),
        pieces in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize), 0..8),
    ) {
        let base = begun(&before);
        let (mut ours, mut theirs) = (Flock::of(&base, STAMP), Flock::of(&base, OTHER));
        let mut other = Flock::of(&base, Stamp { fork: OTHER.fork + 1, ..OTHER });
        change(&mut ours, &here);
        change(&mut theirs, &there);
        change(&mut other, &third);
        // What stands in the conflict log there comes as well.
        other.hand_over(&mut theirs.catalog);
        // Each entry alone.
        let items: Vec<Bytes> = merging::one_by_one(&theirs.catalog.hand_over(base.index()));
        let mut straight = ours.catalog.clone();
        take_all(&mut straight, &items);
        let mut torn = ours.catalog.clone();
        let mut reached = 0;
        for (from, count) in pieces {
            // Nobody begins after what has come.
            let from = from.index(reached + 1);
            let to = (from + count).min(items.len()).max(from);
            take_all(&mut torn, &items[from..to]);
            reached = reached.max(to);
        }
        take_all(&mut torn, &items[reached..]);
        take_all(&mut torn, &items);
        prop_assert_eq!(said(&torn), said(&straight));
    }

    /// Of two flocks that merge into a third the one that comes first is heard first; what all of
    /// them want is kept all the same.
    #[test]
    fn what_is_wanted_of_an_entry_does_not_depend_on_who_merges_first(
        before in changes(), here in changes(), one in changes(), other in changes(),
    ) {
        let base = begun(&before);
        let mut ours = Flock::of(&base, STAMP);
        change(&mut ours, &here);
        let mut flocks = [
            Flock::of(&base, OTHER),
            Flock::of(&base, Stamp { fork: OTHER.fork + 1, ..OTHER }),
        ];
        change(&mut flocks[0], &one);
        change(&mut flocks[1], &other);
        let merged = |flocks: &[Flock]| {
            let mut merged = ours.catalog.clone();
            flocks.iter().for_each(|flock| flock.hand_over(&mut merged));
            merged
        };
        let first = merged(&flocks);
        flocks.reverse();
        prop_assert_eq!(wanted(&merged(&flocks)), wanted(&first));
    }
}
