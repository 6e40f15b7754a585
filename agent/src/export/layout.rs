//! A batch on the standard input of a command. docs/export.md states the three layouts.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use skep_base::Trail;
use skep_control::api::{Body, UpdateId};
use skep_flood::Position;
use skep_runner::Input;

use super::stored::{Encoding, Stored};
use crate::config::high::ExportFormat;

/// One entry of a batch.
#[derive(Clone, Debug)]
pub enum Entry {
    /// An update.
    Update {
        /// Its identity, the same on every node and at every attempt.
        id: UpdateId,
        /// How long ago it was published.
        age: Duration,
        /// Whether it came after a gap was told in its place.
        late: bool,
        /// The export commands that it has come through.
        trail: Trail,
        /// What was published.
        body: EntryBody,
    },
    /// Updates of one origin that did not come, or were dropped before they were exported.
    Gap {
        /// The last one before them, if any was ever seen.
        after: Option<UpdateId>,
        /// The last one that is missing.
        up_to: UpdateId,
        /// Why.
        why: String,
    },
}

/// The body of an update of a batch.
#[derive(Clone, Debug)]
pub enum EntryBody {
    /// In memory.
    Here(Bytes),
    /// In the log, at this position: too long for memory.
    Stored {
        /// Where.
        position: Position,
        /// How long it is.
        length: u64,
    },
    /// The same, open.
    File(Arc<File>, u64),
}

/// What a line of `json-lines` says.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Text { id: &'a UpdateId, age_ms: u64, late: bool, text: &'a str },
    Bytes { id: &'a UpdateId, age_ms: u64, late: bool, base64: Body },
    Gap { gap: Gap<'a> },
}

#[derive(Serialize)]
struct Gap<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a UpdateId>,
    up_to: &'a UpdateId,
    why: &'a str,
}

/// The pieces of the input, in order. Bodies are not copied where the layout lets them be, and
/// those in files are read as the command takes them.
#[must_use]
pub fn lay_out(format: ExportFormat, batch: &[Entry]) -> Vec<Input> {
    let mut pieces = Vec::new();
    for entry in batch {
        match format {
            ExportFormat::Raw => pieces.extend(raw(entry)),
            ExportFormat::Framed => pieces.extend(framed(entry)),
            ExportFormat::JsonLines => pieces.extend(json_line(entry)),
        }
    }
    pieces
}

fn raw(entry: &Entry) -> Option<Input> {
    match entry {
        Entry::Update { body, .. } => Some(input(body)),
        Entry::Gap { .. } => None,
    }
}

fn input(body: &EntryBody) -> Input {
    match body {
        EntryBody::Here(bytes) => bytes.clone().into(),
        // It was opened before.
        EntryBody::Stored { .. } => Bytes::new().into(),
        EntryBody::File(file, length) => Stored::input(file, *length, Encoding::AsItIs),
    }
}

fn framed(entry: &Entry) -> Vec<Input> {
    match entry {
        Entry::Update { id, age, late, body, .. } => {
            let late = if *late { " late" } else { "" };
            let head = format!("update {id} {} {}{late}\n", body.length(), millis(*age));
            vec![text(head), input(body), Bytes::from_static(b"\n").into()]
        }
        Entry::Gap { after, up_to, why } => {
            let after = after.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            vec![text(format!("gap {after} {up_to} {why}\n"))]
        }
    }
}

fn json_line(entry: &Entry) -> Vec<Input> {
    let line = match entry {
        Entry::Update { id, age, late, body, .. } => {
            let (age_ms, late) = (millis(*age), *late);
            let bytes = match body {
                EntryBody::Here(bytes) => bytes.clone(),
                EntryBody::Stored { .. } => Bytes::new(),
                EntryBody::File(file, length) => {
                    let base64 = Body::default();
                    let line = line(&Line::Bytes { id, age_ms, late, base64 });
                    // Whether it is text is known when all of it was read, so it goes as bytes;
                    // the string stands last, and is filled in as it is read.
                    let head = line.strip_suffix("\"}").unwrap_or_default().to_owned();
                    let body = Stored::input(file, *length, Encoding::Base64);
                    return vec![text(head), body, Bytes::from_static(b"\"}\n").into()];
                }
            };
            match std::str::from_utf8(&bytes) {
                Ok(text) => line(&Line::Text { id, age_ms, late, text }),
                Err(_) => {
                    let base64 = Body(bytes.to_vec());
                    line(&Line::Bytes { id, age_ms, late, base64 })
                }
            }
        }
        Entry::Gap { after, up_to, why } => {
            line(&Line::Gap { gap: Gap { after: after.as_ref(), up_to, why } })
        }
    };
    vec![text(line + "\n")]
}

