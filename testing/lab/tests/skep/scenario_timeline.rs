//! A flock of real agents with short timers, and what happened to it: the managers' own events of
//! all nodes and what the test did, in one order, as a person on call would want to read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};
use crate::managers::management;

/// Seconds instead of ten: scenarios wait for each of these.
const TIMERS: &str = "[managers]\nbackup_silent = \"3s\"\nbackup_reached = \"2s\"\n\
                      alone = \"3s\"\norphaned = \"4s\"\norphaned_holding = \"8s\"\n";

/// What agents of a scenario are configured with.
pub(crate) fn settings() -> Settings {
    Settings { more: TIMERS.to_owned(), ..Settings::default() }
}

/// The same, and each writes down the letters about incidents that it sends.
pub(crate) fn settings_with_letters() -> Settings {
    let more = format!(
        "{TIMERS}[notify]\nsettle = \"1s\"\nalone_after = \"1s\"\ngather = \"100ms\"\n\
         per_hour = 3600\n[notify.command.log]\ncommand = \"(cat; echo) >> {LETTERS}\"\n"
    );
    Settings { more, ..Settings::default() }
}

/// Where a machine has its letters.
const LETTERS: &str = "/var/letters";

/// The names of the letters in which each step of each incident was told by any of the nodes, by
/// what was told (`open: fork calm-glen`) and the number of the incident.
fn letters(nodes: &[Node]) -> Result<BTreeMap<(String, String), BTreeSet<String>>> {
    let mut told: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for node in nodes {
        let text = node.host.shell(format!("cat {LETTERS} 2> /dev/null || true")).run()?;
        // The last line may be coming in.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let letter: Value = serde_json::from_str(line)?;
            let name = letter["letter"].as_str().context("a letter without a name")?;
            for item in letter["incidents"].as_array().context("a letter of nothing")? {
                let word = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
                let what = format!("{}: {} {}", word("state"), word("kind"), word("subject"));
                told.entry((what, word("id"))).or_default().insert(name.to_owned());
            }
        }
    }
    Ok(told)
}

/// Waits until an incident of this kind was told in this state, and finds that it was one, and that
/// of all incidents each step was told under one name.
pub(crate) fn until_told_once(bloc: &Bloc, nodes: &[Node], what: &str) -> Result<()> {
    bloc.lab.wait_until(&format!("{what} is told"), PATIENCE, || {
        let told = letters(nodes)?;
        ensure!(told.keys().any(|(it, _)| it.starts_with(what)), "told are {told:?}");
        Ok(())
    })?;
    let told = letters(nodes)?;
    ensure!(told.values().all(|names| names.len() == 1), "told under two names: {told:#?}");
    let of = told.keys().filter(|(it, _)| it.starts_with(what)).count();
    ensure!(of == 1, "{what} is {of} incidents: {told:#?}");
    Ok(())
}

/// What happened to the flock, as a node lists it: what, and who told it.
pub(crate) fn flock_events(node: &Node) -> Result<Vec<(String, String)>> {
    let lines = node.skep(&["events", "--flock", "--json"]).run()?;
    let word = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line)?;
        let what = format!("{} {}", word(&event, "event"), word(&event, "flock"));
        all.push((what, word(&event, "by")));
    }
    Ok(all)
}

/// Nodes and what happened among them. What it holds is printed when it goes, also of a test that
/// failed.
pub(crate) struct Timeline {
    scenario: &'static str,
    begun: u64,
    /// When, where and what; each once.
    lines: BTreeSet<(u64, String, String)>,
}

impl Timeline {
    pub(crate) fn new(scenario: &'static str) -> Result<Self> {
        Ok(Self { scenario, begun: boot_micros()?, lines: BTreeSet::new() })
    }

    /// What the test does now.
    pub(crate) fn note(&mut self, on: &str, what: &str) -> Result<()> {
        self.lines.insert((boot_micros()?, on.to_owned(), format!("[test] {what}")));
        Ok(())
    }

    /// Takes in what the nodes noted, those that answer.
    pub(crate) fn gather(&mut self, nodes: &[Node]) {
        for node in nodes {
            // Who is dead or stands still has nothing to say; it is gathered before or after.
            let Ok(printed) = node.skep(&["events", "--json"]).deadline(ANSWER).run() else {
                continue;
            };
            let events = printed.lines().filter_map(|line| serde_json::from_str(line).ok());
            for event in events {
                if let Some((at, what)) = told(&event) {
                    self.lines.insert((at, node.name.clone(), what));
                }
            }
        }
    }

    /// Whether any node noted something with these words since the scenario began.
    pub(crate) fn tells(&self, words: &str) -> bool {
        self.lines.iter().any(|(at, _, what)| *at >= self.begun && what.contains(words))
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.scenario);
        for (at, on, what) in self.lines.iter().filter(|(at, _, _)| *at >= self.begun) {
            let since = Duration::from_micros(at - self.begun).as_secs_f64();
            text += &format!("  +{since:7.3} s  {on:<2} {what}\n");
        }
        text
    }
}

/// A node that runs answers in milliseconds.
const ANSWER: Duration = Duration::from_secs(10);

impl Drop for Timeline {
    fn drop(&mut self) {
        // Not a panic: the test's own failure, if there is one, matters more.
        drop(writeln!(std::io::stdout(), "{}", self.text()));
    }
}

/// What an event says of managers or presence, and when it was.
fn told(event: &Value) -> Option<(u64, String)> {
    let at = event["monotonic_us"].as_u64()?;
    match event["event"].as_str()? {
        "managers" => Some((at, event["what"].as_str()?.to_owned())),
        "member" if event["presence"] != "present" => {
            Some((at, format!("{} is {}", event["node"].as_str()?, event["presence"].as_str()?)))
        }
        _ => None,
    }
}

/// The clock by which agents stamp their events.
fn boot_micros() -> Result<u64> {
    let uptime = fs::read_to_string("/proc/uptime")?;
    let seconds = uptime.split_whitespace().next().context("an empty /proc/uptime")?;
    let hundredths: u64 = seconds.replace('.', "").parse().context("reading /proc/uptime")?;
    Ok(hundredths * 10_000)
}

/// Splits nodes into the one of that name and all others.
pub(crate) fn apart<'a>(nodes: &'a [Node], name: &str) -> Result<(&'a Node, Vec<&'a Node>)> {
    let one = nodes.iter().find(|node| node.name == name);
    let others = nodes.iter().filter(|node| node.name != name).collect();
    Ok((one.with_context(|| format!("no node {name}"))?, others))
}

/// The names of the backups, as a node shows them.
pub(crate) fn backups(node: &Node) -> Result<Vec<String>> {
    let seen = management(node)?;
    let names = seen["backups"].as_array().context("backups are no list")?;
    Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// The flock's history and how often it was founded again, as a node shows it.
pub(crate) fn history(node: &Node) -> Result<(String, u64)> {
    let seen = management(node)?;
    let lineage = seen["lineage"].as_str().context("there is no flock")?.to_owned();
    Ok((lineage, seen["generation"].as_u64().context("no generation")?))
}

/// Waits until a node plays one of these roles.
pub(crate) fn until_role(bloc: &Bloc, node: &Node, roles: &[&str]) -> Result<()> {
    let what = format!("{} is {}", node.name, roles.join(" or "));
    bloc.lab.wait_until(&what, PATIENCE, || {
        let role = management(node)?["role"].as_str().context("no role")?.to_owned();
        ensure!(roles.contains(&role.as_str()), "it is {role}");
        Ok(())
    })
}
