//! What is measured, what it costs, and when it is told.

use core::time::Duration;

use super::net::{Line, Net, node};
use crate::{Basis, Config, Input, Place, probe};
use skep_base::{NodeId, Time};

const MS: Duration = Duration::from_millis(1);

fn quiet() -> Config {
    Config { bandwidth_period: Duration::ZERO, ..Config::default() }
}

fn lan(_: NodeId, _: NodeId) -> Line {
    Line { one_way: MS / 5, rate: 100_000_000, jitter: 0.0 }
}

/// A line whose rate is in the identity of its ends: the test's own.
fn by_rate<const RATE: u64>(_: NodeId, _: NodeId) -> Line {
    Line { one_way: 20 * MS, rate: RATE, jitter: 0.01 }
}

/// Probes a link of `RATE` as often as a machine can be told to, for ten minutes: the share of the
/// worst minute, and the estimate.
fn probe_link<const RATE: u64>() -> (f64, u64) {
    let bandwidth_period = Duration::from_secs(1);
    let ping_period = Duration::from_secs(100_000);
    let config = Config { bandwidth_period, ping_period, ..Config::default() };
    let mut net = Net::new(2, &config, by_rate::<RATE>);
    // Only one end probes, so that its bytes are told from the other's.
    let idle = Input::Present(alloc::vec![node(1)]);
    net.give(node(1), idle);
    net.link(node(0), node(1));
    net.run_for(Duration::from_secs(600));
    let between = net.machines[&node(0)].between(net.now, node(0), node(1), &|_| None);
    let minute = Duration::from_secs(60);
    let within = |from: Time| {
        let bytes = net.sent.iter().filter(|(at, _)| *at >= from && at.since(from) < minute);
        bytes.map(|(_, bytes)| bytes).sum::<u64>()
    };
    let worst = net.sent.iter().map(|(at, _)| within(*at)).max().unwrap();
    (worst as f64 / (60.0 * RATE as f64), between.and_then(|b| b.rate).unwrap_or(0))
}

#[test]
fn a_probe_never_takes_more_than_2_percent_of_a_link_over_a_minute() {
    let probes = [
        (2_048, probe_link::<2_048>()),
        (10_000, probe_link::<10_000>()),
        (100_000, probe_link::<100_000>()),
        (1_000_000, probe_link::<1_000_000>()),
        (12_500_000, probe_link::<12_500_000>()),
        (125_000_000, probe_link::<125_000_000>()),
    ];
    for (rate, (share, estimate)) in probes {
        assert!(share <= 0.02, "{rate} bytes a second: {share}");
        let (least, most) = (f64::from(rate) * 0.6 - 1024.0, f64::from(rate) * 1.1);
        assert!((least..most).contains(&(estimate as f64)), "{rate}: estimated {estimate}");
    }
}

#[test]
fn bulk_that_flows_anyway_saves_the_probe() {
    let config = Config { bandwidth_period: Duration::from_secs(100), ..Config::default() };
    let mut net = Net::new(2, &config, lan);
    net.link(node(0), node(1));
    for n in 0..120_u64 {
        for (a, b) in [(0, 1), (1, 0)] {
            let sample = crate::Sample {
                peer: node(b),
                bulk: true,
                least_rtt: MS,
                acked: (n + 1) << 20,
                rate: 30_000_000,
                sender_limited: false,
            };
            net.give(node(a), Input::Looked(alloc::vec![sample]));
        }
        net.run_for(Duration::from_secs(10));
    }
    assert!(net.machines.values().all(|machine| machine.probed_bytes() == 0));
    let between = net.machines[&node(0)].between(net.now, node(0), node(1), &|_| None).unwrap();
    assert!(between.rate.unwrap().abs_diff(30_000_000) < 1024);
}

#[test]
fn each_ping_period_one_random_node_is_measured() {
    let config = Config { ping_period: Duration::from_secs(15), ..quiet() };
    let mut net = Net::new(20, &config, lan);
    net.run_for(Duration::from_secs(15 * 60));
    for (id, machine) in &net.machines {
        // Sixty draws out of nineteen: some node is missed by hardly anybody.
        assert!(machine.measured() >= 15, "{id:?} measured {}", machine.measured());
        let of = |other| machine.between(net.now, *id, other, &|_| None);
        let known = (0..20).map(node).filter_map(of);
        let measured = known.filter(|known| known.basis == Basis::Measured);
        assert!(measured.map(|known| known.rtt).all(|rtt| rtt.abs_diff(MS * 2 / 5) < MS / 50));
    }
}

#[test]
fn a_node_that_cannot_be_dialled_is_let_be() {
    let config = Config { ping_period: Duration::from_secs(5), ..quiet() };
    let mut net = Net::new(5, &config, lan);
    net.dials = false;
    net.run_for(Duration::from_secs(300));
    assert!(net.machines.values().all(|machine| machine.measured() == 0));
}

