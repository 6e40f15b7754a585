//! A bloc of real agents: a CA, machines, and on each of them an agent that can be asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skep_lab::{Host, HostCommand, Lab, Process};

use crate::PATIENCE;

/// Where agents listen.
pub(crate) const PORT: u16 = 7400;
/// What an agent needs to log for a failed test to be understood.
const LOG: &str = "info";

/// Machines with agents that trust one CA.
pub(crate) struct Bloc {
    pub(crate) lab: Lab,
    binary: PathBuf,
    ca: PathBuf,
}

/// One agent's place: its machine, certificate and configuration. The process may come and go.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) name: String,
    binary: PathBuf,
    process: Option<Process>,
}

/// What a node's configuration says beside where its things are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Whom it dials.
    pub(crate) join: Vec<String>,
    /// Whether it announces itself on the local link.
    pub(crate) multicast: bool,
    /// A beacon's address and public key.
    pub(crate) beacon: Option<(String, String)>,
    /// Where its state is, where that is on a disk of its own.
    pub(crate) state_dir: Option<PathBuf>,
    /// It listens on every IPv4 address that its machine has, or will have.
    pub(crate) anywhere: bool,
    /// It listens on its machine's IPv6 address alone.
    pub(crate) six: bool,
    /// Groups besides `all`.
    pub(crate) groups: Vec<String>,
    /// More lines of the section `[groups]`.
    pub(crate) in_groups: String,
    /// More sections.
    pub(crate) more: String,
}

impl Settings {
    /// Dials these nodes and finds no others by itself.
    pub(crate) fn joining(hosts: &[&Host]) -> Self {
        Self { join: hosts.iter().map(|host| address(host)).collect(), ..Self::default() }
    }

    fn to_toml(&self, host: &Host, identity: &Path) -> String {
        let beacon = self.beacon.as_ref().map_or_else(String::new, |(address, key)| {
            format!("[join.beacon]\nenabled = true\naddress = {address:?}\nkey = {key:?}\n")
        });
        let state = self.state_dir.as_ref();
        let state = state.map_or_else(String::new, |dir| format!("state_dir = {dir:?}\n"));
        let listen = if self.anywhere {
            vec![format!("0.0.0.0:{PORT}")]
        } else if self.six {
            vec![format!("[{}]:{PORT}", host.ipv6())]
        } else {
            vec![format!("{}:{PORT}", host.ipv4()), format!("[{}]:{PORT}", host.ipv6())]
        };
        format!(
            "[node]\nidentity_dir = {identity:?}\n{state}\
             [listen]\naddresses = {listen:?}\n\
             [groups]\nextra = {:?}\n{}\
             [join]\naddresses = {:?}\n\
             [join.multicast]\nenabled = {}\n{beacon}{}",
            self.groups, self.in_groups, self.join, self.multicast, self.more
        )
    }
}

impl Bloc {
    /// A lab with a CA, or nothing where no lab can be made.
    pub(crate) fn or_skip(name: &str) -> Result<Option<Self>> {
        Lab::or_skip(name).map(Self::on).transpose()
    }

    pub(crate) fn on(lab: Lab) -> Result<Self> {
        let [office] = lab.hosts(["office"])?;
        let binary = lay_out_binary(office.dir())?;
        let ca = office.dir().join("ca");
        let bloc = Self { lab, binary, ca };
        bloc.offline(&["ca", "init", "--bloc", "example"])?;
        Ok(bloc)
    }

    /// A machine with a certificate and a configuration, on which no agent runs yet.
    pub(crate) fn node(&self, host: &Host, settings: &Settings) -> Result<Node> {
        self.node_named(host, host.name(), settings)
    }

    /// The same for a node that is not called as its machine is.
    pub(crate) fn node_named(&self, host: &Host, name: &str, settings: &Settings) -> Result<Node> {
        let identity = host.dir().join("identity");
        let out = identity.to_str().context("a folder that is not UTF-8")?;
        self.offline(&["ca", "issue", name, "--role", "queen", "--out", out])?;
        self.place(host, name, settings, &identity)
    }

