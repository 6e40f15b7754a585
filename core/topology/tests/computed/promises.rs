//! The computed overlay's promises. Connectivity is judged by petgraph's max flow, which shares no
//! code with what is judged.

use crate::fleet::{Scatter, disjoint_paths, fleet, sites};
use proptest::prelude::*;
use skep_base::Rng;
use skep_topology::computed::{
    Change, Costs, Effort, Flaw, Known, Margin, Measured, Outcome, Place, Problem, Site, Topology,
    Weights, appraise, compute, improve, judge, round_trips,
};

const QUICK: Effort = Effort { steps: 1500 };

fn problem<'a, C: Costs>(sites: &'a [Site], costs: &'a C, k: usize) -> Problem<'a, C> {
    Problem { sites, costs, k, degree_bound: 8, weights: Weights::default() }
}

/// Vertex connectivity by max flow between all pairs that are not joined.
fn connectivity(topology: &Topology) -> usize {
    let n = topology.members().len();
    let edges = topology.edges();
    let mut least = n.saturating_sub(1);
    for a in 0..n as u32 {
        for b in (a + 1..n as u32).filter(|b| edges.binary_search(&(a, *b)).is_err()) {
            least = least.min(disjoint_paths(n, edges, a, b));
        }
    }
    least
}

fn links(topology: &Topology, at: usize) -> usize {
    topology.neighbours(&topology.members()[at]).len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_topology_is_connected_within_its_bounds_and_the_same_again(
        seed in any::<u64>(),
        n in 1_usize..22,
        k in 1_usize..5,
        busy in 0_u16..3,
    ) {
        let mut rng = Rng::seeded(seed);
        let mut sites = sites(n);
        sites.iter_mut().step_by(3).for_each(|site| site.links_elsewhere = busy);
        let mut known = Known::new(n);
        for (a, b) in (0..n).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let rtt_us = u32::try_from(rng.within(200..200_000)).unwrap();
            match rng.within(0..20) {
                0 if n > 14 => known.keep_apart(a, b),
                1 => known.link(a, b),
                2..10 => known.measure(a, b, Measured { rtt_us, deviation_us: 9, bandwidth: None }),
                _ => {}
            }
        }
        let problem = problem(&sites, &known, k);
        let outcome = compute(&problem, QUICK, seed).unwrap();
        let topology = &outcome.topology;
        prop_assert!(connectivity(topology) >= k.min(n - 1));
        for (at, site) in sites.iter().enumerate() {
            let own = topology.edges().iter().filter(|(a, b)| {
                (*a as usize == at || *b as usize == at)
                    && !known.is_linked(*a as usize, *b as usize)
            });
            let all = own.count() + usize::from(site.links_elsewhere);
            prop_assert!(all <= 8, "site {at} holds {all}");
        }
        let meet = |(a, b): &(u32, u32)| known.may_meet(*a as usize, *b as usize);
        prop_assert!(topology.edges().iter().all(meet));
        prop_assert_eq!(judge(&problem, topology), Ok(()));
        let again = compute(&problem, QUICK, seed).unwrap();
        prop_assert_eq!(&again.topology, topology);
        prop_assert_eq!(again.figures, outcome.figures);
    }

    #[test]
    fn a_topology_without_one_of_its_cuts_is_refused(seed in any::<u64>(), n in 6_usize..20) {
        let sites = sites(n);
        let costs = Scatter::new(n, seed);
        let problem = problem(&sites, &costs, 3);
        let topology = compute(&problem, QUICK, seed).unwrap().topology;
        // Any site of three links keeps two.
        let poor = (0..n).find(|at| links(&topology, *at) == 3);
        prop_assume!(poor.is_some());
        let poor = poor.unwrap_or_default() as u32;
        let mut edges = topology.edges().to_vec();
        let at = edges.iter().position(|(a, b)| *a == poor || *b == poor).unwrap();
        edges.remove(at);
        let less = Topology::new(topology.members().to_vec(), 3, &edges);
        prop_assert_eq!(judge(&problem, &less), Err(Flaw::NotConnected { k: 3, sites: n }));
    }
}

