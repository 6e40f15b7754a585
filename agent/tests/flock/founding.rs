//! The founding token between real agents: used wherever it is, once, and followed by the next
//! number (DVM-2, DVM-22).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::agents::{Agent, Bloc};

/// Managers that lost both others look after themselves soon.
const SOON: &str = "[managers]\nalone = \"5s\"\norphaned = \"5s\"\n";
const MOTD: &str = "setting/motd";

fn token(agent: &Agent) -> PathBuf {
    agent.dir.join("identity/founding.token")
}

fn management(agent: &Agent) -> Value {
    agent.ask(&["flock"])["management"].clone()
}

/// Waits until all show a strong flock of this number, and its master with strict authority.
fn strong(agents: &[&Agent], number: u64) {
    agents[0].until("the flock is strong, and its master has strict authority", || {
        agents.iter().all(|agent| {
            let seen = management(agent);
            seen["strength"] == "strong"
                && seen["founding"] == number
                && seen["master"].is_string()
                && seen["authority"]["holder"] == seen["master"]
        })
    });
}

fn write(agent: &Agent, value: u64) -> String {
    let output = agent.skep(&["catalog", "set", MOTD, &format!("value={value}")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_token_on_a_node_that_comes_last_makes_the_flock_strong_and_is_destroyed() {
    let bloc = Bloc::new();
    // The first certificate of the bloc, and with it the token.
    let mut holder = bloc.agent("z-1", "30d", &[], "");
    let mut first = bloc.agent("a-1", "30d", &[&holder], "");
    let mut second = bloc.agent("b-1", "30d", &[&first, &holder], "");
    assert!(token(&holder).exists() && !token(&first).exists());
    // One that somebody made up is a problem to be shown, and no reason not to start.
    fs::write(token(&second), "skep-founding-AAAA\n").unwrap();
    fs::set_permissions(token(&second), fs::Permissions::from_mode(0o600)).unwrap();
    first.start();
    second.start();
    first.until("the two have a master", || {
        management(&first)["master"].is_string() && management(&second)["master"].is_string()
    });
    second.until("it is told", || {
        second.ask(&["status"])["problems"].to_string().contains("founding.token is of no use")
    });
    // What is promised of a write here is said to whoever gave it, in words and to programs.
    let said = write(&first, 1);
    assert!(said.contains(", weak: promised to reach a merge or its conflict log"), "{said}");
    let answer = second.ask(&["catalog", "set", MOTD, "value=0"]);
    assert_eq!((&answer["strength"], &answer["changed"]), (&json!("weak"), &json!([MOTD])));
    assert_eq!(management(&first)["strength"], "weak");
    assert!(!first.log().contains("is strong"));

    holder.start();
    strong(&[&first, &second, &holder], 1);
    assert!(!token(&holder).exists(), "it is destroyed before it is used");
    first.until("a write is strong", || write(&second, 2).contains("strong"));
    for agent in [&first, &second, &holder] {
        assert!(!agent.log().contains("skep-founding-"), "a token is in no log");
    }
}

/// Two of three are gone: the last one is told to found anew, and is strong under the next number.
/// When the others rise they end in it.
#[test]
fn dvm_22_what_is_left_of_a_flock_is_strong_again_under_the_next_number() {
    let bloc = Bloc::new();
    let mut a = bloc.agent("a-1", "30d", &[], SOON);
    let mut b = bloc.agent("b-1", "30d", &[&a], SOON);
    let mut c = bloc.agent("c-1", "30d", &[&a, &b], SOON);
    a.start();
    b.start();
    c.start();
    strong(&[&a, &b, &c], 1);
    write(&a, 1);
    a.until("all have it", || {
        [&a, &b, &c].iter().all(|it| {
            it.ask(&["flock"])["management"]["sync_set"].as_array().is_some_and(|it| it.len() == 3)
        })
    });
    a.kill();
    b.kill();
    c.until("it is alone", || management(&c)["role"] == "semi-master");
    let recovered = c.skep(&["flock", "recover", "--force", "--yes"]);
    assert!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
    c.until("it leads", || management(&c)["role"] == "master");
    let seen = management(&c);
    assert_eq!((&seen["strength"], &seen["founding"]), (&"weak".into(), &1.into()), "{seen}");

    bloc.refound("c-1", &token(&c));
    strong(&[&c], 2);
    assert!(!token(&c).exists());
    write(&c, 2);
    a.start();
    b.start();
    strong(&[&a, &b, &c], 2);
    a.until("it has what was written last", || {
        a.ask(&["catalog", "get", MOTD])["fields"]["value"] == 2
    });
}
