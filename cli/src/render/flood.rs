//! Groups, updates, events.

use comfy_table::Color;
use skep_base::{ByteSize, NodeName};
use skep_client::{Gap, Long, Update};
use skep_control::api::{Event, EventKind, FlockChange, Group, Presence};

use super::{Style, clean, count, facts, finish, joined, names, right};
use crate::human;

/// The groups, in order of name.
#[must_use]
pub fn groups(groups: &[Group], style: Style) -> String {
    let mut sorted: Vec<&Group> = groups.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut table = style
        .table(&["group", "here", "present", "updates", "bytes", "oldest", "missing", "readers"]);
    for group in sorted {
        table.add_row(vec![
            style.cell(&group.name, None),
            style.cell(if group.joined { "yes" } else { "no" }, None),
            right(format!("{}/{}", present(group), group.members.len())),
            right(group.updates),
            right(ByteSize(group.bytes)),
            right(oldest(group, human::brief)),
            right(group.missing),
            right(group.subscribers.len()),
        ]);
    }
    finish(table, &[0, 1, 2, 3, 4, 5, 6, 7])
}

/// One group.
#[must_use]
pub fn group(group: &Group, style: Style) -> String {
    let absent: Vec<String> = group
        .members
        .iter()
        .filter(|(_, presence)| *presence != Presence::Present)
        .map(|(node, presence)| format!("{node} ({presence})"))
        .collect();
    let there = group
        .members
        .iter()
        .filter(|(_, presence)| *presence == Presence::Present)
        .map(|(node, _)| node);
    let joined_here = if group.joined { "yes" } else { "no" };
    let mut rows = vec![
        ("group", group.name.to_string()),
        ("this node in it", joined_here.to_owned()),
        ("members", format!("{} of {} present", present(group), group.members.len())),
        ("present", names(there)),
        ("absent", joined(absent.iter().map(String::as_str))),
        ("neighbours", names(&group.neighbours)),
        (
            "log",
            format!(
                "{}, {}, the oldest {} old, {} missing",
                count(group.updates, "update"),
                ByteSize(group.bytes),
                oldest(group, human::span),
                group.missing
            ),
        ),
    ];
    for subscriber in &group.subscribers {
        rows.push((
            "subscriber",
            format!(
                "{} at {}, {} behind",
                subscriber.name,
                subscriber.committed,
                count(subscriber.behind, "update")
            ),
        ));
    }
    facts(style, &rows)
}

fn oldest(group: &Group, words: impl Fn(u64) -> String) -> String {
    if group.updates == 0 { "-".to_owned() } else { words(group.oldest_ms) }
}

fn present(group: &Group) -> usize {
    group.members.iter().filter(|(_, presence)| *presence == Presence::Present).count()
}

/// One update: a line about it, and its body as text where it is text.
#[must_use]
pub fn pushed(update: &Update) -> String {
    let late = if update.late { " late" } else { "" };
    let size = ByteSize(update.body.len() as u64);
    let head =
        format!("{} {} {size}, {} old{late}", update.cursor, update.id, human::span(update.age_ms));
    match std::str::from_utf8(&update.body) {
        Ok(text) if text.chars().all(|c| !c.is_control() || "\n\t".contains(c)) => {
            format!("{head}\n{}\n", text.trim_end_matches('\n'))
        }
        Ok(_) | Err(_) => format!("{head}\n(binary; --json prints it in base64)\n"),
    }
}

/// A long update: a line about it, and how to have its body.
#[must_use]
pub fn long(update: &Long) -> String {
    let late = if update.late { " late" } else { "" };
    let Long { cursor, id, size, .. } = update;
    let (size, age) = (ByteSize(*size), human::span(update.age_ms));
    format!("{cursor} {id} {size}, {age} old{late}\n(long; --json prints it in base64)\n")
}

/// What a subscriber will not get, or not in its place.
#[must_use]
pub fn gap(gap: &Gap) -> String {
    let after = gap.after.as_ref().map_or_else(String::new, |after| format!(" after {after}"));
    format!("updates up to {}{after} are missing: {}\n", gap.up_to, clean(&gap.why))
}

/// Figures: name, value and what it is.
#[must_use]
pub fn figures<'a>(rows: impl Iterator<Item = (&'a str, u64, &'a str)>, style: Style) -> String {
    let mut table = style.table(&["figure", "value", "of what"]);
    for (name, value, help) in rows {
        table.add_row(vec![
            style.cell(clean(name), None),
            right(value),
            style.cell(clean(help), None),
        ]);
    }
    finish(table, &[0, 1, 2])
}

/// One event on one line.
#[must_use]
pub fn event(event: &Event, style: Style) -> String {
    let (what, colour) = words(&event.kind);
    // What the flock's masters told may be days old.
    let at = match told_by(&event.kind) {
        Some(_) => human::moment(event.at),
        None => human::time_of_day(event.at),
    };
    let what = clean(&what);
    match colour.filter(|_| style.colour) {
        Some(colour) => {
            format!("{at}  {:>6}  \u{1b}[{}m{what}\u{1b}[0m\n", event.number, sgr(colour))
        }
        None => format!("{at}  {:>6}  {what}\n", event.number),
    }
}

fn sgr(colour: Color) -> u8 {
    if colour == Color::Red {
        31
    } else if colour == Color::Yellow {
        33
    } else {
        32
    }
}

