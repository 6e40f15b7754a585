//! Whole networks: floods, outages, splits, restarts; and the checker against planted bugs.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{ByteSize, GroupName, Rng, tree};

use super::net::{Net, node};
use crate::{Config, fault};

const SECOND: Duration = Duration::from_secs(1);

fn body(number: usize) -> Bytes {
    Bytes::from(format!("update {number}"))
}

fn all_have(count: usize) -> impl Fn(&Net) -> bool {
    move |net| net.live().all(|(_, host)| host.ids().len() == count) && net.accepted.len() == count
}

#[test]
fn an_update_reaches_every_member_once() {
    let mut net = Net::new(8, 1, &Config::default());
    net.ring();
    for number in 0..100 {
        net.publish(number % 8, &body(number));
        net.run(Duration::from_millis(5));
    }
    net.run_until(5 * SECOND, all_have(100));
    net.check_complete().unwrap();
    assert!(net.hosts.iter().all(|host| host.gaps.is_empty() && host.rejected.is_empty()));
}

#[test]
fn a_lone_node_acknowledges_when_durable_and_not_before() {
    let mut net = Net::new(1, 2, &Config::default());
    net.publish(0, &body(1));
    net.run(Duration::from_millis(7));
    assert!(net.accepted.is_empty(), "the disk takes 8 ms");
    net.run(Duration::from_millis(5));
    assert_eq!(net.accepted.len(), 1);
}

#[test]
fn a_flood_overlaps_the_fsync() {
    let mut net = Net::new(2, 3, &Config::default());
    net.latency = (1, 2);
    net.link(0, 1);
    net.publish(0, &body(1));
    net.run(Duration::from_millis(4));
    assert_eq!((net.hosts[1].log.len(), net.accepted.len()), (1, 0));
}

#[test]
fn groups_are_kept_apart_and_predecessors_leave_no_false_gaps() {
    let mut config = Config::default();
    let pool: GroupName = "pool".parse().unwrap();
    let mut net = Net::new(6, 4, &config);
    config.groups.insert(pool.clone());
    for host in [0, 1, 2] {
        net.hosts[host].config = config.clone();
        net.stop(host, false);
        net.start(host, false);
    }
    net.ring();
    net.link(0, 2);
    for number in 0..60 {
        if number % 3 == 0 {
            net.publish_to(0, &pool, &body(number));
        } else {
            net.publish(0, &body(number));
        }
    }
    let refused = net.publish_to(5, &pool, &body(0));
    net.run(10 * SECOND);
    net.check_complete().unwrap();
    assert!(net.hosts.iter().all(|host| host.gaps.is_empty()));
    assert!(net.hosts[5].refused.contains_key(&refused));
}

#[test]
fn a_node_back_among_entirely_different_neighbours_is_repaired() {
    let mut net = Net::new(10, 5, &Config::default());
    for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 0)] {
        net.link(a, b);
    }
    net.link(9, 0);
    net.link(9, 1);
    net.publish(9, &body(0));
    net.run(SECOND);
    net.stop(9, false);
    for number in 1..3000 {
        net.publish(number % 9, &body(number));
        if number % 10 == 0 {
            net.run(Duration::from_millis(1));
        }
    }
    // Long enough that nothing of it is in anybody's memory of recent updates.
    net.run(3600 * SECOND);
    net.start(9, false);
    let (frames, bytes) = (net.frames, net.body_bytes);
    for peer in [4, 5, 6] {
        net.link(9, peer);
    }
    net.run_until(20 * SECOND, all_have(3000));
    net.check_complete().unwrap();
    assert!(net.hosts[9].gaps.is_empty());
    let once: u64 = 3000 * 60;
    let (frames, bytes) = (net.frames - frames, net.body_bytes - bytes);
    assert!(bytes < 2 * once, "the backlog came {bytes} bytes in {frames} frames");
}

