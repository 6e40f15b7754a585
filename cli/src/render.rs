//! From the agent's answers to text: pure functions of the answer and the terminal's properties.
//!
//! Every listing has a first line of headings and then one line a thing, so that it can be read by
//! eye, `grep` and `awk`; programs are better served by `--json`. Colour only repeats what a word
//! says. At 80 columns nothing wraps that need not.

use std::io::IsTerminal as _;

use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table};
use skep_base::NodeName;
use skep_control::api::Presence;

mod catalog;
mod flood;
mod node;
mod notify;
mod rollout;
mod topology;

pub use catalog::{
    OneEntry, catalog, conflicts, diff, entry, history, imported, recovery, roster, split, stale,
    stale_comment, written,
};
pub use flood::{event, figures, gap, group, groups, long, pushed};
pub use node::{ca, certificate, flock, health, links, members, metrics, status};
pub use notify::{notices, tested};
pub use rollout::{image, images, pruned, wave, wave_node_line, waves};
pub use topology::{round_trip, topology};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether to colour words.
    pub colour: bool,
    /// Columns; none where output goes to a file or a pipe, and lines are as long as they are.
    pub width: Option<u16>,
}

impl Style {
    /// No colour, no bound on the width.
    pub const PLAIN: Self = Self { colour: false, width: None };

    /// What standard output can show: colour only on a terminal that wants it (`NO_COLOR`).
    #[must_use]
    pub fn of_stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::PLAIN;
        }
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { colour: !refused, width: Table::new().width() }
    }

    fn table(self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table
            .load_preset(comfy_table::presets::NOTHING)
            .set_header(headings.iter().map(|heading| Cell::new(heading.to_uppercase())));
        match self.width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    fn cell(self, text: impl ToString, colour: Option<Color>) -> Cell {
        let cell = Cell::new(clean(&text.to_string()));
        match colour.filter(|_| self.colour) {
            Some(colour) => cell.fg(colour),
            None => cell,
        }
    }

    fn presence(self, presence: Presence) -> Cell {
        let colour = match presence {
            Presence::Present => Color::Green,
            Presence::Restarting => Color::Yellow,
            Presence::Silent => Color::Red,
            Presence::Left | Presence::GivenUp => Color::DarkGrey,
        };
        self.cell(presence, Some(colour))
    }
}

/// Names, addresses and reasons may come from peers: nothing of them may steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A number, to the right.
fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The table as lines without blanks at their ends. Columns named in `never_wrap` stay whole even
/// where the terminal is narrower: a line a thing is worth more than a straight edge.
fn finish(mut table: Table, never_wrap: &[usize]) -> String {
    for at in never_wrap {
        if let Some(column) = table.column_mut(*at) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `name  value` lines, the values in one column, wrapped within it.
fn facts(style: Style, rows: &[(&str, String)]) -> String {
    let label = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let room =
        style.width.map_or(usize::MAX, |width| usize::from(width).saturating_sub(label).max(20));
    let mut text = String::new();
    for (name, value) in rows {
        for (at, line) in wrap(&clean(value), room).iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            let line = format!("{name:label$}{line}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// Breaks `text` at blanks into lines of at most `room` characters; a longer word stays whole.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else if let Some(last) = lines.last_mut() {
            if line > 0 {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// Names in a row; `-` for none.
fn names<'a>(names: impl IntoIterator<Item = &'a NodeName>) -> String {
    joined(names.into_iter().map(NodeName::as_str))
}

fn joined<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

/// `1 node`, `2 nodes`.
fn count(number: impl Into<u64>, thing: &str) -> String {
    let number = number.into();
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}
