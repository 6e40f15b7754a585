//! Which edges carry bodies, and that pruning loses nothing that anybody alive has.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use skep_base::Rng;

use super::net::{Net, node};
use crate::{Config, Input, Stats, fault};

const SECOND: Duration = Duration::from_secs(1);

fn body(number: usize) -> Bytes {
    Bytes::from(format!("update {number}"))
}

fn sum(net: &Net, of: impl Fn(&Stats) -> u64) -> u64 {
    net.live().map(|(_, host)| of(host.flood().stats())).sum()
}

/// Publishes `count` updates from each in turn, with a pause after each.
fn rotate(net: &mut Net, count: usize, pause: Duration) {
    let nodes = net.hosts.len();
    for number in 0..count {
        net.publish(number % nodes, &body(number));
        net.run(pause);
    }
    net.run(SECOND);
}

#[test]
fn once_pruned_each_node_gets_each_body_about_once() {
    let mut net = Net::new(20, 1, &Config::default());
    net.ring();
    net.latency = (3, 5);
    net.run(SECOND);
    rotate(&mut net, 40, Duration::from_millis(50));
    let before = (sum(&net, |it| it.duplicates), sum(&net, |it| it.asked));
    rotate(&mut net, 200, Duration::from_millis(50));
    net.check_complete().unwrap();
    let duplicates = sum(&net, |it| it.duplicates) - before.0;
    let asked = sum(&net, |it| it.asked) - before.1;
    // Without pruning it would be two copies more for each of 20 nodes.
    assert!(duplicates < 200 * 20 / 10, "{duplicates} duplicates of 200 updates at 20 nodes");
    assert!(asked < 200 * 20 / 100, "{asked} bodies had to be asked for");
}

#[test]
fn without_pruning_every_edge_carries_every_body() {
    let mut net = Net::new(6, 2, &Config { prune: false, ..Config::default() });
    net.ring();
    rotate(&mut net, 60, Duration::from_millis(50));
    net.check_complete().unwrap();
    assert!(sum(&net, |it| it.duplicates) > 60 * 6);
    assert_eq!(sum(&net, |it| it.ids_sent + it.prunes_sent), 0);
}

#[test]
fn a_quicker_way_that_opens_carries_the_bodies() {
    let mut net = Net::new(3, 3, &Config::default());
    net.link(0, 1);
    net.link(1, 2);
    net.link(0, 2);
    net.latency = (1, 2);
    // The direct way is slow at first, so the way over node 1 wins.
    net.slow.insert((0, 2), Duration::from_millis(40));
    rotate(&mut net, 30, Duration::from_millis(100));
    let over = |net: &Net| net.hosts[1].flood().stats().sent_bytes;
    let before = over(&net);
    for number in 0..10 {
        net.publish(0, &body(number));
    }
    net.run(SECOND);
    assert!(over(&net) - before > 300, "node 1 passes bodies on");
    net.slow.insert((1, 2), Duration::from_millis(80));
    net.slow.remove(&(0, 2));
    for number in 0..10 {
        net.publish(0, &body(number));
        net.run(Duration::from_millis(200));
    }
    let grafts = sum(&net, |it| it.grafts_sent);
    assert!(grafts > 0, "the direct way was well ahead and is not used");
    let asked = sum(&net, |it| it.asked);
    rotate(&mut net, 30, Duration::from_millis(100));
    assert_eq!(sum(&net, |it| it.asked), asked, "bodies come by themselves");
    net.check_complete().unwrap();
}

#[test]
fn a_round_trip_decides_how_long_a_body_is_awaited() {
    let late = |round_trip: u64| {
        let mut net = Net::new(3, 4, &Config::default());
        net.link(0, 1);
        net.link(1, 2);
        net.link(0, 2);
        net.latency = (1, 2);
        rotate(&mut net, 30, Duration::from_millis(100));
        let time = Duration::from_millis(round_trip);
        for (on, peer) in [(2, 0), (2, 1)] {
            net.input(on, Input::RoundTrip { peer: node(peer), time });
        }
        // The body now takes 100 ms, the id over node 1 about ten.
        net.slow.insert((0, 2), Duration::from_millis(100));
        net.publish(0, &body(1000));
        net.run(SECOND);
        net.check_complete().unwrap();
        sum(&net, |it| it.asked)
    };
    assert_eq!(late(200), 0, "two round trips are more than it took");
    assert_eq!(late(5), 1);
}

