//! What may happen to a membership, and what it wants done.

use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;
use skep_base::{Incarnation, NodeId, NodeName, Nonce};
use skep_wire::Address;

use crate::{Heartbeat, NodeFacts, Status, Watch};

/// One control-lane connection, named by whoever made it. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One attempt to dial, named by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// Who is at the other end of a new link: what its certificate and its hello say.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From the certificate.
    pub id: NodeId,
    /// From the certificate.
    pub name: NodeName,
    /// Which life of it this is.
    pub incarnation: Incarnation,
    /// Which process of that name this is.
    pub nonce: Nonce,
    /// Where it says it listens.
    pub addresses: Vec<Address>,
    /// The attempt of ours that made the link; nothing when the peer dialled.
    pub dialled: Option<DialId>,
    /// The other end's socket.
    pub remote: SocketAddr,
}

/// Why a link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// The peer's end was closed or reset: its process may be gone.
    Closed,
    /// Nothing came, or nothing was acknowledged, for too long.
    TimedOut,
    /// The peer said why it closes.
    Goodbye(Goodbye),
    /// We closed it.
    Local,
    /// The peer broke the protocol, or the link's queue overflowed.
    Fault,
}

/// Why a node closes a link, as it tells its peer: a word, the text of a frame of kind
/// [`skep_wire::kind::GOODBYE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goodbye {
    /// Neither end wants the edge any longer.
    Unneeded,
    /// The two ends were linked twice; the other link stays.
    Duplicate,
    /// Another live process holds your name.
    NameTaken,
    /// The node stops, or leaves.
    Stopping,
    /// What the peer sent broke a rule.
    Protocol,
}

impl Goodbye {
    const ALL: [Self; 5] =
        [Self::Unneeded, Self::Duplicate, Self::NameTaken, Self::Stopping, Self::Protocol];

    /// The word that travels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unneeded => "unneeded",
            Self::Duplicate => "duplicate",
            Self::NameTaken => "name-taken",
            Self::Stopping => "stopping",
            Self::Protocol => "protocol",
        }
    }

    /// The reason that this word names. A newer peer may have others: its link is gone all the
    /// same.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|goodbye| goodbye.as_str() == text)
    }
}

/// Why dialling came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DialFailure {
    /// Somebody is at that address, and nobody listens: the process is gone.
    Refused,
    /// No answer, or none in time.
    Silent,
    /// The address leads to another node, or to one that is not of our bloc.
    Stranger,
    /// It was us.
    Ourselves,
}

/// Where an address came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `join = [..]`, or the address file: dialled without end.
    Config,
    /// An operator's `skep join-address`: dialled without end, until the node stops.
    Operator,
    /// Multicast on the local link: dialled while it is heard.
    Multicast,
    /// The beacon: dialled while it lists it.
    Beacon,
}

/// What may happen to a membership.
#[derive(Clone, Debug)]
pub enum Input {
    /// A link is up: certificates and hellos are exchanged and agree.
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
    /// Anything at all came over a link.
    Heard {
        /// Which.
        link: LinkId,
    },
    /// A heartbeat came.
    Heartbeat {
        /// Over which link.
        link: LinkId,
        /// What it says; nothing where that is the same as the one before it said.
        heartbeat: Option<Heartbeat>,
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
    /// A node was reached there in an earlier life of this one: from the address book.
    Remembered {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// A member's own record: new, or newer.
    Facts {
        /// Who.
        node: NodeId,
        /// Which life says so.
        incarnation: Incarnation,
        /// What it says.
        facts: NodeFacts,
    },
    /// A member's watch record: new, or newer.
    Watch {
        /// Who watches.
        node: NodeId,
        /// In which of its lives: what an earlier one heard counts for nothing.
        incarnation: Incarnation,
        /// Whom it hears.
        watch: Watch,
    },
    /// A member's records were forgotten.
    Forgotten {
        /// Who.
        node: NodeId,
    },
    /// The layout of the members last given out.
    Layout(Layout),
    /// The records of this node and of a peer were compared, and both have everything.
    Synced,
    /// A record in this node's name came that this life did not make.
    ForeignSelf {
        /// The life that made it.
        incarnation: Incarnation,
        /// What it says, if it is that life's own record.
        facts: Option<NodeFacts>,
    },
    /// This node stops or leaves: nothing is dialled any more, and no link is taken.
    Stopping,
    /// All links are closed: what was to be said is said.
    HangUp,
}

/// What follows for this node from who is present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// A digest of the members: two nodes with the same one see the same members.
    pub digest: u64,
    /// Linked to me in the overlay.
    pub neighbours: Vec<NodeId>,
    /// Whom I watch besides, over links of their own.
    pub watched: Vec<NodeId>,
    /// Absent members that I, of all present ones, dial eagerly. Sorted.
    pub chased: Vec<NodeId>,
}

/// What a membership wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Dial these addresses until one leads to `expect`, or to any node of the bloc.
    Dial {
        /// How the answer names the attempt.
        dial: DialId,
        /// Who should be there, if that is known.
        expect: Option<NodeId>,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// Send a heartbeat.
    Heartbeat {
        /// Over which link.
        link: LinkId,
        /// What it says; nothing where that is the same as the one before it said.
        heartbeat: Option<Heartbeat>,
    },
    /// Close a link, with a goodbye.
    Close {
        /// Which.
        link: LinkId,
        /// What the peer is told.
        why: Goodbye,
    },
    /// The one link to this peer is now this one. Comes with each new or replaced link.
    Linked {
        /// Who.
        peer: NodeId,
        /// Which.
        link: LinkId,
    },
    /// There is no link to this peer any more.
    Unlinked {
        /// Who.
        peer: NodeId,
    },
    /// Whether facts and updates are flooded over the link to this peer.
    Flood {
        /// Over which link.
        peer: NodeId,
        /// Whether they are.
        on: bool,
    },
    /// Publish this watch record.
    Publish {
        /// Its body.
        watch: Bytes,
    },
    /// Who is present has changed, or who is absent: [`Input::Layout`] is to follow.
    Members {
        /// Sorted, this node among them.
        present: Vec<NodeId>,
        /// Members to find again, sorted.
        absent: Vec<NodeId>,
    },
    /// What is derived of a member has changed.
    Status {
        /// Who.
        node: NodeId,
        /// What it is now.
        status: Status,
    },
    /// Publish from now on as this life.
    Begin {
        /// Greater than any that was stored or seen.
        incarnation: Incarnation,
    },
    /// Another live process holds this node's name: nothing may be published until
    /// [`Output::Begin`].
    NameTaken,
    /// Another live process has this node's name, which this node keeps: it was there first. Said
    /// once for as long as that goes on.
    NameContested {
        /// Who met it: a peer, a watcher that hears it, or this node itself.
        by: NodeId,
    },
    /// A node was reached at these addresses: worth keeping in the address book.
    Reached {
        /// Who.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
}
