//! The joining node's side of enrolment: one request to whichever address answers first.
//!
//! What is asked and answered is defined by [`skep_identity`]; this module only carries it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use skep_identity::tls;
use skep_wire::{FrameReader, Lane, write_frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::Config;
use crate::fault::HandshakeError;
use crate::handshake::{fault_of, read_frame};
use crate::socket::{Socket, SocketIo};

/// The kind of the one frame in each direction of a `skep-join/1` connection.
pub const ENROLMENT_KIND: u8 = 0x03;
/// Longest request or answer: a few certificates and a signature.
pub const MAX_ENROLMENT_BYTES: usize = 32 * 1024;

/// Why no address answered an enrolment.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// There was nothing to try.
    #[error("no address to join at is known")]
    NoAddress,
    /// The request is longer than any node takes.
    #[error("the request of {0} bytes is over the limit of {MAX_ENROLMENT_BYTES}")]
    TooLong(usize),
    /// All were tried; these are their failures.
    #[error("no node answered: {}", list(.0))]
    NoAnswer(Vec<(SocketAddr, EnrolAttemptError)>),
}

/// Why one address did not answer an enrolment.
#[derive(Debug, thiserror::Error)]
pub enum EnrolAttemptError {
    /// The connection could not be made.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The node is another than the token says, or does not serve the CA.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// What came back is no answer.
    #[error("the answer is broken: {0}")]
    Broken(String),
}

fn list(attempts: &[(SocketAddr, EnrolAttemptError)]) -> String {
    let lines: Vec<_> =
        attempts.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    lines.join("; ")
}

/// Sends `request` to the addresses in turn until one answers.
///
/// # Errors
/// [`EnrolError`] lists what each address led to.
pub async fn enrol(
    addresses: &[SocketAddr],
    client: &Arc<ClientConfig>,
    config: &Config,
    request: &[u8],
) -> Result<Bytes, EnrolError> {
    if addresses.is_empty() {
        return Err(EnrolError::NoAddress);
    }
    if request.len() > MAX_ENROLMENT_BYTES {
        return Err(EnrolError::TooLong(request.len()));
    }
    let mut failed = Vec::new();
    for &address in addresses {
        match ask(address, client, config, request).await {
            Ok(answer) => return Ok(answer),
            Err(error) => failed.push((address, error)),
        }
    }
    Err(EnrolError::NoAnswer(failed))
}

async fn ask(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
    config: &Config,
    request: &[u8],
) -> Result<Bytes, EnrolAttemptError> {
    let stream = timed(config.connect_timeout, TcpStream::connect(address))
        .await?
        .map_err(EnrolAttemptError::Connect)?;
    let socket = Socket::new(stream, address, config, &Arc::default())
        .map_err(EnrolAttemptError::Connect)?;
    let io = SocketIo::direct(Arc::new(socket));
    let connector = TlsConnector::from(Arc::clone(client));
    let name = tls::server_name(None, address);
    let stream = timed(config.handshake_timeout, connector.connect(name, io))
        .await?
        .map_err(|error| fault_of(&error))?;
    timed(config.enrolment_timeout, exchange(TlsStream::from(stream), request)).await?
}

async fn exchange(
    mut tls: TlsStream<SocketIo>,
    request: &[u8],
) -> Result<Bytes, EnrolAttemptError> {
    let mut frame = Vec::new();
    write_frame(ENROLMENT_KIND, request, &mut frame);
    let sent = async {
        tls.write_all(&frame).await?;
        tls.flush().await
    };
    sent.await.map_err(|error| fault_of(&error))?;
    let mut reader = FrameReader::new(Lane::Control);
    let answer = read_frame(&mut tls, &mut reader, MAX_ENROLMENT_BYTES)
        .await
        .map_err(|error| EnrolAttemptError::Broken(error.to_string()))?;
    if answer.kind != ENROLMENT_KIND {
        return Err(EnrolAttemptError::Broken("another kind of frame".to_owned()));
    }
    Ok(answer.body)
}

async fn timed<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, EnrolAttemptError> {
    timeout(limit, work).await.map_err(|_| EnrolAttemptError::TimedOut)
}
