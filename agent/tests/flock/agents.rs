//! Agents as child processes, each with its files, and one CA for all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::ports;

/// How long anything may take on a machine with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A directory with a CA.
pub(crate) struct Bloc {
    dir: TempDir,
}

/// One agent, running or not. Dropped, it is killed.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) address: String,
    /// How far its wall clock is ahead, in milliseconds.
    pub(crate) ahead_ms: u64,
    /// Where its service manager listens, if it has one.
    pub(crate) manager: Option<PathBuf>,
    child: Option<Child>,
}

impl Bloc {
    pub(crate) fn new() -> Self {
        let bloc = Self { dir: tempfile::tempdir().unwrap() };
        bloc.done(&["ca", "init", "--bloc", "example"]);
        bloc
    }

    /// A node whose certificate was made now and holds for `valid`, and which dials `seeds`.
    pub(crate) fn agent(&self, name: &str, valid: &str, seeds: &[&Agent], more: &str) -> Agent {
        self.laid_out(name, (valid, "queen"), seeds, more)
    }

    /// The same with another role.
    pub(crate) fn agent_as(&self, name: &str, role: &str, seeds: &[&Agent], more: &str) -> Agent {
        self.laid_out(name, ("30d", role), seeds, more)
    }

    /// Has somebody join as `name` at `through`, which serves the CA; gives what came of it.
    pub(crate) fn join(&self, name: &str, through: &Agent) -> Output {
        let invite = ["ca", "invite", "--node", name, "--address", &through.address];
        let output = program().args(invite).arg("--dir").arg(self.ca()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let token = text.split_whitespace().find(|word| word.starts_with("skep-invite-")).unwrap();
        let identity = tempfile::tempdir_in(self.dir.path()).unwrap();
        let join = ["join", token, "--node", name, "--identity"];
        program().args(join).arg(identity.path().join("id")).output().unwrap()
    }

    fn laid_out(
        &self,
        name: &str,
        (valid, role): (&str, &str),
        seeds: &[&Agent],
        more: &str,
    ) -> Agent {
        let dir = self.dir(name);
        let identity = dir.join("identity");
        let out = identity.to_str().unwrap();
        self.done(&["ca", "issue", name, "--role", role, "--valid", valid, "--out", out]);
        let address = free_address();
        let seeds: Vec<&String> = seeds.iter().map(|seed| &seed.address).collect();
        let text = format!(
            "[node]\nstate_dir = {:?}\nidentity_dir = {identity:?}\n[control]\nsocket = {:?}\n\
             [listen]\naddresses = [{address:?}]\n[join]\naddresses = {seeds:?}\n\
             [join.multicast]\nenabled = false\n[wave]\nroot = {:?}\n{more}",
            dir.join("state"),
            dir.join("sock"),
            dir.join("root"),
        );
        fs::create_dir(dir.join("root")).unwrap();
        fs::write(dir.join("skep.toml"), text).unwrap();
        Agent { name: name.to_owned(), dir, address, ahead_ms: 0, manager: None, child: None }
    }

    /// A second machine that was restored from a copy of all that `agent` has on disk, as it is
    /// now.
    pub(crate) fn restored(&self, agent: &Agent) -> Agent {
        let dir = self.dir.path().join(format!("{}-restored", agent.name));
        let copied = Command::new("cp").arg("-a").args([&agent.dir, &dir]).status().unwrap();
        assert!(copied.success());
        let address = free_address();
        let text = fs::read_to_string(dir.join("skep.toml")).unwrap();
        let text = text.replace(&format!("{:?}", agent.address), &format!("{address:?}"));
        let text = text.replace(agent.dir.to_str().unwrap(), dir.to_str().unwrap());
        fs::write(dir.join("skep.toml"), text).unwrap();
        let name = agent.name.clone();
        Agent { name, dir, address, ahead_ms: 0, manager: None, child: None }
    }

    /// The part of a configuration that serves this CA.
    pub(crate) fn serving(&self, life: &str) -> String {
        format!("[ca]\nserve = true\ndir = {:?}\nlife = {life:?}\n", self.ca())
    }

    /// Where the node of this name has its files.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the CA sign the next founding token for `node`, and lays it where its agent finds it.
    pub(crate) fn refound(&self, node: &str, at: &Path) {
        let out = tempfile::tempdir_in(self.dir.path()).unwrap();
        self.done(&["ca", "refound", node, "--yes", "--out", out.path().to_str().unwrap()]);
        fs::rename(out.path().join("founding.token"), at).unwrap();
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    fn done(&self, words: &[&str]) {
        let ca = self.ca();
        let output = program().args(words).arg("--dir").arg(ca).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Agent {
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = self.command();
        command.arg("agent").arg("--config").arg(self.dir.join("skep.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.envs(self.manager.iter().map(|socket| ("NOTIFY_SOCKET", socket)));
        self.child = Some(command.spawn().unwrap());
        self.until("the agent answers", || self.skep(&["status"]).status.success());
    }

    /// Starts the agent and gives what it logged when it ended by itself.
    pub(crate) fn start_in_vain(&mut self) -> String {
        let mut command = self.command();
        command.arg("agent").arg("--config").arg(self.dir.join("skep.toml"));
        let log = File::create(self.dir.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        self.until("the agent ends by itself", || child.try_wait().unwrap().is_some());
        assert!(!child.wait().unwrap().success(), "it ended as if nothing was wrong");
        self.log()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sets its wall clock off by so much, also while it runs, if this was called before its start.
    pub(crate) fn jump_clock(&self, offset_ms: i64) {
        let file = self.clock();
        let next = file.with_extension("next");
        fs::write(&next, offset_ms.to_string()).unwrap();
        // At no time is there half a number.
        fs::rename(&next, &file).unwrap();
    }

    fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits until it has ended by itself, in good order.
    pub(crate) fn ends(&mut self) {
        let mut child = self.child.take().unwrap();
        self.until("the agent ends", || child.try_wait().unwrap().is_some());
        let status = child.wait().unwrap();
        assert!(status.success(), "it ended with {status}:\n{}", self.log());
    }

    /// The most memory that the process ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let pid = self.child.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    fn command(&self) -> Command {
        let mut command = program();
        command.env("SKEP_TEST_CLOCK_OFFSET_MS", self.ahead_ms.to_string());
        let clock = Some(self.clock()).filter(|file| file.exists());
        command.envs(clock.map(|file| ("SKEP_TEST_CLOCK_OFFSET_FILE", file)));
        command
    }

    pub(crate) fn skep(&self, words: &[&str]) -> Output {
        self.command_of(words).output().unwrap()
    }

    /// A command that asks this agent.
    pub(crate) fn command_of(&self, words: &[&str]) -> Command {
        let mut command = self.command();
        command.args(words).arg("--socket").arg(self.dir.join("sock"));
        command
    }

    /// A command that works on its files, whether it runs or not.
    pub(crate) fn beside(&self, words: &[&str]) -> Output {
        let mut command = self.command();
        command.args(words).arg("--config").arg(self.dir.join("skep.toml")).output().unwrap()
    }

    /// What the agent answers, as JSON.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        let output = self.skep(&[words, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!(
                "{words:?} of {}: {error}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// What happened on it, of one kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let output = self.skep(&["events", "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"] == kind).collect()
    }

    /// What it knows of a member.
    pub(crate) fn member(&self, name: &str) -> Value {
        let members = self.ask(&["members"]);
        let found = members.as_array().unwrap().iter().find(|member| member["node"] == name);
        found.cloned().unwrap_or_default()
    }

    /// The bodies in its log of the group `all`, in base64.
    pub(crate) fn updates(&self) -> Vec<String> {
        let output = self.skep(&["flood", "tail", "--from", "first", "--no-follow", "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let updates = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        updates.map(|update| update["body"].as_str().unwrap().to_owned()).collect()
    }

    /// The texts in its log of the group `all`, by identity.
    pub(crate) fn ids_and_bodies(&self) -> BTreeMap<String, String> {
        let printed = self.skep(&["flood", "tail", "--from", "first", "--no-follow"]);
        let text = String::from_utf8(printed.stdout).unwrap();
        let mut lines = text.lines();
        // A line about each, and then its text.
        std::iter::from_fn(|| Some((lines.next()?, lines.next()?.to_owned())))
            .map(|(head, body)| (head.split(' ').nth(1).unwrap().to_owned(), body))
            .collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Waits for a condition.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(
                began.elapsed() < PATIENCE,
                "{}: not in time: {what}\n{}",
                self.name,
                self.log()
            );
            // sleeps: the pace at which a condition is looked at
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", ports::free())
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    for variable in ["SKEP_CONFIG", "SKEP_SOCKET", "SKEP_LOG", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command
}

/// A private key is for its owner's eyes alone.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
