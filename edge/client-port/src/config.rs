//! What may be chosen.

use std::time::Duration;

use crate::body::MEMORY_BYTES;
use crate::session::PUBLICATION_BYTES;

/// Least memory for bodies on their way to the log: one that is as long as any in memory.
pub const MEMORY_LEAST_BYTES: usize = MEMORY_BYTES + PUBLICATION_BYTES;

/// How the client port is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Clients at one time; those beyond are told so and turned away. Each takes about 20 KiB while
    /// it is quiet.
    pub clients: usize,
    /// Longest line of a command, its end included.
    pub line_max: usize,
    /// How long a client may be silent that neither waits for an answer nor is subscribed; also
    /// within a body.
    pub idle: Duration,
    /// How long a client may take nothing of what was sent to it.
    pub stall: Duration,
    /// Bytes of all clients' bodies that may be in memory on their way to the log. Whoever comes
    /// when it is full waits; at least the longest body that is not laid down in a file.
    pub memory: usize,
    /// Bytes of all clients' long bodies that may be in files until the log has them; at least the
    /// longest body.
    pub spool: u64,
    /// Longest body: what the flood takes.
    pub body_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clients: 1024,
            line_max: 64 << 10,
            idle: Duration::from_secs(600),
            stall: Duration::from_secs(60),
            memory: 64 << 20,
            spool: 1 << 30,
            body_max: 1 << 30,
        }
    }
}

/// What a configuration cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody could connect, or more than any process has files.
    #[error("clients of {0} must be between 1 and 65536")]
    Clients(usize),
    /// Nobody could type so fast, or nobody would ever be let go.
    #[error("idle of {0:?} must be between 1 s and a day")]
    Idle(Duration),
    /// Somebody's update would wait for ever.
    #[error("memory of {memory} bytes must hold the longest update in memory, {least} bytes")]
    Memory {
        /// What was chosen.
        memory: usize,
        /// What must fit.
        least: usize,
    },
    /// Likewise.
    #[error("spool of {spool} bytes must hold the longest update, {body_max} bytes")]
    Spool {
        /// What was chosen.
        spool: u64,
        /// What must fit.
        body_max: u64,
    },
}

impl Config {
    /// Whether the port can work with this.
    ///
    /// # Errors
    /// [`ConfigError`] names the first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=65_536).contains(&self.clients) {
            return Err(ConfigError::Clients(self.clients));
        }
        if self.idle < Duration::from_secs(1) || self.idle > Duration::from_secs(86_400) {
            return Err(ConfigError::Idle(self.idle));
        }
        if self.memory < MEMORY_LEAST_BYTES {
            let (memory, least) = (self.memory, MEMORY_LEAST_BYTES);
            return Err(ConfigError::Memory { memory, least });
        }
        if self.spool < self.body_max {
            return Err(ConfigError::Spool { spool: self.spool, body_max: self.body_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(Config::default().validate(), Ok(()));
        let memory = Config { memory: 1 << 16, ..Config::default() };
        assert!(memory.validate().unwrap_err().to_string().contains("must hold the longest"));
        let clients = Config { clients: 0, ..Config::default() };
        assert_eq!(clients.validate(), Err(ConfigError::Clients(0)));
    }
}
