//! The seam between the server and the agent: a channel of questions, each with its place to
//! answer.
//!
//! The agent's main loop owns all state, so the server asks it by message and never shares memory
//! with it. A [`Request`] carries the reply of exactly its own type; dropping the reply unanswered
//! tells the client that the agent stopped.

use skep_base::{GroupName, ImageName, NodeName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Caller;
use crate::api::{
    Accepted, CaStatus, Catalog, CatalogDiff, CatalogHistory, CatalogText, Certificate, Commit,
    Committed, DiffCatalog, Event, Flock, Group, Health, Image, ImageDetail, ImportCatalog,
    Imported, JoinAddress, Link, ManageFlock, Member, Metric, Notices, NotifyTested, PruneImages,
    Pruned, Published, ReadCatalog, ReadEvents, ReadFlock, ReadTopology, ReadUpdates, Recovery,
    Refusal, RoundTrip, Shutdown, StartWave, Status, TestNotify, Topology, Updates, Wave,
    WaveDetail, WaveId, WhichVersion, WriteCatalog, Written,
};
use crate::feed::Feed;

/// Calls that may wait for the agent. Each client has one at a time, so more than the clients
/// allowed never wait.
pub const CALL_QUEUE: usize = crate::server::MAX_CLIENTS;

/// What the server needs of the agent.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Where questions go.
    pub calls: mpsc::Sender<Call>,
    /// Changes whenever any group's log grows, so that readers who wait ask again.
    pub appended: watch::Receiver<u64>,
}

/// The agent's end of a [`Backend`].
#[derive(Debug)]
pub struct BackendSide {
    /// Where questions come from.
    pub calls: mpsc::Receiver<Call>,
    /// To be changed whenever any group's log grows.
    pub appended: watch::Sender<u64>,
}

/// Both ends, connected.
#[must_use]
pub fn backend() -> (Backend, BackendSide) {
    let (ask, calls) = mpsc::channel(CALL_QUEUE);
    let (grow, appended) = watch::channel(0);
    (Backend { calls: ask, appended }, BackendSide { calls, appended: grow })
}

/// One question and who asks it. That he may was checked already.
#[derive(Debug)]
pub struct Call {
    /// Who asks: for the log.
    pub caller: Caller,
    /// What.
    pub request: Request,
}

/// Where one question is answered, once.
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<Result<T, Refusal>>);

impl<T> Reply<T> {
    /// A place to answer and the other end of it.
    #[must_use]
    pub fn pair() -> (Self, oneshot::Receiver<Result<T, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        (Self(reply), answer)
    }

    /// Answers. A client that no longer waits is nobody's concern.
    pub fn send(self, answer: Result<T, Refusal>) {
        drop(self.0.send(answer));
    }

    /// Answers with what was asked for.
    pub fn ok(self, answer: T) {
        self.send(Ok(answer));
    }

    /// Answers with a refusal.
    pub fn refuse(self, refusal: Refusal) {
        self.send(Err(refusal));
    }
}

