//! A manager that meets nobody: it holds, retires, and is of its flock again when it meets it
//! (DVM-17, 18).

use std::time::Duration;

use super::net::Net;
use crate::*;

const SECOND: Duration = Duration::from_secs(1);
const SOLITUDE: Duration = Duration::from_secs(60);

fn settled(count: usize, seed: u64) -> Net {
    let mut net = Net::with(count, seed, Config { solitude: SOLITUDE, ..Config::default() });
    (0..count).for_each(|host| net.start(host));
    net.run_until(60 * SECOND, Net::is_settled);
    net
}

fn write(net: &mut Net, count: usize, name: &str) {
    for number in 0..count {
        let master = net.master();
        let token = net.propose(master, &format!("{name} {number}"));
        net.run_until(3 * SECOND, |net| net.hosts[master].accepted.contains_key(&token));
    }
}

fn retired(net: &Net, on: usize) -> bool {
    net.hosts[on].machine.is_some() && net.role(on) == Role::Retired
}

fn restart(net: &mut Net, on: usize) {
    net.kill(on);
    net.run(SECOND / 10);
    net.start(on);
}

fn holds(net: &Net, on: usize, text: &str) -> bool {
    net.hosts[on].catalog.values().any(|entry| entry.body == text)
}

#[test]
fn dvm_18_a_manager_that_meets_nobody_retires_and_hands_over_what_it_had_when_it_meets_its_flock() {
    let mut net = settled(6, 1);
    write(&mut net, 5, "together");
    let master = net.master();
    let backups: Vec<usize> = net.up().filter(|on| net.role(*on) == Role::Backup).collect();
    net.split(&[master]);
    for backup in &backups {
        net.cut_power(*backup);
    }
    let cut = net.now;
    net.propose(master, "alone");
    net.run_until(30 * SECOND, |net| net.role(master) == Role::SemiMaster);
    let view = net.view(master);
    let company = view.waits.iter().find(|wait| wait.what == Wait::Company).unwrap();
    let left = company.until.unwrap().since(net.now);
    assert!(left < SOLITUDE && left > SOLITUDE / 2, "{left:?}");
    net.run_until(2 * SOLITUDE, |net| retired(net, master));
    assert!(net.now.since(cut) >= SOLITUDE, "not a moment sooner");
    let told = net.hosts[master]
        .events
        .iter()
        .any(|event| matches!(event, Event::Retired { alone } if *alone >= SOLITUDE));
    assert!(told);
    let undecided = net.machine(master).undecided();
    assert_eq!(undecided.iter().map(|entry| &entry.body).collect::<Vec<_>>(), ["alone"]);
    assert_eq!(net.machine(master).deadline(), None, "it does nothing at all");
    // The part without managers went on as the next generation.
    net.run_until(SOLITUDE, |net| !net.masters().is_empty());
    write(&mut net, 3, "apart");
    net.heal();
    net.run_until(60 * SECOND, |net| {
        net.role(master) != Role::Retired && holds(net, net.master(), "alone")
    });
    net.run_until(120 * SECOND, |net| matches!(net.role(master), Role::Eligible | Role::Backup));
    assert!(net.view(master).waits.iter().all(|wait| wait.what != Wait::Company));
    net.check_kept();
    net.assert_sound();
}

#[test]
fn solitude_goes_on_over_restarts_and_ends_early_by_no_stall() {
    let mut net = settled(5, 2);
    write(&mut net, 3, "together");
    let lone = net.up().find(|on| net.role(*on) == Role::Backup).unwrap();
    net.split(&[lone]);
    net.run(5 * SECOND);
    let alone = net.now;
    for _ in 0..4 {
        net.run(10 * SECOND);
        assert!(!retired(&net, lone));
        restart(&mut net, lone);
    }
    // The host sleeps for much longer than that: nobody looked, so nobody knows.
    let slept = 5 * SOLITUDE;
    net.pause(lone);
    net.run(slept);
    net.resume(lone);
    net.run(5 * SECOND);
    assert!(!retired(&net, lone), "it has been alone for less than a minute of its own");
    net.run_until(SOLITUDE, |net| retired(net, lone));
    let awake = net.now.since(alone) - slept;
    assert!(awake >= SOLITUDE - 12 * SECOND && awake < SOLITUDE + 8 * SECOND, "{awake:?}");
    // Retired it stays, until somebody is there; then it is a manager that has just restarted.
    restart(&mut net, lone);
    net.run(20 * SECOND);
    assert!(retired(&net, lone));
    net.heal();
    net.run_until(60 * SECOND, Net::is_settled);
    assert!(matches!(net.role(lone), Role::Eligible | Role::Backup));
    net.check_kept();
    net.assert_sound();
}

#[test]
fn managers_that_all_retired_go_on_with_everything_when_they_meet() {
    let mut net = settled(3, 3);
    write(&mut net, 7, "together");
    for on in 0..3 {
        net.split(&[on]);
    }
    net.run_until(3 * SOLITUDE, |net| (0..3).all(|on| retired(net, on)));
    net.heal();
    net.run_until(60 * SECOND, Net::is_settled);
    write(&mut net, 1, "again");
    assert!((0..3).all(|on| holds(&net, on, "together 6")), "{}", net.dump());
    net.check_kept();
    net.assert_sound();
}

#[test]
fn whoever_meets_somebody_now_and_then_never_retires_and_a_lone_master_does_not() {
    let mut net = settled(1, 4);
    net.run(3 * SOLITUDE);
    assert_eq!(net.role(0), Role::Master, "of a roster of one nobody is missing");
    let mut net = settled(5, 5);
    let lone = net.up().find(|on| net.role(*on) == Role::Backup).unwrap();
    for _ in 0..6 {
        net.split(&[lone]);
        net.run(SOLITUDE / 2);
        net.heal();
        net.run(2 * SECOND);
    }
    assert!(
        net.hosts.iter().all(|host| {
            host.events.iter().all(|event| !matches!(event, Event::Retired { .. }))
        })
    );
    net.assert_sound();
}
