//! One entry of the catalog, and whether what its clients saw can have happened in some order.
//!
//! An operation takes effect at one instant between its question and its answer, or the history is
//! not linearizable. One that was never answered may have taken effect at any instant since it was
//! asked, or not at all; and so may, as far as one fork of a flock's history is concerned, what
//! another fork decided: a merge brings it.

use std::collections::HashSet;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// How an entry must be for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// As it is.
    Anything,
    /// Not there.
    Absent,
    /// Of this revision.
    Revision(u64),
}

/// What is asked. Every value is written once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// That the entry says this.
    Write {
        /// If it is so.
        expect: Expect,
        /// What.
        value: u64,
    },
    /// What it says.
    Read,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It was written, and is of this revision now.
    Written(u64),
    /// It was not as expected; it is of this revision, or not there.
    Conflict(Option<u64>),
    /// Its revision and value, or that it is not there.
    Is(Option<(u64, u64)>),
    /// Nobody saw an answer.
    Unseen,
}

/// The entry, as it would be if one asked after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    value: Option<u64>,
    /// Nothing where it is absent, or where nobody was told.
    revision: Option<u64>,
}

impl Entry {
    /// Whether it may be of that revision.
    fn may_be(&self, revision: u64) -> bool {
        self.value.is_some() && self.revision.is_none_or(|known| known == revision)
    }

    fn may_fit(&self, expect: Expect) -> bool {
        match expect {
            Expect::Anything => true,
            Expect::Absent => self.value.is_none(),
            Expect::Revision(revision) => self.may_be(revision),
        }
    }

    /// Whether it may be otherwise than `expect`.
    fn may_differ(&self, expect: Expect, found: Option<u64>) -> bool {
        match expect {
            Expect::Anything => false,
            Expect::Absent => self.value.is_some(),
            Expect::Revision(revision) => found != Some(revision),
        }
    }
}

impl SequentialSpec for Entry {
    type Op = Op;
    type Ret = Answer;

    fn invoke(&mut self, op: &Op) -> Answer {
        match op {
            Op::Write { expect, value } if self.may_fit(*expect) => {
                *self = Self { value: Some(*value), revision: None };
            }
            Op::Write { .. } | Op::Read => {}
        }
        Answer::Unseen
    }

    fn is_valid_step(&mut self, op: &Op, answer: &Answer) -> bool {
        match (*op, *answer) {
            (Op::Write { expect, value }, Answer::Written(revision)) => {
                let newer = self.revision.is_none_or(|known| known < revision);
                let fits = self.may_fit(expect) && newer;
                *self = Self { value: Some(value), revision: Some(revision) };
                fits
            }
            (Op::Write { expect, .. }, Answer::Conflict(found)) => {
                let differs = self.may_differ(expect, found);
                let seen = found.map_or(self.value.is_none(), |revision| self.may_be(revision));
                self.revision = found.or(self.revision);
                differs && seen
            }
            (Op::Read, Answer::Is(None)) => self.value.is_none(),
            (Op::Read, Answer::Is(Some((revision, value)))) => {
                let seen = self.value == Some(value) && self.may_be(revision);
                self.revision = Some(revision);
                seen
            }
            (_, Answer::Unseen) => true,
            (Op::Write { .. }, Answer::Is(_))
            | (Op::Read, Answer::Written(_) | Answer::Conflict(_)) => false,
        }
    }
}

/// What was asked of one entry and what was answered, as it came.
#[derive(Clone, Debug, Default)]
pub struct History {
    ops: Vec<Op>,
    events: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Asked(usize),
    Answered { op: usize, fork: u64, answer: Answer },
}

impl History {
    /// Operations of one history: the time that a verdict takes may double with each.
    pub const MAX_OPS: usize = 10;

    /// Somebody asks. The number goes with the answer.
    pub fn ask(&mut self, op: Op) -> usize {
        let number = self.ops.len();
        self.ops.push(op);
        self.events.push(Event::Asked(number));
        number
    }

    /// He is answered, by a master of `fork`.
    pub fn answer(&mut self, op: usize, fork: u64, answer: Answer) {
        self.events.push(Event::Answered { op, fork, answer });
    }

