//! The question and the answer as text, for an external command (FLOOD-30).
//!
//! A group may have a `topology-generator`: a command that gets the sites and what is known of them
//! on its standard input, and answers with edges on its standard output. Both are lines of words,
//! so that a shell script or an awk program can do it; `docs/topology-generator.md` states them.
//! Here are the two pure halves: what is written, and what is made of what comes back. An answer is
//! used only when [`judge`](super::judge()) finds nothing wrong with it.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use skep_base::{GroupName, NodeName};

use super::costs::Costs;
use super::judge::{Flaw, judge};
use super::problem::Problem;
use super::topology::Topology;
use crate::connectivity::index;

/// Which version of the format is spoken.
pub const VERSION: u32 = 1;
/// An answer longer than this is none: 10,000 sites with 16 links each, by names of 20 bytes, take
/// 4 MB.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Edges in an answer.
pub const MAX_ANSWER_EDGES: usize = 1 << 17;
/// Longest line of an answer: two names and a word are 406 bytes.
const MAX_LINE_BYTES: usize = 512;
/// Lines about pairs in a question: a hundred for each of 10,000 sites.
const MAX_PAIR_LINES: usize = 1 << 20;
/// What is repeated of a word that was not understood.
const SHOWN_CHARACTERS: usize = 64;

/// What a command is asked.
pub struct Question<'a, C: ?Sized> {
    /// Of which group.
    pub group: &'a GroupName,
    /// The names of the problem's sites, in their order.
    pub names: &'a [NodeName],
    /// The problem.
    pub problem: &'a Problem<'a, C>,
    /// Pairs of which something is known, by index. A pair that is not named gets no line.
    pub pairs: &'a [(usize, usize)],
    /// The topology that is in force.
    pub previous: Option<&'a Topology>,
}

impl<C: Costs + ?Sized> Question<'_, C> {
    /// The text for the command's standard input.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A String takes all that is written to it.
        if self.write(&mut text).is_err() {
            text.clear();
        }
        text
    }

    /// Writes the text.
    ///
    /// # Errors
    /// When `out` refuses it.
    pub fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        writeln!(out, "topology-generator {VERSION}")?;
        writeln!(out, "group {}", self.group)?;
        writeln!(out, "connectivity {}", self.problem.connectivity())?;
        writeln!(out, "links {}", self.problem.degree_bound)?;
        for (site, name) in self.problem.sites.iter().zip(self.names) {
            write!(out, "site {name} ")?;
            match site.place {
                Some(place) => write!(out, "{} {}", place.latitude(), place.longitude())?,
                None => write!(out, "- -")?,
            }
            writeln!(out, " {}", site.links_elsewhere)?;
        }
        for (a, b) in self.pairs.iter().take(MAX_PAIR_LINES) {
            self.write_pair(out, *a, *b)?;
        }
        for (a, b) in self.previous.iter().flat_map(|previous| self.standing(previous)) {
            writeln!(out, "edge {a} {b}")?;
        }
        writeln!(out, "end")
    }

    fn write_pair(&self, out: &mut impl fmt::Write, a: usize, b: usize) -> fmt::Result {
        let (Some(from), Some(to)) = (self.names.get(a), self.names.get(b)) else {
            return Ok(());
        };
        let costs = self.problem.costs;
        if !costs.may_meet(a, b) {
            return writeln!(out, "apart {from} {to}");
        }
        if let Some(measured) = costs.measured(a, b) {
            write!(out, "rtt {from} {to} {} {} ", measured.rtt_us, measured.deviation_us)?;
            match measured.bandwidth {
                Some(rate) => writeln!(out, "{rate}")?,
                None => writeln!(out, "-")?,
            }
        } else if let Some(rtt) = costs.predicted(a, b) {
            writeln!(out, "predicted {from} {to} {rtt}")?;
        }
        if costs.is_linked(a, b) {
            writeln!(out, "shared {from} {to}")?;
        }
        Ok(())
    }

    /// The names at the ends of the standing edges whose two ends are still there.
    fn standing(&self, previous: &Topology) -> Vec<(&NodeName, &NodeName)> {
        let name = |at: u32| {
            let id = previous.members().get(at as usize)?;
            let at = self.problem.sites.binary_search_by_key(id, |site| site.id).ok()?;
            self.names.get(at)
        };
        previous.edges().iter().filter_map(|(a, b)| name(*a).zip(name(*b))).collect()
    }
}

