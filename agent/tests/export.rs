//! Updates handed to a command by the real binary: again until it has them, also over a crash.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

mod ports;

/// Whatever is waited for comes sooner on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node by itself, whose agent is killed with it.
struct Node {
    dir: PathBuf,
    agent: Option<Child>,
}

impl Node {
    /// One whose command appends its input to `out`, variables to `runs`, and fails while
    /// there is a file `fail`.
    fn new(dir: &Path) -> Self {
        let node = Self { dir: dir.to_owned(), agent: None };
        node.skep(&["ca", "init", "--bloc", "example", "--dir", "ca"]);
        node.skep(&["ca", "issue", "inferno", "--dir", "ca", "--out", "state/identity"]);
        let at = dir.display();
        let port = ports::free();
        let config = format!(
            "[node]\nstate_dir = \"{at}/state\"\n[listen]\naddresses = [\"127.0.0.1:{port}\"]\n\
             [join.multicast]\nenabled = false\n[control]\nsocket = \"{at}/socket\"\n\
             [groups]\nextra = [\"web\", \"other\"]\n\
             [group.web]\nexport_command = '''cd {at} && cat >> out && \
             echo $SKEP_GROUP $SKEP_ATTEMPT $SKEP_FIRST $SKEP_LAST >> runs && ! [ -e fail ]'''\n\
             [export]\nretry_first = \"50ms\"\nretry_last = \"100ms\"\n"
        );
        fs::write(dir.join("skep.toml"), config).unwrap();
        node
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.args(words).current_dir(&self.dir).env_remove("SKEP_CONFIG");
        command.env("SKEP_SOCKET", self.dir.join("socket"));
        command
    }

    fn skep(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "skep {words:?}: {wrong}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&mut self) {
        let mut agent = self.command(&["agent", "--config", "skep.toml"]);
        self.agent = Some(agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        // A node that is alone takes a moment to know which of its lives it is.
        self.wait("it publishes", |node| {
            let sent = node
                .command(&["flood", "send", "--group", "other", "--text", "x"])
                .output()
                .unwrap();
            sent.status.success()
        });
    }

    /// As a power cut does, but for the disk. What the agent ran is gone as well afterwards: it
    /// ends when it sees that the agent has.
    fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        kill_process(Pid::from_child(&agent), Signal::STOP).unwrap();
        let tasks = fs::read_dir(format!("/proc/{}/task", agent.id())).unwrap();
        let children: Vec<String> = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
            .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        agent.kill().unwrap();
        agent.wait().unwrap();
        for child in children {
            // Of a process that ended and was not waited for the state is Z.
            let ended =
                |stat: String| stat.rsplit(')').next().is_some_and(|it| it.starts_with(" Z"));
            let stat = || fs::read_to_string(format!("/proc/{child}/stat"));
            self.wait("what it ran ends", |_| stat().map_or(true, ended));
        }
    }

    fn send(&self, text: &str) {
        self.skep(&["flood", "send", "--group", "web", "--text", text]);
    }

    /// Whether so many updates were taken since the agent started.
    fn taken(&self, count: u64) -> bool {
        let metrics = self.skep(&["metrics"]);
        let line = metrics.lines().find(|line| line.starts_with("export_updates"));
        line.is_some_and(|line| line.contains(&format!(" {count} ")))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap_or_default()
    }

    fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !condition(self) {
            let runs = self.read("runs");
            assert!(since.elapsed() < PATIENCE, "{what}; the runs were\n{runs}");
            std::thread::sleep(Duration::from_millis(20)); // sleeps: deadline above
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            drop(agent.kill());
            drop(agent.wait());
        }
    }
}

#[test]
fn a_command_gets_each_update_until_it_has_it_and_not_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    node.start();
    node.send("one ");
    node.wait("the first arrives", |node| node.read("out") == "one ");
    node.wait("it is taken", |node| node.taken(1));

    // It fails, the agent is killed, and it fails on: nothing is lost, and order is kept.
    fs::write(dir.path().join("fail"), "").unwrap();
    node.send("two ");
    node.send("three ");
    node.wait("it is tried again", |node| node.read("runs").lines().count() >= 4);
    let health = node.command(&["health", "--json"]).output().unwrap();
    let told = String::from_utf8_lossy(&health.stdout);
    assert_eq!(health.status.code(), Some(1), "{told}");
    assert!(told.contains("of group web: the command ended with 1"), "{told}");
    assert!(node.skep(&["status"]).contains("the export of group web fails"));
    node.kill();
    fs::remove_file(dir.path().join("out")).unwrap();
    fs::remove_file(dir.path().join("fail")).unwrap();
    node.start();
    node.wait("both arrive", |node| node.read("out") == "two three ");
    node.wait("both are taken", |node| node.taken(2));
    let runs = node.read("runs");
    assert!(runs.lines().all(|run| run.contains(" inferno:1:")), "under one identity: {runs}");

    // What was taken is not handed over again after a crash. How far it was is on disk with all
    // that was published later.
    node.skep(&["flood", "send", "--group", "other", "--text", "later"]);
    node.kill();
    node.start();
    node.send("four ");
    node.wait("the last arrives", |node| node.read("out") == "two three four ");
    let health = node.command(&["health"]).output().unwrap();
    assert!(String::from_utf8_lossy(&health.stdout).contains("commands take what they are handed"));
    let metrics = node.skep(&["metrics"]);
    let dropped = metrics.lines().find(|line| line.starts_with("export_dropped"));
    assert!(dropped.unwrap().contains("group=other"), "{metrics}");
}

#[test]
fn a_batch_whose_agent_is_killed_ends_with_it_and_comes_again_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new(dir.path());
    // Says where it is, and whether another is there; is long at work while it should be.
    let at = dir.path().display();
    let command = format!(
        "cd {at}; mkdir running || echo two at once >> wrong; echo $SKEP_FIRST >> runs; \
         echo $$ > pid; while [ -e hold ]; do sleep 0.05; done; cat >> out; rmdir running"
    );
    let config = node.read("skep.toml");
    let (before, rest) = config.split_once("export_command").unwrap();
    let (_, after) = rest.split_once("[export]").unwrap();
    let config = format!("{before}export_command = '''{command}'''\n[export]{after}");
    fs::write(dir.path().join("skep.toml"), config).unwrap();
    fs::write(dir.path().join("hold"), "").unwrap();
    node.start();
    node.send("one ");
    node.wait("the command is at work", |node| !node.read("pid").is_empty());
    let pid = node.read("pid");
    node.kill();
    // The kernel and its supervisor see to it that nothing of it is left.
    node.wait("the command is gone", |_| !Path::new(&format!("/proc/{}", pid.trim())).exists());
    fs::remove_dir(dir.path().join("running")).unwrap();
    fs::remove_file(dir.path().join("hold")).unwrap();
    node.start();
    node.send("two ");
    node.wait("both arrive", |node| node.read("out") == "one two ");
    let runs = node.read("runs");
    let firsts: Vec<&str> = runs.lines().collect();
    assert_eq!(firsts[0], firsts[1], "the same batch again: {runs}");
    assert_eq!(node.read("wrong"), "");
}
