//! Parts in which no manager is left: who founds the flock again, from what, and how strong.

use std::time::Duration;

use bytes::Bytes;
use skep_base::Outbox;

use super::net::{Net, id};
use super::strict::{has_strict, strong};
use crate::message::{Message, PromiseAsk};
use crate::orphan::RosterNote;
use crate::{Founding, Generation, Input, Output, Role, Strength};

const SECOND: Duration = Duration::from_secs(1);

/// The managers of a flock that is settled, and all others.
fn parted(net: &Net) -> (Vec<usize>, Vec<usize>) {
    let manages = |on: &usize| matches!(net.role(*on), Role::Master | Role::Backup);
    net.up().partition(manages)
}

fn write(net: &mut Net, count: usize, text: &str) {
    for number in 0..count {
        net.propose(net.master(), &format!("{text} {number}"));
        net.run(SECOND / 10);
    }
}

/// The hosts of `orphans` give what they have of the catalog when they are asked.
fn give_decrees(net: &mut Net, orphans: &[usize]) {
    for on in orphans {
        net.give(*on, Input::Checkpoint { index: 9, state: Bytes::from_static(b"decrees") });
    }
}

/// Waits for a master among `orphans`, and who that is.
fn founder(net: &mut Net, orphans: &[usize]) -> usize {
    let leads =
        |net: &Net, on: &usize| net.up().any(|up| up == *on) && net.role(*on) == Role::Master;
    net.run_until(60 * SECOND, |net| orphans.iter().any(|on| leads(net, on)));
    *orphans.iter().find(|on| leads(net, on)).unwrap()
}

#[test]
fn scenario_6_most_of_the_roster_without_any_manager_founds_a_strong_generation() {
    let mut net = strong(7, 320);
    write(&mut net, 5, "before");
    net.run(8 * SECOND);
    let (managers, orphans) = parted(&net);
    for on in &managers {
        net.cut_power(*on);
        net.lose_disk(*on);
    }
    give_decrees(&mut net, &orphans);
    let founder = founder(&mut net, &orphans);
    let flock = net.view(founder).flock.unwrap();
    assert!(flock.descends && flock.generation.0 == 2, "{flock:?}");
    assert_eq!(flock.authority.roster, 7, "those that are gone for ever are on it still");
    net.run_until(30 * SECOND, |net| {
        has_strict(net) && net.view(founder).flock.unwrap().strength == Strength::Strong
    });
    let token = net.propose(founder, "in the next generation");
    net.run(2 * SECOND);
    assert_eq!(net.hosts[founder].accepted[&token].1, Strength::Strong, "{}", net.dump());
    managers.iter().for_each(|on| net.start(*on));
    net.run_until(120 * SECOND, |net| net.is_settled() && has_strict(net));
    net.assert_sound();
}

#[test]
fn a_roster_that_was_told_is_on_disk() {
    let mut net = strong(9, 321);
    net.run(8 * SECOND);
    // A learner has a log, and holds it when it starts: it would decide.
    let learners = net.view(net.master()).flock.unwrap().learners;
    let (mut lost, mut orphans) = parted(&net);
    lost.extend(orphans.extract_if(.., |on| learners.contains(&id(*on))));
    lost.iter().for_each(|on| net.cut_power(*on));
    assert_eq!(orphans.len(), 5);
    for on in &orphans {
        net.cut_power(*on);
        net.start(*on);
    }
    give_decrees(&mut net, &orphans);
    let founder = founder(&mut net, &orphans);
    assert!(net.view(founder).flock.unwrap().descends);
    net.run_until(30 * SECOND, has_strict);
    net.assert_sound();
}

#[test]
fn a_lesser_part_without_managers_founds_a_weak_one_and_knows_who_is_missing() {
    let mut net = strong(5, 322);
    write(&mut net, 5, "before");
    net.run(8 * SECOND);
    let (managers, orphans) = parted(&net);
    net.split(&managers);
    give_decrees(&mut net, &orphans);
    let founder = founder(&mut net, &orphans);
    net.run(20 * SECOND);
    let flock = net.view(founder).flock.unwrap();
    assert_eq!(flock.strength, Strength::Weak);
    assert_eq!((flock.authority.roster, flock.authority.there), (5, 2));
    assert!(!flock.authority.is_majority(), "new waves are held there");
    net.heal();
    net.run_until(120 * SECOND, |net| net.is_settled() && has_strict(net));
    net.check_kept();
    net.assert_sound();
}

