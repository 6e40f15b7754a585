//! All links that are up, and how many there may be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_base::NodeId;
use skep_identity::CertInfo;
use skep_wire::Lane;

use crate::event::LinkId;
use crate::fault::HandshakeError;
use crate::link::queue::SendQueue;
use crate::socket::Socket;

/// What others than its task may know of a link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) lane: Lane,
    pub(crate) queue: SendQueue,
    pub(crate) socket: Arc<Socket>,
}

/// The links by number, with their bounds.
#[derive(Debug)]
pub(crate) struct Registry {
    max_links: usize,
    max_per_peer: usize,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    links: HashMap<LinkId, Arc<Link>>,
    reserved: usize,
    by_peer: HashMap<NodeId, usize>,
    closing: bool,
}

/// A place among the links, taken before the hello says yes, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    registry: Arc<Registry>,
    peer: NodeId,
}

impl Registry {
    pub(crate) fn new(max_links: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { max_links, max_per_peer, next: AtomicU64::new(1), state: Mutex::default() })
    }

    /// Takes a place for a link to `peer`.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        peer: &CertInfo,
    ) -> Result<Reservation, HandshakeError> {
        let mut state = self.lock();
        if state.closing {
            return Err(HandshakeError::Closing);
        }
        if state.reserved >= self.max_links {
            return Err(HandshakeError::TooManyLinks {
                name: peer.node.clone(),
                limit: self.max_links,
            });
        }
        let of_peer = state.by_peer.get(&peer.id).copied().unwrap_or(0);
        if of_peer >= self.max_per_peer {
            return Err(HandshakeError::TooManyLinksOfPeer {
                name: peer.node.clone(),
                limit: self.max_per_peer,
            });
        }
        state.by_peer.insert(peer.id, of_peer + 1);
        state.reserved += 1;
        Ok(Reservation { registry: Arc::clone(self), peer: peer.id })
    }

    /// Adds a link; nothing when the transport is closing.
    pub(crate) fn add(
        &self,
        lane: Lane,
        queue_bytes: usize,
        socket: &Arc<Socket>,
    ) -> Option<Arc<Link>> {
        let link = Arc::new(Link {
            id: LinkId(self.next.fetch_add(1, Ordering::Relaxed)),
            lane,
            queue: SendQueue::new(queue_bytes),
            socket: Arc::clone(socket),
        });
        let mut state = self.lock();
        if state.closing {
            return None;
        }
        state.links.insert(link.id, Arc::clone(&link));
        Some(link)
    }

    pub(crate) fn get(&self, id: LinkId) -> Option<Arc<Link>> {
        self.lock().links.get(&id).cloned()
    }

    pub(crate) fn remove(&self, id: LinkId) {
        self.lock().links.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().links.len()
    }

    /// Lets no more links in and tells all that are up to close.
    pub(crate) fn close_all(&self, reason: &str) {
        let links: Vec<_> = {
            let mut state = self.lock();
            state.closing = true;
            state.links.values().cloned().collect()
        };
        for link in links {
            link.queue.close(reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    pub(crate) const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.reserved -= 1;
        if let Some(count) = state.by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                state.by_peer.remove(&self.peer);
            }
        }
    }
}
