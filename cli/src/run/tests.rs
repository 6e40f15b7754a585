//! Commands from their words to their output and exit code, against an agent that is told what to
//! answer.

#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else is asked fails the test")]

use clap::Parser as _;
use expect_test::expect;
use skep_control::api::{Code, Committed, Published, Refusal, Updates, WaveStep};
use skep_control::{BackendSide, Config, Request, backend, listen};
use tokio::sync::oneshot;

use super::*;
use crate::args::{Cli, Task};
use crate::{exit_of, samples};

/// Runs `skep WORDS` against an agent that answers with `answer`; gives what it wrote and its end.
async fn skep(
    words: &[&str],
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
    let mut screen = Screen { out: &mut out, style: Style::PLAIN, bars: false };
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
async fn a_subscribers_tail_commits_each_update_after_it_was_printed() {
    let mut committed = Vec::new();
    let (done, seen) = oneshot::channel();
    let mut done = Some(done);
    let answer = move |request| match request {
        Request::Updates { query, reply, .. } => {
            let first = query.after.map_or(4_181, |after| after.0 + 1);
            assert_eq!(query.subscriber.is_some(), query.after.is_none());
            let mut update = samples::update(format!("update {first}").as_bytes());
            update.cursor = Cursor(first);
            let next = Cursor(first);
            reply.ok(Updates { updates: vec![update], next, ..Updates::default() });
        }
        Request::Commit { subscriber, commit, reply, .. } => {
            committed.push((subscriber, commit.cursor.0));
            if committed.len() == 2 {
                done.take().unwrap().send(committed.clone()).unwrap();
            }
            reply.ok(Committed { cursor: commit.cursor });
        }
        other => unexpected(&other),
    };
    let words = ["flood", "tail", "all", "--subscriber", "deploy", "-n", "2"];
    let (text, end) = skep(&words, answer).await;
    assert_eq!(end.unwrap(), Exit::Done);
    expect![[r#"
        4181 web-1:3:17 11 B, 12 ms old
        update 4181
        4182 web-1:3:17 11 B, 12 ms old
        update 4182
    "#]]
    .assert_eq(&text);
    let deploy = |cursor| ("deploy".to_owned(), cursor);
    assert_eq!(seen.await.unwrap(), [deploy(4_181), deploy(4_182)]);
}

#[tokio::test]
async fn a_file_is_published_as_it_is_and_one_too_long_never_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("update");
    let words = ["flood", "send", "all", "--file", path.to_str().unwrap()];
    std::fs::write(&path, [0, 255, 10]).unwrap();
    let answer = |request| match request {
        Request::Publish { body, reply, .. } => {
            assert_eq!(&body[..], [0, 255, 10]);
            reply.ok(Published { id: "web-1:3:17".parse().unwrap(), cursor: Cursor(1) });
        }
        other => unexpected(&other),
    };
    let (text, end) = skep(&words, answer).await;
    assert_eq!((text.as_str(), end.unwrap()), ("web-1:3:17\n", Exit::Done));

    std::fs::File::create(&path).unwrap().set_len(MAX_UPDATE_BYTES as u64 + 1).unwrap();
    let (_, end) = skep(&words, |request| unexpected(&request)).await;
    let error = format!("{:#}", end.unwrap_err());
    assert!(error.contains("longer than 8.0 MiB"), "{error}");
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
