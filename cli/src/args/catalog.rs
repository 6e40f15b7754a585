//! Arguments of `skep catalog`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Json, Listing, Socket};

/// `skep catalog ..`
#[derive(Clone, Debug, Subcommand)]
pub enum CatalogVerb {
    /// List the entries, or show one
    #[command(after_help = "EXAMPLE\n  skep catalog get\n  skep catalog get --kind group\n  \
        skep catalog get setting/motd --json | jq .revision")]
    Get(CatalogGet),
    /// Set an entry, on all nodes
    #[command(after_help = "KINDS\n  \
        group     about, connectivity, topology_master, members\n  \
        rule      who, may, groups: see below\n  \
        expelled  reason, certificate: every node closes its links to it and takes none\n  \
        setting   value\n\n\
        RULES\n  \
        Once a rule names the right `catalog` or `flock`, the master changes the catalog, or\n  \
        takes orders about the managers, only for nodes that such a rule names: by name, as\n  \
        role:NAME, or all as `*`. Nodes with the role `operator` always may. Other rights,\n  \
        groups and settings are kept for programs that read them.\n\n\
        A value is a number, true or false, a list [a,b], or else a text;\n\
        \"12\" in quotes is a text. Ends when the write is decided and on the managers' disks.\n\n\
        EXAMPLE\n  sudo skep catalog set setting/motd value='back at noon'\n  \
        sudo skep catalog set group/web about='web servers' members=[web-1,web-2]\n  \
        sudo skep catalog set setting/motd value=hello --if-revision 812\n  \
        sudo skep catalog set rule/admins who=[queen-1,role:operator] may=[catalog,flock]\n  \
        sudo skep catalog set expelled/web-9 reason='stolen'")]
    Set(CatalogSet),
    /// Remove an entry, on all nodes
    #[command(after_help = "EXAMPLE\n  sudo skep catalog rm setting/motd\n  \
        sudo skep catalog rm group/web --if-revision 7")]
    Rm(CatalogRm),
    /// Show what an entry said before: its last eight versions, with who wrote them
    #[command(after_help = "EXAMPLE\n  skep catalog history setting/motd")]
    History(CatalogHistory),
    /// Show what changed after one index, up to another or to now
    #[command(after_help = "EXAMPLE\n  skep catalog diff 800\n  skep catalog diff 800 812 --json")]
    Diff(CatalogDiff),
    /// Print the whole catalog as a file, or write it to one
    #[command(after_help = "EXAMPLE\n  skep catalog export > catalog.toml")]
    Export(CatalogExport),
    /// Make the catalog what a file says; the file is checked first, with line and column
    #[command(
        after_help = "Entries that the file does not name stay, unless --replace is given. Goes \
        in steps of up to\n256 entries, each of which happens whole or not at all.\n\n\
        EXAMPLE\n  skep catalog import catalog.toml --dry-run\n  \
        sudo skep catalog import catalog.toml\n  sudo skep catalog import catalog.toml --replace"
    )]
    Import(CatalogImport),
    /// Print changes as they reach this node, until interrupted
    #[command(after_help = "EXAMPLE\n  skep catalog watch\n  skep catalog watch --json")]
    Watch(Listing),
    /// List what merges of flocks left to decide, or let one of it happen after all
    #[command(after_help = "EXAMPLE\n  skep catalog conflicts\n  \
        sudo skep catalog conflicts --apply 3f21aa07-0b1c2d3e4f50")]
    Conflicts(CatalogConflicts),
}

/// `skep catalog get`
#[derive(Clone, Debug, Args)]
pub struct CatalogGet {
    /// Which entry, as KIND/NAME; all of them where it is left out
    pub key: Option<String>,
    /// Only entries of this kind
    #[arg(long, conflicts_with = "key")]
    pub kind: Option<String>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep catalog set`
#[derive(Clone, Debug, Args)]
pub struct CatalogSet {
    /// Which entry, as KIND/NAME
    pub key: String,
    /// What it shall say; what is left out it does not say any more
    #[arg(value_name = "FIELD=VALUE")]
    pub fields: Vec<String>,
    /// Only if it is at this revision
    #[arg(long, value_name = "REVISION", conflicts_with = "new")]
    pub if_revision: Option<u64>,
    /// Only if it is not there
    #[arg(long)]
    pub new: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep catalog rm`
#[derive(Clone, Debug, Args)]
pub struct CatalogRm {
    /// Which entry, as KIND/NAME
    pub key: String,
    /// Only if it is at this revision
    #[arg(long, value_name = "REVISION")]
    pub if_revision: Option<u64>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep catalog history`
#[derive(Clone, Debug, Args)]
pub struct CatalogHistory {
    /// Which entry, as KIND/NAME
    pub key: String,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep catalog diff`
#[derive(Clone, Debug, Args)]
pub struct CatalogDiff {
    /// After which index
    pub from: u64,
    /// Up to which; up to now where it is left out
    pub to: Option<u64>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep catalog export`
#[derive(Clone, Debug, Args)]
pub struct CatalogExport {
    /// Where to; to standard output where it is left out
    pub file: Option<PathBuf>,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep catalog import`
#[derive(Clone, Debug, Args)]
pub struct CatalogImport {
    /// Which file
    pub file: PathBuf,
    /// Remove what the file does not name
    #[arg(long)]
    pub replace: bool,
    /// Only say what would change
    #[arg(long)]
    pub dry_run: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep catalog conflicts`
#[derive(Clone, Debug, Args)]
pub struct CatalogConflicts {
    /// Let this one happen after all
    #[arg(long, value_name = "NAME")]
    pub apply: Option<String>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}
