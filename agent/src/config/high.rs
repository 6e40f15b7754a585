//! The configuration in force: typed, complete, checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use skep_base::{ByteSize, GroupName, NodeName};
use skep_identity::BeaconPublicKey;
use skep_transport::discovery::{JoinAddress, MulticastConfig};

use super::origin::{self, Setting};

pub use super::low::Format;
pub use super::values::{Command, ExportFormat, Location, MAX_COMMAND_BYTES, Who, WhoError};

/// Groups that one node can be in.
pub const MAX_GROUPS: usize = 256;
/// Nodes that can be known beforehand.
pub const MAX_PEERS: usize = 4096;
/// Disjoint paths that may be asked for: every one more costs every node links.
pub const MAX_CONNECTIVITY: usize = 8;

/// Everything that an agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node keeps what it must not forget.
    pub node: Node,
    /// Where it listens.
    pub listen: Listen,
    /// How it finds others.
    pub join: Join,
    /// Nodes that are known beforehand. Their addresses are among [`Join::addresses`].
    pub peers: BTreeMap<NodeName, Peer>,
    /// The groups that this node is in, `all` among them, with all that holds for each.
    pub groups: BTreeMap<GroupName, Group>,
    /// Who is watched how closely, and who is dialled how often.
    pub membership: skep_membership::Config,
    /// How facts are kept and repaired.
    pub records: skep_records::Config,
    /// How updates are kept and repaired, and the groups that the node is in.
    pub flood: skep_flood::Config,
    /// How long links wait and how much they hold.
    pub transport: skep_transport::Config,
    /// The agent's API.
    pub control: skep_control::Config,
    /// The client protocol.
    pub client: Client,
    /// The certificate authority.
    pub ca: Ca,
    /// Roll-outs.
    pub wave: Wave,
    /// Who may manage the flock.
    pub managers: Managers,
    /// Commands that learn what happens to the flock.
    pub hooks: super::telling::Hooks,
    /// Who is told of incidents.
    pub notify: super::telling::Notify,
    /// What is logged.
    pub log: Log,
    /// For tests only, see [`super::TEST_CLOCK_OFFSET`].
    pub test_clock_offset_ms: i64,
    /// Each setting with where it comes from, in the reference's order.
    pub settings: Vec<Setting>,
}

/// Where the node keeps what it must not forget.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Records, update log, chunks, address book.
    pub state_dir: PathBuf,
    /// Key and certificates.
    pub identity_dir: PathBuf,
    /// How long an expired certificate still links, for renewal and membership.
    pub expiry_grace: Duration,
    /// Where on the globe it is, for estimates of what was never measured (FLOOD-16).
    pub location: Option<Location>,
}

/// Where the node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// At least one.
    pub addresses: Vec<SocketAddr>,
    /// What others are told to dial; where it is empty, what the interfaces say.
    pub advertise: Vec<SocketAddr>,
}

/// How the node finds others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Nodes that are usually there.
    pub addresses: Vec<JoinAddress>,
    /// A file with more of them, one a line, read again when it changes.
    pub address_file: Option<PathBuf>,
    /// On the local link, unless it is switched off.
    pub multicast: Option<MulticastConfig>,
    /// By a third party.
    pub beacon: Option<Beacon>,
}

/// A third party that tells nodes of one another's addresses (BLOC-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Where it is.
    pub address: JoinAddress,
    /// Its public key.
    pub key: BeaconPublicKey,
}

/// A node that is known before it was ever met: floodd's other sites.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    /// Where it can be dialled.
    pub addresses: Vec<JoinAddress>,
    /// Where it serves the client protocol: a hint for who asks for the nearest (FLOOD-11).
    pub client: Option<JoinAddress>,
    /// Where on the globe it is.
    pub location: Option<Location>,
}

