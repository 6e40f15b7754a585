//! A manager whose disk takes nothing any more, for it is full or turned read-only (DVM-10): it
//! steps down and says so, others decide in its stead, and mended and restarted it is one of them
//! again.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skep_base::ByteSize;
use skep_lab::{BlockDisk, Host};

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};

/// Room for what an agent keeps, and little to fill up.
const ROOM: &str = "32m";
/// A disk of its own for each, with a journal.
const DISK: ByteSize = ByteSize(64 << 20);
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

/// Waits until a manager whose disk takes nothing has stepped down and says so.
fn until_stepped_down(bloc: &Bloc, node: &Node, other: &Node, words: [&str; 2]) -> Result<()> {
    bloc.lab.wait_until("its disk takes nothing, and it says so", PATIENCE, || {
        // What is asked at that moment may be answered by nobody.
        drop(set(other, 2));
        let seen = management(node)?;
        ensure!(seen["role"] == "holding", "{seen}");
        let said = node.events()?;
        let noted = |event: &Value| event["what"].to_string().contains(words[0]);
        ensure!(said.iter().any(noted), "nothing of it in {said:?}");
        let problems = node.ask(&["status"])?["problems"].to_string();
        ensure!(problems.contains(words[1]), "{problems}");
        Ok(())
    })
}

fn until_said(bloc: &Bloc, nodes: &[&Node], value: usize) -> Result<()> {
    for node in nodes {
        bloc.lab.wait_until("all have it", PATIENCE, || {
            let says = says(node)?;
            ensure!(says == value, "{} says {says}", node.name);
            Ok(())
        })?;
    }
    Ok(())
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
    until_stepped_down(&bloc, &nodes[place], others[0], ["disk is full", "make room"])?;
    bloc.lab.wait_until("another decides", PATIENCE, || set(others[0], 3))?;
    until_said(&bloc, &others, 3)?;

    nodes[place].host.shell(format!("rm {STATE}/ballast")).run()?;
    nodes[place].kill()?;
    nodes[place].start()?;
    let next = until_managed(&bloc, &nodes.iter().collect::<Vec<_>>(), 2)?;
    ensure!(next != place, "it is master again, unasked");
    until_said(&bloc, &[&nodes[place]], 3)
}

#[test]
fn a_master_whose_disk_turns_read_only_steps_down_and_says_so_and_is_a_manager_again() -> Result<()>
{
    let Some(bloc) = Bloc::or_skip("read-only-manager")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c"])?;
    let mut disks = Vec::new();
    for host in &hosts {
        let disk = host.block_disk("disk", DISK)?;
        if let Err(why) = disk.can_fail() {
            writeln!(std::io::stderr(), "left out a faulty disk: {why}")?;
            return Ok(());
        }
        put_in(host, &disk)?;
        disks.push(disk);
    }
    let mut nodes = bloc.started(&hosts, &Settings::default())?;
    let place = until_managed(&bloc, &nodes.iter().collect::<Vec<_>>(), 2)?;
    set(&nodes[place], 1)?;

    // The kernel finds a fault and lets nobody write any more, whoever has files open.
    disks[place].fail()?;
    let others: Vec<&Node> = nodes.iter().filter(|node| node.name != nodes[place].name).collect();
    let words = ["disk is read-only", "Read-only file system"];
    until_stepped_down(&bloc, &nodes[place], others[0], words)?;
    bloc.lab.wait_until("another decides", PATIENCE, || set(others[0], 3))?;
    until_said(&bloc, &others, 3)?;

    nodes[place].kill()?;
    hosts[place].shell(format!("umount {STATE}")).run()?;
    disks[place].repair()?;
    put_in(&hosts[place], &disks[place])?;
    nodes[place].start()?;
    let next = until_managed(&bloc, &nodes.iter().collect::<Vec<_>>(), 2)?;
    ensure!(next != place, "it is master again, unasked");
    until_said(&bloc, &[&nodes[place]], 3)
}

fn put_in(host: &Host, disk: &BlockDisk) -> Result<()> {
    let device = disk.device()?;
    host.shell(format!("mkdir -p {STATE}; mount {} {STATE}", device.display())).run().map(drop)
}
