//! What peers ask for, and disks that answer late.

use alloc::vec;
use alloc::vec::Vec;

use skep_base::{ByteSize, GroupName, Incarnation, NodeId, Rng};

use super::net::node;
use super::single::{Bench, PEER, entries, header, rejections};
use crate::message::{Message, Packet};
use crate::{Config, CursorName, Flood, Input, LogRecord, Output, Position, ReadToken};

/// A machine whose log holds an update of each of these, and whose memory holds none.
fn stored(origins: &[NodeId]) -> (Bench, Vec<LogRecord>) {
    let mut bench = Bench::new();
    let config = Config { cache_max: ByteSize(1), ..Config::default() };
    bench.flood = Flood::new(node(1), Incarnation(1), config, Rng::seeded(1));
    bench.handle(Input::Begin { incarnation: Incarnation(1) });
    neighbours(&mut bench, &[PEER]);
    let headers = origins.iter().map(|origin| header(*origin, 1, None)).collect();
    let outputs = bench.updates(headers);
    let records: Vec<LogRecord> = entries(&outputs)
        .iter()
        .map(|entry| LogRecord { head: entry.head.to_bytes().into(), body: vec![5; 3].into() })
        .collect();
    let up_to = Position(origins.len() as u64);
    bench.handle(Input::Appended { up_to, durable: true });
    (bench, records)
}

fn neighbours(bench: &mut Bench, peers: &[usize]) {
    let peers = peers.iter().copied().map(node).collect();
    bench.handle(Input::Neighbours { group: GroupName::all(), peers });
}

fn pull(bench: &mut Bench, token: u32, of: NodeId) -> Vec<Output> {
    let group = GroupName::all();
    bench.says(Message::Pull { group, token, from: of, to: of, marks: vec![] }, vec![])
}

fn reads(outputs: &[Output]) -> Vec<ReadToken> {
    let mut tokens = Vec::new();
    for output in outputs {
        if let Output::Read { token, .. } = output {
            tokens.push(*token);
        }
    }
    tokens
}

/// Whose updates an answer brings.
fn given(outputs: &[Output]) -> Vec<NodeId> {
    let mut origins = Vec::new();
    for output in outputs {
        if let Output::Send { body, .. } = output
            && let Message::Pulled { headers, .. } = Packet::from_bytes(body).unwrap().message
        {
            origins.extend(headers.iter().map(|header| header.id.origin));
        }
    }
    origins
}

#[test]
fn who_asks_again_and_again_does_not_fill_the_disk_s_queue() {
    let (mut bench, _) = stored(&[node(3)]);
    let (mut asked, mut refused) = (0, 0);
    for _ in 0..1_000 {
        let outputs = pull(&mut bench, 7, node(3));
        asked += reads(&outputs).len();
        refused += rejections(&outputs).len();
    }
    assert_eq!((asked, refused), (32, 1_000 - 32));
}

#[test]
fn what_was_read_for_a_link_that_is_gone_is_no_answer_over_the_next() {
    let (mut bench, records) = stored(&[node(3), node(4)]);
    let first = reads(&pull(&mut bench, 1, node(3)))[0];
    neighbours(&mut bench, &[]);
    neighbours(&mut bench, &[PEER]);
    // A peer that was started again counts from one again.
    let second = reads(&pull(&mut bench, 1, node(4)))[0];
    let records = |at: usize| vec![Some(records[at].clone())];
    let late = bench.handle(Input::Read { token: first, records: records(0) });
    assert_eq!(given(&late), []);
    let outputs = bench.handle(Input::Read { token: second, records: records(1) });
    assert_eq!(given(&outputs), [node(4)]);
}

#[test]
fn what_was_read_for_a_subscription_that_is_gone_is_not_handed_to_the_next() {
    let (mut bench, records) = stored(&[node(3), node(4)]);
    let (name, group): (CursorName, _) = ("deploy".into(), GroupName::all());
    let open = |at: u64| {
        let (name, group, from) = (name.clone(), group.clone(), Some(Position(at)));
        Input::CursorOpen { name, group, from, durable: false }
    };
    let first = reads(&bench.handle(open(0)))[0];
    // The same name begins elsewhere: opened over the other, or after that was closed.
    let second = reads(&bench.handle(open(1)))[0];
    bench.handle(Input::CursorClose { name: name.clone() });
    let third = reads(&bench.handle(open(1)))[0];
    let one = |at: usize| vec![Some(records[at].clone())];
    let both = records.iter().cloned().map(Some).collect();
    for (token, records) in [(first, both), (second, one(1))] {
        assert_eq!(handed(&bench.handle(Input::Read { token, records })), []);
    }
    let outputs = bench.handle(Input::Read { token: third, records: one(1) });
    assert_eq!(handed(&outputs), [Position(1)]);
}

/// The places of what a subscriber is given.
fn handed(outputs: &[Output]) -> Vec<Position> {
    let mut positions = Vec::new();
    for output in outputs {
        if let Output::HandOver { updates, .. } = output {
            positions.extend(updates.iter().map(|update| update.position));
        }
    }
    positions
}
