//! From HTTP to questions for the agent, and back. Every route is made from its line in
//! [`crate::verb`], which is where its permission and the bound on its body come from.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_base::{GroupName, NodeName, Trail};
use tokio::time::Instant;

use crate::access::{Caller, Permission};
use crate::api::{
    self, Code, Event, Failure, ReadEvents, ReadTopology, ReadUpdates, Refusal, StartWave, WaveId,
    WhichVersion,
};
use crate::backend::{Backend, Call, EventsRead, Reply, Request};
use crate::feed::{self, Feed};
use crate::verb::{self, Verb};

#[cfg(test)]
mod tests;

mod catalog;
mod notify;

/// How long the agent may take to answer. Its longest answer waits for one `fsync`.
const CALL_TIME: Duration = Duration::from_secs(30);
/// How long a request's body may take over a local socket.
const BODY_TIME: Duration = Duration::from_secs(30);

type Answer = Result<Response, Refusal>;

/// All verbs.
pub(crate) fn router(backend: Backend) -> Router {
    let routes = Router::new();
    let routes = mount(routes, &verb::STATUS, plain(Request::Status));
    let routes = mount(routes, &verb::HEALTH, plain(Request::Health));
    let routes = mount(routes, &verb::MEMBERS, plain(Request::Members));
    let routes = catalog::mounted(routes);
    let routes = notify::mounted(routes);
    let routes = mount(routes, &verb::LINKS, plain(Request::Links));
    let routes = mount(routes, &verb::METRICS, plain(Request::Metrics));
    let routes = mount(routes, &verb::CERT, plain(Request::Certificate));
    let routes = mount(routes, &verb::CA, plain(Request::Ca));
    let routes = mount(routes, &verb::EVENTS, get(events));
    let routes = mount(routes, &verb::GROUPS, plain(Request::Groups));
    let routes = mount(routes, &verb::GROUP, get(group));
    let routes = mount(routes, &verb::TOPOLOGY, get(topology));
    let routes = mount(routes, &verb::RTT, get(rtt));
    let routes = mount(routes, &verb::PUBLISH, post(publish));
    let routes = mount(routes, &verb::UPDATES, get(updates));
    let routes = mount(routes, &verb::COMMIT, post(commit));
    let routes = mount(routes, &verb::UNSUBSCRIBE, delete(unsubscribe));
    let routes = mount(routes, &verb::IMAGES, plain(Request::Images));
    let routes = mount(routes, &verb::IMAGE, get(image));
    let routes = mount(routes, &verb::WAVES, plain(Request::Waves));
    let routes = mount(routes, &verb::WAVE, get(wave));
    let routes = mount(routes, &verb::PRUNE_IMAGES, post(prune_images));
    let routes = mount(routes, &verb::START_WAVE, post(start_wave));
    let routes = mount(routes, &verb::JOIN_ADDRESS, post(join_address));
    let routes = mount(routes, &verb::SHUTDOWN, post(shutdown));
    routes.fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(backend)
}

fn mount(
    routes: Router<Backend>,
    verb: &'static Verb,
    handler: MethodRouter<Backend>,
) -> Router<Backend> {
    let guarded = handler
        .route_layer(DefaultBodyLimit::max(verb.max_body))
        .route_layer(middleware::from_fn_with_state(verb.permission, guard));
    routes.route(&format!("{}{}", api::PREFIX, verb.path), guarded)
}

async fn guard(
    State(wanted): State<Permission>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
    next: Next,
) -> Answer {
    if caller.may(wanted) {
        return Ok(next.run(request).await);
    }
    tracing::warn!(%caller, path = request.uri().path(), "a client may not do this");
    Err(denied(&caller, wanted))
}

/// What to tell a caller who may not.
pub(crate) fn denied(caller: &Caller, wanted: Permission) -> Refusal {
    match wanted {
        Permission::Operate => Refusal::new(
            Code::Denied,
            format!("{caller} may not do this: it needs root or the agent's own user"),
        )
        .hint("run the command with sudo"),
        Permission::Read => Refusal::new(
            Code::Denied,
            format!("{caller} is neither an operator nor a member of the readers' group"),
        )
        .hint("run the command with sudo, or join the group: `usermod -aG skep USER`"),
    }
}

/// A verb without parameters.
fn plain<T>(make: fn(Reply<T>) -> Request) -> MethodRouter<Backend>
where
    T: Serialize + Send + 'static,
{
    get(async move |State(backend): State<Backend>, Extension(caller): Extension<Caller>| {
        ask(&backend, &caller, make).await.and_then(|answer| json(&answer))
    })
}

