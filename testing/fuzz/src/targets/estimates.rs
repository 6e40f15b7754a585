//! Estimates: what a node publishes of what it measured, and what two say to measure.

use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, Outbox, Rng, Time};
use skep_estimates::{
    Config, Coordinate, Costs, Estimates, Input, MAX_PAIRS, Message, Output, Pair, Place, Report,
    short_id,
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
