//! A network namespace by name: what makes a host a host.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::tools;

/// A network namespace that `ip netns` knows.
#[derive(Clone, Debug)]
pub(crate) struct NetNs {
    name: String,
}

impl NetNs {
    /// The namespace of that name, which need not exist yet.
    pub(crate) fn named(name: String) -> Self {
        Self { name }
    }

    /// The name `ip -n` takes.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `action` on a thread that is inside the namespace. Sockets and devices it opens stay
    /// there wherever they are used later.
    ///
    /// # Errors
    /// When the namespace is gone or may not be entered.
    ///
    /// # Panics
    /// When `action` panics.
    pub(crate) fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let path = PathBuf::from("/run/netns").join(&self.name);
        let entered: io::Result<T> = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = File::open(&path)?;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(action())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        entered.with_context(|| format!("cannot enter network namespace {}", self.name))
    }

    /// The processes inside.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        let listed = tools::run("ip", &["netns", "pids", &self.name])?;
        Ok(listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Kills all that runs inside. Returns when the kernel lists nothing any more.
    ///
    /// # Errors
    /// When the namespace is gone or its processes refuse to die.
    pub(crate) fn kill_all(&self) -> Result<()> {
        let what = format!("processes of {} end", self.name);
        crate::wait_until(&what, crate::SETTLE, || {
            let pids = self.pids()?;
            for pid in &pids {
                if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                    // It may have ended between the two calls.
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
            }
            anyhow::ensure!(pids.is_empty(), "still there: {pids:?}");
            Ok(())
        })
    }
}
