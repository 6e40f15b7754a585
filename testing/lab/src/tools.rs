//! Running the system's own tools, with what they said in the error when they refuse.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

/// Where administrators' tools are, whether or not the caller's `PATH` has it.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The path of a tool, looked for in `PATH` and where the system keeps its own.
///
/// # Errors
/// When it is not installed.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| anyhow!("{name} is not installed"))
}

/// Runs a tool to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or does not succeed; with its words.
pub(crate) fn run(name: &str, args: &[&str]) -> Result<String> {
    feed(name, args, "")
}

/// Runs a tool that reads its orders from its standard input.
///
/// # Errors
/// As [`run`].
pub(crate) fn feed(name: &str, args: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(find(name)?)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut stdin = child.stdin.take();
    // The tools used here read all of their input before they print more than a pipe holds.
    let written = stdin.as_mut().map(|pipe| pipe.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} {} failed ({}): {}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    if let Some(written) = written {
        written.with_context(|| format!("cannot write to {name}"))?;
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs many `ip` commands by one process: a hundred hosts are made in a quarter of a second.
///
/// # Errors
/// As [`run`]; the first command that fails ends the batch.
pub(crate) fn ip_batch(netns: Option<&str>, lines: &[String]) -> Result<()> {
    let mut args = Vec::new();
    if let Some(netns) = netns {
        args.extend(["-n", netns]);
    }
    args.extend(["-batch", "-"]);
    let input = lines.join("\n") + "\n";
    feed("ip", &args, &input).map(drop)
}
