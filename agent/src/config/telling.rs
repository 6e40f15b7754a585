//! Hooks and notifications, as they are configured: which programs learn what happens to the flock
//! (BLOC-21), and who is told of incidents (DVM-10, DVM-13).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_notices::{Kind, What};
use skep_notify::{Mail, Webhook};

use super::units::Word;
use super::values::Command;

/// Hooks of one node.
pub const MAX_HOOKS: usize = 32;
/// Receivers of one mail: more is what a mailing list is for.
pub const MAX_RECEIVERS: usize = 32;
/// Longest name of a hook or target.
const MAX_NAME_BYTES: usize = 32;

/// Commands that learn what happens to the flock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// A flock in which nothing has changed for so long is stable.
    pub stable_after: Duration,
    /// Each by its name.
    pub by_name: BTreeMap<String, Hook>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What it wants to learn of.
    pub on: Vec<What>,
    /// How it is run.
    pub run: Run,
}

/// A command, as whom and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// As whom, by name or number; as the agent's own user where nobody is named.
    pub user: Option<String>,
    /// How long it may take.
    pub time_limit: Duration,
}

/// Who is told of incidents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// When, how often, and how long it is tried. Who this node is stands elsewhere.
    pub desk: skep_notices::Config,
    /// Each by its name.
    pub targets: BTreeMap<String, Target>,
    /// Where the files are that targets of the catalog name.
    pub secrets_dir: PathBuf,
}

/// How letters get to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By a mail server.
    Smtp(Mail),
    /// By this host's own mail system.
    Sendmail {
        /// The program, with options that come before those that say from and to whom.
        program: Command,
        /// The sender.
        from: String,
        /// The receivers.
        to: Vec<String>,
    },
    /// By a URL.
    Webhook(Webhook),
    /// By a command.
    Command(Run),
}

impl Target {
    /// What it is, for people.
    #[must_use]
    pub const fn way(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Sendmail { .. } => "sendmail",
            Self::Webhook(_) => "webhook",
            Self::Command(_) => "command",
        }
    }

    /// Where its letters go, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Smtp(mail) => format!("{} by {}", mail.to.join(", "), mail.server()),
            Self::Sendmail { to, .. } => to.join(", "),
            Self::Webhook(hook) => hook.server(),
            Self::Command(run) => run.command.to_string(),
        }
    }
}

/// Whether a hook or target may be called so.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(plain);
    fits.then_some(()).ok_or("a name is 1 to 32 lower-case letters, digits, '-' and '_'")
}

/// What a hook may want to learn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventWord(pub(super) What);

impl FromStr for EventWord {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = What::ALL.into_iter().find(|what| what.word() == text);
        known.map(Self).ok_or("nothing that happens to a flock")
    }
}

impl fmt::Display for EventWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.word())
    }
}

impl Word for EventWord {
    const EXPECTED: &str =
        "\"formed\", \"merged\", \"split\", \"master-changed\", \"stable\" or \"role-changed\"";
}

/// What a target may want to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KindWord(pub(super) Kind);

impl FromStr for KindWord {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Kind::of(text).filter(|kind| *kind != Kind::Targets);
        known.map(Self).ok_or("no kind of incident")
    }
}

impl fmt::Display for KindWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.word())
    }
}

impl Word for KindWord {
    const EXPECTED: &str = "a kind of incident, such as \"manager-lost\"";
}

/// A mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MailAddress(pub(super) String);

impl FromStr for MailAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        skep_notify::check_address(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Word for MailAddress {
    const EXPECTED: &str = "a mail address such as \"ops@example.org\", and nothing besides";
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MailServer {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl FromStr for MailServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        skep_notify::check_server(text).map(|(host, port)| Self { host, port })
    }
}

impl fmt::Display for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (true, None) => write!(f, "[{}]", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (false, None) => f.write_str(&self.host),
        }
    }
}

impl Word for MailServer {
    const EXPECTED: &str = "a mail server, and perhaps its port: \"mail.example.org:587\"";
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HookUrl(pub(super) String);

impl FromStr for HookUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        skep_notify::check_url(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Word for HookUrl {
    const EXPECTED: &str = "a URL that begins with https://, or with http:// on this host, without \
                            user and password";
}

/// Whether others can read what goes to a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MailTls {
    /// Turned into TLS before anything is said.
    Starttls,
    /// TLS from the start.
    Tls,
    /// None.
    None,
}

/// Where a mail system's own program is.
pub(crate) fn sendmail() -> Command {
    Command::Program(vec!["/usr/sbin/sendmail".into(), "-i".into()])
}