fn words(kind: &EventKind) -> (String, Option<Color>) {
    match kind {
        EventKind::Started { incarnation } => (format!("agent started, life {incarnation}"), None),
        EventKind::Member { node, presence, incarnation } => {
            let colour = match presence {
                Presence::Present => Color::Green,
                Presence::Silent => Color::Red,
                Presence::Restarting | Presence::Left | Presence::GivenUp => Color::Yellow,
            };
            (format!("{node} is {presence}, life {incarnation}"), Some(colour))
        }
        EventKind::Flock { name, present } => {
            (format!("flock {name}: {} present", count(*present, "member")), None)
        }
        EventKind::Managers { what } => (what.clone(), None),
        EventKind::Order { what, who, node, when, came } => {
            let at = human::time_of_day(*when);
            let colour = if came == "done" { Color::Green } else { Color::Yellow };
            (format!("{who} at {node} ordered {what} at {at}: {came}"), Some(colour))
        }
        EventKind::Formed(now) => (flock_change("formed", now), Some(Color::Green)),
        EventKind::Merged(now) => (flock_change("merged", now), Some(Color::Green)),
        EventKind::Split(now) => (flock_change("split", now), Some(Color::Yellow)),
        EventKind::MasterChanged(now) => (flock_change("master changed", now), None),
        EventKind::Stable(now) => (flock_change("stable", now), Some(Color::Green)),
        EventKind::RoleChanged(now) => (flock_change("role changed", now), None),
        EventKind::Hook { hook, of, well, ended } => {
            (format!("hook {hook} for {of} {ended}"), (!well).then_some(Color::Red))
        }
        EventKind::Notified { target, letter } => (format!("{target} was told: {letter}"), None),
        EventKind::Catalog { index, keys } => {
            (format!("catalog {index}: {} changed", keys.join(" ")), None)
        }
        EventKind::LinkUp { node, remote, dialled } => {
            let arrow = if *dialled { "→" } else { "←" };
            (format!("link to {node} is up ({arrow} {remote})"), None)
        }
        EventKind::LinkDown { node, why } => (format!("link to {node} is down: {why}"), None),
        EventKind::Refused { remote, why } => {
            (format!("refused {remote}: {why}"), Some(Color::Yellow))
        }
        EventKind::Duplicate { remote, keeps } => {
            let end = if *keeps { "we keep it" } else { "it keeps it, we publish nothing" };
            (
                format!("another live process has our name (met by {remote}): {end}"),
                Some(Color::Red),
            )
        }
        EventKind::Update { group, id, bytes, age_ms } => {
            let (bytes, age) = (ByteSize(*bytes), human::span(*age_ms));
            (format!("update {id} to {group}, {bytes}, {age} old"), None)
        }
        EventKind::Gap { group, id, why } => {
            let why = why.as_deref().unwrap_or("it did not come in time");
            let what = format!("going on without update {id} to {group}: {why}");
            (what, Some(Color::Yellow))
        }
        EventKind::Topology { group, epoch, by, members, edges } => {
            let what = format!("topology {epoch} of {group} by {by}: {members} members");
            (format!("{what}, {edges} edges"), None)
        }
        EventKind::TopologyFault { group, why } => {
            (format!("topology of {group}: {why}"), Some(Color::Yellow))
        }
        EventKind::Image { image, version } => {
            (format!("image {image} {version} is complete here"), None)
        }
        EventKind::Wave { id, state } => (format!("wave {id} is {}", state.word()), None),
        EventKind::Applied { id, error: None } => {
            (format!("wave {id} is applied here"), Some(Color::Green))
        }
        EventKind::Applied { id, error: Some(error) } => {
            (format!("wave {id} cannot be applied here: {error}"), Some(Color::Red))
        }
        EventKind::Renewed { not_after } => {
            (format!("certificate renewed until {}", human::moment(*not_after)), None)
        }
        EventKind::Problem { message, hint } => {
            let hint = hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
            (format!("{message}{hint}"), Some(Color::Red))
        }
        EventKind::Lost { count: 0, message } => (message.clone(), Some(Color::Yellow)),
        EventKind::Lost { count: lost, message } => {
            (format!("{} lost: {message}", count(*lost, "event")), Some(Color::Yellow))
        }
        EventKind::Unknown => {
            ("something that only a newer command can name; see --json".to_owned(), None)
        }
    }
}

/// The master that told this, where it is of the list for the whole flock.
fn told_by(kind: &EventKind) -> Option<&NodeName> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these happen to a flock")]
    match kind {
        EventKind::Formed(now)
        | EventKind::Merged(now)
        | EventKind::Split(now)
        | EventKind::MasterChanged(now)
        | EventKind::Stable(now) => now.by.as_ref(),
        _ => None,
    }
}

/// What happened to the flock, and how it is now.
fn flock_change(what: &str, now: &FlockChange) -> String {
    let flock = now.flock.as_deref().unwrap_or("no flock");
    let master = now.master.as_ref().map_or("no master".to_owned(), |it| format!("master {it}"));
    let mut text = format!("{what}: {flock}, {master}, {} present", now.present);
    if !now.nodes.is_empty() {
        let named = names(&now.nodes);
        let more = (now.count as usize).saturating_sub(now.nodes.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text.push_str(&format!("; {named}{more}"));
    }
    if let Some(before) = &now.before {
        text.push_str(&format!("; was {before}"));
    }
    if let Some(changes) = now.changes {
        let entries = if changes == 1 { "entry" } else { "entries" };
        text.push_str(&format!("; {changes} {entries} handed over"));
    }
    if let Some(stamp) = &now.stamp {
        text.push_str(&format!("; stamp {stamp}"));
    }
    if what.starts_with("role") {
        text.push_str(&format!("; this node is {}", now.role));
    }
    text
}
