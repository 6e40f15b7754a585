//! A writer that never waits: writes begin in a fixed rhythm, whatever became of those before, as
//! from many applications. So the time without an acknowledgement is the flock's own, and not how
//! long one client was kept waiting.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::clock::Micros;

/// Writes under way at most: those that one who is gone lets wait. Below what an agent takes.
const UNDER_WAY_AT_MOST: usize = 900;

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Its number.
    pub number: usize,
    /// When it began.
    pub begun: Micros,
    /// When the acknowledgement came.
    pub at: Micros,
}

/// Writes until it is stopped, or dropped.
pub struct Writer {
    shared: Arc<Shared>,
    pacer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    under_way: AtomicUsize,
    acked: Mutex<Vec<Ack>>,
}

impl Writer {
    /// Begins a write `every` so often; `write` gets its number and returns when it is
    /// acknowledged, or with an error.
    pub fn new(
        every: Duration,
        write: impl Fn(usize) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let (write, ours) = (Arc::new(write), Arc::clone(&shared));
        let pacer = thread::spawn(move || {
            let mut due = Instant::now();
            for number in 0.. {
                if ours.over.load(Ordering::Relaxed) {
                    return;
                }
                if ours.under_way.fetch_add(1, Ordering::Relaxed) < UNDER_WAY_AT_MOST {
                    let (write, ours) = (Arc::clone(&write), Arc::clone(&ours));
                    drop(thread::spawn(move || {
                        let begun = Micros::now();
                        let written = write(number);
                        let at = Micros::now();
                        ours.under_way.fetch_sub(1, Ordering::Relaxed);
                        if written.is_ok() {
                            ours.acks().push(Ack { number, begun, at });
                        }
                    }));
                } else {
                    ours.under_way.fetch_sub(1, Ordering::Relaxed);
                }
                due += every;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { shared, pacer: Some(pacer) }
    }

    /// What was acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> Vec<Ack> {
        self.shared.acks().clone()
    }

    /// How many writes that began after `since` were acknowledged so far.
    #[must_use]
    pub fn acked_since(&self, since: Micros) -> usize {
        self.shared.acks().iter().filter(|ack| ack.begun > since).count()
    }
}

impl Shared {
    fn acks(&self) -> std::sync::MutexGuard<'_, Vec<Ack>> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(pacer) = self.pacer.take() {
            // It sleeps for one beat at most.
            drop(pacer.join());
        }
    }
}

/// The longest time in seconds between two acknowledgements that ended after `since`.
#[must_use]
pub fn longest_gap(acks: &[Ack], since: Micros) -> Option<f64> {
    let mut times: Vec<Micros> = acks.iter().map(|ack| ack.at).collect();
    times.sort_unstable();
    let pairs = times.iter().zip(times.iter().skip(1));
    let gaps = pairs.filter(|(_, next)| **next > since);
    gaps.map(|(last, next)| next.seconds_since(*last)).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_between_acknowledgements_whenever_their_writes_began() {
        let ack = |number, at| Ack { number, begun: Micros(0), at: Micros(at) };
        let acks = [ack(1, 3_000_000), ack(0, 1_000_000), ack(2, 3_200_000)];
        assert!(longest_gap(&acks, Micros(1_500_000)).unwrap().total_cmp(&2.0).is_eq());
        assert!(longest_gap(&acks, Micros(3_100_000)).unwrap().total_cmp(&0.2).is_eq());
        assert_eq!(longest_gap(&acks, Micros(4_000_000)), None);
    }

    #[test]
    fn a_write_that_hangs_keeps_no_other_waiting() {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let writer = Writer::new(Duration::from_millis(1), move |number| {
            if number == 0 {
                assert!(gone.lock().unwrap().recv().is_err());
            }
            Ok(())
        });
        skep_lab::wait_until("others are done", Duration::from_secs(60), || {
            let acked = writer.acked();
            anyhow::ensure!(acked.len() > 3 && acked.iter().all(|ack| ack.number > 0));
            Ok(())
        })
        .unwrap();
        drop(go);
    }
}
