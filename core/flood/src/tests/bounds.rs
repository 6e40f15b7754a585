//! What happens when there is more than there is room for.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{ByteSize, GroupName, Incarnation, NodeId};

use super::net::Net;
use crate::held::{Held, MAX_HELD, Waiting};
use crate::index::Index;
use crate::life::{GroupIx, Life, LifeKey, Place};
use crate::message::Header;
use crate::{Body, Config, ConfigError, Input, Position, Serial, UpdateId};

const SECOND: Duration = Duration::from_secs(1);

fn small() -> Config {
    Config { index_max: 1024, ..Config::default() }
}

#[test]
fn over_the_index_the_oldest_go_first_and_are_counted() {
    let mut net = Net::new(2, 1, &small());
    net.link(0, 1);
    for number in 0..1500 {
        net.publish(0, &Bytes::from(format!("{number}")));
        net.run(Duration::from_millis(1));
    }
    net.run(SECOND);
    for host in &net.hosts {
        let stats = host.flood().stats();
        assert_eq!(host.flood().len(), 1024);
        assert_eq!((stats.dropped_for_absent, stats.dropped_unread), (476, 0));
        assert_eq!(host.purged_below, 476);
    }
    // What was dropped for room is known to have been there: nobody sends it again.
    net.run(300 * SECOND);
    assert_eq!(net.hosts[1].flood().stats().accepted, 1500);
    assert!(net.hosts[1].gaps.is_empty());
}

#[test]
fn what_a_subscriber_has_not_had_is_counted_apart() {
    let mut net = Net::new(1, 2, &small());
    net.hosts[0].commits = false;
    let (name, group) = (Arc::from("slow"), GroupName::all());
    let from = Some(Position(0));
    net.input(0, Input::CursorOpen { name, group, from, durable: false });
    for number in 0..1100 {
        net.publish(0, &Bytes::from(format!("{number}")));
    }
    net.run(SECOND);
    // A thirty-second of the room at a time, so that gaps are few.
    assert_eq!(net.hosts[0].flood().stats().dropped_unread, 3 * 33);
}

#[test]
fn bytes_are_bounded_as_well() {
    let config =
        Config { body_max: ByteSize(10_000), storage_max: ByteSize(100_000), ..Config::default() };
    let mut net = Net::new(1, 3, &config);
    for _ in 0..30 {
        net.publish(0, &Bytes::from(vec![1; 10_000]));
    }
    net.run(SECOND);
    // Not ten: what a record takes beside its body counts as well.
    assert_eq!(net.hosts[0].flood().len(), 9);
}

#[test]
fn configurations_that_cannot_work_are_named() {
    assert_eq!(Config::default().validate(), Ok(()));
    let with = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.validate()
    };
    assert!(matches!(with(|it| it.purge_age = SECOND), Err(ConfigError::PurgeAge(_))));
    assert!(matches!(with(|it| it.pull_timeout = it.purge_age), Err(ConfigError::PullTimeout(_))));
    assert!(matches!(with(|it| it.index_max = 3), Err(ConfigError::IndexMax(3))));
    let too_long = with(|it| it.body_max.0 = crate::MAX_BODY_BYTES + 1);
    assert!(matches!(too_long, Err(ConfigError::BodyMax(_))));
    assert!(matches!(with(|it| it.eager_below.0 = 32_769), Err(ConfigError::EagerBelow(_))));
    assert!(matches!(with(|it| it.eager_below.0 = 0), Err(ConfigError::EagerBelow(_))));
    assert!(matches!(with(|it| it.storage_max.0 = 9), Err(ConfigError::StorageMax(_))));
    let none = Duration::ZERO;
    let compare = Config { compare_period: none, ..Config::default() };
    assert_eq!(compare.validate(), Err(ConfigError::ComparePeriod(none)));
}

const KEY: LifeKey =
    LifeKey { group: GroupIx(0), origin: NodeId::from_bytes([1; 16]), incarnation: Incarnation(1) };

#[test]
fn a_life_knows_what_it_has_and_fills_its_gaps() {
    let mut life = Life::new(KEY, 0);
    life.add(2, None, 0);
    life.give_up(9);
    life.add(12, Some(9), 1);
    assert_eq!(life.place(2), Place::Known);
    assert_eq!(life.place(5), Place::Late);
    assert_eq!(life.place(11), Place::Known, "of another group");
    assert_eq!(life.place(13), Place::New);
    life.add(5, Some(4), 2);
    assert_eq!(life.mark().gaps, [(2, 4), (5, 9)]);
    life.add(9, Some(5), 3);
    life.add(4, Some(2), 4);
    assert!(life.mark().gaps.is_empty());
    let entries: vec::Vec<_> = life.entries_after(2).collect();
    assert_eq!(entries, [(4, 4), (5, 2), (9, 3), (12, 1)]);
    life.check();
}

#[test]
fn what_the_disk_did_not_take_is_missing_again() {
    let mut life = Life::new(KEY, 0);
    (1..=5).for_each(|at| life.add(at, at.checked_sub(1), at));
    life.lose(5);
    life.lose(4);
    life.lose(3);
    assert_eq!(life.mark().gaps, [(2, 5)]);
    life.add(4, Some(3), 9);
    life.add(3, Some(2), 10);
    life.check();
    assert_eq!(life.mark().gaps, [(4, 5)]);
}

#[test]
fn lives_that_hold_nothing_are_forgotten_first() {
    let mut index = Index::default();
    let key = |number: u64| {
        let mut origin = [0; 16];
        origin[..8].copy_from_slice(&number.to_be_bytes());
        LifeKey { origin: NodeId::from_bytes(origin), ..KEY }
    };
    let max = u64::try_from(crate::index::MAX_LIVES).unwrap();
    for number in 0..max {
        let now = i64::try_from(number).unwrap();
        index.append(key(number), 1, None, (1, false), (now, now)).unwrap();
    }
    assert!(index.append(key(max), 1, None, (1, false), (0, 0)).is_err(), "all hold something");
    index.purge(2, 0);
    assert!(index.append(key(max), 1, None, (1, false), (0, 0)).is_ok());
    let serial = Serial { incarnation: Incarnation(1), sequence: 1 };
    let origin = key(0).origin;
    assert_eq!(index.purged(GroupIx(0), origin), Some(serial), "its highest is remembered");
    assert_eq!(index.place(GroupIx(0), UpdateId { origin, serial }), Place::Known);
    index.check();
}

#[test]
fn held_updates_are_bounded() {
    let mut held = Held::default();
    let now = skep_base::Time::ZERO;
    for sequence in 0..=MAX_HELD as u64 {
        let serial = Serial { incarnation: Incarnation(1), sequence };
        let id = UpdateId { origin: KEY.origin, serial };
        let header = Header {
            id,
            predecessor: None,
            age_ms: 0,
            length: 0,
            digest: None,
            trail: skep_base::Trail::none(),
        };
        let from = KEY.origin;
        let waiting = Waiting { header, born: 0, body: Body::Here(Bytes::new()), from };
        let took = held.hold(GroupIx(0), waiting, now, now);
        assert_eq!(took, sequence < MAX_HELD as u64);
    }
    held.check();
}