/// What this node wants of a group that it is in (FLOOD-22..31).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Disjoint paths between any two members, 1 to [`MAX_CONNECTIVITY`] (FLOOD-23). Only what the
    /// topology master has counts.
    pub connectivity: usize,
    /// How often the round trip to one member drawn at random is measured (FLOOD-28).
    pub ping_period: Duration,
    /// How often the bandwidth to one member drawn at random is (FLOOD-22).
    pub bandwidth_period: Duration,
    /// How often this node's estimates may be published anew (FLOOD-24).
    pub estimates_period: Duration,
    /// How often the topology master computes the overlay anew (FLOOD-31).
    pub update_period: Duration,
    /// Who computes it; nobody is named where the flock finds one itself (FLOOD-27).
    pub topology_master: Option<NodeName>,
    /// What computes it in place of the built-in way (FLOOD-30).
    pub topology_generator: Option<Command>,
    /// How long that may take.
    pub generator_time_limit: Duration,
    /// Members that are known beforehand (FLOOD-29). Others join by themselves.
    pub members: Vec<NodeName>,
    /// Where its updates go on this host; nowhere where there is no command (FLOOD-34).
    pub export: Option<Export>,
}

/// A command that gets the updates of a group (FLOOD-34, FLOOD-41).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// What is run.
    pub command: Command,
    /// How a batch is laid out on its standard input.
    pub format: ExportFormat,
    /// As whom, by name or number; as the agent's own user where nobody is named.
    pub user: Option<String>,
    /// How long updates are gathered before a batch that is not full is handed over.
    pub delay: Duration,
    /// How long it may take.
    pub time_limit: Duration,
    /// Updates in one batch at most.
    pub batch_updates: usize,
    /// Bytes of their bodies at most, unless one alone is longer.
    pub batch_bytes: ByteSize,
    /// Memory that each of its processes may take.
    pub memory_max: ByteSize,
    /// How long after its first failure a batch is tried again; longer after each more.
    pub retry_first: Duration,
    /// The longest such wait.
    pub retry_last: Duration,
}

/// The client protocol (FLOOD-4..14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The unix socket where it is served to this host.
    pub socket: PathBuf,
    /// Whose members may connect there, besides root and the agent's own user.
    pub group: String,
    /// Where it is served in the clear. May be empty.
    pub listen: Vec<SocketAddr>,
    /// Where it is served over TLS, to whoever has a certificate of the bloc. May be empty.
    pub tls: Vec<SocketAddr>,
    /// Who may end the agent by `exit` (FLOOD-13).
    pub exit_allowed: Vec<Who>,
    /// Clients at one time.
    pub clients_max: usize,
    /// Bytes of updates that may be in memory on their way to the log.
    pub memory_max: ByteSize,
    /// Bytes of long updates that may be in files while they come in.
    pub spool_max: ByteSize,
    /// Bytes of one line at most.
    pub line_max: usize,
    /// A client that says nothing for so long is let go.
    pub idle_timeout: Duration,
}

/// The certificate authority (BLOC-37).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ca {
    /// Whether this node answers joins and renewals.
    pub serve: bool,
    /// Where the CA's key and ledger are.
    pub dir: PathBuf,
    /// How long the certificates that it signs hold.
    pub life: Duration,
}

/// Roll-outs on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// Whether it hands chunks to others (DLIF-22).
    pub serve: bool,
    /// Whether it applies waves as an ordinary user: what only root can set is listed, not set.
    pub as_user: bool,
    /// Where the paths of waves begin on this host: `/`, but where several nodes share one.
    pub root: PathBuf,
    /// Bytes a second that it sends at most; no bound where none.
    pub send_rate: Option<ByteSize>,
    /// Bytes a second that it fetches at most; no bound where none.
    pub fetch_rate: Option<ByteSize>,
    /// Versions of each image that are kept beside those applied or rolled out; all where 0.
    pub keep_versions: u32,
}

/// Who may manage the flock, and with which timers (DVM-5..22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managers {
    /// What this node may become.
    pub eligible: skep_managers::Eligibility,
    /// Only with the role `manager` in its certificate.
    pub by_certificate: bool,
    /// What it has to spare, 0 to 1000; measured where none.
    pub resources: Option<u16>,
    /// How long what is waited for.
    pub timers: skep_managers::Config,
    /// Whether new waves start in a part of the flock.
    pub split: crate::split::Split,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or filter directives of `tracing`.
    pub level: String,
    /// How lines look.
    pub format: Format,
}

impl Config {
    /// The configuration in force as a file that says the same.
    #[must_use]
    pub fn show(&self, origins: bool) -> String {
        origin::show(&self.settings, origins)
    }
}
