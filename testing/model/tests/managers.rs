//! Everything that may happen to three managers and four more nodes, up to a depth: nothing of it
//! breaks a promise, and each planted bug does. Deeper: `cargo run --release -p skep-model`.

use std::collections::BTreeSet;

use skep_model::flock::{Bug, Left, Managers};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// What was come to: promises that break, and what must come about.
fn explore(left: Left, depth: usize) -> (BTreeSet<&'static str>, usize) {
    let model = Managers { left, bug: None };
    let checker = model.checker().threads(2).target_max_depth(depth).spawn_bfs().join();
    for property in model.properties() {
        if matches!(property.expectation, Expectation::Always) {
            checker.assert_no_discovery(property.name);
        }
    }
    (checker.discoveries().into_keys().collect(), checker.unique_state_count())
}

#[test]
fn nothing_that_may_happen_breaks_a_promise() {
    // All that may happen, not far; and further with less of it: merges take long.
    let most = Left { restarts: 0, ..Managers::new(None).left };
    let (mut found, broad) = explore(most, 8);
    let few = Left { cuts: 2, pauses: 0, restarts: 0, writes: 1, elections: 0 };
    let (deep, narrow) = explore(few, 12);
    found.extend(deep);
    // All managers of a flock, or two of them, come back from their disks.
    let back = Left { cuts: 0, pauses: 0, restarts: 3, writes: 1, elections: 1 };
    let (booted, back) = explore(back, 10);
    found.extend(booted);
    for property in Managers::new(None).properties() {
        let wanted = matches!(property.expectation, Expectation::Sometimes);
        assert!(!wanted || found.contains(property.name), "never: {}", property.name);
    }
    assert!(broad > 20_000 && narrow > 20_000, "{broad} and {narrow} states");
    assert!(back > 2_000, "{back} states with restarts");
}

/// Which property a bug breaks, where no more may happen than it takes.
fn broken_by(bug: Bug, left: Left, property: &'static str) {
    let model = Managers { left, bug: Some(bug) };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.target_max_depth(16).spawn_bfs().join();
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
                let left = Left { cuts, pauses: 0, restarts, writes, elections };
                broken_by(Bug::$bug, left, $property);
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
