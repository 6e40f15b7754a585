//! How far the farthest is, kept up to date while edges move.
//!
//! For a sample of sites, the *sources*, the shortest path trees to all others are kept. When edges
//! go and come, what hung on an edge that went is attached anew, and what a new edge brings nearer
//! is brought nearer; the rest of the tree is not looked at. In a tree of depth d a random edge
//! carries d sites on the average, so an update touches a few dozen sites and not N. All changes
//! are noted and can be taken back.

use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use skep_base::Rng;

use super::costs::Price;
use super::net::Net;
use crate::connectivity::index;

/// Up to so many sites each is a source, and the objective is exact.
pub(crate) const EXACT_UP_TO: usize = 64;
/// Of more sites, so many are sources; others every few steps.
const SOURCES: usize = 20;

const NONE: u32 = u32::MAX;
const FAR: u32 = u32::MAX;

/// The shortest path trees of the sources.
pub(crate) struct Spread {
    n: usize,
    sources: Vec<u32>,
    /// `reached[s * n + v]` is how `v` is reached from source `s`.
    reached: Vec<Reached>,
    /// The farthest from each source, and the sum of all distances.
    far: Vec<(u32, u32)>,
    sum: Vec<u64>,
    changes: Vec<Change>,
    /// What `far` and `sum` were before the update in progress.
    before: Vec<(usize, (u32, u32), u64)>,
    /// Ways to look at, the shortest first: the way in the high half, the vertex in the low one.
    heap: BinaryHeap<Reverse<u64>>,
    loose: Vec<u32>,
    is_loose: Vec<bool>,
}

#[derive(Clone, Copy)]
struct Reached {
    /// How long the way is.
    way: u32,
    /// The vertex before.
    over: u32,
}

const UNREACHED: Reached = Reached { way: FAR, over: NONE };

struct Change {
    at: usize,
    was: Reached,
}

/// What ways are worth, in thousandths, and how much worse they may get before nobody wants to know
/// by how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) eccentricity: i64,
    pub(crate) distance: i64,
    pub(crate) worse: i64,
}

/// The sums over all sources of their eccentricity, and of their mean distance, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    pub(crate) eccentricity: u64,
    pub(crate) distance: u64,
}

