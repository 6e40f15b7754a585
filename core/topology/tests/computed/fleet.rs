//! Sites and costs to compute from, and a max flow to judge with.

use petgraph::algo::ford_fulkerson;
use petgraph::graph::DiGraph;
use skep_base::{NodeId, Rng};
use skep_topology::computed::{Costs, Measured, Site};

pub(crate) fn sites(n: usize) -> Vec<Site> {
    (0..n).map(|at| Site::new(NodeId::from_bytes((at as u128 + 1).to_be_bytes()))).collect()
}

/// How many disjoint paths lead from `a` to `b`, by petgraph.
pub(crate) fn disjoint_paths(n: usize, edges: &[(u32, u32)], a: u32, b: u32) -> usize {
    let mut graph = DiGraph::<(), u32>::new();
    let entry: Vec<_> = (0..n).map(|_| graph.add_node(())).collect();
    let exit: Vec<_> = (0..n).map(|_| graph.add_node(())).collect();
    for v in 0..n {
        graph.add_edge(entry[v], exit[v], 1);
    }
    for (v, w) in edges {
        graph.add_edge(exit[*v as usize], entry[*w as usize], 1);
        graph.add_edge(exit[*w as usize], entry[*v as usize], 1);
    }
    let (flow, _) = ford_fulkerson(&graph, exit[a as usize], entry[b as usize]);
    flow as usize
}

/// Sites in towns, and round trips between them.
#[derive(Clone)]
pub(crate) struct Fleet {
    town: Vec<usize>,
    rtt: Vec<Vec<u32>>,
    /// By how many thousandths each estimate may be wrong, and from which draw.
    blur: Option<(u64, u64)>,
}

/// A round trip inside a town, and between two towns.
const INSIDE_US: u32 = 1000;
const TOWNS: usize = 9;

pub(crate) fn fleet(n: usize, seed: u64) -> (Vec<Site>, Fleet) {
    let mut rng = Rng::seeded(seed);
    let spots: Vec<(f64, f64)> = (0..TOWNS).map(|_| (rng.unit(), rng.unit())).collect();
    let way = |a: &(f64, f64), b: &(f64, f64)| {
        let far = ((a.0 - b.0).powi(2) + (a.1 - b.1).powi(2)).sqrt();
        if a == b { INSIDE_US } else { 4000 + (far * 150_000.0) as u32 }
    };
    let rtt = spots.iter().map(|a| spots.iter().map(|b| way(a, b)).collect()).collect();
    let town = (0..n).map(|_| rng.index(TOWNS).unwrap()).collect();
    (sites(n), Fleet { town, rtt, blur: None })
}

impl Fleet {
    pub(crate) fn blurred(&self, thousandths: u64, salt: u64) -> Self {
        Self { blur: Some((salt << 40 | 77, thousandths)), ..self.clone() }
    }

    /// Every third site is in another town.
    pub(crate) fn resettled(&self, seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let mut moved = self.clone();
        let third = moved.town.iter_mut().step_by(3);
        third.for_each(|town| *town = (*town + 1 + rng.index(TOWNS - 1).unwrap()) % TOWNS);
        moved
    }

    pub(crate) fn without(&self, site: usize) -> Self {
        let mut less = self.clone();
        less.town.remove(site);
        less
    }
}

impl Costs for Fleet {
    fn measured(&self, a: usize, b: usize) -> Option<Measured> {
        let rtt = self.rtt[self.town[a]][self.town[b]];
        let rtt_us = match self.blur {
            None => rtt,
            Some((salt, thousandths)) => {
                let pair = (a.min(b) * 10_000 + a.max(b)) as u64;
                let drawn = Rng::seeded(salt ^ pair).within(0..2 * thousandths + 1);
                (u64::from(rtt) * (1000 + drawn - thousandths) / 1000) as u32
            }
        };
        Some(Measured { rtt_us, deviation_us: 0, bandwidth: None })
    }
}

/// Any round trips at all.
pub(crate) struct Scatter {
    seed: u64,
}

impl Scatter {
    pub(crate) fn new(_: usize, seed: u64) -> Self {
        Self { seed }
    }
}

impl Costs for Scatter {
    fn measured(&self, a: usize, b: usize) -> Option<Measured> {
        let pair = (a.min(b) * 10_000 + a.max(b)) as u64;
        let rtt_us = Rng::seeded(self.seed ^ pair << 20).within(500..200_000) as u32;
        Some(Measured { rtt_us, deviation_us: 0, bandwidth: None })
    }
}
