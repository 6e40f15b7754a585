//! Everything that may happen to three managers and four more nodes, up to a depth: nothing of it
//! breaks a promise, and each planted bug does. Deeper: `cargo run --release -p skep-model`.

use std::collections::BTreeSet;

use skep_model::flock::{Bug, Left, Managers, REPLACING, Step};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// What was come to: promises that break, and what must come about.
fn explore(before: &'static [Step], left: Left, steps: usize) -> (BTreeSet<&'static str>, usize) {
    let model = Managers { left, bug: None, before, steps };
    // One thread: of two, one may come first to a state by a longer way, and go on from it less.
    let checker = model.checker().spawn_bfs().join();
    for property in model.properties() {
        if matches!(property.expectation, Expectation::Always) {
            checker.assert_no_discovery(property.name);
        }
    }
    (checker.discoveries().into_keys().collect(), checker.unique_state_count())
}

/// Nothing happens.
const NONE: Left =
    Left { cuts: 0, pauses: 0, restarts: 0, writes: 0, elections: 0, replacements: 0 };

#[test]
fn nothing_that_may_happen_breaks_a_promise() {
    // All that may happen, not far; and further with less of it: merges take long.
    let most = Left { restarts: 0, ..Managers::new(None).left };
    let (mut found, broad) = explore(&[], most, 7);
    let (deep, narrow) = explore(&[], Left { cuts: 2, writes: 1, ..NONE }, 11);
    found.extend(deep);
    // All managers of a flock, or two of them, come back from their disks.
    let back = Left { restarts: 3, writes: 1, elections: 1, ..NONE };
    let (booted, back) = explore(&[], back, 9);
    found.extend(booted);
    for property in Managers::new(None).properties() {
        let wanted = matches!(property.expectation, Expectation::Sometimes);
        let here = property.name != FROM_DISK;
        assert!(!(wanted && here) || found.contains(property.name), "never: {}", property.name);
    }
    assert!(broad > 300_000 && narrow > 300_000, "{broad} and {narrow} states");
    assert!(back > 10_000, "{back} states with restarts");
}

const FROM_DISK: &str = "scenario 1: it comes back from its disk";

#[test]
fn nothing_that_happens_while_a_backup_is_replaced_breaks_a_promise() {
    // The network changes twice more, one of the managers comes back from its disk, or another
    // is elected; further without a write.
    let left = Left { cuts: 3, restarts: 1, elections: 1, replacements: 1, ..NONE };
    let (mut found, deep) = explore(REPLACING, left, 8);
    let (written, states) = explore(REPLACING, Left { writes: 1, ..left }, 7);
    found.extend(written);
    for name in ["scenario 1: a silent backup is replaced", FROM_DISK] {
        assert!(found.contains(name), "never: {name}");
    }
    assert!(deep > 1_000_000 && states > 500_000, "{deep} and {states} states");
}

/// Which property a bug breaks, where no more may happen than it takes.
fn broken_by(bug: Bug, before: &'static [Step], left: Left, property: &'static str) {
    let model = Managers { left, bug: Some(bug), before, steps: 14 };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let found = checker.discovery(property).is_some();
    assert!(found, "{bug:?} breaks {:?}", checker.discoveries().keys());
}

/// One test a bug, so that a failure names it: what it breaks, and how much has to happen for that.
macro_rules! bugs {
    ($($test:ident: $bug:ident breaks $property:literal with
        $cuts:literal cuts, $restarts:literal restarts, $writes:literal writes,
        $elections:literal elections;)*) => {
        $(
            #[test]
            fn $test() {
                let (cuts, restarts) = ($cuts, $restarts);
                let (writes, elections) = ($writes, $elections);
                let left = Left { cuts, restarts, writes, elections, ..NONE };
                broken_by(Bug::$bug, &[], left, $property);
            }
        )*
    };
}

bugs! {
    a_lease_that_outlasts_an_election_is_found: LongLease breaks "one may acknowledge" with
        1 cuts, 0 restarts, 0 writes, 1 elections;
    a_master_that_does_not_wait_for_the_sync_set_is_found: NoSyncSet breaks
        "founders are complete" with 1 cuts, 0 restarts, 1 writes, 0 elections;
    a_generation_that_is_promised_twice_is_found: PromisesTwice breaks
        "strong numbers are unique" with 2 cuts, 0 restarts, 0 writes, 0 elections;
    a_founder_that_asks_nobody_for_newer_sync_sets_is_found: IgnoresNotes breaks
        "strong writes are kept" with 2 cuts, 0 restarts, 1 writes, 0 elections;
    a_history_that_ends_half_handed_over_is_found: HalfMerge breaks
        "masters have everything" with 2 cuts, 0 restarts, 1 writes, 0 elections;
    a_founder_that_counts_epochs_anew_is_found: ForgetsEpoch breaks
        "epochs never fall" with 1 cuts, 0 restarts, 0 writes, 0 elections;
    a_restarted_manager_that_never_holds_is_found: NeverHolds breaks
        "one may acknowledge" with 1 cuts, 2 restarts, 0 writes, 1 elections;
}

/// A backup is cut off and replaced, the network changes once more, and another is elected.
const TURNED: Left = Left { cuts: 2, elections: 1, replacements: 1, ..NONE };

#[test]
fn two_voters_that_change_in_one_entry_are_found() {
    broken_by(Bug::NotJoint, REPLACING, TURNED, "one may acknowledge");
}

#[test]
fn a_joint_configuration_that_its_new_half_leaves_is_found() {
    broken_by(Bug::NewHalfDecides, REPLACING, TURNED, "one may acknowledge");
}

/// The other backup has all of the change, and with it the master decided it.
const CHANGED: &[Step] = &[
    Step::Cut(0b100),
    Step::Shrink(0),
    Step::Replace(0, 2, 3),
    Step::Append(0, 1),
    Step::Append(0, 1),
];

#[test]
fn a_restarted_manager_that_counts_by_voters_of_before_is_found() {
    let left = Left { restarts: 1, ..TURNED };
    broken_by(Bug::ForgetsVoters, CHANGED, left, "one may acknowledge");
}

/// The other backup knows of the change and not that it is decided: that was with the replaced one,
/// which was there again.
const CHANGED_WITHOUT_THE_OTHER: &[Step] = &[
    Step::Cut(0b100),
    Step::Shrink(0),
    Step::Replace(0, 2, 3),
    Step::Append(0, 1),
    Step::Cut(0b010),
    Step::Append(0, 2),
    Step::Append(0, 3),
];

#[test]
fn a_replaced_backup_that_votes_on_is_found() {
    let left = Left { cuts: 3, ..TURNED };
    broken_by(Bug::VotesAgain, CHANGED_WITHOUT_THE_OTHER, left, "one may acknowledge");
}
