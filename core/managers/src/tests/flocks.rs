//! The scenarios, one by one.

use std::time::Duration;

use bytes::Bytes;

use super::net::{Net, id};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

fn backups(net: &Net) -> Vec<usize> {
    net.up().filter(|on| net.role(*on) == Role::Backup).collect()
}

fn write(net: &mut Net, count: usize, name: &str) {
    for number in 0..count {
        let master = net.master();
        let token = net.propose(master, &format!("{name} {number}"));
        net.run_until(3 * SECOND, |net| net.hosts[master].accepted.contains_key(&token));
    }
}

#[test]
fn bloc_15_a_lone_eligible_node_masters_itself_and_says_that_it_is_unprotected() {
    let mut net = Net::new(1, 1);
    net.start(0);
    net.run_until(5 * SECOND, |net| net.masters() == [0]);
    assert!(net.hosts[0].events.contains(&Event::Unprotected));
    write(&mut net, 10, "lone");
    let token = net.read(0);
    assert!(net.hosts[0].reads.contains_key(&token));
    net.kill(0);
    net.run(SECOND);
    net.start(0);
    net.run_until(5 * SECOND, |net| net.masters() == [0]);
    assert_eq!(net.hosts[0].catalog.len(), 10);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn dvm_4_the_second_and_third_eligible_become_backups_as_they_appear() {
    let mut net = Net::new(3, 2);
    net.start(0);
    net.run_until(5 * SECOND, |net| net.masters() == [0]);
    write(&mut net, 20, "first");
    net.start(1);
    net.run_until(10 * SECOND, Net::is_settled);
    write(&mut net, 5, "second");
    net.start(2);
    net.run_until(10 * SECOND, Net::is_settled);
    assert_eq!(net.masters(), [0]);
    write(&mut net, 5, "third");
    net.run(SECOND);
    assert!((0..3).all(|on| net.hosts[on].catalog.len() == 30), "{}", net.dump());
    net.check_kept();
    net.assert_sound();
}

#[test]
fn bloc_17_a_fleet_switched_on_at_once_ends_in_one_flock() {
    for seed in 0..10 {
        let mut net = Net::settled(9, seed);
        write(&mut net, 3, "fleet");
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn hosts_and_witnesses_never_manage() {
    let mut net = Net::new(4, 3);
    net.hosts[0].eligible = Eligibility::Witness;
    net.hosts[1].eligible = Eligibility::No;
    (0..4).for_each(|on| net.start(on));
    net.run_until(20 * SECOND, |net| net.masters().len() == 1 && backups(net).len() == 1);
    net.run(10 * SECOND);
    assert_eq!((net.role(0), net.role(1)), (Role::Eligible, Role::Host));
    let master = net.master();
    let roster = net.view(master).flock.unwrap().roster;
    assert!(roster.iter().any(|place| place.node == id(0) && place.witness));
    assert!(roster.iter().all(|place| place.node != id(1)));
    net.assert_sound();
}

#[test]
fn dvm_25_scenario_4_a_killed_master_is_followed_by_a_backup() {
    let mut worst = Duration::ZERO;
    for seed in 0..20 {
        let mut net = Net::settled(5, 100 + seed);
        write(&mut net, 5, "before");
        let old = net.master();
        let (lineage, stamp) = {
            let flock = net.view(old).flock.unwrap();
            (flock.lineage, flock.stamp)
        };
        net.kill(old);
        let at = net.now;
        net.run_until(5 * SECOND, |net| net.masters().len() == 1);
        let new = net.master();
        let token = net.propose(new, "after");
        net.run_until(3 * SECOND, |net| net.hosts[new].accepted.contains_key(&token));
        worst = worst.max(net.now.since(at));
        let flock = net.view(new).flock.unwrap();
        assert_eq!(flock.lineage, lineage, "the same history goes on");
        assert!(flock.stamp.epoch > stamp.epoch, "under a higher epoch");
        net.start(old);
        net.run_until(30 * SECOND, Net::is_settled);
        assert_ne!(net.role(old), Role::Master);
        net.check_kept();
        net.assert_sound();
    }
    assert!(worst <= Duration::from_millis(1000), "the longest gap was {worst:?}");
}

#[test]
fn dvm_25_scenario_4_a_frozen_or_cut_off_master_is_followed_by_a_backup() {
    let mut worst = Duration::ZERO;
    for seed in 0..20 {
        let mut net = Net::settled(5, 200 + seed);
        write(&mut net, 5, "before");
        let old = net.master();
        if seed % 2 == 0 {
            net.pause(old);
        } else {
            net.split(&[old]);
        }
        let minor = net.propose(old, "on the minor side");
        let at = net.now;
        let new = |net: &Net| net.masters().into_iter().find(|on| *on != old);
        net.run_until(6 * SECOND, |net| new(net).is_some());
        let new = new(&net).unwrap();
        let token = net.propose(new, "after");
        net.run_until(3 * SECOND, |net| net.hosts[new].accepted.contains_key(&token));
        worst = worst.max(net.now.since(at));
        net.resume(old);
        net.run(SECOND);
        assert!(seed % 2 == 0 || !net.hosts[old].accepted.contains_key(&minor));
        net.heal();
        net.run_until(40 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
    assert!(worst <= Duration::from_millis(2500), "the longest gap was {worst:?}");
}

#[test]
fn dvm_6_scenario_1_a_silent_backup_is_replaced_and_comes_back_eligible() {
    let mut net = Net::settled(5, 31);
    write(&mut net, 20, "before");
    let gone = backups(&net)[0];
    net.cut_power(gone);
    let master = net.master();
    let token = net.propose(master, "while it is silent");
    net.run_until(2 * SECOND, |net| net.hosts[master].accepted.contains_key(&token));
    let sync = net.view(master).flock.unwrap().sync_set;
    assert!(!sync.contains(&id(gone)), "out of the sync set at once");
    net.run_until(20 * SECOND, |net| {
        let managers = net.view(master).flock.unwrap().backups;
        managers.len() == 2 && !managers.contains(&id(gone))
    });
    write(&mut net, 5, "after");
    net.start(gone);
    net.run_until(30 * SECOND, |net| net.is_settled() && net.role(gone) == Role::Eligible);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn dvm_7_a_backup_that_somebody_still_reaches_is_given_one_time_out_more() {
    let mut net = Net::settled(5, 32);
    let master = net.master();
    let lost = backups(&net)[0];
    net.cut(master, lost);
    net.run(Duration::from_secs(15));
    let managers = |net: &Net| net.view(master).flock.unwrap().backups;
    assert!(managers(&net).contains(&id(lost)), "{}", net.dump());
    net.run_until(20 * SECOND, |net| !managers(net).contains(&id(lost)));
    net.assert_sound();
}

#[test]
fn dvm_24_scenario_3_a_master_without_backups_stops_acknowledging_within_its_lease() {
    let mut net = Net::settled(3, 33);
    write(&mut net, 5, "before");
    let master = net.master();
    net.split(&[master]);
    net.run(Duration::from_millis(900));
    let token = net.propose(master, "alone");
    net.run(Duration::from_secs(4));
    assert!(!net.hosts[master].accepted.contains_key(&token));
    net.heal();
    net.run_until(40 * SECOND, Net::is_settled);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn dvm_22_scenario_2_the_last_manager_founds_the_next_generation_with_two_more() {
    for seed in 0..10 {
        let mut net = Net::settled(6, 40 + seed);
        write(&mut net, 10, "before");
        let last = backups(&net)[0];
        let lost: Vec<usize> =
            net.up().filter(|on| matches!(net.role(*on), Role::Master | Role::Backup)).collect();
        let lost: Vec<usize> = lost.into_iter().filter(|on| *on != last).collect();
        lost.iter().for_each(|on| net.cut_power(*on));
        net.run_until(15 * SECOND, |net| net.role(last) == Role::SemiMaster);
        let refused = net.propose(last, "to a semi-master");
        assert!(matches!(net.hosts[last].refused[&refused], Refusal::NoMaster(_)));
        net.run_until(15 * SECOND, |net| net.masters() == [last]);
        let flock = net.view(last).flock.unwrap();
        assert_eq!(flock.generation, Generation(2));
        write(&mut net, 10, "in generation 2");
        net.run_until(20 * SECOND, Net::is_settled);
        // The two that were lost come back with their old disks.
        lost.iter().for_each(|on| net.start(*on));
        net.run_until(60 * SECOND, Net::is_settled);
        assert_eq!(net.view(last).flock.unwrap().lineage, flock.lineage);
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn dvm_27_scenario_5_both_parts_went_on_and_end_as_one_with_every_change() {
    for seed in 0..10 {
        let mut net = Net::settled(8, 60 + seed);
        write(&mut net, 10, "before");
        let managers: Vec<usize> =
            net.up().filter(|on| matches!(net.role(*on), Role::Master | Role::Backup)).collect();
        let last = backups(&net)[0];
        let major: Vec<usize> = managers.into_iter().filter(|on| *on != last).collect();
        net.split(&major);
        net.run_until(40 * SECOND, |net| net.role(last) == Role::Master);
        let other = net.masters().into_iter().find(|on| *on != last).unwrap();
        for number in 0..50 {
            net.propose(last, &format!("generation 2: {number}"));
            net.propose(other, &format!("generation 1: {number}"));
            net.run(Duration::from_millis(20));
        }
        net.run(2 * SECOND);
        assert!(net.acknowledged.len() >= 110, "both parts acknowledge");
        let first = net.view(other).flock.unwrap().lineage;
        net.heal();
        net.run_until(60 * SECOND, Net::is_settled);
        let master = net.master();
        let flock = net.view(master).flock.unwrap();
        assert_eq!(flock.lineage, first, "the lowest generation leads");
        let foreign = net.hosts[master].catalog.values();
        let foreign =
            foreign.filter(|entry| matches!(entry.origin, Origin::Foreign { .. })).count();
        assert!(foreign >= 50, "{foreign} changes were handed over");
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn everybody_restarts_at_once_and_goes_on_with_what_was_acknowledged() {
    for count in [1, 2, 3, 5] {
        let mut net = Net::settled(count, 80 + count as u64);
        write(&mut net, 10, "before");
        let lineage = net.view(net.master()).flock.unwrap().lineage;
        (0..count).for_each(|on| net.cut_power(on));
        net.run(SECOND);
        (0..count).for_each(|on| net.start(on));
        net.run_until(60 * SECOND, Net::is_settled);
        assert_eq!(net.view(net.master()).flock.unwrap().lineage, lineage);
        write(&mut net, 3, "after");
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn a_lost_disk_comes_back_as_a_new_node_under_a_new_raft_id() {
    let mut net = Net::settled(3, 90);
    write(&mut net, 10, "before");
    let gone = backups(&net)[0];
    net.kill(gone);
    net.lose_disk(gone);
    net.run(SECOND);
    net.start(gone);
    net.run_until(60 * SECOND, Net::is_settled);
    assert_eq!(net.hosts[gone].catalog.len(), 10);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn a_full_disk_steps_down_and_says_so() {
    let mut net = Net::settled(5, 91);
    let master = net.master();
    net.hosts[master].disk_faulty = Some(DiskFault::Full);
    let lost = net.propose(master, "nowhere to put it");
    net.run_until(10 * SECOND, |net| {
        net.masters().len() == 1 && net.masters() != [master] && backups(net).len() == 2
    });
    assert!(net.hosts[master].events.contains(&Event::DiskFailed { why: DiskFault::Full }));
    assert_eq!(net.hosts[master].refused[&lost], Refusal::Unknown);
    assert_eq!(net.role(master), Role::Holding);
    net.assert_sound();
}

#[test]
fn refusals_say_what_to_do_next() {
    let mut net = Net::settled(3, 92);
    let master = net.master();
    let large = net.tokens_of_large(master);
    let limit = MAX_ENTRY_BYTES;
    assert_eq!(net.hosts[master].refused[&large], Refusal::TooLarge { bytes: 10 << 20, limit });
    let backup = backups(&net)[0];
    let token = net.propose(backup, "to a backup");
    let who = Refusal::NotMaster { master: Some(id(master)) };
    assert_eq!(net.hosts[backup].refused[&token], who);
    let demote = net.command(master, Command::Demote(id(master)));
    assert!(net.hosts[master].refused[&demote].to_string().contains("transfer first"));
}

#[test]
fn a_planned_transfer_takes_milliseconds_and_two_never_acknowledge() {
    for seed in 0..10 {
        let mut net = Net::settled(3, 300 + seed);
        net.run(2 * SECOND);
        let old = net.master();
        let to = backups(&net)[1];
        let at = net.now;
        let token = net.command(old, Command::Transfer(id(to)));
        net.run_until(2 * SECOND, |net| net.masters() == [to]);
        let took = net.now.since(at);
        assert!(took <= Duration::from_millis(150), "it took {took:?}");
        net.run_until(SECOND, |net| net.hosts[old].done.contains(&token));
        write(&mut net, 3, "after");
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn a_second_transfer_is_refused_and_a_stop_waits_for_the_first() {
    let mut net = Net::settled(3, 95);
    net.run(2 * SECOND);
    let old = net.master();
    let to = backups(&net)[0];
    let first = net.command(old, Command::Transfer(id(to)));
    let second = net.command(old, Command::StepDown);
    assert_eq!(net.hosts[old].refused[&second], Refusal::Changing);
    net.give(old, Input::Stopping { token: Token(u64::MAX) });
    net.run_until(2 * SECOND, |net| net.masters() == [to]);
    let both = |net: &Net| [first, u64::MAX].iter().all(|it| net.hosts[old].done.contains(it));
    net.run_until(SECOND, both);
    net.assert_sound();
}

#[test]
fn a_promotion_that_comes_to_nothing_is_answered() {
    let mut net = Net::settled(5, 96);
    let master = net.master();
    let idle: Vec<usize> = net.up().filter(|on| net.role(*on) == Role::Eligible).collect();
    net.kill(idle[0]);
    let token = net.command(master, Command::Promote(id(idle[0])));
    net.run_until(90 * SECOND, |net| net.hosts[master].refused.contains_key(&token));
    net.run_until(60 * SECOND, Net::is_settled);
    net.assert_sound();
}

#[test]
fn an_operator_promotes_and_holds() {
    let mut net = Net::settled(5, 93);
    let master = net.master();
    let eligible = net.up().find(|on| net.role(*on) == Role::Eligible).unwrap();
    let token = net.command(master, Command::Promote(id(eligible)));
    net.run_until(10 * SECOND, |net| net.role(eligible) == Role::Backup);
    net.run_until(SECOND, |net| net.hosts[master].done.contains(&token));
    net.run_until(20 * SECOND, Net::is_settled);
    net.command(master, Command::Hold(id(eligible)));
    net.run_until(20 * SECOND, |net| net.role(eligible) == Role::Eligible);
    net.run(20 * SECOND);
    assert_eq!(net.role(eligible), Role::Eligible, "held");
    net.assert_sound();
}

#[test]
fn a_learner_of_a_long_log_gets_an_image_in_parts_and_a_checkpoint_cuts_the_log() {
    let config = Config { checkpoint_entries: 100, ..Config::default() };
    let mut net = Net::with(4, 94, config);
    net.start(0);
    net.run_until(5 * SECOND, |net| net.masters() == [0]);
    let long = "x".repeat(20_000);
    for number in 0..120 {
        net.propose(0, &format!("{number} {long}"));
        net.run(Duration::from_millis(20));
    }
    assert!(net.hosts[0].wants_checkpoint);
    let index = *net.hosts[0].catalog.keys().nth(99).unwrap();
    let state = Bytes::from(vec![7; 300_000]);
    net.run(SECOND);
    net.give(0, Input::Checkpoint { index, state });
    net.run(SECOND);
    assert!(net.hosts[0].disk.entries.len() < 30, "the log is cut");
    (1..4).for_each(|on| net.start(on));
    net.run_until(60 * SECOND, Net::is_settled);
    net.kill(0);
    net.run_until(20 * SECOND, |net| net.masters().len() == 1 && backups(net).len() == 2);
    let master = net.master();
    assert_eq!(net.hosts[master].catalog.len(), 20, "the rest is in the checkpoint");
    net.start(0);
    net.run_until(60 * SECOND, Net::is_settled);
    net.assert_sound();
}

#[test]
fn scenario_6_a_part_without_managers_founds_anew_from_its_decrees() {
    let mut net = Net::settled(6, 95);
    write(&mut net, 5, "before");
    net.run(5 * SECOND);
    let managers: Vec<usize> = net.up().filter(|on| net.hosts[*on].catalog.len() == 5).collect();
    net.split(&managers);
    net.run(8 * SECOND);
    let orphans: Vec<usize> = (0..6).filter(|on| !managers.contains(on)).collect();
    for on in &orphans {
        net.give(*on, Input::Checkpoint { index: 9, state: Bytes::from_static(b"decrees") });
    }
    net.run_until(30 * SECOND, |net| orphans.iter().any(|on| net.role(*on) == Role::Master));
    let founder = *orphans.iter().find(|on| net.role(**on) == Role::Master).unwrap();
    assert_eq!(net.view(founder).flock.unwrap().strength, Strength::Weak);
    net.propose(founder, "in the part");
    net.run(10 * SECOND);
    net.heal();
    net.run_until(60 * SECOND, Net::is_settled);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn ten_flocks_that_meet_at_once_end_as_one_whatever_they_wrote() {
    for seed in 0..5 {
        let mut net = Net::new(10, 400 + seed);
        for a in 0..10 {
            (0..a).for_each(|b| net.cut(a, b));
        }
        (0..10).for_each(|on| net.start(on));
        net.run_until(10 * SECOND, |net| net.masters().len() == 10);
        for on in 0..10 {
            for number in 0..5 {
                net.propose(on, &format!("{on} wrote {number}"));
            }
        }
        net.run(2 * SECOND);
        assert_eq!(net.acknowledged.len(), 50);
        net.heal();
        net.run_until(120 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn two_flocks_with_a_thousand_differing_entries_each_are_one_within_seconds() {
    let mut net = Net::new(8, 96);
    net.split(&[0, 1, 2, 3]);
    (0..8).for_each(|on| net.start(on));
    net.run_until(30 * SECOND, |net| net.masters().len() == 2 && backups(net).len() == 4);
    for master in net.masters() {
        for number in 0..1000 {
            net.propose(master, &format!("{master} wrote {number}"));
        }
    }
    net.run(3 * SECOND);
    assert_eq!(net.acknowledged.len(), 2000);
    let at = net.now;
    net.heal();
    net.run_until(10 * SECOND, |net| {
        let masters = net.masters();
        masters.len() == 1 && net.hosts[masters[0]].catalog.len() == 2000
    });
    assert!(net.now.since(at) <= 5 * SECOND, "it took {:?}", net.now.since(at));
    net.run_until(60 * SECOND, Net::is_settled);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn dvm_6_a_replacement_catches_up_with_ten_thousand_entries_within_seconds() {
    let mut net = Net::settled(4, 97);
    let master = net.master();
    for number in 0..10_000 {
        net.propose(master, &format!("write {number}"));
        if number % 100 == 99 {
            net.run(Duration::from_millis(20));
        }
    }
    net.run(2 * SECOND);
    assert_eq!(net.acknowledged.len(), 10_000);
    let gone = backups(&net)[0];
    net.cut_power(gone);
    let at = net.now;
    net.run_until(30 * SECOND, |net| {
        let flock = net.view(master).flock.unwrap();
        flock.sync_set.len() == 3 && !flock.sync_set.contains(&id(gone))
    });
    let took = net.now.since(at);
    assert!(took <= net.config.backup_silent + 5 * SECOND, "it took {took:?}");
    net.check_kept();
    net.assert_sound();
}

#[test]
fn dvm_10_a_node_that_is_not_well_manages_nothing_until_it_is() {
    let mut net = Net::settled(5, 98);
    let master = net.master();
    net.give(master, Input::Baseline { well: false, why: "its clock is wrong".to_owned() });
    net.run_until(10 * SECOND, |net| {
        net.masters().len() == 1 && net.masters() != [master] && net.role(master) == Role::Holding
    });
    net.run(5 * SECOND);
    assert_eq!(backups(&net).len(), 2, "{}", net.dump());
    net.give(master, Input::Baseline { well: true, why: String::new() });
    net.run_until(10 * SECOND, |net| net.role(master) == Role::Eligible);
    net.assert_sound();
}

#[test]
fn dvm_17_a_restarted_manager_that_reaches_nobody_holds_and_says_so() {
    let mut net = Net::settled(3, 99);
    write(&mut net, 3, "before");
    let gone = backups(&net)[0];
    net.split(&[gone]);
    net.cut_power(gone);
    net.run(SECOND);
    net.start(gone);
    net.run(300 * SECOND);
    assert_eq!(net.role(gone), Role::Holding);
    assert!(net.view(gone).waits.iter().any(|wait| wait.what == Wait::Comparison));
    assert!(
        !net.hosts[gone]
            .events
            .iter()
            .any(|it| matches!(it, Event::Formed { parent: Some(_), .. }))
    );
    net.heal();
    net.run_until(60 * SECOND, Net::is_settled);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn what_contradicts_or_pretends_is_rejected_by_name() {
    let mut net = Net::settled(3, 100);
    let master = net.master();
    let from = id(backups(&net)[0]);
    net.give(master, Input::Message { from, body: Bytes::from_static(b"\xff\xff") });
    assert_eq!(net.hosts[master].rejects, [(from, Reason::Malformed)]);
    let stamp = net.view(master).flock.unwrap().stamp;
    let ahead = Stamp { epoch: Epoch(stamp.epoch.0 + 7), fork: ForkId(1) };
    net.give(master, Input::StampRefused { stamp: ahead });
    net.run(SECOND);
    let bumped = net.view(master).flock.unwrap().stamp;
    assert_eq!(bumped.epoch, Epoch(ahead.epoch.0 + 1), "nobody refuses for ever");
    // Also where two such words come right after one another, and the second is not said again.
    let further = Stamp { epoch: Epoch(bumped.epoch.0 + 7), fork: ForkId(1) };
    let near = Stamp { epoch: Epoch(bumped.epoch.0 + 1), fork: ForkId(2) };
    net.run(2 * SECOND);
    net.give(master, Input::StampRefused { stamp: near });
    net.run(Duration::from_millis(100));
    net.give(master, Input::StampRefused { stamp: further });
    net.run(5 * SECOND);
    let passed = net.view(master).flock.unwrap().stamp;
    assert!(passed.epoch > further.epoch, "{passed:?}");
    net.assert_sound();
}

#[test]
fn every_manager_cuts_its_log_while_writes_go_on() {
    let config = Config { checkpoint_entries: 100, ..Config::default() };
    let mut net = Net::with(3, 101, config);
    (0..3).for_each(|on| net.start(on));
    net.run_until(60 * SECOND, Net::is_settled);
    let master = net.master();
    for number in 0..1000 {
        net.propose(master, &format!("write {number}"));
        net.run(Duration::from_millis(2));
        for on in 0..3 {
            if std::mem::take(&mut net.hosts[on].wants_checkpoint) {
                let index = *net.hosts[on].catalog.keys().next_back().unwrap();
                net.give(on, Input::Checkpoint { index, state: Bytes::from_static(b"state") });
            }
        }
    }
    net.run(SECOND);
    assert_eq!(net.acknowledged.len(), 1000);
    let kept: Vec<usize> = net.hosts.iter().map(|host| host.disk.entries.len()).collect();
    assert!(kept.iter().all(|kept| *kept < 250), "{kept:?}");
    (0..3).for_each(|on| net.cut_power(on));
    (0..3).for_each(|on| net.start(on));
    net.run_until(60 * SECOND, Net::is_settled);
    assert!((0..3).all(|on| net.hosts[on].catalog.len() < 250));
    net.assert_sound();
}

#[test]
fn of_two_managers_the_one_left_founds_the_next_generation_alone_and_weak() {
    let mut net = Net::settled(2, 102);
    write(&mut net, 5, "before");
    let gone = net.master();
    let left = backups(&net)[0];
    net.cut_power(gone);
    net.run_until(30 * SECOND, |net| net.masters() == [left]);
    let flock = net.view(left).flock.unwrap();
    assert_eq!((flock.generation, flock.strength), (Generation(2), Strength::Weak));
    write(&mut net, 5, "alone");
    net.start(gone);
    net.run_until(60 * SECOND, Net::is_settled);
    net.check_kept();
    net.assert_sound();
}

/// Small blocs (architecture, section 5): a witness lets one of two servers go on, strong, and
/// never both of them.
#[test]
fn of_two_servers_with_a_witness_the_one_that_reaches_it_goes_on_strong_and_the_other_waits() {
    for (seed, cut) in [(120, false), (121, false), (122, true), (123, true)] {
        let mut net = Net::new(3, seed);
        net.hosts[2].eligible = Eligibility::Witness;
        net.start(0);
        net.run_until(10 * SECOND, |net| net.masters() == [0]);
        net.strengthen(1);
        (1..3).for_each(|on| net.start(on));
        net.run_until(60 * SECOND, |net| net.masters().len() == 1 && backups(net).len() == 1);
        write(&mut net, 5, "before");
        let (old, left) = (net.master(), backups(&net)[0]);
        net.run_until(60 * SECOND, |net| net.view(old).flock.unwrap().roster.len() == 3);
        if cut {
            net.split(&[old]);
        } else {
            net.cut_power(old);
        }
        net.run_until(60 * SECOND, |net| net.role(left) == Role::Master);
        assert_eq!(net.view(left).flock.unwrap().generation, Generation(2));
        net.run_until(10 * SECOND, |net| {
            net.view(left).flock.unwrap().strength == Strength::Strong
        });
        let token = net.propose(left, "with the witness");
        net.run(60 * SECOND);
        assert_eq!(net.hosts[left].accepted[&token].1, Strength::Strong);
        if cut {
            assert_ne!(net.role(old), Role::Master, "it has no word of most of the roster");
            net.heal();
        } else {
            net.start(old);
        }
        net.run_until(90 * SECOND, |net| net.masters().len() == 1 && backups(net).len() == 1);
        net.check_kept();
        net.assert_sound();
        // Without the witness neither goes on, until an operator says so.
        net.cut_power(2);
        let (gone, left) = (net.master(), backups(&net)[0]);
        net.cut_power(gone);
        net.run(120 * SECOND);
        assert_eq!(net.role(left), Role::SemiMaster);
    }
}

#[test]
fn of_three_managers_the_one_left_waits_until_an_operator_says_so() {
    let mut net = Net::settled(3, 103);
    write(&mut net, 5, "before");
    let master = net.master();
    let left = backups(&net)[0];
    let lost: Vec<usize> = (0..3).filter(|on| *on != left).collect();
    lost.iter().for_each(|on| net.cut_power(*on));
    net.run(300 * SECOND);
    assert_eq!(net.role(left), Role::SemiMaster);
    assert!(net.view(left).waits.iter().any(|wait| wait.what == Wait::Managers));
    let token = net.command(left, Command::RecoverForce);
    assert!(net.hosts[left].done.contains(&token));
    net.run_until(5 * SECOND, |net| net.masters() == [left]);
    assert_ne!(left, master);
    write(&mut net, 5, "recovered");
    lost.iter().for_each(|on| net.start(*on));
    net.run_until(90 * SECOND, Net::is_settled);
    net.check_kept();
    net.assert_sound();
}

#[test]
fn of_three_managers_the_one_left_is_a_backup_again_when_the_others_return() {
    for seed in 0..10 {
        let mut net = Net::settled(3, 110 + seed);
        write(&mut net, 5, "before");
        let left = backups(&net)[0];
        let lost: Vec<usize> = (0..3).filter(|on| *on != left).collect();
        lost.iter().for_each(|on| net.cut_power(*on));
        net.run(120 * SECOND);
        assert_eq!(net.role(left), Role::SemiMaster);
        lost.iter().for_each(|on| net.start(*on));
        net.run_until(60 * SECOND, Net::is_settled);
        net.check_kept();
        net.assert_sound();
    }
}

#[test]
fn writes_are_strong_where_the_founding_was_and_the_roster_noted_the_sync_set() {
    let mut net = Net::new(5, 104);
    net.start(0);
    net.run_until(10 * SECOND, |net| net.masters() == [0]);
    net.strengthen(1);
    (1..5).for_each(|on| net.start(on));
    net.run_until(60 * SECOND, Net::is_settled);
    net.run(3 * SECOND);
    let strength = |net: &mut Net| {
        let master = net.master();
        let token = net.propose(master, "how strong");
        net.run(Duration::from_millis(600));
        net.hosts[master].accepted.get(&token).map(|(_, strength)| *strength)
    };
    assert_eq!(strength(&mut net), Some(Strength::Strong));
    // A backup and two of the roster are gone: the shrink lacks its witnesses.
    let backup = backups(&net)[0];
    let others: Vec<usize> = net.up().filter(|on| net.role(*on) == Role::Eligible).collect();
    others.iter().for_each(|on| net.cut_power(*on));
    net.cut_power(backup);
    assert_eq!(strength(&mut net), Some(Strength::Weak));
    others.iter().for_each(|on| net.start(*on));
    net.run(5 * SECOND);
    assert_eq!(strength(&mut net), Some(Strength::Strong), "{}", net.dump());
    net.assert_sound();
}
