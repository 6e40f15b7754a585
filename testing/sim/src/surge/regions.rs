//! Updates among nodes in the regions of a world-wide fleet.

use std::time::Duration;

use skep_flood::Config;
use skep_topology::computed::{Costs, Effort, Measured, Problem, Site, Weights, compute};

use super::net::{Journey, Net};
use super::{Value, quantile_ms};
use crate::net::Latency;

/// Nodes that publish.
const ORIGINS: usize = 200;
/// Updates from each before anything is measured: edges are pruned by then.
const WARM_UP: usize = 3;
/// Updates from each that are measured.
const MEASURED: usize = 3;
/// Between two updates: a hundred a second.
const PAUSE: Duration = Duration::from_millis(10);
const BODY_BYTES: usize = 256;
/// A gigabit a second.
const RATE: u64 = 125_000_000;
/// Disjoint ways between any two nodes, and links of one node at most.
const CONNECTIVITY: usize = 3;
const DEGREE: u16 = 12;
/// Of the search for the overlay: the same one in every run.
const SEED: u64 = 1;
/// Longer than any way round the world.
const SETTLE: Duration = Duration::from_secs(3);

/// Floods updates of 256 bytes among `nodes` and says how long they took and what they cost.
///
/// # Errors
/// When the table of regions cannot be read, or an update did not reach everybody.
pub fn measure(nodes: usize, seed: u64, prune: bool) -> anyhow::Result<Vec<Value>> {
    let config = Config { prune, ..Config::default() };
    let mut net = Net::new(nodes, &Latency::Regions, RATE, config, seed)?;
    let edges = overlay(&net)?;
    let degree = 2.0 * edges.len() as f64 / nodes as f64;
    net.link(edges);
    net.run(SETTLE);
    let origins = nodes.min(ORIGINS);
    let round = |net: &mut Net, updates: usize| {
        for number in 0..updates {
            // Far from one another in the order of their regions.
            net.publish((number * 7919) % origins * (nodes / origins), BODY_BYTES);
            net.run(PAUSE);
        }
        net.run(SETTLE);
    };
    round(&mut net, origins * WARM_UP);
    net.journeys.clear();
    let before = (net.sum(|it| it.duplicates), net.sum(|it| it.asked), net.sent_bytes);
    round(&mut net, origins * MEASURED);
    let updates = net.journeys.len() as f64;
    let all = |journey: &&Journey| journey.reached == nodes;
    let lost = net.journeys.values().filter(|journey| !all(journey)).count();
    anyhow::ensure!(lost == 0, "{lost} of {updates} updates did not reach all {nodes} nodes");
    let took = net.journeys.values().map(|it| it.last.since(it.published).as_secs_f64());
    let mut took: Vec<f64> = took.collect();
    let each = updates * (nodes as f64 - 1.0);
    let bytes = (net.sent_bytes - before.2) as f64 / each / BODY_BYTES as f64;
    Ok(vec![
        Value::new("degree", degree, "links"),
        Value::new("to-all-p50", quantile_ms(&mut took, 0.5), "ms"),
        Value::new("to-all-p99", quantile_ms(&mut took, 0.99), "ms"),
        Value::new("duplicates", (net.sum(|it| it.duplicates) - before.0) as f64 / each, "copies"),
        Value::new("asked", (net.sum(|it| it.asked) - before.1) as f64 / each, "updates"),
        Value::new("bytes-ratio", bytes, ""),
    ])
}

/// The k-connected overlay that a topology master computes from what it knows of the distances.
fn overlay(net: &Net) -> anyhow::Result<Vec<(usize, usize)>> {
    let mut order: Vec<usize> = (0..net.hosts.len()).collect();
    order.sort_by_key(|number| net.hosts[*number].id);
    let sites: Vec<Site> = order.iter().map(|number| Site::new(net.hosts[*number].id)).collect();
    let costs = Ways { net, order: &order };
    let weights = Weights::default();
    let problem =
        Problem { sites: &sites, costs: &costs, k: CONNECTIVITY, degree_bound: DEGREE, weights };
    let outcome = compute(&problem, Effort::for_sites(sites.len()), SEED)
        .map_err(|flaw| anyhow::anyhow!("no topology for the regions: {flaw:?}"))?;
    let number = |at: u32| order.get(at as usize).copied();
    let edges = outcome.topology.edges().iter();
    Ok(edges.filter_map(|(a, b)| Some((number(*a)?, number(*b)?))).collect())
}

/// Distances as coordinates would predict them.
struct Ways<'a> {
    net: &'a Net,
    order: &'a [usize],
}

impl Costs for Ways<'_> {
    fn measured(&self, _: usize, _: usize) -> Option<Measured> {
        None
    }

    fn predicted(&self, a: usize, b: usize) -> Option<u32> {
        let way = self.net.round_trip(*self.order.get(a)?, *self.order.get(b)?);
        u32::try_from(way.as_micros()).ok()
    }
}
