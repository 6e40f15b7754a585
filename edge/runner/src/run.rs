//! Running a job from the agent's side.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::PipeFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::job::{Input, Job, Output};
use crate::origin::{Origin, Peer, Remembered, Running};
use crate::supervisor::{ASK, FILES, WORD, limit_word};
use crate::user::{User, UserError};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest line that a supervisor says.
const MAX_LINE: u64 = 1024;
/// A supervisor whose command was killed needs so long to see the last of what it had started.
const SUPERVISOR_ENDS: Duration = Duration::from_secs(5);

/// Runs jobs.
#[derive(Clone, Debug)]
pub struct Runner {
    supervisor: PathBuf,
    running: Running,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this.
    Exited(i32),
    /// By a signal.
    Killed(i32),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with {code}"),
            Self::Killed(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// What is kept of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// As far as it was wanted.
    pub bytes: Vec<u8>,
    /// There was more.
    pub cut: bool,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// How long it ran.
    pub took: Duration,
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
    /// Whether all of its input could be written to it: one that closes its input early, or ends
    /// without reading, leaves the rest.
    pub input_written: bool,
}

impl Ended {
    /// Whether it ended with 0, which is how a command says that all went well.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status == Status::Exited(0)
    }
}

/// Why there is no end of a command to speak of.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot run as whom it should.
    #[error("cannot run `{command}`")]
    User {
        /// Its beginning.
        command: String,
        /// Why.
        source: UserError,
    },
    /// It could not be started.
    #[error("cannot run `{command}`: {why}")]
    Start {
        /// Its beginning.
        command: String,
        /// Why: no such program, no such directory, no right to.
        why: String,
    },
    /// What is needed to run it could not be had.
    #[error("cannot prepare to run `{command}`")]
    Prepare {
        /// Its beginning.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long, and was ended.
    #[error("`{command}` took longer than {limit:?} and {status}")]
    TimedOut {
        /// Its beginning.
        command: String,
        /// How long it had.
        limit: Duration,
        /// How it ended then.
        status: Status,
    },
    /// It said more than is wanted, and was killed.
    #[error("`{command}` wrote more than {max} bytes and was killed")]
    TooMuchOutput {
        /// Its beginning.
        command: String,
        /// How much it may say.
        max: usize,
    },
    /// Its input could not be read, so it was ended.
    #[error("cannot read the input of `{command}`")]
    Input {
        /// Its beginning.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The process between us and it went away without a word.
    #[error("the supervisor of `{command}` was killed, and the command with it")]
    Supervisor {
        /// Its beginning.
        command: String,
    },
}

/// The ends of a command's three files that stay here.
struct Ends {
    input: pipe::Sender,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Runner {
    /// One whose supervisors are this very program, which must begin with
    /// [`crate::supervise_if_asked`].
    #[must_use]
    pub fn of_this_program() -> Self {
        Self::with_supervisor("/proc/self/exe".into())
    }

    /// One whose supervisors are another program that begins so.
    #[must_use]
    pub fn with_supervisor(program: PathBuf) -> Self {
        Self { supervisor: program, running: Running::default() }
    }

    /// Runs `job` and waits for its end. Whoever stops waiting ends it: the command and everything
    /// it started are killed when the future is dropped.
    ///
    /// # Errors
    /// [`RunError`] when it could not be run, or was ended for what it took. That it failed by
    /// itself is no error here: see [`Ended::status`].
    pub async fn run(&self, job: Job) -> Result<Ended, RunError> {
        let command = job.program.shown();
        let user = User::find(job.user.as_deref())
            .map_err(|source| RunError::User { command: command.clone(), source })?;
        let prepare = |source| RunError::Prepare { command: command.clone(), source };
        let (ends, theirs) = files(&job).map_err(prepare)?;
        let (child, control, remembered) = self.spawn(&job, &user, &theirs).map_err(prepare)?;
        drop(theirs);
        let started = Instant::now();
        let run = Run { job, command, child, control, started, _remembered: remembered };
        run.attend(ends).await
    }

    /// Whether any command runs, or ended a moment ago, that [`Runner::origin`] could find.
    #[must_use]
    pub fn runs_any(&self) -> bool {
        self.running.any()
    }

    /// Which command with a [`Job::purpose`] a connection comes from, of those that this runner and
    /// its clones run. Reads `/proc`: call it where blocking is allowed.
    #[must_use]
    pub fn origin(&self, peer: Peer) -> Origin {
        self.running.origin(peer)
    }

    /// Starts a supervisor and hands it the files.
    fn spawn(
        &self,
        job: &Job,
        user: &User,
        files: &[OwnedFd; 3],
    ) -> io::Result<(Child, UnixStream, Option<Remembered>)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut command = Command::new(&self.supervisor);
        command.arg0("skep").args(words(job, user)).env_clear();
        command
            .env("PATH", PATH)
            .env("HOME", &user.home)
            .env("USER", &user.name)
            .env("LOGNAME", &user.name)
            .env("SHELL", "/bin/sh")
            .env("LANG", "C.UTF-8")
            .envs(job.environment.iter().map(|(name, value)| (name, value)));
        // A session of its own: what a terminal sends to the agent is not meant for the command.
        command.process_group(0).current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        // Before it has its files, it has not begun.
        let purpose = job.purpose.clone().zip(child.id());
        let remembered = purpose.map(|(purpose, pid)| self.running.remember(pid, purpose));
        send_files(&ours, files)?;
        ours.set_nonblocking(true)?;
        Ok((child, UnixStream::from_std(ours)?, remembered))
    }
}

fn words(job: &Job, user: &User) -> Vec<OsString> {
    let mut words = vec![WORD.to_owned()];
    if rustix::process::geteuid().is_root() {
        let numbers = [user.uid, user.gid].into_iter().chain(user.groups.iter().copied());
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        words.push(format!("user={}", numbers.join(",")));
    }
    let limits = &job.limits;
    // Whole seconds, rounded up: the kernel knows no parts of them here.
    let cpu = limits.cpu.map(|cpu| cpu.as_millis().div_ceil(1000));
    let cpu = cpu.map(|cpu| u64::try_from(cpu).unwrap_or(u64::MAX));
    let all = [
        ("memory", limits.memory_bytes),
        ("cpu", cpu),
        ("files", limits.files),
        ("processes", limits.processes),
        ("file-size", limits.file_bytes),
    ];
    words.extend(all.into_iter().filter_map(|(name, value)| Some(limit_word(name, value?))));
    if !job.network {
        words.push("network=none".to_owned());
    }
    let path = |key: &str, path: &PathBuf| {
        let mut word = OsString::from(key);
        word.push(path);
        word
    };
    let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    words.extend(job.root.as_ref().map(|root| path("root=", root)));
    words.push(path("directory=", &job.directory));
    words.push("--".into());
    words.extend(job.program.words().into_iter().map(OsString::from));
    words
}

/// A pipe or `/dev/null` for each of the three.
fn files(job: &Job) -> io::Result<(Ends, [OwnedFd; 3])> {
    let (stdin, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&input, true)?;
    let output = |wanted: Output| -> io::Result<(Option<pipe::Receiver>, OwnedFd)> {
        if wanted == Output::Discard {
            let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
            return Ok((None, null.into()));
        }
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok((Some(pipe::Receiver::from_owned_fd(ours)?), theirs))
    };
    let (stdout, out) = output(job.stdout)?;
    let (stderr, error) = output(job.stderr)?;
    let input = pipe::Sender::from_owned_fd(input)?;
    Ok((Ends { input, stdout, stderr }, [stdin, out, error]))
}

fn send_files(control: &std::os::unix::net::UnixStream, files: &[OwnedFd; 3]) -> io::Result<()> {
    let files: [BorrowedFd<'_>; 3] = [files[0].as_fd(), files[1].as_fd(), files[2].as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    let byte = [FILES];
    rustix::net::sendmsg(control, &[io::IoSlice::new(&byte)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A command that runs.
struct Run {
    job: Job,
    command: String,
    child: Child,
    control: UnixStream,
    started: Instant,
    _remembered: Option<Remembered>,
}

impl Run {
    async fn attend(mut self, ends: Ends) -> Result<Ended, RunError> {
        let limits = self.job.limits.clone();
        let input = std::mem::take(&mut self.job.input);
        let (stdout_wanted, stderr_wanted) = (self.job.stdout, self.job.stderr);
        let mut too_much = None;
        let mut timed_out = false;
        let mut unread = None;
        let ended = {
            let feed = feed(ends.input, input);
            let stdout = collect(ends.stdout, stdout_wanted);
            let stderr = collect(ends.stderr, stderr_wanted);
            let said = line(&mut self.control);
            tokio::pin!(feed, stdout, stderr, said);
            let (mut fed, mut out, mut error, mut end) = (None, None, None, None);
            let time = tokio::time::sleep(limits.time);
            tokio::pin!(time);
            // The supervisor speaks last of all; what a command left in the pipes is read first.
            while end.is_none() || out.is_none() || error.is_none() {
                tokio::select! {
                    it = &mut feed, if fed.is_none() => {
                        unread = it.as_ref().err().map(|error| error.kind());
                        fed = Some(it.unwrap_or(false));
                    }
                    it = &mut stdout, if out.is_none() => {
                        too_much = too_much.or(it.1);
                        out = Some(it.0);
                    }
                    it = &mut stderr, if error.is_none() => {
                        too_much = too_much.or(it.1);
                        error = Some(it.0);
                    }
                    it = &mut said, if end.is_none() => end = Some(it),
                    () = &mut time => {
                        timed_out = true;
                        break;
                    }
                }
                if too_much.is_some() || unread.is_some() {
                    break;
                }
            }
            (fed, out, error, end)
        };
        let took = self.started.elapsed();
        if let Some(max) = too_much {
            return Err(RunError::TooMuchOutput { command: self.command, max });
        }
        if let Some(source) = unread {
            let command = self.command.clone();
            self.end(limits.grace).await;
            return Err(RunError::Input { command, source: source.into() });
        }
        if timed_out {
            let (command, limit) = (self.command.clone(), limits.time);
            let status = self.end(limits.grace).await;
            return Err(RunError::TimedOut { command, limit, status });
        }
        let (fed, out, error, said) = ended;
        let status = self.status(&said.unwrap_or_default())?;
        self.gone().await;
        Ok(Ended {
            status,
            took,
            stdout: out.unwrap_or_default(),
            stderr: error.unwrap_or_default(),
            input_written: fed == Some(true),
        })
    }

    fn status(&self, said: &str) -> Result<Status, RunError> {
        let command = self.command.clone();
        let (word, rest) = said.trim_end().split_once(' ').unwrap_or((said, ""));
        match (word, rest.parse()) {
            ("exited", Ok(code)) => Ok(Status::Exited(code)),
            ("killed", Ok(signal)) => Ok(Status::Killed(signal)),
            ("failed", _) => Err(RunError::Start { command, why: rest.to_owned() }),
            _ => Err(RunError::Supervisor { command }),
        }
    }

    /// Has it ended: first it is asked, then the socket is closed, at which all is killed.
    async fn end(mut self, grace: Duration) -> Status {
        const KILLED: Status = Status::Killed(9);
        drop(self.control.write_all(&[ASK]).await);
        let said = tokio::time::timeout(grace, line(&mut self.control)).await;
        let status = said.ok().and_then(|said| self.status(&said).ok()).unwrap_or(KILLED);
        let Self { control, child, _remembered, .. } = self;
        drop(control);
        wait(child).await;
        status
    }

    /// Waits until there is no supervisor either.
    async fn gone(self) {
        let Self { control, child, _remembered, .. } = self;
        drop(control);
        wait(child).await;
    }
}

async fn wait(mut supervisor: Child) {
    if tokio::time::timeout(SUPERVISOR_ENDS, supervisor.wait()).await.is_err() {
        tracing::warn!("a supervisor does not end: what it waits for cannot be killed");
    }
}

/// Writes the input; whether all of it was taken.
async fn feed(mut to: pipe::Sender, input: Vec<Input>) -> io::Result<bool> {
    for piece in input {
        let portions = match piece {
            // Closed by the command, which wants no more.
            Input::Bytes(bytes) if to.write_all(&bytes).await.is_err() => return Ok(false),
            Input::Bytes(_) => continue,
            Input::Portions(portions) => portions,
        };
        for number in 0.. {
            let from = Arc::clone(&portions);
            let read = tokio::task::spawn_blocking(move || from.portion(number)).await;
            let Some(bytes) = read.map_err(io::Error::other)?? else {
                break;
            };
            if to.write_all(&bytes).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Reads an output to its end; with how much it may have at most, where it had more.
async fn collect(from: Option<pipe::Receiver>, wanted: Output) -> (Captured, Option<usize>) {
    let mut captured = Captured::default();
    let (Some(mut from), Output::First(max) | Output::Whole { max }) = (from, wanted) else {
        return (captured, None);
    };
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = max.saturating_sub(captured.bytes.len()).min(count);
        captured.bytes.extend_from_slice(&buffer[..room]);
        if room < count {
            captured.cut = true;
            if let Output::Whole { max } = wanted {
                return (captured, Some(max));
            }
        }
    }
    (captured, None)
}

/// The line that the supervisor says last; empty where it says none.
async fn line(control: &mut UnixStream) -> String {
    let mut said = Vec::new();
    // What cannot be read is as good as nothing said.
    drop(control.take(MAX_LINE).read_to_end(&mut said).await);
    String::from_utf8_lossy(&said).into_owned()
}
