//! Commands from their words to their output and exit code, against an agent that is told what to
//! answer.

#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else is asked fails the test")]

use clap::Parser as _;
use expect_test::expect;
use skep_control::api::{Code, Refusal, WaveStep};
use skep_control::{BackendSide, Config, Request, backend, listen};
use tokio::sync::oneshot;

use super::*;
use crate::args::{Cli, Task};
use crate::{exit_of, samples};

/// Runs `skep WORDS` against an agent that answers with `answer`; gives what it wrote and its end.
async fn skep(
    words: &[&str],
    answer: impl FnMut(Request) + Send + 'static,
) -> (String, anyhow::Result<Exit>) {
    skep_typing(words, None, answer).await
}

/// The same with a person who types something.
async fn skep_typing(
    words: &[&str],
    typed: Option<&'static str>,
    mut answer: impl FnMut(Request) + Send + 'static,
) -> (String, anyhow::Result<Exit>) {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { socket: directory.path().join("control.sock"), ..Config::default() };
    let (ask, side) = backend();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(listen(&config).await.unwrap().serve(ask, async {
        drop(stopped.await);
    }));
    let agent = tokio::spawn(async move {
        let BackendSide { mut calls, appended } = side;
        while let Some(call) = calls.recv().await {
            answer(call.request);
            appended.send_modify(|count| *count += 1);
        }
    });
    let socket = config.socket.to_str().unwrap();
    let said = ["skep"].iter().chain(words).copied().chain(["--socket", socket]);
    let Task::Online(verb) = Cli::try_parse_from(said).unwrap().task() else {
        panic!("{words:?} needs no agent");
    };
    let mut out = Vec::new();
    let answers: Option<Box<dyn io::BufRead>> = typed.map(|typed| Box::new(typed.as_bytes()) as _);
    let mut screen = Screen { out: &mut out, style: Style::PLAIN, bars: false, answers };
    let end = carry_out(verb, &mut screen).await;
    drop(stop);
    server.await.unwrap();
    agent.await.unwrap();
    (String::from_utf8(out).unwrap(), end)
}

fn unexpected(request: &Request) -> ! {
    panic!("not asked for here: {request:?}")
}

#[tokio::test]
async fn a_listing_is_a_table_or_the_agents_own_json() {
    let answer = |request| match request {
        Request::Members(reply) => reply.ok(samples::members()),
        other => unexpected(&other),
    };
    let (table, end) = skep(&["members"], answer).await;
    assert_eq!(end.unwrap(), Exit::Done);
    assert!(table.starts_with("NODE"), "{table}");
    let (json, _) = skep(&["members", "--json"], answer).await;
    let members: Vec<skep_control::api::Member> = serde_json::from_str(&json).unwrap();
    assert_eq!(members, samples::members());
}

#[tokio::test]
async fn ill_health_is_a_failure() {
    let answer = |request| match request {
        Request::Health(reply) => reply.ok(samples::health()),
        other => unexpected(&other),
    };
    let (text, end) = skep(&["health"], answer).await;
    assert_eq!(end.unwrap(), Exit::Failed);
    assert!(text.contains("FAILED"), "{text}");
}

#[tokio::test]
async fn a_refusal_is_an_exit_code_of_its_own() {
    let answer = |request| match request {
        Request::Image { reply, .. } => {
            reply.refuse(Refusal::new(Code::NotFound, "no image is named web"));
        }
        other => unexpected(&other),
    };
    let (text, end) = skep(&["image", "show", "web"], answer).await;
    assert_eq!(exit_of(&end.unwrap_err()), Exit::Refused);
    assert_eq!(text, "");
}

