//! Which command a connection comes from: whether the program at its other end is one of those
//! that a command of ours has started (FLOOD-42).
//!
//! Everything that a command starts stands below its supervisor, also what made a session of its
//! own, so that the question is one of parents. It is asked while commands run, which is seldom, of
//! connections that come in meanwhile from this host; it reads `/proc`, and blocks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a command that has ended may still have connections that nobody has looked at.
const LINGER: Duration = Duration::from_secs(2);
/// Runs that are remembered: all that may run at once, and those that just ended.
const MAX_RUNS: usize = 1024;
/// Parents above a process that are followed.
const MAX_DEPTH: usize = 256;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Of a unix socket; the kernel says which process made it.
    Process(i32),
    /// Of TCP.
    Tcp {
        /// Our address of the connection.
        ours: SocketAddr,
        /// Theirs.
        theirs: SocketAddr,
    },
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No command of ours.
    Elsewhere,
    /// A command with this purpose.
    Command(Arc<str>),
    /// Nobody holds that end any more, so it may be any of these: they run, or ended just now.
    Gone(Vec<Arc<str>>),
}

/// The commands that run, by the number of their supervisors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(Arc<Mutex<BTreeMap<u32, Entry>>>);

#[derive(Debug)]
struct Entry {
    purpose: Arc<str>,
    ended: Option<Instant>,
}

/// A command that is remembered until this is dropped.
#[derive(Debug)]
pub(crate) struct Remembered {
    running: Running,
    supervisor: u32,
}

impl Running {
    pub(crate) fn remember(&self, supervisor: u32, purpose: Arc<str>) -> Remembered {
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.ended.is_none_or(|ended| ended.elapsed() < LINGER));
        if entries.len() < MAX_RUNS {
            entries.insert(supervisor, Entry { purpose, ended: None });
        }
        drop(entries);
        Remembered { running: self.clone(), supervisor }
    }

    /// Whether there is any that a connection could come from.
    pub(crate) fn any(&self) -> bool {
        let recent = |entry: &Entry| entry.ended.is_none_or(|ended| ended.elapsed() < LINGER);
        self.lock().values().any(recent)
    }

    pub(crate) fn origin(&self, peer: Peer) -> Origin {
        let (supervisors, all) = self.snapshot();
        if all.is_empty() {
            return Origin::Elsewhere;
        }
        match peer {
            Peer::Process(pid) => match ancestors(pid) {
                Some(above) => found(above.iter().find_map(|pid| supervisors.get(pid))),
                None => Origin::Gone(all),
            },
            Peer::Tcp { ours, theirs } => {
                // Somebody on another host is nobody's child here.
                let local = canonical(theirs.ip()).is_loopback()
                    || canonical(theirs.ip()) == canonical(ours.ip());
                if !local {
                    return Origin::Elsewhere;
                }
                let inode = socket_between(theirs, ours);
                let holder = inode.and_then(|inode| holder(inode, &supervisors));
                // It may have been closed while its holder was looked for.
                let still = holder.is_some() || socket_between(theirs, ours) == inode;
                match inode {
                    Some(_) if still => found(holder),
                    Some(_) | None => Origin::Gone(all),
                }
            }
        }
    }

    /// Supervisors that live, and the purposes of all.
    fn snapshot(&self) -> (BTreeMap<i32, Arc<str>>, Vec<Arc<str>>) {
        let mut supervisors = BTreeMap::new();
        let mut all = BTreeSet::new();
        for (pid, entry) in self.lock().iter() {
            match (entry.ended, i32::try_from(*pid)) {
                (None, Ok(pid)) => {
                    supervisors.insert(pid, Arc::clone(&entry.purpose));
                }
                (Some(ended), _) if ended.elapsed() >= LINGER => continue,
                (Some(_), _) | (None, Err(_)) => {}
            }
            all.insert(Arc::clone(&entry.purpose));
        }
        (supervisors, all.into_iter().collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        if let Some(entry) = self.running.lock().get_mut(&self.supervisor) {
            entry.ended = Some(Instant::now());
        }
    }
}

fn found(purpose: Option<&Arc<str>>) -> Origin {
    purpose.map_or(Origin::Elsewhere, |purpose| Origin::Command(Arc::clone(purpose)))
}

/// A process and those above it; nothing where it is not there any more.
fn ancestors(pid: i32) -> Option<Vec<i32>> {
    let mut above = vec![pid];
    let mut parent = parent(pid)?;
    while parent > 0 && above.len() < MAX_DEPTH {
        above.push(parent);
        parent = self::parent(parent).unwrap_or(0);
    }
    Some(above)
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; state and parent follow it.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Below which of these supervisors a process has this socket open.
fn holder(inode: u64, supervisors: &BTreeMap<i32, Arc<str>>) -> Option<&Arc<str>> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, parent)) = pid.and_then(|pid| Some((pid, parent(pid)?))) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let wanted = format!("socket:[{inode}]");
    supervisors.iter().find_map(|(supervisor, purpose)| {
        let mut seen = BTreeSet::new();
        let mut queue = VecDeque::from([*supervisor]);
        while let Some(pid) = queue.pop_front() {
            if seen.insert(pid) {
                if has_open(pid, &wanted) {
                    return Some(purpose);
                }
                queue.extend(children.get(&pid).into_iter().flatten());
            }
        }
        None
    })
}

fn has_open(pid: i32, wanted: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    links.any(|link| link.as_os_str() == wanted)
}

/// The socket of a connection between two addresses of this host, where some process holds it.
fn socket_between(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let ends = (address(words.next()?)?, address(words.next()?)?);
            let inode: u64 = words.nth(6)?.parse().ok()?;
            let same = |a: SocketAddr, b: SocketAddr| {
                (canonical(a.ip()), a.port()) == (canonical(b.ip()), b.port())
            };
            (same(ends.0, local) && same(ends.1, remote) && inode != 0).then_some(inode)
        })
    })
}

/// An IPv4 address in either of its forms is the same.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// An address as `/proc/net/tcp` has it: words of 32 bits in the machine's order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        if cfg!(target_endian = "little") {
            assert_eq!(address("0100007F:07D0"), "127.0.0.1:2000".parse().ok());
            let six = "00000000000000000000000001000000:0050";
            assert_eq!(address(six), "[::1]:80".parse().ok());
        }
        for wrong in ["", "0100007F", "0100007:07D0", "0100007G:07D0", "0100007F:17D00"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_other_end_of_a_connection_is_found_until_it_is_closed() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(at) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, theirs) = listener.accept().unwrap();
            let ours = accepted.local_addr().unwrap();
            let inode = socket_between(theirs, ours);
            let us = i32::try_from(std::process::id()).unwrap();
            assert!(inode.is_some_and(|inode| has_open(us, &format!("socket:[{inode}]"))));
            assert_ne!(inode, socket_between(ours, theirs), "each end has its own");
            drop(client);
            assert_eq!(socket_between(theirs, ours), None);
        }
    }

    #[test]
    fn who_stands_above_is_known() {
        let us = i32::try_from(std::process::id()).unwrap();
        let above = ancestors(us).unwrap();
        assert_eq!(above[1], i32::try_from(std::os::unix::process::parent_id()).unwrap());
        assert_eq!(ancestors(i32::MAX), None);
    }
}
