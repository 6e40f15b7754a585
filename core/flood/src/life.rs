//! What this node has of one life of one origin in one group.
//!
//! Sequences within a group are not dense, because an origin counts over all its groups. So what is
//! missing is known only from predecessors, and is kept as the few ranges that were given up;
//! everything else up to the head is there, or was. That makes the memory for duplicates an
//! interval with holes instead of a set of identities.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use skep_base::{Incarnation, NodeId};

use crate::message::{self, GAPS_PER_LIFE};

/// A group's number inside one machine. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupIx(pub(crate) u32);

/// Names a life of an origin in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LifeKey {
    pub(crate) group: GroupIx,
    pub(crate) origin: NodeId,
    pub(crate) incarnation: Incarnation,
}

/// Missing and given up: sequences above `after` and up to `last`, which certainly is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) after: u64,
    pub(crate) last: u64,
}

/// How a sequence relates to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Above everything.
    New,
    /// In a gap.
    Late,
    /// There, or was there.
    Known,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) key: LifeKey,
    /// Everything up to here is there or was, but for the gaps.
    pub(crate) head: u64,
    /// Everything up to here is gone from this log.
    pub(crate) floor: u64,
    /// Everything up to here is over the purge age, so that nobody has it; at most the floor.
    pub(crate) aged: u64,
    /// Ascending; at most [`GAPS_PER_LIFE`], the oldest are forgotten first.
    gaps: Vec<Gap>,
    /// Sequence and position of what the log still holds, ascending by sequence.
    index: VecDeque<(u64, u64)>,
    /// When something was last added, in milliseconds of the machine's clock.
    pub(crate) touched: i64,
}

impl Life {
    pub(crate) const fn new(key: LifeKey, touched: i64) -> Self {
        Self { key, head: 0, floor: 0, aged: 0, gaps: Vec::new(), index: VecDeque::new(), touched }
    }

    pub(crate) fn place(&self, sequence: u64) -> Place {
        if sequence > self.head {
            Place::New
        } else if self.gaps.iter().any(|gap| gap.holds(sequence)) {
            Place::Late
        } else {
            Place::Known
        }
    }

    /// Notes that `sequence` stands at `position`. `predecessor` is its predecessor if that is of
    /// this life.
    pub(crate) fn add(&mut self, sequence: u64, predecessor: Option<u64>, position: u64) {
        if sequence > self.head {
            self.head = sequence;
        } else {
            self.fill(sequence, predecessor.unwrap_or(0));
        }
        match self.index.back() {
            Some(&(last, _)) if last >= sequence => {
                let at = self.index.partition_point(|&(at, _)| at < sequence);
                self.index.insert(at, (sequence, position));
            }
            _ => self.index.push_back((sequence, position)),
        }
    }

    fn fill(&mut self, sequence: u64, predecessor: u64) {
        let Some(at) = self.gaps.iter().position(|gap| gap.holds(sequence)) else {
            return;
        };
        let gap = self.gaps.remove(at);
        if sequence < gap.last {
            let after = sequence;
            self.gaps.insert(at, Gap { after, ..gap });
        }
        if predecessor > gap.after {
            let last = predecessor;
            self.gaps.insert(at, Gap { last, ..gap });
        }
        self.bound_gaps();
    }

    /// Gives up everything above the head and up to `last`.
    pub(crate) fn give_up(&mut self, last: u64) {
        if last > self.head {
            self.gaps.push(Gap { after: self.head, last });
            self.head = last;
            self.bound_gaps();
        }
    }

    /// Everything up to `floor` is over the purge age and is not waited for.
    pub(crate) fn raise_aged(&mut self, floor: u64) {
        self.aged = self.aged.max(floor);
        self.raise_floor(floor);
    }

    /// Everything up to `floor` is gone and is not waited for.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.head = self.head.max(floor);
        self.gaps.retain(|gap| gap.last > floor);
        for gap in &mut self.gaps {
            gap.after = gap.after.max(floor);
        }
    }

    /// Forgets the log entry of `sequence`, which then counts as there once.
    pub(crate) fn remove(&mut self, sequence: u64) -> bool {
        if self.index.front().is_some_and(|front| front.0 == sequence) {
            self.index.pop_front();
            return true;
        }
        match self.index.binary_search_by_key(&sequence, |entry| entry.0) {
            Ok(at) => self.index.remove(at).is_some(),
            Err(_) => false,
        }
    }

    /// Takes back the log entry of `sequence`, which then is missing.
    pub(crate) fn lose(&mut self, sequence: u64) {
        let Ok(at) = self.index.binary_search_by_key(&sequence, |entry| entry.0) else {
            return;
        };
        self.index.remove(at);
        let before = at.checked_sub(1).and_then(|at| self.index.get(at));
        let after = before.map_or(self.floor, |entry| entry.0).min(sequence - 1);
        self.gaps.retain(|gap| gap.last <= after || gap.last > sequence);
        let at = self.gaps.partition_point(|gap| gap.last < sequence);
        match self.gaps.get_mut(at) {
            Some(next) if next.after == sequence => next.after = after,
            _ => self.gaps.insert(at, Gap { after, last: sequence }),
        }
        self.bound_gaps();
    }

    fn bound_gaps(&mut self) {
        while self.gaps.len() > GAPS_PER_LIFE {
            self.gaps.remove(0);
        }
    }

    /// Where `sequence` stands in the log.
    pub(crate) fn position(&self, sequence: u64) -> Option<u64> {
        let at = self.index.binary_search_by_key(&sequence, |entry| entry.0);
        at.ok().map(|at| self.index[at].1)
    }

    /// The log entries above `after`, ascending.
    pub(crate) fn entries_after(&self, after: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let start = self.index.partition_point(|entry| entry.0 <= after);
        self.index.range(start..).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// What a peer is told of this life.
    pub(crate) fn mark(&self) -> message::Life {
        message::Life {
            incarnation: self.key.incarnation,
            head: self.head,
            gaps: self.gaps.iter().map(|gap| (gap.after, gap.last)).collect(),
        }
    }

    pub(crate) fn check(&self) {
        let ordered = self.index.iter().zip(self.index.iter().skip(1));
        assert!(ordered.into_iter().all(|(a, b)| a.0 < b.0), "index in order");
        assert!(self.gaps.len() <= GAPS_PER_LIFE, "gaps are bounded");
        assert!(self.floor <= self.head, "the floor is below the head");
        assert!(self.aged <= self.floor, "what is too old is gone");
        assert!(
            self.gaps.iter().all(|gap| gap.after < gap.last && gap.last <= self.head),
            "gaps are below the head"
        );
        assert!(self.gaps.windows(2).all(|pair| pair[0].last <= pair[1].after), "gaps ascend");
        for (sequence, _) in &self.index {
            assert_eq!(self.place(*sequence), Place::Known, "what is there is known");
        }
    }
}

impl Gap {
    const fn holds(self, sequence: u64) -> bool {
        self.after < sequence && sequence <= self.last
    }
}
