//! From the layers to the configuration in force: takes every setting once, checks it where it
//! stands, and remembers where it comes from.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_base::{ByteSize, GroupName};
use skep_transport::discovery::MulticastConfig;

use super::error::{ConfigError, ConfigErrors, Source};
use super::high::{Beacon, Ca, Config, Format, Join, Listen, Log, Node, Wave};
use super::layer::Layered;
use super::low::{self, File, Maybe};
use super::origin::{Key, Origin, Setting};
use super::units::{Size, Span, Written};
use super::{ENVIRONMENT, Override, TEST_CLOCK_OFFSET};

mod client;
mod groups;
mod managers;
mod telling;

/// Makes the configuration of the file's values, the layer over it, the environment and the flags.
pub(super) fn build(
    low: File,
    source: &Source<'_>,
    layer: &[Layered],
    environment: &dyn Fn(&str) -> Option<String>,
    flags: &[Override],
) -> Result<Config, ConfigErrors> {
    let mut build = Build {
        source,
        layer,
        overrides: overrides(environment, flags),
        settings: Vec::new(),
        errors: Vec::new(),
    };
    let node = build.node(low.node);
    let listen = build.listen(low.listen);
    let mut join = build.join(low.join);
    let peers = build.peers(low.peers);
    build.join_peers(&mut join, &peers);
    let groups = build.groups(low.groups, low.group, low.export);
    let timers = low.timers;
    let (membership, records) = build.membership(&timers);
    let mut transport = build.transport_timers(&timers);
    let flood = build.flood(low.flood, groups.keys().cloned().collect());
    build.limits(low.limits, &mut transport);
    let control = build.control(low.control);
    let client = build.client(low.client, &control.socket, flood.body_max);
    let ca = build.ca(low.ca, &node.state_dir);
    let wave = build.wave(low.wave);
    let managers = build.managers(low.managers);
    let hooks = build.hooks(low.hooks, low.hook);
    let notify = build.notify(low.notify);
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
        peers,
        groups,
        membership,
        records,
        flood,
        transport,
        control,
        client,
        ca,
        wave,
        managers,
        hooks,
        notify,
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

/// Where nodes listen unless they are told otherwise.
const DEFAULT_PORT: u16 = 7400;

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
    layer: &'a [Layered],
    overrides: Vec<Overriding>,
    settings: Vec<Setting>,
    errors: Vec<ConfigError>,
}

