//! What the agent answers, and how it is said.

use skep_base::{ByteSize, GroupName, NodeName};
use skep_lines::{CommandError, Hint, Id, PROTOCOL, Reply, Statistic, VERBS, code};

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is on this node's disk, and on its way, under these identities.
    Published(Vec<(GroupName, Id)>),
    /// One group.
    Group(Group),
    /// All groups.
    Groups(Vec<Group>),
    /// Figures.
    Statistics(Vec<Statistic>),
    /// Links.
    Topology(Topology),
    /// Nodes, the nearest first.
    Nearest(Vec<Hint>),
    /// A subscriber's place.
    Place {
        /// In which group.
        group: GroupName,
        /// What was dealt with.
        cursor: u64,
    },
    /// Done: in words.
    Done(String),
}

/// Why the agent did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {text}")]
pub struct Refusal {
    /// One of [`skep_lines::code`].
    pub code: u16,
    /// Who, what, why, and what to do.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    pub(crate) fn stopping() -> Self {
        Self::new(code::GOING, "the agent stops: connect again in a moment")
    }
}

/// A group as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Whether this node is in it.
    pub joined: bool,
    /// Who is, and what is derived of each in one word: `present`, `silent`..
    pub members: Vec<(NodeName, &'static str)>,
    /// Updates in this node's log.
    pub updates: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Who is linked to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// For which group.
    pub group: GroupName,
    /// What it begins with: a word.
    pub kind: &'static str,
    /// Which decree of whom that is, or why there is none.
    pub why: String,
    /// How many nodes would have to fail before somebody is cut off.
    pub connectivity: u32,
    /// Each link once, with its round trip in microseconds where anything is known of it.
    pub edges: Vec<(NodeName, NodeName, Option<u64>)>,
}

/// The greeting.
pub(crate) fn greeting(node: &NodeName, version: &str) -> Reply {
    Reply::new(code::READY, format!("{node} skep {version} client/{PROTOCOL} ready; try help"))
}

/// The help (FLOOD-4).
pub(crate) fn help() -> Reply {
    let width = VERBS.iter().map(|verb| verb.usage.len()).max().unwrap_or(0);
    let lines = VERBS.iter().map(|verb| format!("{:width$}  {}", verb.usage, verb.what));
    let last = "GROUP.. left out is every group of the site; docs/protocol/client.md says the rest";
    Reply { code: code::HELP, lines: lines.chain([last.to_owned()]).collect() }
}

/// What to say of a line that is no command.
pub(crate) fn wrong(error: &CommandError) -> Reply {
    let number = match error {
        CommandError::Unknown(_) | CommandError::Characters => code::UNKNOWN,
        CommandError::Usage { .. } | CommandError::Publish { .. } | CommandError::Size(_) => {
            code::ARGUMENT
        }
    };
    Reply::new(number, error.to_string())
}

/// An answer as a reply.
pub(crate) fn reply(answer: Result<Answer, Refusal>) -> Reply {
    match answer {
        Ok(Answer::Published(ids)) => published(&ids),
        Ok(Answer::Group(group)) => one_group(&group),
        Ok(Answer::Groups(groups)) => all_groups(&groups),
        Ok(Answer::Statistics(statistics)) => figures(&statistics),
        Ok(Answer::Topology(topology)) => edges(&topology),
        Ok(Answer::Nearest(nodes)) => nearest(&nodes),
        Ok(Answer::Place { group, cursor }) => Reply::new(code::DONE, format!("{group} {cursor}")),
        Ok(Answer::Done(text)) => Reply::new(code::DONE, text),
        Err(Refusal { code, text }) => Reply::new(code, text),
    }
}

fn list(lines: impl Iterator<Item = String>, last: String) -> Reply {
    Reply { code: code::DONE, lines: lines.chain([last]).collect() }
}

fn published(ids: &[(GroupName, Id)]) -> Reply {
    Reply {
        code: code::DONE,
        lines: ids.iter().map(|(group, id)| format!("{group} {id}")).collect(),
    }
}

fn one_group(group: &Group) -> Reply {
    let lines = group.members.iter().map(|(node, presence)| format!("{node} {presence}"));
    let present = group.members.iter().filter(|(_, presence)| *presence == "present").count();
    let of = group.members.len();
    list(lines, format!("{} {present} of {of} members present", group.name))
}

fn all_groups(groups: &[Group]) -> Reply {
    let line = |group: &Group| {
        let Group { name, joined, members, updates, bytes } = group;
        let (name, members) = (name.clone(), members.len() as u64);
        let (here, updates, bytes) = (*joined, *updates, *bytes);
        skep_lines::Group { name, here, members, updates, bytes }.to_string()
    };
    let count = groups.len();
    list(groups.iter().map(line), format!("{count} {}", plural(count, "group")))
}

fn figures(statistics: &[Statistic]) -> Reply {
    let last = format!("{} figures since the agent began", statistics.len());
    list(statistics.iter().map(ToString::to_string), last)
}

fn edges(topology: &Topology) -> Reply {
    let Topology { group, kind, why, connectivity, edges } = topology;
    let count = edges.len();
    let links = plural(count, "link");
    let last = format!("{group} {count} {links}, {kind} overlay, {connectivity}-connected: {why}");
    let line = |(a, b, rtt): &(NodeName, NodeName, Option<u64>)| match rtt {
        Some(micros) => format!("{a} {b} {micros}"),
        None => format!("{a} {b} ?"),
    };
    list(edges.iter().map(line), last)
}

fn nearest(nodes: &[Hint]) -> Reply {
    let last = format!("{} {}", nodes.len(), plural(nodes.len(), "node"));
    list(nodes.iter().map(ToString::to_string), last)
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// A body over the limit.
pub(crate) fn too_large(limit: u64) -> Refusal {
    let limit = ByteSize(limit);
    Refusal::new(code::TOO_LARGE, format!("an update has at most {limit}: nothing was flooded"))
}
