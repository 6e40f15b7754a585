//! What all tasks of the transport share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::{ClientConfig, ServerConfig};
use skep_identity::{IdentityHandle, tls};
use skep_wire::Lane;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::admission::Admission;
use crate::event::Event;
use crate::fault::HandshakeError;
use crate::handle::LocalHello;
use crate::link::registry::Registry;
use crate::refusals::Refusals;
use crate::socket::ByteTotals;

/// Enrolments worked on at once: each costs the CA a signature, and nobody is in a hurry.
const MAX_ENROLMENTS: usize = 8;

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) identity: IdentityHandle,
    pub(crate) settings: tls::Settings,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) enrolment: Arc<ServerConfig>,
    pub(crate) serves_enrolment: AtomicBool,
    pub(crate) enrolments: Semaphore,
    pub(crate) hello: Arc<dyn LocalHello>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) admission: Admission,
    pub(crate) refusals: Refusals,
    pub(crate) totals: Arc<ByteTotals>,
    pub(crate) dials: Semaphore,
    pub(crate) waiting_dials: AtomicUsize,
    unread: [Arc<Semaphore>; 2],
    /// Cancelled when listeners, dials and handshakes are to end.
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        identity: IdentityHandle,
        settings: tls::Settings,
        hello: Arc<dyn LocalHello>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, rustls::Error> {
        let unread = config.max_unread_bytes.min(Semaphore::MAX_PERMITS);
        Ok(Self {
            server: tls::server_config(&identity, &settings)?,
            client: tls::client_config(&identity, &settings)?,
            enrolment: tls::enrolment_server_config(&identity, &settings.clock)?,
            serves_enrolment: AtomicBool::new(false),
            enrolments: Semaphore::new(MAX_ENROLMENTS),
            hello,
            events,
            registry: Registry::new(config.max_links, config.max_links_per_peer),
            admission: Admission::new(config.max_handshakes, config.max_waiting_handshakes),
            refusals: Refusals::new(),
            totals: Arc::default(),
            dials: Semaphore::new(config.max_dials),
            waiting_dials: AtomicUsize::new(0),
            unread: [Arc::new(Semaphore::new(unread)), Arc::new(Semaphore::new(unread))],
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
            identity,
            settings,
        })
    }

    pub(crate) fn unread(&self, lane: Lane) -> Arc<Semaphore> {
        Arc::clone(match lane {
            Lane::Control => &self.unread[0],
            Lane::Bulk => &self.unread[1],
        })
    }

    pub(crate) fn serves_enrolment(&self) -> bool {
        self.serves_enrolment.load(Ordering::Relaxed)
    }

    /// Counts, logs and reports somebody who was not let in.
    pub(crate) fn refuse(&self, remote: SocketAddr, why: HandshakeError) {
        if !self.refusals.note(remote, &why) {
            return;
        }
        match self.events.try_send(Event::Refused { remote, why }) {
            // An agent that is busy reads of it in the log.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {}
        }
    }
}
