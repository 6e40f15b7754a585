//! Blocs, nodes and clocks for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skep_base::{NodeName, WallTime};
use skep_identity::tls::Clock;
use skep_identity::{Ca, Identity, IssueRequest};
use tempfile::TempDir;

/// 2027-01-15 08:00:00 UTC.
pub(crate) const START: WallTime = WallTime::from_unix_ms(1_800_000_000_000);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Bloc {
    pub(crate) ca: Ca,
    pub(crate) dir: TempDir,
}

pub(crate) fn bloc(name: &str) -> Bloc {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::init(&dir.path().join("ca"), &name.parse().unwrap(), START).unwrap();
    Bloc { ca, dir }
}

impl Bloc {
    pub(crate) fn node(&self, name: &str) -> Identity {
        self.ca.issue(&IssueRequest::new(node(name)), START).unwrap()
    }
}

pub(crate) fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub(crate) fn address() -> SocketAddr {
    "192.0.2.1:7400".parse().unwrap()
}

pub(crate) fn after(span: Duration) -> WallTime {
    WallTime::from_unix_ms(START.unix_ms + u64::try_from(span.as_millis()).unwrap())
}

/// A clock that tests turn.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START.unix_ms)))
    }

    pub(crate) fn set(&self, now: WallTime) {
        self.0.store(now.unix_ms, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let shared = Arc::clone(&self.0);
        Arc::new(move || WallTime::from_unix_ms(shared.load(Ordering::SeqCst)))
    }
}
