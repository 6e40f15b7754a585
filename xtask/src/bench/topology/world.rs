//! Sites in the regions of a world-wide fleet, as the simulator places them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use anyhow::{Context as _, Result, ensure};
use skep_base::{NodeId, Rng};
use skep_topology::computed::{Costs, Measured, Place, Site, Topology};

use super::measured;
use crate::root;

/// The simulator's own table.
const REGIONS: &str = "testing/sim/data/regions.csv";
/// Round trips as the table says: inside a region, between two that touch, and a kilometre more.
const INSIDE_US: f64 = 1000.0;
const BETWEEN_US: f64 = 4000.0;
const US_PER_KM: f64 = 1000.0 / 75.0;
/// A packet takes up to this much longer than the quickest one.
const JITTER: f64 = 0.15;

/// Sites, and the quickest round trips between them.
pub(super) struct World {
    region: Vec<usize>,
    regions: usize,
    rtt: Vec<u32>,
    /// By how much the estimate of each pair is wrong: so many parts of a thousand, drawn from the
    /// pair and this number. None: not at all.
    blur: Option<(u64, u32)>,
}

impl World {
    /// `n` sites, each in a region by the region's share.
    pub(super) fn regions(n: usize, rng: &mut Rng) -> Result<Self> {
        let path = root().join(REGIONS);
        let table = std::fs::read_to_string(&path);
        let table = table.with_context(|| format!("reading {}", path.display()))?;
        let (places, shares) = parse(&table)?;
        let total: u64 = shares.iter().sum();
        let draw = |rng: &mut Rng| {
            let mut ticket = rng.within(0..total);
            shares.iter().position(|share| {
                let hit = ticket < *share;
                ticket = ticket.saturating_sub(*share);
                hit
            })
        };
        let region =
            (0..n).map(|_| draw(rng).context("no region was drawn")).collect::<Result<_>>();
        let way = |a: &Place, b: &Place| {
            let us = if a == b { INSIDE_US } else { BETWEEN_US + a.kilometres_to(b) * US_PER_KM };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0.3 s")]
            let us = us as u32;
            us
        };
        let rtt = places.iter().flat_map(|a| places.iter().map(move |b| way(a, b))).collect();
        Ok(Self { region: region?, regions: places.len(), rtt, blur: None })
    }

    /// The same sites, with every estimate wrong by up to `share`.
    pub(super) fn blurred(&self, share: f64, rng: &mut Rng) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1000")]
        let thousandths = (share * 1000.0) as u32;
        let (region, rtt) = (self.region.clone(), self.rtt.clone());
        Self { region, regions: self.regions, rtt, blur: Some((rng.bits(), thousandths)) }
    }

    pub(super) fn sites(&self) -> Vec<Site> {
        // Identities by number, so that the order of sites is the order of draws.
        let id = |at: usize| NodeId::from_bytes((at as u128).to_be_bytes());
        (0..self.region.len()).map(|at| Site::new(id(at))).collect()
    }

    /// Floods updates from sites drawn by chance; each one's milliseconds to the last site.
    pub(super) fn flood(&self, topology: &Topology, updates: u32, rng: &mut Rng) -> Vec<f64> {
        let n = self.region.len();
        let mut links = vec![Vec::new(); n];
        for (a, b) in topology.edges() {
            let (a, b) = (*a as usize, *b as usize);
            let one_way = f64::from(self.round_trip(a, b)) / 2000.0;
            links[a].push((b, one_way));
            links[b].push((a, one_way));
        }
        let origins = (0..updates).filter_map(|_| rng.index(n)).collect::<Vec<_>>();
        origins.into_iter().map(|origin| to_all(&links, origin, rng)).collect()
    }

    fn round_trip(&self, a: usize, b: usize) -> u32 {
        self.rtt[self.region[a] * self.regions + self.region[b]]
    }
}

impl Costs for World {
    fn measured(&self, a: usize, b: usize) -> Option<Measured> {
        let rtt = self.round_trip(a, b);
        let Some((salt, thousandths)) = self.blur else {
            return Some(measured(rtt));
        };
        let pair = (a.min(b) as u64) << 32 | a.max(b) as u64;
        let swing = u64::from(2 * thousandths + 1);
        let drawn = Rng::seeded(salt ^ pair).within(0..swing);
        let drawn = u32::try_from(drawn).unwrap_or(thousandths);
        Some(measured(rtt * (1000 + drawn - thousandths) / 1000))
    }
}

/// First arrivals, with each packet's own jitter.
fn to_all(links: &[Vec<(usize, f64)>], origin: usize, rng: &mut Rng) -> f64 {
    let mut arrival = vec![f64::MAX; links.len()];
    let mut done = vec![false; links.len()];
    let mut heap = BinaryHeap::new();
    arrival[origin] = 0.0;
    heap.push((Reverse(0_u64), origin));
    let mut last: f64 = 0.0;
    while let Some((_, site)) = heap.pop() {
        if std::mem::replace(&mut done[site], true) {
            continue;
        }
        last = last.max(arrival[site]);
        for (to, one_way) in &links[site] {
            let at = arrival[site] + one_way * (1.0 + JITTER * rng.unit());
            if at < arrival[*to] {
                arrival[*to] = at;
                // Times are positive, and so ordered as their bits are.
                heap.push((Reverse(at.to_bits()), *to));
            }
        }
    }
    last
}

/// Places and shares.
fn parse(table: &str) -> Result<(Vec<Place>, Vec<u64>)> {
    let (mut places, mut shares) = (Vec::new(), Vec::new());
    for row in table.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        ensure!(cells.len() == 4, "not a region: {row:?} has not four cells");
        let place = Place::new(cells[1].parse()?, cells[2].parse()?);
        places.push(place.with_context(|| format!("not on the Earth: {row:?}"))?);
        shares.push(cells[3].parse()?);
    }
    ensure!(shares.iter().sum::<u64>() > 0, "no regions");
    Ok((places, shares))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_takes_the_quickest_way_to_each_and_the_last_counts() {
        let links = vec![vec![(1, 10.0), (2, 50.0)], vec![(0, 10.0), (2, 10.0)], vec![]];
        let took = to_all(&links, 0, &mut Rng::seeded(1));
        assert!((20.0..=23.0).contains(&took), "{took}");
        assert!(to_all(&links, 1, &mut Rng::seeded(1)) <= 11.5);
    }

    #[test]
    fn a_blur_is_the_same_in_both_directions_and_within_its_share() {
        let mut rng = Rng::seeded(3);
        let world = World::regions(40, &mut rng).unwrap();
        let blurred = world.blurred(0.2, &mut rng);
        let mut changed = 0;
        for (a, b) in (0..40).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let rtt = |world: &World, a, b| world.measured(a, b).unwrap().rtt_us;
            assert_eq!(rtt(&blurred, a, b), rtt(&blurred, b, a));
            let (exact, wrong) = (rtt(&world, a, b), rtt(&blurred, a, b));
            assert!(wrong.abs_diff(exact) <= exact / 5 + 1, "{exact} {wrong}");
            changed += usize::from(wrong.abs_diff(exact) > exact / 10);
        }
        assert!(changed > 200, "{changed}");
    }

    #[test]
    fn a_broken_table_is_refused() {
        for table in ["", "h\na,1,2\n", "h\na,x,2,3\n", "h\na,91,2,3\n", "h\na,1,2,0\n"] {
            assert!(parse(table).is_err(), "{table:?}");
        }
    }
}
