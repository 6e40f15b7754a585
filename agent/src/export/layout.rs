//! A batch on the standard input of a command. docs/export.md states the three layouts.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use skep_base::Trail;
use skep_control::api::{Body, UpdateId};

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
        body: Bytes,
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

/// The pieces of the input, in order. Bodies are not copied where the layout lets them be.
#[must_use]
pub fn lay_out(format: ExportFormat, batch: &[Entry]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    for entry in batch {
        match format {
            ExportFormat::Raw => pieces.extend(raw(entry)),
            ExportFormat::Framed => pieces.extend(framed(entry)),
            ExportFormat::JsonLines => pieces.push(json_line(entry)),
        }
    }
    pieces
}

fn raw(entry: &Entry) -> Option<Bytes> {
    match entry {
        Entry::Update { body, .. } => Some(body.clone()),
        Entry::Gap { .. } => None,
    }
}

fn framed(entry: &Entry) -> [Bytes; 3] {
    match entry {
        Entry::Update { id, age, late, body, .. } => {
            let late = if *late { " late" } else { "" };
            let head = format!("update {id} {} {}{late}\n", body.len(), millis(*age));
            [head.into(), body.clone(), Bytes::from_static(b"\n")]
        }
        Entry::Gap { after, up_to, why } => {
            let after = after.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            [format!("gap {after} {up_to} {why}\n").into(), Bytes::new(), Bytes::new()]
        }
    }
}

fn json_line(entry: &Entry) -> Bytes {
    let line = match entry {
        Entry::Update { id, age, late, body, .. } => {
            let (age_ms, late) = (millis(*age), *late);
            match std::str::from_utf8(body) {
                Ok(text) => Line::Text { id, age_ms, late, text },
                Err(_) => Line::Bytes { id, age_ms, late, base64: Body(body.to_vec()) },
            }
        }
        Entry::Gap { after, up_to, why } => {
            Line::Gap { gap: Gap { after: after.as_ref(), up_to, why } }
        }
    };
    // Strings and numbers, which always are JSON.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn batch() -> Vec<Entry> {
        let update = |sequence: u64, late: bool, body: &'static [u8]| Entry::Update {
            id: format!("inferno:7:{sequence}").parse().unwrap(),
            age: Duration::from_millis(120),
            late,
            trail: Trail::none(),
            body: Bytes::from_static(body),
        };
        let gap = Entry::Gap {
            after: None,
            up_to: "styx:1:9".parse().unwrap(),
            why: "they are over the purge age".into(),
        };
        vec![update(41, false, b"one\ntwo"), update(40, true, b""), gap, update(42, false, b"\xff")]
    }

    fn laid_out(format: ExportFormat) -> String {
        let whole = lay_out(format, &batch()).concat();
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
