//! The line protocol that applications speak to their agent: commands, numbered replies, bodies
//! (FLOOD-4 to FLOOD-13). `docs/protocol/client.md` is the same in prose.
//!
//! ```text
//!   client:  data web                       agent:  354 end with a line that holds one dot
//!            hello
//!            .                                      250 web inferno:7:1041
//!            binary 5 web key=deploy-9:17
//!            hello                                  250 web inferno:7:1042
//!            subscribe web name=deploy              250 web 93
//!                                                   150 web 94 inferno:7:1042 3 5
//!                                                   hello
//!            ack web 94                             250 web 94
//! ```
//!
//! A person types it with `telnet` or `nc`, a shell script pipes it, a program pipelines it:
//! replies come in the order of the commands, one for each, and what an agent pushes between them
//! begins with a `1`. Nothing here reads a socket. The agent's side feeds what came in to a
//! [`Decoder`], which cuts it into [`Event`]s; the application's side feeds a [`ReplyDecoder`],
//! which gives what was [`Said`]. Both take bytes in any portions, look at a limit before they keep
//! anything, and can be left at any point without harm: what was not completed was not said.
//!
//! [`Keys`] remembers which publishes were logged already, so that one that is tried again after a
//! broken connection is logged once; a [`Tag`] is a key as it stands in the log, for the next
//! start.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod command;
mod decode;
mod id;
mod keys;
mod ports;
mod reply;
mod rows;
mod said;
mod tag;
mod text;

pub use command::{Command, CommandError, Framing, Publish, Start, Subscribe, VERBS, Verb};
pub use decode::{Decoder, Event, LINE_BYTES};
pub use id::{Id, IdError};
pub use keys::{
    Found, KEYS_A_PUBLISHER, Key, KeyError, Keys, Logged, MAX_PUBLISHER_BYTES, MAX_PUBLISHERS,
};
pub use ports::{MAX_PORT_ADDRESSES, Ports};
pub use reply::{Reply, code};
pub use rows::{Group, Hint, Statistic};
pub use said::{
    Gap, Long, MAX_REPLY_BYTES, Malformed, ReplyDecoder, Said, Update, write_gap, write_update_head,
};
pub use tag::Tag;
pub use text::stuff;

/// The version of the protocol that the greeting names. It grows when a client of an earlier one
/// would misunderstand.
pub const PROTOCOL: u32 = 1;
/// Groups that one publish may name.
pub const MAX_GROUPS: usize = 16;
/// Longest name of a subscriber, in bytes: letters, digits, `.`, `-` and `_`.
pub const MAX_SUBSCRIBER_BYTES: usize = 64;
