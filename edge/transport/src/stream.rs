//! A connection that is one stream of bytes instead of a link of frames.
//!
//! Two applications talk through one (FLOOD-2), and two nodes that cannot dial each other meet
//! through two: each dials the same third node, which passes the bytes on, and within them they
//! make a connection of their own ([`crate::TransportHandle::over`]). Whoever passes bytes on sees
//! ciphertext only, and both ends still prove themselves to each other by certificate.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use skep_wire::{Frame, FrameReader, Lane, write_frame};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::TlsStream;

use crate::handshake;
use crate::link::registry::Reservation;
use crate::socket::{Socket, SocketIo};

/// The stream to a node that proved who it is. Dropped, it is closed.
pub struct PeerStream {
    tls: TlsStream<SocketIo>,
    socket: Arc<Socket>,
    /// What came with or after the hello, not read yet.
    early: FrameReader,
    _reservation: Reservation,
}

impl PeerStream {
    pub(crate) fn new(
        tls: TlsStream<SocketIo>,
        socket: Arc<Socket>,
        early: FrameReader,
        reservation: Reservation,
    ) -> Self {
        Self { tls, socket, early, _reservation: reservation }
    }

    pub(crate) const fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Reads one frame, as streams begin with.
    ///
    /// # Errors
    /// The connection's, and [`io::ErrorKind::InvalidData`] for what is no frame or one of over
    /// `limit` bytes.
    pub async fn read_frame(&mut self, limit: usize) -> io::Result<Frame> {
        let read = handshake::read_frame(&mut self.tls, &mut self.early, limit).await;
        read.map_err(|error| match error {
            handshake::ReadError::Io(error) => error,
            handshake::ReadError::Malformed(detail) => {
                io::Error::new(io::ErrorKind::InvalidData, detail)
            }
        })
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// The connection's.
    pub async fn write_frame(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        write_frame(kind, body, &mut frame);
        self.tls.write_all(&frame).await?;
        self.tls.flush().await
    }

    fn early(&mut self) -> &mut BytesMut {
        self.early.buffer()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let early = self.early();
        if !early.is_empty() {
            let count = early.len().min(buf.remaining());
            buf.put_slice(&early[..count]);
            early.advance(count);
            if early.is_empty() {
                // Its memory is not needed again.
                self.early = FrameReader::new(Lane::Stream);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerStream").field("remote", &self.socket.remote()).finish_non_exhaustive()
    }
}
