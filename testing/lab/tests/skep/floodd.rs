//! The sample configuration of floodd's document, word for word, as its two sites, and its export
//! script (FLOOD-4 to FLOOD-13, FLOOD-37 to FLOOD-42).

use std::fs;

use anyhow::{Context as _, Result, ensure};
use skep_lab::Host;

use crate::PATIENCE;
use crate::bloc::{Bloc, Node, Settings};
use crate::transcript::{hold, there};

/// The file of the document.
const SAMPLE: &str = include_str!("../../../../docs/examples/floodd.conf");
/// Its export script.
const SCRIPT: &str = include_str!("../../../../docs/examples/floodd-export");
/// Where the file has the script.
const FILER: &str = "/homes/dante/mirrord/inferno/bin/filer";
/// The port that the script floods to.
const SCRIPT_PORT: &str = "9000";

/// Clients are served where the original served them, and nobody is found by himself.
const EVERYWHERE: &str = "[join.multicast]\nenabled = false\n[client]\naddresses = [\"0.0.0.0\"]\n";
/// In the place of the original's `mirror`, of which only its use is known: floods what it reads to
/// the daemon at the address behind `--flood`, to every group of the site, and says what it heard.
const MIRROR: &str = r#"#!/bin/sh
while [ "$1" != --flood ]; do shift; done
{ echo data; cat; echo .; echo quit; } | nc "${2%:*}" "${2#*:}"
"#;

/// Both sites with a floodd file, as the document runs them; what the file has no word for is in
/// `skep.toml`.
fn sites(bloc: &Bloc, file: &str, more: [&str; 2]) -> Result<[Node; 2]> {
    let [valhalla, inferno] = bloc.lab.machines(["valhalla", "inferno"])?;
    let site = |host: &Host, name: &str, more: &str| -> Result<Node> {
        let node = bloc.node_named(host, name, &Settings::default())?;
        let identity = host.dir().join("identity");
        let own = format!("[node]\nidentity_dir = {identity:?}\n{more}");
        host.shell("cat > /etc/skep/skep.toml").stdin(own).run()?;
        host.shell("cat > /etc/floodd.conf").stdin(file).run()?;
        Ok(node)
    };
    let mut sites = [site(&valhalla, "master", more[0])?, site(&inferno, "inferno", more[1])?];
    for node in &mut sites {
        node.start_with(&["--floodd", "/etc/floodd.conf"])?;
    }
    let [master, inferno] = &sites;
    bloc.until_present(&[master, inferno], &["inferno", "master"])?;
    Ok(sites)
}

/// Lays a program out where the configuration or the script has it.
fn lay_out(host: &Host, path: &str, text: &str) -> Result<()> {
    let line = format!("mkdir -p \"$(dirname {path})\" && cat > {path} && chmod 755 {path}");
    host.shell(line).stdin(text).run().map(drop)
}

#[test]
fn the_sample_of_the_document_is_two_sites_that_people_talk_to() -> Result<()> {
    if !there(&["telnet", "nc"]) {
        return Ok(());
    }
    let Some(bloc) = Bloc::or_skip("floodd-sample")? else {
        return Ok(());
    };
    // Who sits at the master may stop it.
    let exit = format!("{EVERYWHERE}exit_allowed = [\"127.0.0.1\"]\n");
    let [master, inferno] = sites(&bloc, SAMPLE, [&exit, EVERYWHERE])?;
    for node in [&master, &inferno] {
        lay_out(&node.host, FILER, "#!/bin/sh\nexec cat >> /var/exported\n")?;
    }
    let at_master = master.host.ipv4().to_string();
    hold(&inferno.host, &["telnet", &at_master, "2000"], "master.txt")?;
    hold(&inferno.host, &["nc", "127.0.0.1", "2000"], "inferno.txt")?;
    hold(&inferno.host, &["nc", "127.0.0.1", "2000"], "listener.txt")?;
    // Both commands got all of it. Telnet ends each line with CR LF.
    for node in [&master, &inferno] {
        bloc.lab.wait_until("all is exported", PATIENCE, || {
            let exported = fs::read(node.host.root().join("var/exported"))?;
            ensure!(exported.len() == 34 + 17 + 6 + 3, "{exported:?}");
            Ok(())
        })?;
    }
    hold(&master.host, &["nc", "127.0.0.1", "2000"], "exit.txt")?;
    let ended = master.process()?.wait(PATIENCE)?;
    ensure!(ended.success(), "the master ended with {ended}");
    bloc.until_seen(&[&inferno], "master", "restarting")
}

