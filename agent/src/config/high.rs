//! The configuration in force: typed, complete, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use skep_base::ByteSize;
use skep_identity::BeaconPublicKey;
use skep_transport::discovery::{JoinAddress, MulticastConfig};

use super::origin::{self, Setting};

pub use super::low::Format;

/// Everything that an agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node keeps what it must not forget.
    pub node: Node,
    /// Where it listens.
    pub listen: Listen,
    /// How it finds others.
    pub join: Join,
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
    /// The certificate authority.
    pub ca: Ca,
    /// Roll-outs.
    pub wave: Wave,
    /// What is logged.
    pub log: Log,
    /// For tests only, see [`super::TEST_CLOCK_OFFSET`].
    pub test_clock_offset_ms: i64,
    /// Each setting with where it comes from, in the reference's order.
    pub settings: Vec<Setting>,
}

/// Where the node keeps what it must not forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Records, update log, chunks, address book.
    pub state_dir: PathBuf,
    /// Key and certificates.
    pub identity_dir: PathBuf,
    /// How long an expired certificate still links, for renewal and membership.
    pub expiry_grace: Duration,
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
