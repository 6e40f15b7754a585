//! Values of settings that have a shape of their own: commands, who may do something, places on
//! the globe.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skep_base::NodeName;

use super::units::Word;

/// Longest command in bytes, all its words together: what a shell gets on its command line.
pub const MAX_COMMAND_BYTES: usize = 16 * 1024;

/// A command that the agent runs for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A text for `/bin/sh -c`.
    Shell(String),
    /// A program by its absolute path, and its arguments, without a shell.
    Program(Vec<String>),
}

impl Command {
    /// Whether it can be run at all.
    ///
    /// # Errors
    /// What it must be.
    pub fn check(&self) -> Result<(), &'static str> {
        let words = match self {
            Self::Shell(text) => std::slice::from_ref(text),
            Self::Program(words) => words.as_slice(),
        };
        if words.iter().map(|word| word.len() + 1).sum::<usize>() > MAX_COMMAND_BYTES {
            return Err("must be at most 16 KiB long: put a longer one into a file");
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err("must hold no NUL");
        }
        match (self, words.first()) {
            (Self::Shell(text), _) if text.trim().is_empty() => Err("must not be empty"),
            (Self::Program(_), None) => Err("must name a program"),
            (Self::Program(_), Some(program)) if !program.starts_with('/') => {
                Err("must begin with the absolute path of a program")
            }
            (Self::Shell(_) | Self::Program(_), _) => Ok(()),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(text) => f.write_str(text),
            Self::Program(words) => f.write_str(&words.join(" ")),
        }
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Shell(text) => serializer.serialize_str(text),
            Self::Program(words) => words.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a command: \"text for /bin/sh\", or [\"/path/of/program\", \"argument\"]",
                )
            }
            fn visit_str<E>(self, text: &str) -> Result<Command, E> {
                Ok(Command::Shell(text.to_owned()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut words: A,
            ) -> Result<Command, A::Error> {
                let mut all = Vec::new();
                while let Some(word) = words.next_element()? {
                    all.push(word);
                }
                Ok(Command::Program(all))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Somebody at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever connects from an address whose first bits are these.
    Network {
        /// The address.
        address: IpAddr,
        /// How many of its bits count.
        prefix: u8,
    },
    /// Whoever shows the certificate of this name.
    Name(NodeName),
}

impl Who {
    /// Whether this means somebody who connects from `address`. An IPv4 address that comes in over
    /// an IPv6 socket is that IPv4 address.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let Self::Network { address: network, prefix } = self else {
            return false;
        };
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((network, of), (address, length)) = (bits(*network), bits(address));
        let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
        of == length && (network ^ address) & mask == 0
    }
}

/// What is wrong with a [`Who`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhoError {
    /// More bits than the address has.
    #[error("a prefix of {0} bits is longer than the address")]
    Prefix(u8),
    /// Neither address nor name.
    #[error("neither an address nor the name of a node")]
    Neither,
}

impl FromStr for Who {
    type Err = WhoError;

    fn from_str(text: &str) -> Result<Self, WhoError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => {
                (address, Some(prefix.parse::<u8>().map_err(|_| WhoError::Neither)?))
            }
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            let name = NodeName::new(text).map_err(|_| WhoError::Neither)?;
            return Ok(Self::Name(name));
        };
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(whole);
        if prefix > whole {
            return Err(WhoError::Prefix(prefix));
        }
        Ok(Self::Network { address, prefix })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { address, prefix } => {
                let whole = if address.is_ipv4() { 32 } else { 128 };
                if *prefix == whole { address.fmt(f) } else { write!(f, "{address}/{prefix}") }
            }
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Word for Who {
    const EXPECTED: &str =
        "an address such as \"10.1.2.3\", a network such as \"10.0.0.0/8\", or a node's name";
}

/// How a batch of updates is laid out on the standard input of an export command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// The bodies one after the other, as floodd gave them (FLOOD-41).
    #[default]
    Raw,
    /// Each body behind a line with its identity and length.
    Framed,
    /// One JSON object a line.
    JsonLines,
}

/// A place on the globe (FLOOD-16, 19, 20).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    /// Degrees north of the equator, −90 to 90.
    pub latitude: f64,
    /// Degrees east of Greenwich, −180 to 180.
    pub longitude: f64,
}

/// What this node may become among the managers of its flock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Eligible {
    /// Anything.
    Yes,
    /// Nothing.
    No,
    /// It notes and promises, and is never master or backup.
    Witness,
    /// Anything if its certificate has the role `manager`, else nothing.
    Certificate,
}

/// Which timers the managers begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Profile {
    /// Skep's own.
    Skep,
    /// Those of the founding documents: minutes where Skep's are seconds.
    Documents,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(text: &str) -> Who {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_within_their_networks_and_no_others() {
        let holds = |who_: &str, address: &str| who(who_).holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.200.1.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("10.1.2.3", "::ffff:10.1.2.3"), "over an IPv6 socket");
        assert!(holds("2001:db8::/32", "2001:db8:9::1") && !holds("2001:db8::/32", "2001:db9::"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "::1") && !holds("::/0", "127.0.0.1"));
        assert!(!holds("ops-1", "10.0.0.1"));
    }

    #[test]
    fn who_is_said_as_it_is_read() {
        for text in ["10.0.0.0/8", "10.1.2.3", "::1", "2001:db8::/32", "ops-1"] {
            assert_eq!(who(text).to_string(), text);
        }
        assert_eq!("10.0.0.0/33".parse::<Who>(), Err(WhoError::Prefix(33)));
        for text in ["", "10.0.0.0/", "a b", "10.0.0.0/x", "ops/1"] {
            assert_eq!(text.parse::<Who>(), Err(WhoError::Neither), "{text}");
        }
    }

    #[test]
    fn a_command_is_a_text_or_an_absolute_path_with_arguments() {
        let program = |words: &[&str]| {
            Command::Program(words.iter().map(|word| (*word).to_owned()).collect()).check()
        };
        assert_eq!(Command::Shell("mirror --flood".into()).check(), Ok(()));
        assert_eq!(program(&["/bin/mirror", "--flood"]), Ok(()));
        assert!(Command::Shell(" ".into()).check().is_err());
        assert!(program(&[]).is_err() && program(&["mirror"]).is_err());
        assert!(program(&["/bin/a", "b\0c"]).is_err());
        assert!(Command::Shell("x".repeat(MAX_COMMAND_BYTES)).check().is_err());
    }
}
