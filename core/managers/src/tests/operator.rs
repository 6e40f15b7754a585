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

fn order(net: &mut Net, command: Command) -> (usize, u64) {
    let master = net.master();
    (master, net.command(master, command))
}

fn is_done(net: &Net, (on, token): (usize, u64)) -> bool {
    net.hosts[on].done.contains(&token)
}

fn refusal(net: &Net, (on, token): (usize, u64)) -> Option<&Refusal> {
    net.hosts[on].refused.get(&token)
}

fn manages(net: &Net, whom: usize) -> bool {
    let flock = net.view(net.master()).flock.unwrap();
    flock.master == Some(id(whom)) || flock.backups.contains(&id(whom))
}

fn held(net: &Net, whom: usize) -> bool {
    let roster = net.view(net.master()).flock.unwrap().roster;
    roster.iter().find(|place| place.node == id(whom)).unwrap().held
}

/// Settled, and with a learner that could take a place.
fn with_a_learner(count: usize, seed: u64) -> (Net, usize) {
    let mut net = Net::settled(count, seed);
    let learner = |net: &Net| net.view(net.master()).flock.unwrap().learners.first().copied();
    net.run_until(20 * SECOND, |net| learner(net).is_some());
    net.run(SECOND);
    let learner = usize::from(learner(&net).unwrap().as_bytes()[0]) - 1;
    (net, learner)
}

/// The master loses power, and somebody else follows it.
fn lose_master(net: &mut Net) -> usize {
    let lost = net.master();
    net.cut_power(lost);
    net.run_until(30 * SECOND, |net| net.masters().len() == 1);
    lost
}

