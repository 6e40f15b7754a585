//! What an operator may choose.

use core::time::Duration;

use skep_base::ByteSize;

/// Updates in one batch that any configuration allows: a hand-over of the log has no more.
pub const MAX_BATCH_UPDATES: usize = 256;
/// Bytes of their bodies that any configuration allows, for the same reason.
pub const MAX_BATCH_BYTES: u64 = 256 << 10;

/// How updates are made into batches, and when a batch that failed is run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long updates are gathered before a batch that is not full is run. Longer means fewer
    /// runs of the command and older updates; nothing runs each hand-over at once.
    pub delay: Duration,
    /// Updates in one batch at most.
    pub batch_updates: usize,
    /// Bytes of their bodies at most; a single longer update is a batch by itself.
    pub batch_bytes: ByteSize,
    /// How long after its first failure a batch is run again. Doubles with each more.
    pub retry_first: Duration,
    /// The longest such wait.
    pub retry_last: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(100),
            batch_updates: MAX_BATCH_UPDATES,
            batch_bytes: ByteSize(MAX_BATCH_BYTES),
            retry_first: Duration::from_secs(1),
            retry_last: Duration::from_secs(300),
        }
    }
}

/// What a configuration cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Batches of nothing, or of more than there ever is.
    #[error("batch-updates of {0} must be between 1 and {MAX_BATCH_UPDATES}")]
    BatchUpdates(usize),
    /// Batches of nothing, or of more than there ever is.
    #[error("batch-bytes of {0} must be between 1 B and 256 KiB")]
    BatchBytes(ByteSize),
    /// Waits that shrink, or none.
    #[error("retry-last of {last:?} must be at least retry-first of {first:?}, which is not zero")]
    Retries {
        /// The first wait.
        first: Duration,
        /// The last one.
        last: Duration,
    },
}

impl Config {
    /// Whether the machine can work with this.
    ///
    /// # Errors
    /// [`ConfigError`] names the first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_BATCH_UPDATES).contains(&self.batch_updates) {
            return Err(ConfigError::BatchUpdates(self.batch_updates));
        }
        if !(1..=MAX_BATCH_BYTES).contains(&self.batch_bytes.0) {
            return Err(ConfigError::BatchBytes(self.batch_bytes));
        }
        if self.retry_first.is_zero() || self.retry_last < self.retry_first {
            let (first, last) = (self.retry_first, self.retry_last);
            return Err(ConfigError::Retries { first, last });
        }
        Ok(())
    }
}