#[test]
fn wrong_estimates_move_no_links_and_a_real_change_moves_some() {
    for seed in 0..4 {
        let n = 60;
        let (sites, fleet) = fleet(n, seed);
        let effort = Effort { steps: 8_000 };
        let before = compute(&problem(&sites, &fleet, 3), effort, seed).unwrap();
        let rtts = round_trips(&problem(&sites, &fleet, 3), &before.topology);
        let settled = Margin::Settled(rtts.into());
        for noise in 0..3 {
            let noisy = fleet.blurred(200, noise);
            let asked = problem(&sites, &noisy, 3);
            let after = improve(&asked, &before.topology, &settled, effort, noise);
            let after = after.unwrap();
            assert_eq!(after.change, Change::Kept, "seed {seed}, noise {noise}");
            assert_eq!(after.topology, before.topology);
        }
        // A third of the sites are in another town than before.
        let moved = fleet.resettled(seed);
        let after = improve(&problem(&sites, &moved, 3), &before.topology, &settled, effort, 1);
        let after = after.unwrap();
        let Change::Improved { moved } = after.change else {
            panic!("seed {seed}: nothing moved, though every second link got worse");
        };
        // Of each edge that is replaced two are counted; most stay where they are.
        let edges = before.topology.edges().len();
        assert!(moved > 0 && moved * 2 < edges * 3, "seed {seed}: {moved} of {edges}");
        assert_eq!(connectivity(&after.topology), 3);
    }
}

#[test]
fn a_site_that_comes_or_goes_moves_few_edges() {
    for seed in 0..2 {
        let (all, fleet) = fleet(61, seed);
        let effort = Effort { steps: 8_000 };
        let whole = compute(&problem(&all, &fleet, 3), effort, seed).unwrap().topology;
        for gone in [0, 17, 60] {
            let mut left = all.clone();
            left.remove(gone);
            let without = fleet.without(gone);
            let smaller = problem(&left, &without, 3);
            let outcome = improve(&smaller, &whole, &Margin::Settling, effort, seed).unwrap();
            let moved = expect_repaired(&outcome);
            let lost = links(&whole, gone);
            assert!(moved <= 4 * lost + 6, "site {gone} of {lost} links moved {moved}");
            assert_eq!(judge(&smaller, &outcome.topology), Ok(()));
            let asked = problem(&all, &fleet, 3);
            let back = improve(&asked, &outcome.topology, &Margin::Settling, effort, seed).unwrap();
            let moved = expect_repaired(&back);
            assert!(moved <= 24, "the return of {gone} moved {moved}");
            assert_eq!(judge(&problem(&all, &fleet, 3), &back.topology), Ok(()));
        }
    }
}

fn expect_repaired(outcome: &Outcome) -> usize {
    match outcome.change {
        Change::Repaired { moved } => moved,
        Change::Fresh | Change::Kept | Change::Improved { .. } => {
            panic!("a topology of other members cannot stand: {:?}", outcome.change)
        }
    }
}

#[test]
fn pairs_that_can_no_longer_meet_are_parted() {
    let (sites, fleet) = fleet(30, 5);
    let effort = Effort { steps: 5000 };
    let before = compute(&problem(&sites, &fleet, 3), effort, 5).unwrap().topology;
    let mut apart = Known::new(30);
    let (a, b) = before.edges()[7];
    apart.keep_apart(a as usize, b as usize);
    let problem = problem(&sites, &apart, 3);
    assert_eq!(
        judge(&problem, &before),
        Err(Flaw::CannotMeet(sites[a as usize].id, sites[b as usize].id))
    );
    let after = improve(&problem, &before, &Margin::Settling, effort, 5).unwrap();
    expect_repaired(&after);
    assert!(!after.topology.edges().contains(&(a, b)));
}

#[test]
fn links_of_other_groups_are_shared_first() {
    let n = 24;
    let mut sites = sites(n);
    let other = compute(&problem(&sites, &Scatter::new(n, 1), 3), QUICK, 1).unwrap().topology;
    let mut known = Known::new(n);
    other.edges().iter().for_each(|(a, b)| known.link(*a as usize, *b as usize));
    for (at, site) in sites.iter_mut().enumerate() {
        site.links_elsewhere = links(&other, at) as u16;
    }
    let effort = Effort { steps: 6000 };
    let new_links = |bound| {
        let bounded = Problem { degree_bound: bound, ..problem(&sites, &known, 3) };
        let topology = compute(&bounded, effort, 2).unwrap().topology;
        let new = topology.edges().iter().filter(|edge| other.edges().binary_search(edge).is_err());
        new.count()
    };
    // Nobody may hold more links than it does: only a topology of shared links is possible.
    assert_eq!(new_links(3), 0);
    // And where there is room for others, they are the exception.
    let new = new_links(8);
    assert!(new <= 12, "{new} links are not shared");
}