#[test]
fn halves_that_both_published_agree_over_one_link() {
    let mut net = Net::new(8, 6, &Config::default());
    for half in [0, 4] {
        for host in 0..4 {
            for other in 0..host {
                net.link(half + host, half + other);
            }
        }
    }
    for number in 0..400 {
        net.publish(number % 8, &body(number));
    }
    net.run(3600 * SECOND);
    assert!(!net.agrees());
    net.link(3, 7);
    net.run_until(20 * SECOND, all_have(400));
    net.check_complete().unwrap();
}

#[test]
fn what_a_full_send_queue_drops_is_repaired_by_comparing() {
    let mut net = Net::new(6, 7, &Config::default());
    net.ring();
    net.loss = 0.2;
    for number in 0..500 {
        net.publish(number % 6, &body(number));
        net.run(Duration::from_millis(3));
    }
    net.loss = 0.0;
    net.run_until(600 * SECOND, all_have(500));
    net.check_complete().unwrap();
}

#[test]
fn large_bodies_are_pulled_once_and_keep_their_place() {
    let mut net = Net::new(5, 8, &Config::default());
    net.ring();
    net.run(SECOND);
    let before = net.body_bytes;
    let large = Bytes::from(vec![7; 1 << 20]);
    net.publish(0, &large);
    net.publish(0, &body(1));
    net.run_until(10 * SECOND, all_have(2));
    net.check_complete().unwrap();
    assert!(net.hosts.iter().all(|host| host.gaps.is_empty()));
    let moved = net.body_bytes - before;
    assert!(moved < (4 << 20) + (1 << 17), "four copies, not {moved} bytes");
    assert_eq!(net.hosts[3].flood().stats().fetched, 1);
}

#[test]
fn a_large_body_that_cannot_be_had_blocks_for_the_timeout_and_comes_late() {
    let mut net = Net::new(2, 15, &Config::default());
    net.link(0, 1);
    net.run(SECOND);
    net.publish(0, &Bytes::from(vec![7; 100_000]));
    net.run(Duration::from_millis(5));
    // Its own disk cannot give it back for a while.
    let unreadable = net.hosts[0].log[0].take();
    net.publish(0, &body(1));
    net.run(25 * SECOND);
    assert!(net.hosts[1].log.is_empty(), "the small one waits for the large one");
    net.run(10 * SECOND);
    assert_eq!((net.hosts[1].count(), net.hosts[1].gaps.len()), (1, 1));
    net.hosts[0].log[0] = unreadable;
    net.run(300 * SECOND);
    net.check_complete().unwrap();
    assert!(net.hosts[1].log.iter().flatten().last().unwrap().head.late);
}

#[test]
fn a_large_body_whose_holder_dies_comes_from_another() {
    let mut net = Net::new(3, 9, &for_long());
    net.link(0, 1);
    net.publish(0, &Bytes::from(vec![9; 24 << 20]));
    net.run_until(10 * SECOND, |net| net.hosts[1].log.len() == 1);
    net.link(0, 2);
    net.link(1, 2);
    net.run(Duration::from_millis(150));
    assert!(net.hosts[2].log.is_empty(), "still being pulled");
    net.stop(0, false);
    net.run_until(30 * SECOND, |net| net.hosts[2].log.len() == 1);
    net.check_complete().unwrap();
}

/// A configuration for bodies of many pieces.
fn for_long() -> Config {
    Config { body_max: ByteSize(64 << 20), ..Config::default() }
}

/// A body in which each piece is another.
fn long(pieces: usize) -> Bytes {
    let piece = |number: usize| vec![u8::try_from(number % 251).unwrap(); tree::PIECE_BYTES];
    let mut body = (0..pieces).map(piece).collect::<Vec<_>>().concat();
    body.truncate(pieces * tree::PIECE_BYTES - 100);
    body.into()
}

