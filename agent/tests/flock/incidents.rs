//! Incidents that a whole flock has little say in, as they are mailed: a manager alone,
//! certificates near their end, and a manager that lost both others (DVM-10, DVM-20). And what a
//! master tells of nodes of its roster, to each sort of target (DVM-10, DVM-13).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::agents::{Agent, Bloc};
use crate::notify::{Mailbox, in_mails, until_managed};
use crate::receivers::Receivers;

/// How far the clocks are ahead: of the 30 days of each certificate two are left.
const AHEAD_MS: u64 = 28 * 24 * 3600 * 1000;

#[test]
fn a_lone_manager_certificates_and_semi_mastery_are_mailed_under_one_name_each() {
    let Some(mut mailbox) = Mailbox::or_skip() else { return };
    let bloc = Bloc::new();
    let more = format!(
        "[managers]\nbackup_silent = \"2s\"\nbackup_reached = \"1s\"\nalone = \"3s\"\n\
         [notify]\nsettle = \"1s\"\nunprotected_after = \"1s\"\nalone_after = \"1s\"\n\
         gather = \"100ms\"\nper_hour = 3600\n\
         [notify.smtp.ops]\nserver = \"localhost:{}\"\ntls = \"none\"\n\
         from = \"skep@example.org\"\nto = [\"ops@example.org\"]\n",
        mailbox.receivers.port("plain")
    );
    let mut agents: Vec<Agent> = Vec::new();
    let start = |agents: &mut Vec<Agent>, name: &str| {
        let seeds: Vec<&Agent> = agents.iter().take(1).collect();
        let mut agent = bloc.agent(name, "30d", &seeds, &more);
        agent.ahead_ms = AHEAD_MS;
        agent.start();
        agents.push(agent);
    };
    let mut until_mailed = |agents: &[Agent], what: &str| {
        agents[0].until(&format!("{what} is mailed"), || {
            mailbox.mails().iter().any(|mail| mail.contains(what))
        });
    };
    start(&mut agents, "a");
    until_mailed(&agents, "open: unprotected a");
    until_mailed(&agents, "open: certificate a");
    start(&mut agents, "b");
    start(&mut agents, "c");
    until_mailed(&agents, "over: unprotected a");
    for node in ["b", "c"] {
        until_mailed(&agents, &format!("open: certificate {node}"));
    }

    let (master, _) = until_managed(&agents);
    let left = agents.iter().position(|it| it.name == master).unwrap();
    let mut lost: Vec<Agent> = Vec::new();
    agents.swap(0, left);
    lost.extend(agents.drain(1..));
    for agent in &mut lost {
        agent.kill();
    }
    until_mailed(&agents, &format!("open: semi-mastery {master}"));
    for mut agent in lost {
        agent.start();
        agents.push(agent);
    }
    until_managed(&agents);
    until_mailed(&agents, &format!("over: semi-mastery {master}"));

    for ((what, id), names) in &mailbox.told() {
        assert_eq!(names.len(), 1, "{what}, {id} came as {names:?}");
    }
}

/// Where letters arrive that a mail system's program, a webhook and a command are given.
struct Targets {
    receivers: Receivers,
    /// Bodies that were posted.
    posted: Vec<Value>,
    program: PathBuf,
    command: PathBuf,
}

/// After each mail.
const END: &str = "--whole--";

/// Under which names each step of each incident was told: `open: on-hold c`, and its number.
type Told = BTreeMap<(String, String), BTreeSet<String>>;

