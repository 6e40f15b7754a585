//! Vertex connectivity by Even's algorithm, and the patches that establish it.
//!
//! A graph is k-connected when no k − 1 vertices can be taken away so that the rest falls apart.
//! Even (1975) showed that with the vertices in any order it is enough to look at
//!
//! 1. each pair of the first k that is not joined: k disjoint paths between the two;
//! 2. each later vertex: k disjoint paths to *any* of those before it.
//!
//! Disjoint paths are found as a flow with one unit a vertex. The search starts at the vertex that
//! is tested and ends at the first earlier one it meets: in an order that has nothing to do with
//! the graph these are all around, so a search sees about n/j vertices at the j-th, and the whole
//! check costs about k² · n · ln n steps.
//!
//! Where a test fails there are *earlier* vertices that no path ended at. An edge to one of them is
//! one more disjoint path, and never spoils a test that has passed. So one sweep both checks and
//! patches.

use alloc::vec;
use alloc::vec::Vec;

use crate::graph::Graph;

/// Whether the graph over `0..n` with `edges` is at least min(`k`, n − 1)-connected.
///
/// Loops and repeated edges count once or not at all; edges that name a vertex of `n` or above are
/// passed over.
#[must_use]
pub fn is_connected(n: usize, edges: impl IntoIterator<Item = (u32, u32)>, k: usize) -> bool {
    let mut graph = Graph::new(n, k);
    for (a, b) in edges {
        if (a as usize) < n && (b as usize) < n {
            graph.join(a, b);
        }
    }
    let mut holds = true;
    sweep(&mut graph, k, |_, _, _| {
        holds = false;
        None
    });
    holds
}

/// Adds to `graph` the edges that make it min(`k`, n − 1)-connected, and says how many.
///
/// `choose` is given a vertex and those it may be joined to, and names one of these.
pub(crate) fn patch(
    graph: &mut Graph,
    k: usize,
    mut choose: impl FnMut(u32, &[u32]) -> Option<u32>,
) -> usize {
    let mut added = 0;
    sweep(graph, k, |graph, from, candidates| {
        let to = choose(from, candidates)?;
        added += usize::from(graph.join(from, to));
        Some(to)
    });
    added
}

/// Walks through Even's tests. A test that fails calls `mend` with the vertex and what it may be
/// joined to; it returns the new neighbour, or nothing to end the sweep.
fn sweep(
    graph: &mut Graph,
    k: usize,
    mut mend: impl FnMut(&mut Graph, u32, &[u32]) -> Option<u32>,
) {
    let n = graph.len();
    let k = k.min(n.saturating_sub(1));
    if k == 0 {
        return;
    }
    let mut flow = Flow::new(n);
    let first = index(k);
    for a in 0..first {
        for b in a + 1..first {
            if graph.has_edge(a, b) {
                continue;
            }
            flow.aim_at_neighbours_of(graph, a);
            // Two joined vertices cannot be separated: one edge settles the pair.
            if flow.paths_from(graph, b, k) < k && mend(graph, b, &[a]).is_none() {
                return;
            }
        }
    }
    for vertex in first..index(n) {
        flow.aim_below(vertex);
        let mut paths = flow.paths_from(graph, vertex, k);
        while paths < k {
            // Below `vertex` there are at least k, and each path has ended at one of its own.
            let unused: Vec<u32> = (0..vertex).filter(|v| !flow.is_used(*v)).collect();
            let Some(to) = mend(graph, vertex, &unused) else {
                return;
            };
            flow.take_direct(vertex, to);
            paths += 1;
        }
    }
}

/// Where the searches want to get to.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// Any vertex with a smaller number.
    Below(u32),
    /// Any neighbour of this vertex, which itself is out of bounds.
    NeighboursOf(u32),
}

/// Disjoint paths from one vertex, found one after the other, each by a breadth-first search that
/// may take earlier ones apart.
///
/// Every vertex is split in two: a path enters it and leaves it, and only one path may do both. A
/// search state is a half, `2v` for the entry and `2v + 1` for the exit of `v`.
struct Flow {
    aim: Aim,
    /// Marks the neighbours of [`Aim::NeighboursOf`].
    marked: Vec<bool>,
    marks: Vec<u32>,
    /// The vertex before and after on the path through a vertex. `NONE`: no path; `END`: it ends.
    before: Vec<u32>,
    after: Vec<u32>,
    touched: Vec<u32>,
    /// The search that saw a half last, and from which half.
    seen: Vec<u32>,
    parent: Vec<u32>,
    search: u32,
    queue: Vec<u32>,
    trail: Vec<u32>,
}

const NONE: u32 = u32::MAX;
const END: u32 = u32::MAX - 1;

