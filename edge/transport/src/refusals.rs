//! Refused peers: each is counted, and as many are logged and reported as anybody can read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::fault::{HandshakeError, RefuseReason};

/// Lines at once, and one more each period: enough to see a pattern, too few to fill a disk.
const LOG_BURST: u32 = 20;
const LOG_PERIOD: Duration = Duration::from_millis(500);

/// Counts refusals by reason, and writes one line about each that is not one too many.
#[derive(Debug)]
pub(crate) struct Refusals {
    counts: Vec<AtomicU64>,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    bucket: Bucket,
    suppressed: u64,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self {
            counts: RefuseReason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            log: Mutex::new(Log {
                bucket: Bucket::new(LOG_BURST, LOG_PERIOD, Instant::now()),
                suppressed: 0,
            }),
        }
    }

    /// Counts and logs. True when the refusal was logged, so that it may be reported as well.
    pub(crate) fn note(&self, remote: SocketAddr, why: &HandshakeError) -> bool {
        let reason = why.reason();
        if let Some(count) = self.counts.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(reason, RefuseReason::Abandoned | RefuseReason::Myself) {
            // Lost races, port scans, and our own address in somebody's list: nobody was refused.
            tracing::debug!(%remote, "no link: {why}");
            return false;
        }
        let suppressed = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            if !log.bucket.take(Instant::now()) {
                log.suppressed += 1;
                return false;
            }
            std::mem::take(&mut log.suppressed)
        };
        if suppressed > 0 {
            tracing::warn!(suppressed, "more peers were refused than are logged");
        }
        tracing::warn!(%remote, reason = reason.as_str(), "refused peer: {why}");
        true
    }

    /// How often each reason was met, those that never were left out.
    pub(crate) fn counts(&self) -> Vec<(RefuseReason, u64)> {
        RefuseReason::ALL
            .iter()
            .zip(&self.counts)
            .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_only_some_are_logged() {
        let refusals = Refusals::new();
        let remote = "203.0.113.1:9".parse().unwrap();
        let logged = (0..1000).filter(|_| refusals.note(remote, &HandshakeError::TimedOut)).count();
        assert!(!refusals.note(remote, &HandshakeError::Myself));
        assert!((20..500).contains(&logged), "{logged}");
        let counts = refusals.counts();
        assert_eq!(counts, [(RefuseReason::TimedOut, 1000), (RefuseReason::Myself, 1)]);
    }
}
