//! The computed topology on real hosts: near links, a master that is killed, and external commands
//! that answer well, fail, hang and talk nonsense (FLOOD-22 to FLOOD-24, FLOOD-26 to FLOOD-31;
//! MULTI-13).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skep_base::NodeId;
use skep_lab::{Host, Lab, Path};
use skep_topology::hash_overlay;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};

/// Measured and computed as often as the configuration lets one, so that it is over soon.
const OFTEN: &str = "ping_period = \"1s\"\nestimates_period = \"1s\"\nupdate_period = \"5s\"\n";
/// One way between hosts of two places, and within one.
const FAR: Duration = Duration::from_millis(25);
const NEAR: Duration = Duration::from_millis(1);
/// Three paths without a common host need three links between the places; a topology that is hardly
/// cheaper may have one more.
const FAR_LINKS: usize = 4;

/// A group's overlay as a node shows it.
#[derive(Debug)]
struct Seen {
    basis: String,
    epoch: Option<u64>,
    by: Option<String>,
    members: Option<u64>,
    switching: bool,
    failure: Option<String>,
    edges: BTreeSet<(String, String)>,
    /// Microseconds, by edge.
    rtts: BTreeMap<(String, String), u64>,
}

fn seen(node: &Node, group: &str) -> Result<Seen> {
    let shown = node.ask(&["topology", group])?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let sites = shown["sites"].as_array().context("no sites")?;
    let mut edges = BTreeSet::new();
    let mut rtts = BTreeMap::new();
    for edge in shown["edges"].as_array().context("no edges")? {
        let end = |end: &str| {
            let at = usize::try_from(edge[end].as_u64()?).ok()?;
            text(&sites.get(at)?["node"])
        };
        let (a, b) = end("a").zip(end("b")).context("an edge to nobody")?;
        let edge_of = if a < b { (a, b) } else { (b, a) };
        if let Some(rtt) = edge["rtt_us"].as_u64() {
            rtts.insert(edge_of.clone(), rtt);
        }
        edges.insert(edge_of);
    }
    let decree = &shown["decree"];
    Ok(Seen {
        basis: text(&shown["basis"]).context("no basis")?,
        epoch: decree["epoch"].as_u64(),
        by: text(&decree["by"]),
        members: decree["members"].as_u64(),
        switching: !shown["switching_ms"].is_null(),
        failure: text(&shown["failure"]["why"]),
        edges,
        rtts,
    })
}

/// Which place a host is at, by its name.
fn place(name: &str) -> char {
    name.chars().next().unwrap_or_default()
}

/// How many of these links lead from one place to the other.
fn far<'a>(links: impl IntoIterator<Item = &'a (String, String)>) -> usize {
    links.into_iter().filter(|(a, b)| place(a) != place(b)).count()
}

/// The links that the hash would choose, for comparison.
fn by_hash(names: &[&str]) -> Result<Vec<(String, String)>> {
    let bloc = "example".parse()?;
    let mut ids = BTreeMap::new();
    for name in names {
        ids.insert(NodeId::derive(&bloc, &name.parse()?), (*name).to_owned());
    }
    let members: Vec<NodeId> = ids.keys().copied().collect();
    let overlay = hash_overlay(&members, 3);
    Ok(overlay.edges().map(|(a, b)| (ids[&a].clone(), ids[&b].clone())).collect())
}

/// Waits until all of `nodes` have one and the same topology of `all` in force, whole, over as many
/// members, few of whose links are far; and gives it.
fn until_near(bloc: &Bloc, nodes: &[&Node]) -> Result<Seen> {
    bloc.lab.wait_until("a topology of near links is in force", PATIENCE, || {
        let first = seen(nodes[0], "all")?;
        ensure!(first.basis == "computed", "{first:?}");
        ensure!(first.members == Some(nodes.len() as u64), "{first:?}");
        let far = far(&first.edges);
        ensure!(far <= FAR_LINKS, "{far} of {} links are far", first.edges.len());
        for node in nodes {
            let other = seen(node, "all")?;
            ensure!(other.epoch == first.epoch && other.by == first.by, "{other:?}, {first:?}");
            ensure!(!other.switching, "{} keeps old links", node.name);
            ensure!(other.edges == first.edges, "{} sees {other:?}", node.name);
        }
        Ok(first)
    })
}

