//! What a client may ask, one line each.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use skep_base::{ChannelName, GroupName, NodeName, Trail};

use crate::keys::Key;
use crate::{MAX_GROUPS, MAX_SUBSCRIBER_BYTES};

/// One verb of the protocol, for `help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// The verb and its arguments.
    pub usage: &'static str,
    /// What it does, in one line.
    pub what: &'static str,
}

/// All verbs, in the order of the help.
pub const VERBS: &[Verb] = &[
    verb("help", "this summary"),
    verb("group GROUP", "the members of a group"),
    verb("groups", "the groups known here"),
    verb(
        "data [GROUP..] [key=WHO:N] [trail=TRAIL]",
        "flood the lines that follow, up to a line of one dot",
    ),
    verb(
        "binary SIZE [GROUP..] [key=WHO:N] [trail=TRAIL]",
        "flood the SIZE bytes after this line's end",
    ),
    verb(
        "subscribe GROUP [name=NAME] [from=now|first|CURSOR]",
        "be sent the group's updates as they come",
    ),
    verb("ack GROUP CURSOR", "all up to CURSOR is dealt with"),
    verb("unsubscribe GROUP", "be sent no more; a NAME keeps its place"),
    verb("forget GROUP NAME", "forget a NAME and its place"),
    verb("statistics", "figures of this agent"),
    verb("topology [GROUP]", "who is linked to whom for a group, or for all"),
    verb("nearest", "nodes that serve clients, the nearest first"),
    verb("serve NAME [framed]", "wait for a channel that another application opens"),
    verb("channel NODE NAME [framed]", "open a channel to whoever serves NAME at NODE"),
    verb("noop", "nothing; answered when all before it is"),
    verb("quit", "close this connection"),
    verb("exit", "stop the agent, where its configuration lets you"),
];

const fn verb(usage: &'static str, what: &'static str) -> Verb {
    Verb { usage, what }
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A summary (FLOOD-4).
    Help,
    /// The members of a group (FLOOD-5).
    Group(GroupName),
    /// The groups (FLOOD-6).
    Groups,
    /// Flood the text that follows (FLOOD-7).
    Data(Publish),
    /// Flood the bytes that follow (FLOOD-8).
    Binary {
        /// How many.
        size: u64,
        /// To whom.
        publish: Publish,
    },
    /// Figures (FLOOD-9).
    Statistics,
    /// The links of a group (FLOOD-10).
    Topology(GroupName),
    /// The nearest nodes (FLOOD-11).
    Nearest,
    /// Push a group's updates.
    Subscribe(Subscribe),
    /// Everything up to a cursor is dealt with.
    Ack {
        /// Of which group.
        group: GroupName,
        /// The cursor of the last update that is.
        cursor: u64,
    },
    /// Push no more.
    Unsubscribe(GroupName),
    /// Forget a subscriber's name.
    Forget {
        /// In which group.
        group: GroupName,
        /// Which.
        name: String,
    },
    /// Wait for a channel (FLOOD-2). After the reply the connection is the channel.
    Serve {
        /// Under which name.
        name: ChannelName,
        /// How its bytes are told from their end.
        framing: Framing,
    },
    /// Open a channel (FLOOD-2). After the reply the connection is the channel.
    Channel {
        /// At which node somebody serves it.
        node: NodeName,
        /// Under which name.
        name: ChannelName,
        /// How its bytes are told from their end.
        framing: Framing,
    },
    /// Nothing.
    Noop,
    /// Close the connection (FLOOD-12).
    Quit,
    /// Terminate the agent (FLOOD-13).
    Exit,
}

/// How a client and its agent tell a channel's bytes from their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By the end of the connection's direction: a channel that broke off looks like one that
    /// ended.
    #[default]
    Raw,
    /// In pieces: four bytes of length, the highest first, then so many bytes. The length of none
    /// ends the direction; a connection that ends without it broke off.
    Framed,
}

/// To whom an update goes, and how it is known if it comes again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// None: every group of the site.
    pub groups: Vec<GroupName>,
    /// An update with a key that was logged before is not logged again.
    pub key: Option<Key>,
    /// The export commands that stand behind it, as the command was told (FLOOD-42).
    pub trail: Trail,
}