#[test]
fn a_pull_goes_on_after_a_kill_where_it_was() {
    let mut net = Net::new(2, 21, &for_long());
    net.link(0, 1);
    net.run(SECOND);
    net.publish(0, &long(40));
    net.run_until(10 * SECOND, |net| net.hosts[1].shelf.kept_pieces() >= 20);
    net.stop(1, false);
    let (kept, served) = (net.hosts[1].shelf.kept_pieces(), net.hosts[0].served);
    net.start(1, false);
    net.link(0, 1);
    net.run_until(30 * SECOND, all_have(1));
    net.check_complete().unwrap();
    let again = usize::try_from(net.hosts[0].served - served).unwrap() / tree::PIECE_BYTES;
    assert!((20..40).contains(&kept));
    assert_eq!(again, 40 - kept, "nothing is fetched twice");
}

#[test]
fn a_pull_that_lost_its_source_goes_on_from_another_where_it_was() {
    let mut net = Net::new(3, 22, &for_long());
    net.link(0, 2);
    net.publish(0, &long(40));
    net.run_until(10 * SECOND, |net| net.hosts[2].log.len() == 1);
    net.link(0, 1);
    net.run_until(10 * SECOND, |net| net.hosts[1].shelf.kept_pieces() >= 16);
    let kept = net.hosts[1].shelf.kept_pieces();
    let before = net.hosts[2].served;
    net.cut(0, 1);
    net.link(2, 1);
    net.run_until(30 * SECOND, |net| net.hosts[1].log.len() == 1);
    net.check_complete().unwrap();
    let second = usize::try_from(net.hosts[2].served - before).unwrap() / tree::PIECE_BYTES;
    assert!(second + kept <= 40, "{second} from the second source after {kept}");
}

#[test]
fn a_long_body_comes_from_several_at_once_and_each_piece_once() {
    let mut net = Net::new(4, 23, &for_long());
    net.link(0, 1);
    net.link(0, 2);
    net.publish(0, &long(64));
    net.run_until(10 * SECOND, |net| (0..3).all(|host| net.hosts[host].log.len() == 1));
    let before: Vec<u64> = net.hosts.iter().map(|host| host.served).collect();
    (0..3).for_each(|host| net.link(host, 3));
    net.run_until(10 * SECOND, |net| net.hosts[3].log.len() == 1);
    net.check_complete().unwrap();
    let served = net.hosts.iter().zip(before).map(|(host, before)| host.served - before);
    let served: Vec<u64> = served.collect();
    assert!(served[..3].iter().filter(|bytes| **bytes > 0).count() > 1, "{served:?}");
    let length = long(64).len() as u64;
    assert!(served.iter().sum::<u64>() < length + length / 100, "{served:?}");
}

#[test]
fn a_full_disk_pauses_a_pull_and_loses_nothing() {
    let mut net = Net::new(2, 24, &Config::default());
    net.link(0, 1);
    net.run(SECOND);
    net.hosts[1].disk_full = true;
    net.publish(0, &long(8));
    net.run(20 * SECOND);
    assert!(net.hosts[1].log.is_empty());
    net.hosts[1].disk_full = false;
    net.run_until(30 * SECOND, all_have(1));
    net.check_complete().unwrap();
}