#[test]
fn links_are_near_and_another_computes_when_the_master_is_killed() -> Result<()> {
    let Some(lab) = Lab::switched_or_skip("topology-places") else {
        return Ok(());
    };
    let bloc = Bloc::on(lab)?;
    let names = ["x1", "x2", "x3", "x4", "y1", "y2", "y3", "y4"];
    let blind = far(&by_hash(&names)?);
    ensure!(blind >= 2 * FAR_LINKS, "{blind} links would be far by chance: that shows nothing");
    let hosts = bloc.lab.machines(names)?;
    bloc.lab.set_all_paths(|a, b| {
        Path::delayed(if place(a.name()) == place(b.name()) { NEAR } else { FAR })
    })?;
    let settings = Settings { in_groups: OFTEN.to_owned(), ..Settings::default() };
    let mut nodes = bloc.started(&hosts, &settings)?;
    let all: Vec<&Node> = nodes.iter().collect();
    bloc.until_present(&all, &names)?;
    // The first overlay may be near by chance, before anything is known of its links.
    let first = bloc.lab.wait_until("every link was measured", PATIENCE, || {
        let near = until_near(&bloc, &all)?;
        let (known, links) = (near.rtts.len(), near.edges.len());
        ensure!(known == links, "{known} of {links} links were measured");
        Ok(near)
    })?;
    // The lab's latency is what was measured.
    for ((a, b), rtt) in &first.rtts {
        let far = place(a) != place(b);
        let least = 2 * if far { FAR } else { NEAR };
        ensure!(u128::from(*rtt) >= least.as_micros(), "{a} and {b} are {rtt} µs apart");
        ensure!(far || u128::from(*rtt) < FAR.as_micros(), "{a} and {b} are {rtt} µs apart");
    }

    let by = first.by.context("a topology of nobody")?;
    let at = nodes.iter().position(|node| node.name == by).context("of a stranger")?;
    let mut lines = Vec::new();
    let mut publish = |node: &Node, when: &str| -> Result<()> {
        let line = format!("{when} {}", node.name);
        node.publish(&line)?;
        lines.push(line);
        Ok(())
    };
    publish(&nodes[at], "before")?;
    nodes[at].kill()?;
    let left: Vec<&Node> = nodes.iter().filter(|node| node.name != by).collect();
    for node in &left {
        publish(node, "meanwhile")?;
    }
    let second = until_near(&bloc, &left)?;
    ensure!(second.by.as_ref() != Some(&by) && second.epoch > first.epoch, "{second:?}");
    for node in &left {
        publish(node, "after")?;
    }
    bloc.until_logged(&left, &lines[1..])?;

    // It comes back with its old decree on its disk, and with what it alone may have had.
    nodes[at].start()?;
    let all: Vec<&Node> = nodes.iter().collect();
    let third = until_near(&bloc, &all)?;
    ensure!(third.by == second.by && third.epoch > second.epoch, "{third:?} after {second:?}");
    bloc.until_logged(&all, &lines)
}

/// Groups of the first five of six hosts, and what their commands do once they are told to break:
/// what is then said at the master.
const BROKEN: [(&str, &str); 4] = [
    ("fails", "the topology-generator ended with 3: no licence for the solver"),
    ("hangs", "took longer than 2s"),
    ("babbles", "is this the output of another program?"),
    ("thin", "it is not 2-connected"),
];
/// A group whose command goes on answering well.
const SOUND: &str = "sound";
/// While this file is there, commands break.
const BREAK: &str = "/run/skep/break";
/// A ring in the order of names. The group is its word.
const GENERATOR: &str = r#"#!/bin/sh
question=$(cat)
if [ -e /run/skep/break ]; then
    case $1 in
    fails) echo "no licence for the solver" >&2; exit 3 ;;
    hangs) sleep 1000 ;;
    babbles) echo "usage: solver [-v] FILE"; exit 0 ;;
    esac
fi
[ "$1" = thin ] && [ -e /run/skep/break ] && open=1 || open=0
echo "$question" | awk '$1 == "site" { print $2 }' | sort | awk -v open="$open" '
    { name[n++] = $1 }
    END {
        print "topology-generator 1"
        for (i = 0; i < n - open; i++) print "edge", name[i], name[(i + 1) % n]
        print "end"
    }'
"#;

