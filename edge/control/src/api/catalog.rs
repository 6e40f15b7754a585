//! The catalog, and who manages the flock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_base::{NodeName, WallTime};

use super::{Text, Wait};

/// Longest file that is imported: a full catalog as text.
pub const MAX_IMPORT_BYTES: usize = 24 * 1024 * 1024;

/// One value of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Field {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Words.
    Text(String),
    /// Several words.
    List(Vec<String>),
}

/// What an entry says, or said once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// Kind and name: `group/web`.
    pub key: String,
    /// Compare-and-set compares this.
    pub revision: u64,
    /// Under which mastership it was written.
    pub stamp: String,
    /// Who wrote it, as he said.
    pub who: String,
    /// When, by the clock of the node where he did.
    pub when: WallTime,
    /// Where it was written, where that was in another flock, which merged into this one: the stamp
    /// and the index there.
    pub merged_from: Option<String>,
    /// The version of what the fields mean.
    pub schema: u16,
    /// Whether it was removed.
    pub removed: bool,
    /// What it says. Empty where this build cannot read it.
    pub fields: BTreeMap<String, Field>,
}

/// Query of `GET /v1/catalog`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadCatalog {
    /// Only entries of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// How fresh is what a node shows of the catalog: a part of every answer about it.
///
/// Every node answers from its own copy. That is what the flock says now where the node reaches
/// its master; elsewhere it is what the flock said once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// Whether it may be old: no master is reached, or one signed what has not come yet.
    pub stale: bool,
    /// The master that the node reaches; nothing where it reaches none, as semi-masters, holding
    /// and retired managers do not.
    pub master: Option<NodeName>,
    /// For how long it has reached none, in milliseconds.
    pub unreached_ms: Option<u64>,
    /// Whether it had reached one before that, since its agent started.
    pub reached_before: bool,
    /// The flock that the node is of, where it knows.
    pub flock: Option<String>,
    /// What is shown is so after this command.
    pub index: u64,
    /// Under which mastership.
    pub stamp: String,
    /// Whether it is the newest that the node knows a master to have signed.
    pub newest_signed: bool,
    /// Who signed that.
    pub signed_by: Option<NodeName>,
    /// For how long that has been known, in milliseconds.
    pub known_ms: u64,
    /// When an entry was written last, by its author's clock; nothing where none ever was.
    pub changed: Option<WallTime>,
}

/// `GET /v1/catalog`: the entries, and how fresh they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// After which command.
    pub index: u64,
    /// Under which mastership.
    pub stamp: String,
    /// Digest of all that is in it: equal wherever the catalog is equal.
    pub root: Text<skep_base::Digest>,
    /// Whether it is the newest that this node knows a master to have signed, and a master is
    /// reached now: the opposite of [`Freshness::stale`].
    pub current: bool,
    /// Who signed that.
    pub signed_by: Option<NodeName>,
    /// For how long it has been known, in milliseconds.
    pub known_ms: u64,
    /// Whether it may be old, and since when; nothing from an agent that does not say.
    #[serde(default)]
    pub freshness: Option<Freshness>,
    /// By key.
    pub entries: Vec<CatalogEntry>,
}

/// `GET /v1/catalog/{kind}/{name}`: an entry and what it said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogHistory {
    /// The newest first.
    pub versions: Vec<CatalogEntry>,
    /// Whether older ones were let go.
    pub cut: bool,
    /// How fresh that is; nothing from an agent that does not say.
    #[serde(default)]
    pub freshness: Option<Freshness>,
}

/// Query of `GET /v1/catalog-diff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffCatalog {
    /// After this index; from the beginning where it is left out.
    #[serde(default)]
    pub from: u64,
    /// Up to this one; up to now where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// An entry that says something else than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogChange {
    /// Which.
    pub key: String,
    /// What it said; nothing where it was not there.
    pub before: Option<CatalogEntry>,
    /// What it said is not kept any more.
    pub before_lost: bool,
    /// What it says; nothing where it is not there.
    pub after: Option<CatalogEntry>,
}

/// `GET /v1/catalog-diff`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogDiff {
    /// After this index.
    pub from: u64,
    /// Up to this one.
    pub to: u64,
    /// By key.
    pub changes: Vec<CatalogChange>,
    /// How fresh that is; nothing from an agent that does not say.
    #[serde(default)]
    pub freshness: Option<Freshness>,
}

