//! Disjoint paths, found near the edge in question.
//!
//! Let G be k-connected and G' be G with a few edges more and a few less. G' is k-connected if and
//! only if for each edge that went, k paths that share no inner vertex lead from its one end to its
//! other in G'. (Fewer than k vertices that cut G' do not cut it with those edges back, so one of
//! the edges crosses the cut; and k disjoint paths between its ends are too many to be cut.) So a
//! move of the search is checked *exactly* by paths between vertices that were joined just now and
//! mostly still are near: a search from both ends sees little of a large graph.
//!
//! The second kind of question is for building: do k disjoint paths lead from a vertex to those
//! before it in some order, and if not, which cut is in the way? (Even 1975, see
//! [`connectivity`](crate::connectivity).)
//!
//! Every vertex is split in two, its entry `2v` and its exit `2v + 1`: a path uses it once.

use alloc::vec;
use alloc::vec::Vec;

use super::net::Net;

const NONE: u32 = u32::MAX;
/// After a vertex: the path ends here, at a goal that is any of many.
const END: u32 = u32::MAX - 1;

/// Where paths shall end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal<'a> {
    /// At this vertex, which the source is not joined to.
    Vertex(u32),
    /// At any vertex with a smaller place in this order, each at its own.
    Before(&'a [u32], u32),
}

/// A searcher with its memory.
pub(crate) struct Paths {
    /// The vertex before and after on the path through a vertex.
    before: Vec<u32>,
    after: Vec<u32>,
    touched: Vec<u32>,
    fore: Side,
    back: Side,
    trail: Vec<u32>,
}

/// One direction of a search.
struct Side {
    /// The search that saw a half last, and from which half.
    seen: Vec<u32>,
    parent: Vec<u32>,
    queue: Vec<u32>,
    next: usize,
    round: u32,
}

impl Paths {
    pub(crate) fn new(n: usize) -> Self {
        Self {
            before: vec![NONE; n],
            after: vec![NONE; n],
            touched: Vec::new(),
            fore: Side::new(2 * n),
            back: Side::new(2 * n),
            trail: Vec::new(),
        }
    }

    /// Whether `wanted` disjoint paths lead from `a` to `b`, which are not joined.
    pub(crate) fn between(&mut self, net: &Net, a: u32, b: u32, wanted: usize) -> bool {
        debug_assert!(!net.has_edge(a, b), "{a}-{b}: an edge is a path without an inner vertex");
        self.forget();
        (0..wanted).all(|_| {
            let found = self.search_both(net, a, b);
            if found {
                self.lay_path(a, b);
            }
            found
        })
    }

    /// Whether `wanted` disjoint paths lead from `source` to the goal. If not, [`Self::side_of`]
    /// tells what the cut leaves of the graph.
    pub(crate) fn reach(&mut self, net: &Net, source: u32, goal: Goal<'_>, wanted: usize) -> bool {
        self.forget();
        (0..wanted).all(|_| {
            let found = self.search_one(net, source, goal);
            if found {
                self.lay_path(source, if let Goal::Vertex(b) = goal { b } else { NONE });
            }
            found
        })
    }

    /// After a failure of [`Self::reach`]: on which side of the cut it stopped at a vertex is.
    pub(crate) fn side_of(&self, vertex: u32, source: u32) -> Cut {
        if vertex == source || self.fore.has_seen(exit(vertex)) {
            Cut::Near
        } else if self.fore.has_seen(entry(vertex)) {
            Cut::In
        } else {
            Cut::Far
        }
    }

    fn forget(&mut self) {
        for vertex in self.touched.drain(..) {
            self.before[vertex as usize] = NONE;
            self.after[vertex as usize] = NONE;
        }
    }

    fn is_used(&self, vertex: u32) -> bool {
        self.before[vertex as usize] != NONE
    }

    /// From both ends, each time from the side that has less to look at.
    fn search_both(&mut self, net: &Net, a: u32, b: u32) -> bool {
        self.fore.begin(exit(a));
        self.back.begin(entry(b));
        loop {
            let (ahead, behind) = (self.fore.waiting(), self.back.waiting());
            if ahead == 0 || behind == 0 {
                return false;
            }
            let met = if ahead <= behind {
                self.step_forward(net, a)
            } else {
                self.step_backward(net, a, b)
            };
            if let Some(half) = met {
                self.note_trail(Some(half));
                return true;
            }
        }
    }

