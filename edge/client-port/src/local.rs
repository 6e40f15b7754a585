//! Channels that do not leave the process.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

/// Bytes held for each direction.
const LOCAL_BYTES: usize = 64 * 1024;

/// One end of a channel between two applications of one agent. As between two nodes, an end that
/// goes away without having ended its direction is told from one that has said all.
#[derive(Debug)]
pub struct LocalEnd {
    stream: DuplexStream,
    said_all: Arc<AtomicBool>,
    heard_all: Arc<AtomicBool>,
}

impl LocalEnd {
    /// Both ends.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (one, other) = duplex(LOCAL_BYTES);
        let [ours, theirs] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (said, heard) = (Arc::clone(&ours), Arc::clone(&theirs));
        (
            Self { stream: one, said_all: said, heard_all: heard },
            Self { stream: other, said_all: theirs, heard_all: ours },
        )
    }
}

impl AsyncRead for LocalEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        if ended && !self.heard_all.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LocalEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Before the other end can see the end of the stream.
        self.said_all.store(true, Ordering::Release);
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
