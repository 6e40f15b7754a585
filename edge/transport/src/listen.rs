//! Listeners: sockets in, handshakes out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_wire::{FrameReader, Lane, write_frame};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::admission::Entry;
use crate::enrol::{ENROLMENT_KIND, MAX_ENROLMENT_BYTES};
use crate::event::Event;
use crate::fault::HandshakeError;
use crate::handshake::{self, Accepted};
use crate::shared::Shared;
use crate::socket::{Socket, SocketIo};
use crate::stream::PeerStream;

/// Connections that the kernel may hold for us: a whole flock that starts at once.
const BACKLOG: i32 = 1024;
/// How long a listener rests when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listening socket the way the transport wants it: the address may be taken again at once
/// after a restart, an IPv6 socket takes IPv6 alone, and a flock may knock at once.
///
/// # Errors
/// The system's, when the address is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until told to stop.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let serving = serve(Arc::clone(&shared), stream, remote);
                shared.tasks.spawn(serving);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections, trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an error of `accept` concerns a connection that went away before it was taken.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, remote: SocketAddr) {
    let closing = shared.closing.clone();
    let outcome = tokio::select! {
        () = closing.cancelled() => return,
        outcome = admit(&shared, stream, remote) => outcome,
    };
    match outcome {
        Ok(Served::Link(established)) => {
            if !established.begin(&shared, None) {
                tracing::trace!(%remote, "not taken: this node is shutting down");
            }
        }
        Ok(Served::Enrolled) => {}
        Err(why) => shared.refuse(remote, why),
    }
}

enum Served {
    Link(Box<handshake::Established>),
    Enrolled,
}

/// Waits for a place, and makes the handshake in it.
async fn admit(
    shared: &Arc<Shared>,
    stream: TcpStream,
    remote: SocketAddr,
) -> Result<Served, HandshakeError> {
    let limit = shared.config.handshake_timeout;
    let place = match shared.admission.enter(remote.ip()) {
        Entry::Now(place) => place,
        Entry::Later(turn) => match timeout(limit, turn).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => return Err(HandshakeError::Busy),
        },
        Entry::Full => return Err(HandshakeError::Busy),
    };
    let socket = Socket::new(stream, remote, &shared.config, &shared.totals)
        .map_err(|error| handshake::fault_of(&error))?;
    let socket = Arc::new(socket);
    let io = SocketIo::direct(Arc::clone(&socket));
    match handshake::accept(shared, io, Instant::now() + limit).await {
        Ok(Accepted::Link(established)) => Ok(Served::Link(established)),
        Ok(Accepted::Enrolment(tls)) => {
            // It waits for the agent, which need not keep others out.
            drop(place);
            enrol(shared, *tls, remote).await.map(|()| Served::Enrolled)
        }
        Err(why) => {
            handshake::part(&socket).await;
            Err(why)
        }
    }
}

/// The acceptor's half of a connection within a stream that somebody else passes on.
pub(crate) async fn over(shared: Arc<Shared>, stream: Box<PeerStream>) {
    let remote = stream.socket().remote();
    let closing = shared.closing.clone();
    let until = Instant::now() + shared.config.handshake_timeout;
    let handshake = handshake::accept(&shared, SocketIo::over(stream), until);
    let outcome = tokio::select! {
        () = closing.cancelled() => return,
        outcome = handshake => outcome,
    };
    match outcome {
        Ok(Accepted::Link(established)) => {
            if !established.begin(&shared, None) {
                tracing::trace!(%remote, "not taken: this node is shutting down");
            }
        }
        Ok(Accepted::Enrolment(_)) => {
            shared.refuse(remote, enrolment("not over another node; dial this one"));
        }
        Err(why) => shared.refuse(remote, why),
    }
}

/// One request, one answer.
async fn enrol(
    shared: &Shared,
    mut tls: TlsStream<SocketIo>,
    remote: SocketAddr,
) -> Result<(), HandshakeError> {
    let Ok(_permit) = shared.enrolments.try_acquire() else {
        return Err(enrolment("too many at once; the client tries again"));
    };
    let conversation = async {
        let mut reader = FrameReader::new(Lane::Control);
        let request = handshake::read_frame(&mut tls, &mut reader, MAX_ENROLMENT_BYTES)
            .await
            .map_err(|error| enrolment(&error.to_string()))?;
        if request.kind != ENROLMENT_KIND {
            return Err(enrolment("the frame is no enrolment"));
        }
        let answer = ask_agent(shared, remote, request.body).await?;
        let mut frame = Vec::new();
        write_frame(ENROLMENT_KIND, &answer, &mut frame);
        let sent = async {
            tls.write_all(&frame).await?;
            tls.shutdown().await
        };
        sent.await.map_err(|error| enrolment(&error.to_string()))?;
        tls.get_ref().0.socket.linger(shared.config.drain_timeout).await;
        Ok(())
    };
    timeout(shared.config.enrolment_timeout, conversation)
        .await
        .unwrap_or_else(|_| Err(enrolment("not done in time")))
}

async fn ask_agent(
    shared: &Shared,
    remote: SocketAddr,
    request: Bytes,
) -> Result<Bytes, HandshakeError> {
    let (reply, answer) = oneshot::channel();
    let event = Event::Enrolment { remote, request, reply };
    if shared.events.send(event).await.is_err() {
        return Err(HandshakeError::Closing);
    }
    answer.await.map_err(|_| enrolment("the agent gave no answer"))
}

fn enrolment(text: &str) -> HandshakeError {
    HandshakeError::Enrolment(text.to_owned())
}
