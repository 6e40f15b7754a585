//! Names, validated once. A value of one of these types is a valid name; nothing later checks
//! again.
//!
//! Every name is one or more labels joined by dots, each label as in the domain name system (RFC
//! 1123): letters, digits and hyphens, not at its ends, at most 63 bytes; 200 bytes in all. Names
//! are kept in lower case, so that two spellings never make two nodes. They are safe as file names,
//! in a certificate's subject (`CN=…, DC=…`, BLOC-46), in a URI and on a terminal.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name in bytes: `skep://` + two names stays well below a certificate's limits.
pub const MAX_NAME_BYTES: usize = 200;
/// Longest label in bytes (RFC 1035).
pub const MAX_LABEL_BYTES: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all, or nothing between two dots.
    #[error("{kind} name {text:?} has an empty label")]
    Empty {
        /// What was being named.
        kind: &'static str,
        /// What was given, cut at 64 characters.
        text: String,
    },
    /// Over [`MAX_NAME_BYTES`] or [`MAX_LABEL_BYTES`].
    #[error("{kind} name {text:?} is too long: at most 63 bytes a label, 200 in all")]
    TooLong {
        /// What was being named.
        kind: &'static str,
        /// What was given, cut at 64 characters.
        text: String,
    },
    /// A byte that no name may hold, or a hyphen at the end of a label.
    #[error(
        "{kind} name {text:?} may hold only letters, digits, dots and inner hyphens, \
         not {found:?} there"
    )]
    Character {
        /// What was being named.
        kind: &'static str,
        /// What was given, cut at 64 characters.
        text: String,
        /// The offending character.
        found: char,
    },
}

fn validate(kind: &'static str, text: &str) -> Result<Arc<str>, NameError> {
    let shown = || text.chars().take(64).collect::<String>();
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { kind, text: shown() });
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err(NameError::Empty { kind, text: shown() });
        }
        if label.len() > MAX_LABEL_BYTES {
            return Err(NameError::TooLong { kind, text: shown() });
        }
        if let Some(found) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            return Err(NameError::Character { kind, text: shown(), found });
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(NameError::Character { kind, text: shown(), found: '-' });
        }
    }
    Ok(text.to_owned().to_ascii_lowercase().into())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Validates `text` and keeps it in lower case.
            ///
            /// # Errors
            /// [`NameError`] says which rule the text breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                validate($kind, text).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(D::Error::custom)
            }
        }
    };
}

name!(
    /// The trust domain: all nodes whose certificates carry it (BLOC-8).
    BlocName, "bloc"
);
name!(
    /// One node of a bloc, as its certificate names it.
    NodeName, "node"
);
name!(
    /// Nodes that share a medium: a rack, a LAN (DLIF-8).
    NetworkName, "network"
);
name!(
    /// Nodes among which updates are flooded (FLOOD-25).
    GroupName, "group"
);
name!(
    /// What an application waits under for channels of others (FLOOD-2).
    ChannelName, "channel"
);
name!(
    /// A tree or file that is rolled out, over all its versions.
    ImageName, "image"
);

impl GroupName {
    /// The group that every node of every bloc is in.
    pub const ALL: &'static str = "all";

    /// The group `all`.
    #[must_use]
    pub fn all() -> Self {
        Self(Arc::from(Self::ALL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn names_are_folded_to_lower_case() {
        assert_eq!(NodeName::new("Web-1.Example").unwrap().as_str(), "web-1.example");
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_that_rule() {
        let error = |text: &str| NodeName::new(text).unwrap_err();
        assert!(matches!(error(""), NameError::Empty { .. }));
        assert!(matches!(error("a..b"), NameError::Empty { .. }));
        assert!(matches!(error("a/b"), NameError::Character { found: '/', .. }));
        assert!(matches!(error("-a"), NameError::Character { found: '-', .. }));
        assert!(matches!(error("a\0"), NameError::Character { found: '\0', .. }));
        assert!(matches!(error(&"a".repeat(64)), NameError::TooLong { .. }));
        assert!(matches!(error(&"a.".repeat(101)), NameError::TooLong { .. }));
        assert!(error(&"é".repeat(100)).to_string().len() < 300);
    }
}
