//! Telling people outside of the bloc: mails and webhooks (DVM-10, DVM-13).
//!
//! What is told, to whom and how often is decided elsewhere (`core/notices`); here one letter is
//! handed over to one target, once, and what came of it is said in words that help: who was asked,
//! what he answered, and what to do about it.
//!
//! [`Mail`] is a mail server (SMTP, with STARTTLS or TLS from the start, and a password where it
//! wants one). [`Message`] is a letter as a mail: plain text, and headers that let a receiver drop
//! a repeat and keep answering machines quiet. A mail that a local `sendmail` is to take is made
//! here and run elsewhere. [`Webhook`] is a URL that gets JSON by POST, signed with a secret that
//! both sides know (HMAC-SHA256 over the body), so that the receiver need believe nobody else.
//!
//! Passwords and secrets are read from files that only their owner may read, each time they are
//! needed, so that they can be changed without a restart; they are in no configuration and no
//! message. Servers are judged by the system's roots, or by those in a file of the operator's and
//! no others. Without TLS nothing is sent to another host but mails to a server that was named so
//! expressly, and never a password.
//!
//! | bounded | by |
//! |---|---|
//! | time | [`PATIENCE`] for all of a delivery |
//! | an answer | the first 64 KiB of a webhook's; a line of a mail server's |
//! | a secret's file | 4 KiB |
//! | a file of roots | 4 MiB |

mod error;
mod files;
mod mail;
mod message;
mod webhook;

pub use error::NotifyError;
pub use mail::{Encryption, Mail, check_address, check_server};
pub use message::Message;
pub use webhook::{SIGNATURE, Webhook, check_url, signature};

use std::time::Duration;

/// A delivery that takes longer has failed. Mail servers that look senders up take some seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);
