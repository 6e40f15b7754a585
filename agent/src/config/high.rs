//! The configuration in force: typed, complete, checked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_base::{ByteSize, GroupName};

use super::error::{ConfigError, ConfigErrors, Source};
use super::low::{self, File, KeyText, Maybe};
use super::origin::{self, Origin, Setting};
use super::units::{Size, Span};
use super::{ENVIRONMENT, Override, TEST_CLOCK_OFFSET};

pub use super::low::Format;

/// Everything that an agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node keeps what it must not forget.
    pub node: Node,
    /// Where it listens.
    pub listen: Listen,
    /// How it finds others.
    pub join: Join,
    /// Who is watched how closely, and who is dialled how often.
    pub membership: skep_membership::Config,
    /// How facts are kept and repaired.
    pub records: skep_records::Config,
    /// How updates are kept and repaired, and the groups that the node is in.
    pub flood: skep_flood::Config,
    /// How long links wait and how much they hold.
    pub transport: skep_transport::Config,
    /// The agent's API.
    pub control: skep_control::Config,
    /// The certificate authority.
    pub ca: Ca,
    /// Roll-outs.
    pub wave: Wave,
    /// What is logged.
    pub log: Log,
    /// For tests only, see [`TEST_CLOCK_OFFSET`].
    pub test_clock_offset_ms: i64,
    /// Each setting with where it comes from, in the reference's order.
    pub settings: Vec<Setting>,
}

/// Where the node keeps what it must not forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Records, update log, chunks, address book.
    pub state_dir: PathBuf,
    /// Key and certificates.
    pub identity_dir: PathBuf,
    /// How long an expired certificate still links, for renewal and membership.
    pub expiry_grace: Duration,
}

/// Where the node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// At least one.
    pub addresses: Vec<SocketAddr>,
    /// What others are told to dial; where it is empty, what the interfaces say.
    pub advertise: Vec<SocketAddr>,
}

/// How the node finds others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// `address:port` or `name:port`.
    pub addresses: Vec<String>,
    /// A file with more of them, one a line, read again when it changes.
    pub address_file: Option<PathBuf>,
    /// On the local link.
    pub multicast: Multicast,
    /// By a third party.
    pub beacon: Option<Beacon>,
}

/// How nodes of one link find one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multicast {
    /// Whether they do.
    pub enabled: bool,
    /// Over IPv4.
    pub group: SocketAddr,
    /// Over IPv6.
    pub group6: SocketAddr,
    /// On these interfaces; on all where it is empty.
    pub interfaces: Vec<String>,
}

/// A third party that tells nodes of one another's addresses (BLOC-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// `address:port` or `name:port`.
    pub address: String,
    /// Its public key.
    pub key: [u8; 32],
}

/// The certificate authority (BLOC-37).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ca {
    /// Whether this node answers joins and renewals.
    pub serve: bool,
    /// Where the CA's key and ledger are.
    pub dir: PathBuf,
}

/// Roll-outs on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// Whether it hands chunks to others (DLIF-22).
    pub serve: bool,
    /// Whether it applies waves as an ordinary user: what only root can set is listed, not set.
    pub as_user: bool,
    /// Bytes a second that it sends at most; no bound where none.
    pub send_rate: Option<ByteSize>,
    /// Bytes a second that it fetches at most; no bound where none.
    pub fetch_rate: Option<ByteSize>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or filter directives of `tracing`.
    pub level: String,
    /// How lines look.
    pub format: Format,
}

impl Config {
    /// The configuration in force as a file that says the same.
    #[must_use]
    pub fn show(&self, origins: bool) -> String {
        origin::show(&self.settings, origins)
    }
}

