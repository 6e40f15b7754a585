//! When the log is full: what goes first, and who is told.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{ByteSize, GroupName};

use super::net::{Net, node};
use crate::event::CursorName;
use crate::{Config, GapReason, Input, Position};

const SECOND: Duration = Duration::from_secs(1);

/// Room for about a hundred updates of a thousand bytes.
fn narrow() -> Config {
    let storage_max = ByteSize(110_000);
    Config { body_max: ByteSize(10_000), storage_max, cache_max: ByteSize(1), ..Config::default() }
}

fn name() -> CursorName {
    Arc::from("export")
}

fn open(net: &mut Net, on: usize) {
    let (group, from) = (GroupName::all(), Some(Position(0)));
    net.input(on, Input::CursorOpen { name: name(), group, from, durable: true });
}

fn publish(net: &mut Net, on: usize, count: usize) {
    for number in 0..count {
        net.publish(on, &Bytes::from(format!("{number:01000}")));
        net.run(Duration::from_millis(2));
    }
}

#[test]
fn what_was_dropped_for_an_absent_node_is_told_it_when_it_is_back() {
    let mut net = Net::new(3, 1, &narrow());
    net.ring();
    open(&mut net, 2);
    publish(&mut net, 0, 10);
    net.run(SECOND);
    net.stop(2, false);
    publish(&mut net, 0, 300);
    net.run(SECOND);
    let stats = *net.hosts[0].flood().stats();
    assert!(stats.dropped_for_absent > 150, "{stats:?}");
    assert_eq!((stats.dropped_unsent, stats.dropped_unread), (0, 0));
    net.start(2, false);
    net.ring();
    net.run(5 * SECOND);
    let told: Vec<_> = net.hosts[2].told.iter().map(|it| &it.2).collect();
    let [gap] = told[..] else { panic!("told {told:?}") };
    assert_eq!((gap.origin, gap.reason), (node(0), GapReason::Dropped));
    assert_eq!(gap.after.unwrap().sequence, 10, "the last it had");
    // Whatever it lacks is in that gap, and nothing else is.
    let had = net.hosts[2].ids();
    for sequence in 11..=310 {
        let lacks = !had.iter().any(|id| id.serial.sequence == sequence);
        assert_eq!(lacks, sequence <= gap.up_to.sequence, "{sequence}");
    }
    assert_eq!(net.hosts[2].gaps.len(), 1, "it is reported once");
    net.run(300 * SECOND);
    assert_eq!((net.hosts[2].gaps.len(), net.hosts[2].told.len()), (1, 1));
}

#[test]
fn what_another_still_has_comes_late() {
    let mut net = Net::new(3, 2, &narrow());
    net.hosts[1].config = Config::default();
    net.stop(1, false);
    net.start(1, false);
    net.ring();
    publish(&mut net, 0, 10);
    net.run(SECOND);
    net.stop(2, false);
    publish(&mut net, 0, 300);
    net.run(SECOND);
    net.hosts[2].config = Config::default();
    net.start(2, false);
    net.link(0, 2);
    net.run(5 * SECOND);
    assert_eq!(net.hosts[2].gaps.len(), 1);
    assert!(net.hosts[2].count() < 150);
    net.link(1, 2);
    net.run(5 * SECOND);
    assert_eq!(net.hosts[2].count(), 310);
}

#[test]
fn a_subscriber_is_told_by_origin_what_it_was_too_slow_for() {
    let mut net = Net::new(2, 3, &narrow());
    net.link(0, 1);
    net.hosts[1].commits = false;
    open(&mut net, 1);
    publish(&mut net, 0, 300);
    net.run(SECOND);
    let stats = *net.hosts[1].flood().stats();
    assert!(stats.dropped_unread > 150, "{stats:?}");
    assert_eq!(stats.dropped_unsent, 0);
    // It is killed and back before it was told.
    net.hosts[1].cursors.insert(name(), Position(0));
    net.stop(1, false);
    net.hosts[1].commits = true;
    net.hosts[1].handed.clear();
    net.start(1, false);
    net.link(0, 1);
    net.run(5 * SECOND);
    let had: Vec<u64> = net.hosts[1].handed.iter().map(|it| it.1.id.serial.sequence).collect();
    for sequence in 1..=300 {
        let told = net.hosts[1].told.iter().any(|(_, _, gap)| {
            let after = gap.after.map_or(0, |after| after.sequence);
            assert_eq!((gap.origin, gap.reason), (node(0), GapReason::NoRoom));
            (after + 1..=gap.up_to.sequence).contains(&sequence)
        });
        assert!(told || had.contains(&sequence), "{sequence} is left to guess");
    }
}

#[test]
fn what_only_the_absent_wait_for_goes_before_what_is_unread() {
    let pool: GroupName = "pool".parse().unwrap();
    let mut config = narrow();
    config.groups.insert(pool.clone());
    let mut net = Net::new(1, 4, &config);
    net.hosts[0].commits = false;
    open(&mut net, 0);
    // The oldest are unread; those of the other group nobody here waits for.
    publish(&mut net, 0, 50);
    for number in 0..40 {
        net.publish_to(0, &pool, &Bytes::from(format!("{number:01000}")));
    }
    publish(&mut net, 0, 30);
    net.run(SECOND);
    let stats = *net.hosts[0].flood().stats();
    assert!((20..=40).contains(&stats.dropped_for_absent), "{stats:?}");
    assert_eq!(stats.dropped_unread, 0);
    // What is dropped in the middle frees no disk: in the end the oldest go all the same.
    publish(&mut net, 0, 60);
    net.run(SECOND);
    let stats = *net.hosts[0].flood().stats();
    assert!(stats.dropped_for_absent > 20, "{stats:?}");
    assert!(stats.dropped_unread > 20, "{stats:?}");
    let room = net.hosts[0].flood().len();
    assert!(room >= 70, "{room} left");
}

#[test]
fn what_a_neighbour_is_being_given_goes_after_what_nobody_waits_for() {
    let mut net = Net::new(3, 5, &narrow());
    net.hosts[2].config = Config::default();
    net.stop(2, false);
    net.start(2, false);
    net.link(0, 1);
    net.link(1, 2);
    publish(&mut net, 0, 1);
    net.run(SECOND);
    net.cut(1, 2);
    publish(&mut net, 0, 89);
    net.run(SECOND);
    // Node 2 asks for all of it and is slow; more comes in meanwhile.
    net.latency = (300, 400);
    net.link(1, 2);
    net.run(2 * SECOND);
    net.latency = (1, 2);
    publish(&mut net, 0, 100);
    net.run(10 * SECOND);
    // Room was made, and all of it by what nobody waits for: who is being given loses nothing.
    let stats = net.hosts[1].flood().stats();
    assert!(stats.dropped_for_absent >= 80, "{stats:?}");
    assert_eq!((stats.dropped_unsent, stats.dropped_unread), (0, 0), "{stats:?}");
    let had = net.hosts[2].ids();
    for sequence in 1..=190 {
        assert!(had.iter().any(|id| id.serial.sequence == sequence), "{sequence} is lost");
    }
    assert!(net.hosts[2].gaps.is_empty());
}