    /// Whether no more should be asked of this entry.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ops.len() >= Self::MAX_OPS
    }

    /// Operations that were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Answered { .. })).count()
    }

    /// The first fork of which no order of the operations explains the answers.
    #[must_use]
    pub fn contradiction(&self) -> Option<u64> {
        let mut forks: Vec<u64> = self.events.iter().filter_map(Event::fork).collect();
        forks.sort_unstable();
        forks.dedup();
        forks.into_iter().find(|fork| !self.is_linearizable(*fork))
    }

    /// Whether some order explains what the masters of a fork answered.
    #[must_use]
    pub fn is_linearizable(&self, fork: u64) -> bool {
        let spans = self.spans(fork);
        assert!(spans.len() <= 64, "more operations than the search has bits for");
        Search { spans: &spans, seen: HashSet::new() }.explains(0, Entry::default())
    }

    /// The same by `stateright`'s tester, which tries every order: for few operations only, and to
    /// judge the judge by.
    #[must_use]
    pub fn is_linearizable_by_trial(&self, fork: u64) -> bool {
        let spans = self.spans(fork);
        let mut tester = LinearizabilityTester::new(Entry::default());
        for at in 0..self.events.len() {
            for (number, span) in spans.iter().enumerate() {
                // Each operation is a client of its own.
                let told = if span.asked == at {
                    tester.on_invoke(number, span.op).map(drop)
                } else if span.answered == at
                    && let Some(answer) = span.answer
                {
                    tester.on_return(number, answer).map(drop)
                } else {
                    Ok(())
                };
                if told.is_err() {
                    return false;
                }
            }
        }
        tester.is_consistent()
    }

    /// Everything that may have happened in a fork.
    fn spans(&self, fork: u64) -> Vec<Span> {
        let mut spans = Vec::new();
        for (asked, event) in self.events.iter().enumerate() {
            let Event::Asked(number) = event else { continue };
            let answer = self.events.iter().enumerate().find_map(|(at, event)| match event {
                Event::Answered { op, fork: of, answer } if op == number && *of == fork => {
                    Some((at, *answer))
                }
                Event::Asked(_) | Event::Answered { .. } => None,
            });
            match (answer, self.ops[*number]) {
                (Some((answered, answer)), op) => {
                    spans.push(Span { asked, answered, op, answer: Some(answer) });
                }
                // What it expected was so where it was decided, if it was.
                (None, Op::Write { value, .. }) => {
                    let op = Op::Write { expect: Expect::Anything, value };
                    spans.push(Span { asked, answered: usize::MAX, op, answer: None });
                }
                (None, Op::Read) => {}
            }
        }
        spans
    }
}

/// An operation, and between which events it took effect, if it did.
#[derive(Clone, Copy, Debug)]
struct Span {
    asked: usize,
    answered: usize,
    op: Op,
    /// Nothing where it need not have taken effect.
    answer: Option<Answer>,
}

/// Wing and Gong's search, which remembers what it tried: whatever order led there, from the same
/// operations done and the same entry it goes on alike.
struct Search<'a> {
    spans: &'a [Span],
    seen: HashSet<(u64, Entry)>,
}

impl Search<'_> {
    fn explains(&mut self, done: u64, entry: Entry) -> bool {
        let open = |number: &usize| done & (1 << number) == 0;
        let all = 0..self.spans.len();
        let answers = all.clone().filter(|number| self.spans[*number].answer.is_some());
        if answers.clone().all(|number| !open(&number)) {
            return true;
        }
        if !self.seen.insert((done, entry)) {
            return false;
        }
        // What was asked after something else had been answered comes after it.
        let first = answers.filter(open).map(|number| self.spans[number].answered).min();
        let next = all.filter(open).filter(|number| Some(self.spans[*number].asked) < first);
        next.collect::<Vec<_>>().into_iter().any(|number| {
            let Span { op, answer, .. } = self.spans[number];
            let mut after = entry;
            let fits = match answer {
                Some(answer) => after.is_valid_step(&op, &answer),
                None => {
                    after.invoke(&op);
                    true
                }
            };
            fits && self.explains(done | (1 << number), after)
        })
    }
}

