//! The file, one to one: every key may be missing, every value knows its place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use skep_base::{GroupName, NodeName};
use skep_identity::BeaconPublicKey;
use skep_transport::discovery::JoinAddress;
use toml::Spanned;

use super::error::{ConfigError, ConfigErrors, Source, nearest};
use super::telling::{EventWord, HookUrl, KindWord, MailAddress, MailServer, MailTls};
use super::units::{Size, Span, Written};
use crate::split::Split;

use super::values::{Command, Eligible, ExportFormat, Profile, Who};

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
/// Tables that the file names itself, such as `[group.web]`.
pub(super) type Named<T> = BTreeMap<Spanned<String>, T>;

sections! {
    File {
        node: Node,
        listen: Listen,
        join: Join,
        peers: Named<Peer>,
        groups: Groups,
        group: Named<Group>,
        timers: Timers,
        flood: Flood,
        limits: Limits,
        control: Control,
        client: Client,
        export: Export,
        ca: Ca,
        wave: Wave,
        managers: Managers,
        hooks: Hooks,
        hook: Named<Hook>,
        notify: Notify,
        log: Log,
    }
    Node {
        state_dir: Maybe<PathBuf>,
        identity_dir: Maybe<PathBuf>,
        expiry_grace: Maybe<Span>,
        latitude: Maybe<f64>,
        longitude: Maybe<f64>,
    }
    Listen {
        addresses: Maybe<Vec<Written<SocketAddr>>>,
        advertise: Maybe<Vec<Written<SocketAddr>>>,
    }
    Join {
        addresses: Maybe<Vec<Written<JoinAddress>>>,
        address_file: Maybe<PathBuf>,
        multicast: Multicast,
        beacon: Beacon,
    }
    Multicast {
        enabled: Maybe<bool>,
        group_v4: Maybe<Written<Ipv4Addr>>,
        group_v6: Maybe<Written<Ipv6Addr>>,
        port: Maybe<u16>,
        interfaces: Maybe<Vec<String>>,
    }
    Beacon {
        enabled: Maybe<bool>,
        address: Maybe<Written<JoinAddress>>,
        key: Maybe<Written<BeaconPublicKey>>,
    }
    Peer {
        addresses: Maybe<Vec<Written<JoinAddress>>>,
        client: Maybe<Written<JoinAddress>>,
        latitude: Maybe<f64>,
        longitude: Maybe<f64>,
    }
    Groups {
        extra: Maybe<Vec<Written<GroupName>>>,
        connectivity: Maybe<usize>,
        ping_period: Maybe<Span>,
        bandwidth_period: Maybe<Span>,
        estimates_period: Maybe<Span>,
        update_period: Maybe<Span>,
        generator_time_limit: Maybe<Span>,
    }
    Group {
        connectivity: Maybe<usize>,
        ping_period: Maybe<Span>,
        bandwidth_period: Maybe<Span>,
        estimates_period: Maybe<Span>,
        update_period: Maybe<Span>,
        topology_master: Maybe<Written<NodeName>>,
        topology_generator: Maybe<Command>,
        members: Maybe<Vec<Written<NodeName>>>,
        export_command: Maybe<Command>,
        export_format: Maybe<ExportFormat>,
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
        eager_below: Maybe<Size>,
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
    Client {
        enabled: Maybe<bool>,
        port: Maybe<u16>,
        addresses: Maybe<Vec<Written<IpAddr>>>,
        tls_port: Maybe<u16>,
        tls_addresses: Maybe<Vec<Written<IpAddr>>>,
        socket: Maybe<PathBuf>,
        group: Maybe<String>,
        exit_allowed: Maybe<Vec<Written<Who>>>,
        clients_max: Maybe<usize>,
        memory_max: Maybe<Size>,
        spool_max: Maybe<Size>,
        line_max: Maybe<Size>,
        idle_timeout: Maybe<Span>,
    }
    Export {
        command: Maybe<Command>,
        format: Maybe<ExportFormat>,
        user: Maybe<String>,
        delay: Maybe<Span>,
        time_limit: Maybe<Span>,
        batch_updates: Maybe<usize>,
        batch_bytes: Maybe<Size>,
        memory_max: Maybe<Size>,
        retry_first: Maybe<Span>,
        retry_last: Maybe<Span>,
    }
    Ca {
        serve: Maybe<bool>,
        dir: Maybe<PathBuf>,
        life: Maybe<Span>,
    }
    Wave {
        serve: Maybe<bool>,
        as_user: Maybe<bool>,
        root: Maybe<PathBuf>,
        send_rate: Maybe<Size>,
        fetch_rate: Maybe<Size>,
        keep_versions: Maybe<u32>,
    }
    Managers {
        eligible: Maybe<Eligible>,
        profile: Maybe<Profile>,
        resources: Maybe<u32>,
        backup_silent: Maybe<Span>,
        backup_reached: Maybe<Span>,
        given_up: Maybe<Span>,
        alone: Maybe<Span>,
        orphaned: Maybe<Span>,
        orphaned_holding: Maybe<Span>,
        min_stay: Maybe<Span>,
        better_for: Maybe<Span>,
        solitude: Maybe<Span>,
        split: Maybe<Split>,
    }
    Hooks {
        user: Maybe<String>,
        time_limit: Maybe<Span>,
        stable_after: Maybe<Span>,
    }
    Hook {
        on: Maybe<Vec<Written<EventWord>>>,
        command: Maybe<Command>,
        user: Maybe<String>,
        time_limit: Maybe<Span>,
    }
    Notify {
        settle: Maybe<Span>,
        unprotected_after: Maybe<Span>,
        alone_after: Maybe<Span>,
        gather: Maybe<Span>,
        per_hour: Maybe<u32>,
        retry_first: Maybe<Span>,
        retry_last: Maybe<Span>,
        keep: Maybe<Span>,
        secrets_dir: Maybe<PathBuf>,
        smtp: Named<Smtp>,
        sendmail: Named<Sendmail>,
        webhook: Named<Hooked>,
        command: Named<Alert>,
    }
    Smtp {
        server: Maybe<Written<MailServer>>,
        tls: Maybe<MailTls>,
        ca_file: Maybe<PathBuf>,
        user: Maybe<String>,
        password_file: Maybe<PathBuf>,
        from: Maybe<Written<MailAddress>>,
        to: Maybe<Vec<Written<MailAddress>>>,
        kinds: Maybe<Vec<Written<KindWord>>>,
    }
    Sendmail {
        program: Maybe<Command>,
        from: Maybe<Written<MailAddress>>,
        to: Maybe<Vec<Written<MailAddress>>>,
        kinds: Maybe<Vec<Written<KindWord>>>,
    }
    Hooked {
        url: Maybe<Written<HookUrl>>,
        secret_file: Maybe<PathBuf>,
        ca_file: Maybe<PathBuf>,
        kinds: Maybe<Vec<Written<KindWord>>>,
    }
    Alert {
        command: Maybe<Command>,
        user: Maybe<String>,
        time_limit: Maybe<Span>,
        kinds: Maybe<Vec<Written<KindWord>>>,
    }
    Log {
        level: Maybe<String>,
        format: Maybe<Format>,
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

/// Reads a file's text.
pub(super) fn read(source: &Source<'_>) -> Result<File, ConfigErrors> {
    toml::from_str(source.text).map_err(|error| {
        let (message, hint) = explain(source, error.span(), error.message());
        ConfigErrors::from(ConfigError { hint, ..source.error(error.span(), message) })
    })
}

/// The reader's message in our words, and what to write instead.
fn explain(
    source: &Source<'_>,
    span: Option<Range<usize>>,
    message: &str,
) -> (String, Option<String>) {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let mut quoted = rest.split('`').step_by(2);
        let unknown = quoted.next().unwrap_or_default();
        let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        let listed = known.join(", ");
        let hint = match nearest(unknown, known.iter().copied()) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => format!("known here: {listed}"),
        };
        return (format!("unknown key {unknown:?}"), Some(hint));
    }
    let hint = message
        .starts_with("string values must be quoted")
        .then(|| "text stands in quotes; a switch is true or false".to_owned());
    match span.and_then(|span| source.key_before(span.start)) {
        Some(key) => (format!("{key}: {message}"), hint),
        None => (message.to_owned(), hint),
    }
}
