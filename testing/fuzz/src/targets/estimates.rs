//! Estimates: what a node publishes of what it measured, and what two say to measure.

use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Rng, Time};
use skep_estimates::{
    Config, Coordinate, Costs, Estimates, Input, MAX_PAIRS, MAX_WAYS, Message, Output, Pair, Place,
    Report, Reports, Way, Ways, short_id,
};
use skep_wire::{decode, encode};

use super::{Seed, Target, said_again};

/// The body of a record of estimates.
pub(super) const RECORD: Target = Target {
    name: "estimates-record",
    decode: fuzz_record,
    seeds: record_seeds,
    accepts: |data| Report::from_body(data).is_ok(),
};

/// The body of a record of ways.
pub(super) const WAYS: Target = Target {
    name: "estimates-ways",
    decode: fuzz_ways,
    seeds: ways_seeds,
    accepts: |data| Ways::from_body(data).is_ok(),
};

/// What is said over a link to measure.
pub(super) const MESSAGE: Target = Target {
    name: "estimates-message",
    decode: fuzz_message,
    seeds: message_seeds,
    accepts: |data| decode::<Message>("estimates message", data).is_ok(),
};

/// Longest prediction that any coordinates may lead to: none of their parts is beyond ten seconds.
const FARTHEST: Duration = Duration::from_secs(120);

fn fuzz_record(data: &[u8]) {
    let mut machine = machine();
    let body = Some(Bytes::copy_from_slice(data));
    give(&mut machine, Input::Record { node: node(1), body });
    let Ok(report) = Report::from_body(data) else {
        return;
    };
    assert_eq!(Report::from_body(&report.to_body()).as_ref(), Ok(&report));
    assert!(report.pairs().len() <= MAX_PAIRS);
    // What whoever computes a topology makes of it, beside an honest one.
    let honest = honest();
    let members = [node(0), node(1), node(2)];
    let told = |of| match of {
        of if of == node(1) => Some(report.clone()),
        of if of == node(2) => Some(honest.clone()),
        _ => None,
    };
    let costs = Costs::new(&members, &told);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert_eq!(costs.rtt(a, b), costs.rtt(b, a));
        if costs.measurement(a, b).is_none() {
            assert!(costs.rtt(a, b).is_none_or(|(rtt, _)| rtt <= FARTHEST));
        }
    }
}

/// What one member says, beside an honest other.
struct Told(Ways);

impl Reports for Told {
    fn report(&self, of: NodeId) -> Option<Report> {
        (of == node(2)).then(honest)
    }

    fn ways(&self, of: NodeId) -> Option<Ways> {
        match of {
            of if of == node(1) => Some(self.0.clone()),
            of if of == node(2) => Some(Ways::new(vec![way(1)])),
            _ => None,
        }
    }
}

fn fuzz_ways(data: &[u8]) {
    let mut machine = machine();
    for of in [node(0), node(1)] {
        let body = Some(Bytes::copy_from_slice(data));
        give(&mut machine, Input::Ways { node: of, body });
    }
    let Ok(ways) = Ways::from_body(data) else {
        return;
    };
    assert_eq!(Ways::from_body(&ways.to_body()).as_ref(), Ok(&ways));
    assert!(ways.ways().len() <= MAX_WAYS);
    let both = ways.way(node(2)).is_some();
    let told = Told(ways);
    let members = [node(0), node(1), node(2)];
    let costs = Costs::new(&members, &told);
    // One alone keeps nobody apart.
    assert_eq!(costs.apart().collect::<Vec<_>>(), if both { vec![(1, 2)] } else { vec![] });
    for (a, b) in [(0_usize, 1_usize), (0, 2), (1, 2)] {
        assert_eq!(costs.rtt(a, b), costs.rtt(b, a));
        assert!(costs.rtt(a, b).is_none_or(|(rtt, _)| rtt <= FARTHEST));
        let known = machine.between(Time::from_millis(7_000), members[a], members[b], &told);
        assert!(known.is_none_or(|known| known.rtt <= FARTHEST));
    }
}

fn way(to: u128) -> Way {
    Way { peer: short_id(node(to)), rtt_us: 81_234, deviation_us: 2_345 }
}

fn ways_seeds() -> Vec<Seed> {
    let full = Ways::new((2..70).map(way).collect());
    let both = Ways::new(vec![way(2), way(9)]);
    vec![("both", both.to_body()), ("full", full.to_body()), ("nothing", vec![0])]
}

fn fuzz_message(data: &[u8]) {
    said_again::<Message>("estimates message", data);
    let mut machine = machine();
    for from in [node(1), node(9)] {
        let body = Bytes::copy_from_slice(data);
        for output in give(&mut machine, Input::Message { from, body }) {
            // Who asks for little gets little.
            let answer = matches!(&output, Output::Send { body, .. } if body.len() > 256);
            assert!(!answer, "a long answer: {output:?}");
        }
    }
}

/// A node that is linked to one other of two.
fn machine() -> Estimates {
    let now = Time::from_millis(5_000);
    let mut machine = Estimates::new(node(0), Config::default(), Rng::seeded(1), now);
    give(&mut machine, Input::Present(vec![node(0), node(1), node(2)]));
    give(&mut machine, Input::Link { peer: node(1), up: true });
    machine
}

fn give(machine: &mut Estimates, input: Input) -> Vec<Output> {
    let mut out = Outbox::new();
    machine.handle(Time::from_millis(6_000), input, &mut out);
    machine.check();
    out.drain().collect()
}

fn record_seeds() -> Vec<Seed> {
    let pair = |of| Pair {
        peer: short_id(node(of)),
        rtt_us: 81_234,
        deviation_us: 2_345,
        rate_kib: 120_000,
    };
    let place = Place::from_degrees(52.31, 4.76);
    let full = Report::new(Some(&Coordinate::ORIGIN), place, (2..70).map(pair).collect());
    let nothing = Report::new(None, None, Vec::new());
    vec![("honest", honest().to_body()), ("full", full.to_body()), ("nothing", nothing.to_body())]
}

fn honest() -> Report {
    let pair = Pair { peer: short_id(node(1)), rtt_us: 900, deviation_us: 40, rate_kib: 0 };
    Report::new(Some(&Coordinate::ORIGIN), None, vec![pair])
}

fn message_seeds() -> Vec<Seed> {
    let padding = || vec![7; 64].into();
    vec![
        ("ping", encode(&Message::Ping { token: 7 })),
        ("pong", vec![1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 10, 220, 11, 0]),
        ("train", encode(&Message::Train { token: 7, left: 3, padding: padding() })),
        ("last-piece", encode(&Message::Train { token: 7, left: 0, padding: padding() })),
        ("arrived", encode(&Message::Arrived { token: 7, later: 4096, span_us: 900 })),
    ]
}

fn node(number: u128) -> NodeId {
    NodeId::from_bytes((number + 1).wrapping_mul(0x0102_0304_0506_0708_090a).to_be_bytes())
}
