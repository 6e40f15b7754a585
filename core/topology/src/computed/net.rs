//! The graph while it is searched: edges with prices, cheap to add and to take away.

use alloc::vec;
use alloc::vec::Vec;

use super::costs::Price;

/// One end's view of an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) to: u32,
    pub(crate) price: Price,
}

/// An undirected graph over `0..n`.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    /// Room for edges at each vertex.
    stride: usize,
    degree: Vec<u32>,
    slots: Vec<Half>,
    /// How many more links each vertex may hold; below zero while a move is being judged.
    room: Vec<i32>,
    edges: usize,
}

impl Net {
    /// As many vertices as there are entries in `room`, without edges.
    pub(crate) fn new(room: Vec<i32>, degree: usize) -> Self {
        let (n, stride) = (room.len(), degree + 2);
        Self {
            stride,
            degree: vec![0; n],
            slots: vec![Half::default(); n * stride],
            room,
            edges: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.degree.len()
    }

    pub(crate) const fn edge_count(&self) -> usize {
        self.edges
    }

    pub(crate) fn degree(&self, vertex: u32) -> usize {
        self.degree[vertex as usize] as usize
    }

    pub(crate) fn room(&self, vertex: u32) -> i32 {
        self.room[vertex as usize]
    }

    pub(crate) fn halves(&self, vertex: u32) -> &[Half] {
        let start = vertex as usize * self.stride;
        &self.slots[start..start + self.degree(vertex)]
    }

    pub(crate) fn has_edge(&self, a: u32, b: u32) -> bool {
        self.halves(a).iter().any(|half| half.to == b)
    }

    pub(crate) fn price(&self, a: u32, b: u32) -> Option<Price> {
        self.halves(a).iter().find(|half| half.to == b).map(|half| half.price)
    }

    /// Every edge once, the lesser vertex first.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (u32, u32, Price)> + '_ {
        (0..crate::connectivity::index(self.len())).flat_map(|from| {
            let later = self.halves(from).iter().filter(move |half| half.to > from);
            later.map(move |half| (from, half.to, half.price))
        })
    }

    pub(crate) fn cost(&self) -> i64 {
        self.edges().map(|(_, _, price)| i64::from(price.cost)).sum()
    }

    /// Joins two that are not joined.
    pub(crate) fn join(&mut self, a: u32, b: u32, price: Price) {
        debug_assert!(a != b && !self.has_edge(a, b), "{a}-{b} is no new edge");
        self.push(a, Half { to: b, price });
        self.push(b, Half { to: a, price });
        self.take_room(a, b, price, 1);
        self.edges += 1;
    }

    /// Takes the edge between two that are joined away.
    pub(crate) fn part(&mut self, a: u32, b: u32) {
        let price = self.drop_half(a, b);
        self.drop_half(b, a);
        if let Some(price) = price {
            self.take_room(a, b, price, -1);
            self.edges -= 1;
        }
    }

    fn take_room(&mut self, a: u32, b: u32, price: Price, links: i32) {
        if !price.shared {
            self.room[a as usize] -= links;
            self.room[b as usize] -= links;
        }
    }

    fn push(&mut self, from: u32, half: Half) {
        if self.degree(from) == self.stride {
            self.widen();
        }
        let at = from as usize * self.stride + self.degree(from);
        self.slots[at] = half;
        self.degree[from as usize] += 1;
    }

    fn drop_half(&mut self, from: u32, to: u32) -> Option<Price> {
        let start = from as usize * self.stride;
        let at = self.halves(from).iter().position(|half| half.to == to)?;
        let price = self.slots[start + at].price;
        self.slots[start + at] = self.slots[start + self.degree(from) - 1];
        self.degree[from as usize] -= 1;
        Some(price)
    }

    fn widen(&mut self) {
        let wider = self.stride * 2;
        let mut slots = vec![Half::default(); self.len() * wider];
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
    fn what_is_joined_and_parted_is_as_before() {
        let mut net = Net::new(vec![2; 9], 0);
        let own = Price { cost: 5, delay: 3, shared: false };
        let shared = Price { shared: true, ..own };
        (1..9).for_each(|other| net.join(0, other, if other < 3 { own } else { shared }));
        assert_eq!((net.room(0), net.room(1), net.room(5)), (0, 1, 2));
        assert_eq!((net.edge_count(), net.cost(), net.degree(0)), (8, 40, 8));
        net.part(2, 0);
        assert_eq!((net.room(0), net.degree(0), net.has_edge(0, 2)), (1, 7, false));
        (3..9).for_each(|other| net.part(0, other));
        assert_eq!(net.edges().collect::<Vec<_>>(), [(0, 1, own)]);
    }
}
