//! What a node says of itself, of the others and of the links between them.

use serde::{Deserialize, Serialize};
use skep_base::{BlocName, GroupName, NetworkName, NodeName, WallTime};

use super::Text;

/// What one derives of a member; nobody declares it (BLOC-30, BLOC-39).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// A chain of live links leads to it.
    Present,
    /// It announced a restart, and the time that it asked for is not over.
    Restarting,
    /// No present watcher hears it, and it did not say good-bye.
    Silent,
    /// It said that it leaves.
    Left,
    /// Silent for so long that it is dialled rarely and counted no more.
    GivenUp,
}

impl Presence {
    /// The word for it, the same in every listing, log and document.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Restarting => "restarting",
            Self::Silent => "silent",
            Self::Left => "left",
            Self::GivenUp => "given-up",
        }
    }
}

impl std::fmt::Display for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// What an agent is doing with its own membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    /// Started, and has met nobody yet though it knows whom to look for.
    Joining,
    /// Takes part.
    Running,
    /// Another live process bears its name and was there first: this one publishes nothing.
    Duplicate,
    /// Told to stop; hands over what is in flight.
    Draining,
}

impl AgentState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Running => "running",
            Self::Duplicate => "duplicate",
            Self::Draining => "draining",
        }
    }
}

/// `GET /v1/status`: the agent, in one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The bloc that the certificate names.
    pub bloc: BlocName,
    /// The node that the certificate names.
    pub node: NodeName,
    /// The identity that follows from both.
    pub id: Text<skep_base::NodeId>,
    /// The network that the certificate or the configuration names.
    pub network: Option<NetworkName>,
    /// Roles in the certificate: `queen`, `princess`, `manager`, `operator`.
    pub roles: Vec<String>,
    /// The build.
    pub version: String,
    /// The newest protocol it speaks.
    pub protocol: u16,
    /// What its build is able to show.
    pub feature_level: u16,
    /// The feature level that all present members have.
    pub flock_feature_level: u16,
    /// Which life of the node this is.
    pub incarnation: u64,
    /// What it does now.
    pub state: AgentState,
    /// When this life began.
    pub started: WallTime,
    /// Milliseconds since then, by the monotonic clock.
    pub uptime_ms: u64,
    /// Where it listens and what it tells others to dial.
    pub addresses: Vec<String>,
    /// Members present, itself included.
    pub present: u32,
    /// Members known, itself included.
    pub known: u32,
    /// Name of the flock it is in now; changes with the membership (BLOC-11).
    pub flock: String,
    /// Links that are up.
    pub links: u32,
    /// Its certificate.
    pub certificate: Certificate,
    /// What it waits for.
    pub waits: Vec<Wait>,
    /// What is wrong and what to do about it.
    pub problems: Vec<Problem>,
}

/// Something that the agent waits for: everything that waits can say this much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Who waits, in a page about a flock; absent where it is the agent that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<NodeName>,
    /// For what, in words.
    pub what: String,
    /// Since when, in milliseconds before now.
    pub since_ms: u64,
    /// For how much longer in milliseconds; absent where nothing limits it.
    pub until_ms: Option<u64>,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What, naming the subject.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Since when, in milliseconds before now.
    pub since_ms: u64,
}

/// `GET /v1/cert`: the certificate that the agent shows to its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The bloc it names.
    pub bloc: BlocName,
    /// The node it names.
    pub node: NodeName,
    /// The network it names.
    pub network: Option<NetworkName>,
    /// The roles it names.
    pub roles: Vec<String>,
    /// BLAKE3 of its DER.
    pub fingerprint: Text<skep_base::Digest>,
    /// First moment at which it holds.
    pub not_before: WallTime,
    /// Last moment at which it holds.
    pub not_after: WallTime,
    /// When the agent asks for the next one.
    pub renew_at: WallTime,
    /// Milliseconds until it expires; negative when it has.
    pub expires_in_ms: i64,
}

/// One row of `GET /v1/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub node: NodeName,
    /// Whether it is the node that answers.
    pub me: bool,
    /// What is derived of it.
    pub presence: Presence,
    /// For how long that has been so, in milliseconds.
    pub since_ms: u64,
    /// Its network.
    pub network: Option<NetworkName>,
    /// The roles its certificate names.
    pub roles: Vec<String>,
    /// Until when the certificate holds with which it signs what it says; absent where none is
    /// known yet.
    pub certificate_until: Option<WallTime>,
    /// Its newest known life.
    pub incarnation: u64,
    /// Its build.
    pub version: String,
    /// Where it says it can be dialled.
    pub addresses: Vec<String>,
    /// Who watches it.
    pub watchers: Vec<NodeName>,
    /// Smoothed round trip in microseconds, where a link is up.
    pub rtt_us: Option<u32>,
}

/// How `GET /v1/flock` is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadFlock {
    /// The flock's master is asked for what it alone knows; without an answer of its this node says
    /// what it knows itself, a moment later.
    pub ask_master: bool,
}

