//! The seam to the agent: what a session asks, and the way back.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use skep_base::{ChannelName, Digest, GroupName, NodeName, Trail};
use skep_export::Came;
use skep_lines::{Gap, Key, Subscribe, Update};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::answer::{Answer, Refusal};
use crate::body::Content;

/// Asks that may wait for the agent. A session that finds no room waits, and reads nothing.
const ASK_QUEUE: usize = 1024;

/// Where the agent finds what is asked.
#[must_use]
pub fn asks() -> (mpsc::Sender<Ask>, mpsc::Receiver<Ask>) {
    mpsc::channel(ASK_QUEUE)
}

/// Names a client while it is connected; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Of the unix socket; the kernel says which user.
    Local {
        /// The user's number.
        uid: u32,
        /// Whether it is root, or the agent's own user.
        operator: bool,
    },
    /// Of the plain port.
    Plain(SocketAddr),
    /// Of the port with TLS; the certificate says which node.
    Certified {
        /// Its name.
        node: NodeName,
        /// Whether it has the role operator.
        operator: bool,
    },
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid, .. } => write!(f, "user {uid}"),
            Self::Plain(remote) => remote.fmt(f),
            Self::Certified { node, .. } => node.fmt(f),
        }
    }
}

/// The other end of a connection, for whoever can tell what program is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Of the unix socket: the process that connected.
    Process(i32),
    /// Of a TCP port.
    Tcp {
        /// The address at this end.
        ours: SocketAddr,
        /// The address at the other.
        theirs: SocketAddr,
    },
}

/// Tells which clients are programs of export commands (FLOOD-42).
pub trait Provenance: Send + Sync {
    /// Whether any client could be one now. Cheap: asked of each that connects.
    fn any(&self) -> bool;

    /// The batches that this one seems to belong to. May block.
    fn of(&self, caller: Caller) -> Vec<Came>;
}

/// Where the bodies of long updates are laid down while they come in. What is dropped before it is
/// published leaves nothing behind, also over a kill.
pub trait Spools: Send + Sync + fmt::Debug {
    /// Begins with one. May block.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    fn begin(&self) -> io::Result<Box<dyn Laying>>;
}

/// A body that is being laid down.
pub trait Laying: Send {
    /// Lays down what follows. May block.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// That was all: it is to survive a power cut. May block.
    ///
    /// # Errors
    /// The system's: the disk may be full.
    fn finish(self: Box<Self>) -> io::Result<Laid>;
}

/// A body that was laid down.
pub struct Laid {
    /// Names it.
    pub number: u64,
    /// Its digest.
    pub digest: Digest,
    /// Dropped when nobody needs the file any more.
    pub keep: Box<dyn Any + Send>,
}

/// What a session asks of the agent.
#[derive(Debug)]
pub enum Ask {
    /// Flood these, in this order. Answer each when it is durable here.
    Publish(Vec<Publication>),
    /// One group.
    Group {
        /// Which.
        group: GroupName,
        /// For [`Answer::Group`].
        slot: Slot,
    },
    /// All groups: [`Answer::Groups`].
    Groups(Slot),
    /// [`Answer::Statistics`].
    Statistics(Slot),
    /// A group's links.
    Topology {
        /// Which.
        group: GroupName,
        /// For [`Answer::Topology`].
        slot: Slot,
    },
    /// [`Answer::Nearest`].
    Nearest(Slot),
    /// Push a group's updates from now on. Push no more than one batch before [`Ask::Ack`].
    Subscribe {
        /// Whom.
        client: ClientId,
        /// What.
        subscribe: Subscribe,
        /// Where pushes go.
        pusher: Pusher,
        /// For [`Answer::Place`]: where it begins.
        slot: Slot,
    },
    /// All below this place is dealt with; push more. Of a subscriber without a name it comes by
    /// itself, and nobody waits for the answer.
    Ack {
        /// Whose.
        client: ClientId,
        /// Of which group.
        group: GroupName,
        /// A place that was pushed.
        cursor: u64,
        /// For [`Answer::Place`].
        slot: Option<Slot>,
    },
    /// Push no more; the client may be gone.
    Unsubscribe {
        /// To whom.
        client: ClientId,
        /// Of which group.
        group: GroupName,
        /// For [`Answer::Done`].
        slot: Option<Slot>,
    },
    /// Forget a subscriber.
    Forget {
        /// In which group.
        group: GroupName,
        /// Which.
        name: String,
        /// For [`Answer::Done`].
        slot: Slot,
    },
    /// Wait for a channel under this name. Dropped, the way back says that nobody waits any more.
    Serve {
        /// Under which.
        name: ChannelName,
        /// The way back.
        reply: oneshot::Sender<Result<Joined, Refusal>>,
    },
    /// Open a channel.
    Channel {
        /// At which node.
        node: NodeName,
        /// Under which name.
        name: ChannelName,
        /// The way back.
        reply: oneshot::Sender<Result<Joined, Refusal>>,
    },
    /// Stop the agent. That this client may was checked already.
    Exit {
        /// Who asks: for the log.
        who: Who,
        /// For [`Answer::Done`].
        slot: Slot,
    },
}

