//! The library for applications that speak with a Skep agent (FLOOD-2, FLOOD-4 to FLOOD-13):
//! publish updates, subscribe to them, look at groups and figures.
//!
//! ```no_run
//! # async fn example() -> Result<(), skep_client::Error> {
//! use skep_client::{Client, Event, Options, Subscribe};
//!
//! let client = Client::connect(Options::to("unix:/run/skep/client.sock".parse()?)).await?;
//! let web = "web".parse()?;
//! let published = client.publish(&[web], "hello, flock").await?;
//! println!("{} is on disk here, and on its way", published.ids[0].1);
//!
//! let mut updates = client.subscribe(Subscribe::to("web".parse()?).named("deploy")).await?;
//! loop {
//!     if let Event::Update(update) = updates.next().await? {
//!         println!("{}: {} bytes", update.id, update.body.len());
//!         updates.ack(&update).await?;
//!     }
//! }
//! # }
//! ```
//!
//! What it takes off an application's hands:
//!
//! * **Connections break.** The library connects again, with growing pauses, for as long as
//!   [`Options::patience`] says, and an application does not notice.
//! * **Every acknowledged publish is durable** on the node that took it; one that was not
//!   acknowledged when the connection broke is sent again *to the same node* with the same key, so
//!   that it is logged once. Where that node cannot be reached any more the publish ends with
//!   [`Error::Uncertain`], and the application decides.
//! * **Every update is handed over at least once** to a named subscription: what was not
//!   acknowledged comes again, under the same identity.
//! * **Publishing is pipelined**: [`Client::send`] waits for room only, so thousands of updates
//!   share one sync of the disk.
//! * **Channels**: [`Client::serve`] and [`Client::channel`] join two applications at two nodes by
//!   a stream of bytes, through their agents and whatever lies between, so that they can bring
//!   themselves back in step after a gap. One that broke off is told from one that has ended.
//! * **Long updates** are never in memory as a whole: [`Client::publish_file`] and
//!   [`Client::publish_from`] read them as the agent takes them, over a connection of their own;
//!   a subscription hands them over as [`Event::Long`] and [`Subscription::part`].
//! * **Near nodes**: [`Client::nearest`] asks the agent for hints, tries several at once and
//!   remembers the answer (FLOOD-11).
//!
//! A program without a runtime of its own uses [`blocking`]. A subscription has a connection of its
//! own, so a subscriber that is slow to take its updates delays nothing else; so has each channel.

#![warn(missing_docs)]

pub mod blocking;
mod channel;
mod client;
mod error;
mod link;
mod look;
mod nearest;
mod options;
mod publisher;
mod server;
mod subscription;
#[cfg(test)]
mod tests;
mod upload;

pub use channel::Channel;
pub use client::{Client, Published, Publishing};
pub use error::Error;
pub use look::Topology;
pub use nearest::Near;
pub use options::Options;
pub use server::{Server, ServerError};
pub use skep_base::{ChannelName, GroupName, NameError, NodeName, Trail};
pub use skep_lines::{Gap, Group, Id, Long, Start, Statistic, Update};
pub use subscription::{Event, Subscribe, Subscription};
