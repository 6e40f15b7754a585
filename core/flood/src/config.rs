//! What an operator may choose, and the bounds that nobody may.

use alloc::collections::BTreeSet;
use core::time::Duration;

use skep_base::{ByteSize, GroupName};

/// Bodies below this travel with their header to every neighbour, unless the configuration says
/// otherwise; longer ones are announced and pulled once.
pub const EAGER_BELOW_BYTES: u64 = 16 * 1024;
/// No configuration makes longer bodies travel with their header: a frame of the control lane must
/// hold one, and leave room for a heartbeat behind it.
pub const MAX_EAGER_BYTES: usize = 32 * 1024;
/// Longest body that any configuration allows: the leaves of its pieces fit one frame of bulk.
pub const MAX_BODY_BYTES: u64 = 4 << 30;
/// Longest body unless the configuration says otherwise: a small disk, or the dump of a database.
/// With the room that there is by default, four of them.
pub const BODY_BYTES: u64 = 1 << 30;
/// Bodies up to this are handed to subscribers in memory; longer ones are read from the log.
pub const HAND_OVER_BYTES: u64 = 8 << 20;

/// What one flood machine is told by its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The groups that this node is in. Updates of others are neither kept nor passed on.
    pub groups: BTreeSet<GroupName>,
    /// How long an update may travel and is kept. Choose it longer than the longest outage after
    /// which a node should still be repaired by its peers (FLOOD-35). Duplicates are remembered
    /// for twice as long.
    pub purge_age: Duration,
    /// How long a missing update may block those after it. Then it is a reported gap, and is
    /// delivered late if it comes.
    pub pull_timeout: Duration,
    /// How often the node compares digests with one random neighbour of each group. Repairs what
    /// was lost without a trace, so it may be slow.
    pub compare_period: Duration,
    /// Bodies and headers kept in the log at most (FLOOD-32). Larger means longer outages of peers
    /// can be repaired.
    pub storage_max: ByteSize,
    /// Updates kept in the log at most: each takes about 40 bytes of memory.
    pub index_max: usize,
    /// Longest body accepted, at most [`MAX_BODY_BYTES`]. Only short ones ever are in memory, so
    /// choose it by the room on the disk and by what a link can carry in the time there is.
    pub body_max: ByteSize,
    /// Bodies below this are sent to every neighbour at once; longer ones are announced, and pulled
    /// by each member from the nearest that has them. At most [`MAX_EAGER_BYTES`]. Larger means
    /// fewer round trips for bodies of that size, and more bytes for the ways that are late.
    pub eager_below: ByteSize,
    /// Whether an edge that brings an origin's bodies too late carries only their ids from then
    /// on. Without it each update goes over every edge at least once: quicker by a little where
    /// latencies vary from packet to packet, and two to three times the bytes.
    pub prune: bool,
    /// Bytes of recent small bodies kept in memory, so that a relay needs no disk.
    pub cache_max: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            groups: BTreeSet::from([GroupName::all()]),
            purge_age: Duration::from_secs(72 * 3600),
            pull_timeout: Duration::from_secs(30),
            compare_period: Duration::from_secs(60),
            storage_max: ByteSize(4 << 30),
            index_max: 1 << 20,
            body_max: ByteSize(BODY_BYTES),
            eager_below: ByteSize(EAGER_BELOW_BYTES),
            prune: true,
            cache_max: ByteSize(2 << 20),
        }
    }
}

/// What a configuration cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A purge age too short for an update to cross a bloc.
    #[error("purge-age of {0:?} is too short: at least 10 s, so that updates can arrive at all")]
    PurgeAge(Duration),
    /// A pull time-out of nothing would make every reordering a gap.
    #[error("pull-timeout of {0:?} must be at least 1 s and below the purge age")]
    PullTimeout(Duration),
    /// Comparing without pause.
    #[error("compare-period of {0:?} is too short: at least 1 s")]
    ComparePeriod(Duration),
    /// No room for anything.
    #[error("index-max of {0} is too small: at least 1024 updates")]
    IndexMax(usize),
    /// Less storage than one body may take.
    #[error("storage-max of {0} is too small: at least four times body-max")]
    StorageMax(ByteSize),
    /// A body over what can be announced.
    #[error("body-max of {0} is over the limit of 4 GiB, or 0")]
    BodyMax(ByteSize),
    /// Bodies that no frame holds.
    #[error("eager-below of {0} must be at most 32 KiB, and not 0")]
    EagerBelow(ByteSize),
}

impl Config {
    /// Whether the machine can work with this.
    ///
    /// # Errors
    /// [`ConfigError`] names the first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.purge_age < Duration::from_secs(10) {
            return Err(ConfigError::PurgeAge(self.purge_age));
        }
        if self.pull_timeout < Duration::from_secs(1) || self.pull_timeout >= self.purge_age {
            return Err(ConfigError::PullTimeout(self.pull_timeout));
        }
        if self.compare_period < Duration::from_secs(1) {
            return Err(ConfigError::ComparePeriod(self.compare_period));
        }
        if self.index_max < 1024 {
            return Err(ConfigError::IndexMax(self.index_max));
        }
        if self.body_max.0 == 0 || self.body_max.0 > MAX_BODY_BYTES {
            return Err(ConfigError::BodyMax(self.body_max));
        }
        if self.eager_below.0 == 0 || self.eager_below.0 > MAX_EAGER_BYTES as u64 {
            return Err(ConfigError::EagerBelow(self.eager_below));
        }
        if self.storage_max.0 < 4 * self.body_max.0 {
            return Err(ConfigError::StorageMax(self.storage_max));
        }
        Ok(())
    }
}
