//! Which links of an overlay are worth replacing once they are slower, by the solver itself. At
//! ends of least degree two links, or an exchange with a third, must take the place of one: where
//! that costs more than a slow link does, the link is still the best there is, and rightly stays.

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
/// A master predicts most pairs, of which nobody measured the round trip, and may be wrong by this
/// share of it. So the link must be worth replacing by others that are longer by as much.
const WRONG_SHARE: u32 = 5;

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
    let before = Distances { world, standing, slow: None };
    let now = problem(&sites, &before);
    let margin = Margin::Settled(round_trips(&now, standing).into());
    let ends = (world.id(ends.0), world.id(ends.1));
    let slower = Distances { world, standing, slow: Some((ends, factor)) };
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

/// What a master knows at the worst of a world in which one link may have become slower.
struct Distances<'a> {
    world: &'a World,
    standing: &'a Topology,
    slow: Option<((NodeId, NodeId), u32)>,
}

impl Costs for Distances<'_> {
    fn measured(&self, a: usize, b: usize) -> Option<Measured> {
        let ids = self.standing.members();
        let (a, b) = (*ids.get(a)?, *ids.get(b)?);
        let host = |id: &NodeId| self.world.by_id.get(id).copied();
        let rtt: Duration = self.world.round_trip(host(&a)?, host(&b)?);
        let rtt = match self.slow {
            Some((ends, factor)) if ends == (a, b) || ends == (b, a) => rtt * factor,
            _ if self.standing.joins(&a, &b) => rtt,
            _ => rtt + rtt / WRONG_SHARE,
        };
        let rtt_us = u32::try_from(rtt.as_micros()).ok()?;
        Some(Measured { rtt_us, deviation_us: 0, bandwidth: None })
    }
}
