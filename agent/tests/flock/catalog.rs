//! `skep catalog` on real agents: what is read of it, watched, and written on a condition; and what
//! a node says of it that reaches no master (DVM-1, DVM-17).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use crate::agents::{Agent, Bloc, PATIENCE};

const MOTD: &str = "setting/motd";

#[track_caller]
fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[track_caller]
fn refused(output: &Output, why: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for why in why {
        assert!(said.contains(why), "{why:?} is not said: {said}");
    }
}

fn masters_itself(agent: &Agent) -> bool {
    agent.ask(&["flock"])["management"]["role"] == "master"
}

/// Sets an entry on whatever conditions; gives its revision.
fn set(agent: &Agent, more: &[&str]) -> u64 {
    let written = agent.ask(&[&["catalog", "set", MOTD], more].concat());
    assert_eq!(written["changed"], json!([MOTD]), "{written}");
    written["index"].as_u64().unwrap()
}

/// What the entry says, and at which revision.
fn motd(agent: &Agent) -> (Value, u64) {
    let entry = agent.ask(&["catalog", "get", MOTD]);
    (entry["fields"]["value"].clone(), entry["revision"].as_u64().unwrap())
}

/// `skep catalog watch`, and the lines that it prints.
struct Watch {
    child: Child,
    lines: Receiver<Value>,
}

impl Watch {
    fn of(agent: &Agent) -> Self {
        let mut command = agent.command_of(&["catalog", "watch", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (give, lines) = channel();
        thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            for line in lines.map(|line| serde_json::from_str(&line).unwrap()) {
                if give.send(line).is_err() {
                    return;
                }
            }
        });
        let watch = Self { child, lines };
        // It prints what comes after it began, and does not say when it has.
        let mut number = 0;
        agent.until("the watch has begun", || {
            number += 1;
            done(&agent.skep(&["catalog", "set", "setting/probe", &format!("value={number}")]));
            watch.lines.try_recv().is_ok()
        });
        watch
    }

