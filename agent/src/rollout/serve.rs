//! Handing chunks to other nodes (DLIF-22): one task a link, which never holds more than a few
//! chunks and waits for room in the link's queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{Digest, Time};
use skep_store::blobs::Blobs;
use skep_transport::{LinkId, TransportHandle};
use skep_wave::Message;
use skep_wire::{FRAME_HEADER_BYTES, kind, write_frame};
use tokio::sync::{Semaphore, mpsc};

use crate::clock::Clock;

/// Messages of one peer that may wait. A peer that keeps to its own bounds has a quarter of it.
pub(super) const WANTS_QUEUE: usize = 32;
/// Chunks that are read together: at most 1 MiB.
const READ_TOGETHER: usize = 4;
/// Links for which chunks are read at one time.
const READERS: usize = 3;

/// How far ahead of its rate a node asks: twice as long as it takes to look again.
const AHEAD: Duration = Duration::from_millis(500);

/// A request of a peer.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) request: u32,
    pub(super) chunks: Vec<Digest>,
}

/// What all links' tasks share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) transport: TransportHandle,
    pub(super) blobs: Arc<Blobs>,
    pub(super) clock: Clock,
    pub(super) rate: Mutex<Rate>,
    readers: Semaphore,
}

/// Bytes a second, at most.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: Option<u64>,
    free_at: Time,
}

impl Rate {
    pub(super) const fn new(per_second: Option<u64>) -> Self {
        Self { per_second, free_at: Time::ZERO }
    }

    /// Takes `bytes` now and returns when the next may be taken.
    pub(super) fn take(&mut self, bytes: u64, now: Time) -> Time {
        let Some(per_second) = self.per_second.filter(|rate| *rate > 0) else {
            return now;
        };
        let nanos = bytes.saturating_mul(1_000_000_000) / per_second;
        self.free_at = self.free_at.max(now) + Duration::from_nanos(nanos);
        self.free_at
    }

    /// How much may be asked for now, so that what comes stays within the rate: whoever asks for
    /// more than that ahead lets it come faster.
    pub(super) fn room(&self, now: Time) -> u64 {
        let Some(per_second) = self.per_second.filter(|rate| *rate > 0) else {
            return u64::MAX;
        };
        let ahead = self.free_at.since(now);
        let Some(left) = AHEAD.checked_sub(ahead).filter(|left| !left.is_zero()) else {
            return 0;
        };
        let bytes = u128::from(per_second) * left.as_nanos() / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
    }

    /// When the next may be taken.
    pub(super) const fn free_at(&self) -> Time {
        self.free_at
    }
}

impl Server {
    pub(super) const fn new(
        transport: TransportHandle,
        blobs: Arc<Blobs>,
        clock: Clock,
        rate: Option<u64>,
    ) -> Self {
        let readers = Semaphore::const_new(READERS);
        Self { transport, blobs, clock, rate: Mutex::new(Rate::new(rate)), readers }
    }

    /// Answers what comes over `wants` until the link is down.
    pub(super) async fn serve(
        self: Arc<Self>,
        link: LinkId,
        mut wants: mpsc::Receiver<Wanted>,
        gives: bool,
    ) {
        while let Some(wanted) = wants.recv().await {
            let began = self.clock.now();
            for chunks in wanted.chunks.chunks(READ_TOGETHER) {
                let read = if gives { self.read(chunks.to_vec()).await } else { Vec::new() };
                let mut read = read.into_iter();
                for digest in chunks {
                    let (request, digest) = (wanted.request, *digest);
                    let message = match read.next().flatten() {
                        Some(bytes) => Message::Chunk { request, digest, bytes: bytes.into() },
                        None => Message::Lack { request, digest },
                    };
                    if !self.send(link, &message).await {
                        return;
                    }
                }
            }
            let (took, chunks) = (self.clock.now().since(began), wanted.chunks.len());
            tracing::debug!(%link, chunks, ?took, queued = self.transport.queued_bytes(link),
                "served");
        }
    }

    async fn read(self: &Arc<Self>, chunks: Vec<Digest>) -> Vec<Option<Vec<u8>>> {
        let Ok(_permit) = self.readers.acquire().await else {
            return Vec::new();
        };
        let blobs = Arc::clone(&self.blobs);
        let read = tokio::task::spawn_blocking(move || {
            let read = |digest: &Digest| {
                blobs.get(digest).unwrap_or_else(|error| {
                    tracing::warn!(%error, "cannot read a chunk that a peer asked for");
                    None
                })
            };
            chunks.iter().map(read).collect()
        });
        read.await.unwrap_or_default()
    }

    async fn send(&self, link: LinkId, message: &Message) -> bool {
        let frame = frame(message);
        if self.transport.room(link, frame.len()).await.is_err() {
            return false;
        }
        let now = self.clock.now();
        let (size, free_at) = {
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            (frame.len(), rate.take(frame.len() as u64, now))
        };
        if free_at > now {
            tracing::trace!(size, "waits for the sending rate");
            tokio::time::sleep(free_at.since(now)).await;
        }
        self.transport.send(link, frame).is_ok()
    }
}

/// A message as the transport takes it.
pub(super) fn frame(message: &Message) -> Bytes {
    let body = message.to_body();
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + body.len());
    write_frame(kind::CHUNKS, &body, &mut frame);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_what_is_taken_and_none_delays_nothing() {
        let mut rate = Rate::new(Some(1000));
        let now = Time::from_millis(10_000);
        assert_eq!(rate.take(500, now), now + Duration::from_millis(500));
        assert_eq!(rate.take(500, now), now + Duration::from_secs(1));
        let later = now + Duration::from_secs(9);
        assert_eq!(rate.take(100, later), later + Duration::from_millis(100));
        assert_eq!(Rate::new(None).take(1 << 30, now), now);
        assert_eq!(Rate::new(Some(0)).take(1 << 30, now), now);
    }

    #[test]
    fn what_is_asked_for_stays_within_the_rate_and_a_chunk() {
        const CHUNK: u64 = 256 << 10;
        for per_second in [10_000, 1 << 20, 100 << 20] {
            let mut rate = Rate::new(Some(per_second));
            let (start, mut asked) = (Time::from_millis(5000), 0);
            for ms in (0..20_000).step_by(10) {
                let now = start + Duration::from_millis(ms);
                let mut room = rate.room(now);
                while room > 0 {
                    rate.take(CHUNK, now);
                    (asked, room) = (asked + CHUNK, room.saturating_sub(CHUNK));
                }
                let due = per_second * (ms + 500) / 1000;
                assert!(asked <= due + CHUNK, "{asked} of {due} after {ms} ms");
            }
            let due = per_second * 20;
            assert!(asked + CHUNK >= due * 19 / 20, "{asked} of {due}: the rate is used");
        }
        assert_eq!(Rate::new(None).room(Time::ZERO), u64::MAX);
    }
}
