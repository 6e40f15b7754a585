//! What may go wrong with a delivery.

use std::io;
use std::path::PathBuf;

/// Why a letter was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read a secret.
    #[error(
        "{} may be read by others (mode {mode:o}), so the secret in it is none",
        path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There are no roots to judge servers by.
    #[error("this host has no file of certificate authorities in any usual place")]
    NoRoots,
    /// Nobody answers there.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Whom.
        server: String,
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("{server} did not finish within {seconds} s")]
    Slow {
        /// Who.
        server: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The server's certificate is not believed, or it speaks no TLS.
    #[error("no safe connection to {server}: {why}")]
    Tls {
        /// Who.
        server: String,
        /// Why.
        why: String,
    },
    /// It does not know us.
    #[error("{server} does not accept the user or password: {said}")]
    Login {
        /// Who.
        server: String,
        /// What it said.
        said: String,
    },
    /// It refuses the letter.
    #[error("{server} refuses it: {said}")]
    Refused {
        /// Who.
        server: String,
        /// What it said.
        said: String,
        /// Whether it will not take it another time either, as it says.
        for_good: bool,
    },
    /// The target is none.
    #[error("{0}")]
    Target(String),
}

impl NotifyError {
    /// What to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "make the file, readable for the agent's user alone",
            Self::Open { .. } => "chmod 600 it, and change the secret: somebody may have read it",
            Self::Content { .. } => "see docs/operating/notifications.md for what it should hold",
            Self::NoRoots => "install ca-certificates, or name the authority's file as ca_file",
            Self::Unreachable { .. } => "is the name right, the server running, the port open?",
            Self::Slow { .. } => {
                "look at the server's log; a firewall that drops answers does that"
            }
            Self::Tls { .. } => {
                "is it the right name, and the right tls = …? name the authority's file as ca_file \
                 where it is your own"
            }
            Self::Login { .. } => "check user and password_file against the server's account",
            Self::Refused { .. } => "the server's own log says more; check sender and receivers",
            Self::Target(_) => "correct the configuration, and restart the agent",
        }
    }

    /// Whether the letter itself is refused, and not only now.
    #[must_use]
    pub const fn is_for_good(&self) -> bool {
        matches!(self, Self::Refused { for_good: true, .. })
    }

    /// The error and what stands behind it, in one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}
