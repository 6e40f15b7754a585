//! Who leads a merge: an order that is total, that every node computes alike, and that does not
//! depend on who meets whom first (DVM-27, 28; BLOC-17).

use std::time::Duration;

use proptest::prelude::*;
use skep_base::Rng;

use super::net::Net;
use crate::merge::order;
use crate::message::FlockClaim;
use crate::plant::{self, Bug};
use crate::{ForkId, Founding, Generation, Lineage, Role, Stamp};

const SECOND: Duration = Duration::from_secs(1);

/// A flock that acknowledged something, weak and live.
fn claim(lineage: u64) -> FlockClaim {
    FlockClaim {
        lineage: Lineage(lineage),
        fork: ForkId(lineage),
        generation: Generation(2),
        stamp: Stamp::default(),
        strong: false,
        founding: Founding(0),
        acknowledged: true,
        rebooted: false,
        mastership: 4,
        parent: None,
        managers: Vec::new(),
        learners: Vec::new(),
        sync: Vec::new(),
        roster: 3,
        merging: false,
        there: 3,
        strict: false,
    }
}

/// Few values of each part, so that flocks are often alike in most of them.
fn claims() -> impl Strategy<Value = FlockClaim> {
    let parts = (
        any::<bool>(),
        prop::option::of(1..3_u64),
        any::<bool>(),
        0..3_u64,
        0..3_u8,
        1..4_u64,
        (any::<u8>(), any::<u8>(), any::<bool>(), any::<bool>()),
    );
    parts.prop_map(|(acknowledged, founding, rebooted, generation, mastership, lineage, rest)| {
        let (roster, there, merging, strict) = rest;
        FlockClaim {
            acknowledged,
            strong: founding.is_some(),
            founding: Founding(founding.unwrap_or(0)),
            rebooted,
            generation: Generation(generation),
            mastership,
            roster,
            there,
            merging,
            strict,
            ..claim(lineage)
        }
    })
}

/// Whether the first leads the second.
fn leads(one: &FlockClaim, other: &FlockClaim) -> bool {
    order(one) > order(other)
}

proptest! {
    /// Of two flocks exactly one leads, whoever looks; and flocks are told apart by their lineage
    /// where all else is alike.
    #[test]
    fn of_two_flocks_exactly_one_leads(one in claims(), other in claims()) {
        prop_assert!(!leads(&one, &one));
        if one.lineage == other.lineage {
            prop_assert!(!(leads(&one, &other) && leads(&other, &one)));
        } else {
            prop_assert!(leads(&one, &other) != leads(&other, &one));
        }
    }

    #[test]
    fn whoever_leads_one_that_leads_a_third_leads_the_third(
        one in claims(), other in claims(), third in claims(),
    ) {
        if leads(&one, &other) && leads(&other, &third) {
            prop_assert!(leads(&one, &third));
        }
    }

    /// Pairwise, in whatever order: the one that is left is the same.
    #[test]
    fn flocks_that_meet_two_by_two_leave_the_same_one(
        flocks in prop::collection::vec(claims(), 1..10),
        met in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 9),
    ) {
        let mut flocks = flocks;
        for (number, flock) in (1..).zip(&mut flocks) {
            flock.lineage = Lineage(number);
        }
        let greatest = flocks.iter().map(order).max();
        let mut left = flocks;
        for [one, other] in met {
            let (one, other) = (one.index(left.len()), other.index(left.len()));
            if one != other {
                let gone = if leads(&left[one], &left[other]) { other } else { one };
                left.remove(gone);
            }
        }
        while left.len() > 1 {
            let gone = usize::from(leads(&left[0], &left[1]));
            left.remove(gone);
        }
        prop_assert_eq!(left.first().map(order), greatest);
    }
}

/// Each part of the order decides against all that come after it, and for nothing else.
#[test]
fn dvm_28_each_part_of_the_order_outweighs_all_that_come_after() {
    type Change = fn(&mut FlockClaim);
    // What leads, and what makes the other better in that part.
    let parts: [(&str, Change, Change); 6] = [
        ("acknowledged", |it| it.acknowledged = true, |it| it.acknowledged = false),
        (
            "strong, and of the higher founding",
            |it| (it.strong, it.founding) = (true, Founding(2)),
            |it| (it.strong, it.founding) = (true, Founding(1)),
        ),
        ("live", |it| it.rebooted = false, |it| it.rebooted = true),
        (
            "the lower generation",
            |it| it.generation = Generation(1),
            |it| it.generation = Generation(2),
        ),
        ("the longer mastership", |it| it.mastership = 9, |it| it.mastership = 8),
        ("the lower lineage", |it| it.lineage = Lineage(1), |it| it.lineage = Lineage(2)),
    ];
    for (at, (name, better, worse)) in parts.iter().enumerate() {
        let (mut one, mut other) = (claim(7), claim(7));
        better(&mut one);
        worse(&mut other);
        assert!(leads(&one, &other) && !leads(&other, &one), "{name}");
        for (_, better, worse) in &parts[at + 1..] {
            worse(&mut one);
            better(&mut other);
        }
        assert!(leads(&one, &other) && !leads(&other, &one), "{name}, whatever comes after");
    }
    let (weak, mut strong) = (claim(1), claim(2));
    (strong.strong, strong.founding, strong.generation) = (true, Founding(1), Generation(9));
    assert!(leads(&strong, &weak), "strong before weak");
    let mut was_strong = claim(2);
    was_strong.founding = Founding(3);
    assert!(!leads(&was_strong, &weak), "a founding number counts for the strong alone");
}

