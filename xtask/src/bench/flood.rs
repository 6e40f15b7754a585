//! Updates: how fast they reach everybody, what they cost on the wire and in processor time, and
//! how a site that was down catches up.
//!
//! Agents run on this machine with TLS on and a log on disk. Times are differences of the agents'
//! own stamps: from just before a publish to the append at the last node. The peer, where it is
//! installed, is a mesh of NATS servers in plain text that keep nothing on disk. What takes a
//! world-wide fleet, or ten minutes, is the simulator's, where processors cost nothing.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::clock::Micros;
use super::figure::{Better, Figure, Peer, quantile};
use super::fleet::{Fleet, Ground};
use super::membership::{arrivals, as_peer, count, formed, left_out};
use super::software::nats::Client;
use super::software::{Lines, Publisher, Software, operate};
use super::{Measure, Setting, simulator};
use crate::process::find;
use crate::say;

/// Longest wait for what takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const BODY_BYTES: usize = 256;
/// Updates a second where they are not flat out.
const RATE: u64 = 100;
/// Connections that publish flat out, and what each sends ahead.
const WRITERS: usize = 4;
const AHEAD: usize = 2048;

/// Everything this bench measures.
pub const MEASURES: &[Measure] = &[
    Measure { name: "latency", run: latency },
    Measure { name: "flat-out", run: flat_out },
    Measure { name: "bytes", run: bytes },
    Measure { name: "large", run: large },
    Measure { name: "sim-regions-200", run: |setting| regions(setting, 200, (125.0, 155.0, 1.3)) },
    Measure {
        name: "sim-regions-2000",
        run: |setting| regions(setting, 2000, (130.0, 155.0, 1.1)),
    },
    Measure { name: "sim-outage", run: outage },
];

/// What a hundred updates a second from rotating origins took to the last of twenty.
fn latency(setting: &Setting) -> Result<Vec<Figure>> {
    let updates = if setting.quick { 500 } else { 2000 };
    let mut runs = Vec::new();
    for _ in 0..setting.runs {
        runs.push(latency_once(setting, updates)?);
    }
    let peer = find("nats-server").map(Software::Nats);
    let theirs = peer.as_ref().map(|peer| mesh_latency(peer, updates)).transpose()?;
    let beside = |pick: fn(&Times) -> f64| -> Option<Peer> {
        Some(as_peer(peer.as_ref()?, pick(theirs.as_ref()?)))
    };
    let figure = |what: &str, unit: &str, pick: fn(&Times) -> f64, target: f64| {
        let samples: Vec<f64> = runs.iter().map(pick).collect();
        let name = format!("256-byte updates, {updates} at {RATE}/s, to the last of 20: {what}");
        let figure = Figure::of(&setting.named(&name), unit, &samples, Better::Lower, target)?;
        Ok::<_, anyhow::Error>(figure.beside(beside(pick)))
    };
    Ok(vec![
        figure("p50", "ms", |times| times.p50, 3.0)?,
        figure("p99", "ms", |times| times.p99, 12.0)?,
        figure("lost", "updates", |times| times.lost, 0.0)?,
    ])
}

struct Times {
    p50: f64,
    p99: f64,
    lost: f64,
}

impl Times {
    fn of(latencies: &[f64], sent: usize) -> Result<Self> {
        let at = |share| quantile(latencies, share).context("no update arrived everywhere");
        let lost = f64::from(u32::try_from(sent - latencies.len())?);
        Ok(Self { p50: at(0.5)?, p99: at(0.99)?, lost })
    }
}

fn latency_once(setting: &Setting, updates: usize) -> Result<Times> {
    let mut fleet = formed(setting.skep()?, 20, Ground::Loopback)?;
    // Trees are grown by what was flooded before; what is measured is what goes on for years.
    publish_in_turn(&fleet, 200)?;
    let sent = publish_in_turn(&fleet, updates)?;
    let complete = fleet.wait("all updates at all", PATIENCE, |fleet| {
        let arrivals = arrivals(fleet);
        let all = |(id, _): &(String, Micros)| {
            arrivals.get(id).is_some_and(|arrived| arrived.len() == fleet.len())
        };
        sent.iter().all(all).then_some(())
    });
    if let Err(error) = complete {
        say(format_args!("{error:#}"));
    }
    let arrivals = arrivals(&fleet);
    let mut latencies = Vec::new();
    for (id, before) in &sent {
        let arrived = arrivals.get(id).filter(|arrived| arrived.len() == fleet.len());
        if let Some(last) = arrived.and_then(|arrived| arrived.values().max()) {
            latencies.push(last.seconds_since(*before) * 1000.0);
        }
    }
    Times::of(&latencies, sent.len())
}

