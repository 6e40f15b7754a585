//! Pairs that no link can join.

use alloc::vec::Vec;
use core::time::Duration;

use super::net::{Line, Net, node};
use crate::{
    Basis, Between, Config, Costs, Estimates, Input, MAX_WAYS, Output, Way, Ways, short_id,
};
use skep_base::{NodeId, Outbox, Rng, Time};

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const OVER_OTHERS: Duration = Duration::from_millis(31);

fn quiet() -> Config {
    Config { bandwidth_period: Duration::ZERO, ..Config::default() }
}

fn wan(_: NodeId, _: NodeId) -> Line {
    Line { one_way: 10 * MS, rate: 100_000_000, jitter: 0.0 }
}

/// A ring, over whose links those ask who cannot meet.
fn ring(n: usize) -> Net {
    let mut net = Net::new(n, &quiet(), wan);
    net.over_others = Some(OVER_OTHERS);
    (0..n).for_each(|at| net.link(node(at), node((at + 1) % n)));
    net
}

fn between(net: &Net, by: usize, a: usize, b: usize) -> Between {
    net.machines[&node(by)].between(net.now, node(a), node(b), net).unwrap()
}

fn costs(net: &Net, n: usize) -> Costs {
    let members: Vec<NodeId> = (0..n).map(node).collect();
    Costs::new(&members, net)
}

#[test]
fn who_cannot_meet_is_measured_over_others_and_no_topology_may_join_them() {
    let mut net = ring(8);
    net.part(node(1), node(5));
    net.run_for(120 * MINUTE);
    for by in [0, 1, 5, 7] {
        let known = between(&net, by, 1, 5);
        assert_eq!((known.basis, known.rtt), (Basis::Routed, OVER_OTHERS), "as {by} sees it");
        assert!(known.by == Some(node(1)) || known.by == Some(node(5)));
        assert!(known.age.unwrap() < 120 * MINUTE, "{known:?}");
        assert!([Basis::Measured, Basis::Coordinates].contains(&between(&net, by, 1, 4).basis));
    }
    let costs = costs(&net, 8);
    assert_eq!(costs.apart().collect::<Vec<_>>(), [(1, 5)]);
    assert_eq!(costs.rtt(5, 1), Some((OVER_OTHERS, Basis::Routed)));
    assert_eq!(costs.measurement(1, 5), None);
    assert_eq!(net.ways.len(), 2);
    // The way is open again: it is measured as any other, and what was published is taken back.
    net.closed.clear();
    net.run_for(60 * MINUTE);
    assert!(net.ways.is_empty(), "{:?}", net.ways);
    assert_ne!(between(&net, 0, 1, 5).basis, Basis::Routed);
    assert!(net.machines.values().all(|machine| machine.apart() == 0));
}

#[test]
fn a_way_that_changes_is_told_and_one_that_wanders_is_not() {
    let mut net = ring(4);
    net.part(node(0), node(2));
    net.run_for(60 * MINUTE);
    let before = net.ways_published;
    for round in 0..16 {
        net.over_others = Some(OVER_OTHERS + (round % 4) * MS);
        net.run_for(15 * MINUTE);
    }
    assert_eq!(net.ways_published, before, "noise was told");
    net.over_others = Some(OVER_OTHERS * 2);
    net.run_for(40 * MINUTE);
    assert_eq!(between(&net, 1, 0, 2).rtt, OVER_OTHERS * 2);
    assert_eq!(net.ways_published, before + 2);
}

#[test]
fn one_that_can_be_dialled_from_one_end_is_measured_from_there() {
    let mut net = ring(6);
    // Behind address translation: dials everybody, and nobody dials it.
    net.closed.extend((0..6).map(|other| (node(other), node(3))));
    net.run_for(180 * MINUTE);
    assert!(!net.asked.is_empty(), "nobody was asked over others");
    assert!(net.ways.is_empty() && costs(&net, 6).apart().next().is_none());
    for other in [0, 1, 5] {
        let own = net.machines[&node(3)].between(net.now, node(3), node(other), &net).unwrap();
        assert_eq!((own.basis, own.rtt), (Basis::Measured, 20 * MS));
    }
}

#[test]
fn what_passes_within_a_minute_is_no_fact() {
    let mut net = ring(4);
    net.part(node(0), node(2));
    while net.asked.len() < 3 {
        net.run_for(MINUTE / 60);
    }
    net.run_for(MINUTE / 2);
    net.closed.clear();
    net.run_for(30 * MINUTE);
    assert_eq!(net.ways_published, 0);
}