    /// A second machine with the certificate of `node`.
    pub(crate) fn twin(&self, node: &Node, host: &Host, settings: &Settings) -> Result<Node> {
        let identity = host.dir().join("identity");
        host.command("cp").arg("-a").args([&node.host.dir().join("identity"), &identity]).run()?;
        self.place(host, &node.name, settings, &identity)
    }

    /// A node of that name with a certificate of another CA for a bloc of the same name.
    pub(crate) fn other_ca(&self, host: &Host, name: &str, settings: &Settings) -> Result<Node> {
        let (ca, identity) = (host.dir().join("other-ca"), host.dir().join("identity"));
        let out = identity.to_str().context("a folder that is not UTF-8")?;
        self.offline_at(&ca, &["ca", "init", "--bloc", "example"])?;
        self.offline_at(&ca, &["ca", "issue", name, "--out", out])?;
        self.place(host, name, settings, &identity)
    }

    fn place(&self, host: &Host, name: &str, settings: &Settings, identity: &Path) -> Result<Node> {
        host.shell("mkdir -p /etc/skep /run/skep /var/lib/skep && cat > /etc/skep/skep.toml")
            .stdin(settings.to_toml(host, identity))
            .run()?;
        let node = Node {
            host: host.clone(),
            name: name.to_owned(),
            binary: self.binary.clone(),
            process: None,
        };
        node.skep(&["config", "check"]).run()?;
        Ok(node)
    }

