//! A better standing takes a backup's place, once and not lightly (DVM-11, 12, 14).

use std::time::Duration;

use super::net::{Net, id};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Minutes for hours: a stay of twenty seconds.
fn config() -> Config {
    let stay = Duration::from_secs(20);
    Config { min_stay: stay, better_for: stay * 2, ..Config::default() }
}

fn settled(count: usize, seed: u64, config: Config) -> Net {
    let mut net = Net::with(count, seed, config);
    (0..count).for_each(|host| net.start(host));
    net.run_until(MINUTE, Net::is_settled);
    net
}

fn managers(net: &Net) -> Vec<NodeIx> {
    let manages = |on: &usize| matches!(net.role(*on), Role::Master | Role::Backup);
    net.up().filter(manages).collect()
}

type NodeIx = usize;

fn others(net: &Net) -> Vec<NodeIx> {
    let managers = managers(net);
    net.up().filter(|on| !managers.contains(on)).collect()
}

/// Who came into office, and who left it, as their master said.
fn changes(net: &Net, on: usize) -> (Vec<skep_base::NodeId>, Vec<skep_base::NodeId>) {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for event in &net.hosts[on].events {
        if let Event::BackupAdded { node } = event {
            added.push(*node);
        } else if let Event::BackupRemoved { node, .. } = event {
            removed.push(*node);
        }
    }
    (added, removed)
}

fn place(net: &Net, node: usize) -> RosterView {
    let roster = net.view(net.master()).flock.unwrap().roster;
    roster.into_iter().find(|place| place.node == id(node)).unwrap()
}

#[test]
fn dvm_12_a_clearly_better_node_takes_the_lowest_backups_place_exactly_once() {
    let mut net = settled(5, 41, config());
    let (master, before) = (net.master(), managers(&net));
    net.run(MINUTE);
    net.hosts[master].events.clear();
    let better = others(&net)[1];
    net.load(better, 1000);
    let loaded = net.now;
    net.run_until(3 * MINUTE, |net| net.role(better) == Role::Backup);
    let stood = net.now.since(loaded);
    assert!(stood >= config().better_for, "after {stood:?} only is it sure");
    net.run_until(MINUTE, Net::is_settled);
    // It stays, and nobody else moves: for half an hour of stays.
    net.run(10 * MINUTE);
    assert_eq!(net.master(), master, "the master's place is nobody's");
    let (added, removed) = changes(&net, master);
    let left = before.iter().find(|on| !managers(&net).contains(on)).unwrap();
    assert_eq!((added, removed), (vec![id(better)], vec![id(*left)]));
    // Who made room did nothing wrong.
    assert_eq!(place(&net, *left).availability, 1000);
    assert_eq!(net.role(*left), Role::Eligible);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn dvm_11_loads_that_vary_around_the_threshold_change_nobody() {
    for seed in 0..3 {
        let mut net = settled(5, 50 + seed, config());
        let (master, before) = (net.master(), managers(&net));
        net.hosts[master].events.clear();
        let free = others(&net);
        for round in 0..60_u16 {
            // Now the one is clearly better, now the other, and now the managers are.
            net.load(free[0], if round % 2 == 0 { 750 } else { 550 });
            net.load(free[1], if round % 3 == 0 { 800 } else { 500 });
            net.load(before[0], if round % 4 == 0 { 400 } else { 600 });
            net.run(Duration::from_secs(15) + SECOND * u32::from(round % 7));
        }
        assert_eq!(managers(&net), before);
        assert_eq!(changes(&net, master), (Vec::new(), Vec::new()), "nobody came or went");
        net.assert_sound();
    }
}

#[test]
fn nobody_is_replaced_for_a_better_one_while_a_manager_is_away_or_a_majority_of_the_roster() {
    let mut net = settled(8, 61, config());
    net.strengthen(1);
    let master = net.master();
    net.run_until(MINUTE, |net| place(net, master).availability > 600);
    let free = others(&net);
    let better = free[0];
    // Four of eight are no majority: the roster of a strong history is not to be touched.
    for gone in &free[1..] {
        net.cut_power(*gone);
    }
    net.run(5 * SECOND);
    net.hosts[master].events.clear();
    net.load(better, 1000);
    net.run(4 * MINUTE);
    assert_eq!(changes(&net, master), (Vec::new(), Vec::new()));
    assert!(place(&net, better).standing > place(&net, master).standing + 150);
    // They are back: now it is.
    for back in &free[1..] {
        net.start(*back);
    }
    net.run_until(3 * MINUTE, |net| net.role(better) == Role::Backup);
    assert_eq!(changes(&net, master).0, [id(better)]);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn dvm_14_who_was_away_stands_lower_and_the_roster_says_when_it_was_away() {
    let mut net = settled(5, 71, config());
    let master = net.master();
    net.run(5 * MINUTE);
    let node = others(&net)[0];
    assert_eq!((place(&net, node).availability, place(&net, master).availability), (1000, 1000));
    net.cut_power(node);
    net.run(MINUTE);
    let away = place(&net, node);
    assert!(!away.present && away.seen.absences == 1, "{away:?}");
    assert!(away.seen.away > 50 * SECOND && away.seen.since < net.now, "{away:?}");
    assert!((300..800).contains(&away.availability), "{away:?}");
    net.start(node);
    net.run(10 * SECOND);
    let back = place(&net, node);
    let (_, long) = back.seen.returned.unwrap();
    assert!(back.present && long > 50 * SECOND, "{back:?}");
    assert!(back.availability < 800, "{back:?}");
    net.run(5 * MINUTE);
    assert_eq!(place(&net, node).availability, 1000, "it grows back slowly");
}

#[test]
fn dvm_10_where_nobody_is_well_the_master_goes_on_until_a_backup_is() {
    let mut net = settled(3, 81, Config::default());
    let master = net.master();
    let backup = managers(&net).into_iter().find(|on| *on != master).unwrap();
    let say = |net: &mut Net, on: usize, well: bool| {
        net.give(on, Input::Baseline { well, why: "the clocks are wrong".to_owned() });
        net.run(2 * SECOND);
    };
    for on in (0..3).filter(|on| *on != master).chain([master]) {
        say(&mut net, on, false);
    }
    net.run(MINUTE);
    assert_eq!(net.master(), master, "somebody is better than nobody");
    let token = net.propose(master, "all the same");
    net.run_until(3 * SECOND, |net| net.hosts[master].accepted.contains_key(&token));
    say(&mut net, backup, true);
    net.run_until(20 * SECOND, |net| net.masters() == [backup]);
    net.check_kept();
    net.assert_sound();
}
