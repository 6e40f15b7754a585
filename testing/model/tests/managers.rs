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
    let (mut found, broad) = explore(Managers::new(None).left, 8);
    let few = Left { cuts: 2, pauses: 0, writes: 1, elections: 0 };
    let (deep, narrow) = explore(few, 12);
    found.extend(deep);
    for property in Managers::new(None).properties() {
        let wanted = matches!(property.expectation, Expectation::Sometimes);
        assert!(!wanted || found.contains(property.name), "never: {}", property.name);
    }
    assert!(broad > 20_000 && narrow > 20_000, "{broad} and {narrow} states");
}

/// Which property a bug breaks, where no more may happen than it takes.
fn broken_by(bug: Bug, left: Left, property: &'static str) {
    let model = Managers { left, bug: Some(bug) };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.target_max_depth(16).spawn_bfs().join();
    let found = checker.discovery(property).is_some();
    assert!(found, "{bug:?} breaks {:?}", checker.discoveries().keys());
}

#[test]
fn a_lease_that_outlasts_an_election_is_found() {
    let left = Left { cuts: 1, pauses: 0, writes: 0, elections: 1 };
    broken_by(Bug::LongLease, left, "one may acknowledge");
}

#[test]
fn a_master_that_does_not_wait_for_the_sync_set_is_found() {
    let left = Left { cuts: 1, pauses: 0, writes: 1, elections: 0 };
    broken_by(Bug::NoSyncSet, left, "founders are complete");
}

#[test]
fn a_generation_that_is_promised_twice_is_found() {
    let left = Left { cuts: 2, pauses: 0, writes: 0, elections: 0 };
    broken_by(Bug::PromisesTwice, left, "strong numbers are unique");
}

#[test]
fn a_founder_that_asks_nobody_for_newer_sync_sets_is_found() {
    let left = Left { cuts: 2, pauses: 0, writes: 1, elections: 0 };
    broken_by(Bug::IgnoresNotes, left, "strong writes are kept");
}

#[test]
fn a_history_that_ends_half_handed_over_is_found() {
    let left = Left { cuts: 2, pauses: 0, writes: 1, elections: 0 };
    broken_by(Bug::HalfMerge, left, "masters have everything");
}

#[test]
fn a_founder_that_counts_epochs_anew_is_found() {
    let left = Left { cuts: 1, pauses: 0, writes: 0, elections: 0 };
    broken_by(Bug::ForgetsEpoch, left, "epochs never fall");
}
