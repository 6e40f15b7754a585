//! One connection to one agent, up to its greeting; and how long to wait before the next.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, BytesMut};
use skep_base::WallTime;
use skep_identity::{Identity, IdentityHandle, tls};
use skep_lines::{Reply, ReplyDecoder, Said, code};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::Error;
use crate::options::Options;
use crate::server::Server;

/// How long connecting, handshake and greeting may take together.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The first pause between two attempts, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// Room for what is read at once.
const READ_BYTES: usize = 64 * 1024;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Everything that is needed to connect.
#[derive(Clone)]
pub(crate) struct Dialler {
    tls: Option<Arc<Secure>>,
    whole_max: u64,
}

struct Secure {
    identity: IdentityHandle,
    settings: tls::Settings,
    connector: TlsConnector,
}

impl Dialler {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let tls = match &options.identity {
            None => None,
            Some(directory) => {
                let wrong = |error: &dyn std::fmt::Display| Error::Identity(error.to_string());
                let identity = Identity::load(directory).map_err(|error| wrong(&error))?;
                let identity = IdentityHandle::new(identity);
                let settings = tls::Settings::new(Arc::new(wall));
                let config = tls::application_client_config(&identity, &settings);
                let connector = TlsConnector::from(config.map_err(|error| wrong(&error))?);
                Some(Arc::new(Secure { identity, settings, connector }))
            }
        };
        Ok(Self { tls, whole_max: options.whole_max })
    }

    /// Whether TLS can be spoken.
    pub(crate) const fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects, and waits for the greeting.
    pub(crate) async fn dial(&self, server: &Server) -> io::Result<Link> {
        let greeted = async {
            let mut link = Link {
                stream: self.open(server).await?,
                input: BytesMut::new(),
                out: BytesMut::new(),
                decoder: ReplyDecoder::new(self.whole_max),
            };
            match link.said().await? {
                Said::Reply(reply) if reply.code == code::READY => Ok(link),
                Said::Reply(reply) => Err(io::Error::other(reply.to_string())),
                Said::Update(_)
                | Said::Long(_)
                | Said::Part(_)
                | Said::LongEnd
                | Said::Gap(_)
                | Said::Lost { .. }
                | Said::CaughtUp { .. } => Err(io::Error::other("it does not greet")),
            }
        };
        match timeout(CONNECT_TIME, greeted).await {
            Ok(link) => link,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time")),
        }
    }

    async fn open(&self, server: &Server) -> io::Result<Box<dyn Stream>> {
        match server {
            Server::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Server::Plain(address) => Ok(Box::new(tcp(address).await?)),
            Server::Tls(address) => {
                let Some(secure) = &self.tls else {
                    return Err(io::Error::other("TLS wants a certificate: see Options::identity"));
                };
                let stream = tcp(address).await?;
                let name = tls::server_name(None, stream.peer_addr()?);
                let stream = secure.connector.connect(name, stream).await?;
                // A session that was resumed is not judged by the handshake.
                tls::peer(stream.get_ref().1, &secure.identity, &secure.settings)
                    .map_err(io::Error::other)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Tries every address of a name, and says of the last why it failed.
async fn tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for socket in lookup_host(address).await? {
        match TcpStream::connect(socket).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection whose greeting came.
pub(crate) struct Link {
    stream: Box<dyn Stream>,
    input: BytesMut,
    out: BytesMut,
    decoder: ReplyDecoder,
}

impl Link {
    /// Puts bytes behind those that wait to be written.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// The connection itself, and what came in and was not understood yet.
    pub(crate) fn into_parts(self) -> (Box<dyn Stream>, BytesMut) {
        (self.stream, self.input)
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Writes all that waits. Can be left at any point.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let written = self.stream.write(&self.out).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.out.advance(written);
        }
        self.stream.flush().await
    }

    /// What was said next, of what has come in already.
    pub(crate) fn said_already(&mut self) -> io::Result<Option<Said>> {
        self.decoder.next(&mut self.input).map_err(io::Error::other)
    }

    /// What is said next. Can be left at any point.
    pub(crate) async fn said(&mut self) -> io::Result<Said> {
        loop {
            if let Some(said) = self.said_already()? {
                return Ok(said);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.input.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Reads what comes and writes what waits at the same time, until something was said. Can be
    /// left at any point.
    pub(crate) async fn exchange(&mut self) -> io::Result<Said> {
        loop {
            if let Some(said) = self.exchange_some().await? {
                return Ok(said);
            }
        }
    }

    /// The same, but only until some of what waits was written or something was read.
    pub(crate) async fn exchange_some(&mut self) -> io::Result<Option<Said>> {
        if let Some(said) = self.said_already()? {
            return Ok(Some(said));
        }
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        self.input.reserve(READ_BYTES);
        let writing = !self.out.is_empty();
        tokio::select! {
            read = reader.read_buf(&mut self.input) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            written = writer.write(&self.out), if writing => {
                let written = written?;
                self.out.advance(written);
                if self.out.is_empty() {
                    writer.flush().await?;
                }
            }
        }
        self.said_already()
    }

    /// One command and its reply, on a connection that nobody else uses.
    pub(crate) async fn ask(&mut self, command: &str) -> io::Result<Reply> {
        self.put(command.as_bytes());
        self.put(b"\r\n");
        self.flush().await?;
        loop {
            if let Said::Reply(reply) = self.said().await? {
                return Ok(reply);
            }
        }
    }
}

/// Pauses between attempts: they grow, and no two clients keep the same step.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self(PAUSES.0)
    }

    pub(crate) async fn pause(&mut self) {
        let part = u32::try_from(random() % 1000).unwrap_or(0);
        // sleeps: the pace at which an agent that is away is tried again
        tokio::time::sleep(self.0 / 2 + self.0 * part / 2000).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}

/// Sixty-four bits that no other process draws: the standard library's own seed of its maps.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
