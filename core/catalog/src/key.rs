//! What an entry is called: its kind and its name within the kind.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of an entry: as long as the names of groups and nodes, which it may be.
pub const MAX_KEY_NAME_BYTES: usize = 200;

/// What an entry is about. Others than those named here are a newer build's: kept, not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind(pub u16);

impl Kind {
    /// A group among whose members updates are flooded.
    pub const GROUP: Self = Self(1);
    /// Who may do what.
    pub const RULE: Self = Self(2);
    /// A node that is a member no more, whatever its certificate says.
    pub const EXPELLED: Self = Self(3);
    /// Something that the whole bloc agrees on.
    pub const SETTING: Self = Self(4);
    /// What one side of a merge wanted and the other's version stands in the way of.
    pub const CONFLICT: Self = Self(5);
    /// An incident that somebody is told of: the agents' own notes, of which a merge keeps those of
    /// the flock that leads, and which are in no backup.
    pub const NOTICE: Self = Self(6);
    /// Somebody who is told of incidents, whoever is master.
    pub const TARGET: Self = Self(7);

    const WORDS: [(Self, &'static str); 7] = [
        (Self::GROUP, "group"),
        (Self::RULE, "rule"),
        (Self::EXPELLED, "expelled"),
        (Self::SETTING, "setting"),
        (Self::CONFLICT, "conflict"),
        (Self::NOTICE, "notice"),
        (Self::TARGET, "target"),
    ];

    /// The word for it, where this build knows it.
    #[must_use]
    pub fn word(self) -> Option<&'static str> {
        Self::WORDS.iter().find(|(kind, _)| *kind == self).map(|(_, word)| *word)
    }

    /// Whether operators write such entries, and not merges or agents.
    #[must_use]
    pub const fn is_written_by_hand(self) -> bool {
        !matches!(self, Self::CONFLICT | Self::NOTICE)
    }

    /// The kinds that an operator may write.
    pub fn writable() -> impl Iterator<Item = (Self, &'static str)> {
        Self::WORDS.into_iter().filter(|(kind, _)| kind.is_written_by_hand())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word() {
            Some(word) => f.pad(word),
            None => f.pad(&format!("kind-{}", self.0)),
        }
    }
}

/// Why a text does not name an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No slash between kind and name.
    #[error("{0:?} names no entry: write KIND/NAME, such as group/web")]
    Shape(String),
    /// A kind that this build does not know.
    #[error(
        "{0:?} is no kind of entry that this build knows: group, rule, expelled, setting, \
         conflict, notice, target"
    )]
    Kind(String),
    /// A name with something in it that none may have.
    #[error(
        "{0:?} is no name of an entry: 1 to 200 letters, digits, '.', '-' and '_', the first a \
         letter or digit"
    )]
    Name(String),
}

/// The kind of an entry and its name: `group/web`. Names are kept in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    kind: Kind,
    name: Arc<str>,
}

impl Key {
    /// An entry's name, checked.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(kind: Kind, name: &str) -> Result<Self, KeyError> {
        let fits = !name.is_empty() && name.len() <= MAX_KEY_NAME_BYTES;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !(fits && begins && name.chars().all(plain)) {
            return Err(KeyError::Name(name.chars().take(64).collect()));
        }
        Ok(Self { kind, name: name.to_owned().to_ascii_lowercase().into() })
    }

    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name within the kind.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.kind, self.name))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let shown = || text.chars().take(64).collect();
        let (kind, name) = text.split_once('/').ok_or_else(|| KeyError::Shape(shown()))?;
        let known = Kind::WORDS.iter().find(|(_, word)| *word == kind).map(|(kind, _)| *kind);
        let numbered = || kind.strip_prefix("kind-")?.parse().ok().map(Kind);
        let kind = known.or_else(numbered).ok_or_else(|| KeyError::Kind(shown()))?;
        Self::new(kind, name)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.kind, &*self.name).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, name): (Kind, String) = Deserialize::deserialize(deserializer)?;
        let key = Self::new(kind, &name).map_err(D::Error::custom)?;
        // Two spellings of one name would be two sets of bytes for one entry.
        if *key.name != *name {
            return Err(D::Error::custom("a name in upper case"));
        }
        Ok(key)
    }
}
