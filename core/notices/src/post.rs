//! One target: how fast it may be written to, and when it is tried again.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Rng, Time};

use crate::config::Config;
use crate::incident::{Kind, Notice};

/// Letters that may go out one after the other before the rate counts.
const BURST: u32 = 4;
/// How much of a wait is chance, so that the targets of many flocks are not tried at one moment.
const JITTER: f64 = 0.2;

/// How it goes with one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Letters that it has taken from this node.
    pub taken: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Since when every attempt has failed, and why the last did.
    pub failing: Option<(Time, String)>,
    /// When it is tried again.
    pub again: Option<Time>,
}

/// Where a letter's incidents stand: no letter has incidents of both, and what is claimed, taken
/// or due of one says nothing of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Book {
    /// Among the entries of the catalog.
    Flock,
    /// With this node alone.
    Own,
}

/// How far what stands in one book was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The letter that was taken, where that is not noted yet.
    pub(crate) taken: Option<String>,
    /// Since when something is due.
    pub(crate) due_since: Option<Time>,
}

#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) target: String,
    kinds: Vec<Kind>,
    /// The letter that is being handed over now: one at a time, of whichever book.
    pub(crate) in_flight: Option<(Book, String)>,
    flock: Progress,
    own: Progress,
    /// Not before this, after failures.
    pub(crate) next: Time,
    pub(crate) figures: Figures,
    tries: u32,
    /// The letter that it refused for good, and when it did so first.
    refused: Option<(String, Time)>,
    /// When all that was sent would have been sent at the highest rate.
    paid: Time,
}

impl Post {
    pub(crate) fn new(now: Time, (target, kinds): (String, Vec<Kind>)) -> Self {
        Self {
            target,
            kinds,
            in_flight: None,
            flock: Progress::default(),
            own: Progress::default(),
            next: now,
            figures: Figures::default(),
            tries: 0,
            refused: None,
            paid: now,
        }
    }

    /// The same target, which wants these kinds from now on.
    pub(crate) fn wanting(self, kinds: Vec<Kind>) -> Self {
        Self { kinds, ..self }
    }

    /// Whether it is to be told of an incident.
    pub(crate) fn is_due(&self, notice: &Notice) -> bool {
        let wanted = self.kinds.is_empty() || self.kinds.contains(&notice.incident.kind);
        wanted && notice.is_due(&self.target)
    }

    /// How far a book was told.
    pub(crate) const fn of(&mut self, book: Book) -> &mut Progress {
        match book {
            Book::Flock => &mut self.flock,
            Book::Own => &mut self.own,
        }
    }

    /// When what is due may be claimed: gathered for long enough, and not too fast.
    pub(crate) fn claims_at(&mut self, now: Time, book: Book, config: &Config) -> Time {
        let since = *self.of(book).due_since.get_or_insert(now);
        let credit = config.interval() * (BURST - 1);
        let earned = Time::from_nanos(self.paid.as_nanos().saturating_sub(nanos(credit)));
        (since + config.gather).max(earned)
    }

    /// A letter was claimed.
    pub(crate) fn claimed(&mut self, now: Time, book: Book, config: &Config) {
        self.of(book).due_since = None;
        self.paid = self.paid.max(now) + config.interval();
    }

    /// A letter was handed over.
    pub(crate) fn took(&mut self, book: Book, letter: String) -> bool {
        self.in_flight = None;
        self.of(book).taken = Some(letter);
        self.tries = 0;
        self.refused = None;
        self.figures.taken += 1;
        self.figures.again = None;
        self.figures.failing.take().is_some()
    }

    /// It refuses a letter for good: for how long by now.
    pub(crate) fn refused_for(&mut self, now: Time, letter: &str) -> Duration {
        let (_, since) = match self.refused.take().filter(|(name, _)| name == letter) {
            Some(same) => self.refused.insert(same),
            None => self.refused.insert((letter.into(), now)),
        };
        now.since(*since)
    }

    /// It gets a letter no more, though it has not taken it.
    pub(crate) fn gives_up(&mut self, book: Book, letter: String) {
        self.refused = None;
        self.of(book).taken = Some(letter);
    }

    /// It could not be. Says whether it is the first time.
    pub(crate) fn failed(
        &mut self,
        now: Time,
        why: String,
        config: &Config,
        rng: &mut Rng,
    ) -> bool {
        self.in_flight = None;
        let doubled = config.retry_first * 2_u32.saturating_pow(self.tries.min(16));
        self.next = now + rng.jitter(doubled.min(config.retry_last), JITTER);
        self.tries = self.tries.saturating_add(1);
        self.figures.failures += 1;
        self.figures.again = Some(self.next);
        let since = self.figures.failing.take().map(|(since, _)| since);
        self.figures.failing = Some((since.unwrap_or(now), why));
        since.is_none()
    }

    /// What must hold between calls.
    pub(crate) fn check(&self) {
        let Some((book, letter)) = &self.in_flight else { return };
        let of = match book {
            Book::Flock => &self.flock,
            Book::Own => &self.own,
        };
        assert!(of.taken.as_ref() != Some(letter), "what was taken is not handed over again");
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
