//! What is to be run.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A text for `/bin/sh -c`.
    Shell(String),
    /// A program by its absolute path, and its arguments.
    Direct(Vec<String>),
}

impl Program {
    /// The words that are executed.
    pub(crate) fn words(&self) -> Vec<String> {
        match self {
            Self::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
            Self::Direct(words) => words.clone(),
        }
    }

    /// The command as an error names it: its beginning.
    #[must_use]
    pub fn shown(&self) -> String {
        /// Characters of a command that fit into a message.
        const SHOWN: usize = 80;
        let text = match self {
            Self::Shell(text) => text.clone(),
            Self::Direct(words) => words.join(" "),
        };
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match line.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line,
        }
    }
}

/// How much a command may take. Memory, processor time, files and processes are the kernel's limits
/// for each process, not for all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From its start to its end. Then it is asked to end.
    pub time: Duration,
    /// How long it may take to end when it is asked to. Then it is killed.
    pub grace: Duration,
    /// Address space.
    pub memory_bytes: Option<u64>,
    /// Processor time.
    pub cpu: Option<Duration>,
    /// Open files. Choose some hundreds: programs that close all they might have open do so one by
    /// one.
    pub files: Option<u64>,
    /// Processes and threads of its *user*, those outside of this command included.
    pub processes: Option<u64>,
    /// The longest file that it may write.
    pub file_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            grace: Duration::from_secs(2),
            memory_bytes: Some(1 << 30),
            cpu: None,
            files: Some(256),
            processes: None,
            file_bytes: None,
        }
    }
}

/// What becomes of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `/dev/null`.
    Discard,
    /// The first bytes are kept; the rest is read and forgotten.
    First(usize),
    /// All of it is wanted: a command that says more is killed.
    Whole {
        /// Bytes at most.
        max: usize,
    },
}

/// Input that is read while the command takes it. Once for each run.
pub trait Portions: Send + Sync + fmt::Debug {
    /// The portion of this number, from nought on; nothing after the last. May block.
    ///
    /// # Errors
    /// The system's: then the command is ended, and its run has failed.
    fn portion(&self, number: u64) -> io::Result<Option<Bytes>>;
}

/// Some of what a command reads.
#[derive(Clone, Debug)]
pub enum Input {
    /// In memory.
    Bytes(Bytes),
    /// Too long for that.
    Portions(Arc<dyn Portions>),
}

impl From<Bytes> for Input {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// A command with everything around it. [`Job::new`] has it in `/`, as the agent's own user, with
/// nothing on its standard input and its output discarded.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is run.
    pub program: Program,
    /// As whom, by name or number; as the agent's own user where nobody is named. Only root can
    /// name another.
    pub user: Option<String>,
    /// Variables besides `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL` and `LANG`. Nothing of the
    /// agent's own environment is passed on.
    pub environment: Vec<(String, String)>,
    /// The directory it starts in, as seen from within [`Job::root`].
    pub directory: PathBuf,
    /// The directory that it sees as `/`; needs root.
    pub root: Option<PathBuf>,
    /// Whether it may use the network. Without it it sees an interface of its own that leads
    /// nowhere; needs root.
    pub network: bool,
    /// What it reads: these, one after the other, then the end.
    pub input: Vec<Input>,
    /// What becomes of its standard output.
    pub stdout: Output,
    /// What becomes of its standard error.
    pub stderr: Output,
    /// How much it may take.
    pub limits: Limits,
    /// What [`crate::Runner::origin`] says of connections that come from it; nothing where nobody
    /// asks.
    pub purpose: Option<Arc<str>>,
}

impl Job {
    /// A job with nothing special about it.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self {
            program,
            user: None,
            environment: Vec::new(),
            directory: PathBuf::from("/"),
            root: None,
            network: true,
            input: Vec::new(),
            stdout: Output::Discard,
            stderr: Output::Discard,
            limits: Limits::default(),
            purpose: None,
        }
    }
}