impl Flow {
    fn new(n: usize) -> Self {
        Self {
            aim: Aim::Below(0),
            marked: vec![false; n],
            marks: Vec::new(),
            before: vec![NONE; n],
            after: vec![NONE; n],
            touched: Vec::new(),
            seen: vec![0; 2 * n],
            parent: vec![NONE; 2 * n],
            search: 0,
            queue: Vec::new(),
            trail: Vec::new(),
        }
    }

    fn aim_below(&mut self, vertex: u32) {
        self.aim = Aim::Below(vertex);
    }

    fn aim_at_neighbours_of(&mut self, graph: &Graph, vertex: u32) {
        for old in self.marks.drain(..) {
            self.marked[old as usize] = false;
        }
        self.marks.extend_from_slice(graph.neighbours(vertex));
        for new in &self.marks {
            self.marked[*new as usize] = true;
        }
        self.aim = Aim::NeighboursOf(vertex);
    }

    fn is_goal(&self, vertex: u32) -> bool {
        match self.aim {
            Aim::Below(limit) => vertex < limit,
            Aim::NeighboursOf(_) => self.marked[vertex as usize],
        }
    }

    fn is_out_of_bounds(&self, vertex: u32) -> bool {
        matches!(self.aim, Aim::NeighboursOf(hub) if hub == vertex)
    }

    fn is_used(&self, vertex: u32) -> bool {
        self.before[vertex as usize] != NONE
    }

    /// How many disjoint paths lead from `source` to the aim, counted up to `wanted`.
    fn paths_from(&mut self, graph: &Graph, source: u32, wanted: usize) -> usize {
        for vertex in self.touched.drain(..) {
            self.before[vertex as usize] = NONE;
            self.after[vertex as usize] = NONE;
        }
        let mut paths = self.take_all_direct(graph, source, wanted);
        while paths < wanted && self.search(graph, source) {
            self.lay_path();
            paths += 1;
        }
        paths
    }

    /// Notes a path of one edge, to a goal that no path ends at.
    fn take_direct(&mut self, source: u32, goal: u32) {
        self.before[goal as usize] = source;
        self.after[goal as usize] = END;
        self.touched.push(goal);
    }

    /// The paths of one edge, which a search would find first and in this order.
    fn take_all_direct(&mut self, graph: &Graph, source: u32, wanted: usize) -> usize {
        let mut paths = 0;
        for goal in graph.neighbours(source).iter().copied() {
            if paths < wanted && self.is_goal(goal) && !self.is_out_of_bounds(goal) {
                self.take_direct(source, goal);
                paths += 1;
            }
        }
        paths
    }

    /// Leaves in `trail` the halves from the source's exit to the exit of a goal.
    fn search(&mut self, graph: &Graph, source: u32) -> bool {
        self.search += 1;
        self.queue.clear();
        self.see(exit(source), NONE);
        self.see(entry(source), NONE);
        self.queue.clear();
        self.queue.push(exit(source));
        let mut next = 0;
        while let Some(half) = self.queue.get(next).copied() {
            next += 1;
            let vertex = half / 2;
            if half == entry(vertex) {
                match self.before[vertex as usize] {
                    NONE => self.see(exit(vertex), half),
                    before => self.see(exit(before), half),
                }
                continue;
            }
            if vertex != source {
                if self.is_goal(vertex) && self.after[vertex as usize] != END {
                    self.note_trail(half);
                    return true;
                }
                // The path that came in here is turned away as well.
                self.see(entry(vertex), half);
            }
            for neighbour in graph.neighbours(vertex) {
                if !self.is_out_of_bounds(*neighbour) {
                    self.see(entry(*neighbour), half);
                }
            }
        }
        false
    }

    fn see(&mut self, half: u32, from: u32) {
        if self.seen[half as usize] != self.search {
            self.seen[half as usize] = self.search;
            self.parent[half as usize] = from;
            self.queue.push(half);
        }
    }

    fn note_trail(&mut self, last: u32) {
        self.trail.clear();
        let mut half = last;
        while half != NONE {
            self.trail.push(half);
            half = self.parent[half as usize];
        }
        self.trail.reverse();
    }

    fn lay_path(&mut self) {
        for step in 1..self.trail.len() {
            let (from, to) = (self.trail[step - 1], self.trail[step]);
            let (v, w) = (from / 2, to / 2);
            let leaves_exit = from == exit(v);
            if v != w && leaves_exit {
                self.after[v as usize] = w;
                self.before[w as usize] = v;
                self.touched.push(w);
            } else if v != w {
                self.after[w as usize] = NONE;
            } else if leaves_exit {
                self.before[v as usize] = NONE;
                self.after[v as usize] = NONE;
            }
        }
        if let Some(last) = self.trail.last() {
            self.after[(*last / 2) as usize] = END;
        }
    }
}

const fn entry(vertex: u32) -> u32 {
    2 * vertex
}

const fn exit(vertex: u32) -> u32 {
    2 * vertex + 1
}

/// Members are counted in `u32`: half of its range is left for the halves.
pub(crate) fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(END / 2)
}
