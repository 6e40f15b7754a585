//! Catalog writes a second, and how soon all nodes see one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use super::super::Setting;
use super::super::clock::Micros;
use super::super::figure::{Better, Figure, quantile};
use super::super::fleet::{Fleet, Ground};
use super::super::membership::{as_peer, count, formed};
use super::super::software::{Control, EtcdClient, Software};
use super::flock::{PATIENCE, set, until_managed};
use super::gaps::{etcd_binary, etcd_fleet, etcd_leader};

/// Clients that write as fast as they are answered.
const CLIENTS: usize = 16;
/// Entries that each of them writes over and over.
const OWN: usize = 64;
/// Entries whose way to everybody is watched, and the time between two.
const WATCHED: usize = 200;
const RHYTHM: Duration = Duration::from_millis(50);

/// Acknowledged writes a second of sixteen clients of the master's node.
///
/// # Errors
/// When a write is refused.
pub fn rate(setting: &Setting) -> Result<Vec<Figure>> {
    let seconds = if setting.quick { 3 } else { 10 };
    let fleet = formed(setting.skep()?, 3, Ground::Loopback)?;
    let managed = until_managed(&fleet, &[0, 1, 2])?;
    let seat = fleet.seat(managed.master)?.clone();
    let mut samples = Vec::new();
    for _ in 0..setting.runs.min(5) {
        let client = |number: usize| {
            let mut control = Control::new(&seat)?;
            let write = move |at: usize| {
                set(&mut control, &format!("rate-{number}-{}", at % OWN), at).map(drop)
            };
            Ok(write)
        };
        samples.push(flat_out(client, Duration::from_secs(seconds))?);
    }
    drop(fleet);
    let peer = etcd_binary().map(Software::Etcd);
    let theirs = peer.as_ref().map(|peer| etcd_rate(peer, seconds)).transpose()?;
    let name = format!("catalog writes, 3 managers, {CLIENTS} clients at the master, synced");
    let figure = Figure::of(&setting.named(&name), "/s", &samples, Better::Higher, 2000.0)?;
    Ok(vec![figure.beside(peer.zip(theirs).map(|(peer, value)| as_peer(&peer, value)))])
}

fn etcd_rate(peer: &Software, seconds: u64) -> Result<f64> {
    let fleet = etcd_fleet(peer)?;
    let seat = fleet.seat(etcd_leader(&fleet)?)?.clone();
    let client = |_| {
        let mut client = EtcdClient::new(&seat)?;
        Ok(move |_| client.put())
    };
    flat_out(client, Duration::from_secs(seconds))
}

/// Writes a second of [`CLIENTS`] that each wait for one answer before they ask again.
fn flat_out<W>(client: impl Fn(usize) -> Result<W>, lasts: Duration) -> Result<f64>
where
    W: FnMut(usize) -> Result<()> + Send + 'static,
{
    let over = Arc::<AtomicBool>::default();
    let mut threads = Vec::new();
    let begun = Instant::now();
    for number in 0..CLIENTS {
        let (mut write, over) = (client(number)?, Arc::clone(&over));
        threads.push(thread::spawn(move || -> Result<u64> {
            let mut done = 0;
            for at in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                write(at)?;
                done += 1;
            }
            Ok(done)
        }));
    }
    thread::sleep(lasts);
    over.store(true, Ordering::Relaxed);
    let mut done = 0;
    for thread in threads {
        done += thread.join().map_err(|_| anyhow!("a client failed"))??;
    }
    Ok(count(done)? / begun.elapsed().as_secs_f64())
}

/// From the beginning of a write until the last of fifty nodes shows it, by the nodes' own stamps.
///
/// # Errors
/// When one never shows it.
pub fn visible(setting: &Setting) -> Result<Vec<Figure>> {
    const NODES: usize = 50;
    let mut fleet = formed(setting.skep()?, NODES, Ground::Loopback)?;
    let all: Vec<usize> = (0..NODES).collect();
    let managed = until_managed(&fleet, &all)?;
    let at = *managed.plain(NODES).first().context("an agent without an office")?;
    let mut control = Control::new(fleet.seat(at)?)?;
    let (mut sent, mut acknowledged) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for number in 0..WATCHED {
        let due = begun + RHYTHM * u32::try_from(number)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let name = format!("seen-{number}");
        let before = Micros::now();
        set(&mut control, &name, number)?;
        acknowledged.push(Micros::now().seconds_since(before) * 1000.0);
        sent.push((format!("setting/{name}"), before));
    }
    let shown = fleet.wait("all entries at all", PATIENCE, |fleet| {
        let shown = shown(fleet);
        let complete = |(key, _): &(String, Micros)| {
            shown.get(key).is_some_and(|shown| shown.len() == fleet.len())
        };
        sent.iter().all(complete).then_some(shown)
    })?;
    let last = |(key, before): &(String, Micros)| {
        let last = shown.get(key)?.values().max()?;
        Some(last.seconds_since(*before) * 1000.0)
    };
    let times: Vec<f64> = sent.iter().filter_map(last).collect();
    let name = |what: &str| {
        setting
            .named(&format!("a write to be seen at the last of {NODES}, {WATCHED} at 20/s: {what}"))
    };
    let of = |share| quantile(&times, share).context("no entry was seen");
    let answered = quantile(&acknowledged, 0.99).context("no entry was written")?;
    let at = "a write at a node without an office, 20/s: to be acknowledged, p99";
    Ok(vec![
        Figure::of(&setting.named(at), "ms", &[answered], Better::Lower, 200.0)?,
        Figure::of(&name("p50"), "ms", &[of(0.5)?], Better::Lower, 200.0)?,
        Figure::of(&name("p99"), "ms", &[of(0.99)?], Better::Lower, 200.0)?,
    ])
}

/// When each entry was first shown by each agent.
fn shown(fleet: &Fleet) -> BTreeMap<String, BTreeMap<usize, Micros>> {
    #[derive(Deserialize)]
    struct Line {
        monotonic_us: u64,
        event: String,
        #[serde(default)]
        keys: Vec<String>,
    }
    let mut shown: BTreeMap<String, BTreeMap<usize, Micros>> = BTreeMap::new();
    for number in 0..fleet.len() {
        let lines = fleet.events(number).filter_map(|line| serde_json::from_str::<Line>(line).ok());
        for line in lines.filter(|line| line.event == "catalog") {
            for key in line.keys {
                let at = Micros(line.monotonic_us);
                shown.entry(key).or_default().entry(number).or_insert(at);
            }
        }
    }
    shown
}
