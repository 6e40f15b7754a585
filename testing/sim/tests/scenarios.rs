//! Every scenario, by a few seeds; a run is what its seed makes it; and every checker fails where a
//! bug is planted for it. More seeds: `cargo xtask sim --seeds 500`.

#![expect(clippy::unwrap_used, reason = "this is a test, its own helpers included")]

use std::num::NonZero;

use skep_sim::plant::Bug;
use skep_sim::scenario::{self, Scenario};
use skep_sim::{Report, Run, run};

/// Runs that found a bug once: scenario, seed, nodes. They are played for ever.
const REGRESSIONS: &[(&str, u64, usize)] = &[
    // Disks full of watch records of the life before made every name look taken.
    ("restart-all", 1, 16),
    ("slow-disks", 1, 16),
    ("move", 1, 10),
    // Two nodes that begin at once, each synced with the other's empty store.
    ("form", 1, 100),
    // The watermarks of a link that another replaced at once were never sent again.
    ("power-all", 4, 2),
    // A topology that fell short of the best by about the margin gave way to noise at last.
    ("topology-noise", 27, 40),
    ("topology-noise", 77, 40),
    ("topology-noise", 134, 40),
    ("topology-noise", 153, 40),
    // A backup joined the sync set without what was acknowledged while that was decided.
    ("managers", 173, 7),
    // A flock ended with nothing to hand over; who had seen its stamp refused the other's catalog.
    ("managers", 202, 7),
    // A part that founded itself from its copy of the catalog handed over what both had as if it
    // were new.
    ("managers", 860, 7),
    // What may have happened at the first attempt was told as surely not having happened.
    ("managers", 29, 7),
    // A wish that others passed on late was done again, though its answer was there long ago.
    ("managers", 719, 7),
    // What a flock had taken over came back to whom it was from, and happened after all that had
    // happened since.
    ("managers", 308, 7),
    ("managers", 3903, 7),
    // What a lost manager had held stood for what was decided at that place without it.
    ("managers", 3874, 7),
    // The master's clock jumped while a wish was under way: it was forgotten, and done again.
    ("managers", 10578, 7),
    // A master heard of a higher epoch right after it had passed another, and never again: a host
    // that had seen it followed nobody.
    ("managers", 42161, 7),
];

fn play(scenario: &'static Scenario, seed: u64, nodes: usize) -> Report {
    run(Run::new(scenario, seed).with_nodes(nodes)).unwrap()
}

fn must_pass(name: &str, seeds: std::ops::Range<u64>, nodes: usize) {
    let scenario = scenario::named(name).unwrap();
    for seed in seeds {
        let report = play(scenario, seed, nodes);
        assert!(report.passed(), "{report}");
        assert_eq!(report.wrong_silences, 0, "{report}");
        assert!(report.rejected.is_empty(), "honest nodes refuse one another: {report}");
    }
}

/// One test a scenario, so that a failure names it and they run side by side.
macro_rules! scenarios {
    ($($test:ident: $name:literal, $nodes:expr, $seeds:expr;)*) => {
        $(
            #[test]
            fn $test() {
                must_pass($name, $seeds, $nodes);
            }
        )*

        #[test]
        fn every_scenario_is_played() {
            let played = [$($name),*];
            for scenario in scenario::ALL {
                assert!(played.contains(&scenario.name), "{} is not played", scenario.name);
            }
        }
    };
}