#[test]
fn a_fast_flood_over_a_long_way_never_loses_its_last_edge() {
    let mut net = Net::new(5, 7, &Config::default());
    net.checked = false;
    for on in 0..5 {
        (0..on).for_each(|other| net.link(on, other));
    }
    // Many bodies are on their way before a neighbour hears that it should send no more.
    net.latency = (50, 58);
    for number in 0..5 {
        let time = Duration::from_millis(108);
        let others = (0..5).filter(|other| *other != number);
        others.for_each(|peer| net.input(number, Input::RoundTrip { peer: node(peer), time }));
    }
    for number in 0..3000 {
        net.publish(number % 5, &body(number));
        net.run(Duration::from_millis(1));
    }
    net.run(SECOND);
    net.check_complete().unwrap();
    assert_eq!(sum(&net, |it| it.asked), 0, "every body came by itself");
    let duplicates = sum(&net, |it| it.duplicates);
    assert!(duplicates < 3000, "{duplicates} duplicates of 3000 updates at 5 nodes");
}

#[test]
fn bodies_that_queue_on_a_busy_edge_are_not_asked_for() {
    let mut net = Net::new(4, 8, &Config::default());
    net.checked = false;
    for on in 0..4 {
        (0..on).for_each(|other| net.link(on, other));
    }
    net.latency = (1, 2);
    rotate(&mut net, 40, Duration::from_millis(100));
    let time = Duration::from_millis(2);
    for peer in 0..3 {
        net.input(3, Input::RoundTrip { peer: node(peer), time });
    }
    let grafts = sum(&net, |it| it.grafts_sent);
    let duplicates = sum(&net, |it| it.duplicates);
    for number in 0..1000 {
        net.publish(0, &body(number));
        // Queues grow to a tenth of a second, fifty times the round trip; whose is longer, changes.
        let queued = Duration::from_millis(number as u64 / 10);
        let spared = 1 + number / 10 % 2;
        net.slow.insert((0, 3), queued);
        net.slow.insert((spared, 3), queued / 4);
        net.slow.insert((3 - spared, 3), queued / 2);
        net.run(Duration::from_millis(1));
    }
    net.run(SECOND);
    net.check_complete().unwrap();
    assert_eq!(sum(&net, |it| it.asked), 0, "every body was behind another that came");
    let grafts = sum(&net, |it| it.grafts_sent) - grafts;
    assert!(grafts <= 2, "the way of the bodies changed {grafts} times in a second");
    let duplicates = sum(&net, |it| it.duplicates) - duplicates;
    assert!(duplicates < 300, "{duplicates} duplicates of 1000 updates at four nodes");
}

/// Ten nodes, each with four neighbours, two of which die at any instant of a flood. No link comes
/// up afterwards, so nothing but ids and questions repairs it.
fn two_die(seed: u64) -> Result<(), String> {
    let config = Config { compare_period: 3600 * SECOND, ..Config::default() };
    let mut net = Net::new(10, seed, &config);
    let mut rng = Rng::seeded(seed ^ 0xD1E);
    for on in 0..10 {
        net.link(on, (on + 1) % 10);
        net.link(on, (on + 3) % 10);
    }
    net.latency = [(1, 3), (2, 30), (40, 60)][rng.index(3).unwrap_or(0)];
    rotate(&mut net, 30, Duration::from_millis(100));
    let mut all: Vec<usize> = (0..10).collect();
    rng.shuffle(&mut all);
    let victims = &all[..2];
    for number in 0..1 + rng.index(20).unwrap_or(0) {
        let from = if rng.chance(0.5) { victims[0] } else { rng.index(10).unwrap_or(0) };
        net.publish(from, &body(5000 + number));
        net.run(Duration::from_millis(rng.within(0..4)));
    }
    victims.iter().for_each(|victim| net.stop(*victim, rng.chance(0.5)));
    net.run(10 * SECOND);
    net.check_logs()?;
    if !net.agrees() {
        return Err(format!("seed {seed}: survivors hold different updates"));
    }
    // What only the dead had comes with them.
    for victim in victims {
        net.start(*victim, false);
        net.link(*victim, (victim + 1) % 10);
        net.link(*victim, (victim + 3) % 10);
        net.link(*victim, (victim + 9) % 10);
    }
    net.run(60 * SECOND);
    net.check_complete().map_err(|what| format!("seed {seed}: {what}"))
}

#[test]
fn what_a_survivor_holds_reaches_all_survivors() {
    for seed in 0..200 {
        two_die(seed).unwrap();
    }
}

#[test]
fn a_flood_that_tells_no_ids_is_found_out() {
    fault::plant(fault::Bugs { silence: true, ..fault::Bugs::NONE });
    let found = (0..50).find_map(|seed| two_die(seed).err());
    fault::plant(fault::Bugs::NONE);
    assert!(found.is_some_and(|what| what.contains("hold different updates")));
}

#[test]
fn a_node_that_never_asks_is_found_out() {
    fault::plant(fault::Bugs { incurious: true, ..fault::Bugs::NONE });
    let found = (0..50).find_map(|seed| two_die(seed).err());
    fault::plant(fault::Bugs::NONE);
    assert!(found.is_some_and(|what| what.contains("hold different updates")));
}
