//! How the protocol names an update.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use skep_base::NodeName;

/// An update's identity, the same at every member and at every hand-over. Written
/// `origin:incarnation:sequence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The node that published it.
    pub origin: NodeName,
    /// In which of its lives.
    pub incarnation: u64,
    /// As its how-manieth.
    pub sequence: u64,
}

/// What stood where an update's identity was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the identity of an update: expected node:incarnation:sequence")]
pub struct IdError(String);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.origin, self.incarnation, self.sequence)
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            let (origin, rest) = text.split_once(':')?;
            let (incarnation, sequence) = rest.split_once(':')?;
            Some(Self {
                origin: origin.parse().ok()?,
                incarnation: incarnation.parse().ok()?,
                sequence: sequence.parse().ok()?,
            })
        };
        parse().ok_or_else(|| IdError(text.chars().take(64).collect()))
    }
}
