//! A publish that is tried again is logged once, also by the agent's next life.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use skep_client::{GroupName, Options, blocking};

use crate::agents::{Agent, Bloc, PATIENCE};

fn alone(bloc: &Bloc) -> (Agent, PathBuf) {
    let agent = bloc.agent("inferno", "30d", &[], "[groups]\nextra = [\"web\"]\n");
    // Beside the agent's own.
    let socket = agent.dir.join("sock-client.sock");
    (agent, socket)
}

/// Starts it and waits until it knows which of its lives it is.
fn start(agent: &mut Agent) {
    agent.start();
    agent.until("it publishes", || agent.ask(&["status"])["state"] == "running");
}

/// Connects and reads the greeting.
fn connect(agent: &Agent, socket: &PathBuf) -> BufReader<UnixStream> {
    let mut stream = None;
    agent.until("clients are served", || {
        stream = UnixStream::connect(socket).ok();
        stream.is_some()
    });
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    assert!(line(&mut reader).starts_with("220 "));
    reader
}

fn line(reader: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// How often a body is in the log of a group.
fn times(agent: &Agent, group: &str, body: &str) -> usize {
    let tail = ["flood", "tail", "--group", group, "--from", "first", "--no-follow"];
    let output = agent.skep(&tail);
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| *line == body).count()
}

#[test]
fn what_was_logged_and_not_answered_is_not_logged_again_after_kill_9() {
    let bloc = Bloc::new();
    let (mut agent, socket) = alone(&bloc);
    start(&mut agent);
    let publish = "binary 5 key=mirror-7:12\r\nhello";
    // No group is named: to all of the site, which are web here; and to two that are named.
    let to_two = "binary 3 web all key=mirror-7:13\r\nboth";
    let mut first = connect(&agent, &socket);
    first.get_mut().write_all(publish.as_bytes()).unwrap();
    first.get_mut().write_all(&to_two.as_bytes()[..to_two.len() - 1]).unwrap();
    agent.until("both are in the log", || {
        times(&agent, "web", "hello") == 1 && times(&agent, "all", "bot") == 1
    });
    // Its reply may have been sent; the client has not read it and cannot know.
    agent.kill();
    drop(first);

    start(&mut agent);
    let mut second = connect(&agent, &socket);
    second.get_mut().write_all(publish.as_bytes()).unwrap();
    assert_eq!(line(&mut second), "250 web inferno:1:1", "under the identity of the first life");
    second.get_mut().write_all(b"binary 3 web all key=mirror-7:13\r\nbot").unwrap();
    let both = [line(&mut second), line(&mut second)];
    assert_eq!(both, ["250-web inferno:1:2", "250 all inferno:1:3"]);
    second.get_mut().write_all(b"binary 3 web key=mirror-7:13\r\nbot").unwrap();
    assert!(line(&mut second).starts_with("503 "), "for other groups it is another publish");
    second.get_mut().write_all(b"binary 4 key=mirror-7:14\r\nmore").unwrap();
    assert_eq!(line(&mut second), "250 web inferno:2:1");
    assert_eq!((times(&agent, "web", "hello"), times(&agent, "all", "bot")), (1, 1));
}

#[test]
fn a_client_publishes_each_update_once_while_its_agent_is_killed_again_and_again() {
    let bloc = Bloc::new();
    let (mut agent, socket) = alone(&bloc);
    start(&mut agent);
    let options = Options::to(socket.to_str().unwrap().parse().unwrap()).patience(PATIENCE);
    let client = blocking::Client::connect(options).unwrap();
    let web: GroupName = "web".parse().unwrap();
    const ROUNDS: usize = 5;
    const EACH: usize = 400;
    let mut pending = Vec::new();
    for round in 0..ROUNDS {
        for n in 0..EACH {
            let body = format!("{round}/{n}");
            pending.push(client.send(std::slice::from_ref(&web), body).unwrap());
        }
        // Somewhere between the first that arrives and the last that is answered.
        drop(pending.remove(0).wait().unwrap());
        agent.kill();
        start(&mut agent);
    }
    for publish in pending {
        publish.wait().unwrap();
    }
    let tail = ["flood", "tail", "--group", "web", "--from", "first", "--no-follow"];
    let said = String::from_utf8(agent.skep(&tail).stdout).unwrap();
    let bodies: Vec<&str> = said.lines().skip(1).step_by(2).collect();
    let sent = (0..ROUNDS).flat_map(|round| (0..EACH).map(move |n| format!("{round}/{n}")));
    let first_wrong = bodies.iter().zip(sent).position(|(body, sent)| *body != sent);
    assert_eq!((bodies.len(), first_wrong), (ROUNDS * EACH, None), "each once, in their order");
}
