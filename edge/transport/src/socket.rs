//! A TCP connection that counts its bytes and can be asked about while a link owns it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use skep_wire::Lane;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::Config;
use crate::stream::PeerStream;
use crate::sys::tcp_info::{self, TcpSample};

/// How often the kernel asks a silent peer before it gives up.
const KEEPALIVE_PROBES: u32 = 3;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// The connection, shared by the link that reads and writes it and by those who ask about it.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    remote: SocketAddr,
    totals: Arc<ByteTotals>,
    received: AtomicU64,
    sent: AtomicU64,
    /// A connection within this one leads on from the other end.
    relayed: AtomicBool,
}

/// Bytes on the wire, TLS included and IP headers not.
#[derive(Debug, Default)]
pub(crate) struct ByteTotals {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
}

impl Socket {
    /// Takes a fresh connection over and sets what every connection needs.
    pub(crate) fn new(
        stream: TcpStream,
        remote: SocketAddr,
        config: &Config,
        totals: &Arc<ByteTotals>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_user_timeout(Some(config.user_timeout))?;
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(config.keepalive)
                .with_interval(KEEPALIVE_INTERVAL)
                .with_retries(KEEPALIVE_PROBES),
        )?;
        Ok(Self {
            stream,
            remote,
            totals: Arc::clone(totals),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            relayed: AtomicBool::new(false),
        })
    }

    /// What only the lane decides, once the hello has told it.
    pub(crate) fn tune(&self, lane: Lane, config: &Config) {
        // A beat that is lost twice or thrice in a row shall not be away for longer than an
        // election takes: the waits before its retransmissions do not double while little is under
        // way. What floods backs off as ever.
        if lane == Lane::Control
            && let Err(error) = SockRef::from(&self.stream).set_tcp_thin_linear_timeouts(true)
        {
            tracing::debug!(%error, "retransmissions back off from the first on");
        }
        if lane == Lane::Bulk
            && let Some(name) = &config.bulk_congestion
            && let Err(error) = SockRef::from(&self.stream).set_tcp_congestion(name.as_bytes())
        {
            tracing::debug!(%name, %error, "congestion control is not there, the default stays");
        }
    }

    pub(crate) const fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Lets the kernel forget what the peer did not take as soon as the connection is closed.
    pub(crate) fn abort_on_close(&self) {
        if let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "cannot abort the connection, the kernel closes it");
        }
    }

    /// Reads and forgets until the peer has closed its side, at most for `limit`. Closing with
    /// bytes unread would reset the connection, and the peer lose what was said last.
    pub(crate) async fn linger(&self, limit: Duration) {
        let drained = tokio::time::timeout(limit, async {
            let mut sink = [0; 1024];
            loop {
                if self.stream.readable().await.is_err() {
                    return;
                }
                match self.stream.try_read(&mut sink) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        });
        if drained.await.is_err() {
            tracing::trace!(remote = %self.remote, "the peer did not close its side in time");
        }
    }

    /// Ends our direction of the connection.
    pub(crate) fn shut_write(&self) {
        if let Err(error) = SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write) {
            tracing::trace!(%error, "the connection was gone already");
        }
    }

    /// What the kernel measured, and the bytes of this connection.
    pub(crate) fn sample(&self) -> Option<LinkSample> {
        let tcp = tcp_info::read(&self.stream).ok()?;
        Some(LinkSample {
            tcp,
            received_bytes: self.received.load(Ordering::Relaxed),
            sent_bytes: self.sent.load(Ordering::Relaxed),
            relayed: self.relayed.load(Ordering::Relaxed),
        })
    }
}

