//! What goes into a node and what comes out of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;
use skep_base::{GroupName, Incarnation, NodeId, NodeName, Time};
pub use skep_estimates::Sample;
use skep_flood::Position;
pub use skep_membership::{
    Contest, DialFailure, DialId, DownReason, Goodbye, LinkId, LinkView, Me, MemberView, NodeFacts,
    NodeState, Peer, Source, Status, Verdict,
};
use skep_records::{Signer, Verifier};
use skep_topology::adoption::Answer;
use skep_topology::{LayoutSource, Shape};
use skep_wire::{Address, Frame};

pub use crate::job::{Job, MAX_LINKS};

/// What may happen to a node.
#[derive(Debug)]
pub enum Input {
    /// A control-lane link is up: certificates and hellos are exchanged and agree.
    LinkUp {
        /// The link.
        link: LinkId,
        /// Who is there.
        peer: Peer,
    },
    /// A link is gone.
    LinkDown {
        /// The link.
        link: LinkId,
        /// Why.
        why: DownReason,
    },
    /// The certificate of whoever is at the other end of a link has expired, or was renewed. While
    /// it has, the link is for renewal and membership alone: nothing but records and heartbeats go
    /// over it, either way. May come before the link is up, so that none slips through.
    Restrict {
        /// Which.
        link: LinkId,
        /// Whether it has expired.
        on: bool,
    },
    /// A frame came.
    Frame {
        /// Over which link.
        link: LinkId,
        /// What.
        frame: Frame,
    },
    /// An attempt to dial came to nothing.
    DialFailed {
        /// Which.
        dial: DialId,
        /// Why.
        why: DialFailure,
    },
    /// Addresses where a node of the bloc may listen.
    Found {
        /// Where.
        addresses: Vec<SocketAddr>,
        /// Who says so.
        source: Source,
    },
    /// The node's own addresses changed.
    Addresses(Vec<Address>),
    /// The certificate was renewed.
    Renewed(SignerHandle),
    /// Announce a record of this node, or retract it.
    Publish {
        /// What it is about.
        kind: u16,
        /// How the body is laid out.
        schema: u16,
        /// The fact; nothing retracts it.
        body: Option<Bytes>,
    },
    /// The answer to [`Output::Look`].
    Looked(Vec<Sample>),
    /// The answer to [`Output::Compute`].
    Computed {
        /// For which group.
        group: GroupName,
        /// Which job.
        job: u64,
        /// The topology; or why there is none.
        answer: Result<Answer, String>,
    },
    /// The answer to [`Output::Knock`].
    Knocked {
        /// At whose door.
        peer: NodeId,
        /// How long the connection took to be there; nothing where none came to be.
        took: Option<Duration>,
    },
    /// For the flood machine: publishes, cursors, and what the disk answers.
    Flood(skep_flood::Input),
    /// Ask something of a node that this one may have no link to.
    /// [`skep_routing::Output::Answered`] tells what came of it.
    Ask {
        /// Names it. Numbers from 2⁶³ on are the node's own.
        token: skep_routing::Token,
        /// Of whom.
        to: NodeId,
        /// What is asked: one of [`crate::service`].
        service: u8,
        /// What the service says.
        body: Bytes,
        /// How long to wait.
        within: Duration,
    },
    /// What this node has to spare was measured (DVM-12): others are told.
    Spare {
        /// In all, 0 to 1000.
        resources: u16,
        /// Of what it is made.
        parts: skep_managers::Parts,
    },
    /// An answer to what another node asked.
    Answer {
        /// Which request.
        ticket: skep_routing::Ticket,
        /// What came of it.
        outcome: Result<Bytes, skep_routing::Failure>,
    },
    /// For the managers: what the disk answers, what an operator orders of this node alone.
    Managers(skep_managers::Input),
    /// Ask something of the flock's master, wherever it is. [`Output::Granted`] tells what came of
    /// it.
    Wish {
        /// Names it.
        token: u64,
        /// What.
        wish: skep_catalog::Wish,
    },
    /// Say that this node stops: nothing is dialled any more, and all links are closed.
    Stop(Farewell),
}

/// What a node says when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It will be back within this time.
    Restarting(Duration),
    /// It leaves.
    Leaving,
}

/// A signer that can be printed in a trace.
#[derive(Clone)]
pub struct SignerHandle(pub Arc<dyn Signer>);

impl core::fmt::Debug for SignerHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Signer")
    }
}

