//! Events for readers that may be slow: a bounded log, and a bounded queue for each follower.
//!
//! The agent never waits for a reader. A follower whose queue is full is cut off, and the last
//! thing he gets is how many events he did not get, so that he can ask again from where he was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use skep_base::WallTime;
use tokio::sync::mpsc;

use crate::api::{Code, Event, EventKind, ReadEvents, Refusal};
use crate::backend::EventsRead;

/// Events kept for those who ask later. At some 200 bytes each this is under a megabyte.
pub const EVENTS_KEPT: usize = 4096;
/// Events that wait for one follower: some seconds of the busiest time, a whole flock forming.
pub const FOLLOWER_QUEUE: usize = 1024;
/// Followers at a time.
pub const MAX_FOLLOWERS: usize = 16;

/// A bounded queue whose writer never waits.
#[derive(Debug)]
struct Feeder<T> {
    queue: mpsc::Sender<T>,
    missed: Arc<AtomicU64>,
}

/// The reader's end of a bounded queue.
#[derive(Debug)]
pub struct Feed<T> {
    queue: mpsc::Receiver<T>,
    missed: Arc<AtomicU64>,
}

fn feed<T>(capacity: usize) -> (Feeder<T>, Feed<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let missed = Arc::new(AtomicU64::new(0));
    let feeder = Feeder { queue: sender, missed: Arc::clone(&missed) };
    let feed = Feed { queue: receiver, missed };
    (feeder, feed)
}

impl<T> Feeder<T> {
    /// Queues `item`; false where the reader is gone or too slow and must be forgotten.
    fn push(&self, item: T) -> bool {
        match self.queue.try_send(item) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl<T> Feed<T> {
    /// The next item; none when the writer ended the feed.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.queue.poll_recv(context)
    }

    /// Whether the feed ended because this reader was too slow.
    pub(crate) fn overran(&self) -> bool {
        self.missed.load(Ordering::Relaxed) > 0
    }
}

/// The agent's event log: numbered, bounded, followed.
#[derive(Debug)]
pub struct EventLog {
    kept: VecDeque<Event>,
    capacity: usize,
    last_number: u64,
    followers: Vec<Feeder<Event>>,
    follower_queue: usize,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(EVENTS_KEPT, FOLLOWER_QUEUE)
    }
}

impl EventLog {
    /// A log that keeps `capacity` events and lets `follower_queue` wait for each follower, both
    /// at least one.
    #[must_use]
    pub fn new(capacity: usize, follower_queue: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            capacity: capacity.max(1),
            last_number: 0,
            followers: Vec::new(),
            follower_queue: follower_queue.max(1),
        }
    }

    /// Notes that `kind` happened `monotonic_us` microseconds after the boot-time clock's zero.
    pub fn push(&mut self, at: WallTime, monotonic_us: u64, kind: EventKind) {
        self.last_number += 1;
        let event = Event { number: self.last_number, at, monotonic_us, kind };
        self.followers.retain(|follower| follower.push(event.clone()));
        if self.kept.len() == self.capacity {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
    }

    /// What `query` asks for. A gap between the number it reads on from and the oldest event kept
    /// is said by an event [`EventKind::Lost`].
    ///
    /// # Errors
    /// Too many followers.
    pub fn read(&mut self, query: ReadEvents) -> Result<EventsRead, Refusal> {
        // A greater number than the last is one of an earlier process: all of this one's are new.
        let asked = query.after.filter(|after| *after <= self.last_number);
        let after = asked.unwrap_or(0);
        let mut kept: Vec<Event> =
            self.kept.iter().filter(|event| event.number > after).cloned().collect();
        if let Some(last) = query.last {
            let last = usize::try_from(last).unwrap_or(usize::MAX);
            kept.drain(..kept.len().saturating_sub(last));
        }
        if let (Some(after), Some(first)) = (asked, self.kept.front())
            && first.number - 1 > after
            && query.last.is_none()
        {
            let count = first.number - 1 - after;
            kept.insert(0, lost(first, count, "the agent no longer keeps them"));
        }
        let live = query.follow.then(|| self.follow()).transpose()?;
        Ok(EventsRead { kept, live })
    }

    /// Lets the next event have a greater number than `number`.
    pub fn go_on_after(&mut self, number: u64) {
        self.last_number = self.last_number.max(number);
    }

    /// Followers that are neither gone nor cut off.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.followers.iter().filter(|feeder| !feeder.queue.is_closed()).count()
    }

    fn follow(&mut self) -> Result<Feed<Event>, Refusal> {
        self.followers.retain(|feeder| !feeder.queue.is_closed());
        if self.followers.len() >= MAX_FOLLOWERS {
            return Err(Refusal::new(
                Code::Busy,
                format!("{MAX_FOLLOWERS} clients follow the events already"),
            )
            .hint("stop one of them, or ask without following"));
        }
        let (feeder, feed) = feed(self.follower_queue);
        self.followers.push(feeder);
        Ok(feed)
    }
}

