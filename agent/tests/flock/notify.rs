//! What happens to a flock reaches its hooks (BLOC-10, BLOC-21), and what is wrong with it people,
//! once, whichever node dies on the way (DVM-13, BLOC-19). The mail server is aiosmtpd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::agents::{Agent, Bloc};
use crate::ports;
use crate::receivers::Receivers;

/// Receivers, and the mails that came to them.
pub(crate) struct Mailbox {
    pub(crate) receivers: Receivers,
    mails: Vec<String>,
}

impl Mailbox {
    pub(crate) fn or_skip() -> Option<Self> {
        Self::at_or_skip(0)
    }

    /// The same where the mail server without TLS listens at a given port.
    fn at_or_skip(plain: u16) -> Option<Self> {
        Some(Self { receivers: Receivers::or_skip(plain)?, mails: Vec::new() })
    }

    /// The mails that came so far.
    pub(crate) fn mails(&mut self) -> &[String] {
        for said in self.receivers.said.try_iter() {
            let said: Value = serde_json::from_str(&said).unwrap();
            self.mails.extend(said["mail"].as_str().map(ToOwned::to_owned));
        }
        &self.mails
    }

    /// The Message-IDs under which each step of each incident was told.
    pub(crate) fn told(&mut self) -> BTreeMap<(String, String), BTreeSet<String>> {
        in_mails(self.mails().iter().map(String::as_str))
    }
}

/// The same for any mails.
pub(crate) fn in_mails<'a>(
    mails: impl Iterator<Item = &'a str>,
) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut told: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for mail in mails {
        let name = mail.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
        let mut what = String::new();
        for line in mail.lines() {
            if ["open: ", "over: ", "happened: "].iter().any(|word| line.starts_with(word)) {
                line.split(',').next().unwrap().clone_into(&mut what);
            }
            if let Some((_, id)) = line.split_once("; incident ") {
                let id = id.trim_end_matches('.').to_owned();
                told.entry((what.clone(), id)).or_default().insert(name.to_owned());
            }
        }
    }
    told
}

/// How this test's agents notify: soon.
fn notifying(receivers: &Receivers, to: &str) -> String {
    format!(
        "[managers]\nbackup_silent = \"2s\"\nbackup_reached = \"1s\"\n\
         [notify]\nsettle = \"1s\"\ngather = \"100ms\"\nper_hour = 3600\n\
         [notify.smtp.ops]\nserver = \"localhost:{}\"\ntls = \"none\"\n\
         from = \"skep@example.org\"\nto = [{to:?}]\n",
        receivers.port("plain")
    )
}

/// The master and the two backups that all of them name, if they do.
fn managers_of(agents: &[&Agent]) -> Option<(String, Vec<String>)> {
    let named = |agent: &&Agent| {
        let flock = agent.ask(&["flock"])["management"].clone();
        let backups = flock["backups"].as_array()?.iter();
        let backups: BTreeSet<String> =
            backups.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        Some((flock["master"].as_str()?.to_owned(), backups))
    };
    let all: BTreeSet<Option<(String, BTreeSet<String>)>> = agents.iter().map(named).collect();
    let (master, backups) = if all.len() == 1 { all.into_iter().next()?? } else { return None };
    (backups.len() == 2).then(|| (master, backups.into_iter().collect()))
}