/// Makes the configuration of the file's values, the environment's and the flags'.
pub(super) fn build(
    low: File,
    source: &Source<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
    flags: &[Override],
) -> Result<Config, ConfigErrors> {
    let mut build = Build {
        source,
        overrides: overrides(environment, flags),
        settings: Vec::new(),
        errors: Vec::new(),
    };
    let node = build.node(low.node);
    let listen = build.listen(low.listen);
    let join = build.join(low.join);
    let groups = build.groups(low.groups);
    let timers = low.timers;
    let (membership, records) = build.membership(&timers);
    let mut transport = build.transport_timers(&timers);
    let flood = build.flood(low.flood, groups);
    build.limits(low.limits, &mut transport);
    let control = build.control(low.control);
    let ca = build.ca(low.ca, &node.state_dir);
    let wave = build.wave(low.wave);
    let log = build.log(low.log);
    let test_clock_offset_ms = build.test_clock_offset(environment);
    build.belt("flood", flood.validate().map_err(|error| error.to_string()));
    build.belt("limits", transport.validate().map_err(|error| error.to_string()));
    build.belt("control", control.validate().map_err(|error| error.to_string()));
    if !build.errors.is_empty() {
        return Err(ConfigErrors(build.errors));
    }
    Ok(Config {
        node,
        listen,
        join,
        membership,
        records,
        flood,
        transport,
        control,
        ca,
        wave,
        log,
        test_clock_offset_ms,
        settings: build.settings,
    })
}

/// A value from elsewhere than the file.
struct Overriding {
    key: &'static str,
    value: toml::Value,
    origin: Origin,
}

fn overrides(environment: &dyn Fn(&str) -> Option<String>, flags: &[Override]) -> Vec<Overriding> {
    let from_environment = ENVIRONMENT.iter().filter_map(|(name, key)| {
        let value = environment(name).filter(|value| !value.is_empty())?;
        Some(Overriding {
            key,
            value: toml::Value::String(value),
            origin: Origin::Environment { name },
        })
    });
    let from_flags = flags.iter().map(|flag| Overriding {
        key: flag.key,
        value: flag.value.clone(),
        origin: Origin::Flag { name: flag.flag },
    });
    from_environment.chain(from_flags).collect()
}

/// What a setting must be, said where it is not.
type Check<T> = fn(&T) -> Result<(), &'static str>;

fn any<T>(_: &T) -> Result<(), &'static str> {
    Ok(())
}

#[expect(clippy::ptr_arg, reason = "a check is handed the setting's own type")]
fn absolute(path: &PathBuf) -> Result<(), &'static str> {
    path.is_absolute().then_some(()).ok_or("must be an absolute path")
}

fn positive(span: &Span) -> Result<(), &'static str> {
    (!span.0.is_zero()).then_some(()).ok_or("must be more than zero")
}

fn at_least_one(count: &usize) -> Result<(), &'static str> {
    (*count > 0).then_some(()).ok_or("must be at least 1")
}

fn at_least_a_frame(size: &Size) -> Result<(), &'static str> {
    (size.0.0 >= 2 << 20)
        .then_some(())
        .ok_or("must be at least 2 MiB: the longest frame and what is read beside it")
}

/// Takes settings one by one, in the reference's order, and remembers where each comes from.
struct Build<'a> {
    source: &'a Source<'a>,
    overrides: Vec<Overriding>,
    settings: Vec<Setting>,
    errors: Vec<ConfigError>,
}

