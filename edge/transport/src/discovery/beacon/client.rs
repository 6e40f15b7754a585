//! Asking a beacon.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use skep_identity::{BeaconPublicKey, tls};
use skep_wire::{FrameReader, Lane, decode, encode, write_frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use super::message::{MAX_ANSWER_BYTES, MAX_PEERS, MAX_REGISTERED, Peers, Refused, Register, kind};
use crate::Config;
use crate::discovery::JoinAddress;
use crate::handshake::{fault_of, read_frame};
use crate::socket::{Socket, SocketIo};

/// How long one question may take, name lookup included.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);

/// Why a beacon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum BeaconError {
    /// TLS cannot be set up.
    #[error("cannot set TLS up for the beacon {beacon}")]
    Tls {
        /// The beacon.
        beacon: JoinAddress,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// It cannot be reached.
    #[error("cannot reach the beacon {beacon}")]
    Unreachable {
        /// The beacon.
        beacon: JoinAddress,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody answered who does not hold the key, or does not speak as a beacon does.
    #[error("{beacon} is not the beacon of the configured key: {detail}")]
    NotTheBeacon {
        /// The beacon.
        beacon: JoinAddress,
        /// What was wrong.
        detail: String,
    },
    /// It did not answer in time.
    #[error("the beacon {beacon} does not answer")]
    TimedOut {
        /// The beacon.
        beacon: JoinAddress,
    },
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// One beacon, known by its key.
#[derive(Clone, Debug)]
pub struct BeaconClient {
    beacon: JoinAddress,
    tls: Arc<ClientConfig>,
    config: Config,
}

impl BeaconClient {
    /// The beacon at `beacon` that holds the private half of `key`.
    ///
    /// # Errors
    /// [`BeaconError::Tls`] when TLS cannot be set up.
    pub fn new(beacon: JoinAddress, key: &BeaconPublicKey) -> Result<Self, BeaconError> {
        match key.client_config() {
            Ok(tls) => Ok(Self { beacon, tls, config: Config::default() }),
            Err(source) => Err(BeaconError::Tls { beacon, source }),
        }
    }

    /// Tells the beacon where we are and hears where others are. The caller chooses when to come
    /// again, at the latest after [`Peers::again_s`].
    ///
    /// # Errors
    /// [`BeaconError`]; all are worth another try later.
    pub async fn register(&self, question: &Register) -> Result<Peers, BeaconError> {
        timeout(QUESTION_LIMIT, self.ask(question))
            .await
            .unwrap_or_else(|_| Err(BeaconError::TimedOut { beacon: self.beacon.clone() }))
    }

    async fn ask(&self, question: &Register) -> Result<Peers, BeaconError> {
        let (stream, address) = self.connect().await?;
        let socket = Socket::new(stream, address, &self.config, &Arc::default())
            .map_err(|source| self.unreachable(source))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let name = tls::server_name(None, address);
        let stream = connector
            .connect(name, SocketIo::direct(Arc::new(socket)))
            .await
            .map_err(|error| self.not_it(&fault_of(&error).to_string()))?;
        let mut tls = TlsStream::from(stream);
        let mut bytes = Vec::new();
        write_frame(kind::REGISTER, &encode(question), &mut bytes);
        let sent = async {
            tls.write_all(&bytes).await?;
            tls.flush().await
        };
        sent.await.map_err(|source| self.unreachable(source))?;
        let mut reader = FrameReader::new(Lane::Control);
        let answer = read_frame(&mut tls, &mut reader, MAX_ANSWER_BYTES)
            .await
            .map_err(|error| self.not_it(&error.to_string()))?;
        let malformed = |_| self.not_it("its answer is malformed");
        match answer.kind {
            kind::PEERS => decode("peers", &answer.body).map(bounded).map_err(malformed),
            kind::REFUSED => {
                let refused: Refused = decode("refusal", &answer.body).map_err(malformed)?;
                Err(refused.into())
            }
            _ => Err(self.not_it("its answer is of an unknown kind")),
        }
    }

    async fn connect(&self) -> Result<(TcpStream, SocketAddr), BeaconError> {
        let addresses = self.beacon.resolve().await.map_err(|source| self.unreachable(source))?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match timeout(self.config.connect_timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, address)),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(self.unreachable(last))
    }

    fn unreachable(&self, source: io::Error) -> BeaconError {
        BeaconError::Unreachable { beacon: self.beacon.clone(), source }
    }

    fn not_it(&self, detail: &str) -> BeaconError {
        BeaconError::NotTheBeacon { beacon: self.beacon.clone(), detail: detail.to_owned() }
    }
}

/// However much a beacon says, no more is taken.
fn bounded(mut peers: Peers) -> Peers {
    peers.peers.truncate(MAX_PEERS);
    for addresses in &mut peers.peers {
        addresses.truncate(MAX_REGISTERED + 1);
    }
    peers
}

#[cfg(test)]
mod tests;
