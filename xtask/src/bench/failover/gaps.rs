//! The longest time without an acknowledged write when the master is killed, frozen, cut off, or
//! hands over; of ours, and of etcd.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::super::Setting;
use super::super::clock::Micros;
use super::super::figure::{Better, Figure, Peer, quantile};
use super::super::fleet::{Fleet, Ground};
use super::super::membership::{as_peer, count, formed, left_out};
use super::super::software::{Control, EtcdClient, Seat, Software};
use super::address;
use super::flock::{self, Managed, PATIENCE, management, set, until, until_managed};
use super::writer::{Ack, Writer, longest_gap};
use crate::process::find;
use crate::say;

/// Between two writes: finer than any target, and no more of them than agents let wait for a master
/// that is gone and answers nobody.
const RHYTHM: Duration = Duration::from_millis(20);
/// Where nobody is waited for, and the target is a twentieth of a second.
const RHYTHM_FINE: Duration = Duration::from_millis(5);
/// Agents that are written to in turn.
const WRITTEN_TO: usize = 2;
/// Writes that are acknowledged before something happens, and after it is over.
const STEADY: usize = 20;
/// How long a node may take to show what another wrote, before it counts as lost.
const COPIED_WITHIN: Duration = Duration::from_secs(10);
/// Names of one trial's entries: more writes than a trial has.
const NAMES: usize = 20_000;

/// What happens to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, until another is master.
    Freeze,
    /// Its host reaches nobody, until another is master.
    Cut,
    /// An operator has it hand over.
    HandOver,
}

/// What came of one trial.
struct Trial {
    gap: f64,
    /// Acknowledged, and not in the catalog afterwards.
    lost: usize,
    /// Begun and acknowledged on the side that had lost the flock.
    minor: usize,
}

/// How a figure is called, and its targets in seconds: of the median, and of the 95th percentile.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// What happens, in words.
    pub what: &'static str,
    /// Both targets.
    pub targets: (f64, f64),
}

/// Trials of one fault in one flock of `count` agents, and of etcd beside it.
///
/// # Errors
/// When the flock does not recover.
pub fn gaps(setting: &Setting, count: usize, fault: Fault, asked: Asked) -> Result<Vec<Figure>> {
    if fault == Fault::Cut && left_out("the master cut off") {
        return Ok(Vec::new());
    }
    let ground = if fault == Fault::Cut { Ground::Lab } else { Ground::Loopback };
    let mut fleet = formed(setting.skep()?, count, ground)?;
    let mut trials = Vec::new();
    for number in 0..setting.runs {
        let trial = trial(&mut fleet, fault, usize::try_from(number)?)?;
        say(format_args!("  {:.3} s, {} lost, {} wrong", trial.gap, trial.lost, trial.minor));
        trials.push(trial);
    }
    drop(fleet);
    let peer = match fault {
        Fault::Kill | Fault::Freeze if count <= 5 => etcd(setting, fault)?,
        Fault::Kill | Fault::Freeze | Fault::Cut | Fault::HandOver => None,
    };
    let mut figures = figures(setting, count, asked, &trials, peer.as_ref())?;
    if fault == Fault::Cut {
        let acted = both_act(setting, count, asked, &trials, &mut figures)?;
        figures.push(acted);
    }
    Ok(figures)
}

/// How often both sides of the cut acted at the same time, and keepalived's figures beside ours.
fn both_act(
    setting: &Setting,
    nodes: usize,
    asked: Asked,
    trials: &[Trial],
    figures: &mut [Figure],
) -> Result<Figure> {
    let theirs = address::cut_off(setting.runs)?;
    if let Some(theirs) = &theirs {
        for (figure, share) in figures.iter_mut().zip([0.5, 0.95]) {
            figure.peer = quantile(&theirs.gaps, share).map(|gap| theirs.peer(gap));
        }
    }
    let ours = trials.iter().filter(|trial| trial.minor > 0).count();
    let name =
        setting.named(&format!("{}, N={nodes}: trials in which both sides acted", asked.what));
    let figure = Figure::of(&name, "", &[count(u64::try_from(ours)?)?], Better::Lower, 0.0)?;
    let doubled =
        theirs.map(|theirs| count(u64::try_from(theirs.doubled)?).map(|n| theirs.peer(n)));
    Ok(figure.beside(doubled.transpose()?))
}

