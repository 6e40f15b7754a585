//! What is estimated, held against what is true.

use std::time::Duration;

use skep_estimates::Basis;

use super::{Played, Scenario, flock};
use crate::host::HostIx;
use crate::net::Latency;
use crate::report::{Checker, Failure};
use crate::world::{Config, World};

pub(super) const ESTIMATES: Scenario = Scenario {
    name: "estimates",
    about: "a flock over nineteen regions measures for half an hour: how well it predicts the rest",
    nodes: 100,
    least: 8,
    configure: regions,
    play: estimates,
};

/// How long it measures, with the periods that a fleet has.
const SPAN: Duration = Duration::from_secs(1800);
/// Half of the predictions are no worse than this. What prediction is for is telling the next rack
/// from the next continent.
const MEDIAN_AT_MOST: f64 = 0.15;

fn regions(config: &mut Config) {
    config.latency = Latency::Regions;
}

fn estimates(world: &mut World, n: usize) -> Played {
    let hosts = flock(world, n)?;
    let before = world.traffic();
    world.run_for(SPAN)?;
    let spent = world.traffic().bytes.saturating_sub(before.bytes);
    let errors = errors(world, &hosts);
    let predicted = errors.len();
    let Some((relative, absolute)) = errors.get(predicted / 2).copied() else {
        let what = "nothing was predicted".to_owned();
        return Err(Failure { at: world.now(), checker: Checker::Oracle, what }.into());
    };
    let percent = relative * 100.0;
    let rate = spent as f64 / SPAN.as_secs_f64() / n as f64;
    world.measure(
        format!("median error of {predicted} predicted round trips ({percent:.1} %)"),
        absolute,
    );
    world.measure(format!("measuring, with {rate:.0} B/s sent by a node in all"), SPAN);
    if relative > MEDIAN_AT_MOST {
        let what = format!("half of {predicted} predictions are wrong by over {percent:.1} %");
        return Err(Failure { at: world.now(), checker: Checker::Oracle, what }.into());
    }
    world.until_at_rest(super::patience(n))?;
    Ok(())
}

/// How wrong each prediction is that a node makes of two others, as a share and as a time; sorted.
fn errors(world: &World, hosts: &[HostIx]) -> Vec<(f64, Duration)> {
    let Some(node) = hosts.first().and_then(|first| world.node(*first)) else {
        return Vec::new();
    };
    let ids: Vec<_> = hosts.iter().map(|host| world.id(*host)).collect();
    let costs = node.costs(&ids);
    let pairs = (0..ids.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let mut errors: Vec<(f64, Duration)> = pairs
        .filter_map(|(a, b)| {
            let (rtt, basis) = costs.rtt(a, b)?;
            let truth = world.round_trip(hosts[a], hosts[b]);
            let off = rtt.abs_diff(truth);
            (basis == Basis::Coordinates).then(|| (off.as_secs_f64() / truth.as_secs_f64(), off))
        })
        .collect();
    errors.sort_by(|a, b| a.0.total_cmp(&b.0));
    errors
}