    /// Takes the next half of the forward search; returns one that both have seen.
    fn step_forward(&mut self, net: &Net, a: u32) -> Option<u32> {
        let half = self.fore.take()?;
        let v = half / 2;
        let (fore, back) = (&mut self.fore, &self.back);
        if half == entry(v) {
            let before = self.before[v as usize];
            if before == NONE {
                return fore.meet(exit(v), half, back);
            }
            return (before != a).then(|| fore.meet(exit(before), half, back)).flatten();
        }
        if v != a && self.before[v as usize] != NONE {
            // The path that came in here is turned away as well.
            let met = fore.meet(entry(v), half, back);
            if met.is_some() {
                return met;
            }
        }
        for to in net.halves(v).iter().map(|half| half.to) {
            let taken = if v == a {
                self.before[to as usize] == a
            } else {
                self.after[v as usize] == to || to == a
            };
            if !taken {
                let met = fore.meet(entry(to), half, back);
                if met.is_some() {
                    return met;
                }
            }
        }
        None
    }

    /// The same from the other end: which halves lead to the next one of the backward search.
    fn step_backward(&mut self, net: &Net, a: u32, b: u32) -> Option<u32> {
        let half = self.back.take()?;
        let v = half / 2;
        let (back, fore) = (&mut self.back, &self.fore);
        if half == exit(v) {
            let after = self.after[v as usize];
            if self.before[v as usize] == NONE {
                return back.meet(entry(v), half, fore);
            }
            return (after != b).then(|| back.meet(entry(after), half, fore)).flatten();
        }
        if v != b && self.before[v as usize] != NONE {
            let met = back.meet(exit(v), half, fore);
            if met.is_some() {
                return met;
            }
        }
        for from in net.halves(v).iter().map(|half| half.to) {
            let taken = if from == a {
                self.before[v as usize] == a
            } else {
                self.after[from as usize] == v || from == b
            };
            if !taken {
                let met = back.meet(exit(from), half, fore);
                if met.is_some() {
                    return met;
                }
            }
        }
        None
    }

    /// From the source alone: when it fails, what it saw is one side of a cut.
    fn search_one(&mut self, net: &Net, source: u32, goal: Goal<'_>) -> bool {
        self.fore.begin(exit(source));
        while let Some(half) = self.fore.take() {
            let v = half / 2;
            if half == entry(v) {
                let before = self.before[v as usize];
                if before == NONE {
                    self.fore.see(exit(v), half);
                } else if before != source {
                    self.fore.see(exit(before), half);
                }
                continue;
            }
            if v != source {
                if goal.is(v) && self.after[v as usize] != END {
                    self.note_trail(None);
                    self.trail_to(half);
                    return true;
                }
                if self.is_used(v) {
                    self.fore.see(entry(v), half);
                }
            }
            for to in net.halves(v).iter().map(|half| half.to) {
                let taken = if v == source {
                    self.before[to as usize] == source
                } else {
                    self.after[v as usize] == to || to == source
                };
                if taken {
                    continue;
                }
                self.fore.see(entry(to), half);
                if matches!(goal, Goal::Vertex(b) if b == to) {
                    self.note_trail(None);
                    self.trail_to(entry(to));
                    return true;
                }
            }
        }
        false
    }

    /// The halves from the source to where the two searches met, and on to the goal.
    fn note_trail(&mut self, met: Option<u32>) {
        self.trail.clear();
        if let Some(half) = met {
            self.trail_to(half);
            let mut half = self.back.parent[half as usize];
            while half != NONE {
                self.trail.push(half);
                half = self.back.parent[half as usize];
            }
        }
    }

    fn trail_to(&mut self, last: u32) {
        let mut half = last;
        while half != NONE {
            self.trail.push(half);
            half = self.fore.parent[half as usize];
        }
        self.trail.reverse();
    }

    /// Adds the trail to the paths, taking apart what it goes back over.
    fn lay_path(&mut self, source: u32, goal: u32) {
        for step in 1..self.trail.len() {
            let (from, to) = (self.trail[step - 1], self.trail[step]);
            let (v, w) = (from / 2, to / 2);
            let leaves_exit = from == exit(v);
            if v != w && leaves_exit {
                if v != source {
                    self.after[v as usize] = w;
                }
                if w != goal {
                    self.before[w as usize] = v;
                    self.touched.push(w);
                }
            } else if v != w {
                self.after[w as usize] = NONE;
            } else if leaves_exit {
                self.before[v as usize] = NONE;
                self.after[v as usize] = NONE;
            }
        }
        if goal == NONE
            && let Some(last) = self.trail.last()
        {
            self.after[(*last / 2) as usize] = END;
        }
    }
}

/// Where a vertex is when a cut was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// On the source's side.
    Near,
    /// One of those that cut.
    In,
    /// On the goal's side.
    Far,
}

impl Goal<'_> {
    fn is(&self, vertex: u32) -> bool {
        match self {
            Self::Vertex(_) => false,
            Self::Before(places, limit) => places[vertex as usize] < *limit,
        }
    }
}

impl Side {
    fn new(halves: usize) -> Self {
        let (seen, parent) = (vec![0; halves], vec![NONE; halves]);
        Self { seen, parent, queue: Vec::new(), next: 0, round: 0 }
    }

