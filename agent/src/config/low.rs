//! The file, one to one: every key may be missing, every value knows its place.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use skep_base::{Digest, GroupName};
use toml::Spanned;

use super::error::{ConfigError, ConfigErrors, Source, nearest};
use super::units::{Size, Span};

macro_rules! sections {
    ($($name:ident { $($key:ident: $type:ty,)* })*) => {
        $(
            #[derive(Clone, Debug, Default, Deserialize)]
            #[serde(deny_unknown_fields, default, expecting = "a table")]
            pub(super) struct $name {
                $(pub(super) $key: $type,)*
            }
        )*
    };
}

/// A value that may be missing and knows where it stands.
pub(super) type Maybe<T> = Option<Spanned<T>>;

sections! {
    File {
        node: Node,
        listen: Listen,
        join: Join,
        groups: Groups,
        timers: Timers,
        flood: Flood,
        limits: Limits,
        control: Control,
        ca: Ca,
        wave: Wave,
        log: Log,
    }
    Node {
        state_dir: Maybe<PathBuf>,
        identity_dir: Maybe<PathBuf>,
        expiry_grace: Maybe<Span>,
    }
    Listen {
        addresses: Maybe<Vec<SocketAddr>>,
        advertise: Maybe<Vec<SocketAddr>>,
    }
    Join {
        addresses: Maybe<Vec<String>>,
        address_file: Maybe<PathBuf>,
        multicast: Multicast,
        beacon: Beacon,
    }
    Multicast {
        enabled: Maybe<bool>,
        group: Maybe<SocketAddr>,
        group6: Maybe<SocketAddr>,
        interfaces: Maybe<Vec<String>>,
    }
    Beacon {
        enabled: Maybe<bool>,
        address: Maybe<String>,
        key: Maybe<KeyText>,
    }
    Groups {
        extra: Maybe<Vec<GroupName>>,
    }
    Timers {
        heartbeat: Maybe<Span>,
        suspect_after: Maybe<Span>,
        silent_after: Maybe<Span>,
        watch_every: Maybe<Span>,
        alone_after: Maybe<Span>,
        redial: Maybe<Span>,
        redial_late: Maybe<Span>,
        purge_after: Maybe<Span>,
        repair_every: Maybe<Span>,
        connect: Maybe<Span>,
        handshake: Maybe<Span>,
        unacknowledged: Maybe<Span>,
        bulk_idle: Maybe<Span>,
        drain: Maybe<Span>,
    }
    Flood {
        purge_age: Maybe<Span>,
        pull_timeout: Maybe<Span>,
        compare_period: Maybe<Span>,
        storage_max: Maybe<Size>,
        body_max: Maybe<Size>,
        cache_max: Maybe<Size>,
        index_max: Maybe<usize>,
    }
    Limits {
        links: Maybe<usize>,
        links_per_peer: Maybe<usize>,
        handshakes: Maybe<usize>,
        waiting_handshakes: Maybe<usize>,
        dials: Maybe<usize>,
        control_queue: Maybe<Size>,
        bulk_queue: Maybe<Size>,
        unread: Maybe<Size>,
        bulk_congestion: Maybe<String>,
    }
    Control {
        socket: Maybe<PathBuf>,
        group: Maybe<String>,
    }
    Ca {
        serve: Maybe<bool>,
        dir: Maybe<PathBuf>,
    }
    Wave {
        serve: Maybe<bool>,
        as_user: Maybe<bool>,
        send_rate: Maybe<Size>,
        fetch_rate: Maybe<Size>,
    }
    Log {
        level: Maybe<String>,
        format: Maybe<Format>,
    }
}

/// A public key of 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyText(pub(super) [u8; 32]);

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        let digits: Digest = text.parse().map_err(|_| {
            D::Error::custom("not a key: expected the 64 hexadecimal digits that the beacon prints")
        })?;
        Ok(Self(digits.0))
    }
}

impl serde::Serialize for KeyText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Digest(self.0))
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// For people and the journal.
    Text,
    /// One object a line.
    Json,
}

/// Whether all of `addresses` are of one kind is asked of each alone.
pub(super) fn is_multicast(address: &SocketAddr, v4: bool) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => v4 && ip.is_multicast(),
        IpAddr::V6(ip) => !v4 && ip.is_multicast(),
    }
}

/// Reads a file's text.
pub(super) fn read(source: &Source<'_>) -> Result<File, ConfigErrors> {
    toml::from_str(source.text).map_err(|error| {
        let explained = explain(error.message());
        ConfigErrors::from(ConfigError {
            hint: explained.1,
            ..source.error(error.span(), explained.0)
        })
    })
}

/// The reader's message in our words, with the nearest known key.
fn explain(message: &str) -> (String, Option<String>) {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return (message.to_owned(), None);
    };
    let mut quoted = rest.split('`').step_by(2);
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    let listed = known.join(", ");
    let hint = match nearest(unknown, known.iter().copied()) {
        Some(nearest) => format!("did you mean {nearest:?}? known here: {listed}"),
        None => format!("known here: {listed}"),
    };
    (format!("unknown key {unknown:?}"), Some(hint))
}
