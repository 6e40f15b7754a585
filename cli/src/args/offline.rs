//! Arguments of the verbs that need no agent, or are one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use skep_base::{BlocName, ImageName, NetworkName, NodeName};

use super::Json;
use crate::human;

/// Which configuration.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigFile {
    /// The configuration [default: /etc/skep/skep.toml where it exists, else built-in defaults]
    #[arg(long, value_name = "FILE", env = "SKEP_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

/// `skep agent`, `skep ca serve`
#[derive(Clone, Debug, Args)]
pub struct AgentArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Run the site of this node's name from a configuration of floodd; it stands over --config
    #[arg(long, value_name = "FILE")]
    pub floodd: Option<PathBuf>,
    /// Dial this node besides those of the configuration; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = check_address)]
    pub join: Vec<String>,
    /// Ask this beacon for nodes without a common seed, instead of the configuration's
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = check_address, requires = "beacon_key")]
    pub beacon: Option<String>,
    /// The beacon's public key, as `skep beacon serve` prints it
    #[arg(long, value_name = "KEY", requires = "beacon")]
    pub beacon_key: Option<String>,
}

/// `skep config check`
#[derive(Clone, Debug, Args)]
pub struct ConfigCheck {
    /// Which file
    #[arg(value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    file: PathBuf,
    /// The same, as the commands name it that use a configuration
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
}

impl ConfigCheck {
    /// The configuration to be checked, however it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(&self.file)
    }
}

/// `skep config import`
#[derive(Clone, Debug, Args)]
pub struct ConfigImport {
    /// The configuration of floodd; one file may define many sites
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// For which of its sites [default: this node's name, else the one on this host]
    #[arg(long, value_name = "NAME")]
    pub site: Option<NodeName>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// `skep config show`
#[derive(Clone, Debug, Args)]
pub struct ConfigShow {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// With this configuration of floodd over it
    #[arg(long, value_name = "FILE")]
    pub floodd: Option<PathBuf>,
    /// Say of each setting where it comes from: default, file and line, environment, flag
    #[arg(long)]
    pub origin: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
}

/// Where the certificate authority is.
#[derive(Clone, Debug, Args)]
pub struct CaDirectory {
    /// The CA's directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep/ca")]
    pub dir: PathBuf,
}

/// `skep ca init`
#[derive(Clone, Debug, Args)]
pub struct CaInit {
    /// The bloc: the trust domain; in every certificate that this CA will issue
    #[arg(long)]
    pub bloc: BlocName,
    /// Where to put it.
    #[command(flatten)]
    pub dir: CaDirectory,
}

/// A role in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// May start waves of images that it signs
    Queen,
    /// Brings images into its network
    Princess,
    /// May become master or backup
    Manager,
    /// A person or program that operates the bloc from afar
    Operator,
}

/// `skep ca issue`
#[derive(Clone, Debug, Args)]
pub struct CaIssue {
    /// The node's name
    pub node: NodeName,
    /// The network it is in
    #[arg(long)]
    pub network: Option<NetworkName>,
    /// A role; may be given several times
    #[arg(long, value_enum)]
    pub role: Vec<RoleArg>,
    /// The directory for the key and the certificates [default: ./NODE]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How long the certificate holds: 10s to 398d [default: 30d]
    #[arg(long, visible_alias = "life", value_name = "SPAN", value_parser = human::parse_span)]
    pub valid: Option<Duration>,
    /// The node has a certificate, and its machine is being replaced
    #[arg(long)]
    pub replace: bool,
    /// Which CA.
    #[command(flatten)]
    pub dir: CaDirectory,
}

