//! Targets in the catalog: whoever is master tells them, what a host lacks for them it says, and no
//! secret is in any entry (DVM-10, DVM-13).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::agents::{Agent, Bloc};
use crate::notify::{Mailbox, until_managed};

fn secret(agent: &Agent, name: &str) {
    let file = agent.dir.join("secrets").join(name);
    fs::write(&file, "hush hush\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
}

fn listed(agent: &Agent, name: &str) -> Option<Value> {
    let all = agent.ask(&["notify", "ls"])["targets"].clone();
    all.as_array()?.iter().find(|it| it["name"] == name).cloned()
}

#[test]
fn targets_of_the_catalog_are_told_by_whoever_is_master_and_hold_no_secret() {
    let Some(mut mailbox) = Mailbox::or_skip() else { return };
    let bloc = Bloc::new();
    let mut agents: Vec<Agent> = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let seeds: Vec<&Agent> = agents.iter().take(1).collect();
        let secrets = bloc.dir(name).join("secrets");
        let more = format!(
            "[managers]\nbackup_silent = \"2s\"\nbackup_reached = \"1s\"\n\
             [notify]\nsettle = \"1s\"\ngather = \"100ms\"\nper_hour = 3600\n\
             retry_first = \"500ms\"\nsecrets_dir = {secrets:?}\n"
        );
        let mut agent = bloc.agent(name, "30d", &seeds, &more);
        fs::create_dir(&secrets).unwrap();
        let authority = mailbox.receivers.file("ca.pem");
        fs::copy(authority, secrets.join("mail-ca.pem")).unwrap();
        agent.start();
        agents.push(agent);
    }
    let (master, _) = until_managed(&agents);
    let at = agents.iter().position(|it| it.name == master).unwrap();
    let dies = agents.remove(at);
    // All but the master can tell it: the master says so, and the next one need not wait for that.
    for agent in &agents {
        secret(agent, "skep@localhost");
    }
    let server = format!("localhost:{}", mailbox.receivers.port("starttls"));
    let add = |agent: &Agent, more: &[&str]| {
        let way = ["notify", "add", "ops", "--smtp", &server, "--from", "skep@example.org"];
        let to = ["--to", "ops@example.org", "--ca", "mail-ca.pem", "--user", "skep"];
        agent.skep(&[&way[..], &to[..], more].concat())
    };
    let refused = |more: &[&str], says: &str| {
        let output = add(&agents[0], more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{more:?}: {said}");
    };
    refused(&["--secret", "elsewhere.example"], "bears its server's name");
    refused(&["--secret", "skep@localhost", "--kind", "fire"], "no kind of incident");
    refused(&["--secret", "../shadow"], "plain name of a file");
    let typed = agents[0].skep(&["catalog", "set", "target/x", "way=webhook", "password=hush"]);
    assert!(String::from_utf8_lossy(&typed.stderr).contains("every node would read it"));
    let added = add(&agents[0], &["--secret", "skep@localhost"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    refused(&["--secret", "skep@localhost"], "should not have been there");

    let word = |agent: &Agent| listed(agent, "ops").map(|it| it["from"].clone());
    for agent in agents.iter().chain([&dies]) {
        agent.until("it has the target", || word(agent) == Some("catalog".into()));
    }
    dies.until("the master says what it lacks", || {
        let problems = dies.ask(&["status"])["problems"].to_string();
        problems.contains("target ops cannot be told by this node")
            && listed(&dies, "ops").unwrap()["lacks"].is_string()
    });
    let tested = agents[0].skep(&["notify", "test", "ops"]);
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));

    // What is due while the master cannot tell it is told by the next one, once.
    let lost = agents.iter().position(|it| it.ask(&["flock"])["management"]["role"] == "backup");
    let mut lost = agents.remove(lost.unwrap());
    lost.kill();
    let open = |agent: &Agent, node: &str| {
        let all = agent.ask(&["notify", "ls"])["incidents"].clone();
        all.as_array().unwrap().iter().any(|it| it["subject"] == node && it["state"] == "open")
    };
    dies.until("the loss is noted", || open(&dies, &lost.name));
    dies.until("it cannot be told", || listed(&dies, "ops").unwrap()["failures"] != 0);
    assert!(mailbox.mails().iter().all(|mail| mail.contains("a test from")));
    // The spare takes the place of the one that is lost, and then the master dies as well.
    agents.push(dies);
    assert_eq!(until_managed(&agents).0, master, "it changed unasked");
    let mut dies = agents.pop().unwrap();
    dies.kill();
    let gone = format!("open: manager-lost {}", dies.name);
    let what = format!("open: manager-lost {}", lost.name);
    agents[0].until("the next master tells both", || {
        let mails = mailbox.mails();
        [&what, &gone].iter().all(|it| mails.iter().any(|mail| mail.contains(*it)))
    });
    agents[0].until("nothing is on its way", || {
        let notices = agents[0].ask(&["notify", "ls"]);
        let incidents = notices["incidents"].as_array().unwrap();
        incidents.iter().all(|it| it["told"][0]["step"] == it["step"])
    });
    for ((what, id), names) in mailbox.told() {
        assert_eq!(names.len(), 1, "{what}, {id} came as {names:?}");
    }
    let exported = agents[0].skep(&["catalog", "export"]).stdout;
    let exported = String::from_utf8(exported).unwrap();
    assert!(exported.contains("[target.\"ops\"]") && !exported.contains("hush"), "{exported}");
    let removed = agents[0].skep(&["notify", "rm", "ops"]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    agents[0].until("nobody is told any more", || listed(&agents[0], "ops").is_none());
    assert!(!agents[0].skep(&["notify", "rm", "ops"]).status.success(), "there is none");
}
