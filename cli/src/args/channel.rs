//! Arguments of the verbs that join two hosts' pipes by a channel.

use clap::Args;
use skep_base::{ChannelName, NodeName};

use super::Connect;

/// `skep channel serve`
#[derive(Clone, Debug, Args)]
pub struct ChannelServe {
    /// The name under which it is opened
    #[arg(value_name = "NAME")]
    pub name: ChannelName,
    /// Whom to ask.
    #[command(flatten)]
    pub connect: Connect,
}

/// `skep channel open`
#[derive(Clone, Debug, Args)]
pub struct ChannelOpen {
    /// At which node it is served
    #[arg(value_name = "NODE")]
    pub node: NodeName,
    /// Under which name
    #[arg(value_name = "NAME")]
    pub name: ChannelName,
    /// Whom to ask.
    #[command(flatten)]
    pub connect: Connect,
}
