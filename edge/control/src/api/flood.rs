//! Publishing to a group and reading its log (FLOOD-1 to FLOOD-8).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use skep_base::{NodeName, WallTime};

use super::text_serde;

/// A place in one group's log on one node: the number of the last update read. Zero is before the
/// first. It means nothing on another node.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Cursor(pub u64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An update's identity, the same at every member. Written `origin:incarnation:sequence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpdateId {
    /// Who published it.
    pub origin: NodeName,
    /// In which of its lives.
    pub incarnation: u64,
    /// As its how-manieth.
    pub sequence: u64,
}

impl fmt::Display for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.origin, self.incarnation, self.sequence)
    }
}

/// What stood where an update's identity was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the identity of an update: expected node:incarnation:sequence")]
pub struct UpdateIdError;

impl FromStr for UpdateId {
    type Err = UpdateIdError;

    fn from_str(text: &str) -> Result<Self, UpdateIdError> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(UpdateIdError);
        let id = Self {
            origin: next()?.parse().map_err(|_| UpdateIdError)?,
            incarnation: next()?.parse().map_err(|_| UpdateIdError)?,
            sequence: next()?.parse().map_err(|_| UpdateIdError)?,
        };
        match parts.next() {
            None => Ok(id),
            Some(_) => Err(UpdateIdError),
        }
    }
}

text_serde!(UpdateId);

/// Bytes of an update; base64 in JSON. What they mean is the publisher's affair (FLOOD-3).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Body(pub Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        data_encoding::BASE64.encode_display(&self.0).fmt(f)
    }
}

impl FromStr for Body {
    type Err = data_encoding::DecodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        data_encoding::BASE64.decode(text.as_bytes()).map(Self)
    }
}

text_serde!(Body);

/// Answer to `POST /v1/groups/{group}/updates`: it is on this node's disk and on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The identity it got.
    pub id: UpdateId,
    /// Its place in this node's log.
    pub cursor: Cursor,
}

/// One update, as a subscriber gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Its place in this node's log.
    pub cursor: Cursor,
    /// Its identity.
    pub id: UpdateId,
    /// How old it was when it was read, in milliseconds since its publication.
    pub age_ms: u64,
    /// When it came into this node's log.
    pub logged: WallTime,
    /// Whether an earlier update of its origin was reported as missing before it came.
    pub late: bool,
    /// What was published; empty where it is `stored`.
    pub body: Body,
    /// The length of a body that is too long for an answer: it is read over the client port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
}

/// Query of `POST /v1/groups/{group}/updates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The export commands that stand behind it: what `SKEP_TRAIL` says to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trail: Option<String>,
}

/// Query of `GET /v1/groups/{group}/updates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadUpdates {
    /// Read on from this subscriber's committed cursor. The name comes into being with his first
    /// commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<String>,
    /// Read on from here instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
    /// At most so many; bounded by [`super::MAX_UPDATES_A_READ`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Wait so many milliseconds for the first; bounded by [`super::MAX_WAIT_MS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u32>,
}

/// Answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updates {
    /// In the log's order.
    pub updates: Vec<Update>,
    /// Where to read on: the last one's cursor, or where the reading began.
    pub next: Cursor,
    /// Updates that are gone from the log though nobody of that name has read them: purged, or
    /// dropped as the drop order says (FLOOD-33).
    pub lost: u64,
    /// Where in the log updates are missing that did not come or were dropped: whose, and which.
    /// They are handed over late if they come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Missing>,
}

/// Updates of one origin that a subscriber does not get, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Commit this, or a later one, when it is dealt with.
    pub cursor: Cursor,
    /// The last one before them; nothing where none was ever seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<UpdateId>,
    /// The last one that is missing.
    pub up_to: UpdateId,
    /// Why.
    pub why: String,
}

/// Body of `POST /v1/groups/{group}/subscribers/{subscriber}`: all up to here is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// A cursor that a read returned. One that lies before the committed one changes nothing.
    pub cursor: Cursor,
}

/// Answer to it, on disk by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The cursor that holds now.
    pub cursor: Cursor,
}
