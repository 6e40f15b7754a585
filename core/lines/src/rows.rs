//! The lines before the last of replies that list something: what the agent writes, the client
//! reads.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use skep_base::{GroupName, NodeName};

/// A group, as the agent knows it. A line of `groups` (FLOOD-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Whether the agent's node is in it.
    pub here: bool,
    /// How many nodes are.
    pub members: u64,
    /// Updates in the node's log.
    pub updates: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// One figure of the agent. A line of `statistics` (FLOOD-9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// A word, and in parentheses what it is told of.
    pub name: String,
    /// How much.
    pub value: u64,
    /// Of what, in a few words.
    pub help: String,
}

/// A node that a client might rather speak to. A line of `nearest` (FLOOD-11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Which.
    pub node: NodeName,
    /// Round trip from the agent's node, where it is known. Zero for that node itself.
    pub rtt: Option<Duration>,
    /// That is over the links of others: no link can join it with the agent's node.
    pub routed: bool,
    /// Where it serves clients: `plain:ADDRESS:PORT` or `tls:ADDRESS:PORT`.
    pub servers: Vec<String>,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, here, members, updates, bytes } = self;
        let here = if *here { "here" } else { "elsewhere" };
        write!(f, "{name} {here} {members} members {updates} updates {bytes} bytes")
    }
}

impl Group {
    /// Reads a line; nothing where it is none. More words may follow.
    #[must_use]
    pub fn read(row: &str) -> Option<Self> {
        let words: Vec<&str> = row.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok());
        Some(Self {
            name: words.first()?.parse().ok()?,
            here: *words.get(1)? == "here",
            members: number(2)?,
            updates: number(4)?,
            bytes: number(6)?,
        })
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.value, self.help)
    }
}

impl Statistic {
    /// Reads a line; nothing where it is none.
    #[must_use]
    pub fn read(row: &str) -> Option<Self> {
        let (name, rest) = row.split_once(' ')?;
        let (value, help) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Self { name: name.to_owned(), value: value.parse().ok()?, help: help.to_owned() })
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rtt {
            Some(rtt) => write!(f, "{} {}", self.node, rtt.as_micros())?,
            None => write!(f, "{} ?", self.node)?,
        }
        if self.routed {
            write!(f, " {ROUTED}")?;
        }
        self.servers.iter().try_for_each(|server| write!(f, " {server}"))
    }
}

/// Says of a hint that its round trip is over the links of others. Who does not know the word takes
/// it for a server of a kind that is not known.
const ROUTED: &str = "routed";

impl Hint {
    /// Reads a line; nothing where it is none. Words that are no servers to this version are kept.
    #[must_use]
    pub fn read(row: &str) -> Option<Self> {
        let mut words = row.split(' ');
        let node = words.next()?.parse().ok()?;
        let rtt = words.next()?.parse().ok().map(Duration::from_micros);
        let (said, servers): (Vec<&str>, Vec<&str>) = words.partition(|word| *word == ROUTED);
        let servers = servers.into_iter().map(String::from).collect();
        Some(Self { node, rtt, routed: !said.is_empty(), servers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn what_is_written_is_read_and_words_may_be_added_to_it() {
        for row in [
            "web here 3 members 17 updates 4711 bytes",
            "all elsewhere 0 members 0 updates 0 bytes",
        ] {
            let group = Group::read(row).unwrap();
            assert_eq!(group.to_string(), row);
            assert_eq!(Group::read(&(row.to_owned() + " and more")), Some(group));
        }
        for row in ["links(control) 4 links that are up", "odd 18446744073709551615 "] {
            assert_eq!(Statistic::read(row).unwrap().to_string(), row);
        }
        for row in ["inferno 0 plain:10.0.0.1:2000 tls:[::1]:2443", "valhalla 4171", "styx ? x"] {
            let hint = Hint::read(row).unwrap();
            assert_eq!((hint.to_string().as_str(), hint.routed), (row, false));
        }
        let row = "bifrost 8000 routed plain:10.0.0.9:2000";
        let hint = Hint::read(row).unwrap();
        assert_eq!((hint.to_string().as_str(), hint.routed), (row, true));
        assert_eq!(hint.servers, ["plain:10.0.0.9:2000"]);
    }

    #[test]
    fn what_is_no_row_is_none() {
        for row in ["", "web", "web here", "web here x members 1 updates 1 bytes", "a/b 1 c"] {
            assert_eq!(Group::read(row), None, "{row}");
        }
        assert_eq!(Statistic::read("odd"), None);
        assert_eq!(Statistic::read("odd x"), None);
        assert_eq!(Hint::read("inferno"), None);
        assert_eq!(Hint::read("a/b 1"), None);
    }
}
