//! Which publishes were logged already: so that one that is tried again is logged once.
//!
//! A client that loses its connection before the reply came cannot know whether its update was
//! logged. It sends it again with the same key, `WHO:N`: WHO is a name that the client drew at
//! random, N counts its publishes. The agent remembers the last [`KEYS_A_PUBLISHER`] numbers of
//! each of the last [`MAX_PUBLISHERS`] clients that used keys. So a retry is recognised however
//! late it comes, as long as the client has no more than [`KEYS_A_PUBLISHER`] publishes unanswered,
//! and no more than [`MAX_PUBLISHERS`] other clients have published with keys since.
//!
//! A key also stands beside each of its updates in the log, as a [`Tag`]. From those the memory is
//! made again at the next start: a retry is recognised over a restart for as long as the log has
//! the update.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::tag::Tag;

/// Numbers remembered of one publisher. A client leaves no more than these unanswered.
pub const KEYS_A_PUBLISHER: usize = 1024;
/// Publishers remembered: as many as may be connected at once, and as many again. With all of their
/// numbers that is 80 MiB of memory; one that sends little takes little.
pub const MAX_PUBLISHERS: usize = 2048;
/// Longest name of a publisher, in bytes: letters, digits, `.`, `-` and `_`.
pub const MAX_PUBLISHER_BYTES: usize = 64;

/// What names one publish of one client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Who publishes: drawn at random by the client, kept while it runs.
    pub publisher: Arc<str>,
    /// Counted by the client.
    pub number: u64,
}

/// What stood where a key was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key is WHO:N: a name of at most 64 letters, digits, dots, hyphens or underscores, and a \
     number"
)]
pub struct KeyError;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.publisher, self.number)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (publisher, number) = text.rsplit_once(':').ok_or(KeyError)?;
        let plain = publisher.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || !digits || !(1..=MAX_PUBLISHER_BYTES).contains(&publisher.len()) {
            return Err(KeyError);
        }
        Ok(Self { publisher: publisher.into(), number: number.parse().map_err(|_| KeyError)? })
    }
}