    /// Nodes of one half of a bloc, each started and joined to the first.
    pub(crate) fn started(&self, hosts: &[Host], settings: &Settings) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for host in hosts {
            let mut settings = settings.clone();
            settings.join.push(address(&hosts[0]));
            let mut node = self.node(host, &settings)?;
            node.start()?;
            nodes.push(node);
        }
        Ok(nodes)
    }

    /// The binary, for commands that are no node's.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Waits until each of `nodes` sees exactly `expected` present.
    pub(crate) fn until_present(&self, nodes: &[&Node], expected: &[&str]) -> Result<()> {
        let mut expected: Vec<&str> = expected.to_vec();
        expected.sort_unstable();
        for node in nodes {
            let what = format!("{} sees {} present", node.name, expected.join(", "));
            self.lab.wait_until(&what, PATIENCE, || {
                let presence = node.presence()?;
                let present: Vec<&str> = presence
                    .iter()
                    .filter(|(_, presence)| *presence == "present")
                    .map(|(name, _)| name.as_str())
                    .collect();
                ensure!(present == expected, "it sees {presence:?}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until each of `nodes` sees `who` as `presence`.
    pub(crate) fn until_seen(&self, nodes: &[&Node], who: &str, presence: &str) -> Result<()> {
        for node in nodes {
            let what = format!("{} sees {who} {presence}", node.name);
            self.lab.wait_until(&what, PATIENCE, || {
                let seen = node.presence()?;
                ensure!(seen.get(who).map(String::as_str) == Some(presence), "it sees {seen:?}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until each of `nodes` has each of `lines` in its log once.
    pub(crate) fn until_logged(&self, nodes: &[&Node], lines: &[String]) -> Result<()> {
        for node in nodes {
            let what = format!("{} has {} updates, each once", node.name, lines.len());
            self.lab.wait_until(&what, PATIENCE, || {
                let log = node.log()?;
                let times = |line: &String| log.iter().filter(|logged| *logged == line).count();
                let not_once: Vec<&String> = lines.iter().filter(|line| times(line) != 1).collect();
                ensure!(not_once.is_empty(), "not once in its log: {not_once:?}");
                Ok(())
            })?;
        }
        Ok(())
    }

    fn offline(&self, args: &[&str]) -> Result<()> {
        self.offline_at(&self.ca, args)
    }

    fn offline_at(&self, ca: &Path, args: &[&str]) -> Result<()> {
        let output = Command::new(&self.binary).args(args).arg("--dir").arg(ca).output()?;
        ensure!(
            output.status.success(),
            "skep {} failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Node {
    /// Starts the agent.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts the agent with more words on its command line.
    pub(crate) fn start_with(&mut self, words: &[&str]) -> Result<()> {
        let agent = self.skep(&["agent"]).args(words);
        let agent = agent.env("SKEP_LOG", LOG).env("RUST_LOG", LOG);
        self.process = Some(agent.spawn("agent")?);
        Ok(())
    }

    /// The agent's process.
    pub(crate) fn process(&self) -> Result<&Process> {
        self.process.as_ref().with_context(|| format!("no agent was started on {}", self.name))
    }

    /// Kills the agent without warning.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let process = self.process.take().context("no agent to kill")?;
        process.kill().map(drop)
    }

    /// A command of `skep` on this machine.
    pub(crate) fn skep(&self, args: &[&str]) -> HostCommand {
        self.host.command(&self.binary).args(args)
    }

    /// What the agent answers, as JSON.
    pub(crate) fn ask(&self, args: &[&str]) -> Result<Value> {
        let answer = self.skep(args).arg("--json").run()?;
        serde_json::from_str(&answer)
            .with_context(|| format!("skep {} gave no JSON: {answer}", args.join(" ")))
    }

    /// Publishes a line to everybody. It is acknowledged when this returns.
    pub(crate) fn publish(&self, text: &str) -> Result<()> {
        self.skep(&["flood", "send", "--text", text]).deadline(PATIENCE).run().map(drop)
    }

    /// Every line that was published to everybody, as this node's log has it.
    pub(crate) fn log(&self) -> Result<Vec<String>> {
        let printed = self.skep(&["flood", "tail", "--from", "first", "--no-follow"]).run()?;
        // A line about each, and then its text.
        Ok(printed.lines().skip(1).step_by(2).map(str::to_owned).collect())
    }

    /// What the agent noted, oldest first.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let lines = self.skep(&["events", "--json"]).run()?;
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// How often it saw `member` as `presence` since it was started.
    pub(crate) fn times_seen(&self, member: &str, presence: &str) -> Result<usize> {
        let events = self.events()?;
        let so = |event: &&Value| {
            event["event"] == "member" && event["node"] == member && event["presence"] == presence
        };
        Ok(events.iter().filter(so).count())
    }

    /// Every member's presence, by name.
    pub(crate) fn presence(&self) -> Result<BTreeMap<String, String>> {
        let members = self.ask(&["members"])?;
        let members = members.as_array().context("members are no list")?;
        members
            .iter()
            .map(|member| {
                let text = |field: &str| member[field].as_str().map(str::to_owned);
                text("node").zip(text("presence")).context("a member without a name")
            })
            .collect()
    }

    /// What the node knows of a member.
    pub(crate) fn member(&self, name: &str) -> Result<Value> {
        let members = self.ask(&["members"])?;
        let found = members
            .as_array()
            .and_then(|members| members.iter().find(|member| member["node"] == name));
        found.cloned().with_context(|| format!("{} does not know {name}", self.name))
    }
}

/// Where a host's agent is dialled.
pub(crate) fn address(host: &Host) -> String {
    format!("{}:{PORT}", host.ipv4())
}

/// Puts the binary under test into a host's folder, where machines see it wherever it came from.
pub(crate) fn lay_out_binary(folder: &Path) -> Result<PathBuf> {
    let laid_out = folder.join("skep");
    fs::copy(binary()?, &laid_out).context("cannot copy the binary under test")?;
    Ok(laid_out)
}

/// The binary under test: `SKEP_BIN`, or what this workspace builds.
fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    if let Some(given) = std::env::var_os("SKEP_BIN") {
        return fs::canonicalize(&given).with_context(|| format!("SKEP_BIN is {given:?}"));
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

/// Asks cargo to build it, which costs a moment where it is built already, and where it is.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", "skep-agent", "--bin", "skep"])
        .arg("--message-format=json")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cannot build skep: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout)?;
    let executable = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "skep")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("cargo names no executable for skep")
}
