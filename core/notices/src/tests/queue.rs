//! From what is wrong to who was told: once, together, not too often, whoever is master.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::tests::net::Net;
use crate::{Config, ConfigError, Event, Kind, MAX_NOTICES};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn config() -> Config {
    Config { targets: vec![("ops".into(), vec![])], ..Config::default() }
}

/// Three nodes, of which the first is master.
fn three() -> Net {
    let mut net = Net::new(&["a", "b", "c"], config());
    net.elects(Some("a"));
    net.run(MINUTE);
    net
}

/// The steps that a target was told of, one letter after the other.
fn steps(net: &Net) -> Vec<Vec<(String, u32)>> {
    let items = |letter: &crate::Letter| {
        letter.items.iter().map(|it| (it.incident.to_string(), it.step)).collect()
    };
    net.arrived.iter().map(|it| items(&it.letter)).collect()
}

#[test]
fn an_incident_is_told_once_for_the_flock_and_once_that_it_is_over() {
    let mut net = three();
    net.is_wrong(Kind::ManagerLost, "b");
    net.run(HOUR);
    assert_eq!(steps(&net), [[("manager-lost.b".to_owned(), 1)]]);
    assert!(!net.arrived[0].letter.items[0].is_over());
    net.is_right(Kind::ManagerLost, "b");
    net.run(HOUR);
    assert_eq!(steps(&net)[1], [("manager-lost.b".to_owned(), 2)]);
    assert!(net.arrived[1].letter.items[0].closed.is_some());
    assert_eq!(net.arrived.len(), 2);
    let ids: Vec<&String> = net.arrived.iter().map(|it| &it.letter.items[0].id).collect();
    assert_eq!(ids[0], ids[1], "it is the same occurrence");
}

#[test]
fn a_second_occurrence_has_a_name_of_its_own() {
    let mut net = three();
    for _ in 0..2 {
        net.is_wrong(Kind::ManagerLost, "b");
        net.run(HOUR);
        net.is_right(Kind::ManagerLost, "b");
        net.run(HOUR);
    }
    assert_eq!(net.arrived.len(), 4);
    assert_eq!(net.names("ops").len(), 4, "a receiver drops none of them as a repeat");
}

#[test]
fn what_is_over_before_it_has_settled_is_nothing() {
    let mut net = three();
    for _ in 0..20 {
        net.is_wrong(Kind::ManagerLost, "b");
        net.run(10 * SECOND);
        net.is_right(Kind::ManagerLost, "b");
        net.run(10 * SECOND);
    }
    net.run(HOUR);
    assert_eq!(net.arrived, []);
}

#[test]
fn what_flaps_slowly_is_one_incident_while_somebody_is_being_told() {
    let mut net = three();
    net.away.insert("ops".into());
    for _ in 0..5 {
        net.is_wrong(Kind::ManagerLost, "b");
        net.run(MINUTE);
        net.is_right(Kind::ManagerLost, "b");
        net.run(MINUTE);
    }
    net.away.clear();
    net.run(HOUR);
    let ids: alloc::collections::BTreeSet<_> =
        net.arrived.iter().flat_map(|it| &it.letter.items).map(|it| it.id.clone()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(net.arrived.len(), 2, "that it began, and that it is over: {:?}", steps(&net));
    assert_eq!(net.arrived[1].letter.items[0].step, 10);
}

#[test]
fn incidents_of_one_moment_come_in_one_letter() {
    let mut net = three();
    for node in ["b", "c", "d", "e", "f"] {
        net.is_wrong(Kind::OnHold, node);
        net.run(SECOND);
    }
    net.run(HOUR);
    assert_eq!(net.arrived.len(), 1, "{:?}", steps(&net));
    assert_eq!(net.arrived[0].letter.items.len(), 5);
}

#[test]
fn a_target_is_not_written_to_more_often_than_it_may_and_misses_nothing() {
    let mut net = three();
    for node in 0..120 {
        net.is_wrong(Kind::OnHold, &format!("n{node}"));
        net.run(30 * SECOND);
    }
    let within = net.arrived.len();
    assert!((12..=16).contains(&within), "{within} letters in an hour");
    net.run(3 * HOUR);
    assert_eq!(net.told("ops").len(), 120);
}

#[test]
fn a_target_that_is_away_is_tried_ever_more_rarely_and_gets_all_of_it_later() {
    let mut net = three();
    net.away.insert("ops".into());
    net.is_wrong(Kind::GivenUp, "b");
    net.run(3 * HOUR);
    let times: Vec<_> = net.attempts.iter().map(|(at, _)| *at).collect();
    let waits: Vec<Duration> = times.windows(2).map(|two| two[1].since(two[0])).collect();
    assert!(waits[0] >= 4 * SECOND && waits[0] <= 6 * SECOND, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 18 * MINUTE), "{waits:?}");
    assert!(waits.iter().rev().take(4).all(|wait| *wait >= 12 * MINUTE), "{waits:?}");
    let failing: Vec<&Event> =
        net.events.iter().filter(|event| matches!(event, Event::Failing { .. })).collect();
    assert_eq!(failing.len(), 1, "it is said once, not each time");
    for node in ["c", "d"] {
        net.is_wrong(Kind::GivenUp, node);
    }
    net.away.clear();
    net.run(HOUR);
    assert_eq!(net.arrived.len(), 2, "what had waited, and what came since: {:?}", steps(&net));
}