impl Targets {
    fn or_skip() -> Option<Self> {
        let receivers = Receivers::or_skip(0)?;
        let (program, command) = (receivers.file("sendmail"), receivers.file("letters"));
        // As sendmail does: the mail comes in, and whom it is for is said by the words.
        let script =
            format!("#!/bin/sh\n{{ echo \"$*\"; cat; echo; echo {END}; }} >> \"$0.mails\"\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        Some(Self { receivers, posted: Vec::new(), program, command })
    }

    fn config(&self) -> String {
        let (program, command) = (&self.program, self.command.display());
        format!(
            "[notify.sendmail.local]\nprogram = [{program:?}, \"-i\"]\n\
             from = \"skep@example.org\"\nto = [\"ops@example.org\"]\n\
             [notify.webhook.chat]\nurl = \"http://localhost:{}/hook\"\n\
             [notify.command.pager]\ncommand = \"(cat; echo) >> {command}\"\n",
            self.receivers.port("hook")
        )
    }

    /// What each of the three was told.
    fn told(&mut self) -> [Told; 3] {
        let arrived = self.receivers.said.try_iter();
        let arrived = arrived.map(|said| serde_json::from_str::<Value>(&said).unwrap());
        self.posted.extend(
            arrived.map(|said| serde_json::from_str(said["body"].as_str().unwrap()).unwrap()),
        );
        let written = fs::read_to_string(&self.command).unwrap_or_default();
        let written: Vec<Value> =
            written.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mails = fs::read_to_string(self.program.with_extension("mails")).unwrap_or_default();
        // The last one may be coming in.
        let mut mails: Vec<&str> = mails.split(END).collect();
        mails.pop();
        for mail in &mails {
            let (words, _) = mail.trim_start().split_once('\n').unwrap();
            assert_eq!(words, "-i -f skep@example.org -- ops@example.org", "{mail}");
        }
        [in_mails(mails.into_iter()), in_letters(&self.posted), in_letters(&written)]
    }
}

fn in_letters(letters: &[Value]) -> Told {
    let mut told = Told::new();
    for letter in letters {
        for item in letter["incidents"].as_array().unwrap() {
            let word = |field: &str| item[field].as_str().unwrap().to_owned();
            let what = format!("{}: {} {}", word("state"), word("kind"), word("subject"));
            let name = letter["letter"].as_str().unwrap().to_owned();
            told.entry((what, word("id"))).or_default().insert(name);
        }
    }
    told
}

#[test]
fn who_is_given_up_and_who_is_held_is_told_to_mail_webhook_and_command_and_that_it_is_over() {
    let Some(mut targets) = Targets::or_skip() else { return };
    let bloc = Bloc::new();
    let more = format!(
        "[managers]\nbackup_silent = \"2s\"\nbackup_reached = \"1s\"\ngiven_up = \"2s\"\n\
         [notify]\nsettle = \"1s\"\ngather = \"100ms\"\nper_hour = 3600\n{}",
        targets.config()
    );
    let mut agents: Vec<Agent> = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let seeds: Vec<&Agent> = agents.iter().take(1).collect();
        let mut agent = bloc.agent(name, "30d", &seeds, &more);
        agent.start();
        agents.push(agent);
    }
    let (master, backups) = until_managed(&agents);
    // The fourth is of the roster alone: what happens to it is no manager's loss.
    let spare = agents.iter().position(|it| it.name != master && !backups.contains(&it.name));
    let mut spare = agents.remove(spare.unwrap());
    let of_roster = |agent: &Agent| {
        let roster = agent.ask(&["flock"])["management"]["roster"].clone();
        roster.as_array().is_some_and(|all| all.iter().any(|it| it["node"] == *spare.name))
    };
    let mastering = agents.iter().find(|it| it.name == master).unwrap();
    mastering.until("it is on the roster", || of_roster(mastering));
    let mut until_told = |what: &str, of: &str| {
        let what = format!("{what} {of}");
        mastering.until(&format!("all three are told {what}"), || {
            targets.told().iter().all(|told| told.keys().any(|(it, _)| *it == what))
        });
    };

    spare.kill();
    until_told("open: given-up", &spare.name);
    spare.start();
    until_told("over: given-up", &spare.name);

    // Another takes its place as long as it is held.
    let held = agents.iter().find(|it| it.name == backups[0]).unwrap();
    let ordered = mastering.skep(&["flock", "hold", &held.name]);
    assert!(ordered.status.success(), "{}", String::from_utf8_lossy(&ordered.stderr));
    until_told("open: on-hold", &held.name);
    let ordered = mastering.skep(&["flock", "release", &held.name]);
    assert!(ordered.status.success(), "{}", String::from_utf8_lossy(&ordered.stderr));
    until_told("over: on-hold", &held.name);

    for (told, target) in targets.told().iter().zip(["local", "chat", "pager"]) {
        let wrongly = |(what, _): &&(String, String)| {
            !(what.ends_with(&format!(" on-hold {}", held.name))
                || what.ends_with(&format!(" given-up {}", spare.name)))
        };
        let others: Vec<_> = told.keys().filter(wrongly).collect();
        assert!(others.is_empty(), "{target} was told of {others:?}");
        assert_eq!(told.len(), 4, "{target} was told twice: {told:#?}");
        assert!(told.values().all(|names| names.len() == 1), "{target}: {told:#?}");
    }
    // A letter about a thing has one name, whoever gets it.
    let [local, chat, pager] = targets.told();
    assert_eq!(chat, pager);
    assert_eq!(local.keys().collect::<Vec<_>>(), chat.keys().collect::<Vec<_>>());
}
