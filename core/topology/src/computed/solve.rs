//! From nothing to a topology, and from a topology to a better one.

use alloc::vec::Vec;

use skep_base::{NodeId, Rng};

use super::anneal::{Cooling, Search, weigh};
use super::costs::{Costs, Price, Pricer};
use super::judge::{Flaw, check_sites, judge, room};
use super::margin::Margin;
use super::net::Net;
use super::paths::Paths;
use super::problem::{Effort, Problem};
use super::spread::{EXACT_UP_TO, Spread};
use super::start::{Near, fill, mend};
use super::topology::Topology;
use crate::connectivity::index;

/// The nearest of each site that moves choose from.
const NEAREST: usize = 12;
/// Starts from which a small problem is solved; the best answer counts.
const STARTS: u64 = 4;
/// Starts tried when a greedy graph could not be mended within the bounds.
const TRIES: u64 = 4;
/// Sites from which lengths are stated, of more.
const STATED_FROM: usize = 256;

/// What came of a computation.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The topology to use.
    pub topology: Topology,
    /// Why it is this one.
    pub change: Change,
    /// How good it is.
    pub figures: Figures,
}

/// What a computation did to the topology before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was none, or none of its members is left.
    Fresh,
    /// It stands: nothing found is better by the margin.
    Kept,
    /// It was good, and this is better by the margin.
    Improved {
        /// Edges that are in one of the two only.
        moved: usize,
    },
    /// It answers no longer: members came or went, or pairs can no longer meet.
    Repaired {
        /// Edges that are in one of the two only.
        moved: usize,
    },
}

/// How good a topology is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The objective, in microseconds.
    pub objective_us: i64,
    /// The sum of the edges' costs, in microseconds.
    pub cost_us: i64,
    /// How many edges.
    pub edges: usize,
    /// The most edges at one site.
    pub most_edges: usize,
    /// The mean over sites of the way to the farthest other, in microseconds one way.
    pub eccentricity_us: u64,
    /// The longest of these.
    pub diameter_us: u64,
    /// The mean way between two sites.
    pub distance_us: u64,
}

/// A topology for `problem` out of nothing.
///
/// # Errors
/// [`Flaw`] when the problem is none, or nothing was found that is k-connected within its bounds.
pub fn compute<C: Costs + ?Sized>(
    problem: &Problem<'_, C>,
    effort: Effort,
    seed: u64,
) -> Result<Outcome, Flaw> {
    check_sites(problem)?;
    let mut rng = Rng::seeded(seed);
    let pricer = Pricer::new(problem);
    let near = Near::new(&pricer, NEAREST, &mut rng);
    let starts = if problem.sites.len() <= EXACT_UP_TO { STARTS } else { 1 };
    let mut best: Option<(i64, Net)> = None;
    for _ in 0..starts {
        let (net, paths) = begin(problem, &pricer, &near, &mut rng)?;
        let mut search =
            Search::new(&pricer, &near, net, paths, problem.connectivity(), rng.fork());
        search.run(warm(&search.net, effort.steps / starts));
        let objective = search.objective();
        if best.as_ref().is_none_or(|(least, _)| objective < *least) {
            best = Some((objective, search.net));
        }
    }
    let net = best.map_or_else(|| Net::new(room(problem), 0), |(_, net)| net);
    finish(problem, &pricer, &net, Change::Fresh)
}

