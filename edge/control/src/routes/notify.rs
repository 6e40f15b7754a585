//! Verbs about incidents and who is told of them.

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};

use super::{Answer, Input, ask, json, mount, plain};
use crate::access::Caller;
use crate::api;
use crate::backend::{Backend, Request};
use crate::verb;

pub(super) fn mounted(routes: Router<Backend>) -> Router<Backend> {
    let routes = mount(routes, &verb::NOTIFY, plain(Request::Notify));
    mount(routes, &verb::NOTIFY_TEST, post(test))
}

async fn test(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Input(test): Input<api::TestNotify>,
) -> Answer {
    json(&ask(&backend, &caller, |reply| Request::NotifyTest { test, reply }).await?)
}
