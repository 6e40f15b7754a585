//! Founding tokens: used once, whoever is killed when; and a higher number ends a lower one.

use std::time::Duration;

use super::net::{Net, id};
use super::strict::{has_strict, strong};
use crate::message::Message;
use crate::plant::{self, Bug};
use crate::strict::AuthorityAsk;
use crate::{Epoch, ForkId, Founding, Generation, Input, Refusal, Role, Stamp, Strength};

const SECOND: Duration = Duration::from_secs(1);

fn number(net: &Net, on: usize) -> Option<(Strength, u64)> {
    net.view(on).flock.map(|flock| (flock.strength, flock.founding.0))
}

fn pledged(net: &Net, on: usize) -> Founding {
    net.machine(on).state.pledge.map_or(Founding(0), |pledge| pledge.founding)
}

#[test]
fn a_weak_flock_that_gets_the_token_late_is_strong_and_all_see_that() {
    let mut net = Net::settled(5, 401);
    let master = net.master();
    net.propose(master, "before");
    net.run(SECOND);
    assert_eq!(number(&net, master), Some((Strength::Weak, 0)));
    net.strengthen(1);
    net.run_until(5 * SECOND, has_strict);
    net.run_until(5 * SECOND, |net| {
        (0..5).all(|on| number(net, on) == Some((Strength::Strong, 1)))
    });
    let token = net.propose(master, "after");
    net.run(SECOND);
    let accepted = net.hosts[master].accepted.get(&token).map(|(_, strength)| *strength);
    assert_eq!(accepted, Some(Strength::Strong));
    // Also to whoever comes later, and after everybody was restarted.
    (0..5).for_each(|on| net.cut_power(on));
    (0..5).for_each(|on| net.start(on));
    net.run_until(120 * SECOND, |net| net.is_settled() && has_strict(net));
    assert_eq!(number(&net, net.master()), Some((Strength::Strong, 1)));
    net.check_kept();
    net.assert_sound();
}

#[test]
fn a_flock_of_one_takes_the_token_when_it_has_waited_for_others_and_at_once_with_them() {
    let mut net = Net::new(3, 402);
    net.start(0);
    net.run_until(10 * SECOND, |net| net.masters() == [0]);
    let early = net.offer(0, 1, None).unwrap_err();
    assert!(matches!(early, Refusal::NotYet { .. }), "{early}");
    net.start(1);
    let tries = (0..50).position(|_| {
        net.run(SECOND / 10);
        net.offer(0, 1, None).is_ok()
    });
    assert!(tries.is_some(), "{}", net.dump());
    let mut alone = Net::new(1, 403);
    alone.start(0);
    alone.run_until(10 * SECOND, |net| net.masters() == [0]);
    let before = alone.now;
    alone.strengthen(1);
    assert!(alone.now.since(before) >= 9 * SECOND, "{:?}", alone.now.since(before));
    alone.run_until(SECOND, has_strict);
}

