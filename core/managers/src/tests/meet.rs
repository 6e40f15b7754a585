//! What counts when two histories meet: which of them is strong, and what nodes have seen of one
//! that ends. And who joins the sync set.

use std::time::Duration;

use super::net::Net;
use super::strict::{has_strict, strong};
use crate::plant::{self, Bug};
use crate::{Judgement, Lineage, Role, Strength};

const SECOND: Duration = Duration::from_secs(1);

fn lineage(net: &Net, on: usize) -> Lineage {
    net.view(on).flock.unwrap().lineage
}

fn backups(net: &Net) -> Vec<usize> {
    net.up().filter(|on| net.role(*on) == Role::Backup).collect()
}

/// The master of a strong flock of seven keeps one backup, and so acknowledges on; the other backup
/// founds the next generation with all the rest of the roster. They meet again after a while.
fn parted(seed: u64) -> (Net, Lineage, Lineage) {
    let mut net = strong(7, seed);
    net.run(5 * SECOND);
    let (master, backups) = (net.master(), backups(&net));
    net.propose(master, "before");
    net.run(SECOND);
    net.split(&[master, backups[0]]);
    net.run_until(90 * SECOND, |net| net.masters() == [master, backups[1]].sorted());
    net.run_until(30 * SECOND, has_strict);
    for on in net.masters() {
        net.propose(on, &format!("{on} alone"));
    }
    net.run(2 * SECOND);
    let (lost, kept) = (lineage(&net, master), lineage(&net, backups[1]));
    assert_eq!(net.acknowledged.len(), 3, "{}", net.dump());
    (net, lost, kept)
}

trait Sorted {
    fn sorted(self) -> Self;
}

impl Sorted for [usize; 2] {
    fn sorted(mut self) -> Self {
        self.sort_unstable();
        self
    }
}

/// In which of the two all are in the end; nothing is missing there.
fn survivor(mut net: Net) -> Lineage {
    net.heal();
    net.run_until(90 * SECOND, |net| net.is_settled() && has_strict(net));
    net.check_kept();
    net.assert_sound();
    lineage(&net, net.master())
}

#[test]
fn dvm_27_a_master_that_lost_its_rosters_majority_yields_to_the_one_that_has_it() {
    for seed in 0..4 {
        let (net, _, kept) = parted(320 + seed);
        assert_eq!(survivor(net), kept);
    }
}

#[test]
fn the_checker_sees_a_history_that_is_taken_at_its_word() {
    let (net, lost, _) = parted(330);
    plant::set(Some(Bug::NoConfirmations));
    let leads = survivor(net);
    plant::set(None);
    assert_eq!(leads, lost, "the lower generation led because it was strong once");
}

#[test]
fn a_merge_that_is_killed_while_the_roster_is_asked_begins_again() {
    for (seed, killed) in [(340, 0), (341, 1), (342, 2)] {
        let (mut net, _, kept) = parted(seed);
        let masters = net.masters();
        net.heal();
        net.run_until(10 * SECOND, |net| masters.iter().any(|on| net.asks_to_merge(*on)));
        net.run(Duration::from_millis(5 + 700 * killed));
        let victim = masters[usize::try_from(killed).unwrap() % 2];
        net.kill(victim);
        net.run(3 * SECOND);
        net.start(victim);
        assert_eq!(survivor(net), kept, "{victim} was killed");
    }
}

/// A last survivor founds the next generation with the two others' promises while these come back
/// and go on: for none of them may it look as if both were strong.
#[test]
fn of_two_histories_that_go_on_from_one_at_most_one_is_strong() {
    let mut both = 0;
    for seed in 0..10 {
        let mut net = strong(3, 350 + seed);
        let left = backups(&net)[0];
        let lost: Vec<usize> = (0..3).filter(|on| *on != left).collect();
        lost.iter().for_each(|on| net.cut_power(*on));
        net.run(120 * SECOND);
        lost.iter().for_each(|on| net.start(*on));
        // Cut off for a while when it was promised what it needs, so that nobody gives way at once.
        net.run(Duration::from_millis(400 + 150 * seed));
        net.split(&[left]);
        for step in 0..600 {
            if step == 160 {
                net.heal();
            }
            net.run(Duration::from_millis(50));
            let masters = net.masters();
            both += usize::from(masters.len() > 1);
            let strong = |on: &&usize| {
                let flock = net.view(**on).flock.unwrap();
                flock.strength == Strength::Strong && flock.lease_until.is_some()
            };
            assert!(masters.iter().filter(strong).count() <= 1, "{}", net.dump());
            for on in masters {
                net.propose(on, "how strong");
            }
        }
        net.run_until(90 * SECOND, |net| net.is_settled() && has_strict(net));
        net.check_kept();
        net.assert_sound();
    }
    assert!(both > 0, "the two never met");
}

