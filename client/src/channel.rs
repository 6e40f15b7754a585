//! A channel: a stream of bytes to an application at another node (FLOOD-2).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, BytesMut};
use skep_base::{ChannelName, NodeName};
use skep_lines::{Command, Framing, Reply, code};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::reach;
use crate::error::Error;
use crate::link::{Dialler, Link, Pauses, Stream};
use crate::options::Options;

/// Bytes that wait to be written before a writer waits, and so about the longest piece.
const OUT_BYTES: usize = 64 * 1024;
/// Room for what is read at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of a piece's length.
const HEAD_BYTES: usize = size_of::<u32>();

/// One end of a channel: what one side writes, the other reads.
///
/// Either side ends what it says with [`tokio::io::AsyncWriteExt::shutdown`], and may go on
/// reading. **A read that gives nothing more means that the other side has ended what it said**;
/// whenever the channel broke off before that (a node or a network on the way failed, or the other
/// application was dropped or died) the read fails with [`io::ErrorKind::UnexpectedEof`], and
/// nobody takes a part for the whole. Dropped without a shutdown, it breaks off for the other side.
///
/// A channel that broke off does not come back by itself: only the two applications know how far
/// they had come. They open another one.
pub struct Channel {
    node: NodeName,
    stream: Box<dyn Stream>,
    input: BytesMut,
    /// Bytes of the piece in hand that were not read yet.
    left: usize,
    /// The other side has said all.
    heard_all: bool,
    out: BytesMut,
    /// We have.
    said_all: bool,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel(to {})", self.node)
    }
}

impl Channel {
    /// The node at whose agent the other application is, as its certificate proves it.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// Opens one, over a connection of its own.
    pub(crate) async fn open(
        dialler: &Dialler,
        options: &Options,
        node: &NodeName,
        name: &ChannelName,
    ) -> Result<Self, Error> {
        let (node, name, framing) = (node.clone(), name.clone(), Framing::Framed);
        Self::ask(dialler, options, &Command::Channel { node, name, framing }).await
    }

    /// Waits for one, over a connection of its own.
    pub(crate) async fn serve(
        dialler: &Dialler,
        options: &Options,
        name: &ChannelName,
    ) -> Result<Self, Error> {
        let (name, framing) = (name.clone(), Framing::Framed);
        Self::ask(dialler, options, &Command::Serve { name, framing }).await
    }

    /// Asks until there is an answer: before that nothing is lost when a connection breaks.
    async fn ask(dialler: &Dialler, options: &Options, command: &Command) -> Result<Self, Error> {
        let (line, mut pauses) = (command.to_string(), Pauses::new());
        let mut options = options.clone();
        let mut broken_since = None;
        loop {
            let (mut link, at) = reach(dialler, &options).await?;
            let broke = match link.ask(&line).await {
                Ok(reply) if reply.code == code::OPEN => return Self::begin(link, &reply),
                // The agent stops, and is back in a moment.
                Ok(reply) if reply.code == code::GOING => io::Error::other(reply.to_string()),
                Ok(reply) => {
                    let text = reply.text().to_owned();
                    return Err(Error::Refused { code: reply.code, text });
                }
                Err(error) => error,
            };
            options.first_patience = options.patience;
            let since = *broken_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= options.patience {
                let server = options.servers.get(at).cloned().ok_or(Error::Closed)?;
                let patience = options.patience;
                return Err(Error::Unreachable { patience, server, source: broke });
            }
            pauses.pause().await;
        }
    }

    fn begin(link: Link, reply: &Reply) -> Result<Self, Error> {
        let node = reply.text().split(' ').next().unwrap_or_default().parse()?;
        let (stream, input) = link.into_parts();
        Ok(Self {
            node,
            stream,
            input,
            left: 0,
            heard_all: false,
            out: BytesMut::new(),
            said_all: false,
        })
    }

    /// Writes what waits, as far as the connection takes it.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next piece's length, where all of it came; nothing where more must come first.
    fn next_piece(&mut self) -> Option<()> {
        let head = self.input.first_chunk::<HEAD_BYTES>()?;
        self.left = u32::from_be_bytes(*head) as usize;
        self.heard_all = self.left == 0;
        self.input.advance(HEAD_BYTES);
        Some(())
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.heard_all {
            if this.left > 0 && !this.input.is_empty() {
                let count = this.left.min(this.input.len()).min(buf.remaining());
                buf.put_slice(&this.input[..count]);
                this.input.advance(count);
                this.left -= count;
                break;
            }
            if this.left == 0 && this.next_piece().is_some() {
                continue;
            }
            this.input.reserve(READ_BYTES);
            let mut read = std::pin::pin!(read_some(&mut this.stream, &mut this.input));
            if ready!(read.as_mut().poll(cx))? == 0 {
                return Poll::Ready(Err(broke_off()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.said_all {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.out.len() >= OUT_BYTES {
            ready!(this.poll_out(cx))?;
        }
        let part = &bytes[..bytes.len().min(OUT_BYTES)];
        if !part.is_empty() {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            this.out.extend_from_slice(&length.to_be_bytes());
            this.out.extend_from_slice(part);
        }
        // What the connection takes now need not wait for a flush.
        if let Poll::Ready(Err(error)) = this.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    /// Ends what this side says. The connection stays open for what the other side still says.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.said_all {
            this.said_all = true;
            this.out.extend_from_slice(&[0; HEAD_BYTES]);
        }
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }
}

async fn read_some(stream: &mut Box<dyn Stream>, input: &mut BytesMut) -> io::Result<usize> {
    tokio::io::AsyncReadExt::read_buf(stream, input).await
}

fn broke_off() -> io::Error {
    let text = "the channel broke off before the other side had said all";
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}