/// What a node wants done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Dial these addresses, raced, until one leads to `expect` (or to any node of the bloc).
    Dial {
        /// How the answer names the attempt.
        dial: DialId,
        /// Who should be there, if that is known.
        expect: Option<NodeId>,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// Send a frame.
    Send {
        /// Over which link.
        link: LinkId,
        /// One of [`skep_wire::kind`].
        kind: u8,
        /// The body.
        body: Bytes,
    },
    /// Close a link, with a goodbye.
    Close {
        /// Which.
        link: LinkId,
        /// What the peer is told.
        why: Goodbye,
    },
    /// Keep this record on disk.
    PersistRecord {
        /// Whose.
        owner: NodeId,
        /// Which.
        kind: u16,
        /// Its bytes.
        raw: Bytes,
    },
    /// Delete the records of this owner from the disk.
    ForgetRecords {
        /// Whose.
        owner: NodeId,
    },
    /// Keep this node's incarnation on disk *before* anything that follows it in the outbox is
    /// sent.
    PersistIncarnation(Incarnation),
    /// Keep in the address book where a node was reached.
    PersistAddress {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// Compute a topology, as a command's or by [`Job::run`], which may take seconds.
    /// [`Input::Computed`] follows.
    Compute(Box<Job>),
    /// Ask the kernel about all links, of both lanes.
    Look,
    /// Open a bare connection to one of these addresses, and close it again without a word.
    Knock {
        /// At whose door.
        peer: NodeId,
        /// Where it listens.
        addresses: Vec<SocketAddr>,
    },
    /// What the flood machine wants of the disk and of subscribers. Its `Send` never shows here.
    Flood(skep_flood::Output),
    /// Requests of other nodes, and answers to this node's. `Send` and `Reject` never show here,
    /// nor does [`crate::service::PING`].
    Routed(skep_routing::Output),
    /// What the managers want of the disk, and what happened among them. What they send, announce
    /// and decide never shows here.
    Managers(skep_managers::Output),
    /// What came of a wish of this node.
    Granted {
        /// Which.
        token: u64,
        /// What.
        granted: skep_catalog::Granted,
    },
    /// Entries of the catalog say something else now, or it stands somewhere else.
    Catalog {
        /// Which entries.
        keys: Vec<skep_catalog::Key>,
    },
    /// Something that people or other parts of the agent may want to know.
    Event(Event),
}

/// What happened, for the event log and for the other parts of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The node publishes from now on.
    Started {
        /// As which life.
        incarnation: Incarnation,
    },
    /// What is derived of a node has changed.
    Status {
        /// Who.
        node: NodeId,
        /// Its name, once anybody said it.
        name: Option<NodeName>,
        /// What it is now.
        status: Status,
        /// How many are present.
        present: usize,
    },
    /// The node was not heard for the purge age, and its records are forgotten.
    Forgotten {
        /// Who.
        node: NodeId,
    },
    /// Another live process holds this node's name. This one publishes nothing until it is free.
    NameTaken,
    /// Another live process has this node's name. This one was there first and keeps it.
    NameContested {
        /// Who met it: a peer, a watcher that hears it, or this node itself.
        by: NodeId,
    },
    /// A record is new or newer; also one of our own.
    Record {
        /// Whose.
        owner: NodeId,
        /// Which.
        kind: u16,
    },
    /// A link is up, or replaced.
    Linked {
        /// To whom.
        peer: NodeId,
        /// The connection.
        link: LinkId,
    },
    /// The link to this peer is gone.
    Unlinked {
        /// To whom.
        peer: NodeId,
    },
    /// An order that this node carries out, or that was taken back.
    Ordered {
        /// Whose.
        owner: NodeId,
        /// Of which kind: [`skep_records::stamped::is_order`].
        kind: u16,
        /// Under which stamp; nothing where no flock with a master was ever seen here.
        stamp: Option<skep_managers::Stamp>,
        /// What is ordered, without the stamp before it; nothing takes it back.
        body: Option<Bytes>,
    },
    /// An order that this node refuses: it has seen a higher stamp, or one of another fork.
    OrderRefused {
        /// Whose.
        owner: NodeId,
        /// Of which kind.
        kind: u16,
        /// The order's.
        stamp: Option<skep_managers::Stamp>,
        /// The highest that was seen here.
        seen: Option<skep_managers::Stamp>,
    },
    /// What happened to a group's topology.
    Topology(skep_topology::adoption::Event),
    /// A peer sent something that was refused.
    Rejected {
        /// Who.
        peer: NodeId,
        /// Why.
        reason: String,
    },
}

/// The settings of all machines of a node.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Of the records.
    pub records: skep_records::Config,
    /// Of the membership.
    pub membership: skep_membership::Config,
    /// Of the flood; its groups are those of the node.
    pub flood: skep_flood::Config,
    /// Of what is measured.
    pub estimates: skep_estimates::Config,
    /// Of computed topologies.
    pub adoption: skep_topology::adoption::Config,
    /// Of the overlay.
    pub shape: Shape,
    /// Of the catalog.
    pub catalog: skep_catalog::Config,
    /// What this node may become among the managers.
    pub fit: crate::managed::Fit,
}

/// What a node must be given to start.
pub struct Birth {
    /// Who it is.
    pub me: Me,
    /// Seeds all chance of this node.
    pub seed: u64,
    /// The node's key.
    pub signer: Arc<dyn Signer>,
    /// How certificates and signatures are judged.
    pub verifier: Arc<dyn Verifier>,
    /// Who computes layouts: a [`skep_topology::LayoutCache`], or in the simulator one for all.
    pub layouts: Box<dyn LayoutSource + Send>,
    /// Records from the disk, each with its owner's age.
    pub records: Vec<(Bytes, Duration)>,
    /// Where other nodes were last reached.
    pub address_book: Vec<(NodeId, NodeName, Vec<SocketAddr>)>,
    /// What the update log holds.
    pub log: Vec<skep_flood::Restored>,
    /// The position after the log's last record.
    pub log_next: Position,
    /// The highest update of each origin that is known to have been purged.
    pub purged: Vec<skep_flood::PurgedMark>,
    /// The managers, as they were when what the disk holds was written.
    pub managers: Box<skep_managers::Managers>,
    /// The catalog, as it was shown last.
    pub catalog: skep_catalog::Catalog,
    /// The wall clock went back over the stop, or is unset: ages of what is on disk are unknown.
    pub clock_went_back: bool,
}

/// When a node has something to do, and why.
pub type Deadline = (Time, &'static str);
