//! A log that is full: what goes is counted by its reason, and whoever lacks it is told (FLOOD-1,
//! FLOOD-32, FLOOD-33).

use serde_json::Value;
use skep_client::{Options, Server, blocking};

use crate::agents::{Agent, Bloc, PATIENCE};

/// Room for a third of what is published.
const NARROW: &str = "[flood]\nstorage_max = \"1 MiB\"\n";
const MANY: usize = 400;
const LONG: usize = 8 << 10;

/// How many updates it has dropped for this reason.
fn dropped(agent: &Agent, reason: &str) -> u64 {
    let metrics = agent.ask(&["metrics"]);
    let of =
        |metric: &&Value| metric["name"] == "updates_dropped" && metric["labels"][0][1] == reason;
    let found = metrics.as_array().unwrap().iter().find(of);
    found.unwrap_or_else(|| panic!("nothing about {reason}: {metrics}"))["value"].as_u64().unwrap()
}

/// What a subscriber is handed from the oldest on: identities of updates, and gaps.
fn handed(agent: &Agent) -> (Vec<String>, Vec<Value>) {
    let output = agent.skep(&["flood", "tail", "--from", "first", "--no-follow", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (gaps, updates): (Vec<Value>, Vec<Value>) =
        told.into_iter().partition(|told| told["missing_up_to"].is_string());
    (updates.iter().map(|update| update["id"].as_str().unwrap().to_owned()).collect(), gaps)
}

fn sequence(id: &Value) -> usize {
    id.as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn what_is_dropped_for_an_absent_node_is_counted_and_told_it_when_it_is_back() {
    let bloc = Bloc::new();
    let mut seed = bloc.agent("seed-1", "30d", &[], NARROW);
    let mut away = bloc.agent("away-1", "30d", &[&seed], "");
    seed.start();
    away.start();
    away.until("they meet", || away.member("seed-1")["presence"] == "present");
    assert!(seed.skep(&["flood", "send", "--text", "the first"]).status.success());
    away.until("it has the first", || away.updates().len() == 1);
    away.kill();
    seed.until("it is missed", || seed.member("away-1")["presence"] == "silent");

    let server = Server::Unix(seed.dir.join("sock-client.sock"));
    let client = blocking::Client::connect(Options::to(server).patience(PATIENCE)).unwrap();
    let body = vec![b'x'; LONG];
    let sent: Vec<_> = (0..MANY).map(|_| client.send(&[], body.clone()).unwrap()).collect();
    sent.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    let gone = usize::try_from(dropped(&seed, "for_absent")).unwrap();
    assert!((MANY / 2..MANY).contains(&gone), "{gone} are gone");
    assert_eq!((dropped(&seed, "unsent"), dropped(&seed, "unread")), (0, 0));

    away.start();
    // The first went as well, but not from the one that has it.
    away.until("it has all that there is", || handed(&away).0.len() == MANY + 2 - gone);
    let (_, gaps) = handed(&away);
    let [gap] = &gaps[..] else { panic!("it is told {gaps:?}") };
    assert_eq!(sequence(&gap["after"]), 1, "the last that it had: {gap}");
    assert_eq!(sequence(&gap["missing_up_to"]), gone, "the last that is gone: {gap}");
    assert!(gap["why"].as_str().unwrap().contains("dropped"), "{gap}");
}
