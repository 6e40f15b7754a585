//! Certificates that live for seconds, so that whole lives of them can be watched (BLOC-36,
//! BLOC-37).

use std::fs;
use std::time::{Duration, Instant};

use crate::agents::{Bloc, mode};

#[test]
fn a_node_renews_through_the_other_one_and_no_link_drops() {
    let bloc = Bloc::new();
    let mut ca = bloc.agent("ca-1", "30d", &[], &bloc.serving("12s"));
    ca.start();
    let mut node = bloc.agent("web-1", "12s", &[&ca], "");
    let began = Instant::now();
    node.start();
    node.until("both are present", || ca.ask(&["status"])["present"] == 2);
    let first = node.ask(&["status"])["certificate"].clone();
    let link = ca.ask(&["links"])[0].clone();
    let identity = node.dir.join("identity");
    let key = fs::read(identity.join("node.key")).unwrap();
    assert_eq!(ca.member("web-1")["certificate_until"], first["not_after"]);

    // Three times: each request is judged by the certificate of the renewal before it, shown over
    // the link that stands.
    node.until("it was renewed three times", || node.events("renewed").len() >= 3);
    assert!(began.elapsed() > Duration::from_secs(20), "at two thirds of each life, not before");
    let status = node.ask(&["status"]);
    assert_eq!(status["problems"], serde_json::json!([]));
    assert_ne!(status["certificate"]["fingerprint"], first["fingerprint"]);
    assert_eq!(mode(&identity.join("node.key")), 0o600);
    assert_ne!(fs::read(identity.join("node.key")).unwrap(), key);
    let shown = node.skep(&["status"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("renewed from"));

    // Its records are signed again, so the other one knows until when they are vouched for.
    ca.until("its records are signed by the new key", || {
        ca.member("web-1")["certificate_until"] == node.ask(&["status"])["certificate"]["not_after"]
    });
    // The link is the one that stood before the first certificate ended, and good for everything.
    for (agent, other) in [(&ca, "web-1"), (&node, "ca-1")] {
        assert_eq!(agent.events("link-down"), Vec::<serde_json::Value>::new());
        assert_eq!(agent.events("link-up").len(), 1);
        assert_eq!(agent.events("refused"), Vec::<serde_json::Value>::new());
        assert_eq!(agent.member(other)["presence"], "present");
    }
    let now = ca.ask(&["links"])[0].clone();
    assert_eq!((&now["peer"], &now["remote"]), (&link["peer"], &link["remote"]));
    assert!(now["up_ms"].as_u64().unwrap() > 12_000, "{now}");
    assert!(node.skep(&["flood", "send", "--text", "after three lives"]).status.success());
    ca.until("updates go over it", || ca.updates().len() == 1);

    let served = ca.ask(&["ca", "status"]);
    assert_eq!((&served["nodes"], &served["invitations"]), (&2.into(), &0.into()));
    assert!(served["issued"].as_u64().unwrap() >= 3, "{served}");
}

#[test]
fn a_ca_that_is_away_is_told_of_long_before_the_end_and_found_when_it_is_back() {
    let bloc = Bloc::new();
    let mut ca = bloc.agent("ca-1", "30d", &[], &bloc.serving("24s"));
    let mut node = bloc.agent("web-1", "24s", &[&ca], "");
    ca.start();
    node.start();
    node.until("both are present", || node.ask(&["status"])["present"] == 2);
    ca.kill();
    node.until("it asks for a certificate in vain", || {
        let status = node.ask(&["status"]);
        let waits = status["waits"].to_string();
        waits.contains("renew this node's certificate") && waits.contains("skep ca serve")
    });
    node.until("that is a problem before the certificate has ended", || {
        let status = node.ask(&["status"]);
        let problems = status["problems"].as_array().unwrap();
        let told = problems.iter().any(|problem| {
            let text = problem["message"].as_str().unwrap();
            text.contains("ends in") && text.contains("was not renewed")
        });
        assert!(
            told || status["certificate"]["expires_in_ms"].as_i64().unwrap() > 0,
            "not told in time: {status}"
        );
        told
    });
    assert!(!node.events("problem").is_empty());
    let shown = node.skep(&["status"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("problem"));

    ca.start();
    node.until("it is renewed", || node.events("renewed").len() == 1);
    node.until("nothing is wrong any more", || {
        node.ask(&["status"])["problems"] == serde_json::json!([])
    });
}
