//! What all tasks of the transport share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::{ClientConfig, ServerConfig};
use skep_identity::{IdentityHandle, Watch, tls};
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
    tls: Arc<RwLock<TlsConfigs>>,
    _renewals: Watch,
    pub(crate) enrolment: Arc<ServerConfig>,
    pub(crate) serves_enrolment: AtomicBool,
    pub(crate) enrolments: Semaphore,
    pub(crate) hello: Arc<dyn LocalHello>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) registry: Arc<Registry>,
    /// Places of streams: they take none of a link's.
    streams: Arc<Registry>,
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

/// How links are dialled and accepted.
///
/// Both are made anew when the certificate is renewed: they remember TLS sessions, and a session
/// that is resumed shows the certificate with which it began, however old.
#[derive(Clone)]
struct TlsConfigs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl TlsConfigs {
    fn new(identity: &IdentityHandle, settings: &tls::Settings) -> Result<Self, rustls::Error> {
        Ok(Self {
            server: tls::server_config(identity, settings)?,
            client: tls::client_config(identity, settings)?,
        })
    }

    /// Makes both anew whenever `identity` is replaced, for as long as the answer is kept.
    fn follow(
        tls: &Arc<RwLock<Self>>,
        identity: &IdentityHandle,
        settings: &tls::Settings,
    ) -> Watch {
        let (tls, handle) = (Arc::downgrade(tls), identity.clone());
        let settings = settings.clone();
        identity.watch(move |renewed| {
            let Some(tls) = tls.upgrade() else {
                return;
            };
            match Self::new(&handle, &settings) {
                Ok(fresh) => {
                    *tls.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                    let hash = renewed.info().hash;
                    tracing::debug!(%hash, "new links show the renewed certificate");
                }
                Err(error) => {
                    tracing::error!(%error, "new links still show the certificate before renewal");
                }
            }
        })
    }
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
        let tls = Arc::new(RwLock::new(TlsConfigs::new(&identity, &settings)?));
        Ok(Self {
            _renewals: TlsConfigs::follow(&tls, &identity, &settings),
            tls,
            enrolment: tls::enrolment_server_config(&identity, &settings.clock)?,
            serves_enrolment: AtomicBool::new(false),
            enrolments: Semaphore::new(MAX_ENROLMENTS),
            hello,
            events,
            registry: Registry::new(config.max_links, config.max_links_per_peer),
            streams: Registry::new(config.max_streams, config.max_streams_per_peer),
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

    /// How links are accepted at present.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner).server)
    }

    /// How links are dialled at present.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner).client)
    }

    /// Where a connection on `lane` takes its place.
    pub(crate) const fn places(&self, lane: Lane) -> &Arc<Registry> {
        match lane {
            Lane::Control | Lane::Bulk => &self.registry,
            Lane::Stream => &self.streams,
        }
    }

    pub(crate) fn unread(&self, lane: Lane) -> Arc<Semaphore> {
        Arc::clone(match lane {
            Lane::Control => &self.unread[0],
            Lane::Bulk | Lane::Stream => &self.unread[1],
        })
    }

    /// Whether strangers may ask for a certificate here. Not while ours is over: they could not
    /// believe who answers.
    pub(crate) fn serves_enrolment(&self) -> bool {
        let expired = || self.identity.current().info().is_expired((self.settings.clock)());
        self.serves_enrolment.load(Ordering::Relaxed) && !expired()
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