scenarios! {
    form: "form", 16, 1..6;
    crowd: "crowd", 20, 1..4;
    form_regions: "form-regions", 30, 1..3;
    one_by_one: "one-by-one", 12, 1..4;
    slow_disks: "slow-disks", 12, 1..4;
    rack: "rack", 16, 1..4;
    crash: "crash", 8, 1..4;
    power: "power", 10, 1..4;
    pause: "pause", 10, 1..4;
    restart_all: "restart-all", 16, 1..6;
    power_all: "power-all", 12, 1..4;
    goodbye: "goodbye", 10, 1..4;
    loss: "loss", 12, 1..2;
    duplicate: "duplicate", 8, 1..4;
    halves: "halves", 16, 1..4;
    one_way: "one-way", 12, 1..4;
    bridge: "bridge", 13, 1..4;
    apart: "apart", 20, 1..3;
    pairs: "pairs", 12, 1..4;
    multicast: "multicast", 10, 1..4;
    beacon: "beacon", 10, 1..4;
    late_address: "late-address", 12, 1..4;
    address_change: "move", 10, 1..4;
    strangers: "strangers", 10, 1..4;
    updates: "updates", 10, 1..3;
    outage: "outage", 14, 1..3;
    survivors: "flood-survives-k-minus-1", 10, 1..9;
    churn: "churn", 10, 1..2;
    estimates: "estimates", 40, 1..3;
    topology: "topology", 40, 1..3;
    topology_master: "topology-master-killed", 12, 1..9;
    noise: "topology-noise", 24, 1..2;
    detour: "topology-detour", 40, 1..3;
    switch: "topology-switch-killed", 12, 1..4;
    own_topology: "topology-of-a-group", 14, 1..4;
    managers: "managers", 7, 1..4;
    orders: "orders", 7, 1..4;
    managers_losses: "managers-losses", 7, 1..4;
}

#[test]
fn flocks_of_one_two_and_three() {
    for nodes in 1..=3 {
        must_pass("form", 1..8, nodes);
        must_pass("restart-all", 1..5, nodes);
        must_pass("power-all", 1..5, nodes);
    }
    must_pass("goodbye", 1..4, 3);
    must_pass("halves", 1..5, 2);
    must_pass("crash", 1..4, 2);
    must_pass("pause", 1..4, 2);
}

#[test]
fn a_hundred_nodes_form_one_flock() {
    must_pass("form", 1..2, 100);
}

/// Those that found a bug of the managers, or the others.
fn must_find_none(of_the_managers: bool) {
    let all = REGRESSIONS.iter();
    for (name, seed, nodes) in all.filter(|(name, ..)| (*name == "managers") == of_the_managers) {
        let scenario = scenario::named(name).unwrap();
        let report = play(scenario, *seed, *nodes);
        assert!(report.passed(), "{report}");
    }
}

#[test]
fn seeds_that_found_a_bug_find_none() {
    must_find_none(false);
}

#[test]
fn seeds_that_found_a_bug_of_the_managers_find_none() {
    must_find_none(true);
}

#[test]
fn a_seed_is_a_run() {
    for name in ["form-regions", "rack", "updates", "beacon"] {
        let scenario = scenario::named(name).unwrap();
        let first = play(scenario, 7, 12);
        let again = play(scenario, 7, 12);
        assert_eq!(
            (first.trace, first.lines, first.traffic),
            (again.trace, again.lines, again.traffic),
            "{name}: one seed, two runs"
        );
        let other = play(scenario, 8, 12);
        assert_ne!(first.trace, other.trace, "{name}: two seeds, one run");
    }
}

/// What is called ahead on another thread is called with the same state and the same outcome: a
/// run's trace says so, with every kind of fault in it.
#[test]
fn a_run_is_the_same_on_one_thread_and_on_several() {
    let runs = [
        ("form", 24),
        ("form-regions", 16),
        ("churn", 8),
        ("halves", 16),
        ("power-all", 12),
        ("duplicate", 8),
        ("updates", 10),
    ];
    for (name, nodes) in runs {
        let scenario = scenario::named(name).unwrap();
        let asked = || Run::new(scenario, 5).with_nodes(nodes);
        let played = [1, 3].map(|threads| run_on(asked(), threads));
        assert!(played[0].contains(": ok"), "{}", played[0]);
        assert_eq!(played[0], played[1], "{name}: threads make a difference");
    }
}

