//! What `skep flock` shows.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_base::{NodeId, Time};

use crate::id::{Founding, Generation, Lineage, Role, Stamp, Strength};

/// The whole of what this node knows of its flock's management, for listings.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// This node's role.
    pub role: Role,
    /// The flock that this node manages or follows, if any.
    pub flock: Option<FlockView>,
    /// What is waited for, since when, until when.
    pub waits: Vec<Waiting>,
    /// The highest stamp seen.
    pub seen: Stamp,
    /// Other flocks of the bloc: those that are announced now, then those that were lately, the
    /// last seen first.
    pub others: Vec<OtherFlock>,
    /// Present nodes that say that they hold a history and manage nothing: what they have may be
    /// more than what is here.
    pub holding: Vec<NodeId>,
    /// Present nodes, perhaps this one, that say that they may be managers, lowest first.
    pub eligible: Vec<NodeId>,
}

/// The part that this node has in its flock's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its role.
    pub role: Role,
    /// The history whose log it has, and the newest stamp there, if it has one.
    pub history: Option<(Lineage, Stamp)>,
    /// It applied everything that is decided, and as a master its own first stamp.
    pub decided: bool,
    /// It follows the log, or is about to, without a vote.
    pub learns: bool,
}

/// The flock that this node manages or follows.
#[derive(Clone, Debug, PartialEq)]
pub struct FlockView {
    /// Its transient name.
    pub name: String,
    /// Its history.
    pub lineage: Lineage,
    /// How often it was founded again.
    pub generation: Generation,
    /// Its newest stamp, as this node knows it.
    pub stamp: Stamp,
    /// The engine's election count; 0 on nodes that only follow.
    pub term: u64,
    /// What its writes may rely on now: strong while the newest promise of most of its roster is
    /// its master's stamp, and they noted the sync set.
    pub strength: Strength,
    /// Why they are weak, where they are.
    pub weak: Option<Weak>,
    /// It descends from the founding with the token, and so may be strong.
    pub descends: bool,
    /// Under which founding number it is strong, or what it comes from was; 0 where none was.
    pub founding: Founding,
    /// From which history it was forked, and where.
    pub parent: Option<(Lineage, u64)>,
    /// Whether it ever acknowledged anything.
    pub acknowledged: bool,
    /// Who decides, if anybody does now.
    pub master: Option<NodeId>,
    /// When it was last heard of here: a message of the log, or on followers its announcement.
    pub heard: Option<Time>,
    /// Who votes beside it.
    pub backups: Vec<NodeId>,
    /// Who is about to.
    pub learners: Vec<NodeId>,
    /// On whose disks every acknowledgement is.
    pub sync_set: Vec<NodeId>,
    /// Who may become a manager, best first.
    pub roster: Vec<RosterView>,
    /// The highest place that is decided, and of it what this node applied. 0 on followers.
    pub committed: u64,
    /// See `committed`.
    pub applied: u64,
    /// The last place of the log here, decided or not. 0 on followers.
    pub last: u64,
    /// Counts the changes of the sync set: of two that are known the higher is the newer. 0 on
    /// followers.
    pub sync_version: u64,
    /// Until when the master may acknowledge and read, on the master.
    pub lease_until: Option<Time>,
    /// How long this node has been master.
    pub master_since: Option<Time>,
    /// How much of the roster its master has behind it.
    pub authority: Authority,
}

/// How much of the roster a master has behind it: what single writers, new waves and changes
/// of the roster ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// How many are on the roster; 0 where no master says.
    pub roster: usize,
    /// How many of them the master sees, itself among them.
    pub there: usize,
    /// Who has strict authority, a lease of a majority of the roster, if anybody of this flock has.
    pub holder: Option<NodeId>,
    /// Until when, on the holder, which renews it all the time.
    pub until: Option<Time>,
}

impl Authority {
    /// Whether the master sees more than half of the roster.
    #[must_use]
    pub const fn is_majority(&self) -> bool {
        self.roster > 0 && self.there > self.roster / 2
    }
}

/// Why what a master acknowledges now is weak. Sent: new ones only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Weak {
    /// No founding token was ever used for its history.
    NoToken,
    /// Its history comes from a strong one, and went on without most of its roster; or another was
    /// founded since under a higher number.
    Parted,
    /// It is being handed over to another flock.
    Merging,
    /// Its master has no strict authority: most of the roster has not promised it, or not lately.
    NoAuthority,
    /// Most of the roster has not noted on whose disks acknowledged writes are.
    Unwitnessed,
    /// It may be strong, and its master has not said so here.
    Untold,
}

