//! Which links of an overlay are worth replacing once they are slower, by the solver itself with
//! perfect knowledge of all round trips. At ends of least degree two links, or an exchange with a
//! third, must take the place of one: where that costs more than a slow link does, the link is
//! still the best there is, and rightly stays.

use std::time::Duration;

use skep_base::NodeId;
use skep_node::MAX_LINKS;
use skep_topology::computed::{
    Change, Costs, Effort, Margin, Measured, Problem, Site, Topology, Weights, improve, round_trips,
};

use super::K;
use crate::host::HostIx;
use crate::world::World;

/// Searches that must all do without the link: whoever computes draws a seed of its own.
const SEARCHES: u64 = 5;

/// Whether `standing`, in which the round trips are as they are now, is better without the link
/// of `ends` once that takes `factor` times as long.
pub(super) fn is_worth_replacing(
    world: &World,
    standing: &Topology,
    ends: (HostIx, HostIx),
    factor: u32,
) -> bool {
    let ids = standing.members();
    let sites: Vec<Site> = ids.iter().map(|id| Site::new(*id)).collect();
    let before = Distances { world, ids, slow: None };
    let now = problem(&sites, &before);
    let margin = Margin::Settled(round_trips(&now, standing).into());
    let ends = (world.id(ends.0), world.id(ends.1));
    let slower = Distances { world, ids, slow: Some((ends, factor)) };
    let then = problem(&sites, &slower);
    let effort = Effort::for_sites(sites.len());
    (0..SEARCHES).all(|seed| {
        improve(&then, standing, &margin, effort, seed).is_ok_and(|outcome| {
            let improved = matches!(outcome.change, Change::Improved { .. });
            improved && !outcome.topology.joins(&ends.0, &ends.1)
        })
    })
}

fn problem<'a>(sites: &'a [Site], costs: &'a Distances<'a>) -> Problem<'a, Distances<'a>> {
    Problem { sites, costs, k: K, degree_bound: MAX_LINKS, weights: Weights::default() }
}

/// What a master would know that had measured all pairs.
struct Distances<'a> {
    world: &'a World,
    ids: &'a [NodeId],
    slow: Option<((NodeId, NodeId), u32)>,
}

impl Costs for Distances<'_> {
    fn measured(&self, a: usize, b: usize) -> Option<Measured> {
        let (a, b) = (*self.ids.get(a)?, *self.ids.get(b)?);
        let host = |id: &NodeId| self.world.by_id.get(id).copied();
        let rtt: Duration = self.world.round_trip(host(&a)?, host(&b)?);
        let slow = self.slow.filter(|(ends, _)| *ends == (a, b) || *ends == (b, a));
        let rtt = rtt * slow.map_or(1, |(_, factor)| factor);
        let rtt_us = u32::try_from(rtt.as_micros()).ok()?;
        Some(Measured { rtt_us, deviation_us: 0, bandwidth: None })
    }
}