#[test]
fn a_bound_that_cannot_be_kept_is_said_and_not_broken() {
    let mut sites = sites(12);
    sites[4].links_elsewhere = 7;
    let costs = Scatter::new(12, 3);
    let refused = compute(&problem(&sites, &costs, 3), QUICK, 3);
    assert!(matches!(refused, Err(Flaw::Stuck(_))), "{refused:?}");
    let tight = Problem { degree_bound: 10, ..problem(&sites, &costs, 3) };
    let topology = compute(&tight, QUICK, 3).unwrap().topology;
    assert_eq!(links(&topology, 4), 3);
    let flaw = judge(&problem(&sites, &costs, 3), &topology);
    let expected = Flaw::TooManyLinks { site: sites[4].id, links: 10, bound: 8 };
    assert_eq!(flaw, Err(expected));
}

#[test]
fn nonsense_is_refused_before_anything_is_computed() {
    let costs = Scatter::new(3, 0);
    let mut twice = sites(3);
    twice[2].id = twice[1].id;
    let flaw = compute(&problem(&twice, &costs, 2), QUICK, 0).unwrap_err();
    assert_eq!(flaw, Flaw::Unordered(twice[1].id));
    let three = sites(3);
    let other = Topology::new(three[..2].iter().map(|site| site.id).collect(), 2, &[(0, 1)]);
    assert_eq!(judge(&problem(&three, &costs, 2), &other), Err(Flaw::OtherMembers));
}

#[test]
fn where_nothing_is_measured_places_decide() {
    // Two towns, far apart: all links but those that connectivity needs stay in town.
    let n = 16;
    let mut sites = sites(n);
    for (at, site) in sites.iter_mut().enumerate() {
        site.place = if at % 2 == 0 { Place::new(52.3, 4.8) } else { Place::new(1.4, 104.0) };
    }
    let nothing = Known::new(n);
    let effort = Effort { steps: 8000 };
    let far = |weights| {
        let problem = Problem { weights, ..problem(&sites, &nothing, 3) };
        let topology = compute(&problem, effort, 1).unwrap().topology;
        topology.edges().iter().filter(|(a, b)| (a + b) % 2 == 1).count()
    };
    assert_eq!(far(Weights::cost_only()), 3);
    assert!(far(Weights::default()) < 9, "{}", far(Weights::default()));
}

#[test]
fn what_counts_is_what_the_weights_say() {
    let (sites, fleet) = fleet(80, 9);
    let effort = Effort { steps: 20_000 };
    let of = |weights| {
        let problem = Problem { weights, ..problem(&sites, &fleet, 3) };
        compute(&problem, effort, 9).unwrap().figures
    };
    let cheap = of(Weights { eccentricity: 0, distance: 0, ..Weights::default() });
    let short = of(Weights::default());
    assert!(cheap.cost_us < short.cost_us, "{cheap:?} {short:?}");
    assert!(short.eccentricity_us * 20 < cheap.eccentricity_us * 19, "{cheap:?} {short:?}");
    assert!((120..=122).contains(&cheap.edges), "three links each and hardly one more: {cheap:?}");
}

#[test]
fn small_groups_are_all_joined_to_one_another() {
    for n in 0..=4_usize {
        let (sites, costs) = (sites(n), Scatter::new(n, 1));
        let topology = compute(&problem(&sites, &costs, 3), QUICK, 1).unwrap().topology;
        assert_eq!(topology.edges().len(), n * n.saturating_sub(1) / 2);
    }
}

#[test]
fn an_overlay_is_appraised_edge_by_edge() {
    let sites = sites(4);
    let mut known = Known::new(4);
    let measured = |rtt_us, bandwidth| Measured { rtt_us, deviation_us: 50, bandwidth };
    known.measure(0, 1, measured(10_000, Some(1 << 20)));
    known.measure(1, 2, measured(20_000, None));
    known.measure(2, 3, measured(30_000, None));
    known.link(2, 3);
    let ids = sites.iter().map(|site| site.id).collect();
    let path = Topology::new(ids, 1, &[(0, 1), (1, 2), (2, 3)]);
    let appraised = appraise(&problem(&sites, &known, 1), &path);
    // 1 KiB at a MiB a second; that another group holds a link makes it no nearer.
    assert_eq!(appraised.costs, [10_000 + 50 + 976, 20_050, 30_050]);
    let figures = appraised.figures;
    // Half of each round trip, the other costs whole, and a tenth of a millisecond a hop.
    let one_way = [5_000 + 1_026 + 100, 10_000 + 50 + 100, 15_000 + 50 + 100];
    assert_eq!(figures.diameter_us, one_way.iter().sum::<u64>());
    assert_eq!((figures.edges, figures.most_edges), (3, 2));
    let outcome = compute(&problem(&sites, &known, 1), QUICK, 7).unwrap();
    let again = appraise(&problem(&sites, &known, 1), &outcome.topology);
    assert_eq!(again.figures, outcome.figures, "as the computation itself weighs");
}