/// Publishes at each agent in turn at [`RATE`]; gives each update's identity and when it was given.
fn publish_in_turn(fleet: &Fleet, updates: usize) -> Result<Vec<(String, Micros)>> {
    let seats = (0..fleet.len()).map(|number| Publisher::new(fleet.seat(number)?));
    let mut seats = seats.collect::<Result<Vec<_>>>()?;
    let mut sent = Vec::new();
    let begun = Instant::now();
    for number in 0..updates {
        let due = begun + Duration::from_millis(1000 / RATE) * u32::try_from(number)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let at = number % seats.len();
        let publisher = seats.get_mut(at).context("an agent to publish at")?;
        let before = Micros::now();
        sent.push((publisher.publish(&[b'u'; BODY_BYTES])?, before));
    }
    Ok(sent)
}

/// The same in a mesh of NATS servers, each with one subscriber.
fn mesh_latency(peer: &Software, updates: usize) -> Result<Times> {
    let mut mesh = Mesh::new(peer.clone(), 20)?;
    mesh.send_in_turn(200)?;
    let sent = mesh.send_in_turn(updates)?;
    let mut latencies = Vec::new();
    let arrived = mesh.arrived(updates)?;
    for (number, before) in sent.iter().enumerate() {
        if let Some(last) = arrived.get(number).and_then(|last| *last) {
            latencies.push(last.seconds_since(*before) * 1000.0);
        }
    }
    Times::of(&latencies, updates)
}

/// NATS servers that are linked, and what their subscribers get.
struct Mesh {
    fleet: Fleet,
    publishers: Vec<Client>,
    subscribers: Vec<thread::JoinHandle<Result<Received>>>,
    next: u64,
}

/// Messages by number, and when each came.
type Received = Vec<(u64, Micros)>;

/// The number of the message after which a subscriber stops.
const END: u64 = u64::MAX;

impl Mesh {
    fn new(software: Software, count: usize) -> Result<Self> {
        let mut fleet = Fleet::new(software, count, Ground::Loopback)?;
        fleet.start_all()?;
        let (mut publishers, mut subscribers) = (Vec::new(), Vec::new());
        for number in 0..count {
            let seat = fleet.seat(number)?.clone();
            publishers.push(patiently(|| Client::new(&seat))?);
            let mut client = Client::new(&seat)?;
            client.subscribe()?;
            subscribers.push(thread::spawn(move || {
                let mut got = Vec::new();
                loop {
                    let body = client.receive()?;
                    let number = body.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                    if number == END {
                        return Ok(got);
                    }
                    got.push((number, Micros::now()));
                }
            }));
        }
        // Routes and interest spread by themselves; there is no word of when they have.
        thread::sleep(Duration::from_secs(3));
        Ok(Self { fleet, publishers, subscribers, next: 0 })
    }

    fn send_in_turn(&mut self, updates: usize) -> Result<Vec<Micros>> {
        let begun = Instant::now();
        let mut sent = Vec::new();
        self.next = 0;
        for number in 0..updates {
            let due = begun + Duration::from_millis(1000 / RATE) * u32::try_from(number)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let at = number % self.publishers.len();
            let publisher = self.publishers.get_mut(at).context("a server")?;
            let mut body = [b'u'; BODY_BYTES];
            body[..8].copy_from_slice(&self.next.to_be_bytes());
            self.next += 1;
            sent.push(Micros::now());
            publisher.publish(&body)?;
        }
        Ok(sent)
    }

    /// When the last subscriber had each of the last updates; nothing where one never did.
    fn arrived(mut self, updates: usize) -> Result<Vec<Option<Micros>>> {
        thread::sleep(Duration::from_secs(1));
        let publisher = self.publishers.first_mut().context("a server")?;
        let mut end = [b'u'; BODY_BYTES];
        end[..8].copy_from_slice(&END.to_be_bytes());
        publisher.publish(&end)?;
        let everybody = self.subscribers.len();
        let mut counted = vec![(0, Micros(0)); updates];
        for subscriber in self.subscribers {
            let got = subscriber.join().map_err(|_| anyhow::anyhow!("a subscriber failed"))??;
            // Those that came before were for warming up.
            let from = got.iter().rposition(|(number, _)| *number == 0).unwrap_or(0);
            for (number, at) in got.into_iter().skip(from) {
                if let Some(slot) = counted.get_mut(usize::try_from(number)?) {
                    *slot = (slot.0 + 1, slot.1.max(at));
                }
            }
        }
        drop(self.fleet);
        let all = |(times, last)| (times == everybody).then_some(last);
        Ok(counted.into_iter().map(all).collect())
    }
}

