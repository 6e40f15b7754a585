//! Entries, as the control API shows them.

use std::collections::BTreeMap;

use skep_catalog::{Change, Conflict, Field, Key, Kind, Seen, Version};
use skep_control::api::{self, CatalogChange, CatalogEntry};

/// What an entry said in one version.
pub(super) fn entry(key: &Key, version: &Version) -> CatalogEntry {
    let put = version.put.as_ref();
    let fields = match put.filter(|_| key.kind() == Kind::CONFLICT) {
        Some(payload) => conflict(payload),
        None => {
            let fields = put.and_then(skep_catalog::Payload::fields).unwrap_or_default();
            fields.iter().map(|(name, field)| (name.to_owned(), shown(field))).collect()
        }
    };
    CatalogEntry {
        key: key.to_string(),
        revision: version.revision,
        stamp: version.stamp.to_string(),
        who: version.who.clone(),
        when: version.when,
        merged_from: version.from.map(|from| format!("{} at index {}", from.stamp, from.index)),
        schema: put.map_or(0, |put| put.schema),
        removed: put.is_none(),
        fields,
    }
}

/// What an entry of the conflict log says, in words.
fn conflict(payload: &skep_catalog::Payload) -> BTreeMap<String, api::Field> {
    let Some(Conflict { key, version }) = Conflict::read(payload) else { return BTreeMap::new() };
    let text = |text: String| api::Field::Text(text);
    let mut fields = BTreeMap::from([
        ("entry".to_owned(), text(key.to_string())),
        ("wanted_by".to_owned(), text(version.who.clone())),
        ("removed".to_owned(), api::Field::Flag(version.put.is_none())),
    ]);
    let wanted = version.put.as_ref().and_then(skep_catalog::Payload::fields).unwrap_or_default();
    for (name, field) in wanted.iter() {
        fields.insert(format!("wanted_{name}"), shown(field));
    }
    fields
}

pub(super) fn change(change: &Change<'_>) -> CatalogChange {
    let said = |seen| match seen {
        Seen::Version(version) => Some(entry(change.key, version)),
        Seen::Nothing | Seen::Unknown => None,
    };
    CatalogChange {
        key: change.key.to_string(),
        before: said(change.before),
        before_lost: change.before == Seen::Unknown,
        after: said(change.after),
    }
}

fn shown(field: &Field) -> api::Field {
    match field {
        Field::Text(text) => api::Field::Text(text.clone()),
        Field::Number(number) => api::Field::Number(*number),
        Field::Flag(flag) => api::Field::Flag(*flag),
        Field::List(items) => api::Field::List(items.clone()),
    }
}

pub(super) fn field_of(field: &api::Field) -> Field {
    match field {
        api::Field::Text(text) => Field::Text(text.clone()),
        api::Field::Number(number) => Field::Number(*number),
        api::Field::Flag(flag) => Field::Flag(*flag),
        api::Field::List(items) => Field::List(items.clone()),
    }
}
