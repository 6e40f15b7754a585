//! A map by node identity, for what is asked of every node all the time.
//!
//! An identity is a digest, so its first bits spread nodes evenly: a directory of as many rows as
//! there are nodes leads to the right one, or to one of very few, at the cost of two lines of cache
//! where a search tree of a thousand nodes takes half a dozen. Whoever chooses names so that their
//! identities crowd in one row pays nobody but himself: rows are searched by halves.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::NodeId;

/// A map from identities to values, in the order of identities. Meant for many more questions than
/// insertions: these move what comes after them.
#[derive(Clone, Debug)]
pub struct ById<T> {
    keys: Vec<NodeId>,
    values: Vec<T>,
    /// Where each row begins in `keys`, and where the last one ends. A row is of the identities
    /// that begin with the same `bits` bits.
    starts: Vec<u32>,
    bits: u32,
}

impl<T> Default for ById<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> ById<T> {
    /// Rows of the smallest directory, as a power of two.
    const LEAST_BITS: u32 = 4;
    /// And of the largest: more than a bloc has nodes.
    const MOST_BITS: u32 = 16;

    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        let bits = Self::LEAST_BITS;
        Self { keys: Vec::new(), values: Vec::new(), starts: vec![0; (1 << bits) + 1], bits }
    }

    /// How many identities it knows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The value of `id`.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&T> {
        self.values.get(self.place(id).ok()?)
    }

    /// The value of `id`, to change.
    pub fn get_mut(&mut self, id: &NodeId) -> Option<&mut T> {
        let at = self.place(id).ok()?;
        self.values.get_mut(at)
    }

    /// The value of `id`, made if there is none.
    pub fn get_or_insert_with(&mut self, id: NodeId, make: impl FnOnce() -> T) -> &mut T {
        let at = match self.place(&id) {
            Ok(at) => at,
            Err(at) => {
                self.keys.insert(at, id);
                self.values.insert(at, make());
                self.shift(&id, |start| start + 1);
                self.fit();
                at
            }
        };
        &mut self.values[at]
    }

    /// Takes `id` out, and says what its value was.
    pub fn remove(&mut self, id: &NodeId) -> Option<T> {
        let at = self.place(id).ok()?;
        self.keys.remove(at);
        self.shift(id, |start| start - 1);
        Some(self.values.remove(at))
    }

    /// All of it, in the order of identities.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &T)> + '_ {
        self.keys.iter().zip(&self.values)
    }

    /// All values, to change, in the order of identities.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> + '_ {
        self.values.iter_mut()
    }

    /// What lies between two identities, both included.
    pub fn between(&self, first: NodeId, last: NodeId) -> impl Iterator<Item = (&NodeId, &T)> {
        let from = self.place(&first).unwrap_or_else(|at| at);
        let to = self.place(&last).map_or_else(|at| at, |at| at + 1).max(from);
        self.keys[from..to].iter().zip(&self.values[from..to])
    }

    /// What must hold between calls.
    ///
    /// # Panics
    /// When it does not: that is a bug here.
    pub fn check(&self) {
        assert_eq!(self.keys.len(), self.values.len(), "an identity without its value");
        assert!(self.keys.is_sorted_by(|a, b| a < b), "identities in disorder");
        assert_eq!(self.starts, directory(&self.keys, self.bits), "rows begin elsewhere");
    }

    /// Where `id` stands, or would have to.
    fn place(&self, id: &NodeId) -> Result<usize, usize> {
        let row = self.row(id);
        let start = row.start;
        let found = self.keys[row].binary_search(id);
        found.map(|at| start + at).map_err(|at| start + at)
    }

    fn row(&self, id: &NodeId) -> Range<usize> {
        let row = row_of(id, self.bits);
        self.starts[row] as usize..self.starts[row + 1] as usize
    }

    /// Rows after that of `id` begin elsewhere.
    fn shift(&mut self, id: &NodeId, by: impl Fn(u32) -> u32) {
        let row = row_of(id, self.bits);
        self.starts[row + 1..].iter_mut().for_each(|start| *start = by(*start));
    }

    /// Makes the directory larger when it has fewer rows than there are identities.
    fn fit(&mut self) {
        if self.keys.len() > 1 << self.bits && self.bits < Self::MOST_BITS {
            self.bits += 1;
            self.starts = directory(&self.keys, self.bits);
        }
    }
}

/// The row of an identity: its first bits.
fn row_of(id: &NodeId, bits: u32) -> usize {
    let [a, b, c, d, ..] = *id.as_bytes();
    (u32::from_be_bytes([a, b, c, d]) >> (u32::BITS - bits)) as usize
}

/// Where each row begins among sorted identities, and where the last one ends.
fn directory(keys: &[NodeId], bits: u32) -> Vec<u32> {
    let mut starts = vec![0; (1 << bits) + 1];
    for key in keys {
        starts[row_of(key, bits) + 1] += 1;
    }
    for row in 1..starts.len() {
        starts[row] += starts[row - 1];
    }
    starts
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;
    use crate::Rng;

    fn id(rng: &mut Rng, crowded: bool) -> NodeId {
        let mut bytes = [7; NodeId::LEN];
        let from = if crowded { 15 } else { 0 };
        for byte in &mut bytes[from..] {
            *byte = u8::try_from(rng.within(0..256)).unwrap();
        }
        NodeId::from_bytes(bytes)
    }

    fn agrees_with_a_tree(crowded: bool, most: u64) {
        let mut rng = Rng::seeded(most);
        let (mut map, mut tree) = (ById::new(), BTreeMap::new());
        let ids: Vec<NodeId> = (0..most).map(|_| id(&mut rng, crowded)).collect();
        for step in 0..most * 4 {
            let id = *rng.pick(&ids).unwrap();
            if rng.chance(0.3) {
                assert_eq!(map.remove(&id), tree.remove(&id));
            } else {
                assert_eq!(
                    map.get_or_insert_with(id, || step),
                    tree.entry(id).or_insert(step),
                    "a value that was there is kept"
                );
            }
            assert_eq!(map.len(), tree.len());
            let asked = rng.pick(&ids).unwrap();
            assert_eq!(map.get(asked), tree.get(asked));
            assert_eq!(map.get_mut(asked), tree.get_mut(asked));
            if step % 64 == 0 {
                map.check();
                assert!(map.iter().eq(tree.iter()));
                assert!(map.values_mut().eq(tree.values_mut()));
                let other = *rng.pick(&ids).unwrap();
                let (first, last) = (other.min(*asked), other.max(*asked));
                assert!(map.between(first, last).eq(tree.range(first..=last)));
            }
        }
    }

    #[test]
    fn it_holds_what_a_tree_holds() {
        for most in [1, 15, 16, 17, 300, 2_000] {
            agrees_with_a_tree(false, most);
        }
    }

    #[test]
    fn identities_may_crowd() {
        agrees_with_a_tree(true, 200);
    }

    #[test]
    fn an_empty_map_has_nothing_between_any_two() {
        let map = ById::<()>::default();
        let (first, last) =
            (NodeId::from_bytes([0; NodeId::LEN]), NodeId::from_bytes([0xFF; NodeId::LEN]));
        assert!(map.is_empty());
        assert_eq!(map.between(first, last).count(), 0);
        assert_eq!(map.between(last, first).count(), 0);
    }
}
