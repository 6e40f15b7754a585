//! The certificate authority as a mode of the agent (BLOC-37): answers those who join with an
//! invitation, and members that renew.
//!
//! The CA writes its ledger with fsync under a lock, so every answer is made on a blocking thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use skep_identity::message::Message;
use skep_identity::{Ca, CertInfo};
use tokio::sync::{Semaphore, oneshot};

use crate::clock::Clock;

/// Answers worked on at one time: each waits for the disk.
const MAX_ANSWERS: usize = 4;

/// The CA that this node serves.
#[derive(Clone)]
pub struct Authority {
    ca: Arc<Ca>,
    clock: Clock,
    places: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
}

impl Authority {
    /// Serves `ca`.
    #[must_use]
    pub fn new(ca: Ca, clock: Clock) -> Self {
        let places = Arc::new(Semaphore::new(MAX_ANSWERS));
        Self { ca: Arc::new(ca), clock, places, refused: Arc::default() }
    }

    /// Requests that were refused, and invitations that are open.
    #[must_use]
    pub fn counts(&self) -> (u64, u32) {
        (self.refused.load(Ordering::Relaxed), 0)
    }

    /// The CA itself.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Answers one who has no certificate yet.
    pub fn answer_join(&self, remote: SocketAddr, request: Bytes, reply: oneshot::Sender<Bytes>) {
        let this = self.clone();
        tokio::spawn(async move {
            let answer = this
                .work(move |ca, now| match Message::decode(&request) {
                    Ok(Message::Join(join)) => {
                        tracing::info!(%remote, node = %join.node, "asks to join");
                        Some(ca.answer_join(&join, now))
                    }
                    Ok(Message::Renew(_) | Message::Granted(_) | Message::Denied(_)) | Err(_) => {
                        tracing::warn!(%remote, "sent something that is no request to join");
                        None
                    }
                })
                .await;
            if let Some(answer) = answer
                && reply.send(answer.encode().into()).is_err()
            {
                tracing::info!(%remote, "left unanswered; the same request gets the same answer");
            }
        });
    }

    /// Answers a member that asks over its link; `peer` is what its certificate says.
    pub async fn answer_renewal(&self, peer: CertInfo, request: Bytes) -> Option<Bytes> {
        let answer = self.work(move |ca, now| match Message::decode(&request) {
            Ok(Message::Renew(renew)) => {
                tracing::info!(node = %peer.node, "asks for its next certificate");
                Some(ca.answer_renewal(&peer, &renew, now))
            }
            Ok(Message::Join(_) | Message::Granted(_) | Message::Denied(_)) | Err(_) => None,
        });
        Some(answer.await?.encode().into())
    }

    async fn work(
        &self,
        decide: impl FnOnce(&Ca, skep_base::WallTime) -> Option<Message> + Send + 'static,
    ) -> Option<Message> {
        let _place = self.places.acquire().await.ok()?;
        let (ca, clock) = (Arc::clone(&self.ca), self.clock);
        let answer =
            tokio::task::spawn_blocking(move || decide(&ca, clock.wall())).await.ok().flatten();
        if matches!(answer, None | Some(Message::Denied(_))) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}