#[test]
fn a_demotion_is_answered_once_another_has_the_place_for_good() {
    for seed in 220..224 {
        let (mut net, spare) = with_a_learner(4, seed);
        write(&mut net, 5, "before");
        let out = backups(&net)[0];
        let asked = order(&mut net, Command::Demote(id(out)));
        assert!(!is_done(&net, asked), "it was only begun");
        net.run_until(10 * SECOND, |net| is_done(net, asked));
        assert!(!manages(&net, out) && manages(&net, spare), "{}", net.dump());
        // What was answered is so whoever is master.
        lose_master(&mut net);
        assert!(!manages(&net, out) && manages(&net, spare), "{}", net.dump());
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn a_promotion_is_answered_once_the_node_votes_and_takes_the_lowest_ones_place() {
    let mut net = Net::settled(5, 225);
    let low = backups(&net)[0];
    let free = net.up().filter(|on| !manages(&net, *on)).last().unwrap();
    net.load(low, 300);
    net.run_until(700 * SECOND, |net| {
        let roster = net.view(net.master()).flock.unwrap().roster;
        roster.last().is_some_and(|place| place.node == id(low))
    });
    let asked = order(&mut net, Command::Promote(id(free)));
    net.run_until(20 * SECOND, |net| is_done(net, asked));
    assert!(manages(&net, free) && !manages(&net, low), "{}", net.dump());
    let again = order(&mut net, Command::Promote(id(free)));
    assert!(refusal(&net, again).unwrap().to_string().contains("is a manager already"));
    lose_master(&mut net);
    assert!(manages(&net, free) && !manages(&net, low), "{}", net.dump());
    net.assert_sound();
}

#[test]
fn a_demotion_without_anybody_for_the_place_is_refused_and_changes_nothing() {
    let mut net = Net::settled(3, 226);
    let out = backups(&net)[0];
    let asked = order(&mut net, Command::Demote(id(out)));
    let why = refusal(&net, asked).unwrap().to_string();
    assert!(why.contains("nobody to take its place: add an eligible node"), "{why}");
    net.run(30 * SECOND);
    assert!(net.is_settled() && manages(&net, out), "{}", net.dump());

    // Somebody is there, and never catches up: nothing of the log reaches it.
    let (mut net, spare) = with_a_learner(4, 227);
    let (master, out) = (net.master(), backups(&net)[0]);
    net.deaf.insert((master, spare));
    write(&mut net, 40, "more");
    let asked = order(&mut net, Command::Demote(id(out)));
    net.run(19 * SECOND);
    assert!(refusal(&net, asked).is_none() && !is_done(&net, asked), "it is waited for");
    let other = order(&mut net, Command::Demote(id(out)));
    assert_eq!(refusal(&net, other), Some(&Refusal::Changing), "one at a time");
    net.run(5 * SECOND);
    let why = refusal(&net, asked).unwrap().to_string();
    assert!(why.contains("stays a backup") && why.contains("ask again"), "{why}");
    // It is taken back: later nobody leaves.
    net.heal();
    net.run_until(30 * SECOND, Net::is_settled);
    net.run(60 * SECOND);
    assert!(net.is_settled() && manages(&net, out), "{}", net.dump());
    net.check_kept();
    net.assert_sound();
}

#[test]
fn an_order_that_a_lost_mastership_leaves_is_answered_as_far_as_it_is_known() {
    for seed in 230..236 {
        // Not begun: nobody has caught up. It surely did not happen.
        let (mut net, spare) = with_a_learner(5, seed);
        let (master, out) = (net.master(), backups(&net)[0]);
        net.deaf.insert((master, spare));
        let other = net.up().find(|on| !manages(&net, *on) && *on != spare).unwrap();
        net.deaf.insert((master, other));
        write(&mut net, 40, "more");
        let asked = order(&mut net, Command::Demote(id(out)));
        net.split(&[master]);
        net.run_until(10 * SECOND, |net| refusal(net, asked).is_some());
        assert_eq!(refusal(&net, asked), Some(&Refusal::NotMaster { master: None }));
        net.heal();
        net.run_until(60 * SECOND, Net::is_settled);
        net.assert_sound();

        // Written down, and not decided: whether it happens is for the others to say.
        let (mut net, _) = with_a_learner(5, seed);
        let (master, out) = (net.master(), backups(&net)[0]);
        let asked = order(&mut net, Command::Demote(id(out)));
        let changes = |net: &Net| {
            let group = net.machine(master).group.as_ref().unwrap();
            group.engine.changes_pending()
        };
        net.run_until(10 * SECOND, changes);
        net.split(&[master]);
        net.run_until(10 * SECOND, |net| refusal(net, asked).is_some());
        assert_eq!(refusal(&net, asked), Some(&Refusal::Unknown));
        // Given again it is done, or refused for what is so.
        net.run_until(60 * SECOND, |net| net.masters().iter().any(|on| *on != master));
        net.heal();
        net.run_until(60 * SECOND, Net::is_settled);
        if net.master() == out {
            let other = backups(&net)[0];
            let asked = order(&mut net, Command::Transfer(id(other)));
            net.run_until(10 * SECOND, |net| is_done(net, asked) && net.masters() == [other]);
            net.run_until(60 * SECOND, Net::is_settled);
        }
        let again = order(&mut net, Command::Demote(id(out)));
        let answered = |net: &Net| is_done(net, again) || refusal(net, again).is_some();
        net.run_until(30 * SECOND, answered);
        let why = refusal(&net, again).map(ToString::to_string).unwrap_or_default();
        assert!(is_done(&net, again) || why.contains("is no backup"), "{why}");
        assert!(!manages(&net, out), "{}", net.dump());
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn a_hold_and_a_release_outlive_the_master_that_was_told() {
    for seed in 240..246 {
        let (mut net, _) = with_a_learner(5, seed);
        write(&mut net, 5, "before");
        let out = backups(&net)[0];
        let asked = order(&mut net, Command::Hold(id(out)));
        assert!(!is_done(&net, asked), "it is not decided yet");
        net.run_until(10 * SECOND, |net| is_done(net, asked));
        let lost = lose_master(&mut net);
        assert!(held(&net, out), "{}", net.dump());
        // The next master goes on with it, also where that is the held one itself.
        net.run_until(60 * SECOND, |net| {
            net.masters().len() == 1 && !manages(net, out) && net.role(out) == Role::Eligible
        });
        net.start(lost);
        net.run_until(60 * SECOND, Net::is_settled);
        net.run(30 * SECOND);
        assert!(held(&net, out) && !manages(&net, out), "{}", net.dump());
        let asked = order(&mut net, Command::Promote(id(out)));
        assert!(refusal(&net, asked).unwrap().to_string().contains("held"));

        let asked = order(&mut net, Command::Release(id(out)));
        net.run_until(10 * SECOND, |net| is_done(net, asked));
        lose_master(&mut net);
        assert!(!held(&net, out), "{}", net.dump());
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn a_held_backup_stays_while_nobody_takes_its_place_and_does_not_lead() {
    let mut net = Net::settled(3, 250);
    let (master, out) = (net.master(), backups(&net)[0]);
    let asked = order(&mut net, Command::Hold(id(out)));
    net.run_until(10 * SECOND, |net| is_done(net, asked));
    net.run(30 * SECOND);
    assert!(net.is_settled() && manages(&net, out), "it is better than nobody\n{}", net.dump());
    let why = order(&mut net, Command::Transfer(id(out)));
    assert!(refusal(&net, why).unwrap().to_string().contains("may not be master"));
    let other = backups(&net).into_iter().find(|on| *on != out).unwrap();
    net.cut_power(master);
    net.run_until(30 * SECOND, |net| net.masters() == [other]);
    net.run(30 * SECOND);
    assert_eq!(net.masters(), [other], "{}", net.dump());
    net.assert_sound();
}

/// What is seen of a node is written on the roster all the time; what an operator said stays.
#[test]
fn a_hold_is_not_undone_by_what_is_seen_of_the_node() {
    let stay = 20 * SECOND;
    let config = Config { min_stay: stay, better_for: stay * 2, ..Config::default() };
    let mut net = Net::with(5, 251, config);
    (0..5).for_each(|on| net.start(on));
    net.run_until(60 * SECOND, Net::is_settled);
    for round in 0..12_u16 {
        let on = usize::from(round % 5);
        net.load(on, 100 + 60 * round);
        net.run(SECOND * u32::from(5 + round));
        let whom = backups(&net)[usize::from(round % 2)];
        let asked = order(&mut net, Command::Hold(id(whom)));
        net.run_until(10 * SECOND, |net| is_done(net, asked));
        net.run_until(30 * SECOND, |net| !manages(net, whom));
        assert!(held(&net, whom), "{}", net.dump());
        let asked = order(&mut net, Command::Release(id(whom)));
        net.run_until(10 * SECOND, |net| is_done(net, asked));
        assert!(!held(&net, whom), "{}", net.dump());
    }
    net.assert_sound();
}

#[test]
fn more_orders_at_once_than_anybody_gives_are_refused() {
    let mut net = Net::settled(3, 252);
    let out = backups(&net)[0];
    let asked: Vec<(usize, u64)> =
        (0..17).map(|_| order(&mut net, Command::Hold(id(out)))).collect();
    assert_eq!(refusal(&net, asked[16]), Some(&Refusal::Busy { waiting: 16 }));
    net.run_until(10 * SECOND, |net| asked[..16].iter().all(|it| is_done(net, *it)));
    net.assert_sound();
}
