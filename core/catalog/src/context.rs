//! What an entry has seen: which writes of it, of whatever flock, come before what it says.
//!
//! Every write has a [`Dot`], its place in the log where it was decided, and every entry a
//! [`Context`]: of each log, up to where its writes of this entry are known. Of two flocks that
//! meet, each can tell from that which versions of the other's it had already, and which of its
//! own the other went on from; nobody need know where the two parted, or through how many flocks a
//! change came (dotted version vectors; Preguiça and others, "Brief announcement: efficient
//! causality tracking in distributed storage systems with dotted version vectors", 2012).
//!
//! A log is one line: whoever proposes to it under a later term has all that was decided under
//! earlier ones. So to have seen a place is to have seen all before it, and what stands at an
//! earlier place and was not seen was never decided: a lost manager held it alone, and nobody was
//! promised it.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::slot::Stamp;

/// Logs of which an entry remembers what it has seen. Of more those that said nothing for longest
/// are forgotten: at worst what was seen becomes a conflict.
pub const MAX_LOGS: usize = 128;
/// What the memory of one log takes, by and large.
const LOG_BYTES: usize = 24;

/// A place in a log of managers. Fork, term and index name it: nothing else ever stands there, not
/// even what was never decided, as a term has one master only.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Dot {
    /// Under which mastership. Its fork names the log.
    pub stamp: Stamp,
    /// In which term of that log.
    pub term: u64,
    /// At which place.
    pub index: u64,
}

impl Dot {
    /// Where in its log it stands: later places are greater.
    const fn place(&self) -> (u64, u64) {
        (self.term, self.index)
    }

    /// Whether both are the same place.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.stamp.fork == other.stamp.fork && self.place() == other.place()
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Of each log, by its fork, the last place; those that grew last come last.
    logs: Vec<(u64, u64, u64)>,
}

impl Context {
    /// Whether a write was seen, or was overtaken where it should have been decided.
    #[must_use]
    pub fn covers(&self, dot: &Dot) -> bool {
        let known = self.logs.iter().find(|(fork, ..)| *fork == dot.stamp.fork);
        known.is_some_and(|(_, term, index)| dot.place() <= (*term, *index))
    }

    /// This, and all before it, is seen. Says whether that is news.
    pub(crate) fn add(&mut self, dot: &Dot) -> bool {
        let (term, index) = dot.place();
        self.grow((dot.stamp.fork, term, index))
    }

    /// What another has seen is seen here too. Says whether that is news.
    pub(crate) fn join(&mut self, other: &Self) -> bool {
        let mut news = false;
        for log in &other.logs {
            news |= self.grow(*log);
        }
        news
    }

    fn grow(&mut self, (fork, term, index): (u64, u64, u64)) -> bool {
        if let Some(at) = self.logs.iter().position(|(known, ..)| *known == fork) {
            let (_, known_term, known_index) = self.logs[at];
            if (term, index) <= (known_term, known_index) {
                return false;
            }
            self.logs.remove(at);
        } else if self.logs.len() >= MAX_LOGS {
            self.logs.remove(0);
        }
        self.logs.push((fork, term, index));
        true
    }

    /// What it takes of the catalog's room.
    pub(crate) fn bytes(&self) -> usize {
        LOG_BYTES * self.logs.len()
    }

    /// Whether a peer may send it.
    pub(crate) fn is_sound(&self) -> bool {
        let mut forks: Vec<u64> = self.logs.iter().map(|(fork, ..)| *fork).collect();
        forks.sort_unstable();
        forks.dedup();
        forks.len() == self.logs.len() && forks.len() <= MAX_LOGS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn dot(fork: u64, term: u64, index: u64) -> Dot {
        Dot { stamp: Stamp { epoch: 0, fork }, term, index }
    }

    #[test]
    fn to_have_seen_a_place_is_to_have_seen_all_before_it_in_that_log_alone() {
        let mut context = Context::default();
        assert!(!context.covers(&dot(1, 0, 0)));
        assert!(context.add(&dot(1, 3, 7)));
        assert!(!context.add(&dot(1, 2, 9)), "what an earlier term held behind is no news");
        assert!(context.covers(&dot(1, 3, 7)) && context.covers(&dot(1, 2, 9)));
        assert!(!context.covers(&dot(1, 3, 8)) && !context.covers(&dot(1, 4, 1)));
        assert!(!context.covers(&dot(2, 1, 1)));
        let mut other = Context::default();
        other.add(&dot(1, 4, 1));
        other.add(&dot(2, 1, 1));
        assert!(context.join(&other) && !context.join(&other));
        assert!(context.covers(&dot(1, 4, 1)) && context.covers(&dot(2, 1, 1)));
    }

    #[test]
    fn the_log_that_said_nothing_for_longest_is_forgotten() {
        let mut context = Context::default();
        let logs = MAX_LOGS as u64;
        (0..logs).for_each(|fork| assert!(context.add(&dot(fork, 1, 1))));
        assert!(context.add(&dot(0, 1, 2)));
        assert!(context.add(&dot(logs, 1, 1)));
        assert!(context.is_sound());
        assert!(context.covers(&dot(0, 1, 2)) && !context.covers(&dot(1, 1, 1)));
    }

    #[test]
    fn a_context_that_names_a_log_twice_is_no_context() {
        let twice = Context { logs: alloc::vec![(1, 1, 1), (1, 2, 1)] };
        assert!(!twice.is_sound());
        let long = Context { logs: (0..=MAX_LOGS as u64).map(|fork| (fork, 1, 1)).collect() };
        assert!(!long.is_sound());
    }
}
