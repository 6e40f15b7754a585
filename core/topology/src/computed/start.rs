//! The greedy graph, and mending thin cuts.

use alloc::vec;
use alloc::vec::Vec;

use skep_base::Rng;

use super::costs::{Costs, Price, Pricer};
use super::net::Net;
use super::paths::{Cut, Goal, Paths};
use crate::connectivity::index;

/// Pairs across a cut that are looked at one by one; of more, a sample.
const MAX_PAIRS_ACROSS: usize = 1 << 16;
/// Of one side of a cut, and of the other, in a sample.
const SAMPLE: (usize, usize) = (128, 512);

/// Links that are there for other groups first, then by cost, then by chance; and who it is.
type Wish = (bool, u32, u32, u32);

/// For each site those it would rather be joined to, the best first.
pub(crate) struct Near {
    width: usize,
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Near {
    /// The best `width` for each. Those that are equally good come in an order of chance: a rack in
    /// which all are equally near must not choose the same few.
    pub(crate) fn new<C: Costs + ?Sized>(
        pricer: &Pricer<'_, C>,
        width: usize,
        rng: &mut Rng,
    ) -> Self {
        let n = index(pricer.len());
        let salt = rng.bits();
        let mut near = Self { width, starts: vec![0], items: Vec::new() };
        let mut best: Vec<Wish> = Vec::with_capacity(width + 1);
        for a in 0..n {
            best.clear();
            for b in (0..n).filter(|b| *b != a) {
                near.consider(&mut best, pricer.price(a, b), b, scatter(salt, a, b));
            }
            near.items.extend(best.iter().map(|(.., b)| *b));
            near.starts.push(index(near.items.len()));
        }
        near
    }

    pub(crate) fn of(&self, site: u32) -> &[u32] {
        let site = site as usize;
        &self.items[self.starts[site] as usize..self.starts[site + 1] as usize]
    }

    fn consider(&self, best: &mut Vec<Wish>, price: Option<Price>, b: u32, tie: u32) {
        let Some(price) = price else {
            return;
        };
        let entry = (!price.shared, price.cost, tie, b);
        if best.len() == self.width && best.last().is_some_and(|worst| entry > *worst) {
            return;
        }
        let at = best.partition_point(|other| *other < entry);
        best.insert(at, entry);
        best.truncate(self.width);
    }
}

/// A number that looks like chance and is the same for the same pair.
fn scatter(salt: u64, a: u32, b: u32) -> u32 {
    let mixed = (salt ^ (u64::from(a) << 32 | u64::from(b))).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    u32::try_from(mixed >> 32).unwrap_or(u32::MAX)
}

/// Joins sites that lack edges to the nearest that lack some as well, those that lack most first.
pub(crate) fn fill<C: Costs + ?Sized>(
    net: &mut Net,
    pricer: &Pricer<'_, C>,
    near: &Near,
    k: usize,
    rng: &mut Rng,
) {
    let mut order: Vec<u32> = (0..index(net.len())).collect();
    for lacking in (1..=k).rev() {
        rng.shuffle(&mut order);
        for a in &order {
            if k.saturating_sub(net.degree(*a)) < lacking {
                continue;
            }
            let possible = |b: &&u32| {
                let room = net.room(*a) > 0 && net.room(**b) > 0;
                let fits = |price: Price| price.shared || room;
                !net.has_edge(*a, **b) && pricer.price(*a, **b).is_some_and(fits)
            };
            let mut wishes = near.of(*a).iter().filter(possible);
            let lacks = |b: &&u32| net.degree(**b) < k;
            let chosen = wishes.clone().find(lacks).or_else(|| wishes.next()).copied();
            let priced = chosen.and_then(|b| Some((b, pricer.price(*a, b)?)));
            if let Some((b, price)) = priced {
                net.join(*a, b, price);
            }
        }
    }
}

/// Adds edges until the graph is k-connected: each the cheapest found across a cut that is too
/// thin.
///
/// # Errors
/// A site that no edge is allowed to help.
pub(crate) fn mend<C: Costs + ?Sized>(
    net: &mut Net,
    pricer: &Pricer<'_, C>,
    paths: &mut Paths,
    k: usize,
    rng: &mut Rng,
) -> Result<(), u32> {
    let mut order: Vec<u32> = (0..index(net.len())).collect();
    rng.shuffle(&mut order);
    let mut places = vec![0; net.len()];
    for (place, vertex) in order.iter().enumerate() {
        places[*vertex as usize] = index(place);
    }
    let first = &order[..k.min(order.len())];
    for (at, a) in first.iter().enumerate() {
        for b in &first[at + 1..] {
            while !net.has_edge(*a, *b) && !paths.reach(net, *a, Goal::Vertex(*b), k) {
                bridge(net, pricer, paths, *a, k, rng)?;
            }
        }
    }
    for a in &order[first.len()..] {
        while !paths.reach(net, *a, Goal::Before(&places, places[*a as usize]), k) {
            bridge(net, pricer, paths, *a, k, rng)?;
        }
    }
    Ok(())
}

/// Adds one edge across the cut that the search from `source` stopped at.
fn bridge<C: Costs + ?Sized>(
    net: &mut Net,
    pricer: &Pricer<'_, C>,
    paths: &Paths,
    source: u32,
    k: usize,
    rng: &mut Rng,
) -> Result<(), u32> {
    let mut sides = (Vec::new(), Vec::new());
    for vertex in 0..index(net.len()) {
        match paths.side_of(vertex, source) {
            Cut::Near => sides.0.push(vertex),
            Cut::Far => sides.1.push(vertex),
            Cut::In => {}
        }
    }
    let whole = sides.0.len() * sides.1.len() <= MAX_PAIRS_ACROSS;
    if !whole {
        rng.shuffle(&mut sides.0);
        rng.shuffle(&mut sides.1);
        let (here, there) = (&sides.0[..], &sides.1[..]);
        let here = &here[..here.len().min(SAMPLE.0)];
        let there = &there[..there.len().min(SAMPLE.1)];
        if let Some((a, b, price)) = cheapest(net, pricer, here, there, k) {
            net.join(a, b, price);
            return Ok(());
        }
    }
    let (a, b, price) = cheapest(net, pricer, &sides.0, &sides.1, k).ok_or(source)?;
    net.join(a, b, price);
    Ok(())
}

/// The cheapest edge from one of `here` to one of `there` that both have room for. Ends that have
/// their k edges already count as dearer, so that bridges do not all start at one site.
fn cheapest<C: Costs + ?Sized>(
    net: &Net,
    pricer: &Pricer<'_, C>,
    here: &[u32],
    there: &[u32],
    k: usize,
) -> Option<(u32, u32, Price)> {
    let over = |vertex: u32| (net.degree(vertex) + 1).saturating_sub(k) as u64;
    let mut best: Option<(u64, u32, u32, Price)> = None;
    for a in here {
        for b in there {
            let Some(price) = pricer.price(*a, *b) else {
                continue;
            };
            // The source's own edges cross the cut where a path runs over them.
            let has_room = price.shared || (net.room(*a) > 0 && net.room(*b) > 0);
            let fits = has_room && !net.has_edge(*a, *b);
            let weight = u64::from(price.cost) * (4 + over(*a) + over(*b));
            if fits && best.as_ref().is_none_or(|(least, ..)| weight < *least) {
                best = Some((weight, *a, *b, price));
            }
        }
    }
    best.map(|(_, a, b, price)| (a, b, price))
}
