//! Server and client over a real socket, with an agent that answers as it is told.

#![expect(clippy::unwrap_used, reason = "what fails in a test should fail there and then")]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_base::{GroupName, WallTime};
use skep_control::api::{
    Accepted, Body, Code, Commit, Committed, Cursor, Event, EventKind, Published, ReadEvents,
    ReadUpdates, Refusal, Shutdown, Update, UpdateId, Updates,
};
use skep_control::{
    Backend, BackendSide, Client, ClientError, Config, EventLog, Request, backend, listen,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Far beyond anything that a busy machine makes of these tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// A served socket in a directory of its own.
struct Served {
    directory: tempfile::TempDir,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Served {
    async fn start(backend: Backend) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { socket: socket(directory.path()), ..Config::default() };
        let listening = listen(&config).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(listening.serve(backend, async move {
            drop(stopped.await);
        }));
        let client = Client::connect(&config.socket).await.unwrap();
        Self { directory, client, stop: Some(stop), server }
    }

    async fn end(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, &mut self.server).await.unwrap().unwrap();
        assert!(!socket(self.directory.path()).exists(), "the socket file is left behind");
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("control.sock")
}

fn all() -> GroupName {
    GroupName::all()
}

/// An agent with one group's log and one subscriber.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is asked fails the test")]
async fn log_keeper(BackendSide { mut calls, appended }: BackendSide) {
    let mut log: Vec<Update> = Vec::new();
    let mut committed = Cursor(0);
    while let Some(call) = calls.recv().await {
        match call.request {
            Request::Publish { group, body, reply, .. } if group == all() => {
                let sequence = log.len() as u64 + 1;
                let id = UpdateId { origin: "web-1".parse().unwrap(), incarnation: 1, sequence };
                let cursor = Cursor(sequence);
                log.push(Update {
                    cursor,
                    id: id.clone(),
                    age_ms: 0,
                    logged: WallTime::default(),
                    late: false,
                    body: Body(body.to_vec()),
                    stored: None,
                });
                reply.ok(Published { id, cursor });
                appended.send_modify(|count| *count += 1);
            }
            Request::Publish { group, reply, .. } => {
                let message = format!("this node is not in the group {group}");
                reply.refuse(Refusal::new(Code::NotFound, message).hint("see `skep group`"));
            }
            Request::Updates { query, reply, .. } => {
                let from = query.after.unwrap_or(committed);
                let updates: Vec<Update> =
                    log.iter().filter(|update| update.cursor > from).cloned().collect();
                let next = updates.last().map_or(from, |update| update.cursor);
                reply.ok(Updates { updates, next, lost: 0, gaps: Vec::new() });
            }
            Request::Commit { commit, reply, .. } => {
                committed = committed.max(commit.cursor);
                reply.ok(Committed { cursor: committed });
            }
            Request::Shutdown { how, reply } => {
                let message = if how.leave { "leaving" } else { "restarting" };
                reply.ok(Accepted { message: message.to_owned() });
                return;
            }
            other => panic!("not asked for here: {other:?}"),
        }
    }
}

#[tokio::test]
async fn updates_go_in_and_come_out_and_are_committed() {
    let (ask, side) = backend();
    let agent = tokio::spawn(log_keeper(side));
    let served = Served::start(ask).await;
    let client = &served.client;

    let body: Vec<u8> = (0..=255).collect();
    let published = client.publish(&all(), body.clone()).await.unwrap();
    assert_eq!(published.id.to_string(), "web-1:1:1");
    let subscriber =
        ReadUpdates { subscriber: Some("deploy".to_owned()), ..ReadUpdates::default() };
    let read = client.updates(&all(), &subscriber).await.unwrap();
    assert_eq!(read.updates[0].body.0, body);
    let commit = Commit { cursor: read.next };
    assert_eq!(client.commit(&all(), "deploy", commit).await.unwrap().cursor, Cursor(1));
    assert!(client.updates(&all(), &subscriber).await.unwrap().updates.is_empty());

    let elsewhere = "nowhere".parse().unwrap();
    let error = client.publish(&elsewhere, "x").await.unwrap_err();
    assert_eq!(error.to_string(), "this node is not in the group nowhere");
    assert_eq!(error.hint().as_deref(), Some("see `skep group`"));

    let accepted = client.shutdown(Shutdown { leave: true }).await.unwrap();
    assert_eq!(accepted.message, "leaving");
    agent.await.unwrap();
    let error = client.publish(&all(), "x").await.unwrap_err();
    let ClientError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.code, Code::Unavailable);
    served.end().await;
}

