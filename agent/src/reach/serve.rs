//! What other nodes want of this one: streams that come in, and routed requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_base::{NodeId, NodeName};
use skep_node::service;
use skep_routing::{Failure, Ticket};
use skep_transport::{DialFailure, DialId, Over, PeerStream};
use skep_wire::{Frame, Lane, kind};
use tokio::time::timeout;

use super::message::{Cookie, DialBack, LinkBack, MAX_FIRST_BYTES, Meet};
use super::{FIRST_DIAL, Reach, Reached, WayError, Wish, granted, lock};

/// How long the other end may take to say what a stream is for.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// Errands of other nodes that are run at one time. Each dials once.
pub(super) const MAX_ERRANDS: usize = 64;

impl Reach {
    /// A stream is open: one that this node dialled, or one that somebody wants something over.
    pub fn stream_up(
        &self,
        stream: Box<PeerStream>,
        (peer, name): (NodeId, NodeName),
        dialled: Option<DialId>,
    ) {
        if let Some(dial) = dialled {
            if let Some(waits) = lock(&self.shared.dials).remove(&dial) {
                // Dropped, it is closed: whoever waited has given up.
                drop(waits.send(Ok(Reached::Stream(stream))));
            }
            return;
        }
        let reach = self.clone();
        self.shared.tasks.spawn(async move { reach.came_in(stream, peer, name).await });
    }

    /// A bulk link is up that this node dialled.
    pub fn link_up(&self, dial: DialId) {
        if let Some(waits) = lock(&self.shared.dials).remove(&dial) {
            drop(waits.send(Ok(Reached::Link)));
        }
    }

    /// A dial came to nothing. False when it was none of ours.
    pub fn dial_failed(&self, dial: DialId, why: &DialFailure) -> bool {
        if let Some(waits) = lock(&self.shared.dials).remove(&dial) {
            drop(waits.send(Err(why.clone())));
        }
        dial.0 >= FIRST_DIAL
    }

    /// A routed request for this node.
    pub fn request(&self, ticket: Ticket, asked: u8, body: &Bytes) {
        let errand = match asked {
            service::DIAL_BACK => DialBack::from_body(body).ok().map(Errand::DialBack),
            service::LINK_BACK => LinkBack::from_body(body).ok().map(Errand::LinkBack),
            service::MEET => Meet::from_body(body).ok().map(Errand::Meet),
            _ => return self.answer(ticket, Err(Failure::NoService)),
        };
        let Some(errand) = errand else {
            return self.answer(ticket, Err(Failure::Refused));
        };
        let Ok(room) = Arc::clone(&self.shared.errands).try_acquire_owned() else {
            return self.answer(ticket, Err(Failure::Busy));
        };
        let reach = self.clone();
        self.shared.tasks.spawn(async move {
            reach.run_errand(ticket, errand).await;
            drop(room);
        });
    }

    /// Ends what is under way.
    pub fn stop(&self) {
        self.shared.tasks.close();
        lock(&self.shared.dials).clear();
        lock(&self.shared.promised).clear();
    }

    fn answer(&self, ticket: Ticket, outcome: Result<Bytes, Failure>) {
        let reach = self.clone();
        self.shared.tasks.spawn(async move {
            reach.wish(Wish::Answer { ticket, outcome }).await;
        });
    }

    async fn run_errand(self, ticket: Ticket, errand: Errand) {
        let origin = ticket.origin;
        let outcome = match errand {
            Errand::DialBack(wanted) => self.dial_back(origin, wanted).await,
            Errand::LinkBack(wanted) => {
                self.dialled(origin, wanted.addresses, Lane::Bulk).await.map(drop)
            }
            Errand::Meet(wanted) => {
                // The other end waits for this node at the relay: it is told at once.
                let coming = self.wish(Wish::Answer { ticket, outcome: Ok(Bytes::new()) }).await;
                if coming.is_some()
                    && let Err(why) = self.meet(wanted).await
                {
                    tracing::debug!(%origin, %why, "could not meet a node at a relay");
                }
                return;
            }
        };
        let outcome = outcome.map(|()| Bytes::new()).map_err(|why| {
            tracing::debug!(%origin, %why, "could not dial a node back");
            Failure::Refused
        });
        self.wish(Wish::Answer { ticket, outcome }).await;
    }

    /// Dials a node that could not dial this one. What it wants it says over the stream, as over
    /// one that it dialled itself.
    async fn dial_back(&self, origin: NodeId, wanted: DialBack) -> Result<(), WayError> {
        let mut stream = self.stream_by_dial(origin, wanted.addresses).await?;
        stream.write_frame(kind::BACK, &wanted.cookie.0).await?;
        let reach = self.clone();
        let name = self.name_of(origin).await?;
        self.shared.tasks.spawn(async move { reach.came_in(stream, origin, name).await });
        Ok(())
    }

    async fn meet(&self, wanted: Meet) -> Result<(), WayError> {
        let Meet { cookie, relay, addresses } = wanted;
        let stream = self.stream_to_relay(relay, addresses, cookie).await?;
        let stream = granted(stream).await?;
        self.shared.transport.over(stream, Over::Accept);
        Ok(())
    }

    async fn name_of(&self, node: NodeId) -> Result<NodeName, WayError> {
        let there = self.whereabouts(node).await.map_err(|_| WayError::Stopping)?;
        Ok(there.name)
    }

    /// Reads what a stream is for, and serves it.
    async fn came_in(&self, mut stream: Box<PeerStream>, peer: NodeId, name: NodeName) {
        let first = timeout(FIRST_WITHIN, stream.read_frame(MAX_FIRST_BYTES)).await;
        let Ok(Ok(Frame { kind: asked, body })) = first else {
            return tracing::debug!(%name, "a stream was opened and nothing said");
        };
        match asked {
            kind::CHANNEL => self.shared.channels.came_in(stream, name, &body).await,
            kind::MEET => match Cookie::from_body(&body) {
                Some(cookie) => self.shared.relay.join(stream, peer, cookie).await,
                None => tracing::debug!(%name, "a cookie of the wrong length"),
            },
            kind::BACK => {
                let promised = Cookie::from_body(&body)
                    .and_then(|cookie| lock(&self.shared.promised).remove(&cookie));
                match promised {
                    Some((who, waits)) if who == peer => drop(waits.send(stream)),
                    _ => tracing::debug!(%name, "dialled back, and nobody had asked it to"),
                }
            }
            other => {
                tracing::debug!(%name, kind = other, "a stream for what this agent does not know");
                drop(stream.write_frame(kind::DENIED, b"not known to this agent").await);
            }
        }
    }
}

enum Errand {
    DialBack(DialBack),
    LinkBack(LinkBack),
    Meet(Meet),
}

impl Drop for super::Shared {
    fn drop(&mut self) {
        self.tasks.close();
    }
}
