//! The best topology there is, found by trying all, beside the one that is computed.
//!
//! Edges are decided one after the other, taken or left, the cheapest first. A branch is given up
//! when what is taken, with the least that every site still needs, costs as much as the best known,
//! or when not even all undecided edges together would make the graph k-connected. Nothing of the
//! code under test is used: connectivity is judged by taking away every set of k − 1 sites, ways by
//! Floyd's algorithm.

use anyhow::{Context as _, Result, ensure};
use skep_base::{NodeId, Rng};
use skep_topology::computed::{Effort, Known, Problem, Site, Weights, compute};

use super::super::Setting;
use super::super::figure::{Better, Figure};
use super::measured;

/// How many cases.
const CASES: u32 = 200;
/// The most sites.
const LARGEST: usize = 9;
/// Nobody is short of links: a bound would be a second objective.
const UNBOUND: u16 = 16;
/// Round trips are drawn up to this.
const FARTHEST_US: u64 = 200_000;

/// Edge costs alone, and the whole objective, each against the best of all graphs.
pub(super) fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let cases = if setting.quick { CASES / 5 } else { CASES };
    let mut figures = Vec::new();
    let kinds = [("edge cost", Weights::cost_only()), ("objective", Weights::default())];
    for (what, weights) in kinds {
        let mut ratios = Vec::new();
        for number in 0..cases {
            ratios.push(ratio(&Case::draw(number), weights)?);
        }
        let worst = ratios.iter().copied().fold(1.0, f64::max);
        let mean = ratios.iter().sum::<f64>() / f64::from(cases);
        let name = |which: &str| {
            setting.named(&format!(
                "{what} / exhaustive search's, N ≤ {LARGEST}, k=2 and 3, {cases} cases: {which}"
            ))
        };
        figures.push(Figure::of(&name("mean"), "", &[mean], Better::Lower, 1.03)?);
        figures.push(Figure::of(&name("worst"), "", &[worst], Better::Lower, 1.10)?);
    }
    Ok(figures)
}

/// One random question.
struct Case {
    n: usize,
    k: usize,
    rtt: Vec<Vec<u32>>,
    seed: u64,
}

impl Case {
    /// Case so-and-so: k is 2 or 3, N from k + 2 to the most, and every other one is sites in a
    /// plane, the rest any round trips at all.
    fn draw(number: u32) -> Self {
        let mut rng = Rng::seeded(u64::from(number));
        let k = 2 + number as usize % 2;
        let n = k + 2 + number as usize / 4 % (LARGEST - k - 1);
        let mut rtt = vec![vec![0; n]; n];
        let spots: Vec<(f64, f64)> = (0..n).map(|_| (rng.unit(), rng.unit())).collect();
        for a in 0..n {
            for b in 0..a {
                let drawn = if (number / 2).is_multiple_of(2) {
                    let (x, y) = (spots[a].0 - spots[b].0, spots[a].1 - spots[b].1);
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "at most the diagonal of a square of that side"
                    )]
                    let way = (x.hypot(y) * FARTHEST_US as f64) as u32;
                    way
                } else {
                    u32::try_from(rng.within(0..FARTHEST_US)).unwrap_or(u32::MAX)
                };
                rtt[a][b] = drawn + 500;
                rtt[b][a] = drawn + 500;
            }
        }
        Self { n, k, rtt, seed: rng.bits() }
    }
}

/// What the computed topology costs, as a multiple of what the best costs.
fn ratio(case: &Case, weights: Weights) -> Result<f64> {
    let id = |at: usize| NodeId::from_bytes((at as u128).to_be_bytes());
    let sites: Vec<Site> = (0..case.n).map(|at| Site::new(id(at))).collect();
    let mut known = Known::new(case.n);
    for (a, row) in case.rtt.iter().enumerate() {
        row[..a].iter().enumerate().for_each(|(b, rtt)| known.measure(a, b, measured(*rtt)));
    }
    let problem =
        Problem { sites: &sites, costs: &known, k: case.k, degree_bound: UNBOUND, weights };
    let outcome = compute(&problem, Effort::for_sites(case.n), case.seed)?;
    let mut search = Search::new(case, weights);
    let edges: Vec<(usize, usize)> =
        outcome.topology.edges().iter().map(|(a, b)| (*a as usize, *b as usize)).collect();
    let computed = search.objective_of(&edges).context("the computed one is not k-connected")?;
    ensure!(
        computed == outcome.figures.objective_us,
        "two ways to the objective disagree: {computed} and {}",
        outcome.figures.objective_us
    );
    // Whatever is not better than what is known need not be looked at.
    search.best = computed;
    search.decide(0, 0);
    Ok(computed as f64 / search.best as f64)
}

