//! A few threads that do what can be done ahead of its turn.
//!
//! Whoever hands work out takes it back in its own order, and does what nobody has begun itself. So
//! the threads only ever save time: whether there are none, whether they sleep or are slow makes no
//! difference to what comes out.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Jobs handed out at once. More than this are seldom known ahead even among a thousand nodes.
pub(crate) const SLOTS: usize = 128;
/// A thread that sleeps is woken for so many jobs: waking takes as long as some of them.
const WORTH_WAKING: usize = 6;
/// How often a thread looks for work before it sleeps: some 20 µs. The next round is nearly always
/// nearer than that.
const LOOKS: u32 = 1_000;

/// Threads that turn jobs into what is done.
pub(crate) struct Crew<J, D> {
    shared: Arc<Shared<J, D>>,
    threads: Vec<JoinHandle<()>>,
    round: u64,
}

/// One job in its slot.
enum Slot<J, D> {
    Empty,
    Todo(J),
    Done(D),
}

/// What became of a job.
pub(crate) enum Outcome<J, D> {
    /// Nobody had begun it.
    Untouched(J),
    /// It was done.
    Done(D),
}

struct Shared<J, D> {
    work: fn(J) -> D,
    slots: Vec<Mutex<Slot<J, D>>>,
    /// The number of the round, times [`SLOTS`] twice over, and how many slots it fills.
    round: AtomicU64,
    /// Some thread sleeps, or is about to.
    asleep: AtomicBool,
    over: AtomicBool,
}

/// What the round's number is multiplied by, so that the count of its jobs has room below it.
const ROUND: u64 = 2 * SLOTS as u64;

impl<J: Send + 'static, D: Send + 'static> Crew<J, D> {
    /// So many threads beside the caller's. `work` must not panic.
    pub(crate) fn new(threads: NonZero<usize>, work: fn(J) -> D) -> std::io::Result<Self> {
        let slots = std::iter::repeat_with(|| Mutex::new(Slot::Empty)).take(SLOTS).collect();
        let shared = Arc::new(Shared {
            work,
            slots,
            round: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let start = |number| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("ahead-{number}"));
            thread.spawn(move || shared.live())
        };
        let threads = (1..=threads.get()).map(start).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads, round: 0 })
    }

    /// Puts a job into a slot, of which everything was taken before. Nobody looks at it before
    /// [`Crew::begin`].
    pub(crate) fn put(&self, slot: usize, job: J) {
        *self.shared.lock(slot) = Slot::Todo(job);
    }

    /// The jobs in the first `count` slots may be done.
    pub(crate) fn begin(&mut self, count: usize) {
        self.round += 1;
        let round = self.round * ROUND + count as u64;
        self.shared.round.store(round, Ordering::SeqCst);
        if count >= WORTH_WAKING && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.threads.iter().for_each(|thread| thread.thread().unpark());
        }
    }

    /// Takes what is in a slot, once nobody works on it.
    pub(crate) fn take(&self, slot: usize) -> Option<Outcome<J, D>> {
        match std::mem::replace(&mut *self.shared.wait_for(slot), Slot::Empty) {
            Slot::Empty => None,
            Slot::Todo(job) => Some(Outcome::Untouched(job)),
            Slot::Done(done) => Some(Outcome::Done(done)),
        }
    }
}

impl<J, D> Drop for Crew<J, D> {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

impl<J, D> Shared<J, D> {
    fn live(&self) {
        let mut seen = 0;
        let mut looks = 0;
        while !self.over.load(Ordering::Relaxed) {
            let round = self.round.load(Ordering::Acquire);
            if round != seen {
                seen = round;
                looks = 0;
                self.work_through(usize::try_from(round % ROUND).unwrap_or(0));
            } else if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                looks = 0;
                self.asleep.store(true, Ordering::SeqCst);
                if self.round.load(Ordering::SeqCst) == seen && !self.over.load(Ordering::SeqCst) {
                    std::thread::park();
                }
            }
        }
    }

    /// Does jobs from the last one on, as their owner takes them back from the first one on. Where
    /// the two meet there is nothing left to do.
    fn work_through(&self, count: usize) {
        for slot in (0..count).rev() {
            let Ok(mut place) = self.slots[slot].try_lock() else {
                continue;
            };
            match std::mem::replace(&mut *place, Slot::Empty) {
                Slot::Todo(job) => *place = Slot::Done((self.work)(job)),
                Slot::Empty => return,
                done @ Slot::Done(_) => *place = done,
            }
        }
    }

    fn lock(&self, slot: usize) -> MutexGuard<'_, Slot<J, D>> {
        self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Shared::lock`], for a job that somebody may be about to finish.
    fn wait_for(&self, slot: usize) -> MutexGuard<'_, Slot<J, D>> {
        for _ in 0..LOOKS {
            if let Ok(place) = self.slots[slot].try_lock() {
                return place;
            }
            std::hint::spin_loop();
        }
        self.lock(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squared(job: u64) -> u64 {
        // Long enough that the threads and the owner meet in the middle.
        (0..job % 64).fold(job * job, |sum, n| std::hint::black_box(sum ^ n ^ n))
    }

    fn rounds(threads: usize, sizes: impl Iterator<Item = usize>) {
        let threads = NonZero::new(threads).unwrap();
        let mut crew = Crew::new(threads, squared).unwrap();
        for (round, size) in (0..).zip(sizes) {
            let job = |slot: usize| round * 1_000 + slot as u64;
            (0..size).for_each(|slot| crew.put(slot, job(slot)));
            crew.begin(size);
            for slot in 0..size {
                let done = match crew.take(slot).expect("a job is lost") {
                    Outcome::Untouched(job) => squared(job),
                    Outcome::Done(done) => done,
                };
                assert_eq!(done, job(slot) * job(slot));
            }
            assert!((0..SLOTS).all(|slot| crew.take(slot).is_none()), "a job is done twice");
        }
    }

    #[test]
    fn every_job_comes_back_once_and_in_the_order_of_asking() {
        rounds(1, (0..3_000).map(|n| n % (SLOTS + 1)));
        rounds(3, (0..3_000).map(|n| n % 17));
    }

    #[test]
    fn a_crew_without_work_comes_to_an_end() {
        drop(Crew::new(NonZero::new(2).unwrap(), squared).unwrap());
    }
}
