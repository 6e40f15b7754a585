//! The same for programs without a runtime of their own: every call waits on the calling thread.
//!
//! ```no_run
//! # fn example() -> Result<(), skep_client::Error> {
//! use skep_client::{Event, Options, Subscribe, blocking};
//!
//! let client = blocking::Client::connect(Options::to("/run/skep/client.sock".parse()?))?;
//! client.publish(&[], "to every group of the site")?;
//! for event in client.subscribe(Subscribe::to("web".parse()?))? {
//!     if let Event::Update(update) = event? {
//!         println!("{}", update.id);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use skep_base::{ChannelName, GroupName, NodeName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncWriteExt as _};
use tokio::io::{ReadBuf, ReadHalf, WriteHalf};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Error, Event, Group, Near, Options, Published, Publishing, Statistic, Subscribe, Topology,
    Update,
};

/// As [`crate::Client`]. Must not be used within an asynchronous task.
#[derive(Clone, Debug)]
pub struct Client {
    runtime: Arc<Runtime>,
    inner: crate::Client,
}

/// As [`crate::Publishing`].
#[derive(Debug)]
#[must_use = "wait for it to know that the update is durable"]
pub struct Pending {
    runtime: Arc<Runtime>,
    inner: Publishing,
}

/// As [`crate::Subscription`]; an endless iterator.
#[derive(Debug)]
pub struct Subscription {
    runtime: Arc<Runtime>,
    inner: crate::Subscription,
}

/// As [`crate::Channel`], its two directions apart, so that two threads may use one each.
#[derive(Debug)]
pub struct Channel {
    /// At whose node's agent the other application is.
    pub node: NodeName,
    /// What the other side says. A read that gives nothing more means that it has said all.
    pub reader: Reader,
    /// What this side says.
    pub writer: Writer,
}

/// What the other side of a channel says.
#[derive(Debug)]
pub struct Reader {
    runtime: Arc<Runtime>,
    inner: ReadHalf<crate::Channel>,
}

/// What this side of a channel says. Without [`Writer::end`] it breaks off for the other side, when
/// both halves are dropped.
#[derive(Debug)]
pub struct Writer {
    runtime: Arc<Runtime>,
    inner: WriteHalf<crate::Channel>,
}

impl Client {
    /// As [`crate::Client::connect`].
    ///
    /// # Errors
    /// As there, and [`Error::Runtime`].
    pub fn connect(options: Options) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = Arc::new(runtime.map_err(Error::Runtime)?);
        let inner = runtime.block_on(crate::Client::connect(options))?;
        Ok(Self { runtime, inner })
    }

    /// As [`crate::Client::publish`].
    ///
    /// # Errors
    /// As there.
    pub fn publish(
        &self,
        groups: &[GroupName],
        body: impl Into<Bytes>,
    ) -> Result<Published, Error> {
        self.runtime.block_on(self.inner.publish(groups, body))
    }

    /// As [`crate::Client::publish_from`], of anything that reads and can be set back.
    ///
    /// # Errors
    /// As there.
    pub fn publish_from(
        &self,
        groups: &[GroupName],
        size: u64,
        reader: impl Read + Seek + Unpin,
    ) -> Result<Published, Error> {
        let reader = Waiting { reader, place: 0 };
        self.runtime.block_on(self.inner.publish_from(groups, size, reader))
    }

    /// As [`crate::Client::publish_file`].
    ///
    /// # Errors
    /// As there.
    pub fn publish_file(
        &self,
        groups: &[GroupName],
        path: impl AsRef<Path>,
    ) -> Result<Published, Error> {
        self.runtime.block_on(self.inner.publish_file(groups, path))
    }

    /// As [`crate::Client::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&self, groups: &[GroupName], body: impl Into<Bytes>) -> Result<Pending, Error> {
        let inner = self.runtime.block_on(self.inner.send(groups, body))?;
        Ok(Pending { runtime: Arc::clone(&self.runtime), inner })
    }

    /// As [`crate::Client::subscribe`].
    ///
    /// # Errors
    /// As there.
    pub fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, Error> {
        let inner = self.runtime.block_on(self.inner.subscribe(subscribe))?;
        Ok(Subscription { runtime: Arc::clone(&self.runtime), inner })
    }

    /// As [`crate::Client::serve`].
    ///
    /// # Errors
    /// As there.
    pub fn serve(&self, name: &ChannelName) -> Result<Channel, Error> {
        let channel = self.runtime.block_on(self.inner.serve(name))?;
        Ok(Channel::new(&self.runtime, channel))
    }

    /// As [`crate::Client::channel`].
    ///
    /// # Errors
    /// As there.
    pub fn channel(&self, node: &NodeName, name: &ChannelName) -> Result<Channel, Error> {
        let channel = self.runtime.block_on(self.inner.channel(node, name))?;
        Ok(Channel::new(&self.runtime, channel))
    }

    /// As [`crate::Client::forget`].
    ///
    /// # Errors
    /// As there.
    pub fn forget(&self, group: &GroupName, name: &str) -> Result<(), Error> {
        self.runtime.block_on(self.inner.forget(group, name))
    }

    /// As [`crate::Client::groups`].
    ///
    /// # Errors
    /// As there.
    pub fn groups(&self) -> Result<Vec<Group>, Error> {
        self.runtime.block_on(self.inner.groups())
    }

    /// As [`crate::Client::members`].
    ///
    /// # Errors
    /// As there.
    pub fn members(&self, group: &GroupName) -> Result<Vec<(String, String)>, Error> {
        self.runtime.block_on(self.inner.members(group))
    }

    /// As [`crate::Client::statistics`].
    ///
    /// # Errors
    /// As there.
    pub fn statistics(&self) -> Result<Vec<Statistic>, Error> {
        self.runtime.block_on(self.inner.statistics())
    }

    /// As [`crate::Client::topology`].
    ///
    /// # Errors
    /// As there.
    pub fn topology(&self, group: &GroupName) -> Result<Topology, Error> {
        self.runtime.block_on(self.inner.topology(group))
    }

    /// As [`crate::Client::nearest`].
    ///
    /// # Errors
    /// As there.
    pub fn nearest(&self) -> Result<Vec<Near>, Error> {
        self.runtime.block_on(self.inner.nearest())
    }

    /// As [`crate::Client::to_nearest`].
    ///
    /// # Errors
    /// As there.
    pub fn to_nearest(&self) -> Result<Self, Error> {
        let inner = self.runtime.block_on(self.inner.to_nearest())?;
        Ok(Self { runtime: Arc::clone(&self.runtime), inner })
    }
}