fn figures(
    setting: &Setting,
    nodes: usize,
    asked: Asked,
    trials: &[Trial],
    peer: Option<&(Software, Vec<f64>)>,
) -> Result<Vec<Figure>> {
    let gaps: Vec<f64> = trials.iter().map(|trial| trial.gap).collect();
    let name = |what: &str| setting.named(&format!("{}, N={nodes}: {what}", asked.what));
    let beside = |share: f64| -> Option<Peer> {
        let (software, theirs) = peer?;
        Some(as_peer(software, quantile(theirs, share)?))
    };
    let longest = "longest time without an acknowledged write";
    let middle = Figure::of(&name(longest), "s", &gaps, Better::Lower, asked.targets.0)?;
    let p95 = quantile(&gaps, 0.95).context("no trial")?;
    let tail = Figure::of(
        &name("the same, p95 of the trials"),
        "s",
        &[p95],
        Better::Lower,
        asked.targets.1,
    )?;
    let sum = |pick: fn(&Trial) -> usize| -> Result<f64> {
        count(u64::try_from(trials.iter().map(pick).sum::<usize>())?)
    };
    let lost = sum(|trial| trial.lost)?;
    let minor = sum(|trial| trial.minor)?;
    let none =
        |what: &str, value: f64| Figure::of(&name(what), "writes", &[value], Better::Lower, 0.0);
    Ok(vec![
        middle.beside(beside(0.5)),
        tail.beside(beside(0.95)),
        none("acknowledged and lost", lost)?,
        none("acknowledged by the one that was cut off", minor)?,
    ])
}

fn trial(fleet: &mut Fleet, fault: Fault, number: usize) -> Result<Trial> {
    let all: Vec<usize> = (0..fleet.len()).collect();
    let before = until_managed(fleet, &all)?;
    let base = (number + 1) * NAMES;
    let plain = before.plain(fleet.len());
    let at = *plain.first().context("an agent without an office")?;
    let rhythm = if fault == Fault::HandOver { RHYTHM_FINE } else { RHYTHM };
    let writer = writer_at(fleet, plain.get(..WRITTEN_TO).unwrap_or(&plain), base, rhythm)?;
    until("writes are acknowledged", || enough(writer.acked().len()))?;
    let minor = (fault == Fault::Cut)
        .then(|| writer_at(fleet, &[before.master], base + NAMES / 2, 2 * RHYTHM))
        .transpose()?;
    let since = strike(fleet, fault, &before)?;
    // Until here the cut was being made.
    let struck = Micros::now();
    let next = until("another is master", || {
        let seen = management(fleet.seat(at)?)?;
        let master = seen["master"].as_str().context("nobody is master")?;
        ensure!(fleet.seat(before.master)?.name != master, "it is {master} still");
        Ok(Micros::now())
    })?;
    until("writes are acknowledged again", || enough(writer.acked_since(next)))?;
    let acks = writer.acked();
    drop(writer);
    let gap = longest_gap(&acks, since).context("nothing was acknowledged afterwards")?;
    let mut wrongly = 0;
    if let Some(minor) = minor {
        wrongly = minor.acked_since(struck);
    }
    mend(fleet, fault, before.master)?;
    until_managed(fleet, &all)?;
    // What was written at another node is here a moment later.
    let mut lacking = lost(fleet, at, base, &acks)?;
    let deadline = Instant::now() + COPIED_WITHIN;
    while lacking > 0 && Instant::now() < deadline {
        thread::sleep(RHYTHM);
        lacking = lost(fleet, at, base, &acks)?;
    }
    Ok(Trial { gap, lost: lacking, minor: wrongly })
}

fn enough(acked: usize) -> Result<()> {
    ensure!(acked >= STEADY, "{acked} writes were acknowledged");
    Ok(())
}

/// A writer to agents in turn; each write is another entry, which says `base` and its number.
fn writer_at(fleet: &Fleet, at: &[usize], base: usize, rhythm: Duration) -> Result<Writer> {
    let seats = at.iter().map(|number| fleet.seat(*number).cloned());
    let seats = seats.collect::<Result<Vec<Seat>>>()?;
    Ok(Writer::new(rhythm, move |write| {
        let seat = seats.get(write % seats.len()).context("an agent to write to")?;
        let mut control = Control::new(seat)?;
        set(&mut control, &entry(base, write), base + write).map(drop)
    }))
}

/// Names come again in every trial, with other values: the catalog does not grow by trials.
fn entry(base: usize, write: usize) -> String {
    format!("gap-{}-{write}", (base / (NAMES / 2)) % 2)
}

