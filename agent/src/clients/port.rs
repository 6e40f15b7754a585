//! Opening the client port as the configuration says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use skep_client_port::{Ask, ClientPort, Host, Listeners, Provenance, Tls, Who};
use skep_control::SocketFile;
use skep_lines::{MAX_PORT_ADDRESSES, Ports};
use skep_records::kind as record;
use skep_store::bodies::Spools;
use tokio::sync::mpsc;

use crate::clients::spools::BesideTheLog;
use crate::config::Config;
use crate::config::high::{Client, Who as Allowed};
use crate::spine::Request;

/// How long a client may take nothing of what was sent to it: longer than a pause of its program,
/// shorter than a night.
const STALL: Duration = Duration::from_secs(60);

/// A port that serves.
pub struct Opened {
    port: ClientPort,
    /// Of its unix socket: removed when this is dropped.
    _file: Option<SocketFile>,
}

/// Opens the port. Asks go to `asks`.
///
/// # Errors
/// An address that cannot be listened on, and what to do.
pub async fn open(
    config: &Config,
    tls: Tls,
    (provenance, spools): (Arc<dyn Provenance>, Spools),
    asks: mpsc::Sender<Ask>,
) -> anyhow::Result<Opened> {
    let Client { socket, group, listen, tls: over_tls, .. } = &config.client;
    let mut listeners = Listeners::default();
    let readers = skep_control::group_number(group).unwrap_or_default();
    let mut file = None;
    match bind_local(socket, readers).await {
        Ok((listener, made)) => {
            listeners.local.push(listener);
            file = Some(made);
        }
        // Nobody may have asked for it, and nothing else depends on it.
        Err(error) => tracing::warn!(%error, "applications cannot connect on the unix socket"),
    }
    listeners.plain = bind(listen)?;
    listeners.tls = bind(over_tls)?;
    let allowed = config.client.exit_allowed.clone();
    let limits = skep_client_port::Config {
        clients: config.client.clients_max,
        line_max: config.client.line_max,
        idle: config.client.idle_timeout,
        stall: STALL,
        memory: usize::try_from(config.client.memory_max.0).unwrap_or(usize::MAX),
        spool: config.client.spool_max.0,
        body_max: config.flood.body_max.0,
    };
    let host = Host {
        node: tls.identity.current().info().node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        spools: Arc::new(BesideTheLog(spools)),
        may_exit: Arc::new(move |who| may_exit(&allowed, who)),
        provenance,
    };
    let port = skep_client_port::start(listeners, Some(tls), limits, host, asks)
        .context("cannot serve clients")?;
    for address in port.plain().iter().chain(port.tls()) {
        tracing::info!(%address, "serving clients");
    }
    Ok(Opened { port, _file: file })
}

async fn bind_local(
    path: &std::path::Path,
    readers: Option<u32>,
) -> Result<(tokio::net::UnixListener, SocketFile), skep_control::ListenError> {
    match skep_control::bind(path, readers).await {
        // An ordinary user cannot give a file to a group that he is not in, and has no need to.
        Err(skep_control::ListenError::Io { source, .. })
            if readers.is_some() && source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            skep_control::bind(path, None).await
        }
        bound => bound,
    }
}

fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<std::net::TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match skep_transport::bind(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if crate::boot::lacks_family(&error) => {
                tracing::info!(%address, "this host has no such address; no clients there");
            }
            Err(error) => {
                let hint = format!("cannot serve clients on {address}; see client.port");
                return Err(error).context(hint);
            }
        }
    }
    Ok(listeners)
}

/// Root and the agent's own user may anyway, by a signal; others where they are listed.
fn may_exit(allowed: &[Allowed], who: &Who) -> bool {
    match who {
        Who::Local { operator, .. } => *operator,
        Who::Plain(remote) => allowed.iter().any(|one| one.holds(remote.ip())),
        Who::Certified { node, .. } => {
            allowed.iter().any(|one| matches!(one, Allowed::Name(name) if name == node))
        }
    }
}

impl Opened {
    /// Tells the other nodes where clients on other hosts reach this port.
    pub async fn announce(&self, requests: &mpsc::Sender<Request>) {
        if let Some(ports) = announced(&self.port) {
            let body = Some(ports.to_body().into());
            let announce = Request::Publish { kind: record::CLIENT_PORTS, schema: 1, body };
            if requests.send(announce).await.is_err() {
                tracing::debug!("the main loop is gone before it began");
            }
        }
    }

    /// Sends the clients home.
    pub async fn stop(self) {
        self.port.stop().await;
    }
}

fn announced(port: &ClientPort) -> Option<Ports> {
    let outward = |listening: &[SocketAddr]| {
        let mut found = Vec::new();
        for socket in listening {
            if socket.ip().is_unspecified() {
                let of_host = crate::boot::addresses_of_host(*socket);
                found.extend(of_host.into_iter().map(|address| address.socket));
            } else if !socket.ip().is_loopback() {
                found.push(*socket);
            }
        }
        found.truncate(MAX_PORT_ADDRESSES);
        found
    };
    let ports = Ports { plain: outward(port.plain()), tls: outward(port.tls()) };
    (ports != Ports::default()).then_some(ports)
}
