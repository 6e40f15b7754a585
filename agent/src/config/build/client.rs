//! What applications and other sites are told: the client protocol, and nodes known beforehand.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use skep_base::{ByteSize, NodeName};
use skep_transport::discovery::MAX_JOIN_ADDRESSES;

use super::groups::take_named;
use super::{Build, absolute, any, plain};
use crate::config::high::{Client, Join, MAX_PEERS, Peer};
use crate::config::low::{self, Maybe, Named};
use crate::config::origin::Key;
use crate::config::units::{Size, Span, Written};
use crate::config::values::Location;

impl Build<'_> {
    /// Nodes that are known beforehand.
    pub(super) fn peers(&mut self, mut named: Named<low::Peer>) -> BTreeMap<NodeName, Peer> {
        let mut peers = BTreeMap::new();
        for name in self.names("peers", named.keys().map(toml::Spanned::as_ref)) {
            let (span, low) = take_named(&mut named, &name);
            let key = |field: &str| Key::from(format!("peers.{name}.{field}"));
            let few = |addresses: &Vec<_>| {
                (addresses.len() <= 8).then_some(()).ok_or("may hold at most 8 addresses")
            };
            let addresses = self.take_optional(key("addresses"), low.addresses, None, few);
            let client = self.take_optional(key("client"), low.client, None, any);
            let at = (low.latitude, low.longitude);
            let location = self.location((key("latitude"), key("longitude")), at);
            let peer = Peer {
                addresses: addresses.map(plain).unwrap_or_default(),
                client: client.map(|Written(client)| client),
                location,
            };
            match NodeName::new(&name) {
                Ok(node) => {
                    peers.insert(node, peer);
                }
                Err(error) => self.misnamed("peers", &name, span, &error.to_string()),
            }
        }
        if peers.len() > MAX_PEERS {
            self.contradiction(&[], format!("more than {MAX_PEERS} tables [peers.NAME]"));
        }
        peers
    }

    /// What is known beforehand is dialled.
    pub(super) fn join_peers(&mut self, join: &mut Join, peers: &BTreeMap<NodeName, Peer>) {
        for address in peers.values().flat_map(|peer| &peer.addresses) {
            if !join.addresses.contains(address) {
                join.addresses.push(address.clone());
            }
        }
        if join.addresses.len() > MAX_JOIN_ADDRESSES {
            let message = format!(
                "join.addresses and the addresses of all [peers.NAME] are more than \
                 {MAX_JOIN_ADDRESSES}; put the rest into join.address_file"
            );
            self.contradiction(&["join.addresses"], message);
        }
    }

    /// A place of which both halves are said, or none.
    pub(super) fn location(
        &mut self,
        (latitude_key, longitude_key): (Key, Key),
        (latitude, longitude): (Maybe<f64>, Maybe<f64>),
    ) -> Option<Location> {
        let latitude = self.take_optional(latitude_key.clone(), latitude, None, |degrees| {
            (-90.0..=90.0)
                .contains(degrees)
                .then_some(())
                .ok_or("must be between -90 and 90 degrees, north is positive")
        });
        let longitude = self.take_optional(longitude_key.clone(), longitude, None, |degrees| {
            (-180.0..=180.0)
                .contains(degrees)
                .then_some(())
                .ok_or("must be between -180 and 180 degrees, east is positive")
        });
        match (latitude, longitude) {
            (Some(latitude), Some(longitude)) => Some(Location { latitude, longitude }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let message =
                    format!("{latitude_key} and {longitude_key} are said together or not");
                self.contradiction(&[&latitude_key, &longitude_key], message);
                None
            }
        }
    }

    /// The client protocol. Its unix socket stands beside that of `control` unless it is told
    /// otherwise; an update of `body_max` must pass.
    pub(super) fn client(
        &mut self,
        low: low::Client,
        control: &Path,
        body_max: ByteSize,
    ) -> Client {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        let few = |addresses: &Vec<Written<IpAddr>>| {
            (addresses.len() <= 16).then_some(()).ok_or("may hold at most 16 addresses")
        };
        let socket = skep_cli::client_socket(control);
        let socket = self.take("client.socket", low.socket, socket, absolute);
        let group =
            self.take("client.group", low.group, "skep-flood".to_owned(), |name: &String| {
                (!name.is_empty() && name.len() <= 64 && !name.contains(':'))
                    .then_some(())
                    .ok_or("must be a group's name or number")
            });
        let enabled = self.take("client.enabled", low.enabled, false, any);
        let port = self.take("client.port", low.port, 2000, |port| {
            (*port != 0).then_some(()).ok_or("must be between 1 and 65535")
        });
        let addresses =
            self.take("client.addresses", low.addresses, loopback.map(Written).to_vec(), few);
        let tls_port = self.take("client.tls_port", low.tls_port, 0, any);
        let tls_addresses = self.take(
            "client.tls_addresses",
            low.tls_addresses,
            everywhere.map(Written).to_vec(),
            few,
        );
        let exit_allowed =
            self.take("client.exit_allowed", low.exit_allowed, Vec::new(), |who: &Vec<_>| {
                (who.len() <= 256).then_some(()).ok_or("may hold at most 256 entries")
            });
        let clients_max = self.take("client.clients_max", low.clients_max, 1024, |count| {
            (1..=65_536).contains(count).then_some(()).ok_or("must be between 1 and 65536")
        });
        let (memory_max, spool_max) = self.client_room(low.memory_max, low.spool_max, body_max);
        let line = Size(ByteSize(64 << 10));
        let line_max = self.take("client.line_max", low.line_max, line, |size: &Size| {
            (512..=1 << 20)
                .contains(&size.0.0)
                .then_some(())
                .ok_or("must be between 512 B and 1 MiB")
        });
        let idle = Span(Duration::from_secs(600));
        let idle_timeout = self.take("client.idle_timeout", low.idle_timeout, idle, |span| {
            (span.0 >= Duration::from_secs(1)).then_some(()).ok_or("must be at least 1s")
        });
        let tls_clash = tls_port == port
            && tls_addresses.iter().any(|Written(tls)| {
                let covers = |of: &IpAddr| of.is_unspecified() && of.is_ipv4() == tls.is_ipv4();
                addresses.iter().any(|Written(plain)| {
                    plain == tls
                        || covers(plain)
                        || (covers(tls) && plain.is_ipv4() == tls.is_ipv4())
                })
            });
        if tls_clash {
            let message = format!("client.tls_port ({tls_port}) must be another than client.port");
            self.contradiction(&["client.tls_port", "client.port"], message);
        }
        let sockets = |addresses: Vec<Written<IpAddr>>, port: u16| -> Vec<SocketAddr> {
            plain(addresses).into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
        };
        let tls = if tls_port == 0 { Vec::new() } else { sockets(tls_addresses, tls_port) };
        let listen = sockets(addresses, port);
        Client {
            socket,
            group,
            listen: if enabled { listen } else { Vec::new() },
            tls: if enabled { tls } else { Vec::new() },
            exit_allowed: plain(exit_allowed),
            clients_max,
            memory_max,
            spool_max,
            line_max: line_max.in_memory(),
            idle_timeout: idle_timeout.0,
        }
    }

    fn client_room(
        &mut self,
        memory_max: Maybe<Size>,
        spool_max: Maybe<Size>,
        body_max: ByteSize,
    ) -> (ByteSize, ByteSize) {
        let memory = Size(ByteSize(64 << 20));
        let memory = self.take("client.memory_max", memory_max, memory, |size| {
            let least = skep_client_port::MEMORY_LEAST_BYTES as u64;
            (size.0.0 >= least).then_some(()).ok_or("must be at least 65 KiB")
        });
        let spool = Size(ByteSize(body_max.0.max(1 << 30)));
        let spool = self.take("client.spool_max", spool_max, spool, any);
        if spool.0 < body_max {
            let body_max = Size(body_max);
            let message =
                format!("client.spool_max ({spool}) must hold flood.body_max ({body_max})");
            self.contradiction(&["client.spool_max", "flood.body_max"], message);
        }
        (memory.0, spool.0)
    }
}