/// What a subscriber wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Of which group.
    pub group: GroupName,
    /// Under which name the agent remembers what was acknowledged; none: it remembers nothing.
    pub name: Option<String>,
    /// Where to begin.
    pub start: Start,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Where the name left off; from now on for a new name and without one.
    #[default]
    Default,
    /// With what comes from now on.
    Now,
    /// With the oldest update that is kept.
    First,
    /// With the one after this cursor.
    After(u64),
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing that this version knows.
    #[error("no such command: {0:?}; try help")]
    Unknown(String),
    /// Bytes that no command holds.
    #[error("a command is printable ASCII, separated by blanks")]
    Characters,
    /// Something is missing, wrong, or too much.
    #[error("{what}; usage: {usage}")]
    Usage {
        /// What.
        what: String,
        /// How it goes.
        usage: &'static str,
    },
    /// The same of a publish, whose body follows all the same and is no command.
    #[error("{what}; usage: {usage}")]
    Publish {
        /// What.
        what: String,
        /// How it goes.
        usage: &'static str,
        /// The bytes that follow; text up to a line of one dot where nothing is here.
        size: Option<u64>,
    },
    /// The size of a body cannot be read: how much follows is unknown, so the connection ends.
    #[error("{0:?} is no number of bytes; usage: {BINARY}")]
    Size(String),
}

impl CommandError {
    fn with_body(self, size: Option<u64>) -> Self {
        if let Self::Usage { what, usage } = self {
            return Self::Publish { what, usage, size };
        }
        self
    }
}

const BINARY: &str = "binary SIZE [GROUP..] [key=WHO:N] [trail=TRAIL]";
/// How much of a client's word is shown back to it.
const SHOWN_CHARS: usize = 40;

impl Command {
    /// Reads a line without its end.
    ///
    /// # Errors
    /// [`CommandError`] says what to write instead. After [`CommandError::Size`] the stream is out
    /// of step.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let printable = line.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t');
        let Some(line) = core::str::from_utf8(line).ok().filter(|_| printable) else {
            return Err(CommandError::Characters);
        };
        let mut words = Words { words: line.split_ascii_whitespace(), usage: "" };
        let Some(verb) = words.words.next() else {
            return Err(CommandError::Unknown(String::new()));
        };
        let lower = verb.to_ascii_lowercase();
        words.usage = usage(&lower).ok_or_else(|| CommandError::Unknown(shown(verb)))?;
        match lower.as_str() {
            "data" => {
                let publish = words.publish().map_err(|wrong| wrong.with_body(None))?;
                return Ok(Self::Data(publish));
            }
            "binary" => {
                let size = words.size()?;
                let publish = words.publish().map_err(|wrong| wrong.with_body(Some(size)))?;
                return Ok(Self::Binary { size, publish });
            }
            "subscribe" => return words.subscribe().map(Self::Subscribe),
            _ => {}
        }
        let command = match lower.as_str() {
            "group" => Self::Group(words.group()?),
            "groups" => Self::Groups,
            "statistics" => Self::Statistics,
            "topology" => Self::Topology(words.group_or_all()?),
            "nearest" => Self::Nearest,
            "ack" => Self::Ack { group: words.group()?, cursor: words.cursor()? },
            "unsubscribe" => Self::Unsubscribe(words.group()?),
            "forget" => Self::Forget { group: words.group()?, name: words.name()? },
            "serve" => Self::Serve { name: words.channel()?, framing: words.framing() },
            "channel" => {
                let (node, name) = (words.node()?, words.channel()?);
                Self::Channel { node, name, framing: words.framing() }
            }
            "noop" => Self::Noop,
            "quit" => Self::Quit,
            "exit" => Self::Exit,
            // `help data` is answered like `help`.
            _ => return Ok(Self::Help),
        };
        words.end().map(|()| command)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help => f.write_str("help"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Groups => f.write_str("groups"),
            Self::Data(publish) => write!(f, "data{publish}"),
            Self::Binary { size, publish } => write!(f, "binary {size}{publish}"),
            Self::Statistics => f.write_str("statistics"),
            Self::Topology(group) => write!(f, "topology {group}"),
            Self::Nearest => f.write_str("nearest"),
            Self::Subscribe(Subscribe { group, name, start }) => {
                write!(f, "subscribe {group}")?;
                if let Some(name) = name {
                    write!(f, " name={name}")?;
                }
                match start {
                    Start::Default => Ok(()),
                    Start::Now => f.write_str(" from=now"),
                    Start::First => f.write_str(" from=first"),
                    Start::After(cursor) => write!(f, " from={cursor}"),
                }
            }
            Self::Ack { group, cursor } => write!(f, "ack {group} {cursor}"),
            Self::Unsubscribe(group) => write!(f, "unsubscribe {group}"),
            Self::Forget { group, name } => write!(f, "forget {group} {name}"),
            Self::Serve { name, framing } => write!(f, "serve {name}{framing}"),
            Self::Channel { node, name, framing } => write!(f, "channel {node} {name}{framing}"),
            Self::Noop => f.write_str("noop"),
            Self::Quit => f.write_str("quit"),
            Self::Exit => f.write_str("exit"),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => Ok(()),
            Self::Framed => f.write_str(" framed"),
        }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            write!(f, " {group}")?;
        }
        if let Some(key) = &self.key {
            write!(f, " key={key}")?;
        }
        if self.trail.is_empty() { Ok(()) } else { write!(f, " trail={}", self.trail) }
    }
}