#[test]
fn bodies_are_eager_below_what_the_configuration_says() {
    for (eager_below, fetched) in [(16 * 1024, 1), (32 * 1024, 0)] {
        let config = Config { eager_below: ByteSize(eager_below), ..Config::default() };
        let mut net = Net::new(2, 25, &config);
        net.link(0, 1);
        net.run(SECOND);
        net.publish(0, &Bytes::from(vec![7; 20_000]));
        net.run_until(10 * SECOND, all_have(1));
        net.check_complete().unwrap();
        assert_eq!(net.hosts[1].flood().stats().fetched, fetched);
    }
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged_and_reuses_no_identity() {
    let mut net = Net::new(4, 10, &Config::default());
    net.ring();
    for round in 0..20 {
        for number in 0..10 {
            net.publish(number % 4, &body(round * 10 + number));
        }
        net.run(Duration::from_millis(6));
        let victim = round % 4;
        net.stop(victim, true);
        net.run(Duration::from_millis(40));
        net.start(victim, false);
        net.ring();
        net.run(Duration::from_millis(300));
    }
    net.run(200 * SECOND);
    net.check_complete().unwrap();
    assert!(net.agrees(), "what was flooded and lost at its origin is everywhere too");
}

#[test]
fn foreign_updates_of_unknown_age_are_offered_only_after_a_peer_offered_them() {
    let mut net = Net::new(3, 11, &Config::default());
    net.link(0, 1);
    for number in 0..20 {
        net.publish(number % 2, &body(number));
    }
    net.run_until(5 * SECOND, |net| net.hosts[1].log.len() == 20);
    net.stop(1, false);
    net.stop(0, false);
    net.start(1, true);
    net.link(1, 2);
    net.run(300 * SECOND);
    assert_eq!(net.hosts[2].log.len(), 10, "its own, and nobody else's");
    net.start(0, false);
    net.link(0, 1);
    net.run(300 * SECOND);
    net.check_complete().unwrap();
    assert_eq!(net.hosts[1].log.len(), 20, "what it had is not written again");
}

#[test]
fn a_stale_peer_resurrects_nothing() {
    let config = Config::default();
    let mut net = Net::new(3, 12, &config);
    net.link(0, 1);
    net.publish(0, &body(0));
    net.run(SECOND);
    net.stop(1, false);
    net.run(config.purge_age);
    net.publish(0, &body(1));
    net.run(120 * SECOND);
    net.start(1, false);
    net.link(1, 2);
    net.link(0, 2);
    net.run(200 * SECOND);
    for host in [1, 2] {
        let log = net.hosts[host].ids();
        assert!(log.iter().any(|id| id.serial.sequence == 2), "the new one arrives");
    }
    assert!(net.hosts[2].ids().iter().all(|id| id.serial.sequence == 2));
    assert!(net.hosts.iter().all(|host| host.gaps.is_empty()), "nobody waits for the purged");
    assert_eq!(net.hosts[0].flood().stats().purged, 1);
}

#[test]
fn a_missing_predecessor_becomes_a_reported_gap_and_is_delivered_late() {
    let mut net = Net::new(3, 13, &Config::default());
    net.link(0, 1);
    net.run(SECOND);
    net.publish(0, &body(0));
    net.run(SECOND);
    // The second reaches only node 1, which has no link to node 2; then its origin's disk loses it,
    // and the third reaches only node 2.
    net.publish(0, &body(1));
    net.run(Duration::from_millis(50));
    net.cut(0, 1);
    net.publish(0, &body(2));
    net.run(Duration::from_millis(50));
    net.stop(0, false);
    net.hosts[0].log[1] = None;
    net.start(0, false);
    net.link(0, 2);
    net.run(20 * SECOND);
    assert_eq!(net.hosts[2].log.len(), 1, "the third waits for the second");
    net.run(20 * SECOND);
    assert_eq!(net.hosts[2].count(), 2);
    assert_eq!(net.hosts[2].gaps.len(), 1);
    assert_eq!(net.hosts[2].gaps[0].0, node(0));
    net.link(1, 2);
    net.run(20 * SECOND);
    assert_eq!(net.hosts[2].count(), 3);
    assert!(net.hosts[2].log.iter().flatten().last().unwrap().head.late);
    net.check_logs().unwrap();
}

#[test]
fn a_full_disk_refuses_the_publisher_and_is_repaired_when_there_is_room() {
    let mut net = Net::new(3, 14, &Config::default());
    net.ring();
    net.publish(0, &body(0));
    net.run(SECOND);
    net.hosts[0].disk_full = true;
    let refused = net.publish(0, &body(1));
    net.publish(1, &body(2));
    net.run(SECOND);
    assert!(net.hosts[0].refused.contains_key(&refused));
    assert_eq!(net.hosts[0].log.len(), 1);
    net.hosts[0].disk_full = false;
    net.publish(0, &body(3));
    net.run(300 * SECOND);
    net.check_complete().unwrap();
    assert!(net.agrees());
}

/// One random life of a network: publishes everywhere, cuts, links, losses, kills, power cuts.
fn storm(seed: u64, steps: usize) -> Net {
    let mut net = Net::new(7, seed, &Config::default());
    let mut rng = Rng::seeded(seed ^ 0x5eed);
    net.ring();
    net.loss = [0.0, 0.02, 0.2][rng.index(3).unwrap()];
    net.latency = [(1, 5), (1, 80), (50, 400)][rng.index(3).unwrap()];
    let pick = |rng: &mut Rng| rng.index(7).unwrap();
    for step in 0..steps {
        let (a, b) = (pick(&mut rng), pick(&mut rng));
        match rng.within(0..20) {
            0 => net.cut(a, b),
            1 | 2 => net.link(a, b),
            3 if net.live().count() > 3 => net.stop(a, rng.chance(0.5)),
            4 | 5 if net.hosts[a].flood.is_none() => net.start(a, false),
            6 => drop(net.publish(a, &Bytes::from(vec![3; 20_000 + step]))),
            _ => (0..rng.within(1..6)).for_each(|at| {
                net.publish(a, &body(step * 100 + usize::try_from(at).unwrap()));
            }),
        }
        net.run(Duration::from_millis(rng.within(1..120)));
    }
    net.loss = 0.0;
    (0..7)
        .filter(|on| net.hosts[*on].flood.is_none())
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|on| net.start(on, false));
    net.ring();
    net.run(900 * SECOND);
    net
}