impl Spread {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            n,
            sources: Vec::new(),
            reached: Vec::new(),
            far: Vec::new(),
            sum: Vec::new(),
            changes: Vec::new(),
            before: Vec::new(),
            heap: BinaryHeap::new(),
            loose: Vec::new(),
            is_loose: vec![false; n],
        }
    }

    /// Draws sources: all sites where they are few; else by chance, so that what is improved is the
    /// way from anywhere, and the farthest of the sources before, so that no far corner is missed.
    pub(crate) fn draw(&mut self, net: &Net, rng: &mut Rng) {
        let n = index(self.n);
        let mut sources: Vec<u32> = if self.n <= EXACT_UP_TO {
            (0..n).collect()
        } else {
            let mut corners: Vec<u32> = self.far.iter().map(|(vertex, _)| *vertex).collect();
            corners.sort_unstable();
            corners.dedup();
            rng.shuffle(&mut corners);
            corners.truncate(SOURCES / 4);
            corners.extend((corners.len()..SOURCES).filter_map(|_| rng.index(self.n)).map(index));
            corners
        };
        sources.sort_unstable();
        sources.dedup();
        self.root_at(net, sources);
    }

    /// Grows the trees of `sources` from nothing.
    pub(crate) fn root_at(&mut self, net: &Net, sources: Vec<u32>) {
        self.forget();
        self.reached = vec![UNREACHED; sources.len() * self.n];
        self.far = vec![(0, 0); sources.len()];
        self.sum = vec![0; sources.len()];
        self.sources = sources;
        for s in 0..self.sources.len() {
            let base = s * self.n;
            let source = self.sources[s];
            self.reached[base + source as usize].way = 0;
            self.heap.push(Reverse(u64::from(source)));
            self.settle(net, base);
            let row = &self.reached[base..base + self.n];
            self.sum[s] = row.iter().map(|reached| u64::from(reached.way)).sum();
            self.find_far(s);
        }
        self.forget();
    }

    pub(crate) fn sources(&self) -> &[u32] {
        &self.sources
    }

    pub(crate) const fn is_exact(&self) -> bool {
        self.n <= EXACT_UP_TO
    }

    pub(crate) fn distance(&self, source: usize, vertex: u32) -> u32 {
        self.reached[source * self.n + vertex as usize].way
    }

    /// The site farthest from a source.
    pub(crate) fn farthest(&self, source: usize) -> u32 {
        self.far[source].0
    }

    /// Writes the way from the farthest site back to the source into `way`.
    pub(crate) fn way_back(&self, source: usize, way: &mut Vec<u32>) {
        way.clear();
        let mut vertex = self.far[source].0;
        while vertex != NONE {
            way.push(vertex);
            vertex = self.reached[source * self.n + vertex as usize].over;
        }
    }

    pub(crate) fn ways(&self) -> Ways {
        let n = self.n.max(1) as u64;
        Ways {
            eccentricity: self.far.iter().map(|(_, way)| u64::from(*way)).sum(),
            distance: self.sum.iter().map(|sum| sum / n).sum(),
        }
    }

    /// The most that new edges could bring anybody nearer, summed over the sources. Two edges bring
    /// a vertex no more than each of them brings its own far end.
    pub(crate) fn most_gain(&self, come: &[(u32, u32, Price)]) -> u64 {
        (0..self.sources.len()).map(|s| self.most_gain_of(s, come)).sum()
    }

    fn most_gain_of(&self, s: usize, come: &[(u32, u32, Price)]) -> u64 {
        let row = &self.reached[s * self.n..(s + 1) * self.n];
        let gain = |(a, b, price): &(u32, u32, Price)| {
            let apart = row[*a as usize].way.abs_diff(row[*b as usize].way);
            u64::from(apart.saturating_sub(price.delay))
        };
        come.iter().map(gain).sum()
    }

    /// Follows `net`, from which the edges `gone` went and to which `come` came since the last
    /// call. Returns whether it went to the end: not when ways got worse beyond all patience,
    /// whatever the sources that were not looked at might have gained. Then it must be taken back.
    pub(crate) fn follow(
        &mut self,
        net: &Net,
        gone: &[(u32, u32)],
        come: &[(u32, u32, Price)],
        patience: Patience,
    ) -> bool {
        self.forget();
        let most = i64::try_from(self.most_gain(come)).unwrap_or(i64::MAX >> 16);
        let mut hope = most * (patience.eccentricity + patience.distance);
        let mut worse = 0;
        for s in 0..self.sources.len() {
            let base = s * self.n;
            let gain = i64::try_from(self.most_gain_of(s, come)).unwrap_or(i64::MAX >> 16);
            hope -= gain * (patience.eccentricity + patience.distance);
            let mark = self.changes.len();
            self.loosen(net, base, gone);
            for (a, b, price) in come {
                for (from, to) in [(*a, *b), (*b, *a)] {
                    self.offer(base, from, to, price.delay);
                }
            }
            if self.changes.len() == mark {
                continue;
            }
            self.settle(net, base);
            let (farther, sum) = self.account(s, mark);
            let mean = sum / i64::try_from(self.n.max(1)).unwrap_or(i64::MAX);
            worse += farther * patience.eccentricity + mean * patience.distance;
            if worse - hope > patience.worse {
                return false;
            }
        }
        worse <= patience.worse
    }

    /// Takes the last [`Self::follow`] back.
    pub(crate) fn take_back(&mut self) {
        while let Some(change) = self.changes.pop() {
            self.reached[change.at] = change.was;
        }
        while let Some((s, far, sum)) = self.before.pop() {
            self.far[s] = far;
            self.sum[s] = sum;
        }
    }

    fn forget(&mut self) {
        self.changes.clear();
        self.before.clear();
    }

    /// Cuts off what hangs on the edges that went, and offers it the best way that is left.
    fn loosen(&mut self, net: &Net, base: usize, gone: &[(u32, u32)]) {
        self.loose.clear();
        for (a, b) in gone {
            for (from, to) in [(*a, *b), (*b, *a)] {
                if self.reached[base + to as usize].over == from && !self.is_loose[to as usize] {
                    self.is_loose[to as usize] = true;
                    self.loose.push(to);
                }
            }
        }
        let mut next = 0;
        while let Some(vertex) = self.loose.get(next).copied() {
            next += 1;
            for half in net.halves(vertex) {
                let child = half.to as usize;
                if self.reached[base + child].over == vertex && !self.is_loose[child] {
                    self.is_loose[child] = true;
                    self.loose.push(half.to);
                }
            }
        }
        for at in 0..self.loose.len() {
            self.set(base, self.loose[at], UNREACHED);
        }
        for at in 0..self.loose.len() {
            let vertex = self.loose[at];
            for half in net.halves(vertex) {
                if !self.is_loose[half.to as usize] {
                    self.offer(base, half.to, vertex, half.price.delay);
                }
            }
        }
        for vertex in &self.loose {
            self.is_loose[*vertex as usize] = false;
        }
    }

    /// A way to `to` over `from`.
    fn offer(&mut self, base: usize, from: u32, to: u32, delay: u32) {
        let way = self.reached[base + from as usize].way.saturating_add(delay);
        if way < self.reached[base + to as usize].way {
            self.set(base, to, Reached { way, over: from });
            self.heap.push(Reverse(u64::from(way) << 32 | u64::from(to)));
        }
    }

    /// Dijkstra, from what is in the heap.
    fn settle(&mut self, net: &Net, base: usize) {
        while let Some(Reverse(next)) = self.heap.pop() {
            let (way, vertex) = halves_of(next);
            if way > self.reached[base + vertex as usize].way {
                continue;
            }
            for half in net.halves(vertex) {
                self.offer(base, vertex, half.to, half.price.delay);
            }
        }
    }

    fn set(&mut self, base: usize, vertex: u32, to: Reached) {
        let at = base + vertex as usize;
        let was = core::mem::replace(&mut self.reached[at], to);
        self.changes.push(Change { at, was });
    }

    /// Brings farthest and sum of a source up to date with its changes from `mark` on; by how much
    /// each is more than before.
    fn account(&mut self, s: usize, mark: usize) -> (i64, i64) {
        let base = s * self.n;
        let (mut far, mut sum) = (self.far[s], self.sum[s]);
        self.before.push((s, far, sum));
        // A vertex may have changed more than once: what it was before is in its first note, what
        // it is now in the row. So every vertex is taken up once, and put down at its first note.
        for change in &self.changes[mark..] {
            let vertex = change.at - base;
            if !self.is_loose[vertex] {
                self.is_loose[vertex] = true;
                let way = self.reached[change.at].way;
                sum = sum + u64::from(way) - u64::from(change.was.way);
                if way > far.1 {
                    far = (index(vertex), way);
                }
            }
        }
        for change in &self.changes[mark..] {
            self.is_loose[change.at - base] = false;
        }
        let (old_far, old_sum) = (self.far[s].1, self.sum[s]);
        self.sum[s] = sum;
        self.far[s] = far;
        if self.reached[base + far.0 as usize].way < far.1 {
            self.find_far(s);
        }
        let grown = i64::try_from(sum).unwrap_or(i64::MAX) - i64::try_from(old_sum).unwrap_or(0);
        (i64::from(self.far[s].1) - i64::from(old_far), grown)
    }

    fn find_far(&mut self, s: usize) {
        let row = &self.reached[s * self.n..(s + 1) * self.n];
        let mut far = (0, 0);
        for (vertex, reached) in row.iter().enumerate() {
            if reached.way > far.1 {
                far = (index(vertex), reached.way);
            }
        }
        self.far[s] = far;
    }
}

