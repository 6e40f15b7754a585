//! What an application may choose.

use std::path::PathBuf;
use std::time::Duration;

use skep_base::Trail;

use crate::server::Server;

/// Where an export command is told what it must name when it publishes.
const TRAIL: &str = "SKEP_TRAIL";

/// How long a client tries before it gives up, unless it is chosen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest update that is handed over whole, unless it is chosen.
const WHOLE_BYTES: u64 = 8 << 20;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Agents, tried in this order. The first that is reached is used as long as it can be reached.
    pub servers: Vec<Server>,
    /// The directory with a certificate of the bloc, its key and the CA's certificate: wanted for
    /// TLS only.
    pub identity: Option<PathBuf>,
    /// How long a connection that broke is tried again before whatever waits for it fails. Longer
    /// than an agent takes to restart.
    pub patience: Duration,
    /// How long the first connection is tried: a command for a person should say at once that
    /// nobody is there.
    pub first_patience: Duration,
    /// Longest update that is handed over whole, in memory. A longer one is handed over as
    /// [`crate::Event::Long`], and its body in parts.
    pub whole_max: u64,
    /// The export commands that stand behind what is published (FLOOD-42). A program that an
    /// export command runs is told by `SKEP_TRAIL`, which is read here.
    pub trail: Trail,
}

impl Options {
    /// To one agent.
    #[must_use]
    pub fn to(server: Server) -> Self {
        Self {
            servers: vec![server],
            identity: None,
            patience: PATIENCE,
            first_patience: PATIENCE,
            whole_max: WHOLE_BYTES,
            trail: told_trail(),
        }
    }

    /// To another one where the first cannot be reached.
    #[must_use]
    pub fn or(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// With a certificate of the bloc, for TLS.
    #[must_use]
    pub fn identity(mut self, directory: impl Into<PathBuf>) -> Self {
        self.identity = Some(directory.into());
        self
    }

    /// With another patience, for the first connection as well.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self.first_patience = patience;
        self
    }

    /// With another patience for the first connection alone.
    #[must_use]
    pub const fn first_patience(mut self, patience: Duration) -> Self {
        self.first_patience = patience;
        self
    }
}

/// What this program's environment says; an unreadable trail is as good as none.
fn told_trail() -> Trail {
    std::env::var(TRAIL).ok().and_then(|told| told.parse().ok()).unwrap_or_default()
}
