//! Requests against the router without a socket: who may what, and what is refused before the agent
//! hears of it.

use http_body_util::BodyExt as _;
use hyper::Request as Http;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::api::PREFIX;
use crate::backend::{BackendSide, backend};
use crate::verb::VERBS;

fn caller(permission: Option<Permission>) -> Caller {
    Caller { uid: 1000, pid: Some(7), permission }
}

async fn ask_router(
    backend: Backend,
    permission: Option<Permission>,
    method: &str,
    path: &str,
    body: Body,
) -> (StatusCode, String) {
    let routes = router(backend).layer(Extension(caller(permission)));
    let request = Http::builder().method(method).uri(format!("{PREFIX}{path}")).body(body).unwrap();
    let response = TowerToHyperService::new(routes).call(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// The refusal to an operator's request of an agent that must not be asked at all.
async fn refused(method: &str, path: &str, body: impl Into<Body>) -> Refusal {
    let (backend, mut side) = backend();
    let operator = Some(Permission::Operate);
    let (status, text) = ask_router(backend, operator, method, path, body.into()).await;
    assert!(side.calls.try_recv().is_err(), "the agent was asked");
    let failure: Failure = serde_json::from_str(&text).unwrap();
    assert_eq!(failure.error.code.status(), status.as_u16());
    failure.error
}

/// A path that fits the pattern, with names that are valid.
fn example(verb: &Verb) -> String {
    verb.path.replace(['{', '}'], "")
}

/// A body that the verb can read.
fn body_for(verb: &Verb) -> &'static str {
    match (verb.method, verb.path) {
        ("POST", "/waves") => r#"{"image":"web","to":["all"],"at":"/srv/web"}"#,
        ("POST", "/images/prune") => r#"{"keep":2,"dry_run":true}"#,
        ("POST", "/join-address") => r#"{"addresses":["192.0.2.1:7400"]}"#,
        ("POST", "/flock") => r#"{"order":"transfer","node":"web-2"}"#,
        ("POST", "/catalog") => r#"{"key":"setting/a","fields":{"value":1}}"#,
        ("POST", "/notify/test") => r#"{"target":"ops"}"#,
        ("POST", "/shutdown") => r#"{"leave":false}"#,
        ("POST", path) if path.contains("subscriber") => r#"{"cursor":3}"#,
        _ => "",
    }
}

#[tokio::test]
async fn each_verb_asks_for_its_permission_and_is_there() {
    for verb in VERBS {
        for permission in [None, Some(Permission::Read), Some(Permission::Operate)] {
            let (backend, side) = backend();
            // An agent that is gone: who gets past the guard is told so.
            drop(side);
            let body = Body::from(body_for(verb));
            let (status, text) =
                ask_router(backend, permission, verb.method, &example(verb), body).await;
            let may = permission.is_some_and(|permission| permission >= verb.permission);
            let expected = if may { Code::Unavailable } else { Code::Denied };
            assert_eq!(status.as_u16(), expected.status(), "{verb:?} by {permission:?}: {text}");
        }
    }
}

#[tokio::test]
async fn bodies_over_the_bound_are_refused_before_the_agent_is_asked() {
    let long = "x".repeat(api::MAX_REQUEST_BYTES + 1);
    assert_eq!(refused("POST", "/waves", long.clone()).await.code, Code::TooLarge);
    assert_eq!(refused("POST", "/shutdown", long).await.code, Code::TooLarge);
    let long = vec![0; api::MAX_UPDATE_BYTES + 1];
    let refusal = refused("POST", "/groups/all/updates", long).await;
    assert_eq!(refusal.code, Code::TooLarge);
    assert!(refusal.hint.unwrap().contains("8.0 MiB"));
}

#[tokio::test]
async fn what_cannot_be_understood_is_said_and_not_guessed() {
    let malformed = async |method: &str, path: &str, body: &'static str, word: &str| {
        let refusal = refused(method, path, body).await;
        assert_eq!(refusal.code, Code::Malformed, "{path}");
        assert!(refusal.message.contains(word), "{path}: {}", refusal.message);
    };
    let misspelt = r#"{"image":"web","to":["all"],"at":"/srv","as-user":true}"#;
    malformed("POST", "/waves", misspelt, "as-user").await;
    malformed("POST", "/waves", r#"{"image":"web","to":[],"at":"/srv"}"#, "1 to 64 groups").await;
    malformed("POST", "/waves", r#"{"image":"web","to":["all"],"at":"srv"}"#, "absolute").await;
    malformed("POST", "/waves", "{", "EOF").await;
    malformed("POST", "/join-address", r#"{"addresses":[]}"#, "1 to 64").await;
    malformed("POST", "/groups/a_b/updates", "x", "group name").await;
    malformed("GET", "/groups/all/updates?wait=1", "", "wait").await;
    malformed("GET", "/groups/all/updates?after=1&subscriber=x", "", "not both").await;
    malformed("GET", "/groups/all/updates?subscriber=%2Fetc", "", "subscriber name").await;
    malformed("POST", "/groups/all/subscribers/a%20b", r#"{"cursor":1}"#, "subscriber").await;
    malformed("GET", "/events?after=-1", "", "after").await;
    malformed("GET", "/flock?ask=true", "", "ask").await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    assert_eq!(refused("GET", "/nothing", "").await.code, Code::NotFound);
    assert_eq!(refused("POST", "/status", "").await.code, Code::Method);
    assert_eq!(refused("PUT", "/waves", "").await.code, Code::Method);
}

#[tokio::test]
async fn reads_of_a_log_are_bounded_whatever_was_asked_for() {
    let (backend, BackendSide { mut calls, appended }) = backend();
    let agent = tokio::spawn(async move {
        let call = calls.recv().await.unwrap();
        let Request::Updates { query, reply, .. } = call.request else { panic!("{call:?}") };
        reply.ok(api::Updates::default());
        drop(appended);
        query.max
    });
    let path = "/groups/all/updates?max=4000000000&wait_ms=1";
    let operator = Some(Permission::Operate);
    let (status, _) = ask_router(backend, operator, "GET", path, Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(agent.await.unwrap(), Some(api::MAX_UPDATES_A_READ));
}

#[test]
fn the_documentation_has_the_same_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/control.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.contains(" `/v1/")).collect();
    let expected: Vec<String> = VERBS
        .iter()
        .map(|verb| {
            let (method, path, may) = (verb.method, verb.path, verb.permission);
            format!("| {method} | `/v1{path}` | {may} | {} |", verb.about)
        })
        .collect();
    assert_eq!(rows, expected, "docs/control.md should say:\n{}", expected.join("\n"));
}