/// So is a run that fails, by a panic on whichever thread.
#[test]
fn a_failure_is_the_same_on_one_thread_and_on_several() {
    for bug in [Bug::FailsItsCheck, Bug::Spins, Bug::Hermit] {
        let played = [1, 3].map(|threads| {
            let run = Run::new(scenario::named("form").unwrap(), 1).with_nodes(12).with_bug(bug);
            run_on(run, threads)
        });
        assert!(played[0].contains("FAILED"), "{bug:?} is not found: {}", played[0]);
        assert_eq!(played[0], played[1], "{bug:?} shows otherwise on three threads");
    }
}

fn run_on(asked: Run, threads: usize) -> String {
    run(asked.on_threads(NonZero::new(threads).unwrap())).unwrap().to_string()
}

#[test]
fn the_trace_has_a_line_for_each_event() {
    use std::cell::RefCell;
    use std::rc::Rc;
    let lines = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&lines);
    let mut asked = Run::new(scenario::named("form").unwrap(), 3).with_nodes(4);
    asked.sink = Some(Box::new(move |line| sink.borrow_mut().push(line.to_owned())));
    let report = run(asked).unwrap();
    let lines = lines.borrow();
    assert_eq!(lines.len() as u64, report.lines);
    for line in lines.iter() {
        let columns: Vec<&str> = line.split_whitespace().take(6).collect();
        assert_eq!(columns.len(), 6, "{line:?}");
        assert!(columns[0].parse::<f64>().is_ok(), "no time: {line:?}");
    }
    assert_eq!(lines.iter().filter(|line| line.contains("  start ")).count(), 4);
}

/// A planted bug fails the run, is found by the checker that is there for it, and shows as what was
/// planted and not as something else.
fn must_be_found(bug: Bug, name: &str, nodes: usize) {
    let scenario = scenario::named(name).unwrap();
    let clean = play(scenario, 1, nodes);
    assert!(clean.passed(), "fails without a bug: {clean}");
    let report = run(Run::new(scenario, 1).with_nodes(nodes).with_bug(bug)).unwrap();
    let failure = report.failure.as_ref();
    let failure = failure.unwrap_or_else(|| panic!("{bug:?} is not found: {report}"));
    assert_eq!(failure.checker, bug.found_by(), "{bug:?}: {failure}");
    assert!(failure.what.contains(bug.shows_as()), "{bug:?}: {failure}");
}

#[test]
fn each_checker_finds_the_bug_planted_for_it() {
    let drawn = |bug: &Bug| *bug == Bug::Incurious || OF_THE_MANAGERS.contains(bug);
    let elsewhere = |bug: &Bug| drawn(bug) || Bug::IN_SCRIPTS.contains(bug);
    for bug in Bug::ALL.into_iter().filter(|bug| !elsewhere(bug)) {
        let scenario = match bug {
            Bug::CallsTheLivingSilent => "crash",
            Bug::ForgetsItsLives => "restart-all",
            Bug::AppendsTwice
            | Bug::AcknowledgesNothing
            | Bug::BendsBodies
            | Bug::DeafToUpdates
            | Bug::Incurious => "updates",
            Bug::BreaksBeforeItMakes => "topology-switch-killed",
            Bug::ObeysTheStale => "orders",
            Bug::PromisesNothing => "managers-losses",
            Bug::LongLease | Bug::AppliesConflicts | Bug::SaysSafeEarly | Bug::DoesNothing => {
                "managers"
            }
            Bug::FailsItsCheck
            | Bug::Spins
            | Bug::DeafToRecords
            | Bug::Miscounts
            | Bug::Hermit
            | Bug::ThinsTheOverlay => "form",
            // Each has a file of commands of its own, in `scripts.rs`.
            Bug::DeafToCatalog
            | Bug::ForgetsItsStamps
            | Bug::ClaimsAuthority
            | Bug::VotesAsBefore
            | Bug::AcknowledgesAlone
            | Bug::ReplacesNobody
            | Bug::SignsOneNumber
            | Bug::MergesWithNobody
            | Bug::KeepsItsOffice => continue,
        };
        must_be_found(bug, scenario, 12);
    }
}

