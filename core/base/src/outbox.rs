//! Where a machine puts what it wants done.

use alloc::collections::VecDeque;

/// A bounded queue of outputs, owned by the caller and drained after each call.
///
/// The bound catches a machine that answers one input with more than anybody could carry out: what
/// is over it is dropped and counted, and protocols repair what is dropped as they repair loss.
#[derive(Debug)]
pub struct Outbox<T> {
    items: VecDeque<T>,
    limit: usize,
    dropped: u64,
}

impl<T> Outbox<T> {
    /// Outputs that one call may make unless told otherwise: an anti-entropy answer for 10,000
    /// nodes in batches fits many times over.
    pub const DEFAULT_LIMIT: usize = 1 << 20;

    /// An empty outbox with the default limit.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(Self::DEFAULT_LIMIT)
    }

    /// An empty outbox that holds at most `limit` outputs.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { items: VecDeque::new(), limit, dropped: 0 }
    }

    /// Adds an output, or drops and counts it when the outbox is full.
    pub fn push(&mut self, item: T) {
        if self.items.len() < self.limit {
            self.items.push_back(item);
        } else {
            self.dropped += 1;
        }
    }

    /// Takes the oldest output.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Takes all outputs, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.items.drain(..)
    }

    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many outputs wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// How many outputs were dropped because the outbox was full.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_outbox_drops_and_counts() {
        let mut out = Outbox::with_limit(2);
        (0..5).for_each(|n| out.push(n));
        assert_eq!((out.len(), out.dropped()), (2, 3));
        assert_eq!(out.drain().collect::<alloc::vec::Vec<_>>(), [0, 1]);
        assert!(out.is_empty());
    }
}
