//! The catalog, the flock's management, its roster.

use std::fmt::Write as _;

use comfy_table::Color;
use serde::Serialize;
use skep_control::api::{
    Authority, Catalog, CatalogChange, CatalogDiff, CatalogEntry, CatalogHistory, Field, Freshness,
    Imported, Management, OtherFlock, Recovery, Split, Standing, Written,
};

use super::{Style, clean, count, facts, finish, names, right};
use crate::human;

/// Places of the roster on the page about the flock; `skep flock roster` lists all.
const PLACES: usize = 8;
/// Other flocks there.
const OTHERS: usize = 8;

/// Lines about who manages the flock, for the page about the flock.
pub(super) fn management(management: &Management) -> Vec<(&'static str, String)> {
    let mut rows = vec![("role", management.role.clone())];
    let Some(name) = &management.name else {
        rows.push(("managers", "none are known here".to_owned()));
        rows.extend(told(management).map(|told| ("told", told)));
        rows.extend(others(management));
        rows.extend(waits(management));
        return rows;
    };
    let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    rows.push(("managed", format!("as {name}, {}", stable(management))));
    let (generation, lineage) = (management.generation, of(&management.lineage));
    rows.push(("lineage", format!("{lineage}, generation {generation}")));
    let term = if management.term > 0 { management.term.to_string() } else { "-".to_owned() };
    let (epoch, stamp) = (management.epoch, of(&management.stamp));
    rows.push(("epoch", format!("{epoch} (stamp {stamp}), term {term}")));
    let why = management.weak.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    rows.push(("strength", format!("{}{why}", of(&management.strength))));
    rows.push(("founding", founding(management)));
    let since = |ms: u64| format!(", for {}", human::span(ms));
    let since = management.leads_ms.map_or_else(String::new, since);
    let master = management.master.as_ref().map(|master| format!("{master}{since}"));
    rows.push(("master", master.unwrap_or_else(|| "nobody now".to_owned())));
    rows.push(("backups", names(&management.backups)));
    if !management.learners.is_empty() {
        rows.push(("learners", names(&management.learners)));
    }
    rows.push(("sync set", names(&management.sync_set)));
    if let Some(authority) = &management.authority {
        rows.push(("strict", strict(authority)));
    }
    rows.push(("waves", split(&management.split)));
    rows.extend(places(&management.roster));
    rows.extend(told(management).map(|told| ("told", told)));
    rows.extend(others(management));
    rows.extend(waits(management));
    rows
}

/// Whether the flock is, and when it will be.
fn stable(management: &Management) -> String {
    match management.stable_in_ms {
        _ if management.stable => "stable".to_owned(),
        Some(ms) => format!("not stable yet: in {} if nothing changes", human::span(ms)),
        None => "not stable".to_owned(),
    }
}

/// The roster with its scores, the best of it.
fn places(roster: &[Standing]) -> Vec<(&'static str, String)> {
    let width = roster.iter().take(PLACES).map(|it| it.node.as_str().len()).max().unwrap_or(0);
    let row = |place: &Standing| {
        let Standing { standing, resources, availability, .. } = place;
        let (node, there) = (place.node.as_str(), f64::from(*availability) / 10.0);
        let state = match state(place).0 {
            state if state == "present" => String::new(),
            state => format!("; {state}"),
        };
        format!("{node:width$}  {standing:>4} = {resources:>4} × {there:>5.1} %{state}")
    };
    if roster.is_empty() {
        return vec![("roster", "-".to_owned())];
    }
    let mut rows = vec![("roster", "standing = resources × availability".to_owned())];
    rows.extend(roster.iter().take(PLACES).map(|place| ("", row(place))));
    if roster.len() > PLACES {
        rows.push(("", format!("and {} more: `skep flock roster`", roster.len() - PLACES)));
    }
    rows
}

