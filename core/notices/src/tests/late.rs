//! Answers that come late, writes that are refused, and nodes that told something alone before
//! they became master, or got one.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::WallTime;

use crate::tests::net::Net;
use crate::{
    Claim, Config, Event, Incident, Kind, MAX_ID_BYTES, MAX_LETTER_BYTES, MAX_NOTICES,
    MAX_SEEN_BY_BYTES, MAX_STEP, MAX_TARGET_BYTES, MAX_TEXT_BYTES, MAX_TOLD, Notice, Told,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn two_targets(nodes: &[&str]) -> Net {
    let targets = vec![("ops".into(), vec![]), ("chat".into(), vec![])];
    let mut net = Net::new(nodes, Config { targets, ..Config::default() });
    net.elects(Some("a"));
    net.run(MINUTE);
    net
}

/// The incidents and steps that a target was told of, one after the other.
fn told(net: &Net, target: &str) -> Vec<(String, u32)> {
    let of = net.arrived.iter().filter(|it| it.target == target);
    of.flat_map(|it| &it.letter.items).map(|it| (it.incident.to_string(), it.step)).collect()
}

fn step(incident: &str, step: u32) -> (String, u32) {
    (incident.to_owned(), step)
}

#[test]
fn a_node_that_told_something_alone_sends_no_letter_of_the_flock_twice() {
    let mut net = two_targets(&["a", "b"]);
    net.takes = Duration::from_millis(20);
    net.elects(None);
    net.away.insert("chat".into());
    net.is_wrong(Kind::SemiMastery, "a");
    net.run(HOUR);
    assert_eq!(told(&net, "ops"), [step("semi-mastery.a", 1)]);
    net.is_right(Kind::SemiMastery, "a");
    net.elects(Some("a"));
    net.is_wrong(Kind::GivenUp, "b");
    // What is told alone waits for the one that is away; the flock's letters go on meanwhile.
    net.run(HOUR);
    let expected = [step("semi-mastery.a", 1), step("semi-mastery.a", 2), step("given-up.b", 1)];
    assert_eq!(told(&net, "ops").len(), 3, "{:?}", told(&net, "ops"));
    assert!(expected.iter().all(|it| told(&net, "ops").contains(it)), "{:?}", told(&net, "ops"));
    net.away.clear();
    net.run(HOUR);
    assert!(told(&net, "chat").contains(&step("given-up.b", 1)), "{:?}", told(&net, "chat"));
}

#[test]
fn what_was_told_alone_is_told_to_be_over_though_nothing_else_is_due() {
    let mut net = two_targets(&["a"]);
    net.elects(None);
    net.is_wrong(Kind::SemiMastery, "a");
    net.run(10 * MINUTE);
    net.is_right(Kind::SemiMastery, "a");
    net.elects(Some("a"));
    net.run(10 * MINUTE);
    for target in ["ops", "chat"] {
        assert_eq!(told(&net, target), [step("semi-mastery.a", 1), step("semi-mastery.a", 2)]);
    }
}

#[test]
fn a_letter_that_a_dead_master_left_and_one_of_its_own_keep_apart() {
    for dies_after in 1..6 {
        let mut net = two_targets(&["a", "b"]);
        net.takes = Duration::from_millis(50);
        net.is_wrong(Kind::GivenUp, "x");
        net.dies_after = Some(dies_after);
        net.dies_having_written = true;
        net.run(MINUTE);
        net.dies_after = None;
        net.elects(None);
        net.is_wrong(Kind::SemiMastery, "b");
        net.run(10 * MINUTE);
        net.is_right(Kind::SemiMastery, "b");
        net.elects(Some("b"));
        net.run(HOUR);
        for target in ["ops", "chat"] {
            for (step, names) in net.told(target) {
                assert_eq!(names.len(), 1, "{step:?} came to {target} as {names:?}");
            }
            let told = told(&net, target);
            let times = |incident| told.iter().filter(|it| **it == step(incident, 1)).count();
            assert!(told.contains(&step("semi-mastery.b", 2)), "{target}: {told:?}");
            assert_eq!(times("semi-mastery.b"), 1, "{target}: {told:?}");
            let given_up = times("given-up.x");
            assert!((1..=2).contains(&given_up), "the dead master's, and the next one's: {told:?}");
        }
    }
}

#[test]
fn what_is_momentary_every_target_hears_whenever_it_can() {
    let mut net = two_targets(&["a", "b"]);
    net.away.insert("chat".into());
    net.is_wrong(Kind::GivenUp, "b");
    net.run(MINUTE);
    // chat's letter about b is under way: the fork must wait there, and ops hears of it at once.
    net.is_wrong(Kind::Fork, "amber-heron-2");
    net.run(10 * MINUTE);
    assert!(told(&net, "ops").contains(&step("fork.amber-heron-2", 1)));
    net.away.clear();
    net.run(HOUR);
    assert_eq!(told(&net, "chat"), [step("given-up.b", 1), step("fork.amber-heron-2", 1)]);
}

#[test]
fn a_write_that_is_refused_uses_up_no_letter() {
    let mut net = two_targets(&["a", "b"]);
    net.is_wrong(Kind::GivenUp, "b");
    net.run(5 * SECOND);
    net.refuses = 30;
    net.run(MINUTE);
    let first: Vec<_> = net.arrived.iter().map(|it| it.target.clone()).collect();
    assert_eq!(first.len(), 2, "each has it within the minute: {first:?}");
}

#[test]
fn how_many_were_dropped_is_told_though_the_write_is_refused_at_first() {
    let mut net = two_targets(&["a"]);
    for target in ["ops", "chat"] {
        net.away.insert(target.into());
    }
    for node in 0..300 {
        net.wrong.insert((Kind::OnHold, format!("n{node:03}")));
        if node % 16 == 0 {
            net.tell_all();
            net.refuses = usize::from(node % 32 == 0);
            net.run(2 * SECOND);
        }
    }
    net.tell_all();
    net.run(HOUR);
    let dropped = net.desks["a"].dropped();
    let counted: u64 = net
        .ever_said
        .iter()
        .filter(|(incident, _)| incident.kind == Kind::Dropped)
        .map(|(_, what)| what.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, dropped, "{:?}", net.ever_said);
}

#[test]
fn what_a_node_told_of_itself_alone_goes_on_when_there_is_a_master() {
    let mut net = two_targets(&["a", "b"]);
    net.elects(None);
    net.is_wrong(Kind::DiskFailed, "b");
    net.run(HOUR);
    assert_eq!(told(&net, "ops"), [step("disk-failed.b", 1)]);
    net.elects(Some("a"));
    net.run(HOUR);
    assert_eq!(told(&net, "ops"), [step("disk-failed.b", 1)], "it is still so");
    let noted = net.notices().into_iter().find(|it| it.incident.kind == Kind::DiskFailed);
    let noted = noted.expect("the flock knows it now");
    assert_eq!(noted.id, net.arrived[0].letter.items[0].id, "it is the same occurrence");
    net.is_right(Kind::DiskFailed, "b");
    net.run(HOUR);
    for target in ["ops", "chat"] {
        assert_eq!(told(&net, target), [step("disk-failed.b", 1), step("disk-failed.b", 2)]);
    }
}

#[test]
fn what_is_handed_over_while_a_target_is_away_is_told_there_once() {
    let mut net = two_targets(&["a", "b"]);
    net.takes = SECOND;
    net.elects(None);
    net.away.insert("chat".into());
    net.is_wrong(Kind::Certificate, "b");
    net.run(HOUR);
    net.elects(Some("a"));
    net.run(HOUR);
    net.away.clear();
    net.run(HOUR);
    for target in ["ops", "chat"] {
        assert_eq!(told(&net, target), [step("certificate.b", 1)]);
    }
    let open = |it: &Notice| it.is_open() && it.incident.kind != Kind::Targets;
    let open = net.notices().into_iter().filter(open).count();
    assert_eq!(open, 1, "{:?}", net.notices());
    net.is_right(Kind::Certificate, "b");
    net.run(HOUR);
    assert_eq!(told(&net, "chat"), [step("certificate.b", 1), step("certificate.b", 2)]);
}

#[test]
fn a_letter_under_way_stays_what_it_is_though_another_sees_the_incident_again() {
    let mut net = two_targets(&["a", "b"]);
    net.away.insert("ops".into());
    net.is_wrong(Kind::GivenUp, "x");
    net.run(MINUTE);
    net.is_right(Kind::GivenUp, "x");
    net.run(MINUTE);
    net.elects(Some("b"));
    net.is_wrong(Kind::GivenUp, "x");
    net.run(MINUTE);
    net.away.clear();
    net.run(HOUR);
    let first = net.arrived.iter().find(|it| it.target == "ops").unwrap();
    assert_eq!(first.letter.items[0].seen_by, "a", "as it was claimed, and perhaps sent");
}

#[test]
fn entries_that_nobody_can_read_keep_nobody_from_being_told() {
    let mut net = two_targets(&["a", "b"]);
    net.garbles(Kind::GivenUp, "b");
    net.garbles(Kind::GivenUp, "x");
    net.is_wrong(Kind::GivenUp, "b");
    net.run(HOUR);
    assert_eq!(told(&net, "ops"), [step("given-up.b", 1)]);
    net.is_right(Kind::GivenUp, "b");
    net.run(HOUR);
    assert_eq!(told(&net, "ops").len(), 2);
}

/// An entry of the longest parts, as a member that went bad may write one.
fn longest(net: &Net, subject: char, targets: usize) -> Notice {
    let claim = |at: usize| Claim {
        letter: format!("{at:0>MAX_LETTER_BYTES$}"),
        step: MAX_STEP,
        closed: None,
    };
    let told = |at: usize| {
        let letter = Some(claim(at));
        (format!("{at:0>MAX_TARGET_BYTES$}"), Told { step: 0, letter })
    };
    Notice {
        incident: Incident::new(Kind::OnHold, &subject.to_string().repeat(200)),
        id: "0".repeat(MAX_ID_BYTES),
        what: "w".repeat(MAX_TEXT_BYTES),
        hint: "h".repeat(MAX_TEXT_BYTES),
        seen_by: "s".repeat(MAX_SEEN_BY_BYTES),
        opened: net.wall(),
        closed: None,
        step: 1,
        told: (0..targets).map(told).collect(),
    }
}

#[test]
fn long_entries_with_many_foreign_targets_come_in_as_many_letters_as_they_need() {
    let mut net = two_targets(&["a", "b"]);
    for subject in 'c'..='w' {
        net.forges(longest(&net, subject, MAX_TOLD));
    }
    net.is_wrong(Kind::GivenUp, "b");
    net.run(24 * HOUR);
    for target in ["ops", "chat"] {
        let told = told(&net, target);
        assert!(told.contains(&step("given-up.b", 1)), "{told:?}");
        for subject in 'c'..='w' {
            let incident = longest(&net, subject, 0).incident.to_string();
            let over = told.iter().filter(|it| **it == step(&incident, 2)).count();
            assert_eq!(over, 1, "{incident} is over: {told:?}");
        }
    }
}

#[test]
fn an_entry_beyond_any_bound_is_none() {
    let net = two_targets(&["a"]);
    let good = longest(&net, 'x', MAX_TOLD);
    assert!(good.is_plain(), "{good:?}");
    let bad: [fn(&mut Notice); 7] = [
        |it| it.step = u32::MAX,
        |it| it.what.push('w'),
        |it| it.hint = "two\nlines".into(),
        |it| it.id = "X-Header: y".into(),
        |it| it.told.values_mut().for_each(|told| told.step = u32::MAX),
        |it| {
            it.told.insert("a\r\nb".into(), Told::default());
        },
        |it| {
            let claim = Claim { letter: "a\r\nb".into(), step: 1, closed: None };
            it.told.insert("ops".into(), Told { step: 0, letter: Some(claim) });
        },
    ];
    for spoil in bad {
        let mut notice = good.clone();
        notice.told.pop_first();
        spoil(&mut notice);
        assert!(!notice.is_plain(), "{notice:?}");
        let mut net = two_targets(&["a"]);
        let incident = notice.incident.clone();
        net.forges(notice);
        net.is_wrong(incident.kind, &incident.subject);
        net.run(HOUR);
        assert_eq!(told(&net, "ops"), [step(&incident.to_string(), 1)]);
    }
}

#[test]
fn a_letter_that_is_refused_for_good_for_a_day_keeps_no_later_one_waiting() {
    let mut net = two_targets(&["a", "b"]);
    net.away.insert("ops".into());
    net.refusing.insert("ops".into());
    net.is_wrong(Kind::GivenUp, "x");
    net.run(23 * HOUR);
    net.is_wrong(Kind::GivenUp, "y");
    let given_up = |net: &Net| {
        let of = |it: &&Event| matches!(it, Event::GivenUp { target, .. } if target == "ops");
        net.events.iter().filter(of).count()
    };
    assert_eq!(given_up(&net), 0);
    net.run(90 * MINUTE);
    assert_eq!(given_up(&net), 1, "{:?}", net.events);
    net.away.clear();
    net.run(HOUR);
    assert_eq!(told(&net, "ops"), [step("given-up.y", 1)]);
    assert_eq!(told(&net, "chat"), [step("given-up.x", 1), step("given-up.y", 1)]);
}

#[test]
fn a_letter_that_merely_cannot_be_handed_over_is_never_given_up() {
    let mut net = two_targets(&["a", "b"]);
    net.away.insert("ops".into());
    net.is_wrong(Kind::GivenUp, "x");
    net.run(100 * HOUR);
    net.away.clear();
    net.run(HOUR);
    assert_eq!(told(&net, "ops"), [step("given-up.x", 1)]);
}

#[test]
fn what_a_node_could_not_have_noted_is_told_though_another_is_master() {
    let mut net = two_targets(&["a", "b"]);
    for target in ["ops", "chat"] {
        net.away.insert(target.into());
    }
    // With the entry that says who is told there are as many as are remembered.
    for node in 0..MAX_NOTICES - 1 {
        net.wrong.insert((Kind::OnHold, format!("n{node:03}")));
    }
    net.tell_all();
    net.run(HOUR);
    net.is_wrong(Kind::Certificate, "b");
    net.run(HOUR);
    assert_eq!(net.desks["b"].dropped(), 1);
    net.away.clear();
    net.run(48 * HOUR);
    let told = told(&net, "ops");
    assert!(told.contains(&step("dropped.b", 1)), "{told:?}");
}

#[test]
fn what_another_nodes_clock_says_was_over_long_ago_is_remembered_for_a_while() {
    let mut net = two_targets(&["a"]);
    let all = Told { step: 2, letter: None };
    let told = ["ops", "chat"].map(|target| (target.to_owned(), all.clone()));
    let (opened, closed) = (WallTime::from_unix_ms(1), Some(WallTime::from_unix_ms(2)));
    let notice = Notice { opened, closed, step: 2, told: told.into(), ..longest(&net, 'x', 0) };
    // By this desk's clock both were weeks ago.
    net.now = net.now + 1000 * HOUR;
    net.forges(notice);
    net.run(30 * MINUTE);
    net.tell_all();
    assert_eq!(net.notices().len(), 2, "it, and who is told");
    net.run(HOUR);
    net.tell_all();
    net.run(MINUTE);
    assert_eq!(net.notices().len(), 1);
}
