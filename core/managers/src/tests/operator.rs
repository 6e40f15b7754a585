//! The operator's hand, and nodes that may manage no more, by name of the rule.

use std::collections::BTreeSet;
use std::time::Duration;

use super::net::{Net, id};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

fn backups(net: &Net) -> Vec<usize> {
    net.up().filter(|on| net.role(*on) == Role::Backup).collect()
}

fn write(net: &mut Net, count: usize, name: &str) {
    let master = net.master();
    let tokens: Vec<u64> =
        (0..count).map(|n| net.propose(master, &format!("{name} {n}"))).collect();
    net.run_until(5 * SECOND, |net| {
        tokens.iter().all(|token| net.hosts[master].accepted.contains_key(token))
    });
}

/// The catalog says it on every node that is up; the expelled one is heard by nobody from then on.
fn expel(net: &mut Net, whom: usize) {
    let others: Vec<usize> = net.up().filter(|on| *on != whom).collect();
    for on in others {
        net.give(on, Input::Expelled(BTreeSet::from([id(whom)])));
    }
    net.split(&[whom]);
}

fn on_roster(net: &Net, whom: usize) -> bool {
    let view = net.view(net.master()).flock.unwrap();
    view.roster.iter().any(|place| place.node == id(whom))
}

/// An operator's `recover` on both sides of a split: two masters of generation 2 go on, each on its
/// own, and when the sides meet they are one flock that has what each acknowledged.
#[test]
fn dvm_27_an_operators_recovery_on_both_sides_of_a_split_ends_in_one_flock_with_all_of_it() {
    for seed in 0..4 {
        let mut net = Net::settled(4, 200 + seed);
        write(&mut net, 20, "before");
        let master = net.master();
        let there = backups(&net);
        // The fourth stays with the master, so that neither side has three that are eligible.
        net.split(&there);
        net.cut(there[0], there[1]);
        net.run(30 * SECOND);
        assert_eq!(net.masters(), [], "nobody founds by itself\n{}", net.dump());
        for (side, name) in [(master, "one side"), (there[0], "the other side")] {
            let token = net.command(side, Command::RecoverForce);
            assert!(net.hosts[side].done.contains(&token), "{}", net.dump());
            net.run_until(5 * SECOND, |net| net.role(side) == Role::Master);
            let flock = net.view(side).flock.unwrap();
            assert_eq!(flock.strength, Strength::Weak, "an operator's word makes nothing strong");
            let tokens: Vec<u64> =
                (0..10).map(|n| net.propose(side, &format!("{name} {n}"))).collect();
            net.run_until(10 * SECOND, |net| {
                tokens.iter().all(|token| net.hosts[side].accepted.contains_key(token))
            });
        }
        assert_eq!(net.masters().len(), 2);
        net.heal();
        net.run_until(120 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn whoever_recovers_beside_a_master_is_told_to_ask_that_one() {
    let mut net = Net::settled(4, 210);
    let master = net.master();
    for on in net.up().collect::<Vec<_>>() {
        let token = net.command(on, Command::RecoverForce);
        let why = net.hosts[on].refused[&token].to_string();
        let wanted = if on == master { "is master already" } else { "ask the master" };
        assert!(why.contains(wanted), "{why}");
    }
    net.assert_sound();
}

#[test]
fn an_expelled_backup_leaves_office_and_the_roster_and_another_takes_its_place() {
    let mut net = Net::settled(5, 211);
    write(&mut net, 5, "before");
    let gone = backups(&net)[0];
    expel(&mut net, gone);
    net.run_until(5 * SECOND, |net| {
        let view = net.view(net.master()).flock.unwrap();
        view.backups.len() == 2 && !view.backups.contains(&id(gone)) && !on_roster(net, gone)
    });
    write(&mut net, 5, "after");
    // It is back on the roster only once the catalog does not expel it any more.
    net.heal();
    net.run(20 * SECOND);
    assert!(!on_roster(&net, gone), "{}", net.dump());
    for on in net.up().collect::<Vec<_>>() {
        net.give(on, Input::Expelled(BTreeSet::new()));
    }
    net.run_until(30 * SECOND, |net| net.is_settled() && on_roster(net, gone));
    net.check_kept();
    net.assert_sound();
}

#[test]
fn an_expelled_backup_leaves_also_where_nobody_can_take_its_place() {
    let mut net = Net::settled(3, 212);
    let gone = backups(&net)[0];
    expel(&mut net, gone);
    net.run_until(5 * SECOND, |net| {
        let view = net.view(net.master()).flock.unwrap();
        view.backups.len() == 1 && !view.sync_set.contains(&id(gone)) && !on_roster(net, gone)
    });
    write(&mut net, 5, "after");
    net.assert_sound();
}

#[test]
fn an_expelled_master_is_followed_by_a_backup_and_is_none_again() {
    let mut net = Net::settled(5, 213);
    write(&mut net, 5, "before");
    let gone = net.master();
    expel(&mut net, gone);
    net.run_until(10 * SECOND, |net| net.masters().iter().any(|on| *on != gone));
    net.run_until(20 * SECOND, |net| {
        net.masters().iter().filter(|on| **on != gone).all(|on| {
            let view = net.view(*on).flock.unwrap();
            view.backups.len() == 2 && !view.backups.contains(&id(gone))
        })
    });
    net.assert_sound();
}

/// A node whose certificate does not name it a manager any more, or whose configuration changed.
#[test]
fn who_is_not_eligible_any_more_hands_over_to_one_that_is() {
    let mut net = Net::settled(4, 214);
    write(&mut net, 5, "before");
    let first = net.master();
    net.hosts[first].eligible = Eligibility::No;
    let node = id(first);
    let said = Input::Member {
        node,
        incarnation: skep_base::Incarnation(1),
        eligible: Eligibility::No,
        resources: 500,
    };
    for on in net.up().collect::<Vec<_>>() {
        net.give(on, said.clone());
    }
    net.run_until(20 * SECOND, |net| {
        net.is_settled() && net.role(first) == Role::Host && !on_roster(net, first)
    });
    net.check_kept();
    net.assert_sound();
}