impl fmt::Display for Weak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoToken => "no founding token was used",
            Self::Parted => "it went on without most of a strong flock's roster",
            Self::Merging => "it merges into another flock",
            Self::NoAuthority => "most of the roster has not promised its master anything lately",
            Self::Unwitnessed => "most of the roster has not noted the sync set yet",
            Self::Untold => "its master has not said here that it is strong",
        })
    }
}

/// A place on the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterView {
    /// Whose.
    pub node: NodeId,
    /// The product of the two below, 0 to 1000.
    pub standing: u16,
    /// What it has to spare, 0 to 1000.
    pub resources: u16,
    /// How much it was there lately, 0 to 1000 (DVM-12, 14).
    pub availability: u16,
    /// Whether it is there now.
    pub present: bool,
    /// Never more than a witness.
    pub witness: bool,
    /// An operator's hold.
    pub held: bool,
    /// Since when, as far as this node's agent knows, and so for at least so long.
    pub held_since: Option<Time>,
    /// Since when it says that its baseline is not well, if it does.
    pub unwell: Option<Time>,
    /// Nobody looks for it any more.
    pub given_up: bool,
    /// What this node saw of it since its agent started.
    pub seen: Seen,
}

/// When a node was there and when not, as another saw it in this life of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Since when it is there, or away.
    pub since: Time,
    /// How often it went away.
    pub absences: u32,
    /// For how long in all, now included.
    pub away: Duration,
    /// When it last came back, and how long it had been away.
    pub returned: Option<(Time, Duration)>,
}

/// A flock that somebody announces, or announced lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherFlock {
    /// Its transient name.
    pub name: String,
    /// Its history.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: Generation,
    /// Its stamp.
    pub stamp: Stamp,
    /// Its master, if it has one.
    pub master: Option<NodeId>,
    /// How many announce now that they are of it.
    pub members: usize,
    /// When somebody last did.
    pub seen: Time,
}

/// One thing that is waited for (invariant 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For what.
    pub what: Wait,
    /// Since when.
    pub since: Time,
    /// Until when, if a time is set.
    pub until: Option<Time>,
}

/// What may be waited for. Sent: new ones only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wait {
    /// A flock to join, before one is founded.
    Flock,
    /// The engine to elect a master.
    Election,
    /// The new master's first stamp to be decided.
    Stamp,
    /// A second and third eligible node.
    Backups,
    /// A learner to catch up.
    Learner(NodeId),
    /// A silent manager to come back before it is replaced.
    Manager(NodeId),
    /// A majority of the managers, or two more eligible nodes.
    Managers,
    /// The other managers of the time before the restart, to compare logs with.
    Comparison,
    /// A member of the newest sync set: it alone surely has everything.
    SyncMember,
    /// This node to be well enough to manage.
    Baseline,
    /// A merge into another flock.
    Merge(Lineage),
    /// The disk.
    Disk,
    /// An eligible node to meet. Past the time it retires; a retired one waits without end.
    Company,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flock => f.write_str("waits for a flock to join"),
            Self::Election => f.write_str("waits for an election"),
            Self::Stamp => f.write_str("waits for the new master's first stamp"),
            Self::Backups => f.write_str("waits for a second and third eligible node"),
            Self::Learner(node) => write!(f, "waits for learner {node:?} to catch up"),
            Self::Manager(node) => write!(f, "waits for manager {node:?} to come back"),
            Self::Managers => f.write_str("waits for the other managers or two eligible nodes"),
            Self::Comparison => f.write_str("waits for the other managers to compare logs with"),
            Self::SyncMember => f.write_str("waits for a member of the newest sync set"),
            Self::Baseline => f.write_str("waits until its baseline is well"),
            Self::Merge(lineage) => write!(f, "waits for the merge into {lineage:?}"),
            Self::Disk => f.write_str("waits for the disk"),
            Self::Company => f.write_str("waits to meet an eligible node"),
        }
    }
}

impl Waiting {
    pub(crate) fn new(what: Wait, since: Time, span: Option<Duration>) -> Self {
        Self { what, since, until: span.map(|span| since + span) }
    }
}