/// Bugs that show with some faults and not with others.
const OF_THE_MANAGERS: [Bug; 4] =
    [Bug::LongLease, Bug::AppliesConflicts, Bug::SaysSafeEarly, Bug::DoesNothing];

/// Which faults a seed draws decides whether a bug of the managers shows. What shows first is what
/// was planted.
fn must_be_found_by_some_seed(bug: Bug) {
    let scenario = scenario::named("managers").unwrap();
    let failures =
        (1..14).filter_map(|seed| run(Run::new(scenario, seed).with_bug(bug)).unwrap().failure);
    let found = failures.into_iter().next();
    let found = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
    assert_eq!(found.checker, bug.found_by(), "{bug:?}: {found}");
    assert!(found.what.contains(bug.shows_as()), "{bug:?}: {found}");
}

#[test]
fn two_masters_that_may_acknowledge_at_once_are_found() {
    must_be_found_by_some_seed(Bug::LongLease);
}

#[test]
fn a_history_that_is_not_linearizable_is_found() {
    must_be_found_by_some_seed(Bug::AppliesConflicts);
}

#[test]
fn what_is_acknowledged_and_not_on_every_disk_of_the_sync_set_is_found() {
    must_be_found_by_some_seed(Bug::SaysSafeEarly);
}

/// Thirteen seeds in a row begin with each kind of fault once.
fn must_not_be_exercised(seeds: std::ops::Range<u64>) {
    let scenario = scenario::named("managers").unwrap();
    for seed in seeds {
        let report = run(Run::new(scenario, seed).with_bug(Bug::DoesNothing)).unwrap();
        let found = report.failure.unwrap_or_else(|| panic!("seed {seed} passes"));
        assert_eq!(found.checker, Bug::DoesNothing.found_by(), "seed {seed}: {found}");
        assert!(found.what.contains(Bug::DoesNothing.shows_as()), "seed {seed}: {found}");
    }
}

#[test]
fn a_run_that_exercised_none_of_a_fault_fails() {
    must_not_be_exercised(1..5);
}

#[test]
fn a_run_that_exercised_none_of_another_fault_fails() {
    must_not_be_exercised(5..9);
}

#[test]
fn a_run_that_exercised_none_of_a_third_kind_of_fault_fails() {
    must_not_be_exercised(9..14);
}

/// Whether a node needs to ask depends on who dies when: not every seed shows that it does not.
#[test]
fn a_node_that_looks_into_nothing_does_not_survive_every_seed() {
    let scenario = scenario::named("flood-survives-k-minus-1").unwrap();
    let failures = (1..30)
        .filter_map(|seed| run(Run::new(scenario, seed).with_bug(Bug::Incurious)).unwrap().failure);
    let found = failures.into_iter().next().expect("the bug is not found");
    assert_eq!(found.checker, Bug::Incurious.found_by(), "{found}");
    assert!(found.what.contains(Bug::Incurious.shows_as()), "{found}");
}

/// What forming costs is counted, so it cannot creep up unseen. The bounds are half as much again
/// as what was measured.
#[test]
fn forming_a_flock_of_a_hundred_costs_no_more_than_this() {
    let bounds = [
        ("crowd", "signatures verified", 450.0),
        ("crowd", "links dialled", 6.0),
        ("crowd", "frames received", 100.0),
        ("form", "signatures verified", 475.0),
        ("form", "links dialled", 8.0),
        ("form", "frames received", 200.0),
    ];
    for name in ["crowd", "form"] {
        let report = play(scenario::named(name).unwrap(), 1, 100);
        assert!(report.passed(), "{report}");
        let (met, took) = report.measured.first().unwrap();
        assert!(took.as_millis() <= 600, "{name}: {met} took {took:?}");
        let costs = report.costs.first().unwrap();
        for (_, what, bound) in bounds.iter().filter(|(scenario, ..)| *scenario == name) {
            let mean = costs.mean(what).unwrap();
            assert!(mean > 0.0 && mean <= *bound, "{name}: {what} {mean}, over {bound}\n{costs}");
        }
    }
}