/// The event that stands for `count` events that a reader will not get.
fn lost(near: &Event, count: u64, message: &str) -> Event {
    Event {
        number: near.number.saturating_sub(1),
        at: near.at,
        monotonic_us: near.monotonic_us,
        kind: EventKind::Lost { count, message: message.into() },
    }
}

/// The last line for a follower who was too slow after the event numbered `after`.
pub(crate) fn cut_off(last: &Event) -> Event {
    Event {
        number: last.number,
        kind: EventKind::Lost {
            count: 0,
            message: format!(
                "you read too slowly and were cut off after event {0}; read on with after={0}",
                last.number
            ),
        },
        ..last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> EventKind {
        EventKind::Problem { message: text.into(), hint: None }
    }

    fn log_of(events: u64, capacity: usize) -> EventLog {
        let mut log = EventLog::new(capacity, 2);
        for number in 1..=events {
            log.push(WallTime::from_unix_ms(number), number * 10, problem("a disk is full"));
        }
        log
    }

    fn numbers(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn the_log_keeps_the_newest_and_says_what_is_gone() {
        let mut log = log_of(10, 4);
        let read = log.read(ReadEvents { after: Some(3), ..ReadEvents::default() }).unwrap();
        assert_eq!(numbers(&read.kept), [6, 7, 8, 9, 10]);
        assert!(matches!(read.kept[0].kind, EventKind::Lost { count: 3, .. }));
        let all = log.read(ReadEvents::default()).unwrap();
        assert_eq!(numbers(&all.kept), [7, 8, 9, 10]);
        let last = log.read(ReadEvents { last: Some(1), ..ReadEvents::default() }).unwrap();
        assert_eq!(numbers(&last.kept), [10]);
    }

    #[test]
    fn a_slow_follower_is_cut_off_and_a_quick_one_is_not() {
        let mut log = log_of(0, 4);
        let follow = ReadEvents { follow: true, ..ReadEvents::default() };
        let mut slow = log.read(follow).unwrap().live.unwrap();
        let mut quick = log.read(follow).unwrap().live.unwrap();
        for number in 1..=3 {
            log.push(WallTime::default(), 0, problem("x"));
            assert_eq!(quick.queue.try_recv().unwrap().number, number);
        }
        assert!(!quick.overran());
        assert_eq!(slow.queue.try_recv().unwrap().number, 1);
        assert_eq!(slow.queue.try_recv().unwrap().number, 2);
        assert_eq!(slow.queue.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
        assert!(slow.overran());
    }

    #[test]
    fn followers_are_bounded_and_those_gone_make_room() {
        let mut log = log_of(0, 4);
        let follow = ReadEvents { follow: true, ..ReadEvents::default() };
        let mut held: Vec<_> = (0..MAX_FOLLOWERS).map(|_| log.read(follow).unwrap()).collect();
        assert_eq!(log.read(follow).unwrap_err().code, Code::Busy);
        held.pop();
        assert!(log.read(follow).is_ok());
    }
}
