//! Our own agent, driven as an operator drives it: by its commands, its socket and its event log.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::http::{ANSWER_WITHIN, Control, head, next_chunk};
use super::{Micros, Seat, Seen, Sighting, Software};
use crate::process::capture;

/// The port that every agent listens at, each on an address of its own.
const PORT: u16 = 7400;
/// How often a follower tries a socket that is not there yet. Times come from the events.
const CONNECT_EVERY: Duration = Duration::from_millis(50);
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
        fs::create_dir_all(root(seat))?;
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

/// Runs a verb as an operator does and gives what it printed; at a seat's agent, as JSON.
///
/// # Errors
/// When the verb fails; the message carries what it said.
pub fn operate(software: &Software, at: Option<&Seat>, verb: &[&str]) -> Result<String> {
    let Software::Skep(binary) = software else {
        bail!("{} has other verbs", software.name());
    };
    let mut command = Command::new(binary);
    command.args(verb);
    if let Some(seat) = at {
        command.arg("--json").arg("--socket").arg(socket(seat));
    }
    capture(&mut command)
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

/// Publishes over one lasting connection to an agent's socket.
pub struct Publisher(Control);

impl Publisher {
    /// Connects to the agent of `seat`.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn new(seat: &Seat) -> Result<Self> {
        Control::new(seat).map(Self)
    }

    /// Publishes to the group `all`, waits until it is durable and gives its identity.
    ///
    /// # Errors
    /// When the agent refuses.
    pub fn publish(&mut self, body: &[u8]) -> Result<String> {
        let published = self.0.post_bytes("/v1/groups/all/updates", body)?;
        let id = published["id"].as_str().context("a publish without an identity")?;
        Ok(id.to_owned())
    }
}

/// A client of the line protocol that publishes without waiting for each reply.
pub struct Lines {
    stream: UnixStream,
}

impl Lines {
    /// Connects to the client socket of `seat`.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn new(seat: &Seat) -> Result<Self> {
        let path = seat.folder.join("client.sock");
        let stream = UnixStream::connect(&path)
            .with_context(|| format!("connecting to {}", path.display()))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream })
    }

    /// Publishes `count` bodies to the group `all`, at most `ahead` of them unanswered, and
    /// returns when the last is durable.
    ///
    /// # Errors
    /// When the agent refuses one.
    pub fn publish_all(&self, body: &[u8], count: usize, ahead: usize) -> Result<()> {
        let mut command = format!("binary {} all\n", body.len()).into_bytes();
        command.extend_from_slice(body);
        let mut writer = self.stream.try_clone()?;
        let (go, gone) = std::sync::mpsc::sync_channel::<()>(ahead);
        let sender = thread::spawn(move || -> Result<()> {
            // What is ahead goes out in few writes.
            let mut batch = Vec::new();
            for number in 0..count {
                batch.extend_from_slice(&command);
                if go.try_send(()).is_err() {
                    writer.write_all(&batch)?;
                    batch.clear();
                    go.send(()).context("the replies ended")?;
                } else if batch.len() > 64 << 10 || number + 1 == count {
                    writer.write_all(&batch)?;
                    batch.clear();
                }
            }
            writer.write_all(&batch)?;
            Ok(())
        });
        let mut reader = BufReader::new(self.stream.try_clone()?);
        let mut line = String::new();
        let mut answered = 0;
        while answered < count {
            line.clear();
            ensure!(reader.read_line(&mut line)? > 0, "the agent hung up after {answered}");
            match line.get(..4) {
                Some("250 ") => {
                    answered += 1;
                    gone.recv().context("nothing was sent")?;
                }
                Some("220 " | "250-") => {}
                _ => bail!("the agent refused: {}", line.trim_end()),
            }
        }
        sender.join().map_err(|_| anyhow::anyhow!("the sender failed"))?
    }
}

/// Reads what an agent notes, as it notes it.
pub struct Follower {
    socket: PathBuf,
    /// Where the connection is while there is one, for whoever wants it to end.
    connection: Arc<Mutex<Option<UnixStream>>>,
}

impl Follower {
    pub(super) fn new(seat: &Seat) -> Self {
        Self { socket: socket(seat), connection: Arc::default() }
    }

    /// Where the connection will be.
    #[must_use]
    pub fn connection(&self) -> Arc<Mutex<Option<UnixStream>>> {
        Arc::clone(&self.connection)
    }

    /// Calls `each` with every event's line until the agent ends, or until `over` is set before
    /// the agent listens.
    ///
    /// # Errors
    /// When the agent answers with something else than events.
    pub fn follow(self, over: &AtomicBool, mut each: impl FnMut(&str)) -> Result<()> {
        let mut stream = loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => break stream,
                Err(_) if over.load(Ordering::Relaxed) => return Ok(()),
                Err(_) => thread::sleep(CONNECT_EVERY),
            }
        };
        let clone = stream.try_clone()?;
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(clone);
        write!(stream, "GET /v1/events?after=0&follow=true HTTP/1.1\r\nhost: skep\r\n\r\n")?;
        let mut reader = BufReader::new(stream);
        let head = head(&mut reader)?;
        ensure!(head.starts_with("HTTP/1.1 200"), "the agent refused to show events: {head}");
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        ensure!(chunked, "events come in chunks: {head}");
        let mut text = Vec::new();
        while let Some(chunk) = next_chunk(&mut reader)? {
            text.extend(chunk);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                each(String::from_utf8_lossy(&line).trim_end());
            }
        }
        Ok(())
    }
}

fn identity(seat: &Seat) -> PathBuf {
    seat.folder.join("identity")
}

fn config(seat: &Seat) -> PathBuf {
    seat.folder.join("skep.toml")
}

/// What the agent takes for the root of its host's trees.
fn root(seat: &Seat) -> PathBuf {
    seat.folder.join("root")
}

pub(super) fn socket(seat: &Seat) -> PathBuf {
    seat.folder.join("control.sock")
}

/// The defaults but for places: what is measured is what one gets.
fn configuration(seat: &Seat, seed: Option<&Seat>) -> String {
    let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
    let join = seed.map_or_else(String::new, |seed| format!("\"{}:{PORT}\"", seed.ip));
    format!(
        "[node]\nstate_dir = {}\nidentity_dir = {}\n\n[listen]\naddresses = [\"{}:{PORT}\"]\n\n\
         [join]\naddresses = [{join}]\n\n[join.multicast]\nenabled = false\n\n\
         [control]\nsocket = {}\n\n[wave]\nroot = {}\nas_user = true\n",
        quoted(seat.folder.join("state")),
        quoted(identity(seat)),
        seat.ip,
        quoted(socket(seat)),
        quoted(root(seat)),
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

    #[test]
    fn events_are_followed_across_chunks_until_the_agent_ends() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = head(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                          5\r\n{\"a\":\r\n7\r\n1}\n{}\n{\r\n9\r\n\"torn";
            stream.write_all(answer.as_bytes()).unwrap();
            asked
        });
        let mut lines = Vec::new();
        let follower = Follower { socket, connection: Arc::default() };
        follower.follow(&AtomicBool::new(false), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["{\"a\":1}", "{}"]);
        assert!(agent.join().unwrap().starts_with("GET /v1/events?"));
    }

    #[test]
    fn a_follower_of_an_agent_that_never_came_ends() {
        let socket = "/no/such/socket".into();
        let follower = Follower { socket, connection: Arc::default() };
        follower.follow(&AtomicBool::new(true), |_| panic!("a line from nowhere")).unwrap();
    }
}
