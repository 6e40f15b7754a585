//! Discovery: where addresses come from besides the config, and when each source is asked.
//!
//! Multicast on the local link, the beacon, and the address file each run as a task that reports
//! what it finds to the main loop. All of them only give hints: who answers there still has to
//! prove itself (BLOC-2, BLOC-16, BLOC-40).

use std::net::SocketAddr;
use std::time::Duration;

use skep_base::{Nonce, Rng};
use skep_identity::IdentityHandle;
use skep_node::Source;
use skep_transport::discovery::beacon::{BeaconClient, Register, Token};
use skep_transport::discovery::{AddressFile, Announcement, DiscoveryKey, JoinAddress, Multicast};
use skep_wire::Address;
use tokio::sync::{mpsc, watch};

use crate::config::high::{Beacon, Join};
use crate::spine::Request;

/// A node announces itself this often on the local link at first, while a flock forms.
const ANNOUNCE_FIRST: Duration = Duration::from_millis(500);
/// And this often later: two halves of a bloc find each other within it.
const ANNOUNCE_LATER: Duration = Duration::from_secs(5);
/// Announcements at the first pace.
const ANNOUNCE_FAST: u32 = 6;
/// The beacon is asked this often, jittered.
const ASK_BEACON: Duration = Duration::from_secs(5);
/// The address file is looked at this often.
const LOOK_AT_FILE: Duration = Duration::from_secs(5);
/// Names in the config are looked up again this often: addresses behind names change.
const RESOLVE: Duration = Duration::from_secs(60);

/// What discovery must know.
pub struct Discovery {
    /// Which sources are used.
    pub join: Join,
    /// Proves to others of the bloc that an announcement is from one of them.
    pub identity: IdentityHandle,
    /// Which process this is.
    pub nonce: Nonce,
    /// Where this node listens, as it changes.
    pub addresses: watch::Receiver<Vec<Address>>,
    /// Where finds go.
    pub found: mpsc::Sender<Request>,
    /// Jitter.
    pub rng: Rng,
}

impl Discovery {
    /// Starts every source. The tasks end when the main loop no longer listens.
    pub fn start(mut self) -> Vec<tokio::task::JoinHandle<()>> {
        let mut tasks = Vec::new();
        let addresses = self.join.addresses.clone();
        tasks.push(tokio::spawn(resolve_names(addresses, self.found.clone())));
        if let Some(path) = self.join.address_file.clone() {
            let file = AddressFile::new(&path);
            tasks.push(tokio::spawn(watch_file(file, self.found.clone())));
        }
        if let Some(multicast) = self.start_multicast() {
            tasks.push(multicast);
        }
        if let Some(beacon) = self.join.beacon.clone() {
            let mut rng = self.rng.fork();
            let mut token = [0; 16];
            token[..8].copy_from_slice(&rng.bits().to_le_bytes());
            token[8..].copy_from_slice(&rng.bits().to_le_bytes());
            for key in self.keys() {
                let (addresses, found) = (self.addresses.clone(), self.found.clone());
                let (beacon, rng) = (beacon.clone(), rng.fork());
                let task = ask_beacon(beacon, key, Token(token), addresses, found, rng);
                tasks.push(tokio::spawn(task));
            }
        }
        tasks
    }

    fn keys(&self) -> Vec<DiscoveryKey> {
        let identity = self.identity.current();
        let trust = identity.trust();
        trust.fingerprints().map(|ca| DiscoveryKey::derive(trust.bloc(), &ca)).collect()
    }

    fn start_multicast(&mut self) -> Option<tokio::task::JoinHandle<()>> {
        let config = self.join.multicast.clone()?;
        let rng = self.rng.fork();
        let (multicast, mut hears) = match Multicast::start(config, self.keys(), self.nonce, rng) {
            Ok(started) => started,
            Err(error) => {
                tracing::warn!(%error, "no multicast on this host; other ways to find nodes go on");
                return None;
            }
        };
        let (nonce, addresses) = (self.nonce, self.addresses.clone());
        let (found, mut rng) = (self.found.clone(), self.rng.fork());
        Some(tokio::spawn(async move {
            let mut sent = 0;
            let mut next = tokio::time::Instant::now();
            loop {
                tokio::select! {
                    heard = hears.recv() => {
                        let Some(heard) = heard else { return };
                        let request = Request::Found(heard.addresses, Source::Multicast);
                        if found.send(request).await.is_err() {
                            return;
                        }
                    }
                    () = tokio::time::sleep_until(next) => {
                        let announcement = announcement(nonce, &addresses.borrow());
                        if let Some(announcement) = announcement
                            && let Err(error) = multicast.announce(&announcement)
                        {
                            tracing::debug!(%error, "an announcement was not sent");
                        }
                        sent += 1;
                        let pace =
                            if sent < ANNOUNCE_FAST { ANNOUNCE_FIRST } else { ANNOUNCE_LATER };
                        next = tokio::time::Instant::now() + rng.jitter(pace, 0.3);
                    }
                }
            }
        }))
    }
}

fn announcement(nonce: Nonce, addresses: &[Address]) -> Option<Announcement> {
    let port = addresses.first()?.socket.port();
    let addresses = addresses.iter().map(|address| address.socket).collect();
    Some(Announcement { nonce, port, addresses })
}

async fn resolve_names(names: Vec<JoinAddress>, found: mpsc::Sender<Request>) {
    loop {
        for name in &names {
            match name.resolve().await {
                Ok(addresses) => {
                    let request = Request::Found(addresses, Source::Config);
                    if found.send(request).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(?name, %error, "cannot look the join address up"),
            }
        }
        tokio::time::sleep(RESOLVE).await;
    }
}

async fn watch_file(mut file: AddressFile, found: mpsc::Sender<Request>) {
    loop {
        match file.changed() {
            Ok(None) => {}
            Ok(Some(names)) => {
                let mut addresses = Vec::new();
                for name in names {
                    match name.resolve().await {
                        Ok(resolved) => addresses.extend(resolved),
                        Err(error) => tracing::warn!(?name, %error, "cannot look it up"),
                    }
                }
                if found.send(Request::Found(addresses, Source::Config)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "the address file is not used"),
        }
        tokio::time::sleep(LOOK_AT_FILE).await;
    }
}

async fn ask_beacon(
    beacon: Beacon,
    key: DiscoveryKey,
    token: Token,
    addresses: watch::Receiver<Vec<Address>>,
    found: mpsc::Sender<Request>,
    mut rng: Rng,
) {
    let client = match BeaconClient::new(beacon.address, &beacon.key) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "the beacon cannot be used"),
    };
    loop {
        let mine: Vec<SocketAddr> =
            addresses.borrow().iter().map(|address| address.socket).collect();
        let port = mine.first().map_or(0, SocketAddr::port);
        let question = Register { tag: key.beacon_tag(), token, port, addresses: mine };
        let mut pause = ASK_BEACON;
        match client.register(&question).await {
            Ok(answer) => {
                pause = pause.max(Duration::from_secs(answer.again_s.into()));
                let others = answer.peers.into_iter().flatten().collect();
                if found.send(Request::Found(others, Source::Beacon)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "the beacon did not answer"),
        }
        tokio::time::sleep(rng.jitter(pause, 0.2)).await;
    }
}
