//! Files of commands, and the log of what they lead to: each is a scenario that can be read.
//!
//! A file has one command a line; `#` begins a remark. Hosts are `n1`, `n2`, …; `master` is who
//! leads when the command is carried out, `backups` are its backups, `others` all other live hosts,
//! and `all` is everybody.
//!
//! | command | what it does |
//! |---|---|
//! | `nodes N`, `nodes N weak` | so many hosts, n1 with the founding token or nobody; first |
//! | `start`, `kill`, `power-off HOST…` | as it says; each knows the others' addresses |
//! | `pause HOST…`, `resume HOST…` | SIGSTOP, SIGCONT |
//! | `split HOST… \| HOST…` | nothing passes between the lists |
//! | `one-way HOST… > HOST…` | nothing passes from the first list to the second |
//! | `cut HOST HOST` | nothing passes between two |
//! | `heal` | all cuts are taken back |
//! | `wipe HOST…` | the disk of a host that does not run is lost |
//! | `token HOST` | the CA makes the next founding token for that host |
//! | `witness HOST…` | its configuration says `eligible = "witness"`; before its start |
//! | `slow HOST…`, `fast HOST…` | a disk takes a second for each write, or does not |
//! | `profile documents` | the timers of the founding documents; before any start |
//! | `timer NAME SECONDS` | `min_stay`, `better_for` or `solitude`; before any start |
//! | `load HOST N` | the host says that it has N of 1000 to spare |
//! | `write HOST N` | asks for N entries there, and waits for the answers, 15 s at most |
//! | `order HOST WHAT HOST` | promote, demote, hold or release the second, ordered at the first |
//! | `run SECONDS` | lets time pass |
//! | `until WHAT SECONDS` | lets time pass until then; fails when that is too long |
//! | `show` | says who manages what |
//!
//! `until` knows `managed` (one master a part, with its backups, all in the sync set, and all
//! follow it), `master HOST`, `masters N`, `role HOST ROLE`, `strict` (somebody has
//! strict authority), and `agreed` (one catalog everywhere,
//! with everything in it that was acknowledged).
//!
//! The log has each command, and under it what the hosts reported until the next one, host by
//! host: in which order two hosts did something is chance, so it is not in the log. While a file is
//! played all invariants of `watch` hold, or it fails.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use skep_catalog::{Granted, Order, Outcome};
use skep_managers::{Eligibility, Event, Role, Strength};

use super::rest::{agreed, managed, master_of, role_of};
use super::watch::Watch;
use crate::disk::DiskModel;
use crate::host::HostIx;
use crate::plant::{self, Bug};
use crate::report::Failure;
use crate::world::{Config, World};

/// Hosts of one file: a log of more is not read.
const MAX_HOSTS: usize = 12;
/// What may be asked for at once.
const MAX_WRITES: u64 = 1_000;
/// How long a write may take to be answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// And an order, which may wait for a node to catch up.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(30);

/// Plays a file of commands, from a seed. Gives the log.
///
/// # Errors
/// A command that is none, an `until` that takes too long, or an invariant that broke: with the log
/// so far.
pub fn play(commands: &str, seed: u64) -> anyhow::Result<String> {
    play_with(commands, seed, None)
}

/// The same with a bug planted, which the second host has where it sits in one.
///
/// # Errors
/// As [`play`]: where it is found a [`Failure`] is in the chain.
pub fn play_with(commands: &str, seed: u64, bug: Option<Bug>) -> anyhow::Result<String> {
    let mut config = Config { bug, ..Config::default() };
    if let Some(bug) = bug {
        plant::configure(bug, &mut config);
    }
    let mut world = World::new(config, seed, None)?;
    world.watch = Some(Watch::default());
    world.events_log = Some(BTreeMap::new());
    let mut script = Script { world, hosts: Vec::new(), log: String::new(), values: 0 };
    for (number, line) in (1..).zip(commands.lines()) {
        let command = line.split('#').next().unwrap_or_default().trim();
        if command.is_empty() {
            continue;
        }
        let played = script.command(command);
        script.settle_log();
        played.with_context(|| format!("line {number}: {command}\n{}", script.log))?;
    }
    Ok(script.log)
}

struct Script {
    world: World,
    hosts: Vec<HostIx>,
    log: String,
    values: u64,
}

