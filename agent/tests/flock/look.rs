//! `skep flock` on a node that only follows shows what the master shows (BLOC-10, 11, invariant 9).

use serde_json::Value;

use crate::agents::{Agent, Bloc};

/// A node that may manage nothing, and so knows of itself only what the master announces.
const HOST: &str = "[managers]\neligible = \"no\"\n";
/// Backups are missed for long, so that it can be seen who is waited for.
const LONG: &str = "[managers]\nbackup_silent = \"50s\"\n";

fn management(agent: &Agent) -> Value {
    agent.ask(&["flock"])["management"].clone()
}

fn length(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

/// The part of a page that is the master's to say and does not change from moment to moment.
fn said(page: &Value) -> Vec<Value> {
    let fields = [
        "name",
        "lineage",
        "generation",
        "epoch",
        "stamp",
        "term",
        "strength",
        "weak",
        "founding",
        "master",
        "backups",
        "learners",
        "sync_set",
    ];
    fields.iter().map(|field| page[*field].clone()).collect()
}

/// Places of the roster without what changes all the time.
fn places(page: &Value) -> Vec<[Value; 6]> {
    let fields = ["node", "standing", "resources", "availability", "present", "held"];
    let places = page["roster"].as_array().unwrap().iter();
    places.map(|place| fields.map(|field| place[field].clone())).collect()
}

fn waits(page: &Value) -> Vec<(Value, Value)> {
    let waits = page["waits"].as_array().unwrap().iter();
    waits.map(|wait| (wait["by"].clone(), wait["what"].clone())).collect()
}

#[test]
fn a_node_that_only_follows_shows_what_the_master_shows_and_says_when_it_does_not() {
    let bloc = Bloc::new();
    let mut agents: Vec<Agent> = Vec::new();
    for (name, more) in [("a-1", LONG), ("b-1", LONG), ("c-1", LONG), ("h-1", HOST)] {
        let seeds: Vec<&Agent> = agents.iter().take(1).collect();
        let mut agent = bloc.agent(name, "30d", &seeds, more);
        agent.start();
        agents.push(agent);
    }
    // The first certificate came with the token, which makes the flock strong: somebody has strict
    // authority, until a given time.
    let host = agents.pop().unwrap();
    host.until("a strong flock with two backups is shown", || {
        let page = management(&host);
        length(&page["backups"]) == 2 && page["strength"] == "strong"
    });
    let leads = management(&host)["master"].clone();
    let master = agents.iter().position(|agent| leads == agent.name.as_str()).unwrap();

    // The same in both, but for the moments between two questions.
    host.until("it shows what the master shows", || {
        let (there, here) = (management(&agents[master]), management(&host));
        let (until, told) = (&here["authority"]["until_ms"], &here["told_by"]);
        let same = said(&there) == said(&here) && places(&there) == places(&here);
        let strict = here["authority"]["holder"] == leads && until.as_u64() > Some(0);
        assert!(*told == leads || !here["untold"].is_null(), "whose word it is: {here}");
        same && strict && *told == leads && length(&here["roster"]) == 3
    });
    let here = management(&host);
    assert_eq!((&here["role"], here["term"].as_u64() > Some(0)), (&"host".into(), true), "{here}");
    assert!(here["told_ms"].as_u64().is_some() && here["leads_ms"].as_u64().is_some(), "{here}");
    let text = String::from_utf8(host.skep(&["flock"]).stdout).unwrap();
    let told = format!("by {}, ", agents[master].name);
    assert!(text.lines().any(|line| line.starts_with("told") && line.contains(&told)), "{text}");
    let roster = host.ask(&["flock", "roster"]);
    assert_eq!(length(&roster), 3, "{roster}");
    host.until("it is stable everywhere", || {
        management(&host)["stable"] == true && management(&agents[master])["stable"] == true
    });

    // A backup is gone: the master waits for it, and everybody who looks can see that.
    let gone = (master + 1) % agents.len();
    let lost = agents[gone].name.clone();
    agents[gone].kill();
    host.until("it shows for whom the master waits", || {
        let (there, here) = (management(&agents[master]), management(&host));
        let seen = waits(&here);
        let of_it = seen.iter().any(|(by, what)| {
            *by == leads && what.as_str().is_some_and(|what| what.contains(&lost))
        });
        of_it && seen == waits(&there) && here["stable"] == false
    });

    // Without a master that answers it shows what it knows, and says that it is that.
    let left: Vec<usize> = (0..agents.len()).filter(|on| *on != gone).collect();
    left.iter().for_each(|on| agents[*on].kill());
    host.until("it says that no master told it", || {
        let page = management(&host);
        assert!(page["told_by"].is_null() || page["told_by"] == leads, "{page}");
        page["told_by"].is_null() && page["untold"].as_str().is_some_and(|why| !why.is_empty())
    });
    let page = management(&host);
    assert_eq!((length(&page["roster"]), &page["term"]), (0, &0.into()), "{page}");
    host.until("it waits for a flock", || {
        waits(&management(&host)).iter().any(|(by, what)| {
            *by == host.name.as_str() && what.as_str().is_some_and(|what| what.contains("flock"))
        })
    });
}
