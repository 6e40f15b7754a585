//! A command on a host: run to its end, or started and held.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::host::Host;
use crate::process::{Logs, Process};
use crate::tools;

/// How long a command may take that is run to its end, unless told otherwise. Far more than any
/// needs: a machine under load is no failure.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// A command that will run on a host.
#[derive(Debug)]
#[must_use = "a command does nothing until it is run or spawned"]
pub struct HostCommand {
    host: Host,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    deadline: Duration,
}

/// What a command that ended printed.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl HostCommand {
    pub(crate) fn new(host: Host, program: &OsStr) -> Self {
        Self {
            host,
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            stdin: None,
            deadline: DEFAULT_DEADLINE,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable, over the host's own.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in that folder and not in the host's own.
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// What it reads from its standard input, which is empty otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// How long it may take when it is run to its end.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Starts it. Its outputs go to `NAME.out` and `NAME.err` in the host's log folder, with a
    /// number before them; `name` is what waits and errors call it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(self, name: &str) -> Result<Process> {
        let logs = self.host.new_logs(name);
        self.start(name, logs)
    }

    /// Runs it to its end and returns what it printed, however it ended.
    ///
    /// # Errors
    /// When it cannot be started or takes longer than its deadline.
    pub fn output(self) -> Result<Finished> {
        let shown = self.shown();
        let name = PathBuf::from(&self.program);
        let name = name.file_name().unwrap_or(&self.program).to_string_lossy();
        let logs = self.host.new_logs(&name);
        let deadline = self.deadline;
        let process = self.start(&shown, logs.clone())?;
        let status = process.wait(deadline)?;
        let finished = Finished { status, stdout: process.stdout()?, stderr: process.stderr()? };
        // Run commands are told of by their caller; the log folder is for what keeps running.
        drop(fs::remove_file(logs.out));
        drop(fs::remove_file(logs.err));
        Ok(finished)
    }

    /// Runs it to its end and returns its standard output.
    ///
    /// # Errors
    /// When it does not end well; with everything it printed.
    pub fn run(self) -> Result<String> {
        let shown = self.shown();
        let finished = self.output()?;
        if !finished.status.success() {
            bail!("{shown} failed ({}):\n{}{}", finished.status, finished.stdout, finished.stderr);
        }
        Ok(finished.stdout)
    }

    fn start(self, name: &str, logs: Logs) -> Result<Process> {
        let stdin = self.stdin.as_deref().map(stdin_file).transpose()?;
        let full_name = format!("{name} on {}", self.host.name());
        let (mut command, nested) = self.host.enter_command(self.folder.as_deref())?;
        command.arg(&self.program).args(&self.args);
        for (name, value) in self.host.env().iter().chain(&self.env) {
            command.env(name, value);
        }
        Process::start(full_name, command, stdin, logs, nested)
    }

    fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }
}

/// An `ip netns exec` for a host that is nothing but a namespace: it becomes the command itself.
pub(crate) fn in_netns(netns: &str) -> Result<Command> {
    let mut command = Command::new(tools::find("ip")?);
    command.args(["netns", "exec", netns]);
    Ok(command)
}

/// A file without a name that holds `bytes`: unlike a pipe it needs nobody to write it.
fn stdin_file(bytes: &[u8]) -> Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(
        rustix::fs::memfd_create("lab-stdin", flags).context("cannot hold a command's input")?,
    );
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
