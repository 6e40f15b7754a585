//! The first page's walk-through, followed to the letter on three hosts.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use skep_lab::{Host, Lab, Process};

use crate::PATIENCE;
use crate::{bloc, tree};

/// The section's heading.
const HEADING: &str = "## Three hosts";
/// What the text says of a step for every host.
const ANY: &str = "Any of them";
/// What stands for the word that `skep ca invite` printed.
const TOKEN: &str = "TOKEN";
const TOKEN_PREFIX: &str = "skep-invite-";
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Commands of one block, and on which hosts the text before it says they are run.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    hosts: Vec<&'static str>,
    commands: Vec<String>,
}

/// The steps of the walk-through in a README.
fn steps(readme: &str) -> Vec<Step> {
    let section = readme
        .split_once(HEADING)
        .map_or("", |(_, rest)| rest.split_once("\n## ").map_or(rest, |(section, _)| section));
    let mut pieces = section.split("\n```");
    let mut steps = Vec::new();
    while let (Some(text), Some(block)) = (pieces.next(), pieces.next()) {
        // Hosts are named in bold, in the last paragraphs before the block.
        let named = |name: &&str| text.contains(&format!("**{name}**")) || text.contains(ANY);
        steps.push(Step {
            hosts: NAMES.into_iter().filter(named).collect(),
            commands: block.lines().skip(1).map(str::to_owned).collect(),
        });
    }
    steps
}

#[test]
fn steps_are_read_with_their_hosts() {
    let readme = "# X\n\n## Three hosts\n\nalpha too.\n**alpha** does:\n\n```sh\na\nb &\n```\n\n\
                  Then **beta** and **gamma**:\n\n```sh\nc\n```\nAny of them:\n```sh\nd\n```\n\
                  ## Next\n\n```\nno\n```\n";
    let step = |hosts: &[&'static str], commands: &[&str]| Step {
        hosts: hosts.to_vec(),
        commands: commands.iter().map(|command| (*command).to_owned()).collect(),
    };
    let expected =
        [step(&["alpha"], &["a", "b &"]), step(&["beta", "gamma"], &["c"]), step(&NAMES, &["d"])];
    assert_eq!(steps(readme), expected);
}

/// The hosts, with what runs on them and the tokens that were printed and not used.
struct Walk {
    lab: Lab,
    hosts: Vec<Host>,
    agents: Vec<Process>,
    tokens: VecDeque<String>,
}

impl Walk {
    fn follow(&mut self, host: &Host, command: &str) -> Result<()> {
        let mut command = command.to_owned();
        if command.contains(TOKEN) {
            let token = self.tokens.pop_front().context("more joins than invitations")?;
            command = command.replace(TOKEN, &token);
        }
        if let Some(lasting) = command.strip_suffix('&') {
            // The shell's own `&`, with a handle; the next command is typed when it is up.
            let agent =
                host.shell(format!("exec {lasting}")).current_dir("/root").spawn("agent")?;
            self.lab.wait_until("the agent answers", PATIENCE, || {
                host.shell("skep status").run().map(drop)
            })?;
            self.agents.push(agent);
            return Ok(());
        }
        let said = host.shell(&command).current_dir("/root").deadline(PATIENCE).run()?;
        let token = said.split_whitespace().find(|word| word.starts_with(TOKEN_PREFIX));
        self.tokens.extend(token.map(str::to_owned));
        Ok(())
    }

    fn host(&self, name: &str) -> Result<Host> {
        let found = self.hosts.iter().find(|host| host.name() == name);
        found.cloned().with_context(|| format!("no host {name}"))
    }
}

#[test]
fn walk_through() -> Result<()> {
    let Some(lab) = Lab::or_skip("walk-through") else {
        return Ok(());
    };
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let steps = steps(&fs::read_to_string(readme)?);
    ensure!(steps.len() >= 5, "the README's walk-through has shrunk: {steps:?}");
    ensure!(steps.iter().all(|step| !step.hosts.is_empty()), "for whom? {steps:?}");

    let hosts = lab.machines(NAMES)?.to_vec();
    let binary = bloc::lay_out_binary(hosts[0].dir())?;
    for host in &hosts {
        host.command("cp").arg(&binary).arg("/usr/local/bin/skep").run()?;
    }
    let build = hosts[0].dir().join("build");
    tree::grow(&build, 9, 1 << 20)?;
    hosts[0].command("cp").arg("-a").arg(&build).arg("/srv/build").run()?;

    let (agents, tokens) = (Vec::new(), VecDeque::new());
    let mut walk = Walk { lab, hosts, agents, tokens };
    for step in &steps {
        for name in &step.hosts {
            let host = walk.host(name)?;
            for command in &step.commands {
                walk.follow(&host, command).with_context(|| format!("on {name}: {command}"))?;
            }
        }
    }
    ensure!(walk.tokens.is_empty(), "an invitation nobody used");
    for host in &walk.hosts {
        // What `skep members` and the wave said is true.
        walk.lab.wait_until("all three are present", PATIENCE, || {
            let listed = host.shell("skep members --json").run()?;
            let present = listed.matches("\"present\"").count();
            ensure!(present == NAMES.len(), "{} sees {listed}", host.name());
            Ok(())
        })?;
        tree::ensure_equal(host, &build.display().to_string(), "/srv/web")?;
    }
    Ok(())
}
