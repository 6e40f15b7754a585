//! Channels between hosts that cannot dial each other (FLOOD-2, MULTI-13): behind routers that
//! translate addresses, and on two sides of a cut that a third bridges; and waves to and from such
//! hosts (DLIF-24).

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use skep_base::Rng;
use skep_lab::{Host, Lab, Process};

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, PORT, Settings};
use crate::tree;
use crate::wave::{roll_out, roll_out_to, until_done};

/// What is sent one way, and what is answered.
const SENT_BYTES: usize = 2 << 20;
const ANSWERED_BYTES: usize = 300_000;

/// Letters, the same for the same seed.
fn letters(seed: u64, length: usize) -> String {
    let mut rng = Rng::seeded(seed);
    (0..length).map(|_| char::from(b'a' + u8::try_from(rng.within(0..26)).unwrap_or(0))).collect()
}

/// A pipe into a process that stays open until the test closes it.
struct Pipe(PathBuf);

impl Pipe {
    fn on(host: &Host, name: &str) -> Result<Self> {
        let path = host.dir().join(name);
        host.command("mkfifo").arg(&path).run()?;
        Ok(Self(path))
    }

    /// Opened for both, so that it does not wait for the other end.
    fn writer(&self) -> Result<fs::File> {
        let pipe = fs::OpenOptions::new().read(true).write(true).open(&self.0);
        pipe.with_context(|| format!("cannot open {}", self.0.display()))
    }
}

/// A `skep channel` with its input from a pipe.
fn piped(bloc: &Bloc, node: &Node, words: &str, pipe: &Pipe) -> Result<Process> {
    let (skep, pipe) = (bloc.binary().display(), pipe.0.display());
    node.host.shell(format!("exec {skep} channel {words} < {pipe}")).spawn("channel")
}

/// Opens a channel that is served in a moment; nothing else is tried again.
fn open(bloc: &Bloc, spawn: impl Fn() -> Result<Process>, served: &Process) -> Result<Process> {
    let begun = bloc.lab.wait_until("somebody serves the channel", PATIENCE, || {
        let opened = spawn()?;
        bloc.lab.wait_until("the channel is open, or is not", PATIENCE, || {
            let came = !served.stdout()?.is_empty();
            ensure!(came || !opened.is_running(), "neither");
            Ok(())
        })?;
        let said = opened.stderr()?;
        if said.contains("nobody serves") { bail!("{said}") } else { Ok((opened, said)) }
    })?;
    let (opened, said) = begun;
    ensure!(!served.stdout()?.is_empty(), "{}: {said}", opened.name());
    Ok(opened)
}

/// A channel from one node to the other: much is said and ended, then answered, and all of it came.
fn talk(bloc: &Bloc, from: &Node, to: &Node) -> Result<()> {
    let name = format!("{}-{}", from.name, to.name);
    let (sent, answer) = (letters(1, SENT_BYTES), letters(2, ANSWERED_BYTES));
    let pipe = Pipe::on(&to.host, &name)?;
    let mut writer = pipe.writer()?;
    let served = piped(bloc, to, &format!("serve {name}"), &pipe)?;
    let opener = || from.skep(&["channel", "open", &to.name, &name]).stdin(&*sent).spawn("open");
    let opened = open(bloc, opener, &served)?;
    bloc.lab.wait_until("all that was said has come", PATIENCE, || {
        let came = served.stdout()?.len();
        ensure!(came == sent.len(), "{came} of {} bytes; {}", sent.len(), served.stderr()?);
        Ok(())
    })?;
    // The one direction has ended, the other has not begun.
    ensure!(opened.is_running() && opened.stdout()?.is_empty());
    writer.write_all(answer.as_bytes())?;
    drop(writer);
    for (process, expected) in [(&opened, &answer), (&served, &sent)] {
        let status = process.wait(PATIENCE)?;
        ensure!(status.success(), "{}: {status}: {}", process.name(), process.stderr()?);
        ensure!(process.stdout()? == *expected, "{} printed other bytes", process.name());
    }
    Ok(())
}

/// The group of those behind routers.
const HOMES: &str = "homes";

