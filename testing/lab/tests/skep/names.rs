//! Two live nodes with one certificate: the one that was there first keeps the name.

use anyhow::{Result, ensure};

use crate::PATIENCE;
use crate::bloc::{Bloc, Settings, address};

#[test]
fn the_first_of_two_nodes_with_one_name_keeps_it() -> Result<()> {
    let Some(bloc) = Bloc::or_skip("one-name")? else {
        return Ok(());
    };
    let hosts = bloc.lab.machines(["a", "b", "twin"])?;
    let nodes = bloc.started(&hosts[..2], &Settings::default())?;
    bloc.until_present(&[&nodes[0], &nodes[1]], &["a", "b"])?;
    let first = nodes[0].member("b")?;

    let mut twin = bloc.twin(&nodes[1], &hosts[2], &Settings::joining(&[&hosts[0]]))?;
    twin.start()?;
    bloc.lab.wait_until("the twin knows that it is one", PATIENCE, || {
        let status = twin.ask(&["status"])?;
        ensure!(status["state"] == "duplicate", "{status}");
        ensure!(
            status["problems"].as_array().is_some_and(|list| !list.is_empty()),
            "it names no problem: {status}"
        );
        Ok(())
    })?;
    // The one that keeps its name is told of the other one, and says so where it is looked for.
    bloc.lab.wait_until("the first is told of its twin", PATIENCE, || {
        let status = nodes[1].ask(&["status"])?;
        let problems = status["problems"].to_string();
        ensure!(problems.contains("another live process has this node's name"), "{status}");
        let events = nodes[1].skep(&["events", "--json"]).run()?;
        let told = |line: &str| line.contains("\"duplicate\"") && line.contains("\"keeps\":true");
        ensure!(events.lines().any(told), "{events}");
        Ok(())
    })?;
    // The twin knows who told it, and who refused it names it with its address.
    let events = twin.skep(&["events", "--json"]).run()?;
    let yields = events.lines().find(|line| line.contains("\"duplicate\"")).unwrap_or_default();
    ensure!(yields.contains("\"keeps\":false") && yields.contains("a at "), "{events}");
    let events = nodes[0].skep(&["events", "--json"]).run()?;
    let twin_ip = hosts[2].ipv4().to_string();
    let refused = |line: &str| line.contains("\"refused\"") && line.contains(&twin_ip);
    ensure!(events.lines().any(|line| refused(line) && line.contains("the name b")), "{events}");

    let now = nodes[0].member("b")?;
    ensure!(now["presence"] == "present" && now["incarnation"] == first["incarnation"], "{now}");
    let text = now["addresses"].to_string();
    ensure!(text.contains(&address(&hosts[1])) && !text.contains(&address(&hosts[2])), "{text}");
    ensure!(nodes[1].ask(&["status"])?["state"] == "running");

    // Once the twin is gone that is no problem any more.
    twin.kill()?;
    bloc.lab.wait_until("the problem is over", PATIENCE, || {
        let problems = nodes[1].ask(&["status"])?["problems"].to_string();
        ensure!(problems == "[]", "{problems}");
        Ok(())
    })?;
    Ok(())
}