/// `GET /v1/flock`: who can reach whom now (BLOC-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flock {
    /// Transient name; two flocks of a bloc never have the same (BLOC-11).
    pub name: String,
    /// Digest over the present members and their lives: equal wherever the view is equal.
    pub digest: Text<skep_base::Digest>,
    /// Present members, in order of name.
    pub present: Vec<NodeName>,
    /// Members that are known and not present.
    pub absent: Vec<(NodeName, Presence)>,
    /// Whether all present members hold the digest above, as far as the links tell.
    pub agreed: bool,
    /// The overlay's edges among present members.
    pub edges: Vec<(NodeName, NodeName)>,
    /// What the overlay was made from: `complete`, `hash` or `computed`.
    pub overlay: String,
    /// How many nodes must fail before the overlay falls apart.
    pub connectivity: u32,
    /// Who manages it.
    pub management: super::Management,
}

/// Why a link is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// An edge of the overlay.
    Neighbour,
    /// One of the two ends watches the other.
    Watch,
    /// Kept for an office, such as the managers'.
    Pinned,
    /// Opened on demand and closed when idle.
    Errand,
}

impl LinkKind {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Neighbour => "neighbour",
            Self::Watch => "watch",
            Self::Pinned => "pinned",
            Self::Errand => "errand",
        }
    }
}

/// One row of `GET /v1/links`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The node at the other end.
    pub peer: NodeName,
    /// Why it is kept.
    pub kind: LinkKind,
    /// The other end's socket address.
    pub remote: String,
    /// Whether we dialled (else we accepted).
    pub dialled: bool,
    /// How long it has been up, in milliseconds.
    pub up_ms: u64,
    /// Whether the bulk connection is open beside control.
    pub bulk: bool,
    /// Smoothed round trip in microseconds, from the kernel.
    pub rtt_us: Option<u32>,
    /// Delivery rate in bytes a second, from the kernel.
    pub rate: Option<u64>,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes waiting to be sent.
    pub queued: u64,
}

/// `GET /v1/health`: whether the agent can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// True where nothing below is false.
    pub ok: bool,
    /// What it does now.
    pub state: AgentState,
    /// One line per check.
    pub checks: Vec<Check>,
}

/// One check of the agent on itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `certificate`, `name`, `disk`, `clock`, `flock`, `export`.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// Why not, or the figure that shows it.
    pub detail: String,
}

/// What a [`Metric`] does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One row of `GET /v1/metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// Such as `frames_sent`.
    pub name: String,
    /// Such as `lane` = `control`.
    pub labels: Vec<(String, String)>,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// Such as `bytes`; empty for a plain number.
    pub unit: String,
    /// What is counted.
    pub help: String,
    /// The figure.
    pub value: u64,
}

/// `GET /v1/ca`: the certificate authority, where this node is told to serve it (BLOC-37).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaStatus {
    /// The bloc it signs for.
    pub bloc: BlocName,
    /// BLAKE3 of the CA certificate's DER.
    pub fingerprint: Text<skep_base::Digest>,
    /// Last moment at which the CA certificate holds.
    pub not_after: WallTime,
    /// Nodes whose newest certificate holds.
    pub nodes: u64,
    /// Requests granted since the agent started; the same request again counts again.
    pub issued: u64,
    /// Requests refused since the agent started.
    pub refused: u64,
    /// Invitations neither used nor expired.
    pub invitations: u32,
    /// The newest founding token that it made, if it made one.
    #[serde(default)]
    pub founding: Option<Founding>,
}

/// A founding token: by it the bloc's flock became strong, or will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// Its founding number: 1 for the first.
    pub number: u64,
    /// For which node it was made.
    pub node: NodeName,
    /// When.
    pub at: WallTime,
    /// Until when it can be used, if it was not used before.
    pub until: WallTime,
}

/// Body of `POST /v1/join-address`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinAddress {
    /// `address:port` or `name:port` of nodes of the bloc, at most [`super::MAX_JOIN_ADDRESSES`].
    pub addresses: Vec<String>,
}

/// Body of `POST /v1/shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// True: the node leaves for good and says so. False: it announces a restart.
    pub leave: bool,
}

/// What was asked for is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What happens now, in words.
    pub message: String,
}

/// One row of `GET /v1/groups` and the whole of `GET /v1/groups/{group}` (FLOOD-5, FLOOD-6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Whether the answering node is in it.
    pub joined: bool,
    /// Its members and what is derived of each.
    pub members: Vec<(NodeName, Presence)>,
    /// With whom the answering node exchanges its updates.
    pub neighbours: Vec<NodeName>,
    /// Updates in the answering node's log.
    pub updates: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Age of the oldest, in milliseconds.
    pub oldest_ms: u64,
    /// Updates known of and still missing.
    pub missing: u64,
    /// The node's subscribers to it.
    pub subscribers: Vec<Subscriber>,
}

/// Who reads a group's log on this node, and how far he is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// The name he gave.
    pub name: String,
    /// Up to where he committed.
    pub committed: super::Cursor,
    /// Updates after that.
    pub behind: u64,
}
