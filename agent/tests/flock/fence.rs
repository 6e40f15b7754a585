//! Orders under the stamp of a master that was followed by another: no host that has seen the newer
//! one carries them out, until they are given again (DVM-2).

use std::fs;

use crate::agents::{Agent, Bloc};
use crate::operator::{done, managed, management};

/// A node that may manage nothing, and starts waves also where it reaches no master.
const QUEEN: &str = "[managers]\neligible = \"no\"\nsplit = \"continue\"\n";

fn epoch(agent: &Agent) -> u64 {
    management(agent)["epoch"].as_u64().unwrap()
}

/// Rolls out a small tree to this place on every node, and gives the wave's name.
fn roll_out(agent: &Agent, place: &str) -> String {
    let source = agent.dir.join(place);
    fs::create_dir(&source).unwrap();
    fs::write(source.join("motd"), place).unwrap();
    done(&agent.beside(&["image", "build", source.to_str().unwrap(), "--name", place]));
    let at = format!("/{place}");
    let started = agent.ask(&["wave", "start", place, "--to", "all", "--at", &at]);
    started["id"].as_str().unwrap_or_else(|| panic!("a wave without a name: {started}")).to_owned()
}

fn has(agent: &Agent, place: &str) -> bool {
    agent.dir.join("root").join(place).join("motd").exists()
}

/// A queen that missed the last election orders a wave, and dies. A host that missed it as well
/// obeys, and hands the order on; who saw the newer stamp refuses. When the queen is back it gives
/// the order again, under a stamp of now.
#[test]
fn a_stale_order_is_refused_by_who_saw_the_newer_stamp_and_obeyed_when_it_is_given_again() {
    let bloc = Bloc::new();
    let mut master = bloc.agent("a-1", "30d", &[], "");
    let mut queen = bloc.agent("q-1", "30d", &[&master], QUEEN);
    let mut host = bloc.agent("h-1", "30d", &[&master, &queen], QUEEN);
    for agent in [&mut master, &mut queen, &mut host] {
        agent.start();
    }
    managed(&[&master, &queen, &host], 0);
    roll_out(&host, "first");
    for agent in [&master, &queen, &host] {
        agent.until("it obeys the first order", || has(agent, "first"));
    }

    // The master is elected anew, which neither of the two hears of.
    queen.kill();
    host.kill();
    let old = epoch(&master);
    master.kill();
    master.start();
    master.until("it leads again", || management(&master)["role"] == "master");
    let new = epoch(&master);
    assert!(new > old, "{new} follows {old}");
    master.kill();
    queen.start();
    host.start();
    queen.until("the host is there", || queen.member("h-1")["presence"] == "present");
    let wave = roll_out(&queen, "second");
    host.until("it obeys", || has(&host, "second"));
    queen.kill();

    master.start();
    let refused = format!("a wave of q-1 under stamp {old}/");
    master.until("it refuses the order", || {
        master.events("managers").iter().any(|it| {
            it["what"]
                .as_str()
                .is_some_and(|what| what.starts_with(&refused) && what.ends_with("was seen here"))
        })
    });
    let waves = |agent: &Agent| agent.ask(&["wave", "status"]).to_string();
    assert!(!waves(&master).contains(&wave), "{}", waves(&master));
    assert!(has(&master, "first") && !has(&master, "second"));

    queen.start();
    master.until("it obeys the order that is given again", || has(&master, "second"));
    assert!(waves(&master).contains(&wave), "{}", waves(&master));
}