/// The search over all graphs.
struct Search {
    n: usize,
    k: usize,
    weights: Weights,
    /// By ascending cost: cost, delay, ends.
    edges: Vec<(i64, i64, usize, usize)>,
    /// `[site][i]`: what the cheapest one, two and three edges at the site from the i-th on cost.
    cheapest: Vec<Vec<[i64; 3]>>,
    /// For each site a bit for each that it is joined to; and likewise with all undecided ones.
    taken: Vec<u16>,
    possible: Vec<u16>,
    /// Every set of sites that shall not cut the graph.
    cuts: Vec<u16>,
    best: i64,
}

const NEVER: i64 = i64::MAX / 64;

impl Search {
    fn new(case: &Case, weights: Weights) -> Self {
        let n = case.n;
        let mut edges = Vec::new();
        for a in 0..n {
            for b in 0..a {
                let rtt = i64::from(case.rtt[a][b]);
                let delay = rtt / 2 + i64::from(weights.hop_us);
                edges.push((rtt + i64::from(weights.edge_us), delay, a, b));
            }
        }
        edges.sort_unstable();
        let cheapest = (0..n).map(|site| cheapest_at(site, &edges)).collect();
        let all: u16 = (1 << n) - 1;
        let possible = (0..n).map(|site| all & !(1 << site)).collect();
        let (k, taken, best) = (case.k, vec![0; n], NEVER);
        let cuts = sets(n, k - 1);
        Self { n, k, weights, edges, cheapest, taken, possible, cuts, best }
    }

    fn objective_of(&self, chosen: &[(usize, usize)]) -> Option<i64> {
        let mut joined = vec![0_u16; self.n];
        let mut cost = 0;
        for (edge, _, a, b) in &self.edges {
            if chosen.contains(&(*a, *b)) || chosen.contains(&(*b, *a)) {
                joined[*a] |= 1 << b;
                joined[*b] |= 1 << a;
                cost += edge;
            }
        }
        self.is_connected(&joined).then(|| cost + self.ways(&joined))
    }

    /// Tries all that can be made of what is taken and the edges from `next` on.
    fn decide(&mut self, next: usize, cost: i64) {
        if cost + self.still_needed(next) + self.least_ways() >= self.best {
            return;
        }
        if !self.is_connected(&self.possible) {
            return;
        }
        if self.is_connected(&self.taken) {
            self.best = self.best.min(cost + self.ways(&self.taken));
        }
        let Some((edge, _, a, b)) = self.edges.get(next).copied() else {
            return;
        };
        self.flip(a, b, true);
        self.decide(next + 1, cost + edge);
        self.flip(a, b, true);
        self.flip(a, b, false);
        self.decide(next + 1, cost);
        self.flip(a, b, false);
    }

    fn flip(&mut self, a: usize, b: usize, taken: bool) {
        let rows = if taken { &mut self.taken } else { &mut self.possible };
        rows[a] ^= 1 << b;
        rows[b] ^= 1 << a;
    }

    /// Half of what the edges cost that each site lacks to k.
    fn still_needed(&self, next: usize) -> i64 {
        let lacking = |site: usize| {
            let degree = self.taken[site].count_ones() as usize;
            match self.k.saturating_sub(degree) {
                0 => 0,
                some => self.cheapest[site][next][some - 1],
            }
        };
        (0..self.n).map(lacking).sum::<i64>().min(NEVER) / 2
    }

    /// Ways are never shorter than with all undecided edges.
    fn least_ways(&self) -> i64 {
        if self.weights.eccentricity == 0 && self.weights.distance == 0 {
            return 0;
        }
        self.ways(&self.possible)
    }