#[tokio::test]
async fn a_wave_is_watched_to_its_end_with_a_line_for_each_step() {
    let mut at: WaveDetail = samples::wave_detail();
    let mut looks = 0;
    let answer = move |request| match request {
        Request::Waves(reply) => reply.ok(vec![samples::wave()]),
        Request::Wave { id, reply } => {
            assert_eq!(id, samples::wave().id);
            looks += 1;
            if looks == 3 {
                at.nodes[1].step = WaveStep::Done;
                at.nodes[1].bytes_have = at.nodes[1].bytes_all;
            }
            if looks == 4 {
                at.wave.state = WaveState::Failed;
            }
            reply.ok(at.clone());
        }
        other => unexpected(&other),
    };
    let (text, end) = skep(&["wave", "watch"], answer).await;
    assert_eq!(end.unwrap(), Exit::Failed);
    let (steps, summary) = text.split_once("\n\n").unwrap();
    expect![[r#"
        queen-1 done 100% after 3.7 s
        web-1 fetching 31% after 3.7 s
        web-2 failed 18% after 3.7 s: web-2: cannot write /srv/.web.new/lib: no space left
        web-3 waiting 0% after 3.7 s
        web-1 done 100% after 3.7 s"#]]
    .assert_eq(steps);
    assert!(summary.starts_with("wave            queen-1:4, failed"), "{summary}");
}

#[tokio::test]
async fn the_end_of_a_followed_stream_is_no_success() {
    let mut log = skep_control::EventLog::default();
    log.push(skep_base::WallTime::default(), 1, samples::events().remove(0).kind);
    let mut log = Some(log);
    let answer = move |request| match request {
        Request::Events { query, reply } => {
            // The log goes with the agent, and the stream with the log.
            reply.send(log.take().unwrap().read(query));
        }
        other => unexpected(&other),
    };
    let (text, end) = skep(&["events", "--follow"], answer).await;
    assert!(text.contains("agent started, life 7"), "{text}");
    assert!(end.unwrap_err().to_string().contains("ended the stream"));
}

#[tokio::test]
async fn an_entry_is_set_as_it_is_typed_and_the_promise_is_said() {
    let promises = [
        ("strong", "strong"),
        (
            "weak",
            "weak: promised to reach a merge or its conflict log, not to survive a second loss",
        ),
    ];
    for (strength, says) in promises {
        let answer = |request| match request {
            Request::WriteCatalog { write, reply } => {
                assert_eq!((write.key.as_str(), write.revision), ("setting/motd", Some(7)));
                let fields = write.fields.unwrap();
                assert_eq!(fields["value"], skep_control::api::Field::Text("back at noon".into()));
                reply.ok(skep_control::api::Written {
                    index: 812,
                    stamp: "7/00c0ffee".into(),
                    strength: strength.into(),
                    changed: vec![write.key],
                });
            }
            other => unexpected(&other),
        };
        let words = ["catalog", "set", "setting/motd", "value=back at noon", "--if-revision", "7"];
        let (text, end) = skep(&words, answer).await;
        assert_eq!(end.unwrap(), Exit::Done);
        assert_eq!(text, format!("setting/motd is set: revision 812, {says}\n"));
    }
}

#[tokio::test]
async fn operators_order_by_the_words_of_the_documentation() {
    use skep_control::api::ManageFlock as Order;
    let node = || samples::name("web-9");
    let orders = [
        (vec!["step-down"], Order::StepDown),
        (vec!["transfer", "web-9"], Order::Transfer { node: node() }),
        (vec!["promote", "web-9"], Order::Promote { node: node() }),
        (vec!["demote", "web-9"], Order::Demote { node: node() }),
        (vec!["hold", "web-9"], Order::Hold { node: node() }),
        (vec!["release", "web-9"], Order::Release { node: node() }),
        (vec!["expel", "web-9"], Order::Expel { node: node(), reason: None }),
        (
            vec!["expel", "web-9", "--reason", "stolen"],
            Order::Expel { node: node(), reason: Some("stolen".into()) },
        ),
    ];
    for (words, wanted) in orders {
        let words: Vec<&str> = ["flock"].into_iter().chain(words).collect();
        let answer = move |request| match request {
            Request::ManageFlock { order, reply } => {
                assert_eq!(order, wanted);
                reply.ok(skep_control::api::Accepted { message: "it is so".into() });
            }
            other => unexpected(&other),
        };
        let (text, end) = skep(&words, answer).await;
        assert_eq!((text.as_str(), end.unwrap()), ("it is so\n", Exit::Done), "{words:?}");
    }
}

/// An agent without a master, of which a recovery may be wanted.
fn lonely(orders: std::sync::Arc<std::sync::atomic::AtomicU32>) -> impl FnMut(Request) + Send {
    move |request| match request {
        Request::FlockRecovery(reply) => reply.ok(samples::recovery()),
        Request::Flock { reply, .. } => {
            let mut flock = samples::flock();
            flock.management.master = None;
            reply.ok(flock);
        }
        Request::CatalogImport { query, text, reply } => {
            assert_eq!(text, "[setting.motd]\nvalue = 1\n");
            if !query.dry_run {
                orders.fetch_add(100, std::sync::atomic::Ordering::Relaxed);
            }
            let set = vec!["setting/motd".to_owned()];
            reply.ok(skep_control::api::Imported { set, ..Default::default() });
        }
        Request::ManageFlock { order: skep_control::api::ManageFlock::Recover, reply } => {
            orders.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            reply.ok(skep_control::api::Accepted { message: "founded".into() });
        }
        other => unexpected(&other),
    }
}

#[tokio::test]
async fn a_recovery_says_what_may_be_lost_and_asks_for_the_name_of_the_node() {
    let cases: [(&[&str], Option<&'static str>, u32, &str); 6] = [
        (&["--force"], None, 0, "there is no terminal"),
        (&["--force"], Some("yes\n"), 0, "\"yes\" is not web-1"),
        (&["--force"], Some(""), 0, "is not web-1"),
        (&["--force"], Some("web-1\n"), 1, ""),
        (&["--force", "--yes"], None, 1, ""),
        (&["--force", "--dry-run"], None, 0, ""),
    ];
    for (words, typed, wanted, why) in cases {
        let orders = std::sync::Arc::default();
        let words: Vec<&str> = ["flock", "recover"].iter().chain(words).copied().collect();
        let agent = lonely(std::sync::Arc::clone(&orders));
        let (text, end) = skep_typing(&words, typed, agent).await;
        assert!(text.contains("May be lost:\n  - every write"), "{words:?}: {text}");
        assert!(text.contains("  db-2   absent") || text.contains("  db-2  absent"), "{text}");
        let done = orders.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(done, wanted, "{words:?} with {typed:?}");
        match end {
            Ok(end) => assert_eq!((end, why), (Exit::Done, ""), "{words:?} with {typed:?}"),
            Err(error) => {
                let said = format!("{error:#}");
                assert!(!why.is_empty() && said.contains(why), "{said}");
                assert!(said.contains("nothing is done"), "{said}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_is_imported_into_what_was_founded_for_it_or_into_the_flock_that_is_there() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[setting.motd]\nvalue = 1\n").unwrap();
    let from = file.path().to_str().unwrap();
    let words = ["flock", "recover", "--yes", "--from", from];
    let orders = std::sync::Arc::default();
    let (text, end) = skep(&words, lonely(std::sync::Arc::clone(&orders))).await;
    assert_eq!(end.unwrap(), Exit::Done, "{text}");
    assert_eq!(orders.load(std::sync::atomic::Ordering::Relaxed), 101, "founded, then imported");
    // Where there is a master nothing is founded.
    let orders: std::sync::Arc<std::sync::atomic::AtomicU32> = std::sync::Arc::default();
    let mut agent = lonely(std::sync::Arc::clone(&orders));
    let answer = move |request| match request {
        Request::Flock { reply, .. } => {
            let mut flock = samples::flock();
            flock.management.master = Some(samples::name("web-2"));
            reply.ok(flock);
        }
        other => agent(other),
    };
    let (text, end) = skep(&words, answer).await;
    assert_eq!(end.unwrap(), Exit::Done);
    assert!(text.contains("has a master, web-2: nothing is founded"), "{text}");
    assert_eq!(orders.load(std::sync::atomic::Ordering::Relaxed), 100, "imported alone");
}

#[tokio::test]
async fn a_recovery_for_a_program_says_all_of_it_in_one_object_and_asks_nobody() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[setting.motd]\nvalue = 1\n").unwrap();
    let from = file.path().to_str().unwrap();
    let cases: [(&[&str], u32); 3] =
        [(&["--force", "--yes"], 1), (&["--from", from, "--yes"], 101), (&["--force"], 0)];
    for (words, wanted) in cases {
        let orders = std::sync::Arc::default();
        let words: Vec<&str> =
            ["flock", "recover", "--json"].iter().chain(words).copied().collect();
        let (text, end) = skep(&words, lonely(std::sync::Arc::clone(&orders))).await;
        assert_eq!(orders.load(std::sync::atomic::Ordering::Relaxed), wanted, "{words:?}");
        if wanted == 0 {
            let error = format!("{:#}", end.unwrap_err());
            assert!(text.is_empty() && error.contains("nothing is done"), "{text:?} {error}");
            continue;
        }
        assert_eq!(end.unwrap(), Exit::Done);
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said["founded"], "founded", "{text}");
        assert_eq!(said["recovery"]["node"], "web-1", "{text}");
        assert_eq!(said["imported"]["set"][0].is_string(), wanted == 101, "{text}");
    }
}

#[tokio::test]
async fn a_recovery_beside_a_master_is_refused_and_says_what_to_do() {
    let answer = |request| match request {
        Request::FlockRecovery(reply) => {
            let refused = Some("the flock has a master: web-2".to_owned());
            reply.ok(skep_control::api::Recovery { refused, ..samples::recovery() });
        }
        Request::Flock { reply, .. } => reply.ok(samples::flock()),
        other => unexpected(&other),
    };
    let (_, end) = skep(&["flock", "recover", "--force", "--yes"], answer).await;
    let error = end.unwrap_err();
    assert_eq!(exit_of(&error), Exit::Refused);
    assert!(error.to_string().contains("the flock has a master: web-2"), "{error:#}");
}

#[tokio::test]
async fn the_master_is_told_to_hand_over() {
    let answer = |request| match request {
        Request::ManageFlock { order, reply } => {
            let node = samples::name("web-2");
            assert_eq!(order, skep_control::api::ManageFlock::Transfer { node });
            reply.ok(skep_control::api::Accepted { message: "done".into() });
        }
        Request::Flock { query, reply } => {
            assert!(query.ask_master, "who looks wants to see all of it");
            reply.ok(samples::flock());
        }
        other => unexpected(&other),
    };
    let (text, end) = skep(&["flock", "transfer", "web-2"], answer).await;
    assert_eq!((text.as_str(), end.unwrap()), ("done\n", Exit::Done));
    let (text, _) = skep(&["flock"], answer).await;
    assert!(text.contains("as amber-finch, ") && text.contains("generation 1"), "{text}");
    let (text, _) = skep(&["flock", "roster"], answer).await;
    assert!(text.contains("web-1") && text.contains("by web-1, "), "{text}");
}