#[test]
fn managers_that_are_cut_off_from_most_of_the_roster_and_the_rest_never_both_have_strict_authority()
{
    let mut held = 0;
    for seed in 0..6 {
        let mut net = strong(7 + usize::try_from(seed % 3).unwrap(), 330 + seed);
        write(&mut net, 5, "before");
        net.run(8 * SECOND);
        let (managers, orphans) = parted(&net);
        net.split(&managers);
        give_decrees(&mut net, &orphans);
        let founder = founder(&mut net, &orphans);
        net.propose(founder, "in the part");
        net.run_until(60 * SECOND, has_strict);
        net.heal();
        net.run_until(120 * SECOND, |net| net.is_settled() && has_strict(net));
        net.check_kept();
        net.assert_sound();
        held += net.strict_steps;
    }
    assert!(held > 500, "{held}");
}

fn tell(net: &mut Net, from: usize, to: usize, note: RosterNote) {
    let body = Message::Roster(note).to_bytes();
    net.give(to, Input::Message { from: id(from), body });
}

#[test]
fn a_roster_of_a_master_that_is_none_or_with_a_node_twice_is_not_kept() {
    let mut net = strong(4, 323);
    net.run(8 * SECOND);
    let (managers, orphans) = parted(&net);
    let (master, on) = (net.master(), orphans[0]);
    let backup = *managers.iter().find(|it| **it != master).unwrap();
    let kept = net.machine(on).state.roster.clone().unwrap();
    assert_eq!(kept.places.len(), 4);
    let mut newer = kept.clone();
    newer.index += 1;
    newer.places.truncate(1);
    tell(&mut net, backup, on, newer.clone());
    newer.places.push(newer.places[0]);
    tell(&mut net, master, on, newer.clone());
    newer.places.truncate(1);
    newer.founding.0 = u64::MAX;
    tell(&mut net, master, on, newer);
    assert_eq!(net.machine(on).state.roster, Some(kept));
}

#[test]
fn of_two_that_ask_for_one_generation_neither_has_the_other_s_promise() {
    let mut net = strong(5, 324);
    net.run(8 * SECOND);
    let (managers, _) = parted(&net);
    let last = *managers.iter().find(|on| net.role(**on) == Role::Backup).unwrap();
    managers.iter().filter(|on| **on != last).for_each(|on| net.cut_power(*on));
    net.run_until(60 * SECOND, |net| net.machine(last).state.promised == Generation(2));
    assert_ne!(net.role(last), Role::Master, "it has only asked");
    let lineage = net.view(last).flock.unwrap().lineage;
    let (version, founding, now) = (99, Founding(1), net.now);
    let ask = PromiseAsk { lineage, generation: Generation(2), round: 3, version, founding };
    let body = Message::Promise(ask).to_bytes();
    let mut out = Outbox::new();
    let machine = net.hosts[last].machine.as_mut().unwrap();
    machine.handle(now, Input::Message { from: id(0), body }, &mut out);
    let outputs: Vec<Output> = out.drain().collect();
    let writes = outputs.iter().any(|it| matches!(it, Output::Persist { .. }));
    assert!(!writes, "it promised, and only waits for its disk");
    let granted = outputs.iter().any(|it| {
        let Output::Send { body, .. } = it else { return false };
        let answer = Message::from_bytes(body);
        matches!(answer, Some(Message::Promised { granted: true, round: 3, .. }))
    });
    assert!(!granted);
}

/// Its managers were away for a moment, and most of the roster has promised the next generation to
/// who never founded it.
#[test]
fn a_flock_whose_next_generation_was_promised_and_never_founded_is_strong_again() {
    let mut net = strong(9, 325);
    net.run(8 * SECOND);
    let (managers, orphans) = parted(&net);
    let lineage = net.view(net.master()).flock.unwrap().lineage;
    net.split(&managers);
    give_decrees(&mut net, &orphans);
    let promised = |net: &Net| {
        let has = |on: &&usize| net.machine(**on).state.promised == Generation(2);
        orphans.iter().filter(has).count() >= 5
    };
    net.run_until(60 * SECOND, promised);
    let founder = *orphans.iter().find(|on| net.machine(**on).appeal.is_some()).unwrap();
    net.cut_power(founder);
    net.heal();
    let is_strong = |net: &Net| {
        net.masters().len() == 1
            && net.view(net.master()).flock.unwrap().strength == Strength::Strong
    };
    net.run_until(60 * SECOND, is_strong);
    assert_eq!(net.view(net.master()).flock.unwrap().lineage, lineage);
    // The sync set is another, which the roster is to note.
    let backup = net.up().find(|on| net.role(*on) == Role::Backup).unwrap();
    net.cut_power(backup);
    net.run(30 * SECOND);
    net.run_until(60 * SECOND, is_strong);
    net.assert_sound();
}
