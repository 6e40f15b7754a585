//! Images on this node, and waves (DLIF-16 to DLIF-24).

use serde::{Deserialize, Serialize};
use skep_base::{Digest, GroupName, ImageName, NodeName, WallTime};

use super::Text;

/// One row of `GET /v1/images`: one version of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The image.
    pub name: ImageName,
    /// The version: digest of its signed manifest.
    pub version: Text<Digest>,
    /// Who signed it.
    pub queen: NodeName,
    /// When it was built.
    pub built: WallTime,
    /// Entries in the tree: files, directories, links and the rest.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Chunks that are on this node.
    pub chunks_here: u64,
    /// Where this node has it applied.
    pub applied_at: Option<String>,
}

/// `GET /v1/images/{name}`: a version with what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDetail {
    /// The row.
    pub image: Image,
    /// The tree's entries in the manifest's order, at most [`super::MAX_ENTRIES_SHOWN`].
    pub entries: Vec<Entry>,
    /// Whether there are more entries than that.
    pub truncated: bool,
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path below the root; bytes that are no UTF-8 are escaped as `\xNN`.
    pub path: String,
    /// `file`, `directory`, `symlink`, `hard-link`, `fifo`, `device`, `socket`.
    pub kind: String,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
}

/// Query of `GET /v1/images/{name}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichVersion {
    /// The first digits of a version; the newest where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Body of `POST /v1/images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneImages {
    /// Versions of each image to keep beside those that are applied or rolled out; as configured
    /// where absent, all where 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Only tell what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// One version of an image that a prune removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedVersion {
    /// The image.
    pub name: ImageName,
    /// The number of the version among those of the image here.
    pub number: u64,
    /// The version, where its seal can be read.
    pub version: Option<Text<Digest>>,
}

/// Answer to `POST /v1/images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Nothing was removed: this is what would be.
    pub dry_run: bool,
    /// Whether all chunks were looked at; a build or a wave that begins ends it early.
    pub complete: bool,
    /// Versions that went.
    pub removed: Vec<PrunedVersion>,
    /// Versions that stay.
    pub kept: u32,
    /// Chunks that went: of no version that stays and of no wave under way.
    pub chunks: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Files that a killed process had left half written.
    pub unfinished: u64,
    /// Versions that stay and cannot be read, each with the reason. While there are any, no chunk
    /// goes: it might be theirs.
    pub unreadable: Vec<String>,
}

/// Body of `POST /v1/waves`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartWave {
    /// The image.
    pub image: ImageName,
    /// The first digits of a version; the newest where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// To whom, at most [`super::MAX_GROUPS_A_WAVE`].
    pub to: Vec<GroupName>,
    /// The absolute path that becomes the tree.
    pub at: String,
    /// Set what an ordinary user can set and list the rest, instead of failing for it.
    #[serde(default)]
    pub as_user: bool,
    /// Apply it again where it was applied already.
    #[serde(default)]
    pub again: bool,
}

/// A wave's name, unique in its bloc; made by the queen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaveId(pub String);

impl std::fmt::Display for WaveId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// How far a wave is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaveState {
    /// Some present target is not done.
    Running,
    /// Every target has it (DLIF-10).
    Done,
    /// Every present target is done or has failed, and at least one has failed.
    Failed,
    /// A newer wave of the same image at the same path took its place.
    Superseded,
}

impl WaveState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// Whether it will change no more unless a node joins.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Running)
    }
}

/// One row of `GET /v1/waves`; `GET /v1/waves/{id}` adds the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Its name.
    pub id: WaveId,
    /// What is rolled out.
    pub image: ImageName,
    /// Which version of it.
    pub version: Text<Digest>,
    /// To whom.
    pub to: Vec<GroupName>,
    /// Where.
    pub at: String,
    /// From whom.
    pub queen: NodeName,
    /// How far.
    pub state: WaveState,
    /// When it was started.
    pub started: WallTime,
    /// Milliseconds from then until now or until it was final.
    pub elapsed_ms: u64,
    /// Bytes of the image's chunks.
    pub image_bytes: u64,
    /// Bytes of chunks that left the queen for it.
    pub queen_bytes: u64,
    /// Targets.
    pub targets: u32,
    /// Targets that have it.
    pub done: u32,
    /// Targets that cannot.
    pub failed: u32,
}

/// `GET /v1/waves/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveDetail {
    /// The row.
    pub wave: Wave,
    /// Each target, in order of name.
    pub nodes: Vec<WaveNode>,
}

/// What a target does about a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaveStep {
    /// Was not heard of since the wave began.
    Waiting,
    /// Compares what it has with the manifest.
    Comparing,
    /// Fetches chunks that it lacks.
    Fetching,
    /// Lays the tree out beside the active one.
    Staging,
    /// Changes over.
    Switching,
    /// Has it.
    Done,
    /// Cannot; the error says why.
    Failed,
}

impl WaveStep {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Comparing => "comparing",
            Self::Fetching => "fetching",
            Self::Staging => "staging",
            Self::Switching => "switching",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// One target of a wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveNode {
    /// Which.
    pub node: NodeName,
    /// What is derived of it.
    pub presence: super::Presence,
    /// What it does.
    pub step: WaveStep,
    /// Bytes of chunks it has of those the image needs.
    pub bytes_have: u64,
    /// Bytes of chunks that the image needs.
    pub bytes_all: u64,
    /// Bytes it fetched over the network, the manifest's included, also before it was last started.
    pub fetched: u64,
    /// Of them, bytes from the queen.
    pub from_queen: u64,
    /// Nodes it fetched from, also before it was last started.
    pub sources: u32,
    /// Milliseconds from the wave's start until it had it, or until now.
    pub elapsed_ms: u64,
    /// What went wrong: node, path and what to do.
    pub error: Option<String>,
    /// What could not be set without root, where the wave runs `--as-user`.
    pub not_set: Vec<String>,
}
