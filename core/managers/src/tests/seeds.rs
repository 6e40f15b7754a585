//! Random faults by seed, and the checker against planted bugs.

use std::time::Duration;

use super::net::Net;
use crate::plant::{self, Bug};
use crate::{Config, Event, Role};

const SECOND: Duration = Duration::from_secs(1);

/// One run: writes, and every few seconds a fault; at the end everything heals.
fn faults(seed: u64, count: usize) -> Net {
    faults_in(Net::new(count, seed), count)
}

/// The same in a flock that its founder made strong before the others came.
pub(super) fn strong_faults(seed: u64, count: usize) -> Net {
    let mut net = Net::new(count, seed);
    net.start(0);
    net.run_until(10 * SECOND, |net| net.masters() == [0]);
    net.strengthen(1);
    faults_in(net, count)
}

fn faults_in(mut net: Net, count: usize) -> Net {
    for on in 0..count {
        // Clocks are wrong by up to 1 %.
        let ppm = net.rng.within(0..20_001);
        if net.hosts[on].machine.is_none() {
            net.hosts[on].drift = i64::try_from(ppm).unwrap() - 10_000;
            net.start(on);
        }
    }
    net.run_until(60 * SECOND, Net::is_settled);
    let mut written = 0;
    for _ in 0..12 {
        let on = net.rng.index(count).unwrap();
        match net.rng.within(0..11) {
            0 | 1 if net.hosts[on].machine.is_some() => net.kill(on),
            2 if net.hosts[on].machine.is_some() => net.cut_power(on),
            3 => {
                let other = net.rng.index(count).unwrap();
                net.cut(on, other);
            }
            4 => {
                let part: Vec<usize> = (0..count).filter(|_| net.rng.chance(0.4)).collect();
                net.split(&part);
            }
            5 => net.heal(),
            6 if net.hosts[on].machine.is_some() => net.pause(on),
            7 => net.loss = 0.1,
            8 => {
                let other = net.rng.index(count).unwrap();
                net.deaf.insert((on, other));
            }
            9 => net.hosts[on].disk_delay = (50, 400),
            _ => {}
        }
        for _ in 0..net.rng.within(5..60) {
            for master in net.masters() {
                if !net.hosts[master].paused {
                    written += 1;
                    net.propose(master, &format!("write {written}"));
                    net.order(master);
                }
            }
            let span = Duration::from_millis(net.rng.within(1..300));
            net.run(span);
        }
        net.loss = 0.0;
        for on in 0..count {
            if net.hosts[on].machine.is_none() && net.rng.chance(0.4) {
                net.start(on);
            } else if net.hosts[on].paused && net.rng.chance(0.6) {
                net.resume(on);
            }
        }
    }
    net.heal();
    for on in 0..count {
        net.hosts[on].disk_delay = (1, 8);
        if net.hosts[on].machine.is_none() {
            net.start(on);
        } else if net.hosts[on].paused {
            net.resume(on);
        }
    }
    net
}

/// What the runs went through: a run that exercised nothing proves nothing.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: usize,
    founded_anew: usize,
    absorbed: usize,
    masters: usize,
    replaced: usize,
    semi_masters: usize,
    retired: usize,
    obeyed: usize,
    disobeyed: usize,
}

impl Tally {
    fn add(&mut self, net: &Net) {
        self.acknowledged += net.acknowledged.len();
        self.obeyed += net.orders.0;
        self.disobeyed += net.orders.1;
        for event in net.hosts.iter().flat_map(|host| &host.events) {
            match event {
                Event::Formed { parent: Some(_), .. } => self.founded_anew += 1,
                Event::Absorbed { .. } => self.absorbed += 1,
                Event::MasterChanged { .. } => self.masters += 1,
                Event::BackupRemoved { .. } => self.replaced += 1,
                Event::RoleChanged { to: Role::SemiMaster, .. } => self.semi_masters += 1,
                Event::Retired { .. } => self.retired += 1,
                Event::Formed { .. }
                | Event::Strengthened { .. }
                | Event::RoleChanged { .. }
                | Event::BackupAdded { .. }
                | Event::SyncSet { .. }
                | Event::GivenUp { .. }
                | Event::Unprotected
                | Event::DiskFailed { .. }
                | Event::MergedInto { .. }
                | Event::CheckpointRefused { .. }
                | Event::HandOverRefused { .. } => {}
            }
        }
    }
}

fn run(seed: u64, count: usize, tally: &mut Tally) {
    let mut net = faults(seed, count);
    net.run_until(400 * SECOND, Net::is_settled);
    net.check_kept();
    assert!(net.faults.is_empty(), "seed {seed} of {count}\n{}", net.dump());
    tally.add(&net);
}

#[test]
fn whatever_fails_there_is_one_master_and_nothing_acknowledged_is_lost() {
    let mut tally = Tally::default();
    for seed in 0..100 {
        run(1000 + seed, 3 + usize::try_from(seed % 5).unwrap(), &mut tally);
    }
    assert!(tally.acknowledged >= 10_000 && tally.masters >= 500, "{tally:?}");
    assert!(tally.founded_anew >= 10 && tally.absorbed >= 10, "{tally:?}");
    assert!(tally.replaced >= 20 && tally.semi_masters >= 20, "{tally:?}");
    assert!(tally.obeyed >= 10_000 && tally.disobeyed >= 1_000, "{tally:?}");
}