#[tokio::test]
async fn a_reader_who_waits_is_woken_by_what_comes() {
    let (ask, side) = backend();
    let agent = tokio::spawn(log_keeper(side));
    let served = Served::start(ask).await;
    let waiting = served.client.clone();
    let query = ReadUpdates {
        after: Some(Cursor(0)),
        wait_ms: Some(skep_control::api::MAX_WAIT_MS),
        ..ReadUpdates::default()
    };
    let reader = tokio::spawn(async move {
        loop {
            let read = waiting.updates(&all(), &query).await.unwrap();
            if !read.updates.is_empty() {
                return read;
            }
        }
    });
    served.client.publish(&all(), "news").await.unwrap();
    let read = tokio::time::timeout(PATIENCE, reader).await.unwrap().unwrap();
    assert_eq!(read.updates[0].body.0, b"news");
    assert_eq!(read.next, Cursor(1));
    served.end().await;
    agent.abort();
}

fn problem(number: u64) -> EventKind {
    let message = format!("the {number}th thing that went wrong, told at some length");
    EventKind::Problem { message, hint: None }
}

async fn next_events(side: &mut BackendSide, log: &mut EventLog) {
    let call = side.calls.recv().await.unwrap();
    let Request::Events { query, reply } = call.request else { panic!("{call:?}") };
    reply.send(log.read(query));
}

#[tokio::test]
async fn followers_get_what_was_and_what_comes_until_the_agent_ends() {
    let (ask, mut side) = backend();
    let served = Served::start(ask).await;
    let mut log = EventLog::default();
    for number in 1..=3 {
        log.push(WallTime::default(), number, problem(number));
    }
    let query = ReadEvents { after: Some(1), follow: true, ..ReadEvents::default() };
    let asking = served.client.events(query);
    let (events, ()) = tokio::join!(asking, next_events(&mut side, &mut log));
    let mut events = events.unwrap();
    log.push(WallTime::default(), 4, problem(4));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(events.next().await.unwrap().unwrap());
    }
    let numbers: Vec<u64> = seen.iter().map(|event| event.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
    assert_eq!(seen[2].kind, problem(4));
    drop(log);
    assert_eq!(events.next().await.unwrap(), None);
    served.end().await;
}

#[tokio::test]
async fn a_slow_follower_is_cut_off_and_told_where_to_read_on() {
    let (ask, mut side) = backend();
    let served = Served::start(ask).await;
    let mut log = EventLog::new(8, 8);
    log.push(WallTime::default(), 0, problem(0));
    let query = ReadEvents { follow: true, ..ReadEvents::default() };
    let asking = served.client.events(query);
    let (events, ()) = tokio::join!(asking, next_events(&mut side, &mut log));
    let mut events = events.unwrap();

    // He does not read. The socket's buffers fill, then his queue, and the agent never waits.
    let mut pushed = 0;
    while log.followers() > 0 {
        pushed += 1;
        log.push(WallTime::default(), pushed, problem(pushed));
        assert!(pushed < 10_000_000, "the queue of a follower has no bound");
        tokio::task::yield_now().await;
    }

    let mut last: Option<Event> = None;
    let mut got = 0;
    while let Some(event) = events.next().await.unwrap() {
        if let EventKind::Lost { message, .. } = &event.kind {
            let before = last.as_ref().map(|event| event.number);
            assert_eq!(Some(event.number), before, "he is told the last that he got");
            assert!(message.contains(&format!("after={}", event.number)), "{message}");
        } else {
            got += 1;
        }
        last = Some(event);
    }
    assert!(matches!(last.unwrap().kind, EventKind::Lost { .. }));
    assert!(got <= pushed, "{got} of {pushed}");
    served.end().await;
}

#[tokio::test]
async fn a_stopping_agent_finishes_the_answer_under_way() {
    let (ask, mut side) = backend();
    let mut served = Served::start(ask).await;
    let client = served.client.clone();
    let asking = tokio::spawn(async move { client.shutdown(Shutdown { leave: false }).await });
    let call = side.calls.recv().await.unwrap();
    drop(served.stop.take());
    let Request::Shutdown { reply, .. } = call.request else { panic!("{call:?}") };
    reply.ok(Accepted { message: "restarting".to_owned() });
    assert_eq!(asking.await.unwrap().unwrap().message, "restarting");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_endless_heads_cost_no_more_than_a_connection() {
    let (ask, side) = backend();
    let agent = tokio::spawn(log_keeper(side));
    let served = Served::start(ask).await;
    let path = socket(served.directory.path());
    for garbage in
        [&b"\x16\x03\x01\x02\x00"[..], b"GET /v1/status HTTP/9.9\r\n\r\n", b"\r\n\r\nx y"]
    {
        let path = path.clone();
        let garbage = garbage.to_vec();
        let answer = tokio::task::spawn_blocking(move || raw(&path, &garbage)).await.unwrap();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let endless = format!("GET /v1/status HTTP/1.1\r\nx: {}", "y".repeat(1 << 20));
    let answer = tokio::task::spawn_blocking(move || raw(&path, endless.as_bytes())).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    served.client.publish(&all(), "still there").await.unwrap();
    served.end().await;
    agent.abort();
}

/// Sends bytes, and returns what comes back until the other end closes.
fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may close before it has read all.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}
