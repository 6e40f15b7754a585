//! A manager whose disk takes nothing any more (DVM-10): it steps down and says so, others decide
//! in its stead, and with room and a restart it is one of them again.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};

/// Room for what an agent keeps, and little to fill up.
const ROOM: &str = "32m";
const STATE: &str = "/var/lib/skep";

fn management(node: &Node) -> Result<Value> {
    Ok(node.ask(&["flock"])?["management"].clone())
}

/// Waits until all name one master, which has so many backups; gives its place.
fn until_managed(bloc: &Bloc, nodes: &[&Node], backups: usize) -> Result<usize> {
    bloc.lab.wait_until("one master and its backups", PATIENCE, || {
        let seen: Vec<Value> = nodes.iter().map(|node| management(node)).collect::<Result<_>>()?;
        let named = seen[0]["master"].as_str().context("no master is named")?;
        for seen in &seen {
            ensure!(seen["master"] == named, "{named} is not its master: {seen}");
            let of = seen["backups"].as_array().map_or(0, Vec::len);
            ensure!(of == backups, "{of} backups: {seen}");
        }
        let place = nodes.iter().position(|node| node.name == named);
        let place = place.context("the master is not among those that are asked")?;
        ensure!(seen[place]["role"] == "master", "{named} is no master to itself");
        Ok(place)
    })
}

fn set(node: &Node, value: usize) -> Result<()> {
    let value = format!("value={value}");
    node.skep(&["catalog", "set", "setting/motd", &value]).deadline(PATIENCE).run().map(drop)
}

fn says(node: &Node) -> Result<Value> {
    Ok(node.ask(&["catalog", "get", "setting/motd"])?["fields"]["value"].clone())
}

#[test]
fn a_master_whose_disk_is_full_steps_down_and_says_so_and_is_a_manager_again() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("full-manager")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c"])?;
    for host in &hosts {
        let mount = format!("mkdir -p {STATE} && mount -t tmpfs -o size={ROOM} state {STATE}");
        host.shell(mount).run()?;
    }
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    let place = until_managed(&bloc, &nodes.iter().collect::<Vec<_>>(), 2)?;
    set(&nodes[place], 1)?;

    // To the last page: what has begun a page may still go on in it.
    let fill = format!("head -c 1G /dev/zero > {STATE}/ballast; df {STATE}");
    nodes[place].host.shell(fill).output()?;
    let others: Vec<&Node> = nodes.iter().filter(|node| node.name != nodes[place].name).collect();
    bloc.lab.wait_until("its disk takes nothing, and it says so", PATIENCE, || {
        // What is asked at that moment may be answered by nobody.
        drop(set(others[0], 2));
        let seen = management(&nodes[place])?;
        ensure!(seen["role"] == "holding", "{seen}");
        let said = nodes[place].events()?;
        let full = |event: &Value| event["what"].to_string().contains("disk is full");
        ensure!(said.iter().any(full), "nothing of a full disk in {said:?}");
        let problems = nodes[place].ask(&["status"])?["problems"].to_string();
        ensure!(problems.contains("make room"), "{problems}");
        Ok(())
    })?;
    bloc.lab.wait_until("another decides", PATIENCE, || set(others[0], 3))?;
    for node in &others {
        bloc.lab.wait_until("both have it", PATIENCE, || {
            let says = says(node)?;
            ensure!(says == 3, "{} says {says}", node.name);
            Ok(())
        })?;
    }

    nodes[place].host.shell(format!("rm {STATE}/ballast")).run()?;
    nodes[place].kill()?;
    nodes[place].start()?;
    let next = until_managed(&bloc, &nodes.iter().collect::<Vec<_>>(), 2)?;
    ensure!(next != place, "it is master again, unasked");
    bloc.lab.wait_until("it has what was decided without it", PATIENCE, || {
        let says = says(&nodes[place])?;
        ensure!(says == 3, "it says {says}");
        Ok(())
    })
}