/// Whose word it is; nothing where this node leads, and so knows it all.
fn told(management: &Management) -> Option<String> {
    let ago = |ms: u64| format!("{} ago", human::span(ms));
    if let Some(by) = &management.told_by {
        let when = management.told_ms.map_or_else(String::new, |ms| format!(", {}", ago(ms)));
        return (management.role != "master").then(|| format!("by {by}{when}"));
    }
    let why = management.untold.as_ref()?;
    let heard = management
        .told_ms
        .map_or_else(String::new, |ms| format!(" The master was last heard of {}.", ago(ms)));
    Some(format!(
        "NOT BY THE MASTER: {why}. Term, roster, strict authority and what is waited for are as \
         far as this node knows them.{heard}"
    ))
}

fn others(management: &Management) -> Vec<(&'static str, String)> {
    let row = |other: &OtherFlock| {
        let led = match &other.master {
            Some(master) if other.members > 0 => format!("led by {master}"),
            Some(master) => format!("was led by {master}"),
            None => "without a master".to_owned(),
        };
        let seen = match other.members {
            0 => format!("last seen {} ago", human::span(other.seen_ms_ago)),
            members => format!("{} now", count(members, "member")),
        };
        format!("{}: generation {}, {led}, {seen}", other.name, other.generation)
    };
    let others = &management.others;
    let mut rows: Vec<String> = others.iter().take(OTHERS).map(row).collect();
    if others.len() > OTHERS {
        rows.push(format!("and {} more: `skep flock --json`", others.len() - OTHERS));
    }
    rows.into_iter().map(|row| ("other flock", row)).collect()
}

/// Under which number the flock is strong, or how it becomes so.
fn founding(management: &Management) -> String {
    let strong = management.strength.as_deref() == Some("strong");
    match (management.founding, &management.token) {
        (number, Some(token)) if number > 0 => format!("number {number}; {token}"),
        (_, Some(token)) => token.clone(),
        // Whether it is weak is the master's to say.
        (number, None) if strong || (number > 0 && management.untold.is_some()) => {
            format!("number {number}")
        }
        (0, None) => {
            "no token was used: `skep ca status` says which node has it; where it is lost \
                      or over, `skep ca refound NODE` signs the next"
                .to_owned()
        }
        (number, None) => format!(
            "number {number}, and weak without a majority of its roster; only when that is gone \
             for ever, `skep ca refound NODE`"
        ),
    }
}

/// Who has strict authority, for how long.
fn strict(authority: &Authority) -> String {
    let Some(holder) = &authority.holder else { return "nobody has strict authority".to_owned() };
    let until = authority
        .until_ms
        .map_or_else(String::new, |ms| format!(", for {} if not renewed", human::span(ms)));
    format!("authority of {holder}{until}")
}

/// Whether waves start, and why.
#[must_use]
pub fn split(split: &Split) -> String {
    let may = if split.may_start { "may start" } else { "are held" };
    format!("{may}: {}, {}", split.in_force, split.why)
}

