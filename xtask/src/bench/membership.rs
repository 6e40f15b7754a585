//! How fast members see one another come and go, and what knowing it costs.
//!
//! All agents run on this machine with TLS on, certificates issued before, state empty and one seed
//! address. Times are differences of the agents' own stamps. What needs cut links or a byte count
//! of its own runs on hosts of `testing/lab`, as root; without root these figures are left out, and
//! a line says so.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use skep_lab::Lab;

use super::clock::Micros;
use super::figure::{Better, Figure, Peer, quantile};
use super::fleet::{Fleet, Ground};
use super::software::{Seen, Software, publish};
use super::{Measure, Setting, simulator, wave};
use crate::say;

/// Longest wait for anything that takes seconds: a machine under load is slow, not broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// The size that the targets are about.
const MANY: usize = 100;

/// Everything this bench measures, cheap and basic first.
pub const MEASURES: &[Measure] = &[
    Measure { name: "converge-50", run: |setting| converge(setting, 50, 1.0) },
    Measure { name: "converge-100", run: |setting| converge(setting, MANY, 2.0) },
    Measure { name: "stopped", run: stopped },
    Measure { name: "cut", run: cut },
    Measure { name: "killed", run: killed },
    Measure { name: "restarted", run: restarted },
    Measure { name: "split", run: split },
    Measure { name: "updates", run: updates },
    Measure { name: "idle", run: idle },
    Measure { name: "wave", run: wave::origin },
    Measure { name: "sim-loss", run: simulator::wrong_silences },
    Measure { name: "sim-1000", run: simulator::thousand },
];

fn converge(setting: &Setting, count: usize, target: f64) -> Result<Vec<Figure>> {
    let mut samples = Vec::new();
    for _ in 0..setting.runs {
        samples.push(converge_once(setting.skep()?, count)?);
    }
    let peer = beside(|software| converge_once(software, count))?;
    let name = setting.named(&format!("all {count} present at all {count}"));
    Ok(vec![Figure::of(&name, "s", &samples, Better::Lower, target)?.beside(peer)])
}

fn converge_once(software: Software, count: usize) -> Result<f64> {
    let mut fleet = Fleet::new(software, count, Ground::Loopback)?;
    let begun = fleet.start_all()?;
    let last = whole(&mut fleet)?;
    Ok(last.seconds_since(begun))
}

/// Starts a fleet and waits until all are present at all.
pub(super) fn formed(software: Software, count: usize, ground: Ground) -> Result<Fleet> {
    let mut fleet = Fleet::new(software, count, ground)?;
    fleet.start_all()?;
    whole(&mut fleet)?;
    Ok(fleet)
}

/// Waits until all are present at all, and gives when that became so.
fn whole(fleet: &mut Fleet) -> Result<Micros> {
    fleet.wait("all present at all", PATIENCE, |fleet| {
        let mut last = Micros(0);
        for number in 0..fleet.len() {
            last = last.max(fleet.view(number).all_present(fleet.others(number))?);
        }
        Some(last)
    })
}

/// Waits until all but `victim` see it as `seen`, after `since`, and gives when the last did.
fn seen_by_all(fleet: &mut Fleet, victim: usize, seen: Seen, since: Micros) -> Result<Micros> {
    let name = fleet.seat(victim)?.name.clone();
    fleet.wait(&format!("{name} seen {seen:?} by all"), PATIENCE, |fleet| {
        let mut last = Micros(0);
        for number in (0..fleet.len()).filter(|number| *number != victim) {
            let mut noted = fleet.sightings(number, since);
            last = last.max(noted.find(|noted| noted.node == name && noted.seen == seen)?.at);
        }
        Some(last)
    })
}

fn stopped(setting: &Setting) -> Result<Vec<Figure>> {
    let mut fleet = formed(setting.skep()?, MANY, Ground::Loopback)?;
    let mut samples = Vec::new();
    for victim in victims(setting) {
        let since = fleet.signal(victim, Signal::STOP)?;
        let last = seen_by_all(&mut fleet, victim, Seen::Silent, since)?;
        samples.push(last.seconds_since(since));
        let back = fleet.signal(victim, Signal::CONT)?;
        seen_by_all(&mut fleet, victim, Seen::Present, back)?;
        whole(&mut fleet)?;
    }
    let name = setting.named("SIGSTOP seen by all, N=100");
    Ok(vec![Figure::of(&name, "s", &samples, Better::Lower, 4.0)?])
}

