//! Our own agent, driven as an operator drives it: by its commands, its socket and its event log.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Micros, Seat, Seen, Sighting};
use crate::process::capture;

/// The port that every agent listens at, each on an address of its own.
const PORT: u16 = 7400;
/// An agent answers in milliseconds; one that takes this long will not.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn prepare(binary: &Path, folder: &Path, seats: &[Seat]) -> Result<()> {
    let ca = folder.join("ca");
    let skep = |arguments: &[&str]| {
        let mut command = Command::new(binary);
        command.args(arguments).arg("--dir").arg(&ca);
        command
    };
    capture(&mut skep(&["ca", "init", "--bloc", "bench"]))?;
    for seat in seats {
        let mut issue = skep(&["ca", "issue", &seat.name, "--role", "queen"]);
        capture(issue.arg("--out").arg(identity(seat)))?;
        let seed = (seat != &seats[0]).then_some(&seats[0]);
        let path = config(seat);
        fs::write(&path, configuration(seat, seed))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

pub(super) fn agent(binary: &Path, seat: &Seat) -> Command {
    let mut command = Command::new(binary);
    command.args(["agent", "--config"]).arg(config(seat));
    command
}

pub(super) fn event_file(seat: &Seat) -> PathBuf {
    seat.folder.join("state/events.jsonl")
}

/// A line of the event log, as far as presence is concerned.
#[derive(Deserialize)]
struct Line {
    monotonic_us: u64,
    event: String,
    node: Option<String>,
    presence: Option<String>,
}

pub(super) fn sighting(line: &str) -> Option<Sighting> {
    let line: Line = serde_json::from_str(line).ok()?;
    if line.event != "member" {
        return None;
    }
    let seen = match line.presence?.as_str() {
        "present" => Seen::Present,
        "silent" | "given-up" => Seen::Silent,
        "restarting" => Seen::Restarting,
        "left" => Seen::Left,
        _ => return None,
    };
    Some(Sighting { at: Micros(line.monotonic_us), node: line.node?, seen })
}

/// Publishes an update to the group `all` at the agent of `seat` and gives its identity.
///
/// It speaks to the agent's socket itself: starting a command would be part of the latency.
///
/// # Errors
/// When the agent does not answer, or refuses.
pub fn publish(seat: &Seat, body: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Published {
        id: String,
    }
    let path = socket(seat);
    let mut stream =
        UnixStream::connect(&path).with_context(|| format!("connecting to {}", path.display()))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let length = body.len();
    write!(
        stream,
        "POST /v1/groups/all/updates HTTP/1.1\r\nhost: skep\r\nconnection: close\r\n\
         content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading the agent's answer")?;
    let (head, content) = answer.split_once("\r\n\r\n").context("the answer has no end of head")?;
    ensure!(head.starts_with("HTTP/1.1 2"), "{} refused: {content}", seat.name);
    let object = content
        .find('{')
        .and_then(|start| content.get(start..=content.rfind('}')?))
        .context("the answer holds no object")?;
    let published: Published = serde_json::from_str(object).context("reading the answer")?;
    Ok(published.id)
}

fn identity(seat: &Seat) -> PathBuf {
    seat.folder.join("identity")
}

fn config(seat: &Seat) -> PathBuf {
    seat.folder.join("skep.toml")
}

fn socket(seat: &Seat) -> PathBuf {
    seat.folder.join("control.sock")
}

/// The defaults but for places: what is measured is what one gets.
fn configuration(seat: &Seat, seed: Option<&Seat>) -> String {
    let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
    let join = seed.map_or_else(String::new, |seed| format!("\"{}:{PORT}\"", seed.ip));
    format!(
        "[node]\nstate_dir = {}\nidentity_dir = {}\n\n[listen]\naddresses = [\"{}:{PORT}\"]\n\n\
         [join]\naddresses = [{join}]\n\n[join.multicast]\nenabled = false\n\n\
         [control]\nsocket = {}\n",
        quoted(seat.folder.join("state")),
        quoted(identity(seat)),
        seat.ip,
        quoted(socket(seat)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_event_log_is_understood() {
        let line = |presence: &str| {
            let line = r#"{"number":1,"at":0,"monotonic_us":12,"event":"member","node":"n3","#;
            format!("{line}\"presence\":\"{presence}\",\"incarnation\":2}}")
        };
        let of = |seen| Some(Sighting { at: Micros(12), node: "n3".to_owned(), seen });
        assert_eq!(sighting(&line("present")), of(Seen::Present));
        assert_eq!(sighting(&line("restarting")), of(Seen::Restarting));
        assert_eq!(sighting(&line("given-up")), of(Seen::Silent));
        assert_eq!(sighting(&line("else")), None);
        assert_eq!(sighting(r#"{"monotonic_us":1,"event":"flock","present":3}"#), None);
        assert_eq!(sighting("{\"torn"), None);
    }
}