    fn ways(&self, joined: &[u16]) -> i64 {
        let n = self.n;
        let mut way = vec![NEVER; n * n];
        (0..n).for_each(|site| way[site * n + site] = 0);
        for (_, delay, a, b) in self.edges.iter().filter(|(_, _, a, b)| joined[*a] >> b & 1 == 1) {
            way[a * n + b] = *delay;
            way[b * n + a] = *delay;
        }
        for over in 0..n {
            for a in 0..n {
                for b in 0..n {
                    way[a * n + b] = way[a * n + b].min(way[a * n + over] + way[over * n + b]);
                }
            }
        }
        let (mut far, mut mean) = (0, 0);
        for row in way.chunks(n) {
            far += row.iter().max().copied().unwrap_or(0);
            mean += row.iter().sum::<i64>() / n as i64;
        }
        let (eccentricity, distance) = (self.weights.eccentricity, self.weights.distance);
        (far * i64::from(eccentricity) + mean * i64::from(distance)) / 1000
    }

    /// Whether no k − 1 sites cut the graph.
    fn is_connected(&self, joined: &[u16]) -> bool {
        let all = (1_u16 << self.n) - 1;
        self.cuts.iter().all(|gone| {
            let left = all & !gone;
            let mut seen = left & left.wrapping_neg();
            loop {
                let at = (0..self.n).filter(|site| seen >> site & 1 == 1);
                let grown = at.fold(seen, |seen, site| seen | joined[site] & left);
                if grown == seen {
                    return seen == left;
                }
                seen = grown;
            }
        })
    }
}

/// Every set of at most `size` sites, as bits.
fn sets(n: usize, size: usize) -> Vec<u16> {
    let mut sets: Vec<u16> = vec![0];
    for _ in 0..size {
        let more = |set: &u16| {
            let set = *set;
            (0..n).map(move |site| set | 1 << site)
        };
        sets = sets.iter().flat_map(more).collect();
        sets.sort_unstable();
        sets.dedup();
    }
    sets
}

/// For each place in the order of edges: what the cheapest one, two, three at `site` from there
/// cost.
fn cheapest_at(site: usize, edges: &[(i64, i64, usize, usize)]) -> Vec<[i64; 3]> {
    let sums = |from: usize| {
        let own = edges[from..].iter().filter(|(_, _, a, b)| *a == site || *b == site);
        let mut costs = own.map(|(cost, ..)| *cost);
        let mut sum = 0;
        [(); 3].map(|()| {
            sum = costs.next().map_or(NEVER, |cost| (sum + cost).min(NEVER));
            sum
        })
    };
    (0..=edges.len()).map(sums).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square() -> Case {
        // A square of side 10 whose diagonals are 14.
        let rtt = [[0, 10, 14, 10], [10, 0, 10, 14], [14, 10, 0, 10], [10, 14, 10, 0]];
        Case { n: 4, k: 2, rtt: rtt.map(Vec::from).to_vec(), seed: 0 }
    }

    #[test]
    fn the_best_of_all_graphs_is_found() {
        let mut search = Search::new(&square(), Weights::cost_only());
        search.decide(0, 0);
        assert_eq!(search.best, 40);
        let mut search = Search::new(&Case { k: 3, ..square() }, Weights::cost_only());
        search.decide(0, 0);
        assert_eq!(search.best, 68);
    }

    #[test]
    fn a_bad_topology_is_seen_to_be_bad() {
        let search = Search::new(&square(), Weights::cost_only());
        assert_eq!(search.objective_of(&[(0, 1), (1, 2), (2, 3)]), None);
        assert_eq!(search.objective_of(&[(0, 2), (2, 1), (1, 3), (3, 0)]), Some(48));
    }

    #[test]
    fn cases_are_of_both_kinds_and_all_sizes() {
        let cases: Vec<Case> = (0..CASES).map(Case::draw).collect();
        for n in 4..=LARGEST {
            assert!(cases.iter().any(|case| case.n == n), "{n}");
        }
        assert!(cases.iter().all(|case| case.n >= case.k + 2 && case.n <= LARGEST));
        assert!(cases.iter().filter(|case| case.k == 3).count() == CASES as usize / 2);
    }
}