#[test]
fn a_flock_at_rest_says_nothing_twice() {
    let mut net = Net::new(8, &quiet(), lan);
    for a in 0..8 {
        for b in [a + 1, a + 2] {
            net.link(node(a), node(b % 8));
        }
    }
    net.run_for(Duration::from_secs(3600));
    let before = net.published;
    assert!(before >= 8, "nobody published");
    net.run_for(Duration::from_secs(6 * 3600));
    let later = net.published - before;
    assert!(later <= 16, "{later} reports in six hours in which nothing changed");
}

#[test]
fn first_reports_of_a_flock_are_spread_and_a_late_comer_s_is_not() {
    let mut net = Net::new(50, &quiet(), lan);
    (0..50).for_each(|n| net.link(node(n), node((n + 1) % 50)));
    net.run_for(Duration::from_secs(30 + 50));
    // Fifty times seven seconds and a half: an eighth of them, or a little less.
    assert!(net.reports.len() <= 12, "{} nodes reported in 80 s", net.reports.len());
    net.run_for(Duration::from_secs(400));
    assert_eq!(net.reports.len(), 50);
    let mut late = crate::Estimates::new(node(90), quiet(), skep_base::Rng::seeded(9), net.now);
    let mut out = skep_base::Outbox::new();
    let mut present: alloc::vec::Vec<NodeId> = (0..50).chain([90]).map(node).collect();
    present.sort_unstable();
    late.handle(net.now, Input::Present(present.clone()), &mut out);
    late.handle(net.now, Input::Link { peer: node(0), up: true }, &mut out);
    let due = |late: &crate::Estimates| late.first_report_due().unwrap().since(net.now);
    assert!(due(&late) > Duration::from_secs(50), "it knows of no reports yet: {:?}", due(&late));
    for (id, report) in &net.reports {
        let body = Some(report.to_body().into());
        late.handle(net.now, Input::Record { node: *id, body }, &mut out);
    }
    late.handle(net.now, Input::Present(present), &mut out);
    assert!(due(&late) <= Duration::from_secs(50), "{:?}", due(&late));
}

#[test]
fn a_machine_that_wanders_by_less_than_a_millisecond_says_so_once() {
    let mut net = Net::new(2, &quiet(), lan);
    net.link(node(0), node(1));
    net.run_for(Duration::from_secs(900));
    let before = net.published;
    let mut rng = skep_base::Rng::seeded(3);
    for minute in 0..120_u32 {
        // The kernel's least of some minutes is the same at each look, and then another.
        let least_rtt = Duration::from_micros(300 + 600 * u64::from(minute / 5 % 2))
            + Duration::from_micros(rng.within(0..50));
        let sample = crate::Sample {
            peer: node(1),
            bulk: false,
            least_rtt,
            acked: 0,
            rate: 0,
            sender_limited: true,
        };
        for _ in 0..8 {
            net.give(node(0), Input::Looked(alloc::vec![sample]));
        }
        net.run_for(Duration::from_secs(60));
    }
    let told = net.published - before;
    assert!(told <= 6, "{told} reports in two hours of a busy machine");
}

#[test]
fn a_change_of_a_fifth_is_told_within_the_period_and_less_is_not() {
    let mut net = Net::new(2, &quiet(), lan);
    net.link(node(0), node(1));
    net.run_for(Duration::from_secs(900));
    let look = |net: &mut Net, rtt: Duration, times: usize| {
        for _ in 0..times {
            let sample = crate::Sample {
                peer: node(1),
                bulk: false,
                least_rtt: rtt,
                acked: 0,
                rate: 0,
                sender_limited: true,
            };
            net.give(node(0), Input::Looked(alloc::vec![sample]));
        }
    };
    let said = |net: &Net| net.reports[&node(0)].pair(node(1)).unwrap().rtt();
    assert_eq!(said(&net), MS * 2 / 5);
    let published = net.published;
    // A tenth more than the least: within what noise may do.
    look(&mut net, MS * 11 / 25, 8);
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.published, published);
    look(&mut net, 9 * MS, 16);
    let sampler = |net: &mut Net| {
        for _ in 0..90 {
            look(net, 9 * MS, 8);
            net.run_for(Duration::from_secs(1));
        }
    };
    sampler(&mut net);
    assert!(said(&net) > MS, "{:?}", said(&net));
}

