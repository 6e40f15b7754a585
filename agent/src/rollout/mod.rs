//! Waves on this node: orders are obeyed, pieces fetched and served, trees switched (DLIF-16 to
//! DLIF-24).
//!
//! One task (`task`) owns all state of waves. The main loop hands it what concerns it through the
//! [`Rollout`], which never waits: bulk links and their frames, records, presence, questions of the
//! control socket. Frames carry their credit along, so what may wait here is bounded by what the
//! transport lets wait unread. Disks and hashes are waited for on other threads.
//!
//! | module | what |
//! |---|---|
//! | `facts` | what records say: members, their groups, orders and statuses |
//! | `ledger` | what this node ordered and applied, in a file that survives a power cut |
//! | `library` | images in the blob store: finding, loading, checking their seals |
//! | `job` | one wave on its way to this node |
//! | `links` | bulk links: whom to dial, who has subscribed to what |
//! | `order` | starting a wave as its queen |
//! | `peers` | what other nodes say and ask |
//! | `prune` | removing old versions, and chunks that nobody needs |
//! | `serve` | handing chunks to other nodes |
//! | `store` | the threads that write chunks and apply trees |
//! | `tally` | what was fetched and from whom, in all lives of this node |
//! | `listing` | answers for `skep image` and `skep wave` |

mod facts;
mod job;
mod ledger;
pub(crate) mod library;
mod links;
mod listing;
mod order;
mod peers;
mod prune;
mod serve;
mod store;
mod tally;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skep_base::NodeId;
use skep_control::Request as Question;
use skep_identity::{CertInfo, IdentityHandle};
use skep_records::Stored;
use skep_store::blobs::Blobs;
use skep_transport::{Credit, LinkId, TransportHandle};
use skep_wire::Frame;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::high::Wave as Config;
use crate::reach::Reach;
use ledger::Ledger;
use task::Task;

/// How long a stopping agent waits for a tree that is being staged to come to a resting place.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// What waves are handed.
pub struct Parts {
    /// The node's links.
    pub transport: TransportHandle,
    /// The way to nodes, also those that cannot be dialled.
    pub reach: Reach,
    /// Where to ask the main loop to publish and note.
    pub requests: mpsc::Sender<crate::spine::Request>,
    /// The node's certificate, and whom it trusts.
    pub identity: IdentityHandle,
    /// Both clocks.
    pub clock: Clock,
    /// Where images and the ledger are.
    pub state_dir: PathBuf,
    /// This node.
    pub me: NodeId,
    /// What the configuration says of waves.
    pub config: Config,
}

/// The main loop's end of everything that concerns waves. Nothing here waits but [`Rollout::stop`].
#[derive(Debug)]
pub struct Rollout {
    /// Unbounded, so that the main loop never waits for a disk: frames are bounded by their
    /// credit, links by the transport, questions by the clients, records by their number.
    commands: mpsc::UnboundedSender<Command>,
    bulk: BTreeMap<LinkId, CertInfo>,
    task: Option<JoinHandle<()>>,
}

/// What the task is told.
#[derive(Debug)]
enum Command {
    LinkUp {
        link: LinkId,
        node: NodeId,
    },
    Frame {
        link: LinkId,
        frame: Frame,
        credit: Credit,
    },
    LinkDown {
        link: LinkId,
    },
    /// What came of the way to a node: whether a link.
    Reached {
        node: NodeId,
        linked: bool,
    },
    Record {
        owner: NodeId,
        kind: u16,
        schema: u16,
        body: Option<Bytes>,
    },
    Presence {
        node: NodeId,
        present: bool,
    },
    Asked(Question),
    /// Work on another thread came to an end.
    Done(store::Done),
    Stop,
}

impl Rollout {
    /// Opens the blob store and the ledger, and starts the task.
    ///
    /// # Errors
    /// When the store or the ledger cannot be opened; the message names the path.
    pub fn start(parts: Parts) -> anyhow::Result<Self> {
        let blobs = Arc::new(Blobs::open(&parts.state_dir.join("images"))?);
        let ledger = Ledger::open(&parts.state_dir.join("rollout.json"))?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let task = Task::new(parts, blobs, ledger, commands.clone());
        let task = tokio::spawn(task.run(inbox));
        Ok(Self { commands, bulk: BTreeMap::new(), task: Some(task) })
    }

    /// A bulk link is up.
    pub fn link_up(&mut self, link: LinkId, cert: &CertInfo) {
        self.bulk.insert(link, cert.clone());
        self.tell(Command::LinkUp { link, node: cert.id });
    }

    /// A frame came over a bulk link.
    pub fn frame(&self, link: LinkId, frame: Frame, credit: Credit) {
        self.tell(Command::Frame { link, frame, credit });
    }

    /// A bulk link is down.
    pub fn link_down(&mut self, link: LinkId) {
        self.bulk.remove(&link);
        self.tell(Command::LinkDown { link });
    }

    /// A queen's orders that this node obeys are new, or taken back.
    pub fn order(&self, owner: NodeId, body: Option<Bytes>) {
        let (kind, schema) = (skep_records::kind::WAVE_ORDER, skep_wave::SCHEMA);
        self.tell(Command::Record { owner, kind, schema, body });
    }

    /// A record of a certificate, a node or a status is new.
    pub fn record(&self, owner: NodeId, kind: u16, stored: &Stored) {
        let body = (!stored.retracted).then(|| stored.body.clone());
        self.tell(Command::Record { owner, kind, schema: stored.schema, body });
    }

    /// A member became present, or is so no longer.
    pub fn presence(&self, node: NodeId, present: bool) {
        self.tell(Command::Presence { node, present });
    }

    /// Answers one of the questions about images and waves.
    pub fn call(&self, question: Question) {
        self.tell(Command::Asked(question));
    }

    /// Whether there is a bulk link to `node`.
    #[must_use]
    pub fn has_bulk(&self, node: NodeId) -> bool {
        self.bulk.values().any(|held| held.id == node)
    }

    /// The bulk links that are up, and the certificates with which they began.
    pub fn bulk_links(&self) -> impl Iterator<Item = (LinkId, &CertInfo)> + '_ {
        self.bulk.iter().map(|(link, certificate)| (*link, certificate))
    }

    /// Stops at a place from which a restart goes on.
    pub async fn stop(&mut self) {
        self.tell(Command::Stop);
        if let Some(task) = self.task.take()
            && tokio::time::timeout(STOP_WAIT, task).await.is_err()
        {
            tracing::warn!(
                "a wave's work did not come to rest in time; it resumes after the start"
            );
        }
    }

    fn tell(&self, command: Command) {
        // The task ends only when it is told to stop, and then nothing matters any more.
        drop(self.commands.send(command));
    }
}