fn groups() -> impl Iterator<Item = &'static str> {
    BROKEN.into_iter().map(|(group, _)| group).chain([SOUND])
}

fn lay_out_generator(host: &Host) -> Result<()> {
    let line = "mkdir -p /etc/skep && cat > /etc/skep/generator && chmod 755 /etc/skep/generator";
    host.shell(line).stdin(GENERATOR).run().map(drop)
}

/// Waits until each of `nodes` sees exactly this overlay of each group, decreed by the first host.
fn until_rings(bloc: &Bloc, nodes: &[Node]) -> Result<BTreeMap<&'static str, u64>> {
    let ring = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("a", "e")];
    let ring: BTreeSet<(String, String)> =
        ring.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let mut epochs = BTreeMap::new();
    for group in groups() {
        for node in nodes {
            let what = format!("{} sees the ring of {group}", node.name);
            let epoch = bloc.lab.wait_until(&what, PATIENCE, || {
                let seen = seen(node, group)?;
                ensure!(seen.basis == "computed" && seen.edges == ring, "{seen:?}");
                ensure!(seen.by.as_deref() == Some("a") && !seen.switching, "{seen:?}");
                seen.epoch.context("no epoch")
            })?;
            epochs.insert(group, epoch);
        }
    }
    Ok(epochs)
}

#[test]
fn a_command_that_fails_leaves_the_last_topology_and_says_why() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("topology-command")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "c", "d", "e", "f"])?;
    let more: String = groups()
        .map(|group| {
            format!(
                "[group.{group}]\nconnectivity = 2\ntopology_master = \"a\"\n\
                 topology_generator = \"/etc/skep/generator {group}\"\n"
            )
        })
        .collect();
    let in_groups = format!("{OFTEN}generator_time_limit = \"2s\"\n");
    let members = Settings { in_groups: in_groups.clone(), more, ..Settings::default() };
    let stranger = Settings { in_groups, ..Settings::joining(&[&hosts[0]]) };
    hosts.iter().try_for_each(lay_out_generator)?;
    let mut nodes = bloc.started(&hosts[..5], &members)?;
    let mut last = bloc.node(&hosts[5], &stranger)?;
    last.start()?;
    nodes.push(last);
    bloc.until_present(&nodes.iter().collect::<Vec<_>>(), &["a", "b", "c", "d", "e", "f"])?;
    // Also whoever is in none of the groups sees their topologies.
    let before = until_rings(&bloc, &nodes)?;

    let master = &nodes[0];
    master.host.shell(format!("touch {BREAK}")).run()?;
    for (group, why) in BROKEN {
        bloc.lab.wait_until(&format!("why {group} has no topology"), PATIENCE, || {
            let failure = seen(master, group)?.failure.context("no failure")?;
            ensure!(failure.contains(why), "{failure}");
            Ok(())
        })?;
        let said = master.skep(&["topology", group]).run()?;
        ensure!(said.contains("no topology") && said.contains(why), "{said}");
    }
    // What was decreed is in force everywhere, and updates go over it.
    ensure!(until_rings(&bloc, &nodes)? == before, "another topology is in force");
    for group in groups() {
        nodes[1].skep(&["flood", "send", "--group", group, "--text", "still here"]).run()?;
        for node in &nodes[..5] {
            bloc.lab.wait_until(&format!("{} has the update", node.name), PATIENCE, || {
                let tail = ["flood", "tail", "--group", group, "--from", "first", "--no-follow"];
                let had = node.skep(&tail).run()?;
                ensure!(had.contains("still here"), "it has {had:?}");
                Ok(())
            })?;
        }
    }
    let events = master.events()?;
    for (group, why) in BROKEN {
        let told = |event: &&Value| {
            event["event"] == "topology-fault"
                && event["group"] == group
                && event["why"].as_str().is_some_and(|said| said.contains(why))
        };
        ensure!(events.iter().any(|event| told(&event)), "no event of {group}: {events:?}");
    }
    ensure!(seen(master, SOUND)?.failure.is_none(), "the sound one failed as well");

    master.host.shell(format!("rm {BREAK}")).run()?;
    for (group, _) in BROKEN {
        bloc.lab.wait_until(&format!("{group} is computed again"), PATIENCE, || {
            let failure = seen(master, group)?.failure;
            ensure!(failure.is_none(), "{failure:?}");
            Ok(())
        })?;
    }
    Ok(())
}
