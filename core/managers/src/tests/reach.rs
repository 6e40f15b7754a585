//! Who reaches a master, and who knows that it does not (DVM-17).

use std::time::Duration;

use skep_base::Time;

use super::net::{Net, id};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

fn settled(count: usize, seed: u64) -> Net {
    let solitude = Duration::from_secs(60);
    let mut net = Net::with(count, seed, Config { solitude, ..Config::default() });
    (0..count).for_each(|host| net.start(host));
    net.run_until(60 * SECOND, Net::is_settled);
    net
}

fn reach(net: &Net, on: usize) -> Reach {
    net.machine(on).reach(net.now)
}

fn reaches(net: &Net, on: usize, master: usize) -> bool {
    reach(net, on) == Reach::Master(id(master))
}

/// All reach one master.
fn together(net: &Net) -> bool {
    let masters = net.masters();
    masters.len() == 1 && net.up().all(|on| reaches(net, on, masters[0]))
}

/// Since when it reaches nobody, and whether it did before.
fn alone(net: &Net, on: usize) -> Option<(Time, bool)> {
    match reach(net, on) {
        Reach::Master(_) => None,
        Reach::Nobody { since, before } => Some((since, before)),
    }
}

#[test]
fn dvm_17_who_reaches_no_master_knows_since_when_whatever_its_role() {
    // Managers, learners, and nodes that merely follow.
    let mut net = settled(8, 7);
    let master = net.master();
    net.run_until(10 * SECOND, |net| net.up().all(|on| reaches(net, on, master)));
    let backup = net.up().find(|on| net.role(*on) == Role::Backup).unwrap();
    let plain = |on: &usize| {
        net.role(*on) == Role::Eligible && !net.machine(*on).part().learns && *on != backup
    };
    let host = net.up().find(plain).unwrap();
    let cut = net.now;
    net.split(&[host]);
    for other in net.up().filter(|on| *on != host).collect::<Vec<_>>() {
        if other != backup {
            net.cut(backup, other);
        }
    }
    net.run_until(30 * SECOND, |net| alone(net, host).is_some() && alone(net, backup).is_some());
    let known = [host, backup].map(|on| alone(&net, on).unwrap());
    for (since, before) in known {
        assert!(before && since >= cut && since.since(cut) < 5 * SECOND, "{since:?}");
    }
    net.run_until(30 * SECOND, |net| net.role(backup) == Role::SemiMaster);
    assert_eq!(alone(&net, backup), Some(known[1]), "since the same moment, in its new role");
    let near = |net: &Net| {
        net.up().filter(|on| ![host, backup].contains(on)).all(|on| reaches(net, on, master))
    };
    assert!(near(&net), "they lost nobody");

    // A life that never reached one says so, also when it has retired.
    net.kill(backup);
    net.run(SECOND / 10);
    let started = net.now;
    net.start(backup);
    net.run_until(10 * SECOND, |net| net.role(backup) == Role::Holding);
    assert_eq!(alone(&net, backup), Some((started, false)));
    net.run_until(180 * SECOND, |net| net.role(backup) == Role::Retired);
    assert_eq!(alone(&net, backup), Some((started, false)));

    net.heal();
    net.run_until(60 * SECOND, together);
    net.assert_sound();
}

#[test]
fn a_master_that_stood_still_does_not_take_itself_for_one_before_it_has_heard() {
    let mut net = settled(5, 8);
    let master = net.master();
    assert!(reaches(&net, master, master));
    net.pause(master);
    net.run(10 * SECOND);
    // Nothing has reached the process yet; its role is what it was.
    assert_eq!(net.role(master), Role::Master);
    assert_eq!(alone(&net, master), Some((net.now, true)));
    net.resume(master);
    net.run_until(60 * SECOND, together);
    assert_ne!(net.master(), master, "another was elected meanwhile");
    net.assert_sound();
}