/// Waits until all of them name one master and two backups, and nobody who is gone.
pub(crate) fn until_managed(agents: &[Agent]) -> (String, Vec<String>) {
    let living: Vec<&Agent> = agents.iter().collect();
    let mut found = None;
    agents[0].until("one master with two backups", || {
        found = managers_of(&living).filter(|(_, backups)| {
            backups.iter().all(|name| agents.iter().any(|agent| agent.name == *name))
        });
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn an_incident_is_mailed_under_one_name_though_the_master_dies_while_it_is() {
    let Some(mut mailbox) = Mailbox::or_skip() else { return };
    let bloc = Bloc::new();
    let notifying = notifying(&mailbox.receivers, "slow@example.org");
    let mut agents: Vec<Agent> = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let seeds: Vec<&Agent> = agents.iter().take(1).collect();
        let mut agent = bloc.agent(name, "30d", &seeds, &notifying);
        agent.start();
        agents.push(agent);
    }
    let (master, backups) = until_managed(&agents);
    let lost = backups[0].clone();
    let place = |agents: &[Agent], name: &str| agents.iter().position(|it| it.name == name);

    // A backup dies, its loss is being mailed, and the master dies before the server has answered.
    let at = place(&agents, &lost).unwrap();
    agents[at].kill();
    agents.remove(at);
    let what = format!("open: manager-lost {lost}");
    agents[0].until("the loss is being mailed", || {
        mailbox.mails().iter().any(|mail| mail.contains(&what))
    });
    // Two backups are there again, one of which takes over.
    assert_eq!(until_managed(&agents).0, master, "it changed unasked");
    let at = place(&agents, &master).unwrap();
    agents[at].kill();
    agents.remove(at);
    fs::write(mailbox.receivers.file("release"), "").unwrap();

    let gone = format!("open: manager-lost {master}");
    agents[0].until("the next master mails both", || {
        let mails = mailbox.mails();
        let of = |what: &str| mails.iter().filter(|mail| mail.contains(what)).count();
        of(&what) >= 2 && of(&gone) >= 1
    });
    // All is noted as told before it is looked at what was.
    agents[0].until("nothing is on its way", || {
        let notices = agents[0].ask(&["notify", "ls"]);
        let incidents = notices["incidents"].as_array().unwrap();
        incidents.iter().all(|it| it["told"][0]["step"] == it["step"])
    });
    let told = mailbox.told();
    for ((what, id), names) in &told {
        assert_eq!(names.len(), 1, "{what}, {id} came as {names:?}");
    }
    for wanted in [&what, &gone] {
        let of = told.keys().filter(|(what, _)| what == wanted).count();
        assert_eq!(of, 1, "{wanted} is one incident: {told:?}");
    }
    // A repeat follows a failure, of which there were few: the master's death, a server that is
    // slow. Whoever hands a letter over without end does so hundreds of times a second.
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for mail in mailbox.mails() {
        let name = mail.lines().find(|line| line.starts_with("Message-ID: ")).unwrap();
        *copies.entry(name.to_owned()).or_default() += 1;
    }
    assert!(copies.values().all(|copies| *copies <= 12), "{copies:?}");
    let by = agents[0].ask(&["notify", "ls"])["told_by"]["targets"].clone();
    assert_eq!(by, "ops");
}

/// The server dies with a letter in its hands, and is away while another becomes due. When it is
/// back it gets both, each once, the first under the name that it had.
#[test]
fn mails_are_kept_while_their_server_is_away_and_come_once_when_it_is_back() {
    let port = ports::free();
    let Some(mut mailbox) = Mailbox::at_or_skip(port) else { return };
    let bloc = Bloc::new();
    let soon =
        "[notify]\nunprotected_after = \"1s\"\nretry_first = \"500ms\"\nretry_last = \"1s\"\n";
    let notifying = notifying(&mailbox.receivers, "slow@example.org");
    let notifying = notifying.replace("[notify]\n", soon);
    let mut agents = vec![bloc.agent("a", "30d", &[], &notifying)];
    agents[0].start();
    let (open, over) = ("open: unprotected a", "over: unprotected a");
    agents[0].until("that it has no backup is being mailed", || {
        mailbox.mails().iter().any(|mail| mail.contains(open))
    });
    mailbox.receivers.child.kill().unwrap();
    mailbox.receivers.child.wait().unwrap();
    let before = mailbox.mails().len();
    let notices = |agent: &Agent| agent.ask(&["notify", "ls"]);
    agents[0].until("nobody takes it", || {
        notices(&agents[0])["targets"][0]["failures"].as_u64() >= Some(3)
    });
    for name in ["b", "c"] {
        let mut agent = bloc.agent(name, "30d", &[&agents[0]], &notifying);
        agent.start();
        agents.push(agent);
    }
    let incident = |agent: &Agent| {
        let all = notices(agent)["incidents"].clone();
        all.as_array().unwrap().iter().find(|it| it["kind"] == "unprotected").cloned().unwrap()
    };
    agents[0].until("it is over", || incident(&agents[0])["state"] == "over");
    assert!(incident(&agents[0])["told"][0]["step"] != incident(&agents[0])["step"]);

    mailbox.receivers = Receivers::or_skip(port).unwrap();
    fs::write(mailbox.receivers.file("release"), "").unwrap();
    agents[0].until("all of it is told", || {
        let it = incident(&agents[0]);
        it["told"][0]["step"] == it["step"]
    });
    for ((what, id), names) in mailbox.told() {
        assert_eq!(names.len(), 1, "{what}, {id} came as {names:?}");
    }
    let came = &mailbox.mails()[before..];
    for what in [open, over] {
        let copies = came.iter().filter(|mail| mail.contains(what)).count();
        assert_eq!(copies, 1, "{what}: {came:#?}");
    }
}

#[test]
fn a_test_letter_goes_through_every_target_and_says_what_each_answered() {
    let Some(mut mailbox) = Mailbox::or_skip() else { return };
    let bloc = Bloc::new();
    let mut more = notifying(&mailbox.receivers, "ops@example.org");
    let out = mailbox.receivers.file("letter");
    let (file, hook) = (out.display(), mailbox.receivers.port("hook"));
    more.push_str(&format!(
        "[notify.smtp.gone]\nserver = \"localhost:1\"\ntls = \"none\"\n\
         from = \"skep@example.org\"\nto = [\"ops@example.org\"]\n\
         [notify.webhook.chat]\nurl = \"http://localhost:{hook}/hook\"\n\
         [notify.command.file]\ncommand = \"cat > {file}; echo $SKEP_TEST >> {file}\"\n",
    ));
    let mut agent = bloc.agent("a", "30d", &[], &more);
    agent.start();

    let tested = agent.skep(&["notify", "test", "--json"]);
    assert_eq!(tested.status.code(), Some(1), "one of them is gone");
    let tested: Value = serde_json::from_slice(&tested.stdout).unwrap();
    let of = |name: &str| {
        tested.as_array().unwrap().iter().find(|it| it["target"] == name).unwrap().clone()
    };
    assert!(of("ops")["said"].as_str().unwrap().contains("taken as number 7"), "{tested}");
    assert!(of("chat")["said"].as_str().unwrap().contains("204"), "{tested}");
    assert_eq!((&of("file")["taken"], &of("gone")["taken"]), (&true.into(), &false.into()));
    assert!(of("gone")["said"].as_str().unwrap().contains("localhost:1"), "{tested}");
    assert!(of("gone")["hint"].is_string(), "{tested}");
    let written = fs::read_to_string(&out).unwrap();
    assert!(written.contains("\"test\":true") && written.ends_with("yes\n"), "{written}");
    agent.until("the mail is there", || {
        mailbox.mails().iter().any(|mail| mail.contains("Subject: skep example: a test from a"))
    });

    let one = agent.skep(&["notify", "test", "ops"]);
    assert!(one.status.success());
    let none = agent.skep(&["notify", "test", "nobody"]);
    assert_eq!(none.status.code(), Some(4), "{}", String::from_utf8_lossy(&none.stderr));
    let listed = agent.ask(&["notify", "ls"]);
    assert_eq!(listed["targets"].as_array().unwrap().len(), 4, "{listed}");
}

/// What a hook was run for, as it wrote it down.
fn hooked(file: &Path) -> Vec<(String, Value)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let runs = text.lines().filter_map(|line| line.split_once(' '));
    runs.map(|(event, json)| (event.to_owned(), serde_json::from_str(json).unwrap())).collect()
}

#[test]
fn hooks_learn_that_a_flock_forms_parts_and_is_one_again() {
    let bloc = Bloc::new();
    let dir = tempfile::tempdir().unwrap();
    let (all, some) = (dir.path().join("all"), dir.path().join("some"));
    let hooks = format!(
        "[hooks]\nstable_after = \"500ms\"\n\
         [hook.all]\ncommand = \"echo $SKEP_EVENT $(cat) >> {}\"\n\
         [hook.some]\non = [\"split\", \"merged\"]\ncommand = \"echo $SKEP_EVENT $(cat) >> {}\"\n\
         [hook.fails]\non = [\"split\"]\ncommand = \"echo no way >&2; exit 3\"\n",
        all.display(),
        some.display(),
    );
    let mut a = bloc.agent("a", "30d", &[], &hooks);
    a.start();
    let mut b = bloc.agent("b", "30d", &[&a], "");
    b.start();
    let ran = |event: &str| hooked(&all).into_iter().filter(|(of, _)| of == event).count();
    a.until("its hook learns that the flock formed", || ran("formed") > 0 && ran("stable") > 0);
    a.until("b is present", || a.member("b")["presence"] == "present");

    b.kill();
    a.until("its hook learns that b parted", || {
        hooked(&some).iter().any(|(of, json)| of == "split" && json["nodes"][0] == "b")
    });
    b.start();
    a.until("its hook learns that b is back", || {
        hooked(&some).iter().any(|(of, json)| of == "merged" && json["nodes"][0] == "b")
    });
    let (event, json) = hooked(&some).remove(0);
    assert_eq!((event.as_str(), &json["event"]), ("split", &"split".into()));
    assert_eq!(
        (&json["node"], &json["hook"], &json["present"]),
        (&"a".into(), &"some".into(), &1.into())
    );
    assert!(hooked(&some).iter().all(|(of, _)| of == "split" || of == "merged"));

    a.until("that a hook failed is an event", || {
        a.events("hook").iter().any(|it| it["hook"] == "fails" && it["well"] == false)
    });
    let failed = a.events("hook").into_iter().find(|it| it["hook"] == "fails").unwrap();
    assert!(failed["ended"].as_str().unwrap().contains("no way"), "{failed}");
    for event in ["formed", "split", "merged", "master-changed", "stable"] {
        assert!(!a.events(event).is_empty(), "{event} is no event");
    }
}