impl Script {
    fn command(&mut self, command: &str) -> anyhow::Result<()> {
        self.log += &format!("{}{command}\n", if self.log.is_empty() { "" } else { "\n" });
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        let rest = rest.trim();
        match word {
            "nodes" => match rest.strip_suffix("weak") {
                Some(count) => self.nodes(count.trim().parse()?, false),
                None => self.nodes(rest.parse()?, true),
            },
            "start" => self.each(rest, World::start),
            "kill" => self.each(rest, World::kill),
            "power-off" => self.each(rest, World::cut_power),
            "pause" => self.each(rest, World::pause),
            "resume" => self.each(rest, World::resume),
            "wipe" => self.each(rest, World::wipe_disk),
            "token" => self.each(rest, World::give_token),
            "witness" => self.each(rest, |world, host| {
                world.host_mut(host).eligible = Some(Eligibility::Witness);
            }),
            "slow" => self.each(rest, |world, host| {
                world.slow_disk(host, Some(DiskModel::slow()));
            }),
            "fast" => self.each(rest, |world, host| world.slow_disk(host, None)),
            "split" => {
                let parts = rest.split('|').map(|part| self.named(part));
                let parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
                self.world.split(&parts);
                Ok(())
            }
            "one-way" => {
                let (from, to) = rest.split_once('>').context("one-way A > B")?;
                let (from, to) = (self.named(from)?, self.named(to)?);
                self.world.cut_one_way(&from, &to);
                Ok(())
            }
            "cut" => {
                let pair = self.named(rest)?;
                let [a, b] = pair[..] else { bail!("cut HOST HOST") };
                self.world.cut_pair(a, b);
                Ok(())
            }
            "heal" => {
                self.world.heal();
                Ok(())
            }
            "profile" => self.profile(rest),
            "timer" => self.timer(rest),
            "load" => {
                let (hosts, resources) = rest.rsplit_once(' ').context("load HOST N")?;
                let resources: u16 = resources.parse()?;
                self.each(hosts, |world, host| world.load(host, resources))
            }
            "write" => self.write(rest),
            "order" => self.order(rest),
            "run" => Ok(self.world.run_for(seconds(rest)?)?),
            "until" => self.until(rest),
            "show" => {
                self.settle_log();
                self.show();
                Ok(())
            }
            other => bail!("no command is called {other:?}"),
        }
    }

    fn nodes(&mut self, count: usize, token: bool) -> anyhow::Result<()> {
        ensure!((1..=MAX_HOSTS).contains(&count), "1 to {MAX_HOSTS} nodes");
        ensure!(self.hosts.is_empty(), "nodes once, and first");
        for number in 1..=count {
            self.hosts.push(self.world.add_host(&format!("n{number}"), 0)?);
        }
        for host in &self.hosts {
            let others: Vec<HostIx> = self.hosts.iter().copied().filter(|it| it != host).collect();
            self.world.set_seeds(*host, &others);
        }
        // As the CA gives it to the first host that is set up.
        if let Some(first) = self.hosts.first().filter(|_| token) {
            self.world.give_token(*first);
        }
        Ok(())
    }

    /// Whether nobody runs yet: timers are those of all, in all their lives.
    fn before_any_start(&self) -> anyhow::Result<()> {
        let running = self.hosts.iter().any(|host| self.world.node(*host).is_some());
        ensure!(!running, "timers are set before anybody starts");
        Ok(())
    }

    fn profile(&mut self, name: &str) -> anyhow::Result<()> {
        self.before_any_start()?;
        ensure!(name == "documents", "no profile is called {name:?}");
        self.world.config.managers = skep_managers::Config::documents();
        Ok(())
    }

    fn timer(&mut self, rest: &str) -> anyhow::Result<()> {
        let (name, span) = rest.split_once(' ').context("timer NAME SECONDS")?;
        let span = seconds(span)?;
        self.before_any_start()?;
        let managers = &mut self.world.config.managers;
        match name {
            "given_up" => managers.given_up = span,
            "min_stay" => managers.min_stay = span,
            "better_for" => managers.better_for = span,
            "solitude" => managers.solitude = span,
            other => bail!("no timer is called {other:?}"),
        }
        managers.validate().context("with these timers no flock is managed")
    }

    fn each(&mut self, names: &str, act: impl Fn(&mut World, HostIx)) -> anyhow::Result<()> {
        for host in self.named(names)? {
            act(&mut self.world, host);
        }
        Ok(())
    }

    fn named(&self, names: &str) -> anyhow::Result<Vec<HostIx>> {
        let role = |host: &HostIx| role_of(&self.world, *host);
        let of =
            |wanted: Role| self.hosts.iter().copied().filter(move |it| role(it) == Some(wanted));
        let mut named = Vec::new();
        for name in names.split_whitespace() {
            match name {
                "all" => named.extend(&self.hosts),
                "master" => named.extend(of(Role::Master)),
                "backups" => named.extend(of(Role::Backup)),
                "others" => named.extend(of(Role::Eligible).chain(of(Role::Host))),
                name => {
                    let is = |host: &&HostIx| self.world.host(**host).name.as_str() == name;
                    let found = self.hosts.iter().find(is);
                    named.push(*found.with_context(|| format!("no host is called {name:?}"))?);
                }
            }
        }
        named.sort_unstable();
        named.dedup();
        ensure!(!named.is_empty(), "{names:?} is nobody now");
        Ok(named)
    }

