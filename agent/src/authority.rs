//! The certificate authority as a mode of the agent (BLOC-37): answers those who join with an
//! invitation, and members that renew.
//!
//! The CA writes its ledger with fsync under a lock, so every answer is made on a blocking thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use skep_control::Reply;
use skep_control::api::{CaStatus, Code, Founding, Refusal, Text};
use skep_identity::message::Message;
use skep_identity::{Ca, CertInfo, LedgerError};
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
    issued: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Authority {
    /// Serves `ca`.
    #[must_use]
    pub fn new(ca: Ca, clock: Clock) -> Self {
        let places = Arc::new(Semaphore::new(MAX_ANSWERS));
        let (issued, refused) = (Arc::default(), Arc::default());
        Self { ca: Arc::new(ca), clock, places, issued, refused }
    }

    /// Says how the CA is doing. Its books are on the disk.
    pub fn answer_status(&self, reply: Reply<CaStatus>) {
        let this = self.clone();
        tokio::task::spawn_blocking(move || reply.send(this.status()));
    }

    fn status(&self) -> Result<CaStatus, Refusal> {
        let unread = |error: LedgerError| {
            let hint = format!("see whether {} can be read", self.ca.dir().display());
            Refusal::new(Code::Internal, format!("the CA's books: {error}")).hint(hint)
        };
        let now = self.clock.wall();
        let open = self.ca.open_invitations(now).map_err(unread)?;
        let issued = self.ca.issued().map_err(unread)?;
        let valid = issued.iter().filter(|node| node.until > now);
        Ok(CaStatus {
            bloc: self.ca.bloc().clone(),
            fingerprint: Text(self.ca.fingerprint()),
            not_after: self.ca.not_after(),
            nodes: valid.count() as u64,
            issued: self.issued.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            invitations: u32::try_from(open).unwrap_or(u32::MAX),
            founding: self.ca.founding().map_err(unread)?.map(|it| {
                let skep_identity::Founding { number, node, at, until } = it;
                Founding { number, node, at, until }
            }),
        })
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
                    Ok(_) | Err(_) => {
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
            Ok(_) | Err(_) => None,
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
        let counter = match &answer {
            Some(Message::Granted(_) | Message::Founded(_)) => &self.issued,
            _ => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }
}