/// Under which identities a publish was logged here: the first of consecutive sequences, one for
/// each of its groups. Where the agent or its disk broke in between, it was logged in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The life of this node.
    pub incarnation: u64,
    /// The sequence of the update to the first group.
    pub first: u64,
    /// To how many groups.
    pub groups: u8,
    /// How many groups it named.
    pub of: u8,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was never logged here, as far as is remembered.
    New,
    /// It was: in these parts, in the order of its groups. Together they may be fewer groups than
    /// it named.
    Logged(Vec<Logged>),
    /// Newer ones of the same publisher have taken its place: nobody can say any more.
    TooOld,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Keys {
    publishers: BTreeMap<Arc<str>, Publisher>,
    /// Publishers by their last use.
    uses: BTreeMap<u64, Arc<str>>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Publisher {
    used: u64,
    /// In the order in which they were logged.
    logged: VecDeque<(u64, Logged)>,
    /// The greatest number that was let go.
    forgotten: Option<u64>,
    /// The greatest number that was logged: what is above it is new without a look.
    newest: u64,
}

impl Keys {
    /// Nothing remembered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of `key`.
    #[must_use]
    pub fn find(&self, key: &Key) -> Found {
        let Some(publisher) = self.publishers.get(&key.publisher) else {
            return Found::New;
        };
        if key.number > publisher.newest {
            return Found::New;
        }
        let of_key = publisher.logged.iter().filter(|(number, _)| *number == key.number);
        let parts: Vec<Logged> = of_key.map(|(_, logged)| *logged).collect();
        match parts.is_empty() {
            false => Found::Logged(parts),
            true if publisher.forgotten.is_some_and(|gone| key.number <= gone) => Found::TooOld,
            true => Found::New,
        }
    }

    /// Remembers what stands beside an update of this node in its log, from an earlier life. They
    /// are given in the order of the log.
    pub fn restore(&mut self, tag: &Tag, incarnation: u64, sequence: u64) {
        let parts = match self.find(&tag.key) {
            Found::Logged(parts) => parts,
            Found::New => Vec::new(),
            Found::TooOld => return,
        };
        let known: usize = parts.iter().map(|part| usize::from(part.groups)).sum();
        // Where the first of them are gone from the log, the others alone say nothing.
        if known != usize::from(tag.at) {
            return;
        }
        let follows = parts.last().is_some_and(|last| {
            last.incarnation == incarnation && last.first + u64::from(last.groups) == sequence
        });
        if follows
            && let Some(publisher) = self.publishers.get_mut(&tag.key.publisher)
            && let Some((_, last)) =
                publisher.logged.iter_mut().rev().find(|(number, _)| *number == tag.key.number)
        {
            last.groups += 1;
            return;
        }
        self.note(&tag.key, Logged { incarnation, first: sequence, groups: 1, of: tag.of });
    }

    /// Remembers that `key` was logged, or one more part of it, in the place of the oldest where
    /// there is no room.
    pub fn note(&mut self, key: &Key, logged: Logged) {
        self.clock += 1;
        let name = &key.publisher;
        if !self.publishers.contains_key(name) {
            if self.publishers.len() >= MAX_PUBLISHERS
                && let Some((_, idle)) = self.uses.pop_first()
            {
                self.publishers.remove(&idle);
            }
            self.publishers.insert(Arc::clone(name), Publisher::default());
        }
        let Some(publisher) = self.publishers.get_mut(name) else {
            return;
        };
        self.uses.remove(&publisher.used);
        publisher.used = self.clock;
        self.uses.insert(self.clock, Arc::clone(name));
        if publisher.logged.len() >= KEYS_A_PUBLISHER
            && let Some((gone, _)) = publisher.logged.pop_front()
        {
            publisher.forgotten = publisher.forgotten.max(Some(gone));
        }
        publisher.newest = publisher.newest.max(key.number);
        publisher.logged.push_back((key.number, logged));
    }

    /// How many publishers are remembered.
    #[must_use]
    pub fn publishers(&self) -> usize {
        self.publishers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    const fn logged(first: u64) -> Logged {
        Logged { incarnation: 1, first, groups: 1, of: 1 }
    }

    #[test]
    fn a_key_is_a_name_and_a_number() {
        assert_eq!(key("a.b-c_9:17"), Key { publisher: "a.b-c_9".into(), number: 17 });
        let long = format!("{}:1", "x".repeat(65));
        for wrong in ["", ":1", "a", "a:", "a:-1", "a:+1", "a b:1", "a:99999999999999999999", &long]
        {
            assert_eq!(wrong.parse::<Key>(), Err(KeyError), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_found_until_newer_ones_take_its_place() {
        let mut keys = Keys::new();
        assert_eq!(keys.find(&key("a:0")), Found::New);
        for number in 0..KEYS_A_PUBLISHER as u64 {
            keys.note(&Key { publisher: "a".into(), number }, logged(number));
        }
        assert_eq!(keys.find(&key("a:0")), Found::Logged(Vec::from([logged(0)])));
        keys.note(&key("a:5000"), logged(5000));
        assert_eq!(keys.find(&key("a:0")), Found::TooOld);
        assert_eq!(keys.find(&key("a:1")), Found::Logged(Vec::from([logged(1)])));
        assert_eq!(keys.find(&key("a:5001")), Found::New);
        assert_eq!(keys.find(&key("b:0")), Found::New);
    }

    #[test]
    fn what_stands_in_the_log_is_known_again_also_in_parts() {
        let mut keys = Keys::new();
        let tag = |text: &str, at| Tag { key: key(text), at, of: 3 };
        keys.restore(&tag("a:7", 0), 1, 10);
        keys.restore(&tag("a:7", 1), 1, 11);
        let first = Logged { incarnation: 1, first: 10, groups: 2, of: 3 };
        assert_eq!(keys.find(&key("a:7")), Found::Logged(Vec::from([first])));
        keys.restore(&tag("a:8", 0), 2, 1);
        keys.restore(&tag("a:7", 2), 2, 2);
        let rest = Logged { incarnation: 2, first: 2, groups: 1, of: 3 };
        assert_eq!(keys.find(&key("a:7")), Found::Logged(Vec::from([first, rest])));
        // Of this one the beginning was purged.
        keys.restore(&tag("b:1", 1), 1, 5);
        assert_eq!(keys.find(&key("b:1")), Found::New);
    }

    #[test]
    fn the_publisher_that_was_silent_longest_is_forgotten_first() {
        let mut keys = Keys::new();
        for publisher in 0..MAX_PUBLISHERS {
            keys.note(&key(&format!("p{publisher}:1")), logged(1));
        }
        keys.note(&key("p0:2"), logged(2));
        keys.note(&key("new:1"), logged(3));
        assert_eq!(keys.publishers(), MAX_PUBLISHERS);
        assert_eq!(keys.find(&key("p1:1")), Found::New, "the longest silent");
        assert_eq!(keys.find(&key("p0:1")), Found::Logged(Vec::from([logged(1)])));
    }
}
