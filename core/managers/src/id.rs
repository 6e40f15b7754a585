//! What a flock's history, its orders and its voters are called.

use std::fmt;

use serde::{Deserialize, Serialize};
use skep_base::Digest;

/// One history of decisions: drawn at random when a flock is founded, and anew when a part of one
/// founds itself again (DVM-22), so that no two parts ever share (lineage, generation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lineage(pub u64);

/// What stands in every stamp beside the epoch: two histories that came to the same epoch are told
/// apart by it. Drawn together with the lineage.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForkId(pub u64);

/// The name of a voter or learner inside the engine: 63 random bits, bound to one node and one
/// lineage, and never used twice. 0 is nobody.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RaftId(pub u64);

macro_rules! shown_as_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:08x}", self.0 >> 32)
            }
        }
    };
}
shown_as_hex!(Lineage);
shown_as_hex!(ForkId);
shown_as_hex!(RaftId);

/// How often a history was founded again from a part of its flock (DVM-22). It helps to choose who
/// leads a merge, lowest first (DVM-27), and nothing else.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

/// Which founding of its bloc made a history strong: 1 for the first token of the CA, each one more
/// for the next; 0 where there was none. A higher one ends what was promised under lower ones.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Founding(pub u64);

/// The number in every order. Each election, fork and merge ends with the highest seen plus one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// How far one order may move the highest epoch seen: a liar could otherwise use the number
    /// space up.
    pub const MAX_JUMP: u64 = 1 << 32;

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The fence of every order: a host keeps the highest it has seen and refuses what is below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Compared by number.
    pub epoch: Epoch,
    /// Of an equal number only the same fork is obeyed.
    pub fork: ForkId,
}

/// What a host does with an order under a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is obeyed, and its stamp is the highest seen from now on.
    Obey,
    /// It is older than what was seen, or as old and of another fork.
    Refuse,
    /// Its epoch is further ahead than [`Epoch::MAX_JUMP`].
    TooFar,
}

impl Stamp {
    /// What is done with an order under `order` by a host whose highest stamp is `self`.
    #[must_use]
    pub const fn judge(self, order: Self) -> Judgement {
        if order.epoch.0 < self.epoch.0
            || (order.epoch.0 == self.epoch.0 && order.fork.0 != self.fork.0)
        {
            Judgement::Refuse
        } else if order.epoch.0 - self.epoch.0 > Epoch::MAX_JUMP {
            Judgement::TooFar
        } else {
            Judgement::Obey
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:08x}", self.epoch.0, self.fork.0 >> 32)
    }
}

/// What an acknowledged write may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Strength {
    /// Promised to reach a merge or its conflict log, not to survive a second loss.
    Weak,
    /// Survives while one member of the last sync set keeps its disk.
    Strong,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weak => "weak",
            Self::Strong => "strong",
        })
    }
}

/// What a node is in its flock (DVM-2 to 4, 10, 21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// May manage nothing.
    Host,
    /// On the roster, or waiting to be; learners are eligible.
    Eligible,
    /// Votes, and holds every acknowledged write while it is in the sync set.
    Backup,
    /// The one that decides and acknowledges.
    Master,
    /// A manager that lost both others: reads only, starts nothing.
    SemiMaster,
    /// A former or restarted manager that keeps its log until it is told what became of the flock.
    Holding,
    /// A manager that met nobody for days: it keeps its log and does nothing (DVM-18).
    Retired,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Eligible => "eligible",
            Self::Backup => "backup",
            Self::Master => "master",
            Self::SemiMaster => "semi-master",
            Self::Holding => "holding",
            Self::Retired => "retired",
        })
    }
}

/// The transient name of a flock (BLOC-11): two words that follow from the lineage, and the
/// generation when there was more than one. Every node derives the same.
#[must_use]
pub fn flock_name(lineage: Lineage, generation: Generation) -> String {
    let digest = Digest::of_parts(&[b"skep flock name", &lineage.0.to_le_bytes()]).0;
    let first = FIRST[usize::from(digest[0]) % FIRST.len()];
    let second = SECOND[usize::from(digest[1]) % SECOND.len()];
    match generation.0 {
        0 | 1 => format!("{first}-{second}"),
        more => format!("{first}-{second}-{more}"),
    }
}

const FIRST: [&str; 32] = [
    "amber", "ashen", "autumn", "brave", "bright", "calm", "clear", "copper", "coral", "dusky",
    "early", "frosty", "gentle", "golden", "green", "hazel", "ivory", "keen", "lively", "mellow",
    "mild", "noble", "pale", "quiet", "rapid", "russet", "silver", "steady", "sunny", "tidal",
    "vivid", "wild",
];
const SECOND: [&str; 32] = [
    "apiary", "aster", "birch", "brook", "clover", "comb", "crane", "dove", "elm", "fern", "finch",
    "glen", "grove", "heath", "heron", "hive", "ibis", "larch", "lark", "linden", "meadow",
    "orchard", "plover", "reed", "robin", "starling", "stork", "swift", "tern", "thistle", "thyme",
    "wren",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_refuses_older_stamps_and_equal_ones_of_another_fork() {
        let stamp = |epoch, fork| Stamp { epoch: Epoch(epoch), fork: ForkId(fork) };
        let seen = stamp(5, 1);
        assert_eq!(seen.judge(stamp(4, 1)), Judgement::Refuse);
        assert_eq!(seen.judge(stamp(5, 2)), Judgement::Refuse);
        assert_eq!(seen.judge(stamp(5, 1)), Judgement::Obey);
        assert_eq!(seen.judge(stamp(6, 2)), Judgement::Obey);
        assert_eq!(seen.judge(stamp(5 + (1 << 32), 2)), Judgement::Obey);
        assert_eq!(seen.judge(stamp(6 + (1 << 32), 2)), Judgement::TooFar);
    }

    #[test]
    fn bloc_11_every_node_derives_the_same_name() {
        let name = flock_name(Lineage(7), Generation(1));
        assert_eq!(name, flock_name(Lineage(7), Generation(1)));
        assert_eq!(format!("{name}-3"), flock_name(Lineage(7), Generation(3)));
        assert_ne!(name, flock_name(Lineage(8), Generation(1)));
    }
}