/// Puts a question to the agent and waits for its answer.
async fn ask<T>(
    backend: &Backend,
    caller: &Caller,
    make: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, Refusal> {
    let stopped = || {
        Refusal::new(Code::Unavailable, "the agent is stopping")
            .hint("wait until it runs again: `systemctl status skep`")
    };
    let (reply, answer) = Reply::pair();
    let call = Call { caller: caller.clone(), request: make(reply) };
    let conversation = async {
        backend.calls.send(call).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    };
    tokio::time::timeout(CALL_TIME, conversation).await.map_err(|_| {
        Refusal::new(
            Code::Timeout,
            format!("the agent did not answer in {} s", CALL_TIME.as_secs()),
        )
        .hint("its disk may be stuck: look at its log")
    })?
}

async fn events(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    query: Asked<ReadEvents>,
) -> Answer {
    let Asked(query) = query;
    let read = ask(&backend, &caller, |reply| Request::Events { query, reply }).await?;
    let mut response = Response::new(Body::new(EventLines::from(read)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

async fn group(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named(group): Named<GroupName>,
) -> Answer {
    let answer = ask(&backend, &caller, |reply| Request::Group { group, reply }).await?;
    json(&answer)
}

async fn topology(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named(group): Named<GroupName>,
    Asked(query): Asked<ReadTopology>,
) -> Answer {
    let make = |reply| Request::Topology { group, query, reply };
    json(&ask(&backend, &caller, make).await?)
}

async fn rtt(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named((from, to)): Named<(NodeName, NodeName)>,
) -> Answer {
    json(&ask(&backend, &caller, |reply| Request::Rtt { from, to, reply }).await?)
}

async fn publish(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named(group): Named<GroupName>,
    Asked(query): Asked<api::Publish>,
    Raw(body): Raw,
) -> Answer {
    let trail = query.trail.as_deref().map_or(Ok(Trail::none()), str::parse);
    let trail = trail.map_err(|error| Refusal::new(Code::Malformed, error.to_string()))?;
    let pid = caller.pid;
    let publish = |reply| Request::Publish { group, body, trail, pid, reply };
    let answer = ask(&backend, &caller, publish).await?;
    json(&answer)
}

async fn updates(
    State(mut backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named(group): Named<GroupName>,
    Asked(query): Asked<ReadUpdates>,
) -> Answer {
    if let Some(subscriber) = &query.subscriber {
        check_subscriber(subscriber)?;
    }
    if query.subscriber.is_some() && query.after.is_some() {
        return Err(Refusal::new(Code::Malformed, "give either `subscriber` or `after`, not both"));
    }
    let wait = Duration::from_millis(query.wait_ms.unwrap_or(0).min(api::MAX_WAIT_MS).into());
    let deadline = Instant::now() + wait;
    let max = query.max.unwrap_or(u32::MAX).clamp(1, api::MAX_UPDATES_A_READ);
    loop {
        // Seen before the log is read, so that what comes in between wakes us.
        backend.appended.mark_unchanged();
        let query = ReadUpdates { max: Some(max), ..query.clone() };
        let group = group.clone();
        let read = ask(&backend, &caller, |reply| Request::Updates { group, query, reply }).await?;
        if !read.updates.is_empty() || !read.gaps.is_empty() || read.lost > 0 {
            return json(&read);
        }
        match tokio::time::timeout_at(deadline, backend.appended.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return json(&read),
        }
    }
}

async fn commit(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named((group, subscriber)): Named<(GroupName, String)>,
    Input(commit): Input<api::Commit>,
) -> Answer {
    check_subscriber(&subscriber)?;
    let answer =
        ask(&backend, &caller, |reply| Request::Commit { group, subscriber, commit, reply })
            .await?;
    json(&answer)
}

async fn unsubscribe(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named((group, subscriber)): Named<(GroupName, String)>,
) -> Answer {
    check_subscriber(&subscriber)?;
    let answer =
        ask(&backend, &caller, |reply| Request::Unsubscribe { group, subscriber, reply }).await?;
    json(&answer)
}

async fn image(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<skep_base::ImageName>,
    Asked(query): Asked<WhichVersion>,
) -> Answer {
    let answer = ask(&backend, &caller, |reply| Request::Image { name, query, reply }).await?;
    json(&answer)
}

async fn wave(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<WaveId>,
) -> Answer {
    let answer = ask(&backend, &caller, |reply| Request::Wave { id, reply }).await?;
    json(&answer)
}

async fn prune_images(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Input(wish): Input<api::PruneImages>,
) -> Answer {
    let answer = ask(&backend, &caller, |reply| Request::PruneImages { wish, reply }).await?;
    json(&answer)
}

async fn start_wave(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Input(order): Input<StartWave>,
) -> Answer {
    if order.to.is_empty() || order.to.len() > api::MAX_GROUPS_A_WAVE {
        return Err(Refusal::new(
            Code::Malformed,
            format!(
                "a wave goes to 1 to {} groups, not {}",
                api::MAX_GROUPS_A_WAVE,
                order.to.len()
            ),
        ));
    }
    if !order.at.starts_with('/') {
        return Err(Refusal::new(
            Code::Malformed,
            format!("the tree's place must be an absolute path, not {:?}", order.at),
        ));
    }
    let answer = ask(&backend, &caller, |reply| Request::StartWave { order, reply }).await?;
    json(&answer)
}

async fn join_address(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Input(addresses): Input<api::JoinAddress>,
) -> Answer {
    let count = addresses.addresses.len();
    if count == 0 || count > api::MAX_JOIN_ADDRESSES {
        return Err(Refusal::new(
            Code::Malformed,
            format!("give 1 to {} addresses, not {count}", api::MAX_JOIN_ADDRESSES),
        ));
    }
    let answer = ask(&backend, &caller, |reply| Request::JoinAddress { addresses, reply }).await?;
    json(&answer)
}

async fn shutdown(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Input(how): Input<api::Shutdown>,
) -> Answer {
    let answer = ask(&backend, &caller, |reply| Request::Shutdown { how, reply }).await?;
    json(&answer)
}

async fn no_such_path(request: HttpRequest) -> Refusal {
    let path: String = request.uri().path().chars().take(200).collect();
    Refusal::new(Code::NotFound, format!("the agent knows no path {path}"))
        .hint("docs/control.md lists them; is this command newer than the agent?")
}

async fn no_such_method(request: HttpRequest) -> Refusal {
    let path: String = request.uri().path().chars().take(200).collect();
    let method: String = request.method().as_str().chars().take(20).collect();
    Refusal::new(Code::Method, format!("{path} cannot be asked with {method}"))
}

fn check_subscriber(name: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.is_empty() && name.len() <= api::MAX_SUBSCRIBER_BYTES && name.chars().all(allowed) {
        return Ok(());
    }
    let shown: String = name.chars().take(api::MAX_SUBSCRIBER_BYTES).collect();
    Err(Refusal::new(
        Code::Malformed,
        format!(
            "subscriber name {shown:?} is not 1 to {} letters, digits, `.`, `-` and `_`",
            api::MAX_SUBSCRIBER_BYTES
        ),
    ))
}

fn json<T: Serialize>(answer: &T) -> Answer {
    let bytes = serde_json::to_vec(answer).map_err(|error| {
        Refusal::new(Code::Internal, format!("cannot write the answer: {error}"))
    })?;
    Ok(json_response(StatusCode::OK, bytes))
}

fn json_response(status: StatusCode, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let bytes = serde_json::to_vec(&Failure { error: self }).unwrap_or_default();
        json_response(status, bytes)
    }
}

/// A request's body as it is, within the verb's bound.
struct Raw(Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Refusal;

    async fn from_request(request: HttpRequest, state: &S) -> Result<Self, Refusal> {
        let read = tokio::time::timeout(BODY_TIME, Bytes::from_request(request, state)).await;
        match read {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(rejection)) => Err(unreadable(&rejection)),
            Err(_) => Err(Refusal::new(
                Code::Malformed,
                format!("the body did not come in {} s", BODY_TIME.as_secs()),
            )),
        }
    }
}

fn unreadable(rejection: &BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::new(Code::TooLarge, "the body is longer than this verb allows").hint(format!(
            "an update has at most {}; roll larger things out as an image",
            skep_base::ByteSize(api::MAX_UPDATE_BYTES as u64)
        ))
    } else {
        Refusal::new(Code::Malformed, "the body broke off")
    }
}

/// A request's body as JSON.
struct Input<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Refusal;

    async fn from_request(request: HttpRequest, state: &S) -> Result<Self, Refusal> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Refusal::new(Code::Malformed, format!("the body is not as it should be: {error}"))
                .hint("docs/control.md shows each body")
        })
    }
}

