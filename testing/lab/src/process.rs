//! A process on a host: started, paused, measured, ended, and killed with its handle.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use skep_base::ByteSize;

use crate::wait_until;

/// `/proc` counts processor time in hundredths of a second on every Linux there is: the number is
/// part of the kernel's interface and not the timer's real frequency.
const TICKS_A_SECOND: u64 = 100;
/// What a log's end has to hold to be of use in a failed test's output.
const TAIL_BYTES: usize = 4 * 1024;

/// A running, or ended, process. Dropping the handle kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    logs: Logs,
    child: Mutex<Child>,
    /// The process that was started by us: the tool that forked, when there is one.
    leader: Pid,
    pid: i32,
    /// Names the process even after its number was given to another.
    handle: OwnedFd,
}

/// The files that a process writes to.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    pub(crate) out: PathBuf,
    pub(crate) err: PathBuf,
}

impl Process {
    /// Starts `command`, whose outputs go to `logs`. With `nested`, the command is a tool that
    /// forks before it runs what was asked for, and signals go to that.
    pub(crate) fn start(
        name: String,
        mut command: Command,
        stdin: Option<File>,
        logs: Logs,
        nested: bool,
    ) -> Result<Self> {
        let open = |path: &Path| {
            File::create(path).with_context(|| format!("cannot create {}", path.display()))
        };
        command
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(open(&logs.out)?)
            .stderr(open(&logs.err)?);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let leader = Pid::from_child(&child);
        // Before anything waits for it, the leader's number is surely its own.
        let leader_handle = match pidfd_open(leader, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(error) => {
                drop(child.kill());
                drop(child.wait());
                return Err(error).with_context(|| format!("cannot follow {name}"));
            }
        };
        let inner = nested.then(|| inner_pid(leader, &mut child)).flatten();
        // What is inside may have ended by now; then the leader stands for it.
        let (pid, handle) = inner
            .and_then(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
            .unwrap_or((leader, leader_handle));
        let pid = pid.as_raw_nonzero().get();
        Ok(Self { name, logs, child: Mutex::new(child), leader, pid, handle })
    }

    /// What it was called when it was started.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, as the test's own process sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.handle, signal)
            .with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// Stops it as a debugger would: its connections stay, it answers nothing.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let what = format!("{} stands still", self.name);
        // A leader that forked stops itself when it sees its child stopped.
        wait_until(&what, crate::SETTLE, || {
            for pid in [self.pid, self.leader.as_raw_nonzero().get()] {
                let state = self.state_of(pid)?;
                ensure!(state == 'T', "the state of {pid} is {state}");
            }
            Ok(())
        })
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)?;
        if self.leader.as_raw_nonzero().get() == self.pid {
            return Ok(());
        }
        // The leader tells its child to go on as well, and must be done with that before the
        // child is paused again.
        self.wake_leader();
        let what = format!("what started {} waits for it", self.name);
        wait_until(&what, crate::SETTLE, || {
            let state = self.state_of(self.leader.as_raw_nonzero().get())?;
            ensure!(state == 'S', "its state is {state}");
            Ok(())
        })
    }

    /// Kills it without any chance to tidy up, and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel does not let go of it.
    pub fn kill(&self) -> Result<ExitStatus> {
        // It may have ended by itself, which is what is wanted.
        drop(self.signal(Signal::KILL));
        self.wake_leader();
        self.wait(crate::SETTLE)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not end within `within`.
    pub fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        if self.try_status()?.is_none() {
            drop(self.signal(Signal::TERM));
        }
        self.wait(within)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it has not within `within`.
    pub fn wait(&self, within: Duration) -> Result<ExitStatus> {
        wait_until(&format!("{} ends", self.name), within, || {
            self.try_status()?.context("it still runs")
        })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not know it.
    pub fn try_status(&self) -> Result<Option<ExitStatus>> {
        Ok(self.child().try_wait()?)
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.try_status(), Ok(None))
    }

    /// Memory it has in use.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident(&self) -> Result<ByteSize> {
        let status = self.proc_file("status")?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .and_then(|value| value.trim().parse::<u64>().ok())
            .with_context(|| format!("{} shows no memory: it has ended", self.name))?;
        Ok(ByteSize(kib * 1024))
    }

    /// Processor time it has used, in user and kernel mode, exact to 10 ms.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = self.proc_file("stat")?;
        let fields = stat_fields(&stat).context("a foreign /proc/PID/stat")?;
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        // Fields 14 and 15 of proc(5); the list begins with field 3.
        let (user, kernel) = ticks(11).zip(ticks(12)).context("no times in its stat")?;
        Ok(Duration::from_millis((user + kernel) * 1000 / TICKS_A_SECOND))
    }

    /// What it wrote to its standard output so far.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn stdout(&self) -> Result<String> {
        read(&self.logs.out)
    }

    /// What it wrote to its standard error so far.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn stderr(&self) -> Result<String> {
        read(&self.logs.err)
    }

    /// Waits until it has written `text` to either output.
    ///
    /// # Errors
    /// When it has not within `within`, or has ended without.
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Result<String> {
        wait_until(&format!("{} says {text:?}", self.name), within, || {
            let ended = self.try_status()?;
            let said = self.stdout()? + &self.stderr()?;
            if let Some(line) = said.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            match ended {
                Some(status) => bail!("it ended ({status}) without"),
                None => bail!("not yet"),
            }
        })
    }

    /// A tool that forked stops itself when it sees its child stopped.
    fn wake_leader(&self) {
        // Under the lock nobody else reaps it, so the number is still its own.
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(None)) {
            rustix::process::kill_process(self.leader, Signal::CONT).ok();
        }
    }

    fn state_of(&self, pid: i32) -> Result<char> {
        ensure!(self.is_running(), "{} has ended", self.name);
        let stat = read(&PathBuf::from(format!("/proc/{pid}/stat")))?;
        stat_fields(&stat)
            .and_then(|fields| fields.first()?.chars().next())
            .context("a foreign /proc/PID/stat")
    }

    fn proc_file(&self, file: &str) -> Result<String> {
        ensure!(self.is_running(), "{} has ended", self.name);
        read(&PathBuf::from(format!("/proc/{}/{file}", self.pid)))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            drop(self.signal(Signal::KILL));
            self.wake_leader();
            drop(self.child().wait());
        }
    }
}

/// Whether a process was ended by the given signal.
#[must_use]
pub fn was_killed_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal.as_raw())
}

/// The end of a log.
pub(crate) fn tail(path: &Path) -> String {
    let Ok(bytes) = std::fs::read(path) else {
        return String::new();
    };
    let from = bytes.len().saturating_sub(TAIL_BYTES);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

/// The one child of a tool that forks; nothing when the tool ended before it came to that.
fn inner_pid(leader: Pid, child: &mut Child) -> Option<Pid> {
    let leader = leader.as_raw_nonzero();
    let children = format!("/proc/{leader}/task/{leader}/children");
    let found = wait_until("the command is started", crate::SETTLE, || {
        if child.try_wait()?.is_some() {
            return Ok(None);
        }
        let listed = read(Path::new(&children))?;
        let pid = listed.split_whitespace().find_map(|pid| pid.parse().ok());
        Ok(Some(pid.context("no child yet")?))
    });
    Pid::from_raw(found.ok().flatten()?)
}

/// The fields after the command's name, which may itself hold blanks and brackets.
fn stat_fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().collect())
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let fields = stat_fields("12 (a) b) S 1 2").unwrap();
        assert_eq!(fields, ["S", "1", "2"]);
    }
}
