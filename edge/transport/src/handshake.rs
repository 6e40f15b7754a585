//! From a fresh connection to a link: TLS, the certificate, the hello.
//!
//! ```text
//!   dialler                                   acceptor
//!     | ---- TLS ClientHello, ALPN skep/1 -----> |  chooses the strict or the enrolment rules
//!     | <--- certificate, finished ------------- |
//!     | ---- certificate, finished, HELLO -----> |  judges certificate and hello, takes a place
//!     | <--- HELLO, or GOODBYE with the reason - |
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_base::NodeId;
use skep_identity::tls::{self, Refusal};
use skep_identity::{CertError, CertInfo};
use skep_wire::{
    Frame, FrameReader, Hello, Lane, MAX_HELLO_ADDRESSES, Magic, common_protocol, decode, encode,
    kind, write_frame,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

use crate::event::{DialId, Event, Peer};
use crate::fault::{CertificateFault, HandshakeError, RefuseReason};
use crate::link::registry::Reservation;
use crate::link::task::{LinkTask, goodbye, goodbye_text};
use crate::shared::Shared;
use crate::socket::{Socket, SocketIo};
use crate::stream::PeerStream;

/// Longest hello: eight addresses and two names take a third of it.
const MAX_HELLO_BYTES: usize = 2048;
/// Longest text in which a peer names its build.
const MAX_VERSION_BYTES: usize = 64;
/// How long a refused peer may take to read why.
const REFUSAL_LINGER: Duration = Duration::from_millis(250);

/// A connection whose two ends know each other.
pub(crate) struct Established {
    socket: Arc<Socket>,
    tls: TlsStream<SocketIo>,
    reader: FrameReader,
    lane: Lane,
    peer: Box<Peer>,
    reservation: Reservation,
}

/// What an accepted connection turned out to be.
pub(crate) enum Accepted {
    Link(Box<Established>),
    /// Somebody without a certificate; TLS is done.
    Enrolment(Box<TlsStream<SocketIo>>),
}

/// Makes the dialler's half, as long as it takes no longer than `until`.
pub(crate) async fn dial(
    shared: &Shared,
    io: SocketIo,
    expected: Option<NodeId>,
    lane: Lane,
    until: Instant,
) -> Result<Box<Established>, HandshakeError> {
    let socket = Arc::clone(&io.socket);
    let name = tls::server_name(expected, socket.remote());
    let connector = TlsConnector::from(shared.client());
    let connecting = connector.connect(name, io);
    let stream = in_time(until, connecting).await?.map_err(|error| fault_of(&error))?;
    let who = who_is_there(shared, stream.get_ref().1)?;
    if let Some(expected) = expected
        && expected != who.cert.id
    {
        let (found, name) = (who.cert.id, who.cert.node);
        return Err(HandshakeError::WrongPeer { expected, found, name });
    }
    check_lane(shared, lane, &who.cert)?;
    let reservation = shared.places(lane).reserve(&who.cert)?;
    let mut tls = TlsStream::from(stream);
    let ours = shared.hello.hello(lane);
    let mut reader = FrameReader::new(Lane::Control);
    let greeted = async {
        send_hello(&mut tls, &ours).await?;
        read_hello(&mut tls, &mut reader, &who.cert).await
    };
    let theirs = hello_in_time(until, &who.cert, greeted).await?;
    let protocol = check_hello(&theirs, &ours, &who.cert)?;
    if theirs.lane != lane {
        return Err(malformed(&who.cert, "it answers on the other lane"));
    }
    Ok(Box::new(Established {
        socket,
        tls,
        reader: on_lane(reader, lane),
        lane,
        peer: who.greeted(theirs, protocol),
        reservation,
    }))
}

/// Makes the acceptor's half, as long as it takes no longer than `until`.
pub(crate) async fn accept(
    shared: &Shared,
    io: SocketIo,
    until: Instant,
) -> Result<Accepted, HandshakeError> {
    let socket = Arc::clone(&io.socket);
    let accepting = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io);
    let start = in_time(until, accepting).await?.map_err(|error| fault_of(&error))?;
    let offered: Vec<Vec<u8>> = start
        .client_hello()
        .alpn()
        .map(|names| names.map(<[u8]>::to_vec).collect())
        .unwrap_or_default();
    let joins = offered.iter().any(|name| name == tls::ALPN_JOIN)
        && !offered.iter().any(|name| name == tls::ALPN);
    let config = if joins && shared.serves_enrolment() {
        Arc::clone(&shared.enrolment)
    } else {
        shared.server()
    };
    let stream = match in_time(until, start.into_stream(config)).await? {
        Ok(stream) => stream,
        Err(error) => {
            let fault = fault_of(&error);
            return Err(match fault.reason() == RefuseReason::NoProtocol {
                true if joins => {
                    HandshakeError::Enrolment("this node does not serve the CA".to_owned())
                }
                true => no_protocol(&offered),
                false => fault,
            });
        }
    };
    match stream.get_ref().1.alpn_protocol() {
        Some(name) if name == tls::ALPN_JOIN => {
            Ok(Accepted::Enrolment(Box::new(TlsStream::from(stream))))
        }
        Some(name) if name == tls::ALPN => {
            let who = who_is_there(shared, stream.get_ref().1)?;
            let tls = TlsStream::from(stream);
            let cert = who.cert.clone();
            let answered = answer(shared, socket, tls, who);
            hello_in_time(until, &cert, answered).await.map(Accepted::Link)
        }
        _ => Err(no_protocol(&offered)),
    }
}