    fn begin(&mut self, half: u32) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            // Four thousand million searches later no old mark may pass for a new one.
            self.seen.fill(0);
            self.round = 1;
        }
        self.queue.clear();
        self.next = 0;
        self.see(half, NONE);
    }

    fn waiting(&self) -> usize {
        self.queue.len() - self.next
    }

    fn take(&mut self) -> Option<u32> {
        let half = self.queue.get(self.next).copied();
        self.next += 1;
        half
    }

    fn has_seen(&self, half: u32) -> bool {
        self.seen[half as usize] == self.round
    }

    fn see(&mut self, half: u32, from: u32) {
        if !self.has_seen(half) {
            self.seen[half as usize] = self.round;
            self.parent[half as usize] = from;
            self.queue.push(half);
        }
    }

    /// Sees a half, and returns it when the other direction has seen it as well.
    fn meet(&mut self, half: u32, from: u32, other: &Self) -> Option<u32> {
        self.see(half, from);
        other.has_seen(half).then_some(half)
    }
}

const fn entry(vertex: u32) -> u32 {
    2 * vertex
}

const fn exit(vertex: u32) -> u32 {
    2 * vertex + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::computed::costs::Price;
    use crate::connectivity::index;
    use petgraph::algo::ford_fulkerson;
    use petgraph::graph::DiGraph;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use skep_base::Rng;

    fn random(n: u32, percent: u64, rng: &mut Rng) -> Net {
        let mut net = Net::new(vec![i32::MAX; n as usize], 3);
        for (a, b) in (0..n).flat_map(|a| (0..a).map(move |b| (a, b))) {
            if rng.within(0..100) < percent {
                net.join(a, b, Price::default());
            }
        }
        net
    }

    /// Disjoint paths from `from` to the vertices `to`, each of which may end one, by petgraph.
    fn most_paths(net: &Net, from: u32, to: &[u32], several: bool) -> u32 {
        let n = net.len();
        let mut graph = DiGraph::<(), u32>::new();
        let halves: Vec<_> = (0..2 * n).map(|_| graph.add_node(())).collect();
        let sink = graph.add_node(());
        let half = |half: u32| halves[half as usize];
        for v in (0..index(n)).filter(|v| *v != from) {
            graph.add_edge(half(entry(v)), half(exit(v)), 1);
        }
        for (a, b, _) in net.edges() {
            graph.add_edge(half(exit(a)), half(entry(b)), 1);
            graph.add_edge(half(exit(b)), half(entry(a)), 1);
        }
        for v in to {
            let end = if several { exit(*v) } else { entry(*v) };
            graph.add_edge(half(end), sink, if several { 1 } else { u32::MAX });
        }
        ford_fulkerson(&graph, half(exit(from)), sink).0
    }

    proptest! {
        #[test]
        fn as_many_paths_are_found_as_there_are(
            seed in any::<u64>(), n in 3_u32..16, percent in 10_u64..70,
        ) {
            let mut rng = Rng::seeded(seed);
            let net = random(n, percent, &mut rng);
            let mut paths = Paths::new(n as usize);
            for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
                if a == b || net.has_edge(a, b) {
                    continue;
                }
                let most = most_paths(&net, a, &[b], false) as usize;
                for wanted in [most, most + 1] {
                    prop_assert_eq!(paths.between(&net, a, b, wanted), wanted <= most);
                    prop_assert_eq!(paths.reach(&net, a, Goal::Vertex(b), wanted), wanted <= most);
                }
            }
        }

        #[test]
        fn paths_to_earlier_vertices_are_counted_and_their_cut_is_one(
            seed in any::<u64>(), n in 3_u32..16, percent in 10_u64..60,
        ) {
            let mut rng = Rng::seeded(seed);
            let net = random(n, percent, &mut rng);
            let mut order: Vec<u32> = (0..n).collect();
            rng.shuffle(&mut order);
            let mut places = vec![0; n as usize];
            order.iter().zip(0..).for_each(|(v, place)| places[*v as usize] = place);
            let mut paths = Paths::new(n as usize);
            for (place, source) in order.iter().enumerate().skip(1) {
                let goal = Goal::Before(&places, index(place));
                let most = most_paths(&net, *source, &order[..place], true) as usize;
                prop_assert!(paths.reach(&net, *source, goal, most));
                prop_assert!(!paths.reach(&net, *source, goal, most + 1));
                // No edge but the source's own leads over the cut.
                let side = |v: u32| paths.side_of(v, *source);
                for (a, b, _) in net.edges().filter(|(a, b, _)| a != source && b != source) {
                    let sides = [side(a), side(b)];
                    prop_assert!(sides != [Cut::Near, Cut::Far] && sides != [Cut::Far, Cut::Near]);
                }
            }
        }
    }
}
