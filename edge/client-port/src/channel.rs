//! Connections that become channels: after the reply they carry another application's bytes.

use std::io;

use bytes::BytesMut;
use skep_lines::{Command, Reply, code};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional, join};
use tokio::sync::oneshot;

use crate::answer::Refusal;
use crate::backend::{Ask, Joined};

/// A channel that is asked for. Nothing that the client sends is understood meanwhile: it may be
/// the channel's first bytes.
pub(crate) struct Wanted {
    answer: oneshot::Receiver<Result<Joined, Refusal>>,
    /// Whoever serves and hangs up is waited for by nobody; whoever opens may have said all.
    pub(crate) ends_with_input: bool,
}

impl Wanted {
    /// What the agent is asked for a command; nothing for one that asks for no channel.
    pub(crate) fn of(command: Command) -> Option<(Self, Ask)> {
        let (reply, answer) = oneshot::channel();
        let serves = matches!(command, Command::Serve(_));
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other commands open no channel")]
        let ask = match command {
            Command::Serve(name) => Ask::Serve { name, reply },
            Command::Channel { node, name } => Ask::Channel { node, name, reply },
            _ => return None,
        };
        Some((Self { answer, ends_with_input: serves }, ask))
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
    ahead: &BytesMut,
    mut joined: Joined,
) -> io::Result<(u64, u64)>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    joined.stream.write_all(ahead).await?;
    joined.stream.flush().await?;
    let mut client = join(reader, writer);
    copy_bidirectional(&mut client, &mut *joined.stream).await
}