impl Event {
    fn fork(&self) -> Option<u64> {
        match self {
            Self::Asked(_) => None,
            Self::Answered { fork, .. } => Some(*fork),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(expect: Expect, value: u64) -> Op {
        Op::Write { expect, value }
    }

    /// Operations one after the other.
    fn sequence(ops: &[(Op, Answer)]) -> History {
        let mut history = History::default();
        for (op, answer) in ops {
            let number = history.ask(*op);
            history.answer(number, 1, *answer);
        }
        history
    }

    #[test]
    fn what_one_after_the_other_saw_is_explained() {
        let history = sequence(&[
            (Op::Read, Answer::Is(None)),
            (put(Expect::Absent, 1), Answer::Written(7)),
            (put(Expect::Absent, 2), Answer::Conflict(Some(7))),
            (put(Expect::Revision(7), 3), Answer::Written(9)),
            (put(Expect::Revision(7), 4), Answer::Conflict(Some(9))),
            (Op::Read, Answer::Is(Some((9, 3)))),
        ]);
        assert_eq!(history.contradiction(), None);
        assert_eq!(history.answered(), 6);
    }

    #[test]
    fn what_cannot_have_happened_is_not() {
        let lost = sequence(&[
            (put(Expect::Anything, 1), Answer::Written(5)),
            (put(Expect::Anything, 2), Answer::Written(6)),
            (Op::Read, Answer::Is(Some((5, 1)))),
        ]);
        assert_eq!(lost.contradiction(), Some(1), "a stale read");
        let twice = sequence(&[
            (put(Expect::Absent, 1), Answer::Written(5)),
            (put(Expect::Absent, 2), Answer::Written(6)),
        ]);
        assert_eq!(twice.contradiction(), Some(1), "two were the first");
        let back = sequence(&[
            (put(Expect::Anything, 1), Answer::Written(6)),
            (put(Expect::Anything, 2), Answer::Written(5)),
        ]);
        assert_eq!(back.contradiction(), Some(1), "a revision below the one before");
        let nobody = sequence(&[(Op::Read, Answer::Is(Some((3, 8))))]);
        assert_eq!(nobody.contradiction(), Some(1), "nobody wrote that");
        let fits = sequence(&[
            (put(Expect::Anything, 1), Answer::Written(5)),
            (put(Expect::Revision(5), 2), Answer::Conflict(Some(5))),
        ]);
        assert_eq!(fits.contradiction(), Some(1), "a conflict with what was expected");
    }

    #[test]
    fn those_at_once_may_have_come_in_either_order_and_no_other() {
        let mut history = History::default();
        let first = history.ask(put(Expect::Anything, 1));
        let second = history.ask(put(Expect::Anything, 2));
        let read = history.ask(Op::Read);
        history.answer(second, 1, Answer::Written(4));
        history.answer(first, 1, Answer::Written(3));
        history.answer(read, 1, Answer::Is(Some((3, 1))));
        assert_eq!(history.contradiction(), None);
        let late = history.ask(Op::Read);
        history.answer(late, 1, Answer::Is(Some((3, 1))));
        assert_eq!(history.contradiction(), Some(1), "the last one wrote 4");
    }

    #[test]
    fn what_was_never_answered_may_have_happened_late_and_once() {
        let mut history = History::default();
        let _unanswered = history.ask(put(Expect::Anything, 1));
        for (op, answer) in [
            (Op::Read, Answer::Is(None)),
            (put(Expect::Absent, 2), Answer::Written(3)),
            (Op::Read, Answer::Is(Some((5, 1)))),
            (put(Expect::Revision(3), 4), Answer::Conflict(Some(5))),
        ] {
            let number = history.ask(op);
            history.answer(number, 1, answer);
        }
        assert_eq!(history.contradiction(), None);
        let again = history.ask(put(Expect::Anything, 6));
        history.answer(again, 1, Answer::Written(8));
        let read = history.ask(Op::Read);
        history.answer(read, 1, Answer::Is(Some((9, 1))));
        assert_eq!(history.contradiction(), Some(1), "it happened twice");
    }

    #[test]
    fn each_fork_is_a_history_and_a_merge_may_bring_what_another_decided() {
        let mut history = History::default();
        for (fork, op, answer) in [
            (1, put(Expect::Absent, 1), Answer::Written(4)),
            (2, put(Expect::Absent, 2), Answer::Written(5)),
            (2, Op::Read, Answer::Is(Some((5, 2)))),
            (1, Op::Read, Answer::Is(Some((4, 1)))),
            (1, Op::Read, Answer::Is(Some((9, 2)))),
        ] {
            let number = history.ask(op);
            history.answer(number, fork, answer);
        }
        assert_eq!(history.contradiction(), None);
        let number = history.ask(Op::Read);
        history.answer(number, 2, Answer::Is(Some((4, 1))));
        assert_eq!(history.contradiction(), None, "a merge can have gone that way");
        let number = history.ask(Op::Read);
        history.answer(number, 2, Answer::Is(Some((5, 2))));
        assert_eq!(history.contradiction(), Some(2), "but not that way and back");
    }

    fn any_op() -> impl Strategy<Value = (u8, u64, u64)> {
        (0..6_u8, 0..4_u64, 0..4_u64)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// The search and the trial of all orders come to the same verdict.
        #[test]
        fn both_judges_agree(ops in prop::collection::vec((any_op(), 0..4_usize), 1..6)) {
            let mut history = History::default();
            let mut open: Vec<(usize, Answer)> = Vec::new();
            for (number, ((kind, a, b), answered)) in (1..).zip(ops) {
                let (op, answer) = match kind {
                    0 => (put(Expect::Anything, number), Answer::Written(a + b)),
                    1 => (put(Expect::Absent, number), Answer::Written(number)),
                    2 => (put(Expect::Revision(a), number), Answer::Written(number)),
                    3 => (put(Expect::Revision(a), number), Answer::Conflict(Some(b))),
                    4 => (Op::Read, Answer::Is((b > 0).then_some((a, b)))),
                    _ => (put(Expect::Absent, number), Answer::Conflict(Some(a))),
                };
                open.push((history.ask(op), answer));
                if answered < open.len() {
                    let (op, answer) = open.remove(answered);
                    history.answer(op, answer_fork(a), answer);
                }
            }
            for fork in [1, 2] {
                let trial = history.is_linearizable_by_trial(fork);
                prop_assert_eq!(history.is_linearizable(fork), trial, "{:?}", history);
            }
        }
    }

    fn answer_fork(a: u64) -> u64 {
        if a == 3 { 2 } else { 1 }
    }
}