/// DVM-18. Solitude is a few seconds here, and offices go to whoever stands better for as long.
#[test]
fn managers_that_retire_lose_nothing_and_come_back() {
    let mut tally = Tally::default();
    for seed in 0..8 {
        let solitude = 10 * SECOND;
        let (min_stay, better_for) = (solitude, solitude);
        let config = Config { solitude, min_stay, better_for, ..Config::default() };
        let mut net = faults_in(Net::with(3, 1300 + seed, config), 3);
        net.run_until(400 * SECOND, Net::is_settled);
        net.check_kept();
        assert!(net.faults.is_empty(), "seed {seed}\n{}", net.dump());
        tally.add(&net);
    }
    assert!(tally.retired >= 4 && tally.acknowledged >= 500, "{tally:?}");
}

/// Invariant 5. What such members make of the catalog is another matter: they are members.
#[test]
fn no_tampered_message_makes_a_machine_fail() {
    let (mut rejected, mut messages) = (0, 0);
    for seed in 0..60 {
        let mut net = Net::settled(5, 900 + seed);
        net.tampered = 0.3;
        for number in 0..150 {
            for master in net.masters() {
                net.propose(master, &format!("write {number}"));
            }
            let span = Duration::from_millis(net.rng.within(1..200));
            net.run(span);
            if number % 50 == 20 {
                let on = net.rng.index(5).unwrap();
                net.cut_power(on);
                net.run(SECOND);
                net.start(on);
            }
        }
        rejected += net.hosts.iter().map(|host| host.rejects.len()).sum::<usize>();
        messages += net.messages;
    }
    assert!(rejected >= 1000 && messages >= 100_000, "{rejected} of {messages}");
}

#[test]
fn one_seed_is_one_run() {
    let of = |seed| {
        let net = faults(seed, 4);
        (net.messages, net.acknowledged.len(), net.now)
    };
    assert_eq!(of(7), of(7));
}

/// How many of the seeds show a fault with a bug planted.
fn caught(bug: Bug, mut scenario: impl FnMut(u64) -> bool) -> usize {
    plant::set(Some(bug));
    let found = (0..10).filter(|seed| scenario(*seed)).count();
    plant::set(None);
    found
}

#[test]
fn the_checker_sees_a_master_that_does_not_wait_for_the_sync_set() {
    let lost = |seed| {
        let mut net = Net::settled(8, 500 + seed);
        net.run(2 * SECOND);
        let master = net.master();
        let view = net.view(master).flock.unwrap();
        let slow = usize::from(view.backups[0].as_bytes()[0]) - 1;
        // One backup is at the end of a slow way; whoever else has the log loses power for good.
        net.lag.insert(slow, Duration::from_millis(150));
        net.run(SECOND);
        for number in 0..20 {
            net.propose(master, &format!("write {number}"));
            net.run(Duration::from_millis(10));
        }
        net.cut(master, slow);
        let others: Vec<usize> =
            net.up().filter(|on| *on != slow && net.machine(*on).group.is_some()).collect();
        others.into_iter().for_each(|on| net.cut_power(on));
        net.lag.clear();
        net.run_until(60 * SECOND, |net| net.masters() == [slow]);
        net.check_kept();
        !net.faults.is_empty()
    };
    assert_eq!((0..10).filter(|seed| lost(*seed)).count(), 0, "and none without it");
    let found = caught(Bug::NoSyncSet, lost);
    assert!(found >= 5, "seen in {found} of 10");
}

#[test]
fn the_checker_sees_answers_that_are_sent_before_they_are_on_disk() {
    let lost = |seed| {
        let mut net = Net::settled(3, 600 + seed);
        let master = net.master();
        (0..3).for_each(|on| net.hosts[on].disk_delay = (1, 100));
        for number in 0..30 {
            net.propose(master, &format!("write {number}"));
            net.run(Duration::from_millis(10));
        }
        (0..3).for_each(|on| net.cut_power(on));
        net.lose_disk(master);
        net.run(SECOND);
        (0..3).for_each(|on| net.start(on));
        // A flock whose disks do not hold what it said may never agree again.
        if !net.met_within(100 * SECOND, Net::is_settled) {
            return true;
        }
        net.check_kept();
        !net.faults.is_empty()
    };
    assert_eq!((0..10).filter(|seed| lost(*seed)).count(), 0, "and none without it");
    let found = caught(Bug::NoPersist, lost);
    assert!(found >= 3, "seen in {found} of 10");
}

#[test]
fn the_checker_sees_two_that_may_acknowledge_at_once() {
    let two = |seed| {
        let mut net = Net::settled(3, 700 + seed);
        let master = net.master();
        net.split(&[master]);
        net.run(5 * SECOND);
        !net.faults.is_empty()
    };
    assert_eq!((0..10).filter(|seed| two(*seed)).count(), 0, "and none without it");
    let found = caught(Bug::LongLease, two);
    assert!(found >= 5, "seen in {found} of 10");
}

#[test]
fn the_checker_sees_a_history_that_is_dropped_half_handed_over() {
    let lost = |seed| {
        let mut net = Net::new(2, 800 + seed);
        net.cut(0, 1);
        (0..2).for_each(|on| net.start(on));
        net.run_until(10 * SECOND, |net| net.masters().len() == 2);
        for number in 0..400 {
            net.propose(0, &format!("{number} {}", "x".repeat(200)));
            net.propose(1, &format!("other {number} {}", "y".repeat(200)));
            net.run(Duration::from_millis(5));
        }
        net.heal();
        net.run_until(60 * SECOND, Net::is_settled);
        net.check_kept();
        !net.faults.is_empty()
    };
    assert_eq!((0..10).filter(|seed| lost(*seed)).count(), 0, "and none without it");
    let found = caught(Bug::HalfMerge, lost);
    assert!(found >= 5, "seen in {found} of 10");
}