fn waits(management: &Management) -> impl Iterator<Item = (&'static str, String)> + '_ {
    management.waits.iter().map(|wait| {
        let by = wait.by.as_ref().map_or_else(String::new, |by| format!("{by}: "));
        let until = wait
            .until_ms
            .map_or_else(String::new, |ms| format!(", at most {} more", human::span(ms)));
        ("waits", format!("{by}{} ({} so far{until})", wait.what, human::span(wait.since_ms)))
    })
}

/// The roster, best first.
#[must_use]
pub fn roster(management: &Management, explain: bool, style: Style) -> String {
    let roster = &management.roster;
    let told = told(management).map(|told| ("told", told));
    if roster.is_empty() {
        let rows = [("roster", "none is known here".to_owned())];
        return facts(style, &rows.into_iter().chain(told).collect::<Vec<_>>());
    }
    let mut table = style.table(&["node", "standing", "state"]);
    if explain {
        let parts = ["resources", "network", "cpu", "memory", "disk", "availability", "state"];
        table = style.table(&[&["node", "standing"][..], &parts].concat());
    }
    for place in roster {
        let (state, colour) = state(place);
        let mut row = vec![style.cell(&place.node, None), right(place.standing)];
        if explain {
            row.push(right(place.resources));
            let parts = place.parts.map(|it| [it.network, it.processor, it.memory, it.disk]);
            match parts {
                Some(parts) => row.extend(parts.map(right)),
                None => row.extend(["-"; 4].map(right)),
            }
            row.push(right(place.availability));
        }
        row.push(style.cell(state, Some(colour)));
        table.add_row(row);
    }
    let mut text = finish(table, &[0, 1]);
    if let Some(told) = told {
        text.push('\n');
        text.push_str(&facts(style, &[told]));
    }
    if explain {
        text.push('\n');
        for place in roster {
            let _written = writeln!(text, "{}: {}", place.node, reasons(place).join("\n  "));
        }
        text.push_str(
            "\nStanding is resources times availability, each of 1000. Of resources\n\
             network and cpu count four times what memory and disk do; a node tells them\n\
             in steps of 100, or as its configuration says. Availability gains 50 in each\n\
             stay of `min_stay` that the node was there, loses up to a quarter in one that\n\
             it missed, and half when it loses an office. Absences are those that the node\n\
             which tells of them saw since its agent started.\n",
        );
    }
    text
}

/// Why a node stands where it stands.
fn reasons(place: &Standing) -> Vec<String> {
    let seen = place.seen;
    let mut reasons = vec![if place.present {
        format!("there for {}", human::span(seen.since_ms))
    } else {
        format!("away for {}", human::span(seen.since_ms))
    }];
    if seen.absences > 0 {
        let times = if seen.absences == 1 { "once" } else { "times" };
        let count = if seen.absences == 1 { String::new() } else { format!("{} ", seen.absences) };
        let mut text = format!("away {count}{times}, {} in all", human::span(seen.away_ms));
        if let Some(last) = seen.last {
            let (long, ago) = (human::span(last.lasted_ms), human::span(last.ended_ms));
            let _written = write!(text, ", last for {long} until {ago} ago");
        }
        reasons.push(text);
    } else {
        reasons.push("never away".to_owned());
    }
    match place.resources_now {
        Some(now) if now != place.resources => {
            reasons
                .push(format!("says {now} of resources now, which counts when its stay is over"));
        }
        Some(_) if place.parts.is_none() => {
            reasons.push("its resources are set, or not told yet".to_owned());
        }
        Some(_) | None => {}
    }
    if let Some(since) = place.held_since_ms {
        let since = human::span(since);
        reasons.push(format!("on hold by an operator's word for {since} or more"));
    }
    if let Some(since) = place.unwell_since_ms {
        let since = human::span(since);
        reasons.push(format!("not well for {since}: `skep events` there says why"));
    }
    reasons
}

/// What a recovery would mean, before anybody agrees to it.
#[must_use]
pub fn recovery(recovery: &Recovery) -> String {
    let mut text = format!("{} holds {}.\n", recovery.node, clean(&recovery.holds));
    if let Some(why) = &recovery.refused {
        let _written = writeln!(text, "It founds nothing now: {}.", clean(why));
    } else {
        let generation = recovery.generation;
        let _written = writeln!(text, "It would found generation {generation} or later from that.");
    }
    if !recovery.sync_set.is_empty() {
        text.push_str("\nAcknowledged writes were on the disks of\n");
        for member in &recovery.sync_set {
            let state = if member.present { "present" } else { "absent" };
            let _written = writeln!(text, "  {}  {state}", member.node);
        }
    }
    let parts = [("May be lost", &recovery.may_be_lost), ("Better would be", &recovery.better)];
    for (title, lines) in parts.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let _written = writeln!(text, "\n{title}:");
        for line in lines {
            let _written = writeln!(text, "  - {}", clean(line));
        }
    }
    text
}

fn state(place: &Standing) -> (String, Color) {
    let mut words = Vec::new();
    words.push(if place.present { "present" } else { "silent" });
    let flags = [
        (place.witness, "witness"),
        (place.held, "on hold"),
        (place.unwell_since_ms.is_some(), "not well"),
        (place.given_up, "given up"),
    ];
    words.extend(flags.iter().filter(|(is, _)| *is).map(|(_, word)| *word));
    let colour = if place.present { Color::Green } else { Color::Red };
    (words.join(", "), colour)
}

