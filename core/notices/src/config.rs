//! How incidents become letters.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::incident::{Kind, MAX_TARGETS};

/// How incidents become letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node's name.
    pub me: String,
    /// The targets of this node, at most [`MAX_TARGETS`], with the kinds of incidents that each
    /// wants; all where none is named.
    pub targets: Vec<(String, Vec<Kind>)>,
    /// How long a manager must be away, or back, or on hold before anybody is told.
    pub settle: Duration,
    /// How long a manager must be the only one.
    pub unprotected_after: Duration,
    /// How long a node must be without a master before it tells by itself.
    pub alone_after: Duration,
    /// How long incidents are gathered for one letter.
    pub gather: Duration,
    /// Letters that a target may be sent in an hour, beyond the first few.
    pub per_hour: u32,
    /// How long after its first failure a letter is tried again; longer after each more.
    pub retry_first: Duration,
    /// The longest such wait.
    pub retry_last: Duration,
    /// How long incidents that are over are remembered.
    pub keep: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            me: String::new(),
            targets: Vec::new(),
            // A node that reboots is back after some minutes; one that is restarted says so.
            settle: Duration::from_secs(15),
            unprotected_after: minutes(5),
            alone_after: minutes(2),
            gather: Duration::from_secs(10),
            per_hour: 12,
            retry_first: Duration::from_secs(5),
            retry_last: minutes(15),
            keep: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What is wrong with a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too many targets.
    #[error("a node may have at most {MAX_TARGETS} targets")]
    Targets,
    /// No letter could ever go out.
    #[error("a target must be allowed between 1 and 3600 letters in an hour")]
    Rate,
    /// The waits contradict one another.
    #[error("the longest wait for another attempt must not be below the first")]
    Retry,
}

impl Config {
    /// Whether a desk can work by it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.targets.len() > MAX_TARGETS {
            return Err(ConfigError::Targets);
        }
        if !(1..=3600).contains(&self.per_hour) {
            return Err(ConfigError::Rate);
        }
        if self.retry_first.is_zero() || self.retry_last < self.retry_first {
            return Err(ConfigError::Retry);
        }
        Ok(())
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(3600) / self.per_hour.max(1)
    }

    pub(crate) fn settles(&self, kind: Kind) -> Duration {
        match kind {
            // A node that starts holds until its history was compared: that is no incident yet.
            Kind::ManagerLost | Kind::OnHold => self.settle,
            Kind::Unprotected => self.unprotected_after,
            Kind::GivenUp
            | Kind::Fork
            | Kind::Conflicts
            | Kind::Certificate
            | Kind::DiskFailed
            | Kind::SemiMastery
            | Kind::Retired
            | Kind::NoMaster
            | Kind::Dropped
            | Kind::Targets => Duration::ZERO,
        }
    }
}