/// What the agent can be asked. The table [`crate::verb::VERBS`] gives each its path and
/// permission.
#[derive(Debug)]
pub enum Request {
    /// The agent, in one page.
    Status(Reply<Status>),
    /// Whether the agent can do its work.
    Health(Reply<Health>),
    /// All members it knows.
    Members(Reply<Vec<Member>>),
    /// Who can reach whom now, and who manages the flock.
    Flock {
        /// Whether the master is asked.
        query: ReadFlock,
        /// The answer.
        reply: Reply<Flock>,
    },
    /// Manage the flock otherwise. Answer when it is.
    ManageFlock {
        /// How.
        order: ManageFlock,
        /// The answer.
        reply: Reply<Accepted>,
    },
    /// What a recovery here would mean.
    FlockRecovery(Reply<Recovery>),
    /// The catalog.
    Catalog {
        /// Which of it.
        query: ReadCatalog,
        /// The answer.
        reply: Reply<Catalog>,
    },
    /// One entry of it.
    CatalogEntry {
        /// Kind and name.
        key: String,
        /// The answer.
        reply: Reply<CatalogHistory>,
    },
    /// What changed in it.
    CatalogDiff {
        /// Between which indices.
        query: DiffCatalog,
        /// The answer.
        reply: Reply<CatalogDiff>,
    },
    /// All of it as a file.
    CatalogExport(Reply<CatalogText>),
    /// Set or remove an entry. Answer when it is decided and kept.
    WriteCatalog {
        /// Which, and what.
        write: WriteCatalog,
        /// The answer.
        reply: Reply<Written>,
    },
    /// Make it what a file says.
    CatalogImport {
        /// How.
        query: ImportCatalog,
        /// The file.
        text: bytes::Bytes,
        /// The answer.
        reply: Reply<Imported>,
    },
    /// Let an entry of the conflict log happen after all.
    CatalogReapply {
        /// Its name.
        name: String,
        /// The answer.
        reply: Reply<Written>,
    },
    /// What is or was wrong, and who was told of it.
    Notify(Reply<Notices>),
    /// Send a letter to every target, or to one. Answer when each has answered.
    NotifyTest {
        /// To whom.
        test: TestNotify,
        /// The answer.
        reply: Reply<Vec<NotifyTested>>,
    },
    /// Links that are up.
    Links(Reply<Vec<Link>>),
    /// Figures.
    Metrics(Reply<Vec<Metric>>),
    /// Its certificate.
    Certificate(Reply<Certificate>),
    /// The certificate authority, where it serves one.
    Ca(Reply<CaStatus>),
    /// What happened, and what happens: the kept events and, where asked for, a feed.
    Events {
        /// Which.
        query: ReadEvents,
        /// [`crate::EventLog::read`] makes the answer.
        reply: Reply<EventsRead>,
    },
    /// All groups it knows.
    Groups(Reply<Vec<Group>>),
    /// One group.
    Group {
        /// Which.
        group: GroupName,
        /// The answer.
        reply: Reply<Group>,
    },
    /// Who links to whom in a group.
    Topology {
        /// Which.
        group: GroupName,
        /// Whether to draw it.
        query: ReadTopology,
        /// The answer.
        reply: Reply<Topology>,
    },
    /// What is known of the round trip between two nodes.
    Rtt {
        /// One of them.
        from: NodeName,
        /// The other.
        to: NodeName,
        /// The answer.
        reply: Reply<RoundTrip>,
    },
    /// Publish an update. Answer when it is on disk.
    Publish {
        /// To whom.
        group: GroupName,
        /// What; at most [`crate::api::MAX_UPDATE_BYTES`].
        body: bytes::Bytes,
        /// The export commands that stand behind it, as the caller says.
        trail: skep_base::Trail,
        /// The caller's process, which may be one of such a command.
        pid: Option<i32>,
        /// The answer.
        reply: Reply<Published>,
    },
    /// Read a group's log. Answer at once, with nothing where nothing is there: the server waits
    /// and asks again when [`BackendSide::appended`] changes.
    Updates {
        /// Which log.
        group: GroupName,
        /// From where, and how much; `max` is set and within bounds.
        query: ReadUpdates,
        /// The answer.
        reply: Reply<Updates>,
    },
    /// Note how far a subscriber is. Answer when it is on disk.
    Commit {
        /// In which log.
        group: GroupName,
        /// Who: 1 to [`crate::api::MAX_SUBSCRIBER_BYTES`] bytes, letters, digits, `.`, `-`, `_`.
        subscriber: String,
        /// How far.
        commit: Commit,
        /// The answer.
        reply: Reply<Committed>,
    },
    /// Forget a subscriber.
    Unsubscribe {
        /// In which log.
        group: GroupName,
        /// Who.
        subscriber: String,
        /// The answer.
        reply: Reply<Accepted>,
    },
    /// Images on this node.
    Images(Reply<Vec<Image>>),
    /// One version of an image.
    Image {
        /// Of which image.
        name: ImageName,
        /// Which version.
        query: WhichVersion,
        /// The answer.
        reply: Reply<ImageDetail>,
    },
    /// Remove old versions of images, and chunks that nobody needs.
    PruneImages {
        /// What to keep.
        wish: PruneImages,
        /// The answer, when all is done.
        reply: Reply<Pruned>,
    },
    /// Start a wave. Answer when its order is on disk and offered to the neighbours.
    StartWave {
        /// Which.
        order: StartWave,
        /// The answer.
        reply: Reply<Wave>,
    },
    /// Waves it knows, newest first.
    Waves(Reply<Vec<Wave>>),
    /// One wave with its nodes. The first digits of an id that mean one wave alone will do.
    Wave {
        /// Which.
        id: WaveId,
        /// The answer.
        reply: Reply<WaveDetail>,
    },
    /// Dial these addresses.
    JoinAddress {
        /// Which.
        addresses: JoinAddress,
        /// The answer.
        reply: Reply<Accepted>,
    },
    /// Stop, after saying why.
    Shutdown {
        /// Why.
        how: Shutdown,
        /// The answer, before it stops.
        reply: Reply<Accepted>,
    },
}

/// Answer to [`Request::Events`].
#[derive(Debug)]
pub struct EventsRead {
    /// What was kept and asked for.
    pub kept: Vec<Event>,
    /// What happens from then on, where asked for.
    pub live: Option<Feed<Event>>,
}
