//! What keeps many states small: most of what a state has, the one before it has as well.

use std::hash::{Hash, Hasher};
use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// A list whose items are copied when they are changed, and not before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shared<T>(Vec<Arc<T>>);

impl<T> Shared<T> {
    pub(crate) fn push(&mut self, item: T) {
        self.0.push(Arc::new(item));
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl<T> FromIterator<T> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().map(Arc::new).collect())
    }
}

impl<T> Index<usize> for Shared<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.0[at]
    }
}

impl<T: Clone> IndexMut<usize> for Shared<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        Arc::make_mut(&mut self.0[at])
    }
}

/// How many steps led to a state. Two states are the same however many did.
#[derive(Clone, Copy, Debug, Eq)]
pub struct Depth(pub usize);

impl PartialEq for Depth {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Hash for Depth {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