/// `skep ca invite`
#[derive(Clone, Debug, Args)]
pub struct CaInvite {
    /// A node that serves the CA, and that the new host can dial; may be given several times
    #[arg(long, required = true, value_name = "ADDRESS:PORT", value_parser = check_address)]
    pub address: Vec<String>,
    /// Only a node of this name may use it
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// The network that its certificate will name
    #[arg(long)]
    pub network: Option<NetworkName>,
    /// A role that its certificate will name; may be given several times
    #[arg(long, value_enum)]
    pub role: Vec<RoleArg>,
    /// How long the token can be used
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = human::parse_span)]
    pub expires: Duration,
    /// Which CA.
    #[command(flatten)]
    pub dir: CaDirectory,
}

/// `skep ca refound`
#[derive(Clone, Debug, Args)]
pub struct CaRefound {
    /// The node that gets the token: one that runs, in the part of the flock that goes on
    pub node: NodeName,
    /// How long the token can be used: 1min to 30d
    #[arg(long, value_name = "SPAN", default_value = "7d", value_parser = human::parse_span)]
    pub valid: Duration,
    /// The directory for the token [default: ./NODE]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Yes: do not ask
    #[arg(long)]
    pub yes: bool,
    /// Which CA.
    #[command(flatten)]
    pub dir: CaDirectory,
}

/// `skep join`
#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// The token, as `skep ca invite` printed it; `-` reads it from standard input
    pub token: String,
    /// This node's name [default: what the token says, else the host name]
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// Ask this node instead of those in the token; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = check_address)]
    pub address: Vec<String>,
    /// The directory for the key and the certificates [default: as configured]
    #[arg(long, value_name = "DIR")]
    pub identity: Option<PathBuf>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// `skep cert show`
#[derive(Clone, Debug, Args)]
pub struct CertShow {
    /// The directory with the key and the certificates [default: as configured]
    #[arg(long, value_name = "DIR")]
    pub identity: Option<PathBuf>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
}

/// `skep image build`
#[derive(Clone, Debug, Args)]
pub struct ImageBuild {
    /// The tree or file to take
    pub path: PathBuf,
    /// The image's name
    #[arg(long)]
    pub name: ImageName,
    /// Leave out what cannot be read or changes while it is read, and list it, instead of failing
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
}

/// `skep image verify`
#[derive(Clone, Debug, Args)]
pub struct ImageVerify {
    /// Which image
    pub image: ImageName,
    /// The tree to compare [default: only the chunks in the store are checked]
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// Which version, by its first digits; the newest where it is left out
    #[arg(long, value_name = "DIGITS")]
    pub version: Option<String>,
    /// Do not compare what only root can set
    #[arg(long)]
    pub as_user: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
}

/// `skep beacon serve`
#[derive(Clone, Debug, Args)]
pub struct BeaconArgs {
    /// Where to listen; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:7402", value_parser = check_own)]
    pub listen: Vec<SocketAddr>,
    /// The file with the beacon's private key; made where it is missing
    #[arg(long, value_name = "FILE", default_value = "/var/lib/skep/beacon.key")]
    pub key: PathBuf,
}

/// `skep demo`
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many nodes
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(3..=64))]
    pub nodes: u16,
    /// The tree to roll out [default: the repository's own, where there is one]
    #[arg(long, value_name = "DIR")]
    pub tree: Option<PathBuf>,
    /// Keep the directory with all state and logs, and say where it is
    #[arg(long)]
    pub keep: bool,
}

/// An address of this host.
fn check_own(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an address of this host and a port, such as 0.0.0.0:7402 or [::]:7402".to_owned()
    })
}

/// Checks that `text` looks like `address:port` or `name:port`; names are looked up by the agent.
///
/// # Errors
/// What was expected.
pub fn check_address(text: &str) -> Result<String, String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let expected = "expected address:port or name:port, such as 192.0.2.7:7400, \
                    [2001:db8::7]:7400 or seed.example:7400";
    let (name, port) = text.rsplit_once(':').ok_or(expected)?;
    let port: u16 = port.parse().map_err(|_| expected)?;
    if port == 0 || NodeName::new(name).is_err() {
        return Err(expected.to_owned());
    }
    Ok(text.to_owned())
}
