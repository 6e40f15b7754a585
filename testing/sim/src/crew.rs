//! A few threads that do what can be done ahead of its turn.
//!
//! Whoever hands work out takes it back in its own order, and does what nobody has begun itself. So
//! the threads only ever save time: whether there are none, whether they sleep or are slow makes no
//! difference to what comes out.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Jobs that may be handed out and not taken back. More than this are seldom known ahead even among
/// a thousand nodes.
pub(crate) const SLOTS: usize = 128;
/// A thread that sleeps is woken once so many jobs wait: waking takes as long as some of them.
const WORTH_WAKING: u64 = 6;
/// How often a thread looks for work before it sleeps: some 20 µs. The next round is nearly always
/// nearer than that.
const LOOKS: u32 = 1_000;

/// Threads that turn jobs into what is done.
pub(crate) struct Crew<J, D> {
    shared: Arc<Shared<J, D>>,
    threads: Vec<JoinHandle<()>>,
    /// Jobs handed out so far.
    put: u64,
    /// Jobs handed out and not taken back.
    waiting: u64,
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
    /// Jobs handed out so far: the newest is in the slot before this one.
    put: AtomicU64,
    /// Some thread sleeps, or is about to.
    asleep: AtomicBool,
    over: AtomicBool,
}

impl<J: Send + 'static, D: Send + 'static> Crew<J, D> {
    /// So many threads beside the caller's. `work` must not panic.
    pub(crate) fn new(threads: NonZero<usize>, work: fn(J) -> D) -> std::io::Result<Self> {
        let slots = std::iter::repeat_with(|| Mutex::new(Slot::Empty)).take(SLOTS).collect();
        let shared = Arc::new(Shared {
            work,
            slots,
            put: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let start = |number| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("ahead-{number}"));
            thread.spawn(move || shared.live())
        };
        let threads = (1..=threads.get()).map(start).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads, put: 0, waiting: 0 })
    }

    /// Hands a job out, and says in which slot it lies. No more than [`SLOTS`] may, and they are
    /// taken back in the order in which they were put.
    pub(crate) fn put(&mut self, job: J) -> usize {
        let slot = slot_of(self.put);
        self.put += 1;
        self.waiting += 1;
        *self.shared.lock(slot) = Slot::Todo(job);
        slot
    }

    /// Lets the threads know what was put.
    pub(crate) fn begin(&self) {
        self.shared.put.store(self.put, Ordering::SeqCst);
        if self.waiting >= WORTH_WAKING && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.threads.iter().for_each(|thread| thread.thread().unpark());
        }
    }

    /// Takes what is in a slot, once nobody works on it.
    pub(crate) fn take(&mut self, slot: usize) -> Option<Outcome<J, D>> {
        self.waiting = self.waiting.saturating_sub(1);
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
            let put = self.put.load(Ordering::Acquire);
            if put != seen {
                seen = put;
                looks = 0;
                self.work_through(put);
            } else if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                looks = 0;
                self.asleep.store(true, Ordering::SeqCst);
                if self.put.load(Ordering::SeqCst) == seen && !self.over.load(Ordering::SeqCst) {
                    std::thread::park();
                }
            }
        }
    }

    /// Does jobs from the newest on, as their owner takes them back from the oldest on, until there
    /// are newer ones. Whoever comes upon nothing has met the owner.
    fn work_through(&self, put: u64) {
        for job in (put.saturating_sub(SLOTS as u64)..put).rev() {
            let Ok(mut place) = self.slots[slot_of(job)].try_lock() else {
                continue;
            };
            match std::mem::replace(&mut *place, Slot::Empty) {
                Slot::Todo(job) => *place = Slot::Done((self.work)(job)),
                Slot::Empty => return,
                done @ Slot::Done(_) => *place = done,
            }
            drop(place);
            if self.put.load(Ordering::Acquire) != put {
                return;
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

fn slot_of(job: u64) -> usize {
    usize::try_from(job % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn squared(job: u64) -> u64 {
        // Long enough that the threads and the owner meet in the middle.
        (0..job % 64).fold(job * job, |sum, n| std::hint::black_box(sum ^ n ^ n))
    }

    fn rounds(threads: usize, sizes: impl Iterator<Item = usize>) {
        let threads = NonZero::new(threads).unwrap();
        let mut crew = Crew::new(threads, squared).unwrap();
        let mut under_way = VecDeque::new();
        for (round, size) in (0..).zip(sizes) {
            for n in 0..size.min(SLOTS - under_way.len()) {
                let job = round * 1_000 + n as u64;
                under_way.push_back((crew.put(job), job));
            }
            crew.begin();
            // Some are left for the next round, and in the end none.
            let kept = if round % 16 == 15 { 0 } else { under_way.len() / 3 };
            for (slot, job) in under_way.drain(..under_way.len() - kept) {
                let done = match crew.take(slot).expect("a job is lost") {
                    Outcome::Untouched(job) => squared(job),
                    Outcome::Done(done) => done,
                };
                assert_eq!(done, job * job);
            }
            let free = (0..SLOTS).filter(|slot| under_way.iter().all(|(kept, _)| kept != slot));
            assert!(free.into_iter().all(|slot| crew.take(slot).is_none()), "done twice");
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