    /// Waits for the next change of the entry, which must be that of `revision`, or one that was
    /// shown together with it.
    #[track_caller]
    fn sees(&self, revision: u64) {
        let event = loop {
            let event = self.lines.recv_timeout(PATIENCE).expect("it prints every change");
            assert_eq!(event["event"], "catalog", "{event}");
            if event["keys"] == json!([MOTD]) {
                break event;
            }
        };
        assert!(event["index"].as_u64() >= Some(revision), "not that of {revision}: {event}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn an_entry_is_set_on_conditions_watched_compared_and_its_history_kept() {
    let bloc = Bloc::new();
    let mut agent = bloc.agent("a-1", "30d", &[], "");
    agent.start();
    agent.until("it is master", || masters_itself(&agent));
    let watch = Watch::of(&agent);

    let first = set(&agent, &["value=one", "--new"]);
    watch.sees(first);
    let new = ["catalog", "set", MOTD, "value=two", "--new"];
    let there = format!("is at revision {first}");
    refused(&agent.skep(&new), &["should not have been there", &there, "skep catalog get"]);
    // Somebody else changes what this one has read.
    let second = set(&agent, &["value=two"]);
    let stale = first.to_string();
    let late = ["catalog", "set", MOTD, "value=mine", "--if-revision", &stale];
    let moved = format!("is at revision {second}");
    refused(&agent.skep(&late), &[&format!("should have been at revision {first}"), &moved]);
    refused(&agent.skep(&["catalog", "rm", MOTD, "--if-revision", &stale]), &[&moved]);
    assert_eq!(motd(&agent), (json!("two"), second), "nothing happened");

    // Of many that all have read the same one happens.
    let read = second.to_string();
    let outputs: Vec<Output> = thread::scope(|scope| {
        let writers: Vec<_> = (0..6)
            .map(|number| {
                let value = format!("value=writer-{number}");
                let mut command =
                    agent.command_of(&["catalog", "set", MOTD, &value, "--if-revision", &read]);
                scope.spawn(move || command.output().unwrap())
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let won: Vec<usize> = (0..6).filter(|on| outputs[*on].status.success()).collect();
    assert_eq!(won.len(), 1, "{outputs:?}");
    let lost = outputs.iter().enumerate().filter(|(on, _)| *on != won[0]);
    lost.for_each(|(_, output)| refused(output, &[&format!("at revision {second}, and is at")]));
    let (value, third) = motd(&agent);
    assert_eq!(value, format!("writer-{}", won[0]));
    watch.sees(second);
    watch.sees(third);

    // What changed in between, and what it said before.
    let (from, to) = (first.to_string(), third.to_string());
    let diff = done(&agent.skep(&["catalog", "diff", &from, &to]));
    assert_eq!(diff, format!("- {MOTD} value=one\n+ {MOTD} value=writer-{}\n", won[0]));
    let diff = agent.ask(&["catalog", "diff", &from, &read]);
    assert_eq!(diff["changes"][0]["before"]["revision"], first, "{diff}");
    assert_eq!(diff["changes"][0]["after"]["fields"]["value"], "two", "{diff}");
    let none = done(&agent.skep(&["catalog", "diff", &to, &to]));
    assert!(none.contains("nothing changed between"), "{none}");
    refused(&agent.skep(&["catalog", "diff", &to, &from]), &["give the earlier one first"]);
    let history = agent.ask(&["catalog", "history", MOTD]);
    let revisions: Vec<&Value> =
        history["versions"].as_array().unwrap().iter().map(|it| &it["revision"]).collect();
    assert_eq!(revisions, [&json!(third), &json!(second), &json!(first)], "the newest first");
    assert!(history["versions"][0]["who"].as_str().unwrap().contains("a-1"), "{history}");

    // Removed on a condition, it has a history all the same; of many versions the last are kept.
    let removed = agent.ask(&["catalog", "rm", MOTD, "--if-revision", &to]);
    refused(&agent.skep(&["catalog", "rm", MOTD]), &["is not in the catalog"]);
    let history = done(&agent.skep(&["catalog", "history", MOTD]));
    assert!(history.lines().nth(1).unwrap().contains("(removed)"), "{history}");
    // The next that it sees: nothing was printed of what was refused.
    let again = set(&agent, &["value=0", "--new"]);
    watch.sees(removed["index"].as_u64().unwrap());
    watch.sees(again);
    let last = (1..10).fold(again, |_, n| set(&agent, &[&format!("value={n}")]));
    let history = agent.ask(&["catalog", "history", MOTD]);
    assert_eq!((&history["cut"], history["versions"].as_array().unwrap().len()), (&json!(true), 8));
    let lost = done(&agent.skep(&["catalog", "diff", &from, &last.to_string()]));
    assert!(lost.contains(&format!("- {MOTD} (not kept any more)\n+ {MOTD} value=9")), "{lost}");
}

#[test]
fn what_a_newer_build_wrote_is_shown_and_exported_and_not_overwritten() {
    let bloc = Bloc::new();
    let mut agent = bloc.agent("a-1", "30d", &[], "");
    agent.start();
    agent.until("it is master", || masters_itself(&agent));
    let newer = "[setting.motd]\nSchema = 7\nvalue = \"back\"\nuntil = 12\n";
    let file = agent.dir.join("newer.toml");
    fs::write(&file, newer).unwrap();
    let import = ["catalog", "import", file.to_str().unwrap()];
    done(&agent.skep(&import));

    let reason = ["was written in schema 7", "would lose", "update this node's skep"];
    refused(&agent.skep(&["catalog", "set", MOTD, "value=gone"]), &reason);
    let revision = motd(&agent).1.to_string();
    let set = ["catalog", "set", MOTD, "value=gone", "--if-revision", &revision];
    refused(&agent.skep(&set), &reason);
    fs::write(&file, "[setting.motd]\nvalue = \"gone\"\n").unwrap();
    refused(&agent.skep(&import), &reason);
    let entry = agent.ask(&["catalog", "get", MOTD]);
    assert_eq!((&entry["schema"], &entry["fields"]["until"]), (&json!(7), &json!(12)), "{entry}");
    let export = done(&agent.skep(&["catalog", "export"]));
    assert!(export.contains("Schema = 7\nuntil = 12\nvalue = \"back\"\n"), "{export}");

    done(&agent.skep(&["catalog", "rm", MOTD]));
    done(&agent.skep(&["catalog", "set", MOTD, "value=again"]));
    assert_eq!(agent.ask(&["catalog", "get", MOTD])["schema"], 1);
}

#[test]
fn a_node_without_its_master_shows_what_it_has_and_says_that_it_may_be_old() {
    let bloc = Bloc::new();
    let mut master = bloc.agent("a-1", "30d", &[], "");
    master.start();
    let host = "[managers]\neligible = \"no\"\n";
    let mut host = bloc.agent("h-1", "30d", &[&master], host);
    host.start();
    master.until("it is master", || masters_itself(&master));
    set(&master, &["value=before"]);
    let fresh = |agent: &Agent| agent.ask(&["catalog", "get"])["freshness"].clone();
    let is_fresh = |agent: &Agent| {
        let (seen, fresh) = (agent.ask(&["catalog", "get"]), fresh(agent));
        let reads = seen["current"] == true && fresh["master"] == "a-1";
        reads && fresh["stale"] == false && seen.to_string().contains("before")
    };
    host.until("it shows what the master says", || is_fresh(&host));
    let plain = done(&host.skep(&["catalog", "get"]));
    assert!(plain.contains("as a-1 signed it") && !plain.contains("STALE"), "{plain}");
    assert!(is_fresh(&master), "a master reaches itself");

    master.kill();
    host.until("it knows that it reaches nobody", || fresh(&host)["stale"] == true);
    let said = fresh(&host);
    assert_eq!((&said["master"], &said["reached_before"]), (&Value::Null, &json!(true)), "{said}");
    assert_eq!(
        said["newest_signed"], true,
        "it has all that was signed, as far as it knows: {said}"
    );
    assert_eq!(host.ask(&["catalog", "get"])["current"], false);
    let reads: [&[&str]; 5] = [
        &["catalog", "get"],
        &["catalog", "get", MOTD],
        &["catalog", "history", MOTD],
        &["catalog", "diff", "0"],
        &["catalog", "conflicts"],
    ];
    for read in reads {
        let said = done(&host.skep(read));
        assert!(said.contains("\nSTALE: no master is reached since "), "{read:?}: {said}");
        assert!(said.contains("\nthis is what a-1 said at index "), "{read:?}: {said}");
    }
    let file = host.dir.join("export.toml");
    let said = done(&host.skep(&["catalog", "export", file.to_str().unwrap()]));
    assert!(said.starts_with("STALE: "), "{said}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# STALE: no master is reached") && text.contains("before"), "{text}");

    // It has what its disk had, and never heard of anybody.
    let kept = host.dir.join("state/catalog");
    host.until("it has kept it", || {
        String::from_utf8_lossy(&fs::read(&kept).unwrap_or_default()).contains("before")
    });
    host.kill();
    host.start();
    let said = done(&host.skep(&["catalog", "get"]));
    assert!(said.contains("STALE: no master was reached since this agent started"), "{said}");
    assert!(said.contains("value=before"), "{said}");
    // With the file, which is one of comments and tables, nothing is wrong but its age.
    master.start();
    host.until("it shows again what the master says", || is_fresh(&host));
    let import = ["catalog", "import", file.to_str().unwrap()];
    assert!(done(&host.skep(&import)).contains("1 as they were"));
}