#[test]
fn storms_end_with_every_accepted_update_once_in_every_log() {
    for seed in 0..12 {
        let net = storm(seed, 120);
        net.check_complete().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        assert!(net.accepted.len() > 100, "seed {seed} accepted too little to mean anything");
        assert!(net.hosts.iter().all(|host| host.rejected.is_empty()), "seed {seed}");
    }
}

#[test]
fn the_checker_finds_planted_bugs() {
    fault::plant(fault::Bugs { duplicates: true, ..fault::Bugs::NONE });
    let duplicates = (0..3).map(storm_until_wrong).find(|it| !it.is_empty());
    fault::plant(fault::Bugs { disorder: true, ..fault::Bugs::NONE });
    let order = (0..3).map(storm_until_wrong).find(|it| !it.is_empty());
    fault::plant(fault::Bugs::NONE);
    assert!(duplicates.is_some_and(|what| what.contains("twice")));
    // Without waiting, what comes out of order looks like a duplicate and never gets in.
    assert!(order.is_some_and(|what| what.contains("is not in the log")));
}

#[test]
fn the_checker_finds_disorder_and_wrong_bodies() {
    let mut net = Net::new(2, 1, &Config::default());
    net.link(0, 1);
    net.publish(0, &body(1));
    net.publish(0, &body(2));
    net.run(SECOND);
    net.check_complete().unwrap();
    net.hosts[1].log.swap(0, 1);
    assert!(net.check_logs().unwrap_err().contains("out of order"));
    net.hosts[1].log.swap(0, 1);
    net.hosts[1].log[0].as_mut().unwrap().body = body(3);
    assert!(net.check_complete().unwrap_err().contains("another body"));
}

/// A short storm on machines with a planted bug, whose own assertions may fail too: they are not
/// asked here.
fn storm_until_wrong(seed: u64) -> alloc::string::String {
    let mut net = Net::new(5, seed, &Config::default());
    net.checked = false;
    net.ring();
    net.latency = (1, 60);
    for number in 0..60 {
        net.publish(number % 2, &body(number));
        net.run(Duration::from_millis(3));
        if let Err(what) = net.check_logs() {
            return what;
        }
    }
    net.check_complete().err().unwrap_or_default()
}