    fn name(&self, host: HostIx) -> &str {
        self.world.host(host).name.as_str()
    }

    fn write(&mut self, rest: &str) -> anyhow::Result<()> {
        let (at, count) = rest.rsplit_once(' ').context("write HOST N")?;
        let hosts = self.named(at)?;
        let [host] = hosts[..] else { bail!("write at one host") };
        let count: u64 = count.parse()?;
        ensure!(count <= MAX_WRITES, "at most {MAX_WRITES} writes");
        let mut tokens = Vec::new();
        for _ in 0..count {
            self.values += 1;
            let name = format!("entry-{}", self.values);
            let expect = skep_catalog::Expect::Anything;
            tokens.extend(self.world.want(host, &name, expect, self.values));
        }
        self.await_answers(&tokens, ANSWERED_WITHIN)?;
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for token in &tokens {
            let answer = self.world.wishes.answer_to(*token).map(|(_, granted)| granted);
            *answers.entry(answered(answer)).or_default() += 1;
        }
        self.settle_log();
        for (answer, count) in answers {
            self.log += &format!("  {count} {answer}\n");
        }
        Ok(())
    }

    fn await_answers(&mut self, tokens: &[u64], limit: Duration) -> anyhow::Result<()> {
        let end = self.world.now() + limit;
        let open =
            |world: &World| tokens.iter().any(|token| world.wishes.answer_to(*token).is_none());
        while open(&self.world) && self.world.now() < end {
            self.world.run_for(Duration::from_millis(10))?;
        }
        Ok(())
    }

    fn order(&mut self, rest: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [at, what, whom] = words[..] else { bail!("order HOST WHAT HOST") };
        let (at, whom) = (self.named(at)?, self.named(whom)?);
        let ([at], [whom]) = (&at[..], &whom[..]) else { bail!("one host orders one host") };
        let node = self.world.id(*whom);
        let order = match what {
            "promote" => Order::Promote(node),
            "demote" => Order::Demote(node),
            "hold" => Order::Hold(node),
            "release" => Order::Release(node),
            other => bail!("no order is called {other:?}"),
        };
        let token = self.world.order_managers(*at, order);
        self.await_answers(&[token], CARRIED_OUT_WITHIN)?;
        self.settle_log();
        let answer = self.world.wishes.answer_to(token).map(|(_, granted)| granted);
        self.log += &format!("  {}\n", answered(answer));
        Ok(())
    }

    fn until(&mut self, rest: &str) -> anyhow::Result<()> {
        let (what, limit) = rest.rsplit_once(' ').context("until WHAT SECONDS")?;
        let limit = seconds(limit)?;
        let words: Vec<&str> = what.split_whitespace().collect();
        match words[..] {
            ["managed"] => self.world.until(limit, "managed", managed)?,
            ["agreed"] => agreed_within(&mut self.world, limit)?,
            ["strict"] => self.world.until(limit, what, |world| {
                let now = |host: HostIx| world.host(host).local(world.now());
                let has = |host: HostIx| {
                    let flock = world.node(host).and_then(|it| it.management(now(host)).flock);
                    flock.is_some_and(|flock| flock.authority.until.is_some())
                };
                is_so(world.live().any(has), "nobody has strict authority")
            })?,
            ["master", name] => {
                let hosts = self.named(name)?;
                self.world.until(limit, what, |world| {
                    is_so(master_of(world) == hosts.first().copied(), "another leads, or nobody")
                })?
            }
            ["masters", count] => {
                let count: usize = count.parse()?;
                self.world.until(limit, what, |world| {
                    let leads = |host: &HostIx| role_of(world, *host) == Some(Role::Master);
                    is_so(world.live().filter(leads).count() == count, "more, or fewer, lead")
                })?
            }
            ["role", name, role] => {
                let hosts = self.named(name)?;
                self.world.until(limit, what, |world| {
                    let is = |host: &HostIx| {
                        role_of(world, *host).is_some_and(|it| it.to_string() == role)
                    };
                    is_so(hosts.iter().all(is), "its role is another")
                })?
            }
            _ => bail!("nothing is called {what:?} that could be waited for"),
        };
        Ok(())
    }

    /// Puts what the hosts reported since the last command into the log.
    fn settle_log(&mut self) {
        let Some(events) = &mut self.world.events_log else { return };
        let events = std::mem::take(events);
        for (host, events) in events {
            for event in events {
                if let Some(text) = self.said(&event) {
                    self.log += &format!("  {:<4} {text}\n", self.name(host));
                }
            }
        }
    }