/// Does it, and gives the time just before.
fn strike(fleet: &mut Fleet, fault: Fault, before: &Managed) -> Result<Micros> {
    match fault {
        Fault::Kill => {
            let since = fleet.signal(before.master, Signal::KILL)?;
            fleet.ended(before.master, PATIENCE)?;
            Ok(since)
        }
        Fault::Freeze => fleet.signal(before.master, Signal::STOP),
        Fault::Cut => {
            let hosts = fleet.lab()?.all_hosts();
            let host = hosts.get(before.master).context("a host for each agent")?;
            let since = Micros::now();
            fleet.lab()?.isolate(host)?;
            Ok(since)
        }
        Fault::HandOver => {
            let since = Micros::now();
            let by = *before.plain(fleet.len()).last().context("an agent without an office")?;
            flock::step_down(fleet.seat(by)?)?;
            Ok(since)
        }
    }
}

fn mend(fleet: &mut Fleet, fault: Fault, master: usize) -> Result<()> {
    match fault {
        Fault::Kill => fleet.start(master),
        Fault::Freeze => fleet.signal(master, Signal::CONT).map(drop),
        Fault::Cut => fleet.lab()?.heal(),
        Fault::HandOver => Ok(()),
    }
}

/// How many of the acknowledged writes are not what the catalog says.
fn lost(fleet: &Fleet, at: usize, base: usize, acks: &[Ack]) -> Result<usize> {
    let catalog = Control::new(fleet.seat(at)?)?.get("/v1/catalog?kind=setting")?;
    let entries = catalog["entries"].as_array().context("entries are no list")?;
    let says: BTreeMap<&str, u64> = entries
        .iter()
        .filter_map(|entry| Some((entry["key"].as_str()?, entry["fields"]["value"].as_u64()?)))
        .collect();
    let there = |ack: &&Ack| {
        let key = format!("setting/{}", entry(base, ack.number));
        let value = u64::try_from(base + ack.number).ok();
        says.get(key.as_str()).copied() == value
    };
    Ok(acks.len() - acks.iter().filter(there).count())
}

/// The same gap of three members of etcd with its defaults, where it is installed.
fn etcd(setting: &Setting, fault: Fault) -> Result<Option<(Software, Vec<f64>)>> {
    let Some(software) = find("etcd").map(Software::Etcd) else {
        return Ok(None);
    };
    let mut fleet = etcd_fleet(&software)?;
    let mut gaps = Vec::new();
    for _ in 0..setting.runs {
        let gap = etcd_trial(&mut fleet, fault)?;
        say(format_args!("  etcd: {gap:.3} s"));
        gaps.push(gap);
    }
    Ok(Some((software, gaps)))
}

/// Three members that have a leader.
///
/// # Errors
/// When they do not get one.
pub fn etcd_fleet(software: &Software) -> Result<Fleet> {
    let mut fleet = Fleet::new(software.clone(), 3, Ground::Loopback)?;
    fleet.start_all()?;
    until("all members of etcd write", || {
        (0..3).try_for_each(|number| EtcdClient::new(fleet.seat(number)?)?.put())
    })?;
    Ok(fleet)
}

/// The number of the member that leads.
///
/// # Errors
/// When none does for long.
pub fn etcd_leader(fleet: &Fleet) -> Result<usize> {
    until("a member of etcd leads", || {
        let leads = |number: &usize| {
            fleet
                .seat(*number)
                .and_then(EtcdClient::new)
                .is_ok_and(|mut it| it.leads().unwrap_or_default())
        };
        (0..3).find(leads).context("none does")
    })
}

fn etcd_trial(fleet: &mut Fleet, fault: Fault) -> Result<f64> {
    let leader = etcd_leader(fleet)?;
    let at = fleet.seat((leader + 1) % 3)?.clone();
    let writer = Writer::new(RHYTHM, move |_| EtcdClient::new(&at)?.put());
    until("etcd acknowledges", || enough(writer.acked().len()))?;
    let signal = if fault == Fault::Kill { Signal::KILL } else { Signal::STOP };
    let since = fleet.signal(leader, signal)?;
    let settled = Micros(since.0 + 500_000);
    until("etcd acknowledges again", || enough(writer.acked_since(settled)))?;
    let acks = writer.acked();
    drop(writer);
    if fault == Fault::Kill {
        fleet.ended(leader, PATIENCE)?;
        fleet.start(leader)?;
    } else {
        fleet.signal(leader, Signal::CONT)?;
    }
    until("all members of etcd write", || {
        (0..3).try_for_each(|number| EtcdClient::new(fleet.seat(number)?)?.put())
    })?;
    longest_gap(&acks, since).context("etcd acknowledged nothing afterwards")
}

/// Where etcd is, if it is installed.
#[must_use]
pub fn etcd_binary() -> Option<PathBuf> {
    find("etcd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_cut_write_entries_of_their_own() {
        let base = 3 * NAMES;
        assert_ne!(entry(base, 7), entry(base + NAMES / 2, 7));
        assert_eq!(entry(base, 7), entry(base + NAMES, 7));
    }
}
