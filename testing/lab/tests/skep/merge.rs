//! Halves that were started without a common seed become one flock, by each means alone (BLOC-2,
//! BLOC-15 to BLOC-18).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skep_lab::Host;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings, address};

const ALL: [&str; 4] = ["a", "b", "c", "d"];

/// Two halves of two nodes, each joined within itself only.
fn halves(bloc: &Bloc, hosts: &[Host; 4], settings: &Settings) -> Result<Vec<Node>> {
    let mut nodes = bloc.started(&hosts[..2], settings)?;
    nodes.extend(bloc.started(&hosts[2..], settings)?);
    bloc.until_present(&[&nodes[0], &nodes[1]], &["a", "b"])?;
    bloc.until_present(&[&nodes[2], &nodes[3]], &["c", "d"])?;
    Ok(nodes)
}

#[test]
fn multicast_alone_merges_halves() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("by-multicast")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(ALL)?;
    bloc.lab.partition(&[&hosts[..2], &hosts[2..]])?;
    let settings = Settings { multicast: true, ..Settings::default() };
    let nodes = halves(&bloc, &hosts, &settings)?;
    bloc.lab.heal()?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &ALL)
}

#[test]
fn one_late_join_address_alone_merges_halves() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("by-join-address")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(ALL)?;
    let nodes = halves(&bloc, &hosts, &Settings::default())?;
    let known = nodes[0].presence()?;
    ensure!(known.len() == 2, "nothing told a of the others, but it knows {known:?}");
    nodes[1].skep(&["join-address", &address(&hosts[3])]).run()?;
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &ALL)
}

#[test]
fn the_beacon_alone_merges_halves() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("by-beacon")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(ALL)?;
    let [light] = bloc.lab.machines(["light"])?;
    let beacon = light
        .command(bloc.binary())
        .args(["beacon", "serve", "--listen", "0.0.0.0:7401", "--key", "/var/lib/beacon.key"])
        .spawn("beacon")?;
    let key = bloc.lab.wait_until("the beacon tells its key", PATIENCE, || {
        let said = beacon.stdout()? + &beacon.stderr()?;
        said.split(|c: char| !c.is_ascii_alphanumeric())
            .find(|word| word.len() >= 40)
            .map(str::to_owned)
            .context("no key in what it said")
    })?;
    // One half has it in its configuration, the other on its command line.
    let address = format!("{}:7401", light.ipv4());
    let settings = Settings { beacon: Some((address.clone(), key.clone())), ..Settings::default() };
    let mut nodes = bloc.started(&hosts[..2], &settings)?;
    for host in &hosts[2..] {
        let mut node = bloc.node(host, &Settings::joining(&[&hosts[2]]))?;
        node.start_with(&["--beacon", &address, "--beacon-key", &key])?;
        nodes.push(node);
    }
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &ALL)?;
    beacon.terminate(Duration::from_secs(30)).map(drop)
}
