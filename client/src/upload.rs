//! Publishing what is too long for memory, over a connection of its own: read a portion at a time,
//! as the agent takes it.

use std::io::{self, SeekFrom};
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_base::GroupName;
use skep_lines::{Command, Key, Publish, Reply, Said, code};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncSeekExt as _};

use crate::client::reach;
use crate::error::Error;
use crate::link::{Dialler, Link, Pauses, random};
use crate::options::Options;

/// Bytes that are read at once, and that are put before the socket ahead of what it takes.
const PORTION_BYTES: usize = 256 * 1024;

/// One update, and how it is going.
pub(crate) struct Upload<'a, R> {
    dialler: &'a Dialler,
    options: &'a Options,
    line: String,
    size: u64,
    reader: R,
    /// The most that an attempt has sent.
    furthest: u64,
    /// Since when no attempt came further.
    stuck: Instant,
}

/// Why an attempt was for nothing.
enum Why {
    /// The connection broke before all of it was sent, or the agent says later: nothing is logged.
    NotLogged(io::Error),
    /// The connection broke when all was on its way: it may be logged there.
    Unknown(io::Error),
    /// What is published cannot be read.
    Unreadable(io::Error),
}

impl<'a, R: AsyncRead + AsyncSeek + Unpin> Upload<'a, R> {
    pub(crate) fn new(
        (dialler, options): (&'a Dialler, &'a Options),
        groups: &[GroupName],
        size: u64,
        reader: R,
    ) -> Self {
        // A publisher of its own: the window of the others does not move on by it.
        let publisher: Arc<str> = format!("{:016x}{:016x}", random(), random()).into();
        let key = Some(Key { publisher, number: 1 });
        let publish = Publish { groups: groups.to_vec(), key, trail: options.trail.clone() };
        let line = format!("{}\r\n", Command::Binary { size, publish });
        Self { dialler, options, line, size, reader, furthest: 0, stuck: Instant::now() }
    }

    /// Publishes, and waits until it is durable.
    pub(crate) async fn run(mut self) -> Result<Reply, Error> {
        let (mut link, mut at) = reach(self.dialler, self.options).await?;
        let mut pauses = Pauses::new();
        // Which server may have it; then no other may get it.
        let mut bound = false;
        loop {
            match self.attempt(link).await {
                Ok(reply) => return Ok(reply),
                Err(Why::Unreadable(error)) => return Err(Error::Source(error)),
                Err(Why::NotLogged(error)) => self.check_patience(error, bound, at)?,
                Err(Why::Unknown(error)) => {
                    bound = true;
                    self.check_patience(error, bound, at)?;
                }
            }
            (link, at) = loop {
                pauses.pause().await;
                let servers = self.options.servers.len();
                let next = if bound { at } else { (at + 1) % servers };
                let tries = [at, next];
                let mut dialled = Err(io::ErrorKind::NotConnected.into());
                for at in tries {
                    let Some(server) = self.options.servers.get(at) else { continue };
                    dialled = self.dialler.dial(server).await.map(|link| (link, at));
                    if dialled.is_ok() {
                        break;
                    }
                }
                match dialled {
                    Ok(dialled) => break dialled,
                    Err(error) => self.check_patience(error, bound, at)?,
                }
            };
        }
    }

    fn check_patience(&self, source: io::Error, bound: bool, at: usize) -> Result<(), Error> {
        let patience: Duration = self.options.patience;
        if self.stuck.elapsed() < patience {
            return Ok(());
        }
        let server = self.options.servers.get(at).cloned().ok_or(Error::Closed)?;
        Err(match bound {
            true => Error::Uncertain { server, patience },
            false => Error::Unreachable { patience, server, source },
        })
    }

    /// Sends all of it, and hears what the agent says; it may say so before it has all.
    async fn attempt(&mut self, mut link: Link) -> Result<Reply, Why> {
        self.reader.seek(SeekFrom::Start(0)).await.map_err(Why::Unreadable)?;
        link.put(self.line.as_bytes());
        let mut left = self.size;
        let mut portion = vec![0; PORTION_BYTES];
        loop {
            while left > 0 && link.waiting() < PORTION_BYTES {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(PORTION_BYTES);
                let read = self.reader.read(&mut portion[..most]).await;
                let read = match read.map_err(Why::Unreadable)? {
                    0 => return Err(Why::Unreadable(io::ErrorKind::UnexpectedEof.into())),
                    read => read,
                };
                link.put(&portion[..read]);
                left -= read as u64;
                let sent = self.size - left;
                if sent > self.furthest {
                    (self.furthest, self.stuck) = (sent, Instant::now());
                }
            }
            let said = link.exchange_some().await;
            let said = said.map_err(|error| match left {
                0 => Why::Unknown(error),
                _ => Why::NotLogged(error),
            })?;
            match said {
                Some(Said::Reply(reply))
                    if matches!(reply.code, code::GOING | code::NOT_YET | code::BUSY) =>
                {
                    return Err(Why::NotLogged(io::Error::other(reply.to_string())));
                }
                Some(Said::Reply(reply)) => return Ok(reply),
                Some(_) | None => {}
            }
        }
    }
}