#[test]
fn the_checker_sees_promises_that_were_given_to_another_since() {
    let stale = |seed: u64| {
        let mut net = strong(7, seed);
        net.run(2 * SECOND);
        let (master, backups) = (net.master(), backups(&net));
        let rest: Vec<usize> =
            net.up().filter(|on| *on != master && !backups.contains(on)).collect();
        // The roster has noted that one backup left the sync set: the other suffices.
        net.cut_power(backups[1]);
        net.propose(master, "before");
        net.run(4 * SECOND);
        net.split(&[master, backups[0]]);
        net.run(4 * SECOND);
        rest.iter().for_each(|on| net.promise_another(*on));
        for number in 0..40 {
            net.propose(master, &format!("write {number}"));
            net.run(Duration::from_millis(200));
        }
        !net.faults.is_empty()
    };
    assert!(!stale(360), "and none without it");
    plant::set(Some(Bug::StalePromises));
    let found = stale(360);
    plant::set(None);
    assert!(found);
}

/// Of two flocks that formed apart the one that has nothing to hand over ends, and the other goes
/// on. Whoever saw the stamp of the one that ended would refuse the other's for ever: who does?
fn refuse_the_other(seed: u64) -> (Vec<usize>, Net) {
    let mut net = Net::new(5, seed);
    net.split(&[0, 1]);
    (0..5).for_each(|on| net.start(on));
    net.run_until(30 * SECOND, |net| net.masters().len() == 2);
    net.heal();
    net.run_until(30 * SECOND, Net::is_settled);
    net.run(3 * SECOND);
    let stamp = net.view(net.master()).flock.unwrap().stamp;
    let refuses = |on: &usize| net.view(*on).seen.judge(stamp) == Judgement::Refuse;
    (net.up().filter(refuses).collect(), net)
}

#[test]
fn nobody_goes_on_refusing_the_flock_that_another_ended_in() {
    for seed in 0..8 {
        let (refusing, net) = refuse_the_other(370 + seed);
        assert!(refusing.is_empty(), "{refusing:?}\n{}", net.dump());
        net.assert_sound();
    }
}

#[test]
fn the_checker_sees_who_goes_on_refusing() {
    plant::set(Some(Bug::PassesNobody));
    let found = (0..8).filter(|seed| !refuse_the_other(370 + seed).0.is_empty()).count();
    plant::set(None);
    assert!(found >= 3, "seen in {found} of 8");
}

/// A backup that was slow comes back into the sync set while writes go on.
fn rejoins(seed: u64) -> Net {
    let mut net = Net::settled(3, seed);
    net.run(2 * SECOND);
    let master = net.master();
    let slow = backups(&net)[0];
    let in_set = |net: &Net| net.view(master).flock.unwrap().sync_set.len();
    net.lag.insert(slow, Duration::from_millis(600));
    for number in 0..400 {
        net.propose(master, &format!("write {number}"));
        net.run(Duration::from_millis(5));
    }
    assert_eq!(in_set(&net), 2, "{}", net.dump());
    net.lag.insert(slow, Duration::from_millis(8));
    let mut number = 400;
    while in_set(&net) == 2 && number < 3_000 {
        net.propose(master, &format!("write {number}"));
        net.run(Duration::from_millis(4));
        number += 1;
    }
    assert_eq!(in_set(&net), 3, "{}", net.dump());
    net.run(SECOND);
    net
}

#[test]
fn whoever_joins_the_sync_set_lacks_nothing_that_was_acknowledged() {
    for seed in 0..10 {
        let mut net = rejoins(380 + seed);
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn the_checker_sees_whoever_joins_the_sync_set_and_lacks_something() {
    plant::set(Some(Bug::NoJoiners));
    let found = (0..10).filter(|seed| !rejoins(380 + seed).faults.is_empty()).count();
    plant::set(None);
    assert!(found >= 3, "seen in {found} of 10");
}