/// Ten flocks that formed apart and wrote; all are masters for between one and two minutes while
/// they meet. Gives their lineages.
fn ten_apart(seed: u64) -> (Net, Vec<Lineage>) {
    let mut net = Net::new(10, seed);
    for a in 0..10 {
        (0..a).for_each(|b| net.cut(a, b));
    }
    (0..10).for_each(|on| net.start(on));
    net.run_until(10 * SECOND, |net| net.masters().len() == 10);
    (0..10).for_each(|on| {
        net.propose(on, &format!("{on} wrote"));
    });
    net.run(68 * SECOND);
    let lineages = (0..10).map(|on| net.view(on).flock.unwrap().lineage).collect();
    assert_eq!(net.acknowledged.len(), 10, "{}", net.dump());
    (net, lineages)
}

/// They meet part by part, two of them at a time, as chance has it, and one pair often before the
/// one before is done.
fn meet_as_chance_has_it(net: &mut Net, chance: u64) {
    let mut chance = Rng::seeded(chance);
    let mut parts: Vec<Vec<usize>> = (0..10).map(|on| vec![on]).collect();
    while parts.len() > 1 {
        chance.shuffle(&mut parts);
        let (one, mut other) = (parts.pop().unwrap(), parts.pop().unwrap());
        for a in &one {
            other.iter().for_each(|b| net.uncut(*a, *b));
        }
        other.extend(one);
        parts.push(other);
        net.run(Duration::from_millis(chance.within(0..4_000)));
    }
    net.run_until(50 * SECOND, Net::is_settled);
}

#[test]
fn dvm_28_ten_flocks_that_meet_in_any_order_end_in_the_same_one() {
    for seed in 0..3 {
        for chance in 0..2 {
            let (mut net, lineages) = ten_apart(900 + seed);
            meet_as_chance_has_it(&mut net, chance);
            let left = net.view(net.master()).flock.unwrap().lineage;
            let first = lineages.into_iter().min().unwrap();
            assert_eq!(left, first, "seed {seed}, chance {chance}\n{}", net.dump());
            net.check_kept();
            net.assert_sound();
        }
    }
}

/// A backup is replaced while it is away, comes back, and takes the place of the next that is.
fn demoted_and_enlisted_again(seed: u64) -> Net {
    let mut net = Net::settled(4, seed);
    net.run(2 * SECOND);
    let backups = |net: &Net| {
        let of = |on: &usize| net.role(*on) == Role::Backup;
        net.up().filter(of).collect::<Vec<usize>>()
    };
    let [first, next] = backups(&net)[..] else { panic!("{}", net.dump()) };
    net.cut_power(first);
    net.run_until(40 * SECOND, |net| backups(net).len() == 2 && !backups(net).contains(&first));
    net.start(first);
    net.run_until(40 * SECOND, |net| net.role(first) == Role::Eligible);
    net.run(2 * SECOND);
    net.cut_power(next);
    net.run_until(60 * SECOND, |net| backups(net).contains(&first) || !net.faults.is_empty());
    net
}

#[test]
fn the_checker_sees_a_node_that_is_a_manager_again_under_the_id_of_before() {
    for seed in 0..3 {
        demoted_and_enlisted_again(920 + seed).assert_sound();
    }
    plant::set(Some(Bug::OneRaftId));
    let found =
        (0..3).filter(|seed| !demoted_and_enlisted_again(920 + seed).faults.is_empty()).count();
    plant::set(None);
    assert_eq!(found, 3);
}

#[test]
fn bloc_11_parts_have_names_of_their_own_and_one_again_when_they_meet() {
    let mut net = Net::settled(8, 930);
    let name = |net: &Net, on: usize| net.view(on).flock.map(|flock| flock.name);
    let before = name(&net, 0);
    assert!(before.is_some());
    assert!((0..8).all(|on| name(&net, on) == before), "{}", net.dump());
    let (master, backup) = (net.master(), net.up().find(|on| net.role(*on) == Role::Backup));
    let mut apart: Vec<usize> = net.up().filter(|on| net.role(*on) == Role::Eligible).collect();
    apart.truncate(3);
    apart.extend(backup);
    net.split(&apart);
    net.run_until(90 * SECOND, |net| net.masters().len() == 2);
    let there = net.masters().into_iter().find(|on| apart.contains(on)).unwrap();
    assert_eq!(name(&net, master), before, "the generation is the same, and so is the name");
    let other = name(&net, there);
    let second = other.as_ref().is_some_and(|name| name.ends_with("-2"));
    assert!(second && other != before, "{other:?}");
    net.run_until(20 * SECOND, |net| apart.iter().all(|on| name(net, *on) == other));
    net.heal();
    net.run_until(90 * SECOND, Net::is_settled);
    assert!((0..8).all(|on| name(&net, on) == before), "the lower generation leads");
    net.assert_sound();
}
