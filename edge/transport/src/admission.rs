//! Who may begin a handshake now, who waits and who is sent away.
//!
//! A handshake costs CPU and memory before the peer has proven anything, so few run at once, a
//! bounded number waits, and no single address may take all the places: a stranger that opens
//! connections and says nothing keeps nobody out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Decides who is next. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max_active: usize,
    max_waiting: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    active: usize,
    active_by_source: HashMap<IpAddr, usize>,
    waiting_by_source: HashMap<IpAddr, usize>,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    source: IpAddr,
    turn: oneshot::Sender<Place>,
}

/// The right to work on one handshake, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Nothing once the place was taken back from a waiter that had gone.
    shared: Option<Arc<Shared>>,
    source: IpAddr,
}

/// What [`Admission::enter`] says.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Begin.
    Now(Place),
    /// Wait for the turn.
    Later(oneshot::Receiver<Place>),
    /// Too many wait.
    Full,
}

impl Admission {
    /// At most `max_active` at once, and `max_waiting` in the queue.
    pub(crate) fn new(max_active: usize, max_waiting: usize) -> Self {
        Self(Arc::new(Shared { max_active, max_waiting, state: Mutex::default() }))
    }

    /// Asks for a place on behalf of `source`.
    pub(crate) fn enter(&self, source: IpAddr) -> Entry {
        let shared = &self.0;
        let mut state = shared.lock();
        if shared.may_begin(&state, source) {
            return Entry::Now(shared.begin(&mut state, source));
        }
        // Those who gave up while they waited make room for those who are still there.
        if state.waiting.len() >= shared.max_waiting {
            state.forget_gone();
        }
        let from_source = state.waiting_by_source.get(&source).copied().unwrap_or(0);
        if state.waiting.len() >= shared.max_waiting
            || from_source >= share_of_one(shared.max_waiting)
        {
            return Entry::Full;
        }
        let (turn, wait) = oneshot::channel();
        state.waiting.push_back(Waiter { source, turn });
        *state.waiting_by_source.entry(source).or_default() += 1;
        Entry::Later(wait)
    }

    /// How many are worked on and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.active, state.waiting.len())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_begin(&self, state: &State, source: IpAddr) -> bool {
        let from_source = state.active_by_source.get(&source).copied().unwrap_or(0);
        state.active < self.max_active && from_source < share_of_one(self.max_active)
    }

    fn begin(self: &Arc<Self>, state: &mut State, source: IpAddr) -> Place {
        state.active += 1;
        *state.active_by_source.entry(source).or_default() += 1;
        Place { shared: Some(Arc::clone(self)), source }
    }

    /// Hands free places to the first in the queue whose address has not had its share.
    fn give_turns(self: &Arc<Self>, state: &mut State) {
        while let Some(at) =
            state.waiting.iter().position(|waiter| self.may_begin(state, waiter.source))
        {
            let Some(waiter) = state.waiting.remove(at) else {
                break;
            };
            state.left_queue(waiter.source);
            let place = self.begin(state, waiter.source);
            if let Err(mut unclaimed) = waiter.turn.send(place) {
                // Taken back here: dropping it as it is would ask for the lock that we hold.
                unclaimed.shared = None;
                state.end(waiter.source);
            }
        }
    }
}

impl State {
    fn end(&mut self, source: IpAddr) {
        self.active -= 1;
        count_down(&mut self.active_by_source, source);
    }

    fn left_queue(&mut self, source: IpAddr) {
        count_down(&mut self.waiting_by_source, source);
    }

    fn forget_gone(&mut self) {
        let gone: Vec<_> = self
            .waiting
            .iter()
            .filter(|waiter| waiter.turn.is_closed())
            .map(|waiter| waiter.source)
            .collect();
        self.waiting.retain(|waiter| !waiter.turn.is_closed());
        for source in gone {
            self.left_queue(source);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            let mut state = shared.lock();
            state.end(self.source);
            shared.give_turns(&mut state);
        }
    }
}

/// What one address may take of `all`: three quarters, so that a whole rack behind one address is
/// served nearly as fast, and others still find a place.
const fn share_of_one(all: usize) -> usize {
    let share = all - all / 4;
    if share == 0 { 1 } else { share }
}

fn count_down(counts: &mut HashMap<IpAddr, usize>, source: IpAddr) {
    if let Some(count) = counts.get_mut(&source) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn places_are_given_in_turn_and_never_beyond_the_bound() {
        let admission = Admission::new(2, 10);
        let first = admission.enter(source(1));
        let second = admission.enter(source(2));
        assert!(matches!((&first, &second), (Entry::Now(_), Entry::Now(_))));
        let Entry::Later(mut third) = admission.enter(source(3)) else {
            panic!("a third place of two");
        };
        assert!(third.try_recv().is_err());
        drop(first);
        let place = third.try_recv().unwrap();
        assert_eq!(admission.counts(), (2, 0));
        drop((second, place));
        assert_eq!(admission.counts(), (0, 0));
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let admission = Admission::new(4, 8);
        let taken: Vec<_> = (0..12).map(|_| admission.enter(source(9))).collect();
        let count = |wanted: fn(&Entry) -> bool| taken.iter().filter(|entry| wanted(entry)).count();
        assert_eq!(count(|entry| matches!(entry, Entry::Now(_))), 3);
        assert_eq!(count(|entry| matches!(entry, Entry::Later(_))), 6);
        assert_eq!(count(|entry| matches!(entry, Entry::Full)), 3);
        let last = admission.enter(source(1));
        assert!(matches!(last, Entry::Now(_)));
        // All places of its share are taken, and still somebody else waits before it.
        let Entry::Later(mut other) = admission.enter(source(1)) else {
            panic!("four of four places are taken");
        };
        drop(taken);
        assert!(other.try_recv().is_ok());
    }

    #[test]
    fn who_gave_up_waiting_is_passed_over() {
        let admission = Admission::new(1, 2);
        let place = admission.enter(source(1));
        drop((admission.enter(source(2)), admission.enter(source(3))));
        let Entry::Later(mut patient) = admission.enter(source(4)) else {
            panic!("the queue holds only those who left");
        };
        drop(place);
        assert!(patient.try_recv().is_ok());
        drop(patient);
        assert_eq!(admission.counts(), (0, 0));
    }
}
