//! etcd with Debian's defaults: the peer that fail-over and catalog writes are measured by.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Seat;
use super::http::{ANSWER_WITHIN, Http};

const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;

pub(super) fn prepare(seats: &[Seat]) -> Result<()> {
    let members: Vec<String> =
        seats.iter().map(|seat| format!("{}=http://{}:{PEERS}", seat.name, seat.ip)).collect();
    for seat in seats {
        let (name, ip) = (&seat.name, seat.ip);
        let mut text = format!("name: {name}\ndata-dir: {}\n", seat.folder.join("data").display());
        for (what, port) in [("client", CLIENTS), ("peer", PEERS)] {
            let advertised =
                if what == "client" { "advertise-client" } else { "initial-advertise-peer" };
            writeln!(text, "listen-{what}-urls: http://{ip}:{port}")?;
            writeln!(text, "{advertised}-urls: http://{ip}:{port}")?;
        }
        // Without a file the gateway is there; with one it has to be said.
        writeln!(text, "enable-grpc-gateway: true\ninitial-cluster: {}", members.join(","))?;
        fs::write(config(seat), text).with_context(|| format!("configuring {name}"))?;
    }
    Ok(())
}

pub(super) fn agent(binary: &Path, seat: &Seat) -> Command {
    let mut command = Command::new(binary);
    command.arg("--config-file").arg(config(seat));
    command
}

fn config(seat: &Seat) -> std::path::PathBuf {
    seat.folder.join("etcd.yml")
}

/// A client's connection to one member, over its JSON gateway.
pub struct EtcdClient(Http<TcpStream>);

impl EtcdClient {
    /// Connects to the member of `seat`.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn new(seat: &Seat) -> Result<Self> {
        let stream = TcpStream::connect((seat.ip, CLIENTS))
            .with_context(|| format!("connecting to etcd of {}", seat.name))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self(Http::over(stream)))
    }

    /// Writes one key, and waits until that is decided.
    ///
    /// # Errors
    /// When it is refused.
    pub fn put(&mut self) -> Result<()> {
        // `bench` and `value` in base 64.
        self.0.post("/v3/kv/put", &json!({ "key": "YmVuY2g=", "value": "dmFsdWU=" })).map(drop)
    }

    /// Whether the member leads.
    ///
    /// # Errors
    /// When it does not say.
    pub fn leads(&mut self) -> Result<bool> {
        let status = self.0.post("/v3/maintenance/status", &json!({}))?;
        let leader = status["leader"].as_str().context("it names no leader")?;
        Ok(status["header"]["member_id"] == leader)
    }
}