/// The usage of the verb, which is in lower case; nothing where there is no such verb.
fn usage(verb: &str) -> Option<&'static str> {
    let known = VERBS.iter().find(|known| known.usage.split(' ').next() == Some(verb));
    known.map(|known| known.usage)
}

/// The words of a line after its verb.
struct Words<'a> {
    words: core::str::SplitAsciiWhitespace<'a>,
    usage: &'static str,
}

impl Words<'_> {
    fn wrong(&self, what: impl Into<String>) -> CommandError {
        CommandError::Usage { what: what.into(), usage: self.usage }
    }

    fn end(mut self) -> Result<(), CommandError> {
        match self.words.next() {
            None => Ok(()),
            Some(more) => Err(self.wrong(alloc::format!("{:?} is too much", shown(more)))),
        }
    }

    fn group(&mut self) -> Result<GroupName, CommandError> {
        match self.words.next() {
            Some(word) => self.group_of(word),
            None => Err(self.wrong("the group is missing")),
        }
    }

    fn group_or_all(&mut self) -> Result<GroupName, CommandError> {
        self.words.next().map_or_else(|| Ok(GroupName::all()), |word| self.group_of(word))
    }

    fn group_of(&self, word: &str) -> Result<GroupName, CommandError> {
        GroupName::new(word).map_err(|error| self.wrong(alloc::format!("{error}")))
    }

    fn node(&mut self) -> Result<NodeName, CommandError> {
        let Some(word) = self.words.next() else {
            return Err(self.wrong("the node is missing"));
        };
        NodeName::new(word).map_err(|error| self.wrong(alloc::format!("{error}")))
    }

    fn channel(&mut self) -> Result<ChannelName, CommandError> {
        let Some(word) = self.words.next() else {
            return Err(self.wrong("the channel's name is missing"));
        };
        ChannelName::new(word).map_err(|error| self.wrong(alloc::format!("{error}")))
    }

    /// The last word of a channel, where it is there. Another word is left, and is too much.
    fn framing(&mut self) -> Framing {
        let mut more = self.words.clone();
        if more.next().is_some_and(|word| word.eq_ignore_ascii_case("framed")) {
            self.words = more;
            return Framing::Framed;
        }
        Framing::Raw
    }

    fn cursor(&mut self) -> Result<u64, CommandError> {
        match self.words.next().map(number) {
            Some(Some(cursor)) => Ok(cursor),
            Some(None) => Err(self.wrong("the cursor is no number")),
            None => Err(self.wrong("the cursor is missing")),
        }
    }

    fn size(&mut self) -> Result<u64, CommandError> {
        let word = self.words.next().unwrap_or_default();
        number(word).ok_or_else(|| CommandError::Size(shown(word)))
    }

    fn name(&mut self) -> Result<String, CommandError> {
        match self.words.next() {
            Some(word) => self.name_of(word),
            None => Err(self.wrong("the subscriber's name is missing")),
        }
    }

    fn name_of(&self, word: &str) -> Result<String, CommandError> {
        let fits = (1..=MAX_SUBSCRIBER_BYTES).contains(&word.len());
        let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if fits && plain {
            return Ok(word.to_owned());
        }
        let what = "a subscriber's name has 1 to 64 letters, digits, dots, hyphens or underscores";
        Err(self.wrong(what))
    }

    fn publish(mut self) -> Result<Publish, CommandError> {
        let mut publish = Publish::default();
        while let Some(word) = self.words.next() {
            match word.split_once('=') {
                Some(("key", key)) if publish.key.is_none() => {
                    let key = key.parse().map_err(|error| self.wrong(alloc::format!("{error}")))?;
                    publish.key = Some(key);
                }
                Some(("trail", trail)) if publish.trail.is_empty() => {
                    let trail = trail.parse();
                    publish.trail = trail.map_err(|error| self.wrong(alloc::format!("{error}")))?;
                }
                Some(_) => return Err(self.wrong(alloc::format!("what is {:?}", shown(word)))),
                None if publish.groups.len() < MAX_GROUPS => {
                    let group = self.group_of(word)?;
                    // Said twice, meant once.
                    if !publish.groups.contains(&group) {
                        publish.groups.push(group);
                    }
                }
                None => return Err(self.wrong("at most 16 groups at once")),
            }
        }
        Ok(publish)
    }

    fn subscribe(mut self) -> Result<Subscribe, CommandError> {
        let group = self.group()?;
        let mut subscribe = Subscribe { group, name: None, start: Start::Default };
        while let Some(word) = self.words.next() {
            match word.split_once('=') {
                Some(("name", name)) => subscribe.name = Some(self.name_of(name)?),
                Some(("from", "now")) => subscribe.start = Start::Now,
                Some(("from", "first")) => subscribe.start = Start::First,
                Some(("from", cursor)) => match number(cursor) {
                    Some(cursor) => subscribe.start = Start::After(cursor),
                    None => return Err(self.wrong("from is now, first or a cursor")),
                },
                Some(_) | None => {
                    return Err(self.wrong(alloc::format!("what is {:?}", shown(word))));
                }
            }
        }
        Ok(subscribe)
    }
}

