//! A bloc in a temporary directory. Dropped, it takes its processes and the directory with it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use skep_base::{BlocName, NodeName};
use skep_identity::{Ca, IssueRequest, Role, Roles};
use tempfile::TempDir;

use super::node::Node;
use crate::clock::Clock;

/// A temporary directory with a longer path leaves no room for the names of sockets in it.
const LONGEST_PLACE: usize = 60;
/// Lines of each log that are shown where something did not hold.
const TAIL_LINES: usize = 12;

/// A CA and its nodes.
pub(super) struct Bloc {
    pub(super) nodes: Vec<Node>,
    ca: Ca,
    dir: TempDir,
    keep: bool,
}

impl Drop for Bloc {
    /// Each node's files in a thread of their own: a disk that frees blocks one after the other
    /// makes one thread wait for thousands of files.
    fn drop(&mut self) {
        self.nodes.clear();
        let Ok(entries) = std::fs::read_dir(self.dir.path()) else {
            return;
        };
        if self.keep {
            return;
        }
        std::thread::scope(|scope| {
            for entry in entries.flatten() {
                // What cannot be removed now is tried once more with the directory itself.
                scope.spawn(move || std::fs::remove_dir_all(entry.path()).ok());
            }
        });
    }
}

impl Bloc {
    /// Makes the CA, and the files of `count` nodes; the first is a queen.
    pub(super) fn create(count: usize, keep: bool) -> anyhow::Result<Self> {
        let mut place = std::env::temp_dir();
        if place.as_os_str().len() > LONGEST_PLACE {
            place = PathBuf::from("/tmp");
        }
        let mut dir = tempfile::Builder::new()
            .prefix("skep-demo-")
            .tempdir_in(&place)
            .with_context(|| format!("cannot make a directory in {}", place.display()))?;
        dir.disable_cleanup(keep);
        let bloc = BlocName::new("demo")?;
        let ca = Ca::init(&dir.path().join("ca"), &bloc, Clock::of_process().wall())?;
        let mut made = Self { nodes: Vec::new(), ca, dir, keep };
        for _ in 0..count {
            made.add()?;
        }
        Ok(made)
    }

    /// Makes the files of one more node.
    pub(super) fn add(&mut self) -> anyhow::Result<NodeName> {
        let number = self.nodes.len() + 1;
        let name = NodeName::new(&format!("node-{number}"))?;
        let queen = self.nodes.is_empty();
        let roles = if queen { Roles::NONE.with(Role::Queen) } else { Roles::NONE };
        let request = IssueRequest { roles, ..IssueRequest::new(name.clone()) };
        let identity = self.ca.issue(&request, Clock::of_process().wall())?;
        let seed = self.nodes.first().map(|node| node.address);
        let node = Node::create(self.dir.path(), name.clone(), free_address(number)?, seed)?;
        identity.store(&node.identity_dir())?;
        self.nodes.push(node);
        Ok(name)
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The node that may start waves.
    pub(super) fn queen(&self) -> &Node {
        &self.nodes[0]
    }

    /// Fails when a node ended that nobody stopped.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if let Some(how) = node.ended_by_itself()? {
                bail!("{} ended by itself: {how}", node.name);
            }
        }
        Ok(())
    }

    /// The ends of all logs.
    pub(super) fn log_tails(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let log = std::fs::read(node.log()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(TAIL_LINES);
            text.push_str(&format!("\nthe end of the log of {}:\n", node.name));
            for line in lines.iter().skip(tail) {
                text.push_str(&format!("  {line}\n"));
            }
        }
        text.push('\n');
        text
    }
}

/// A loopback address of the node's own with a port that is free now; all of 127/8 is ours on
/// Linux, and where it is not, the one address that is.
fn free_address(number: usize) -> anyhow::Result<SocketAddr> {
    let own = Ipv4Addr::new(127, 0, 0, u8::try_from(number).unwrap_or(u8::MAX));
    let listener = TcpListener::bind((own, 0))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("no port is free on the loopback interface")?;
    listener.local_addr().context("the system does not say which port it gave")
}