/// A request's query.
struct Asked<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Refusal::new(Code::Malformed, rejection.body_text())),
        }
    }
}

/// What stands in a path's braces.
struct Named<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> axum::extract::FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Refusal> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(rejection) => Err(Refusal::new(Code::Malformed, rejection.body_text())),
        }
    }
}

/// Events as lines of JSON. It is asked for the next line only when the client has taken the last,
/// so what waits for a slow client waits in the bounded feed and nowhere else.
struct EventLines {
    kept: std::vec::IntoIter<Event>,
    live: Option<Feed<Event>>,
    last: Option<Event>,
}

impl From<EventsRead> for EventLines {
    fn from(read: EventsRead) -> Self {
        Self { kept: read.kept.into_iter(), live: read.live, last: None }
    }
}

impl EventLines {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(event) = self.kept.next() {
            return Poll::Ready(Some(event));
        }
        let Some(live) = &mut self.live else {
            return Poll::Ready(None);
        };
        match live.poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(event)) => Poll::Ready(Some(event)),
            Poll::Ready(None) => {
                let overran = live.overran();
                self.live = None;
                Poll::Ready(self.last.take().filter(|_| overran).map(|last| feed::cut_off(&last)))
            }
        }
    }
}

impl hyper::body::Body for EventLines {
    type Data = Bytes;
    type Error = serde_json::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, serde_json::Error>>> {
        let event = match self.poll_event(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(event)) => event,
        };
        let line = serde_json::to_vec(&event).map(|mut line| {
            line.push(b'\n');
            Frame::data(Bytes::from(line))
        });
        self.last = Some(event);
        Poll::Ready(Some(line))
    }
}
