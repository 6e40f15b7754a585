//! What a certificate lets its holder do beyond being a peer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One permission that the CA writes into a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May sign images and start waves (DLIF-3).
    Queen,
    /// May bring an image into its network.
    Princess,
    /// May be a master or a backup.
    Manager,
    /// May change things through another node's API.
    Operator,
}

impl Role {
    /// All roles, in the order of their bits.
    pub const ALL: [Self; 4] = [Self::Queen, Self::Princess, Self::Manager, Self::Operator];

    /// The word that stands in certificates and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queen => "queen",
            Self::Princess => "princess",
            Self::Manager => "manager",
            Self::Operator => "operator",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Queen => 1,
            Self::Princess => 1 << 1,
            Self::Manager => 1 << 2,
            Self::Operator => 1 << 3,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What stood where a role was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such role: {0:?}; roles are queen, princess, manager and operator")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| RoleError(text.chars().take(32).collect()))
    }
}

/// A set of roles.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Roles(u8);

impl Roles {
    /// No role: a plain peer.
    pub const NONE: Self = Self(0);

    /// This set and `role`.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | role.bit())
    }

    /// Whether `role` is in the set.
    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The roles in the set, in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<Roles> for u8 {
    fn from(roles: Roles) -> Self {
        roles.0
    }
}

impl TryFrom<u8> for Roles {
    type Error = RoleError;

    /// Refuses bits that stand for no role.
    fn try_from(bits: u8) -> Result<Self, RoleError> {
        let roles: Self = Role::ALL.into_iter().filter(|role| bits & role.bit() != 0).collect();
        if roles.0 == bits { Ok(roles) } else { Err(RoleError(format!("bits {bits:#010b}"))) }
    }
}

impl fmt::Display for Roles {
    /// The words, joined by commas; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Role::as_str).collect();
        if words.is_empty() { f.pad("-") } else { f.pad(&words.join(",")) }
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_sets_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        let roles: Roles = [Role::Manager, Role::Queen].into_iter().collect();
        assert_eq!(roles.to_string(), "queen,manager");
        assert_eq!(Roles::NONE.to_string(), "-");
        assert!(roles.contains(Role::Queen) && !roles.contains(Role::Operator));
        assert_eq!(Roles::try_from(u8::from(roles)), Ok(roles));
    }

    #[test]
    fn unknown_words_and_bits_are_refused() {
        assert!("king".parse::<Role>().is_err());
        assert!(Roles::try_from(0x10).is_err());
    }
}
