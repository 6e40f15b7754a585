//! Many agents on one machine.
//!
//! A fleet sits either on loopback addresses, which takes no rights, or on hosts of `testing/lab`,
//! where links can be cut and each agent's bytes are counted by itself. Times come from the agents'
//! own logs; the fleet only reads them, seldom, so that reading costs the measured ones little.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, Shutdown};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use skep_lab::{Host, Lab};
use tempfile::TempDir;

use super::clock::Micros;
use super::neighbours::RoomForNeighbours;
use super::software::{Follower, Seat, Sighting, Software, View};
use super::usage::Usage;
use crate::say;

/// How often logs are looked at while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where a fleet sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Addresses of the loopback device.
    Loopback,
    /// A host, in a network namespace of its own, for each agent. Needs root.
    Lab,
}

/// Agents of one software, each on its seat. All end with it.
pub struct Fleet {
    software: Software,
    agents: Vec<Agent>,
    lab: Option<Lab>,
    folder: TempDir,
    /// Given back last, when no host is left that needs it.
    _room: Option<RoomForNeighbours>,
}

struct Agent {
    seat: Seat,
    host: Option<Host>,
    child: Option<Child>,
    /// Lines of its log with the time they came, not looked at yet.
    lines: Arc<Mutex<Vec<(Micros, String)>>>,
    /// Everything it noted of others so far.
    sightings: Vec<Sighting>,
    /// Every line of its log.
    events: Vec<String>,
    /// Tells the reader of its log to give up.
    over: Arc<AtomicBool>,
    /// Where its log is read from.
    log: Option<Arc<Mutex<Option<UnixStream>>>>,
}

