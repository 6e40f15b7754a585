//! What happened to the flock, as every node lists it (BLOC-21): also who was away then, and once,
//! whoever told it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::agents::{Agent, Bloc};
use crate::notify::until_managed;

/// The list for the whole flock, on one node.
fn listed(agent: &Agent) -> Vec<Value> {
    let output = agent.skep(&["events", "--flock", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often something is told of a node.
fn told(events: &[Value], event: &str, node: &str) -> usize {
    let names = |it: &&Value| {
        it["event"] == event
            && it["nodes"].as_array().is_some_and(|all| all.contains(&Value::from(node)))
    };
    events.iter().filter(names).count()
}

/// A command that goes on listing. Dropped, it is ended.
struct Follower {
    child: Child,
    lines: Receiver<Value>,
}

impl Follower {
    fn of(agent: &Agent) -> Self {
        let mut child = agent
            .command_of(&["events", "--flock", "--follow", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let (say, lines) = channel();
        // It ends with the command.
        std::thread::spawn(move || {
            for line in out.map_while(Result::ok) {
                if say.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn every_node_lists_what_happened_to_the_flock_once_also_while_it_was_away() {
    let bloc = Bloc::new();
    let timers = "[managers]\nbackup_silent = \"2s\"\nbackup_reached = \"1s\"\n\
                  [hooks]\nstable_after = \"1s\"\n";
    let mut agents: Vec<Agent> = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let seeds: Vec<&Agent> = agents.iter().take(1).collect();
        let mut agent = bloc.agent(name, "30d", &seeds, timers);
        agent.start();
        agents.push(agent);
    }
    let (master, backups) = until_managed(&agents);
    let place = |agents: &[Agent], name: &str| agents.iter().position(|it| it.name == name);
    let spare = agents.iter().position(|it| it.name != master && !backups.contains(&it.name));
    let mut away = agents.remove(spare.unwrap());
    let follower = Follower::of(&agents[place(&agents, &master).unwrap()]);
    let stable = |agent: &Agent, by: &str| {
        listed(agent).iter().any(|it| it["event"] == "stable" && it["by"] == by)
    };
    agents[0].until("the master tells that it is stable", || stable(&agents[0], &master));

    // One is away while the flock changes its master, and while the master after that dies.
    away.kill();
    agents[0]
        .until("that it parted is told", || told(&listed(&agents[0]), "split", &away.name) > 0);
    let next = backups[0].clone();
    assert!(agents[0].skep(&["flock", "transfer", &next]).status.success());
    let changed = |agent: &Agent, to: &str| {
        listed(agent).iter().any(|it| it["event"] == "master-changed" && it["by"] == to)
    };
    // Another has it before the teller dies.
    let other = &agents[place(&agents, &master).unwrap()];
    other.until("the next master tells that it is", || changed(other, &next));
    let at = place(&agents, &next).unwrap();
    let mut dead = agents.remove(at);
    dead.kill();
    agents[0].until("whoever follows it tells that it parted", || {
        told(&listed(&agents[0]), "split", &next) > 0
    });
    away.start();
    agents.push(away);
    let away = agents.len() - 1;
    agents[0].until("that it is back is told", || {
        told(&listed(&agents[0]), "merged", &agents[away].name) > 0
    });
    let last_of = |agent: &Agent| listed(agent).pop().unwrap_or_default();
    agents[0].until("that it is stable again is told", || last_of(&agents[0])["event"] == "stable");
    agents[0].until("all list the same", || {
        let lists: BTreeSet<String> =
            agents.iter().map(|agent| format!("{:?}", listed(agent))).collect();
        lists.len() == 1
    });

    let list = listed(&agents[away]);
    let formed = list.iter().filter(|it| it["event"] == "formed");
    let formed: Vec<String> = formed.map(|it| it["flock"].to_string()).collect();
    let flocks: BTreeSet<&String> = formed.iter().collect();
    assert!(!formed.is_empty() && flocks.len() == formed.len(), "{list:?}");
    for node in [&agents[away].name, &next] {
        assert_eq!(told(&list, "split", node), 1, "{node}: {list:?}");
    }
    assert!(stable(&agents[away], &master), "{list:?}");
    let leads = agents[away].ask(&["flock"])["management"]["master"].clone();
    let last = list.last().unwrap();
    assert_eq!((&last["event"], &last["by"]), (&"stable".into(), &leads), "{list:?}");
    let tellers: BTreeSet<&str> = list.iter().filter_map(|it| it["by"].as_str()).collect();
    assert!(tellers.contains(&*master) && tellers.contains(&*next), "{list:?}");
    let numbers: Vec<u64> = list.iter().filter_map(|it| it["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    // Who followed from the start got the same, one by one.
    let mut followed: Vec<Value> = Vec::new();
    agents[0].until("who follows was told all of it", || {
        followed.extend(follower.lines.try_iter());
        let same = |it: &&Value| {
            followed.iter().filter(|of| (&of["at"], &of["by"]) == (&it["at"], &it["by"])).count()
                == 1
        };
        listed(&agents[0]).iter().filter(same).count() >= list.len()
    });
    let last = agents[0].skep(&["events", "--flock", "-n", "1"]);
    let last = String::from_utf8(last.stdout).unwrap();
    assert!(last.lines().count() == 1 && last.contains("; stamp "), "{last}");
}