#[test]
fn a_flock_with_the_token_leads_one_that_acknowledged_more_without() {
    let mut net = Net::new(6, 404);
    net.split(&[0, 1, 2]);
    (0..6).for_each(|on| net.start(on));
    net.run_until(60 * SECOND, |net| net.masters().len() == 2);
    net.run(5 * SECOND);
    let masters = net.masters();
    let (lesser, other) = (masters[0], masters[1]);
    for n in 0..20 {
        net.propose(other, &format!("write {n}"));
    }
    let lineage = net.offer(lesser, 1, None).unwrap();
    while net.offer(lesser, 1, lineage).is_err() {
        net.run(SECOND / 10);
    }
    net.heal();
    net.run_until(60 * SECOND, |net| net.is_settled() && has_strict(net));
    let master = net.master();
    assert_eq!(net.machine(master).history_of(), lineage);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn a_number_that_was_used_is_of_no_use_in_any_flock_that_heard_of_it() {
    let mut net = strong(5, 405);
    let master = net.master();
    let spent = net.offer(master, 1, None).unwrap_err();
    assert!(matches!(spent, Refusal::Spent { .. }) && spent.to_string().contains("refound"));
    let apart: Vec<usize> = (0..5).filter(|on| *on != master).take(2).collect();
    net.split(&apart);
    // The lesser part has no master, or is weak: no copy of the token makes it strong.
    net.run(60 * SECOND);
    for on in apart {
        let refused = net.offer(on, 1, None).unwrap_err();
        let weak = number(&net, on).is_none_or(|(strength, _)| strength == Strength::Weak);
        assert!(weak || net.role(on) != Role::Master, "{refused}\n{}", net.dump());
    }
    net.assert_sound();
}

/// Whoever is killed when, one history has the number; and what was destroyed for one history is
/// never used in another.
#[test]
fn dvm_2_a_token_that_was_destroyed_for_a_history_is_used_there_or_nowhere() {
    for seed in 0..12 {
        let mut net = Net::settled(5, 4100 + seed);
        let first = net.master();
        let of = net.offer(first, 1, None).unwrap();
        assert!(of.is_some());
        let proposed = seed % 3;
        if proposed > 0 {
            net.offer(first, 1, of).unwrap_err();
            net.run(Duration::from_millis(seed * proposed));
        }
        if seed % 2 == 0 {
            net.kill(first);
        } else {
            net.cut_power(first);
        }
        net.run_until(60 * SECOND, |net| net.masters().len() == 1);
        let second = net.master();
        assert_eq!(net.machine(second).history_of(), of, "the same history goes on");
        net.strengthen_for(1, of);
        net.start(first);
        net.run_until(60 * SECOND, |net| net.is_settled() && has_strict(net));
        net.assert_sound();

        // A part that founded itself anew is another history.
        let mut net = Net::settled(5, 4200 + seed);
        let first = net.master();
        let of = net.offer(first, 1, None).unwrap();
        if proposed > 0 {
            net.offer(first, 1, of).unwrap_err();
        }
        let managers: Vec<usize> =
            net.up().filter(|on| matches!(net.role(*on), Role::Master | Role::Backup)).collect();
        let lost: Vec<usize> = managers.into_iter().filter(|on| *on != first).collect();
        lost.iter().for_each(|on| net.cut_power(*on));
        net.run_until(90 * SECOND, |net| {
            net.masters() == [first]
                && net.view(first).flock.is_some_and(|it| it.generation == Generation(2))
        });
        for _ in 0..50 {
            let refused = net.offer(first, 1, of).unwrap_err();
            assert!(matches!(refused, Refusal::NotYet { .. } | Refusal::Spent { .. }), "{refused}");
            net.run(SECOND / 10);
        }
        assert_eq!(net.strict_steps, 0, "seed {seed}");
        net.assert_sound();
    }
}

/// Seven, of which four are gone for ever: the others found the next generation, weak, and are
/// strong again under the next number. When the dead rise they end in it.
fn refounded(seed: u64) -> (Net, Vec<usize>, usize) {
    let mut net = strong(7, seed);
    let master = net.master();
    net.propose(master, "before");
    net.run(3 * SECOND);
    let backup = (0..7).find(|on| net.role(*on) == Role::Backup).unwrap();
    let mut left: Vec<usize> = (0..7).filter(|on| net.role(*on) == Role::Eligible).collect();
    left.truncate(2);
    left.push(backup);
    let gone: Vec<usize> = (0..7).filter(|on| !left.contains(on)).collect();
    gone.iter().for_each(|on| net.cut_power(*on));
    net.run_until(90 * SECOND, |net| net.masters().len() == 1);
    net.run(10 * SECOND);
    let held = net.strict_steps;
    net.run(10 * SECOND);
    assert_eq!(net.strict_steps, held, "the lesser part has no strict authority");
    net.strengthen(2);
    net.run_until(10 * SECOND, has_strict);
    let master = net.master();
    net.propose(master, "after");
    net.run(SECOND);
    (net, gone, master)
}

#[test]
fn dvm_22_a_refounded_flock_is_strong_and_wins_against_the_strong_one_before() {
    for seed in 0..5 {
        let (mut net, gone, _) = refounded(4300 + seed);
        let lineage = net.machine(net.master()).history_of();
        // Of those that were gone for ever most were not: by themselves they go on as before. All
        // of them would be most of the old roster, which can know nothing of the higher number.
        let left: Vec<usize> = net.up().collect();
        net.split(&left);
        let last = *gone.last().unwrap();
        gone.iter().filter(|on| **on != last).for_each(|on| net.start(*on));
        net.run_until(120 * SECOND, |net| net.masters().len() == 2);
        let old = net.masters().into_iter().find(|on| gone.contains(on)).unwrap();
        net.propose(old, "on the other side");
        net.run(10 * SECOND);
        net.heal();
        net.run(2 * SECOND);
        net.start(last);
        net.run_until(120 * SECOND, |net| net.is_settled() && has_strict(net));
        assert_eq!(net.machine(net.master()).history_of(), lineage, "seed {seed}");
        net.run_until(60 * SECOND, |net| (0..7).all(|on| pledged(net, on) == Founding(2)));
        net.check_kept();
        net.assert_sound();
    }
}

/// A former master that knows nothing of it asks who promised a higher number, with whatever stamp.
fn asked_under_the_lower_number(seed: u64) -> Net {
    let (mut net, gone, _) = refounded(seed);
    let asked = net.up().find(|on| pledged(&net, *on) == Founding(2)).unwrap();
    let lineage = net.machine(asked).state.pledge.unwrap().lineage;
    let left: Vec<usize> = net.up().collect();
    left.iter().filter(|on| **on != asked).for_each(|on| net.cut_power(*on));
    net.run(10 * SECOND);
    let epoch = Epoch(net.machine(asked).state.seen.epoch.0 + 10);
    let stamp = Stamp { epoch, fork: ForkId(7) };
    let version = 1000;
    let founding = Founding(1);
    let ask = AuthorityAsk { lineage, stamp, version, base: version, round: 1, founding };
    let body = Message::AuthorityAsk(ask).to_bytes();
    net.give(asked, Input::Message { from: id(gone[0]), body });
    net.run(SECOND);
    net
}

#[test]
fn the_checker_sees_a_promise_under_a_lower_number() {
    for seed in 0..3 {
        asked_under_the_lower_number(4400 + seed).assert_sound();
    }
    plant::set(Some(Bug::AnyFounding));
    let found =
        (0..3).filter(|seed| !asked_under_the_lower_number(4400 + seed).faults.is_empty()).count();
    plant::set(None);
    assert_eq!(found, 3);
}

#[test]
fn a_number_far_above_all_that_were_seen_is_believed_of_nobody() {
    let mut net = strong(3, 406);
    let master = net.master();
    let machine = net.hosts[master].machine.as_mut().unwrap();
    machine.heard_of_founding(Founding(u64::MAX));
    assert_eq!(machine.state.founding, Founding(1));
    machine.heard_of_founding(Founding(2));
    assert_eq!(machine.state.founding, Founding(2));
    assert!(!has_strict(&net), "whoever hears of a higher number has it no more");
}
