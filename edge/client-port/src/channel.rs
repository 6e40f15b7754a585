//! Connections that become channels: after the reply they carry another application's bytes.

use std::io;

use bytes::BytesMut;
use skep_lines::{Command, Framing, Reply, code};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional, join, split,
};
use tokio::sync::oneshot;

use crate::answer::Refusal;
use crate::backend::{Ask, Joined};

/// Bytes that are read at once of a direction that is framed, and so its longest piece.
const PIECE_BYTES: usize = 32 * 1024;

/// A channel that is asked for. Nothing that the client sends is understood meanwhile: it may be
/// the channel's first bytes.
pub(crate) struct Wanted {
    answer: oneshot::Receiver<Result<Joined, Refusal>>,
    /// Whoever serves and hangs up is waited for by nobody; whoever opens may have said all.
    pub(crate) ends_with_input: bool,
    /// How its bytes are told from their end.
    pub(crate) framing: Framing,
}

impl Wanted {
    /// What the agent is asked for a command; nothing for one that asks for no channel.
    pub(crate) fn of(command: Command) -> Option<(Self, Ask)> {
        let (reply, answer) = oneshot::channel();
        let serves = matches!(command, Command::Serve { .. });
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other commands open no channel")]
        let (ask, framing) = match command {
            Command::Serve { name, framing } => (Ask::Serve { name, reply }, framing),
            Command::Channel { node, name, framing } => {
                (Ask::Channel { node, name, reply }, framing)
            }
            _ => return None,
        };
        Some((Self { answer, ends_with_input: serves, framing }, ask))
    }

    /// Waits for the answer. May be left and entered again.
    pub(crate) async fn answer(&mut self) -> Result<Joined, Refusal> {
        (&mut self.answer).await.unwrap_or_else(|_| Err(Refusal::stopping()))
    }
}

/// What the client is told of a channel that is open.
pub(crate) fn open(joined: &Joined) -> Reply {
    Reply::new(code::OPEN, format!("{} channel open; its bytes follow", joined.node))
}

/// Passes bytes between a client and its channel, those first that it sent ahead, until both have
/// said all or either is gone.
pub(crate) async fn pass<R, W>(
    reader: &mut R,
    writer: &mut W,
    (ahead, framing): (&BytesMut, Framing),
    mut joined: Joined,
) -> io::Result<(u64, u64)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if framing == Framing::Framed {
        let (from, to) = split(joined.stream);
        let inward = unwrap_to(ahead.chain(reader), to);
        let outward = wrap_to(from, writer);
        // Either that fails ends both, and neither end takes what came for all.
        return tokio::try_join!(inward, outward);
    }
    joined.stream.write_all(ahead).await?;
    joined.stream.flush().await?;
    let mut client = join(reader, writer);
    copy_bidirectional(&mut client, &mut *joined.stream).await
}

/// Takes the pieces that a client sends apart, up to the empty one.
async fn unwrap_to(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<u64> {
    let (mut buffer, mut passed) = (vec![0; PIECE_BYTES], 0);
    loop {
        let mut left = from.read_u32().await? as usize;
        if left == 0 {
            to.shutdown().await?;
            return Ok(passed);
        }
        while left > 0 {
            let room = left.min(buffer.len());
            let read = from.read(&mut buffer[..room]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            to.write_all(&buffer[..read]).await?;
            left -= read;
            passed += read as u64;
        }
        to.flush().await?;
    }
}

/// Sends a client pieces, and the empty one when nothing more comes.
async fn wrap_to(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<u64> {
    const HEAD: usize = size_of::<u32>();
    let (mut piece, mut passed) = (vec![0; HEAD + PIECE_BYTES], 0);
    loop {
        let read = from.read(&mut piece[HEAD..]).await?;
        let length = u32::try_from(read).unwrap_or(u32::MAX);
        piece[..HEAD].copy_from_slice(&length.to_be_bytes());
        to.write_all(&piece[..HEAD + read]).await?;
        to.flush().await?;
        if read == 0 {
            return Ok(passed);
        }
        passed += read as u64;
    }
}
