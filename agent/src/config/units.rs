//! Values as they are written in the file: spans and sizes with their unit, names and addresses as
//! text whose faults are found where they stand.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skep_base::{ByteSize, GroupName, NodeName};
use skep_identity::BeaconPublicKey;
use skep_transport::discovery::JoinAddress;

/// A span of time: `"250ms"`, `"3s"`, `"5min"`, `"72h"`, `"30d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 4] =
            [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
        let milliseconds = self.0.as_millis();
        // "72h" reads better than "3d" and "1d" better than "24h": days from a week on.
        let unit = UNITS.iter().find(|(unit, name)| {
            milliseconds > 0
                && milliseconds.is_multiple_of(*unit)
                && (*name != "d" || milliseconds >= 7 * unit)
        });
        match unit {
            Some((unit, name)) => write!(f, "{}{name}", milliseconds / unit),
            None => write!(f, "{milliseconds}ms"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span in quotes such as \"250ms\", \"3s\", \"5min\" or \"72h\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                skep_cli::human::parse_span(text).map(Span).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A number of bytes: `"64 KiB"`, `"4 GiB"`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) ByteSize);

impl Size {
    /// For what is kept in memory.
    pub(super) fn in_memory(self) -> usize {
        usize::try_from(self.0.0).unwrap_or(usize::MAX)
    }

    pub(super) fn of(bytes: usize) -> Self {
        Self(ByteSize(bytes as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let bytes = self.0.0;
        match UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{} {name}", bytes / unit),
            None => write!(f, "{bytes} B"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ByteSize::deserialize(deserializer).map(Self)
    }
}

/// What the file says as text, and how to say what belongs there.
pub(super) trait Word: FromStr<Err: fmt::Display> + fmt::Display + Clone {
    const EXPECTED: &str;
}

impl Word for SocketAddr {
    const EXPECTED: &str =
        "an IP address with its port such as \"192.0.2.7:7400\" or \"[::]:7400\"";
}

impl Word for JoinAddress {
    const EXPECTED: &str =
        "an address or name with its port such as \"192.0.2.7:7400\" or \"seed.example:7400\"";
}

impl Word for IpAddr {
    const EXPECTED: &str = "an IP address such as \"127.0.0.1\" or \"::\"";
}

impl Word for Ipv4Addr {
    const EXPECTED: &str = "an IPv4 address such as \"239.77.83.75\"";
}

impl Word for Ipv6Addr {
    const EXPECTED: &str = "an IPv6 address such as \"ff02::736b:6570\"";
}

impl Word for GroupName {
    const EXPECTED: &str = "the name of a group such as \"web\"";
}

impl Word for NodeName {
    const EXPECTED: &str = "the name of a node such as \"web-7\"";
}

impl Word for BeaconPublicKey {
    const EXPECTED: &str = "the 64 hexadecimal digits that the beacon prints when it starts";
}

/// A value that is written as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written<T>(pub(super) T);

impl<T: Word> Serialize for Written<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: Word> Deserialize<'de> for Written<T> {
    /// Fails within the visitor, so that the reader knows which of a list's elements is meant.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<T: Word> serde::de::Visitor<'_> for Visitor<T> {
            type Value = Written<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Written<T>, E> {
                text.parse().map(Written).map_err(|error: T::Err| {
                    let error = error.to_string();
                    if error.contains("expected") {
                        E::custom(error)
                    } else {
                        E::custom(format!("{error}; expected {}", T::EXPECTED))
                    }
                })
            }
        }
        deserializer.deserialize_str(Visitor(PhantomData))
    }
}