fn halves_of(key: u64) -> (u32, u32) {
    let low = u32::try_from(key & u64::from(u32::MAX)).unwrap_or(NONE);
    (u32::try_from(key >> 32).unwrap_or(FAR), low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use proptest::prop_assert;

    const ANY: Patience = Patience { eccentricity: 1, distance: 1, worse: i64::MAX };

    fn price(rng: &mut Rng) -> Price {
        let delay = u32::try_from(rng.within(1..50)).unwrap();
        Price { cost: delay, delay, shared: false }
    }

    /// A ring with chords.
    fn random(n: u32, rng: &mut Rng) -> Net {
        let mut net = Net::new(vec![i32::MAX; n as usize], 3);
        (0..n).for_each(|a| net.join(a, (a + 1) % n, price(rng)));
        for _ in 0..n {
            let (a, b) = (rng.index(n as usize).unwrap(), rng.index(n as usize).unwrap());
            let (a, b) = (index(a), index(b));
            if a != b && !net.has_edge(a, b) {
                net.join(a, b, price(rng));
            }
        }
        net
    }

    fn afresh(net: &Net) -> Spread {
        let mut spread = Spread::new(net.len());
        spread.root_at(net, (0..index(net.len())).collect());
        spread
    }

    fn rows(spread: &Spread) -> (Vec<u32>, Ways) {
        (spread.reached.iter().map(|reached| reached.way).collect(), spread.ways())
    }

    proptest! {
        #[test]
        fn following_is_the_same_as_starting_anew_and_can_be_taken_back(
            seed in any::<u64>(), n in 4_u32..40,
        ) {
            let mut rng = Rng::seeded(seed);
            let mut net = random(n, &mut rng);
            let mut spread = afresh(&net);
            for _ in 0..20 {
                let edges: Vec<(u32, u32, Price)> = net.edges().collect();
                let old: Vec<_> = (0..2).filter_map(|_| rng.pick(&edges).copied()).collect();
                let mut gone: Vec<(u32, u32)> = old.iter().map(|(a, b, _)| (*a, *b)).collect();
                gone.dedup();
                gone.iter().for_each(|(a, b)| net.part(*a, *b));
                let mut come = Vec::new();
                for _ in 0..2 {
                    let a = index(rng.index(n as usize).unwrap());
                    let b = index(rng.index(n as usize).unwrap());
                    // A move never brings back what it takes away.
                    let back = gone.contains(&(a, b)) || gone.contains(&(b, a));
                    if a != b && !back && !net.has_edge(a, b) {
                        let price = price(&mut rng);
                        net.join(a, b, price);
                        come.push((a, b, price));
                    }
                }
                let before = rows(&spread);
                prop_assert!(spread.follow(&net, &gone, &come, ANY));
                prop_assert_eq!(rows(&spread), rows(&afresh(&net)));
                if rng.chance(0.5) {
                    spread.take_back();
                    prop_assert_eq!(rows(&spread), before);
                    come.iter().for_each(|(a, b, _)| net.part(*a, *b));
                    for (a, b, price) in &old {
                        if !net.has_edge(*a, *b) {
                            net.join(*a, *b, *price);
                        }
                    }
                }
            }
        }

        #[test]
        fn patience_ends_only_for_what_is_worse_in_the_end(
            seed in any::<u64>(), n in 6_u32..40, worse in 0_i64..4000,
        ) {
            let mut rng = Rng::seeded(seed);
            let mut net = random(n, &mut rng);
            let mut spread = afresh(&net);
            let before = spread.ways();
            let edges: Vec<(u32, u32, Price)> = net.edges().collect();
            let (a, b, _) = *rng.pick(&edges).unwrap();
            net.part(a, b);
            let patience = Patience { eccentricity: 3, distance: 0, worse };
            let followed = spread.follow(&net, &[(a, b)], &[], patience);
            let after = afresh(&net).ways();
            let grown = 3 * (after.eccentricity as i64 - before.eccentricity as i64);
            prop_assert_eq!(followed, grown <= worse);
        }
    }
}
