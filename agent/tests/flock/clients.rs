//! Applications and people at the client port of real agents: by `nc`, by `telnet`, by `skep flood`
//! (FLOOD-4 to FLOOD-13).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skep_client::{Options, Server, blocking};
use skep_lines::Hint;

use crate::agents::{Agent, Bloc, PATIENCE};
use crate::ports;

fn serving(plain: u16, tls: u16) -> String {
    format!(
        "[client]\nenabled = true\nport = {plain}\naddresses = [\"127.0.0.1\"]\n\
         tls_port = {tls}\ntls_addresses = [\"127.0.0.1\"]\n"
    )
}

/// Whether a program is installed; says so where it is not.
fn there(program: &str) -> bool {
    let found = Command::new(program).arg("-h").stdin(Stdio::null()).output().is_ok();
    if !found {
        let mut err = std::io::stderr();
        writeln!(err, "{program} is not installed: its transcripts are left out").unwrap();
    }
    found
}

/// Types `text` into a program and gives everything that it printed until it ended: the agent ends
/// the conversation. `nc` ends with it once there is nothing more to type, `telnet` must not see
/// the end of what is typed before.
fn typed(program: &str, arguments: &[&str], text: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    let stdin = (program == "telnet").then_some(stdin);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    drop(stdin);
    child.wait().unwrap();
    said.replace("\r\n", "\n")
}

/// A child process that is gone when this is.
struct Listening(Child);

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn two(bloc: &Bloc, ports: [u16; 4]) -> (Agent, Agent) {
    let mut master = bloc.agent("master", "30d", &[], &serving(ports[0], ports[1]));
    let mut inferno = bloc.agent("inferno", "30d", &[&master], &serving(ports[2], ports[3]));
    master.start();
    inferno.start();
    master.until("they meet", || master.member("inferno")["presence"] == "present");
    inferno.until("both know", || inferno.member("master")["presence"] == "present");
    (master, inferno)
}

#[test]
fn people_talk_to_two_sites_by_nc_and_telnet() {
    if !there("nc") {
        return;
    }
    let bloc = Bloc::new();
    let ports = [ports::free(), ports::free(), ports::free(), ports::free()];
    let (_master, inferno) = two(&bloc, ports);
    let (at_master, at_inferno) = (ports[0].to_string(), ports[2].to_string());

    let mut listener = Command::new("nc")
        .args(["127.0.0.1", &at_inferno])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    listener.stdin.as_mut().unwrap().write_all(b"subscribe all from=first\n").unwrap();
    let mut heard = BufReader::new(listener.stdout.take().unwrap()).lines().map_while(Result::ok);
    let _listening = Listening(listener);

    let text = "groups\ndata\nhello\n..\n.\nbinary 3 all key=me:1\nabc\
                binary 3 all key=me:1\nabcgroup all\nbinary -1\nexit\n";
    let said = typed("nc", &["127.0.0.1", &at_master], text);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("220 master skep "), "{said}");
    assert_eq!(lines[1], "250-all here 2 members 0 updates 0 bytes");
    assert_eq!(lines[3], "354 end with a line that holds one dot");
    assert_eq!(lines[4..7], ["250 all master:1:1", "250 all master:1:2", "250 all master:1:2"]);
    assert_eq!(lines[7..9], ["250-inferno present", "250-master present"]);
    assert_eq!(lines[9], "250 all 2 of 2 members present");
    assert!(lines[10].starts_with("501 binary wants a number of bytes"), "{said}");
    assert_eq!(lines.len(), 11, "nothing is believed after a size that is none: {said}");

    // What was said at one site is heard at the other, once and in its order.
    let updates: Vec<String> =
        heard.by_ref().filter(|line| line.starts_with("150 ")).take(2).collect();
    assert!(updates[0].contains(" master:1:1 ") && updates[0].ends_with(" 8"), "{updates:?}");
    assert!(updates[1].contains(" master:1:2 ") && updates[1].ends_with(" 3"), "{updates:?}");

    if there("telnet") {
        let said = typed("telnet", &["127.0.0.1", &at_inferno], "topology all\nexit\nquit\n");
        assert!(said.contains("250-inferno master") && said.contains("250 all 1 link, "), "{said}");
        assert!(said.contains("553 this agent's configuration does not let you"), "{said}");
        assert!(said.contains("221 good-bye"), "{said}");
    }
    assert!(inferno.skep(&["status"]).status.success(), "it still runs");
}

/// What `nearest` says at a port, but for the last line.
fn hints(port: u16) -> Vec<Hint> {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"nearest\nquit\n").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    let rows = said.lines().filter_map(|line| Hint::read(line.strip_prefix("250-")?));
    rows.collect()
}

