//! A master whose wall clock is wrong (DVM-10).

use crate::agents::{Agent, Bloc};
use crate::operator::{all, managed, management};

const DAY_MS: i64 = 24 * 3600 * 1000;

fn role(agent: &Agent) -> String {
    management(agent)["role"].as_str().unwrap_or_default().to_owned()
}

/// Somebody sets the clock of the master's host back to before its certificate was made: another is
/// master, and the fourth has the place.
#[test]
fn dvm_10_a_manager_whose_clock_is_wrong_holds_no_office_while_it_is() {
    let bloc = Bloc::new();
    let mut agents: Vec<Agent> = Vec::new();
    for name in ["a-1", "b-1", "c-1", "d-1"] {
        let seeds: Vec<&Agent> = agents.iter().take(1).collect();
        let mut agent = bloc.agent(name, "30d", &seeds, "");
        agent.jump_clock(0);
        agent.start();
        agents.push(agent);
    }
    let wrong = managed(&all(&agents), 2);
    let told = |agent: &Agent, what: &str| {
        agent.events("managers").iter().any(|it| it["what"].as_str().unwrap().contains(what))
    };
    let why = "this node manages nothing until it is well: its wall clock is before its \
               certificate was made";
    assert!(!told(&agents[wrong], "until it is well"));

    agents[wrong].jump_clock(-DAY_MS);
    agents[wrong].until("it says why it manages nothing", || told(&agents[wrong], why));
    agents[wrong].until("it holds no office", || role(&agents[wrong]) == "holding");
    let next = managed(&all(&agents), 2);
    assert_ne!(next, wrong);
    assert_eq!(role(&agents[wrong]), "holding", "three others are well");
    let problems = agents[wrong].ask(&["status"])["problems"].to_string();
    assert!(problems.contains("the wall clock is wrong"), "{problems}");
    agents[next].until("the roster says that it is not well", || {
        let roster = agents[next].ask(&["flock", "roster"]);
        let place = roster.as_array().unwrap().iter().find(|it| it["node"] == *agents[wrong].name);
        place.is_some_and(|place| place["unwell_since_ms"].is_u64())
    });
    for (on, agent) in agents.iter().enumerate().filter(|(on, _)| *on != wrong) {
        assert!(!told(agent, "until it is well"), "{} is held, {on} of 4", agent.name);
    }
}