/// Gives a refused peer the time to read why, where TLS or a goodbye told it.
pub(crate) async fn part(socket: &Socket) {
    socket.shut_write();
    socket.linger(REFUSAL_LINGER).await;
}

impl Established {
    /// Lets the connection do what it is for, or gives it up when the transport is closing.
    pub(crate) fn begin(self, shared: &Arc<Shared>, dialled: Option<DialId>) -> bool {
        let config = &shared.config;
        self.socket.tune(self.lane, config);
        if self.lane == Lane::Stream {
            shared.tasks.spawn(self.hand_over(Arc::clone(shared), dialled));
            return true;
        }
        let Some((task, up)) = self.into_task(shared, dialled) else {
            return false;
        };
        shared.tasks.spawn(task.run(up));
        true
    }

    async fn hand_over(self, shared: Arc<Shared>, dialled: Option<DialId>) {
        let Self { socket, tls, reader, lane: _, peer, reservation } = self;
        let remote = socket.remote();
        let stream = Box::new(PeerStream::new(tls, socket, reader, reservation));
        let event = Event::StreamUp { stream, peer, dialled, remote };
        if shared.events.send(event).await.is_err() {
            tracing::trace!("the agent has ended");
        }
    }

    /// The link and the news of it; nothing when the transport is closing.
    fn into_task(self, shared: &Shared, dialled: Option<DialId>) -> Option<(LinkTask, Event)> {
        let Self { socket, tls, reader, lane, peer, reservation } = self;
        let config = &shared.config;
        let link = shared.registry.add(lane, config.queue_bytes(lane), &socket)?;
        let up = Event::LinkUp { link: link.id, lane, peer, dialled, remote: socket.remote() };
        let task = LinkTask {
            link,
            tls,
            reader,
            events: shared.events.clone(),
            unread: shared.unread(lane),
            idle: config.idle(lane),
            write_stall: config.write_stall,
            drain: config.drain_timeout,
            reservation,
        };
        Some((task, up))
    }
}

/// The acceptor's part after TLS: it hears the hello, judges it, and answers or says why not.
async fn answer(
    shared: &Shared,
    socket: Arc<Socket>,
    mut tls: TlsStream<SocketIo>,
    who: Who,
) -> Result<Box<Established>, HandshakeError> {
    let mut reader = FrameReader::new(Lane::Control);
    let theirs = read_hello(&mut tls, &mut reader, &who.cert).await?;
    let ours = shared.hello.hello(theirs.lane);
    let judged = check_hello(&theirs, &ours, &who.cert).and_then(|protocol| {
        check_lane(shared, theirs.lane, &who.cert)?;
        Ok((protocol, shared.places(theirs.lane).reserve(&who.cert)?))
    });
    let (protocol, reservation) = match judged {
        Ok(judged) => judged,
        Err(why) => {
            // What cannot be said need not be: the connection is closed either way.
            let said = if why == HandshakeError::Myself {
                // The hello alone shows the dialler that it met itself.
                send_hello(&mut tls, &ours).await.is_ok()
            } else {
                say_goodbye(&mut tls, &why.to_string()).await.is_ok()
            };
            tracing::trace!(said, "refused after the hello");
            return Err(why);
        }
    };
    send_hello(&mut tls, &ours).await?;
    Ok(Box::new(Established {
        socket,
        tls,
        reader: on_lane(reader, theirs.lane),
        lane: theirs.lane,
        peer: who.greeted(theirs, protocol),
        reservation,
    }))
}

