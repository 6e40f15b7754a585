//! A site is down for minutes while updates go on, and comes back.

use std::time::Duration;

use skep_base::Time;
use skep_flood::Config;

use super::net::Net;
use super::{Value, quantile_ms};
use crate::net::Latency;

const NODES: usize = 5;
const BODY_BYTES: usize = 256;
/// Between two updates: a thousand a second.
const PAUSE: Duration = Duration::from_millis(1);
/// Before the outage, in which the others' times are taken to compare with.
const QUIET: Duration = Duration::from_secs(20);
/// After the return: what catching up may take.
const RETURN: Duration = Duration::from_secs(30);
/// A gigabit a second.
const RATE: u64 = 125_000_000;

/// Takes one of five sites down for so long, at a thousand updates a second.
///
/// # Errors
/// When it did not catch up within half a minute, or something was lost.
pub fn measure(down: Duration, seed: u64) -> anyhow::Result<Vec<Value>> {
    let mut net = Net::new(NODES, &Latency::Regions, RATE, Config::default(), seed)?;
    let pairs = |net: &Net| -> Vec<(usize, usize)> {
        let all = (0..net.hosts.len()).flat_map(|a| (0..a).map(move |b| (b, a)));
        all.collect()
    };
    let all = pairs(&net);
    let victim = NODES - 1;
    net.apart = Some(victim);
    net.link(all.iter().copied());
    net.run(Duration::from_secs(2));
    flood_for(&mut net, QUIET);
    let mut before = to_others(&net);
    net.stop(victim);
    net.journeys.clear();
    flood_for(&mut net, down);
    let missed = net.journeys.len();
    net.journeys.clear();
    net.start(victim);
    net.link(all.into_iter().filter(|(a, b)| *a == victim || *b == victim));
    let back = net.now;
    let mut caught_up = None;
    while net.now.since(back) < RETURN {
        flood_for(&mut net, Duration::from_millis(250));
        let behind = net.hosts[0].holds.saturating_sub(net.hosts[victim].holds);
        // What is on its way round the world is not behind: a quarter of a second of updates.
        if caught_up.is_none() && behind < 300 {
            caught_up = Some(net.now.since(back));
        }
    }
    net.run(Duration::from_secs(5));
    let mut after = to_others(&net);
    let lost = net.hosts[0].holds - net.hosts[victim].holds;
    let took = caught_up.map_or(f64::NAN, |took| took.as_secs_f64());
    anyhow::ensure!(caught_up.is_some(), "not caught up within {RETURN:?}: {lost} are missing");
    anyhow::ensure!(lost == 0, "{lost} of {missed} updates are lost");
    let (calm, busy) = (quantile_ms(&mut before, 0.99), quantile_ms(&mut after, 0.99));
    Ok(vec![
        Value::new("missed", missed as f64, "updates"),
        Value::new("caught-up", took, "s"),
        Value::new("lost", lost as f64, "updates"),
        Value::new("p99-before", calm, "ms"),
        Value::new("p99-after", busy, "ms"),
        Value::new("p99-moved", (busy / calm - 1.0) * 100.0, "%"),
    ])
}

/// Publishes at each node that is up in turn.
fn flood_for(net: &mut Net, span: Duration) {
    let end = net.now + span;
    let mut number = 0;
    while net.now < end {
        let up = |at: &usize| net.hosts[*at].flood.is_some();
        let origins: Vec<usize> = (0..NODES - 1).filter(up).collect();
        net.publish(origins[number % origins.len()], BODY_BYTES);
        number += 1;
        net.run(PAUSE);
    }
}

/// Seconds that updates took to all nodes that were never down.
fn to_others(net: &Net) -> Vec<f64> {
    let done = net.journeys.values().filter(|journey| journey.reached == NODES - 1);
    done.map(|journey| seconds(journey.published, journey.last)).collect()
}

fn seconds(from: Time, to: Time) -> f64 {
    to.since(from).as_secs_f64()
}
