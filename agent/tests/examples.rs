//! The examples of the client library, as they are in its folder, run against a real agent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

mod ports;

/// Whatever is waited for comes sooner on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is gone when this is.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Builds the examples, which costs a moment where they are built already, and says where each is.
fn examples() -> BTreeMap<String, PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", "skep-client", "--examples", "--message-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let messages = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
    let built = messages.filter_map(|message: serde_json::Value| {
        let target = &message["target"];
        let example = target["kind"].as_array()?.iter().any(|kind| kind == "example");
        let executable = message["executable"].as_str().filter(|_| example)?;
        Some((target["name"].as_str()?.to_owned(), PathBuf::from(executable)))
    });
    built.collect()
}

fn skep(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(words).current_dir(dir).env_remove("SKEP_CONFIG");
    command.env("SKEP_SOCKET", dir.join("control.sock"));
    command
}

/// A node by itself, which publishes.
fn agent(dir: &Path) -> Running {
    let done = |words: &[&str]| {
        let output = skep(dir, words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["ca", "init", "--bloc", "example", "--dir", "ca"]);
    done(&["ca", "issue", "inferno", "--dir", "ca", "--out", "state/identity"]);
    let port = ports::free();
    let at = dir.display();
    let config = format!(
        "[node]\nstate_dir = \"{at}/state\"\n[listen]\naddresses = [\"127.0.0.1:{port}\"]\n\
         [join.multicast]\nenabled = false\n[control]\nsocket = \"{at}/control.sock\"\n"
    );
    std::fs::write(dir.join("skep.toml"), config).unwrap();
    let mut command = skep(dir, &["agent", "--config", "skep.toml"]);
    let agent = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let since = Instant::now();
    while !skep(dir, &["flood", "send", "--text", "first"]).output().unwrap().status.success() {
        assert!(since.elapsed() < PATIENCE, "it does not publish");
        std::thread::sleep(Duration::from_millis(50)); // sleeps: deadline above
    }
    agent
}

#[test]
fn each_example_does_what_it_says() {
    let examples = examples();
    let dir = tempfile::tempdir().unwrap();
    let _agent = agent(dir.path());
    let socket = dir.path().join("client.sock").display().to_string();
    let example = |name: &str, words: &[&str]| {
        let mut command = Command::new(&examples[name]);
        command.arg(&socket).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let said = |output: Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let fed = |mut command: Command, input: &str| {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        said(child.wait_with_output().unwrap())
    };
    let mut known: Vec<&str> = examples.keys().map(String::as_str).collect();
    known.sort_unstable();
    assert_eq!(known, ["channel", "look", "nearest", "publish", "subscribe"]);

    // A name that was acknowledged goes on where it was, so it is there before the updates are.
    let mut listening = Running(example("subscribe", &["all", "my-name"]).spawn().unwrap());
    let mut heard = BufReader::new(listening.0.stdout.take().unwrap()).lines();
    assert_eq!(heard.next().unwrap().unwrap(), "that is all for now");
    let published = fed(example("publish", &["all"]), "one\ntwo\nthree\n");
    assert_eq!(published, "3 updates, the last is inferno:1:4 in all\n");
    let updates: Vec<String> = heard.by_ref().take(3).map(Result::unwrap).collect();
    assert_eq!(updates, ["inferno:1:2 one", "inferno:1:3 two", "inferno:1:4 three"]);

    let shown = said(example("look", &["all"]).output().unwrap());
    for line in ["group all: 1 members, 4 updates", "inferno is present"] {
        assert!(shown.lines().any(|shown| shown == line), "not {line:?}: {shown}");
    }
    assert!(shown.contains("updates_published 4 "), "{shown}");
    let near = said(example("nearest", &[]).output().unwrap());
    assert!(near.starts_with("inferno Some("), "{near}");

    let mut serving = Running(example("channel", &["sync"]).spawn().unwrap());
    serving.0.stdin.take().unwrap().write_all(b"and back").unwrap();
    let since = Instant::now();
    let back = loop {
        let mut opening = example("channel", &["sync", "inferno"]);
        let mut opening = opening.stderr(Stdio::piped()).spawn().unwrap();
        // Where nobody serves the name yet it has ended, and reads nothing.
        opening.stdin.take().unwrap().write_all(b"there").ok();
        let output = opening.wait_with_output().unwrap();
        if output.status.success() {
            break String::from_utf8(output.stdout).unwrap();
        }
        assert!(since.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&output.stderr));
    };
    assert_eq!(back, "and back");
    let mut there = String::new();
    serving.0.stdout.take().unwrap().read_to_string(&mut there).unwrap();
    assert_eq!(there, "there");
    assert!(serving.0.wait().unwrap().success());
}
