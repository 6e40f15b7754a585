//! An agent that stops in good order: what its service manager is told, what its peers are, and
//! what it had promised (BLOC-9, BLOC-39).

use std::os::unix::net::UnixDatagram;

use skep_client::{Options, Server, blocking};

use crate::agents::{Agent, Bloc, PATIENCE};

/// Updates that are on their way when the agent is told to stop, and bytes of each.
const MANY: usize = 1000;
const LONG: usize = 1000;

fn two(bloc: &Bloc) -> (Agent, Agent) {
    let mut seed = bloc.agent("seed-1", "30d", &[], "");
    let node = bloc.agent("web-1", "30d", &[&seed], "");
    seed.start();
    (seed, node)
}

fn met(seed: &Agent, node: &Agent) {
    node.until("it sees the other", || node.member("seed-1")["presence"] == "present");
    seed.until("it is seen", || seed.member("web-1")["presence"] == "present");
}

fn assert_never_silent(seed: &Agent) {
    let seen = seed.events("member");
    let silent = |event: &&serde_json::Value| event["presence"] == "silent";
    assert!(seen.iter().find(silent).is_none(), "{seen:#?}\n{}", seed.log());
}

#[test]
fn a_service_manager_is_told_and_what_was_promised_is_handed_over_first() {
    let bloc = Bloc::new();
    let (seed, mut node) = two(&bloc);
    let socket = node.dir.join("manager");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut words = [0; 64];
        let length = manager.recv(&mut words).unwrap();
        String::from_utf8_lossy(&words[..length]).trim().to_owned()
    };
    node.manager = Some(socket);
    node.start();
    assert_eq!(told(), "READY=1");
    met(&seed, &node);

    let server = Server::Unix(node.dir.join("sock-client.sock"));
    let client = blocking::Client::connect(Options::to(server).patience(PATIENCE)).unwrap();
    let body = |number: usize| format!("{number:0LONG$}");
    let sent: Vec<_> = (0..MANY).map(|number| client.send(&[], body(number)).unwrap()).collect();
    sent.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    // All of it is acknowledged, and the other has hardly had the time to take it.
    node.terminate();
    assert_eq!(told(), "STOPPING=1");
    node.ends();
    // Nothing more can come from who has ended, and there is nobody else.
    seed.until("it has all of it", || seed.updates().len() == MANY);
    assert_eq!(seed.member("web-1")["presence"], "restarting");

    node.start();
    assert_eq!(told(), "READY=1");
    met(&seed, &node);
    assert_never_silent(&seed);
}

#[test]
fn who_leaves_says_so_is_waited_for_by_nobody_and_may_come_back() {
    let bloc = Bloc::new();
    let (seed, mut node) = two(&bloc);
    node.start();
    met(&seed, &node);

    let unsure = node.skep(&["leave"]);
    assert_eq!(unsure.status.code(), Some(2), "it asks for --yes");
    assert!(String::from_utf8_lossy(&unsure.stderr).contains("--yes"));
    assert!(node.skep(&["leave", "--yes"]).status.success());
    node.ends();
    seed.until("it is seen to have left", || seed.member("web-1")["presence"] == "left");
    let waits = seed.ask(&["status"])["waits"].to_string();
    assert!(!waits.contains("web-1"), "it is waited for: {waits}");
    assert_never_silent(&seed);

    node.start();
    met(&seed, &node);
}
