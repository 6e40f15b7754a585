//! A letter in words: for people as a mail, for programs as JSON. The same letter is the same
//! words, whichever node sends it.

use bytes::Bytes;
use serde_json::{Value, json};
use skep_base::WallTime;
use skep_cli::human;
use skep_notices::{Item, Letter};
use skep_notify::Message;

/// Incidents that a subject names.
const NAMED: usize = 3;

/// A letter, ready to be handed over in any way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) message: Message,
    pub(super) json: Bytes,
    pub(super) bloc: String,
    /// Who hands it over.
    pub(super) node: String,
    pub(super) incidents: usize,
    pub(super) test: bool,
}

impl Parcel {
    pub(super) fn of(letter: &Letter, bloc: &str, node: &str) -> Self {
        let subject = subject(letter, bloc);
        let text = text(letter, bloc);
        let latest = letter.items.iter().map(|item| item.closed.unwrap_or(item.opened)).max();
        let follows = match letter.items.as_slice() {
            [item] if item.step > 1 => {
                Some(format!("{}.{}.{}", item.incident, item.id, item.step - 1))
            }
            _ => None,
        };
        let incidents: Vec<Value> = letter.items.iter().map(as_json).collect();
        let json = json!({
            "letter": letter.name,
            "bloc": bloc,
            "test": false,
            "text": format!("{subject}\n{text}"),
            "incidents": incidents,
        });
        let message = Message {
            id: letter.name.clone(),
            domain: domain(bloc),
            follows,
            date: latest.unwrap_or(WallTime::from_unix_ms(0)),
            subject,
            text,
        };
        Self {
            message,
            json: Bytes::from(json.to_string()),
            bloc: bloc.to_owned(),
            node: node.to_owned(),
            incidents: letter.items.len(),
            test: false,
        }
    }

    /// What `skep notify test` sends.
    pub(super) fn test(bloc: &str, node: &str, now: WallTime) -> Self {
        let id = format!("test.{node}.{}", now.unix_ms);
        let subject = format!("skep {bloc}: a test from {node}");
        let text = format!(
            "Somebody asked {node} to try whether its letters about incidents arrive. This one \
             did.\n\nNothing is wrong, and nothing need be done.\n"
        );
        let json = json!({
            "letter": id,
            "bloc": bloc,
            "test": true,
            "text": format!("{subject}\n{text}"),
            "incidents": [],
        });
        let domain = domain(bloc);
        Self {
            message: Message { id, domain, follows: None, date: now, subject, text },
            json: Bytes::from(json.to_string()),
            bloc: bloc.to_owned(),
            node: node.to_owned(),
            incidents: 0,
            test: true,
        }
    }
}

fn domain(bloc: &str) -> String {
    format!("{bloc}.skep")
}

/// What has become of it, as this letter tells it.
fn state(item: &Item) -> &'static str {
    if item.incident.kind.is_momentary() {
        "happened"
    } else if item.is_over() {
        "over"
    } else {
        "open"
    }
}

fn as_json(item: &Item) -> Value {
    json!({
        "kind": item.incident.kind.word(),
        "subject": item.incident.subject,
        "id": item.id,
        "step": item.step,
        "state": state(item),
        "what": item.what,
        "hint": item.hint,
        "seen_by": item.seen_by,
        "opened_ms": item.opened.unix_ms,
        "closed_ms": item.closed.map(|at| at.unix_ms),
    })
}

fn subject(letter: &Letter, bloc: &str) -> String {
    let name = |item: &Item| {
        let over = if item.is_over() { "over: " } else { "" };
        format!("{over}{} {}", item.incident.kind.word(), item.incident.subject)
    };
    let named: Vec<String> = letter.items.iter().take(NAMED).map(name).collect();
    let more = letter.items.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("skep {bloc}: {}{more}", named.join(", "))
}

fn text(letter: &Letter, bloc: &str) -> String {
    let mut text = String::new();
    for item in &letter.items {
        let (kind, subject) = (item.incident.kind.word(), &item.incident.subject);
        let opened = human::moment(item.opened);
        let when = match (state(item), item.closed) {
            ("over", Some(closed)) => format!("from {opened} to {}", human::moment(closed)),
            ("happened", _) => format!("at {opened}"),
            _ => format!("since {opened}"),
        };
        let state = state(item);
        text.push_str(&format!("{state}: {kind} {subject}, {when}\n  {}\n", item.what));
        if !item.is_over() && !item.hint.is_empty() {
            text.push_str(&format!("  What to do: {}\n", item.hint));
        }
        text.push_str(&format!("  Seen by {}; incident {}.\n\n", item.seen_by, item.id));
    }
    text.push_str(&format!(
        "Look at it on any node of {bloc}: skep flock, skep members, skep notify ls.\n\
         This letter may come more than once; it has the same Message-ID then.\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_notices::{Incident, Kind};

    fn item(kind: Kind, subject: &str, step: u32) -> Item {
        Item {
            incident: Incident::new(kind, subject),
            id: "0f".into(),
            step,
            what: format!("{subject} is silent"),
            hint: "look at it".into(),
            seen_by: "web-2".into(),
            opened: WallTime::from_unix_ms(1_700_000_000_000),
            closed: (step == 2).then(|| WallTime::from_unix_ms(1_700_000_060_000)),
        }
    }

    #[test]
    fn a_letter_says_what_is_wrong_since_when_and_what_to_do() {
        let items = vec![item(Kind::ManagerLost, "web-1", 1)];
        let letter = Letter { name: "manager-lost.web-1.0f.1".into(), items };
        let parcel = Parcel::of(&letter, "example", "web-3");
        assert_eq!(parcel.message.subject, "skep example: manager-lost web-1");
        let since = "open: manager-lost web-1, since 2023-11-14 22:13:20 UTC\n";
        for words in [since, "What to do: look at it"] {
            assert!(parcel.message.text.contains(words), "{}", parcel.message.text);
        }
        assert_eq!(parcel.message.follows, None);
        let json: Value = serde_json::from_slice(&parcel.json).unwrap();
        assert_eq!(json["incidents"][0]["state"], "open");
        let other = Parcel::of(&letter, "example", "web-4");
        assert_eq!(parcel.json, other.json, "whoever sends it");
        assert_eq!(parcel.message, other.message);
    }

    #[test]
    fn that_it_is_over_follows_the_letter_that_it_began() {
        let items = vec![item(Kind::ManagerLost, "web-1", 2)];
        let letter = Letter { name: "manager-lost.web-1.0f.2".into(), items };
        let message = Parcel::of(&letter, "example", "web-3").message;
        assert_eq!(message.subject, "skep example: over: manager-lost web-1");
        assert_eq!(message.follows.as_deref(), Some("manager-lost.web-1.0f.1"));
        let span = ", from 2023-11-14 22:13:20 UTC to 2023-11-14 22:14:20 UTC\n";
        assert!(message.text.contains(span), "{}", message.text);
    }

    #[test]
    fn of_many_a_subject_names_few() {
        let items: Vec<Item> =
            ["a", "b", "c", "d", "e"].map(|node| item(Kind::OnHold, node, 1)).into();
        let letter = Letter { name: "5-incidents.x".into(), items };
        let subject = Parcel::of(&letter, "example", "web-3").message.subject;
        assert_eq!(subject, "skep example: on-hold a, on-hold b, on-hold c and 2 more");
    }
}
