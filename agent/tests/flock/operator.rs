//! The operator's hand on the managers, nodes that are expelled, and what is refused at the start:
//! DVM-1, DVM-22, BLOC-21.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::agents::{Agent, Bloc};

/// Managers that lost both others look after themselves soon.
const SOON: &str = "[managers]\nalone = \"5s\"\norphaned = \"5s\"\n";

pub(crate) fn management(agent: &Agent) -> Value {
    agent.ask(&["flock"])["management"].clone()
}

/// Waits until all show one master, with so many backups; gives its place among them.
pub(crate) fn managed(agents: &[&Agent], backups: usize) -> usize {
    let mut master = 0;
    agents[0].until("there is one master with its backups", || {
        let seen: Vec<Value> = agents.iter().map(|agent| management(agent)).collect();
        let names: Vec<&str> = seen.iter().filter_map(|seen| seen["master"].as_str()).collect();
        let same = names.len() == agents.len() && names.iter().all(|name| *name == names[0]);
        let whole = |seen: &Value| seen["backups"].as_array().is_some_and(|it| it.len() == backups);
        master = agents
            .iter()
            .position(|agent| names.first() == Some(&agent.name.as_str()))
            .unwrap_or(0);
        same && seen.iter().all(whole) && seen[master]["role"] == "master"
    });
    master
}

pub(crate) fn started(bloc: &Bloc, names: &[&str], first: &str, more: &str) -> Vec<Agent> {
    let mut agents: Vec<Agent> = Vec::new();
    for name in names {
        let seeds: Vec<&Agent> = agents.iter().take(1).collect();
        let more = if agents.is_empty() { first } else { more };
        let mut agent = bloc.agent(name, "30d", &seeds, more);
        agent.start();
        agents.push(agent);
    }
    agents
}

pub(crate) fn all(agents: &[Agent]) -> Vec<&Agent> {
    agents.iter().collect()
}

#[track_caller]
pub(crate) fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[track_caller]
pub(crate) fn refused(output: &Output, why: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it was done: {}", String::from_utf8_lossy(&output.stdout));
    for why in why {
        assert!(said.contains(why), "{why:?} is not said: {said}");
    }
}

/// Every node tells of an order with who gave it, and where.
pub(crate) fn assert_told(agents: &[&Agent], what: &str, at: &str, came: &str) {
    for agent in agents {
        agent.until(&format!("it is told of {what:?}"), || {
            agent.events("order").iter().any(|event| {
                let who = event["who"].as_str().is_some_and(|who| !who.is_empty());
                let when = event["when"]["unix_ms"].as_u64() > Some(1_700_000_000_000);
                let came = event["came"].as_str().is_some_and(|it| it.contains(came));
                event["what"] == what && event["node"] == at && came && who && when
            })
        });
    }
}

