//! What the engine is spared: messages that would make it fail, or that no honest peer sends
//! (invariant 5).

use crate::event::Reason;
use crate::message::EngineBody;

/// Terms and places beyond this are nobody's: a history of that length would take longer than
/// there are hosts.
const MAX_NUMBER: u64 = 1 << 48;
/// Terms that one message may move us ahead. An election takes a second.
const MAX_TERM_JUMP: u64 = 1 << 32;

/// What of the engine's state a message is judged by.
pub(crate) struct Standing<'a> {
    pub(crate) term: u64,
    pub(crate) committed: u64,
    pub(crate) last: u64,
    /// The term at a place of the log; 0 where there is none any more, or not yet.
    pub(crate) term_at: &'a dyn Fn(u64) -> u64,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The engine gets it.
    Good,
    /// It is late, and nothing comes of it.
    Stale,
    /// The sender has seen more of this node's log than there is: the disk went back in time.
    Rewound,
    /// It cannot be right.
    Bad(Reason),
}

pub(crate) fn admit(term: u64, body: &EngineBody, our: &Standing<'_>) -> Admission {
    if term == 0 || term > our.term.saturating_add(MAX_TERM_JUMP) || term > MAX_NUMBER {
        return Admission::Bad(Reason::OutOfRange);
    }
    match body {
        EngineBody::Append { index, log_term, commit, entries } => {
            let consecutive = (index + 1..).zip(entries).all(|(at, entry)| entry.index == at);
            let mut terms = std::iter::once(*log_term).chain(entries.iter().map(|e| e.term));
            let mut before = 0;
            let rising = terms.all(|next| std::mem::replace(&mut before, next) <= next);
            if *index > MAX_NUMBER
                || *commit > MAX_NUMBER
                || !consecutive
                || !rising
                || before > term
            {
                return Admission::Bad(Reason::OutOfRange);
            }
            if term < our.term {
                return Admission::Good; // Answered with our term.
            }
            if *index >= our.committed && *log_term < (our.term_at)(our.committed) {
                return Admission::Bad(Reason::Contradiction);
            }
            let contradicts = entries
                .iter()
                .filter(|entry| entry.index <= our.committed)
                .map(|entry| (entry.term, (our.term_at)(entry.index)))
                .any(|(theirs, ours)| ours != 0 && ours != theirs);
            if contradicts { Admission::Bad(Reason::Contradiction) } else { Admission::Good }
        }
        EngineBody::Heartbeat { commit, .. } if *commit > our.last && term >= our.term => {
            Admission::Rewound
        }
        EngineBody::Appended { index, .. } if *index > our.last => Admission::Stale,
        EngineBody::AppendRefused { index, hint, .. }
            if *index > our.last || *hint > MAX_NUMBER =>
        {
            Admission::Stale
        }
        EngineBody::Vote { index, log_term, .. } if *index > MAX_NUMBER || *log_term >= term => {
            Admission::Bad(Reason::OutOfRange)
        }
        EngineBody::Vote { commit, commit_term, .. }
        | EngineBody::Voted { commit, commit_term, .. }
            if *commit > MAX_NUMBER || *commit_term > term =>
        {
            Admission::Bad(Reason::OutOfRange)
        }
        EngineBody::Snapshot { index, log_term, .. } if *index == 0 || *log_term > term => {
            Admission::Bad(Reason::OutOfRange)
        }
        EngineBody::Heartbeat { .. }
        | EngineBody::HeartbeatReply { .. }
        | EngineBody::Appended { .. }
        | EngineBody::AppendRefused { .. }
        | EngineBody::Vote { .. }
        | EngineBody::Voted { .. }
        | EngineBody::TimeoutNow
        | EngineBody::Snapshot { .. } => Admission::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::{Entry, Payload};

    #[test]
    fn what_would_make_the_engine_fail_is_refused() {
        let term_at = |index| if index <= 8 { 3 } else { 0 };
        let our = Standing { term: 5, committed: 6, last: 8, term_at: &term_at };
        let entry = |index, term| Entry { index, term, payload: Payload::Empty };
        let append =
            |index, log_term, entries| EngineBody::Append { index, log_term, commit: 0, entries };
        let bad = |body| matches!(admit(5, &body, &our), Admission::Bad(_));
        assert!(bad(append(5, 3, vec![entry(6, 4)])), "another entry where one is decided");
        assert!(bad(append(8, 2, vec![])), "a log that ends before what is decided");
        assert!(bad(append(8, 3, vec![entry(10, 3)])), "a gap");
        assert!(bad(append(8, 3, vec![entry(9, 3), entry(10, 2)])), "terms that fall");
        assert!(bad(append(8, 3, vec![entry(9, 6)])), "an entry of a term to come");
        assert!(!bad(append(8, 3, vec![entry(9, 5)])));
        let beat = EngineBody::Heartbeat { commit: 9, beat: 0 };
        assert_eq!(admit(5, &beat, &our), Admission::Rewound);
        let vote = |term| admit(term, &EngineBody::TimeoutNow, &our);
        assert_eq!(vote(0), Admission::Bad(Reason::OutOfRange));
        assert_eq!(vote(u64::MAX), Admission::Bad(Reason::OutOfRange));
        let beyond = EngineBody::Appended { index: 9, commit: 0 };
        assert_eq!(admit(5, &beyond, &our), Admission::Stale);
    }
}
