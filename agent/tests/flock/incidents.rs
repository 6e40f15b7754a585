//! Incidents that a whole flock has little say in, as they are mailed: a manager alone,
//! certificates near their end, and a manager that lost both others (DVM-10, DVM-20).

use crate::agents::{Agent, Bloc};
use crate::notify::{Mailbox, until_managed};

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
