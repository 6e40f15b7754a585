//! What is handed over of a history that merges into another, and when it may end.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use skep_wire::{decode, encode};

use super::net::{Makes, Net};
use crate::merge::order;
use crate::stored::{Entry, Image, Payload, Record, State, SyncSet};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

/// Flocks of one each, apart, with so many long writes each. Who leads the others comes first.
fn apart(count: usize, seed: u64, writes: usize) -> (Net, Vec<usize>) {
    let mut net = Net::new(count, seed);
    for a in 0..count {
        (0..a).for_each(|b| net.cut(a, b));
    }
    (0..count).for_each(|on| net.start(on));
    net.run_until(10 * SECOND, |net| net.masters().len() == count);
    // Of about the same age for the next half minute: then who leads stays as it is.
    net.run(33 * SECOND);
    let long = "x".repeat(2_000);
    for number in 0..writes {
        for on in 0..count {
            net.propose(on, &format!("{on} wrote {number} {long}"));
        }
        net.run(Duration::from_millis(5));
    }
    net.run(SECOND);
    assert_eq!(net.acknowledged.len(), count * writes);
    let mut all: Vec<usize> = (0..count).collect();
    let rank = |on: &usize| order(&net.machine(*on).flock_claim(net.now).unwrap());
    all.sort_by_key(|on| std::cmp::Reverse(rank(on)));
    (net, all)
}

fn bodies(entries: impl IntoIterator<Item = Decided>) -> BTreeSet<Bytes> {
    entries.into_iter().map(|entry| entry.body).collect()
}

/// Everything in a node's log, decided or not.
fn log_of(net: &Net, on: usize) -> BTreeSet<Bytes> {
    let group = net.machine(on).group.as_ref().unwrap();
    bodies(group.history.decided().chain(group.tail()))
}

fn ended(net: &Net, on: usize) -> bool {
    net.hosts[on].events.iter().any(|it| matches!(it, Event::MergedInto { .. }))
}

