//! What the agent shows of groups, links and figures.

use skep_base::{GroupName, NodeName};
use skep_lines::Reply;

/// A group, as the agent knows it.
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

/// One figure of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// A word, and in parentheses what it is told of.
    pub name: String,
    /// How much.
    pub value: u64,
    /// Of what.
    pub help: String,
}

/// Who is linked to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Each link once.
    pub links: Vec<(NodeName, NodeName)>,
    /// How it was made and how much it bears, in words.
    pub summary: String,
}

/// The lines before the last.
pub(crate) fn rows(reply: &Reply) -> impl Iterator<Item = &str> {
    let rows = reply.lines.len().saturating_sub(1);
    reply.lines.iter().take(rows).map(String::as_str)
}

pub(crate) fn groups(reply: &Reply) -> Vec<Group> {
    let read = |row: &str| {
        let words: Vec<&str> = row.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok());
        Some(Group {
            name: words.first()?.parse().ok()?,
            here: *words.get(1)? == "here",
            members: number(2)?,
            updates: number(4)?,
            bytes: number(6)?,
        })
    };
    rows(reply).filter_map(read).collect()
}

pub(crate) fn pairs(reply: &Reply) -> Vec<(String, String)> {
    let read = |row: &str| {
        let (node, rest) = row.split_once(' ')?;
        Some((node.to_owned(), rest.to_owned()))
    };
    rows(reply).filter_map(read).collect()
}

pub(crate) fn statistics(reply: &Reply) -> Vec<Statistic> {
    let read = |row: &str| {
        let (name, rest) = row.split_once(' ')?;
        let (value, help) = rest.split_once(' ').unwrap_or((rest, ""));
        let (name, help) = (name.to_owned(), help.to_owned());
        Some(Statistic { name, value: value.parse().ok()?, help })
    };
    rows(reply).filter_map(read).collect()
}

pub(crate) fn topology(reply: &Reply) -> Topology {
    let read = |row: &str| {
        let (a, b) = row.split_once(' ')?;
        Some((a.parse().ok()?, b.split(' ').next()?.parse().ok()?))
    };
    Topology { links: rows(reply).filter_map(read).collect(), summary: reply.text().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(lines: &[&str]) -> Reply {
        Reply { code: 250, lines: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn rows_are_read_and_words_may_be_added_to_them() {
        let shown = reply(&["web here 3 members 17 updates 4711 bytes and more", "1 group"]);
        let web = Group {
            name: "web".parse().unwrap(),
            here: true,
            members: 3,
            updates: 17,
            bytes: 4711,
        };
        assert_eq!(groups(&shown), [web]);
        let shown = reply(&["links 4 control links that are up", "odd", "2 figures"]);
        assert_eq!(statistics(&shown)[0].value, 4);
        let shown = reply(&["a b", "b c 3 ms", "web 2 links, hash overlay, 2-connected"]);
        assert_eq!(topology(&shown).links.len(), 2);
        assert_eq!(pairs(&reply(&["a present", "1 of 1"])), [("a".into(), "present".into())]);
    }
}
