//! Conversations that are written down: what is typed into `telnet` or `nc` on a host, and what
//! must be said to it.
//!
//! A line of a transcript is typed (`> `), expected (`< `), or for readers (`# `). Expected lines
//! may have `*` for anything within a line, `...` for any lines, and `end` for the end of the
//! connection. `\r` and `\xNN` stand for bytes in both. Whatever is typed between two expected
//! lines is sent at once.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use anyhow::{Context as _, Result, bail, ensure};
use skep_lab::Host;

use crate::PATIENCE;

/// Whether all of these programs are installed; says in one line which are not.
pub(crate) fn there(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
        .collect();
    if missing.is_empty() {
        return true;
    }
    let line = format!("left out: {} not installed; see cargo xtask test\n", missing.join(", "));
    drop(std::io::stderr().write_all(line.as_bytes()));
    false
}

/// Holds the conversation in `file` from `host`, with the program and its arguments.
pub(crate) fn hold(host: &Host, words: &[&str], file: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/skep/floodd").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let mut talk = Talk::start(host, words)?;
    let mut typed = Vec::new();
    let mut any = false;
    for (number, line) in (1..).zip(text.lines()) {
        let at = || format!("{file}:{number}");
        if let Some(line) = line.strip_prefix("> ") {
            typed.extend(bytes(line).with_context(at)?);
            typed.push(b'\n');
            continue;
        }
        let Some(expected) = line.strip_prefix('<') else {
            ensure!(line.is_empty() || line.starts_with('#'), "{}: neither > nor <", at());
            continue;
        };
        talk.send(&std::mem::take(&mut typed)).with_context(at)?;
        match expected.strip_prefix(' ').unwrap_or("") {
            "..." => any = true,
            expected => {
                talk.expect(expected, std::mem::take(&mut any)).with_context(at)?;
            }
        }
    }
    ensure!(typed.is_empty(), "{file}: what is typed last is never sent");
    Ok(())
}

/// A program that talks with an agent.
struct Talk {
    program: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Talk {
    fn start(host: &Host, words: &[&str]) -> Result<Self> {
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = host.enter(|| command.spawn())?.context("cannot start it")?;
        let stdin = child.stdin.take();
        let mut out = BufReader::new(child.stdout.take().context("no way out")?);
        let (told, lines) = channel();
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while matches!(out.read_until(b'\n', &mut line), Ok(1..)) {
                let whole = line.strip_suffix(b"\n").unwrap_or(&line);
                let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
                if told.send(shown(whole)).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let mut talk =
            Self { program: (*program).to_owned(), child, stdin, lines, heard: Vec::new() };
        if *program == "telnet" {
            // What it says itself: Trying.., Connected to.., Escape character is..
            talk.expect("Escape character is *", true)?;
        }
        Ok(talk)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its conversation has ended")?;
        stdin.write_all(bytes).with_context(|| format!("{} takes nothing", self.program))
    }

    /// The next line must be this; or, with `any`, one of those that follow.
    fn expect(&mut self, expected: &str, any: bool) -> Result<()> {
        if expected == "end" && self.program == "nc" {
            // It stays while either side is open, and does not tell the agent that ours is not.
            self.stdin = None;
        }
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) if expected == "end" => return Ok(()),
                // telnet says so itself; it may stand at the end of the last line.
                Err(why) => bail!("{why}: expected {expected:?} after {:#?}", self.heard),
            };
            self.heard.push(line.clone());
            let said_by_telnet = line == "Connection closed by foreign host.";
            if matches(expected, &line) || (expected == "end" && said_by_telnet) {
                return Ok(());
            }
            ensure!(any, "expected {expected:?}, heard {:#?}", self.heard);
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether a line is as expected, where `*` is anything.
fn matches(expected: &str, line: &str) -> bool {
    match expected.split_once('*') {
        None => expected == line,
        Some((head, tail)) => line.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|at| rest.is_char_boundary(*at))
                .any(|at| rest.get(at..).is_some_and(|rest| matches(tail, rest)))
        }),
    }
}

/// A line as it is written down.
fn shown(line: &[u8]) -> String {
    let mut shown = String::new();
    for byte in line {
        match byte {
            b' '..=b'~' => shown.push(char::from(*byte)),
            other => shown.push_str(&format!("\\x{other:02x}")),
        }
    }
    shown
}

/// What is meant by a line that is written down.
fn bytes(line: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        rest = match escaped.strip_prefix('r') {
            Some(after) => {
                bytes.push(b'\r');
                after
            }
            None => {
                let digits = escaped.strip_prefix('x').and_then(|hex| hex.get(..2));
                bytes.push(u8::from_str_radix(digits.context("no such escape")?, 16)?);
                escaped.get(3..).unwrap_or("")
            }
        };
    }
    bytes.extend(rest.as_bytes());
    Ok(bytes)
}

#[test]
fn a_transcript_that_is_not_held_is_told() {
    assert!(matches("250 * of *", "250 2 of 3") && !matches("250 * of *", "250 2 or 3"));
    assert!(!matches("250", "250 more") && matches("250*", "250"));
    assert_eq!(bytes("a\\r\\x00\\xffb").unwrap_or_default(), b"a\r\x00\xffb");
    assert!(bytes("\\q").is_err());
    assert_eq!(shown(b"a\x00\xff"), "a\\x00\\xff");
}
