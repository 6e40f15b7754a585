//! One agent as a child process, with its files.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use skep_base::NodeName;
use skep_control::Client;
use skep_control::api::Presence;

use crate::config::ENVIRONMENT;

/// An agent, running or not. Dropped, it is killed.
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) address: SocketAddr,
    dir: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// Writes the configuration of a node that dials `seed`.
    pub(super) fn create(
        place: &Path,
        name: NodeName,
        address: SocketAddr,
        seed: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let node = Self { dir: place.join(name.as_str()), name, address, child: None };
        fs::create_dir_all(node.root())
            .with_context(|| format!("cannot make {}", node.root().display()))?;
        let quoted = |path: PathBuf| toml::Value::String(path.display().to_string()).to_string();
        let seed = seed.map(|seed| format!("\"{seed}\"")).unwrap_or_default();
        let text = format!(
            "[node]\nstate_dir = {}\nidentity_dir = {}\n\n\
             [listen]\naddresses = [\"{address}\"]\n\n\
             [join]\naddresses = [{seed}]\n\n\
             [join.multicast]\nenabled = false\n\n\
             [control]\nsocket = {}\n\n\
             [wave]\nroot = {}\n",
            quoted(node.state_dir()),
            quoted(node.identity_dir()),
            quoted(node.socket()),
            quoted(node.root()),
        );
        fs::write(node.config(), text)
            .with_context(|| format!("cannot write {}", node.config().display()))?;
        Ok(node)
    }

    pub(super) fn identity_dir(&self) -> PathBuf {
        self.dir.join("identity")
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What waves take for `/`.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("skep.toml")
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    /// Starts the agent, from this very program.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.with_context(|| format!("cannot write {}", self.log().display()))?;
        let mut command = Command::new(program);
        command.arg("agent").arg("--config").arg(self.config());
        // What is set for this host's own agent is not meant for these.
        for (name, _) in ENVIRONMENT {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // A Ctrl-C is for us, who stop them in order.
        command.process_group(0);
        let child = command.spawn();
        self.child = Some(child.with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// Kills it without warning.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().with_context(|| format!("cannot kill {}", self.name))?;
            child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(())
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) -> anyhow::Result<()> {
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), Signal::TERM)
                .with_context(|| format!("cannot stop {}", self.name))?;
        }
        Ok(())
    }

    /// Whether it has stopped, which must be in good order.
    pub(super) fn has_stopped(&mut self) -> anyhow::Result<bool> {
        match self.ended_by_itself()? {
            None => Ok(self.child.is_none()),
            Some(how) => {
                anyhow::ensure!(how.success(), "{} stopped with {how}", self.name);
                self.child = None;
                Ok(true)
            }
        }
    }

    /// How it ended, where it did and nobody killed it.
    pub(super) fn ended_by_itself(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => child.try_wait().context("cannot ask for a child process"),
            None => Ok(None),
        }
    }

    /// A way to ask it.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        let client = Client::connect(&self.socket()).await;
        client.with_context(|| format!("cannot ask {}", self.name))
    }

    /// How many nodes it sees present; nothing while it does not answer.
    pub(super) async fn present(&self) -> Option<usize> {
        let status = self.client().await.ok()?.status().await.ok()?;
        usize::try_from(status.present).ok()
    }

    /// How it sees another.
    pub(super) async fn presence_of(&self, other: &NodeName) -> Option<Presence> {
        let members = self.client().await.ok()?.members().await.ok()?;
        members.iter().find(|member| member.node == *other).map(|member| member.presence)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way it is waited for.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