/// Nodes that join the first of `hosts`, with those in `hidden` behind a router each.
fn started(bloc: &Bloc, hosts: &[Host], hidden: &[Host]) -> Result<Vec<Node>> {
    let mut nodes = bloc.started(hosts, &Settings::default())?;
    for host in hidden {
        bloc.lab.put_behind_router(host)?;
        let groups = vec![HOMES.to_owned()];
        let joining = Settings::joining(&[&hosts[0]]);
        let settings = Settings { anywhere: true, groups, ..joining };
        let mut node = bloc.node(host, &settings)?;
        node.start()?;
        nodes.push(node);
    }
    Ok(nodes)
}

/// Bytes that a node has passed on between others.
fn relayed(node: &Node) -> Result<u64> {
    let metrics = node.ask(&["metrics"])?;
    let metrics = metrics.as_array().context("metrics are no list")?;
    let found = metrics.iter().find(|metric| metric["name"] == "relayed");
    found.and_then(|metric| metric["value"].as_u64()).context("no metric of what was relayed")
}

fn translating_or_skip(name: &str) -> Result<Option<Bloc>> {
    Lab::translating_or_skip(name).map(Bloc::on).transpose()
}

/// That nobody reaches a host behind a router under any address it could have.
fn ensure_hidden(from: &Host, hidden: &Host) -> Result<()> {
    for address in [hidden.ipv4(), Lab::BEHIND_ROUTER] {
        let reached = from.enter(|| std::net::TcpStream::connect((address, PORT)))?;
        ensure!(reached.is_err(), "{} reaches {} at {address}", from.name(), hidden.name());
    }
    Ok(())
}

#[test]
fn a_host_behind_a_router_is_reached_by_being_asked_to_dial_back() -> Result<()> {
    let Some(bloc) = translating_or_skip("channel-back")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["outside", "home"])?;
    let nodes = started(&bloc, &hosts[..1], &hosts[1..])?;
    let [outside, home] = nodes.as_slice() else { unreachable!("two hosts make two nodes") };
    bloc.until_present(&[outside, home], &["outside", "home"])?;
    ensure_hidden(&hosts[0], &hosts[1])?;
    // There is no third: but by dialling back there is no way.
    talk(&bloc, outside, home)?;
    talk(&bloc, home, outside)
}

#[test]
fn two_behind_routers_meet_at_a_relay_and_when_it_is_killed_at_another() -> Result<()> {
    lose_a_relay("channel-relay", |_, relay| relay.kill())
}

/// Nothing says that it is gone: the kernels find out, by what is not acknowledged.
#[test]
fn two_behind_routers_meet_at_another_relay_when_one_is_unplugged() -> Result<()> {
    lose_a_relay("channel-unplug", |host, _| host.unplug())
}

fn lose_a_relay(name: &str, lose: impl FnOnce(&Host, &mut Node) -> Result<()>) -> Result<()> {
    let Some(bloc) = translating_or_skip(name)? else {
        return Ok(());
    };
    let names = ["c", "d", "a", "b"];
    let hosts = bloc.lab.machines(names)?;
    let mut nodes = started(&bloc, &hosts[..2], &hosts[2..])?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &names)?;
    for hidden in &hosts[2..] {
        ensure_hidden(&hosts[0], hidden)?;
    }
    let (pipe, back) = (Pipe::on(&hosts[2], "in")?, Pipe::on(&hosts[3], "back")?);
    let (mut writer, _open) = (pipe.writer()?, back.writer()?);
    let (a, b) = (&nodes[2], &nodes[3]);
    let served = piped(&bloc, b, "serve sync", &back)?;
    // A pipe holds less than this, so it is written when somebody reads it.
    let sent = letters(3, SENT_BYTES);
    writer.write_all(&sent.as_bytes()[..1])?;
    let opened = open(&bloc, || piped(&bloc, a, "open b sync", &pipe), &served)?;
    writer.write_all(&sent.as_bytes()[1..])?;
    bloc.lab.wait_until("all that was said so far has come", PATIENCE, || {
        let came = served.stdout()?;
        ensure!(came == sent, "{} bytes; {}", came.len(), served.stderr()?);
        Ok(())
    })?;
    let passed = [relayed(&nodes[0])?, relayed(&nodes[1])?];
    let relay = usize::from(passed[1] > passed[0]);
    ensure!(passed[relay] >= SENT_BYTES as u64 && passed[1 - relay] == 0, "{passed:?} at c and d");

    lose(&hosts[relay], &mut nodes[relay])?;
    for process in [&opened, &served] {
        let status = process.wait(PATIENCE)?;
        let said = process.stderr()?;
        ensure!(status.code() == Some(1), "{} after the relay: {status}", process.name());
        ensure!(said.contains("broke off"), "{} said: {said}", process.name());
    }
    let (a, b) = (&nodes[2], &nodes[3]);
    talk(&bloc, a, b)?;
    talk(&bloc, b, a)
}

