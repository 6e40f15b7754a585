//! The timers and bounds of a flock's management.

use std::time::Duration;

/// The longest body of one catalog entry, so that an engine message with one entry fits into a
/// frame of the control lane (64 KiB) with room for what stands around it.
pub const MAX_ENTRY_BYTES: usize = 32 * 1024;
/// Proposals that wait for their acknowledgement; what is over it is refused as busy. At 2,000
/// writes a second it is two seconds' worth.
pub const MAX_PROPOSALS: usize = 4096;
/// Eligible nodes that the roster holds: with more than a few dozen nobody gains anything, and it
/// stands in every snapshot.
pub const MAX_ROSTER: usize = 64;
/// Managers of a flock: the master and two backups (DVM-3, 4).
pub const MANAGERS: usize = 3;
/// Raft ids in one configuration, joint ones and learners included.
pub const MAX_VOTERS: usize = 16;
/// The longest catalog state that a checkpoint may hold, and the longest image that a learner
/// takes. What is longer is refused before memory is taken.
pub const MAX_IMAGE_BYTES: usize = 64 * 1024 * 1024;
/// What a host may make of a history that is handed over, in all. More than an image holds no
/// history could take over, and with it would be no room for anything else.
pub const MAX_HAND_OVER_BYTES: usize = MAX_IMAGE_BYTES;
/// Nodes of which facts are kept. As many as membership keeps.
pub const MAX_NODES: usize = 16_384;
/// Foreign histories whose notes and merges are remembered.
pub const MAX_HISTORIES: usize = 16;

/// The timers. The defaults are Skep's; [`Config::documents`] has those of the founding documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Between two steps of the engine. A tenth of the shortest time-out is fine enough; every tick
    /// wakes the managers, and nobody else.
    pub tick: Duration,
    /// Between two heartbeats of the master. At least one tick.
    pub heartbeat: Duration,
    /// The shortest time without the master before a backup stands for election.
    pub election_min: Duration,
    /// The longest. The spread keeps two backups from standing at once.
    pub election_max: Duration,
    /// How long an answer of a majority lets the master acknowledge and read. Below
    /// [`Config::election_min`] by more than the drift, so that it ends before anybody else is
    /// elected.
    pub lease: Duration,
    /// What two clocks may differ over one lease: 1 % would be 9 ms.
    pub drift: Duration,
    /// A write that a member of the sync set lets wait for longer puts it out of the set.
    pub sync_slow: Duration,
    /// A backup silent for this long is replaced (DVM-5, 6).
    pub backup_silent: Duration,
    /// One time-out more for a backup that somebody else still reaches (DVM-7).
    pub backup_reached: Duration,
    /// A silent node is given up, with a mail (DVM-13).
    pub given_up: Duration,
    /// A manager that lost both others for this long becomes semi-master (DVM-21, 24).
    pub alone: Duration,
    /// A part without any manager founds anew after this long.
    pub orphaned: Duration,
    /// And after this long where a holding node is present.
    pub orphaned_holding: Duration,
    /// A lone eligible node waits this long for a flock to join before it founds its own.
    pub found_after: Duration,
    /// Between two looks at how much a node of the roster was there and has to spare; and a backup
    /// keeps its office for this long before a better one takes it.
    pub min_stay: Duration,
    /// So long a node must stand clearly better than a backup before it takes its office.
    pub better_for: Duration,
    /// A manager that reaches no eligible node for this long retires (DVM-18).
    pub solitude: Duration,
    /// Between two announcements of this node; the first goes at once.
    pub announce_every: Duration,
    /// How long a lease of a majority of the roster gives strict authority. Who follows a holder
    /// that is gone waits for so long.
    pub strict_lease: Duration,
    /// Between two requests that were not answered.
    pub retry: Duration,
    /// How many log entries are kept before a checkpoint is asked for.
    pub checkpoint_entries: u64,
}

