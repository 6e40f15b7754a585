//! What is measured: `skep`, and the peer beside it. How each is set up and what its log says.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::clock::Micros;
use crate::process::{capture, find};

mod etcd;
mod http;
pub mod nats;
mod serf;
mod skep;

pub use etcd::EtcdClient;
pub use http::{Control, Http};
pub use skep::{Follower, Lines, Publisher, operate, publish};

/// A program whose agents form a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Software {
    /// Ours, by its binary.
    Skep(PathBuf),
    /// HashiCorp's serf, by its binary.
    Serf(PathBuf),
    /// The NATS server, by its binary: the peer that updates are measured by.
    Nats(PathBuf),
    /// etcd, by its binary: the peer that fail-over is measured by.
    Etcd(PathBuf),
}

/// Where one agent sits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The agent's name in its own fleet.
    pub name: String,
    /// Where it listens; every seat has an address of its own.
    pub ip: Ipv4Addr,
    /// All that it keeps.
    pub folder: PathBuf,
}

/// What one agent noted of another, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When, by the clock that all of them share.
    pub at: Micros,
    /// Of whom.
    pub node: String,
    /// What it is since then.
    pub seen: Seen,
}

/// What an agent may be to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// There.
    Present,
    /// Not heard of any more.
    Silent,
    /// Away for a moment, and said so.
    Restarting,
    /// Gone, and said so.
    Left,
}

impl Software {
    /// The peer, where it is installed.
    #[must_use]
    pub fn peer() -> Option<Self> {
        find("serf").map(Self::Serf)
    }

    /// Its name, for the table.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Skep(_) => "skep",
            Self::Serf(_) => "serf",
            Self::Nats(_) => "nats-server",
            Self::Etcd(_) => "etcd-server",
        }
    }

    /// The version that is installed.
    #[must_use]
    pub fn version(&self) -> String {
        let (Self::Skep(binary) | Self::Serf(binary) | Self::Nats(binary) | Self::Etcd(binary)) =
            self;
        let package =
            capture(Command::new("dpkg-query").args(["-W", "-f", "${Version}", self.name()]));
        match (self, package) {
            (Self::Serf(_) | Self::Nats(_) | Self::Etcd(_), Ok(version)) if !version.is_empty() => {
                version
            }
            _ => capture(Command::new(binary).arg("--version")).unwrap_or_default(),
        }
    }

    /// Makes what must be there before the first start: certificates and configurations.
    ///
    /// # Errors
    /// When a command of it fails; the message carries what it said.
    pub fn prepare(&self, folder: &Path, seats: &[Seat]) -> Result<()> {
        for seat in seats {
            fs::create_dir_all(&seat.folder)
                .with_context(|| format!("making {}", seat.folder.display()))?;
        }
        match self {
            Self::Skep(binary) => skep::prepare(binary, folder, seats),
            Self::Etcd(_) => etcd::prepare(seats),
            Self::Serf(_) | Self::Nats(_) => Ok(()),
        }
    }

    /// How the agent of `seat` is started; `seed` is where it looks for others.
    #[must_use]
    pub fn agent(&self, seat: &Seat, seed: &Seat) -> Command {
        match self {
            Self::Skep(binary) => skep::agent(binary, seat),
            Self::Serf(binary) => serf::agent(binary, seat, seed),
            Self::Nats(binary) => nats::agent(binary, seat, seed),
            Self::Etcd(binary) => etcd::agent(binary, seat),
        }
    }

    /// What a line of its log says of another agent, if it does. `stamp` is when the line was
    /// read; a line with a time of its own is believed instead.
    #[must_use]
    pub fn sighting(&self, stamp: Micros, line: &str) -> Option<Sighting> {
        match self {
            Self::Skep(_) => skep::sighting(line),
            Self::Serf(_) => serf::sighting(stamp, line),
            Self::Nats(_) | Self::Etcd(_) => None,
        }
    }

    /// Reads its log of events, where that is not its standard output.
    #[must_use]
    pub fn follower(&self, seat: &Seat) -> Option<Follower> {
        match self {
            Self::Skep(_) => Some(Follower::new(seat)),
            Self::Serf(_) | Self::Nats(_) | Self::Etcd(_) => None,
        }
    }
}

/// Who is there, as one agent's sightings tell it, and since when it is so.
#[derive(Debug, Clone, Default)]
pub struct View {
    seen: BTreeMap<String, (Seen, Micros)>,
}

impl View {
    /// Takes note.
    pub fn note(&mut self, sighting: &Sighting) {
        self.seen.insert(sighting.node.clone(), (sighting.seen, sighting.at));
    }

    /// What `node` is now and since when.
    #[must_use]
    pub fn of(&self, node: &str) -> Option<(Seen, Micros)> {
        self.seen.get(node).copied()
    }

    /// When the last of those who are present came, where all of `nodes` are.
    pub fn all_present<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Option<Micros> {
        let mut last = Micros(0);
        for node in nodes {
            match self.of(node)? {
                (Seen::Present, at) => last = last.max(at),
                (Seen::Silent | Seen::Restarting | Seen::Left, _) => return None,
            }
        }
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_present_since_the_last_came() {
        let mut view = View::default();
        let mut note = |at, node: &str, seen| {
            view.note(&Sighting { at: Micros(at), node: node.to_owned(), seen });
            view.clone()
        };
        assert_eq!(note(5, "a", Seen::Present).all_present(["a", "b"]), None);
        assert_eq!(note(9, "b", Seen::Present).all_present(["a", "b"]), Some(Micros(9)));
        assert_eq!(note(12, "a", Seen::Silent).all_present(["a", "b"]), None);
        assert_eq!(note(20, "a", Seen::Present).all_present(["a", "b"]), Some(Micros(20)));
    }
}
