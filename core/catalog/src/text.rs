//! The catalog as a file that people read, keep and give back: TOML, a table an entry.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use crate::catalog::Catalog;
use crate::command::Payload;
use crate::key::{Key, Kind};
use crate::schema::FIRST_SCHEMA;

/// All entries that are there, by key. Entries whose fields this build cannot read are given as the
/// hexadecimal digits of their bytes, so that nothing is missing from a backup.
#[must_use]
pub fn export(catalog: &Catalog) -> String {
    let mut text = format!(
        "# The catalog of a bloc, for `skep catalog import`.\n\
         # index {}, stamp {}, {} entries, root {}\n",
        catalog.index(),
        catalog.stamp(),
        catalog.entries().len(),
        catalog.root(),
    );
    for (key, version, payload) in catalog.entries() {
        // An old backup shall tell nobody of what was wrong then.
        if key.kind() == Kind::NOTICE {
            continue;
        }
        let who: String =
            version.who.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Writing to a string cannot fail.
        write!(text, "\n# revision {} by {who}\n[{}]\n", version.revision, heading(key)).ok();
        entry(&mut text, key, payload);
    }
    text
}

fn heading(key: &Key) -> String {
    format!("{}.\"{}\"", key.kind(), key.name())
}

fn entry(text: &mut String, key: &Key, payload: &Payload) {
    let fields = payload.fields().filter(|_| key.kind() != Kind::CONFLICT);
    let Some(fields) = fields else {
        let hex: String = payload.body.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(text, "Schema = {}\nBytes = \"{hex}\"\n", payload.schema).ok();
        return;
    };
    // No field has an upper-case letter in its name, so these are never in the way of one. A file
    // without it means the same to every build.
    if payload.schema != FIRST_SCHEMA {
        writeln!(text, "Schema = {}", payload.schema).ok();
    }
    for (name, field) in fields.iter() {
        writeln!(text, "{name} = {field}").ok();
    }
}
