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
    let now = nodes[0].member("b")?;
    ensure!(now["presence"] == "present" && now["incarnation"] == first["incarnation"], "{now}");
    let text = now["addresses"].to_string();
    ensure!(text.contains(&address(&hosts[1])) && !text.contains(&address(&hosts[2])), "{text}");
    ensure!(nodes[1].ask(&["status"])?["state"] == "running");
    Ok(())
}
