//! What the agents say of their flock's management, and orders to it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::fleet::Fleet;
use super::super::software::{Control, Seat};

/// Longest wait for anything that takes seconds: a machine under load is slow, not broken.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often agents are asked: seldom beside what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who manages a flock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// The number of the master's agent.
    pub master: usize,
    /// Those of the backups.
    pub backups: Vec<usize>,
    /// The flock's history, and how often it was founded again.
    pub history: (String, u64),
}

/// What an agent says of its flock's management.
///
/// # Errors
/// When it does not answer.
pub fn management(seat: &Seat) -> Result<Value> {
    Ok(Control::new(seat)?.get("/v1/flock")?["management"].take())
}

/// The digest of an agent's catalog, and after how many commands it is.
///
/// # Errors
/// When it does not answer.
pub fn catalog(seat: &Seat) -> Result<(String, u64)> {
    // No entry is of that kind: what is in it is not wanted.
    let catalog = Control::new(seat)?.get("/v1/catalog?kind=none")?;
    let root = catalog["root"].as_str().context("a catalog without a digest")?;
    Ok((root.to_owned(), catalog["index"].as_u64().context("a catalog without an index")?))
}

/// Sets a setting and waits until it is acknowledged.
///
/// # Errors
/// When it is refused, or nobody knows what became of it.
pub fn set(control: &mut Control, name: &str, value: usize) -> Result<Value> {
    let entry = json!({ "key": format!("setting/{name}"), "fields": { "value": value } });
    control.post("/v1/catalog", &entry)
}

/// Writes entries called by `name`, with what they say, in large commands.
///
/// # Errors
/// When not all are written.
pub fn import(seat: &Seat, entries: impl Iterator<Item = (String, usize)>) -> Result<()> {
    let mut text = String::new();
    for (name, value) in entries {
        text += &format!("[setting.\"{name}\"]\nvalue = {value}\n");
    }
    let mut control = Control::new(seat)?.patient(PATIENCE)?;
    let done = control.post_bytes("/v1/catalog-import?replace=false", text.as_bytes())?;
    ensure!(done["stopped"].is_null(), "an import stopped: {}", done["stopped"]);
    Ok(())
}

/// Has the master hand over.
///
/// # Errors
/// When it does not.
pub fn step_down(seat: &Seat) -> Result<()> {
    Control::new(seat)?.post("/v1/flock", &json!({ "order": "step-down" })).map(drop)
}

/// Asks again and again until `done` gives something.
///
/// # Errors
/// The last error of `done` when that takes too long.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match done() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {PATIENCE:?}")));
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Waits until all of `among` name the same master with two backups, who keep every acknowledged
/// write between them.
///
/// # Errors
/// When it takes too long.
pub fn until_managed(fleet: &Fleet, among: &[usize]) -> Result<Managed> {
    until("one master with two backups", || {
        let mut all = None;
        for number in among {
            let seen = management(fleet.seat(*number)?)?;
            let seen = managed(fleet, &seen)?;
            let first = all.get_or_insert_with(|| seen.clone());
            ensure!(*first == seen, "{first:?} and {seen:?}");
        }
        let all = all.context("nobody was asked")?;
        let itself = management(fleet.seat(all.master)?)?;
        ensure!(itself["role"] == "master", "the master calls itself {}", itself["role"]);
        let kept = itself["sync_set"].as_array().map_or(0, Vec::len);
        ensure!(all.backups.len() == 2 && kept == 3, "{all:?}, kept by {kept}");
        Ok(all)
    })
}

fn managed(fleet: &Fleet, seen: &Value) -> Result<Managed> {
    let number = |name: &Value| numbered(fleet, name.as_str()?);
    let master = number(&seen["master"]).context("no master is named")?;
    let backups = seen["backups"].as_array().context("backups are no list")?;
    let mut backups: Vec<usize> = backups.iter().filter_map(number).collect();
    backups.sort_unstable();
    let lineage = seen["lineage"].as_str().context("there is no flock")?;
    let generation = seen["generation"].as_u64().unwrap_or_default();
    Ok(Managed { master, backups, history: (lineage.to_owned(), generation) })
}

/// The number of the agent of that name.
#[must_use]
pub fn numbered(fleet: &Fleet, name: &str) -> Option<usize> {
    (0..fleet.len()).find(|number| fleet.seat(*number).is_ok_and(|seat| seat.name == name))
}

impl Managed {
    /// Agents of `count` that are no managers.
    #[must_use]
    pub fn plain(&self, count: usize) -> Vec<usize> {
        let office = |number: &usize| *number == self.master || self.backups.contains(number);
        (0..count).filter(|number| !office(number)).collect()
    }
}
