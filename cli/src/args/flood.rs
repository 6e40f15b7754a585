//! Arguments of the verbs that publish and read updates, as any application does.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use skep_base::{ByteSize, GroupName};
use skep_client::{Options, Server, Start};

use super::{Json, Socket};

/// Which agent, over its client port.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// Where the agent serves clients: unix:/PATH, HOST:PORT or tls:HOST:PORT; its unix socket
    /// beside --socket where this is left out
    #[arg(long, value_name = "SERVER", env = "SKEP_CLIENT", hide_env_values = true)]
    pub connect: Option<Server>,
    /// The directory with the certificate to show over TLS
    #[arg(long, value_name = "DIR")]
    pub identity: Option<PathBuf>,
    /// Where its control socket is, to find the other beside it.
    #[command(flatten)]
    pub socket: Socket,
}

impl Connect {
    /// How to connect; says at once that nobody is there.
    #[must_use]
    pub fn options(&self) -> Options {
        let beside = || Server::Unix(super::client_socket(&self.socket.socket));
        self.options_for(self.connect.clone().unwrap_or_else(beside))
    }

    /// The same to another agent.
    #[must_use]
    pub fn options_for(&self, server: Server) -> Options {
        let options = Options::to(server).first_patience(Duration::ZERO);
        match &self.identity {
            Some(directory) => options.identity(directory),
            None => options,
        }
    }
}

/// `skep flood send`
#[derive(Clone, Debug, Args)]
pub struct FloodSend {
    /// Publish this file's bytes; standard input where it is - or left out
    #[arg(value_name = "FILE", conflicts_with = "text")]
    pub file: Option<PathBuf>,
    /// To which group; may be given several times. Every group of the site where it is left out
    #[arg(long, short, value_name = "GROUP")]
    pub group: Vec<GroupName>,
    /// Publish this text instead of a file
    #[arg(long, short, value_name = "TEXT")]
    pub text: Option<String>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub connect: Connect,
}

/// `skep flood tail`
#[derive(Clone, Debug, Args)]
pub struct FloodTail {
    /// Of which group
    #[arg(long, short, value_name = "GROUP", default_value = GroupName::ALL)]
    pub group: GroupName,
    /// Read under this name: acknowledge what was printed, and read on from there the next time
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Begin with what comes from "now" on, with the "first" that is kept, or after a cursor
    #[arg(long, value_name = "CURSOR", value_parser = start)]
    pub from: Option<Start>,
    /// Stop when everything that is there was printed, instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
    /// Stop after COUNT updates
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub count: Option<u64>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub connect: Connect,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "now" => Ok(Start::Now),
        "first" => Ok(Start::First),
        cursor => cursor
            .parse()
            .map(Start::After)
            .map_err(|_| "expected now, first or the number of a cursor".to_owned()),
    }
}

/// `skep flood stats`
#[derive(Clone, Debug, Args)]
pub struct FloodStats {
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub connect: Connect,
}

/// `skep flood bench`
#[derive(Clone, Debug, Args)]
pub struct FloodBench {
    /// To which group
    #[arg(long, short, value_name = "GROUP", default_value = GroupName::ALL)]
    pub group: GroupName,
    /// Clients that publish at once, each over a connection of its own
    #[arg(long, short, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub publishers: u32,
    /// Updates in all
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub count: u64,
    /// Bytes of each, at least 32
    #[arg(long, short, value_name = "BYTES", default_value = "256 B")]
    pub size: ByteSize,
    /// Updates a second that are wanted in all; as fast as it goes where it is left out
    #[arg(long, short, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Publish over these agents in turn, instead of one; may be given several times
    #[arg(long, value_name = "SERVER")]
    pub at: Vec<Server>,
    /// Subscribe to the group over this agent, and measure until the last update has come; may be
    /// given several times
    #[arg(long, value_name = "SERVER")]
    pub listen: Vec<Server>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub connect: Connect,
}