impl Build<'_> {
    /// The value in force of the setting `key`.
    fn take<T>(&mut self, key: &'static str, low: Maybe<T>, default: T, check: Check<T>) -> T
    where
        T: Clone + Serialize + DeserializeOwned,
    {
        self.take_optional(key, low, Some(default.clone()), check).unwrap_or(default)
    }

    /// The same where the setting may be unset.
    fn take_optional<T>(
        &mut self,
        key: &'static str,
        low: Maybe<T>,
        default: Option<T>,
        check: Check<T>,
    ) -> Option<T>
    where
        T: Clone + Serialize + DeserializeOwned,
    {
        let mut origin = Origin::Default;
        let mut value = default;
        if let Some(low) = low {
            let span = low.span();
            let (line, _) = self.source.place(span.start);
            origin = Origin::File { path: self.source.path.to_owned(), line };
            let given = low.into_inner();
            if let Err(why) = check(&given) {
                self.errors.push(self.source.error(Some(span), format!("{key} {why}")));
            }
            value = Some(given);
        }
        let over = self.overrides.iter().rev().find(|over| over.key == key);
        if let Some(over) = over {
            origin = over.origin.clone();
            match T::deserialize(over.value.clone()) {
                Ok(given) => {
                    if let Err(why) = check(&given) {
                        let message = format!("{key} {why} ({origin})");
                        self.errors.push(elsewhere(message));
                    }
                    value = Some(given);
                }
                Err(error) => {
                    let message = format!("{origin}: {key}: {}", error.message());
                    self.errors.push(elsewhere(message));
                }
            }
        }
        let shown = value.as_ref().and_then(|value| toml::Value::try_from(value).ok());
        self.settings.push(Setting { key, value: shown, origin });
        value
    }

    /// Says that two settings contradict one another, at the first that somebody wrote.
    fn contradiction(&mut self, keys: &[&'static str], message: String) {
        let written = self
            .settings
            .iter()
            .find(|setting| keys.contains(&setting.key) && setting.origin != Origin::Default);
        let place = written.map(|setting| &setting.origin);
        let error = match place {
            Some(Origin::File { path, line }) => {
                ConfigError { path: Some(path.clone()), at: Some((*line, 1)), message, hint: None }
            }
            Some(Origin::Default | Origin::Environment { .. } | Origin::Flag { .. }) | None => {
                elsewhere(message)
            }
        };
        self.errors.push(error);
    }

    /// What the part itself finds wrong with its numbers, unless we said so already.
    fn belt(&mut self, section: &'static str, result: Result<(), String>) {
        if let Err(message) = result
            && self.errors.is_empty()
        {
            self.errors.push(ConfigError {
                path: Some(self.source.path.to_owned()),
                at: None,
                message: format!("[{section}] {message}"),
                hint: None,
            });
        }
    }

    fn node(&mut self, low: low::Node) -> Node {
        let state_dir =
            self.take("node.state_dir", low.state_dir, PathBuf::from("/var/lib/skep"), absolute);
        let identity = state_dir.join("identity");
        let identity_dir = self.take("node.identity_dir", low.identity_dir, identity, absolute);
        let grace = Span(skep_identity::DEFAULT_GRACE);
        let expiry_grace = self.take("node.expiry_grace", low.expiry_grace, grace, any).0;
        Node { state_dir, identity_dir, expiry_grace }
    }

    fn listen(&mut self, low: low::Listen) -> Listen {
        let everywhere = vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 7400))];
        let addresses = self.take("listen.addresses", low.addresses, everywhere, |addresses| {
            (!addresses.is_empty()).then_some(()).ok_or("must name at least one address")
        });
        let advertise = self.take("listen.advertise", low.advertise, Vec::new(), |addresses| {
            if addresses.len() > skep_wire::MAX_HELLO_ADDRESSES {
                return Err("may name at most 8 addresses");
            }
            addresses
                .iter()
                .all(|address| !address.ip().is_unspecified() && address.port() != 0)
                .then_some(())
                .ok_or("must name addresses and ports that others can dial")
        });
        Listen { addresses, advertise }
    }

    fn join(&mut self, low: low::Join) -> Join {
        let addresses = self.take("join.addresses", low.addresses, Vec::new(), |addresses| {
            addresses
                .iter()
                .all(|address| skep_cli::args::check_address(address).is_ok())
                .then_some(())
                .ok_or("must hold address:port or name:port, such as \"192.0.2.7:7400\"")
        });
        let address_file =
            self.take_optional("join.address_file", low.address_file, None, absolute);
        let multicast = self.multicast(low.multicast);
        let beacon = self.beacon(low.beacon);
        Join { addresses, address_file, multicast, beacon }
    }

    fn multicast(&mut self, low: low::Multicast) -> Multicast {
        let enabled = self.take("join.multicast.enabled", low.enabled, true, any);
        let group = SocketAddr::from(([239, 255, 74, 0], 7400));
        let group = self.take("join.multicast.group", low.group, group, |group| {
            low::is_multicast(group, true)
                .then_some(())
                .ok_or("must be an IPv4 multicast address with its port")
        });
        let group6 = SocketAddr::from(([0xff02, 0, 0, 0, 0, 0, 0, 0x7400], 7400));
        let group6 = self.take("join.multicast.group6", low.group6, group6, |group| {
            low::is_multicast(group, false)
                .then_some(())
                .ok_or("must be an IPv6 multicast address with its port")
        });
        let interfaces =
            self.take("join.multicast.interfaces", low.interfaces, Vec::new(), |names| {
                names
                    .iter()
                    .all(|name| !name.is_empty() && name.len() < 16 && !name.contains('/'))
                    .then_some(())
                    .ok_or("must name interfaces as `ip link` does")
            });
        Multicast { enabled, group, group6, interfaces }
    }

    fn beacon(&mut self, low: low::Beacon) -> Option<Beacon> {
        let enabled = self.take("join.beacon.enabled", low.enabled, false, any);
        let address =
            self.take_optional("join.beacon.address", low.address, None, |address: &String| {
                skep_cli::args::check_address(address)
                    .map(drop)
                    .map_err(|_| "must be address:port or name:port")
            });
        let key: Option<KeyText> = self.take_optional("join.beacon.key", low.key, None, any);
        match (enabled, address, key) {
            (false, _, _) => None,
            (true, Some(address), Some(key)) => Some(Beacon { address, key: key.0 }),
            (true, _, _) => {
                self.contradiction(
                    &["join.beacon.enabled"],
                    "join.beacon needs both address and key when it is enabled".to_owned(),
                );
                None
            }
        }
    }

    fn groups(&mut self, low: low::Groups) -> BTreeSet<GroupName> {
        let extra = self.take("groups.extra", low.extra, Vec::new(), |groups| {
            (groups.len() <= 256).then_some(()).ok_or("may name at most 256 groups")
        });
        extra.into_iter().chain([GroupName::all()]).collect()
    }

    fn span(
        &mut self,
        key: &'static str,
        low: Maybe<Span>,
        default: Duration,
        check: Check<Span>,
    ) -> Duration {
        self.take(key, low, Span(default), check).0
    }

    fn membership(&mut self, low: &low::Timers) -> (skep_membership::Config, skep_records::Config) {
        let normal = skep_membership::Config::default();
        let mut membership = skep_membership::Config {
            heartbeat: self.span(
                "timers.heartbeat",
                low.heartbeat.clone(),
                normal.heartbeat,
                |span| {
                    (100..=60_000)
                        .contains(&span.0.as_millis())
                        .then_some(())
                        .ok_or("must be between 100ms and 60s")
                },
            ),
            ..normal.clone()
        };
        membership.suspect_after = self.span(
            "timers.suspect_after",
            low.suspect_after.clone(),
            normal.suspect_after,
            positive,
        );
        membership.silent_after = self.span(
            "timers.silent_after",
            low.silent_after.clone(),
            normal.silent_after,
            positive,
        );
        if membership.suspect_after <= membership.heartbeat * 2 {
            let keys = ["timers.suspect_after", "timers.heartbeat"];
            let message = format!(
                "timers.suspect_after ({}) must be more than twice timers.heartbeat ({}), or one \
                 late beat makes a node suspect",
                Span(membership.suspect_after),
                Span(membership.heartbeat)
            );
            self.contradiction(&keys, message);
        }
        if membership.silent_after <= membership.suspect_after {
            let keys = ["timers.silent_after", "timers.suspect_after"];
            let message = format!(
                "timers.silent_after ({}) must be more than timers.suspect_after ({})",
                Span(membership.silent_after),
                Span(membership.suspect_after)
            );
            self.contradiction(&keys, message);
        }
        membership.watch_every =
            self.span("timers.watch_every", low.watch_every.clone(), normal.watch_every, positive);
        membership.alone_after =
            self.span("timers.alone_after", low.alone_after.clone(), normal.alone_after, positive);
        membership.redial = self.span("timers.redial", low.redial.clone(), normal.redial, |span| {
            (100..=5_000)
                .contains(&span.0.as_millis())
                .then_some(())
                .ok_or("must be between 100ms and 5s, or halves that never met merge late")
        });
        membership.redial_late =
            self.span("timers.redial_late", low.redial_late.clone(), normal.redial_late, |span| {
                (span.0 <= Duration::from_secs(300) && span.0 >= Duration::from_secs(1))
                    .then_some(())
                    .ok_or("must be between 1s and 5min: dialling never stops")
            });
        let normal = skep_records::Config::default();
        let mut records = normal.clone();
        records.purge_after =
            self.span("timers.purge_after", low.purge_after.clone(), normal.purge_after, |span| {
                (span.0 >= Duration::from_secs(60)).then_some(()).ok_or("must be at least 1min")
            });
        records.repair_every = self.span(
            "timers.repair_every",
            low.repair_every.clone(),
            normal.repair_every,
            positive,
        );
        (membership, records)
    }

    fn transport_timers(&mut self, low: &low::Timers) -> skep_transport::Config {
        let normal = skep_transport::Config::default();
        let mut transport = normal.clone();
        transport.connect_timeout =
            self.span("timers.connect", low.connect.clone(), normal.connect_timeout, positive);
        transport.handshake_timeout = self.span(
            "timers.handshake",
            low.handshake.clone(),
            normal.handshake_timeout,
            positive,
        );
        transport.user_timeout = self.span(
            "timers.unacknowledged",
            low.unacknowledged.clone(),
            normal.user_timeout,
            positive,
        );
        transport.bulk_idle =
            self.span("timers.bulk_idle", low.bulk_idle.clone(), normal.bulk_idle, positive);
        transport.drain_timeout =
            self.span("timers.drain", low.drain.clone(), normal.drain_timeout, positive);
        transport
    }

    fn flood(&mut self, low: low::Flood, groups: BTreeSet<GroupName>) -> skep_flood::Config {
        let normal = skep_flood::Config::default();
        skep_flood::Config {
            groups,
            purge_age: self.span("flood.purge_age", low.purge_age, normal.purge_age, |span| {
                (span.0 >= Duration::from_secs(10)).then_some(()).ok_or("must be at least 10s")
            }),
            pull_timeout: self.span(
                "flood.pull_timeout",
                low.pull_timeout,
                normal.pull_timeout,
                |span| {
                    (span.0 >= Duration::from_secs(1)).then_some(()).ok_or("must be at least 1s")
                },
            ),
            compare_period: self.span(
                "flood.compare_period",
                low.compare_period,
                normal.compare_period,
                |span| {
                    (span.0 >= Duration::from_secs(1)).then_some(()).ok_or("must be at least 1s")
                },
            ),
            storage_max: self
                .take("flood.storage_max", low.storage_max, Size(normal.storage_max), any)
                .0,
            body_max: self
                .take("flood.body_max", low.body_max, Size(normal.body_max), |size| {
                    (1..=u64::from(skep_flood::MAX_BODY_BYTES))
                        .contains(&size.0.0)
                        .then_some(())
                        .ok_or("must be between 1 B and 8 MiB")
                })
                .0,
            cache_max: self.take("flood.cache_max", low.cache_max, Size(normal.cache_max), any).0,
            index_max: self.take("flood.index_max", low.index_max, normal.index_max, |count| {
                (*count >= 1024).then_some(()).ok_or("must be at least 1024")
            }),
        }
    }

    fn limits(&mut self, low: low::Limits, transport: &mut skep_transport::Config) {
        transport.max_links =
            self.take("limits.links", low.links, transport.max_links, at_least_one);
        transport.max_links_per_peer = self.take(
            "limits.links_per_peer",
            low.links_per_peer,
            transport.max_links_per_peer,
            |count| (*count >= 4).then_some(()).ok_or("must be at least 4: two lanes, twice"),
        );
        transport.max_handshakes =
            self.take("limits.handshakes", low.handshakes, transport.max_handshakes, at_least_one);
        transport.max_waiting_handshakes = self.take(
            "limits.waiting_handshakes",
            low.waiting_handshakes,
            transport.max_waiting_handshakes,
            any,
        );
        transport.max_dials =
            self.take("limits.dials", low.dials, transport.max_dials, at_least_one);
        transport.control_queue_bytes = self
            .take(
                "limits.control_queue",
                low.control_queue,
                Size::of(transport.control_queue_bytes),
                at_least_a_frame,
            )
            .in_memory();
        transport.bulk_queue_bytes = self
            .take(
                "limits.bulk_queue",
                low.bulk_queue,
                Size::of(transport.bulk_queue_bytes),
                at_least_a_frame,
            )
            .in_memory();
        transport.max_unread_bytes = self
            .take(
                "limits.unread",
                low.unread,
                Size::of(transport.max_unread_bytes),
                at_least_a_frame,
            )
            .in_memory();
        let system = String::new();
        let normal = transport.bulk_congestion.clone().unwrap_or(system);
        let wanted =
            self.take("limits.bulk_congestion", low.bulk_congestion, normal, |name: &String| {
                (name.len() < 16 && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
                    .then_some(())
                    .ok_or("must be a name such as \"bbr\", or \"\" for the system's own")
            });
        transport.bulk_congestion = Some(wanted).filter(|name| !name.is_empty());
    }

    fn control(&mut self, low: low::Control) -> skep_control::Config {
        let normal = skep_control::Config::default();
        skep_control::Config {
            socket: self.take("control.socket", low.socket, normal.socket, absolute),
            group: self.take("control.group", low.group, normal.group, any),
        }
    }

    fn ca(&mut self, low: low::Ca, state_dir: &Path) -> Ca {
        Ca {
            serve: self.take("ca.serve", low.serve, false, any),
            dir: self.take("ca.dir", low.dir, state_dir.join("ca"), absolute),
        }
    }

    fn wave(&mut self, low: low::Wave) -> Wave {
        let unbounded = Size(ByteSize(0));
        let mut rate = |key, low| {
            let size = self.take(key, low, unbounded, |size: &Size| {
                (size.0.0 == 0 || size.0.0 >= 64 << 10)
                    .then_some(())
                    .ok_or("must be at least 64 KiB a second, or 0 for no bound")
            });
            Some(size.0).filter(|size| size.0 > 0)
        };
        let send_rate = rate("wave.send_rate", low.send_rate);
        let fetch_rate = rate("wave.fetch_rate", low.fetch_rate);
        Wave {
            serve: self.take("wave.serve", low.serve, true, any),
            as_user: self.take("wave.as_user", low.as_user, false, any),
            send_rate,
            fetch_rate,
        }
    }

    fn log(&mut self, low: low::Log) -> Log {
        let info = "info".to_owned();
        Log {
            level: self.take("log.level", low.level, info, |level: &String| {
                tracing_subscriber::EnvFilter::try_new(level)
                    .map(drop)
                    .map_err(|_| "must be error, warn, info, debug, trace or a filter of them")
            }),
            format: self.take("log.format", low.format, Format::Text, any),
        }
    }

    fn test_clock_offset(&mut self, environment: &dyn Fn(&str) -> Option<String>) -> i64 {
        let Some(text) = environment(TEST_CLOCK_OFFSET) else {
            return 0;
        };
        text.parse().unwrap_or_else(|_| {
            let message =
                format!("environment {TEST_CLOCK_OFFSET} must be a number of milliseconds");
            self.errors.push(elsewhere(message));
            0
        })
    }
}

/// An error that no file is to blame for.
fn elsewhere(message: String) -> ConfigError {
    ConfigError { path: None, at: None, message, hint: None }
}