fn cut(setting: &Setting) -> Result<Vec<Figure>> {
    if left_out("links cut") {
        return Ok(Vec::new());
    }
    let mut fleet = formed(setting.skep()?, MANY, Ground::Lab)?;
    let mut samples = Vec::new();
    for victim in victims(setting) {
        let hosts = fleet.lab()?.all_hosts();
        let host = hosts.get(victim).context("a host for each agent")?;
        let since = Micros::now();
        fleet.lab()?.isolate(host)?;
        fleet.signal(victim, Signal::KILL)?;
        fleet.ended(victim, PATIENCE)?;
        let last = seen_by_all(&mut fleet, victim, Seen::Silent, since)?;
        samples.push(last.seconds_since(since));
        fleet.lab()?.heal()?;
        fleet.start(victim)?;
        whole(&mut fleet)?;
    }
    let name = setting.named("link cut, then killed: seen by all, N=100");
    Ok(vec![Figure::of(&name, "s", &samples, Better::Lower, 4.0)?])
}

fn killed(setting: &Setting) -> Result<Vec<Figure>> {
    let software = setting.skep()?;
    let mut fleet = formed(software, MANY, Ground::Loopback)?;
    let mut samples = Vec::new();
    for victim in victims(setting) {
        samples.push(kill_once(&mut fleet, victim)?);
        fleet.start(victim)?;
        whole(&mut fleet)?;
    }
    drop(fleet);
    let peer = beside(|software| {
        let mut fleet = formed(software, MANY, Ground::Loopback)?;
        kill_once(&mut fleet, MANY / 2)
    })?;
    let name = setting.named("kill -9 seen by all, N=100");
    Ok(vec![Figure::of(&name, "s", &samples, Better::Lower, 0.5)?.beside(peer)])
}

fn kill_once(fleet: &mut Fleet, victim: usize) -> Result<f64> {
    let since = fleet.signal(victim, Signal::KILL)?;
    fleet.ended(victim, PATIENCE)?;
    Ok(seen_by_all(fleet, victim, Seen::Silent, since)?.seconds_since(since))
}

/// A planned restart: how many of the others ever took it for silent.
fn restarted(setting: &Setting) -> Result<Vec<Figure>> {
    /// What an agent that announced `restarting` has.
    const AWAY_AT_MOST: f64 = 2.0;
    let mut fleet = formed(setting.skep()?, MANY, Ground::Loopback)?;
    let mut samples = Vec::new();
    for victim in victims(setting) {
        let name = fleet.seat(victim)?.name.clone();
        let since = fleet.signal(victim, Signal::TERM)?;
        fleet.ended(victim, PATIENCE)?;
        let away = Micros::now();
        fleet.start(victim)?;
        ensure!(
            away.seconds_since(since) < AWAY_AT_MOST,
            "{name} took {:.1} s to end, so this is no quick restart",
            away.seconds_since(since)
        );
        seen_by_all(&mut fleet, victim, Seen::Present, away)?;
        whole(&mut fleet)?;
        let wrong = (0..fleet.len())
            .filter(|number| *number != victim)
            .filter(|number| {
                let mut noted = fleet.sightings(*number, since);
                noted.any(|noted| noted.node == name && noted.seen == Seen::Silent)
            })
            .count();
        samples.push(f64::from(u32::try_from(wrong)?));
    }
    let name = setting.named("saw an announced restart as silence, N=100");
    Ok(vec![Figure::of(&name, "nodes", &samples, Better::Lower, 0.0)?])
}

fn split(setting: &Setting) -> Result<Vec<Figure>> {
    if left_out("splits") {
        return Ok(Vec::new());
    }
    let lasts = if setting.quick { 15 } else { 60 };
    let mut samples = Vec::new();
    for _ in 0..setting.runs {
        samples.push(split_once(setting.skep()?, lasts)?);
    }
    let peer = beside(|software| split_once(software, lasts))?;
    let name = format!("one flock again after a {lasts} s split, N=16");
    Ok(vec![Figure::of(&setting.named(&name), "s", &samples, Better::Lower, 5.0)?.beside(peer)])
}

fn split_once(software: Software, lasts: u64) -> Result<f64> {
    let mut fleet = formed(software, 16, Ground::Lab)?;
    let hosts = fleet.lab()?.all_hosts();
    let (left, right) = hosts.split_at(hosts.len() / 2);
    fleet.lab()?.partition(&[left, right])?;
    let end = Instant::now() + Duration::from_secs(lasts);
    let halves = fleet.wait("two halves", PATIENCE, |fleet| {
        let (_, seen) = fleet.view(0).of("n16").zip(fleet.view(15).of("n1"))?;
        (seen.0 == Seen::Silent).then_some(())
    });
    halves?;
    thread::sleep(end.saturating_duration_since(Instant::now()));
    let healed = Micros::now();
    fleet.lab()?.heal()?;
    let last = whole(&mut fleet)?;
    Ok(last.seconds_since(healed))
}