/// Digits alone: no sign, no blank, no suffix.
fn number(word: &str) -> Option<u64> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| digits)
}

fn shown(word: &str) -> String {
    word.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;
    use alloc::vec;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    fn group(name: &str) -> GroupName {
        name.parse().unwrap()
    }

    #[test]
    fn every_command_is_said_as_it_is_read() {
        for line in [
            "help",
            "group web",
            "groups",
            "data",
            "data web mirror-1",
            "data web key=deploy-9:17",
            "data web key=deploy-9:17 trail=00000001.8da4ba63",
            "binary 0",
            "binary 18446744073709551615 web key=a:0",
            "statistics",
            "topology all",
            "serve sync.web",
            "serve sync.web framed",
            "channel mirror-2 sync.web",
            "channel mirror-2 sync.web framed",
            "nearest",
            "subscribe web",
            "subscribe web name=deploy_1.x",
            "subscribe web name=d from=first",
            "subscribe web from=now",
            "subscribe web from=93",
            "ack web 94",
            "unsubscribe web",
            "forget web deploy",
            "noop",
            "quit",
            "exit",
        ] {
            assert_eq!(parse(line).unwrap().to_string(), line);
        }
        assert_eq!(parse("topology"), Ok(Command::Topology(GroupName::all())));
        assert_eq!(VERBS.len(), 17, "the list above has them all");
    }

    #[test]
    fn people_may_be_careless() {
        assert_eq!(parse("  GROUP \t Web ").unwrap(), Command::Group(group("web")));
        assert_eq!(parse("help data").unwrap(), Command::Help);
        let twice = Publish { groups: vec![group("web")], ..Publish::default() };
        assert_eq!(parse("data web WEB").unwrap(), Command::Data(twice.clone()));
        assert_eq!(parse("data web trail=-").unwrap(), Command::Data(twice));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |line: &str| parse(line).unwrap_err().to_string();
        assert_eq!(wrong("datta"), "no such command: \"datta\"; try help");
        assert_eq!(wrong("group"), "the group is missing; usage: group GROUP");
        assert_eq!(wrong("noop now"), "\"now\" is too much; usage: noop");
        assert!(wrong("serve sync fast").starts_with("\"fast\" is too much; usage: serve NAME"));
        assert!(wrong("group a/b").contains("may hold only letters"));
        assert!(wrong("ack web x").starts_with("the cursor is no number"));
        assert!(wrong("data key=a").contains("key"));
        assert!(wrong("data key=a:1 key=a:2").starts_with("what is"));
        assert!(wrong("data trail=x").starts_with("a trail is"));
        assert!(wrong("data colour=red").starts_with("what is \"colour=red\""));
        assert!(wrong("subscribe web name=").contains("1 to 64"));
        let many =
            "data".to_owned() + &(0..17).map(|n| alloc::format!(" g{n}")).collect::<String>();
        assert!(wrong(&many).starts_with("at most 16"));
        assert_eq!(Command::parse(b"gro\0ups"), Err(CommandError::Characters));
        assert_eq!(Command::parse("größe".as_bytes()), Err(CommandError::Characters));
    }

    #[test]
    fn a_size_is_digits_and_fits() {
        for size in ["", "-1", "+1", "0x10", "1e3", "18446744073709551616", "12"] {
            let line = alloc::format!("binary {size}x");
            assert!(matches!(parse(&line), Err(CommandError::Size(_))), "{size}");
        }
        assert!(matches!(parse("binary"), Err(CommandError::Size(_))));
        assert!(matches!(parse("binary -5"), Err(CommandError::Size(_))));
    }
}