/// Why an answer is not used. The topology that stands goes on standing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too long a text.
    #[error("the answer is {0} bytes long, at most {MAX_ANSWER_BYTES} are read")]
    TooLong(usize),
    /// Not text, or a line without end.
    #[error("line {line} of the answer is not text of at most {MAX_LINE_BYTES} bytes")]
    NotText {
        /// Which line, from 1.
        line: usize,
    },
    /// It does not begin as it must.
    #[error(
        "the answer begins with {found:?}, not with `topology-generator {VERSION}`: is this the \
         output of another program?"
    )]
    Header {
        /// The first line that says something, cut.
        found: String,
    },
    /// A line that is neither an edge nor the end.
    #[error("line {line} of the answer is {found:?}: expected `edge SITE SITE` or `end`")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What it says, cut.
        found: String,
    },
    /// More edges than anybody could want.
    #[error("line {line} of the answer is one edge too many: at most {MAX_ANSWER_EDGES}")]
    TooManyEdges {
        /// Which line, from 1.
        line: usize,
    },
    /// The last line is missing: the command was interrupted, or its output cut.
    #[error("the answer has no last line `end`: it is not complete")]
    NoEnd,
    /// An edge to a site that is not in the group.
    #[error("line {line} of the answer names {name:?}, which is no site of the group")]
    UnknownSite {
        /// Which line, from 1.
        line: usize,
        /// The name, cut.
        name: String,
    },
    /// An edge from a site to itself.
    #[error("line {line} of the answer joins {name:?} to itself")]
    SelfEdge {
        /// Which line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// A topology, but not one that may be used.
    #[error("the answer cannot be used")]
    Flawed(#[source] Flaw),
}

/// An edge of an answer: its line, and the names of its ends.
pub type NamedEdge<'a> = (usize, &'a str, &'a str);

/// The edges that an answer names, whoever the sites are.
///
/// # Errors
/// [`Unfit`] when it is not of the form that is documented.
pub fn parse_answer(answer: &[u8]) -> Result<Vec<NamedEdge<'_>>, Unfit> {
    if answer.len() > MAX_ANSWER_BYTES {
        return Err(Unfit::TooLong(answer.len()));
    }
    let mut edges = Vec::new();
    let mut lines = answer.split(|byte| *byte == b'\n').enumerate();
    let mut greeted = false;
    for (at, bytes) in lines.by_ref() {
        let line = at + 1;
        let text = Some(bytes).filter(|bytes| bytes.len() <= MAX_LINE_BYTES);
        let text = text.and_then(|bytes| core::str::from_utf8(bytes).ok());
        let text = text.ok_or(Unfit::NotText { line })?.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut words = text.split_whitespace();
        let words = [words.next(), words.next(), words.next(), words.next()];
        if !greeted {
            let version = words[1].and_then(|word| word.parse::<u32>().ok());
            let right = words[0] == Some("topology-generator") && words[2].is_none();
            if !right || version != Some(VERSION) {
                return Err(Unfit::Header { found: cut(text) });
            }
            greeted = true;
            continue;
        }
        match words {
            [Some("end"), None, ..] => return Ok(edges),
            [Some("edge"), Some(a), Some(b), None] => {
                if edges.len() == MAX_ANSWER_EDGES {
                    return Err(Unfit::TooManyEdges { line });
                }
                edges.push((line, a, b));
            }
            _ => return Err(Unfit::Line { line, found: cut(text) }),
        }
    }
    Err(if greeted { Unfit::NoEnd } else { Unfit::Header { found: String::new() } })
}

/// The topology that an answer describes, when it is one that may be used.
///
/// # Errors
/// [`Unfit`] says why not.
pub fn accept<C: Costs + ?Sized>(
    problem: &Problem<'_, C>,
    names: &[NodeName],
    answer: &[u8],
) -> Result<Topology, Unfit> {
    let numbers: BTreeMap<&str, u32> =
        names.iter().enumerate().map(|(at, name)| (name.as_str(), index(at))).collect();
    let find = |line: usize, name: &str| {
        let number = numbers.get(name).copied();
        // Names are kept in lower case; a command may have its own habits.
        let number = number.or_else(|| numbers.get(&*name.to_ascii_lowercase()).copied());
        number.ok_or_else(|| Unfit::UnknownSite { line, name: cut(name) })
    };
    let mut edges = Vec::new();
    for (line, a, b) in parse_answer(answer)? {
        let edge = (find(line, a)?, find(line, b)?);
        if edge.0 == edge.1 {
            return Err(Unfit::SelfEdge { line, name: cut(a) });
        }
        edges.push(edge);
    }
    let members = problem.sites.iter().map(|site| site.id).collect();
    let topology = Topology::new(members, problem.k, &edges);
    judge(problem, &topology).map_err(Unfit::Flawed)?;
    Ok(topology)
}

fn cut(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARACTERS {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    shown.push('…');
    shown
}