/// The entries, and how fresh they are.
#[must_use]
pub fn catalog(catalog: &Catalog, style: Style) -> String {
    let mut table = style.table(&["entry", "revision", "says"]);
    for entry in &catalog.entries {
        table.add_row(vec![
            style.cell(&entry.key, None),
            right(entry.revision),
            style.cell(says(entry), None),
        ]);
    }
    format!("{}\n{}", finish(table, &[0, 1]), freshness(catalog))
}

fn freshness(catalog: &Catalog) -> String {
    let stale = stale(catalog.freshness.as_ref());
    if !stale.is_empty() {
        return stale;
    }
    let at = format!("index {}, stamp {}", catalog.index, catalog.stamp);
    match &catalog.signed_by {
        Some(master) => {
            format!("{at}: as {master} signed it {} ago\n", human::span(catalog.known_ms))
        }
        None => format!("{at}: no master has signed one since this agent started\n"),
    }
}

/// Why what is shown may be old, and what it is; nothing where it is what the flock says now.
#[must_use]
pub fn stale(freshness: Option<&Freshness>) -> String {
    let Some(fresh) = freshness.filter(|it| it.stale) else { return String::new() };
    let why = match (fresh.unreached_ms, &fresh.signed_by) {
        (Some(since), _) if fresh.reached_before => {
            format!("no master is reached since {}", human::span(since))
        }
        (Some(since), _) => {
            format!("no master was reached since this agent started, {} ago", human::span(since))
        }
        (None, Some(master)) if !fresh.newest_signed => {
            let known = human::span(fresh.known_ms);
            format!("{master} signed a newer one {known} ago that has not come yet")
        }
        (None, _) => "no master has signed one since this agent started".to_owned(),
    };
    if fresh.index == 0 {
        return format!("STALE: {why};\nthis node has nothing of a catalog yet\n");
    }
    let signed = || fresh.signed_by.as_ref().map(ToString::to_string);
    let who = fresh.flock.clone().or_else(signed);
    let said = who.map_or_else(|| "its disk had".to_owned(), |who| format!("{} said", clean(&who)));
    let (index, stamp) = (fresh.index, clean(&fresh.stamp));
    let changed = fresh.changed.map_or_else(String::new, |at| {
        format!(",\nwhere the last change is of {}", human::moment(at))
    });
    format!("STALE: {why};\nthis is what {said} at index {index}, stamp {stamp}{changed}\n")
}

/// The same as comments of a file.
#[must_use]
pub fn stale_comment(freshness: Option<&Freshness>) -> String {
    stale(freshness).lines().map(|line| format!("# {line}\n")).collect()
}

/// An entry, and how fresh that is.
#[derive(Clone, Debug, Serialize)]
pub struct OneEntry {
    /// What it says.
    #[serde(flatten)]
    pub entry: CatalogEntry,
    /// Nothing from an agent that does not say.
    pub freshness: Option<Freshness>,
}

/// One entry.
#[must_use]
pub fn entry(one: &OneEntry, style: Style) -> String {
    let entry = &one.entry;
    let mut rows = vec![
        ("entry", entry.key.clone()),
        ("revision", format!("{} under {}", entry.revision, entry.stamp)),
        ("written", format!("by {} at {}", entry.who, human::moment(entry.when))),
    ];
    if let Some(place) = &entry.merged_from {
        rows.push(("merged", format!("from another flock, which wrote it under {place}")));
    }
    let fields: Vec<(String, String)> =
        entry.fields.iter().map(|(name, field)| (name.clone(), value(field))).collect();
    rows.extend(fields.iter().map(|(name, value)| (name.as_str(), value.clone())));
    facts(style, &rows) + &stale(one.freshness.as_ref())
}

