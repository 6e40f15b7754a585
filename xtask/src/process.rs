//! Running other programs: what they print is shown as it comes and kept for counting.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Most output kept of one program; what it prints beyond is shown and not kept.
const KEPT_BYTES_AT_MOST: usize = 16 << 20;

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Both of its streams, line by line, each in its own order.
    pub output: String,
    /// Wall time it took.
    pub took: Duration,
}

/// A command of cargo in the project's root.
///
/// It uses the cargo that runs us, so that a `+toolchain` is kept.
#[must_use]
pub fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments);
    command
}

/// The command as one would type it.
#[must_use]
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut line = name.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs `command` to its end, showing its output on our own streams and keeping it.
///
/// # Errors
/// When the program cannot be started. A failing exit status is no error here.
pub fn watch(command: &mut Command) -> Result<Ended> {
    let name = shown(command);
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{name}`"))?;
    let out = child.stdout.take().context("standard output was piped")?;
    let err = child.stderr.take().context("standard error was piped")?;
    let out = thread::spawn(move || tee(out, std::io::stdout()));
    let err = thread::spawn(move || tee(err, std::io::stderr()));
    let status = child.wait().with_context(|| format!("waiting for `{name}`"))?;
    let mut output = out.join().unwrap_or_default();
    output.push_str(&err.join().unwrap_or_default());
    Ok(Ended { status, output, took: begun.elapsed() })
}

/// Copies lines until the stream ends; a reader of ours that is gone does not stop the program.
fn tee(from: impl Read, mut to: impl Write) -> String {
    let mut kept = String::new();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let shown = to.write_all(&line).and_then(|()| to.flush());
        drop(shown);
        if kept.len() + line.len() <= KEPT_BYTES_AT_MOST {
            kept.push_str(&String::from_utf8_lossy(&line));
        }
        line.clear();
    }
    kept
}

/// Runs `command` with our own streams, for commands that a person looks at.
///
/// # Errors
/// When it cannot be started or ends with a failure.
pub fn pass_through(command: &mut Command) -> Result<()> {
    let name = shown(command);
    let status = command.status().with_context(|| format!("starting `{name}`"))?;
    if !status.success() {
        bail!("`{name}` failed: {status}");
    }
    Ok(())
}

/// Runs `command` quietly and gives what it printed on standard output, trimmed.
///
/// # Errors
/// When it cannot be started or fails; the message carries what it said.
pub fn capture(command: &mut Command) -> Result<String> {
    let name = shown(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting `{name}`"))?;
    if !output.status.success() {
        let said = [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text));
        let said = said.iter().map(|text| text.trim()).find(|text| !text.is_empty());
        bail!("`{name}` failed: {}", said.unwrap_or("and said nothing"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where `program` is found on the search path, `/usr/sbin` and `/sbin` included.
#[must_use]
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_both_streams_is_kept_and_failure_is_a_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let ended = watch(&mut command).unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.output.contains("one\n") && ended.output.contains("two\n"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = watch(&mut Command::new("/no/such/program")).unwrap_err();
        assert!(error.to_string().contains("program"), "{error}");
    }

    #[test]
    fn what_a_failed_program_said_is_in_the_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo because >&2; exit 1"]);
        let error = capture(&mut command).unwrap_err();
        assert!(error.to_string().contains("because"), "{error}");
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-at-all").is_none());
    }
}
