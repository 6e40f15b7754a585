//! From what a node sees of its flock to what it tells of it while it is the master.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use skep_base::{Time, WallTime};

use crate::history::{FlockEvent, Known, MAX_EVENTS, Tale, Under, to_body};

/// What happened is told together with what follows so soon.
const GATHER: Duration = Duration::from_secs(1);
/// What a node saw while another, or nobody, was master: the next master tells what the one before
/// it could not, and this is longer than any change of masters takes by itself.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Events that wait to be told.
const MAX_WAITING: usize = MAX_EVENTS;
/// Records that may follow one another at once, before the pace below counts.
const BURST: u32 = 8;
/// One record in so long, of a flock that does not come to rest: 4 KiB to every node each time.
const PACE: Duration = Duration::from_secs(30);
/// A wall clock further ahead than this of one's own is not followed.
const MAX_AHEAD: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Teller {
    waiting: VecDeque<Waiting>,
    /// Events that were let go of before they were told.
    lost: u64,
    /// The mastership of this node, or its last one.
    under: Option<Under>,
    master: bool,
    /// When all records that were published would have been at the pace.
    paid: Time,
}

#[derive(Clone, Debug)]
struct Waiting {
    at: Time,
    tale: Tale,
    of: Of,
}

/// Of which flock something is told.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// Whichever this node is, or will be, the master of.
    Any,
    /// Of this history alone.
    History(u64),
    /// Of this one, whoever is master: the last word of one that is none any more.
    Last(Under),
}

impl Teller {
    /// What this node is now: the master, under this, or not. That it is the master of another
    /// flock than before, or again, is told.
    pub fn office(&mut self, now: Time, under: Option<Under>) {
        let before = self.mastership().map(|under| under.lineage);
        self.master = under.is_some();
        self.under = under.or(self.under);
        if let Some(under) = under.filter(|under| before != Some(under.lineage)) {
            self.saw(now, Some(under.lineage), Tale::MasterChanged);
        }
    }

    /// The mastership of this node, where it is the master, as far as it was told.
    #[must_use]
    pub fn mastership(&self) -> Option<Under> {
        self.under.filter(|_| self.master)
    }

    /// This happened to the flock that this node is in, or to that of one history alone. Told if
    /// this node is its master, or is within a minute.
    pub fn saw(&mut self, now: Time, lineage: Option<u64>, tale: Tale) {
        self.push(Waiting { at: now, tale, of: lineage.map_or(Of::Any, Of::History) });
    }

    /// The history of which this node was master until now goes on in the flock `into`, which only
    /// it may be left to tell.
    pub fn ended(&mut self, now: Time, into: Under, tale: Tale) {
        self.push(Waiting { at: now, tale, of: Of::Last(into) });
    }

    fn push(&mut self, waiting: Waiting) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
            self.lost += u64::from(self.master);
        }
        self.waiting.push_back(waiting);
    }

    /// When there is something to tell, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let first = self.waiting.iter().find(|it| self.is_told(it))?;
        let earned = self.paid.as_nanos().saturating_sub(nanos(PACE * (BURST - 1)));
        let at = (first.at + GATHER).max(Time::from_nanos(earned));
        Some((at, "tells what happened to the flock"))
    }

    /// What this node's record is to say from now on, if anything new is due: `own` is what it
    /// says, `known` what all records say, this node's among them.
    pub fn tell(
        &mut self,
        (now, wall): (Time, WallTime),
        present: u32,
        mut own: Vec<FlockEvent>,
        known: &[FlockEvent],
    ) -> Option<Vec<u8>> {
        let due = self.deadline().is_some_and(|(at, _)| at <= now);
        let waiting = core::mem::take(&mut self.waiting);
        let (told, kept) = waiting.into_iter().partition(|it| due && self.is_told(it));
        self.waiting = kept;
        self.waiting.retain(|it| now.since(it.at) < REMEMBERED);
        let (mut heard, mut newest) = (Known::default(), WallTime::from_unix_ms(0));
        for event in known {
            heard.hear(event.under.lineage, event.when, &event.tale);
            if event.when.since(wall) <= MAX_AHEAD {
                newest = newest.max(event.when);
            }
        }
        let told: VecDeque<Waiting> = told;
        let mut number = own.last().map_or(0, |event| event.number);
        let before = own.len();
        for Waiting { at, tale, of } in told {
            let Some(under) = self.under_of(of) else { continue };
            let ago = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
            let at = WallTime::from_unix_ms(wall.unix_ms.saturating_sub(ago));
            let Some(tale) = heard.hear(under.lineage, at, &tale) else { continue };
            newest = at.max(WallTime::from_unix_ms(newest.unix_ms.saturating_add(1)));
            number = number.saturating_add(1 + core::mem::take(&mut self.lost));
            own.push(FlockEvent { number, when: newest, under, present, tale });
        }
        if own.len() == before {
            return None;
        }
        self.paid = self.paid.max(now) + PACE;
        Some(to_body(&mut own))
    }

    fn is_told(&self, waiting: &Waiting) -> bool {
        self.under_of(waiting.of).is_some()
    }

    /// Under what something is told, if it is now.
    fn under_of(&self, of: Of) -> Option<Under> {
        match of {
            Of::Any => self.mastership(),
            Of::History(lineage) => self.mastership().filter(|it| it.lineage == lineage),
            Of::Last(under) => Some(under),
        }
    }

    /// What must hold between calls.
    pub fn check(&self) {
        assert!(self.waiting.len() <= MAX_WAITING, "what waits to be told is bounded");
        assert!(!self.master || self.under.is_some(), "a master has a stamp");
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