#[test]
fn a_target_that_is_away_keeps_no_other_waiting() {
    let targets = vec![("ops".into(), vec![]), ("chat".into(), vec![])];
    let mut net = Net::new(&["a", "b"], Config { targets, ..config() });
    net.elects(Some("a"));
    net.away.insert("ops".into());
    for node in ["b", "c"] {
        net.is_wrong(Kind::GivenUp, node);
        net.run(10 * MINUTE);
    }
    assert_eq!(net.names("chat").len(), 2);
    assert_eq!(net.names("ops").len(), 0);
    net.away.clear();
    net.run(HOUR);
    assert_eq!(net.told("ops").len(), 2);
}

#[test]
fn a_master_that_dies_at_any_step_leaves_one_letter_of_one_name() {
    for written in [false, true] {
        let mut steps = 0;
        for dies_after in 0..12 {
            let mut net = three();
            net.dies_after = Some(dies_after);
            net.dies_having_written = written;
            net.is_wrong(Kind::ManagerLost, "x");
            net.run(2 * MINUTE);
            steps += usize::from(net.master.is_none());
            net.dies_after = None;
            net.elects(Some("b"));
            net.run(HOUR);
            let told = net.told("ops");
            assert_eq!(told.len(), 1, "dies after {dies_after}: {told:?}");
            for names in told.values() {
                assert_eq!(names.len(), 1, "dies after {dies_after}: {names:?}");
            }
            // What comes twice under one name is the same letter.
            assert!(net.arrived.windows(2).all(|two| two[0].letter == two[1].letter));
        }
        assert!(steps >= 3, "it died at {steps} steps only: noting, claiming, sending");
    }
}

#[test]
fn a_master_that_dies_with_a_letter_of_several_leaves_them_together() {
    for dies_after in 0..8 {
        let mut net = three();
        net.dies_after = Some(dies_after);
        net.dies_having_written = true;
        for node in ["x", "y", "z"] {
            net.is_wrong(Kind::GivenUp, node);
        }
        net.run(2 * MINUTE);
        net.dies_after = None;
        net.elects(Some("c"));
        net.is_wrong(Kind::GivenUp, "later");
        net.run(HOUR);
        for (step, names) in net.told("ops") {
            assert_eq!(names.len(), 1, "{step:?} came as {names:?}, dies after {dies_after}");
        }
        assert_eq!(net.told("ops").len(), 4);
    }
}

#[test]
fn what_a_node_sees_of_itself_the_master_tells() {
    let mut net = three();
    net.is_wrong(Kind::Certificate, "c");
    net.run(HOUR);
    assert_eq!(steps(&net), [[("certificate.c".to_owned(), 1)]]);
    assert_eq!(net.arrived[0].letter.items[0].seen_by, "c");
    // It is for the node itself to say that it is over.
    net.kill("c");
    net.is_right(Kind::Certificate, "c");
    net.run(HOUR);
    assert_eq!(net.arrived.len(), 1);
    net.start("c");
    net.run(HOUR);
    assert_eq!(steps(&net)[1], [("certificate.c".to_owned(), 2)]);
}

#[test]
fn a_flock_without_targets_notes_nothing() {
    let mut net = Net::new(&["a", "b"], Config::default());
    net.elects(Some("a"));
    net.is_wrong(Kind::ManagerLost, "b");
    net.is_wrong(Kind::Certificate, "b");
    net.run(HOUR);
    assert_eq!(net.notices(), []);
}

#[test]
fn a_node_without_a_master_tells_by_itself_after_a_while_and_only_what_is_its_own() {
    let mut net = three();
    net.elects(None);
    net.is_wrong(Kind::SemiMastery, "a");
    net.is_wrong(Kind::ManagerLost, "b");
    net.run(MINUTE);
    assert_eq!(net.arrived, [], "there may be a master in a moment");
    net.kill("b");
    net.kill("c");
    net.run(HOUR);
    assert_eq!(steps(&net), [[("semi-mastery.a".to_owned(), 1)]]);
    net.is_right(Kind::SemiMastery, "a");
    net.elects(Some("a"));
    net.run(HOUR);
    let told: Vec<Vec<(String, u32)>> = steps(&net);
    assert!(told[1..].concat().contains(&("semi-mastery.a".to_owned(), 2)), "{told:?}");
    assert!(told[1..].concat().contains(&("manager-lost.b".to_owned(), 1)), "{told:?}");
}

