//! Which groups' export commands an update has come through.
//!
//! An export command may publish: what it was given, or something made of it (FLOOD-42). Such an
//! update carries its trail: the groups whose commands stand between it and the update that began
//! it all. It may go to any group but those, so that every chain of re-flooding ends: as a route
//! that carries its path is refused by whoever finds himself in it.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, GroupName};

/// Groups in a trail at most. Each member of each group on the way may have published anew, so
/// that long trails are floods of floods; nobody is known to need more than two.
pub const MAX_TRAIL: usize = 8;
/// Bytes that stand for a group: nodes on the way need not know its name.
const MARK_BYTES: usize = 4;

/// See the module. In words, which programs hand on as they are: `4fd210a2.91c0e77b`, or `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Trail(
    /// Ascending, each once.
    Vec<[u8; MARK_BYTES]>,
);

/// What was expected to be a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a trail is `-`, or up to 8 groups of 8 hexadecimal digits with dots between them")]
pub struct TrailError;

impl Trail {
    /// Of an update that no export command has anything to do with.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether it is that.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many groups' commands it leads through.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it leads through the command of `group`.
    #[must_use]
    pub fn leads_through(&self, group: &GroupName) -> bool {
        self.0.binary_search(&mark(group)).is_ok()
    }

    /// The trail of what the command of `group` makes of an update with this one.
    #[must_use]
    pub fn through(mut self, group: &GroupName) -> Self {
        self.insert(mark(group));
        self
    }

    /// The trail of something that was made of two updates.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        other.0.iter().for_each(|mark| self.insert(*mark));
        self
    }

    /// Whether an update may have it: what decodes need not be one.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.0.len() <= MAX_TRAIL && self.0.windows(2).all(|pair| pair[0] < pair[1])
    }

    fn insert(&mut self, mark: [u8; MARK_BYTES]) {
        if let Err(at) = self.0.binary_search(&mark) {
            self.0.insert(at, mark);
        }
    }
}

/// What stands for a group: the same on every node.
fn mark(group: &GroupName) -> [u8; MARK_BYTES] {
    let [a, b, c, d, ..] = Digest::of(group.as_str().as_bytes()).0;
    [a, b, c, d]
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (at, mark) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{:08x}", u32::from_be_bytes(*mark))?;
        }
        Ok(())
    }
}

impl FromStr for Trail {
    type Err = TrailError;

    fn from_str(text: &str) -> Result<Self, TrailError> {
        let mut trail = Self::none();
        if text == "-" {
            return Ok(trail);
        }
        for word in text.split('.').take(MAX_TRAIL + 1) {
            let plain = word.len() == 2 * MARK_BYTES && word.bytes().all(|b| b.is_ascii_hexdigit());
            let mark = u32::from_str_radix(word, 16).ok().filter(|_| plain).ok_or(TrailError)?;
            trail.insert(mark.to_be_bytes());
        }
        let whole = text.len() == trail.0.len() * (2 * MARK_BYTES + 1) - 1;
        if trail.is_sound() && whole { Ok(trail) } else { Err(TrailError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    fn group(name: &str) -> GroupName {
        name.parse().unwrap()
    }

    #[test]
    fn a_trail_leads_through_what_it_was_led_through() {
        let trail = Trail::none().through(&group("web")).through(&group("db"));
        assert!(trail.leads_through(&group("web")) && trail.leads_through(&group("db")));
        assert!(!trail.leads_through(&group("all")));
        assert_eq!(trail.clone().through(&group("web")), trail, "each once");
        let other = Trail::none().through(&group("all")).and(&trail);
        assert_eq!(other.len(), 3);
        assert!(other.leads_through(&group("db")) && other.is_sound());
    }

    #[test]
    fn a_trail_is_handed_on_in_words() {
        let mut trail = Trail::none();
        assert_eq!("-".parse(), Ok(Trail::none()));
        for n in 0..=MAX_TRAIL {
            assert_eq!(trail.to_string().parse(), Ok(trail.clone()));
            trail = trail.through(&group(&alloc::format!("group-{n}")));
        }
        assert!(!trail.is_sound(), "nine are too many");
        assert!(trail.to_string().parse::<Trail>().is_err());
        let twice = "00000001.00000001";
        for wrong in ["", ".", "1", "0000000g", "+0000001", "00000001.", "00000001-", twice] {
            assert_eq!(wrong.parse::<Trail>(), Err(TrailError), "{wrong}");
        }
        assert_eq!("00000002.00000001".parse::<Trail>().unwrap().to_string(), "00000001.00000002");
    }

    #[test]
    fn what_stands_for_a_group_stays_what_it_is() {
        assert_eq!(Trail::none().through(&GroupName::all()).to_string(), "2f8bdc43");
    }
}
