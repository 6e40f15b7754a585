//! What is still to happen, in the order in which it will.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use skep_base::Time;

/// An event heap. Events of one time come out in the order in which they went in: nothing depends
/// on chance that was not asked for.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    /// What was the first on the heap once, in order: it was looked at before its turn.
    drawn: VecDeque<Entry<E>>,
    next: u64,
}

impl<E> Queue<E> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), drawn: VecDeque::new(), next: 0 }
    }

    pub(crate) fn push(&mut self, at: Time, event: E) {
        let order = self.next;
        self.next += 1;
        self.heap.push(Reverse(Entry { at, order, event }));
    }

    /// When the next event comes that was not drawn.
    fn heap_key(&self) -> Option<(Time, u64)> {
        self.heap.peek().map(|Reverse(entry)| entry.key())
    }

    pub(crate) fn next_at(&self) -> Option<Time> {
        let drawn = self.drawn.front().map(Entry::key);
        drawn.into_iter().chain(self.heap_key()).min().map(|(at, _)| at)
    }

    /// The next event, its time and its place among those of one time.
    pub(crate) fn pop(&mut self) -> Option<(Time, u64, E)> {
        let heap_key = self.heap_key();
        let is_next = |entry: &mut Entry<E>| heap_key.is_none_or(|first| entry.key() < first);
        let entry = match self.drawn.pop_front_if(is_next) {
            Some(entry) => entry,
            None => self.heap.pop()?.0,
        };
        Some((entry.at, entry.order, entry.event))
    }

    /// Looks at the next event that was not drawn yet, if it comes before `limit`. Its turn comes
    /// all the same, and so does that of what is pushed meanwhile: what comes before the last that
    /// was drawn is not drawn itself.
    pub(crate) fn draw(&mut self, limit: Time) -> Option<(Time, u64, &E)> {
        let next = self.heap_key().filter(|(at, _)| *at < limit)?;
        if self.drawn.back().is_some_and(|last| last.key() > next) {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.drawn.push_back(entry);
        self.drawn.back().map(|entry| (entry.at, entry.order, &entry.event))
    }
}

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    order: u64,
    event: E,
}

impl<E> Entry<E> {
    const fn key(&self) -> (Time, u64) {
        (self.at, self.order)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_asking() {
        let mut queue = Queue::new();
        for (at, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.push(Time::from_millis(at), name);
        }
        assert_eq!(queue.next_at(), Some(Time::from_millis(1)));
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, _, name)| name).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn what_is_drawn_has_its_turn_and_so_has_what_comes_between() {
        let mut queue = Queue::new();
        for (at, name) in [(5, 'd'), (1, 'a'), (3, 'b'), (9, 'f')] {
            queue.push(Time::from_millis(at), name);
        }
        let limit = Time::from_millis(9);
        for name in ['a', 'b', 'd'] {
            assert_eq!(queue.draw(limit).map(|(_, _, event)| *event), Some(name));
        }
        assert!(queue.draw(limit).is_none(), "what comes later is drawn");
        queue.push(Time::from_millis(5), 'e');
        queue.push(Time::from_millis(4), 'c');
        assert!(queue.draw(Time::NEVER).is_none(), "what comes between is drawn");
        assert_eq!(queue.next_at(), Some(Time::from_millis(1)));
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, _, name)| name).collect();
        assert_eq!(order, "abcdef");
    }
}