/// Reads what is there, as far as `buf` holds it. A short read is taken for the end of it, as
/// tokio's own reader does: it saves the call that would only say so. The readiness that is then
/// forgotten is the one noted *before* the read: whatever comes during it is a new event, and
/// forgetting that as well would leave bytes unread for ever.
fn read_ready(
    stream: &TcpStream,
    buf: &mut [u8],
    mut try_read: impl FnMut(&TcpStream, &mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut read = 0;
    let outcome = stream.try_io(Interest::READABLE, || {
        read = try_read(stream, buf)?;
        let drained = read > 0 && read < buf.len();
        if drained { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Err(error) if read == 0 => Err(error),
        Ok(()) | Err(_) => Ok(read),
    }
}

/// One look at a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSample {
    /// What the kernel measured.
    pub tcp: TcpSample,
    /// Bytes received, TLS included and IP headers not.
    pub received_bytes: u64,
    /// Bytes handed to the kernel, TLS included and IP headers not.
    pub sent_bytes: u64,
    /// All of it is of the way to a relay, and nothing is known of the way from there.
    pub relayed: bool,
}

/// The one reader and writer of a [`Socket`], or of a stream that another node passes on over it.
#[derive(Debug)]
pub(crate) struct SocketIo {
    pub(crate) socket: Arc<Socket>,
    /// The stream to a relay, within which the bytes of this connection travel.
    over: Option<Box<PeerStream>>,
}

impl AsyncRead for SocketIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, over } = self.get_mut();
        if let Some(stream) = over {
            return Pin::new(&mut **stream).poll_read(cx, buf);
        }
        loop {
            ready!(socket.stream.poll_read_ready(cx))?;
            match read_ready(&socket.stream, buf.initialize_unfilled(), TcpStream::try_read) {
                Ok(read) => {
                    buf.advance(read);
                    socket.received.fetch_add(read as u64, Ordering::Relaxed);
                    socket.totals.received.fetch_add(read as u64, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl SocketIo {
    /// The bytes of a connection itself.
    pub(crate) const fn direct(socket: Arc<Socket>) -> Self {
        Self { socket, over: None }
    }

    /// The bytes of whoever is at the other side of a relay.
    pub(crate) fn over(stream: Box<PeerStream>) -> Self {
        stream.socket().relayed.store(true, Ordering::Relaxed);
        Self { socket: Arc::clone(stream.socket()), over: Some(stream) }
    }

    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket = &*self.socket;
        loop {
            ready!(socket.stream.poll_write_ready(cx))?;
            match write(&socket.stream) {
                Ok(written) => {
                    socket.sent.fetch_add(written as u64, Ordering::Relaxed);
                    socket.totals.sent.fetch_add(written as u64, Ordering::Relaxed);
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for SocketIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(stream) = &mut self.over {
            return Pin::new(&mut **stream).poll_write(cx, bytes);
        }
        self.poll_with(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(stream) = &mut self.over {
            return Pin::new(&mut **stream).poll_write_vectored(cx, bytes);
        }
        self.poll_with(cx, |stream| stream.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.over {
            Some(stream) => Pin::new(&mut **stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.over {
            Some(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            None => {
                let socket = SockRef::from(&self.socket.stream);
                Poll::Ready(socket.shutdown(std::net::Shutdown::Write))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Instant;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        far.set_nodelay(true).unwrap();
        (listener.accept().await.unwrap().0, far)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_comes_while_a_read_is_under_way_is_not_forgotten() {
        let (near, mut far) = pair().await;
        let (witness, mut tell_witness) = pair().await;
        far.write_all(b"first").unwrap();
        near.readable().await.unwrap();
        let noticed = Arc::new(AtomicBool::new(false));
        tokio::spawn({
            let noticed = Arc::clone(&noticed);
            async move {
                witness.readable().await.unwrap();
                noticed.store(true, Ordering::SeqCst);
            }
        });
        let mut buf = [0; 64];
        let read = read_ready(&near, &mut buf, |stream, buf| {
            let read = stream.try_read(buf);
            far.write_all(b"second").unwrap();
            tell_witness.write_all(b"!").unwrap();
            // The runtime takes events in their order: who knows of this one knows of the other.
            let until = Instant::now() + PATIENCE;
            while !noticed.load(Ordering::SeqCst) {
                assert!(Instant::now() < until, "the runtime notices nothing");
                std::thread::yield_now();
            }
            read
        });
        assert_eq!(read.unwrap(), 5);
        timeout(PATIENCE, near.readable()).await.expect("the second text is there").unwrap();
        assert_eq!(near.try_read(&mut buf).unwrap(), 6);
    }

    #[tokio::test]
    async fn what_is_lost_of_beats_is_soon_said_again_and_bulk_backs_off() {
        let config = Config::default();
        for lane in [Lane::Control, Lane::Bulk] {
            let (stream, _far) = pair().await;
            let remote = stream.peer_addr().unwrap();
            let socket = Socket::new(stream, remote, &config, &Arc::default()).unwrap();
            socket.tune(lane, &config);
            let linear = SockRef::from(&socket.stream).tcp_thin_linear_timeouts().unwrap();
            assert_eq!(linear, lane == Lane::Control);
        }
    }
}