#[test]
fn the_script_of_the_document_floods_again_and_the_loop_ends() -> Result<()> {
    if !there(&["nc"]) {
        return Ok(());
    }
    let Some(bloc) = Bloc::or_skip("floodd-again")? else {
        return Ok(());
    };
    // The document's own script floods to port 9000; a second group is where it can flood to.
    let second = "(:group-define (:group-name mirror-2) (:site master) (:site inferno))\n";
    let file = SAMPLE.replace("2000", SCRIPT_PORT) + second;
    let [master, inferno] = sites(&bloc, &file, [EVERYWHERE, EVERYWHERE])?;
    for node in [&master, &inferno] {
        let replica = format!("/root/replica/{}", node.host.name());
        node.host.shell(format!("mkdir -p {replica}/data")).run()?;
        lay_out(&node.host, &format!("{replica}/bin/mirror"), MIRROR)?;
        lay_out(&node.host, FILER, SCRIPT)?;
    }
    master.skep(&["flood", "send", "--group", "mirror-1", "--text", "(add-entry)\n"]).run()?;
    // Each site's script makes one update of it, which goes to the group it has not come from; of
    // those two each site's script makes two more, which have nowhere to go.
    for node in [&master, &inferno] {
        bloc.lab.wait_until("the loop has ended", PATIENCE, || {
            let figure = |name: &str| figure(node, name);
            let seen = (
                figure("export_updates{group=mirror-1}")?,
                figure("export_updates{group=mirror-2}")?,
                figure("reflooded")?,
            );
            ensure!(seen == (1, 2, 1), "exported and flooded again: {seen:?}");
            ensure!(figure("reflood_loops")? >= 1, "nothing was refused");
            Ok(())
        })?;
        let log = fs::read_to_string(
            node.host.root().join(format!("root/replica/{}/data/log.update", node.host.name())),
        )?;
        let (taken, refused) = ("250 mirror-2 ", "555 this has come through the export commands");
        ensure!(log.contains(taken) && log.contains(refused), "the script heard: {log}");
        let none_left = node.host.shell("ls -A ~/replica/*/data").run()?;
        ensure!(none_left.trim() == "log.update", "its files are gone: {none_left}");
    }
    // All that was published has been exported, and each export has ended: nothing is on its way.
    for node in [&master, &inferno] {
        let groups =
            node.host.shell(format!("printf 'groups\\nquit\\n' | nc 127.0.0.1 {SCRIPT_PORT}"));
        let groups = groups.run()?;
        for expected in ["mirror-1 here 2 members 1 updates", "mirror-2 here 2 members 2 updates"] {
            ensure!(groups.contains(expected), "not {expected}: {groups}");
        }
    }
    Ok(())
}

/// One of an agent's figures, named with its labels.
fn figure(node: &Node, name: &str) -> Result<u64> {
    let metrics = node.ask(&["metrics"])?;
    let metrics = metrics.as_array().context("metrics are no list")?;
    let named = |metric: &serde_json::Value| {
        let labels = metric["labels"].as_array().into_iter().flatten();
        let labels: Vec<String> =
            labels.map(|pair| format!("{}={}", text(&pair[0]), text(&pair[1]))).collect();
        let shown = text(&metric["name"]);
        if labels.is_empty() { shown } else { format!("{shown}{{{}}}", labels.join(",")) }
    };
    let found = metrics.iter().find(|metric| named(metric) == name);
    found.and_then(|metric| metric["value"].as_u64()).with_context(|| format!("no {name}"))
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
