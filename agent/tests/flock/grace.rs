//! A node whose certificate has ended, within the grace: renewal and membership, and nothing else.

use crate::agents::Bloc;

const DAY_MS: u64 = 24 * 3600 * 1000;

#[test]
fn an_expired_node_is_a_member_gets_no_updates_and_is_whole_again_when_renewed() {
    let bloc = Bloc::new();
    let mut seed = bloc.agent("seed-1", "30d", &[], "");
    let mut late = bloc.agent("late-1", "1d", &[&seed], "");
    let mut ca = bloc.agent("ca-1", "30d", &[&seed, &late], &bloc.serving("30d"));
    for agent in [&mut seed, &mut late, &mut ca] {
        agent.ahead_ms = 2 * DAY_MS;
    }
    seed.start();
    late.start();
    seed.until("the expired node is present", || seed.member("late-1")["presence"] == "present");
    late.until("and sees the other one", || late.member("seed-1")["presence"] == "present");

    // Updates go neither way, and both ends say why.
    assert!(seed.skep(&["flood", "send", "--text", "from the seed"]).status.success());
    assert!(late.skep(&["flood", "send", "--text", "from the late one"]).status.success());
    seed.until("it is told of by name", || {
        let refused = seed.events("refused");
        let why = refused.iter().filter_map(|event| event["why"].as_str());
        why.filter(|why| why.contains("late-1")).any(|why| why.contains("renew"))
    });
    let problems = seed.ask(&["status"])["problems"].to_string();
    assert!(problems.contains("late-1") && problems.contains("no updates"), "{problems}");
    late.until("it knows it of itself", || {
        late.ask(&["status"])["problems"].to_string().contains("expired")
    });
    seed.until("what it sent was refused", || seed.log().contains("it must renew it first"));
    assert_eq!((seed.updates().len(), late.updates().len()), (1, 1));

    // It reaches the CA over such a link, and is a node like any other from then on.
    ca.start();
    late.until("it is renewed", || late.events("renewed").len() == 1);
    for agent in [&seed, &late, &ca] {
        agent.until("it has both updates", || agent.updates().len() == 2);
    }
    seed.until("nothing is wrong any more", || {
        seed.ask(&["status"])["problems"] == serde_json::json!([])
    });
    assert_eq!(seed.events("link-down"), Vec::<serde_json::Value>::new());
}