#[test]
fn what_is_being_taken_over_from_a_third_history_is_handed_on() {
    let mut half = 0;
    for seed in 0..6 {
        let (mut net, order) = apart(3, 1400 + seed, 300);
        let [best, middle, low] = order[..] else { panic!() };
        net.uncut(middle, low);
        let takes = |net: &Net| !net.machine(middle).mastership.as_ref().unwrap().taking.is_empty();
        net.run_until(10 * SECOND, takes);
        net.uncut(best, middle);
        net.run_until(10 * SECOND, |net| net.asks_to_merge(middle));
        let (held, under_way) = (log_of(&net, middle), takes(&net));
        assert!(held.len() > 300, "nothing was taken over yet");
        assert!(!ended(&net, low), "all was taken over already");
        half += usize::from(under_way);
        // What the third has reaches the first through this one alone.
        net.run_until(30 * SECOND, |net| ended(net, middle));
        let there = bodies(net.hosts[best].catalog.values().cloned());
        assert!(held.is_subset(&there), "seed {seed}\n{}", net.dump());
        net.heal();
        net.run_until(60 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
    assert!(half >= 3, "something was under way in {half} of 6");
}

/// Its disk is so slow that it begins to hand over before what it takes over is decided.
#[test]
fn what_is_decided_while_a_history_is_handed_over_follows_in_the_same_session() {
    for seed in 0..4 {
        let (mut net, order) = apart(3, 1440 + seed, 100);
        let [best, middle, low] = order[..] else { panic!() };
        net.uncut(middle, low);
        let takes = |net: &Net| !net.machine(middle).mastership.as_ref().unwrap().taking.is_empty();
        net.run_until(10 * SECOND, takes);
        net.hosts[middle].disk_delay = (8_000, 8_000);
        net.uncut(best, middle);
        net.run_until(10 * SECOND, |net| net.asks_to_merge(middle));
        let held = log_of(&net, middle);
        assert!(!net.machine(middle).group.as_ref().unwrap().tail().is_empty());
        net.run_until(20 * SECOND, |net| net.hosts[middle].asked.len() == 2);
        net.hosts[middle].disk_delay = (1, 8);
        let [first, second] = &net.hosts[middle].asked[..] else { panic!() };
        assert_eq!(second.common, first.entries.last().unwrap().index, "{}", net.dump());
        assert!(second.entries.len() > first.entries.len());
        net.run_until(30 * SECOND, |net| ended(net, middle));
        assert_eq!(net.hosts[middle].asked.len(), 2);
        let there = bodies(net.hosts[best].catalog.values().cloned());
        assert!(held.is_subset(&there), "seed {seed}\n{}", net.dump());
        net.heal();
        net.run_until(60 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn a_history_ends_only_when_its_host_has_said_what_it_holds() {
    for (seed, makes) in [(1410, Makes::Nothing), (1411, Makes::TooMuch), (1412, Makes::TooLong)] {
        let (mut net, order) = apart(2, seed, 20);
        let yields = order[1];
        net.hosts[yields].makes = makes;
        net.heal();
        net.run(30 * SECOND);
        let host = &net.hosts[yields];
        assert!(host.asked.len() >= 3, "it is begun anew: {}", net.dump());
        let mut refused = Vec::new();
        for event in &host.events {
            if let Event::HandOverRefused { bytes } = event {
                refused.push(*bytes);
            }
        }
        let long = |it: &usize| match makes {
            Makes::TooMuch => *it > MAX_HAND_OVER_BYTES,
            Makes::Items | Makes::Nothing | Makes::TooLong => *it == MAX_ENTRY_BYTES + 1,
        };
        assert!(refused.iter().all(long), "{refused:?}");
        assert_eq!(refused.is_empty(), makes == Makes::Nothing);
        assert!(!ended(&net, yields) && net.masters().len() == 2, "{}", net.dump());
        net.hosts[yields].makes = Makes::Items;
        net.run_until(60 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
}

/// What it has beyond its history nobody made items of.
#[test]
fn a_master_that_is_none_any_more_begins_anew_with_what_its_log_holds() {
    let mut deposed = 0;
    for seed in 0..8 {
        let mut net = Net::new(4, 1450 + seed);
        net.split(&[3]);
        (0..4).for_each(|on| net.start(on));
        net.run_until(30 * SECOND, |net| {
            net.masters().len() == 2 && net.up().filter(|on| backs_up(net, *on)).count() == 2
        });
        net.run(33 * SECOND);
        let master = *net.masters().iter().find(|on| **on != 3).unwrap();
        for on in [master, 3] {
            net.propose(on, &format!("of {on}"));
        }
        net.run(SECOND);
        let rank = |on: usize| order(&net.machine(on).flock_claim(net.now).unwrap());
        if rank(master) > rank(3) {
            continue;
        }
        deposed += 1;
        net.hosts[master].makes = Makes::Nothing;
        net.uncut(master, 3);
        net.run_until(10 * SECOND, |net| !net.hosts[master].asked.is_empty());
        (0..3).for_each(|on| net.cut(master, on));
        net.run_until(3 * SECOND, |net| net.role(master) != Role::Master);
        assert!(!net.asks_to_merge(master), "{}", net.dump());
        net.hosts[master].makes = Makes::Items;
        net.heal();
        net.run_until(90 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
    assert!(deposed >= 2, "{deposed} of 8 had to yield");
}

fn backs_up(net: &Net, on: usize) -> bool {
    net.role(on) == Role::Backup
}

/// A log in which the same term saw two stamps, and another term a third, of which nobody knows
/// whether they were decided.
#[test]
fn what_was_never_known_to_be_decided_is_handed_over_under_its_own_stamp_and_term() {
    let mut net = Net::settled(3, 1420);
    let holder = net.master();
    net.propose(holder, "before");
    net.run(SECOND);
    (0..3).for_each(|on| net.cut_power(on));
    let disk = &mut net.hosts[holder].disk;
    let mut state: State = decode("state", disk.state.as_ref().unwrap()).unwrap();
    let meta = Image::from_bytes(disk.image.as_ref().unwrap()).unwrap().meta;
    let mut voter = state.voter.unwrap();
    let (first, term, epoch) = (disk.entries.last().unwrap().index, voter.term, state.seen.epoch);
    let stamp = |more, master| Record::Stamp {
        epoch: Epoch(epoch.0 + more),
        master,
        sync: SyncSet { version: 0, members: vec![master] },
    };
    let catalog = |text: &'static str| Record::Catalog(Bytes::from_static(text.as_bytes()));
    let me = super::net::id(holder);
    let log = [
        (term, catalog("one")),
        (term, stamp(1, me)),
        (term, catalog("two")),
        (term + 1, stamp(2, me)),
        (term + 1, catalog("three")),
    ];
    for (at, (term, record)) in (first + 1..).zip(log) {
        let payload = Payload::Record(encode(&record).into());
        let body = encode(&Entry { index: at, term, payload }).into();
        disk.entries.push(StoredEntry { index: at, body });
    }
    voter.term = term + 1;
    voter.commit = first;
    state.voter = Some(voter);
    disk.state = Some(state.to_bytes());
    let fork = meta.fork;
    let entry = |at, more, term, text: &'static str| Decided {
        index: first + at,
        stamp: Stamp { epoch: Epoch(epoch.0 + more), fork },
        term,
        origin: Origin::Own,
        body: Bytes::from_static(text.as_bytes()),
    };
    let tail = [entry(1, 0, term, "one"), entry(3, 1, term, "two"), entry(5, 2, term + 1, "three")];
    // The others come back with nothing, and found a flock of their own.
    for on in (0..3).filter(|on| *on != holder) {
        net.lose_disk(on);
        net.start(on);
    }
    net.run_until(20 * SECOND, |net| net.masters().len() == 1);
    net.propose(net.master(), "theirs");
    net.run(SECOND);
    net.start(holder);
    assert_eq!(net.machine(holder).undecided(), tail);
    net.run_until(150 * SECOND, |net| !net.hosts[holder].asked.is_empty());
    let asked = &net.hosts[holder].asked[0];
    assert!(asked.entries.ends_with(&tail), "{:?}", asked.entries);
    assert_eq!(asked.common, 0);
    assert_eq!(asked.after, 0);
    net.run_until(60 * SECOND, Net::is_settled);
    let there = bodies(net.hosts[net.master()].catalog.values().cloned());
    assert!(bodies(tail).is_subset(&there), "{}", net.dump());
    net.check_kept();
    net.assert_sound();
}

#[test]
fn two_that_hold_the_same_hand_it_over_though_they_are_killed_half_way() {
    for seed in 0..4 {
        let mut net = Net::settled(4, 1430 + seed);
        let long = "x".repeat(2_000);
        let master = net.master();
        for number in 0..200 {
            net.propose(master, &format!("{number} {long}"));
            net.run(Duration::from_millis(5));
        }
        net.run(SECOND);
        let holders: Vec<usize> = net
            .up()
            .filter(|on| matches!(net.role(*on), Role::Master | Role::Backup))
            .take(2)
            .collect();
        (0..4).for_each(|on| net.cut_power(on));
        for on in (0..4).filter(|on| !holders.contains(on)) {
            net.lose_disk(on);
            net.start(on);
        }
        net.run_until(20 * SECOND, |net| net.masters().len() == 1);
        net.propose(net.master(), "theirs");
        net.run(SECOND);
        // Apart from one another they are no majority of their flock.
        net.cut(holders[0], holders[1]);
        holders.iter().for_each(|on| net.start(*on));
        for on in &holders {
            let begun = |net: &Net| !net.hosts[*on].asked.is_empty();
            net.run_until(150 * SECOND, begun);
            net.run(Duration::from_millis(20 * seed));
            if net.machine(*on).group.is_some() {
                net.cut_power(*on);
                net.run(SECOND);
                net.start(*on);
            }
        }
        net.heal();
        net.run_until(200 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
}
