//! Arguments of `skep notify`.

use clap::{Args, Subcommand};

use super::{Json, Listing, Socket};

/// `skep notify ..`
#[derive(Clone, Debug, Subcommand)]
pub enum NotifyVerb {
    /// Send a letter to every target of this node, or to one, and say what each answered
    #[command(after_help = "Exits with 1 where a target did not take its letter.\n\n\
        EXAMPLE\n  sudo skep notify test\n  sudo skep notify test ops --json | jq '.[].said'")]
    Test(NotifyTest),
    /// List what is or was wrong, and who was told of it
    #[command(after_help = "EXAMPLE\n  skep notify ls\n  \
        skep notify ls --json | jq '.incidents[] | select(.state==\"open\")'")]
    Ls(Listing),
}

/// `skep notify test`
#[derive(Clone, Debug, Args)]
pub struct NotifyTest {
    /// Only to this target, as [notify.WAY.NAME] in the configuration calls it
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}
