//! Arguments of `skep flock`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use skep_base::NodeName;

use super::{Json, Listing, Socket};

/// `skep flock`
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct FlockArgs {
    /// What to do; who can reach whom where it is left out.
    #[command(subcommand)]
    pub verb: Option<FlockVerb>,
    /// How to show it.
    #[command(flatten)]
    pub listing: Listing,
}

/// `skep flock ..`
#[derive(Clone, Debug, Subcommand)]
pub enum FlockVerb {
    /// List the nodes that may manage the flock, best first
    #[command(after_help = "EXAMPLE\n  skep flock roster\n  skep flock roster --explain")]
    Roster(FlockRoster),
    /// Have the master hand over to its best backup
    #[command(after_help = "EXAMPLE\n  sudo skep flock step-down")]
    StepDown {
        /// Whom to ask.
        #[command(flatten)]
        socket: Socket,
    },
    /// Have the master hand over to this backup
    #[command(after_help = "EXAMPLE\n  sudo skep flock transfer web-2")]
    Transfer(FlockNode),
    /// Make a node of the roster a backup, in the place of the lowest one
    #[command(
        after_help = "Ends when the node has caught up and votes. `skep flock roster` lists \
        who may.\n\nEXAMPLE\n  sudo skep flock promote web-4"
    )]
    Promote(FlockNode),
    /// Make a backup eligible again, with a lower standing; another takes its place
    #[command(
        after_help = "Ends when another has its place. Refused while nobody is there to take \
        it, and after 20 s\nin which nobody caught up: it stays a backup then.\n\n\
        EXAMPLE\n  sudo skep flock demote web-2"
    )]
    Demote(FlockNode),
    /// Have a node manage nothing until it is released, as before work on it
    #[command(after_help = "A backup leaves its place as soon as another has taken it. A master \
        has to hand over first.\n\nEXAMPLE\n  sudo skep flock hold web-2\n  \
        sudo skep flock release web-2")]
    Hold(FlockNode),
    /// End a hold
    #[command(after_help = "EXAMPLE\n  sudo skep flock release web-2")]
    Release(FlockNode),
    /// Expel a node from the bloc: every node refuses it, and it is no manager any more
    #[command(
        after_help = "The word is an entry of the catalog, expelled/NODE. Every node closes \
        its links to the node\nand takes none; a node that serves the CA gives it no certificate; \
        it leaves the roster and\nits place among the managers, with or without another to take \
        it. A master hands over first.\nTo let it in again, remove the entry.\n\n\
        EXAMPLE\n  sudo skep flock expel web-9 --reason 'stolen laptop'\n  \
        sudo skep catalog rm expelled/web-9      let it in again"
    )]
    Expel(FlockExpel),
    /// Found the flock anew where its managers are lost, and restore the catalog from a file
    #[command(after_help = "Says what this node holds, what may be lost, and what a better copy \
        would need, and asks for\nthe name of the node before it does anything. Is refused while \
        the flock has a master, except\nthat --from then imports the file as `skep catalog \
        import` does. Run it on one node of each part\nthat cannot reach the others, on the one \
        that holds most; when parts meet again they merge.\n\n\
        EXAMPLE\n  sudo skep flock recover --force --dry-run      what would be lost?\n  \
        sudo skep flock recover --force                found from what this node holds\n  \
        sudo skep flock recover --from catalog.toml    and set what the file says")]
    Recover(FlockRecover),
}

/// `skep flock roster`
#[derive(Clone, Debug, Args)]
pub struct FlockRoster {
    /// Say why each stands where it stands
    #[arg(long)]
    pub explain: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// A verb about one node
#[derive(Clone, Debug, Args)]
pub struct FlockNode {
    /// Which
    pub node: NodeName,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep flock expel`
#[derive(Clone, Debug, Args)]
pub struct FlockExpel {
    /// Which
    pub node: NodeName,
    /// Why, for whoever wonders later
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep flock recover`
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("how").required(true).args(["force", "from"])))]
pub struct FlockRecover {
    /// Found the next generation from what this node holds, whoever else may have more
    #[arg(long)]
    pub force: bool,
    /// Do that if there is no master, and set what this export of the catalog says
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Remove what the file does not name
    #[arg(long, requires = "from")]
    pub replace: bool,
    /// Only say what would happen and what may be lost
    #[arg(long)]
    pub dry_run: bool,
    /// Yes: do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}