impl Channel {
    fn new(runtime: &Arc<Runtime>, channel: crate::Channel) -> Self {
        let node = channel.node().clone();
        let (reader, writer) = tokio::io::split(channel);
        Self {
            node,
            reader: Reader { runtime: Arc::clone(runtime), inner: reader },
            writer: Writer { runtime: Arc::clone(runtime), inner: writer },
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.runtime.block_on(self.inner.read(buffer))
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(self.inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.runtime.block_on(self.inner.flush())
    }
}

impl Writer {
    /// Ends what this side says.
    ///
    /// # Errors
    /// The connection's.
    pub fn end(&mut self) -> io::Result<()> {
        self.runtime.block_on(self.inner.shutdown())
    }
}

impl Pending {
    /// Waits until the update is durable.
    ///
    /// # Errors
    /// As [`crate::Client::publish`].
    pub fn wait(self) -> Result<Published, Error> {
        self.runtime.block_on(self.inner)
    }
}

impl Subscription {
    /// As [`crate::Subscription::group`].
    #[must_use]
    pub fn group(&self) -> &GroupName {
        self.inner.group()
    }

    /// As [`crate::Subscription::cursor`].
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.inner.cursor()
    }

    /// As [`crate::Subscription::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<(), Error> {
        self.runtime.block_on(self.inner.close())
    }

    /// As [`crate::Subscription::part`].
    ///
    /// # Errors
    /// As there.
    pub fn part(&mut self) -> Result<Option<Bytes>, Error> {
        self.runtime.block_on(self.inner.part())
    }

    /// As [`crate::Subscription::ack`].
    ///
    /// # Errors
    /// As there.
    pub fn ack(&mut self, update: &Update) -> Result<(), Error> {
        self.runtime.block_on(self.inner.ack(update))
    }

    /// As [`crate::Subscription::ack_to`].
    ///
    /// # Errors
    /// As there.
    pub fn ack_to(&mut self, cursor: u64) -> Result<(), Error> {
        self.runtime.block_on(self.inner.ack_to(cursor))
    }
}

impl Iterator for Subscription {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.runtime.block_on(self.inner.next()))
    }
}

/// A reader whose reads wait: nothing else is to be done on the calling thread.
struct Waiting<R> {
    reader: R,
    /// Where it was set to.
    place: u64,
}

impl<R: Read + Unpin> AsyncRead for Waiting<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.reader.read(buf.initialize_unfilled())?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<R: Seek + Unpin> AsyncSeek for Waiting<R> {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        self.place = self.reader.seek(to)?;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.place))
    }
}
