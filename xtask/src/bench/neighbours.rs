//! Room for many hosts in the kernel's table of link-layer neighbours.
//!
//! The table's bound is one for all network namespaces of a machine. A fleet of a hundred hosts of
//! which each may speak to each other fills it a few times over, and then packets vanish that no
//! real network would lose.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// The bound raised; lowered again when it is dropped.
pub(super) struct RoomForNeighbours {
    before: Vec<(PathBuf, String)>,
}

impl RoomForNeighbours {
    /// Makes room for `hosts` that each know all others, over both versions of IP.
    ///
    /// # Errors
    /// When the kernel's settings cannot be read or written.
    pub(super) fn new(hosts: usize) -> Result<Self> {
        let mut room = Self { before: Vec::new() };
        for family in ["ipv4", "ipv6"] {
            let path = PathBuf::from(format!("/proc/sys/net/{family}/neigh/default/gc_thresh3"));
            let before =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            if let Some(wanted) = wanted(&before, hosts) {
                fs::write(&path, wanted).with_context(|| format!("writing {}", path.display()))?;
                room.before.push((path, before));
            }
        }
        Ok(room)
    }
}

impl Drop for RoomForNeighbours {
    fn drop(&mut self) {
        for (path, before) in &self.before {
            // The machine works as well with the higher bound.
            drop(fs::write(path, before));
        }
    }
}

/// The bound to set, where the one in force is too low.
fn wanted(before: &str, hosts: usize) -> Option<String> {
    let enough = hosts * hosts + 1024;
    let there: usize = before.trim().parse().ok()?;
    (there < enough).then(|| enough.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_raised_and_never_lowered() {
        assert_eq!(wanted("1024\n", 100).as_deref(), Some("11024"));
        assert_eq!(wanted("65536\n", 100), None);
        assert_eq!(wanted("1024\n", 0), None);
    }
}