/// From `previous` to a topology that answers `problem`: `previous` itself, unless it does not
/// answer any more or another is better by the `margin`.
///
/// The search starts from `previous`; it and the comparison at its end count edges that stand as a
/// fifth cheaper than they are and all others as a quarter dearer. So an error of up to a fifth in
/// every estimate makes no exchange of edges pay, and where something has to change, what need not
/// change stays. An edge that has become worse since it had settled has no such favour.
///
/// # Errors
/// As [`compute`].
pub fn improve<C: Costs + ?Sized>(
    problem: &Problem<'_, C>,
    previous: &Topology,
    margin: &Margin,
    effort: Effort,
    seed: u64,
) -> Result<Outcome, Flaw> {
    check_sites(problem)?;
    let edges = surviving(problem, previous);
    if edges.is_empty() {
        return compute(problem, effort, seed);
    }
    let mut rng = Rng::seeded(seed);
    let fair = Pricer::new(problem);
    let mut pricer = Pricer::new(problem);
    let stands = judge(problem, previous).is_ok();
    // All edges survive in their order where it stands.
    let worse =
        |at: usize| stands && margin.is_worse(at, fair.round_trip(edges[at].0, edges[at].1));
    let favoured = (0..edges.len()).filter(|at| !worse(*at)).map(|at| edges[at]);
    pricer.favour(&favoured.collect::<Vec<_>>());
    let near = Near::new(&pricer, NEAREST, &mut rng);
    let mut paths = Paths::new(problem.sites.len());
    let Some(net) = resume(problem, &pricer, &near, &edges, &mut paths, &mut rng) else {
        let outcome = compute(problem, effort, seed)?;
        let moved = outcome.topology.edges_moved(previous);
        return Ok(Outcome { change: Change::Repaired { moved }, ..outcome });
    };
    let mut search = Search::new(&pricer, &near, net, paths, problem.connectivity(), rng.fork());
    search.run(Cooling { hot: 0, cold: 0, steps: effort.steps / 2 });
    let found = finish(problem, &fair, &reprice(problem, &fair, &search.net), Change::Fresh)?;
    let moved = found.topology.edges_moved(previous);
    if !stands {
        return Ok(Outcome { change: Change::Repaired { moved }, ..found });
    }
    // By the prices that favour what stands: by plain ones, whoever picks among many wrong
    // estimates the lowest always seems to gain.
    let before = figures(&pricer, &net_of(problem, &pricer, &edges)).objective_us;
    let after = figures(&pricer, &search.net).objective_us;
    let enough = margin.enough(before, || harm(problem, margin, &edges));
    // In 128 bits, so that no objective is too large to be compared.
    if moved > 0 && i128::from(before) - i128::from(after) >= enough {
        return Ok(Outcome { change: Change::Improved { moved }, ..found });
    }
    let figures = figures(&fair, &net_of(problem, &fair, &edges));
    Ok(Outcome { topology: previous.clone(), change: Change::Kept, figures })
}

/// What edges that have become worse since the topology had settled add to its objective.
fn harm<C: Costs + ?Sized>(problem: &Problem<'_, C>, margin: &Margin, edges: &[(u32, u32)]) -> i64 {
    let mut pricer = Pricer::new(problem);
    pricer.favour(edges);
    let then = edges.iter().enumerate().map(|(at, (a, b))| {
        let then = margin.then(at, pricer.round_trip(*a, *b));
        (*a, *b, pricer.price_at(*a, *b, then))
    });
    let then = figures(&pricer, &joined(problem, then)).objective_us;
    figures(&pricer, &net_of(problem, &pricer, edges)).objective_us - then
}

/// How good a topology is, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraisal {
    /// The whole.
    pub figures: Figures,
    /// What each edge costs, in their order: round trip, deviation, and the time that an update
    /// takes where the bandwidth is known; in microseconds.
    pub costs: Vec<u32>,
}

/// How good `topology` is over the sites of `problem`, which must be its members, by what is known
/// of them. Costs from each of up to 256 sites a search for the shortest ways.
#[must_use]
pub fn appraise<C: Costs + ?Sized>(problem: &Problem<'_, C>, topology: &Topology) -> Appraisal {
    let pricer = Pricer::new(problem);
    let edges = surviving(problem, topology);
    Appraisal {
        figures: figures(&pricer, &net_of(problem, &pricer, &edges)),
        costs: edges.iter().map(|(a, b)| pricer.plain(*a, *b)).collect(),
    }
}

/// The edges of `previous` whose two sites are still there and may still meet.
fn surviving<C: Costs + ?Sized>(problem: &Problem<'_, C>, previous: &Topology) -> Vec<(u32, u32)> {
    let place = |at: u32| {
        let id = previous.members().get(at as usize)?;
        problem.sites.binary_search_by_key(id, |site| site.id).ok()
    };
    let edges = previous.edges().iter().filter_map(|(a, b)| place(*a).zip(place(*b)));
    let possible = edges.filter(|(a, b)| problem.costs.may_meet(*a, *b));
    possible.map(|(a, b)| (index(a), index(b))).collect()
}

