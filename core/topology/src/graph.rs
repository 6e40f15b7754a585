//! An undirected graph over `0..n` in one flat block: it is built and searched at every change of
//! the membership, so it must cost one allocation and no pointer chasing.

use alloc::vec;
use alloc::vec::Vec;

/// Room for edges that each vertex starts with, besides those it was made for: patches are rare.
const SPARE: usize = 2;

#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// Room for edges at each vertex.
    stride: usize,
    degree: Vec<u32>,
    slots: Vec<u32>,
}

impl Graph {
    /// `n` vertices without edges, with room for about `degree` each.
    pub(crate) fn new(n: usize, degree: usize) -> Self {
        let stride = degree + SPARE;
        Self { stride, degree: vec![0; n], slots: vec![0; n * stride] }
    }

    pub(crate) fn len(&self) -> usize {
        self.degree.len()
    }

    pub(crate) fn neighbours(&self, vertex: u32) -> &[u32] {
        let start = vertex as usize * self.stride;
        &self.slots[start..start + self.degree[vertex as usize] as usize]
    }

    pub(crate) fn has_edge(&self, a: u32, b: u32) -> bool {
        self.neighbours(a).contains(&b)
    }

    /// Joins `a` and `b`; says whether they were not joined before. A loop is no edge.
    pub(crate) fn join(&mut self, a: u32, b: u32) -> bool {
        if a == b || self.has_edge(a, b) {
            return false;
        }
        self.push(a, b);
        self.push(b, a);
        true
    }

    pub(crate) fn sort(&mut self) {
        for (vertex, degree) in self.degree.iter().enumerate() {
            let start = vertex * self.stride;
            self.slots[start..start + *degree as usize].sort_unstable();
        }
    }

    fn push(&mut self, from: u32, to: u32) {
        if self.degree[from as usize] as usize == self.stride {
            self.widen();
        }
        let degree = &mut self.degree[from as usize];
        self.slots[from as usize * self.stride + *degree as usize] = to;
        *degree += 1;
    }

    fn widen(&mut self) {
        let wider = self.stride * 2;
        let mut slots = vec![0; self.len() * wider];
        for (old, new) in self.slots.chunks(self.stride).zip(slots.chunks_mut(wider)) {
            new[..self.stride].copy_from_slice(old);
        }
        self.stride = wider;
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_kept_once_and_in_both_directions() {
        let mut graph = Graph::new(20, 1);
        assert!(!graph.join(3, 3));
        for other in (0..20).filter(|other| *other != 5) {
            assert!(graph.join(5, other));
            assert!(!graph.join(other, 5));
        }
        assert_eq!(graph.neighbours(5).len(), 19);
        assert!((0..20).filter(|v| *v != 5).all(|v| graph.neighbours(v) == [5]));
    }
}