/// What TLS proved of the other side.
struct Who {
    cert: CertInfo,
    cert_der: Bytes,
    channel: tls::Channel,
}

impl Who {
    fn greeted(self, hello: Hello, protocol: u16) -> Box<Peer> {
        let Self { cert, cert_der, channel } = self;
        Box::new(Peer { cert, cert_der, hello, protocol, channel })
    }
}

fn who_is_there<Side>(
    shared: &Shared,
    connection: &rustls::ConnectionCommon<Side>,
) -> Result<Who, HandshakeError> {
    let (cert, der) =
        tls::peer(connection, &shared.identity, &shared.settings).map_err(refusal_fault)?;
    let channel =
        tls::channel(connection).map_err(|error| HandshakeError::Tls(error.to_string()))?;
    Ok(Who { cert, cert_der: Bytes::copy_from_slice(&der), channel })
}

/// A certificate in its grace opens control links, for renewal and membership, and no others.
fn check_lane(shared: &Shared, lane: Lane, cert: &CertInfo) -> Result<(), HandshakeError> {
    if lane == Lane::Bulk && cert.is_expired((shared.settings.clock)()) {
        let text = format!(
            "the certificate of node {} has expired: until it is renewed the node gets links for \
             renewal and membership only, and no bulk link",
            cert.node
        );
        return Err(HandshakeError::Certificate { kind: CertificateFault::Expired, text });
    }
    Ok(())
}

/// TLS is to be done by then.
async fn in_time<T>(until: Instant, tls: impl Future<Output = T>) -> Result<T, HandshakeError> {
    timeout_at(until, tls).await.map_err(|_| HandshakeError::TimedOut)
}

/// And so is the hello, of which it is known by now who does not say it.
async fn hello_in_time<T>(
    until: Instant,
    cert: &CertInfo,
    greeting: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    timeout_at(until, greeting)
        .await
        .unwrap_or_else(|_| Err(HandshakeError::HelloTimedOut { name: cert.node.clone() }))
}

async fn send_hello(tls: &mut TlsStream<SocketIo>, hello: &Hello) -> Result<(), HandshakeError> {
    let mut frame = Vec::new();
    write_frame(kind::HELLO, &encode(hello), &mut frame);
    let sent = async {
        tls.write_all(&frame).await?;
        tls.flush().await
    };
    match sent.await {
        Ok(()) => Ok(()),
        // The peer may have said why it left; the reading that follows finds it.
        Err(error) if tls_is_silent(&error) => Ok(()),
        Err(error) => Err(fault_of(&error)),
    }
}

async fn say_goodbye(tls: &mut TlsStream<SocketIo>, text: &str) -> io::Result<()> {
    tls.write_all(&goodbye(text)).await?;
    tls.shutdown().await
}

async fn read_hello(
    tls: &mut TlsStream<SocketIo>,
    reader: &mut FrameReader,
    cert: &CertInfo,
) -> Result<Hello, HandshakeError> {
    let frame = match read_frame(tls, reader, MAX_HELLO_BYTES).await {
        Ok(frame) => frame,
        Err(ReadError::Io(error)) => return Err(fault_of(&error)),
        Err(ReadError::Malformed(detail)) => return Err(malformed(cert, &detail)),
    };
    match frame.kind {
        kind::HELLO => decode("hello", &frame.body).map_err(|error| {
            let detail = error.to_string();
            malformed(cert, &detail)
        }),
        kind::GOODBYE => Err(HandshakeError::TurnedAway(goodbye_text(&frame.body))),
        other => {
            let detail = format!("the first frame is of kind {other:#04x}");
            Err(malformed(cert, &detail))
        }
    }
}