#[test]
fn a_link_ends_it_at_once() {
    let mut net = ring(4);
    net.part(node(0), node(2));
    net.run_for(60 * MINUTE);
    assert_eq!(net.ways.len(), 2);
    net.link(node(0), node(2));
    assert!(net.machines.values().all(|machine| machine.apart() == 0));
    net.run_for(3 * MINUTE);
    assert!(net.ways.is_empty());
}

#[test]
fn an_older_node_that_does_not_answer_is_let_be() {
    let mut net = ring(4);
    net.over_others = None;
    net.part(node(0), node(2));
    net.run_for(120 * MINUTE);
    assert!(!net.asked.is_empty() && net.ways_published == 0);
    assert!(net.machines.values().all(|machine| machine.apart() == 0));
}

#[test]
fn two_halves_ask_within_bounds() {
    let n = 80;
    let mut net = ring(n);
    for a in 0..n / 2 {
        (n / 2..n).for_each(|b| net.part(node(a), node(b)));
    }
    net.run_for(90 * MINUTE);
    let listed = |ways: &Ways| ways.ways().len();
    assert!(net.ways.values().map(listed).max().unwrap() <= MAX_WAYS);
    assert!(net.ways.values().map(listed).sum::<usize>() > n * 10, "hardly any pair is known");
    let before = net.asked.len();
    net.run_for(60 * MINUTE);
    // Four times an hour three for each that is known, and what is drawn each minute.
    let each = (net.asked.len() - before) / n;
    assert!(each <= 4 * 3 * MAX_WAYS * 3 / 2 + 3 * 60 * 2, "{each} asked by a node in an hour");
}

/// A machine that is given inputs by hand, among fifty present.
fn alone() -> (Estimates, Outbox<Output>, Time) {
    let now = Time::from_millis(1_000_000);
    let mut machine = Estimates::new(node(0), quiet(), Rng::seeded(7), now);
    let mut out = Outbox::new();
    let mut present: Vec<NodeId> = (0..50).map(node).collect();
    present.sort_unstable();
    machine.handle(now, Input::Present(present), &mut out);
    (machine, out, now)
}

#[test]
fn who_is_asked_by_many_knocks_at_one_at_a_time() {
    let (mut machine, mut out, now) = alone();
    for by in 1..50 {
        machine.handle(now, Input::Pinged { by: node(by) }, &mut out);
        machine.check();
    }
    // Somebody who is not present, and one who is linked.
    machine.handle(now, Input::Pinged { by: node(77) }, &mut out);
    assert_eq!(out.drain().collect::<Vec<_>>(), [Output::Knock { peer: node(1) }]);
    for peer in 1..50 {
        machine.handle(now, Input::Knocked { peer: node(peer), took: None }, &mut out);
    }
    assert_eq!(out.drain().collect::<Vec<_>>(), [Output::Ask { peer: node(1) }]);
    // An answer that nobody waits for, and one that never comes.
    machine.handle(now, Input::Answered { peer: node(2), took: Some(MS) }, &mut out);
    assert!(out.is_empty() && machine.is_asking());
    let (at, _) = machine.deadline().unwrap();
    assert!(at <= now + Duration::from_secs(15));
    machine.tick(now + Duration::from_secs(15), &mut out);
    assert!(!machine.is_asking());
    machine.tick(now + MINUTE, &mut out);
    machine.check();
    assert_eq!(machine.apart(), 0);
}

#[test]
fn what_a_life_before_published_is_taken_back() {
    let (mut machine, mut out, now) = alone();
    let ways = Ways::new(alloc::vec![Way { peer: short_id(node(9)), rtt_us: 9, deviation_us: 0 }]);
    let body = Some(ways.to_body().into());
    machine.handle(now, Input::Ways { node: node(0), body }, &mut out);
    machine.handle(now, Input::Link { peer: node(1), up: true }, &mut out);
    out.drain().for_each(drop);
    let mut told = Vec::new();
    for second in 0..600 {
        machine.tick(now + Duration::from_secs(second), &mut out);
        told.extend(out.drain().filter(|said| matches!(said, Output::PublishWays { .. })));
    }
    assert_eq!(told, [Output::PublishWays { body: None }]);
}

#[test]
fn one_end_alone_repels_no_link() {
    let mut net = ring(4);
    let lie = Ways::new(alloc::vec![Way { peer: short_id(node(2)), rtt_us: 9, deviation_us: 0 }]);
    net.ways.insert(node(0), lie);
    assert!(costs(&net, 4).apart().next().is_none());
    // What was measured stands against it.
    net.run_for(30 * MINUTE);
    net.ways.clear();
    let honest = between(&net, 1, 0, 1);
    let lie = Ways::new(alloc::vec![Way { peer: short_id(node(1)), rtt_us: 9, deviation_us: 0 }]);
    net.ways.insert(node(0), lie);
    assert_eq!(between(&net, 1, 0, 1).basis, honest.basis);
}
