//! Arguments of the verbs that ask an agent.

use std::path::PathBuf;

use clap::Args;
use skep_base::{GroupName, ImageName, NodeName};

use super::Json;

/// Which agent.
#[derive(Clone, Debug, Args)]
pub struct Socket {
    /// The agent's control socket
    #[arg(long, value_name = "PATH", env = "SKEP_SOCKET", default_value = super::DEFAULT_SOCKET)]
    #[arg(hide_env_values = true)]
    pub socket: PathBuf,
}

/// A listing without arguments of its own.
#[derive(Clone, Debug, Args)]
pub struct Listing {
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep group`
#[derive(Clone, Debug, Args)]
pub struct GroupArgs {
    /// Which group; all of them where it is left out
    pub group: Option<GroupName>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep topology`
#[derive(Clone, Debug, Args)]
pub struct TopologyArgs {
    /// Of which group
    pub group: GroupName,
    /// Print it for Graphviz
    #[arg(long, conflicts_with_all = ["json", "svg"])]
    pub dot: bool,
    /// Print a picture
    #[arg(long, conflicts_with = "json")]
    pub svg: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep rtt`
#[derive(Clone, Debug, Args)]
pub struct RttArgs {
    /// One node
    pub from: NodeName,
    /// The other
    pub to: NodeName,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep events`
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// What happened to the flock, as its masters told it, in place of what happened at this node
    #[arg(long)]
    pub flock: bool,
    /// Go on printing events as they happen, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Only events with a greater number than this
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<u64>,
    /// Only the last COUNT of the events that the agent still has
    #[arg(long, short = 'n', value_name = "COUNT", conflicts_with = "after")]
    pub last: Option<u32>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep image show`
#[derive(Clone, Debug, Args)]
pub struct ImageShow {
    /// Which image
    pub image: ImageName,
    /// Which version, by its first digits; the newest where it is left out
    #[arg(long, value_name = "DIGITS")]
    pub version: Option<String>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep image prune`
#[derive(Clone, Debug, Args)]
pub struct ImagePrune {
    /// Keep so many versions of each image beside those applied or rolled out; 0 keeps all
    /// [default: as the agent is configured]
    #[arg(long, value_name = "COUNT")]
    pub keep: Option<u32>,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep wave start`
#[derive(Clone, Debug, Args)]
pub struct WaveStart {
    /// Which image
    pub image: ImageName,
    /// To which group; may be given several times
    #[arg(long, value_name = "GROUP", required = true)]
    pub to: Vec<GroupName>,
    /// The absolute path that becomes the tree on every node
    #[arg(long, value_name = "PATH")]
    pub at: String,
    /// Which version, by its first digits; the newest where it is left out
    #[arg(long, value_name = "DIGITS")]
    pub version: Option<String>,
    /// Set what an ordinary user can set, and list the rest instead of failing for it
    #[arg(long)]
    pub as_user: bool,
    /// Apply it again where it was applied already
    #[arg(long)]
    pub again: bool,
    /// Stay and watch until every node has it
    #[arg(long)]
    pub watch: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep wave status`
#[derive(Clone, Debug, Args)]
pub struct WaveStatus {
    /// Which wave, node by node; a list of all where it is left out
    pub wave: Option<String>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep wave watch`
#[derive(Clone, Debug, Args)]
pub struct WaveWatch {
    /// Which wave; the newest where it is left out
    pub wave: Option<String>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep join-address`
#[derive(Clone, Debug, Args)]
pub struct JoinAddressArgs {
    /// Nodes of the bloc, as address:port or name:port
    #[arg(required = true, value_name = "ADDRESS:PORT", value_parser = crate::args::check_address)]
    pub addresses: Vec<String>,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep leave`
#[derive(Clone, Debug, Args)]
pub struct LeaveArgs {
    /// Yes: nobody waits for this node any more until its agent is started again
    #[arg(long, required = true)]
    pub yes: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}
