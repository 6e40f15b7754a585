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
    /// Add a target for the whole flock: whoever is master tells it of incidents
    #[command(after_help = ADD_HELP)]
    Add(Box<NotifyAdd>),
    /// Remove a target of the whole flock
    #[command(after_help = "A target in the configuration of a host stays there.\n\n\
        EXAMPLE\n  sudo skep notify rm chat")]
    Rm(NotifyRm),
    /// List what is or was wrong, and who was told of it
    #[command(after_help = "EXAMPLE\n  skep notify ls\n  \
        skep notify ls --json | jq '.incidents[] | select(.state==\"open\")'")]
    Ls(Listing),
}

const ADD_HELP: &str = "\
Every node reads what is given here, and every backup holds it: so no password stands here, but the
name of a file that each host keeps in notify.secrets_dir (/etc/skep/secrets), mode 600. A mail
server's is called like it: SERVER or USER@SERVER. Put it on every node that may be master; which of
them lacks it says `skep status` there.

EXAMPLE
  sudo skep notify add ops --smtp mail.example.org:587 --from skep@example.org \\
      --to ops@example.org --user skep --secret skep@mail.example.org
  sudo skep notify add chat --webhook https://chat.example/hook --secret chat --kind fork";

/// `skep notify add`
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("way").required(true))]
pub struct NotifyAdd {
    /// What it is called: lower-case letters, digits, '-' and '_'
    #[arg(value_name = "NAME")]
    pub name: String,
    /// By a mail server
    #[arg(long, value_name = "SERVER[:PORT]", group = "way", requires = "from", requires = "to")]
    pub smtp: Option<String>,
    /// By a URL
    #[arg(long, value_name = "URL", group = "way")]
    pub webhook: Option<String>,
    /// By the own mail system of whichever host is master
    #[arg(long, group = "way", requires = "from", requires = "to")]
    pub sendmail: bool,
    /// The sender
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// A receiver; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub to: Vec<String>,
    /// How the mail server is spoken to: starttls, tls or none [default: starttls]
    #[arg(long, value_name = "HOW")]
    pub tls: Option<String>,
    /// As whom at the mail server
    #[arg(long, value_name = "ACCOUNT", requires = "secret")]
    pub user: Option<String>,
    /// The file with the password, or with what webhooks are signed with: its name alone
    #[arg(long, value_name = "FILE")]
    pub secret: Option<String>,
    /// The file with the authorities that the server's certificate may be of: its name alone
    #[arg(long, value_name = "FILE")]
    pub ca: Option<String>,
    /// Only incidents of this kind; may be given several times
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// In the place of a target of this name
    #[arg(long)]
    pub replace: bool,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep notify rm`
#[derive(Clone, Debug, Args)]
pub struct NotifyRm {
    /// Which target
    #[arg(value_name = "NAME")]
    pub name: String,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}

/// `skep notify test`
#[derive(Clone, Debug, Args)]
pub struct NotifyTest {
    /// Only to this target, as `skep notify ls` calls it
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// As JSON?
    #[command(flatten)]
    pub json: Json,
    /// Whom to ask.
    #[command(flatten)]
    pub socket: Socket,
}