fn patiently<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            other => return other,
        }
    }
}

/// Updates a second, durable at their origin and in the log of all five.
fn flat_out(setting: &Setting) -> Result<Vec<Figure>> {
    let updates = if setting.quick { 200_000 } else { 1_000_000 };
    let mut samples = Vec::new();
    for _ in 0..setting.runs {
        samples.push(flat_out_once(setting.skep()?, updates)?);
    }
    let peer = match find("nats-server").map(Software::Nats) {
        Some(peer) => Some(as_peer(&peer, mesh_flat_out(&peer, updates)?)),
        None => None,
    };
    let name = format!("256-byte updates, {updates} flat out to all of 5, durable at their origin");
    let figure = Figure::of(&setting.named(&name), "/s", &samples, Better::Higher, 40_000.0)?;
    Ok(vec![figure.beside(peer)])
}

fn flat_out_once(software: Software, updates: usize) -> Result<f64> {
    let mut fleet = formed(software.clone(), 5, Ground::Loopback)?;
    fleet.deafen();
    let writers = (0..WRITERS).map(|_| Lines::new(fleet.seat(0)?)).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let threads = writers.into_iter().map(|lines| {
        thread::spawn(move || lines.publish_all(&[b'u'; BODY_BYTES], updates / WRITERS, AHEAD))
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().map_err(|_| anyhow::anyhow!("a writer failed"))??;
    }
    let deadline = begun + PATIENCE;
    for number in 0..fleet.len() {
        while held(&software, &fleet, number)? < u64::try_from(updates / WRITERS * WRITERS)? {
            ensure!(Instant::now() < deadline, "agent {number} has not got all");
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(count(u64::try_from(updates)?)? / begun.elapsed().as_secs_f64())
}

/// How many updates the log of an agent holds.
fn held(software: &Software, fleet: &Fleet, number: usize) -> Result<u64> {
    #[derive(Deserialize)]
    struct Group {
        updates: u64,
    }
    let answer = operate(software, Some(fleet.seat(number)?), &["group", "all"])?;
    let group: Group = serde_json::from_str(&answer).context("reading the group")?;
    Ok(group.updates)
}

fn mesh_flat_out(peer: &Software, updates: usize) -> Result<f64> {
    let mut mesh = Mesh::new(peer.clone(), 5)?;
    let begun = Micros::now();
    let body = [b'u'; BODY_BYTES];
    let publisher = mesh.publishers.first_mut().context("a server")?;
    publisher.publish_all(&body, updates)?;
    let mut end = body;
    end[..8].copy_from_slice(&END.to_be_bytes());
    publisher.publish(&end)?;
    let mut last = begun;
    for subscriber in mesh.subscribers {
        let got = subscriber.join().map_err(|_| anyhow::anyhow!("a subscriber failed"))??;
        ensure!(got.len() == updates, "{} of {updates} arrived", got.len());
        last = got.iter().map(|it| it.1).fold(last, Micros::max);
    }
    Ok(count(u64::try_from(updates)?)? / last.seconds_since(begun))
}

/// Bytes that all nodes sent, everything in them, for each byte that had to arrive.
fn bytes(setting: &Setting) -> Result<Vec<Figure>> {
    if left_out("bytes on the wire") {
        return Ok(Vec::new());
    }
    let updates = if setting.quick { 1000 } else { 3000 };
    let mut samples = Vec::new();
    for _ in 0..setting.runs {
        let fleet = formed(setting.skep()?, 20, Ground::Lab)?;
        publish_in_turn(&fleet, 300)?;
        let before = sent_by(&fleet)?;
        publish_in_turn(&fleet, updates)?;
        let sent = sent_by(&fleet)? - before;
        samples.push(sent / payload(fleet.len(), updates, BODY_BYTES)?);
    }
    let name = format!("256-byte updates at {RATE}/s, N=20: all bytes sent / (N-1) x payload");
    Ok(vec![Figure::of(&setting.named(&name), "", &samples, Better::Lower, 2.5)?])
}

/// Two hundred bodies of a mebibyte to eight nodes: processor time, and bytes.
fn large(setting: &Setting) -> Result<Vec<Figure>> {
    const BODY: usize = 1 << 20;
    let updates = if setting.quick { 50 } else { 200 };
    let lab = !left_out("bytes of large updates");
    let ground = if lab { Ground::Lab } else { Ground::Loopback };
    let (mut costs, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..setting.runs {
        let software = setting.skep()?;
        let fleet = formed(software.clone(), 8, ground)?;
        let (bytes, cpu) = (sent_by(&fleet)?, spent_by(&fleet)?);
        let mut publisher = Publisher::new(fleet.seat(0)?)?;
        let mut body = vec![b'u'; BODY];
        for number in 0..updates {
            body[..8].copy_from_slice(&u64::try_from(number)?.to_be_bytes());
            publisher.publish(&body)?;
        }
        let deadline = Instant::now() + PATIENCE;
        for number in 0..fleet.len() {
            while held(&software, &fleet, number)? < u64::try_from(updates)? {
                ensure!(Instant::now() < deadline, "agent {number} has not got all");
                thread::sleep(Duration::from_millis(200));
            }
        }
        let delivered = payload(fleet.len(), updates, BODY)?;
        costs.push((spent_by(&fleet)? - cpu) / (delivered / f64::from(1 << 30)));
        ratios.push((sent_by(&fleet)? - bytes) / delivered);
    }
    let name = |what: &str| setting.named(&format!("{updates} x 1 MiB to 8 nodes: {what}"));
    let what = name("CPU-seconds of all nodes for a GiB delivered");
    let mut figures = vec![Figure::of(&what, "s", &costs, Better::Lower, 3.0)?];
    if lab {
        let what = name("all bytes sent / (N-1) x payload");
        figures.push(Figure::of(&what, "", &ratios, Better::Lower, 1.1)?);
    }
    Ok(figures)
}

fn payload(nodes: usize, updates: usize, bytes: usize) -> Result<f64> {
    Ok(f64::from(u32::try_from(nodes - 1)?)
        * f64::from(u32::try_from(updates)?)
        * f64::from(u32::try_from(bytes)?))
}

fn sent_by(fleet: &Fleet) -> Result<f64> {
    let mut sent = 0.0;
    for number in 0..fleet.len() {
        sent += count(fleet.usage(number)?.sent)?;
    }
    Ok(sent)
}

fn spent_by(fleet: &Fleet) -> Result<f64> {
    let mut spent = 0.0;
    for number in 0..fleet.len() {
        spent += fleet.usage(number)?.cpu.as_secs_f64();
    }
    Ok(spent)
}

/// Time to all and copies among nodes in the regions of a world-wide fleet.
fn regions(setting: &Setting, nodes: usize, targets: (f64, f64, f64)) -> Result<Vec<Figure>> {
    let seeds = 1..=u64::from(setting.runs);
    let mut runs = Vec::new();
    for seed in seeds {
        let (nodes, seed) = (nodes.to_string(), seed.to_string());
        runs.push(simulator::surge(&["--surge", "regions", "--nodes", &nodes, "--seed", &seed])?);
    }
    let figure = |what: &str, key: &str, unit: &str, target: f64| {
        let samples: Vec<f64> = runs.iter().filter_map(|run| run.get(key).copied()).collect();
        let name = setting.named(&format!("simulator, regions, N={nodes}, k=3: {what}"));
        Figure::of(&name, unit, &samples, Better::Lower, target)
    };
    Ok(vec![
        figure("to all, p50", "to-all-p50", "ms", targets.0)?,
        figure("to all, p99", "to-all-p99", "ms", targets.1)?,
        figure("copies too many at a node", "duplicates", "", targets.2)?,
    ])
}

/// A site down for ten minutes at a thousand updates a second, and back.
fn outage(setting: &Setting) -> Result<Vec<Figure>> {
    let seconds = if setting.quick { "60" } else { "600" };
    let run = simulator::surge(&["--surge", "outage", "--for-seconds", seconds])?;
    let figure = |what: &str, key: &str, unit: &str, target: f64| {
        let samples: Vec<f64> = run.get(key).copied().into_iter().collect();
        let name = format!("simulator, 1 of 5 sites down for {seconds} s at 1,000/s: {what}");
        Figure::of(&setting.named(&name), unit, &samples, Better::Lower, target)
    };
    Ok(vec![
        figure("caught up", "caught-up", "s", 30.0)?,
        figure("lost", "lost", "updates", 0.0)?,
        figure("the others' p99 moved by", "p99-moved", "%", 20.0)?,
    ])
}
