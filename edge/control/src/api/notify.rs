//! Incidents, and who is told of them; what happens to a flock.

use serde::{Deserialize, Serialize};
use skep_base::{NodeName, WallTime};

/// What happened to the flock, as a hook gets it as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlockChange {
    /// The flock's transient name, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flock: Option<String>,
    /// How often it was founded again.
    pub generation: u64,
    /// Who decides, if anybody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<NodeName>,
    /// What this node is in it; nothing in what another node told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// How many are present.
    pub present: u32,
    /// Who parted or came back, or is master: at most 64 are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeName>,
    /// How many those are, named or not.
    #[serde(default)]
    pub count: u32,
    /// What it was before: a flock's name, a master's, or a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The master that told it, of what is listed for the whole flock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<NodeName>,
    /// The stamp under which that node was master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// Of a flock that went on in this one: how many entries of the catalog were handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<u64>,
}

/// Answer of `GET /v1/notify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notices {
    /// The targets of the catalog and of this node's configuration. They get letters from it
    /// while it is the master.
    pub targets: Vec<NotifyTarget>,
    /// The targets of the master that was told of incidents last, as it noted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_by: Option<ToldBy>,
    /// What the flock remembers, newest first.
    pub incidents: Vec<Incident>,
    /// Incidents that this node could not note since its start, for there were too many.
    pub dropped: u64,
}

/// Which master tells whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldBy {
    /// The master.
    pub node: String,
    /// Its targets.
    pub targets: String,
}

/// Somebody who is told of incidents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyTarget {
    /// What it is called.
    pub name: String,
    /// `smtp`, `sendmail`, `webhook` or `command`.
    pub way: String,
    /// Where its letters go.
    pub place: String,
    /// Who says that there is such a target: `host`, this host's configuration; `catalog`; or
    /// both, of which the host counts.
    #[serde(default)]
    pub from: String,
    /// The kinds of incidents that it is told of; all where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// What this node lacks to tell it anything, if something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
    /// Letters that it has taken from this node since its start.
    pub taken: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why it takes nothing now, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// For how long it has taken nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_ms: Option<u64>,
    /// In how long it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_ms: Option<u64>,
}

/// Something that is or was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What sort of thing, such as `manager-lost`.
    pub kind: String,
    /// With which node, flock or history.
    pub subject: String,
    /// Which occurrence of it.
    pub id: String,
    /// How often it began and ended: odd while it is open.
    pub step: u32,
    /// `open`, `over`, or `happened` where it was over at once.
    pub state: String,
    /// What happened.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// Which node saw it.
    pub seen_by: String,
    /// When it began, by that node's wall clock.
    pub opened: WallTime,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<WallTime>,
    /// Who was told of it.
    pub told: Vec<IncidentTold>,
    /// Whether this node tells it by itself, having no master: then no other node knows of it.
    pub alone: bool,
}

/// How far a target was told of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentTold {
    /// Which target.
    pub target: String,
    /// The last step that it has taken; 0 where none.
    pub step: u32,
    /// The letter that is on its way to it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<String>,
}

/// Body of `POST /v1/notify/test`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestNotify {
    /// Only to this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What became of one letter of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyTested {
    /// Which target.
    pub target: String,
    /// What it is.
    pub way: String,
    /// Where its letters go.
    pub place: String,
    /// Whether it has taken the letter.
    pub taken: bool,
    /// What it answered, or why there is no answer.
    pub said: String,
    /// What to do, where it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Milliseconds that it took.
    pub took_ms: u64,
}