/// `POST /v1/catalog`: what an entry shall say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteCatalog {
    /// Which.
    pub key: String,
    /// Only if it is at this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Only if it is not there.
    #[serde(default)]
    pub new: bool,
    /// What it shall say; nothing removes it.
    pub fields: Option<BTreeMap<String, Field>>,
}

/// What became of a write: decided, and on every disk that it must be on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The command's index, the new revision of what it changed.
    pub index: u64,
    /// Under which mastership.
    pub stamp: String,
    /// `strong` or `weak`.
    pub strength: String,
    /// Entries that say something else now.
    pub changed: Vec<String>,
}

/// `GET /v1/catalog-export`: the catalog as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogText {
    /// TOML.
    pub text: String,
    /// How fresh that is; nothing from an agent that does not say.
    #[serde(default)]
    pub freshness: Option<Freshness>,
}

/// Query of `POST /v1/catalog-import`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportCatalog {
    /// Remove what the file does not name.
    #[serde(default)]
    pub replace: bool,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Entries that are set, or would be.
    pub set: Vec<String>,
    /// Entries that are removed, or would be.
    pub removed: Vec<String>,
    /// Entries that said so already.
    pub same: u32,
    /// `strong` or `weak`, as the weakest of the writes; nothing where nothing was written.
    pub strength: Option<String>,
    /// Why the rest was not written, if it was not.
    pub stopped: Option<String>,
}

/// `POST /v1/flock`: how the flock shall be managed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ManageFlock {
    /// The master hands over to its best backup.
    StepDown,
    /// The master hands over to this backup.
    Transfer {
        /// Which.
        node: NodeName,
    },
    /// This node becomes a backup, in the place of the lowest one.
    Promote {
        /// Which.
        node: NodeName,
    },
    /// This backup becomes eligible again, and another takes its place.
    Demote {
        /// Which.
        node: NodeName,
    },
    /// This node manages nothing until it is released.
    Hold {
        /// Which.
        node: NodeName,
    },
    /// It may manage again.
    Release {
        /// Which.
        node: NodeName,
    },
    /// This node is a member no more: an entry of the catalog.
    Expel {
        /// Which.
        node: NodeName,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The node that is asked founds the next generation from what it holds, whoever else may
    /// have more.
    Recover,
}

/// `GET /v1/flock-recovery`: what the node that is asked would found a flock from, and what would
/// be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The node that is asked.
    pub node: NodeName,
    /// Why it may not, if it may not.
    pub refused: Option<String>,
    /// What it holds, in words.
    pub holds: String,
    /// Up to which place.
    pub place: u64,
    /// The generation that it would found, at least.
    pub generation: u64,
    /// On whose disks every acknowledged write was, as far as is known here.
    pub sync_set: Vec<SyncMember>,
    /// What may be lost, in words.
    pub may_be_lost: Vec<String>,
    /// What a better copy would need, in words.
    pub better: Vec<String>,
}

/// A member of the sync set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncMember {
    /// Which.
    pub node: NodeName,
    /// Whether it is there.
    pub present: bool,
}

/// Who manages the flock; a part of `GET /v1/flock`.
///
/// [`Management::role`], [`Management::token`], [`Management::split`] and whether it is stable are
/// this node's own. All else is the master's to say: a node that follows knows of it what the
/// master announces, and one that was asked to ask says what the master answered, and who that was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Management {
    /// The master that told this; nothing where it is what this node knows of itself.
    #[serde(default)]
    pub told_by: Option<NodeName>,
    /// How long ago, in milliseconds; where nobody told, how long ago the master was last heard of.
    #[serde(default)]
    pub told_ms: Option<u64>,
    /// Why nobody told though the master was to be asked.
    #[serde(default)]
    pub untold: Option<String>,
    /// This node's role: `host`, `eligible`, `backup`, `master`, `semi-master` or `holding`.
    pub role: String,
    /// The flock's name, from its lineage; nothing where there is none.
    pub name: Option<String>,
    /// Nobody came, nobody went, and the master is the same for some time (BLOC-11): what the event
    /// `stable` tells.
    #[serde(default)]
    pub stable: bool,
    /// In how many milliseconds it is, if nothing changes until then.
    #[serde(default)]
    pub stable_in_ms: Option<u64>,
    /// Its history.
    pub lineage: Option<String>,
    /// How often it was founded again.
    pub generation: u64,
    /// The newest stamp.
    pub stamp: Option<String>,
    /// The number in it, which grows with every election, fork and merge.
    #[serde(default)]
    pub epoch: u64,
    /// The managers' election count; 0 where only the master knows it and did not tell.
    pub term: u64,
    /// `strong` or `weak`.
    pub strength: Option<String>,
    /// Why it is weak.
    #[serde(default)]
    pub weak: Option<String>,
    /// Under which founding number the flock is strong, or what it comes from was; 0: none.
    #[serde(default)]
    pub founding: u64,
    /// What becomes of the founding token that this node has; nothing where it has none.
    #[serde(default)]
    pub token: Option<String>,
    /// Who decides, if anybody does now.
    pub master: Option<NodeName>,
    /// For how long, in milliseconds, as the master says.
    #[serde(default)]
    pub leads_ms: Option<u64>,
    /// Who votes beside it.
    pub backups: Vec<NodeName>,
    /// Who is about to.
    pub learners: Vec<NodeName>,
    /// On whose disks every acknowledgement is.
    pub sync_set: Vec<NodeName>,
    /// Who may become a manager, best first.
    pub roster: Vec<Standing>,
    /// The highest place of the managers' log that is decided.
    pub committed: u64,
    /// What is waited for: by this node, and by the master that told.
    pub waits: Vec<Wait>,
    /// Other flocks of the bloc, announced now or in the last 24 hours.
    pub others: Vec<OtherFlock>,
    /// How much of the roster the master has behind it; nothing where there is no flock.
    pub authority: Option<Authority>,
    /// Whether new waves start here, and why.
    pub split: Split,
}