/// In a flock that has just formed, and still compares and moves links, and in one that stands.
fn updates(setting: &Setting) -> Result<Vec<Figure>> {
    let mut figures = updates_after(setting, "at once", Duration::ZERO)?;
    figures.extend(updates_after(setting, "after 3 s", Duration::from_secs(3))?);
    Ok(figures)
}

/// Updates begun `rest` after all are present at all; `begun` says so in the figures' names.
fn updates_after(setting: &Setting, begun: &str, rest: Duration) -> Result<Vec<Figure>> {
    let count = if setting.quick { 100 } else { 500 };
    let mut fleet = formed(setting.skep()?, MANY, Ground::Loopback)?;
    thread::sleep(rest);
    let mut sent = Vec::new();
    for number in 0..count {
        let due = Instant::now() + Duration::from_millis(100);
        let seat = fleet.seat(number % fleet.len())?;
        let before = Micros::now();
        sent.push((publish(seat, &[b'u'; 256])?, before));
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let arrivals = fleet.wait("all updates at all", PATIENCE, |fleet| {
        let arrivals = arrivals(fleet);
        let complete = |(id, _): &(String, Micros)| {
            arrivals.get(id).is_some_and(|arrived| arrived.len() == fleet.len())
        };
        sent.iter().all(complete).then_some(arrivals)
    });
    let arrivals = match arrivals {
        Ok(arrivals) => arrivals,
        Err(error) => {
            say(format_args!("{error:#}"));
            self::arrivals(&fleet)
        }
    };
    let mut latencies = Vec::new();
    for (id, before) in &sent {
        if let Some(arrived) = arrivals.get(id)
            && arrived.len() == fleet.len()
        {
            let last = arrived.values().max().copied().unwrap_or(*before);
            latencies.push(last.seconds_since(*before) * 1000.0);
        }
    }
    let lost = f64::from(u32::try_from(sent.len() - latencies.len())?);
    let name = |what: &str| {
        let load = format!("{count} at 10/s, begun {begun}");
        setting.named(&format!("256-byte update to the last of 100 ({load}): {what}"))
    };
    let at = |share| quantile(&latencies, share).context("no update arrived everywhere");
    Ok(vec![
        Figure::of(&name("p50"), "ms", &[at(0.5)?], Better::Lower, 30.0)?,
        Figure::of(&name("p99"), "ms", &[at(0.99)?], Better::Lower, 150.0)?,
        Figure::of(&name("lost"), "updates", &[lost], Better::Lower, 0.0)?,
    ])
}

/// When each update came into the log of each agent, by its identity and the agent's number.
pub(super) fn arrivals(fleet: &Fleet) -> BTreeMap<String, BTreeMap<usize, Micros>> {
    #[derive(Deserialize)]
    struct Line {
        monotonic_us: u64,
        event: String,
        id: Option<String>,
    }
    let mut arrivals: BTreeMap<String, BTreeMap<usize, Micros>> = BTreeMap::new();
    for number in 0..fleet.len() {
        let lines = fleet.events(number).filter_map(|line| serde_json::from_str::<Line>(line).ok());
        for line in lines.filter(|line| line.event == "update") {
            let at = Micros(line.monotonic_us);
            arrivals.entry(line.id.unwrap_or_default()).or_default().entry(number).or_insert(at);
        }
    }
    arrivals
}

fn idle(setting: &Setting) -> Result<Vec<Figure>> {
    let ground = if left_out("bytes of an idle node") { Ground::Loopback } else { Ground::Lab };
    let seconds = if setting.quick { 20 } else { 60 };
    let ours = idle_once(setting.skep()?, ground, seconds)?;
    let peer = Software::peer();
    let theirs =
        peer.as_ref().map(|software| idle_once(software.clone(), ground, seconds)).transpose()?;
    let beside = |pick: fn(&Idle) -> &Vec<f64>| -> Result<Option<Peer>> {
        let (Some(software), Some(theirs)) = (&peer, &theirs) else {
            return Ok(None);
        };
        Ok(Some(as_peer(software, mean(pick(theirs))?)))
    };
    let figure = |what: &str, unit: &str, pick: fn(&Idle) -> &Vec<f64>, target| {
        let name = setting.named(&format!("{what}, N=100, idle for {seconds} s"));
        let mean = mean(pick(&ours))?;
        let mut figure = Figure::of(&name, unit, pick(&ours), Better::Lower, target)?;
        figure.value = mean;
        figure.runs = 1;
        Ok::<_, anyhow::Error>(figure.beside(beside(pick)?))
    };
    let mut figures = vec![
        figure("resident memory a node", "MiB", |idle| &idle.resident_mib, 12.0)?,
        figure("CPU a node", "%", |idle| &idle.cpu_percent, 0.2)?,
    ];
    if ground == Ground::Lab {
        let sent = figure("sent by a node, IP headers in", "KiB/s", |idle| &idle.sent_kib, 1.0)?;
        figures.push(sent);
    }
    Ok(figures)
}

/// One value for each agent.
struct Idle {
    resident_mib: Vec<f64>,
    cpu_percent: Vec<f64>,
    sent_kib: Vec<f64>,
}

fn idle_once(software: Software, ground: Ground, seconds: u32) -> Result<Idle> {
    /// Joining is over, and what it left to do is done.
    const SETTLE: Duration = Duration::from_secs(10);
    let fleet = formed(software, MANY, ground)?;
    thread::sleep(SETTLE);
    let read = || (0..fleet.len()).map(|number| fleet.usage(number)).collect::<Result<Vec<_>>>();
    let (first, begun) = (read()?, Instant::now());
    thread::sleep(Duration::from_secs(u64::from(seconds)));
    let (last, took) = (read()?, begun.elapsed().as_secs_f64());
    let mut idle = Idle { resident_mib: Vec::new(), cpu_percent: Vec::new(), sent_kib: Vec::new() };
    for (first, last) in first.iter().zip(&last) {
        let cpu = last.cpu.saturating_sub(first.cpu).as_secs_f64();
        idle.cpu_percent.push(cpu / took * 100.0);
        idle.resident_mib.push(count(last.resident)? / 1024.0 / 1024.0);
        idle.sent_kib.push(count(last.sent.saturating_sub(first.sent))? / 1024.0 / took);
    }
    Ok(idle)
}

pub(super) fn count(number: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(number).context("a figure beyond four thousand million")?))
}

