//! Who is no member: garbage on the port, connections that say nothing, and nodes of another CA
//! (BLOC-7, BLOC-33, BLOC-34).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Result, ensure};
use skep_base::Rng;

use crate::PATIENCE;
use crate::bloc::{Bloc, PORT, Settings};

#[test]
fn strangers_are_refused_by_name_and_harm_nobody() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("strangers")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "noise", "stranger"])?;
    let nodes = bloc.started(&hosts[..2], &Settings::default())?;
    bloc.until_present(&[&nodes[0], &nodes[1]], &["a", "b"])?;
    let pid = nodes[0].process()?.pid();

    // Bytes that are no handshake, a handshake that stops, and connections that wait for ever.
    let mut rng = Rng::seeded(7);
    let to = (hosts[0].ip(), PORT);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(hosts[2].enter(|| TcpStream::connect(to))??);
    }
    for round in 0..50_usize {
        let mut stream = hosts[2].enter(|| TcpStream::connect(to))??;
        let mut bytes: Vec<u8> = (0..200).map(|_| rng.bits().to_le_bytes()[0]).collect();
        if round % 2 == 0 {
            // The head of a TLS record that promises a handshake of the greatest length.
            bytes[..5].copy_from_slice(&[0x16, 3, 1, 0x40, 0]);
        }
        // Either side may be first to close: what is told is in the events.
        stream.write_all(&bytes).ok();
        if round % 2 == 1 {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_to_end(&mut Vec::new()).ok();
        }
    }

    // A node that has the right bloc name and a name of ours, from another CA.
    let other = bloc.other_ca(&hosts[3], "b", &Settings::joining(&[&hosts[0]]))?;
    let mut other = other;
    other.start()?;
    bloc.lab.wait_until("a tells whom it refused", PATIENCE, || {
        let events = nodes[0].skep(&["events", "--json"]).run()?;
        let told = |host: usize| {
            let ip = hosts[host].ipv4().to_string();
            events.lines().any(|line| line.contains("\"refused\"") && line.contains(&ip))
        };
        ensure!(told(2), "nothing of the noise: {events}");
        ensure!(told(3), "nothing of the stranger: {events}");
        Ok(())
    })?;
    let seen = nodes[0].presence()?;
    ensure!(seen.len() == 2 && seen["b"] == "present", "a sees {seen:?}");
    ensure!(nodes[0].process()?.pid() == pid && nodes[0].process()?.is_running());
    drop(silent);
    bloc.until_present(&[&nodes[0], &nodes[1]], &["a", "b"])
}