#[test]
fn orders_are_carried_out_from_any_node_and_an_expelled_one_stays_out_until_it_is_let_in() {
    let bloc = Bloc::new();
    let mut agents = started(&bloc, &["a-1", "b-1", "c-1", "d-1"], &bloc.serving("30d"), "");
    let master = managed(&all(&agents), 2);
    let role = |agent: &Agent| management(agent)["role"].as_str().unwrap_or_default().to_owned();
    let spare = agents.iter().position(|agent| role(agent) == "eligible").unwrap();
    let other = (0..4).find(|on| ![master, spare].contains(on)).unwrap();

    // A node that manages nothing is made a backup from a node that is not the master.
    let name = agents[spare].name.clone();
    done(&agents[other].skep(&["flock", "promote", &name]));
    assert_told(&all(&agents), &format!("promote {name}"), &agents[other].name, "done");
    agents[spare].until("it is a backup", || role(&agents[spare]) == "backup");
    done(&agents[other].skep(&["flock", "hold", &name]));
    agents[spare].until("it is none while it is held", || role(&agents[spare]) == "eligible");
    let roster = agents[master].ask(&["flock", "roster"]);
    let held = roster.as_array().unwrap().iter().find(|place| place["node"] == *name);
    assert_eq!(held.unwrap()["held"], true, "{roster}");
    refused(&agents[other].skep(&["flock", "promote", &name]), &["held"]);
    done(&agents[other].skep(&["flock", "release", &name]));

    // What makes no sense is refused with what to do, and told like any other order.
    let leads = agents[managed(&all(&agents), 2)].name.clone();
    refused(&agents[other].skep(&["flock", "hold", &leads]), &["is the master", "transfer first"]);
    assert_told(&all(&agents), &format!("hold {leads}"), &agents[other].name, "transfer first");
    refused(&agents[other].skep(&["flock", "demote", "nobody"]), &["no node named nobody"]);
    let own = agents[other].name.clone();
    refused(&agents[other].skep(&["flock", "expel", &own]), &["cut itself off", "skep leave"]);
    let force = ["flock", "recover", "--force", "--yes"];
    refused(&agents[other].skep(&force), &["nothing is founded", "master"]);

    // Expelled: a backup that does not run the CA.
    let out = (1..4).find(|on| role(&agents[*on]) == "backup").unwrap();
    let gone = agents[out].name.clone();
    done(&agents[0].skep(&["flock", "expel", &gone, "--reason", "stolen"]));
    let left: Vec<&Agent> = agents.iter().filter(|agent| agent.name != gone).collect();
    assert_told(&left, &format!("expel {gone}"), "a-1", "done");
    managed(&left, 2);
    left[0].until("it is silent", || left[0].member(&gone)["presence"] == "silent");
    left[0].until("it is on no roster", || {
        !left[0].ask(&["flock", "roster"]).to_string().contains(&gone)
    });
    agents[out].kill();
    agents[out].start();
    agents[0].until("it is refused by name", || {
        let refused = agents[0].events("refused");
        refused.iter().any(|event| {
            event["why"].as_str().is_some_and(|why| why.contains(&gone) && why.contains("expelled"))
        })
    });
    assert_ne!(agents[0].member(&gone)["presence"], "present");
    let denied = bloc.join(&gone, &agents[0]);
    refused(&denied, &["is expelled", &format!("skep catalog rm expelled/{gone}")]);

    let entry = format!("expelled/{gone}");
    done(&agents[0].skep(&["catalog", "rm", &entry]));
    agents[0].until("it is back", || agents[0].member(&gone)["presence"] == "present");
    managed(&all(&agents), 2);
    done(&bloc.join(&gone, &agents[0]));
}

#[test]
fn the_one_manager_left_says_what_may_be_lost_and_founds_anew_when_it_is_told_to() {
    let bloc = Bloc::new();
    let mut agents = started(&bloc, &["a-1", "b-1", "c-1"], SOON, SOON);
    let master = managed(&all(&agents), 2);
    done(&agents[0].skep(&["catalog", "set", "setting/motd", "value=before"]));
    let file = agents[0].dir.join("catalog.toml");
    done(&agents[0].skep(&["catalog", "export", file.to_str().unwrap()]));
    let left = (master + 1) % 3;
    let lost = [master, (master + 2) % 3];
    lost.iter().for_each(|on| agents[*on].kill());
    let lone = &agents[left];
    lone.until("it is alone", || management(lone)["role"] == "semi-master");
    let said = done(&lone.skep(&["flock", "recover", "--force", "--dry-run"]));
    for on in lost {
        assert!(said.contains(&format!("{}  absent", agents[on].name)), "{said}");
    }
    assert!(said.contains("May be lost:") && said.contains("Better would be:"), "{said}");
    assert!(said.contains("start its agent"), "{said}");
    refused(&lone.skep(&["flock", "recover", "--force"]), &["no terminal", "--yes"]);
    assert_eq!(management(lone)["role"], "semi-master", "it asked, and nobody answered");

    // From the file: founded, and what the file says.
    fs::write(&file, "[setting.motd]\nvalue = \"restored\"\n").unwrap();
    let from = ["flock", "recover", "--from", file.to_str().unwrap(), "--yes"];
    let said = done(&lone.skep(&from));
    assert!(said.contains("founded the next generation") && said.contains("1 set"), "{said}");
    managed(&[lone], 0);
    assert!(management(lone)["generation"].as_u64() >= Some(2), "{}", management(lone));
    assert_told(&[lone], "recover", &lone.name, "done");
    let entry = lone.ask(&["catalog", "get", "setting/motd"]);
    assert_eq!(entry["fields"]["value"], "restored");
    // With a master there is nothing to found: the same file is merely imported.
    assert!(done(&lone.skep(&from)).contains("nothing is founded"));

    for on in lost {
        agents[on].start();
    }
    managed(&all(&agents), 2);
    for agent in &agents {
        agent.until("it has what was restored", || {
            agent.ask(&["catalog", "get"]).to_string().contains("restored")
        });
    }
}