#[test]
fn a_pair_that_was_never_measured_is_predicted_and_says_by_what() {
    let sydney = Place::from_degrees(-33.95, 151.18);
    let mut net = Net::new(3, &Config { place: sydney, ..quiet() }, lan);
    let unknown = |_| None;
    assert_eq!(net.machines[&node(0)].between(net.now, node(1), node(2), &unknown), None);
    let report = |coordinate, place| {
        let report = crate::Report::new(coordinate, place, alloc::vec::Vec::new());
        Some(report.to_body().into())
    };
    let london = Place::from_degrees(51.47, -0.45);
    for n in [1, 2] {
        let place = if n == 1 { sydney } else { london };
        net.give(node(0), Input::Record { node: node(n), body: report(None, place) });
    }
    let far = net.machines[&node(0)].between(net.now, node(1), node(2), &unknown).unwrap();
    assert_eq!((far.basis, far.by), (Basis::Distance, None));
    assert!((220..235).contains(&far.rtt.as_millis()), "{far:?}");
    for n in [1, 2] {
        let body = report(Some(&crate::Coordinate::ORIGIN), None);
        net.give(node(0), Input::Record { node: node(n), body });
    }
    let near = net.machines[&node(0)].between(net.now, node(1), node(2), &unknown).unwrap();
    assert_eq!(near.basis, Basis::Coordinates);
    assert!(near.deviation.is_some() && near.by.is_none());
}

#[test]
fn what_both_ends_measured_is_the_less_and_says_who() {
    let mut net = Net::new(3, &quiet(), lan);
    let pair = |peer, rtt_us| crate::Pair {
        peer: crate::short_id(node(peer)),
        rtt_us,
        deviation_us: 9,
        rate_kib: 5,
    };
    let reports = [(1, pair(2, 900)), (2, pair(1, 700))];
    for (by, pair) in reports {
        let report = crate::Report::new(None, None, alloc::vec![pair]);
        net.reports.insert(node(by), report.clone());
        let body = Some(report.to_body().into());
        net.give(node(0), Input::Record { node: node(by), body });
    }
    net.run_for(Duration::from_secs(30));
    let from = |id: NodeId| net.reports.get(&id).cloned();
    let between = net.machines[&node(0)].between(net.now, node(1), node(2), &from).unwrap();
    assert_eq!(between.rtt, Duration::from_micros(700));
    assert_eq!((between.by, between.basis), (Some(node(2)), Basis::Measured));
    assert_eq!(between.age, Some(Duration::from_secs(30)));
    assert_eq!(between.rate, Some(5 * 1024));
}

#[test]
fn a_node_takes_up_the_place_of_its_earlier_life() {
    let mut net = Net::new(2, &quiet(), lan);
    net.link(node(0), node(1));
    net.run_for(Duration::from_secs(600));
    let report = net.reports[&node(0)].clone();
    let config = quiet();
    let mut again = crate::Estimates::new(node(0), config, skep_base::Rng::seeded(9), net.now);
    let mut out = skep_base::Outbox::new();
    let body = Some(report.to_body().into());
    again.handle(net.now, Input::Record { node: node(0), body }, &mut out);
    let sample = crate::Sample {
        peer: node(1),
        bulk: false,
        least_rtt: MS,
        acked: 0,
        rate: 0,
        sender_limited: true,
    };
    again.handle(net.now, Input::Link { peer: node(1), up: true }, &mut out);
    again.handle(net.now, Input::Looked(alloc::vec![sample]), &mut out);
    let (was, is) = (report.coordinate().unwrap(), again.coordinate().unwrap());
    assert!(is.shift_from(&was) < 0.001, "{is:?} is far from {was:?}");
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let mut net = Net::new(2, &quiet(), lan);
    net.link(node(0), node(1));
    let mut out = skep_base::Outbox::new();
    let machine = net.machines.get_mut(&node(0)).unwrap();
    for body in [&[][..], &[9, 9, 9], &[2, 1, 0, 200]] {
        let body = bytes::Bytes::copy_from_slice(body);
        machine.handle(net.now, Input::Message { from: node(1), body }, &mut out);
    }
    assert_eq!(out.len(), 3);
    // An answer to what was never asked, and a train on no link.
    let pong = crate::Message::Arrived { token: 77, later: 5, span_us: 1 };
    let train = crate::Message::Train { token: 1, left: 5, padding: Default::default() };
    for (from, message) in [(1, pong), (7, train)] {
        let body = skep_wire::encode(&message).into();
        machine.handle(net.now, Input::Message { from: node(from), body }, &mut out);
    }
    assert_eq!(out.len(), 3);
    machine.check();
}

#[test]
fn memory_is_bounded_among_ten_thousand() {
    let mut net = Net::new(1, &quiet(), lan);
    let body = crate::Report::new(Some(&crate::Coordinate::ORIGIN), None, alloc::vec![]).to_body();
    for n in 0..20_000 {
        let body = Some(body.clone().into());
        net.machines.get_mut(&node(0)).unwrap().handle(
            net.now,
            Input::Record { node: node(n), body },
            &mut skep_base::Outbox::new(),
        );
    }
    let machine = &net.machines[&node(0)];
    machine.check();
    let bytes = machine.nodes.len() * size_of_val(machine.nodes.values().next().unwrap());
    assert!(bytes < 3 << 20, "{bytes} bytes of whereabouts");
}

#[test]
fn the_bounds_that_the_documents_state_are_these() {
    assert_eq!(probe::PROBE_BYTES, 255 * 1024);
    assert_eq!(crate::MAX_PAIRS, 64);
}