impl Build<'_> {
    /// The value in force of the setting `key`.
    fn take<T>(&mut self, key: impl Into<Key>, low: Maybe<T>, default: T, check: Check<T>) -> T
    where
        T: Clone + Serialize + DeserializeOwned,
    {
        self.take_optional(key, low, Some(default.clone()), check).unwrap_or(default)
    }

    /// The same where the setting may be unset.
    fn take_optional<T>(
        &mut self,
        key: impl Into<Key>,
        low: Maybe<T>,
        default: Option<T>,
        check: Check<T>,
    ) -> Option<T>
    where
        T: Clone + Serialize + DeserializeOwned,
    {
        let key = key.into();
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
        let layer = self.layer;
        for layered in layer.iter().filter(|layered| layered.key == key) {
            origin = layered.origin();
            let given = T::deserialize(layered.value.clone());
            match given.map_err(|error| error.message().to_owned()).and_then(|given| {
                check(&given).map_err(|why| format!("{key} {why}"))?;
                Ok(given)
            }) {
                Ok(given) => value = Some(given),
                Err(message) => self.errors.push(layered.error(message)),
            }
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
    fn contradiction(&mut self, keys: &[&str], message: String) {
        let written = self
            .settings
            .iter()
            .find(|set| keys.contains(&&*set.key) && set.origin != Origin::Default);
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

    /// The names of the tables of one kind, of the file and of the layer over it.
    fn names<'n>(
        &self,
        kind: &'static str,
        of_file: impl Iterator<Item = &'n String>,
    ) -> BTreeSet<String> {
        let of_layer = self.layer.iter().filter_map(|layered| {
            let rest = layered.key.strip_prefix(kind)?.strip_prefix('.')?;
            rest.rsplit_once('.').map(|(name, _)| name.to_owned())
        });
        of_file.cloned().chain(of_layer).collect()
    }

    /// Says that a table's own name is none, where the file or the layer has it.
    fn misnamed(&mut self, kind: &'static str, name: &str, span: Option<Range<usize>>, why: &str) {
        let message = format!("[{kind}.\"{name}\"]: {why}");
        let of_layer = |layered: &&Layered| {
            let of = layered.key.rsplit_once('.').and_then(|(of, _)| of.split_once('.'));
            of == Some((kind, name))
        };
        let error = match (span, self.layer.iter().find(of_layer)) {
            (None, Some(layered)) => layered.error(message),
            (span, _) => self.source.error(span, message),
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
        let keys = (Key::from("node.latitude"), Key::from("node.longitude"));
        let location = self.location(keys, (low.latitude, low.longitude));
        Node { state_dir, identity_dir, expiry_grace, location }
    }

    fn listen(&mut self, low: low::Listen) -> Listen {
        let v4 = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
        let v6 = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
        let everywhere = vec![Written(v4), Written(v6)];
        let addresses = self.take("listen.addresses", low.addresses, everywhere, |addresses| {
            (!addresses.is_empty()).then_some(()).ok_or("must name at least one address")
        });
        let advertise = self.take("listen.advertise", low.advertise, Vec::new(), |addresses| {
            if addresses.len() > skep_wire::MAX_HELLO_ADDRESSES {
                return Err("may name at most 8 addresses");
            }
            addresses
                .iter()
                .all(|Written(address)| !address.ip().is_unspecified() && address.port() != 0)
                .then_some(())
                .ok_or("must name addresses and ports that others can dial")
        });
        Listen { addresses: plain(addresses), advertise: plain(advertise) }
    }

    fn join(&mut self, low: low::Join) -> Join {
        let addresses = self.take("join.addresses", low.addresses, Vec::new(), |addresses| {
            (addresses.len() <= skep_transport::discovery::MAX_JOIN_ADDRESSES)
                .then_some(())
                .ok_or("may hold at most 4096 addresses")
        });
        let address_file =
            self.take_optional("join.address_file", low.address_file, None, absolute);
        let multicast = self.multicast(low.multicast);
        let beacon = self.beacon(low.beacon);
        Join { addresses: plain(addresses), address_file, multicast, beacon }
    }

    fn multicast(&mut self, low: low::Multicast) -> Option<MulticastConfig> {
        let normal = MulticastConfig::default();
        let v4 = normal.group_v4.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
        let v6 = normal.group_v6.unwrap_or(std::net::Ipv6Addr::UNSPECIFIED);
        let enabled = self.take("join.multicast.enabled", low.enabled, true, any);
        let group_v4 = self.take("join.multicast.group_v4", low.group_v4, Written(v4), |group| {
            (group.0.is_multicast() || group.0.is_unspecified())
                .then_some(())
                .ok_or("must be a multicast address, or \"0.0.0.0\" to leave IPv4 out")
        });
        let group_v6 = self.take("join.multicast.group_v6", low.group_v6, Written(v6), |group| {
            (group.0.is_multicast() || group.0.is_unspecified())
                .then_some(())
                .ok_or("must be a multicast address, or \"::\" to leave IPv6 out")
        });
        let port = self.take("join.multicast.port", low.port, normal.port, |port| {
            (*port != 0).then_some(()).ok_or("must be between 1 and 65535")
        });
        let interfaces = self.take(
            "join.multicast.interfaces",
            low.interfaces,
            normal.interfaces.clone(),
            |names| {
                names
                    .iter()
                    .all(|name| !name.is_empty() && name.len() < 16 && !name.contains('/'))
                    .then_some(())
                    .ok_or("must name interfaces as `ip link` does")
            },
        );
        enabled.then_some(MulticastConfig {
            group_v4: Some(group_v4.0).filter(|group| !group.is_unspecified()),
            group_v6: Some(group_v6.0).filter(|group| !group.is_unspecified()),
            port,
            interfaces,
            ..normal
        })
    }

    fn beacon(&mut self, low: low::Beacon) -> Option<Beacon> {
        let enabled = self.take("join.beacon.enabled", low.enabled, false, any);
        let address = self.take_optional("join.beacon.address", low.address, None, any);
        let key = self.take_optional("join.beacon.key", low.key, None, any);
        match (enabled, address, key) {
            (false, _, _) => None,
            (true, Some(Written(address)), Some(Written(key))) => Some(Beacon { address, key }),
            (true, _, _) => {
                self.contradiction(
                    &["join.beacon.enabled"],
                    "join.beacon needs both address and key when it is enabled".to_owned(),
                );
                None
            }
        }
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
        // A log that is small takes short updates.
        let storage_max =
            self.take("flood.storage_max", low.storage_max, Size(normal.storage_max), any).0;
        let longest = ByteSize(normal.body_max.0.min(storage_max.0 / 4).max(1));
        let flood = skep_flood::Config {
            prune: normal.prune,
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
            storage_max,
            body_max: self
                .take("flood.body_max", low.body_max, Size(longest), |size| {
                    let most = skep_flood::MAX_BODY_BYTES;
                    (1..=most).contains(&size.0.0).then_some(()).ok_or("must be 1 B to 4 GiB")
                })
                .0,
            eager_below: self
                .take("flood.eager_below", low.eager_below, Size(normal.eager_below), |size| {
                    let most = skep_flood::MAX_EAGER_BYTES as u64;
                    (1..=most).contains(&size.0.0).then_some(()).ok_or("must be 1 B to 32 KiB")
                })
                .0,
            cache_max: self.take("flood.cache_max", low.cache_max, Size(normal.cache_max), any).0,
            index_max: self.take("flood.index_max", low.index_max, normal.index_max, |count| {
                (*count >= 1024).then_some(()).ok_or("must be at least 1024")
            }),
        };
        if flood.pull_timeout >= flood.purge_age {
            let message = format!(
                "flood.pull_timeout ({}) must be below flood.purge_age ({})",
                Span(flood.pull_timeout),
                Span(flood.purge_age)
            );
            self.contradiction(&["flood.pull_timeout", "flood.purge_age"], message);
        }
        if flood.storage_max.0 / 4 < flood.body_max.0 {
            let message = format!(
                "flood.storage_max ({}) must be at least four times flood.body_max ({})",
                Size(flood.storage_max),
                Size(flood.body_max)
            );
            self.contradiction(&["flood.storage_max", "flood.body_max"], message);
        }
        flood
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
            life: self.span("ca.life", low.life, skep_identity::DEFAULT_LIFE, |life| {
                (skep_identity::MIN_LIFE..=skep_identity::MAX_LIFE)
                    .contains(&life.0)
                    .then_some(())
                    .ok_or("must be between 10s and 398d")
            }),
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
            root: self.take("wave.root", low.root, PathBuf::from("/"), absolute),
            send_rate,
            fetch_rate,
            keep_versions: self.take("wave.keep_versions", low.keep_versions, 5, any),
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

fn plain<T>(written: Vec<Written<T>>) -> Vec<T> {
    written.into_iter().map(|Written(value)| value).collect()
}

/// An error that no file is to blame for.
fn elsewhere(message: String) -> ConfigError {
    ConfigError { path: None, at: None, message, hint: None }
}