/// The graph of `edges`, with what it lacks added; nothing when that cannot be done.
fn resume<C: Costs + ?Sized>(
    problem: &Problem<'_, C>,
    pricer: &Pricer<'_, C>,
    near: &Near,
    edges: &[(u32, u32)],
    paths: &mut Paths,
    rng: &mut Rng,
) -> Option<Net> {
    let k = problem.connectivity();
    let mut net = net_of(problem, pricer, edges);
    for site in 0..index(net.len()) {
        while net.room(site) < 0 {
            let own = net.halves(site).iter().filter(|half| !half.price.shared);
            let dearest = own.max_by_key(|half| (half.price.cost, half.to))?.to;
            net.part(site, dearest);
        }
    }
    fill(&mut net, pricer, near, k, rng);
    mend(&mut net, pricer, paths, k, rng).ok()?;
    Some(net)
}

fn net_of<C: Costs + ?Sized>(
    problem: &Problem<'_, C>,
    pricer: &Pricer<'_, C>,
    edges: &[(u32, u32)],
) -> Net {
    joined(problem, edges.iter().map(|(a, b)| (*a, *b, pricer.price(*a, *b))))
}

fn joined<C: Costs + ?Sized>(
    problem: &Problem<'_, C>,
    edges: impl Iterator<Item = (u32, u32, Option<Price>)>,
) -> Net {
    let mut net = Net::new(room(problem), problem.k);
    for (a, b, price) in edges {
        if let Some(price) = price {
            net.join(a, b, price);
        }
    }
    net
}

/// The same graph at other prices.
fn reprice<C: Costs + ?Sized>(problem: &Problem<'_, C>, pricer: &Pricer<'_, C>, net: &Net) -> Net {
    let edges: Vec<(u32, u32)> = net.edges().map(|(a, b, _)| (a, b)).collect();
    net_of(problem, pricer, &edges)
}

/// A greedy graph, mended until it is k-connected.
fn begin<C: Costs + ?Sized>(
    problem: &Problem<'_, C>,
    pricer: &Pricer<'_, C>,
    near: &Near,
    rng: &mut Rng,
) -> Result<(Net, Paths), Flaw> {
    let k = problem.connectivity();
    let mut paths = Paths::new(problem.sites.len());
    let mut stuck = Flaw::NotConnected { k, sites: problem.sites.len() };
    for _ in 0..TRIES {
        let mut net = Net::new(room(problem), k);
        fill(&mut net, pricer, near, k, rng);
        match mend(&mut net, pricer, &mut paths, k, rng) {
            Ok(()) => return Ok((net, paths)),
            Err(site) => stuck = Flaw::Stuck(problem.sites[site as usize].id),
        }
    }
    Err(stuck)
}

/// From about what an edge costs down to what does not matter.
fn warm(net: &Net, steps: u64) -> Cooling {
    let edges = i64::try_from(net.edge_count().max(1)).unwrap_or(i64::MAX);
    let mean = u64::try_from(net.cost() / edges).unwrap_or(0);
    Cooling { hot: mean / 2 + 1, cold: mean / 2000 + 1, steps }
}

fn finish<C: Costs + ?Sized>(
    problem: &Problem<'_, C>,
    pricer: &Pricer<'_, C>,
    net: &Net,
    change: Change,
) -> Result<Outcome, Flaw> {
    let edges: Vec<(u32, u32)> = net.edges().map(|(a, b, _)| (a, b)).collect();
    let members: Vec<NodeId> = problem.sites.iter().map(|site| site.id).collect();
    let topology = Topology::new(members, problem.k, &edges);
    judge(problem, &topology)?;
    Ok(Outcome { figures: figures(pricer, net), topology, change })
}

fn figures<C: Costs + ?Sized>(pricer: &Pricer<'_, C>, net: &Net) -> Figures {
    let n = net.len();
    let mut spread = Spread::new(n);
    let step = n.div_ceil(STATED_FROM).max(1);
    spread.root_at(net, (0..n).step_by(step).map(index).collect());
    let sources = spread.sources().len();
    let ways = spread.ways();
    let far = |s: usize| u64::from(spread.distance(s, spread.farthest(s)));
    Figures {
        objective_us: net.cost() + weigh(pricer.weights(), n, sources, ways),
        cost_us: net.cost(),
        edges: net.edge_count(),
        most_edges: (0..index(n)).map(|v| net.degree(v)).max().unwrap_or(0),
        eccentricity_us: ways.eccentricity / sources.max(1) as u64,
        diameter_us: (0..sources).map(far).max().unwrap_or(0),
        distance_us: ways.distance / sources.max(1) as u64,
    }
}
