//! Orders and their stamps: what is carried out, what is refused, and that nobody refuses for ever.

use std::time::Duration;

use skep_base::Incarnation;

use super::net::{Net, id};
use crate::plant::{self, Bug};
use crate::{Eligibility, Epoch, Input, Stamp};

const SECOND: Duration = Duration::from_secs(1);

/// A flock of five that obeys its master: those who founded flocks of their own first may refuse
/// the first order.
fn obeying(seed: u64) -> Net {
    let mut net = Net::settled(5, seed);
    for _ in 0..2 {
        net.orders = (0, 0);
        let master = net.master();
        net.order(master);
        net.run(11 * SECOND);
    }
    assert_eq!(net.orders, (5, 0), "{}", net.dump());
    net
}

#[test]
fn an_order_of_a_former_master_is_refused_on_every_host_also_after_its_restart() {
    let mut net = obeying(71);
    let former = net.master();
    let old = net.machine(former).order_stamp().unwrap();
    net.cut_power(former);
    net.run_until(60 * SECOND, |net| net.masters().len() == 1);
    let master = net.master();
    net.run_until(60 * SECOND, |net| {
        net.up().all(|on| net.machine(on).seen().is_some_and(|it| it.epoch > old.epoch))
    });
    net.order(master);
    net.run(11 * SECOND);
    for on in 0..5 {
        if net.hosts[on].machine.is_some() {
            net.cut_power(on);
        }
        net.start(on);
    }
    let refused = net.orders.1;
    (0..5).filter(|on| *on != former).for_each(|on| net.give_order(on, old));
    assert_eq!(net.orders.1, refused + 4, "from the disk, before anybody is heard");
    net.run_until(60 * SECOND, Net::is_settled);
    net.assert_sound();
}

#[test]
fn whoever_refuses_tells_the_master_which_then_passes_it() {
    let mut net = obeying(72);
    let master = net.master();
    let host = net.up().find(|on| net.machine(*on).group.is_none()).unwrap();
    // Not eligible, it announces nothing: nobody can know what it saw.
    net.hosts[host].eligible = Eligibility::No;
    let node = id(host);
    let (eligible, incarnation) = (Eligibility::No, Incarnation(1));
    net.give(host, Input::Member { node, incarnation, eligible, resources: 0 });
    let far = net.machine(master).order_stamp().unwrap();
    let far = Stamp { epoch: Epoch(far.epoch.0 + 1000), fork: crate::ForkId(77) };
    net.give_order(host, far);
    net.run(SECOND);
    assert_eq!(net.machine(host).seen(), Some(far));
    let before = net.orders;
    net.order(master);
    net.run_until(20 * SECOND, |net| {
        let stamp = net.machine(net.master()).order_stamp();
        stamp.is_some_and(|stamp| stamp.epoch.0 == far.epoch.0 + 1)
    });
    net.run(11 * SECOND);
    assert!(net.orders.1 > before.1, "one refused");
    let (before, master) = (net.orders, net.master());
    net.order(master);
    net.run(11 * SECOND);
    assert_eq!(net.orders, (before.0 + 5, before.1), "all obey the new stamp");
    net.assert_sound();
}

#[test]
fn a_stamp_beyond_all_reason_moves_nobody() {
    let mut net = Net::settled(3, 73);
    let seen = net.machine(0).seen();
    let far = Stamp { epoch: Epoch(1 << 40), fork: crate::ForkId(7) };
    net.give_order(0, far);
    net.run(5 * SECOND);
    assert_eq!((net.machine(0).seen(), net.orders), (seen, (0, 1)));
    net.assert_sound();
}

fn caught(bug: Bug, mut scenario: impl FnMut(u64) -> bool) -> usize {
    plant::set(Some(bug));
    let found = (0..10).filter(|seed| scenario(*seed)).count();
    plant::set(None);
    found
}

/// Masters come and go, and each gives orders of which some come late; hosts lose power.
fn ordered_about(seed: u64) -> Net {
    let mut net = Net::settled(4, 740 + seed);
    for _ in 0..6 {
        for master in net.masters() {
            net.order(master);
        }
        net.run(SECOND);
        let on = net.master();
        net.cut_power(on);
        net.run_until(60 * SECOND, |net| net.masters().len() == 1);
        net.start(on);
        let next = net.master();
        net.order(next);
        net.run_until(60 * SECOND, Net::is_settled);
    }
    net
}

#[test]
fn the_checker_sees_an_order_of_a_lower_stamp_that_is_carried_out() {
    let broken = |seed| !ordered_about(seed).faults.is_empty();
    assert_eq!((0..10).filter(|seed| broken(*seed)).count(), 0, "and none without it");
    let found = caught(Bug::NoFence, broken);
    assert!(found >= 5, "seen in {found} of 10");
}

#[test]
fn the_checker_sees_an_order_that_is_carried_out_before_its_stamp_is_on_disk() {
    let broken = |seed| !ordered_about(seed).faults.is_empty();
    let found = caught(Bug::ForgetfulFence, broken);
    assert!(found >= 5, "seen in {found} of 10");
}
