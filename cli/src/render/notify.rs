//! Incidents, who is told of them, and what came of a test.

use std::fmt::Write as _;

use comfy_table::Color;
use skep_control::api::{Incident, Notices, NotifyTarget, NotifyTested};

use super::{Style, clean, finish};
use crate::human;

/// What is or was wrong, and who was told.
#[must_use]
pub fn notices(notices: &Notices, style: Style) -> String {
    let mut text = String::new();
    if notices.targets.is_empty() {
        text.push_str(
            "there is no target: `skep notify add` adds one for the flock, [notify] in the \
             configuration one for this host\n",
        );
    } else {
        let mut table = style.table(&["target", "from", "by", "to", "taken", "state"]);
        for target in &notices.targets {
            let (state, colour) = state(target);
            table.add_row([
                style.cell(&target.name, None),
                style.cell(&target.from, None),
                style.cell(&target.way, None),
                style.cell(&target.place, None),
                super::right(target.taken),
                style.cell(state, Some(colour)),
            ]);
        }
        text.push_str(&finish(table, &[4]));
    }
    if let Some(by) = &notices.told_by {
        let (targets, node) = (clean(&by.targets), clean(&by.node));
        // Writing to a string cannot fail.
        writeln!(text, "\nthe flock's incidents are told to {targets}, last by {node}").ok();
    }
    if notices.dropped > 0 {
        writeln!(text, "\n{} incidents were not noted: there are too many", notices.dropped).ok();
    }
    if notices.incidents.is_empty() {
        text.push_str("\nno incident is known\n");
        return text;
    }
    text.push('\n');
    let mut table = style.table(&["state", "what", "with", "since", "until", "told"]);
    for incident in &notices.incidents {
        let colour = (incident.state == "open").then_some(Color::Red);
        let until = incident.closed.map_or_else(|| "-".to_owned(), human::moment);
        table.add_row([
            style.cell(&incident.state, colour),
            style.cell(&incident.kind, None),
            style.cell(&incident.subject, None),
            style.cell(human::moment(incident.opened), None),
            style.cell(until, None),
            style.cell(told(incident), None),
        ]);
    }
    text.push_str(&finish(table, &[]));
    for incident in notices.incidents.iter().filter(|incident| incident.state == "open") {
        let (subject, what) = (clean(&incident.subject), clean(&incident.what));
        let hint = clean(&incident.hint);
        writeln!(text, "\n{} {subject}: {what}\n  hint: {hint}", incident.kind).ok();
    }
    text
}

fn told(incident: &Incident) -> String {
    let by = if incident.alone { " (by this node alone)" } else { "" };
    if incident.told.is_empty() {
        return format!("nobody yet{by}");
    }
    let each = incident.told.iter().map(|told| match &told.letter {
        Some(_) => format!("{} soon", told.target),
        None if told.step < incident.step => format!("{} in part", told.target),
        None => told.target.clone(),
    });
    each.collect::<Vec<_>>().join(", ") + by
}

fn state(target: &NotifyTarget) -> (String, Color) {
    if let Some(why) = target.lacks.as_ref().filter(|_| target.failing.is_none()) {
        return (format!("cannot be told by this node: {why}"), Color::Red);
    }
    let Some(why) = &target.failing else {
        let never = target.taken == 0;
        return (if never { "not used yet" } else { "well" }.to_owned(), Color::Green);
    };
    let since = target.failing_ms.map_or_else(String::new, human::span);
    let again = target
        .again_ms
        .map_or_else(String::new, |ms| format!(", tried again in {}", human::span(ms)));
    (format!("fails since {since}: {why}{again}"), Color::Red)
}

/// What each target answered.
#[must_use]
pub fn tested(tested: &[NotifyTested]) -> String {
    let mut text = String::new();
    for one in tested {
        let (target, place, said) = (clean(&one.target), clean(&one.place), clean(&one.said));
        let word = if one.taken { "took it" } else { "did not take it" };
        let took = human::span(one.took_ms);
        writeln!(text, "{target} ({}, {place}) {word} after {took}: {said}", one.way).ok();
        if let Some(hint) = &one.hint {
            writeln!(text, "  hint: {}", clean(hint)).ok();
        }
    }
    text
}
