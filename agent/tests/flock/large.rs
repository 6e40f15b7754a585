//! Large updates between real agents: over the bulk lane, piece by piece, and on after a kill.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use skep_base::Digest;

use crate::agents::{Agent, Bloc};
use crate::ports;

/// What is handed over in memory at most.
const BODY_BYTES: usize = 8 << 20;
pub(crate) const PIECE_BYTES: u64 = 256 * 1024;

/// A body in which each piece is another.
fn body(number: u8) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    let mut bytes = Vec::with_capacity(BODY_BYTES);
    while bytes.len() < BODY_BYTES {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes
}

/// Says whether it was taken: an agent that has just started may take nothing yet.
fn publish(port: u16, body: &[u8]) -> bool {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(client, "binary {} all\r\n", body.len()).unwrap();
    client.write_all(body).unwrap();
    write!(client, "quit\r\n").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    said.contains("\r\n250 ")
}

/// Updates in the log.
pub(crate) fn held(agent: &Agent) -> u64 {
    agent.ask(&["group", "all"])["updates"].as_u64().unwrap()
}

/// Bytes that the agent received over all its links.
pub(crate) fn received(agent: &Agent) -> u64 {
    let metrics = agent.ask(&["metrics"]);
    let found = metrics.as_array().unwrap().iter().find(|it| it["name"] == "received");
    found.unwrap()["value"].as_u64().unwrap()
}

/// Pieces of the update that is coming in.
pub(crate) fn kept(agent: &Agent) -> u64 {
    let Ok(incoming) = fs::read_dir(agent.dir.join("state/incoming")) else {
        return 0;
    };
    let parts = incoming.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.extension().is_some_and(|end| end == "part").then_some(path)
    });
    let blocks = parts.filter_map(|path| {
        use std::os::unix::fs::MetadataExt as _;
        Some(fs::metadata(path).ok()?.blocks() * 512)
    });
    blocks.sum::<u64>() / PIECE_BYTES
}

/// The large bodies in the log.
fn bodies(agent: &Agent) -> BTreeMap<OsString, (usize, Digest)> {
    let bodies = fs::read_dir(agent.dir.join("state/log/bodies")).unwrap().map(Result::unwrap);
    let shown = |bytes: Vec<u8>| (bytes.len(), Digest::of(&bytes));
    bodies.map(|entry| (entry.file_name(), shown(fs::read(entry.path()).unwrap()))).collect()
}

/// Bytes of large bodies that are whole.
fn whole(agent: &Agent) -> u64 {
    let bodies = fs::read_dir(agent.dir.join("state/log/bodies"));
    let files = bodies.into_iter().flatten().filter_map(|entry| entry.ok()?.metadata().ok());
    files.map(|meta| meta.len() / BODY_BYTES as u64 * BODY_BYTES as u64).sum()
}

#[test]
fn what_came_of_large_updates_before_a_kill_does_not_come_again() {
    const UPDATES: u8 = 6;
    let bloc = Bloc::new();
    let port = ports::free();
    let serving = format!("[client]\nenabled = true\nport = {port}\naddresses = [\"127.0.0.1\"]\n");
    let mut master = bloc.agent("master", "30d", &[], &serving);
    let mut inferno = bloc.agent("inferno", "30d", &[&master], "");
    master.start();
    for number in 0..UPDATES {
        let body = body(number);
        master.until("it takes updates", || publish(port, &body));
    }
    inferno.start();
    inferno.until("some pieces are here", || kept(&inferno) >= 4);
    inferno.kill();
    let total = u64::from(UPDATES) * BODY_BYTES as u64;
    let (pieces, before) = (kept(&inferno), whole(&inferno));
    assert!(pieces >= 4 || before > 0, "something was kept");
    inferno.start();
    inferno.until("all are here", || held(&inferno) == u64::from(UPDATES));
    // What is counted may still be on its way to the disk.
    inferno.until("all are on the disk", || whole(&inferno) == total && kept(&inferno) == 0);
    let rest = total.saturating_sub(before + pieces * PIECE_BYTES);
    let again = received(&inferno);
    assert!(again < rest + 16 * PIECE_BYTES, "{again} bytes came for the {rest} that were missing");
    assert_eq!(bodies(&inferno), bodies(&master), "the same, in the same order");
    let left = kept(&inferno);
    assert_eq!(left, 0, "nothing is left of what came in");
}