#[test]
fn nearest_ranks_the_nodes_by_what_was_measured() {
    let bloc = Bloc::new();
    let ports = [ports::free(), ports::free(), ports::free(), ports::free()];
    let (master, inferno) = two(&bloc, ports);
    let third = [ports::free(), ports::free()];
    let mut styx = bloc.agent("styx", "30d", &[&master], &serving(third[0], third[1]));
    styx.start();
    for agent in [&master, &inferno] {
        agent.until("it sees the third", || agent.member("styx")["presence"] == "present");
    }
    let at = [("master", ports[0]), ("inferno", ports[2]), ("styx", third[0])];
    for (agent, (name, port)) in [&master, &inferno, &styx].into_iter().zip(at) {
        let measured = |rows: &[Hint]| rows.len() == 3 && rows.iter().all(|row| row.rtt.is_some());
        agent.until("all are measured", || measured(&hints(port)));
        let rows = hints(port);
        assert_eq!((rows[0].node.as_str(), rows[0].rtt), (name, Some(Duration::ZERO)));
        assert!(rows.is_sorted_by_key(|row| row.rtt), "{rows:?}");
        for row in &rows[1..] {
            assert!(row.rtt > Some(Duration::ZERO) && !row.routed, "{row}");
            let known = agent.ask(&["rtt", name, row.node.as_str()]);
            assert_eq!(known["basis"], "measured", "{known}");
        }
    }
}

#[test]
fn certificates_open_the_second_port_and_names_keep_their_place_over_a_restart() {
    let bloc = Bloc::new();
    let ports = [ports::free(), ports::free(), ports::free(), ports::free()];
    let (mut master, inferno) = two(&bloc, ports);
    let tls = format!("tls:127.0.0.1:{}", ports[1]);
    let identity = inferno.dir.join("identity");
    let identity = identity.to_str().unwrap();
    let flood = |words: &[&str]| {
        let output = inferno.skep(&[&["flood"], words, &["--connect", &tls]].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, why) = flood(&["stats"]);
    assert_eq!(code, Some(3), "nobody comes in without a certificate: {why}");
    let mine = ["--identity", identity];
    for text in ["one", "two", "three"] {
        let (code, said, why) = flood(&[&["send", "--text", text][..], &mine].concat());
        assert_eq!((code, said.starts_with("all master:")), (Some(0), true), "{why}");
    }
    let tail = |words: &[&str]| {
        let (code, said, why) = flood(&[&["tail"], words, &mine].concat());
        assert_eq!(code, Some(0), "{why}");
        said
    };
    // Killed the moment after it was told how far somebody is.
    let deploy = ["--name", "deploy"];
    let said = tail(&[&deploy[..], &["--from", "first", "-n", "1"]].concat());
    assert!(said.contains("one\n"), "{said}");
    assert_eq!(tail(&["--name", "late", "--no-follow"]), "", "a new name begins with what comes");
    master.kill();
    master.start();
    let said = tail(&[&deploy[..], &["-n", "1"]].concat());
    assert!(said.contains("two\n") && !said.contains("one\n"), "{said}");
    master.kill();
    master.start();
    let said = tail(&[&deploy[..], &["--no-follow"]].concat());
    assert!(said.contains("three\n") && !said.contains("two\n"), "{said}");
    let (code, _, why) = flood(&[&["send", "--text", "four"][..], &mine].concat());
    assert_eq!(code, Some(0), "{why}");
    let said = tail(&["--name", "late", "--no-follow"]);
    assert!(said.contains("four\n") && !said.contains("three\n"), "{said}");
}

#[test]
fn no_acknowledged_publish_is_lost_however_often_the_agent_is_killed() {
    const KILLS: usize = 5;
    const AHEAD: usize = 50;
    let bloc = Bloc::new();
    let mut agent = bloc.agent("inferno", "30d", &[], "");
    agent.start();
    let server = Server::Unix(agent.dir.join("sock-client.sock"));
    let client = blocking::Client::connect(Options::to(server).patience(PATIENCE)).unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let publishing = std::thread::spawn({
        let (enough, acknowledged) = (Arc::clone(&enough), Arc::clone(&acknowledged));
        move || {
            for round in 0.. {
                let bodies = (0..AHEAD).map(|at| format!("{}", round * AHEAD + at));
                let sent: Vec<_> =
                    bodies.map(|body| (client.send(&[], body.clone()).unwrap(), body)).collect();
                for (pending, body) in sent {
                    let (_, id) = pending.wait().unwrap().ids.remove(0);
                    acknowledged.lock().unwrap().push((id.to_string(), body));
                }
                if enough.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
    for kill in 1..=KILLS {
        // At any point of a round, since it goes on meanwhile.
        agent.until("more is acknowledged", || {
            acknowledged.lock().unwrap().len() >= kill * 2 * AHEAD
        });
        agent.kill();
        agent.start();
    }
    enough.store(true, Ordering::Relaxed);
    publishing.join().unwrap();
    let logged = agent.ids_and_bodies();
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() > KILLS * AHEAD);
    for (id, body) in &*acknowledged {
        assert_eq!(logged.get(id), Some(body), "{id} was acknowledged");
    }
}