impl Fleet {
    /// Makes seats for `count` agents, and all they need before their first start.
    ///
    /// # Errors
    /// When the lab cannot be made, or the software cannot be set up.
    pub fn new(software: Software, count: usize, ground: Ground) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("skep-bench-")
            .tempdir()
            .context("making a folder for the fleet")?;
        let mut room = None;
        let (lab, hosts) = match ground {
            Ground::Loopback => (None, vec![None; count]),
            Ground::Lab => {
                room = Some(RoomForNeighbours::new(count)?);
                let lab = Lab::new("bench")?;
                let hosts = lab.many_hosts(count)?;
                (Some(lab), hosts.into_iter().map(Some).collect())
            }
        };
        let mut agents = Vec::new();
        for (number, host) in hosts.into_iter().enumerate() {
            let ip = host.as_ref().map_or_else(|| loopback(number), Host::ipv4);
            let name = format!("n{}", number + 1);
            agents.push(Agent {
                seat: Seat { folder: folder.path().join(&name), name, ip },
                host,
                child: None,
                lines: Arc::default(),
                sightings: Vec::new(),
                events: Vec::new(),
                over: Arc::default(),
                log: None,
            });
        }
        let seats: Vec<Seat> = agents.iter().map(|agent| agent.seat.clone()).collect();
        software.prepare(folder.path(), &seats)?;
        Ok(Self { software, agents, lab, folder, _room: room })
    }

    /// How many agents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// The lab, where the fleet sits in one.
    ///
    /// # Errors
    /// When it sits on loopback addresses.
    pub fn lab(&self) -> Result<&Lab> {
        self.lab.as_ref().context("the fleet does not sit in a lab")
    }

    /// Where agent `number` sits.
    ///
    /// # Errors
    /// When there is no such agent.
    pub fn seat(&self, number: usize) -> Result<&Seat> {
        let agent = self.agents.get(number).with_context(|| format!("no agent {number}"))?;
        Ok(&agent.seat)
    }

    /// Starts every agent and gives the time just before the first.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_all(&mut self) -> Result<Micros> {
        let begun = Micros::now();
        for number in 0..self.agents.len() {
            self.start(number)?;
        }
        Ok(begun)
    }

    /// Starts one agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let seed = self.seat(0)?.clone();
        let software = self.software.clone();
        let agent = self.agents.get_mut(number).with_context(|| format!("no agent {number}"))?;
        let mut command = software.agent(&agent.seat, &seed);
        let errors = File::create(agent.seat.folder.join("stderr"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let spawned = match &agent.host {
            // The namespace is the thread's, and a child is born where its parent's thread is.
            Some(host) => host.enter(|| command.spawn())?,
            None => command.spawn(),
        };
        let mut child = spawned.with_context(|| format!("starting {}", software.name()))?;
        let output = child.stdout.take().context("standard output was piped")?;
        let follower = software.follower(&agent.seat);
        agent.log = follower.as_ref().map(Follower::connection);
        agent.read_log(follower, output);
        agent.child = Some(child);
        Ok(())
    }

    /// Stops reading the agents' logs: where updates come by the ten thousand, telling of each
    /// would be measured too.
    pub fn deafen(&mut self) {
        for agent in &mut self.agents {
            let Some(log) = agent.log.take() else {
                continue;
            };
            if let Some(stream) = log.lock().unwrap_or_else(PoisonError::into_inner).take() {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
    }

    /// Sends a signal to one agent and gives the time just before.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&mut self, number: usize, signal: Signal) -> Result<Micros> {
        let pid = Pid::from_raw(i32::try_from(self.pid(number)?)?).context("process 0")?;
        let before = Micros::now();
        kill_process(pid, signal).with_context(|| format!("signalling agent {number}"))?;
        Ok(before)
    }

    /// Waits until one agent, told to end, has ended.
    ///
    /// # Errors
    /// When it does not within `within`.
    pub fn ended(&mut self, number: usize, within: Duration) -> Result<()> {
        let agent = self.agents.get_mut(number).with_context(|| format!("no agent {number}"))?;
        let child = agent.child.as_mut().with_context(|| format!("{} rests", agent.seat.name))?;
        let deadline = Instant::now() + within;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} did not end within {within:?}", agent.seat.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
        agent.child = None;
        Ok(())
    }

    /// What one agent has used so far.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self, number: usize) -> Result<Usage> {
        Usage::of(self.pid(number)?)
    }

    /// Waits until `done` gives something, reading the logs again and again.
    ///
    /// # Errors
    /// When it does not within `within`; the message ends with the last errors of an agent.
    pub fn wait<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut done: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            self.read_logs();
            if let Some(value) = done(self) {
                return Ok(value);
            }
            if let Some(dead) = self.dead() {
                bail!("{dead} ended by itself; it said: {}", self.last_words(&dead));
            }
            if Instant::now() > deadline {
                bail!("{what}: not within {within:?}; n1 said: {}", self.last_words("n1"));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Everything agent `number` noted since `since`.
    pub fn sightings(&self, number: usize, since: Micros) -> impl Iterator<Item = &Sighting> {
        let agent = self.agents.get(number);
        agent
            .into_iter()
            .flat_map(|agent| &agent.sightings)
            .filter(move |sighting| sighting.at >= since)
    }

    /// Who is there, as agent `number` sees it.
    #[must_use]
    pub fn view(&self, number: usize) -> View {
        let mut view = View::default();
        for sighting in self.sightings(number, Micros(0)) {
            view.note(sighting);
        }
        view
    }

    /// Every line of agent `number`'s log.
    pub fn events(&self, number: usize) -> impl Iterator<Item = &str> {
        let agent = self.agents.get(number);
        agent.into_iter().flat_map(|agent| &agent.events).map(String::as_str)
    }

    /// Names of all agents but `number`.
    pub fn others(&self, number: usize) -> impl Iterator<Item = &str> {
        let named = self.agents.iter().enumerate().filter(move |(other, _)| *other != number);
        named.map(|(_, agent)| agent.seat.name.as_str())
    }

    fn pid(&self, number: usize) -> Result<u32> {
        let agent = self.agents.get(number).with_context(|| format!("no agent {number}"))?;
        let child = agent.child.as_ref().with_context(|| format!("{} rests", agent.seat.name))?;
        Ok(child.id())
    }

    fn read_logs(&mut self) {
        for agent in &mut self.agents {
            let lines = {
                let mut lines = agent.lines.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *lines)
            };
            let noted = lines.iter().filter_map(|(at, line)| self.software.sighting(*at, line));
            agent.sightings.extend(noted);
            agent.events.extend(lines.into_iter().map(|(_, line)| line));
        }
    }

    fn dead(&mut self) -> Option<String> {
        self.agents.iter_mut().find_map(|agent| {
            let ended = agent.child.as_mut()?.try_wait().ok()?;
            ended.map(|_| agent.seat.name.clone())
        })
    }

    fn last_words(&self, name: &str) -> String {
        let path = self.folder.path().join(name).join("stderr");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut last: Vec<&str> = text.lines().rev().take(5).collect();
        last.reverse();
        last.join("\n")
    }
}

impl Agent {
    /// Has its log read, as it is written, by a thread that ends with it.
    fn read_log(&self, follower: Option<Follower>, output: ChildStdout) {
        let (lines, over) = (Arc::clone(&self.lines), Arc::clone(&self.over));
        let name = self.seat.name.clone();
        let push = move |line: &str| {
            let stamped = (Micros::now(), line.to_owned());
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(stamped);
        };
        drop(thread::spawn(move || match follower {
            Some(follower) => {
                if let Err(error) = follower.follow(&over, push) {
                    say(format_args!("{name}: {error:#}"));
                }
            }
            None => {
                let lines = BufReader::new(output).lines();
                lines.map_while(Result::ok).for_each(|line| push(&line));
            }
        }));
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let mut children: Vec<Child> =
            self.agents.iter_mut().filter_map(|agent| agent.child.take()).collect();
        for agent in &self.agents {
            agent.over.store(true, Ordering::Relaxed);
        }
        for child in &mut children {
            drop(child.kill());
        }
        for child in &mut children {
            drop(child.wait());
        }
    }
}

/// An address of its own for each agent, away from what others use of 127.0.0.0/8.
fn loopback(number: usize) -> Ipv4Addr {
    let number = u16::try_from(number + 1).unwrap_or(u16::MAX);
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ_beyond_a_byte() {
        assert_eq!(loopback(0), Ipv4Addr::new(127, 77, 0, 1));
        assert_eq!(loopback(255), Ipv4Addr::new(127, 77, 1, 0));
    }
}