    fn said(&self, event: &Event) -> Option<String> {
        let node = |node| {
            let host = self.world.by_id.get(&node).copied();
            host.map_or_else(|| "?".to_owned(), |host| self.name(host).to_owned())
        };
        match event {
            Event::Formed { generation, strength, .. } => {
                let strength = strength_word(*strength);
                Some(format!("founds generation {}, {strength}", generation.0))
            }
            Event::RoleChanged { from, to, why } => Some(format!("{from} -> {to}: {why}")),
            Event::Strengthened { founding, .. } => {
                Some(format!("is strong, founding number {}", founding.0))
            }
            Event::BackupAdded { node: it } => Some(format!("takes {} as a backup", node(*it))),
            Event::BackupRemoved { node: it, why } => {
                Some(format!("{} is no backup any more: {why}", node(*it)))
            }
            Event::GivenUp { node: it } => Some(format!("gives {} up", node(*it))),
            Event::Unprotected => Some("is unprotected: it has no backup".to_owned()),
            Event::DiskFailed { why } => Some(format!("steps down: {why}")),
            Event::MergedInto { .. } => Some("merged into another flock".to_owned()),
            Event::Retired { .. } => Some("retires".to_owned()),
            Event::Absorbed { changes, .. } if *changes > 0 => {
                Some(format!("took over {changes} entries"))
            }
            // Who follows whom is in what `show` says; a sync set changes with every delay.
            Event::MasterChanged { .. }
            | Event::SyncSet { .. }
            | Event::Absorbed { .. }
            | Event::CheckpointRefused { .. }
            | Event::HandOverRefused { .. } => None,
        }
    }

    fn show(&mut self) {
        let mut text = String::new();
        for host in &self.hosts {
            let now = self.world.host(*host).local(self.world.now());
            let name = self.name(*host);
            let Some(node) = self.world.node(*host) else {
                let stopped = self.world.host(*host).process.is_some();
                let what = if stopped { "stands still" } else { "does not run" };
                text += &format!("  {name:<4} {what}\n");
                continue;
            };
            let view = node.management(now);
            text += &format!("  {name:<4} {}", view.role);
            if let Some(flock) = view.flock.filter(|_| view.role == Role::Master) {
                let names = |nodes: &[skep_base::NodeId]| {
                    let hosts = nodes.iter().filter_map(|node| self.world.by_id.get(node));
                    let mut names: Vec<&str> = hosts.map(|host| self.name(*host)).collect();
                    names.sort_unstable();
                    names.join(" ")
                };
                let strength = strength_word(flock.strength);
                text += &format!(" of generation {}, {strength}", flock.generation.0);
                if flock.founding.0 > 1 {
                    text += &format!(", founding number {}", flock.founding.0);
                }
                text += &format!("; backups {}", names(&flock.backups));
                text += &format!("; sync set {}", names(&flock.sync_set));
            }
            // Whoever decides nothing says what keeps it.
            let stuck = matches!(view.role, Role::SemiMaster | Role::Holding | Role::Retired);
            for wait in view.waits.iter().filter(|_| stuck) {
                text += &format!("; {}", wait.what);
            }
            text.push('\n');
        }
        self.log += &text;
    }
}

const fn strength_word(strength: Strength) -> &'static str {
    match strength {
        Strength::Strong => "strong",
        Strength::Weak => "weak",
    }
}

fn answered(granted: Option<&Granted>) -> String {
    match granted {
        None => "not answered".to_owned(),
        Some(Granted::Done | Granted::Wanted { .. } | Granted::Shown(_)) => "done".to_owned(),
        Some(Granted::Refused { why, .. }) => format!("refused: {why}"),
        // How strong depends on who has noted the sync set by then, which is a matter of moments.
        Some(Granted::Decided { outcome: Outcome::Applied { .. }, .. }) => {
            "acknowledged".to_owned()
        }
        Some(Granted::Decided { outcome, .. }) => format!("decided: {outcome:?}"),
        Some(Granted::Called { roster, there, .. }) => format!("{there} of {roster} are there"),
    }
}

fn agreed_within(world: &mut World, limit: Duration) -> Result<Duration, Failure> {
    let took = agreed(world)?;
    if took > limit {
        world.fail(crate::report::Checker::Liveness, format!("agreed after {took:?} only"));
    }
    world.failure.clone().map_or(Ok(took), Err)
}

fn is_so(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    let seconds: f64 = text.trim().parse().with_context(|| format!("{text:?} is no time"))?;
    ensure!((0.0..=1e6).contains(&seconds), "{seconds} s are too many, or too few");
    Ok(Duration::from_secs_f64(seconds))
}

impl World {
    pub(crate) fn log_event(&mut self, host: HostIx, event: &Event) {
        if let Some(log) = &mut self.events_log {
            log.entry(host).or_default().push(event.clone());
        }
    }
}