/// Why a single frame could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(String),
}

/// Reads one frame of at most `limit` bytes.
pub(crate) async fn read_frame(
    tls: &mut TlsStream<SocketIo>,
    reader: &mut FrameReader,
    limit: usize,
) -> Result<Frame, ReadError> {
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) if frame.body.len() <= limit => return Ok(frame),
            Ok(None) if reader.pending_bytes() <= limit => {}
            Ok(_) => {
                let detail = format!("a frame of over {limit} bytes");
                return Err(ReadError::Malformed(detail));
            }
            Err(fault) => return Err(ReadError::Malformed(fault.to_string())),
        }
        let bytes = tls.fill_buf().await?;
        if bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let count = bytes.len();
        reader.feed(bytes);
        tls.consume(count);
    }
}

/// Judges what a peer says about itself by what its certificate says, and finds the protocol.
fn check_hello(theirs: &Hello, ours: &Hello, cert: &CertInfo) -> Result<u16, HandshakeError> {
    if theirs.magic != Magic::CURRENT {
        return Err(malformed(cert, "it does not begin as a hello does"));
    }
    if theirs.addresses.len() > MAX_HELLO_ADDRESSES {
        return Err(malformed(cert, "it lists too many addresses"));
    }
    if theirs.version.len() > MAX_VERSION_BYTES {
        return Err(malformed(cert, "its version text is too long"));
    }
    if theirs.bloc != cert.bloc || theirs.node != cert.node {
        return Err(HandshakeError::HelloMismatch {
            name: cert.node.clone(),
            bloc: cert.bloc.clone(),
            claimed: format!("{} of bloc {}", theirs.node, theirs.bloc),
        });
    }
    if theirs.node == ours.node && theirs.nonce == ours.nonce {
        return Err(HandshakeError::Myself);
    }
    common_protocol(ours.protocol, theirs.protocol).ok_or_else(|| {
        HandshakeError::IncompatibleVersion {
            name: cert.node.clone(),
            theirs: theirs.protocol,
            ours: ours.protocol,
        }
    })
}

/// A reader for the lane that the hello named, with what came after the hello.
fn on_lane(mut reader: FrameReader, lane: Lane) -> FrameReader {
    let mut other = FrameReader::new(lane);
    other.feed(reader.buffer());
    other
}

fn malformed(cert: &CertInfo, detail: &str) -> HandshakeError {
    HandshakeError::HelloMalformed { name: cert.node.clone(), detail: detail.to_owned() }
}

fn no_protocol(offered: &[Vec<u8>]) -> HandshakeError {
    let offered = offered.iter().take(4).map(|name| name.escape_ascii().to_string()).collect();
    HandshakeError::NoProtocol(offered)
}

/// Whether an error says only that nothing can be written any more.
fn tls_is_silent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// What an error of a connection in its handshake means.
pub(crate) fn fault_of(error: &io::Error) -> HandshakeError {
    if let Some(refusal) = Refusal::of_io(error) {
        return refusal_fault(refusal);
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only the ends of a connection mean something else than a broken handshake"
    )]
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => HandshakeError::Abandoned,
        io::ErrorKind::TimedOut => HandshakeError::TimedOut,
        _ => HandshakeError::Tls(error.to_string()),
    }
}

fn refusal_fault(refusal: Refusal) -> HandshakeError {
    let text = refusal.to_string();
    match refusal {
        Refusal::Certificate(error) => HandshakeError::Certificate {
            kind: match error {
                CertError::WrongBloc { .. } => CertificateFault::WrongBloc,
                CertError::ForeignCa { .. } => CertificateFault::ForeignCa,
                CertError::Expired { .. } | CertError::NotYetValid { .. } => {
                    CertificateFault::Expired
                }
                CertError::NotOurs { .. } | CertError::TooLong { .. } => {
                    CertificateFault::Malformed
                }
            },
            text,
        },
        Refusal::NoCertificate => {
            HandshakeError::Certificate { kind: CertificateFault::Missing, text }
        }
        Refusal::Protocol => HandshakeError::NoProtocol(Vec::new()),
        Refusal::ByPeer(text) => HandshakeError::TurnedAway(text),
        Refusal::Tls(error) => HandshakeError::Tls(error.to_string()),
    }
}