fn mean(values: &[f64]) -> Result<f64> {
    let count = u32::try_from(values.len())?;
    ensure!(count > 0, "nothing was measured");
    Ok(values.iter().sum::<f64>() / f64::from(count))
}

/// Agents that something happens to, one a run; never the seed.
fn victims(setting: &Setting) -> impl Iterator<Item = usize> + use<> {
    let runs = usize::try_from(setting.runs).unwrap_or(1);
    (0..runs).map(|run| 1 + run * 37 % (MANY - 1))
}

/// The same measure of the peer, where it is installed.
fn beside(take: impl FnOnce(Software) -> Result<f64>) -> Result<Option<Peer>> {
    let Some(software) = Software::peer() else {
        return Ok(None);
    };
    let value = take(software.clone()).with_context(|| format!("measuring {}", software.name()))?;
    Ok(Some(as_peer(&software, value)))
}

pub(super) fn as_peer(software: &Software, value: f64) -> Peer {
    Peer { name: software.name().to_owned(), version: software.version(), value }
}

/// Whether there can be no lab here; says so.
pub(super) fn left_out(what: &str) -> bool {
    let unavailable = Lab::available();
    if let Err(why) = &unavailable {
        say(format_args!("left out {what}: {why}"));
    }
    unavailable.is_err()
}

impl Setting {
    /// The name of a figure, which says so where it was taken quickly.
    pub(super) fn named(&self, name: &str) -> String {
        if self.quick { format!("{name} (quick)") } else { name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(quick: bool) -> Setting {
        Setting { quick, runs: 5, ..Setting::default() }
    }

    #[test]
    fn the_seed_is_never_a_victim_and_no_victim_comes_twice() {
        let mut chosen: Vec<usize> = victims(&setting(false)).collect();
        assert_eq!(chosen.len(), 5);
        assert!(chosen.iter().all(|victim| (1..MANY).contains(victim)));
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 5);
    }

    #[test]
    fn a_quick_figure_says_so() {
        assert_eq!(setting(true).named("x"), "x (quick)");
        assert_eq!(setting(false).named("x"), "x");
    }

    #[test]
    fn names_of_measures_are_unique() {
        let mut names: Vec<_> = MEASURES.iter().map(|measure| measure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MEASURES.len());
    }
}