#[test]
fn a_corrupt_log_of_the_managers_keeps_the_agent_from_starting_and_says_what_to_do() {
    let bloc = Bloc::new();
    let mut agent = bloc.agent("a-1", "30d", &[], "");
    agent.start();
    managed(&[&agent], 0);
    for n in 0..20 {
        done(&agent.skep(&["catalog", "set", "setting/motd", &format!("value={n}")]));
    }
    agent.kill();
    let dir = agent.dir.join("state/managers");
    let log = |path: &std::path::Path| path.extension().is_some_and(|it| it == "seg");
    let segments = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.filter(|path| log(path)).max().expect("a log of managers");
    let whole = fs::read(&segment).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&segment, &bytes).unwrap();
    let said = agent.start_in_vain();
    assert!(said.contains("managers"), "{said}");
    assert!(
        said.contains("is damaged at byte") && said.contains("move the directory away"),
        "{said}"
    );
    // Nothing was guessed at, and nothing changed: with the bytes as they were all is there.
    assert_eq!(fs::read(&segment).unwrap(), bytes);
    fs::write(&segment, &whole).unwrap();
    agent.start();
    managed(&[&agent], 0);
    assert_eq!(agent.ask(&["catalog", "get", "setting/motd"])["fields"]["value"], 19);
}

#[test]
fn an_entry_that_is_too_long_is_refused_with_the_limit() {
    let bloc = Bloc::new();
    let mut agent = bloc.agent("a-1", "30d", &[], "");
    agent.start();
    managed(&[&agent], 0);
    let long = format!("value={}", "x".repeat(20 << 10));
    refused(&agent.skep(&["catalog", "set", "setting/long", &long]), &["16384"]);
    let file = agent.dir.join("long.toml");
    fs::write(&file, format!("[setting.long]\nvalue = \"{}\"\n", "x".repeat(10 << 20))).unwrap();
    let import = ["catalog", "import", file.to_str().unwrap()];
    refused(&agent.skep(&import), &["1:", "setting/long", "10485", "16384"]);
    assert_eq!(agent.ask(&["catalog", "get"])["entries"], serde_json::json!([]));
}

/// Two machines with one name, one key and one history: one of them is heard, whatever the other
/// remembers, and when it is gone the other comes back with what was decided meanwhile.
#[test]
fn of_two_nodes_restored_from_one_backup_one_is_heard_and_nothing_is_decided_twice() {
    let bloc = Bloc::new();
    let mut agents = started(&bloc, &["a-1", "b-1", "c-1"], "", "");
    let master = managed(&all(&agents), 2);
    let place = (1..3).find(|on| *on != master).unwrap();
    let seed = (0..3).find(|on| *on != place).unwrap();
    done(&agents[seed].skep(&["catalog", "set", "setting/motd", "value=1"]));
    agents[place].kill();
    let mut twin = bloc.restored(&agents[place]);
    agents[place].start();
    managed(&all(&agents), 2);
    done(&agents[seed].skep(&["catalog", "set", "setting/motd", "value=2"]));

    twin.start();
    twin.until("it knows that it is one too many", || {
        twin.ask(&["status"])["problems"].to_string().contains("holds this node's name")
    });
    for value in 3..8 {
        done(&agents[seed].skep(&["catalog", "set", "setting/motd", &format!("value={value}")]));
        let role = management(&twin)["role"].clone();
        assert!(role != "master" && role != "backup", "the second one is {role}");
    }
    managed(&all(&agents), 2);
    // The first is gone: its older copy is a node like any other, and forgets what it took for new.
    agents[place].kill();
    twin.until("it has the name", || {
        !twin.ask(&["status"])["problems"].to_string().contains("holds this node's name")
    });
    let left: Vec<&Agent> = agents.iter().filter(|agent| agent.name != twin.name).collect();
    managed(&[left[0], left[1], &twin], 2);
    done(&left[0].skep(&["catalog", "set", "setting/motd", "value=8"]));
    twin.until("it has all of it", || {
        twin.ask(&["catalog", "get", "setting/motd"])["fields"]["value"] == 8
    });
}

/// Certificates name one manager: nobody else founds a flock or is a backup.
#[test]
fn a_certificate_says_who_may_manage_where_the_configuration_goes_by_it() {
    let bloc = Bloc::new();
    let by = "[managers]\neligible = \"certificate\"\n";
    let mut plain = bloc.agent("plain-1", "30d", &[], by);
    plain.start();
    let mut named = bloc.agent_as("named-1", "manager", &[&plain], by);
    named.start();
    assert_eq!(managed(&[&plain, &named], 0), 1);
    assert_eq!(management(&plain)["role"], "host");
    done(&plain.skep(&["catalog", "set", "setting/motd", "value=1"]));
}