fn line(line: &Line<'_>) -> String {
    // Strings and numbers, which always are JSON.
    serde_json::to_string(line).unwrap_or_default()
}

fn text(text: String) -> Input {
    Bytes::from(text).into()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl EntryBody {
    fn length(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Stored { length, .. } | Self::File(_, length) => *length,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use expect_test::expect;

    use super::*;

    fn batch() -> Vec<Entry> {
        let update = |sequence: u64, late: bool, body: &'static [u8]| Entry::Update {
            id: format!("inferno:7:{sequence}").parse().unwrap(),
            age: Duration::from_millis(120),
            late,
            trail: Trail::none(),
            body: EntryBody::Here(Bytes::from_static(body)),
        };
        let gap = Entry::Gap {
            after: None,
            up_to: "styx:1:9".parse().unwrap(),
            why: "they are over the purge age".into(),
        };
        vec![update(41, false, b"one\ntwo"), update(40, true, b""), gap, update(42, false, b"\xff")]
    }

    fn read(pieces: Vec<Input>) -> Vec<u8> {
        let portions = |from: Arc<dyn skep_runner::Portions>| {
            (0..).map_while(|number| from.portion(number).unwrap()).collect::<Vec<_>>().concat()
        };
        let bytes = pieces.into_iter().map(|piece| match piece {
            Input::Bytes(bytes) => bytes.to_vec(),
            Input::Portions(from) => portions(from),
        });
        bytes.collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_body_in_a_file_is_laid_out_like_one_in_memory() {
        let mut file = tempfile::tempfile().unwrap();
        let long: Vec<u8> = (0..1_000_001_u32).flat_map(|at| (at ^ 0xff).to_le_bytes()).collect();
        file.write_all(&long).unwrap();
        // What stands behind it in its file is no part of it.
        file.write_all(b"leaves").unwrap();
        let with = |body| {
            let mut batch = batch();
            let Entry::Update { body: old, .. } = &mut batch[0] else { panic!("an update") };
            *old = body;
            batch
        };
        let in_memory = with(EntryBody::Here(long.clone().into()));
        let in_a_file = with(EntryBody::File(Arc::new(file), long.len() as u64));
        for format in [ExportFormat::Raw, ExportFormat::Framed, ExportFormat::JsonLines] {
            let (one, other) = (lay_out(format, &in_memory), lay_out(format, &in_a_file));
            assert!(read(one) == read(other), "{format:?}");
        }
    }

    fn laid_out(format: ExportFormat) -> String {
        let whole = read(lay_out(format, &batch()));
        whole.escape_ascii().to_string().replace("\\n", "\n").replace("\\\"", "\"")
    }

    #[test]
    fn raw_is_the_bodies_and_nothing_else() {
        expect![[r"
            one
            two\xff"]]
        .assert_eq(&laid_out(ExportFormat::Raw));
    }

    #[test]
    fn framed_says_whose_and_how_long_each_is() {
        expect![[r"
            update inferno:7:41 7 120
            one
            two
            update inferno:7:40 0 120 late

            gap - styx:1:9 they are over the purge age
            update inferno:7:42 1 120
            \xff
        "]]
        .assert_eq(&laid_out(ExportFormat::Framed));
    }

    #[test]
    fn json_lines_are_one_object_each() {
        expect![[r#"
            {"id":"inferno:7:41","age_ms":120,"late":false,"text":"one\
            two"}
            {"id":"inferno:7:40","age_ms":120,"late":true,"text":""}
            {"gap":{"up_to":"styx:1:9","why":"they are over the purge age"}}
            {"id":"inferno:7:42","age_ms":120,"late":false,"base64":"/w=="}
        "#]]
        .assert_eq(&laid_out(ExportFormat::JsonLines));
    }
}
