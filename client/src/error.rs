//! What can go wrong.

use std::io;
use std::time::Duration;

use skep_base::NameError;

use crate::server::{Server, ServerError};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No agent could be reached for as long as the patience lasted.
    #[error("no agent answers at {server}{}", tried(*patience))]
    Unreachable {
        /// How long it was tried.
        patience: Duration,
        /// Whom it was tried with last.
        server: Server,
        /// Why that failed.
        #[source]
        source: io::Error,
    },
    /// The agent refused, for a reason that will not go away.
    #[error("the agent refused: {code} {text}")]
    Refused {
        /// The reply's number, see `docs/protocol/client.md`.
        code: u16,
        /// Who, what and why.
        text: String,
    },
    /// The connection broke before the reply came, and the node cannot be reached any more: it may
    /// have logged the update, and then all will get it, or not.
    #[error(
        "{server} was lost before it said whether the update is logged, and was not reached again \
         for {patience:?}"
    )]
    Uncertain {
        /// Who may have it.
        server: Server,
        /// How long it was tried.
        patience: Duration,
    },
    /// What was to be published could not be read.
    #[error("cannot read what is to be published")]
    Source(#[source] io::Error),
    /// The connection broke within a long update. What came of it is to be dropped: all of it is
    /// handed over again.
    #[error("the connection to {server} broke within a long update, which will be given again")]
    BrokenOff {
        /// With whom.
        server: Server,
    },
    /// What answers is no agent.
    #[error("what answers at {server} is no agent's client port: {what}")]
    NoAgent {
        /// Where.
        server: Server,
        /// What is wrong with it.
        what: String,
    },
    /// A certificate is wanted to speak TLS, and there is none or a broken one.
    #[error("cannot speak TLS: {0}; name the directory that `skep ca issue` made")]
    Identity(String),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address that is none.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// This client was closed.
    #[error("this client was closed")]
    Closed,
    /// No runtime could be started for the blocking client.
    #[error("cannot start a runtime")]
    Runtime(#[source] io::Error),
}

/// A command for a person tries once, and says nothing of it.
fn tried(patience: Duration) -> String {
    if patience.is_zero() { String::new() } else { format!(", tried for {patience:?}") }
}