/// What an entry said, the newest first.
#[must_use]
pub fn history(history: &CatalogHistory, style: Style) -> String {
    let mut table = style.table(&["revision", "at", "who", "said"]);
    for version in &history.versions {
        table.add_row(vec![
            right(version.revision),
            style.cell(human::moment(version.when), None),
            style.cell(&version.who, None),
            style.cell(says(version), None),
        ]);
    }
    let mut text = finish(table, &[0, 1]);
    if history.cut {
        text.push_str("older versions were let go\n");
    }
    text + &stale(history.freshness.as_ref())
}

/// What changed.
#[must_use]
pub fn diff(diff: &CatalogDiff, _: Style) -> String {
    let mut text = String::new();
    for CatalogChange { key, before, before_lost, after } in &diff.changes {
        let key = clean(key);
        // Writing to a string cannot fail.
        match before {
            Some(before) => writeln!(text, "- {key} {}", clean(&says(before))).ok(),
            None if *before_lost => writeln!(text, "- {key} (not kept any more)").ok(),
            None => None,
        };
        if let Some(after) = after {
            writeln!(text, "+ {key} {}", clean(&says(after))).ok();
        }
    }
    if text.is_empty() {
        text = format!("nothing changed between index {} and index {}\n", diff.from, diff.to);
    }
    text + &stale(diff.freshness.as_ref())
}

/// What merges left to decide.
#[must_use]
pub fn conflicts(catalog: &Catalog, style: Style) -> String {
    let (entries, stale) = (&catalog.entries, stale(catalog.freshness.as_ref()));
    if entries.is_empty() {
        return "no merge left anything to decide\n".to_owned() + &stale;
    }
    let mut table = style.table(&["name", "wanted"]);
    for entry in entries {
        let name = entry.key.split_once('/').map_or(entry.key.as_str(), |(_, name)| name);
        table.add_row(vec![style.cell(name, None), style.cell(says(entry), None)]);
    }
    finish(table, &[0]) + &stale
}

/// What became of a write.
#[must_use]
pub fn written(written: &Written) -> String {
    let changed = match written.changed.as_slice() {
        [] => "said so already".to_owned(),
        [one] => format!("{one} is set"),
        more => format!("{} entries are set", more.len()),
    };
    let about = match written.strength.as_str() {
        "strong" => "",
        _ => ": promised to reach a merge or its conflict log, not to survive a second loss",
    };
    format!("{changed}: revision {}, {}{about}\n", written.index, written.strength)
}

/// What became of an import.
#[must_use]
pub fn imported(imported: &Imported, dry_run: bool) -> String {
    let mut text = String::new();
    let would = if dry_run { "would be " } else { "" };
    for key in &imported.set {
        writeln!(text, "{} {would}set", clean(key)).ok();
    }
    for key in &imported.removed {
        writeln!(text, "{} {would}removed", clean(key)).ok();
    }
    let strength = imported.strength.as_ref().map_or(String::new(), |it| format!(", {it}"));
    writeln!(
        text,
        "{} set, {} removed, {} as they were{strength}",
        imported.set.len(),
        imported.removed.len(),
        imported.same
    )
    .ok();
    if let Some(why) = &imported.stopped {
        writeln!(text, "STOPPED before the rest: {}", clean(why)).ok();
    }
    text
}

fn says(entry: &CatalogEntry) -> String {
    if entry.removed {
        return "(removed)".to_owned();
    }
    if entry.fields.is_empty() {
        return format!("(schema {}, which this build cannot read)", entry.schema);
    }
    let fields = entry.fields.iter().map(|(name, field)| format!("{name}={}", value(field)));
    fields.collect::<Vec<_>>().join(" ")
}

fn value(field: &Field) -> String {
    match field {
        Field::Flag(flag) => flag.to_string(),
        Field::Number(number) => number.to_string(),
        Field::Text(text) if text.contains(' ') || text.is_empty() => format!("{text:?}"),
        Field::Text(text) => text.clone(),
        Field::List(items) => format!("[{}]", items.join(",")),
    }
}
