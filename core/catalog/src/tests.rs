mod chains;
mod entries;
mod merging;
mod net;
mod replicas;
mod state;

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use skep_base::WallTime;

use crate::{
    Catalog, Command, Dot, Expect, Field, Fields, Key, Kind, Origin, Outcome, Payload, Stamp, Write,
};

pub(crate) const STAMP: Stamp = Stamp { epoch: 1, fork: 0xab << 56 };

/// A place in the log of [`STAMP`].
pub(crate) const fn place(index: u64) -> Dot {
    Dot { stamp: STAMP, term: 1, index }
}

pub(crate) fn key(text: &str) -> Key {
    text.parse().unwrap()
}

pub(crate) fn setting(value: &str) -> Payload {
    let mut fields = Fields::new();
    fields.set("value", Field::Text(value.into())).unwrap();
    Payload::of(Kind::SETTING, &fields)
}

pub(crate) fn write(name: &str, expect: Expect, value: Option<&str>) -> Write {
    Write { key: key(name), expect, put: value.map(setting) }
}

pub(crate) fn command(writes: Vec<Write>) -> Bytes {
    let who = String::from("uid 0 at a");
    Command { who, when: WallTime::from_unix_ms(1), writes }.to_bytes().unwrap()
}

/// Sets an entry whatever it says, or removes it.
pub(crate) fn set(catalog: &mut Catalog, name: &str, value: Option<&str>) -> Outcome {
    let index = catalog.index() + 1;
    catalog.apply(
        place(index),
        Origin::Own,
        &command(alloc::vec![write(name, Expect::Anything, value)]),
    )
}

pub(crate) fn says(catalog: &Catalog, name: &str) -> Option<String> {
    let (_, payload) = catalog.live(&key(name))?;
    match payload.fields()?.get("value")? {
        Field::Text(text) => Some(text.clone()),
        Field::Number(_) | Field::Flag(_) | Field::List(_) => None,
    }
}
