//! The process between the agent and a command: starts it, waits for it, and sees to it that
//! nothing is left of it.
//!
//! It is called as `skep supervise-command KEY=VALUE.. -- PROGRAM ARGUMENT..` with its standard
//! input at one end of a unix socket. Over that it gets the command's three standard files, then
//! perhaps [`ASK`], and says at last in one line how the command ended. The end of the socket means
//! that the agent wants nothing of it any more, or is dead.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions};
use rustix::thread::{Gid, Uid, UnshareFlags};

/// The word that makes a supervisor of this program.
pub(crate) const WORD: &str = "supervise-command";
/// What the agent says to have the command asked to end.
pub(crate) const ASK: u8 = b'T';
/// What comes with the three standard files.
pub(crate) const FILES: u8 = b'F';

/// The resources that can be limited, by the words for them.
const RESOURCES: &[(&str, Resource)] = &[
    ("memory", Resource::As),
    ("cpu", Resource::Cpu),
    ("files", Resource::Nofile),
    ("processes", Resource::Nproc),
    ("file-size", Resource::Fsize),
];

/// Does a supervisor's work where this process was called as one, and says with what to end then;
/// does nothing in any other process. A program that runs commands calls it first.
#[must_use]
pub fn supervise_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != WORD {
        return None;
    }
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let said = supervise(&control, words);
    let line = said.unwrap_or_else(|error| format!("failed {error}\n"));
    // Who is not there any more is told nothing.
    drop((&control).write_all(line.as_bytes()));
    Some(ExitCode::SUCCESS)
}

/// What is done to the command's process before the command is in it.
#[derive(Default)]
struct Confinement {
    user: Option<(Uid, Gid, Vec<Gid>)>,
    limits: Vec<(Resource, u64)>,
    root: Option<PathBuf>,
    directory: PathBuf,
    no_network: bool,
}

fn supervise(
    control: &UnixStream,
    words: impl Iterator<Item = OsString>,
) -> Result<String, Failure> {
    let (confinement, program) = parse(words).ok_or(Failure::Called)?;
    // Orphans below come here, and not to the init of the host.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Failure::at("become their reaper", error))?;
    keep_files_here().map_err(|error| Failure::Step("look at its open files", error))?;
    let [stdin, stdout, stderr] =
        receive_files(control).map_err(|error| Failure::Step("get its files", error))?;
    let (first, rest) = program.split_first().ok_or(Failure::Called)?;
    let mut command = Command::new(first);
    command.args(rest).stdin(stdin).stdout(stdout).stderr(stderr);
    confine(&mut command, confinement);
    let mut child = command.spawn().map_err(|error| Failure::Step("start it", error))?;
    // Its files are held by `command` otherwise, and whoever writes to it would never hear that it
    // has closed its input.
    drop(command);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Failure::Called)?;
    let watched = watch(control.as_fd(), pid);
    if watched.is_err() {
        // The agent lets go, or it cannot be waited for: both end it.
        drop(child.kill());
    }
    let status = child.wait().map_err(|error| Failure::Step("wait for it", error));
    end_all();
    let status = status?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited {code}\n"),
        (None, signal) => format!("killed {}\n", signal.unwrap_or(0)),
    })
}

/// Why there is no command.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("called in a way that no agent calls it")]
    Called,
    #[error("cannot {0}: {1}")]
    Step(&'static str, io::Error),
}

impl Failure {
    fn at(step: &'static str, error: Errno) -> Self {
        Self::Step(step, error.into())
    }
}

fn parse(words: impl Iterator<Item = OsString>) -> Option<(Confinement, Vec<OsString>)> {
    let mut confinement = Confinement { directory: "/".into(), ..Confinement::default() };
    let mut words = words;
    loop {
        let word = words.next()?;
        if word == "--" {
            return Some((confinement, words.collect()));
        }
        let word = word.into_string().ok()?;
        let (key, value) = word.split_once('=')?;
        match key {
            "user" => {
                let numbers: Option<Vec<u32>> =
                    value.split(',').map(|number| number.parse().ok()).collect();
                let numbers = numbers?;
                let [uid, gid, groups @ ..] = numbers.as_slice() else {
                    return None;
                };
                let groups = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
                confinement.user = Some((Uid::from_raw(*uid), Gid::from_raw(*gid), groups));
            }
            "root" => confinement.root = Some(value.into()),
            "directory" => confinement.directory = value.into(),
            "network" => confinement.no_network = value == "none",
            key => {
                let (_, resource) = RESOURCES.iter().find(|(name, _)| *name == key)?;
                confinement.limits.push((*resource, value.parse().ok()?));
            }
        }
    }
}

