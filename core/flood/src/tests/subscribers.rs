//! Hand-over to subscribers: at least once, same identity, told of what was purged.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{ByteSize, GroupName};

use super::net::Net;
use crate::event::CursorName;
use crate::{Config, DeliveredBody, Input, Position};

const SECOND: Duration = Duration::from_secs(1);

fn name() -> CursorName {
    Arc::from("export")
}

fn open(net: &mut Net, on: usize, from: Option<Position>) {
    net.input(on, Input::CursorOpen { name: name(), group: GroupName::all(), from, durable: true });
}

fn publish(net: &mut Net, on: usize, count: usize) {
    for number in 0..count {
        net.publish(on, &Bytes::from(format!("update {number}")));
    }
    net.run(SECOND);
}

#[test]
fn a_subscriber_gets_everything_once_in_the_order_of_the_log() {
    let mut net = Net::new(3, 1, &Config::default());
    net.ring();
    open(&mut net, 1, Some(Position(0)));
    publish(&mut net, 0, 700);
    net.publish(2, &Bytes::from(vec![1; 1 << 19]));
    publish(&mut net, 2, 10);
    net.run(5 * SECOND);
    let host = &net.hosts[1];
    let positions: vec::Vec<_> = host.handed.iter().map(|it| it.1.position.0).collect();
    assert_eq!(positions, (0..711).collect::<vec::Vec<_>>());
    for (_, update) in &host.handed {
        let stored = host.log[usize::try_from(update.position.0).unwrap()].as_ref().unwrap();
        let body = DeliveredBody::Here(stored.body.clone());
        assert_eq!((update.id, &update.body), (stored.head.header.id, &body));
    }
    assert_eq!(host.cursors.get(&name()), Some(&Position(711)));
}

#[test]
fn an_update_tells_when_it_came_into_this_log_and_how_far_its_reader_is() {
    let mut net = Net::new(2, 1, &Config::default());
    net.ring();
    publish(&mut net, 0, 3);
    net.run(30 * SECOND);
    net.hosts[1].commits = false;
    open(&mut net, 1, Some(Position(1)));
    net.run(SECOND);
    let host = &net.hosts[1];
    let flood = host.flood.as_ref().unwrap();
    assert_eq!(host.handed.len(), 2);
    for (_, update) in &host.handed {
        // Published half a minute ago, and here a moment later.
        assert!(update.logged >= 30 * SECOND && update.logged <= update.age, "{update:?}");
    }
    assert_eq!(flood.cursor_figures("export"), Some((Position(1), 2)));
    assert_eq!(flood.cursor_next("export"), Some(Position(3)));
    assert_eq!(flood.cursor_figures("nobody"), None);
}

#[test]
fn without_a_commit_it_comes_again_under_the_same_identity() {
    let mut net = Net::new(1, 2, &Config::default());
    net.hosts[0].commits = false;
    open(&mut net, 0, Some(Position(0)));
    publish(&mut net, 0, 1);
    publish(&mut net, 0, 1);
    assert_eq!(net.hosts[0].handed.len(), 1, "no more until the first is committed");
    let first = net.hosts[0].handed[0].1.clone();
    net.hosts[0].cursors.insert(name(), Position(0));
    net.stop(0, false);
    net.hosts[0].commits = true;
    net.start(0, false);
    net.run(SECOND);
    let again = &net.hosts[0].handed[1].1;
    assert_eq!((first.id, &first.body), (again.id, &again.body));
    assert_eq!(net.hosts[0].handed.len(), 3);
}

#[test]
fn a_position_committed_before_a_power_cut_took_the_tail_skips_nothing() {
    let mut net = Net::new(2, 3, &Config::default());
    net.link(0, 1);
    open(&mut net, 1, Some(Position(0)));
    publish(&mut net, 0, 20);
    assert_eq!(net.hosts[1].cursors.get(&name()), Some(&Position(20)));
    // Node 1 published nothing itself, so nothing of its log was ever synced.
    net.stop(1, true);
    assert!(net.hosts[1].log.is_empty());
    net.hosts[1].handed.clear();
    net.start(1, false);
    net.link(0, 1);
    net.run(5 * SECOND);
    let ids: BTreeSet<_> = net.hosts[1].handed.iter().map(|it| it.1.id).collect();
    assert_eq!(ids.len(), 20, "they are handed over again: at least once");
}

#[test]
fn a_slow_subscriber_is_told_what_was_purged() {
    let config = Config::default();
    let mut net = Net::new(1, 4, &config);
    net.hosts[0].commits = false;
    open(&mut net, 0, Some(Position(0)));
    publish(&mut net, 0, 1);
    publish(&mut net, 0, 9);
    net.run(config.purge_age + 120 * SECOND);
    assert_eq!(net.hosts[0].purged_below, 10);
    net.input(0, Input::CursorCommit { name: name(), up_to: Position(1) });
    publish(&mut net, 0, 1);
    net.input(0, Input::CursorCommit { name: name(), up_to: Position(1) });
    assert_eq!(net.hosts[0].cursor_gaps, [(Position(1), Position(10))]);
    assert_eq!(net.hosts[0].handed.last().unwrap().1.position, Position(10));
}

#[test]
fn from_now_on_means_from_now_on_and_closing_ends_it() {
    let mut net = Net::new(1, 5, &Config::default());
    publish(&mut net, 0, 5);
    open(&mut net, 0, None);
    publish(&mut net, 0, 2);
    assert_eq!(net.hosts[0].handed.len(), 2);
    net.input(0, Input::CursorClose { name: name() });
    publish(&mut net, 0, 2);
    assert_eq!(net.hosts[0].handed.len(), 2);
}

#[test]
fn a_backlog_is_read_from_the_disk() {
    let config = Config { cache_max: ByteSize(1), ..Config::default() };
    let mut net = Net::new(1, 6, &config);
    publish(&mut net, 0, 1000);
    net.hosts[0].log[17] = None;
    open(&mut net, 0, Some(Position(0)));
    net.run(SECOND);
    assert_eq!(net.hosts[0].handed.len(), 999);
    assert_eq!(net.hosts[0].cursor_gaps, [(Position(17), Position(18))]);
}