#[test]
fn waves_reach_those_behind_routers_and_start_from_there() -> Result<()> {
    let Some(bloc) = translating_or_skip("wave-routers")? else {
        return Ok(());
    };
    let names = ["outside", "queen", "home"];
    let hosts = bloc.lab.machines(names)?;
    let nodes = started(&bloc, &hosts[..1], &hosts[1..])?;
    let [outside, queen, home] = nodes.as_slice() else {
        unreachable!("three hosts make three nodes")
    };
    bloc.until_present(&[outside, queen, home], &names)?;
    ensure_hidden(&hosts[0], &hosts[1])?;
    let sources = [1, 2].map(|seed| hosts[1].dir().join(format!("source-{seed}")));
    for (seed, source) in (1..).zip(&sources) {
        tree::grow(source, seed, 4 << 20)?;
    }
    let equal = |host: &Host, source: &Path| {
        tree::ensure_equal(host, &source.display().to_string(), "/srv/tree")
    };
    // Nobody can dial the queen: the one outside is linked to by her, and serves the one at home.
    let first = roll_out(queen, &sources[0], "/srv/tree")?;
    until_done(&bloc, queen, &first, &[outside, queen, home])?;
    for host in &hosts {
        equal(host, &sources[0])?;
    }
    // The one outside is no target: it has nothing to serve, and passes on what it cannot read.
    let before = relayed(outside)?;
    let second = roll_out_to(HOMES, queen, &sources[1], "/srv/tree")?;
    until_done(&bloc, queen, &second, &[queen, home])?;
    equal(&hosts[2], &sources[1])?;
    equal(&hosts[0], &sources[0])?;
    let passed = relayed(outside)? - before;
    ensure!(passed >= 4 << 20, "{passed} bytes went through the one outside");
    Ok(())
}

#[test]
fn what_cannot_meet_is_one_flock_by_who_meets_both() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("channel-bridge")? else {
        return Ok(());
    };
    let names = ["c", "a", "b"];
    let hosts = bloc.lab.machines(names)?;
    bloc.lab.partition(&[&hosts[1..2], &hosts[2..]])?;
    let in_groups = "ping_period = \"1s\"\nestimates_period = \"1s\"\n".to_owned();
    let nodes = bloc.started(&hosts, &Settings { in_groups, ..Settings::default() })?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &names)?;
    for node in &nodes[1..] {
        let links = node.ask(&["links"])?;
        let peers = links.as_array().context("links are no list")?.iter();
        let peers: Vec<_> = peers.map(|link| link["peer"].clone()).collect();
        ensure!(peers == ["c"], "{} is linked to {peers:?}", node.name);
    }
    let lines: Vec<String> = nodes.iter().map(|node| format!("of {}", node.name)).collect();
    for (node, line) in nodes.iter().zip(&lines) {
        node.publish(line)?;
    }
    bloc.until_logged(&all, &lines)?;
    talk(&bloc, &nodes[1], &nodes[2])?;
    // What neither can dial is told after a minute, and by all.
    bloc.lab.wait_until("a and b are measured over the links of c", PATIENCE, || {
        for node in &nodes {
            let known = node.ask(&["rtt", "a", "b"])?;
            let micros = known["rtt_us"].as_u64().unwrap_or(u64::MAX);
            let near = known["basis"] == "routed" && micros < 1_000_000;
            ensure!(near, "{} says {known}", node.name);
        }
        Ok(())
    })?;
    for node in &nodes {
        for name in names {
            let silent = node.times_seen(name, "silent")?;
            ensure!(silent == 0, "{} saw {name} silent {silent} times", node.name);
        }
    }
    Ok(())
}