impl Default for Config {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            tick: ms(50),
            heartbeat: ms(100),
            election_min: ms(1100),
            election_max: ms(1400),
            lease: ms(880),
            drift: ms(20),
            sync_slow: ms(250),
            backup_silent: Duration::from_secs(10),
            backup_reached: Duration::from_secs(10),
            given_up: Duration::from_secs(24 * 3600),
            alone: Duration::from_secs(10),
            orphaned: Duration::from_secs(10),
            orphaned_holding: Duration::from_secs(60),
            found_after: ms(1500),
            min_stay: Duration::from_secs(600),
            better_for: Duration::from_secs(1200),
            solitude: Duration::from_secs(3 * 24 * 3600),
            announce_every: ms(200),
            strict_lease: ms(3000),
            retry: ms(500),
            checkpoint_entries: 20_000,
        }
    }
}

impl Config {
    /// `profile = "documents"`: the figures of DVM-7, 13, 18 and 25. The engine's own time-outs and
    /// the lease stay as they are: they are what makes the rest safe.
    #[must_use]
    pub fn documents() -> Self {
        Self {
            backup_silent: Duration::from_secs(300),
            backup_reached: Duration::from_secs(300),
            alone: Duration::from_secs(60),
            orphaned: Duration::from_secs(60),
            orphaned_holding: Duration::from_secs(300),
            better_for: Duration::from_secs(3600),
            ..Self::default()
        }
    }

    /// Whether the timers can hold what the design promises.
    ///
    /// # Errors
    /// [`ConfigError`], naming the first timer that cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rules = [
            (self.tick >= Duration::from_millis(5), "tick", "is below 5 ms"),
            (self.heartbeat >= self.tick, "heartbeat", "is shorter than a tick"),
            (self.election_min >= self.heartbeat * 5, "election-min", "is below five heartbeats"),
            (
                self.election_max >= self.election_min + self.tick * 2,
                "election-max",
                "leaves no spread",
            ),
            (
                self.lease + self.drift * 2 + self.tick <= self.election_min,
                "lease",
                "could outlast an election",
            ),
            (self.sync_slow >= self.tick, "sync-slow", "is shorter than a tick"),
            (
                self.backup_silent >= self.election_max,
                "backup-silent",
                "is shorter than an election",
            ),
            (self.alone >= self.election_max + self.lease, "alone", "is shorter than an old lease"),
            (self.orphaned >= self.election_max * 2, "orphaned", "is shorter than two elections"),
            (
                self.orphaned_holding >= self.orphaned,
                "orphaned-holding",
                "is shorter than orphaned",
            ),
            (self.min_stay >= self.backup_silent, "min-stay", "is shorter than backup-silent"),
            (self.better_for >= self.backup_silent, "better-for", "is shorter than backup-silent"),
            (self.solitude >= self.alone, "solitude", "is shorter than alone"),
            (self.strict_lease >= self.election_max, "strict-lease", "is shorter than an election"),
            (self.found_after >= self.retry, "found-after", "is shorter than a retry"),
            (self.checkpoint_entries >= 100, "checkpoint-entries", "is below 100"),
        ];
        match rules.iter().find(|(holds, _, _)| !holds) {
            Some((_, timer, why)) => Err(ConfigError { timer, why }),
            None => Ok(()),
        }
    }

    pub(crate) fn ticks(&self, span: Duration) -> usize {
        let ticks = span.as_nanos().div_ceil(self.tick.as_nanos().max(1));
        usize::try_from(ticks).unwrap_or(usize::MAX).max(1)
    }

    /// How long a new master, or a node that has just started, must take an old lease for granted.
    pub(crate) fn old_lease(&self) -> Duration {
        self.lease + self.drift
    }
}

/// A timer that breaks what the others promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("managers' timer {timer} {why}")]
pub struct ConfigError {
    timer: &'static str,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_hold_and_a_lease_that_outlasts_an_election_does_not() {
        Config::default().validate().unwrap();
        Config::documents().validate().unwrap();
        let long = Config { lease: Duration::from_millis(1050), ..Config::default() };
        assert!(long.validate().unwrap_err().to_string().contains("lease"));
    }
}