/// How much of its roster a master has behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// How many are on the roster; 0 where no master says.
    pub roster: u32,
    /// How many of them the master sees, itself among them.
    pub there: u32,
    /// Who has strict authority, a lease of a majority of the roster, if anybody has.
    pub holder: Option<NodeName>,
    /// For how much longer, in milliseconds: known to the holder alone, which renews it.
    pub until_ms: Option<u64>,
}

/// Whether new waves start in this part of the flock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// What the configuration says: `hold-minority`, `continue` or `hold`.
    pub policy: String,
    /// What is in force: a roster of one or two goes on.
    pub in_force: String,
    /// Whether a wave would be started now.
    pub may_start: bool,
    /// Why.
    pub why: String,
}

/// A place on the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whose.
    pub node: NodeName,
    /// 0 to 1000: the product of the two below.
    pub standing: u16,
    /// What it has to spare, 0 to 1000.
    pub resources: u16,
    /// How much it was there lately, 0 to 1000.
    pub availability: u16,
    /// Whether it is there now.
    pub present: bool,
    /// Never more than a witness.
    pub witness: bool,
    /// On hold by an operator's word.
    pub held: bool,
    /// Nobody looks for it any more.
    pub given_up: bool,
    /// What it says that it has to spare now, if it is present: the roster takes that over once a
    /// stay.
    pub resources_now: Option<u16>,
    /// Of what its resources are made, as it says now; nothing where they are set or usual.
    pub parts: Option<Spare>,
    /// For how long it is on hold, at least, in milliseconds.
    pub held_since_ms: Option<u64>,
    /// For how long it says that it is not well, in milliseconds.
    pub unwell_since_ms: Option<u64>,
    /// When it was there, as whoever tells saw it.
    pub seen: Seen,
}

/// What a node has to spare, part by part, each of 1000. Network and processor count four times
/// what memory and disk do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spare {
    /// Speed of the fastest interface that carries it, less what passes.
    pub network: u16,
    /// Processors, less what they do.
    pub processor: u16,
    /// The share that is available.
    pub memory: u16,
    /// Room, less what waits for the disk.
    pub disk: u16,
}

/// When a node was there and when not, as another saw it since its own agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// For how long it is there, or away, in milliseconds.
    pub since_ms: u64,
    /// How often it went away.
    pub absences: u32,
    /// For how long in all, now included.
    pub away_ms: u64,
    /// The last time that ended.
    pub last: Option<Absence>,
}

/// A time that a node was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// How long ago it came back, in milliseconds.
    pub ended_ms: u64,
    /// How long it had been away.
    pub lasted_ms: u64,
}

/// Another flock of the bloc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherFlock {
    /// Its name.
    pub name: String,
    /// Its history.
    #[serde(default)]
    pub lineage: String,
    /// Its generation.
    pub generation: u64,
    /// Its master, if it has one, or had one when it was last seen.
    pub master: Option<NodeName>,
    /// How many say now that they are of it.
    pub members: u32,
    /// How long ago somebody last said so, in milliseconds.
    #[serde(default)]
    pub seen_ms_ago: u64,
}