/// What the other end of a channel reads and writes.
pub trait ChannelStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ChannelStream for T {}

/// A channel that is open.
pub struct Joined {
    /// The node at whose agent the other application is.
    pub node: NodeName,
    /// The way to it.
    pub stream: Box<dyn ChannelStream>,
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Joined({})", self.node)
    }
}

/// One update to be flooded.
#[derive(Debug)]
pub struct Publication {
    /// Whose.
    pub client: ClientId,
    /// To which groups; none: to every group of the site.
    pub groups: Vec<GroupName>,
    /// An update whose key was logged already is not logged again.
    pub key: Option<Key>,
    /// The export commands that stand behind it, as the client says.
    pub trail: Trail,
    /// The batches of export commands that the client seems to belong to.
    pub came: Arc<[Came]>,
    /// What.
    pub body: Content,
    /// For [`Answer::Published`].
    pub slot: Slot,
}

/// What comes back to a session.
#[derive(Debug)]
pub(crate) enum Note {
    Answer(u64, Result<Answer, Refusal>),
    /// To which subscription, by the number of the reply to it.
    Push(u64, Push),
}

/// An update for a subscriber.
#[derive(Debug)]
pub struct Pushed {
    /// Which. Without its body, where that is stored.
    pub update: Update,
    /// Where its body is, if it is too long to be in memory.
    pub stored: Option<StoredBody>,
}

/// The file with a body at its beginning; nothing where it is there no more.
pub type Opening = Pin<Box<dyn Future<Output = Option<File>> + Send>>;

/// A long body, read from its file as the client takes it.
pub struct StoredBody {
    /// How long it is.
    pub length: u64,
    /// Opens it, when its turn comes.
    pub open: Opening,
}

impl fmt::Debug for StoredBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredBody({} bytes)", self.length)
    }
}

/// What is pushed to a subscriber.
#[derive(Debug)]
pub enum Push {
    /// A batch, each kind in the order of the log.
    Updates {
        /// Updates.
        updates: Vec<Pushed>,
        /// What stands in the place of updates that there are not.
        gaps: Vec<Gap>,
    },
    /// So much is gone from the log that nobody knows which updates it was.
    Lost {
        /// In which group.
        group: GroupName,
        /// How many places.
        lost: u64,
    },
    /// Another client has subscribed under the same name: this one is sent away.
    Taken {
        /// To which group.
        group: GroupName,
    },
    /// The subscription is refused; its reply says why.
    Ended {
        /// To which group.
        group: GroupName,
    },
    /// There are no more for now.
    CaughtUp {
        /// In which group.
        group: GroupName,
        /// Where the log ended.
        cursor: u64,
    },
}

impl Push {
    /// The group that it is about; nothing for no updates.
    pub(crate) fn group(&self) -> Option<GroupName> {
        match self {
            Self::Updates { updates, gaps } => {
                let group = updates.first().map(|pushed| &pushed.update.group);
                group.or_else(|| gaps.first().map(|gap| &gap.group)).cloned()
            }
            Self::Lost { group, .. }
            | Self::Taken { group }
            | Self::Ended { group }
            | Self::CaughtUp { group, .. } => Some(group.clone()),
        }
    }
}

/// The place where one command is answered, once. Dropped without an answer it says that the agent
/// stops.
#[derive(Debug)]
pub struct Slot {
    notes: Option<mpsc::UnboundedSender<Note>>,
    number: u64,
    /// Memory that the command takes until it is answered.
    room: Option<OwnedSemaphorePermit>,
}

impl Slot {
    pub(crate) const fn new(
        notes: mpsc::UnboundedSender<Note>,
        number: u64,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { notes: Some(notes), number, room }
    }

    /// Answers. A client that is gone is nobody's concern.
    pub fn answer(mut self, answer: Result<Answer, Refusal>) {
        self.send(answer);
    }

    fn send(&mut self, answer: Result<Answer, Refusal>) {
        self.room = None;
        // Bounded: a session has at most `MAX_PIPELINE` slots that are not answered.
        if let Some(notes) = self.notes.take() {
            drop(notes.send(Note::Answer(self.number, answer)));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.send(Err(Refusal::stopping()));
    }
}

/// The way to one subscription: what is still pushed to it when it has ended goes nowhere.
#[derive(Clone, Debug)]
pub struct Pusher {
    notes: mpsc::UnboundedSender<Note>,
    number: u64,
}

impl Pusher {
    pub(crate) const fn new(notes: mpsc::UnboundedSender<Note>, number: u64) -> Self {
        Self { notes, number }
    }

    /// Pushes. Bounded by the rule of [`Ask::Subscribe`].
    pub fn push(&self, push: Push) {
        drop(self.notes.send(Note::Push(self.number, push)));
    }
}
