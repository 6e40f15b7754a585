//! The agent's own API: HTTP/1.1 with JSON on a unix socket, and a typed client for it.
//!
//! ```text
//!   skep status ── Client ──(unix socket, HTTP)── Listening ──(Call)──▶ the agent's main loop
//!                                                     ▲                        │
//!                                                     └───────(Reply)──────────┘
//! ```
//!
//! The kernel says who connects. Root and the agent's own user are operators, members of one group
//! read, everybody else is told why he is refused; [`verb::VERBS`] names the permission of each
//! verb and the router is made from it. All the state is the agent's: the server turns requests
//! into [`Call`]s on a bounded channel and holds nothing between them. Clients, bodies, heads,
//! waits and followers all have bounds, because a client on the same host may be as confused as one
//! far away.
//!
//! The line commands of floodd (`data`, `group`, `groups`, `statistics`; FLOOD-4 to FLOOD-13) have
//! their counterparts here: publishing, groups, figures. Events let a person or a program follow
//! what happens to the flock (BLOC-4, DVM-10); waves are started and watched here (DLIF-13,
//! DLIF-23).

pub mod access;
pub mod api;
mod backend;
mod client;
mod feed;
mod routes;
mod server;
mod socket;
pub mod verb;

pub use access::{Access, Caller, Credentials, Permission};
pub use backend::{Backend, BackendSide, CALL_QUEUE, Call, EventsRead, Reply, Request, backend};
pub use client::{Client, ClientError, Events};
pub use feed::{EVENTS_KEPT, EventLog, FOLLOWER_QUEUE, Feed, MAX_FOLLOWERS};
pub use server::{Config, ConfigError, Listening, MAX_CLIENTS, MAX_READERS, listen};
pub use socket::{ListenError, MAX_SOCKET_PATH_BYTES, SocketFile, bind, group_number};
