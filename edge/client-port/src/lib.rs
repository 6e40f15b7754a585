//! The client port: where applications speak the line protocol of [`skep_lines`] with their agent
//! (FLOOD-4 to FLOOD-14).
//!
//! ```text
//!   nc, telnet, skep-client ──▶ listener ──▶ session ──(Ask)──▶ the agent's main loop
//!      unix socket, TCP, TLS                    ▲                       │
//!                                               └──(answer, push)───────┘
//! ```
//!
//! Each client has one task, the session, which reads, asks the agent, and answers in
//! the order of the commands. It stops reading while too much of its own waits, so the memory of a
//! client is bounded by constants and a slow one delays nobody: neither the agent, which never
//! waits for a client, nor the other clients. Bodies over a bound are laid down in a file while
//! they come in and published from there, and long bodies are read from the log's file as a
//! subscriber takes them; an update is handed to the agent only when all of it is there: of one
//! that breaks off nothing is flooded.
//!
//! The port is handed its listeners: a unix socket whose file says who may connect, TCP, which the
//! agent opens on loopback unless its configuration says otherwise, and TCP with TLS, where both
//! sides show a certificate of the bloc. What an update is, who subscribes and what is remembered
//! of keys is the agent's affair; see [`Ask`].

mod answer;
mod backend;
mod body;
mod channel;
mod config;
mod local;
mod outgoing;
mod server;
mod session;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Group, Refusal, Topology};
pub use backend::{
    Ask, Caller, ChannelStream, ClientId, Joined, Laid, Laying, Opening, Provenance, Publication,
    Push, Pushed, Pusher, Slot, Spools, StoredBody, Who, asks,
};
pub use body::{Content, LaidDown};
pub use config::{Config, ConfigError, MEMORY_LEAST_BYTES};
pub use local::LocalEnd;
pub use server::{ClientPort, Host, Listeners, MayExit, Tls, start};
pub use session::{MAX_PIPELINE, MAX_SUBSCRIPTIONS};
