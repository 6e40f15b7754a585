//! Addresses that change while a node runs (BLOC-16): its record and its hello follow.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, PORT, Settings, address};

/// Where `node` says that `name` can be dialled.
fn addresses(node: &Node, name: &str) -> Result<Vec<String>> {
    let member = node.member(name)?;
    let list = member["addresses"].as_array().context("no list of addresses")?;
    Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[test]
fn a_node_is_reached_under_its_new_address_when_the_old_one_is_gone() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("addresses")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b"])?;
    let mut a = bloc.node(&hosts[0], &Settings { anywhere: true, ..Settings::default() })?;
    a.start()?;
    let moving = Settings { anywhere: true, ..Settings::joining(&[&hosts[0]]) };
    let mut b = bloc.node(&hosts[1], &moving)?;
    b.start()?;
    bloc.until_present(&[&a, &b], &["a", "b"])?;
    ensure!(addresses(&a, "b")? == [address(&hosts[1])], "{:?}", addresses(&a, "b")?);

    let old = hosts[1].ipv4();
    let [x, y, z, last] = old.octets();
    let new = Ipv4Addr::new(x, y, z, last + 100);
    let line = hosts[1].shell(format!("ip -o -4 addr show to {old}")).run()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let (device, prefix) = (words[1], words[3].split_once('/').context("no prefix")?.1);
    hosts[1].shell(format!("ip addr add {new}/{prefix} dev {device}")).run()?;
    bloc.lab.wait_until("a knows the second address", PATIENCE, || {
        let known = addresses(&a, "b")?;
        ensure!(known.contains(&format!("{new}:{PORT}")) && known.len() == 2, "{known:?}");
        Ok(())
    })?;

    // Where the old address was a primary one, the other one of its network may go with it.
    let keep = format!("ip addr add {new}/{prefix} dev {device} 2>/dev/null || true");
    hosts[1].shell(format!("ip addr del {old}/{prefix} dev {device}; {keep}")).run()?;
    bloc.lab.wait_until("a reaches b under the new address alone", PATIENCE, || {
        let (known, links) = (addresses(&a, "b")?, a.ask(&["links"])?);
        ensure!(known == [format!("{new}:{PORT}")], "{known:?}");
        let remote = links[0]["remote"].as_str().unwrap_or_default().to_owned();
        ensure!(remote.starts_with(&new.to_string()), "{links}");
        Ok(())
    })?;
    bloc.until_present(&[&a, &b], &["a", "b"])?;

    // From a's disk, which heard of the new address only in a hello or a record: b is told nothing.
    a.kill()?;
    bloc.until_seen(&[&b], "a", "silent")?;
    a.start()?;
    bloc.until_present(&[&a, &b], &["a", "b"])
}

#[test]
fn a_flock_of_ipv6_alone_is_one_like_others() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("six")? else {
        return Ok(());
    };
    let names = ["a", "b", "c"];
    let hosts = bloc.lab.machines(names)?;
    let seed = format!("[{}]:{PORT}", hosts[0].ipv6());
    let mut nodes = Vec::new();
    for host in &hosts {
        host.shell("ip -4 addr flush scope global").run()?;
        let settings = Settings { six: true, join: vec![seed.clone()], ..Settings::default() };
        let mut node = bloc.node(host, &settings)?;
        node.start()?;
        nodes.push(node);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &names)?;
    let lines: Vec<String> = names.iter().map(|name| format!("{name} by IPv6")).collect();
    for (node, line) in nodes.iter().zip(&lines) {
        node.publish(line)?;
    }
    bloc.until_logged(&all, &lines)?;
    for node in &nodes {
        let links = node.ask(&["links"])?;
        let remotes = links.as_array().context("links are no list")?.iter();
        let remotes: Vec<String> = remotes.map(|link| link["remote"].to_string()).collect();
        ensure!(!remotes.is_empty(), "{} has no links", node.name);
        ensure!(remotes.iter().all(|remote| remote.contains("fd77:")), "{remotes:?}");
    }
    Ok(())
}