#[test]
fn a_short_time_without_a_master_is_nothing() {
    let mut net = three();
    for _ in 0..10 {
        net.elects(None);
        net.is_wrong(Kind::NoMaster, "a");
        net.run(MINUTE);
        net.is_right(Kind::NoMaster, "a");
        net.elects(Some("b"));
        net.run(MINUTE);
    }
    assert_eq!(net.arrived, []);
}

#[test]
fn what_is_momentary_is_told_once_and_never_over() {
    let mut net = three();
    net.is_wrong(Kind::Fork, "amber-heron-2");
    net.run(HOUR);
    net.elects(Some("b"));
    net.run(HOUR);
    net.is_right(Kind::Fork, "amber-heron-2");
    net.run(HOUR);
    assert_eq!(steps(&net), [[("fork.amber-heron-2".to_owned(), 1)]]);
}

#[test]
fn more_incidents_than_fit_are_counted_and_told() {
    let mut net = three();
    net.away.insert("ops".into());
    for node in 0..400 {
        net.wrong.insert((Kind::OnHold, format!("n{node}")));
        if node % 16 == 0 {
            net.tell_all();
            net.run(SECOND);
        }
    }
    net.tell_all();
    net.run(HOUR);
    assert!(net.notices().len() <= MAX_NOTICES + 1, "{} entries", net.notices().len());
    let dropped = net.desks["a"].dropped();
    let events = net.events.iter().filter(|it| matches!(it, Event::Dropped { .. })).count();
    assert!(dropped > 0 && events as u64 == dropped, "{dropped} dropped, {events} events");
    net.away.clear();
    net.run(48 * HOUR);
    let told = net.told("ops");
    assert!(told.keys().any(|(incident, ..)| incident == "dropped.a"), "{told:?}");
}

#[test]
fn what_is_over_for_long_is_forgotten() {
    let mut net = three();
    net.is_wrong(Kind::ManagerLost, "b");
    net.run(HOUR);
    net.is_right(Kind::ManagerLost, "b");
    net.run(HOUR);
    assert_eq!(net.notices().len(), 2, "it, and who is told");
    net.run(8 * 24 * HOUR);
    net.tell_all();
    net.run(HOUR);
    assert_eq!(net.notices().len(), 1);
}

#[test]
fn a_target_hears_of_the_kinds_that_it_wants() {
    let targets = vec![("ops".into(), vec![]), ("boss".into(), vec![Kind::Fork])];
    let mut net = Net::new(&["a", "b"], Config { targets, ..config() });
    net.elects(Some("a"));
    net.is_wrong(Kind::GivenUp, "b");
    net.is_wrong(Kind::Fork, "amber-heron-2");
    net.run(HOUR);
    assert_eq!((net.told("ops").len(), net.told("boss").len()), (2, 1));
}

#[test]
fn a_config_that_cannot_work_is_refused() {
    let many = (0..9).map(|number| (format!("t{number}"), vec![])).collect();
    let refused = |config: Config| config.validate().unwrap_err();
    assert_eq!(refused(Config { targets: many, ..config() }), ConfigError::Targets);
    assert_eq!(refused(Config { per_hour: 0, ..config() }), ConfigError::Rate);
    assert_eq!(refused(Config { retry_last: SECOND, ..config() }), ConfigError::Retry);
}

#[test]
fn a_target_that_comes_later_is_told_what_is_open_and_one_that_stays_is_told_nothing_again() {
    let mut net = three();
    net.is_wrong(Kind::OnHold, "x");
    net.run(MINUTE);
    assert_eq!(net.names("ops").len(), 1);
    net.targets(&["chat", "ops"]);
    net.run(MINUTE);
    assert_eq!((net.names("ops").len(), net.names("chat").len()), (1, 1));
    assert_eq!(net.arrived.len(), 2, "{:?}", steps(&net));
    // It is gone for a while, in which another node becomes master, and comes back.
    net.targets(&["ops"]);
    net.run(MINUTE);
    net.is_right(Kind::OnHold, "x");
    net.elects(Some("b"));
    net.run(MINUTE);
    net.targets(&["chat", "ops"]);
    net.run(HOUR);
    assert_eq!(net.told("ops").len(), 2, "that it began, and that it is over");
    assert!(net.told("ops").values().all(|names| names.len() == 1));
    assert!(net.told("chat").values().all(|names| names.len() == 1));
}

#[test]
fn what_is_due_to_a_target_that_this_master_cannot_tell_waits_for_the_next() {
    let mut net = three();
    net.away.insert("ops".into());
    net.is_wrong(Kind::OnHold, "x");
    net.run(HOUR);
    assert_eq!(net.arrived, []);
    net.away.clear();
    net.elects(Some("b"));
    net.run(2 * MINUTE);
    assert_eq!(steps(&net), [[("on-hold.x".to_owned(), 1)]]);
    net.elects(Some("a"));
    net.run(HOUR);
    assert_eq!(net.names("ops").len(), 1, "{:?}", steps(&net));
}
