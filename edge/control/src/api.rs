//! What the agent is asked and what it answers: the JSON of the API, version 1.
//!
//! Everything here is plain data. Names are validated by their types as they are read; every list
//! that a client sends has a bound, named here and checked by the server before the agent sees it.
//! Readers of an answer ignore fields they do not know, so that answers may grow; a request with a
//! field the agent does not know is refused, so that a misspelt wish is never silently dropped.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod catalog;
mod event;
mod flood;
mod image;
mod node;
mod notify;
mod topology;

pub use catalog::{
    Absence, Authority, Catalog, CatalogChange, CatalogDiff, CatalogEntry, CatalogHistory,
    CatalogText, DiffCatalog, Field, Freshness, ImportCatalog, Imported, MAX_IMPORT_BYTES,
    ManageFlock, Management, OtherFlock, ReadCatalog, Recovery, Seen, Spare, Split, Standing,
    SyncMember, WriteCatalog, Written,
};
pub use event::{Event, EventKind, ReadEvents};
pub use flood::{
    Body, Commit, Committed, Cursor, Missing, Publish, Published, ReadUpdates, Update, UpdateId,
    UpdateIdError, Updates,
};
pub use image::{
    Entry, Image, ImageDetail, PruneImages, Pruned, PrunedVersion, StartWave, Wave, WaveDetail,
    WaveId, WaveNode, WaveState, WaveStep, WhichVersion,
};
pub use node::{
    Accepted, AgentState, CaStatus, Certificate, Check, Flock, Founding, Group, Health,
    JoinAddress, Link, LinkKind, Member, Metric, MetricKind, Presence, Problem, ReadFlock,
    Shutdown, Status, Subscriber, Wait,
};
pub use notify::{
    FlockChange, Incident, IncidentTold, Notices, NotifyTarget, NotifyTested, TestNotify, ToldBy,
};
pub use topology::{
    DrawAs, HashReason, OverlayBasis, ReadTopology, RoundTrip, RttBasis, Topology, TopologyDecree,
    TopologyEdge, TopologyFailure, TopologyFigures, TopologySite,
};

/// What every path begins with. A change that an old client cannot read gets the next number.
pub const PREFIX: &str = "/v1";

/// Longest body of an update: no configuration lets flood take a longer one. A tree is an image.
pub const MAX_UPDATE_BYTES: usize = 8 * 1024 * 1024;
/// Longest body of every other request: a wave's order with all its groups is a few kilobytes.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Longest answer the client reads: members, links and edges of some thousand nodes are megabytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Addresses in one `join-address`.
pub const MAX_JOIN_ADDRESSES: usize = 64;
/// Groups that one wave may name.
pub const MAX_GROUPS_A_WAVE: usize = 64;
/// Updates in one answer, whatever was asked for.
pub const MAX_UPDATES_A_READ: u32 = 1024;
/// Bytes of bodies after which an answer is closed though more updates are there.
pub const MAX_BYTES_A_READ: usize = MAX_UPDATE_BYTES;
/// Longest wait for updates: below the idle limits of anything that may stand between.
pub const MAX_WAIT_MS: u32 = 30_000;
/// Entries of an image that are listed in one answer.
pub const MAX_ENTRIES_SHOWN: usize = 10_000;
/// Longest name of a subscriber.
pub const MAX_SUBSCRIBER_BYTES: usize = 64;

/// A value that JSON shows as the text that people see: digests and identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<T>(pub T);

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// The wire form of every failure: `{"error": {..}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: Refusal,
}

/// Why the agent did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The class, for programs.
    pub code: Code,
    /// Who, what and why, for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal of class `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Class of a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request cannot be understood: 400.
    Malformed,
    /// The caller may not: 403.
    Denied,
    /// There is no such thing: 404.
    NotFound,
    /// The path exists, and not for this method: 405.
    Method,
    /// It contradicts what is there: 409.
    Conflict,
    /// Longer than the bound: 413.
    TooLarge,
    /// Understood, and not possible as it stands: 422.
    Refused,
    /// Too much at once, try again: 429.
    Busy,
    /// The agent failed; its log says more: 500.
    Internal,
    /// The agent starts or stops: 503.
    Unavailable,
    /// The agent did not answer in time: 504.
    Timeout,
    /// A class that this build does not know.
    #[serde(other)]
    Unknown,
}

impl Code {
    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Refused => 422,
            Self::Busy => 429,
            Self::Internal | Self::Unknown => 500,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// Serialises a type as its text.
macro_rules! text_serde {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_serde;
