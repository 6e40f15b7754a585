//! What waits for one hook.

use alloc::vec::Vec;

/// Events that may wait for one hook. There are six sorts, and each waits once: more would be news
/// of the day before.
pub const MAX_LINE: usize = 8;

/// What a hook is run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<T> {
    /// The event.
    pub event: T,
    /// Earlier ones of its sort that it stands for as well.
    pub folded: u64,
    /// Events that nobody will hear of, since the last run.
    pub dropped: u64,
}

/// Events on their way to one hook, of which never two run at once (BLOC-21).
#[derive(Clone, Debug)]
pub struct Line<S, T> {
    waiting: Vec<(S, Run<T>)>,
    running: bool,
    dropped: u64,
}

impl<S, T> Default for Line<S, T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), running: false, dropped: 0 }
    }
}

impl<S: PartialEq, T> Line<S, T> {
    /// An event of a sort happened. One of the sort that waits already gives way to it, at the end
    /// of the line, for what came in between belongs before it.
    pub fn push(&mut self, sort: S, event: T) {
        let mut run = Run { event, folded: 0, dropped: 0 };
        if let Some(at) = self.waiting.iter().position(|(waits, _)| *waits == sort) {
            run.folded = self.waiting.remove(at).1.folded + 1;
        }
        if self.waiting.len() >= MAX_LINE {
            let (_, oldest) = self.waiting.remove(0);
            self.dropped += 1 + oldest.folded;
        }
        self.waiting.push((sort, run));
    }

    /// What is to be run now. It runs until [`Line::ended`].
    pub fn next_run(&mut self) -> Option<Run<T>> {
        if self.running || self.waiting.is_empty() {
            return None;
        }
        self.running = true;
        let (_, run) = self.waiting.remove(0);
        Some(Run { dropped: core::mem::take(&mut self.dropped), ..run })
    }

    /// What ran has ended.
    pub const fn ended(&mut self) {
        self.running = false;
    }

    /// Whether one runs, and how many wait.
    #[must_use]
    pub const fn load(&self) -> (bool, usize) {
        (self.running, self.waiting.len())
    }
}
