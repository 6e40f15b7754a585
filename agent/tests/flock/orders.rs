//! Orders to the managers that are carried out, and when they are answered: DVM-1, BLOC-21.

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::agents::{Agent, Bloc};
use crate::operator::{all, assert_told, done, managed, management, refused, started};

fn role(agent: &Agent) -> String {
    management(agent)["role"].as_str().unwrap_or_default().to_owned()
}

fn names(of: &Value) -> Vec<&str> {
    of.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

/// Whether the master has a node among its backups at this moment.
fn is_backup(master: &Agent, name: &str) -> bool {
    let seen = management(master);
    assert_eq!(seen["role"], "master", "{seen}");
    names(&seen["backups"]).contains(&name)
}

/// Waits until the master has a node among those that follow its log, and is one itself.
fn until_ready(master: &Agent, name: &str) {
    master.until(&format!("{name} is a learner"), || {
        let seen = management(master);
        seen["role"] == "master" && names(&seen["learners"]).contains(&name)
    });
}

fn is_held(agent: &Agent, name: &str) -> bool {
    let roster = agent.ask(&["flock", "roster"]);
    let place = roster.as_array().unwrap().iter().find(|place| place["node"] == name);
    place.is_some_and(|place| place["held"] == true)
}

#[test]
fn a_demotion_and_a_promotion_are_answered_when_the_offices_have_changed_hands() {
    let bloc = Bloc::new();
    let mut agents = started(&bloc, &["a-1", "b-1", "c-1"], "", "");
    let master = managed(&all(&agents), 2);
    let (out, at) = ((master + 1) % 3, (master + 2) % 3);
    let (name, at_name) = (agents[out].name.clone(), agents[at].name.clone());
    // Nobody is there for its place: nothing changes, and everybody hears of it.
    let demote = ["flock", "demote", &name];
    refused(&agents[at].skep(&demote), &["nobody to take its place", "add an eligible node"]);
    assert_told(&all(&agents), &format!("demote {name}"), &at_name, "nobody to take its place");
    assert!(is_backup(&agents[master], &name));

    let mut spare = bloc.agent("d-1", "30d", &[&agents[0]], "");
    spare.start();
    agents.push(spare);
    until_ready(&agents[master], "d-1");
    let said = done(&agents[at].skep(&demote));
    assert!(said.contains("another has its place"), "{said}");
    assert!(!is_backup(&agents[master], &name) && is_backup(&agents[master], "d-1"));
    assert_told(&all(&agents), &format!("demote {name}"), &at_name, "done");
    agents[out].until("it is a backup no more", || role(&agents[out]) == "eligible");
    refused(&agents[at].skep(&demote), &["is no backup"]);

    until_ready(&agents[master], &name);
    let promote = ["flock", "promote", &name];
    done(&agents[out].skep(&promote));
    assert!(is_backup(&agents[master], &name));
    assert_told(&all(&agents), &format!("promote {name}"), &name, "done");
    refused(&agents[at].skep(&promote), &["is a manager already"]);
    managed(&all(&agents), 2);
}

#[test]
fn a_transfer_and_a_step_down_are_told_to_every_node_with_who_where_and_when() {
    let bloc = Bloc::new();
    let agents = started(&bloc, &["a-1", "b-1", "c-1"], "", "");
    let master = managed(&all(&agents), 2);
    let (next, at) = ((master + 1) % 3, (master + 2) % 3);
    let (name, at_name) = (agents[next].name.clone(), agents[at].name.clone());
    done(&agents[at].skep(&["flock", "transfer", &name]));
    assert_told(&all(&agents), &format!("transfer {name}"), &at_name, "done");
    agents[next].until("it is master", || role(&agents[next]) == "master");

    done(&agents[next].skep(&["flock", "step-down"]));
    assert_told(&all(&agents), "step-down", &name, "done");
    agents[next].until("it is master no more", || role(&agents[next]) != "master");
    assert_ne!(managed(&all(&agents), 2), next, "it took the office back");
    // What is refused is told as well.
    let lost = management(&agents[next])["master"].as_str().unwrap().to_owned();
    refused(&agents[next].skep(&["flock", "transfer", &lost]), &["is no backup"]);
    assert_told(&all(&agents), &format!("transfer {lost}"), &name, "is no backup");
}

/// Has an order given at one node, and the master killed while it is under way. Whoever gave it is
/// told that it is done, or why that is not known or did not come about; then it gives it again.
fn ordered_while_the_master_dies(agents: &mut [Agent], at: usize, words: [&str; 3]) -> usize {
    let master = managed(&all(agents), 2);
    assert_ne!(master, at);
    let mut command = agents[at].command_of(&words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let under_way = command.spawn().unwrap();
    agents[master].kill();
    let first = under_way.wait_with_output().unwrap();
    let said = |given: &Output| String::from_utf8_lossy(&given.stderr).into_owned();
    // Perhaps the next master is the very node that it is about.
    let told = |given: &Output| {
        let whys = ["not known", "no master", "transfer first"];
        given.status.success() || whys.iter().any(|why| said(given).contains(why))
    };
    assert!(told(&first), "{}", said(&first));
    let mut given = first;
    agents[at].until("it is done", || {
        if said(&given).contains("transfer first") {
            agents[at].skep(&["flock", "step-down"]);
        }
        if !given.status.success() {
            given = agents[at].skep(&words);
        }
        given.status.success()
    });
    let live: Vec<&Agent> =
        agents.iter().enumerate().filter(|(on, _)| *on != master).map(|(_, it)| it).collect();
    assert_told(&live, &words[1..].join(" "), &agents[at].name, "done");
    master
}

#[test]
fn a_hold_and_a_release_are_kept_though_the_master_is_killed_in_the_middle() {
    let bloc = Bloc::new();
    let mut agents = started(&bloc, &["a-1", "b-1", "c-1", "d-1"], "", "");
    let master = managed(&all(&agents), 2);
    let backups: Vec<usize> = (0..4).filter(|on| role(&agents[*on]) == "backup").collect();
    let [out, at] = backups[..] else { panic!("{backups:?}") };
    let spare = (0..4).find(|on| ![master, out, at].contains(on)).unwrap();
    until_ready(&agents[master], &agents[spare].name);
    let name = agents[out].name.clone();
    let lost = ordered_while_the_master_dies(&mut agents, spare, ["flock", "hold", &name]);
    assert_eq!(lost, master);
    // The next master knows of it, and gives the place to another.
    agents[out].until("it manages nothing", || role(&agents[out]) == "eligible");
    agents[master].start();
    let next = managed(&all(&agents), 2);
    assert!(is_held(&agents[next], &name) && !is_backup(&agents[next], &name));
    refused(&agents[at].skep(&["flock", "promote", &name]), &["held"]);

    let at = (0..4).find(|on| ![next, out].contains(on)).unwrap();
    let lost = ordered_while_the_master_dies(&mut agents, at, ["flock", "release", &name]);
    // Of the three that are left each is a manager again, the released one too.
    agents[out].until("it is a manager", || ["backup", "master"].contains(&&*role(&agents[out])));
    let live: Vec<&Agent> =
        agents.iter().enumerate().filter(|(on, _)| *on != lost).map(|(_, it)| it).collect();
    let next = managed(&live, 2);
    assert!(!is_held(live[next], &name));
}
