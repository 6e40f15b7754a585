//! What the agent shows of groups, links and figures.

use skep_base::NodeName;
use skep_lines::{Group, Reply, Statistic};

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
    rows(reply).filter_map(Group::read).collect()
}

pub(crate) fn pairs(reply: &Reply) -> Vec<(String, String)> {
    let read = |row: &str| {
        let (node, rest) = row.split_once(' ')?;
        Some((node.to_owned(), rest.to_owned()))
    };
    rows(reply).filter_map(read).collect()
}

pub(crate) fn statistics(reply: &Reply) -> Vec<Statistic> {
    rows(reply).filter_map(Statistic::read).collect()
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
        let shown = reply(&["web here 3 members 17 updates 4711 bytes", "odd", "1 group"]);
        assert_eq!(groups(&shown), [Group::read(&shown.lines[0]).unwrap()]);
        let shown = reply(&["links 4 control links that are up", "odd", "2 figures"]);
        assert_eq!(statistics(&shown)[0].value, 4);
        let shown = reply(&["a b", "b c 3 ms", "web 2 links, hash overlay, 2-connected"]);
        assert_eq!(topology(&shown).links.len(), 2);
        assert_eq!(pairs(&reply(&["a present", "1 of 1"])), [("a".into(), "present".into())]);
    }
}
