//! Verbs about the catalog and about who manages the flock.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Router};

use super::{Answer, Asked, Input, Named, Raw, ask, json, mount};
use crate::access::Caller;
use crate::api;
use crate::backend::{Backend, Request};
use crate::verb;

pub(super) fn mounted(routes: Router<Backend>) -> Router<Backend> {
    let routes = mount(routes, &verb::FLOCK, get(flock));
    let routes = mount(routes, &verb::MANAGE_FLOCK, post(manage));
    let routes = mount(routes, &verb::FLOCK_RECOVERY, super::plain(Request::FlockRecovery));
    let routes = mount(routes, &verb::CATALOG, get(read));
    let routes = mount(routes, &verb::WRITE_CATALOG, post(write));
    let routes = mount(routes, &verb::CATALOG_ENTRY, get(entry));
    let routes = mount(routes, &verb::CATALOG_DIFF, get(diff));
    let routes = mount(routes, &verb::CATALOG_EXPORT, super::plain(Request::CatalogExport));
    let routes = mount(routes, &verb::CATALOG_IMPORT, post(import));
    mount(routes, &verb::CATALOG_REAPPLY, post(reapply))
}

async fn flock(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<api::ReadFlock>,
) -> Answer {
    json(&ask(&backend, &caller, |reply| Request::Flock { query, reply }).await?)
}

async fn manage(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Input(order): Input<api::ManageFlock>,
) -> Answer {
    json(&ask(&backend, &caller, |reply| Request::ManageFlock { order, reply }).await?)
}

async fn read(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<api::ReadCatalog>,
) -> Answer {
    json(&ask(&backend, &caller, |reply| Request::Catalog { query, reply }).await?)
}

async fn entry(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named((kind, name)): Named<(String, String)>,
) -> Answer {
    let key = format!("{kind}/{name}");
    json(&ask(&backend, &caller, |reply| Request::CatalogEntry { key, reply }).await?)
}

async fn diff(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<api::DiffCatalog>,
) -> Answer {
    json(&ask(&backend, &caller, |reply| Request::CatalogDiff { query, reply }).await?)
}

async fn write(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Input(write): Input<api::WriteCatalog>,
) -> Answer {
    json(&ask(&backend, &caller, |reply| Request::WriteCatalog { write, reply }).await?)
}

async fn import(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<api::ImportCatalog>,
    Raw(text): Raw,
) -> Answer {
    let make = |reply| Request::CatalogImport { query, text, reply };
    json(&ask(&backend, &caller, make).await?)
}

async fn reapply(
    State(backend): State<Backend>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
) -> Answer {
    json(&ask(&backend, &caller, |reply| Request::CatalogReapply { name, reply }).await?)
}
