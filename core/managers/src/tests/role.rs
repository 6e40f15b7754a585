//! A change of role is told with its own reason, and never with that of another.

use std::time::Duration;

use super::net::{Net, id};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

/// Whether a reason can be that of a change. What is no reason at all is none of any.
pub(super) fn suits(from: Role, to: Role, why: &str) -> bool {
    use Role::{Backup, Eligible, Holding, Host, Master, Retired, SemiMaster};
    match why {
        "it started" => from == Host && matches!(to, Eligible | Holding | Retired),
        "it is eligible now" => (from, to) == (Host, Eligible),
        "it is not eligible any more" => to == Host,
        "its baseline is well again" | "it is a learner" => (from, to) == (Holding, Eligible),
        "it was promoted" => (from, to) == (Eligible, Backup),
        "it founded a flock" | "it founded the next generation" => matches!(to, Backup | Master),
        "it was elected" => to == Master,
        "it was elected, and its first stamp is awaited" => {
            matches!(from, SemiMaster | Holding) && to == Backup
        }
        "it was elected again, and its first stamp is awaited"
        | "it handed over"
        | "another was elected"
        | "it lost its majority, or another stands for election" => (from, to) == (Master, Backup),
        "the live master confirmed it" => {
            matches!(from, Holding | Retired) && matches!(to, Backup | Eligible)
        }
        "enough of the managers compared logs" => (from, to) == (Holding, Backup),
        "it hears a master again" => matches!(from, SemiMaster | Holding) && to == Backup,
        "it has heard no master for too long" => {
            matches!(from, Backup | Eligible) && to == SemiMaster
        }
        "nobody takes over what it holds" => from == Holding && matches!(to, SemiMaster | Backup),
        "its flock merged"
        | "it met a flock that leads"
        | "its flock is founded anew"
        | "everything it held is handed over"
        | "it was demoted"
        | "it was demoted while it was away"
        | "its disk went back in time" => matches!(to, Eligible | Host),
        "its baseline is not well"
        | "its disk takes nothing"
        | "it hands over what it holds"
        | "nobody has confirmed it yet" => to == Holding,
        "it meets others again" => (from, to) == (Retired, Holding),
        "it met nobody for too long" => to == Retired,
        _ => false,
    }
}

/// What a host told of its role since it was asked last.
fn told(net: &mut Net, on: usize) -> Vec<(Role, &'static str)> {
    let events = std::mem::take(&mut net.hosts[on].events);
    let changes = events.into_iter().filter_map(|event| {
        if let Event::RoleChanged { to, why, .. } = event { Some((to, why)) } else { None }
    });
    changes.collect()
}

/// A flock that host 0 founds.
fn founded_by_the_first(count: usize, seed: u64) -> Net {
    let mut net = Net::new(count, seed);
    net.start(0);
    net.run_until(10 * SECOND, |net| net.masters() == [0]);
    (1..count).for_each(|on| net.start(on));
    net.run_until(60 * SECOND, Net::is_settled);
    net
}

#[test]
fn from_founding_to_replacement_each_role_is_told_with_what_made_it() {
    let mut net = founded_by_the_first(3, 300);
    let first = told(&mut net, 0);
    assert_eq!(
        first,
        [
            (Role::Eligible, "it started"),
            (Role::Backup, "it founded a flock"),
            (Role::Master, "it was elected"),
        ]
    );
    for on in [1, 2] {
        // It became a learner in between, which is no role.
        let backup = [(Role::Eligible, "it started"), (Role::Backup, "it was promoted")];
        assert_eq!(told(&mut net, on), backup);
    }
    let token = net.command(0, Command::Transfer(id(1)));
    net.run_until(5 * SECOND, |net| net.masters() == [1] && net.hosts[0].done.contains(&token));
    assert_eq!(told(&mut net, 0), [(Role::Backup, "it handed over")]);
    assert_eq!(told(&mut net, 1), [(Role::Master, "it was elected")]);
    net.cut_power(1);
    net.run_until(10 * SECOND, |net| net.masters().iter().any(|on| *on != 1));
    let next = net.master();
    assert_eq!(told(&mut net, next), [(Role::Master, "it was elected")]);
    net.start(1);
    net.run_until(30 * SECOND, Net::is_settled);
    let back = [(Role::Holding, "it started"), (Role::Backup, "the live master confirmed it")];
    assert_eq!(told(&mut net, 1), back);
    net.assert_sound();
}

#[test]
fn who_loses_its_master_its_disk_or_its_baseline_says_so() {
    let mut net = founded_by_the_first(5, 301);
    let free = net.up().find(|on| net.machine(*on).group.is_none()).unwrap();
    (0..5).for_each(|on| drop(told(&mut net, on)));
    for well in [false, true] {
        net.give(free, Input::Baseline { well, why: "the disk is slow".to_owned() });
    }
    let wants = [
        (Role::Holding, "its baseline is not well"),
        (Role::Eligible, "its baseline is well again"),
    ];
    assert_eq!(told(&mut net, free), wants);
    for eligible in [Eligibility::No, Eligibility::Eligible] {
        let (node, incarnation) = (id(free), skep_base::Incarnation(1));
        net.give(free, Input::Member { node, incarnation, eligible, resources: 500 });
    }
    let wants =
        [(Role::Host, "it is not eligible any more"), (Role::Eligible, "it is eligible now")];
    assert_eq!(told(&mut net, free), wants);

    let lone = net.up().find(|on| net.role(*on) == Role::Backup).unwrap();
    net.split(&[lone]);
    net.run_until(60 * SECOND, |net| net.role(lone) == Role::SemiMaster);
    assert_eq!(told(&mut net, lone), [(Role::SemiMaster, "it has heard no master for too long")]);
    net.run_until(30 * SECOND, |net| {
        let flock = net.view(net.master()).flock.unwrap();
        flock.backups.len() == 2 && !flock.backups.contains(&id(lone))
    });
    net.heal();
    net.run_until(60 * SECOND, Net::is_settled);
    assert_eq!(told(&mut net, lone), [(Role::Eligible, "it was demoted while it was away")]);

    let full = net.up().find(|on| net.role(*on) == Role::Backup).unwrap();
    drop(told(&mut net, full));
    net.hosts[full].disk_faulty = Some(DiskFault::Full);
    let master = net.master();
    net.propose(master, "one more");
    net.run_until(5 * SECOND, |net| net.role(full) == Role::Holding);
    assert_eq!(told(&mut net, full), [(Role::Holding, "its disk takes nothing")]);
    net.assert_sound();
}