/// The words that [`parse`] understands; a resource's word is one of [`RESOURCES`].
pub(crate) fn limit_word(name: &'static str, value: u64) -> String {
    debug_assert!(RESOURCES.iter().any(|(known, _)| *known == name));
    format!("{name}={value}")
}

/// Has whatever is open here closed in the command, also what somebody passed on to the agent.
fn keep_files_here() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let Some(number @ 3..) = number else {
            continue;
        };
        #[expect(unsafe_code, reason = "files that were inherited are known by number only")]
        // SAFETY: it is open, or the call fails; it is neither closed nor used otherwise.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        match rustix::io::fcntl_setfd(file, FdFlags::CLOEXEC) {
            // The directory that is being read is among them, and gone by the end.
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn receive_files(control: &UnixStream) -> io::Result<[Stdio; 3]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(control, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut files: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(given) = message {
            files.extend(given);
        }
    }
    let files: [OwnedFd; 3] =
        files.try_into().map_err(|_| io::Error::other("the agent gave none"))?;
    Ok(files.map(Stdio::from))
}

fn confine(command: &mut Command, confinement: Confinement) {
    let parent = rustix::process::getpid();
    let apply = move || -> io::Result<()> { enter(&confinement, parent) };
    #[expect(
        unsafe_code,
        reason = "the only way to do something between fork and exec; this process has one thread"
    )]
    // SAFETY: the closure makes system calls and allocates nothing that another thread could hold:
    // the supervisor is a program of its own with a single thread.
    unsafe {
        command.pre_exec(apply);
    }
}

/// Makes this process what the command may be: from here on it is not trusted.
fn enter(confinement: &Confinement, parent: Pid) -> io::Result<()> {
    rustix::process::setsid()?;
    if confinement.no_network {
        #[expect(
            unsafe_code,
            reason = "unsafe for flags that unshare memory or files; a network is neither"
        )]
        // SAFETY: `NEWNET` changes nothing that this process's memory safety rests on.
        unsafe {
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)?;
        }
    }
    if let Some(root) = &confinement.root {
        rustix::process::chroot(root)?;
    }
    rustix::process::chdir(&confinement.directory)?;
    for (resource, value) in &confinement.limits {
        let had = rustix::process::getrlimit(*resource).maximum;
        // Only root may raise what whoever started the agent has set.
        let value = had.map_or(*value, |had| had.min(*value));
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::setrlimit(*resource, limit)?;
    }
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    if let Some((uid, gid, groups)) = &confinement.user {
        rustix::thread::set_thread_groups(groups)?;
        rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
        rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
    }
    // After the change of user, which clears it. Whoever kills the supervisor kills the command.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::other("its supervisor is gone"));
    }
    Ok(())
}

/// Returns when the command has ended; an error when it is to be ended.
fn watch(control: BorrowedFd<'_>, command: Pid) -> io::Result<()> {
    let ended = rustix::process::pidfd_open(command, PidfdFlags::empty())?;
    loop {
        let mut both =
            [PollFd::from_borrowed_fd(control, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        match rustix::event::poll(&mut both, None) {
            Err(Errno::INTR) => continue,
            polled => drop(polled?),
        }
        if !both[1].revents().is_empty() {
            return Ok(());
        }
        let mut byte = [0];
        if !both[0].revents().is_empty() && rustix::io::read(control, &mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if byte == [ASK] {
            // Its whole session: what a shell runs must hear it as well as the shell.
            rustix::process::kill_process_group(command, Signal::TERM).ok();
        }
    }
}

/// Kills every process below this one, until there is none.
fn end_all() {
    // Most commands leave nothing behind, and then the host's processes need not be looked through.
    while !matches!(rustix::process::wait(WaitOptions::NOHANG), Err(Errno::CHILD)) {
        let children = children();
        let out_of_reach = !children.is_empty()
            && children.iter().all(|child| {
                rustix::process::kill_process(*child, Signal::KILL) == Err(Errno::PERM)
            });
        if out_of_reach {
            // A program with rights of its own, which this one cannot end.
            return;
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// The processes whose parent this one is, those it inherited among them.
fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let number = |entry: std::fs::DirEntry| -> Option<i32> {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name stands in parentheses and may hold anything; state and parent follow it.
        let mut after = stat.rsplit_once(") ")?.1.split(' ');
        (after.nth(1)? == own).then_some(number)
    };
    entries.flatten().filter_map(number).filter_map(Pid::from_raw).collect()
}
